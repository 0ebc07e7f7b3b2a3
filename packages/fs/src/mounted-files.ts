/**
 * The files of a volume through its mount: for a volume that another process serves. Paths begin at the mountpoint and
 * never lead out of it: symbolic links are followed here, as in the volume itself. Snapshots and the vault are mounts of
 * their own, in it or, of an ordinary user, beside it.
 */
import {
  type BigIntStats,
  close,
  constants,
  type Dir,
  type Dirent,
  fchmod,
  fchown,
  fstat,
  fsync,
  ftruncate,
  futimes,
  read as nodeRead,
  watch as nodeWatch,
  write as nodeWrite,
  open,
} from 'node:fs';
import * as fs from 'node:fs/promises';
import { promisify } from 'node:util';
import type { FileAttributes, FileEntries, FileRoom, FirstEntries } from '@verfs/native';
import type { FileCalls, Path, WatchedChange } from './calls.ts';

/** Longest path. */
const pathMaxBytes = 4095;
/** Symbolic links that one path may lead through. */
const linksMax = 40;

const onNumbers = {
  chmod: promisify(fchmod),
  chown: promisify(fchown),
  close: promisify(close),
  open: promisify(open),
  sync: promisify(fsync),
  truncate: promisify(ftruncate),
  times: promisify(futimes),
  stat: promisify(fstat) as unknown as (file: number, options: { bigint: true }) => Promise<BigIntStats>,
  read: promisify(nodeRead),
  write: promisify(nodeWrite),
};

/** An error of Linux with its number, for `systemError`. */
const refused = (errno: number) => Object.assign(new Error('refused'), { errno: -errno });
const [notFound, notADirectory, tooLong, tooManyLinks, stale] = [2, 20, 36, 40, 116];

/** Names are bytes: each is one character while a path is taken apart. */
const bytewise = (path: Path): string => (typeof path === 'string' ? Buffer.from(path) : path).toString('latin1');
const systemPath = (text: string): Buffer => Buffer.from(text, 'latin1');

const errnoOf = (error: unknown) => (error as NodeJS.ErrnoException).errno;

const split = (nanoseconds: bigint) => {
  const rest = ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return [Number((nanoseconds - rest) / 1_000_000_000n), Number(rest)] as const;
};

/** What is behind these names in the root may be mounted somewhere else: then they are links to there. */
const besideNames: readonly string[] = ['.snapshots', '.vault'];

function attributesOf(stats: BigIntStats, tree: number): FileAttributes {
  const [atimeS, atimeNs] = split(stats.atimeNs);
  const [mtimeS, mtimeNs] = split(stats.mtimeNs);
  const [ctimeS, ctimeNs] = split(stats.ctimeNs);
  const [btimeS, btimeNs] = split(stats.birthtimeNs);
  const [ino, mode, nlink, uid] = [stats.ino, stats.mode, stats.nlink, stats.uid].map(Number) as [
    number,
    number,
    number,
    number,
  ];
  const [gid, rdev, size, blocks] = [stats.gid, stats.rdev, stats.size, stats.blocks].map(Number) as [
    number,
    number,
    number,
    number,
  ];
  const times = { atimeS, atimeNs, mtimeS, mtimeNs, ctimeS, ctimeNs, btimeS, btimeNs };
  return { tree, ino, mode, nlink, uid, gid, rdev, size, blocks, ...times };
}

function kindOf(entry: Dirent): number {
  const kinds = [
    [entry.isFile(), constants.S_IFREG],
    [entry.isDirectory(), constants.S_IFDIR],
    [entry.isSymbolicLink(), constants.S_IFLNK],
    [entry.isFIFO(), constants.S_IFIFO],
    [entry.isSocket(), constants.S_IFSOCK],
    [entry.isCharacterDevice(), constants.S_IFCHR],
    [entry.isBlockDevice(), constants.S_IFBLK],
  ] as const;
  return (kinds.find(([is]) => is)?.[1] ?? 0) >> 12;
}

function entriesOf(found: readonly Dirent[]): FileEntries {
  const names = found.flatMap((entry) => [entry.name as unknown as Buffer, Buffer.of(0)]);
  return { names: Buffer.concat(names), kinds: Buffer.from(found.map(kindOf)) };
}

/** Calls like the engine's, made in a mount. */
export class MountedFiles implements FileCalls {
  readonly #root: string;
  /** Device of the mount: what is at the mountpoint after its end is another one. */
  #device: Promise<bigint> | undefined;
  /** Directories that are read through their numbers. */
  readonly #directories = new Map<number, Dir>();

  /** Whether what is mounted at a path is a part of the volume. */
  readonly #isBeside: (path: string) => boolean;
  /** Devices of what was seen; the first one is the volume's own. */
  readonly #trees: bigint[] = [];

  constructor(mountpoint: string, isBeside: (path: string) => boolean) {
    this.#root = bytewise(mountpoint).replace(/\/+$/, '');
    this.#isBeside = isBeside;
  }

