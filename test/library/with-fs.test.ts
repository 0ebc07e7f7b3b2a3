import * as nodeFs from 'node:fs';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type FSOption, glob } from 'glob';
import gracefulFs from 'graceful-fs';
import lockfile from 'proper-lockfile';
import tarFs from 'tar-fs';
import { Volume, type VolumeFs } from 'verfs';
import { sandboxPrefix } from '../harness/sandbox.ts';

/** Packages that take an `fs`, unmodified, on a volume; and beside it with Node's on a disk, at the same path. */
describe('packages that take an fs', () => {
  let root: string;
  let volume: Volume;
  let fs: VolumeFs;
  let tree: string;

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    await Volume.create(join(root, 'volume'));
    volume = await Volume.open(join(root, 'volume'));
    fs = volume.fs;
    tree = join(root, 'tree');
    for (const { promises } of [nodeFs, fs] as const) {
      await promises.mkdir(join(tree, 'src/deep/deeper'), { recursive: true });
      await promises.mkdir(join(tree, '.hidden/x'), { recursive: true });
      await promises.mkdir(join(tree, 'empty'));
      for (const name of ['a.js', 'b.ts', 'src/c.js', 'src/deep/d.test.js', 'src/deep/deeper/é.js', '.hidden/x/e.js']) {
        await promises.writeFile(join(tree, name), name.repeat(1000));
        await promises.utimes(join(tree, name), 1_700_000_000, 1_600_000_000);
      }
      await promises.chmod(join(tree, 'a.js'), 0o751);
      await promises.symlink('src/deep', join(tree, 'to-deep'));
      await promises.symlink('..', join(tree, 'src/round'));
      await promises.symlink('nowhere', join(tree, 'dangling'));
    }
  });

  afterEach(async () => {
    await volume.close();
    rmSync(root, { recursive: true, force: true });
  });

  test.each([
    ['**/*.js', {}],
    ['**', { dot: true, mark: true }],
    ['**/*', { follow: true, nodir: true }],
    ['{src,to-deep}/**/[a-d]*.js', {}],
    ['*', { realpath: true }],
    ['src/./../*.ts', {}],
    ['none/**', {}],
    ['**/*', { ignore: ['src/**'], stat: true }],
  ])('glob finds %s %j', async (pattern, options) => {
    const found = async (of: FSOption) => (await glob(pattern, { ...options, cwd: tree, fs: of })).sort();
    const here = await found(fs as FSOption);
    expect(here).toEqual(await found(nodeFs));
    expect(here.length > 0).toBe(!pattern.startsWith('none'));
  });

  test('tar-fs packs a tree to the same bytes as from a disk, and unpacks it to the same tree', async () => {
    const options = { sort: true };
    const bytesOf = async (of: typeof nodeFs) => {
      const parts: Buffer[] = [];
      for await (const part of tarFs.pack(tree, { ...options, fs: of })) {
        parts.push(part);
      }
      return Buffer.concat(parts);
    };
    const [onDisk, here] = [await bytesOf(nodeFs), await bytesOf(fs as typeof nodeFs)];
    expect(here.length).toBeGreaterThan(30_000);
    // Times of directories and links are those of the moment.
    const timeless = (archive: Buffer) => archive.toString('latin1').replace(/\0\d{11} \d{6}\0 [025]/g, '');
    expect(timeless(here)).toBe(timeless(onDisk));

    const out = join(root, 'out');
    mkdirSync(out);
    for (const [of, archive] of [
      [nodeFs, onDisk],
      [fs as typeof nodeFs, here],
    ] as const) {
      await pipeline([archive], tarFs.extract(out, { fs: of }));
    }
    const listed = async (of: VolumeFs) => {
      const names = (await of.promises.readdir(out, { recursive: true })).sort();
      const described = names.map(async (name) => {
        const { mode, mtimeMs, size, uid, gid } = await of.promises.lstat(join(out, name));
        const isFile = (mode & nodeFs.constants.S_IFMT) === nodeFs.constants.S_IFREG;
        return { name, mode, uid, gid, ...(isFile ? { mtimeMs, size } : {}) };
      });
      return await Promise.all(described);
    };
    const unpacked = await listed(fs);
    expect(unpacked).toEqual(await listed(nodeFs));
    expect(unpacked.find(({ name }) => name === 'a.js')).toMatchObject({ mtimeMs: 1.6e12, size: 4000 });
  });

  test('proper-lockfile keeps others out, and takes over from who is gone', async () => {
    const file = join(tree, 'a.js');
    const options = { fs, update: 1000, stale: 2000 };
    const release = await lockfile.lock(file, options);
    await expect(lockfile.lock(file, options)).rejects.toMatchObject({ code: 'ELOCKED' });
    // Through a link it is the same file.
    await expect(lockfile.lock(join(tree, 'src/round/a.js'), options)).rejects.toMatchObject({ code: 'ELOCKED' });
    expect(await lockfile.check(file, options)).toBe(true);
    await release();
    expect(await lockfile.check(file, options)).toBe(false);
    // Whoever made this one has not been seen for a while.
    await fs.promises.mkdir(`${file}.lock`);
    await fs.promises.utimes(`${file}.lock`, 1, 1);
    const second = await lockfile.lock(file, options);
    await second();
    expect(await fs.promises.readdir(tree)).not.toContain('a.js.lock');
    expect(nodeFs.existsSync(`${file}.lock`)).toBe(false);
  });

  test('proper-lockfile lets one of many in at a time', async () => {
    const file = join(tree, 'b.ts');
    const options = { fs, retries: { retries: 200, minTimeout: 5, maxTimeout: 20 } };
    let inside = 0;
    await fs.promises.writeFile(file, '0');
    const one = async () => {
      const release = await lockfile.lock(file, options);
      inside += 1;
      expect(inside).toBe(1);
      const count = Number(await fs.promises.readFile(file, 'utf8'));
      await fs.promises.writeFile(file, String(count + 1));
      inside -= 1;
      await release();
    };
    await Promise.all(Array.from({ length: 12 }, one));
    expect(await fs.promises.readFile(file, 'utf8')).toBe('12');
  });

  test('graceful-fs makes it graceful', async () => {
    const graceful = gracefulFs.gracefulify({ ...fs } as unknown as typeof nodeFs);
    expect(graceful.readFile).not.toBe(fs.readFile);
    const written = Array.from({ length: 300 }, (_, number) => join(tree, 'empty', `${number}`));
    const done = (work: (end: (error: Error | null) => void) => void) =>
      new Promise<void>((resolve, reject) => work((error) => (error ? reject(error) : resolve())));
    await Promise.all(written.map((path) => done((end) => graceful.writeFile(path, path, end))));
    const names = await new Promise((resolve, reject) =>
      graceful.readdir(join(tree, 'empty'), (error, found) => (error ? reject(error) : resolve(found))),
    );
    // It sorts them.
    expect(names).toEqual(Array.from({ length: 300 }, (_, number) => `${number}`).sort());
    await done((end) => graceful.rename(written[0] as string, join(tree, 'renamed'), end));
    expect(await fs.promises.readFile(join(tree, 'renamed'), 'utf8')).toBe(written[0]);
  });
});
