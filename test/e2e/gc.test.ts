/** Deleted data gives its room back to the disk, as a user sees it: `verfs gc`. */
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { isAlive, Sandbox, until } from '../harness/sandbox.ts';

interface ReportedProgress {
  readonly packsRemoved: number;
  readonly packsLeft: number;
  readonly movedBytes: number;
  readonly reclaimedBytes: number;
}

interface ReportedStatus {
  readonly active: boolean;
  readonly collections: number;
  readonly reclaimedBytes: number;
  readonly deadBytes: number;
  readonly storedBytes: number;
}

interface ReportedPlan {
  readonly packs: number;
  readonly deadBytes: number;
  readonly liveBytes: number;
}

const mebibyte = 1024 ** 2;

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

function packBytes(): number {
  const entries = readdirSync(join(sandbox.volume, 'packs'), { recursive: true, withFileTypes: true });
  const packs = entries.filter(({ name }) => name.endsWith('.vpk'));
  return packs.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
}

const list = () => join(sandbox.volume, 'gc', '.DISCARD');
const gc = <T extends object>(...options: string[]) => sandbox.json<T>(['gc', ...options]);

/** Mounts a volume that collects only what it is told to. */
function mountWithoutBackground() {
  const file = sandbox.path('config.toml');
  writeFileSync(file, '[gc]\nbackground = false\n');
  return sandbox.mount(['--config', file]);
}

/** 40 files of noise, 1 MiB each, with their checksums; then every second one is deleted. */
async function writeAndDelete(): Promise<void> {
  await shell(
    'for i in $(seq 40); do head -c 1048576 /dev/urandom > f$i; done; sha256sum f* > ../sums; cp ../sums sums',
    { cwd: sandbox.mountpoint },
  );
  // What is deleted before it was stored leaves nothing.
  await sandbox.json(['sync', sandbox.mountpoint]);
  await shell('rm $(seq -f f%g 2 2 40)', { cwd: sandbox.mountpoint });
  await shell('grep -E " f[0-9]*[13579]$" ../sums > ../left', { cwd: sandbox.mountpoint });
}

const checkLeft = () => shell('sha256sum --quiet -c ../left; ls f* | wc -l', { cwd: sandbox.mountpoint });

test('a mounted volume gives the room of deleted files back, and what is left is whole after a remount', async () => {
  await mountWithoutBackground();
  await writeAndDelete();
  await until('what was deleted is dead', async () => {
    await sandbox.json(['sync', sandbox.mountpoint]);
    return (await gc<ReportedStatus>('--status', sandbox.mountpoint)).deadBytes > 19 * mebibyte;
  });
  const before = packBytes();
  const plan = await gc<ReportedPlan>('--dry-run', sandbox.mountpoint);
  expect(plan.deadBytes).toBeGreaterThan(19 * mebibyte);
  expect(packBytes()).toBe(before);

  const done = await gc<ReportedProgress>('--now', sandbox.mountpoint);
  expect(done).toMatchObject({ packsLeft: 0 });
  expect(done.reclaimedBytes).toBeGreaterThan(0.95 * plan.deadBytes);
  expect(existsSync(list())).toBe(true);
  expect(before - packBytes()).toBeGreaterThan(0.95 * plan.deadBytes);
  expect(await checkLeft()).toBe('20\n');
  const status = await gc<ReportedStatus>(sandbox.mountpoint);
  expect(status).toMatchObject({ active: false, reclaimedBytes: done.reclaimedBytes });
  expect(status.deadBytes).toBeLessThan(mebibyte);

  await sandbox.unmount();
  await sandbox.mount();
  expect(await checkLeft()).toBe('20\n');
  const shown = await sandbox.verfs(['gc', sandbox.mountpoint]);
  expect(shown.stdout).toMatch(/^Now +idle$/m);
});

test('a daemon that is killed while it collects loses nothing', async () => {
  const { pid } = await mountWithoutBackground();
  await writeAndDelete();
  await sandbox.json(['sync', sandbox.mountpoint]);
  const before = packBytes();
  const collecting = sandbox.verfs(['gc', '--now', sandbox.mountpoint]).catch(() => undefined);
  // Somewhere between its first step and its last one.
  await until('it has begun', () => existsSync(list()) || !isAlive(pid));
  process.kill(pid, 'SIGKILL');
  await collecting;
  await until('the daemon is dead', () => !isAlive(pid));
  await sandbox.mount();
  expect(await checkLeft()).toBe('20\n');
  await gc('--now', sandbox.mountpoint);
  expect(await checkLeft()).toBe('20\n');
  expect(before - packBytes()).toBeGreaterThan(19 * mebibyte);
});

test('an idle volume collects by itself, and one that is not mounted when it is asked to', async () => {
  await sandbox.mount();
  await writeAndDelete();
  // What is left, and the little that was deleted since the last collection.
  await until('it has collected', () => packBytes() < 22 * mebibyte, 30_000);
  await shell('rm f1 f3 f5 f7', { cwd: sandbox.mountpoint });
  await sandbox.unmount();
  const done = await gc<ReportedProgress>('--now', '--volume', sandbox.volume);
  expect(done.reclaimedBytes).toBeGreaterThan(3.9 * mebibyte);
  await expect(sandbox.json(['gc', '--now', '--dry-run', '--volume', sandbox.volume])).rejects.toThrow();
});
