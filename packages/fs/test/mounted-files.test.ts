import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createFs, MountedFiles, type VolumePromises } from '../src/index.ts';

// What an ordinary user's mount looks like: snapshots and the vault are mounted beside it, and links lead to them.
describe('what is mounted beside a mount', () => {
  let root: string;
  let p: VolumePromises;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'verfs-test-'));
    for (const name of ['mnt', 'beside/one/d', 'secret']) {
      mkdirSync(join(root, name), { recursive: true });
    }
    writeFileSync(join(root, 'beside/one/d/file'), 'before');
    writeFileSync(join(root, 'secret/file'), 'nothing of the volume');
    symlinkSync('/one/../d/file', join(root, 'beside/one/link'));
    symlinkSync(join(root, 'beside'), join(root, 'mnt/.snapshots'));
    // Somebody made this one in a volume without a vault.
    symlinkSync(join(root, 'secret'), join(root, 'mnt/.vault'));
    mkdirSync(join(root, 'mnt/d'));
    writeFileSync(join(root, 'mnt/d/file'), 'now');
    p = createFs(new MountedFiles(join(root, 'mnt'), (path) => path === join(root, 'beside'))).promises;
  });

  afterEach(() => {
    rmSync(root, { recursive: true });
  });

  test('is found by its name, with all paths in it', async () => {
    expect(await p.readdir('/.snapshots')).toEqual(['one']);
    expect(await p.readFile('/.snapshots/one/d/file', 'utf8')).toBe('before');
    expect(await p.realpath('/d/../.snapshots/./one/d/..')).toBe('/.snapshots/one');
    expect((await p.lstat('/.snapshots')).isDirectory()).toBe(true);
    await p.mkdir('/.snapshots/two');
    expect((await p.readdir('/.snapshots')).sort()).toEqual(['one', 'two']);
    expect(await p.readFile('/.snapshots/../d/file', 'utf8')).toBe('now');
    // A link in it begins at the root of the volume.
    expect(await p.readFile('/.snapshots/one/link', 'utf8').catch(({ code }) => code)).toBe('ENOENT');
  });

  test('is only what belongs to the volume: no other link leads out', async () => {
    await expect(p.readFile('/.vault/file')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(p.readdir('/.vault')).rejects.toMatchObject({ code: 'ENOENT' });
    expect((await p.lstat('/.vault')).isSymbolicLink()).toBe(true);
    // Nor does the name of one in a directory below.
    symlinkSync(join(root, 'beside'), join(root, 'mnt/d/.snapshots'));
    await expect(p.readdir('/d/.snapshots')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
