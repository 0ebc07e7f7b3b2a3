//! The tree in memory, behind one short lock: what every operation reads and changes.
//!
//! An operation is a function of the state that asks for all it needs before it changes anything. What is not in
//! memory ends it with [`Stop::Need`]; [`crate::Vfs`] fetches that without the lock and runs the operation again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use verfs_base::{ByteRange, Epoch, GroupId, Ino, Timestamp};
use verfs_format::{
    ContentId, DirentRecord, InodeFlags, InodeKind, InodeRecord, SEGMENT_BYTES, Segment, TreeCounters, Xattrs,
};

use crate::VfsError;
use crate::directory::{DirectoryCache, Known, Name};
use crate::group::{Group, Reap, ReapExtent, ReapExtras, Unlogged};
use crate::resident::Resident;
use crate::rollback::Freeze;
use crate::snapshots::SnapshotTable;
use crate::space::SpaceGauge;

/// A group that is never committed: what changed in it is never evicted.
pub(crate) const KEPT: GroupId = GroupId(u64::MAX);

/// Records that the release of one content changes, roughly: its inode, its segment, the record of its chunk.
pub(crate) const REAP_RECORDS: usize = 4;

/// Weight of a segment in its cache: bytes of memory, roughly.
fn segment_weight(segment: &Segment) -> usize {
    64 + segment.runs.len() * 56
}

/// Weight of extended attributes in their cache: bytes of memory, roughly.
pub(crate) fn xattr_weight(xattrs: &Xattrs) -> usize {
    128 + 2 * xattrs.data_bytes()
}

/// What an operation lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// An inode record.
    Inode(Ino),
    /// What a name leads to.
    Dirent(Ino, Name),
    /// All names of a directory.
    Directory(Ino),
    /// A symlink's target.
    Symlink(Ino),
    /// An inode's extended attributes.
    Xattrs(Ino),
    /// A range of extent segments.
    Segments(ContentId, u32, u32),
    /// Room in the open group, once it is closed.
    Room,
    /// The end of the commit that is under way.
    Commit,
    /// A fresh look at the disk's free space, for so many bytes.
    Space(u64),
}

/// Why an operation stopped before it changed anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It lacks something.
    Need(Need),
    /// It fails.
    Fail(VfsError),
}

impl From<VfsError> for Stop {
    fn from(error: VfsError) -> Self {
        Stop::Fail(error)
    }
}

/// Result of a step of an operation.
pub(crate) type Step<T> = Result<T, Stop>;

/// Whether an operation takes room or gives it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Demand {
    /// So many bytes of file data, and records.
    Bytes(u64),
    /// Records only, and in the end less: may use the reserve.
    Release,
}

/// Whether the log or a committed group may hold something of an inode or content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Birth {
    pub(crate) group: GroupId,
    pub(crate) logged: bool,
}

/// An inode in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Node {
    /// It exists.
    Present {
        record: InodeRecord,
        /// Allocation as of the last committed group; the record's own is a bound from above.
        committed_allocated: u64,
        born: Birth,
        content_born: Birth,
    },
    /// It is gone, whatever the store still says.
    Gone,
}

/// A closed group that is being committed.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) group: Arc<Group>,
    pub(crate) unlogged: Unlogged,
    /// Monotonic time at which it was closed.
    pub(crate) since: Duration,
}

/// Why the volume takes no more changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The store failed; what isn't durable may be lost.
    Store,
    /// What commits ended by a defect of its own; what isn't durable may be lost.
    Defect,
    /// It was closed.
    Closed,
}

/// So many times the memory of a group may have while the disk is full: deletes make room, and are committed when there is some.
const RELEASES_MEMORY_MAX: u64 = 4;

/// Limits at which a group closes or writers wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    pub(crate) blocks: u64,
    pub(crate) records: usize,
    pub(crate) memory_bytes: u64,
}

