/** What parts of a volume take. */
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { Sandbox } from '../harness/sandbox.ts';

interface Usage {
  readonly path: string;
  readonly files: number;
  readonly directories: number;
  readonly logicalBytes: number;
  readonly uniqueBytes: number;
  readonly sharedBytes: number;
  readonly storedBytes: number;
  readonly exclusiveBytes: number;
}

const bytes = 600_000;

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

test('verfs du tells what is unique, shared and stored, in a mount and without one', async () => {
  await sandbox.mount();
  mkdirSync(sandbox.inMount('one'));
  mkdirSync(sandbox.inMount('two'));
  writeFileSync(sandbox.inMount('one', 'noise'), randomBytes(bytes));
  writeFileSync(sandbox.inMount('one', 'own'), randomBytes(bytes));
  copyFileSync(sandbox.inMount('one', 'noise'), sandbox.inMount('two', 'copy'));
  const du = (...args: string[]) => sandbox.json<Usage>(['du', ...args]);
  const one = await du(sandbox.inMount('one'));
  expect(one).toMatchObject({ path: 'one', files: 2, directories: 1, logicalBytes: 2 * bytes, uniqueBytes: 2 * bytes });
  expect(one.sharedBytes).toBe(bytes);
  expect(one.storedBytes).toBeGreaterThan(2 * bytes - 10_000);
  expect(one.exclusiveBytes / bytes).toBeCloseTo(1, 1);
  symlinkSync(sandbox.inMount('two'), sandbox.path('link'));
  const two = await du(sandbox.path('link'));
  expect(two).toMatchObject({ path: 'two', uniqueBytes: bytes, sharedBytes: bytes, exclusiveBytes: 0 });
  const all = await du('--volume', sandbox.mountpoint);
  expect(all).toMatchObject({
    path: '',
    files: 3,
    directories: 3,
    logicalBytes: 3 * bytes,
    uniqueBytes: 2 * bytes,
    sharedBytes: 0,
  });
  const { stdout } = await sandbox.verfs(['du', sandbox.mountpoint]);
  expect(stdout).toMatch(/^Path +\/$/m);
  expect(stdout).toMatch(/^Unique +1\.1 MiB \(dedup 1\.50x\)$/m);
  await sandbox.unmount();
  expect(await du('one', '--volume', sandbox.volume)).toEqual(one);
});

test('verfs dedup-report tells it of each entry, the largest first, also as a page that needs nothing else', async () => {
  await sandbox.mount();
  mkdirSync(sandbox.inMount('<b>&'));
  writeFileSync(sandbox.inMount('<b>&', 'noise'), randomBytes(bytes));
  writeFileSync(sandbox.inMount('small'), 'x');
  copyFileSync(sandbox.inMount('<b>&', 'noise'), sandbox.inMount('copy'));
  await sandbox.json(['snapshot', 'create', 'one', '--volume', sandbox.mountpoint]);
  const html = sandbox.path('report.html');
  const report = await sandbox.json<{ parts: { path: string; usage: Usage }[]; whole: { usage: Usage } }>([
    'dedup-report',
    sandbox.mountpoint,
    '--html',
    html,
  ]);
  expect(report.parts.map(({ path }) => path).sort()).toEqual(['/<b>&', '/copy', '/small']);
  expect(report.parts.at(-1)?.path).toBe('/small');
  expect(report.parts[0]?.usage).toMatchObject({ uniqueBytes: bytes, sharedBytes: bytes, exclusiveBytes: 0 });
  expect(report.whole.usage).toMatchObject({ logicalBytes: 2 * bytes + 1, uniqueBytes: bytes + 1, files: 3 });
  const page = readFileSync(html, 'utf8');
  expect(page).toContain('/&lt;b&gt;&amp;');
  expect(page).not.toContain('<b>');
  expect(page).not.toMatch(/https?:|<script|<link|url\(/);
  expect(page.match(/<rect /g)).toHaveLength(9);
  const { stdout } = await sandbox.verfs(['dedup-report', '--volume', sandbox.mountpoint, '--top', '1']);
  expect(stdout.trimEnd().split('\n')).toHaveLength(3);
  expect(await sandbox.verfs(['dedup-report', '--top', '0'])).toMatchObject({
    code: errorTable.VERFS_E_USAGE.exitCode,
  });
});

test('verfs dedup-report leaves out what goes while it counts', async () => {
  await sandbox.mount();
  writeFileSync(sandbox.inMount('0'), 'x');
  writeFileSync(sandbox.inMount('stays'), 'y');
  const counting = sandbox.json<{ parts: { path: string }[] }>(['dedup-report', sandbox.mountpoint]);
  const ended = counting.then(
    () => true,
    () => true,
  );
  for (let number = 0; !(await Promise.race([ended, false])); number += 1) {
    await rename(sandbox.inMount(`${number}`), sandbox.inMount(`${number + 1}`));
  }
  expect((await counting).parts.map(({ path }) => path)).toContain('/stays');
});

test('verfs du refuses what is not there, or in no volume', async () => {
  await sandbox.mount();
  expect(await sandbox.verfs(['du', sandbox.inMount('absent')])).toMatchObject({
    code: errorTable.VERFS_E_PATH_NOT_FOUND.exitCode,
    stderr: expect.stringContaining('there is no /absent in the volume'),
  });
  expect(await sandbox.verfs(['du', sandbox.root])).toMatchObject({ code: errorTable.VERFS_E_NOT_MOUNTED.exitCode });
});
