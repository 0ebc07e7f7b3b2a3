import { isAbsolute, relative, resolve } from 'node:path';

/** `path` from `directory`; nothing when it isn't in it. */
function within(directory: string, path: string): string | undefined {
  const inner = relative(directory, path);
  return inner === '..' || inner.startsWith('../') || isAbsolute(inner) ? undefined : inner;
}

/**
 * What `given` means as a path in a volume, from its root: a path in its mount, from the current directory when that is
 * in the mount, or else from the root of the volume.
 */
export function pathInVolume(given: string, mountpoint: string | undefined, current: string): string {
  if (mountpoint !== undefined && (isAbsolute(given) || within(mountpoint, current) !== undefined)) {
    const inner = within(mountpoint, resolve(current, given));
    if (inner !== undefined) {
      return inner;
    }
  }
  // `..` does not lead out of the root.
  return resolve('/', given).slice(1);
}