impl GroupLimits {
    /// Where what brings records but no data waits.
    fn records_memory_bytes(&self) -> u64 {
        self.memory_bytes + self.memory_bytes / 8
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) nodes: Resident<Ino, Node>,
    pub(crate) directories: DirectoryCache,
    pub(crate) symlinks: Resident<Ino, Bytes>,
    pub(crate) xattrs: Resident<Ino, Arc<Xattrs>>,
    pub(crate) segments: Resident<(ContentId, u32), Arc<Segment>>,
    pub(crate) open: Group,
    pub(crate) unlogged: Unlogged,
    pub(crate) closing: Option<Closing>,
    pub(crate) committed: GroupId,
    /// Groups committed since start: what was read from the store before a commit may be out of date after it.
    pub(crate) commits: u64,
    pub(crate) close_requested: bool,
    pub(crate) pins: FxHashMap<Ino, u64>,
    /// Inodes that callers beside the kernel have open, and how often.
    pub(crate) holds: FxHashMap<Ino, u32>,
    /// Contents to be released: with no name and no pin left.
    pub(crate) reapable: VecDeque<Reap>,
    /// Unlinked inodes that a pin keeps, with the epoch in which they lost their last name.
    pub(crate) kept: FxHashMap<Ino, Epoch>,
    pub(crate) counters: TreeCounters,
    pub(crate) next_number: u64,
    /// In which what changes now is born.
    pub(crate) epoch: Epoch,
    pub(crate) snapshots: SnapshotTable,
    pub(crate) space: SpaceGauge,
    pub(crate) limits: GroupLimits,
    pub(crate) failure: Option<Failure>,
    /// An error of the last try to commit that isn't final: out of space, or of descriptors.
    pub(crate) stalled: Option<VfsError>,
    pub(crate) shutdown: bool,
    pub(crate) freeze: Freeze,
    /// A snapshot of two trees waits until nothing is being committed in both: no group is closed before it.
    pub(crate) meeting: bool,
}

impl State {
    /// The record of an inode.
    pub(crate) fn inode(&mut self, ino: Ino) -> Step<InodeRecord> {
        match self.nodes.get(ino) {
            Some(Node::Present { record, .. }) => {
                // Without names and pins it waits for its release, maybe since before the volume was opened.
                let record = *record;
                if record.nlink == 0 && !self.is_in_use(ino) {
                    return Err(Stop::Fail(VfsError::NotFound));
                }
                Ok(record)
            }
            Some(Node::Gone) => Err(Stop::Fail(VfsError::NotFound)),
            None => Err(Stop::Need(Need::Inode(ino))),
        }
    }

    /// The record of a directory that still has its name.
    pub(crate) fn directory(&mut self, ino: Ino) -> Step<InodeRecord> {
        let record = self.inode(ino)?;
        match record.kind {
            InodeKind::Directory if record.nlink == 0 => Err(Stop::Fail(VfsError::NotFound)),
            InodeKind::Directory => Ok(record),
            InodeKind::Regular
            | InodeKind::Symlink
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => Err(Stop::Fail(VfsError::NotDirectory)),
        }
    }

    /// What a name leads to, if anywhere.
    pub(crate) fn dirent(&mut self, parent: Ino, name: &Name) -> Step<Option<DirentRecord>> {
        match self.directories.find(parent, name) {
            Known::Present(record) => Ok(Some(record)),
            Known::Absent => Ok(None),
            Known::Unknown => Err(Stop::Need(Need::Dirent(parent, name.clone()))),
        }
    }

    /// Whether a change may begin: the volume takes changes, and there is room for it in memory and on the disk.
    pub(crate) fn admit(&self, demand: Demand) -> Step<()> {
        match self.failure {
            Some(Failure::Store | Failure::Defect) => return Err(Stop::Fail(VfsError::ReadOnly)),
            Some(Failure::Closed) => return Err(Stop::Fail(VfsError::Closed)),
            None => {}
        }
        let memory = self.open.memory_bytes();
        let bytes = match (demand, self.stalled) {
            // It passes by itself: nobody has to make room for others.
            (Demand::Bytes(bytes), Some(VfsError::OutOfFiles)) if memory < self.limits.memory_bytes => bytes,
            // Nothing is committed before the disk has room again: nobody waits for that, and deletes make it.
            (Demand::Bytes(_), Some(error)) => return Err(Stop::Fail(error)),
            (Demand::Release, Some(error)) if memory >= RELEASES_MEMORY_MAX * self.limits.memory_bytes => {
                return Err(Stop::Fail(error));
            }
            (Demand::Release, Some(_)) => return Ok(()),
            // Who makes, removes or renames holds the kernel's lock of a directory: if he waited behind writers, so
            // would everybody who looks up a name there. Records are small, so they get a little more room.
            (Demand::Bytes(0) | Demand::Release, None) if memory >= self.limits.records_memory_bytes() => {
                return Err(Stop::Need(Need::Room));
            }
            (Demand::Bytes(1..), None) if memory >= self.limits.memory_bytes => return Err(Stop::Need(Need::Room)),
            (Demand::Release, None) => return Ok(()),
            (Demand::Bytes(bytes), None) => bytes,
        };
        let closing = self.closing.as_ref().map_or(0, |closing| closing.group.worst_case_bytes());
        let claim = self.open.worst_case_bytes() + closing + SpaceGauge::claim_of(bytes);
        if self.space.covers(claim) { Ok(()) } else { Err(Stop::Need(Need::Space(claim))) }
    }

    /// Marks the open group as changed at monotonic time `now`. `true` for its first change.
    pub(crate) fn begin_change(&mut self, now: std::time::Duration) -> bool {
        if self.open.first_change.is_some() {
            return false;
        }
        self.open.first_change = Some(now);
        true
    }

