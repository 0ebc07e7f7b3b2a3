import { createHash } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readdirSync, readFileSync, statSync, writeSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { repository, Sandbox } from '../harness/sandbox.ts';

const mebibyte = 1024 ** 2;
const minutes = 60_000;

interface ReportedStats {
  readonly logicalBytes: number;
  readonly uniqueBytes: number;
  readonly storedBytes: number;
  readonly dedupHits: number;
  readonly dedupMisses: number;
  readonly files: number;
  readonly dedupRatio: number;
  readonly compressionRatio: number;
  readonly opLatencies: readonly { readonly op: string; readonly count: number }[];
}

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const stats = () => sandbox.json<ReportedStats>(['stats', sandbox.mountpoint]);

/** Everything written is in packs, and not in memory or in the intent log any more. */
const settle = () => sandbox.json(['sync', sandbox.mountpoint]);

function bytesBelow(directory: string): number {
  const entries = existsSync(directory) ? readdirSync(directory, { recursive: true, withFileTypes: true }) : [];
  return entries
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

const packBytes = () => bytesBelow(join(sandbox.volume, 'packs'));

describe.each(['mincdc', 'ultracdc', 'fastcdc'])('a volume cut by %s', (chunker) => {
  test('stores the second copy of a large file almost for nothing', async () => {
    await sandbox.json(['volume', 'create', sandbox.volume, '--chunker', chunker]);
    await sandbox.mount();
    const size = 48 * mebibyte;
    await shell(`head -c ${size} /dev/urandom > ../original; cp ../original first`, { cwd: sandbox.mountpoint });
    await settle();
    const [before, packsBefore] = [await stats(), packBytes()];
    await shell('cp ../original second', { cwd: sandbox.mountpoint });
    await settle();
    const [after, packsAfter] = [await stats(), packBytes()];
    expect(after.logicalBytes - before.logicalBytes).toBe(size);
    expect(after.dedupHits - before.dedupHits).toBeGreaterThan(size / mebibyte);
    expect(after.uniqueBytes - before.uniqueBytes).toBeLessThan(size / 50);
    expect(packsAfter - packsBefore).toBeLessThan(size / 50);
    expect(after.dedupRatio).toBeGreaterThan(1.9);

    // Within the mount nothing is even looked up: cp(1) asks the kernel to copy, and the copy refers to what is there.
    await shell('cp second third', { cwd: sandbox.mountpoint });
    await settle();
    const shared = await stats();
    expect(shared.logicalBytes - after.logicalBytes).toBe(size);
    expect(shared.dedupMisses).toBe(after.dedupMisses);
    expect(shared.uniqueBytes).toBe(after.uniqueBytes);

    await sandbox.unmount();
    await sandbox.mount();
    const sums = await shell('sha256sum ../original first second third | cut -d " " -f 1 | uniq | wc -l', {
      cwd: sandbox.mountpoint,
    });
    expect(sums.trim()).toBe('1');
  });
});

test.each(['surrealkv', 'fjall'])('a volume with the metadata of %s keeps what it got', async (engine) => {
  await sandbox.json(['volume', 'create', sandbox.volume, '--meta-engine', engine]);
  await sandbox.mount();
  await shell(`cp -a ${repository}/packages .; mkdir d; mv packages d/p`, { cwd: sandbox.mountpoint });
  const sums = 'find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum';
  const before = await shell(sums, { cwd: sandbox.mountpoint });
  await sandbox.unmount();
  await sandbox.mount();
  expect(await shell(sums, { cwd: sandbox.mountpoint })).toBe(before);
  expect(await sandbox.json(['volume', 'info', sandbox.mountpoint])).toMatchObject({ engine });
});

test('text shrinks', async () => {
  await sandbox.mount();
  const text = Array.from({ length: 400_000 }, (_, line) => `line ${line} of a text that says much the same\n`).join(
    '',
  );
  await shell('cat > text', { cwd: sandbox.mountpoint, input: text });
  await settle();
  const { logicalBytes, storedBytes, compressionRatio } = await stats();
  expect(logicalBytes).toBe(text.length);
  expect(storedBytes).toBeLessThan(text.length / 4);
  expect(compressionRatio).toBeGreaterThan(4);
  expect(readFileSync(sandbox.inMount('text'), 'utf8')).toBe(text);
});

test('stats count what was done', async () => {
  await sandbox.mount();
  await shell('mkdir d; echo x > d/f; echo y > g; cat d/f', { cwd: sandbox.mountpoint });
  const { files, opLatencies } = await stats();
  expect(files).toBe(2);
  expect(opLatencies.find(({ op }) => op === 'mkdir')?.count).toBe(1);
  expect((await sandbox.verfs(['stats', sandbox.mountpoint])).stdout).toMatch(/^Files +2 files, 2 directories$/m);
});

test('a volume that is mounted read-only takes no writes', async () => {
  await sandbox.mount();
  await shell('echo x > f', { cwd: sandbox.mountpoint });
  await sandbox.unmount();
  expect(await sandbox.mount(['-o', 'ro'])).toMatchObject({ access: 'read-only' });
  await expect(shell('echo y > f', { cwd: sandbox.mountpoint })).rejects.toThrow(/[Rr]ead-only/);
  expect(readFileSync(sandbox.inMount('f'), 'utf8')).toBe('x\n');
});

test('damage is an error of the file concerned, and status names it', async () => {
  await sandbox.mount();
  await shell('head -c 2000000 /dev/urandom > damaged; sync -d damaged', { cwd: sandbox.mountpoint });
  await settle();
  const packs = readdirSync(join(sandbox.volume, 'packs'), { recursive: true, withFileTypes: true });
  const [first] = packs
    .filter(({ name }) => name.endsWith('.vpk'))
    .map(({ parentPath, name }) => join(parentPath, name));
  await shell('echo whole > whole; head -c 2000000 /dev/urandom > other', { cwd: sandbox.mountpoint });
  await sandbox.unmount();

  const file = openSync(first ?? '', 'r+');
  writeSync(file, Buffer.alloc(64, 0xa5), 0, 64, 1_000_000);
  closeSync(file);

  await sandbox.mount();
  await expect(shell('cat damaged', { cwd: sandbox.mountpoint })).rejects.toThrow('Input/output error');
  expect(await shell('cat whole', { cwd: sandbox.mountpoint })).toBe('whole\n');
  const status = await sandbox.json<{ damaged: { path: string; pack: string }[] }>(['status', sandbox.mountpoint]);
  expect(status.damaged).toEqual([expect.objectContaining({ path: expect.stringMatching(/damaged$/) })]);
  expect(basename(first ?? '')).toContain(status.damaged[0]?.pack);
  const shown = await sandbox.verfs(['status', sandbox.mountpoint]);
  expect(shown.stdout).toMatch(/^Damaged files +1$/m);
  await sandbox.unmount();
});

describe('large trees', () => {
  const trees: [string, string][] = [['node_modules of this project', join(repository, 'node_modules')]];
  const registry = join(process.env['CARGO_HOME'] ?? join(homedir(), '.cargo'), 'registry', 'src');
  trees.push(['the sources of crates', registry]);

  test.each(trees)(
    '%s are copied, moved, compared after a remount, and removed',
    async (_, source) => {
      await sandbox.mount();
      const options = { cwd: sandbox.mountpoint, timeoutMs: 8 * minutes };
      const sums =
        'find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; find . -type l -printf "%p %l\\n" | sort | sha256sum';
      const original = await shell(sums, { ...options, cwd: source });
      await shell(`cp -a ${source} copy; mkdir sub; mv copy sub/moved`, options);
      expect(await shell(sums, { ...options, cwd: sandbox.inMount('sub', 'moved') })).toBe(original);
      await sandbox.unmount();
      await sandbox.mount();
      expect(await shell(sums, { ...options, cwd: sandbox.inMount('sub', 'moved') })).toBe(original);
      await shell('rm -r sub', options);
      expect(readdirSync(sandbox.mountpoint)).toEqual([]);
    },
    15 * minutes,
  );
});

test('every file that was fsynced is whole after kill -9 in the middle of writing', async () => {
  const { pid } = await sandbox.mount();
  const sums = new Map<string, string>();
  // Somebody else keeps writing, without fsync, until the daemon is gone.
  const others = shell('i=0; while head -c 300000 /dev/urandom > other-$i 2> /dev/null; do i=$((i + 1)); done', {
    cwd: sandbox.mountpoint,
  }).catch(() => 'stopped by the end of the mount');
  for (let number = 0; number < 40; number += 1) {
    const name = `synced-${number}`;
    const content = Buffer.alloc(1 + number * 40_000, `${name} `);
    const file = openSync(sandbox.inMount(name), 'w');
    writeSync(file, content);
    fsyncSync(file);
    closeSync(file);
    sums.set(name, createHash('sha256').update(content).digest('hex'));
  }
  await sandbox.kill(pid);
  await others;
  await sandbox.mount();
  for (const [name, sum] of sums) {
    const content = readFileSync(sandbox.inMount(name));
    expect([name, createHash('sha256').update(content).digest('hex')]).toEqual([name, sum]);
  }
});
