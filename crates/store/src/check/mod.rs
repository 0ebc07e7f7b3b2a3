//! Whether the packs of a volume and the records about them agree, and what would mend them. Nothing is opened for that,
//! and nothing written.
//!
//! Lives here: pack files, indexes, records of packs and of the store, the list of garbage collection. Never here: what
//! refers to a chunk (`verfs-vfs` counts that), the bytes of chunks (scrub reads them), locks and the order of a repair.
//! Memory: 48 bytes for each pack, the index of one, and what is found.

mod findings;
mod unplaced;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use verfs_base::{ChunkId, Disk, PackId};
use verfs_format::chunk_record::{CHUNK, ChunkRecord, PACK, PackRecord, PackState, SYSTEM_STORE, StoreRecord};
use verfs_format::chunk_record::{chunk_key, pack_key};
use verfs_format::discard::{DiscardCheckpoint, REMOVED_PACK, SYSTEM_DISCARD_CHECKPOINT, parse_removed_pack};
use verfs_format::pack::{RecordSeed, record_bytes};
use verfs_meta::{Direction, KeyRange, MetaView};
use verfs_pack::{IndexEntry, IndexTable, PACKS_DIR, load_index, pack_path, scan_pack, store_index};

pub use self::findings::{Finding, Findings, Mend, Mending};
pub use self::unplaced::UnplacedPack;
use crate::gc::is_list_readable;
use crate::{Result, StoreError};

/// Lost chunks that are told to who names files.
const LOST_MAX: usize = 1 << 20;

/// What is checked.
pub struct StoreCheck<'a> {
    /// Where the packs are.
    pub disk: &'a dyn Disk,
    /// The records.
    pub view: &'a dyn MetaView,
    /// The key of record checksums.
    pub seed: RecordSeed,
}

/// Chunks that something refers to and whose bytes are gone, and the pack that should have each.
pub type LostChunks = FxHashMap<ChunkId, PackId>;

#[derive(Clone, Copy, Default)]
struct Alive {
    blocks: u64,
    bytes: u64,
}

/// Sums over the records of chunks.
#[derive(Default)]
struct Sums {
    alive: BTreeMap<PackId, Alive>,
    chunks: u64,
    unique_bytes: u64,
    stored_bytes: u64,
}

fn pack_of(key: &[u8]) -> Option<PackId> {
    Some(PackId(u64::from_be_bytes(key.strip_prefix(&[PACK])?.try_into().ok()?)))
}

/// The chunk of the key of a chunk's record.
#[must_use]
pub fn parse_chunk(key: &[u8]) -> Option<ChunkId> {
    Some(ChunkId(key.strip_prefix(&[CHUNK])?.try_into().ok()?))
}

fn block_bytes(entry: &IndexEntry) -> u64 {
    u64::from(record_bytes(entry.stored_len))
}

/// Makes the index of a pack of its records and stores it.
///
/// # Errors
/// What the disk says.
pub fn rebuild_index(disk: &dyn Disk, pack: PackId, seed: RecordSeed) -> Result<()> {
    let path = pack_path(pack);
    let about = |error: std::io::Error| StoreError::of_disk("read", &path, &error);
    let file = disk.open_read(&path).map_err(about)?;
    let scan = scan_pack(file.as_ref(), pack, seed).map_err(about)?;
    let entries: Vec<IndexEntry> = scan.blocks.iter().map(|block| block.entry).collect();
    Ok(store_index(disk, &IndexTable::build(pack, file.len().map_err(about)?, &entries))?)
}

