import type { Log } from '@verfs/log';

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

/** Has defects of TypeScript logged, which would end the process: the mount is served by other threads and goes on. */
export function surviveDefects(log: Log): void {
  process.on('uncaughtException', (error) => log.error(`a defect: ${error.stack ?? error.message}`));
}
