/** Every operation of `fs.promises`. Arguments are checked when one is called: what is wrong with them is thrown. */
import { constants } from 'node:fs';
import { encoded, flagsOf, idOf, integer, modeOf, optionsOf, pathOf, timeOf } from './arguments.ts';
import type { Path } from './calls.ts';
import { readFile, type Target, truncate, writeFile } from './content.ts';
import { cp } from './cp.ts';
import { VolumeDir } from './dir.ts';
import { mkdir, mkdtemp, readdir, rm, rmdir } from './directories.ts';
import { codedError, invalidType } from './errors.ts';
import { VolumeFileHandle } from './file-handle.ts';
import { roomOf } from './stats.ts';
import type { VolumeFiles } from './volume-files.ts';

type StatOptions = { readonly bigint?: boolean } | undefined;

/** Options of which `bigint` is the only one. */
function statOptions(given: unknown): StatOptions {
  if (given !== undefined && given !== null && typeof given !== 'object') {
    throw invalidType('options', 'of type object', given);
  }
  return (given as StatOptions) ?? undefined;
}

/** A file of `promises`: a handle, or a path. */
function targetOf(files: VolumeFiles, target: unknown): Target {
  void files;
  return target instanceof VolumeFileHandle ? { file: target.fd } : { path: pathOf(target) };
}

/** The operations on `files`. */
export function operationsOf(files: VolumeFiles) {
  const bytesIn = (bytes: Promise<Buffer>, encoding: unknown) => bytes.then((value) => encoded(value, encoding));
  const nameOptions = (given: unknown) => optionsOf<{ encoding?: unknown }>(given, {});

  const changeMode = (syscall: string, follow: boolean) => (path: unknown, mode: unknown) => {
    const at = pathOf(path);
    const bits = modeOf(mode, undefined as unknown as number);
    return files.run(syscall, (calls) => calls.chmod(at, follow, integer('mode', bits, 0, 2 ** 32 - 1)), at);
  };
  const changeOwner = (syscall: string, follow: boolean) => (path: unknown, uid: unknown, gid: unknown) => {
    const [at, user, group] = [pathOf(path), idOf('uid', uid), idOf('gid', gid)];
    return files.run(syscall, (calls) => calls.chown(at, follow, user, group), at);
  };
  const changeTimes = (syscall: string, follow: boolean) => (path: unknown, accessed: unknown, modified: unknown) => {
    const [at, atime, mtime] = [pathOf(path), timeOf('atime', accessed), timeOf('mtime', modified)];
    return files.run(syscall, (calls) => calls.setTimes(at, follow, atime, mtime), at);
  };
  const attributes = (syscall: string, follow: boolean) => (path: unknown, given?: unknown) => {
    const options = statOptions(given);
    const at = pathOf(path);
    return files.run(syscall, (calls) => calls.stat(at, follow), at).then((found) => files.stats(found, options));
  };
  const onOne = (syscall: 'unlink') => (path: unknown) => {
    const at = pathOf(path);
    return files.run(syscall, (calls) => calls[syscall](at), at);
  };

  return {
    access(path: unknown, mode?: unknown) {
      const at = pathOf(path);
      const wanted = mode === undefined || mode === null ? 0 : integer('mode', mode, 0, 7);
      return files.run('access', (calls) => calls.access(at, wanted), at);
    },
    appendFile: (path: unknown, data: unknown, options?: unknown) =>
      writeFile(files, targetOf(files, path), data, options, 'a'),
    chmod: changeMode('chmod', true),
    chown: changeOwner('chown', true),
    copyFile(source: unknown, target: unknown, mode?: unknown) {
      const [from, to] = [pathOf(source, 'src'), pathOf(target, 'dest')];
      const bits = mode === undefined || mode === null ? 0 : integer('mode', mode, 0, 7);
      const exclusive = (bits & constants.COPYFILE_EXCL) !== 0;
      return files.run('copyfile', (calls) => calls.copyFile(from, to, exclusive), from, to);
    },
    cp: (source: unknown, target: unknown, options?: unknown) => cp(files, source, target, options),
    lchmod(): Promise<void> {
      throw codedError('ERR_METHOD_NOT_IMPLEMENTED', 'The lchmod() method is not implemented');
    },
    lchown: changeOwner('lchown', false),
    link(existing: unknown, path: unknown) {
      const [from, to] = [pathOf(existing, 'existingPath'), pathOf(path, 'newPath')];
      return files.run('link', (calls) => calls.link(from, to), from, to);
    },
    lstat: attributes('lstat', false),
    lutimes: changeTimes('lutime', false),
    mkdir: (path: unknown, options?: unknown) => mkdir(files, path, options),
    mkdtemp: (prefix: unknown, options?: unknown) => mkdtemp(files, prefix, options),
    open: (path: unknown, flags?: unknown, mode?: unknown) => VolumeFileHandle.open(files, path, flags, mode),
    opendir: (path: unknown, options?: unknown) => VolumeDir.open(files, path, options),
    readdir: (path: unknown, options?: unknown) => readdir(files, path, options),
    readFile: (path: unknown, options?: unknown) => readFile(files, targetOf(files, path), options),
    readlink(path: unknown, given?: unknown) {
      const { encoding } = nameOptions(given);
      const at = pathOf(path, 'oldPath');
      return bytesIn(
        files.run('readlink', (calls) => calls.readlink(at), at),
        encoding,
      );
    },
    realpath(path: unknown, given?: unknown) {
      const { encoding } = nameOptions(given);
      const at = pathOf(path);
      return bytesIn(
        files.run('realpath', (calls) => calls.realpath(at), at),
        encoding,
      );
    },
    rename(from: unknown, to: unknown) {
      const [old, next] = [pathOf(from, 'oldPath'), pathOf(to, 'newPath')];
      return files.run('rename', (calls) => calls.rename(old, next), old, next);
    },
    rm: (path: unknown, options?: unknown) => rm(files, path, options),
    rmdir: (path: unknown, options?: unknown) => rmdir(files, path, options),
    stat: attributes('stat', true),
    statfs(path: unknown, given?: unknown) {
      const options = statOptions(given);
      const at = pathOf(path);
      return files
        .run('statfs', (calls) => calls.statfs(at), at)
        .then((room) => {
          const shown = roomOf(room);
          const big = () => Object.fromEntries(Object.entries(shown).map(([name, value]) => [name, BigInt(value)]));
          return options?.bigint === true ? big() : shown;
        });
    },
    symlink(target: unknown, path: unknown, _type?: unknown) {
      const [to, at] = [pathOf(target, 'target'), pathOf(path)];
      return files.run('symlink', (calls) => calls.symlink(to, at), to, at);
    },
    truncate(path: unknown, length: unknown = 0) {
      const bytes = integer('len', length ?? 0, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
      return truncate(files, path, Math.max(0, bytes));
    },
    unlink: onOne('unlink'),
    utimes: changeTimes('utime', true),
    writeFile: (path: unknown, data: unknown, options?: unknown) =>
      writeFile(files, targetOf(files, path), data, options, 'w'),
  };
}

/** The operations. */
export type Operations = ReturnType<typeof operationsOf>;

/** The number of a file that is opened by path, for the interface with callbacks. */
export function openNumber(files: VolumeFiles, path: unknown, flags: unknown, mode: unknown): Promise<number> {
  const at: Path = pathOf(path);
  const [flagBits, modeBits] = [flagsOf(flags), modeOf(mode, 0o666)];
  return files.run('open', (calls) => calls.open(at, flagBits, modeBits), at);
}
