import type { Stats } from '@verfs/native';

/** One number of a volume, as Prometheus has it. Names are stable; units are at their ends. */
export interface MetricDefinition {
  readonly name: `verfs_${string}`;
  /** A counter only grows while the volume is mounted. */
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  value(stats: Stats): number;
}

const gauge = (name: MetricDefinition['name'], help: string, value: MetricDefinition['value']): MetricDefinition => ({
  name,
  type: 'gauge',
  help,
  value,
});

const counter = (name: `verfs_${string}_total`, help: string, value: MetricDefinition['value']): MetricDefinition => ({
  name,
  type: 'counter',
  help,
  value,
});

/** Every number without a label: the only table of its kind. */
export const metrics: readonly MetricDefinition[] = [
  gauge('verfs_logical_bytes', 'Sizes of all files.', (stats) => stats.logicalBytes),
  gauge('verfs_unique_bytes', 'All distinct chunks, before compression.', (stats) => stats.uniqueBytes),
  gauge('verfs_stored_bytes', 'All distinct chunks, as they are stored.', (stats) => stats.storedBytes),
  gauge('verfs_dead_bytes', 'Bytes in packs that nothing needs any more.', (stats) => stats.deadBytes),
  gauge('verfs_metadata_bytes', 'Size of the metadata engine on disk.', (stats) => stats.metaBytes),
  gauge('verfs_packs', 'Packs on disk.', (stats) => stats.packs),
  gauge('verfs_files', 'Everything with an inode that is no directory.', (stats) => stats.files),
  gauge('verfs_directories', 'Directories.', (stats) => stats.directories),
  gauge('verfs_free_bytes', 'Bytes that may still be written.', (stats) => stats.freeBytes),
  gauge('verfs_disk_bytes', 'Size of the disk that holds the volume.', (stats) => stats.totalBytes),
  gauge('verfs_dirty_bytes', 'File data that waits to be written.', (stats) => stats.dirtyBytes),
  gauge('verfs_queued_requests', 'Requests that wait for a thread.', (stats) => stats.queueDepth),
  gauge('verfs_damaged_files', 'Files with damaged data that were noticed.', (stats) => stats.damaged.length),
  gauge('verfs_resident_memory_bytes', 'Resident memory of the daemon.', (stats) => stats.memoryRssBytes),
  counter('verfs_read_bytes_total', 'Bytes of files that the kernel was given.', (stats) => stats.readBytes),
  counter('verfs_written_bytes_total', 'Bytes of files that the kernel gave.', (stats) => stats.writtenBytes),
  counter('verfs_dedup_hits_total', 'Chunks that were there already when written.', (stats) => stats.dedupHits),
  counter('verfs_dedup_misses_total', 'Chunks that were new when written.', (stats) => stats.dedupMisses),
  counter('verfs_chunk_cache_hits_total', 'Reads of chunks that the cache answered.', (stats) => stats.chunkCacheHits),
  counter('verfs_chunk_cache_misses_total', 'Reads of chunks from a pack.', (stats) => stats.chunkCacheMisses),
  counter('verfs_groups_committed_total', 'Transaction groups committed.', (stats) => stats.groupsCommitted),
  counter('verfs_intent_log_frames_total', 'Frames written to the intent log.', (stats) => stats.logFrames),
  counter(
    'verfs_gc_reclaimed_bytes_total',
    'Bytes that garbage collection gave back.',
    (stats) => stats.gcReclaimedBytes,
  ),
];

/** The latencies of operations, with the labels `op` and `quantile`. */
export const operationMetric = {
  name: 'verfs_operation_duration_seconds',
  help: 'From the arrival of a request of the kernel to its reply.',
} as const;

/** What is served, in labels; its value is always 1. */
export const infoMetric = { name: 'verfs_info', help: 'The daemon and its volume.' } as const;
