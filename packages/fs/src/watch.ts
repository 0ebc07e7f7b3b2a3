/** Watching: `fs.watch` and `fs.promises.watch`. */
import { EventEmitter } from 'node:events';
import { encoded, optionsOf, pathOf } from './arguments.ts';
import type { WatchedChange } from './calls.ts';
import { abortError, checkSignal, invalidType } from './errors.ts';
import type { VolumeFiles } from './volume-files.ts';

/** Events that wait for one who iterates; the oldest are dropped then, as Node does. */
const waitingMax = 2048;
/** Longer than any process lives; what it calls does nothing. */
const forEverMs = 2 ** 31 - 1;

interface WatchOptions {
  readonly encoding?: unknown;
  readonly persistent?: boolean | undefined;
  readonly recursive?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly maxQueue?: number | undefined;
}

function checked(given: unknown): WatchOptions {
  const options = optionsOf<WatchOptions>(given, {});
  for (const name of ['persistent', 'recursive'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'boolean') {
      throw invalidType(`options.${name}`, 'of type boolean', options[name]);
    }
  }
  return options;
}

/** What Node tells of a change. */
interface Told {
  readonly eventType: string;
  readonly filename: string | Buffer | null;
}

const told = ({ eventType, filename }: WatchedChange, encoding: unknown): Told => ({
  eventType,
  filename: filename ? encoded(filename, encoding) : null,
});

/** As Node's `FSWatcher`: emits `change`, `error` and `close`. That a path is not there comes as `error`. */
export class VolumeWatcher extends EventEmitter {
  #watch: { close(): void } | undefined;
  #isClosed = false;
  /** While it runs the process stays alive. */
  readonly #alive: NodeJS.Timeout;

  constructor(files: VolumeFiles, path: unknown, given: unknown) {
    super();
    const options = checked(given);
    const at = pathOf(path, 'filename');
    const { recursive = false, persistent = true, signal, encoding } = options;
    this.#alive = setInterval(() => undefined, forEverMs);
    if (!persistent) {
      this.#alive.unref();
    }
    const tell = (change: WatchedChange) => {
      if (!this.#isClosed) {
        const { eventType, filename } = told(change, encoding);
        this.emit('change', eventType, filename);
      }
    };
    if (signal?.aborted) {
      process.nextTick(() => this.close());
      return;
    }
    signal?.addEventListener('abort', () => this.close(), { once: true });
    files.watch(at, recursive, tell).then(
      (watch) => {
        this.#watch = watch;
        if (this.#isClosed) {
          watch.close();
        } else {
          // Not part of Node's: what others change before it may not be told.
          this.emit('ready');
        }
      },
      (error) => {
        clearInterval(this.#alive);
        this.emit('error', error);
      },
    );
  }

  /** Ends it. */
  close(): void {
    if (!this.#isClosed) {
      this.#isClosed = true;
      clearInterval(this.#alive);
      this.#watch?.close();
      process.nextTick(() => this.emit('close'));
    }
  }

  ref(): this {
    this.#alive.ref();
    return this;
  }

  unref(): this {
    this.#alive.unref();
    return this;
  }
}

/** `fs.watch`. */
export function watch(files: VolumeFiles, path: unknown, ...rest: unknown[]): VolumeWatcher {
  const listener = rest.find((argument) => typeof argument === 'function');
  const watcher = new VolumeWatcher(files, path, typeof rest[0] === 'function' ? undefined : rest[0]);
  if (listener !== undefined) {
    watcher.on('change', listener as () => void);
  }
  return watcher;
}

/** `fs.promises.watch`. */
export function watchEvents(files: VolumeFiles, path: unknown, given: unknown): AsyncIterableIterator<Told> {
  const options = checked(given);
  const at = pathOf(path, 'filename');
  return events(files, at, options);
}

async function* events(files: VolumeFiles, at: string | Buffer, options: WatchOptions): AsyncGenerator<Told, void> {
  const { recursive = false, signal, encoding, persistent = true } = options;
  checkSignal(signal);
  const waiting: Told[] = [];
  let wake: () => void = () => undefined;
  const tell = (change: WatchedChange) => {
    if (waiting.length >= (options.maxQueue ?? waitingMax)) {
      waiting.shift();
    }
    waiting.push(told(change, encoding));
    wake();
  };
  const alive = setInterval(() => undefined, forEverMs);
  if (!persistent) {
    alive.unref();
  }
  const onAbort = () => wake();
  signal?.addEventListener('abort', onAbort);
  let begun: { close(): void } | undefined;
  try {
    begun = await files.watch(at, recursive, tell);
    for (;;) {
      if (signal?.aborted) {
        throw abortError(signal);
      }
      const next = waiting.shift();
      if (next === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      } else {
        yield next;
      }
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    clearInterval(alive);
    begun?.close();
  }
}
