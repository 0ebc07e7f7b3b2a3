/** A snapshot: the whole volume as it was at one moment. */
export interface Snapshot {
  /** Never given to another snapshot of the volume. */
  readonly id: number;
  readonly name: string;
  /** What its maker wrote to it; may be empty. */
  readonly note: string;
  /** When it was taken, in milliseconds since 1970. */
  readonly created: number;
  /** What its deletion would release, files that are stored twice counted twice. */
  readonly usedBytes: number;
  /** Sum of the sizes of its files. */
  readonly logicalBytes: number;
  /** Files, symbolic links and special files. */
  readonly files: number;
  readonly directories: number;
  /** Tags of those who hold it. While there is one it cannot be deleted. */
  readonly holds: readonly string[];
}

/** A difference between two states of a volume. Paths begin at the root of the volume, without a slash. */
export interface SnapshotChange {
  readonly kind: 'added' | 'removed' | 'changed' | 'renamed';
  readonly path: string;
  /** Where what is renamed was before. */
  readonly from?: string | undefined;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  /** Of files that were there before. */
  readonly sizeBefore?: number | undefined;
  /** Of files that are there after. */
  readonly sizeAfter?: number | undefined;
}

/** How far the clone, the restoration or the rollback is that is under way. All zero when none is. */
export interface SnapshotWork {
  /** Files and directories that a copy made. */
  readonly inodes: number;
  /** How many it will have, where that is known; else 0. */
  readonly ofInodes: number;
  /** Bytes of these files. */
  readonly bytes: number;
  /** Records that a rollback looked at. */
  readonly records: number;
}

/**
 * What can be done with the snapshots of a volume: by the engine in this process, or through a daemon. Paths are
 * those of files in the volume, from its root. Calls reject with `CancelledError` when their signal fires.
 */
export interface SnapshotCalls {
  /** Takes a snapshot of everything that was done before. */
  snapshotCreate(name: string, note: string, signal?: AbortSignal | undefined): Promise<Snapshot>;
  /** Every snapshot, the oldest first. */
  snapshots(signal?: AbortSignal | undefined): Promise<Snapshot[]>;
  snapshotDelete(name: string, signal?: AbortSignal | undefined): Promise<void>;
  /** Keeps a snapshot from being deleted, until `tag` is released. */
  snapshotHold(name: string, tag: string, signal?: AbortSignal | undefined): Promise<void>;
  snapshotRelease(name: string, tag: string, signal?: AbortSignal | undefined): Promise<void>;
  /** What changed from one snapshot to another, or to what is there now; in batches, as they are found. */
  snapshotDiff(
    from: string,
    to: string | undefined,
    signal?: AbortSignal | undefined,
  ): AsyncIterable<readonly SnapshotChange[]>;
  /** Makes the volume what it was. */
  snapshotRollback(name: string, signal?: AbortSignal | undefined): Promise<void>;
  /** Makes the new directory `path` a copy of the snapshot that can be written, and shares all data with it. */
  snapshotClone(name: string, path: string, signal?: AbortSignal | undefined): Promise<void>;
  /** Puts `path` and all below it back as it was, in place of what is there; or at `target`, where nothing is. */
  snapshotRestore(
    name: string,
    path: string,
    target: string | undefined,
    signal?: AbortSignal | undefined,
  ): Promise<void>;
  /** How far the one of these is that is under way. */
  snapshotWork(): Promise<SnapshotWork>;
}
