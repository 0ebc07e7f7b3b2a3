import type { GcProgress, GcStatus } from '@verfs/native';
import type { Cancellable } from './cancellable.ts';
import { Work } from './work.ts';

/** What a collection of garbage needs of an open volume. */
export interface CollectionCalls {
  gc(signal?: AbortSignal): Promise<GcProgress>;
  gcStatus(): Promise<GcStatus>;
}

/** Collects the garbage of `volume`. */
export function collectionOf(volume: CollectionCalls, options: Cancellable | undefined): Work<GcProgress, GcProgress> {
  const look = async () => {
    const { active, running } = await volume.gcStatus();
    return active ? running : undefined;
  };
  return new Work({ run: (stop) => volume.gc(stop), look, options });
}
