import { execFile } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { defaultConfig } from '@verfs/config';
import {
  addonFile,
  addonPackage,
  defaultOptions,
  type LogRecord,
  NativeVolume,
  peerUid,
  setLogSink,
} from '@verfs/native';
import { createOptionsOf, mountOptionsOf, openOptionsOf } from '@verfs/sdk/options';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'verfs-test-native-'));
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('the addon', () => {
  test('is found by the platform', () => {
    expect(addonFile({ platform: 'linux', arch: 'x64', abi: 'gnu' })).toBe('verfs.linux-x64-gnu.node');
    expect(addonFile({ platform: 'linux', arch: 'arm64', abi: 'musl' })).toBe('verfs.linux-arm64-musl.node');
    expect(addonPackage({ platform: 'linux', arch: 'arm64', abi: 'gnu' })).toBe('@verfs/bindings-linux-arm64-gnu');
    expect(() => addonFile({ platform: 'win32', arch: 'x64', abi: 'gnu' })).toThrow('does not run on win32');
    expect(() => addonFile({ platform: 'linux', arch: 'mips', abi: 'gnu' })).toThrow('does not run on linux mips');
  });

  test('has the defaults of the configuration', () => {
    const config = defaultConfig({ uid: 1000, home: '/h' });
    expect(defaultOptions()).toEqual({
      create: createOptionsOf(config),
      open: openOptionsOf(config),
      mount: mountOptionsOf(config),
    });
  });
});

describe('a call', () => {
  test('rejects with an error of ours', async () => {
    const path = join(directory, 'absent');
    await expect(NativeVolume.inspect(path)).rejects.toMatchObject({
      name: 'NotAVolumeError',
      code: 'VERFS_E_NOT_A_VOLUME',
      path,
      message: expect.stringContaining(path),
    });
    await expect(NativeVolume.create(path, { chunker: 'none' as 'mincdc' })).rejects.toMatchObject({
      code: 'VERFS_E_USAGE',
    });
    await expect(NativeVolume.open(path, { dirtyLimitBytes: -1 })).rejects.toMatchObject({ code: 'VERFS_E_USAGE' });
    await expect(NativeVolume.inspect(3 as unknown as string)).rejects.toMatchObject({ code: 'VERFS_E_USAGE' });
  });

  test('with a signal that has fired does not begin', async () => {
    const path = join(directory, 'v');
    await expect(NativeVolume.create(path, {}, AbortSignal.abort())).rejects.toMatchObject({
      code: 'VERFS_E_CANCELLED',
    });
    await expect(NativeVolume.inspect(path)).rejects.toMatchObject({ code: 'VERFS_E_NOT_A_VOLUME' });
  });

  test('is cancelled by its signal, and one signal serves many calls', async () => {
    const path = join(directory, 'v');
    await NativeVolume.create(path, {});
    // No thread is free, so that neither call can be done before the signal fires.
    const stuck = await stuckVolume('stuck');
    const blockers = Promise.allSettled(Array.from({ length: threads }, () => NativeVolume.open(stuck.path, {})));
    const abort = new AbortController();
    const cancelled = NativeVolume.open(path, {}, abort.signal);
    const alsoCancelled = NativeVolume.create(join(directory, 'w'), {}, abort.signal);
    abort.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
    await expect(alsoCancelled).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
    await stuck.release(blockers);
    // Nobody has it: this one may have the volume.
    const volume = await openPatiently(path);
    await volume.sync(new AbortController().signal);
    await volume.close();
  });

  test('refuses what is no AbortSignal', async () => {
    const path = join(directory, 'v');
    await expect(NativeVolume.create(path, {}, {} as AbortSignal)).rejects.toMatchObject({ code: 'VERFS_E_USAGE' });
  });

  test('after the end of its volume is refused', async () => {
    const path = join(directory, 'v');
    await NativeVolume.create(path, {});
    const volume = await NativeVolume.open(path, {});
    await volume.close();
    await volume.close();
    await expect(volume.sync()).rejects.toMatchObject({ code: 'VERFS_E_CLOSED' });
  });

  test('that may wait takes a signal', async () => {
    const path = join(directory, 'v');
    await NativeVolume.create(path, {});
    const volume = await NativeVolume.open(path, {});
    const fired = AbortSignal.abort();
    const calls = [
      NativeVolume.create(join(directory, 'w'), {}, fired),
      NativeVolume.open(path, {}, fired),
      volume.mount(directory, {}, fired),
      volume.unmount(fired),
      volume.waitUnmounted(fired),
      volume.sync(fired),
      volume.close(fired),
    ];
    const outcomes = await Promise.allSettled(calls);
    expect(outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)).toEqual(
      calls.map(() => 'VERFS_E_CANCELLED'),
    );
    // None of them was begun: it is open still.
    await volume.sync();
    await volume.close();
  });

  test('does not block the event loop, and its signal rejects it while it waits', async () => {
    const stuck = await stuckVolume('stuck');
    const abort = new AbortController();
    const opening = NativeVolume.open(stuck.path, {}, abort.signal);
    await turnsOfTheLoop(10);
    abort.abort();
    await expect(opening).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
    await stuck.release();
  });

  test('that only looks is answered while others wait for the disk', async () => {
    const stuck = await stuckVolume('stuck');
    const openings = Array.from({ length: threads }, () => NativeVolume.open(stuck.path, {}));
    const settled = Promise.allSettled(openings);
    await expect(NativeVolume.inspect(join(directory, 'absent'))).rejects.toMatchObject({
      code: 'VERFS_E_NOT_A_VOLUME',
    });
    await stuck.release(settled);
  });

  test('that finds too many others waiting is refused, and the others are done', async () => {
    const stuck = await stuckVolume('stuck');
    const blockers = Promise.allSettled(Array.from({ length: threads }, () => NativeVolume.inspect(stuck.path)));
    const calls = Promise.allSettled(
      Array.from({ length: 2 * queuedCallsMax }, () => NativeVolume.inspect(join(directory, 'absent'))),
    );
    await stuck.release(blockers);
    const codes = (await calls).map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'fulfilled'));
    const count = (code: string) => codes.filter((one) => one === code).length;
    expect(count('VERFS_E_NOT_A_VOLUME')).toBeGreaterThanOrEqual(queuedCallsMax - threads);
    expect(count('VERFS_E_NOT_A_VOLUME')).toBeLessThanOrEqual(queuedCallsMax);
    expect(count('VERFS_E_USAGE')).toBe(codes.length - count('VERFS_E_NOT_A_VOLUME'));
  });
});

