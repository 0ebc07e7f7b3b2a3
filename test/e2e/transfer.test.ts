/** `verfs import` and `verfs export`: what arrives is what was there, and what was cut is gone on with. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import type { TransferReport } from '@verfs/sdk';
import { shell } from '../harness/command.ts';
import { attributesOf, metadataOf } from '../harness/metadata.ts';
import { isRoot } from '../harness/others.ts';
import { Sandbox, until } from '../harness/sandbox.ts';
import { addAttributes, makeSpecimens } from '../harness/specimens.ts';

const minutes = 60_000;

let sandbox: Sandbox;
let source: string;

beforeEach(async () => {
  sandbox = new Sandbox();
  source = sandbox.path('source');
  mkdirSync(source);
  await sandbox.json(['volume', 'create', sandbox.volume]);
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const sh = (script: string) => shell(script, { cwd: sandbox.root, env: sandbox.env, timeoutMs: 2 * minutes });

const inVolume = (...args: string[]) => [...args, '--volume', sandbox.volume];

/** What rsync would change to make the one what the other is: nothing, when all of it arrived. */
const differences = (from: string, to: string) =>
  sh(`timeout 100 rsync -n -aHAX --checksum --delete --itemize-changes ${from}/ ${to}/`);

test(
  'everything that belongs to a file arrives, on a volume that is mounted or not, and out of a snapshot',
  async () => {
    await makeSpecimens(source);
    await addAttributes(source);
    const original = await metadataOf(source);
    const report = await sandbox.json<TransferReport>(inVolume('import', source, 'unmounted'));
    expect(report).toMatchObject({ failures: 0, alreadyThere: 0, leftOut: [] });
    expect(report.verified).toBeGreaterThan(20);

    await sandbox.mount();
    // The kernel knows that there is nothing.
    expect(existsSync(sandbox.inMount('deep/mounted'))).toBe(false);
    await sandbox.json(['import', source, sandbox.inMount('deep/mounted')]);
    for (const copy of ['unmounted', 'deep/mounted']) {
      expect(await differences('source', `mnt/${copy}`)).toBe('');
      expect(await metadataOf(sandbox.inMount(copy))).toEqual(original);
      expect(await attributesOf(sandbox.inMount(copy))).toEqual(await attributesOf(source));
    }
    await sandbox.json(inVolume('snapshot', 'create', 'monday'));
    await sh('rm -r mnt/unmounted');
    await sandbox.json(inVolume('export', 'monday:unmounted', sandbox.path('of-snapshot')));
    await sandbox.json(['export', sandbox.inMount('deep/mounted'), sandbox.path('of-mount')]);
    await sandbox.unmount();
    await sandbox.json(inVolume('export', 'deep/mounted', sandbox.path('of-volume')));
    await sandbox.json(inVolume('export', 'monday:unmounted/d/text', sandbox.path('one-file')));
    for (const copy of ['of-snapshot', 'of-mount', 'of-volume']) {
      expect(await differences('source', copy)).toBe('');
      expect(await metadataOf(sandbox.path(copy))).toEqual(original);
      expect(await attributesOf(sandbox.path(copy))).toEqual(await attributesOf(source));
    }
    expect(readFileSync(sandbox.path('one-file'), 'utf8')).toBe('text\n');
    // Holes are holes.
    expect(statSync(sandbox.path('of-volume/d/holes')).blocks * 512).toBeLessThan(2 ** 20);
    const { stdout } = await sandbox.verfs(inVolume('du', 'deep/mounted/d/holes', '--json'));
    expect(JSON.parse(stdout)).toMatchObject({ logicalBytes: 64 * 2 ** 20 });
    expect(JSON.parse(stdout).uniqueBytes).toBeLessThan(2 ** 20);
  },
  4 * minutes,
);

