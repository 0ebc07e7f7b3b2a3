//! Packs that have no index file yet: the open one and those that wait to be sealed. Their indexes are in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use verfs_base::{ChunkId, DiskFile, PackId};
use verfs_pack::{IndexEntry, PackReader};

/// A pack without an index file. Only blocks that were synced are in it.
pub(crate) struct LivePack {
    pub(crate) pack: PackId,
    pub(crate) reader: PackReader,
    synced: RwLock<Synced>,
    sealing: AtomicBool,
}

#[derive(Default)]
struct Synced {
    len: u64,
    places: FxHashMap<ChunkId, Place>,
}

#[derive(Clone, Copy)]
struct Place {
    offset: u32,
    stored_len: u32,
}

impl LivePack {
    pub(crate) fn new(pack: PackId, file: Arc<dyn DiskFile>) -> Self {
        LivePack {
            pack,
            reader: PackReader::of_file(pack, file),
            synced: RwLock::new(Synced::default()),
            sealing: AtomicBool::new(false),
        }
    }

    /// The pack's first `len` bytes are synced now, and with them these blocks.
    pub(crate) fn publish(&self, entries: impl Iterator<Item = IndexEntry>, len: u64) {
        let mut synced = self.synced.write();
        synced.len = len;
        synced
            .places
            .extend(entries.map(|entry| (entry.chunk, Place { offset: entry.offset, stored_len: entry.stored_len })));
    }

    pub(crate) fn find(&self, chunk: ChunkId) -> Option<IndexEntry> {
        let synced = self.synced.read();
        let place = synced.places.get(&chunk)?;
        Some(IndexEntry { chunk, offset: place.offset, stored_len: place.stored_len })
    }

    /// Length of what is synced, and the blocks in it.
    pub(crate) fn contents(&self) -> (u64, Vec<IndexEntry>) {
        let synced = self.synced.read();
        let entries = synced
            .places
            .iter()
            .map(|(chunk, place)| IndexEntry { chunk: *chunk, offset: place.offset, stored_len: place.stored_len })
            .collect();
        (synced.len, entries)
    }

    /// True for the one caller that is to seal the pack now.
    pub(crate) fn claim_sealing(&self) -> bool {
        !self.sealing.swap(true, Ordering::AcqRel)
    }

    /// Sealing failed: somebody may try again.
    pub(crate) fn release_sealing(&self) {
        self.sealing.store(false, Ordering::Release);
    }
}

/// All packs without an index file, by number.
#[derive(Default)]
pub(crate) struct LivePacks {
    packs: RwLock<BTreeMap<PackId, Arc<LivePack>>>,
}

impl LivePacks {
    pub(crate) fn insert(&self, pack: Arc<LivePack>) {
        self.packs.write().insert(pack.pack, pack);
    }

    pub(crate) fn get(&self, pack: PackId) -> Option<Arc<LivePack>> {
        self.packs.read().get(&pack).cloned()
    }

    pub(crate) fn remove(&self, pack: PackId) {
        self.packs.write().remove(&pack);
    }

    /// The newest pack that has the chunk, and where.
    pub(crate) fn find(&self, chunk: ChunkId) -> Option<(Arc<LivePack>, IndexEntry)> {
        let packs = self.packs.read();
        packs.values().rev().find_map(|pack| pack.find(chunk).map(|entry| (Arc::clone(pack), entry)))
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<LivePack>> {
        self.packs.read().values().cloned().collect()
    }
}
