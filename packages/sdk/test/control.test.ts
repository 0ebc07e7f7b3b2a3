import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { VolumeFullError } from '@verfs/errors';
import { VolumeClient } from '@verfs/sdk/control';
import type { ControlHandlers } from '../src/control/protocol.ts';
import { type ControlServer, serveControl } from '../src/control/server.ts';
import { forgetDead, prepareRuntimeDirectory, register, registered, socketPath, unregister } from '../src/registry.ts';

const silent = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
const uuid = `00000000-0000-4000-8000-${String(process.pid).padStart(12, '0')}`;
const served = { uuid, pid: process.pid, volume: '/v', mountpoint: '/m' };

let release: () => void;
let handlers: ControlHandlers;
let server: ControlServer;

beforeEach(async () => {
  prepareRuntimeDirectory();
  const held = new Promise<null>((resolve) => {
    release = () => resolve(null);
  });
  handlers = {
    status: async () => ({ state: 'mounted', pid: 7 }) as never,
    stats: () => Promise.reject(new VolumeFullError('The disk is full', { path: '/v' })),
    info: () => Promise.reject(new TypeError('a bug')),
    gc: async () => ({ phase: 'idle', packsRemoved: 3 }) as never,
    gcPlan: async () => ({ packs: 2, deadBytes: 10, liveBytes: 5 }),
    gcStatus: async () => ({ active: true }) as never,
    sync: () => held,
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
    const waiting = client.sync(abort.signal);
    expect(await client.status()).toMatchObject({ pid: 7 });
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
    await expect(client.sync(AbortSignal.abort())).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
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