    /// The newest group that has changes, or the last committed one.
    pub(crate) fn last_changed_group(&self) -> GroupId {
        match (&self.closing, self.open.is_empty()) {
            (_, false) => self.open.id,
            (Some(closing), true) => closing.group.id,
            (None, true) => self.committed,
        }
    }

    /// Whether the open group has reached a size at which it closes.
    pub(crate) fn is_group_full(&self) -> bool {
        self.open.blocks() >= self.limits.blocks
            || self.open.batch_records() + self.reapable.len() * REAP_RECORDS >= self.limits.records
            || self.open.memory_bytes() >= self.limits.memory_bytes
    }

    /// Sets an inode's record.
    pub(crate) fn put_inode(&mut self, ino: Ino, record: InodeRecord) {
        if let Some(Node::Present { record: current, .. }) = self.nodes.change(ino, self.open.id) {
            *current = record;
            self.open.inodes.insert(ino, record);
            self.unlogged.inodes.insert(ino);
        }
        if record.nlink == 0
            && let Some(died) = self.kept.get(&ino).filter(|died| **died < self.epoch)
        {
            self.open.nameless.insert(ino, *died);
        }
    }

    /// Adds a new inode, and a new number for it and its content.
    pub(crate) fn add_inode(&mut self, record: InodeRecord) -> Ino {
        let ino = Ino(self.take_number());
        let born = Birth { group: self.open.id, logged: false };
        let record = InodeRecord { content: ContentId(ino.0), ..record };
        let node = Node::Present { record, committed_allocated: 0, born, content_born: born };
        self.nodes.put(ino, node, self.open.id, 1);
        self.open.inodes.insert(ino, record);
        self.unlogged.inodes.insert(ino);
        self.counters.inodes += 1;
        ino
    }

    /// A number that no inode or content ever had.
    pub(crate) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Sets what a name leads to.
    pub(crate) fn put_dirent(&mut self, parent: Ino, name: &Name, target: Option<DirentRecord>) {
        self.directories.put(parent, name.clone(), target, self.open.id);
        self.open.dirents.insert((parent, name.clone()), target);
        self.unlogged.dirents.insert((parent, name.clone()));
    }

    /// Counts a pin of an inode.
    pub(crate) fn pin(&mut self, ino: Ino) {
        *self.pins.entry(ino).or_insert(0) += 1;
    }

    /// Removes pins; an unlinked inode without pins can be released. `true` if it now can.
    pub(crate) fn unpin(&mut self, ino: Ino, count: u64) -> bool {
        let Some(pins) = self.pins.get_mut(&ino) else { return false };
        *pins = pins.saturating_sub(count);
        if *pins > 0 {
            return false;
        }
        self.pins.remove(&ino);
        self.release_unused(ino)
    }

    /// Whether somebody keeps an inode beyond its last name.
    pub(crate) fn is_in_use(&self, ino: Ino) -> bool {
        self.pins.contains_key(&ino) || self.holds.contains_key(&ino)
    }

    /// Ends one hold. `true` if an unlinked inode can now be released.
    pub(crate) fn end_hold(&mut self, ino: Ino) -> bool {
        let Some(holds) = self.holds.get_mut(&ino) else { return false };
        *holds -= 1;
        if *holds > 0 {
            return false;
        }
        self.holds.remove(&ino);
        self.release_unused(ino)
    }

    fn release_unused(&mut self, ino: Ino) -> bool {
        !self.is_in_use(ino) && self.kept.remove(&ino).is_some_and(|died| self.release(ino, died))
    }

    /// An inode lost its last name: released now, or once nobody keeps it.
    pub(crate) fn orphan(&mut self, ino: Ino) {
        let Some(Node::Present { record, .. }) = self.nodes.get(ino) else { return };
        let record = *record;
        match record.kind {
            InodeKind::Regular => self.counters.logical_bytes -= record.size,
            InodeKind::Directory => self.counters.directories -= 1,
            InodeKind::Symlink
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => {}
        }
        let reap = self.reap_of(ino, &record, self.epoch);
        self.open.orphans.push(reap);
        if self.is_in_use(ino) {
            self.kept.insert(ino, self.epoch);
            // Its release needs the record: it stays in memory until then.
            self.nodes.change(ino, KEPT);
        } else {
            self.release(ino, self.epoch);
        }
    }

