//! Whether the records of a tree agree with each other, and what would mend them. No tree is opened for that, and nothing
//! written.
//!
//! Lives here: names, inodes, contents, references of chunks, versions that snapshots keep, counters. Never here: packs
//! (`verfs-store` checks those), locks, the order of a repair. Data flows from a view of the records to findings.
//!
//! Memory: 64 bytes for each inode, or chunk, up to a million of them, which is what one pass over the records deals with:
//! more are dealt with in more passes. Beside that 16 bytes for each directory, 24 for each orphan, 8 for each entry
//! of a change list.

mod contents;
mod history;
mod log;
mod names;
mod references;
mod system;
mod unplaced;

use std::ops::ControlFlow;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use verfs_base::{ChunkId, Epoch, GroupId, Ino};
use verfs_format::{
    ChangeList, ContentId, DirentRecord, InodeFlags, InodeKind, InodeRecord, NameHash, OrphanRecord, RunData,
    SnapshotRecord, TreeCounters, encode_versioned, keys, split_versioned, varint,
};
use verfs_meta::{Direction, KeyRange, MetaView, WriteBatch};
use verfs_store::{Findings, LostChunks, StoreCheck};

pub use self::log::{ReadFrame, check_log};
use crate::load::{decode_dirent, decode_inode, decode_segment};

/// Inodes, or chunks, that one pass deals with.
const PASS_MAX: usize = 1 << 20;
/// Files that are named for what they lost.
const NAMED_MAX: usize = 256;
/// Directories that a path is followed upwards through at most.
const DEPTH_MAX: usize = 4096;
/// Where what has no name gets one.
const LOST_AND_FOUND: &[u8] = b"lost+found";
/// Mode of that directory, and of inodes that had to be made anew.
const FOUND_DIRECTORY_MODE: u16 = 0o700;
const FOUND_FILE_MODE: u16 = 0o600;
/// First part number of change lists that a repair writes: groups count from 0.
const REPAIR_PART: u32 = 1 << 31;

type Result<T> = std::result::Result<T, verfs_meta::MetaError>;

/// Position of a name in the root directory.
pub type HashName<'a> = dyn Fn(&[u8]) -> NameHash + 'a;

/// What is checked.
pub struct TreeCheck<'a> {
    /// The records, with what is sealed in them left out where it is.
    pub view: &'a dyn MetaView,
    /// Position of a name in the root directory; `None` for the tree of a locked vault, of which nothing but references
    /// can be mended.
    pub name_hash: Option<&'a HashName<'a>>,
    /// Packs, for chunks without a record.
    pub packs: &'a StoreCheck<'a>,
    /// Part of a pass; tests make it small.
    pub pass_max: usize,
}

impl<'a> TreeCheck<'a> {
    /// A check with the usual bounds.
    #[must_use]
    pub fn new(
        view: &'a dyn MetaView,
        name_hash: Option<&'a HashName<'a>>,
        packs: &'a StoreCheck<'a>,
    ) -> TreeCheck<'a> {
        TreeCheck { view, name_hash, packs, pass_max: PASS_MAX }
    }

    /// Looks at all of it. Of each stage that found something to mend, later ones may show what follows from that.
    ///
    /// # Errors
    /// [`verfs_store::StoreError`]: what the metadata engine or the disk says.
    pub fn run(&self, findings: &mut Findings) -> verfs_store::Result<()> {
        let Some(system) = self.system(findings)? else { return Ok(()) };
        let mut checker = self.checker(system, findings);
        checker.read_orphans()?;
        let before = checker.findings.mendable_count();
        checker.names()?;
        checker.contents()?;
        checker.totals()?;
        // References of what was not decided yet would be counted wrong.
        if checker.findings.mendable_count() == before || self.name_hash.is_none() {
            checker.references()?;
            checker.history()?;
        }
        Ok(())
    }
}

