//! What the store counts, and what it found damaged.

use verfs_base::{ChunkId, PackId, Timestamp};

/// Figures of a store at one moment. Reading them scans nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StoreStats {
    /// Chunks with at least one reference, as of the last committed batch.
    pub chunks: u64,
    /// Raw bytes of those chunks.
    pub unique_bytes: u64,
    /// Bytes that those chunks take in packs: compressed, with their record headers.
    pub stored_bytes: u64,
    /// Bytes in packs that no reference needs any more.
    pub dead_bytes: u64,
    /// Packs, the open one included.
    pub packs: u64,
    /// Chunks put that were already there, since the volume was created.
    pub dedup_hits: u64,
    /// Chunks put that had to be stored, since the volume was created.
    pub dedup_misses: u64,
    /// Reads answered from the chunk cache, since the store was opened.
    pub chunk_cache_hits: u64,
    /// Reads that went to a pack, since the store was opened.
    pub chunk_cache_misses: u64,
    /// Bytes in the chunk cache.
    pub chunk_cache_bytes: u64,
    /// Raw bytes that wait for the pipeline or are in it.
    pub inflight_bytes: u64,
    /// Chunks that wait for the pipeline or are in it.
    pub queue_depth: u64,
    /// Damaged chunks met since the store was opened, those that the bounded list no longer names included.
    pub damaged: u64,
}

/// A chunk that could not be read back as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The chunk.
    pub chunk: ChunkId,
    /// The pack that should hold it.
    pub pack: PackId,
    /// What was found instead.
    pub detail: String,
    /// When it was met first.
    pub time: Timestamp,
}
