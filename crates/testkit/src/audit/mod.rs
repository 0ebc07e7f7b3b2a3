//! Whether a volume's metadata contradicts itself. Every committed state must pass, be it the last one or one that a
//! crash went back to: a batch is applied whole.
//!
//! Lives here: reading of all records, and what holds for the volume as a whole. `tree` has what holds for one tree,
//! `lives` what holds for the versions that snapshots keep.

mod lives;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{ChunkId, Disk, Epoch, PackId};
use verfs_format::chunk_record::{CHUNK, ChunkRecord, PACK, PackRecord, SYSTEM_STORE, StoreRecord};
use verfs_format::{LOST_CHUNK, RunData, TreeCounters, keys, varint};
use verfs_meta::{Direction, KeyRange, MetaStore, MetaView};
use verfs_store::ChunkStore;

use self::lives::Lives;
use self::tree::Tree;

/// All records of a volume's metadata.
#[derive(Debug)]
pub struct Audit {
    live: Tree,
    lives: Lives,
    chunks: BTreeMap<ChunkId, ChunkRecord>,
    packs: BTreeMap<PackId, PackRecord>,
    store: StoreRecord,
    counters: TreeCounters,
    next_number: u64,
    epoch: Epoch,
}

/// Takes one pair of a keyspace; `None` for one that can't be decoded.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Option<()> + 'a;

fn scan(view: &dyn MetaView, prefix: u8, visit: &mut Visit<'_>) -> Result<(), String> {
    let mut broken = None;
    let mut each = |key: &[u8], value: &[u8]| match visit(key, value) {
        Some(()) => ControlFlow::Continue(()),
        None => {
            broken = Some(key.escape_ascii().to_string());
            ControlFlow::Break(())
        }
    };
    let scanned = view.scan(&KeyRange::prefix(&[prefix]), Direction::Forward, &mut each);
    scanned.map_err(|error| format!("audit: {error}"))?;
    match broken {
        Some(key) => Err(format!("audit: the record at {key} can't be decoded")),
        None => Ok(()),
    }
}

/// Keyspaces of the records of a tree.
const TREE: [u8; 6] = [keys::INODE, keys::DIRENT, keys::SEGMENT, keys::SYMLINK, keys::XATTRS, keys::ORPHAN];

impl Audit {
    /// Reads all records. `None` for a volume that was never opened.
    ///
    /// # Errors
    /// A record can't be decoded, or the engine failed.
    pub fn read(meta: &dyn MetaStore) -> Result<Option<Audit>, String> {
        let view = meta.view().map_err(|error| format!("audit: {error}"))?;
        let view = &*view;
        let get =
            |key: &[u8]| -> Result<Option<Bytes>, String> { view.get(key).map_err(|error| format!("audit: {error}")) };
        let number = |value: &Bytes| varint::Reader::new(value).u64().map_err(|error| format!("audit: {error}"));
        let (Some(counters), Some(next)) = (get(keys::SYSTEM_COUNTERS)?, get(keys::SYSTEM_NEXT_NUMBER)?) else {
            return Ok(None);
        };
        let mut audit = Audit {
            live: Tree::default(),
            lives: Lives::default(),
            chunks: BTreeMap::new(),
            packs: BTreeMap::new(),
            store: StoreRecord::default(),
            counters: TreeCounters::decode(&counters).map_err(|error| format!("audit: counters: {error}"))?,
            next_number: number(&next)?,
            epoch: get(keys::SYSTEM_EPOCH)?.map_or(Ok(Epoch::FIRST), |epoch| number(&epoch).map(Epoch))?,
        };
        for prefix in TREE {
            scan(view, prefix, &mut |key, value| {
                let record = audit.lives.take_live(key, value)?;
                audit.live.take(key, &record)
            })?;
        }
        for prefix in Lives::KEYSPACES {
            scan(view, prefix, &mut |key, value| audit.lives.take(key, value))?;
        }
        scan(view, CHUNK, &mut |key, value| {
            let id = ChunkId(key.get(1..)?.try_into().ok()?);
            audit.chunks.insert(id, ChunkRecord::decode(value).ok()?);
            Some(())
        })?;
        scan(view, PACK, &mut |key, value| {
            let pack = PackId(u64::from_be_bytes(key.get(1..)?.try_into().ok()?));
            audit.packs.insert(pack, PackRecord::decode(value).ok()?);
            Some(())
        })?;
        if let Some(value) = get(SYSTEM_STORE)? {
            audit.store = StoreRecord::decode(&value).map_err(|error| format!("audit: store record: {error}"))?;
        }
        Ok(Some(audit))
    }

    /// Looks for contradictions.
    ///
    /// # Errors
    /// The first few, in words.
    pub fn check(&self) -> Result<(), String> {
        let mut found = Vec::new();
        self.live.check(&mut found);
        let (highest, next) = (self.live.highest_number(), self.next_number);
        if highest >= next {
            found.push(format!("number {highest} is in use, {next} is next"));
        }
        let expected = self.live.counters();
        if self.counters != expected {
            found.push(format!("counters say {:?} instead of {expected:?}", self.counters));
        }
        self.check_references(&mut found);
        self.check_packs(&mut found);
        self.lives.check(self.epoch, &self.live, &mut found);
        found.truncate(8);
        if found.is_empty() { Ok(()) } else { Err(format!("audit of the metadata: {}", found.join("; "))) }
    }

