/**
 * The interface of Node's `fs` over the files of a volume, without a mount.
 * Lives here: names, arguments, options, errors and streams of Node. Never here: what a file is. Data flows from callers
 * through a gate into the calls of the engine.
 */
import * as nodeFs from 'node:fs';
import type * as nodePromises from 'node:fs/promises';
import { openAsBlob } from './blob.ts';
import { callbacksOf } from './callbacks.ts';
import type { FileCalls } from './calls.ts';
import { VolumeDir } from './dir.ts';
import { operationsOf } from './operations.ts';
import { streamsOf } from './streams.ts';
import { VolumeFiles } from './volume-files.ts';
import { watch, watchEvents } from './watch.ts';
import { fileWatchersOf } from './watch-file.ts';

export type { FileCalls, Path } from './calls.ts';
export { VolumeDir } from './dir.ts';
export { systemError } from './errors.ts';
export { VolumeFileHandle } from './file-handle.ts';
export { MountedFiles } from './mounted-files.ts';
export { VolumeWatcher } from './watch.ts';
export { VolumeStatWatcher } from './watch-file.ts';

/** What `fs.promises` of a volume has of Node's. */
export type VolumePromises = Pick<
  typeof nodePromises,
  | 'access'
  | 'appendFile'
  | 'chmod'
  | 'chown'
  | 'constants'
  | 'copyFile'
  | 'cp'
  | 'lchmod'
  | 'lchown'
  | 'link'
  | 'lstat'
  | 'lutimes'
  | 'mkdir'
  | 'mkdtemp'
  | 'open'
  | 'opendir'
  | 'readdir'
  | 'readFile'
  | 'readlink'
  | 'realpath'
  | 'rename'
  | 'rm'
  | 'rmdir'
  | 'stat'
  | 'statfs'
  | 'symlink'
  | 'truncate'
  | 'unlink'
  | 'utimes'
  | 'watch'
  | 'writeFile'
>;

/** Functions of Node's `fs` that a volume has with callbacks. */
type WithCallback =
  | Exclude<keyof VolumePromises, 'constants' | 'lchmod' | 'open' | 'watch'>
  | 'close'
  | 'exists'
  | 'fchmod'
  | 'fchown'
  | 'fdatasync'
  | 'fstat'
  | 'fsync'
  | 'ftruncate'
  | 'futimes'
  | 'open'
  | 'read'
  | 'readv'
  | 'write'
  | 'writev';

/**
 * The files of a volume, with the interface of Node's `fs`: functions with callbacks, `promises` and streams. Paths begin
 * at the root of the volume, which is also the current directory. There are no functions that block (`readFileSync`, …).
 *
 * ```ts
 * const { fs } = volume;
 * fs.watchFile('/notes.txt', { interval: 100 }, ({ size }) => {
 *   console.log(size);
 *   fs.unwatchFile('/notes.txt');
 * });
 * await fs.promises.writeFile('/notes.txt', 'a line');
 * const blob = await fs.openAsBlob('/notes.txt');
 * console.log(await blob.slice(2).text());
 * ```
 */
export type VolumeFs = Pick<
  typeof nodeFs,
  | WithCallback
  | 'constants'
  | 'createReadStream'
  | 'createWriteStream'
  | 'openAsBlob'
  | 'unwatchFile'
  | 'watch'
  | 'watchFile'
  | 'Dirent'
  | 'ReadStream'
  | 'Stats'
  | 'WriteStream'
> & {
  readonly promises: VolumePromises;
};

/** The interface over `calls`. */
export function createFs(calls: FileCalls): VolumeFs {
  const files = new VolumeFiles(calls);
  const operations = operationsOf(files);
  // Promises reject for wrong arguments, where the functions with callbacks throw.
  const promises = Object.fromEntries(
    Object.entries(operations as Record<string, (...args: unknown[]) => unknown>).map(([name, operation]) => [
      name,
      async (...args: unknown[]) => await operation(...args),
    ]),
  );
  const { constants } = nodeFs;
  const callbacks = callbacksOf(files, operations);
  return {
    ...callbacks,
    realpath: Object.assign(callbacks['realpath'] as () => void, { native: callbacks['realpath'] }),
    ...streamsOf(files),
    ...fileWatchersOf(files),
    openAsBlob: (path: unknown, options?: unknown) => openAsBlob(files, path, options),
    watch: (path: unknown, ...rest: unknown[]) => watch(files, path, ...rest),
    Dir: VolumeDir,
    // What `stat` and `readdir` give are objects of Node's classes.
    Dirent: nodeFs.Dirent,
    Stats: nodeFs.Stats,
    constants,
    F_OK: constants.F_OK,
    R_OK: constants.R_OK,
    W_OK: constants.W_OK,
    X_OK: constants.X_OK,
    promises: {
      ...promises,
      constants,
      watch: (path: unknown, options?: unknown) => watchEvents(files, path, options),
    },
  } as unknown as VolumeFs;
}
