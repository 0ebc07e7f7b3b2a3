import { afterEach, expect, test } from '@jest/globals';
import { createFs, type FileCalls } from '@verfs/fs';

/** Ends the calls of a test, and lets those that come end at once: all tests go through the same gates. */
let end: () => void = () => undefined;

/** An interface whose calls wait for the end of the test, and how many of each there are. */
function waitingFs() {
  const under = new Map<string, number>();
  let hasEnded = false;
  const waiting: (() => void)[] = [];
  const calls = new Proxy({} as FileCalls, {
    get: (_, name: string) => () => {
      under.set(name, (under.get(name) ?? 0) + 1);
      return hasEnded || name === 'access' ? Promise.resolve() : new Promise<void>((resolve) => waiting.push(resolve));
    },
  });
  end = () => {
    hasEnded = true;
    for (const resolve of waiting) {
      resolve();
    }
  };
  return { p: createFs(calls).promises, under };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

afterEach(() => end());

test('of thousands of calls a bounded number is in the engine, and the others come after them', async () => {
  const { p, under } = waitingFs();
  const all = Promise.all(Array.from({ length: 10_000 }, (_, number) => p.writeFile(`/file-${number}`, 'x')));
  await turn();
  expect(under.get('writeFile')).toBe(64);
  end();
  await all;
  expect(under.get('writeFile')).toBe(10_000);
});

test('who looks never waits for those who change something', async () => {
  const { p, under } = waitingFs();
  const all = Promise.all(Array.from({ length: 1000 }, () => p.writeFile('/file', 'x')));
  await p.access('/file');
  expect(under.get('access')).toBe(1);
  end();
  await all;
});
