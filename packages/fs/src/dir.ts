import type { Dirent } from 'node:fs';
import { integer, optionsOf, pathOf } from './arguments.ts';
import type { Path } from './calls.ts';
import { below, directoryKind, type Entry, entriesOf } from './directories.ts';
import { codedError, invalidType } from './errors.ts';
import { direntOf } from './stats.ts';
import type { VolumeFiles } from './volume-files.ts';

/** What `opendir` takes. */
interface OpenOptions {
  readonly encoding?: unknown;
  readonly bufferSize?: number | undefined;
  readonly recursive?: boolean | undefined;
}

type Callback<T> = (error: Error | null, result?: T) => void;

/** An open directory, as Node's `Dir`: for `for await`, or `read` by `read`. */
export class VolumeDir {
  readonly #files: VolumeFiles;
  readonly #options: OpenOptions;
  /** Directories still to be read, the next one last; the first is open from the start. */
  readonly #ahead: Path[];
  #current: { readonly file: number; readonly path: Path } | undefined;
  #entries: Dirent[] = [];
  #next = 0;
  #isClosed = false;
  /** Reads come one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  /** The path that was opened. */
  readonly path: string;

  private constructor(files: VolumeFiles, file: number, path: Path, options: OpenOptions) {
    this.#files = files;
    this.#options = options;
    this.#current = { file, path };
    this.#ahead = [];
    this.path = path.toString();
  }

  /** `opendir`. */
  static open(files: VolumeFiles, path: unknown, given: unknown): Promise<VolumeDir> {
    const options = optionsOf<OpenOptions>(given, {});
    const at = pathOf(path);
    if (options.bufferSize !== undefined) {
      integer('options.bufferSize', options.bufferSize, 1, 2 ** 32 - 1);
    }
    const opened = VolumeDir.#openDirectory(files, at);
    return opened.then((file) => new VolumeDir(files, file, at, options));
  }

  static #openDirectory(files: VolumeFiles, path: Path): Promise<number> {
    const directory = 0o200000;
    return files.run('opendir', (calls) => calls.open(path, directory, 0), path);
  }

  async #fill(): Promise<boolean> {
    while (this.#current !== undefined) {
      const { file, path } = this.#current;
      const batch = this.#options.bufferSize ?? 32;
      const more = await this.#files.run('scandir', (calls) => calls.nextEntries(file, batch), path);
      const entries = entriesOf(more, this.#options.encoding);
      if (entries.length > 0) {
        if (this.#options.recursive === true) {
          this.#ahead.unshift(...directoriesOf(path, entries).reverse());
        }
        this.#entries = entries.map(({ name, kind }) => direntOf(name, kind, path));
        this.#next = 0;
        return true;
      }
      this.#current = undefined;
      await this.#files.run('close', (calls) => calls.close(file));
      const next = this.#ahead.pop();
      if (next !== undefined) {
        this.#current = { file: await VolumeDir.#openDirectory(this.#files, next), path: next };
      }
    }
    return false;
  }

  /** The next entry; null at the end. */
  read(callback?: Callback<Dirent | null>): Promise<Dirent | null> | undefined {
    const read = async () => {
      this.#checkOpen();
      if (this.#next < this.#entries.length || (await this.#fill())) {
        const entry = this.#entries[this.#next] ?? null;
        this.#next += 1;
        return entry;
      }
      return null;
    };
    const turn = this.#turn.then(read);
    this.#turn = turn.catch(() => undefined);
    return answered(turn, callback);
  }

  /** Closes it. */
  close(callback?: Callback<void>): Promise<void> | undefined {
    const close = async () => {
      this.#checkOpen();
      this.#isClosed = true;
      const current = this.#current;
      this.#current = undefined;
      if (current !== undefined) {
        await this.#files.run('close', (calls) => calls.close(current.file));
      }
    };
    return answered(this.#turn.then(close), callback);
  }

  #checkOpen(): void {
    if (this.#isClosed) {
      throw codedError('ERR_DIR_CLOSED', 'Directory handle was closed');
    }
  }

  async *entries(): AsyncGenerator<Dirent, void> {
    try {
      for (;;) {
        const entry = await this.read();
        if (!entry) {
          return;
        }
        yield entry;
      }
    } finally {
      await this.close();
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<Dirent, void> {
    return this.entries();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isClosed) {
      await this.close();
    }
  }
}

const directoriesOf = (path: Path, entries: readonly Entry[]) =>
  entries.filter(({ kind }) => kind === directoryKind).map(({ name }) => below(path, name));

/** A promise, or its outcome to a callback. */
function answered<T>(promise: Promise<T>, callback: Callback<T> | undefined): Promise<T> | undefined {
  if (callback === undefined) {
    return promise;
  }
  if (typeof callback !== 'function') {
    throw invalidType('cb', 'of type function', callback);
  }
  promise.then(
    (result) => process.nextTick(callback, null, result),
    (error) => process.nextTick(callback, error),
  );
  return undefined;
}
