//! Names in memory: per directory the entries that are known, and whether those are all there are.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use verfs_base::{GroupId, Ino};
use verfs_format::{DirentRecord, NameHash};

/// How many entries one call of [`DirectoryCache::trim`] drops at most, so that no operation pays for a long sweep.
const TRIM_ENTRIES: usize = 256;

/// Places of directories that are gone that the ring keeps at least before it is cleaned.
const RING_SLACK: usize = 64;

/// A valid name with its place in directory order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Name {
    pub(crate) hash: NameHash,
    pub(crate) bytes: Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    target: Option<DirentRecord>,
    changed_in: GroupId,
}

/// The known entries of one directory.
#[derive(Debug)]
pub(crate) struct Directory {
    entries: BTreeMap<Name, Slot>,
    complete: bool,
    touched: bool,
    sweep: Option<Name>,
}

/// What is known about a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// It leads here.
    Present(DirentRecord),
    /// There is no such name.
    Absent,
    /// The store has to be asked.
    Unknown,
}

impl Directory {
    fn new(complete: bool) -> Self {
        Directory { entries: BTreeMap::new(), complete, touched: true, sweep: None }
    }

    /// Whether every entry is known.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Known entries from `hash` on, in order; `None` for a name that is known to be absent.
    pub(crate) fn from(&self, hash: NameHash) -> impl Iterator<Item = (&Name, Option<DirentRecord>)> {
        let start = Name { hash, bytes: Bytes::new() };
        self.entries.range(start..).map(|(name, slot)| (name, slot.target))
    }

    /// Drops clean ones of the next entries of its sweep. Returns how many, and whether the sweep reached the end.
    fn evict(&mut self, committed: GroupId) -> (usize, Sweep) {
        self.complete = false;
        let scanned: Vec<(Name, GroupId)> = match self.sweep.take() {
            Some(start) => self.entries.range((Bound::Excluded(start), Bound::Unbounded)),
            None => self.entries.range::<Name, _>(..),
        }
        .take(TRIM_ENTRIES)
        .map(|(name, slot)| (name.clone(), slot.changed_in))
        .collect();
        let sweep = if scanned.len() == TRIM_ENTRIES { Sweep::GoesOn } else { Sweep::Ended };
        let mut dropped = 0;
        for (name, changed_in) in &scanned {
            if *changed_in <= committed {
                self.entries.remove(name);
                dropped += 1;
            }
        }
        if sweep == Sweep::GoesOn {
            self.sweep = scanned.into_iter().next_back().map(|(name, _)| name);
        }
        (dropped, sweep)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sweep {
    GoesOn,
    Ended,
}

/// The directories in memory, bounded by their entries; changed entries stay until their group is committed.
#[derive(Debug)]
pub(crate) struct DirectoryCache {
    directories: FxHashMap<Ino, Directory>,
    ring: VecDeque<Ino>,
    entries: usize,
    capacity: usize,
}

impl DirectoryCache {
    pub(crate) fn new(capacity: usize) -> Self {
        DirectoryCache { directories: FxHashMap::default(), ring: VecDeque::new(), entries: 0, capacity }
    }

    fn directory(&mut self, ino: Ino) -> &mut Directory {
        let ring = &mut self.ring;
        let directory = self.directories.entry(ino).or_insert_with(|| {
            ring.push_back(ino);
            Directory::new(false)
        });
        directory.touched = true;
        directory
    }

    /// A directory that was just made: it has no entries, and that is known.
    pub(crate) fn create(&mut self, ino: Ino) {
        self.directory(ino).complete = true;
    }

    /// The known part of a directory.
    pub(crate) fn get(&mut self, ino: Ino) -> &Directory {
        self.directory(ino)
    }

    /// What is known about a name.
    pub(crate) fn find(&mut self, ino: Ino, name: &Name) -> Known {
        let directory = self.directory(ino);
        match directory.entries.get(name) {
            Some(Slot { target: Some(record), .. }) => Known::Present(*record),
            Some(Slot { target: None, .. }) => Known::Absent,
            None if directory.complete => Known::Absent,
            None => Known::Unknown,
        }
    }

    /// Changes what a name leads to.
    pub(crate) fn put(&mut self, ino: Ino, name: Name, target: Option<DirentRecord>, group: GroupId) {
        if self.directory(ino).entries.insert(name, Slot { target, changed_in: group }).is_none() {
            self.entries += 1;
        }
    }

    /// Keeps what the store says of a name, unless it is known already.
    pub(crate) fn load(&mut self, ino: Ino, name: Name, target: Option<DirentRecord>) {
        let mut added = 0;
        self.directory(ino).entries.entry(name).or_insert_with(|| {
            added = 1;
            Slot { target, changed_in: GroupId(0) }
        });
        self.entries += added;
    }

    /// Everything that the store has of a directory was loaded.
    pub(crate) fn completed(&mut self, ino: Ino) {
        self.directory(ino).complete = true;
    }

    /// Forgets a directory that is gone.
    pub(crate) fn remove(&mut self, ino: Ino) {
        if let Some(directory) = self.directories.remove(&ino) {
            self.entries -= directory.entries.len();
        }
        // Its place in the ring stays until a sweep comes by, and below capacity none does.
        if self.ring.len() > 2 * self.directories.len() + RING_SLACK {
            let DirectoryCache { ring, directories, .. } = self;
            ring.retain(|ino| directories.contains_key(ino));
        }
    }

    /// Evicts some entries that are over capacity and changed in no group after `committed`.
    pub(crate) fn trim(&mut self, committed: GroupId) {
        for _ in 0..4 {
            if self.entries <= self.capacity {
                return;
            }
            let Some(ino) = self.ring.pop_front() else { return };
            let Some(directory) = self.directories.get_mut(&ino) else { continue };
            if directory.touched {
                directory.touched = false;
                self.ring.push_back(ino);
                continue;
            }
            let (dropped, sweep) = directory.evict(committed);
            self.entries -= dropped;
            if directory.entries.is_empty() {
                self.directories.remove(&ino);
                continue;
            }
            // A large directory keeps its turn until its sweep has ended.
            match sweep {
                Sweep::GoesOn => self.ring.push_front(ino),
                Sweep::Ended => self.ring.push_back(ino),
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_that_come_and_go_leave_nothing_behind() {
        let mut cache = DirectoryCache::new(1000);
        for number in 0..10_000 {
            cache.create(Ino(number));
            cache.trim(GroupId(0));
            cache.remove(Ino(number));
        }
        assert!(
            cache.ring.len() <= RING_SLACK + 1,
            "{} places are kept for directories that are gone",
            cache.ring.len()
        );
        cache.create(Ino(1));
        assert!(cache.ring.contains(&Ino(1)));
    }
}
