/** Directories: listed, made with those above them, removed with all below them. */

import { randomBytes } from 'node:crypto';
import type { Dirent } from 'node:fs';
import type { FileAttributes, FileEntries } from '@verfs/native';
import { encoded, integer, modeOf, optionsOf, pathOf } from './arguments.ts';
import type { Path } from './calls.ts';
import { codedError, codeOf, invalidType, systemError } from './errors.ts';
import { direntOf, isDirectoryMode } from './stats.ts';
import type { VolumeFiles } from './volume-files.ts';

/** Entries of a directory that a call gives at most. */
const batchEntries = 16 << 10;
/** The number of ENOTDIR. */
const notADirectory = -20;
/** Files that are removed at once. */
const removalsAtOnce = 32;
/** The kind of a directory, as `list` shows it. */
export const directoryKind = 4;

/** The kind of a symbolic link. */
const linkKind = 10;

/** A name and what it is. */
export interface Entry {
  readonly name: Buffer | string;
  readonly kind: number;
}

/** Path of a name in a directory, in the form of the directory's path. */
export function below(directory: Path, name: Path): Path {
  if (typeof directory === 'string' && typeof name === 'string') {
    return directory.endsWith('/') ? directory + name : `${directory}/${name}`;
  }
  const [front, back] = [Buffer.from(directory as string), Buffer.from(name as string)];
  return Buffer.concat([front, front.at(-1) === 0x2f ? '' : '/', back].map((part) => Buffer.from(part)));
}

/** Entries with their names in `encoding`. */
export function entriesOf({ names, kinds }: FileEntries, encoding: unknown): Entry[] {
  if (encoding === undefined || encoding === null || encoding === 'utf8' || encoding === 'utf-8') {
    const all = names.toString('utf8').split('\0');
    return [...kinds].map((kind, at) => ({ name: all[at] ?? '', kind }));
  }
  const entries: Entry[] = [];
  let begin = 0;
  for (const kind of kinds) {
    const end = names.indexOf(0, begin);
    entries.push({ name: encoded(Buffer.from(names.subarray(begin, end)), encoding), kind });
    begin = end + 1;
  }
  return entries;
}

/** All entries of a directory. */
async function list(files: VolumeFiles, path: Path, encoding: unknown, syscall: string): Promise<Entry[]> {
  const { entries, rest } = await files.run(syscall, (calls) => calls.list(path), path);
  const all = entriesOf(entries, encoding);
  if (rest === undefined || rest === null) {
    return all;
  }
  try {
    for (;;) {
      const more = await files.run(syscall, (calls) => calls.nextEntries(rest, batchEntries), path);
      if (more.kinds.length === 0) {
        return all;
      }
      for (const entry of entriesOf(more, encoding)) {
        all.push(entry);
      }
    }
  } finally {
    await files.run('close', (calls) => calls.close(rest));
  }
}

interface ListOptions {
  readonly encoding?: unknown;
  readonly withFileTypes?: boolean | undefined;
  readonly recursive?: boolean | undefined;
}

/** `readdir`. */
export function readdir(files: VolumeFiles, path: unknown, given: unknown): Promise<(string | Buffer | Dirent)[]> {
  const options = optionsOf<ListOptions>(given, {});
  const root = pathOf(path);
  const { encoding, withFileTypes, recursive } = options;
  if (recursive !== undefined && recursive !== null && typeof recursive !== 'boolean') {
    throw invalidType('options.recursive', 'of type boolean', recursive);
  }
  const shown = (entries: readonly Entry[], parent: Path, prefix: Path | undefined) =>
    entries.map(({ name, kind }) =>
      withFileTypes === true ? direntOf(name, kind, parent) : prefix === undefined ? name : below(prefix, name),
    );
  const whole = async () => {
    const entries = await list(files, root, encoding, 'scandir');
    const all = shown(entries, root, undefined);
    if (recursive !== true) {
      return all;
    }
    const isDirectory = async (parent: Path, { name, kind }: Entry) => {
      if (withFileTypes === true || kind !== linkKind) {
        return kind === directoryKind;
      }
      // Node follows links here, and only here.
      const found = await files.run('stat', (calls) => calls.stat(below(parent, name), true)).catch(() => undefined);
      return found !== undefined && isDirectoryMode(found.mode);
    };
    const under = async (parent: Path, prefix: Path | undefined, found: readonly Entry[]) => {
      const directories = await Promise.all(found.map((entry) => isDirectory(parent, entry)));
      return found
        .filter((_, at) => directories[at])
        .map(({ name }) => ({ path: below(parent, name), prefix: prefix === undefined ? name : below(prefix, name) }));
    };
    const ahead = await under(root, undefined, entries);
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) {
      const found = await list(files, next.path, encoding, 'scandir');
      all.push(...shown(found, next.path, next.prefix));
      ahead.push(...(await under(next.path, next.prefix, found)));
    }
    return all;
  };
  return whole();
}

