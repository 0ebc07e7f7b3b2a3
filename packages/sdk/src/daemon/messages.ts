import type { ErrorRecord } from '@verfs/errors';
import type { Ready } from './host.ts';

/** What a daemon tells the process that started it, once: it serves, or why it doesn't. */
export type DaemonReport =
  | { readonly kind: 'ready'; readonly ready: Ready }
  | { readonly kind: 'failed'; readonly error: ErrorRecord };

/** Whether `value` came from a daemon. */
export function isDaemonReport(value: unknown): value is DaemonReport {
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : undefined;
  return kind === 'ready' || kind === 'failed';
}
