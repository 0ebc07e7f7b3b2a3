import * as nodeFs from 'node:fs';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ClosedError, Volume, type VolumeFs, VolumeLockedError } from 'verfs';
import { run } from '../harness/command.ts';
import { detachBelow } from '../harness/mounts.ts';
import { repository, sandboxPrefix, until } from '../harness/sandbox.ts';

/** A program that uses the library, as it is installed. */
const program = (lines: string) => `import { Volume } from 'verfs';\n${lines}`;

describe('the files of an open volume', () => {
  let root: string;
  let volume: Volume;
  let fs: VolumeFs;
  let p: VolumeFs['promises'];

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    await Volume.create(join(root, 'volume'));
    volume = await Volume.open(join(root, 'volume'));
    fs = volume.fs;
    p = fs.promises;
  });

  afterEach(async () => {
    await volume.close();
    await detachBelow(root);
    rmSync(root, { recursive: true, force: true });
  });

  test('are of the user of the process, below a root out of which nothing leads', async () => {
    await p.writeFile('relative', 'x');
    expect(await p.readFile('/../../relative', 'utf8')).toBe('x');
    expect(await p.realpath('.')).toBe('/');
    const stats = await p.stat('/relative');
    expect([stats.uid, stats.gid, stats.mode & 0o777]).toEqual([
      process.geteuid?.(),
      process.getegid?.(),
      0o666 & ~process.umask(),
    ]);
    await p.symlink('/etc/passwd', '/link');
    await expect(p.readFile('/link')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('take thousands of calls at once', async () => {
    const content = Buffer.alloc(64 << 10, 'parallel');
    const names = Array.from({ length: 10_000 }, (_, number) => `/file-${number}`);
    await Promise.all(names.map((name) => p.writeFile(name, content)));
    const sizes = await Promise.all(names.map(async (name) => (await p.stat(name)).size));
    expect(sizes.every((size) => size === content.length)).toBe(true);
    expect((await p.readdir('/')).length).toBe(10_000);
  });

  test('go to a buffer that was given away meanwhile without harm', async () => {
    await p.writeFile('/file', Buffer.alloc(1 << 20, 'x'));
    const handle = await p.open('/file');
    const buffer = new Uint8Array(1 << 20);
    const reading = handle.read(buffer, 0, buffer.length, 0);
    structuredClone(buffer.buffer, { transfer: [buffer.buffer] });
    expect((await reading).bytesRead).toBe(0);
    await handle.close();
  });

  test('are written as they were when the call was made', async () => {
    const buffer = Buffer.alloc(256 << 10, 'a');
    const handle = await p.open('/file', 'w');
    const writing = handle.write(buffer, 0, buffer.length, 0);
    buffer.fill('b');
    await writing;
    await handle.close();
    const written = await p.readFile('/file', 'utf8');
    // All of one kind: never bytes of two moments.
    expect(new Set(written).size).toBe(1);
  });

  test('are listed in parts', async () => {
    await p.mkdir('/many');
    await Promise.all(Array.from({ length: 20_000 }, (_, number) => p.writeFile(`/many/entry-${number}`, '')));
    const names = await p.readdir('/many');
    expect(new Set(names).size).toBe(20_000);
    let count = 0;
    for await (const entry of await p.opendir('/many', { bufferSize: 1000 })) {
      count += entry.isFile() ? 1 : 0;
    }
    expect(count).toBe(20_000);
    await p.rm('/many', { recursive: true });
    expect(await p.readdir('/')).toEqual([]);
  });

  test('with names that are no UTF-8 are found by bytes', async () => {
    const name = Buffer.from([0x2f, 0xff, 0x61]);
    await p.writeFile(name, 'bytes');
    const [found] = await p.readdir('/', 'buffer');
    expect(found?.equals(name.subarray(1))).toBe(true);
    expect(await p.readFile(name, 'utf8')).toBe('bytes');
  });

  test('copies share what is stored', async () => {
    await p.writeFile(
      '/large',
      Buffer.alloc(8 << 20, 0).map((_, at) => (at * 2654435761) >>> 24),
    );
    await volume.sync();
    const { uniqueBytes } = await volume.stats();
    await p.copyFile('/large', '/copy');
    await p.cp('/large', '/second');
    await volume.sync();
    expect((await volume.stats()).uniqueBytes).toBe(uniqueBytes);
    expect((await p.readFile('/copy')).equals(await p.readFile('/large'))).toBe(true);
  });

  test('end with an error of ours when the volume is closed, and handles with them', async () => {
    await p.writeFile('/file', 'x');
    const handle = await p.open('/file');
    await volume.close();
    const calls = [p.stat('/file'), p.readFile('/file'), handle.read(), p.mkdir('/d'), p.readdir('/')];
    for (const ended of await Promise.allSettled(calls)) {
      expect(ended).toMatchObject({ status: 'rejected', reason: expect.any(ClosedError) });
    }
  });

  test('leave nothing open of a volume that is closed', async () => {
    await p.writeFile('/file', Buffer.alloc(1 << 20, 'x'));
    await volume.sync();
    await p.readFile('/file');
    await volume.close();
    const open = nodeFs.readdirSync('/proc/self/fd').map((file) => {
      try {
        return nodeFs.readlinkSync(`/proc/self/fd/${file}`);
      } catch {
        return '';
      }
    });
    expect(open.filter((path) => path.startsWith(root))).toEqual([]);
  });

  test('can be read only', async () => {
    await p.writeFile('/file', 'x');
    await volume.close();
    await using readOnly = await Volume.open(join(root, 'volume'), { readOnly: true });
    const files = readOnly.fs.promises;
    expect(await files.readFile('/file', 'utf8')).toBe('x');
    await expect(files.writeFile('/file', 'y')).rejects.toMatchObject({ code: 'EROFS', syscall: 'open' });
    await expect(files.access('/file', nodeFs.constants.W_OK)).rejects.toMatchObject({ code: 'EROFS' });
    await expect(files.mkdir('/d')).rejects.toMatchObject({ code: 'EROFS' });
  });

  test('and its mount see each other at once', async () => {
    const mountpoint = join(root, 'mnt');
    mkdirSync(mountpoint);
    await volume.mount(mountpoint);
    const inMount = (name: string) => join(mountpoint, name);
    expect(nodeFs.existsSync(inMount('new'))).toBe(false);
    await p.writeFile('/new', 'one');
    expect(readFileSync(inMount('new'), 'utf8')).toBe('one');
    await p.writeFile('/new', 'other');
    expect(readFileSync(inMount('new'), 'utf8')).toBe('other');
    await p.chmod('/new', 0o600);
    expect(nodeFs.statSync(inMount('new')).mode & 0o777).toBe(0o600);
    await p.appendFile('/new', '!');
    expect(nodeFs.statSync(inMount('new')).size).toBe(6);
    await p.mkdir('/d');
    expect(readdirSync(mountpoint).sort()).toEqual(['d', 'new']);
    await p.rename('/new', '/d/moved');
    expect(nodeFs.existsSync(inMount('new'))).toBe(false);
    expect(readFileSync(inMount('d/moved'), 'utf8')).toBe('other!');
    await p.link('/d/moved', '/second');
    expect(nodeFs.statSync(inMount('d/moved')).nlink).toBe(2);
    await p.unlink('/d/moved');
    expect(nodeFs.statSync(inMount('second')).nlink).toBe(1);
    expect(readdirSync(inMount('d'))).toEqual([]);
    writeFileSync(inMount('back'), 'from the mount');
    expect(await p.readFile('/back', 'utf8')).toBe('from the mount');
  });

  test('stay open when the mount goes', async () => {
    const mountpoint = join(root, 'mnt');
    mkdirSync(mountpoint);
    await volume.mount(mountpoint);
    await p.writeFile('/file', 'content');
    const handle = await p.open('/file');
    await p.unlink('/file');
    await volume.unmount();
    await volume.sync();
    expect(await handle.readFile('utf8')).toBe('content');
    await handle.close();
    // What nobody has open any more is released.
    await until('it is gone', async () => {
      await volume.sync();
      return (await volume.stats()).files === 0;
    });
  });

  test('tell of changes by anybody', async () => {
    await p.mkdir('/watched/sub', { recursive: true });
    const mountpoint = join(root, 'mnt');
    mkdirSync(mountpoint);
    await volume.mount(mountpoint);
    const stop = new AbortController();
    const seen: string[] = [];
    const events = (async () => {
      for await (const { eventType, filename } of p.watch('/watched', { signal: stop.signal, recursive: true })) {
        seen.push(`${eventType} ${filename}`);
      }
    })();
    const ended = expect(events).rejects.toMatchObject({ name: 'AbortError' });
    await sleep(200);
    await p.writeFile('/watched/one', 'x');
    await p.writeFile('/elsewhere', 'x');
    writeFileSync(join(mountpoint, 'watched/sub/two'), 'x');
    await p.chmod('/watched/one', 0o600);
    await p.rename('/watched/one', '/watched/three');
    await p.rm('/watched/three');
    const expected = ['rename one', 'change one', 'rename sub/two', 'change sub/two', 'rename three'];
    await until('all are told', () => expected.every((event) => seen.includes(event)));
    expect(seen.filter((event) => event.includes('elsewhere'))).toEqual([]);
    stop.abort();
    await ended;
    const watcher = fs.watch('/watched');
    const told = new Promise((resolve) => {
      watcher.once('change', (...change) => resolve(change));
    });
    await sleep(200);
    await p.writeFile('/watched/sub/deep', '');
    await p.writeFile('/watched/four', '');
    expect(await told).toEqual(['rename', 'four']);
    watcher.close();
    const missing = fs.watch('/none');
    await new Promise<void>((resolve) => {
      missing.once('error', (error) => {
        expect(error).toMatchObject({ code: 'ENOENT', syscall: 'watch' });
        resolve();
      });
    });
  });

  test('are there in a worker', async () => {
    await volume.close();
    const code = program(`
      import { parentPort, workerData } from 'node:worker_threads';
      const volume = await Volume.open(workerData);
      await volume.fs.promises.writeFile('/from-worker', 'hello');
      parentPort.postMessage(await volume.fs.promises.readFile('/from-worker', 'utf8'));
      await volume.close();`);
    const file = join(repository, 'target', `worker-${process.pid}.mjs`);
    writeFileSync(file, code);
    try {
      const worker = new Worker(pathToFileURL(file), { workerData: join(root, 'volume'), execArgv: [] });
      const said = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      expect(said).toBe('hello');
      await new Promise((resolve) => worker.once('exit', resolve));
    } finally {
      rmSync(file);
    }
    volume = await Volume.open(join(root, 'volume'));
    expect(await volume.fs.promises.readFile('/from-worker', 'utf8')).toBe('hello');
  });

  test.each(['process.exit(0)', "process.kill(process.pid, 'SIGKILL')"])(
    'that were synced are there after %s',
    async (end) => {
      await volume.close();
      const code = program(`
        const volume = await Volume.open(${JSON.stringify(join(root, 'volume'))});
        const handle = await volume.fs.promises.open('/synced', 'w');
        await handle.write('safe');
        await handle.sync();
        await volume.fs.promises.writeFile('/flushed', 'safe too', { flush: true });
        ${end};`);
      await run(process.execPath, ['--input-type=module', '-e', code], { cwd: repository }).catch(() => undefined);
      volume = await Volume.open(join(root, 'volume'));
      expect(await volume.fs.promises.readFile('/synced', 'utf8')).toBe('safe');
      expect(await volume.fs.promises.readFile('/flushed', 'utf8')).toBe('safe too');
    },
  );

  test('are reached by require, whose errors are told like those of import', async () => {
    const code = `
      const { Volume, VolumeLockedError, VerfsError, ClosedError, version } = require('verfs');
      const path = ${JSON.stringify(join(root, 'volume'))};
      Volume.open(path).catch(async (error) => {
        const { VolumeLockedError: Imported } = await import('verfs');
        const is = [VolumeLockedError, VerfsError, ClosedError, Imported].map((Class) => error instanceof Class);
        process.stdout.write(JSON.stringify([is, typeof version]));
      });`;
    const said = await run(process.execPath, ['--input-type=commonjs', '-e', code], { cwd: repository });
    expect(JSON.parse(said.stdout)).toEqual([[true, true, false, true], 'string']);
    await expect(Volume.open(join(root, 'volume'))).rejects.toBeInstanceOf(VolumeLockedError);
  });
});
