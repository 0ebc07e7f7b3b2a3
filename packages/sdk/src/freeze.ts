import { inspect } from 'node:util';
import { UsageError } from '@verfs/errors';

/** How long a volume may be held still at most, in milliseconds: writers wait all that time. */
export const freezeMaxMs = 3_600_000;

/**
 * Checks how long a volume is to be held still.
 *
 * @param deadlineMs How long a request may wait before it fails; 0 for ever.
 * @throws UsageError
 */
export function checkFreezeMs(forMs: number, deadlineMs = 0): number {
  if (!Number.isInteger(forMs) || forMs < 1 || forMs > freezeMaxMs) {
    throw new UsageError(`A volume cannot be held still for ${inspect(forMs, { depth: -1 })} ms`, {
      advice: 'Write 1ms to 1h.',
    });
  }
  if (deadlineMs > 0 && forMs >= deadlineMs) {
    const what = `A volume cannot be held still for ${forMs / 1000} s: writers get EIO after ${deadlineMs / 1000} s`;
    throw new UsageError(what, { advice: 'Hold it for less, or mount it with a longer `mount.deadline`.' });
  }
  return forMs;
}
