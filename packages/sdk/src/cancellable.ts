/** Options of calls that can be cancelled. */
export interface Cancellable {
  /** Rejects the call with `CancelledError` when it fires. */
  readonly signal?: AbortSignal | undefined;
}
