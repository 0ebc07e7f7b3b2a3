//! How much the cache of chunks may hold: what it was given, less what waits to be written.

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use verfs_base::ChunkId;

/// What a cached chunk takes beside its bytes.
const CACHED_OVERHEAD_BYTES: u64 = 96;

/// Weighs a chunk by its memory.
#[derive(Clone)]
pub(crate) struct ChunkBytes;

impl Weighter<ChunkId, Bytes> for ChunkBytes {
    fn weight(&self, _: &ChunkId, data: &Bytes) -> u64 {
        data.len() as u64 + CACHED_OVERHEAD_BYTES
    }
}

/// The bound of the cache, which both who sets it and who writes move.
#[derive(Debug)]
pub(crate) struct CacheRoom {
    shares: Mutex<Shares>,
}

#[derive(Clone, Copy, Debug)]
struct Shares {
    cache_bytes: u64,
    unwritten_bytes: u64,
}

impl Shares {
    /// Two fifths of it stay, whatever is written: as much is for what is read ahead, and for what was hit twice.
    fn room(self) -> u64 {
        self.cache_bytes.saturating_sub(self.unwritten_bytes).max(self.cache_bytes / 5 * 2)
    }
}

impl CacheRoom {
    pub(crate) fn new(cache_bytes: u64) -> CacheRoom {
        CacheRoom { shares: Mutex::new(Shares { cache_bytes, unwritten_bytes: 0 }) }
    }

    /// What the cache has where nothing waits to be written.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.shares.lock().cache_bytes
    }

    pub(crate) fn set_cache_bytes(&self, cache_bytes: u64, cache: &Cache<ChunkId, Bytes, ChunkBytes>) {
        self.change(|shares| Shares { cache_bytes, ..shares }, cache);
    }

    pub(crate) fn set_unwritten_bytes(&self, unwritten_bytes: u64, cache: &Cache<ChunkId, Bytes, ChunkBytes>) {
        self.change(|shares| Shares { unwritten_bytes, ..shares }, cache);
    }

    fn change(&self, change: impl FnOnce(Shares) -> Shares, cache: &Cache<ChunkId, Bytes, ChunkBytes>) {
        let mut shares = self.shares.lock();
        let before = shares.room();
        *shares = change(*shares);
        if shares.room() != before {
            cache.set_capacity(shares.room());
        }
    }
}
