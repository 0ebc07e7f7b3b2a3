import { expect, test } from '@jest/globals';
import { createFs, type FileCalls } from '@verfs/fs';

test('what is called after `watch` waits until the watch has begun', async () => {
  const made: string[] = [];
  let begin: () => void = () => undefined;
  const calls = new Proxy({} as FileCalls, {
    get: (_, name: string) => () => {
      made.push(name);
      const watch = { close: () => undefined };
      return name === 'watch' ? new Promise((resolve) => (begin = () => resolve(watch))) : Promise.resolve();
    },
  });
  const fs = createFs(calls);
  const watcher = fs.watch('/');
  const changes = [fs.promises.writeFile('/a', 'x'), fs.promises.unlink('/b')];
  await new Promise((resolve) => setImmediate(resolve));
  expect(made).toEqual(['watch']);
  begin();
  await Promise.all(changes);
  expect(made.sort()).toEqual(['unlink', 'watch', 'writeFile']);
  watcher.close();
});

test('a watch that fails holds nobody up', async () => {
  const calls = new Proxy({} as FileCalls, {
    get: (_, name: string) => () => (name === 'watch' ? Promise.reject(new Error('none')) : Promise.resolve()),
  });
  const fs = createFs(calls);
  const watcher = fs.watch('/');
  const failed = new Promise((resolve) => watcher.once('error', resolve));
  await fs.promises.unlink('/b');
  expect(await failed).toBeInstanceOf(Error);
});
