import type { FileAttributes, FileEntries, FileRoom, FirstEntries } from '@verfs/native';

/** A path from the root of the volume. */
export type Path = string | Buffer;

/** A change of what is watched; without a name when there were too many. */
export interface WatchedChange {
  readonly eventType: 'rename' | 'change';
  readonly filename?: Buffer | null | undefined;
}

/**
 * What an interface like Node's is made of. The engine's addon has these calls, and so has `MountedFiles`, which makes
 * them in a mount. A call rejects with an error that has the negative number of an error of Linux as `errno`.
 */
export interface FileCalls {
  stat(path: Path, follow: boolean): Promise<FileAttributes>;
  fstat(file: number): Promise<FileAttributes>;
  access(path: Path, wanted: number): Promise<void>;
  open(path: Path, flags: number, mode: number): Promise<number>;
  close(file: number): Promise<void>;
  /** Reads into all of `target`, at the file's position where none is given. */
  read(file: number, target: Uint8Array, at?: number | null): Promise<number>;
  /** Writes all of `data`. */
  write(file: number, data: Buffer, at?: number | null): Promise<void>;
  /** The content of a file; null when it has more than `maxBytes`. */
  readFile(path: Path, flags: number, maxBytes: number): Promise<Buffer | null | undefined>;
  writeFile(path: Path, flags: number, mode: number, data: Buffer): Promise<void>;
  fsync(file: number): Promise<void>;
  ftruncate(file: number, length: number): Promise<void>;
  truncate(path: Path, length: number): Promise<void>;
  list(path: Path): Promise<FirstEntries>;
  nextEntries(file: number, maxEntries: number): Promise<FileEntries>;
  mkdir(path: Path, mode: number): Promise<void>;
  rmdir(path: Path): Promise<void>;
  unlink(path: Path): Promise<void>;
  rename(from: Path, to: Path): Promise<void>;
  link(existing: Path, path: Path): Promise<void>;
  symlink(target: Path, path: Path): Promise<void>;
  readlink(path: Path): Promise<Buffer>;
  realpath(path: Path): Promise<Buffer>;
  chmod(path: Path, follow: boolean, mode: number): Promise<void>;
  fchmod(file: number, mode: number): Promise<void>;
  chown(path: Path, follow: boolean, uid: number | null, gid: number | null): Promise<void>;
  fchown(file: number, uid: number | null, gid: number | null): Promise<void>;
  setTimes(path: Path, follow: boolean, accessed: number, modified: number): Promise<void>;
  fsetTimes(file: number, accessed: number, modified: number): Promise<void>;
  copyFile(from: Path, to: Path, exclusive: boolean): Promise<void>;
  statfs(path: Path): Promise<FileRoom>;
  /** Tells `sink` of changes from then on. Does not keep the process alive. */
  watch(path: Path, recursive: boolean, sink: (change: WatchedChange) => void): Promise<{ close(): void }>;
}
