//! What changed between two snapshots, or since one: found in change lists, never by a walk of the tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{Epoch, Ino};
use verfs_format::{DirentRecord, InodeKind, InodeRecord, keys};

use crate::attributes::file_kind;
use crate::directory::Name;
use crate::history::changed_keys;
use crate::snapshot_tree::Past;
use crate::{FileKind, Result, Vfs, VfsError};

/// Directories that a path is followed upwards through at most.
const DEPTH_MAX: usize = 4096;

/// What became of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeChangeKind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// What it leads to has other bytes or attributes. Access times don't count, nor do a directory's entries.
    Changed,
    /// What it leads to had this path before.
    Renamed {
        /// The old path.
        from: Bytes,
    },
}

/// A difference between two trees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeChange {
    /// What happened.
    pub kind: TreeChangeKind,
    /// Path from the root, in bytes: the new one, of what was removed the old one.
    pub path: Bytes,
    /// What the inode is.
    pub file_kind: FileKind,
    /// Its size before, if it was there.
    pub size_before: Option<u64>,
    /// Its size now, if it is there.
    pub size_after: Option<u64>,
}

/// Names that an inode lost and got.
#[derive(Default)]
struct Names {
    lost: Vec<(Ino, Bytes)>,
    got: Vec<(Ino, Bytes)>,
}

/// One of the two trees, with the paths of its directories that were asked for.
struct Side {
    past: Past,
    paths: HashMap<Ino, Bytes>,
}

impl Side {
    fn new(past: Past) -> Side {
        Side { past, paths: HashMap::from([(Ino::ROOT, Bytes::new())]) }
    }

    /// Path of a directory.
    fn path(&mut self, ino: Ino) -> Result<Bytes> {
        let mut way = Vec::new();
        let mut at = ino;
        while !self.paths.contains_key(&at) {
            let record = self.past.inode(at)?.ok_or(VfsError::Io)?;
            if way.len() == DEPTH_MAX {
                return Err(VfsError::Io);
            }
            let name = self.name(record.parent, at)?.ok_or(VfsError::Io)?;
            way.push((at, name));
            at = record.parent;
        }
        let mut path = self.paths[&at].clone();
        for (at, name) in way.into_iter().rev() {
            path = join(&path, &name);
            self.paths.insert(at, path.clone());
        }
        Ok(path)
    }

    /// The name that leads from a directory to an inode.
    fn name(&self, parent: Ino, ino: Ino) -> Result<Option<Bytes>> {
        let mut found = None;
        self.past.walk_names(parent, &mut |name, record| match record.ino == ino {
            true => {
                found = Some(name.bytes.clone());
                ControlFlow::Break(())
            }
            false => ControlFlow::Continue(()),
        })?;
        Ok(found)
    }
}

fn join(path: &[u8], name: &[u8]) -> Bytes {
    if path.is_empty() { Bytes::copy_from_slice(name) } else { [path, b"/", name].concat().into() }
}

/// Whether something changed that a user would call a change.
fn differs(before: &InodeRecord, after: &InodeRecord) -> bool {
    let plain = |record: &InodeRecord| {
        let mut plain = InodeRecord { atime: record.btime, allocated: 0, parent: Ino::ROOT, nlink: 0, ..*record };
        if record.kind == InodeKind::Directory {
            plain = InodeRecord { size: 0, mtime: record.btime, ctime: record.btime, ..plain };
        }
        plain
    };
    plain(before) != plain(after)
}

/// Whether something changed beside the names.
fn differs_beside_names(before: &InodeRecord, after: &InodeRecord) -> bool {
    // A new name is a change of the inode, too.
    differs(&InodeRecord { ctime: after.ctime, ..*before }, after)
}

/// Called for each difference; `Break` ends the comparison.
type Visit<'a> = dyn FnMut(TreeChange) -> ControlFlow<()> + 'a;

/// A comparison under way.
struct Diff<'a, 'b> {
    before: Side,
    after: Side,
    visit: &'a mut Visit<'b>,
}

impl Diff<'_, '_> {
    fn tell(
        &mut self,
        kind: TreeChangeKind,
        path: Bytes,
        before: Option<&InodeRecord>,
        after: Option<&InodeRecord>,
    ) -> ControlFlow<()> {
        let Some(record) = after.or(before) else { return ControlFlow::Continue(()) };
        (self.visit)(TreeChange {
            kind,
            path,
            file_kind: file_kind(record.kind),
            size_before: before.map(|record| record.size),
            size_after: after.map(|record| record.size),
        })
    }