interface MakeOptions {
  readonly recursive?: boolean | undefined;
  readonly mode?: unknown;
}

const parentOf = (path: string) => {
  const trimmed = path.replace(/\/+$/, '');
  const slash = trimmed.lastIndexOf('/');
  return slash <= 0 ? '/' : trimmed.slice(0, slash).replace(/\/+$/, '') || '/';
};

/** Makes a directory and those above it that are missing; gives the first one that was made. */
async function makeAll(files: VolumeFiles, path: string, mode: number): Promise<string | undefined> {
  const make = (at: string) => files.run('mkdir', (calls) => calls.mkdir(at, mode), at);
  const missing: string[] = [];
  let first: string | undefined;
  let ahead: string | undefined = path;
  while (ahead !== undefined) {
    const at: string = ahead;
    try {
      await make(at);
      first ??= at;
      ahead = missing.pop();
    } catch (error) {
      const code = codeOf(error);
      if (code === 'ENOENT' && at !== '/' && first === undefined && parentOf(at) !== at) {
        missing.push(at);
        ahead = parentOf(at);
        continue;
      }
      if (code !== 'EEXIST') {
        throw error;
      }
      const there = await files.run('mkdir', (calls) => calls.stat(at, true), at).catch((missing: unknown) => missing);
      if (there instanceof Error || !isDirectoryMode((there as FileAttributes).mode)) {
        // What should lead to the directory is none, or leads nowhere.
        throw at === path
          ? there instanceof Error
            ? there
            : error
          : systemError(notADirectory, { syscall: 'mkdir', path: at });
      }
      ahead = missing.pop();
    }
  }
  return first;
}

/** `mkdir`. */
export function mkdir(files: VolumeFiles, path: unknown, given: unknown): Promise<string | undefined> {
  const isMode = typeof given === 'number' || typeof given === 'string';
  const options: MakeOptions = isMode ? { mode: given } : ((given as MakeOptions | null | undefined) ?? {});
  const at = pathOf(path);
  const mode = modeOf(options.mode, 0o777);
  const { recursive = false } = options;
  if (typeof recursive !== 'boolean') {
    throw invalidType('options.recursive', 'of type boolean', recursive);
  }
  if (recursive) {
    const text = at.toString();
    const made = makeAll(files, text, mode);
    return made.then((first) => (first === undefined || first.startsWith('/') ? first : `/${first}`));
  }
  return files.run('mkdir', (calls) => calls.mkdir(at, mode), at).then(() => undefined);
}

/** `mkdtemp`. */
export function mkdtemp(files: VolumeFiles, prefix: unknown, given: unknown): Promise<string | Buffer> {
  const { encoding } = optionsOf<{ encoding?: unknown }>(given, {});
  const begin = pathOf(prefix, 'prefix');
  const attempt = async (triesLeft: number): Promise<string | Buffer> => {
    const suffix = randomBytes(6).toString('base64url').replaceAll(/[-_]/g, 'x').slice(0, 6);
    const path = typeof begin === 'string' ? begin + suffix : Buffer.concat([begin, Buffer.from(suffix)]);
    try {
      await files.run('mkdtemp', (calls) => calls.mkdir(path, 0o700), path);
      return encoded(Buffer.from(path as string), encoding);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' || triesLeft === 0) {
        throw error;
      }
      return await attempt(triesLeft - 1);
    }
  };
  return attempt(100);
}

