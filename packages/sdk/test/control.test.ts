import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FreezeBrokenError, VolumeFullError } from '@verfs/errors';
import type { SnapshotChange } from '@verfs/native';
import { VolumeClient } from '@verfs/sdk/control';
import { noPolicy } from '@verfs/snapshots';
import type { ControlHandlers } from '../src/control/protocol.ts';
import { type ControlServer, serveControl } from '../src/control/server.ts';
import {
  eventHandlers,
  freezeHandlers,
  scrubHandlers,
  snapshotHandlers,
  transferHandlers,
  vaultHandlers,
} from '../src/daemon/handlers.ts';
import { EventWatch } from '../src/events.ts';
import { LocalVault } from '../src/local-vault.ts';
import { LocalPolicy } from '../src/policy.ts';
import { forgetDead, prepareRuntimeDirectory, register, registered, socketPath, unregister } from '../src/registry.ts';
import { FakeSnapshots } from './fake-snapshots.ts';
import { FakeVault } from './fake-vault.ts';
import { FakeWatched } from './fake-watched.ts';

const silent = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
const uuid = `00000000-0000-4000-8000-${String(process.pid).padStart(12, '0')}`;
const served = { uuid, pid: process.pid, volume: '/v', mountpoint: '/m' };

let release: () => void;
let snapshots: FakeSnapshots;
let handlers: ControlHandlers;
let server: ControlServer;
let volume: FakeWatched;
let watch: EventWatch;

beforeEach(async () => {
  prepareRuntimeDirectory();
  const held = new Promise<null>((resolve) => {
    release = () => resolve(null);
  });
  snapshots = new FakeSnapshots();
  volume = new FakeWatched(snapshots);
  watch = new EventWatch(volume);
  const policy = new LocalPolicy('/v', 'read-only', snapshots);
  handlers = {
    ...snapshotHandlers(snapshots, policy, () => undefined),
    ...vaultHandlers(new LocalVault(new FakeVault())),
    status: async () => ({ state: 'mounted', pid: 7 }) as never,
    stats: () => Promise.reject(new VolumeFullError('The disk is full', { path: '/v' })),
    info: () => Promise.reject(new TypeError('a bug')),
    gc: async () => ({ phase: 'idle', packsRemoved: 3 }) as never,
    gcPlan: async () => ({ packs: 2, deadBytes: 10, liveBytes: 5 }),
    gcStatus: async () => ({ active: true }) as never,
    ...scrubHandlers({
      scrub: async (rateBytes) => {
        await sleep(600);
        return { end: 'done', tally: { bytes: rateBytes } } as never;
      },
      scrubStop: async () => undefined,
      scrubStatus: async () => ({ active: true, running: { totalBytes: 9 } }) as never,
    }),
    ...eventHandlers(watch),
    sync: () => held,
    usage: async ({ path }) => ({ files: path.length }) as never,
    ...transferHandlers({
      import: async (source, target, options, onBegin) => {
        onBegin(() => ({ entries: 5 }) as never);
        await sleep(600);
        return { files: 1, told: [source, target, options] } as never;
      },
      export: async (source, target) => ({ files: 2, told: [source, target] }) as never,
    }),
    ...freezeHandlers(
      {
        freeze: async () => undefined,
        thaw: () => Promise.reject(new FreezeBrokenError('It changed')),
      },
      180_000,
    ),
    configSet: async ({ key, value }) => ({ [key]: value }) as never,
    configReload: async () => ['daemon.log_level'],
    unmount: async () => ({ daemon: 'ends' }),
  };
  server = await serveControl(socketPath(uuid), handlers, silent);
});

afterEach(async () => {
  release();
  await server.close();
  unregister(uuid);
});

