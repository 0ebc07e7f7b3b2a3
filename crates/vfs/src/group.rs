//! A transaction group: everything that changed since the group before it was closed.

use std::time::Duration;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use verfs_base::{ByteRange, GroupId, Ino};
use verfs_format::{ContentId, DirentRecord, InodeRecord, TreeCounters};

use crate::directory::Name;
use crate::dirty::{BLOCK_BYTES, DirtyContent, RangeSet};

/// Memory that a changed record costs in a group, roughly.
const RECORD_BYTES: u64 = 400;

/// Content that nothing leads to any more, to be released by a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reap {
    pub(crate) content: ContentId,
    /// The inode that goes with it.
    pub(crate) ino: Option<Ino>,
    /// Kind of the inode's data: what else is to be removed.
    pub(crate) extent: ReapExtent,
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
        self.inodes.is_empty() && self.dirents.is_empty() && self.symlinks.is_empty()
    }

    /// A range of a content was written or cut.
    pub(crate) fn note(&mut self, content: ContentId, range: ByteRange, data_bytes: u64) {
        let entry = self.contents.entry(content).or_default();
        entry.ranges.insert(range);
        entry.bytes += data_bytes;
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
    /// Monotonic time of the first change; `None` while there is none.
    pub(crate) first_change: Option<Duration>,
    pub(crate) inodes: FxHashMap<Ino, InodeRecord>,
    pub(crate) dirents: FxHashMap<(Ino, Name), Option<DirentRecord>>,
    pub(crate) symlinks: FxHashMap<Ino, Bytes>,
    /// Contents that lost their last name or were replaced in this group.
    pub(crate) orphans: Vec<Reap>,
    /// Contents to be released with this group.
    pub(crate) reap: Vec<Reap>,
    pub(crate) data: FxHashMap<ContentId, DirtyContent>,
    pub(crate) data_memory_bytes: u64,
    /// As of the group's end.
    pub(crate) counters: TreeCounters,
    pub(crate) next_number: u64,
    /// Inodes from this number on were born in the group.
    pub(crate) first_number: u64,
}

impl Group {
    pub(crate) fn new(id: GroupId, first_number: u64) -> Self {
        Group {
            id,
            first_change: None,
            inodes: FxHashMap::default(),
            dirents: FxHashMap::default(),
            symlinks: FxHashMap::default(),
            orphans: Vec::new(),
            reap: Vec::new(),
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

    /// Blocks of dirty data.
    pub(crate) fn blocks(&self) -> u64 {
        self.data_memory_bytes / BLOCK_BYTES
    }

    /// Changed records.
    pub(crate) fn records(&self) -> usize {
        self.inodes.len() + self.dirents.len()
    }

    /// Memory that it takes, roughly.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.data_memory_bytes + self.records() as u64 * RECORD_BYTES
    }

    /// Bytes that committing it can take on disk, at worst.
    pub(crate) fn worst_case_bytes(&self) -> u64 {
        self.memory_bytes() + self.data_memory_bytes / 16
    }
}
