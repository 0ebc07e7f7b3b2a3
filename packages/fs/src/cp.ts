/** `cp`: trees of files, copied by reference. */
import { constants } from 'node:fs';
import { posix } from 'node:path';
import type { FileAttributes } from '@verfs/native';
import { modeOf, pathOf } from './arguments.ts';
import { below, mkdir, readdir } from './directories.ts';
import { codedError, codeOf, invalidType } from './errors.ts';
import { isDirectoryMode, isLinkMode } from './stats.ts';
import type { VolumeFiles } from './volume-files.ts';

interface CopyOptions {
  readonly dereference: boolean;
  readonly errorOnExist: boolean;
  readonly filter: ((source: string, target: string) => boolean | Promise<boolean>) | undefined;
  readonly force: boolean;
  readonly mode: number;
  readonly preserveTimestamps: boolean;
  readonly recursive: boolean;
  readonly verbatimSymlinks: boolean;
}

const defaults = {
  dereference: false,
  errorOnExist: false,
  force: true,
  preserveTimestamps: false,
  recursive: false,
  verbatimSymlinks: false,
};

function checked(given: unknown): CopyOptions {
  if (given !== undefined && given !== null && typeof given !== 'object') {
    throw invalidType('options', 'of type object', given);
  }
  const options = { ...defaults, filter: undefined, ...(given as object | undefined) } as CopyOptions;
  for (const name of Object.keys(defaults) as (keyof typeof defaults)[]) {
    if (typeof options[name] !== 'boolean') {
      throw invalidType(`options.${name}`, 'of type boolean', options[name]);
    }
  }
  if (options.filter !== undefined && typeof options.filter !== 'function') {
    throw invalidType('options.filter', 'of type function', options.filter);
  }
  return { ...options, mode: modeOf(options.mode, 0) };
}

const errnos = { EINVAL: 22, EISDIR: 21, ENOTDIR: 20, EEXIST: 17 } as const;

function copyError(name: string, code: keyof typeof errnos, message: string, path: string) {
  const error = codedError(`ERR_FS_CP_${name}`, `${message}: cp returned ${code} (${path})`);
  return Object.assign(error, { name: 'SystemError' }, { errno: errnos[code], syscall: 'cp', path });
}

/** One `cp`. */
class Copy {
  readonly #files: VolumeFiles;
  readonly #options: CopyOptions;

  constructor(files: VolumeFiles, options: CopyOptions) {
    this.#files = files;
    this.#options = options;
  }

