import type { FileAttributes } from '@verfs/native';
import type { FileCalls, Path, WatchedChange } from './calls.ts';
import { type Attempt, failureOf } from './errors.ts';
import { throughGate } from './gate.ts';
import { bigintStatsOf, statsOf } from './stats.ts';

/** Numbers of the trees of a volume, as `st_dev`, are so far apart that none is another volume's. */
const treeStep = 2 ** 20;

/** Devices of the volumes in this process: what has the same number here is the same file nowhere else. */
let nextDevice = 0xfe00;

/** The files of a volume, for the operations of this package: its calls, through the gate, with errors like Node's. */
export class VolumeFiles {
  readonly calls: FileCalls;
  /** The number of the volume as `st_dev`. */
  readonly device: number;
  /** Watches that were asked for and have not begun. */
  readonly #beginning = new Set<Promise<void>>();

  constructor(calls: FileCalls) {
    this.calls = calls;
    this.device = nextDevice;
    nextDevice += 1;
  }

  /** Makes a call; what it fails with says what was tried. */
  async run<T>(syscall: string, call: (calls: FileCalls) => Promise<T>, path?: Path, dest?: Path): Promise<T> {
    return await this.attempt({ syscall, path, dest }, call);
  }

  /** As `run`. */
  async attempt<T>(attempt: Attempt, call: (calls: FileCalls) => Promise<T>): Promise<T> {
    try {
      return await this.through(attempt.syscall, call);
    } catch (thrown) {
      throw failureOf(thrown, attempt);
    }
  }

  /** Makes a call when there is room for it; what it fails with is the engine's own error. */
  async through<T>(syscall: string, call: (calls: FileCalls) => Promise<T>): Promise<T> {
    if (this.#beginning.size > 0 && syscall !== 'watch') {
      await Promise.all(this.#beginning);
    }
    return await throughGate(syscall, () => call(this.calls));
  }

  /** Begins a watch. Calls that are made after this one wait until it has begun: it is told what they change, as with Node. */
  async watch(at: Path, recursive: boolean, sink: (change: WatchedChange) => void): Promise<{ close(): void }> {
    const watch = this.run('watch', (calls) => calls.watch(at, recursive, sink), at);
    const begun = watch.then(
      () => undefined,
      () => undefined,
    );
    this.#beginning.add(begun);
    begun.then(() => this.#beginning.delete(begun));
    return await watch;
  }

  /** Attributes as Node shows them. */
  stats(attributes: FileAttributes, options: { readonly bigint?: boolean | undefined } | undefined) {
    const device = this.device + attributes.tree * treeStep;
    return options?.bigint === true ? bigintStatsOf(attributes, device) : statsOf(attributes, device);
  }
}
