import type { Readable } from 'node:stream';
import type { Snapshot, SnapshotCalls, SnapshotChange, SnapshotWork, StreamCalls } from '@verfs/native';
import { optionsOf, signalOf, textOf } from './arguments.ts';
import type { Cancellable } from './cancellable.ts';
import { type ReceiveOptions, receive, type SendOptions, send } from './streams.ts';
import { Work } from './work.ts';

/**
 * The snapshots of a volume: of one that this process has open, or that a daemon serves.
 *
 * Paths are those of files in the volume, from its root. Every call throws `SnapshotNotFoundError` when there is no
 * snapshot of the name, and `CancelledError`; those that change something also `VolumeReadOnlyError` and
 * `VolumeFullError`.
 */
export class Snapshots {
  readonly #calls: SnapshotCalls & StreamCalls;

  /** Made by `Volume` and `VolumeClient`. */
  constructor(calls: SnapshotCalls & StreamCalls) {
    this.#calls = calls;
  }

  /**
   * Takes a snapshot of everything that was done before.
   *
   * @throws SnapshotNameError, SnapshotExistsError
   */
  async create(name: string, options: { readonly note?: string | undefined } & Cancellable = {}): Promise<Snapshot> {
    return await this.#calls.snapshotCreate(
      textOf('name', name),
      textOf('note', optionsOf(options).note ?? ''),
      signalOf(options),
    );
  }

  /** Every snapshot, the oldest first. */
  async list(options: Cancellable = {}): Promise<Snapshot[]> {
    return await this.#calls.snapshots(signalOf(options));
  }

  /** @throws SnapshotHeldError */
  async delete(name: string, options: Cancellable = {}): Promise<void> {
    return await this.#calls.snapshotDelete(textOf('name', name), signalOf(options));
  }

  /**
   * Keeps a snapshot from being deleted, until `tag` is released.
   *
   * @throws UsageError when `tag` holds it already
   */
  async hold(name: string, tag: string, options: Cancellable = {}): Promise<void> {
    return await this.#calls.snapshotHold(textOf('name', name), textOf('tag', tag), signalOf(options));
  }

  /**
   * Ends the hold `tag`.
   *
   * @throws UsageError when `tag` does not hold it
   */
  async release(name: string, tag: string, options: Cancellable = {}): Promise<void> {
    return await this.#calls.snapshotRelease(textOf('name', name), textOf('tag', tag), signalOf(options));
  }

  /**
   * What changed from one snapshot to another, or to what is there now. Changes come as they are found.
   *
   * @throws UsageError when `to` is older than `from`
   */
  async *diff(from: string, to?: string, options: Cancellable = {}): AsyncGenerator<SnapshotChange, void> {
    for await (const batch of this.#calls.snapshotDiff(from, to, signalOf(options))) {
      yield* batch;
    }
  }

  /**
   * Makes the volume what it was, in its mount as well. What was done since is lost, unless another snapshot has it.
   * Cancelled, it completes.
   */
  rollback(name: string, options: Cancellable = {}): Work<SnapshotWork, void> {
    return this.#begin((stop) => this.#calls.snapshotRollback(textOf('name', name), stop), options);
  }

  #begin(run: (stop: AbortSignal) => Promise<void>, options: Cancellable): Work<SnapshotWork, void> {
    return new Work({ run, look: () => this.work(), options });
  }

  /**
   * Makes the new directory `path` a copy of the snapshot that can be written, and shares all data with it. Directories
   * on the way to it are made. It appears whole or, when it is cancelled in time, not at all.
   *
   * @throws PathExistsError, UsageError for a path that cannot be
   */
  clone(name: string, path: string, options: Cancellable = {}): Work<SnapshotWork, void> {
    return this.#begin((stop) => this.#calls.snapshotClone(textOf('name', name), textOf('path', path), stop), options);
  }

  /**
   * Puts `path`, and all below it, back as it was, in place of what is there; with `to` there instead, where nothing
   * may be. Cancelled in time, all is as before.
   *
   * @throws PathNotFoundError, PathExistsError, UsageError for paths that cannot be
   */
  restore(
    name: string,
    path: string,
    options: { readonly to?: string | undefined } & Cancellable = {},
  ): Work<SnapshotWork, void> {
    return this.#begin(
      (stop) => this.#calls.snapshotRestore(textOf('name', name), path, optionsOf(options).to, stop),
      options,
    );
  }

  /** How far the clone, the restoration or the rollback is that is under way, whoever began it. */
  work(): Promise<SnapshotWork> {
    return this.#calls.snapshotWork();
  }

  /**
   * The snapshot as a stream for `receive`, or what leads to it from an older one. It ends only when it is whole;
   * destroying it ends the transfer.
   *
   * The stream fails with UsageError for a base that is not older or a `resume` that is none, with StreamMismatchError
   * for a `resume` of another stream, and with IoError.
   */
  send(name: string, options: SendOptions = {}): Readable {
    return send(this.#calls, name, options);
  }

  /**
   * Makes the volume, in its mount as well, what the stream says, and the snapshot of it. The volume has to be empty
   * for the stream of a whole snapshot, and else be as its base. Nothing changes before the stream is verified to its
   * end; what came of one that is cut is kept, and the rest may follow. `source` is destroyed.
   *
   * @throws StreamDamagedError, StreamMismatchError, IoError
   */
  receive(source: Readable, options: ReceiveOptions = {}): Work<number, Snapshot> {
    return receive(this.#calls, source, options);
  }

  /** From where a stream that was cut can go on: the `resume` to send it with. Null when there is none. */
  async interruptedReceive(options: Cancellable = {}): Promise<string | null> {
    return await this.#calls.interruptedReceive(signalOf(options));
  }
}
