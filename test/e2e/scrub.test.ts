/** Everything stored is checked, and what is damaged is named, as a user sees it: `verfs scrub`. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { Sandbox, until } from '../harness/sandbox.ts';

interface ReportedTally {
  readonly records: number;
  readonly damaged: number;
}

interface ReportedScrub {
  readonly end: 'done' | 'stopped';
  readonly tally: ReportedTally;
  readonly files: readonly { readonly path: string }[];
}

interface ReportedStatus {
  readonly active: boolean;
  readonly interrupted: boolean;
  readonly running: { readonly tally: { readonly bytes: number } };
  readonly ended?: { readonly tally: ReportedTally };
}

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const scrub = <T extends object = ReportedScrub>(...options: string[]) => sandbox.json<T>(['scrub', ...options]);

/** Changes one byte in the middle of the last pack. */
function damage(): void {
  const entries = readdirSync(join(sandbox.volume, 'packs'), { recursive: true, withFileTypes: true });
  const packs = entries
    .filter(({ name }) => name.endsWith('.vpk'))
    .map(({ parentPath, name }) => join(parentPath, name));
  const [pack] = packs.sort().toReversed();
  const bytes = readFileSync(pack ?? '');
  const middle = Math.floor(bytes.length / 2);
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
  writeFileSync(pack ?? '', bytes);
}

test('a mounted volume is checked, and status knows it afterwards', async () => {
  await sandbox.mount();
  await shell('head -c 3000000 /dev/urandom > file', { cwd: sandbox.mountpoint });
  await sandbox.verfs(['sync', sandbox.mountpoint]);
  expect(await scrub('--now', sandbox.mountpoint)).toMatchObject({ end: 'done', tally: { damaged: 0 }, files: [] });
  expect(await scrub<ReportedStatus>(sandbox.mountpoint)).toMatchObject({ ended: { tally: { damaged: 0 } } });
  expect((await sandbox.verfs(['status', sandbox.mountpoint])).stdout).toContain('nothing is damaged');
  await sandbox.unmount();
  await sandbox.mount();
  expect((await sandbox.verfs(['status', sandbox.mountpoint])).stdout).toContain('nothing is damaged');
});

test('damage is named by file, on a mounted volume and on another, and has an exit code', async () => {
  await sandbox.mount();
  await shell('mkdir -p a && head -c 3000000 /dev/urandom > a/bad', { cwd: sandbox.mountpoint });
  await sandbox.unmount();
  damage();
  await sandbox.mount();
  const failing = await sandbox.verfs(['scrub', '--now', sandbox.mountpoint]);
  expect(failing).toMatchObject({ code: 37, stdout: expect.stringContaining('/a/bad: pack ') });
  expect(await sandbox.json<object>(['status', sandbox.mountpoint])).toMatchObject({ damaged: [{ path: '/a/bad' }] });
  await sandbox.unmount();
  const unmounted = await sandbox.verfs(['scrub', '--now', '--volume', sandbox.volume]);
  expect(unmounted).toMatchObject({ code: 37, stdout: expect.stringContaining('/a/bad: pack ') });
});

test('a slow one is stopped by a command, and goes on', async () => {
  await sandbox.mount();
  await shell('head -c 8000000 /dev/urandom > file', { cwd: sandbox.mountpoint });
  await sandbox.verfs(['sync', sandbox.mountpoint]);
  const running = scrub('--now', '--rate', '1MiB', sandbox.mountpoint);
  await until(
    'it has read something',
    async () => (await scrub<ReportedStatus>(sandbox.mountpoint)).running.tally.bytes > 0,
  );
  await scrub('--stop', sandbox.mountpoint);
  expect(await running).toMatchObject({ end: 'stopped' });
  expect(await scrub<ReportedStatus>(sandbox.mountpoint)).toMatchObject({ active: false, interrupted: true });
  expect(await scrub('--now', sandbox.mountpoint)).toMatchObject({ end: 'done' });
  await expect(scrub('--now', '--stop', sandbox.mountpoint)).rejects.toThrow();
  await expect(scrub('--now', '--rate', 'fast', sandbox.mountpoint)).rejects.toThrow();
});
