import { setTimeout as sleep } from 'node:timers/promises';
import type { ScrubProgress, ScrubResult, ScrubStatus } from '@verfs/native';
import type { Cancellable } from './cancellable.ts';

/** How often a scrub that runs is looked at, in milliseconds. */
const lookEveryMs = 250;

/** How a volume is scrubbed. */
export interface ScrubOptions extends Cancellable {
  /** Bytes that are read in a second at most. Without, `scrub.busy_rate` holds while the volume is in use. */
  readonly rateBytes?: number | undefined;
  /** Called several times a second. What it throws rejects the call; the scrub is stopped then. */
  readonly onProgress?: ((progress: ScrubProgress) => void) | undefined;
}

/** What a scrub needs of an open volume. */
export interface ScrubCalls {
  scrub(rateBytes: number | undefined, signal?: AbortSignal): Promise<ScrubResult>;
  scrubStatus(): Promise<ScrubStatus>;
}

/** Scrubs `volume`, and tells `onProgress` meanwhile how far it is. */
export async function watchedScrub(
  volume: ScrubCalls,
  { rateBytes, signal }: ScrubOptions,
  onProgress: (progress: ScrubProgress) => Promise<void> | void,
): Promise<ScrubResult> {
  const failed = new AbortController();
  const stop = AbortSignal.any([failed.signal, ...(signal === undefined ? [] : [signal])]);
  let running = true;
  const watch = async (): Promise<never> => {
    while (running) {
      await sleep(lookEveryMs, undefined, { ref: false });
      const status = await volume.scrubStatus();
      if (status.active) {
        await onProgress(status.running);
      }
    }
    return await new Promise<never>(() => undefined);
  };
  try {
    return await Promise.race([volume.scrub(rateBytes, stop), watch()]);
  } finally {
    running = false;
    failed.abort();
  }
}