    /// Tells what became of one inode with other names.
    fn tell_names(&mut self, ino: Ino, names: Names) -> Result<ControlFlow<()>> {
        let (before, after) = (self.before.past.inode(ino)?, self.after.past.inode(ino)?);
        let (mut lost, mut got) = (names.lost.into_iter(), names.got.into_iter());
        let mut stayed = before.zip(after).filter(|(before, after)| differs_beside_names(before, after));
        loop {
            let flow = match (lost.next(), got.next()) {
                (None, None) => return Ok(ControlFlow::Continue(())),
                (Some((old_parent, old)), Some((parent, name))) => {
                    let from = join(&self.before.path(old_parent)?, &old);
                    let path = join(&self.after.path(parent)?, &name);
                    let renamed = TreeChangeKind::Renamed { from };
                    match self.tell(renamed, path.clone(), before.as_ref(), after.as_ref()) {
                        ControlFlow::Continue(()) if stayed.take().is_some() => {
                            self.tell(TreeChangeKind::Changed, path, before.as_ref(), after.as_ref())
                        }
                        flow => flow,
                    }
                }
                (None, Some((parent, name))) => {
                    let path = join(&self.after.path(parent)?, &name);
                    self.tell(TreeChangeKind::Added, path, None, after.as_ref())
                }
                (Some((parent, name)), None) => {
                    let path = join(&self.before.path(parent)?, &name);
                    self.tell(TreeChangeKind::Removed, path, before.as_ref(), None)
                }
            };
            if flow.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Tells which inodes changed in place, of one directory: all in one pass through its names.
    fn tell_changed(&mut self, parent: Ino, inodes: &BTreeSet<Ino>) -> Result<ControlFlow<()>> {
        let mut found: BTreeMap<Bytes, Ino> = BTreeMap::new();
        let mut left = inodes.len();
        self.after.past.walk_names(parent, &mut |name, record| {
            if inodes.contains(&record.ino) {
                left -= usize::from(!found.values().any(|ino| *ino == record.ino));
                found.insert(name.bytes.clone(), record.ino);
            }
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let directory = self.after.path(parent)?;
        for (name, ino) in found {
            let (before, after) = (self.before.past.inode(ino)?, self.after.past.inode(ino)?);
            let path = join(&directory, &name);
            if self.tell(TreeChangeKind::Changed, path, before.as_ref(), after.as_ref()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn run(&mut self, changed: &BTreeSet<Bytes>) -> Result<()> {
        let mut names: BTreeMap<Ino, Names> = BTreeMap::new();
        let mut inodes = BTreeSet::new();
        for key in changed {
            if let Some(ino) = keys::parse_inode(key) {
                inodes.insert(ino);
            }
            let Some((parent, hash, name)) = keys::parse_dirent_of(key) else { continue };
            let name = Name { hash, bytes: Bytes::copy_from_slice(name) };
            let target = |record: Option<DirentRecord>| record.map(|record| record.ino);
            let before = target(self.before.past.dirent(parent, &name)?);
            let after = target(self.after.past.dirent(parent, &name)?);
            if before != after {
                if let Some(ino) = before {
                    names.entry(ino).or_default().lost.push((parent, name.bytes.clone()));
                }
                if let Some(ino) = after {
                    names.entry(ino).or_default().got.push((parent, name.bytes));
                }
            }
        }
        let mut in_place: BTreeMap<Ino, BTreeSet<Ino>> = BTreeMap::new();
        for ino in inodes.into_iter().filter(|ino| !names.contains_key(ino)) {
            let records = (self.before.past.inode(ino)?, self.after.past.inode(ino)?);
            let (Some(before), Some(after)) = records else { continue };
            if !differs(&before, &after) {
                continue;
            }
            if ino == Ino::ROOT {
                if self.tell(TreeChangeKind::Changed, Bytes::new(), Some(&before), Some(&after)).is_break() {
                    return Ok(());
                }
            } else {
                in_place.entry(after.parent).or_default().insert(ino);
            }
        }
        for (ino, names) in names {
            if self.tell_names(ino, names)?.is_break() {
                return Ok(());
            }
        }
        for (parent, inodes) in in_place {
            if self.tell_changed(parent, &inodes)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Vfs {
    /// Tells what is different in the snapshot `to`, or now, from what was in the snapshot `from`. Costs what changed,
    /// and a pass through each directory that has something that changed in place.
    ///
    /// # Errors
    /// [`VfsError::NotFound`] for a snapshot, [`VfsError::InvalidArgument`] if `to` is the older one, [`VfsError::Io`].
    pub fn diff(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let shared = &self.shared;
        let first = self.snapshot(from)?.id;
        let last = match to {
            Some(name) => self.snapshot(name)?.id,
            None => {
                shared.barrier()?;
                Epoch(u64::MAX)
            }
        };
        if last < first {
            return Err(VfsError::InvalidArgument);
        }
        let changed = changed_keys(&*shared.parts.meta, first, last).map_err(|error| shared.meta_error(&error))?;
        let (before, after) = (Side::new(Past::new(shared, first)), Side::new(Past::new(shared, last)));
        let told = Diff { before, after, visit }.run(&changed);
        // What is read of a snapshot that goes is anything.
        let state = shared.state.lock();
        let stand = [first, last].iter().all(|id| *id == Epoch(u64::MAX) || state.snapshots.stands(*id));
        if stand { told } else { Err(VfsError::NotFound) }
    }
}
