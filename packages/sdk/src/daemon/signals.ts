import type { Log } from '@verfs/log';

/** What SIGHUP means to a process. */
export type HangUp = 'stop' | 'reload';

/**
 * A signal that fires when the process is told to end. Later ones change nothing: ending waits for the last barrier,
 * which is never cut short. With `hangUp` as `reload`, SIGHUP is nothing until somebody listens to it.
 */
export function stopOnSignals(hangUp: HangUp): { readonly stop: AbortController; release(): void } {
  const stop = new AbortController();
  const onSignal = (name: NodeJS.Signals) => stop.abort(`signal ${name}`);
  const ignore = () => undefined;
  const onHangUp = hangUp === 'stop' ? onSignal : ignore;
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal).on('SIGQUIT', onSignal).on('SIGHUP', onHangUp);
  const release = () => {
    process.off('SIGTERM', onSignal).off('SIGINT', onSignal).off('SIGQUIT', onSignal).off('SIGHUP', onHangUp);
  };
  return { stop, release };
}

/** Has defects of TypeScript logged, which would end the process: the mount is served by other threads and goes on. */
export function surviveDefects(log: Log): void {
  process.on('uncaughtException', (error) => log.error(`a defect: ${error.stack ?? error.message}`));
}
