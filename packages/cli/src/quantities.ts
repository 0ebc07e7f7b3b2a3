/**
 * Sizes and durations as people write them in options: the units are those of the configuration, of which commands load
 * no more than that.
 */
import { durationUnits, parseQuantity, sizeUnits } from '@verfs/config/units';
import { UsageError } from '@verfs/errors';

/**
 * A duration such as `15m`, `500ms` or `7d` that `option` has, in milliseconds.
 *
 * @throws UsageError
 */
export function durationMs(option: string, text: string): number {
  const parsed = parseQuantity(text, durationUnits);
  if (typeof parsed === 'string') {
    throw new UsageError(`--${option} ${text} is no duration`, { advice: 'Write it like 30s, 15m, 2h or 7d.' });
  }
  return Math.round(parsed / 1000);
}

/**
 * A size such as `64MiB`, `10G` or `1.5TB` that `option` has, in bytes.
 *
 * @throws UsageError
 */
export function sizeBytes(option: string, text: string): number {
  const parsed = parseQuantity(text, sizeUnits);
  if (typeof parsed === 'string') {
    throw new UsageError(`--${option} ${text} is no size`, { advice: 'Write it like 64MiB, 10G or 1.5TB.' });
  }
  return parsed;
}
