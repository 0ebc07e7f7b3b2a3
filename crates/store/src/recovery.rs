//! Opening: what the last run left is brought in order before anything is read or written.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{ChunkId, Disk, DiskFile, PackId};
use verfs_format::chunk_record::{PackRecord, PackState, SYSTEM_STORE, StoreRecord, pack_key};
use verfs_meta::{MetaError, MetaStore, WriteBatch};
use verfs_pack::{
    IndexEntry, PACKS_DIR, PackScan, index_path, load_index, pack_path, remove_pack, scan_pack, seal_pack,
};

use crate::core::Core;
use crate::gc::Collector;
use crate::ledger::PackDelta;
use crate::live::LivePack;
use crate::{Leftovers, Result, StoreError};

/// First number of a pack.
const FIRST_PACK: u64 = 1;
/// Numbers in a row without a file that end the search for leftovers.
const LEFTOVER_GAP: u64 = 16;

/// The store's record; that of a new volume if there is none.
pub(crate) fn load_record(disk: &dyn Disk, meta: &dyn MetaStore, leftovers: Leftovers) -> Result<StoreRecord> {
    match meta.get(SYSTEM_STORE)? {
        Some(value) => {
            let record = StoreRecord::decode(&value)
                .map_err(|error| StoreError::from(MetaError::Corrupt(format!("the store's record: {error}"))))?;
            match leftovers {
                Leftovers::Remove => remove_leftovers(disk, record.next_pack),
                Leftovers::Keep => return keep_leftovers(disk, meta, record),
            }
            Ok(record)
        }
        None => Ok(StoreRecord { next_pack: first_free_pack(disk)?, ..StoreRecord::default() }),
    }
}

/// Removes packs that the last run created for batches that were never committed.
fn remove_leftovers(disk: &dyn Disk, next_pack: u64) {
    let mut number = next_pack;
    let mut end = next_pack.saturating_add(LEFTOVER_GAP);
    while number < end {
        let pack = PackId(number);
        number += 1;
        if disk.open_read(&pack_path(pack)).is_err() && disk.open_read(&index_path(pack)).is_err() {
            continue;
        }
        end = number.saturating_add(LEFTOVER_GAP);
        match remove_pack(disk, pack) {
            Ok(()) => tracing::info!(%pack, "removed a pack that holds nothing committed"),
            Err(error) => tracing::warn!(%pack, %error, "can't remove a pack that holds nothing committed"),
        }
    }
}

/// Counts packs that the metadata doesn't know as made: what is committed next makes it the newest, and with that no later
/// open must take them for leftovers.
fn keep_leftovers(disk: &dyn Disk, meta: &dyn MetaStore, record: StoreRecord) -> Result<StoreRecord> {
    let next_pack = next_free_pack(disk)?;
    if next_pack <= record.next_pack {
        return Ok(record);
    }
    tracing::warn!(
        from = record.next_pack,
        to = next_pack,
        "there are packs that the metadata doesn't know; they stay"
    );
    let kept = StoreRecord { next_pack, ..record };
    let mut batch = WriteBatch::new();
    batch.put(SYSTEM_STORE, kept.encode());
    meta.commit(batch)?;
    Ok(kept)
}

/// A volume without a record should have no packs. If it has, its metadata was lost: nothing is overwritten.
fn first_free_pack(disk: &dyn Disk) -> Result<u64> {
    let next = next_free_pack(disk)?;
    if next > FIRST_PACK {
        tracing::error!(packs = next - FIRST_PACK, "there are packs, but the metadata knows none; they are left alone");
    }
    Ok(next)
}

/// The first number behind all packs that have a file.
fn next_free_pack(disk: &dyn Disk) -> Result<u64> {
    let listed = |path: &Path| disk.list(path).map_err(|error| StoreError::of_disk("list", path, &error));
    let mut next = FIRST_PACK;
    let root = Path::new(PACKS_DIR);
    for dir in listed(root)? {
        for name in listed(&root.join(dir))? {
            let number = name.file_stem().and_then(|stem| stem.to_str()).map(|stem| u64::from_str_radix(stem, 16));
            if let Some(Ok(number)) = number {
                next = next.max(number.saturating_add(1));
            }
        }
    }
    Ok(next)
}

impl Core {
    /// Seals the packs that the last run left without an index. Never fails for a pack: what can't be sealed now
    /// stays readable from memory.
    pub(crate) fn recover(&self) -> Result<Collector> {
        let unsealed = self.accounts.lock().record().unsealed.clone();
        for pack in unsealed {
            let known = self.known_pack(pack)?.unwrap_or_else(PackRecord::empty);
            if let Some(now) = self.recover_pack(pack, &known)?.filter(|now| *now != known) {
                self.accounts.lock().change_pack(pack, &PackDelta::between(&known, &now));
            }
        }
        if let Err(error) = self.write_pending() {
            tracing::warn!(%error, "can't record yet what became of the last run's packs");
        }
        self.finish_removals()
    }

