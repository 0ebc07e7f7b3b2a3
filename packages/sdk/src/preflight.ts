import { constants, readFileSync } from 'node:fs';
import { access, open, opendir, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import {
  AlreadyMountedError,
  IoError,
  MountpointMissingError,
  MountpointNotDirError,
  MountpointNotEmptyError,
  NoFuseDeviceError,
  NoFusermountError,
  PermissionError,
} from '@verfs/errors';
import { currentMounts, detachStale, fileSystemType, isStale, resolveLinks } from './mounts.ts';

const fuseDevice = '/dev/fuse';

const codeOf = (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : '');

/**
 * Checks whether a mount at `mountpoint` can succeed, before anything is opened or made for it. A dead mount
 * there is detached.
 *
 * @returns The mountpoint, absolute and without symbolic links.
 * @throws MountpointMissingError, MountpointNotDirError, MountpointNotEmptyError, MountpointStaleError,
 * AlreadyMountedError, NoFuseDeviceError, NoFusermountError, PermissionError, IoError
 */
export async function checkMountpoint(mountpoint: string): Promise<string> {
  const path = await resolveLinks(mountpoint);
  if (await isStale(path)) {
    await detachStale(path);
  }
  await checkDirectory(path);
  await checkFuse(path);
  return path;
}

async function checkDirectory(path: string): Promise<void> {
  try {
    if (!(await stat(path)).isDirectory()) {
      throw new MountpointNotDirError(`The mountpoint ${path} is not a directory`, { path });
    }
    const mount = currentMounts().findLast((entry) => entry.mountpoint === path && entry.type === fileSystemType);
    if (mount !== undefined) {
      throw new AlreadyMountedError(`The volume ${mount.source} is mounted at ${path} already`, { path });
    }
    const directory = await opendir(path);
    const first = await directory.read();
    await directory.close();
    if (first !== null) {
      throw new MountpointNotEmptyError(`The mountpoint ${path} is not empty`, { path });
    }
  } catch (error) {
    switch (codeOf(error)) {
      case 'ENOENT':
        throw new MountpointMissingError(`The mountpoint ${path} does not exist`, { path, cause: error });
      case 'ENOTDIR':
        throw new MountpointNotDirError(`The mountpoint ${path} is not a directory`, { path, cause: error });
      case 'EACCES':
      case 'EPERM':
        throw new PermissionError(`The mountpoint ${path} may not be read`, { path, cause: error });
      case 'EIO':
      case 'ENAMETOOLONG':
      case 'ELOOP':
        throw new IoError(`The mountpoint ${path} cannot be read (${codeOf(error)})`, { path, cause: error });
      default:
        throw error;
    }
  }
}

/** CAP_SYS_ADMIN of capabilities(7), which mount(2) asks for. */
const mountCapability = 1n << 21n;

function hasMountCapability(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return effective !== undefined && (BigInt(`0x${effective}`) & mountCapability) !== 0n;
}

/**
 * Checks whether this process can mount at all.
 *
 * @throws NoFuseDeviceError, NoFusermountError, PermissionError
 */
export async function checkFuse(path: string): Promise<void> {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot && !hasMountCapability()) {
    const advice = 'In a container, give it the capability SYS_ADMIN.';
    throw new PermissionError(`This root may not mount at ${path}`, { path, advice });
  }
  try {
    if (isRoot) {
      await (await open(fuseDevice, 'r+')).close();
    } else {
      // fusermount3 opens it with the rights of the user who calls it.
      await access(fuseDevice, constants.R_OK | constants.W_OK);
    }
  } catch (cause) {
    if (['EACCES', 'EPERM'].includes(codeOf(cause))) {
      const advice = isRoot
        ? 'Allow the device to the container, for example with `--device /dev/fuse`.'
        : 'Open it to users: `sudo chmod 666 /dev/fuse`.';
      throw new PermissionError(`${fuseDevice} may not be opened`, { path: fuseDevice, advice, cause });
    }
    throw new NoFuseDeviceError(`There is no usable ${fuseDevice}`, { path: fuseDevice, cause });
  }
  if (!isRoot && !(await isInPath('fusermount3'))) {
    throw new NoFusermountError('fusermount3 is not installed');
  }
}

async function isInPath(program: string): Promise<boolean> {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    try {
      await access(join(directory, program), constants.X_OK);
      return true;
    } catch {
      // The next directory may have it.
    }
  }
  return false;
}
