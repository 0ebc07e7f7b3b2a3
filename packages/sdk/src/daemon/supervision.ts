/** Word to the service manager that runs this process, as systemd's `Type=notify` wants it: sd_notify(3). */
import { statfs } from 'node:fs/promises';
import { toVerfsError } from '@verfs/errors';
import type { Log } from '@verfs/log';
import { notifyServiceManager } from '@verfs/native';

/** What a daemon tells of itself. Without a service manager all of it is silence. */
export interface ServiceManager {
  /** It serves at `mountpoint`, which from now on is looked at for the watchdog. */
  ready(mountpoint: string): void;
  /** It takes its settings anew, and has done so. */
  reloading(): void;
  reloaded(): void;
  /** It makes everything durable and ends: that may take `withinMs` more. */
  stopping(withinMs: number): void;
}

/** How many times within the watchdog's time it is told that all is well. */
const beatsPerWatchdog = 3;

/** Time in microseconds of CLOCK_MONOTONIC, which the manager wants with `RELOADING=1`. */
const monotonicUs = () => process.hrtime.bigint() / 1000n;

/** Sends to the socket `$NOTIFY_SOCKET`; nothing of it is left to child processes. */
export function serviceManager(log: Log, environment: NodeJS.ProcessEnv = process.env): ServiceManager {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdogUs, WATCHDOG_PID: watchdogPid } = environment;
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) {
    delete environment[name];
  }
  let failed = false;
  const tell = (...lines: string[]) => {
    if (socket === undefined || socket === '') {
      return;
    }
    try {
      notifyServiceManager(socket, lines.join('\n'));
    } catch (thrown) {
      if (!failed) {
        log.warn(`the service manager cannot be told: ${toVerfsError(thrown).message}`);
      }
      failed = true;
    }
  };
  const isWatched = watchdogPid === undefined || Number(watchdogPid) === process.pid;
  const watchdogMs = isWatched ? Number(watchdogUs ?? 0) / 1000 : 0;
  let beat: NodeJS.Timeout | undefined;
  const watch = (mountpoint: string) => {
    let isLooking = false;
    beat = setInterval(async () => {
      if (isLooking) {
        // The mount owes an answer: that is what the watchdog is for.
        return;
      }
      isLooking = true;
      try {
        await statfs(mountpoint);
        tell('WATCHDOG=1');
      } catch (thrown) {
        log.warn(`the mount does not answer the watchdog: ${toVerfsError(thrown).message}`);
      } finally {
        isLooking = false;
      }
    }, watchdogMs / beatsPerWatchdog).unref();
  };
  return {
    ready: (mountpoint) => {
      tell('READY=1', `STATUS=Serves ${mountpoint}`);
      if (watchdogMs > 0) {
        watch(mountpoint);
      }
    },
    reloading: () => tell('RELOADING=1', `MONOTONIC_USEC=${monotonicUs()}`),
    reloaded: () => tell('READY=1'),
    stopping: (withinMs) => {
      clearInterval(beat);
      // Nobody answers at the mountpoint any more; what is under way is told by asking for time.
      tell('STOPPING=1', 'STATUS=Makes everything durable', `EXTEND_TIMEOUT_USEC=${withinMs * 1000}`, 'WATCHDOG=1');
    },
  };
}
