//! Limits of a chunk store.

/// What becomes of packs that the metadata doesn't know when a store is opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Leftovers {
    /// They stay: nobody knows whether the metadata is the newest.
    #[default]
    Keep,
    /// They go: the metadata is the newest that was ever durable, so a crash left them, and nothing committed is in them.
    Remove,
}

/// Every limit of a [`crate::ChunkStore`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// A pack that reaches this length is sealed and the next one begun. At most 1 GiB.
    pub pack_target_bytes: u64,
    /// Decompressed chunks kept in memory, in bytes.
    pub chunk_cache_bytes: u64,
    /// Indexes of sealed packs kept in memory, in bytes.
    pub pack_index_cache_bytes: u64,
    /// zstd level.
    pub compression_level: i32,
    /// Worker threads that compress, and decompress ahead of readers. At least 1.
    pub compress_threads: usize,
    /// Bound of the raw bytes that are queued or being compressed; `put` waits while it is reached.
    pub inflight_bytes: u64,
    /// Sealed packs kept open for reading, a bound of file descriptors.
    pub open_packs: usize,
    /// What becomes of packs behind the last one that the metadata knows.
    pub leftovers: Leftovers,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            pack_target_bytes: 64 << 20,
            chunk_cache_bytes: 40 << 20,
            pack_index_cache_bytes: 8 << 20,
            compression_level: 2,
            compress_threads: std::thread::available_parallelism().map_or(1, usize::from),
            inflight_bytes: 16 << 20,
            open_packs: 64,
            leftovers: Leftovers::Keep,
        }
    }
}
