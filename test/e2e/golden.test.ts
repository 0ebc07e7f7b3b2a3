/** A volume of every format that was ever released can be read, written, and goes on. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { repository, Sandbox } from '../harness/sandbox.ts';

const directory = join(repository, 'test/golden');
const archives = readdirSync(directory).filter((name) => name.endsWith('.tar.gz'));

const source = readFileSync(join(repository, 'crates/format/src/superblock.rs'), 'utf8');
const format = Number(/FORMAT_VERSION: u32 = (\d+);/.exec(source)?.[1]);

const hash = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 16);

test('there is one of every format up to that of this version, for each metadata engine (npm run golden)', () => {
  const formats = Array.from({ length: format }, (_, index) => index + 1);
  const expected = formats.flatMap((one) => ['fjall', 'surrealkv'].map((engine) => `format-${one}-${engine}.tar.gz`));
  expect(archives.sort()).toEqual(expected.sort());
});

test.each(archives)('%s opens after its crash, with all that was fsynced', async (archive) => {
  await using sandbox = new Sandbox();
  await shell(`tar --no-same-owner -xzf '${join(directory, archive)}'`, { cwd: sandbox.root });
  const { mountpoint } = sandbox;
  const inMount = (...names: string[]) => sandbox.inMount(...names);
  await sandbox.mount();
  const shown = readdirSync(mountpoint).filter((name) => !name.startsWith('.'));
  expect(shown.sort()).toEqual(['directory', 'fsynced', 'hard link', 'link', 'näme\n', 'second', 'small', 'sparse']);
  expect(hash(inMount('directory', 'noise'))).toBe('e45293bc6727ecba');
  expect(hash(inMount('second'))).toBe('30d78bba9db43c2b');
  expect(readFileSync(inMount('fsynced'), 'utf8')).toBe('fsynced before the crash\n');
  expect(readFileSync(inMount('directory', 'deep', 'text'), 'utf8')).toBe('changed after the snapshot\n');
  expect(readFileSync(inMount('näme\n'), 'utf8')).toBe('a name with a line feed');
  expect(readlinkSync(inMount('link'))).toBe('directory/noise');
  expect(statSync(inMount('small'))).toMatchObject({ nlink: 2, size: 23 });
  expect(statSync(inMount('small')).mode & 0o777).toBe(0o640);
  expect(statSync(inMount('directory', 'noise')).mtimeMs).toBe(1_600_000_000_000);
  expect(statSync(inMount('sparse')).size).toBe(5_000_000);
  expect(await shell('getfattr --only-values -n user.note small', { cwd: mountpoint })).toBe('an attribute');

  const before = inMount('.snapshots', 'first', 'directory', 'deep');
  expect(readdirSync(before).sort()).toEqual(['duplicate', 'text']);
  expect(readFileSync(join(before, 'text'), 'utf8')).toBe('the same line, again and again\n'.repeat(10_000));
  expect(hash(join(before, 'duplicate'))).toBe('e45293bc6727ecba');
  expect(await sandbox.json(['policy', 'show', '--volume', mountpoint])).toMatchObject({
    policy: { schedule: 'daily', 'keep.daily': 7 },
  });

  const keyFile = sandbox.path('verfsnext.vault.key');
  await sandbox.json(['crypt', '-u', '-k', keyFile, '--password-stdin', mountpoint], { input: 'golden password' });
  expect(hash(inMount('.vault', 'secret'))).toBe('6e6137dd043f2324');

  writeFileSync(inMount('written by this version'), 'x'.repeat(100_000));
  await sandbox.json(['snapshot', 'create', 'now', '--volume', mountpoint]);
  await sandbox.unmount();
  await sandbox.mount();
  expect(statSync(inMount('written by this version')).size).toBe(100_000);
  expect(
    readdirSync(inMount('.snapshots'))
      .filter((name) => name === 'first' || name === 'now')
      .sort(),
  ).toEqual(['first', 'now']);
  await sandbox.unmount();
});