impl StoreCheck<'_> {
    /// Looks at all of it. Returns the chunks that are lost.
    ///
    /// # Errors
    /// What the metadata engine says.
    pub fn run(&self, findings: &mut Findings) -> Result<LostChunks> {
        let store = match self.view.get(SYSTEM_STORE)?.map(|value| StoreRecord::decode(&value)) {
            None => None,
            Some(Ok(record)) => Some(record),
            Some(Err(_)) => {
                self.rebuild_store(findings)?;
                return Ok(LostChunks::default());
            }
        };
        let mut records = BTreeMap::new();
        let mut damaged = Vec::new();
        self.view.scan(&KeyRange::prefix(&[PACK]), Direction::Forward, &mut |key, value| {
            match (pack_of(key), PackRecord::decode(value)) {
                (Some(pack), Ok(record)) => drop(records.insert(pack, record)),
                (Some(pack), Err(_)) => damaged.push(pack),
                (None, _) => {}
            }
            ControlFlow::Continue(())
        })?;
        let sums = self.sums()?;
        let unsealed: BTreeSet<PackId> = store.iter().flat_map(|store| store.unsealed.iter().copied()).collect();
        let mut lost = LostChunks::default();
        for pack in sums.alive.keys().filter(|pack| !records.contains_key(pack)).chain(&damaged) {
            self.rebuild_pack(*pack, &sums, findings);
        }
        for (pack, record) in &records {
            let alive = sums.alive.get(pack).copied().unwrap_or_default();
            self.pack(*pack, record, alive, unsealed.contains(pack), findings, &mut lost)?;
        }
        self.find_elsewhere(&mut lost, findings)?;
        self.stray_packs(store.as_ref(), &records, &unsealed, findings)?;
        self.totals(store.as_ref(), &records, &sums, findings);
        self.discard(findings)?;
        Ok(lost)
    }

    fn sums(&self) -> Result<Sums> {
        let mut sums = Sums::default();
        self.view.scan(&KeyRange::prefix(&[CHUNK]), Direction::Forward, &mut |key, value| {
            // What is wrong with the record itself is for who counts its references.
            if let (Some(_), Ok(record)) = (parse_chunk(key), ChunkRecord::decode(value))
                && record.refcount > 0
            {
                let alive = sums.alive.entry(record.pack).or_default();
                alive.blocks += 1;
                alive.bytes += record.block_bytes();
                sums.chunks += 1;
                sums.unique_bytes += u64::from(record.raw_len);
                sums.stored_bytes += record.block_bytes();
            }
            ControlFlow::Continue(())
        })?;
        Ok(sums)
    }

    /// What the file of a pack has, by its index or else by a scan.
    fn entries(&self, pack: PackId) -> Option<Vec<IndexEntry>> {
        if let Ok(Some(table)) = load_index(self.disk, pack) {
            return Some(table.iter().collect());
        }
        let file = self.disk.open_read(&pack_path(pack)).ok()?;
        let scan = scan_pack(file.as_ref(), pack, self.seed).ok()?;
        Some(scan.blocks.iter().map(|block| block.entry).collect())
    }

    fn rebuild_pack(&self, pack: PackId, sums: &Sums, findings: &mut Findings) {
        let alive = sums.alive.get(&pack).copied().unwrap_or_default();
        let entries = self.entries(pack).unwrap_or_default();
        let (blocks, bytes) = (entries.len() as u64, entries.iter().map(block_bytes).sum::<u64>());
        let record = PackRecord {
            state: PackState::Sealed,
            blocks: blocks.max(alive.blocks),
            block_bytes: bytes.max(alive.bytes),
            dead_blocks: blocks.saturating_sub(alive.blocks),
            dead_bytes: bytes.saturating_sub(alive.bytes),
        };
        let detail = format!("there is no readable record of it, and {} chunks are in it", alive.blocks);
        findings.records("pack-record", format!("pack {pack}"), detail, |batch| {
            batch.put(pack_key(pack).to_vec(), record.encode());
        });
    }

    /// One pack with a record.
    fn pack(
        &self,
        pack: PackId,
        record: &PackRecord,
        alive: Alive,
        is_unsealed: bool,
        findings: &mut Findings,
        lost: &mut LostChunks,
    ) -> Result<()> {
        let place = || format!("pack {pack}");
        let expected = (record.dead_blocks + alive.blocks, record.dead_bytes + alive.bytes);
        if (record.blocks, record.block_bytes) != expected {
            let right = if record.blocks >= alive.blocks && record.block_bytes >= alive.bytes {
                PackRecord {
                    dead_blocks: record.blocks - alive.blocks,
                    dead_bytes: record.block_bytes - alive.bytes,
                    ..*record
                }
            } else {
                PackRecord { blocks: expected.0, block_bytes: expected.1, ..*record }
            };
            let detail =
                format!("its record says {record:?}, {} blocks of {} bytes are alive", alive.blocks, alive.bytes);
            findings.records("pack-counters", place(), detail, |batch| {
                batch.put(pack_key(pack).to_vec(), right.encode());
            });
        }
        if alive.blocks == 0 {
            return Ok(());
        }
        let file = match self.disk.open_read(&pack_path(pack)) {
            Ok(file) => file,
            Err(error) => {
                let detail = format!("its file can't be opened ({error}), and {} chunks were in it", alive.blocks);
                findings.left("pack-missing", place(), detail);
                return self.note_lost(pack, &FxHashSet::default(), lost);
            }
        };
        if is_unsealed {
            // It has no index yet, and what is behind its last record is cut off by the next open.
            return Ok(());
        }
        let table = match load_index(self.disk, pack) {
            Ok(Some(table)) => table,
            Ok(None) => {
                findings.mendable("index-missing", place(), "it has no index", Mend::Index(pack));
                return Ok(());
            }
            Err(error) => {
                findings.mendable("index-damaged", place(), error.to_string(), Mend::Index(pack));
                return Ok(());
            }
        };
        let len = file.len().map_err(|error| StoreError::of_disk("read", &pack_path(pack), &error))?;
        let whole = |entry: &IndexEntry| u64::from(entry.offset) + block_bytes(entry) <= len;
        if self.alive_in(pack, table.iter().filter(|entry| whole(entry)))?.len() as u64 >= alive.blocks {
            return Ok(());
        }
        let scan = scan_pack(file.as_ref(), pack, self.seed);
        let scan = scan.map_err(|error| StoreError::of_disk("read", &pack_path(pack), &error))?;
        let there = self.alive_in(pack, scan.blocks.iter().map(|block| block.entry))?;
        let indexed = self.alive_in(pack, table.iter())?;
        if there.iter().any(|chunk| !indexed.contains(chunk)) {
            let detail = "its index lacks records that are in it";
            findings.mendable("index-incomplete", place(), detail, Mend::Index(pack));
        }
        if (there.len() as u64) < alive.blocks {
            let missing = alive.blocks - there.len() as u64;
            findings.left("chunk-lost", place(), format!("{missing} chunks that are needed are not in it"));
            self.note_lost(pack, &there, lost)?;
        }
        Ok(())
    }

    /// Chunks of these entries that something needs, of this pack.
    fn alive_in(&self, pack: PackId, entries: impl Iterator<Item = IndexEntry>) -> Result<FxHashSet<ChunkId>> {
        let mut alive = FxHashSet::default();
        for entry in entries {
            let record = self.view.get(&chunk_key(entry.chunk))?.map(|value| ChunkRecord::decode(&value));
            if let Some(Ok(record)) = record
                && record.refcount > 0
                && record.pack == pack
            {
                alive.insert(entry.chunk);
            }
        }
        Ok(alive)
    }

    /// Notes the chunks that are needed of a pack, but for those that are there.
    fn note_lost(&self, pack: PackId, there: &FxHashSet<ChunkId>, lost: &mut LostChunks) -> Result<()> {
        self.view.scan(&KeyRange::prefix(&[CHUNK]), Direction::Forward, &mut |key, value| {
            if let (Some(chunk), Ok(record)) = (parse_chunk(key), ChunkRecord::decode(value))
                && record.pack == pack
                && record.refcount > 0
                && !there.contains(&chunk)
            {
                lost.insert(chunk, pack);
            }
            if lost.len() < LOST_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(())
    }

    /// Garbage collection may have moved to another pack what a copy of older metadata looks for in one that is gone.
    fn find_elsewhere(&self, lost: &mut LostChunks, findings: &mut Findings) -> Result<()> {
        if lost.is_empty() {
            return Ok(());
        }
        for (chunk, there) in self.find_chunks(&lost.keys().copied().collect())? {
            let Some(record) = self.view.get(&chunk_key(chunk))? else { continue };
            let Ok(record) = ChunkRecord::decode(&record) else { continue };
            if lost.get(&chunk).is_none_or(|pack| *pack == there.pack) {
                continue;
            }
            let right = ChunkRecord { refcount: record.refcount, ..there };
            let detail = format!("pack {} has it, and not pack {}", there.pack, record.pack);
            findings.records("chunk-moved", format!("chunk {chunk}"), detail, |batch| {
                batch.put(chunk_key(chunk).to_vec(), right.encode());
            });
            lost.remove(&chunk);
        }
        Ok(())
    }

    /// The packs that have files, as their names say.
    fn files(&self) -> Result<BTreeSet<PackId>> {
        let listed = |path: &Path| self.disk.list(path).map_err(|error| StoreError::of_disk("list", path, &error));
        let mut packs = BTreeSet::new();
        for dir in listed(Path::new(PACKS_DIR))? {
            for name in listed(&Path::new(PACKS_DIR).join(dir))? {
                let stem = name.file_stem().and_then(|stem| stem.to_str());
                let number = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
                packs.extend(number.filter(|_| name.extension().is_some_and(|kind| kind == "vpk")).map(PackId));
            }
        }
        Ok(packs)
    }

    /// Files of packs that no record names. Those that a crash may leave are no findings: the next open sees to them.
    fn stray_packs(
        &self,
        store: Option<&StoreRecord>,
        records: &BTreeMap<PackId, PackRecord>,
        unsealed: &BTreeSet<PackId>,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut going = BTreeSet::new();
        self.view.scan(&KeyRange::prefix(&[REMOVED_PACK]), Direction::Forward, &mut |key, _| {
            going.extend(parse_removed_pack(key));
            ControlFlow::Continue(())
        })?;
        let next = store.map_or(0, |store| store.next_pack);
        for pack in self.files()? {
            let is_known = records.contains_key(&pack) || unsealed.contains(&pack) || going.contains(&pack);
            if is_known || pack.0 >= next {
                continue;
            }
            let entries = self.entries(pack).unwrap_or_default();
            let (blocks, bytes) = (entries.len() as u64, entries.iter().map(block_bytes).sum());
            let state = PackState::Sealed;
            let record = PackRecord { state, blocks, block_bytes: bytes, dead_blocks: blocks, dead_bytes: bytes };
            let detail = "nothing names it; it gets a record, and garbage collection its room";
            findings.records("pack-unreferenced", format!("pack {pack}"), detail, |batch| {
                batch.put(pack_key(pack).to_vec(), record.encode());
            });
        }
        Ok(())
    }

    fn totals(
        &self,
        store: Option<&StoreRecord>,
        records: &BTreeMap<PackId, PackRecord>,
        sums: &Sums,
        findings: &mut Findings,
    ) {
        let Some(store) = store else { return };
        let expected = StoreRecord {
            packs: records.len() as u64,
            chunks: sums.chunks,
            unique_bytes: sums.unique_bytes,
            stored_bytes: sums.stored_bytes,
            dead_bytes: records.values().map(|record| record.dead_bytes).sum(),
            next_pack: store.next_pack.max(records.keys().next_back().map_or(0, |pack| pack.0 + 1)),
            ..store.clone()
        };
        if *store != expected {
            let detail = format!("it says {store:?} instead of {expected:?}");
            findings.records("store-counters", "store record", detail, |batch| {
                batch.put(SYSTEM_STORE, expected.encode());
            });
        }
    }

    /// The record of the store can't be read: a new one leads to the same packs, and the next round makes its sums.
    fn rebuild_store(&self, findings: &mut Findings) -> Result<()> {
        let files = self.files()?;
        let mut highest = files.last().map_or(0, |pack| pack.0);
        self.view.scan(&KeyRange::prefix(&[PACK]), Direction::Backward, &mut |key, _| {
            highest = highest.max(pack_of(key).map_or(0, |pack| pack.0));
            ControlFlow::Break(())
        })?;
        let unsealed = files.into_iter().filter(|pack| !matches!(load_index(self.disk, *pack), Ok(Some(_))));
        let record = StoreRecord { next_pack: highest + 1, unsealed: unsealed.collect(), ..StoreRecord::default() };
        findings.records("store-record", "store record", "it can't be decoded", |batch| {
            batch.put(SYSTEM_STORE, record.encode());
        });
        Ok(())
    }

    /// The list of garbage collection is a hint: without it, it is made again.
    fn discard(&self, findings: &mut Findings) -> Result<()> {
        let value = self.view.get(SYSTEM_DISCARD_CHECKPOINT)?;
        let reason = match value.map(|value| DiscardCheckpoint::decode(&value)) {
            None => return Ok(()),
            Some(Ok(checkpoint)) if !checkpoint.is_open() || is_list_readable(self.disk, checkpoint) => return Ok(()),
            Some(Ok(_)) => "the list can't be read; it is made again".to_owned(),
            Some(Err(error)) => format!("its checkpoint can't be decoded ({error}); the list is made again"),
        };
        findings.records("discard-list", "gc/.DISCARD", reason, |batch| batch.delete(SYSTEM_DISCARD_CHECKPOINT));
        Ok(())
    }

    /// Looks for chunks in all packs: their records are lost. What is found comes with a record without references.
    ///
    /// # Errors
    /// What the disk says.
    pub fn find_chunks(&self, wanted: &FxHashSet<ChunkId>) -> Result<FxHashMap<ChunkId, ChunkRecord>> {
        let mut found = FxHashMap::default();
        for pack in self.files()? {
            let Some(entries) = self.entries(pack) else { continue };
            let Ok(file) = self.disk.open_read(&pack_path(pack)) else { continue };
            for entry in entries.into_iter().filter(|entry| wanted.contains(&entry.chunk)) {
                if let Some(record) = self.verified(&*file, pack, &entry) {
                    found.insert(entry.chunk, record);
                }
            }
        }
        Ok(found)
    }
}

/// The key of a chunk's record, for a batch.
#[must_use]
pub fn chunk_record_key(chunk: ChunkId) -> Bytes {
    Bytes::copy_from_slice(&chunk_key(chunk))
}
