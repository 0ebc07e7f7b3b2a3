/**
 * What `push` gives, for a `for await`: the other way round. Who gives waits until what he gave is taken. Breaking off
 * the loop fires the signal of `push`.
 */
export async function* pulled<T>(
  push: (give: (item: T) => Promise<void>, signal: AbortSignal) => Promise<unknown>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void> {
  const { readable, writable } = new TransformStream<T, T>();
  const writer = writable.getWriter();
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const pushed = push((item) => writer.write(item), either)
    .then(() => writer.close())
    .catch((error: unknown) => writer.abort(error));
  try {
    yield* readable;
  } finally {
    stop.abort('nobody listens any more');
    // It failed because we stopped it, or its error was thrown above.
    await pushed.catch(() => undefined);
  }
}
