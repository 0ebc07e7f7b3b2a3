//! What was found damaged: a bounded list, for status and for dedup, which must not hit a damaged chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use verfs_base::{ChunkId, Clock, PackId, Timestamp};

use crate::Damage;

/// Longest list.
const DAMAGE_MAX_ENTRIES: usize = 1024;
/// Damaged chunks that dedup passes over: more than are listed, since a file that is restored must not be found in them.
const DAMAGE_MAX_CHUNKS: usize = 64 << 10;

pub(crate) struct DamageLog {
    clock: Arc<dyn Clock>,
    met: AtomicU64,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    entries: Vec<Damage>,
    chunks: FxHashSet<ChunkId>,
}

impl DamageLog {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        DamageLog { clock, met: AtomicU64::new(0), list: Mutex::new(List::default()) }
    }

    /// Notes a damaged chunk, once.
    pub(crate) fn note(&self, chunk: ChunkId, pack: PackId, detail: &str) {
        let mut list = self.list.lock();
        if list.chunks.contains(&chunk) {
            return;
        }
        self.met.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%chunk, %pack, detail, "a chunk can't be read back as it was written");
        if list.chunks.len() < DAMAGE_MAX_CHUNKS {
            list.chunks.insert(chunk);
        }
        if list.entries.len() < DAMAGE_MAX_ENTRIES {
            list.entries.push(Damage { chunk, pack, detail: detail.to_owned(), time: self.clock.now() });
        }
    }

    /// Whether the chunk is in the list.
    pub(crate) fn contains(&self, chunk: ChunkId) -> bool {
        let list = self.list.lock();
        !list.chunks.is_empty() && list.chunks.contains(&chunk)
    }

    /// The chunk was stored anew, or could be read after all.
    pub(crate) fn forget(&self, chunk: ChunkId) {
        let mut list = self.list.lock();
        if list.chunks.remove(&chunk) {
            list.entries.retain(|damage| damage.chunk != chunk);
        }
    }

    pub(crate) fn list(&self) -> Vec<Damage> {
        self.list.lock().entries.clone()
    }

    /// The time that damage is stamped with.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }
}
