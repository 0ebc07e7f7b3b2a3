import type { Snapshot } from './snapshots.ts';

/** What is sent. */
export interface SendRequest {
  /** The snapshot. */
  readonly name: string;
  /** The snapshot from which the stream leads on; without one the stream is of the whole snapshot. */
  readonly from?: string | undefined;
  /** From where a receiver wants it, as `interruptedReceive` told. */
  readonly resume?: string | undefined;
  /** A Unix socket on which somebody listens for the stream. */
  readonly socket: string;
}

/** How a stream is received. */
export interface ReceiveRequest {
  /** Whether changes since the stream's base are undone. Otherwise they refuse it. */
  readonly rollback: boolean;
  /** A Unix socket from which the stream comes. */
  readonly socket: string;
}

/**
 * Streams of a volume, by the engine in this process or through a daemon: both have the same way to the caller, a
 * socket on which it listens. Calls reject with `CancelledError` when their signal fires.
 */
export interface StreamCalls {
  /** Resolves to the bytes of the stream when all is written. */
  snapshotSend(request: SendRequest, signal?: AbortSignal | undefined): Promise<number>;
  /** Resolves to the snapshot that was made when the volume is what the stream says. */
  snapshotReceive(request: ReceiveRequest, signal?: AbortSignal | undefined): Promise<Snapshot>;
  /** From where a stream that was cut can go on. */
  interruptedReceive(signal?: AbortSignal | undefined): Promise<string | null>;
}
