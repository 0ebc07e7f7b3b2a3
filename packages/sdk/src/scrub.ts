import type { ScrubProgress, ScrubResult, ScrubStatus } from '@verfs/native';
import { optionsOf } from './arguments.ts';
import type { Cancellable } from './cancellable.ts';
import { Work } from './work.ts';

/** How a volume is scrubbed. */
export interface ScrubOptions extends Cancellable {
  /** Bytes that are read in a second at most. Without, `scrub.busy_rate` holds while the volume is in use. */
  readonly rateBytes?: number | undefined;
}

/** What a scrub needs of an open volume. */
export interface ScrubCalls {
  scrub(rateBytes: number | undefined, signal?: AbortSignal): Promise<ScrubResult>;
  scrubStatus(): Promise<ScrubStatus>;
}

/** Scrubs `volume`. */
export function scrubOf(volume: ScrubCalls, options: ScrubOptions | undefined): Work<ScrubProgress, ScrubResult> {
  const look = async () => {
    const { active, running } = await volume.scrubStatus();
    return active ? running : undefined;
  };
  return new Work({ run: (stop) => volume.scrub(optionsOf(options).rateBytes, stop), look, options });
}
