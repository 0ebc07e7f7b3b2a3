import type { Stats } from '@verfs/native';

/** How much room the disk under a volume has: with `low` garbage is collected thoroughly, with `full` changes are refused. */
export type SpaceState = 'enough' | 'low' | 'full';

/** The room of a disk. */
export type Room = Pick<Stats, 'freeBytes' | 'totalBytes'>;

/** A disk is nearly full below this share of it, as a divisor, or below so many bytes: as garbage collection has it. */
const lowShare = 16;
const lowMaxBytes = 1024 ** 3;

/** What `room` means. */
export function spaceState({ freeBytes, totalBytes }: Room): SpaceState {
  if (freeBytes <= 0) {
    return 'full';
  }
  return freeBytes < Math.min(totalBytes / lowShare, lowMaxBytes) ? 'low' : 'enough';
}