/// Numbers of a tree.
struct System {
    group: GroupId,
    epoch: Epoch,
    next_number: u64,
    /// Rising; without a record where that is damaged.
    snapshots: Vec<(Epoch, Option<SnapshotRecord>)>,
}

/// One check, while it runs.
struct Checker<'a> {
    view: &'a dyn MetaView,
    check: &'a TreeCheck<'a>,
    system: System,
    findings: &'a mut Findings,
    orphans: FxHashMap<ContentId, OrphanRecord>,
    /// Inodes that this round makes of what is left of them.
    made: FxHashSet<Ino>,
    counters: TreeCounters,
    /// The greatest number in use.
    highest: u64,
    /// `lost+found`, once it was looked for, or will have been made.
    found_directory: Option<Ino>,
    repair_part: u32,
    /// A record that may refer to chunks can't be read: no count is too high for certain.
    unknown_references: bool,
}

/// What is kept of an inode in a pass.
#[derive(Clone, Copy)]
struct Node {
    ino: Ino,
    parent: Ino,
    content: ContentId,
    size: u64,
    allocated: u64,
    nlink: u32,
    kind: InodeKind,
    has_xattrs: bool,
}

impl Node {
    fn new(ino: Ino, record: &InodeRecord) -> Node {
        Node {
            ino,
            parent: record.parent,
            content: record.content,
            size: record.size,
            allocated: record.allocated,
            nlink: record.nlink,
            kind: record.kind,
            has_xattrs: record.flags.contains(InodeFlags::XATTRS),
        }
    }
}

