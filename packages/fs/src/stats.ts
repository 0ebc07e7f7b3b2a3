/** What Node's `Stats`, `BigIntStats`, `StatFs` and `Dirent` show. */
import { type BigIntStats, constants, Dirent, Stats, type StatsFs } from 'node:fs';
import type { FileAttributes, FileRoom } from '@verfs/native';
import type { Path } from './calls.ts';

/** Bytes that programs best read at once. */
const blockBytes = 4096;

/** A kind of file: its bits of `st_mode`. */
const kinds = {
  isFIFO: constants.S_IFIFO,
  isCharacterDevice: constants.S_IFCHR,
  isDirectory: constants.S_IFDIR,
  isBlockDevice: constants.S_IFBLK,
  isFile: constants.S_IFREG,
  isSymbolicLink: constants.S_IFLNK,
  isSocket: constants.S_IFSOCK,
} as const;

/** Whether a mode is that of a directory. */
export const isDirectoryMode = (mode: number) => (mode & constants.S_IFMT) === constants.S_IFDIR;

/** Whether a mode is that of a symbolic link. */
export const isLinkMode = (mode: number) => (mode & constants.S_IFMT) === constants.S_IFLNK;

const bigintPrototype = Object.fromEntries(
  Object.entries(kinds).map(([name, kind]) => [
    name,
    function (this: { mode: bigint }) {
      return (this.mode & BigInt(constants.S_IFMT)) === BigInt(kind);
    },
  ]),
);

const milliseconds = (seconds: number, nanos: number) => seconds * 1000 + nanos / 1e6;
const nanoseconds = (seconds: number, nanos: number) => BigInt(seconds) * 1_000_000_000n + BigInt(nanos);
const date = (seconds: number, nanos: number) => new Date(Math.round(milliseconds(seconds, nanos)));

const fields = (of: FileAttributes, dev: number) => ({
  dev,
  mode: of.mode,
  nlink: of.nlink,
  uid: of.uid,
  gid: of.gid,
  rdev: of.rdev,
  blksize: blockBytes,
  ino: of.ino,
  size: of.size,
  blocks: of.blocks,
});

const dates = (of: FileAttributes) => ({
  atime: date(of.atimeS, of.atimeNs),
  mtime: date(of.mtimeS, of.mtimeNs),
  ctime: date(of.ctimeS, of.ctimeNs),
  birthtime: date(of.btimeS, of.btimeNs),
});

/** A `Stats` of Node's. */
export function statsOf(of: FileAttributes, dev: number): Stats {
  const stats: Stats = Object.create(Stats.prototype);
  return Object.assign(stats, fields(of, dev), {
    atimeMs: milliseconds(of.atimeS, of.atimeNs),
    mtimeMs: milliseconds(of.mtimeS, of.mtimeNs),
    ctimeMs: milliseconds(of.ctimeS, of.ctimeNs),
    birthtimeMs: milliseconds(of.btimeS, of.btimeNs),
    ...dates(of),
  });
}

/** The same in `bigint`s. */
export function bigintStatsOf(of: FileAttributes, dev: number): BigIntStats {
  const numbers = Object.entries(fields(of, dev)).map(([name, value]) => [name, BigInt(value)]);
  const times = {
    atimeNs: nanoseconds(of.atimeS, of.atimeNs),
    mtimeNs: nanoseconds(of.mtimeS, of.mtimeNs),
    ctimeNs: nanoseconds(of.ctimeS, of.ctimeNs),
    birthtimeNs: nanoseconds(of.btimeS, of.btimeNs),
  };
  const stats: BigIntStats = Object.create(bigintPrototype);
  return Object.assign(stats, Object.fromEntries(numbers), {
    atimeMs: times.atimeNs / 1_000_000n,
    mtimeMs: times.mtimeNs / 1_000_000n,
    ctimeMs: times.ctimeNs / 1_000_000n,
    birthtimeMs: times.birthtimeNs / 1_000_000n,
    ...times,
    ...dates(of),
  });
}

/** Type of a file system that runs in user space (statfs(2)). */
const fuseMagic = 0x65735546;

/** What `statfs` shows. */
export function roomOf(of: FileRoom): StatsFs {
  const blocks = Math.floor(of.totalBytes / blockBytes);
  const free = Math.floor(of.availableBytes / blockBytes);
  // An inode takes at least a block's worth of what is free.
  return {
    type: fuseMagic,
    bsize: blockBytes,
    blocks,
    bfree: free,
    bavail: free,
    files: of.inodes + free,
    ffree: free,
  } as StatsFs;
}

/** Numbers of Node's that are not in the types. */
const direntConstants = constants as unknown as Readonly<Record<string, number>>;

const direntTypes: Readonly<Record<number, number | undefined>> = {
  1: direntConstants['UV_DIRENT_FIFO'],
  2: direntConstants['UV_DIRENT_CHAR'],
  4: direntConstants['UV_DIRENT_DIR'],
  6: direntConstants['UV_DIRENT_BLOCK'],
  8: direntConstants['UV_DIRENT_FILE'],
  10: direntConstants['UV_DIRENT_LINK'],
  12: direntConstants['UV_DIRENT_SOCKET'],
};

/** Node's own class; its constructor is not in the types. */
const NodeDirent = Dirent as unknown as new (name: string | Buffer, type: number, parent: Path) => Dirent;

/** A `Dirent` of Node's; `kind` is the file's bits of `st_mode`, shifted by 12. */
export const direntOf = (name: string | Buffer, kind: number, parent: Path): Dirent =>
  new NodeDirent(name, direntTypes[kind] ?? 0, parent);
