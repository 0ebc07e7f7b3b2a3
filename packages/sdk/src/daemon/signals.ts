const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/**
 * A signal that fires when the process is told to end. Later ones change nothing: ending waits for the last barrier,
 * which is never cut short.
 */
export function stopOnSignals(): { readonly stop: AbortController; release(): void } {
  const stop = new AbortController();
  const onSignal = (name: NodeJS.Signals) => stop.abort(`signal ${name}`);
  for (const name of signals) {
    process.on(name, onSignal);
  }
  const release = () => {
    for (const name of signals) {
      process.off(name, onSignal);
    }
  };
  return { stop, release };
}
