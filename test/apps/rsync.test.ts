/** Trees that rsync copies, with ordinary commands, are what their source is, before and after a remount. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { attributesOf, metadataOf } from '../harness/metadata.ts';
import { repository, Sandbox } from '../harness/sandbox.ts';
import { addAttributes, makeSpecimens } from '../harness/specimens.ts';
import { unlockNewVault } from '../harness/vault.ts';

const minutes = 60_000;

let sandbox: Sandbox;
let source: string;

beforeEach(async () => {
  sandbox = new Sandbox();
  await sandbox.mount();
  source = sandbox.path('source');
  mkdirSync(source);
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** Runs commands in the directory of the sandbox: the source is `source`, the mount `mnt`. */
const sh = (script: string) => shell(script, { cwd: sandbox.root, env: sandbox.env, timeoutMs: 3 * minutes });

async function remount(): Promise<void> {
  await sandbox.unmount();
  await sandbox.mount();
}

/** What rsync -a keeps does not include that two names are one file. */
const withoutLinkCounts = (lines: string[]) => lines.map((line) => line.replace(/^(.*\tf \S+ \S+ \S+) \d+ /, '$1 '));

/** Gives what was just changed an older time: rsync leaves a time alone that differs by less than a second. */
const age = (year: number) =>
  `find . -newermt '1 hour ago' ! -newermt 1minute -exec touch -h -d '${year}-01-02 03:04:05.060708090 UTC' {} +`;

/** A tree of some thousand files, and one of everything. */
async function makeSource(): Promise<void> {
  await makeSpecimens(source);
  const trees = ['crates', 'packages', 'docs', 'node_modules/@babel', 'node_modules/yargs', 'node_modules/jest-util'];
  await sh(
    `mkdir source/tree; cp -a ${trees.map((tree) => join(repository, tree)).join(' ')} source/tree; cd source; ${age(2020)}`,
  );
}

test(
  'rsync -a, and again after changes, with --inplace, with --delete',
  async () => {
    await makeSource();
    await sh('timeout 120 rsync -a source/ mnt/copy/');
    const original = withoutLinkCounts(await metadataOf(source));
    expect(original.length).toBeGreaterThan(1000);
    expect(withoutLinkCounts(await metadataOf(sandbox.inMount('copy')))).toEqual(original);
    await remount();
    expect(withoutLinkCounts(await metadataOf(sandbox.inMount('copy')))).toEqual(original);
    expect(await sh('timeout 120 rsync -a --checksum --itemize-changes source/ mnt/copy/')).toBe('');

    await sh(
      `cd source; printf inserted | dd of=d/random bs=1 seek=1000000 conv=notrunc status=none; printf more >> d/repeated
       truncate -s 2000000 d/only-a-hole; rm -r tree/docs; mv tree/packages tree/moved; chmod 600 d/mode-0755; rm d/nothing
       mkdir d/nothing; rm to-directory; printf file > to-directory; ${age(2021)}`,
    );
    await sh('timeout 120 rsync --inplace -a source/ mnt/copy/');
    expect(await sh('cmp source/d/random mnt/copy/d/random; cat mnt/copy/to-directory; ls -d mnt/copy/tree/docs')).toBe(
      'filemnt/copy/tree/docs\n',
    );
    await sh('timeout 120 rsync --delete -a source/ mnt/copy/');
    const changed = withoutLinkCounts(await metadataOf(source));
    expect(changed).not.toEqual(original);
    expect(withoutLinkCounts(await metadataOf(sandbox.inMount('copy')))).toEqual(changed);
    await remount();
    expect(withoutLinkCounts(await metadataOf(sandbox.inMount('copy')))).toEqual(changed);
    await remove('copy');
  },
  6 * minutes,
);

/** Removes a copy; it is gone for good. */
async function remove(name: string): Promise<void> {
  const script = `rm -r mnt/${name}; ls -A mnt; stat -c %h mnt; find mnt | wc -l`;
  expect(await sh(script)).toBe('2\n1\n');
  await remount();
  expect(await sh('ls -A mnt; stat -c %h mnt; find mnt | wc -l')).toBe('2\n1\n');
}

test(
  'rsync between two directories of the mount, and back out of it',
  async () => {
    await makeSource();
    await sh('timeout 120 rsync -aH source/ mnt/one/; timeout 120 rsync -aH mnt/one/ mnt/two/');
    await sh('timeout 120 rsync -aH mnt/two/ back/');
    const original = await metadataOf(source);
    expect(await metadataOf(sandbox.inMount('two'))).toEqual(original);
    expect(await metadataOf(sandbox.path('back'))).toEqual(original);
    await sh('rm -r mnt/two');
    await remount();
    expect(await metadataOf(sandbox.inMount('one'))).toEqual(original);
    expect(await sh('ls mnt')).toBe('one\n');
  },
  6 * minutes,
);

describe('rsync -aHAXS', () => {
  const kept = async (directory: string) => ({
    metadata: await metadataOf(directory),
    attributes: await attributesOf(directory),
  });

  test(
    'keeps hard links, access control lists, extended attributes and holes',
    async () => {
      await makeSource();
      await addAttributes(source);
      await sh('timeout 120 rsync -aHAXS source/ mnt/copy/');
      const original = await kept(source);
      expect(original.attributes).toEqual(expect.arrayContaining(['user.empty=0x', 'default:user:1234:rwx']));
      expect(await kept(sandbox.inMount('copy'))).toEqual(original);
      await remount();
      expect(await kept(sandbox.inMount('copy'))).toEqual(original);
      const blocks = await sh('stat -c %b mnt/copy/d/holes mnt/copy/d/only-a-hole');
      for (const count of blocks.trim().split('\n')) {
        expect(Number(count)).toBeLessThan(1000);
      }

      await sh(
        `cd source; setfattr -n user.text -v changed d/text; setfattr -x user.long d/random; setfacl -b d/repeated
         setfacl -m u:4321:r d/repeated; setfattr -n user.new -v 1 empty; rm hard-too; ln d/random hard-too; ${age(2021)}`,
      );
      await sh('timeout 120 rsync -aHAXS --delete source/ mnt/copy/');
      const changed = await kept(source);
      expect(await kept(sandbox.inMount('copy'))).toEqual(changed);
      await remount();
      expect(await kept(sandbox.inMount('copy'))).toEqual(changed);
      expect(await sh('timeout 120 rsync -aHAXS --delete --itemize-changes source/ mnt/copy/')).toBe('');
      await remove('copy');
    },
    6 * minutes,
  );
});

test(
  'rsync -aHAX into an unlocked vault, locked and unlocked in between',
  async () => {
    await makeSource();
    await addAttributes(source);
    await unlockNewVault(sandbox);
    await sh('timeout 120 rsync -aHAX source/ mnt/.vault/copy/');
    const copy = sandbox.inMount('.vault', 'copy');
    const [original, attributes] = [await metadataOf(source), await attributesOf(source)];
    expect(original.length).toBeGreaterThan(1000);
    expect(await metadataOf(copy)).toEqual(original);
    await sandbox.json(['crypt', sandbox.mountpoint, '-l']);
    await expect(metadataOf(copy)).rejects.toThrow();
    await sandbox.json(['crypt', sandbox.mountpoint, '-u', '--password-stdin'], {
      cwd: sandbox.root,
      input: 'a password of tests\n',
    });
    expect(await metadataOf(copy)).toEqual(original);
    expect(await attributesOf(copy)).toEqual(attributes);
    expect(await sh('timeout 120 rsync -aHAX --checksum --itemize-changes source/ mnt/.vault/copy/')).toBe('');
  },
  5 * minutes,
);
