import { readFileSync } from 'node:fs';
import { parseMountTable } from '@verfs/sdk/mounts';
import { run } from './command.ts';

const isBelow = (path: string, directory: string) => path === directory || path.startsWith(`${directory}/`);

/** Mountpoints at or below `directory`, the topmost and deepest first. */
export function mountpointsBelow(directory: string): string[] {
  return parseMountTable(readFileSync('/proc/self/mountinfo', 'utf8'))
    .map(({ mountpoint }) => mountpoint)
    .filter((mountpoint) => isBelow(mountpoint, directory))
    .reverse();
}

/** Takes away every mount at or below `directory`, in use or not. */
export async function detachBelow(directory: string): Promise<void> {
  const unmount = process.getuid?.() === 0 ? ['umount', '-l'] : ['fusermount3', '-u', '-z'];
  for (const mountpoint of mountpointsBelow(directory)) {
    await run(unmount[0] as string, [...unmount.slice(1), mountpoint]);
  }
}
