//! Whether a volume's metadata contradicts itself. Every committed state must pass, be it the last one or one that a
//! crash went back to: a batch is applied whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{ChunkId, Disk, Ino, PackId};
use verfs_format::chunk_record::{CHUNK, ChunkRecord, PACK, PackRecord, SYSTEM_STORE, StoreRecord};
use verfs_format::{
    ContentId, DirentRecord, InodeFlags, InodeKind, InodeRecord, OrphanRecord, RunData, SEGMENT_BYTES, Segment,
    TreeCounters, Xattrs, keys, varint,
};
use verfs_meta::{Direction, KeyRange, MetaStore, MetaView};
use verfs_store::ChunkStore;

/// All records of a volume's metadata.
#[derive(Debug, Default)]
pub struct Audit {
    inodes: BTreeMap<Ino, InodeRecord>,
    dirents: Vec<(Ino, Vec<u8>, DirentRecord)>,
    segments: BTreeMap<(ContentId, u32), Segment>,
    symlinks: BTreeSet<Ino>,
    xattrs: BTreeMap<Ino, Xattrs>,
    orphans: BTreeMap<ContentId, OrphanRecord>,
    chunks: BTreeMap<ChunkId, ChunkRecord>,
    packs: BTreeMap<PackId, PackRecord>,
    store: StoreRecord,
    counters: TreeCounters,
    next_number: u64,
}

fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
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
        let mut audit = Audit::default();
        let (Some(counters), Some(next)) = (get(keys::SYSTEM_COUNTERS)?, get(keys::SYSTEM_NEXT_NUMBER)?) else {
            return Ok(None);
        };
        audit.counters = TreeCounters::decode(&counters).map_err(|error| format!("audit: counters: {error}"))?;
        audit.next_number = varint::Reader::new(&next).u64().map_err(|error| format!("audit: next number: {error}"))?;
        scan(view, keys::INODE, &mut |key, value| {
            audit.inodes.insert(Ino(number(key)?), InodeRecord::decode(value).ok()?);
            Some(())
        })?;
        scan(view, keys::DIRENT, &mut |key, value| {
            let (_, name) = keys::parse_dirent(key)?;
            audit.dirents.push((Ino(number(key)?), name.to_vec(), DirentRecord::decode(value).ok()?));
            Some(())
        })?;
        scan(view, keys::SEGMENT, &mut |key, value| {
            let index = keys::parse_segment(key)?;
            audit.segments.insert((ContentId(number(key)?), index), Segment::decode(value).ok()?);
            Some(())
        })?;
        scan(view, keys::SYMLINK, &mut |key, _| {
            audit.symlinks.insert(Ino(number(key)?));
            Some(())
        })?;
        scan(view, keys::XATTRS, &mut |key, value| {
            audit.xattrs.insert(Ino(number(key)?), Xattrs::decode(value).ok()?);
            Some(())
        })?;
        scan(view, keys::ORPHAN, &mut |key, value| {
            audit.orphans.insert(keys::parse_orphan(key)?, OrphanRecord::decode(value).ok()?);
            Some(())
        })?;
        scan(view, CHUNK, &mut |key, value| {
            let id = ChunkId(key.get(1..)?.try_into().ok()?);
            audit.chunks.insert(id, ChunkRecord::decode(value).ok()?);
            Some(())
        })?;
        scan(view, PACK, &mut |key, value| {
            audit.packs.insert(PackId(number(key)?), PackRecord::decode(value).ok()?);
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
        self.check_names(&mut found);
        self.check_xattrs(&mut found);
        self.check_contents(&mut found);
        self.check_references(&mut found);
        self.check_packs(&mut found);
        self.check_counters(&mut found);
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

    /// Contents that wait for release.
    #[must_use]
    pub fn orphans(&self) -> usize {
        self.orphans.len()
    }

    fn check_names(&self, found: &mut Vec<String>) {
        let mut names: BTreeMap<Ino, u32> = BTreeMap::new();
        let mut entries: BTreeMap<Ino, (u64, u32)> = BTreeMap::new();
        for (parent, name, record) in &self.dirents {
            let shown = crate::op::short(name);
            *names.entry(record.ino).or_insert(0) += 1;
            let counts = entries.entry(*parent).or_insert((0, 0));
            counts.0 += 1;
            match self.inodes.get(&record.ino) {
                None => found.push(format!("{shown} in {parent} leads to {}, which has no inode", record.ino)),
                Some(inode) => {
                    if inode.kind != record.kind {
                        found.push(format!(
                            "{shown} in {parent} says {:?}, inode {} says {:?}",
                            record.kind, record.ino, inode.kind
                        ));
                    }
                    if inode.kind == InodeKind::Directory {
                        counts.1 += 1;
                        if inode.parent != *parent {
                            found.push(format!("directory {} is in {parent} and says {}", record.ino, inode.parent));
                        }
                    }
                }
            }
            match self.inodes.get(parent) {
                Some(inode) if inode.kind == InodeKind::Directory => {}
                Some(_) | None => found.push(format!("{shown} is in {parent}, which is no directory")),
            }
        }
        let orphans: BTreeSet<Ino> = self.orphans.values().filter_map(|record| record.ino).collect();
        for (ino, inode) in &self.inodes {
            let count = names.get(ino).copied().unwrap_or(0);
            let (size, subdirectories) = entries.get(ino).copied().unwrap_or((0, 0));
            let expected = match inode.kind {
                InodeKind::Directory if *ino == Ino::ROOT || count == 1 => 2 + subdirectories,
                InodeKind::Directory
                | InodeKind::Regular
                | InodeKind::Symlink
                | InodeKind::Fifo
                | InodeKind::Socket
                | InodeKind::CharDevice
                | InodeKind::BlockDevice => count,
            };
            if inode.nlink != expected {
                found.push(format!("inode {ino} has nlink {} instead of {expected}", inode.nlink));
            }
            if inode.kind == InodeKind::Directory && inode.size != size {
                found.push(format!("directory {ino} has size {} and {size} names", inode.size));
            }
            if inode.nlink == 0 && !orphans.contains(ino) {
                found.push(format!("inode {ino} has no name and is no orphan"));
            }
            if inode.kind == InodeKind::Symlink && !self.symlinks.contains(ino) {
                found.push(format!("symlink {ino} has no target"));
            }
        }
        let links = |ino: &&Ino| self.inodes.get(ino).is_none_or(|inode| inode.kind != InodeKind::Symlink);
        for ino in self.symlinks.iter().filter(links) {
            found.push(format!("a target is left of symlink {ino}"));
        }
        for ino in orphans.iter().filter(|ino| self.inodes.get(ino).is_none_or(|inode| inode.nlink > 0)) {
            found.push(format!("orphan {ino} is no inode without names"));
        }
    }

    fn check_xattrs(&self, found: &mut Vec<String>) {
        for (ino, xattrs) in &self.xattrs {
            match self.inodes.get(ino).map(|inode| inode.flags.contains(InodeFlags::XATTRS)) {
                Some(true) if !xattrs.is_empty() => {}
                Some(true) => found.push(format!("the attribute record of inode {ino} has none")),
                Some(false) => found.push(format!("inode {ino} has extended attributes and says that it has none")),
                None => found.push(format!("extended attributes are left of inode {ino}")),
            }
        }
        for (ino, inode) in &self.inodes {
            if inode.flags.contains(InodeFlags::XATTRS) && !self.xattrs.contains_key(ino) {
                found.push(format!("inode {ino} has no extended attributes and says that it has"));
            }
        }
    }

    fn check_contents(&self, found: &mut Vec<String>) {
        let owners: BTreeMap<ContentId, Ino> = (self.inodes.iter())
            .filter(|(_, inode)| inode.kind == InodeKind::Regular)
            .map(|(ino, inode)| (inode.content, *ino))
            .collect();
        let mut allocated: BTreeMap<Ino, u64> = BTreeMap::new();
        for ((content, index), segment) in &self.segments {
            let len: u64 = segment.runs.iter().map(|run| u64::from(run.len)).sum();
            let end = u64::from(*index) * SEGMENT_BYTES + len;
            if len > SEGMENT_BYTES {
                found.push(format!("segment {index} of content {} has {len} bytes", content.0));
            }
            match owners.get(content) {
                None if self.orphans.contains_key(content) => {}
                None => found.push(format!("segment {index} of content {} belongs to no file", content.0)),
                Some(ino) => {
                    let size = self.inodes[ino].size;
                    if end > size {
                        found.push(format!("inode {ino} has {size} bytes and a segment up to {end}"));
                    }
                    *allocated.entry(*ino).or_insert(0) += segment.allocated();
                }
            }
        }
        for (ino, inode) in self.inodes.iter().filter(|(_, inode)| inode.kind == InodeKind::Regular) {
            let expected = allocated.get(ino).copied().unwrap_or(0);
            if inode.allocated != expected && inode.nlink > 0 {
                found.push(format!("inode {ino} says {} allocated bytes, its segments {expected}", inode.allocated));
            }
        }
        let highest = self.inodes.values().map(|inode| inode.content.0);
        let highest = highest.chain(self.inodes.keys().map(|ino| ino.0)).max().unwrap_or(0);
        if highest >= self.next_number {
            found.push(format!("number {highest} is in use, {} is next", self.next_number));
        }
    }

    fn check_references(&self, found: &mut Vec<String>) {
        let mut references: BTreeMap<ChunkId, u64> = BTreeMap::new();
        for ((content, index), segment) in &self.segments {
            for run in &segment.runs {
                let RunData::Chunk { id, offset, .. } = &run.data else { continue };
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
            let expected = references.get(id).copied().unwrap_or(0);
            if chunk.refcount != expected {
                found.push(format!("chunk {id} counts {} references and has {expected}", chunk.refcount));
            }
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

    fn check_counters(&self, found: &mut Vec<String>) {
        let linked = || self.inodes.values().filter(|inode| inode.nlink > 0);
        let expected = TreeCounters {
            inodes: self.inodes.len() as u64,
            directories: linked().filter(|inode| inode.kind == InodeKind::Directory).count() as u64,
            logical_bytes: linked().filter(|inode| inode.kind == InodeKind::Regular).map(|inode| inode.size).sum(),
        };
        if self.counters != expected {
            found.push(format!("counters say {:?} instead of {expected:?}", self.counters));
        }
    }
}