  async #attributesOf(stats: BigIntStats): Promise<FileAttributes> {
    if (this.#trees.length === 0 && this.#device !== undefined) {
      this.#trees.push(await this.#device);
    }
    const known = this.#trees.indexOf(stats.dev);
    return attributesOf(stats, known === -1 ? this.#trees.push(stats.dev) - 1 : known);
  }

  /** Where names of the volume are in the system. */
  async #placeOf(names: readonly string[]): Promise<string> {
    const [first = '', ...below] = names;
    if (besideNames.includes(first)) {
      const target = await this.#besideAt(first);
      if (target !== undefined) {
        return [target, ...below].join('/');
      }
    }
    return [this.#root, ...names].join('/');
  }

  /** Where a part of the volume is mounted that is a link in its root. */
  async #besideAt(name: string): Promise<string | undefined> {
    const target = await fs.readlink(systemPath(`${this.#root}/${name}`), 'buffer').catch(() => undefined);
    return target !== undefined && this.#isBeside(target.toString()) ? target.toString('latin1') : undefined;
  }

  async #checkMount(): Promise<void> {
    const device = async () => (await fs.stat(systemPath(this.#root), { bigint: true })).dev;
    this.#device ??= device();
    if ((await this.#device) !== (await device())) {
      throw refused(stale);
    }
  }

  /** Where a path of the volume is in the system. */
  async #at(path: Path, follow: boolean): Promise<Buffer> {
    const { names, end } = await this.#walk(path, follow);
    return systemPath(`${await this.#placeOf(names)}${end}`);
  }

  /** The names to which a path of the volume leads, and what follows the last one. */
  async #walk(path: Path, follow: boolean): Promise<{ readonly names: readonly string[]; readonly end: string }> {
    await this.#checkMount();
    const text = bytewise(path);
    if (text === '' || text.length > pathMaxBytes) {
      throw refused(text === '' ? notFound : tooLong);
    }
    const ahead = text
      .split('/')
      .filter((name) => name !== '')
      .reverse();
    let wantsDirectory = /\/\.{0,2}$/.test(text);
    let names: string[] = [];
    let links = 0;
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      if (name === '.' || name === '..') {
        if (name === '..') {
          names.pop();
        }
        continue;
      }
      const here = await this.#placeOf([...names, name]);
      const isFollowed = ahead.length > 0 || follow || wantsDirectory;
      const target = isFollowed ? await this.#target(here, ahead.length > 0) : undefined;
      if (target === undefined) {
        names.push(name);
        continue;
      }
      links += 1;
      if (links > linksMax) {
        throw refused(tooManyLinks);
      }
      wantsDirectory ||= ahead.length === 0 && target.endsWith('/');
      if (target.startsWith('/')) {
        names = [];
      }
      ahead.push(
        ...target
          .split('/')
          .filter((part) => part !== '')
          .reverse(),
      );
    }
    // A dot at the end has a meaning of its own to who removes or renames.
    const end = wantsDirectory ? (/(^|\/)\.$/.test(text) ? '/.' : '/') : '';
    return { names, end };
  }

  /** Where a symbolic link leads; nothing for anything else. */
  async #target(here: string, mustBeThere: boolean): Promise<string | undefined> {
    try {
      return (await fs.readlink(systemPath(here), 'buffer')).toString('latin1');
    } catch (error) {
      const errno = errnoOf(error);
      const isLastMissing = errno === -notFound && !mustBeThere;
      // EINVAL: it is no link.
      if (errno === -22 || isLastMissing) {
        return undefined;
      }
      throw errno === -notADirectory ? refused(notADirectory) : error;
    }
  }

  async stat(path: Path, follow: boolean): Promise<FileAttributes> {
    return await this.#attributesOf(await fs.lstat(await this.#at(path, follow), { bigint: true }));
  }

  async fstat(file: number): Promise<FileAttributes> {
    return await this.#attributesOf(await onNumbers.stat(file, { bigint: true }));
  }

  async access(path: Path, wanted: number): Promise<void> {
    await fs.access(await this.#at(path, true), wanted);
  }

  async open(path: Path, flags: number, mode: number): Promise<number> {
    const isNew = constants.O_CREAT | constants.O_EXCL;
    const stays = (flags & isNew) === isNew || (flags & constants.O_NOFOLLOW) !== 0;
    return await onNumbers.open(await this.#at(path, !stays), flags | constants.O_NOFOLLOW, mode);
  }

  async close(file: number): Promise<void> {
    const directory = this.#directories.get(file);
    this.#directories.delete(file);
    await directory?.close();
    await onNumbers.close(file);
  }

  async read(file: number, target: Uint8Array, at?: number | null): Promise<number> {
    return (await onNumbers.read(file, target, 0, target.length, at ?? null)).bytesRead;
  }

  async write(file: number, data: Buffer, at?: number | null): Promise<void> {
    for (let written = 0; written < data.length || data.length === 0; ) {
      const position = at === undefined || at === null ? null : at + written;
      const { bytesWritten } = await onNumbers.write(file, data, written, data.length - written, position);
      written += bytesWritten;
      if (data.length === 0) {
        return;
      }
    }
  }

  async readFile(path: Path, flags: number, maxBytes: number): Promise<Buffer | null> {
    const file = await this.open(path, flags, 0o666);
    try {
      const { size } = await onNumbers.stat(file, { bigint: true });
      if (size > maxBytes) {
        return null;
      }
      const buffer = Buffer.allocUnsafeSlow(Number(size) + 1);
      let length = 0;
      for (;;) {
        const bytes = await this.read(file, buffer.subarray(length));
        length += bytes;
        if (bytes === 0) {
          return buffer.subarray(0, length);
        }
        if (length === buffer.length) {
          // It grew meanwhile.
          return null;
        }
      }
    } finally {
      await onNumbers.close(file);
    }
  }

  async writeFile(path: Path, flags: number, mode: number, data: Buffer): Promise<void> {
    const file = await this.open(path, flags, mode);
    try {
      await this.write(file, data);
    } finally {
      await onNumbers.close(file);
    }
  }

  async fsync(file: number): Promise<void> {
    await onNumbers.sync(file);
  }

  async ftruncate(file: number, length: number): Promise<void> {
    await onNumbers.truncate(file, length);
  }

  async truncate(path: Path, length: number): Promise<void> {
    await fs.truncate(await this.#at(path, true), length);
  }

  async list(path: Path): Promise<FirstEntries> {
    const found = await fs.readdir(await this.#at(path, true), { withFileTypes: true, encoding: 'buffer' as 'utf8' });
    return { entries: entriesOf(found) };
  }

  async nextEntries(file: number, maxEntries: number): Promise<FileEntries> {
    let directory = this.#directories.get(file);
    if (directory === undefined) {
      directory = await fs.opendir(`/proc/self/fd/${file}`, { encoding: 'buffer' as 'utf8' });
      this.#directories.set(file, directory);
    }
    const found: Dirent[] = [];
    while (found.length < maxEntries) {
      const entry = await directory.read();
      if (entry === null) {
        break;
      }
      found.push(entry);
    }
    return entriesOf(found);
  }

  async mkdir(path: Path, mode: number): Promise<void> {
    await fs.mkdir(await this.#at(path, false), mode);
  }

  async rmdir(path: Path): Promise<void> {
    await fs.rmdir(await this.#at(path, false));
  }

  async unlink(path: Path): Promise<void> {
    await fs.unlink(await this.#at(path, false));
  }

  async rename(from: Path, to: Path): Promise<void> {
    await fs.rename(await this.#at(from, false), await this.#at(to, false));
  }

  async link(existing: Path, path: Path): Promise<void> {
    await fs.link(await this.#at(existing, false), await this.#at(path, false));
  }

  async symlink(target: Path, path: Path): Promise<void> {
    await fs.symlink(target, await this.#at(path, false));
  }

  async readlink(path: Path): Promise<Buffer> {
    return await fs.readlink(await this.#at(path, false), 'buffer');
  }

  async realpath(path: Path): Promise<Buffer> {
    const { names, end } = await this.#walk(path, true);
    await fs.lstat(systemPath(`${await this.#placeOf(names)}${end}`));
    return systemPath(`/${names.join('/')}`);
  }

  async chmod(path: Path, follow: boolean, mode: number): Promise<void> {
    await fs.chmod(await this.#at(path, follow), mode);
  }

  async fchmod(file: number, mode: number): Promise<void> {
    await onNumbers.chmod(file, mode);
  }

  async chown(path: Path, follow: boolean, uid: number | null, gid: number | null): Promise<void> {
    await fs.lchown(await this.#at(path, follow), uid ?? -1, gid ?? -1);
  }

  async fchown(file: number, uid: number | null, gid: number | null): Promise<void> {
    await onNumbers.chown(file, uid ?? -1, gid ?? -1);
  }

  async setTimes(path: Path, follow: boolean, accessed: number, modified: number): Promise<void> {
    // Node takes negative numbers for now.
    await fs.lutimes(await this.#at(path, follow), new Date(accessed * 1000), new Date(modified * 1000));
  }

  async fsetTimes(file: number, accessed: number, modified: number): Promise<void> {
    await onNumbers.times(file, new Date(accessed * 1000), new Date(modified * 1000));
  }

  async copyFile(from: Path, to: Path, exclusive: boolean): Promise<void> {
    const mode = exclusive ? constants.COPYFILE_EXCL : 0;
    await fs.copyFile(await this.#at(from, true), await this.#at(to, true), mode);
  }

  async statfs(path: Path): Promise<FileRoom> {
    const room = await fs.statfs(await this.#at(path, true));
    return {
      totalBytes: room.blocks * room.bsize,
      availableBytes: room.bavail * room.bsize,
      inodes: room.files - room.ffree,
    };
  }

  async watch(path: Path, recursive: boolean, sink: (change: WatchedChange) => void): Promise<{ close(): void }> {
    const at = await this.#at(path, true);
    return nodeWatch(at, { recursive, persistent: false, encoding: 'buffer' }, (eventType, filename) =>
      sink({ eventType, filename: filename ?? undefined }),
    );
  }
}
