//! A transaction group: everything that changed since the group before it was closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use verfs_base::{ByteRange, Epoch, GroupId, Ino};
use verfs_format::{ContentId, DirentRecord, InodeRecord, SnapshotRecord, TreeCounters, Xattrs};

use crate::companion::Companion;
use crate::directory::Name;
use crate::dirty::{BLOCK_BYTES, DirtyContent, RangeSet};
use crate::prune::Prune;
use crate::versions::SnapshotIds;

/// Memory that a changed record costs, roughly: in the group, in its intent log's sets, in the caches that keep it, and, while
/// the group is committed, in the batch and what the metadata engine makes of it.
const RECORD_BYTES: u64 = 1000;
/// The same on disk.
const STORED_RECORD_BYTES: u64 = 500;
/// Memory that a content with dirty data costs beside its pieces, roughly.
const CONTENT_BYTES: u64 = 700;

/// More bytes than the log ever takes.
const UNLOGGABLE_BYTES: u64 = 1 << 40;

/// Content that nothing leads to any more, to be released by a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reap {
    pub(crate) content: ContentId,
    /// The inode that goes with it.
    pub(crate) ino: Option<Ino>,
    /// Epoch in which it lost its last name.
    pub(crate) died: Epoch,
    /// Where its extents are.
    pub(crate) extent: ReapExtent,
    /// What else of the inode is to be removed.
    pub(crate) extras: ReapExtras,
}

impl Reap {
    /// A content whose file has another one now.
    pub(crate) fn content(content: ContentId, died: Epoch) -> Reap {
        Reap { content, ino: None, died, extent: ReapExtent::All, extras: ReapExtras::Nothing }
    }

    /// An inode of which only the number is known.
    pub(crate) fn whole(content: ContentId, ino: Option<Ino>, died: Epoch) -> Reap {
        Reap { content, ino, died, extent: ReapExtent::All, extras: ReapExtras::Any }
    }
}

/// Whether an inode may have records beside its own and its extents: a symlink's target, extended attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReapExtras {
    /// It has none.
    Nothing,
    /// It may have.
    Any,
}

/// Where the extents of a content may be, so that small files need no scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReapExtent {
    /// There are none: not a regular file, or an empty one.
    Nothing,
    /// Only segment 0 can exist.
    FirstSegment,
    /// Any segment.
    All,
}

/// What the intent log hasn't got of a group.
#[derive(Default, Debug)]
pub(crate) struct Unlogged {
    pub(crate) inodes: FxHashSet<Ino>,
    pub(crate) dirents: FxHashSet<(Ino, Name)>,
    pub(crate) symlinks: FxHashSet<Ino>,
    pub(crate) xattrs: FxHashSet<Ino>,
    /// Files renamed or linked while they had unlogged content: logging the name must log the content.
    pub(crate) moved: FxHashSet<Ino>,
    contents: FxHashMap<ContentId, UnloggedContent>,
}

#[derive(Default, Debug)]
struct UnloggedContent {
    ranges: RangeSet,
    bytes: u64,
}

impl Unlogged {
    /// Whether the log has every name and attribute.
    pub(crate) fn namespace_is_empty(&self) -> bool {
        self.inodes.is_empty() && self.dirents.is_empty() && self.symlinks.is_empty() && self.xattrs.is_empty()
    }

    /// A range of a content was written or cut.
    pub(crate) fn note(&mut self, content: ContentId, range: ByteRange, data_bytes: u64) {
        let entry = self.contents.entry(content).or_default();
        entry.ranges.insert(range);
        // One reference already is more than the log takes, and many must not overflow.
        entry.bytes = (entry.bytes + data_bytes).min(UNLOGGABLE_BYTES);
    }

    /// A range of a content refers to chunks now, which the log can't hold: it is never small enough for it.
    pub(crate) fn note_references(&mut self, content: ContentId, range: ByteRange) {
        self.note(content, range, UNLOGGABLE_BYTES);
    }

    /// Bytes of a content to be logged, at most.
    pub(crate) fn content_bytes(&self, content: ContentId) -> u64 {
        self.contents.get(&content).map_or(0, |entry| entry.bytes)
    }

    /// Whether a content has anything to be logged.
    pub(crate) fn has_content(&self, content: ContentId) -> bool {
        self.contents.contains_key(&content)
    }

    /// Ranges of a content to be logged, which are logged from now on.
    pub(crate) fn take_content(&mut self, content: ContentId) -> Option<RangeSet> {
        self.contents.remove(&content).map(|entry| entry.ranges)
    }