interface RemoveOptions {
  readonly force?: boolean | undefined;
  readonly recursive?: boolean | undefined;
  readonly maxRetries?: number | undefined;
  readonly retryDelay?: number | undefined;
}

/** Removes what is in a directory, and then the directory. What others remove meanwhile is gone as well. */
async function removeTree(files: VolumeFiles, path: Path): Promise<void> {
  const ignoreGone = (error: unknown) => {
    if (codeOf(error) !== 'ENOENT') {
      throw error;
    }
  };
  const removeIt = () => files.run('rmdir', (calls) => calls.rmdir(path), path);
  try {
    return await removeIt();
  } catch (error) {
    // Whatever else it says, nothing below is touched.
    if (codeOf(error) === 'ENOENT') {
      return;
    }
    if (codeOf(error) !== 'ENOTEMPTY') {
      throw error;
    }
  }
  const entries = await list(files, path, 'buffer', 'scandir').catch((error: unknown) => {
    ignoreGone(error);
    return [];
  });
  const removeOne = async ({ name, kind }: Entry) => {
    const at = below(path, name);
    if (kind === directoryKind) {
      await removeTree(files, at);
    } else {
      await files.run('unlink', (calls) => calls.unlink(at), at).catch(ignoreGone);
    }
  };
  for (let next = 0; next < entries.length; next += removalsAtOnce) {
    await Promise.all(entries.slice(next, next + removalsAtOnce).map(removeOne));
  }
  await removeIt().catch(ignoreGone);
}

/** `rm`. */
export function rm(files: VolumeFiles, path: unknown, given: unknown): Promise<void> {
  const options = checkedRemoval(given);
  const at = pathOf(path);
  const remove = async () => {
    let isDirectory: boolean;
    try {
      isDirectory = isDirectoryMode((await files.run('lstat', (calls) => calls.stat(at, false), at)).mode);
    } catch (error) {
      if (options.force === true && codeOf(error) === 'ENOENT') {
        return;
      }
      throw error;
    }
    if (!isDirectory) {
      await files.run('unlink', (calls) => calls.unlink(at), at);
      return;
    }
    if (options.recursive !== true) {
      const message = `Path is a directory: rm returned EISDIR (is a directory) ${at}`;
      const details = { errno: 21, syscall: 'rm', path: at.toString() };
      throw Object.assign(codedError('ERR_FS_EISDIR', message), { name: 'SystemError' }, details);
    }
    await removeTree(files, at);
  };
  return remove();
}

function checkedRemoval(given: unknown): RemoveOptions {
  if (given === undefined || given === null) {
    return {};
  }
  if (typeof given !== 'object') {
    throw invalidType('options', 'of type object', given);
  }
  const options: RemoveOptions = given;
  for (const name of ['force', 'recursive'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'boolean') {
      throw invalidType(`options.${name}`, 'of type boolean', options[name]);
    }
  }
  for (const name of ['maxRetries', 'retryDelay'] as const) {
    if (options[name] !== undefined) {
      integer(`options.${name}`, options[name], 0, 2 ** 32 - 1);
    }
  }
  return options;
}

/** `rmdir`: with the deprecated option `recursive` as `rm`. */
export function rmdir(files: VolumeFiles, path: unknown, given: unknown): Promise<void> {
  const options = checkedRemoval(given);
  const at = pathOf(path);
  const remove = () => files.run('rmdir', (calls) => calls.rmdir(at), at);
  if (options.recursive !== true) {
    return remove();
  }
  const all = async () => {
    const { mode } = await files.run('rmdir', (calls) => calls.stat(at, false), at);
    await (isDirectoryMode(mode) ? removeTree(files, at) : remove());
  };
  return all();
}