    /// Checks that every pack that a chunk's record leads to is there.
    ///
    /// # Errors
    /// The first that isn't.
    pub fn check_pack_files(&self, disk: &dyn Disk) -> Result<(), String> {
        let named: BTreeSet<PackId> = self.chunks.values().map(|record| record.pack).collect();
        for pack in named {
            disk.open_read(&verfs_pack::pack_path(pack))
                .map_err(|error| format!("audit: chunks are in pack {pack}, which can't be opened: {error}"))?;
        }
        Ok(())
    }

    /// Checks that every chunk with a record can be read and is what its name says. One without references may get some
    /// at any time.
    ///
    /// # Errors
    /// The first chunk that isn't.
    pub fn check_chunks(&self, store: &ChunkStore) -> Result<(), String> {
        for (id, record) in &self.chunks {
            match store.read(*id) {
                Ok(bytes) if store.id_of(&bytes) == *id && bytes.len() == record.raw_len as usize => {}
                Ok(bytes) => return Err(format!("chunk {id} is {} bytes of something else", bytes.len())),
                Err(error) => return Err(format!("reading chunk {id}: {error}")),
            }
        }
        Ok(())
    }

    /// Chunks that something refers to.
    #[must_use]
    pub fn referenced_chunks(&self) -> usize {
        self.chunks.values().filter(|record| record.refcount > 0).count()
    }

    /// Snapshots that are being deleted.
    #[must_use]
    pub fn deleting(&self) -> usize {
        self.lives.deleting()
    }

    /// Contents that wait for release, and snapshots that are being deleted.
    #[must_use]
    pub fn unreleased(&self) -> usize {
        self.live.orphans.len() + self.lives.deleting()
    }

    /// Bytes that each standing snapshot alone uses.
    #[must_use]
    pub fn used(&self) -> BTreeMap<Epoch, u64> {
        self.lives.used()
    }

    /// A run of the live tree is one reference, and so is one that left it and that a snapshot keeps.
    fn check_references(&self, found: &mut Vec<String>) {
        let mut references = self.lives.dead_references();
        for ((content, index), segment) in &self.live.segments {
            for run in &segment.runs {
                let RunData::Chunk { id, offset, birth } = &run.data else { continue };
                if *birth > self.epoch {
                    found.push(format!("segment {index} of content {} has a run of a time to come", content.0));
                }
                if *id == LOST_CHUNK {
                    continue;
                }
                *references.entry(*id).or_insert(0) += 1;
                let fits = self.chunks.get(id).is_some_and(|chunk| offset + run.len <= chunk.raw_len);
                if !fits {
                    found.push(format!(
                        "segment {index} of content {} refers to bytes that chunk {id} hasn't got",
                        content.0
                    ));
                }
            }
        }
        for (id, chunk) in &self.chunks {
            let expected = references.remove(id).unwrap_or(0);
            if chunk.refcount != expected {
                found.push(format!("chunk {id} counts {} references and has {expected}", chunk.refcount));
            }
        }
        for (id, count) in references.iter().filter(|(_, count)| **count > 0) {
            found.push(format!("chunk {id} has {count} references and no record"));
        }
    }

    /// What packs and the store count is what the chunk records say.
    fn check_packs(&self, found: &mut Vec<String>) {
        let mut alive: BTreeMap<PackId, (u64, u64)> = BTreeMap::new();
        let (mut unique_bytes, mut stored_bytes, mut chunks) = (0, 0, 0);
        for (id, chunk) in &self.chunks {
            if !self.packs.contains_key(&chunk.pack) {
                found.push(format!("chunk {id} is in pack {}, which has no record", chunk.pack));
            }
            if chunk.refcount > 0 {
                let counts = alive.entry(chunk.pack).or_default();
                counts.0 += 1;
                counts.1 += chunk.block_bytes();
                chunks += 1;
                unique_bytes += u64::from(chunk.raw_len);
                stored_bytes += chunk.block_bytes();
            }
        }
        for (pack, record) in &self.packs {
            let (blocks, bytes) = alive.get(pack).copied().unwrap_or_default();
            if (record.blocks, record.block_bytes) != (record.dead_blocks + blocks, record.dead_bytes + bytes) {
                found.push(format!("pack {pack} has {blocks} live blocks of {bytes} bytes, and says {record:?}"));
            }
        }
        let dead_bytes = self.packs.values().map(|record| record.dead_bytes).sum();
        let expected = StoreRecord {
            packs: self.packs.len() as u64,
            chunks,
            unique_bytes,
            stored_bytes,
            dead_bytes,
            ..self.store.clone()
        };
        if self.store != expected {
            found.push(format!("the store says {:?} instead of {expected:?}", self.store));
        }
    }
}