impl Checker<'_> {
    fn read_orphans(&mut self) -> Result<()> {
        let mut damaged = Vec::new();
        self.view.scan(&KeyRange::prefix(&[keys::ORPHAN]), Direction::Forward, &mut |key, value| {
            let record = split_versioned(value).and_then(|(_, record)| OrphanRecord::decode(record));
            match (keys::parse_orphan(key), record) {
                (Some(content), Ok(record)) => drop(self.orphans.insert(content, record)),
                (Some(content), Err(error)) => damaged.push((content, error)),
                (None, _) => {}
            }
            ControlFlow::Continue(())
        })?;
        for (content, error) in damaged {
            // What was to be released stays, and gets a name.
            let detail = format!("it can't be decoded ({error}): what it was to release stays");
            let place = format!("orphan record of content {}", content.0);
            self.mend("orphan-record", place, detail, |batch| batch.delete(keys::orphan(content)));
        }
        Ok(())
    }

    /// A finding that changes of the tree's records put right, if these can be written.
    fn mend(&mut self, code: &'static str, place: String, detail: String, fill: impl FnOnce(&mut WriteBatch)) {
        match self.check.name_hash {
            Some(_) => self.findings.records(code, place, detail, fill),
            None => self.findings.left(code, place, format!("{detail}; unlock the vault to mend it")),
        }
    }

    /// Rewrites an inode as it is but for what `change` does.
    fn mend_inode(
        &mut self,
        code: &'static str,
        ino: Ino,
        detail: String,
        change: impl FnOnce(&mut InodeRecord),
    ) -> Result<()> {
        let value = self.view.get(&keys::inode(ino))?.unwrap_or_default();
        if let Ok((birth, record)) = split_versioned(&value)
            && let Ok(mut record) = InodeRecord::decode(record)
        {
            change(&mut record);
            self.mend(code, format!("inode {ino}"), detail, |batch| put_inode(batch, ino, birth, &record));
        }
        Ok(())
    }

    /// The inode as it is stored.
    fn inode(&self, ino: Ino) -> Result<Option<InodeRecord>> {
        Ok(self.view.get(&keys::inode(ino))?.and_then(|value| decode_inode(&value).ok()))
    }

    /// Visits the inodes from `from` on, those that can't be decoded without a record.
    fn each_inode(
        &self,
        from: Ino,
        visit: &mut dyn FnMut(Ino, std::result::Result<InodeRecord, verfs_format::DecodeError>) -> ControlFlow<()>,
    ) -> Result<()> {
        let range = KeyRange { start: keys::inode(from).into(), ..KeyRange::prefix(&[keys::INODE]) };
        self.view.scan(&range, Direction::Forward, &mut |key, value| match keys::parse_inode(key) {
            Some(ino) => visit(ino, decode_inode(value)),
            None => ControlFlow::Continue(()),
        })
    }

    /// A number that nothing has.
    fn fresh_number(&mut self, batch: &mut WriteBatch) -> u64 {
        let number = self.system.next_number.max(self.highest + 1);
        self.highest = number;
        self.system.next_number = number + 1;
        let mut value = Vec::new();
        varint::put_u64(&mut value, number + 1);
        batch.put(keys::SYSTEM_NEXT_NUMBER.to_vec(), value);
        number
    }

    /// Has the change list of this epoch name keys that are born in it.
    fn list_births(&mut self, batch: &mut WriteBatch, born: &[Vec<u8>]) -> Result<()> {
        if self.system.snapshots.is_empty() {
            return Ok(());
        }
        let born: Vec<Bytes> = born.iter().map(|key| Bytes::copy_from_slice(key)).collect();
        loop {
            let key = keys::changes(self.system.epoch, self.system.group, self.repair_part);
            self.repair_part += 1;
            if self.view.get(&key)?.is_none() {
                batch.put(key, ChangeList::encode(&born));
                return Ok(());
            }
        }
    }

    /// Gives an inode a name in `lost+found`, which is made when there is none. Link counts and sizes that follow from it
    /// the next round sets.
    fn adopt(&mut self, batch: &mut WriteBatch, ino: Ino, record: &mut InodeRecord) -> Result<()> {
        let Some(hash) = self.check.name_hash else { return Ok(()) };
        let mut born = Vec::new();
        let epoch = self.system.epoch;
        let parent = match self.found_directory {
            Some(parent) => parent,
            None => {
                let key = keys::dirent(Ino::ROOT, hash(LOST_AND_FOUND), LOST_AND_FOUND);
                let there = self.view.get(&key)?.and_then(|value| decode_dirent(&value).ok());
                let parent = match there.filter(|dirent| dirent.kind == InodeKind::Directory) {
                    Some(dirent) => dirent.ino,
                    // Something else has the name: what is found goes to the root itself.
                    None if there.is_some() => Ino::ROOT,
                    None => {
                        let made = Ino(self.fresh_number(batch));
                        let root = self.inode(Ino::ROOT)?;
                        let (uid, gid) = root.map_or((0, 0), |root| (root.uid, root.gid));
                        let directory = InodeRecord {
                            kind: InodeKind::Directory,
                            mode: FOUND_DIRECTORY_MODE,
                            nlink: 2,
                            size: 0,
                            allocated: 0,
                            uid,
                            gid,
                            content: ContentId(made.0),
                            parent: Ino::ROOT,
                            flags: InodeFlags::default(),
                            ..*record
                        };
                        put_inode(batch, made, epoch, &directory);
                        put_dirent(batch, key.clone(), epoch, InodeKind::Directory, made);
                        born.extend([keys::inode(made), key]);
                        made
                    }
                };
                self.found_directory = Some(parent);
                parent
            }
        };
        let name = format!("#{ino}").into_bytes();
        let key = keys::dirent(parent, hash(&name), &name);
        put_dirent(batch, key.clone(), epoch, record.kind, ino);
        born.push(key);
        record.parent = parent;
        self.list_births(batch, &born)
    }

    /// What is left of an inode whose record is gone, or can't be read.
    fn traces(&self, ino: Ino) -> Result<Option<InodeKind>> {
        if self.view.get(&keys::symlink(ino))?.is_some() {
            return Ok(Some(InodeKind::Symlink));
        }
        if self.any(&keys::dirents(ino))? {
            return Ok(Some(InodeKind::Directory));
        }
        let has_data = self.any(&keys::segments(ContentId(ino.0)))? || self.view.get(&keys::xattrs(ino))?.is_some();
        Ok(has_data.then_some(InodeKind::Regular))
    }

    fn any(&self, prefix: &[u8]) -> Result<bool> {
        let mut any = false;
        self.view.scan(&KeyRange::prefix(prefix), Direction::Forward, &mut |_, _| {
            any = true;
            ControlFlow::Break(())
        })?;
        Ok(any)
    }

    /// A record for an inode of which only traces are left.
    fn rebuilt(&self, ino: Ino, kind: InodeKind, parent: Ino) -> Result<InodeRecord> {
        let (mut size, mut allocated) = (0, 0);
        let mut each = |key: &[u8], value: &[u8]| {
            if let (Some(index), Ok(segment)) = (keys::parse_segment(key), decode_segment(value)) {
                size = segment_end(index, &segment);
                allocated += segment.allocated();
            }
            ControlFlow::Continue(())
        };
        self.view.scan(&KeyRange::prefix(&keys::segments(ContentId(ino.0))), Direction::Forward, &mut each)?;
        if kind == InodeKind::Symlink {
            let target = self.view.get(&keys::symlink(ino))?;
            size = target.and_then(|value| Some(split_versioned(&value).ok()?.1.len() as u64)).unwrap_or(0);
        }
        let flags = match self.view.get(&keys::xattrs(ino))? {
            Some(_) => InodeFlags::XATTRS,
            None => InodeFlags::default(),
        };
        let root = self.inode(Ino::ROOT)?;
        let time = root.map_or_else(verfs_base::Timestamp::default, |root| root.ctime);
        Ok(InodeRecord {
            kind,
            mode: match kind {
                InodeKind::Directory => FOUND_DIRECTORY_MODE,
                InodeKind::Symlink => 0o777,
                InodeKind::Regular
                | InodeKind::Fifo
                | InodeKind::Socket
                | InodeKind::CharDevice
                | InodeKind::BlockDevice => FOUND_FILE_MODE,
            },
            flags,
            nlink: if kind == InodeKind::Directory { 2 } else { 1 },
            uid: root.map_or(0, |root| root.uid),
            gid: root.map_or(0, |root| root.gid),
            rdev: 0,
            size,
            allocated,
            content: ContentId(ino.0),
            parent,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
        })
    }

    /// Sums over the tree, and the next number.
    fn totals(&mut self) -> Result<()> {
        let stored = self.view.get(keys::SYSTEM_COUNTERS)?.map(|value| TreeCounters::decode(&value));
        if stored != Some(Ok(self.counters)) {
            let counters = self.counters;
            let detail = format!("they say {stored:?} instead of {counters:?}");
            self.findings.records("tree-counters", "counters of the tree", detail, |batch| {
                let mut value = Vec::new();
                counters.encode(&mut value);
                batch.put(keys::SYSTEM_COUNTERS.to_vec(), value);
            });
        }
        if self.highest >= self.system.next_number {
            let next = self.highest + 1;
            let detail = format!("it is {}, and {} is in use", self.system.next_number, self.highest);
            self.findings.records("next-number", "next inode number", detail, |batch| {
                let mut value = Vec::new();
                varint::put_u64(&mut value, next);
                batch.put(keys::SYSTEM_NEXT_NUMBER.to_vec(), value);
            });
        }
        Ok(())
    }

    /// Where an inode is, from the root.
    fn path(&self, ino: Ino) -> Result<String> {
        let mut names: Vec<String> = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT && names.len() < DEPTH_MAX {
            let Some(record) = self.inode(at)? else { return Ok(format!("inode {ino}")) };
            let mut name = None;
            let mut each = |key: &[u8], value: &[u8]| match (keys::parse_dirent(key), decode_dirent(value)) {
                (Some((_, found)), Ok(dirent)) if dirent.ino == at => {
                    name = Some(String::from_utf8_lossy(found).into_owned());
                    ControlFlow::Break(())
                }
                (_, _) => ControlFlow::Continue(()),
            };
            self.view.scan(&KeyRange::prefix(&keys::dirents(record.parent)), Direction::Forward, &mut each)?;
            let Some(name) = name else { return Ok(format!("inode {ino}")) };
            names.push(name);
            at = record.parent;
        }
        names.reverse();
        Ok(format!("/{}", names.join("/")))
    }

    /// Names the files that have runs of these chunks.
    fn name_lost(&mut self, code: &'static str, lost: &FxHashSet<ChunkId>, what: &str) -> Result<()> {
        if lost.is_empty() {
            return Ok(());
        }
        let mut contents: FxHashMap<ContentId, (u64, ChunkId)> = FxHashMap::default();
        self.view.scan(&KeyRange::prefix(&[keys::SEGMENT]), Direction::Forward, &mut |key, value| {
            if let (Some((content, _)), Ok(segment)) = (keys::parse_segment_of(key), decode_segment(value)) {
                for run in &segment.runs {
                    if let RunData::Chunk { id, .. } = &run.data
                        && lost.contains(id)
                    {
                        contents.entry(content).or_insert((0, *id)).0 += u64::from(run.len);
                    }
                }
            }
            if contents.len() < NAMED_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let mut inodes = Vec::new();
        self.each_inode(Ino(0), &mut |ino, record| {
            if let Ok(record) = record
                && let Some(lost) = contents.remove(&record.content)
            {
                inodes.push((ino, lost));
            }
            ControlFlow::Continue(())
        })?;
        for (ino, (bytes, chunk)) in inodes {
            let detail = format!("{bytes} bytes of it {what}, among them chunk {chunk}; reading them gives an error");
            let path = self.path(ino)?;
            self.findings.left(code, path, detail);
        }
        for (content, (bytes, chunk)) in contents {
            let detail = format!("{bytes} bytes of it {what}, among them chunk {chunk}");
            self.findings.left(code, format!("content {}", content.0), detail);
        }
        Ok(())
    }
}

impl TreeCheck<'_> {
    fn checker<'a>(&'a self, system: System, findings: &'a mut Findings) -> Checker<'a> {
        Checker {
            view: self.view,
            check: self,
            system,
            findings,
            orphans: FxHashMap::default(),
            counters: TreeCounters::default(),
            highest: 0,
            found_directory: None,
            repair_part: REPAIR_PART,
            unknown_references: false,
            made: FxHashSet::default(),
        }
    }

    /// Names the files that have runs of chunks that are lost.
    ///
    /// # Errors
    /// What the metadata engine says.
    pub fn name_lost(&self, lost: &LostChunks, findings: &mut Findings) -> verfs_store::Result<()> {
        let lost: FxHashSet<ChunkId> = lost.keys().copied().collect();
        let system = System { group: GroupId(0), epoch: Epoch::FIRST, next_number: 0, snapshots: Vec::new() };
        let mut checker = self.checker(system, findings);
        Ok(checker.name_lost("file-lost-data", &lost, "are in what is lost")?)
    }
}

fn put_inode(batch: &mut WriteBatch, ino: Ino, birth: Epoch, record: &InodeRecord) {
    batch.put(keys::inode(ino), encode_versioned(birth, |out| record.encode(out)));
}

fn put_dirent(batch: &mut WriteBatch, key: Vec<u8>, birth: Epoch, kind: InodeKind, ino: Ino) {
    batch.put(key, encode_versioned(birth, |out| DirentRecord { kind, ino }.encode(out)));
}

/// Where the last run of a segment ends in its file.
fn segment_end(index: u32, segment: &verfs_format::Segment) -> u64 {
    let len: u64 = segment.runs.iter().map(|run| u64::from(run.len)).sum();
    u64::from(index) * verfs_format::SEGMENT_BYTES + len
}