    /// Gives an inode without names to the next group for release. `false` when nobody but memory ever had it.
    fn release(&mut self, ino: Ino, died: Epoch) -> bool {
        let Some(Node::Present { record, born, .. }) = self.nodes.get(ino) else { return false };
        let (record, born) = (*record, *born);
        if record.kind == InodeKind::Directory {
            self.directories.remove(ino);
        }
        if born.group == self.open.id && !born.logged {
            self.open.inodes.remove(&ino);
            self.open.symlinks.remove(&ino);
            self.open.forget_xattrs(ino);
            self.unlogged.inodes.remove(&ino);
            self.unlogged.symlinks.remove(&ino);
            self.unlogged.xattrs.remove(&ino);
            self.unlogged.moved.remove(&ino);
            self.drop_dirty(record.content);
            self.counters.inodes -= 1;
            self.nodes.put(ino, Node::Gone, self.open.id, 1);
            return false;
        }
        let reap = self.reap_of(ino, &record, died);
        self.reapable.push_back(reap);
        self.nodes.put(ino, Node::Gone, self.open.id, 1);
        true
    }

    /// Forgets uncommitted bytes of a content in the open group.
    pub(crate) fn drop_dirty(&mut self, content: ContentId) {
        if let Some(dirty) = self.open.data.remove(&content) {
            self.open.data_memory_bytes -= dirty.memory_bytes();
        }
        self.unlogged.forget_content(content);
    }

    /// What is to be released with an inode.
    fn reap_of(&self, ino: Ino, record: &InodeRecord, died: Epoch) -> Reap {
        let extent = match record.kind {
            // Uncommitted cuts may hide segments that the store still has.
            InodeKind::Regular if self.is_dirty(record.content) => ReapExtent::All,
            InodeKind::Regular if record.size == 0 => ReapExtent::Nothing,
            InodeKind::Regular if record.size <= SEGMENT_BYTES => ReapExtent::FirstSegment,
            InodeKind::Regular => ReapExtent::All,
            InodeKind::Directory
            | InodeKind::Symlink
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => ReapExtent::Nothing,
        };
        let extras = match record.kind == InodeKind::Symlink || record.flags.contains(InodeFlags::XATTRS) {
            true => ReapExtras::Any,
            false => ReapExtras::Nothing,
        };
        Reap { content: record.content, ino: Some(ino), died, extent, extras }
    }

    /// Gives a file an empty content and releases the one it had: truncation to nothing without a walk.
    pub(crate) fn replace_content(&mut self, ino: Ino, record: &mut InodeRecord) {
        let old = *record;
        let fresh = ContentId(self.take_number());
        let group = self.open.id;
        let Some(Node::Present { content_born, committed_allocated, .. }) = self.nodes.change(ino, group) else {
            return;
        };
        let was = *content_born;
        *content_born = Birth { group, logged: false };
        *committed_allocated = 0;
        record.content = fresh;
        record.allocated = 0;
        self.drop_dirty(old.content);
        // Nothing to write, but something that an fsync has to log.
        self.unlogged.note(fresh, ByteRange::new(0, 0), 0);
        if was.group < group || was.logged {
            let reap = Reap::content(old.content, self.epoch);
            self.open.orphans.push(reap);
            self.reapable.push_back(reap);
        }
    }

    /// The overlay of a content in the open group, to be changed by `change`.
    pub(crate) fn change_data(
        &mut self,
        content: ContentId,
        range: ByteRange,
        data_bytes: u64,
        change: impl FnOnce(&mut crate::dirty::DirtyContent),
    ) {
        let dirty = self.open.data.entry(content).or_default();
        let before = dirty.memory_bytes();
        change(dirty);
        self.open.data_memory_bytes = self.open.data_memory_bytes + dirty.memory_bytes() - before;
        self.unlogged.note(content, range, data_bytes);
    }

    /// Whether a file has bytes that no committed group has.
    pub(crate) fn is_dirty(&self, content: ContentId) -> bool {
        self.open.data.contains_key(&content)
            || self.closing.as_ref().is_some_and(|closing| closing.group.data.contains_key(&content))
    }

    /// Keeps a segment in memory.
    pub(crate) fn load_segment(&mut self, content: ContentId, index: u32, segment: Arc<Segment>) {
        let weight = segment_weight(&segment);
        self.segments.load((content, index), segment, weight);
    }

    /// Replaces a segment in memory by the one just committed.
    pub(crate) fn replace_segment(&mut self, content: ContentId, index: u32, segment: Arc<Segment>) {
        let weight = segment_weight(&segment);
        self.segments.put((content, index), segment, GroupId(0), weight);
    }

    /// Evicts a little of what is over its limit.
    pub(crate) fn trim(&mut self) {
        self.nodes.trim(self.committed);
        self.directories.trim(self.committed);
        self.symlinks.trim(self.committed);
        self.xattrs.trim(self.committed);
        self.segments.trim(self.committed);
    }

    /// Sets modification and change time of a directory whose entries change.
    pub(crate) fn touch_directory(record: &mut InodeRecord, now: Timestamp) {
        record.mtime = now;
        record.ctime = now;
    }
}
