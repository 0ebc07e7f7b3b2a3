/** The program of a detached daemon: takes its request from the process that started it, and reports back, over IPC. */
import { toVerfsError } from '@verfs/errors';
import { hostVolume } from './host.ts';
import type { DaemonReport } from './messages.ts';
import type { DaemonRequest } from './request.ts';
import { stopOnSignals, surviveDefects } from './signals.ts';

// What a volume holds is for its owner only.
process.umask(0o077);

const { stop } = stopOnSignals('reload');

function report(message: DaemonReport): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) {
      resolve();
      return;
    }
    // Whoever started us may be gone; then nobody wants to know.
    process.send(message, undefined, {}, () => {
      process.disconnect?.();
      resolve();
    });
  });
}

async function run(request: DaemonRequest): Promise<number> {
  const interrupted = () => stop.abort('the command that started it was interrupted');
  process.once('disconnect', interrupted);
  try {
    await hostVolume(request, {
      stderr: 'silent',
      hangUp: 'reload',
      stop: stop.signal,
      onLog: surviveDefects,
      onReady: (ready) => {
        process.off('disconnect', interrupted);
        void report({ kind: 'ready', ready });
      },
    });
    return 0;
  } catch (thrown) {
    const error = toVerfsError(thrown);
    process.off('disconnect', interrupted);
    await report({ kind: 'failed', error: error.toJSON() });
    return error.exitCode;
  }
}

process.once('message', (request: DaemonRequest) => {
  void run(request).then((code) => process.exit(code));
});
