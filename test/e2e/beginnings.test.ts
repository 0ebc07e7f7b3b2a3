import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { defaultConfig } from '@verfs/config';
import { daemonRequest } from '@verfs/sdk/daemon';
import { mountpointsBelow } from '../harness/mounts.ts';
import { type ReportedError, type ReportedStatus, repository, Sandbox, until } from '../harness/sandbox.ts';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

type Answer = ReportedStatus & { readonly error?: ReportedError };

/** Runs commands of `verfs` at the same time. */
async function atOnce(commands: readonly (readonly string[])[]) {
  const outcomes = await Promise.all(commands.map((args) => sandbox.verfs([...args, '--json'])));
  const answers = outcomes.map(({ code, stdout }) => ({ code, ...(JSON.parse(stdout) as Answer) }));
  return { done: answers.filter(({ code }) => code === 0), refused: answers.filter(({ code }) => code !== 0) };
}

const rounds = [1, 2, 3, 4];
const taken = ['VERFS_E_ALREADY_MOUNTED', 'VERFS_E_VOLUME_LOCKED'];

describe('mounts that begin at the same time', () => {
  test('of a default volume that none of them finds: one makes and serves it, the others say who', async () => {
    for (const round of rounds) {
      const places = [1, 2, 3].map((number) => sandbox.path(`mnt-${round}-${number}`));
      for (const place of places) {
        mkdirSync(place);
      }
      const { done, refused } = await atOnce(places.map((place) => ['mount', place]));
      expect(done.length).toBe(1);
      expect(refused.map(({ error }) => error?.code)).toEqual(['VERFS_E_VOLUME_LOCKED', 'VERFS_E_VOLUME_LOCKED']);
      expect(mountpointsBelow(sandbox.root)).toEqual([done[0]?.mountpoint]);
      writeFileSync(join(done[0]?.mountpoint ?? '', 'file'), 'content');
      expect(await sandbox.json(['unmount'])).toMatchObject({ daemon: 'ends' });
      expect(await sandbox.json(['stats'])).toMatchObject({ files: 1 });
      const volumes = sandbox.path('home', '.local', 'share', 'verfs');
      expect(readdirSync(volumes)).toEqual(['default']);
      rmSync(volumes, { recursive: true });
    }
  });

  test('at the same place: one is there, not one above the other', async () => {
    const volumes = [1, 2, 3].map((number) => sandbox.path(`volume-${number}`));
    for (const volume of volumes) {
      await sandbox.json(['volume', 'create', volume]);
    }
    for (const _ of rounds) {
      const { done, refused } = await atOnce(
        volumes.map((volume) => ['mount', sandbox.mountpoint, '--volume', volume]),
      );
      expect(done.length).toBe(1);
      expect(refused.map(({ error }) => taken.includes(error?.code ?? ''))).toEqual([true, true]);
      expect(mountpointsBelow(sandbox.root)).toEqual([sandbox.mountpoint]);
      expect(await sandbox.json(['status', sandbox.mountpoint])).toMatchObject({ volume: done[0]?.volume });
      await sandbox.unmount();
      expect(mountpointsBelow(sandbox.root)).toEqual([]);
    }
  });
});

test('two daemons serve two volumes, and each command reaches its own', async () => {
  const places = ['a', 'b'].map((name) => ({ volume: sandbox.path(name), mountpoint: sandbox.path(`mnt-${name}`) }));
  for (const { volume, mountpoint } of places) {
    mkdirSync(mountpoint);
    await sandbox.json(['volume', 'create', volume]);
  }
  const { done } = await atOnce(places.map(({ volume, mountpoint }) => ['mount', mountpoint, '--volume', volume]));
  expect(new Set(done.map(({ pid }) => pid)).size).toBe(2);
  for (const { volume, mountpoint } of places) {
    expect(await sandbox.json(['status', mountpoint])).toMatchObject({ volume, mountpoint });
    expect(await sandbox.json(['sync', '--volume', volume])).toEqual({ volume, mountpoint });
  }
  expect(await sandbox.json(['unmount', '--volume', sandbox.path('a')])).toMatchObject({ volume: sandbox.path('a') });
  expect(mountpointsBelow(sandbox.root)).toEqual([sandbox.path('mnt-b')]);
  expect(await sandbox.json(['unmount', sandbox.path('mnt-b')])).toMatchObject({ volume: sandbox.path('b') });
});

/** Daemons of volumes below `directory`. */
function daemonsBelow(directory: string): number[] {
  const pids = readdirSync('/proc').filter((name) => {
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      const program = words.findIndex((word) => word.endsWith('daemon/main.js'));
      return program > 0 && words[program + 1]?.startsWith(`${directory}/`);
    } catch {
      return false;
    }
  });
  return pids.map(Number);
}

describe('a daemon that is not to go on while it starts', () => {
  const program = join(repository, 'packages/sdk/dist/daemon/main.js');

  /** Starts the program of a daemon, as `verfs mount` does, for a volume that is missing. */
  function startDaemon(): { readonly child: ChildProcess; readonly ended: Promise<number | null> } {
    const from = { uid: process.getuid?.() ?? 0, home: sandbox.home };
    const request = daemonRequest(defaultConfig(from), {
      volume: sandbox.path('made', 'volume'),
      mountpoint: sandbox.mountpoint,
      whenMissing: 'create',
      configFile: null,
    });
    const child = fork(program, [request.volume, request.mountpoint], {
      env: sandbox.env,
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.send(request);
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    return { child, ended };
  }

  test.each([0, 50, 100, 150, 200])('ends when the command that started it is gone after %d ms', async (millis) => {
    const { child, ended } = startDaemon();
    await sleep(millis);
    if (child.connected) {
      child.disconnect();
    }
    // It may serve already, and then it goes on.
    const isMounted = () => mountpointsBelow(sandbox.root).length > 0;
    let hasEnded = false;
    void ended.then(() => {
      hasEnded = true;
    });
    await until('it has ended or serves', () => hasEnded || isMounted(), 60_000);
    const served = isMounted();
    child.kill('SIGTERM');
    await ended;
    expect(isMounted()).toBe(false);
    expect(existsSync(sandbox.path('made')) && !served).toBe(false);
  });

  test.each([0, 50, 100, 150, 200, 250])('ends by SIGTERM after %d ms, and nothing is left', async (millis) => {
    const { child, ended } = startDaemon();
    const ready = new Promise<boolean>((resolve) => {
      child.once('message', ({ kind }: { kind: string }) => resolve(kind === 'ready'));
      // Comes after all messages, as `exit` may not.
      child.once('disconnect', () => resolve(false));
    });
    await sleep(millis);
    child.kill('SIGTERM');
    await ended;
    expect(mountpointsBelow(sandbox.root)).toEqual([]);
    expect(existsSync(sandbox.path('made'))).toBe(await ready);
  });

  test('is ended by Ctrl+C at the command that waits for it', async () => {
    const command = sandbox.start(['mount', sandbox.mountpoint]);
    await until('the daemon is there', () => daemonsBelow(sandbox.root).length > 0);
    command.child.kill('SIGINT');
    await command.ended();
    if (mountpointsBelow(sandbox.root).length > 0) {
      // It was quicker, and serves.
      await sandbox.unmount();
    }
    await until('the daemon has ended', () => daemonsBelow(sandbox.root).length === 0);
    expect(mountpointsBelow(sandbox.root)).toEqual([]);
  });
});