test(
  'Ctrl+C ends it with nothing at its place, and it goes on',
  async () => {
    await sh('for d in $(seq 40); do mkdir source/$d; for f in $(seq 100); do echo $d $f > source/$d/$f; done; done');
    await sh('for f in $(seq 40); do head -c 4000000 /dev/urandom > source/large$f; done');
    await sandbox.mount();
    const running = sandbox.start(['import', source, sandbox.inMount('it')]);
    await until('it has begun', () => existsSync(sandbox.inMount('.it.verfs-part/1')));
    process.kill(-(running.child.pid as number), 'SIGINT');
    expect(await running.ended(60_000)).toBe(errorTable.VERFS_E_CANCELLED.exitCode);
    expect(running.stderr()).toContain('The same command goes on.');
    expect(existsSync(sandbox.inMount('it'))).toBe(false);
    const { stdout, stderr, code } = await sandbox.verfs(['import', source, sandbox.inMount('it'), '--quiet']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('an earlier run had copied');
    expect(await differences('source', 'mnt/it')).toBe('');
    expect(readdirSync(sandbox.mountpoint)).toEqual(['it']);
  },
  4 * minutes,
);

test('what cannot be has an error of its own, and leaves nothing', async () => {
  writeFileSync(join(source, 'file'), 'content');
  const codeOf = async (...args: string[]) => {
    const { code, stdout } = await sandbox.verfs(inVolume(...args, '--json'));
    return { code, error: (JSON.parse(stdout) as { error: { code: string } }).error.code };
  };
  const wrong = (code: keyof typeof errorTable) => ({ code: errorTable[code].exitCode, error: code });
  expect(await codeOf('import', sandbox.path('absent'))).toEqual(wrong('VERFS_E_SOURCE_MISSING'));
  await sandbox.json(inVolume('import', source));
  expect(await codeOf('import', source)).toEqual(wrong('VERFS_E_PATH_EXISTS'));
  expect(await codeOf('import', source, '.vault/x')).toEqual(wrong('VERFS_E_USAGE'));
  expect(await codeOf('import', sandbox.volume, 'x')).toEqual(wrong('VERFS_E_USAGE'));
  expect(await codeOf('export', 'source', source)).toEqual(wrong('VERFS_E_TARGET_EXISTS'));
  expect(await codeOf('export', 'absent', sandbox.path('out'))).toEqual(wrong('VERFS_E_PATH_NOT_FOUND'));
  expect(await codeOf('export', 'monday:source', sandbox.path('out'))).toEqual(wrong('VERFS_E_SNAPSHOT_NOT_FOUND'));
  expect(await codeOf('export', 'source', sandbox.path('absent/out'))).toEqual(wrong('VERFS_E_SOURCE_MISSING'));
  expect(await codeOf('import')).toEqual(wrong('VERFS_E_USAGE'));
  expect(existsSync(sandbox.path('out'))).toBe(false);
  // Within its own mount it would have no end.
  await sandbox.mount();
  expect(await codeOf('import', sandbox.inMount('source'), 'x')).toEqual(wrong('VERFS_E_USAGE'));
  expect(await codeOf('export', 'source', sandbox.inMount('x'))).toEqual(wrong('VERFS_E_USAGE'));
});

// A disk of a few megabytes takes root to make.
(isRoot ? test : test.skip)(
  'a disk without room is told, and what was copied is of use later',
  async () => {
    await sh('for f in $(seq 30); do head -c 1000000 /dev/urandom > source/$f; done; mkdir small');
    await sandbox.json(inVolume('import', source, 'it'));
    await sh('mount -t tmpfs -o size=10m none small');
    try {
      const full = await sandbox.verfs(inVolume('export', 'it', sandbox.path('small/it')));
      expect(full).toMatchObject({ code: errorTable.VERFS_E_TARGET_FULL.exitCode });
      expect(existsSync(sandbox.path('small/it'))).toBe(false);
      await sh('mount -o remount,size=100m small');
      const report = await sandbox.json<TransferReport>(inVolume('export', 'it', sandbox.path('small/it')));
      expect(report.alreadyThere).toBeGreaterThan(0);
      expect(await differences('source', 'small/it')).toBe('');
    } finally {
      await sh('umount small');
    }
    await sh('mount -t tmpfs -o size=400m none small; head -c 500000000 /dev/urandom > source/large');
    try {
      const volume = sandbox.path('small/volume');
      await sandbox.json(['volume', 'create', volume]);
      const full = await sandbox.verfs(['import', source, '--volume', volume]);
      expect(full).toMatchObject({ code: errorTable.VERFS_E_VOLUME_FULL.exitCode });
    } finally {
      await sh('umount small');
    }
  },
  4 * minutes,
);

test(
  'a volume is held still while its directory is copied, and the copy has everything',
  async () => {
    await sandbox.mount();
    writeFileSync(sandbox.inMount('before'), 'acknowledged');
    const copy = sandbox.path('copy');
    const writer = sandbox.path('writer');
    writeFileSync(writer, `#!/bin/sh\ncp -a '${sandbox.volume}' '${copy}' && exec test "$1" = --json\n`, {
      mode: 0o755,
    });
    // What is behind the dashes is the command's, also where it looks like an option of ours.
    const frozen = await sandbox.verfs(['volume', 'freeze', sandbox.mountpoint, '--', writer, '--json']);
    expect(frozen).toMatchObject({ code: 0, stderr: '' });
    expect(frozen.stdout).toContain('stood still all the time');
    writeFileSync(sandbox.inMount('after'), 'later');
    expect(await sandbox.verfs(['fsck', '--volume', copy])).toMatchObject({ code: 0 });
    await sandbox.json(['export', 'before', sandbox.path('out'), '--volume', copy]);
    expect(readFileSync(sandbox.path('out'), 'utf8')).toBe('acknowledged');
    const absent = await sandbox.verfs(['export', 'after', sandbox.path('out2'), '--volume', copy]);
    expect(absent).toMatchObject({ code: errorTable.VERFS_E_PATH_NOT_FOUND.exitCode });

    await sandbox.json(['volume', 'freeze', sandbox.mountpoint, '--for', '500ms']);
    expect((await sandbox.verfs(['status', sandbox.mountpoint])).code).toBe(0);
    // It waits for the end of that.
    writeFileSync(sandbox.inMount('waited'), 'x');
    const late = await sandbox.verfs(['volume', 'thaw', sandbox.mountpoint]);
    expect(late).toMatchObject({ code: errorTable.VERFS_E_FREEZE_BROKEN.exitCode });
    const wrong = (...args: string[]) => sandbox.verfs(['volume', 'freeze', sandbox.mountpoint, ...args]);
    expect(await wrong('--for', '10min')).toMatchObject({ code: errorTable.VERFS_E_USAGE.exitCode });
    expect(await wrong('--for', 'soon')).toMatchObject({ code: errorTable.VERFS_E_USAGE.exitCode });
    expect(await wrong('--', 'false')).toMatchObject({ code: 1 });
    expect(await wrong('--', '/absent/program')).toMatchObject({ code: errorTable.VERFS_E_IO.exitCode });
    const status = await sandbox.json<{ readonly stillForMs: number | null }>(['status', sandbox.mountpoint]);
    expect(status.stillForMs).toBeNull();
  },
  2 * minutes,
);