    /// Removes the files of packs whose records are gone since the last run.
    fn finish_removals(&self) -> Result<Collector> {
        let mut collector = Collector::of_doomed(self.doomed_packs()?);
        if collector.has_doomed() {
            // What the last run committed may still be lost with the power.
            let removed = match self.meta.sync() {
                Ok(()) => {
                    self.remove_doomed(&mut collector);
                    collector.forget_swept(self)
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = removed {
                tracing::warn!(%error, "can't remove collected packs yet");
            }
        }
        Ok(collector)
    }

    /// The pack's committed record.
    pub(crate) fn known_pack(&self, pack: PackId) -> Result<Option<PackRecord>> {
        let decode = |value: Bytes| {
            PackRecord::decode(&value)
                .map_err(|error| MetaError::Corrupt(format!("record of pack {pack}: {error}")).into())
        };
        self.meta.get(&pack_key(pack))?.map(decode).transpose()
    }

    /// The pack's record once it is sealed; `None` while it can't be.
    fn recover_pack(&self, pack: PackId, known: &PackRecord) -> Result<Option<PackRecord>> {
        let file = match self.disk.open(&pack_path(pack)) {
            Ok(file) => file,
            Err(error) => {
                if known.blocks > 0 {
                    tracing::error!(%pack, blocks = known.blocks, %error, "can't open a pack with committed blocks");
                }
                return Ok((error.kind() == std::io::ErrorKind::NotFound).then_some(*known));
            }
        };
        if let Ok(Some(table)) = load_index(self.disk.as_ref(), pack)
            && file.len().is_ok_and(|len| len == table.pack_len())
        {
            self.sealed.insert_index(Arc::new(table));
            return Ok(Some(PackRecord { state: PackState::Sealed, ..*known }));
        }
        let scan = match scan_pack(file.as_ref(), pack, self.decoder.seed()) {
            Ok(scan) => scan,
            Err(error) => {
                tracing::error!(%pack, %error, "can't tell how long a pack is; it stays as it is");
                PackScan { unreadable_bytes: known.block_bytes.max(1), ..PackScan::default() }
            }
        };
        self.report(pack, known, &scan);
        let entries: Vec<IndexEntry> = scan.blocks.iter().map(|block| block.entry).collect();
        let sealed = self.seal_scanned(pack, file.as_ref(), known, &scan, &entries);
        if !sealed {
            let live = LivePack::new(pack, file);
            live.publish(entries.iter().copied(), scan.end);
            // Nobody else seals it in this run: what could not be read now must not be cut off later.
            live.claim_sealing();
            self.live.insert(Arc::new(live));
            return Ok(None);
        }
        self.weigh(pack, &entries).map(Some)
    }

    /// Cuts the torn tail and writes the index; false when that is not possible or not safe now.
    fn seal_scanned(
        &self,
        pack: PackId,
        file: &dyn DiskFile,
        known: &PackRecord,
        scan: &PackScan,
        entries: &[IndexEntry],
    ) -> bool {
        if scan.unreadable_bytes > 0 {
            return false;
        }
        // Where committed blocks are missing, nothing is cut: the bytes may be all that is left of them.
        let complete = scan.blocks.len() as u64 >= known.blocks;
        let len = if complete { Ok(scan.end) } else { file.len() };
        match len.map(|len| seal_pack(self.disk.as_ref(), pack, file, len, entries)) {
            Ok(Ok(table)) => {
                self.sealed.insert_index(Arc::new(table));
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%pack, %error, "can't seal a pack of the last run yet");
                false
            }
            Err(error) => {
                tracing::warn!(%pack, %error, "can't seal a pack of the last run yet");
                false
            }
        }
    }

    fn report(&self, pack: PackId, known: &PackRecord, scan: &PackScan) {
        let blocks = scan.blocks.len() as u64;
        tracing::info!(%pack, blocks, end = scan.end, skipped_bytes = scan.skipped_bytes, "scanned an unsealed pack");
        if let Some(damage) = &scan.header_damage {
            tracing::error!(%pack, damage, "the pack's header is damaged; its blocks are used");
        }
        if blocks < known.blocks || scan.unreadable_bytes > 0 {
            tracing::error!(
                %pack,
                committed_blocks = known.blocks,
                found_blocks = blocks,
                unreadable_bytes = scan.unreadable_bytes,
                "committed blocks of the pack are damaged"
            );
        }
    }

    /// The record of a pack with these blocks: alive is what a chunk record with references names.
    fn weigh(&self, pack: PackId, entries: &[IndexEntry]) -> Result<PackRecord> {
        let ids: Vec<ChunkId> = entries.iter().map(|entry| entry.chunk).collect();
        let records = self.chunk_records(&ids)?;
        let mut weighed = PackRecord { state: PackState::Sealed, ..PackRecord::empty() };
        let mut alive = BTreeSet::new();
        for (entry, record) in entries.iter().zip(records) {
            let bytes = u64::from(verfs_format::pack::record_bytes(entry.stored_len));
            weighed.blocks += 1;
            weighed.block_bytes += bytes;
            let referenced = record.is_some_and(|record| record.pack == pack && record.refcount > 0);
            if !referenced || !alive.insert(entry.chunk) {
                weighed.dead_blocks += 1;
                weighed.dead_bytes += bytes;
            }
        }
        Ok(weighed)
    }
}
