import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { AlreadyMountedError, Volume, VolumeLockedError } from 'verfs';
import { run, shell } from '../harness/command.ts';
import { detachBelow, mountpointsBelow } from '../harness/mounts.ts';
import { repository, Sandbox, sandboxPrefix, until } from '../harness/sandbox.ts';

describe('a volume in this process', () => {
  let root: string;
  let path: string;
  let mountpoint: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    path = join(root, 'volume');
    mountpoint = mkdtempSync(join(root, 'mnt-'));
  });

  afterEach(async () => {
    await detachBelow(root);
    rmSync(root, { recursive: true, force: true });
  });

  test('is made, opened, mounted, and closed by the end of its block', async () => {
    const made = await Volume.create(path, { chunker: 'fastcdc' });
    {
      await using volume = await Volume.open(path);
      expect(await volume.info()).toMatchObject({ uuid: made.uuid, chunker: 'fastcdc', holderPid: process.pid });
      await volume.mount(mountpoint);
      await expect(volume.mount(mountpoint)).rejects.toBeInstanceOf(AlreadyMountedError);
      // The event loop is blocked by each of these, and the mount answers all the same.
      writeFileSync(join(mountpoint, 'file'), 'content');
      expect(readFileSync(join(mountpoint, 'file'), 'utf8')).toBe('content');
      expect(await volume.stats()).toMatchObject({ files: 1, directories: 1 });
      await volume.sync();
    }
    expect(mountpointsBelow(root)).toEqual([]);
    expect(await Volume.inspect(path)).toMatchObject({ uuid: made.uuid });
    await using again = await Volume.open(path);
    expect(await again.stats()).toMatchObject({ files: 1, logicalBytes: 7 });
  });

  test('is open once only', async () => {
    await Volume.create(path);
    await using volume = await Volume.open(path);
    const second = Volume.open(path);
    await expect(second).rejects.toBeInstanceOf(VolumeLockedError);
    await expect(second).rejects.toThrow(`process ${process.pid}`);
    expect(await volume.info()).toMatchObject({ path });
  });

  test('has options within the bounds of the settings', async () => {
    await Volume.create(path);
    const usage = { code: 'VERFS_E_USAGE' };
    await expect(Volume.create(join(root, 'other'), { chunkMeanBytes: 5 })).rejects.toMatchObject(usage);
    for (const wrong of [-1, 0, 1.5, Number.NaN, 2 ** 32 + 1, '3' as unknown as number]) {
      await expect(Volume.open(path, { groupBlocks: wrong })).rejects.toMatchObject(usage);
    }
    await expect(Volume.open(path, { compressThreads: -1 })).rejects.toThrow('from 0 to 256, and is -1 now');
    await using volume = await Volume.open(path, { compressThreads: 2, groupBlocks: 1 });
    await expect(volume.mount(mountpoint, { ioThreads: 65 })).rejects.toMatchObject(usage);
    await expect(volume.mount(mountpoint, { pollUs: 1001 })).rejects.toMatchObject(usage);
    await volume.mount(mountpoint, { pollUs: 1000, ioThreads: 64 });
  });

  test('tells when somebody unmounts it', async () => {
    await Volume.create(path);
    await using volume = await Volume.open(path);
    await volume.mount(mountpoint);
    const gone = volume.waitUnmounted();
    await expect(volume.waitUnmounted({ signal: AbortSignal.timeout(50) })).rejects.toMatchObject({
      code: 'VERFS_E_CANCELLED',
    });
    await shell(process.getuid?.() === 0 ? `umount ${mountpoint}` : `fusermount3 -u ${mountpoint}`);
    await gone;
    await volume.mount(mountpoint);
    writeFileSync(join(mountpoint, 'file'), 'again');
  });
});

test('a volume that a daemon serves is reached by its path or by a path in its mount', async () => {
  await using sandbox = new Sandbox();
  const { pid } = await sandbox.mount();
  writeFileSync(sandbox.inMount('file'), 'content');
  await using byVolume = await Volume.connect(sandbox.volume);
  expect(await byVolume.status()).toMatchObject({ pid, mountpoint: sandbox.mountpoint });
  await using byPath = await Volume.connect(sandbox.inMount('file'));
  expect(await byPath.stats()).toMatchObject({ files: 1 });
  await byPath.sync();
  expect(await byPath.unmount()).toEqual({ daemon: 'ends' });
  await until('the mount is gone', () => mountpointsBelow(sandbox.root).length === 0);
});

test('verfs is the name of the library and of the command, from the root of the repository', async () => {
  const script = "import('verfs').then(({ Volume }) => process.stdout.write(typeof Volume.open))";
  expect(await run(process.execPath, ['-e', script], { cwd: repository })).toMatchObject({
    code: 0,
    stdout: 'function',
  });
  const version = await run('npx', ['--no-install', 'verfs', '--version'], { cwd: repository });
  expect(version).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
});
