/** Streams of snapshots between the caller and whoever has the volume open. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Snapshot, StreamCalls } from '@verfs/native';
import { functionOf, optionsOf, readableOf, signalOf } from './arguments.ts';
import type { Cancellable } from './cancellable.ts';
import { meet } from './meeting.ts';
import { Work } from './work.ts';

/** Options of transfers. */
export interface TransferOptions extends Cancellable {
  /** Called with the bytes that went through so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

/** Options of `Snapshots.send`. */
export interface SendOptions extends TransferOptions {
  /** The older snapshot from which the stream leads on; without one it is of the whole snapshot. */
  readonly from?: string | undefined;
  /** From where the receiver wants it, as its `interruptedReceive` tells. */
  readonly resume?: string | undefined;
}

/** Options of `Snapshots.receive`. */
export interface ReceiveOptions extends TransferOptions {
  /** Whether changes since the stream's base are undone first. Otherwise they refuse it. */
  readonly rollback?: boolean | undefined;
}

/** Counts what goes through, and keeps what the caller's `onProgress` throws: it is no failure of the stream. */
class Counter {
  readonly #onProgress: TransferOptions['onProgress'];
  #thrown: { readonly error: unknown } | undefined;
  /** Bytes that went through. */
  bytes = 0;

  constructor(onProgress: TransferOptions['onProgress']) {
    this.#onProgress = functionOf('onProgress', onProgress);
  }

  async *count(source: AsyncIterable<Uint8Array>) {
    for await (const piece of source) {
      this.bytes += piece.length;
      try {
        this.#onProgress?.(this.bytes);
      } catch (error) {
        this.#thrown = { error };
        throw error;
      }
      yield piece;
    }
  }

  /** Throws what `onProgress` has thrown. */
  rethrow(): void {
    if (this.#thrown !== undefined) {
      throw this.#thrown.error;
    }
  }
}

async function* sent(calls: StreamCalls, name: string, options: SendOptions): AsyncGenerator<Uint8Array, void> {
  const { from, resume, onProgress } = optionsOf(options);
  const signal = signalOf(options);
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const counter = new Counter(onProgress);
  const meeting = await meet();
  try {
    const call = calls.snapshotSend({ name, from, resume, socket: meeting.socket }, either);
    // An error before the connection ends the wait for it; a later one counts when the line has ended.
    call.catch(() => meeting.end());
    const line = await Promise.race([meeting.connection, call.then(() => meeting.connection)]);
    try {
      yield* counter.count(line);
    } catch {
      counter.rethrow();
      // The line broke: the call says why.
    }
    // Only what is sent whole ends well.
    await call;
  } finally {
    stop.abort('nobody reads any more');
    meeting.end();
  }
}

/** The stream of a snapshot. It ends only when it is whole, and fails otherwise. */
export const send = (calls: StreamCalls, name: string, options: SendOptions): Readable =>
  Readable.from(sent(calls, name, options), { objectMode: false });

/** Makes a volume what the stream `source` says. */
export function receive(calls: StreamCalls, source: Readable, options: ReceiveOptions): Work<number, Snapshot> {
  let counter: Counter | undefined;
  const run = (stop: AbortSignal) => {
    const { onProgress, rollback = false } = optionsOf(options);
    counter = new Counter(onProgress);
    return received(calls, source, counter, rollback, stop);
  };
  return new Work({ run, look: () => counter?.bytes, options });
}

async function received(
  calls: StreamCalls,
  source: Readable,
  counter: Counter,
  rollback: boolean,
  signal: AbortSignal,
): Promise<Snapshot> {
  readableOf('source', source);
  const meeting = await meet();
  try {
    const call = calls.snapshotReceive({ rollback, socket: meeting.socket }, signal);
    call.catch(() => meeting.end());
    const line = await Promise.race([meeting.connection, call.then(() => meeting.connection)]);
    // A source that fails, or is left behind, is a stream that is cut: the call says so. Nobody waits for the end of the
    // pipeline: one whose two ends are destroyed at the same time may never tell of it.
    pipeline(counter.count(source), line).catch(() => undefined);
    try {
      return await call;
    } catch (error) {
      counter.rethrow();
      throw error;
    } finally {
      source.destroy();
    }
  } finally {
    meeting.end();
  }
}