test('two that make a volume at the same place get one, and the other is told', async () => {
  for (let round = 0; round < 20; round += 1) {
    const path = join(directory, `v${round}`);
    const outcomes = await Promise.allSettled([1, 2, 3, 4].map(() => NativeVolume.create(path, {})));
    const made = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(made.length).toBe(1);
    expect(refused.map(({ reason }) => reason.code)).toEqual(refused.map(() => 'VERFS_E_VOLUME_EXISTS'));
    expect(await NativeVolume.inspect(path)).toMatchObject({ uuid: made[0]?.value.uuid });
    expect(readdirSync(path)).toEqual(['volume.toml']);
  }
});

/** As in bindings/node/src/pool.rs. */
const threads = 4;
const queuedCallsMax = 256;

/** A directory whose superblock is a pipe: whoever reads it waits until `release`. */
async function stuckVolume(name: string) {
  const path = join(directory, name);
  const pipe = join(path, 'volume.toml');
  mkdirSync(path);
  await promisify(execFile)('mkfifo', [pipe]);
  return {
    path,
    /** Lets everybody go on who waits, until `all` is settled. */
    release: async (all: Promise<unknown> = turnsOfTheLoop(1)) => {
      let isSettled = false;
      void all.then(() => {
        isSettled = true;
      });
      do {
        // Opened to read as well, so that it doesn't wait for a reader; closing it is the end for those there are.
        closeSync(openSync(pipe, 'r+'));
        await turnsOfTheLoop(1);
      } while (!isSettled);
    },
  };
}

async function turnsOfTheLoop(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function openPatiently(path: string): Promise<NativeVolume> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await NativeVolume.open(path, {});
    } catch (error) {
      if (attempt > 50) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

test('log records of the engine reach the sink, and no name of a file is in them', async () => {
  const records: LogRecord[] = [];
  setLogSink('trace', (record) => records.push(record));
  const path = join(directory, 'v');
  await NativeVolume.create(path, {});
  const volume = await NativeVolume.open(path, {});
  await volume.close();
  await new Promise((resolve) => setTimeout(resolve, 100));
  setLogSink('error', () => undefined);
  for (const record of records) {
    expect(record).toEqual({
      time: expect.any(Number),
      level: expect.stringMatching(/^(error|warn|info|debug|trace)$/),
      target: expect.stringMatching(/^verfs/),
      message: expect.any(String),
    });
  }
  expect(() => setLogSink('loud' as 'info', () => undefined)).toThrow('not a log level');
});

test('the user at the other end of a socket is known', async () => {
  const path = join(directory, 'socket');
  const descriptorOf = (socket: Socket) => (socket as unknown as { _handle: { fd: number } })._handle.fd;
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const client = connect(path);
  const socket = await accepted;
  expect(peerUid(descriptorOf(socket))).toBe(process.getuid?.());
  client.destroy();
  socket.destroy();
  server.close();
  expect(() => peerUid(-1)).toThrow();
  expect(() => peerUid(9999)).toThrow();
});