  #stat(path: string, follow: boolean): Promise<FileAttributes> {
    return this.#files.run(follow ? 'stat' : 'lstat', (calls) => calls.stat(path, follow), path);
  }

  async #statIfThere(path: string, follow: boolean): Promise<FileAttributes | undefined> {
    try {
      return await this.#stat(path, follow);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') {
        return undefined;
      }
      throw error;
    }
  }

  async run(source: string, target: string): Promise<void> {
    const { dereference } = this.#options;
    const from = await this.#stat(source, dereference);
    const to = await this.#statIfThere(target, dereference);
    await this.#check(source, target, from, to);
    if (!(await this.#isWanted(source, target))) {
      return;
    }
    const slash = target.lastIndexOf('/');
    if (slash > 0) {
      const parent = target.slice(0, slash);
      if ((await this.#statIfThere(parent, true)) === undefined) {
        await mkdir(this.#files, parent, { recursive: true });
      }
    }
    await this.#copy(source, target, from, to);
  }

  async #isWanted(source: string, target: string): Promise<boolean> {
    const { filter } = this.#options;
    return filter === undefined || Boolean(await filter(source, target));
  }

  async #check(source: string, target: string, from: FileAttributes, to: FileAttributes | undefined): Promise<void> {
    if (to !== undefined) {
      if (from.ino === to.ino) {
        throw copyError('EINVAL', 'EINVAL', 'Invalid src or dest: src and dest cannot be the same', target);
      }
      if (isDirectoryMode(from.mode) && !isDirectoryMode(to.mode)) {
        const message = `Cannot overwrite non-directory with directory: cannot overwrite non-directory ${target} with directory ${source}`;
        throw copyError('DIR_TO_NON_DIR', 'EISDIR', message, target);
      }
      if (!isDirectoryMode(from.mode) && isDirectoryMode(to.mode)) {
        const message = `Cannot overwrite directory with non-directory: cannot overwrite directory ${target} with non-directory ${source}`;
        throw copyError('NON_DIR_TO_DIR', 'ENOTDIR', message, target);
      }
    }
    if (isDirectoryMode(from.mode) && this.#options.recursive && (await this.#isBelow(target, from.ino))) {
      const message = `Cannot copy to a subdirectory of self: cannot copy ${source} to a subdirectory of self ${target}`;
      throw copyError('EINVAL', 'EINVAL', message, target);
    }
  }

  /** Whether the path lies in the directory `ino`. */
  async #isBelow(path: string, ino: number): Promise<boolean> {
    let at = path;
    for (;;) {
      const slash = at.lastIndexOf('/');
      if (slash <= 0) {
        return false;
      }
      at = at.slice(0, slash);
      if ((await this.#statIfThere(at, true))?.ino === ino) {
        return true;
      }
    }
  }

  async #copy(source: string, target: string, from: FileAttributes, to: FileAttributes | undefined): Promise<void> {
    const kind = from.mode & constants.S_IFMT;
    if (kind === constants.S_IFDIR) {
      if (!this.#options.recursive) {
        const message = `Recursive option not enabled, cannot copy a directory: ${source} is a directory (not copied)`;
        throw Object.assign(copyError('EISDIR', 'EISDIR', message, source), { code: 'ERR_FS_EISDIR' });
      }
      await this.#copyDirectory(source, target, from, to);
    } else if (isLinkMode(from.mode)) {
      await this.#copyLink(source, target, to);
    } else if (kind === constants.S_IFREG) {
      await this.#copyFile(source, target, from, to);
    } else {
      const name = kind === constants.S_IFIFO ? 'FIFO_PIPE' : kind === constants.S_IFSOCK ? 'SOCKET' : 'UNKNOWN';
      throw copyError(name, 'EINVAL', `Cannot copy a special file: cannot copy ${source}`, target);
    }
  }

  async #copyDirectory(source: string, target: string, from: FileAttributes, to: FileAttributes | undefined) {
    if (to === undefined) {
      await this.#files.run('mkdir', (calls) => calls.mkdir(target, 0o777), target);
    }
    for (const name of await readdir(this.#files, source, undefined)) {
      const [one, other] = [below(source, name as string) as string, below(target, name as string) as string];
      if (await this.#isWanted(one, other)) {
        const { dereference } = this.#options;
        const [inner, there] = [await this.#stat(one, dereference), await this.#statIfThere(other, dereference)];
        await this.#check(one, other, inner, there);
        await this.#copy(one, other, inner, there);
      }
    }
    if (to === undefined) {
      await this.#files.run('chmod', (calls) => calls.chmod(target, true, from.mode & 0o7777), target);
    }
  }

  async #copyFile(source: string, target: string, from: FileAttributes, to: FileAttributes | undefined) {
    const { errorOnExist, force, mode, preserveTimestamps } = this.#options;
    if (to !== undefined) {
      if (!force) {
        if (errorOnExist) {
          throw copyError('EEXIST', 'EEXIST', `Target already exists: ${target} already exists`, target);
        }
        return;
      }
      await this.#files.run('unlink', (calls) => calls.unlink(target), target);
    }
    const exclusive = (mode & constants.COPYFILE_EXCL) !== 0;
    await this.#files.run('copyfile', (calls) => calls.copyFile(source, target, exclusive), source, target);
    await this.#files.run('chmod', (calls) => calls.chmod(target, true, from.mode & 0o7777), target);
    if (preserveTimestamps) {
      const [accessed, modified] = [from.atimeS + from.atimeNs / 1e9, from.mtimeS + from.mtimeNs / 1e9];
      await this.#files.run('utime', (calls) => calls.setTimes(target, true, accessed, modified), target);
    }
  }

  async #copyLink(source: string, target: string, to: FileAttributes | undefined): Promise<void> {
    let leadsTo = (await this.#files.run('readlink', (calls) => calls.readlink(source), source)).toString();
    if (!this.#options.verbatimSymlinks && !leadsTo.startsWith('/')) {
      leadsTo = posix.resolve('/', posix.dirname(source), leadsTo);
    }
    if (to !== undefined) {
      await this.#files.run('unlink', (calls) => calls.unlink(target), target);
    }
    await this.#files.run('symlink', (calls) => calls.symlink(leadsTo, target), leadsTo, target);
  }
}

/** `cp`. */
export function cp(files: VolumeFiles, source: unknown, target: unknown, given: unknown): Promise<void> {
  const options = checked(given);
  const [from, to] = [pathOf(source, 'src').toString(), pathOf(target, 'dest').toString()];
  const trimmed = (path: string) => (path.length > 1 ? path.replace(/\/+$/, '') || '/' : path);
  return new Copy(files, options).run(trimmed(from), trimmed(to));
}
