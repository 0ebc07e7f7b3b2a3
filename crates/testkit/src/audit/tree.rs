//! Whether one tree contradicts itself, be it the live one or that of a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use verfs_base::Ino;
use verfs_format::{
    ContentId, DirentRecord, InodeFlags, InodeKind, InodeRecord, OrphanRecord, Run, SEGMENT_BYTES, Segment,
    TreeCounters, Xattrs, keys,
};

/// The records of a tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) inodes: BTreeMap<Ino, InodeRecord>,
    dirents: Vec<(Ino, Vec<u8>, DirentRecord)>,
    pub(super) segments: BTreeMap<(ContentId, u32), Segment>,
    symlinks: BTreeSet<Ino>,
    xattrs: BTreeMap<Ino, Xattrs>,
    pub(super) orphans: BTreeMap<ContentId, OrphanRecord>,
}

fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

impl Tree {
    /// Takes a record of the tree; `None` for one that can't be decoded.
    pub(super) fn take(&mut self, key: &[u8], record: &[u8]) -> Option<()> {
        match *key.first()? {
            keys::INODE => {
                self.inodes.insert(Ino(number(key)?), InodeRecord::decode(record).ok()?);
            }
            keys::DIRENT => {
                let (_, name) = keys::parse_dirent(key)?;
                self.dirents.push((Ino(number(key)?), name.to_vec(), DirentRecord::decode(record).ok()?));
            }
            keys::SEGMENT => {
                let index = keys::parse_segment(key)?;
                self.segments.insert((ContentId(number(key)?), index), Segment::decode(record).ok()?);
            }
            keys::SYMLINK => {
                self.symlinks.insert(Ino(number(key)?));
            }
            keys::XATTRS => {
                self.xattrs.insert(Ino(number(key)?), Xattrs::decode(record).ok()?);
            }
            keys::ORPHAN => {
                self.orphans.insert(keys::parse_orphan(key)?, OrphanRecord::decode(record).ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    /// The same without what has no name, as a snapshot shows it.
    pub(super) fn named(mut self) -> Tree {
        self.orphans.clear();
        self.inodes.retain(|_, inode| inode.nlink > 0);
        let inodes = &self.inodes;
        let contents: BTreeSet<ContentId> = inodes.values().map(|inode| inode.content).collect();
        self.segments.retain(|(content, _), _| contents.contains(content));
        self.symlinks.retain(|ino| inodes.contains_key(ino));
        self.xattrs.retain(|ino, _| inodes.contains_key(ino));
        self
    }

    /// Runs of the contents that are asked for.
    pub(super) fn runs(&self, wanted: impl Fn(&ContentId) -> bool) -> impl Iterator<Item = &Run> {
        let segments = self.segments.iter().filter(move |((content, _), _)| wanted(content));
        segments.flat_map(|(_, segment)| &segment.runs)
    }

    /// Whether a record belongs to something that has a name.
    pub(super) fn shows(&self, key: &[u8]) -> bool {
        let is_named = |inode: &InodeRecord| inode.nlink > 0;
        match (key.first(), number(key)) {
            (Some(&keys::SEGMENT), Some(content)) => {
                self.inodes.values().any(|inode| inode.content.0 == content && is_named(inode))
            }
            (Some(&keys::ORPHAN), _) => false,
            (_, Some(ino)) => self.inodes.get(&Ino(ino)).is_some_and(is_named),
            (_, None) => false,
        }
    }

    /// Looks for contradictions.
    pub(super) fn check(&self, found: &mut Vec<String>) {
        self.check_names(found);
        self.check_xattrs(found);
        self.check_contents(found);
    }

    /// Sums over it.
    pub(super) fn counters(&self) -> TreeCounters {
        let linked = || self.inodes.values().filter(|inode| inode.nlink > 0);
        TreeCounters {
            inodes: self.inodes.len() as u64,
            directories: linked().filter(|inode| inode.kind == InodeKind::Directory).count() as u64,
            logical_bytes: linked().filter(|inode| inode.kind == InodeKind::Regular).map(|inode| inode.size).sum(),
        }
    }

    /// The greatest number in use.
    pub(super) fn highest_number(&self) -> u64 {
        let contents = self.inodes.values().map(|inode| inode.content.0);
        contents.chain(self.inodes.keys().map(|ino| ino.0)).max().unwrap_or(0)
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
    }
}