describe('the control socket', () => {
  test('is for its owner only', () => {
    expect(statSync(socketPath(uuid)).mode & 0o777).toBe(0o600);
    expect(statSync(join(socketPath(uuid), '..')).mode & 0o777).toBe(0o700);
  });

  test('answers, and gives errors with their class', async () => {
    await using client = await VolumeClient.to(served);
    expect(await client.status()).toEqual({ state: 'mounted', pid: 7 });
    expect(await client.unmount()).toEqual({ daemon: 'ends' });
    expect(await client.gc()).toMatchObject({ packsRemoved: 3 });
    expect(await client.gcPlan()).toMatchObject({ deadBytes: 10 });
    expect(await client.gcStatus()).toMatchObject({ active: true });
    await expect(client.stats()).rejects.toMatchObject({ name: 'VolumeFullError', path: '/v' });
    await expect(client.info()).rejects.toMatchObject({ code: 'VERFS_E_INTERNAL' });
  });

  test('tells how far a scrub is', async () => {
    await using client = await VolumeClient.to(served);
    const seen: number[] = [];
    const work = client.scrub({ rateBytes: 77 });
    for await (const { totalBytes } of work) {
      seen.push(totalBytes);
    }
    const done = await work;
    expect(done).toMatchObject({ end: 'done', tally: { bytes: 77 } });
    expect(seen).toContain(9);
    expect(await client.scrubStatus()).toMatchObject({ active: true });
  });

  test('has the daemon copy, tells how far it is, and where', async () => {
    await using client = await VolumeClient.to(served);
    const seen: number[] = [];
    const options = { verify: false, onProgress: ({ entries }: { entries: number }) => void seen.push(entries) };
    const done = await client.import('relative', 'in/it', options);
    const given = { verify: false, compare: false, leaveOut: false };
    expect(done).toMatchObject({ files: 1, told: [join(process.cwd(), 'relative'), 'in/it', given] });
    expect(seen).toContain(5);
    const source = { snapshot: 'monday', path: 'docs' };
    expect(await client.export(source, '/out')).toMatchObject({ files: 2, told: [source, '/out'] });
  });

  test('holds a volume still, but not for longer than a request may wait', async () => {
    await using client = await VolumeClient.to(served);
    await client.freeze(60_000);
    await expect(client.freeze(180_000)).rejects.toMatchObject({ code: 'VERFS_E_USAGE' });
    await expect(client.thaw()).rejects.toMatchObject({ code: 'VERFS_E_FREEZE_BROKEN' });
  });

  const rightsKept = '+dac_override,+dac_read_search';
  const asAnotherUser = ['--reuid=65534', '--clear-groups', `--inh-caps=${rightsKept}`, `--ambient-caps=${rightsKept}`];
  const isRoot = process.getuid?.() === 0;

  // Only root can become somebody else.
  (isRoot ? test : test.skip)('refuses another user, whatever the modes of files let him do', async () => {
    const script = `require('node:net').connect(${JSON.stringify(socketPath(uuid))}).on('close', () => console.log('hung up'))`;
    const command = ['setpriv', ...asAnotherUser, process.execPath, '-e', script];
    const said = await promisify(execFile)('timeout', ['20', ...command]);
    expect(said.stdout).toBe('hung up\n');
    await using client = await VolumeClient.to(served);
    expect(await client.status()).toMatchObject({ pid: 7 });
  });

  test('serves others while one waits, who can cancel', async () => {
    await using client = await VolumeClient.to(served);
    const abort = new AbortController();
    const waiting = client.sync({ signal: abort.signal });
    expect(await client.status()).toMatchObject({ pid: 7 });
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
    await expect(client.sync({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
  });

  test('tells when the daemon goes away, or is not there', async () => {
    await using client = await VolumeClient.to(served);
    const waiting = client.sync();
    const expected = expect(waiting).rejects.toMatchObject({ code: 'VERFS_E_DAEMON_DIED', path: '/m' });
    await server.close();
    await expected;
    await expect(VolumeClient.to(served)).rejects.toMatchObject({ code: 'VERFS_E_DAEMON_DIED' });
  });

  test('is not taken from another daemon, but from a dead one', async () => {
    await expect(serveControl(socketPath(uuid), handlers, silent)).rejects.toMatchObject({
      code: 'VERFS_E_ALREADY_MOUNTED',
    });
    await server.close();
    writeFileSync(socketPath(uuid), 'left by a crash');
    server = await serveControl(socketPath(uuid), handlers, silent);
    await using client = await VolumeClient.to(served);
    expect(await client.status()).toMatchObject({ pid: 7 });
  });
});

describe('snapshots through the control socket', () => {
  const change = (path: string): SnapshotChange => ({ kind: 'added', path, type: 'file', sizeAfter: 1 });

  test('are what the daemon has', async () => {
    await using client = await VolumeClient.to(served);
    const made = await client.snapshots.create('a', { note: 'first' });
    expect(made).toMatchObject({ id: 1, name: 'a', note: 'first', holds: [] });
    await client.snapshots.create('b');
    await client.snapshots.hold('a', 'backup');
    await expect(client.snapshots.delete('a')).rejects.toMatchObject({ name: 'SnapshotHeldError' });
    await client.snapshots.release('a', 'backup');
    await client.snapshots.delete('a');
    expect((await client.snapshots.list()).map(({ name, note }) => [name, note])).toEqual([['b', '']]);
    await client.snapshots.rollback('b');
    await client.snapshots.clone('b', 'copy');
    await client.snapshots.restore('b', 'docs/x');
    await client.snapshots.restore('b', 'docs/x', { to: 'old/x' });
    expect(snapshots.noted).toEqual([
      ['rollback', 'b'],
      ['clone', 'b', 'copy'],
      ['restore', 'b', 'docs/x', undefined],
      ['restore', 'b', 'docs/x', 'old/x'],
    ]);
    await expect(client.snapshots.create('b')).rejects.toMatchObject({ code: 'VERFS_E_SNAPSHOT_EXISTS' });
  });

  test('are compared as fast as the reader reads', async () => {
    await using client = await VolumeClient.to(served);
    await client.snapshots.create('a');
    snapshots.batches = Array.from({ length: 100 }, (_, index) => [change(`${index}/1`), change(`${index}/2`)]);
    const diff = client.snapshots.diff('a');
    expect((await diff.next()).value).toEqual(change('0/1'));
    await client.status();
    expect(snapshots.batchesGiven).toBeLessThan(10);
    const rest: string[] = [];
    for await (const { path } of diff) {
      rest.push(path);
    }
    expect([rest.length, rest.at(-1)]).toEqual([199, '99/2']);
    expect(snapshots.noted).toEqual([['diff', 'a', undefined]]);
  });

  test('are compared no further when the reader has enough, cancels, or hangs up', async () => {
    await using client = await VolumeClient.to(served);
    await client.snapshots.create('a');
    const endless = Array.from({ length: 100_000 }, (_, index) => [change(String(index))]);
    const stopped = async () => {
      for (let wait = 0; snapshots.noted.length < 2 && wait < 500; wait += 1) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      expect(snapshots.noted.splice(0)).toEqual([['diff', 'a', 'b'], ['diff stopped']]);
    };
    snapshots.batches = endless;
    for await (const { path } of client.snapshots.diff('a', 'b')) {
      if (path === '3') {
        break;
      }
    }
    await stopped();
    const abort = new AbortController();
    const cancelled = client.snapshots.diff('a', 'b', { signal: abort.signal });
    await cancelled.next();
    abort.abort();
    const drain = async () => {
      for await (const _ of cancelled) {
        // What was on its way.
      }
    };
    await expect(drain()).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
    await stopped();
  });

  test('that are not there are told by the error of the daemon', async () => {
    await using client = await VolumeClient.to(served);
    await expect(client.snapshots.diff('a').next()).rejects.toMatchObject({ name: 'SnapshotNotFoundError' });
  });

  test('with parameters of another version are refused', async () => {
    await using client = await VolumeClient.to(served);
    const refused = { code: 'VERFS_E_USAGE', message: expect.stringContaining('usage was asked with wrong') };
    await expect(client.usage(3 as never)).rejects.toMatchObject(refused);
  });

  test('have a policy, which a read-only volume does not change', async () => {
    await using client = await VolumeClient.to(served);
    expect(await client.policy.get()).toEqual({ policy: noPolicy, next: null });
    expect(await client.policy.run({ mode: 'dry-run' })).toMatchObject({ mode: 'dry-run', taken: null });
    const refused = { name: 'VolumeReadOnlyError' };
    await expect(client.policy.set({ schedule: 'hourly' })).rejects.toMatchObject(refused);
    await expect(client.policy.run()).rejects.toMatchObject(refused);
  });
});

describe('the registry', () => {
  test('forgets who died, and nobody else', async () => {
    const isRegistered = () => registered().some((one) => one.uuid === uuid);
    register(served);
    await forgetDead();
    expect(isRegistered()).toBe(true);
    // Above pid_max of Linux.
    register({ ...served, pid: 2 ** 22 + 1 });
    await forgetDead();
    expect(isRegistered()).toBe(true);
    await server.close();
    await forgetDead();
    expect(isRegistered()).toBe(false);
    server = await serveControl(socketPath(uuid), handlers, silent);
  });

  test('finds a daemon by its volume, and forgets it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'verfs-test-registry-'));
    try {
      register({ ...served, volume: directory });
      expect(registered()).toContainEqual({ ...served, volume: directory });
      await using client = await VolumeClient.connect(directory);
      expect(client.served.mountpoint).toBe('/m');
      unregister(uuid);
      expect(registered().some((one) => one.uuid === uuid)).toBe(false);
      await expect(VolumeClient.connect(directory)).rejects.toMatchObject({ code: 'VERFS_E_NOT_MOUNTED' });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
