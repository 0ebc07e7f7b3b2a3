import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { VolumeFs } from 'verfs';
import { begin, type Subject, ways } from './ways.ts';

describe.each(ways)('through the fs of a volume that is %s', (way) => {
  let subject: Subject;
  let fs: VolumeFs;
  let p: VolumeFs['promises'];

  beforeEach(async () => {
    subject = await begin(way);
    fs = subject.volume.fs;
    p = fs.promises;
  });

  afterEach(async () => {
    await subject[Symbol.asyncDispose]();
  });

  test('snapshots are read, made and deleted', async () => {
    const { volume } = subject;
    await p.mkdir('/d');
    await p.writeFile('/d/file', 'before');
    await p.mkdir('/.snapshots/one');
    await p.writeFile('/d/file', 'behind');
    expect(await p.readFile('/.snapshots/one/d/file', 'utf8')).toBe('before');
    expect((await volume.snapshots.list()).map(({ name }) => name)).toEqual(['one']);
    await volume.snapshots.create('two');
    expect((await p.readdir('/.snapshots')).sort()).toEqual(['one', 'two']);
    expect(await p.readdir('/.snapshots/one', { recursive: true })).toEqual(['d', 'd/file']);
    // Found by its name, and not listed.
    expect(await p.readdir('/')).toEqual(['d']);
    expect(await p.realpath('/.snapshots/./one/d/../d/file')).toBe('/.snapshots/one/d/file');
    const pieces: Buffer[] = [];
    for await (const piece of fs.createReadStream('/.snapshots/two/d/file', { highWaterMark: 3 })) {
      pieces.push(piece);
    }
    expect(String(Buffer.concat(pieces))).toBe('behind');
    await p.cp('/.snapshots/one/d', '/back', { recursive: true });
    expect(await p.readFile('/back/file', 'utf8')).toBe('before');
    await p.copyFile('/.snapshots/one/d/file', '/d/file');
    expect(await p.readFile('/d/file', 'utf8')).toBe('before');
    await p.rmdir('/.snapshots/one');
    await expect(p.readFile('/.snapshots/one/d/file')).rejects.toMatchObject({ code: 'ENOENT' });
    expect((await volume.snapshots.list()).map(({ name }) => name)).toEqual(['two']);
  });

  test('nothing changes in a snapshot', async () => {
    await p.writeFile('/file', 'content');
    await subject.volume.snapshots.create('one');
    const at = '/.snapshots/one/file';
    const changes = [
      p.writeFile(at, 'x'),
      p.appendFile(at, 'x'),
      p.truncate(at),
      p.chmod(at, 0o600),
      p.utimes(at, 1, 1),
      p.unlink(at),
      p.rm(at),
      p.mkdir('/.snapshots/one/d'),
      p.symlink('x', '/.snapshots/one/link'),
      p.copyFile('/file', '/.snapshots/one/copy'),
    ];
    for (const ended of await Promise.allSettled(changes)) {
      expect(ended).toMatchObject({ status: 'rejected', reason: { code: 'EROFS' } });
    }
    await expect(p.rename(at, '/moved')).rejects.toMatchObject({ code: 'EXDEV' });
    await expect(p.link(at, '/linked')).rejects.toMatchObject({ code: 'EXDEV' });
    await expect(p.rmdir('/.snapshots')).rejects.toMatchObject({ code: 'EBUSY' });
    await expect(p.mkdir('/.snapshots')).rejects.toMatchObject({ code: 'EEXIST' });
    await subject.volume.snapshots.hold('one', 'backup');
    await expect(p.rmdir('/.snapshots/one')).rejects.toMatchObject({ code: 'EBUSY' });
    expect(await p.readFile(at, 'utf8')).toBe('content');
  });

  test('numbers tell files of snapshots from those of the tree', async () => {
    await p.writeFile('/file', 'content');
    await subject.volume.snapshots.create('one');
    const [live, past] = [await p.stat('/file'), await p.stat('/.snapshots/one/file')];
    expect(`${live.dev} ${live.ino}`).not.toBe(`${past.dev} ${past.ino}`);
    const handle = await p.open('/.snapshots/one/file');
    const { dev, ino } = await handle.stat();
    expect([dev, ino]).toEqual([past.dev, past.ino]);
    await handle.close();
  });

  test('the vault is there while it is unlocked', async () => {
    const { volume, root } = subject;
    const key = await volume.vault.create('password', { directory: root });
    const locked = async () => {
      await expect(p.readdir('/.vault')).rejects.toMatchObject({ code: 'ENOENT', syscall: 'scandir' });
      await expect(p.readFile('/.vault/file')).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(p.mkdir('/.vault')).rejects.toMatchObject({ code: 'EPERM' });
      expect(await p.readdir('/')).toEqual([]);
    };
    await locked();
    await volume.vault.unlock('password', key);
    expect(await p.readdir('/')).toEqual(['.vault']);
    await p.mkdir('/.vault/d');
    await p.writeFile('/.vault/d/file', 'secret');
    const kept = await p.open('/.vault/d/file', 'r+');
    await p.appendFile('/.vault/d/file', ' and more');
    await expect(p.rename('/.vault/d/file', '/file')).rejects.toMatchObject({ code: 'EXDEV' });
    await expect(p.rmdir('/.vault')).rejects.toMatchObject({ code: 'EBUSY' });
    await volume.snapshots.create('one');
    await p.rm('/.vault/d', { recursive: true, force: true });
    expect(await p.readFile('/.vault/.snapshots/one/d/file', 'utf8')).toBe('secret and more');
    await p.cp('/.vault/.snapshots/one/d', '/.vault/back', { recursive: true });
    await volume.vault.lock();
    await locked();
    // Whoever has a file of it open gets an error; which one depends on whether the kernel stands between.
    await expect(kept.readFile()).rejects.toMatchObject({
      code: expect.stringMatching(/^(EIO|ENOTCONN|ECONNABORTED)$/),
    });
    await kept.close().catch(() => undefined);
    await volume.vault.unlock('password', key);
    expect(await p.readFile('/.vault/back/file', 'utf8')).toBe('secret and more');
    await volume.vault.lock();
  });
});
