//! Packs and chunks that older metadata doesn't know: they were stored after it, or nobody knows for what.

use rustc_hash::FxHashSet;
use verfs_base::{ChunkId, DiskFile, PackId};
use verfs_format::chunk_record::{ChunkRecord, SYSTEM_STORE, StoreRecord, chunk_key};
use verfs_format::pack::{RecordHeader, record_bytes};
use verfs_pack::{IndexEntry, pack_path};

use super::{Findings, StoreCheck};
use crate::Result;

/// Chunks of a pack that nothing refers to.
#[derive(Clone, Debug)]
pub struct UnplacedPack {
    /// The pack.
    pub pack: PackId,
    /// In the order in which they lie in it, each whole and verified; none of them has a reference.
    pub chunks: Vec<(ChunkId, ChunkRecord)>,
}

impl StoreCheck<'_> {
    /// Has the store's record count the packs that were made behind it, or makes one: they are no leftovers, and the next
    /// open must not take them for any.
    ///
    /// # Errors
    /// What the disk or the metadata engine says.
    pub fn adopt_newer(&self, findings: &mut Findings) -> Result<()> {
        let stored = self.view.get(SYSTEM_STORE)?.map(|value| StoreRecord::decode(&value));
        let record = match stored {
            None => StoreRecord::default(),
            Some(Ok(record)) => record,
            // The check of the records makes another one, of all files.
            Some(Err(_)) => return Ok(()),
        };
        let files = self.files()?;
        let newer: Vec<PackId> = files.into_iter().filter(|pack| pack.0 >= record.next_pack.max(1)).collect();
        let Some(last) = newer.last() else { return Ok(()) };
        // They are not of the last run: where nothing in them can be read, an open must not cut it off as a torn end.
        let adopted = StoreRecord { next_pack: last.0 + 1, ..record };
        let detail = format!("{} packs were made behind the last one that the metadata knows", newer.len());
        findings.records("pack-newer", "packs", detail, |batch| batch.put(SYSTEM_STORE, adopted.encode()));
        Ok(())
    }

    /// Chunks that nothing refers to, of all packs; `chunks_max` of them at most, or a pack more. A chunk that is in two
    /// packs is named once. What can't be read is left out.
    ///
    /// # Errors
    /// What the disk or the metadata engine says.
    pub fn unplaced(&self, chunks_max: usize) -> Result<Vec<UnplacedPack>> {
        let mut found = Vec::new();
        let mut seen = FxHashSet::default();
        for pack in self.files()? {
            if seen.len() >= chunks_max {
                break;
            }
            let mut entries = self.entries(pack).unwrap_or_default();
            entries.sort_unstable_by_key(|entry| entry.offset);
            let mut chunks = Vec::new();
            let Ok(file) = self.disk.open_read(&pack_path(pack)) else { continue };
            for entry in entries {
                let record = self.view.get(&chunk_key(entry.chunk))?.map(|value| ChunkRecord::decode(&value));
                // One whose record can't be read may have references: whoever counts them sees to it.
                let is_needed = record.is_some_and(|record| record.map_or(true, |record| record.refcount > 0));
                if is_needed || seen.contains(&entry.chunk) {
                    continue;
                }
                if let Some(record) = self.verified(&*file, pack, &entry) {
                    seen.insert(entry.chunk);
                    chunks.push((entry.chunk, record));
                }
            }
            if !chunks.is_empty() {
                found.push(UnplacedPack { pack, chunks });
            }
        }
        Ok(found)
    }

    /// Packs with chunks of which the metadata has no record.
    ///
    /// # Errors
    /// What the disk or the metadata engine says.
    pub fn unknown_packs(&self) -> Result<Vec<PackId>> {
        let mut unknown = Vec::new();
        for pack in self.files()? {
            for entry in self.entries(pack).unwrap_or_default() {
                if self.view.get(&chunk_key(entry.chunk))?.is_none() {
                    unknown.push(pack);
                    break;
                }
            }
        }
        Ok(unknown)
    }

    /// A record of the chunk in the pack's `file`, without references, if its block is what its checksum says.
    pub(super) fn verified(&self, file: &dyn DiskFile, pack: PackId, entry: &IndexEntry) -> Option<ChunkRecord> {
        let mut record = vec![0; record_bytes(entry.stored_len) as usize];
        file.read_exact_at(&mut record, u64::from(entry.offset)).ok()?;
        let (header, _) = RecordHeader::decode(self.seed, &record).ok()?;
        let (raw_len, stored_len) = (header.raw_len, header.stored_len);
        (header.chunk == entry.chunk).then_some(ChunkRecord { refcount: 0, pack, raw_len, stored_len })
    }
}
