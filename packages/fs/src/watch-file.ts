/** Watching by looking again and again: `fs.watchFile`. */
import { EventEmitter } from 'node:events';
import type { BigIntStats, Stats } from 'node:fs';
import { posix } from 'node:path';
import type { FileAttributes } from '@verfs/native';
import { integer, pathOf } from './arguments.ts';
import { invalidType } from './errors.ts';
import { bigintStatsOf, statsOf } from './stats.ts';
import type { VolumeFiles } from './volume-files.ts';

/** How often it is looked, unless somebody says otherwise, in milliseconds: as Node. */
const intervalMsDefault = 5007;

interface WatchOptions {
  readonly bigint: boolean;
  readonly interval: number;
  readonly persistent: boolean;
}

/** What Node shows of a file that is not there. */
const nothing: FileAttributes = {
  ...{ tree: 0, ino: 0, mode: 0, nlink: 0, uid: 0, gid: 0, rdev: 0, size: 0, blocks: 0 },
  ...{ atimeS: 0, atimeNs: 0, mtimeS: 0, mtimeNs: 0, ctimeS: 0, ctimeNs: 0, btimeS: 0, btimeNs: 0 },
};

/** What tells two states of a file apart; a read is no change. */
const stateOf = ({ atimeS: _seconds, atimeNs: _nanos, ...rest }: FileAttributes) => JSON.stringify(rest);

/** As Node's `StatWatcher`: emits `change` with the attributes after and before, and `stop`. */
export class VolumeStatWatcher extends EventEmitter {
  readonly #files: VolumeFiles;
  readonly #path: string | Buffer;
  readonly #options: WatchOptions;
  #last: { readonly state: string; readonly shown: Stats | BigIntStats } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isPersistent: boolean;
  #isStopped = false;

  constructor(files: VolumeFiles, path: string | Buffer, options: WatchOptions) {
    super();
    this.#files = files;
    this.#path = path;
    this.#options = options;
    this.#isPersistent = options.persistent;
    void this.#look();
  }

  async #look(): Promise<void> {
    const found = await this.#files.run('stat', (calls) => calls.stat(this.#path, true)).catch(() => undefined);
    if (this.#isStopped) {
      return;
    }
    const { bigint, interval } = this.#options;
    const absent = () => (bigint ? bigintStatsOf(nothing, 0) : statsOf(nothing, 0));
    const shown = found === undefined ? absent() : this.#files.stats(found, { bigint });
    const state = found === undefined ? '' : stateOf(found);
    const before = this.#last;
    // That a file is not there is told at once, and once.
    const isNews = before === undefined ? found === undefined : before.state !== state;
    this.#last = { state, shown };
    if (isNews) {
      // What a listener throws is no rejection.
      process.nextTick(() => this.#isStopped || this.emit('change', shown, before?.shown ?? absent()));
    }
    this.#timer = setTimeout(() => void this.#look(), interval);
    if (!this.#isPersistent) {
      this.#timer.unref();
    }
  }

  /** Ends it. */
  stop(): void {
    if (!this.#isStopped) {
      this.#isStopped = true;
      clearTimeout(this.#timer);
      process.nextTick(() => this.emit('stop'));
    }
  }

  ref(): this {
    this.#isPersistent = true;
    this.#timer?.ref();
    return this;
  }

  unref(): this {
    this.#isPersistent = false;
    this.#timer?.unref();
    return this;
  }
}

function checked(given: unknown): WatchOptions {
  const defaults = { bigint: false, interval: intervalMsDefault, persistent: true };
  if (given === undefined || given === null || typeof given === 'function') {
    return defaults;
  }
  if (typeof given !== 'object') {
    throw invalidType('options', 'of type object', given);
  }
  const { bigint, interval, persistent } = { ...defaults, ...given };
  // As Node, which takes whatever is true or false.
  return {
    bigint: Boolean(bigint),
    persistent: Boolean(persistent),
    interval: integer('interval', interval, 0, 2 ** 32 - 1),
  };
}

/** `fs.watchFile` and `fs.unwatchFile`: one watcher for each path. */
export function fileWatchersOf(files: VolumeFiles) {
  const watchers = new Map<string, VolumeStatWatcher>();
  const placeOf = (given: unknown) => {
    const path = pathOf(given, 'filename');
    const text = typeof path === 'string' ? path : path.toString('latin1');
    return { path, key: `${typeof path} ${posix.resolve('/', text)}` };
  };
  return {
    watchFile(given: unknown, ...rest: unknown[]): VolumeStatWatcher {
      const { path, key } = placeOf(given);
      const options = checked(rest[0]);
      const listener = typeof rest[0] === 'function' ? rest[0] : rest[1];
      if (typeof listener !== 'function') {
        throw invalidType('listener', 'of type function', listener);
      }
      const watcher = watchers.get(key) ?? new VolumeStatWatcher(files, path, options);
      watchers.set(key, watcher);
      return watcher.on('change', listener as () => void);
    },
    unwatchFile(given: unknown, listener?: unknown): void {
      const { key } = placeOf(given);
      const watcher = watchers.get(key);
      if (watcher === undefined) {
        return;
      }
      if (typeof listener === 'function') {
        watcher.off('change', listener as () => void);
      } else {
        watcher.removeAllListeners('change');
      }
      if (watcher.listenerCount('change') === 0) {
        watchers.delete(key);
        watcher.stop();
      }
    },
  };
}
