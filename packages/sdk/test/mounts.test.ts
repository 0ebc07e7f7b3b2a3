import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { currentMounts, isStale, mountOf, parseMountTable, resolveLinks } from '@verfs/sdk/mounts';

const table = `22 1 0:20 / / rw,nosuid - ext4 /dev/vda rw
36 22 98:7 / /mnt/a\\040b\\134c rw,noatime master:1 shared:2 - fuse.verfs /vol\\040ume rw
37 36 98:8 / /mnt/a\\040b\\134c/inner rw - tmpfs tmpfs rw
rubbish
`;

test('the mount table is read, with its escapes', () => {
  expect(parseMountTable(table)).toEqual([
    { mountpoint: '/', type: 'ext4', source: '/dev/vda' },
    { mountpoint: '/mnt/a b\\c', type: 'fuse.verfs', source: '/vol ume' },
    { mountpoint: '/mnt/a b\\c/inner', type: 'tmpfs', source: 'tmpfs' },
  ]);
  expect(currentMounts().some(({ mountpoint }) => mountpoint === '/')).toBe(true);
});

test('a path lies in the nearest mount above it', () => {
  const mounts = parseMountTable(table);
  const at = (path: string) => mountOf(path, mounts)?.mountpoint;
  expect(at('/mnt/a b\\c')).toBe('/mnt/a b\\c');
  expect(at('/mnt/a b\\c/x/y')).toBe('/mnt/a b\\c');
  expect(at('/mnt/a b\\c/inner/x')).toBe('/mnt/a b\\c/inner');
  expect(at('/mnt/a b\\cd')).toBe('/');
  expect(mountOf('/x', [])).toBeUndefined();
});

test('links are resolved as far as there is something', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'verfs-test-mounts-'));
  try {
    symlinkSync(directory, join(directory, 'link'));
    expect(await resolveLinks(join(directory, 'link', 'absent', 'deep'))).toBe(join(directory, 'absent', 'deep'));
    expect(await isStale(directory)).toBe(false);
    expect(await isStale(join(directory, 'absent'))).toBe(false);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
