import { uptime } from 'node:os';

/** The two clocks that a policy needs, in milliseconds. */
export interface Clock {
  /** Since 1970. People and time servers set it: it may jump, either way. */
  now(): number;
  /** Since some beginning. It never jumps, and goes on while the machine sleeps. */
  steady(): number;
}

/** The clocks of this machine. */
export const systemClock: Clock = {
  now: () => Date.now(),
  // CLOCK_BOOTTIME: unlike performance.now() it counts the time asleep.
  steady: () => uptime() * 1000,
};

/** The time zone of this process, as the IANA database names it. */
export const localZone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone;
