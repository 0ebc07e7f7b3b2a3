import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { realpath, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { MountpointStaleError } from '@verfs/errors';

/** File system type of our mounts in the mount table. */
export const fileSystemType = 'fuse.verfs';

/** File system types of the mounts that show snapshots and the vault of ours. */
const besideTypes: readonly string[] = ['fuse.verfs-snapshots', 'fuse.verfs-vault'];

/** Whether `mount` shows something of a volume beside its tree: its snapshots, its vault. */
export const isBesideTree = ({ type }: Mount) => besideTypes.includes(type);

/** Whether `mount` shows a volume: its tree, its snapshots, or its vault. */
export const showsVolume = (mount: Mount) => mount.type === fileSystemType || isBesideTree(mount);

/** A line of the mount table. */
export interface Mount {
  readonly mountpoint: string;
  readonly type: string;
  /** For our mounts the path of the volume. */
  readonly source: string;
}

const unescapeField = (field: string) =>
  field.replaceAll(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** The mounts in `table`, which has the form of /proc/self/mountinfo (proc_pid_mountinfo(5)); later ones lie on top. */
export function parseMountTable(table: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of table.split('\n')) {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    const [mountpoint, type, source] = [fields[4], fields[separator + 1], fields[separator + 2]];
    if (separator > 0 && mountpoint !== undefined && type !== undefined && source !== undefined) {
      mounts.push({ mountpoint: unescapeField(mountpoint), type, source: unescapeField(source) });
    }
  }
  return mounts;
}

/** The mounts that this process sees. */
export const currentMounts = (): Mount[] => parseMountTable(readFileSync('/proc/self/mountinfo', 'utf8'));

const isWithin = (path: string, directory: string) =>
  path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`);

/** The mount in which the absolute `path` lies. */
export function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  return mounts.reduce<Mount | undefined>((best, mount) => {
    const nearer = best === undefined || mount.mountpoint.length >= best.mountpoint.length;
    return isWithin(path, mount.mountpoint) && nearer ? mount : best;
  }, undefined);
}

/** `path` made absolute, with symbolic links resolved as far as possible: not into a dead mount or what is missing. */
export async function resolveLinks(path: string): Promise<string> {
  const absolute = resolve(path);
  try {
    return await realpath(absolute);
  } catch {
    return absolute === '/' ? '/' : join(await resolveLinks(dirname(absolute)), basename(absolute));
  }
}

/** Whether the process that served the mount at `mountpoint` is gone. */
export async function isStale(mountpoint: string): Promise<boolean> {
  try {
    await statfs(mountpoint);
    return false;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ENOTCONN';
  }
}

/**
 * Detaches the dead mount at `mountpoint`.
 *
 * @throws MountpointStaleError when the system refuses.
 */
export async function detachStale(mountpoint: string): Promise<void> {
  const [program, ...args] = process.getuid?.() === 0 ? ['umount', '-l', '--'] : ['fusermount3', '-u', '-z', '--'];
  try {
    await promisify(execFile)(program as string, [...args, mountpoint], { timeout: 10_000 });
  } catch (cause) {
    const what = `${mountpoint} holds the mount of a daemon that is gone, and ${program} could not detach it`;
    throw new MountpointStaleError(what, { path: mountpoint, cause });
  }
}