    /// A content is gone.
    pub(crate) fn forget_content(&mut self, content: ContentId) {
        self.contents.remove(&content);
    }
}

/// The changes of one group. Open: under the state's lock. Closed: immutable.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    /// In which its records are born.
    pub(crate) epoch: Epoch,
    /// Monotonic time of the first change; `None` while there is none.
    pub(crate) first_change: Option<Duration>,
    pub(crate) inodes: FxHashMap<Ino, InodeRecord>,
    pub(crate) dirents: FxHashMap<(Ino, Name), Option<DirentRecord>>,
    pub(crate) symlinks: FxHashMap<Ino, Bytes>,
    pub(crate) xattrs: FxHashMap<Ino, Arc<Xattrs>>,
    xattr_bytes: u64,
    /// Contents that lost their last name or were replaced in this group.
    pub(crate) orphans: Vec<Reap>,
    /// Contents to be released with this group.
    pub(crate) reap: Vec<Reap>,
    /// Snapshots that were made or changed.
    pub(crate) snapshots: BTreeMap<Epoch, SnapshotRecord>,
    /// Whether the epoch ends with it.
    pub(crate) ends: EpochEnd,
    /// Whether its snapshot is one of two trees.
    pub(crate) companion: Companion,
    /// Snapshots that stand when it closes.
    pub(crate) held: Arc<SnapshotIds>,
    /// A snapshot of which this group removes a part.
    pub(crate) prune: Option<Prune>,
    /// Inodes of it that are open without a name, and when they lost it, if that was in an earlier epoch.
    pub(crate) nameless: FxHashMap<Ino, Epoch>,
    pub(crate) data: FxHashMap<ContentId, DirtyContent>,
    pub(crate) data_memory_bytes: u64,
    /// As of the group's end.
    pub(crate) counters: TreeCounters,
    pub(crate) next_number: u64,
    /// Inodes from this number on were born in the group.
    pub(crate) first_number: u64,
}

/// Whether an epoch ends with a group: there is a snapshot of it then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EpochEnd {
    No,
    Snapshot,
}

impl Group {
    pub(crate) fn new(id: GroupId, epoch: Epoch, first_number: u64) -> Self {
        Group {
            id,
            epoch,
            first_change: None,
            inodes: FxHashMap::default(),
            dirents: FxHashMap::default(),
            symlinks: FxHashMap::default(),
            xattrs: FxHashMap::default(),
            xattr_bytes: 0,
            orphans: Vec::new(),
            reap: Vec::new(),
            snapshots: BTreeMap::new(),
            ends: EpochEnd::No,
            companion: Companion::None,
            held: Arc::default(),
            prune: None,
            nameless: FxHashMap::default(),
            data: FxHashMap::default(),
            data_memory_bytes: 0,
            counters: TreeCounters::default(),
            next_number: first_number,
            first_number,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first_change.is_none()
    }

    /// Gives an inode these extended attributes.
    pub(crate) fn put_xattrs(&mut self, ino: Ino, xattrs: Arc<Xattrs>) {
        self.xattr_bytes += xattrs.data_bytes() as u64;
        if let Some(before) = self.xattrs.insert(ino, xattrs) {
            self.xattr_bytes -= before.data_bytes() as u64;
        }
    }

    /// Forgets the extended attributes of an inode.
    pub(crate) fn forget_xattrs(&mut self, ino: Ino) {
        if let Some(before) = self.xattrs.remove(&ino) {
            self.xattr_bytes -= before.data_bytes() as u64;
        }
    }

    /// Blocks of dirty data.
    pub(crate) fn blocks(&self) -> u64 {
        self.data_memory_bytes / BLOCK_BYTES
    }

    /// Changed records.
    pub(crate) fn records(&self) -> usize {
        self.inodes.len() + self.dirents.len()
    }

    /// Records that committing it writes, roughly: a file with data has a segment and a chunk beside its own two.
    pub(crate) fn batch_records(&self) -> usize {
        self.records() + 2 * self.data.len()
    }

    /// Memory that it takes, roughly.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.bytes_with_records_of(RECORD_BYTES)
    }

    /// Bytes that committing it can take on disk, at worst.
    pub(crate) fn worst_case_bytes(&self) -> u64 {
        self.bytes_with_records_of(STORED_RECORD_BYTES) + self.data_memory_bytes / 16
    }

    fn bytes_with_records_of(&self, record_bytes: u64) -> u64 {
        self.data_memory_bytes
            + self.xattr_bytes
            + self.records() as u64 * record_bytes
            + self.data.len() as u64 * CONTENT_BYTES
    }
}
