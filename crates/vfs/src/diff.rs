//! What changed between two snapshots, or since one: found in change lists, never by a walk of the tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{Epoch, Ino};
use verfs_format::{DirentRecord, InodeFlags, InodeKind, InodeRecord, NameHash, keys};
use verfs_meta::{KeyRange, MetaError, MetaStore};

use crate::attributes::file_kind;
use crate::directory::Name;
use crate::history::ChangedKeys;
use crate::snapshot_tree::Past;
use crate::{FileKind, Result, Vfs, VfsError};

/// Directories that a path is followed upwards through at most.
const DEPTH_MAX: usize = 4096;
/// What a name or an inode in a window costs beside the bytes of its name.
const ENTRY_BYTES: usize = 128;
/// Paths of directories that are kept.
const PATHS_MAX: usize = 4096;

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
        if self.paths.len() > PATHS_MAX {
            self.paths = HashMap::from([(Ino::ROOT, Bytes::new())]);
        }
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

/// What a user would call the attributes of an inode.
fn plain(record: &InodeRecord) -> InodeRecord {
    let plain = InodeRecord { atime: record.btime, allocated: 0, parent: Ino::ROOT, nlink: 0, ..*record };
    match record.kind {
        InodeKind::Directory => InodeRecord { size: 0, mtime: record.btime, ctime: record.btime, ..plain },
        InodeKind::Regular
        | InodeKind::Symlink
        | InodeKind::Fifo
        | InodeKind::Socket
        | InodeKind::CharDevice
        | InodeKind::BlockDevice => plain,
    }
}

/// Whether an inode has the names that it had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Linked {
    As,
    Otherwise,
}

/// Called for each difference; `Break` ends the comparison.
type Visit<'a> = dyn FnMut(TreeChange) -> ControlFlow<()> + 'a;

/// Whether the comparison goes on.
type Told = Result<ControlFlow<()>>;

/// Inodes that both trees have and that got or lost names: those of a stretch of numbers, as many as there is room for.
struct Window {
    /// Inodes up to this one were told before.
    above: Ino,
    /// The last one of the stretch.
    last: Ino,
    names: BTreeMap<Ino, Names>,
    bytes: usize,
    limit_bytes: usize,
}

/// Which tree has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Has {
    Before,
    After,
}

impl Window {
    fn new(above: Ino, limit_bytes: usize) -> Self {
        Window { above, last: Ino(u64::MAX), names: BTreeMap::new(), bytes: 0, limit_bytes }
    }

    /// Whether it has, or may get, the names of an inode.
    fn holds(&self, ino: Ino) -> bool {
        ino > self.above && ino <= self.last
    }

    fn put(&mut self, ino: Ino, has: Has, (parent, name): (Ino, &Bytes)) {
        let names = self.names.entry(ino).or_default();
        let list = match has {
            Has::Before => &mut names.lost,
            Has::After => &mut names.got,
        };
        list.push((parent, name.clone()));
        self.bytes += name.len() + ENTRY_BYTES;
        while self.bytes > self.limit_bytes
            && self.names.len() > 1
            && let Some((ino, names)) = self.names.pop_last()
        {
            self.bytes -= names.lost.iter().chain(&names.got).map(|(_, name)| name.len() + ENTRY_BYTES).sum::<usize>();
            self.last = Ino(ino.0 - 1);
        }
    }
}

/// Inodes that changed in place, by the directory that they are in.
#[derive(Default)]
struct InPlace {
    inodes: BTreeMap<Ino, BTreeMap<Ino, Linked>>,
    count: usize,
}

/// A comparison under way.
struct Diff<'a, 'b> {
    meta: &'a dyn MetaStore,
    epochs: (Epoch, Epoch),
    window_bytes: usize,
    before: Side,
    after: Side,
    in_place: InPlace,
    meta_error: &'a dyn Fn(&MetaError) -> VfsError,
    visit: &'a mut Visit<'b>,
}

impl<'a> Diff<'a, '_> {
    fn changed(&self, range: KeyRange) -> ChangedKeys<'a> {
        ChangedKeys::new(self.meta, self.epochs, self.window_bytes).within(range)
    }

    /// Whether something changed that a user would call a change. A new name is a change of the inode, too, but not one
    /// of these.
    fn differs(&self, ino: Ino, before: &InodeRecord, after: &InodeRecord, linked: Linked) -> Result<bool> {
        let ctime = match linked {
            Linked::As => before.ctime,
            Linked::Otherwise => after.ctime,
        };
        if plain(&InodeRecord { ctime, ..*before }) != plain(after) {
            return Ok(true);
        }
        // Whatever else it is, a change of extended attributes moved this time.
        let listed = |record: &InodeRecord| record.flags.contains(InodeFlags::XATTRS);
        if before.ctime == after.ctime || !listed(before) || !listed(after) {
            return Ok(false);
        }
        Ok(self.before.past.xattrs(ino, before)? != self.after.past.xattrs(ino, after)?)
    }

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

    fn tell_name(&mut self, has: Has, (parent, name): (Ino, &Bytes), record: &InodeRecord) -> Told {
        Ok(match has {
            Has::Before => {
                let path = join(&self.before.path(parent)?, name);
                self.tell(TreeChangeKind::Removed, path, Some(record), None)
            }
            Has::After => {
                let path = join(&self.after.path(parent)?, name);
                self.tell(TreeChangeKind::Added, path, None, Some(record))
            }
        })
    }

    /// Tells what became of one inode with other names, which both trees have.
    fn tell_names(&mut self, ino: Ino, names: Names) -> Told {
        let (before, after) = (self.before.past.inode(ino)?, self.after.past.inode(ino)?);
        let Some((before, after)) = before.zip(after) else { return Ok(ControlFlow::Continue(())) };
        let mut differs = self.differs(ino, &before, &after, Linked::Otherwise)?;
        let (mut lost, mut got) = (names.lost.into_iter(), names.got.into_iter());
        loop {
            let flow = match (lost.next(), got.next()) {
                (None, None) => break,
                (Some((old_parent, old)), Some((parent, name))) => {
                    let from = join(&self.before.path(old_parent)?, &old);
                    let path = join(&self.after.path(parent)?, &name);
                    let renamed = TreeChangeKind::Renamed { from };
                    match self.tell(renamed, path.clone(), Some(&before), Some(&after)) {
                        ControlFlow::Continue(()) if std::mem::take(&mut differs) => {
                            self.tell(TreeChangeKind::Changed, path, Some(&before), Some(&after))
                        }
                        flow => flow,
                    }
                }
                (None, Some((parent, name))) => self.tell_name(Has::After, (parent, &name), &after)?,
                (Some((parent, name)), None) => self.tell_name(Has::Before, (parent, &name), &before)?,
            };
            if flow.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        // It has kept a name, too.
        if differs { self.put_in_place(ino, &after, Linked::Otherwise) } else { Ok(ControlFlow::Continue(())) }
    }

    fn put_in_place(&mut self, ino: Ino, after: &InodeRecord, linked: Linked) -> Told {
        self.in_place.inodes.entry(after.parent).or_default().insert(ino, linked);
        self.in_place.count += 1;
        if self.in_place.count * ENTRY_BYTES > self.window_bytes {
            return self.tell_in_place();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Tells which inodes changed in place, each directory in one pass through its names.
    fn tell_in_place(&mut self) -> Told {
        let mut elsewhere = BTreeMap::new();
        for (parent, inodes) in std::mem::take(&mut self.in_place).inodes {
            if self.tell_in(parent, &inodes, &mut elsewhere)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        // The directory of its latest name is known of a file, which may have lost just that one: the others may be
        // anywhere.
        let mut todo = vec![Ino::ROOT];
        while let (false, Some(directory)) = (elsewhere.is_empty(), todo.pop()) {
            self.after.past.walk_names(directory, &mut |_, target| {
                if target.kind == InodeKind::Directory {
                    todo.push(target.ino);
                }
                ControlFlow::Continue(())
            })?;
            let wanted = std::mem::take(&mut elsewhere);
            if self.tell_in(directory, &wanted, &mut elsewhere)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Tells those of some changed inodes that have a name in a directory; the others are left.
    fn tell_in(&mut self, parent: Ino, inodes: &BTreeMap<Ino, Linked>, left: &mut BTreeMap<Ino, Linked>) -> Told {
        let mut found: BTreeMap<Bytes, (Ino, NameHash)> = BTreeMap::new();
        let mut missing: BTreeMap<Ino, Linked> = inodes.clone();
        self.after.past.walk_names(parent, &mut |name, record| {
            if let Some(linked) = inodes.get(&record.ino) {
                found.insert(name.bytes.clone(), (record.ino, name.hash));
                // Of the others not every name will do.
                if *linked == Linked::As {
                    missing.remove(&record.ino);
                }
            }
            if missing.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        for (bytes, (ino, hash)) in found {
            if inodes.get(&ino) == Some(&Linked::Otherwise) {
                let then = self.before.past.dirent(parent, &Name { hash, bytes: bytes.clone() })?;
                if then.is_none_or(|then| then.ino != ino) {
                    // A name that it got is told already.
                    continue;
                }
                missing.remove(&ino);
            }
            let (before, after) = (self.before.past.inode(ino)?, self.after.past.inode(ino)?);
            let path = join(&self.after.path(parent)?, &bytes);
            if self.tell(TreeChangeKind::Changed, path, before.as_ref(), after.as_ref()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        left.append(&mut missing);
        Ok(ControlFlow::Continue(()))
    }

    /// Puts names that came or went into a window. In the first pass those are told whose inode only one tree has.
    fn collect(&mut self, window: &mut Window) -> Told {
        let is_first = window.above == Ino(0);
        let mut changed = self.changed(KeyRange::prefix(&[keys::DIRENT]));
        while let Some(key) = changed.next().map_err(|error| (self.meta_error)(&error))? {
            let Some((parent, hash, name)) = keys::parse_dirent_of(&key) else { continue };
            let name = Name { hash, bytes: Bytes::copy_from_slice(name) };
            let target = |record: Option<DirentRecord>| record.map(|record| record.ino);
            let before = target(self.before.past.dirent(parent, &name)?);
            let after = target(self.after.past.dirent(parent, &name)?);
            if before == after {
                continue;
            }
            for (has, ino) in [(Has::Before, before), (Has::After, after)] {
                let Some(ino) = ino.filter(|ino| is_first || window.holds(*ino)) else { continue };
                let (mine, other) = match has {
                    Has::Before => (&self.before, &self.after),
                    Has::After => (&self.after, &self.before),
                };
                if other.past.inode(ino)?.is_some() {
                    if window.holds(ino) {
                        window.put(ino, has, (parent, &name.bytes));
                    }
                } else if is_first {
                    let record = mine.past.inode(ino)?.ok_or(VfsError::Io)?;
                    if self.tell_name(has, (parent, &name.bytes), &record)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Tells everything, one stretch of inode numbers after the other.
    fn run(&mut self) -> Told {
        let mut above = Ino(0);
        loop {
            let mut window = Window::new(above, self.window_bytes);
            if self.collect(&mut window)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let Window { last, names, .. } = window;
            let moved: BTreeSet<Ino> = names.keys().copied().collect();
            for (ino, names) in names {
                if self.tell_names(ino, names)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            let first = keys::inode(Ino(above.0 + 1));
            let range = match last.0.checked_add(1) {
                Some(end) => KeyRange::between(first, keys::inode(Ino(end))),
                None => KeyRange { start: first.into(), ..KeyRange::prefix(&[keys::INODE]) },
            };
            let mut changed = self.changed(range);
            while let Some(key) = changed.next().map_err(|error| (self.meta_error)(&error))? {
                let Some(ino) = keys::parse_inode(&key).filter(|ino| !moved.contains(ino)) else { continue };
                let records = (self.before.past.inode(ino)?, self.after.past.inode(ino)?);
                let (Some(before), Some(after)) = records else { continue };
                if !self.differs(ino, &before, &after, Linked::As)? {
                    continue;
                }
                let flow = match ino {
                    Ino::ROOT => self.tell(TreeChangeKind::Changed, Bytes::new(), Some(&before), Some(&after)),
                    _ => self.put_in_place(ino, &after, Linked::As)?,
                };
                if flow.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if self.tell_in_place()?.is_break() || last.0 == u64::MAX {
                return Ok(ControlFlow::Continue(()));
            }
            above = last;
        }
    }
}

impl Vfs {
    /// Tells what is different in the snapshot `to`, or now, from what was in the snapshot `from`. Costs what changed,
    /// and a pass through each directory that has something that changed in place; but a walk of the tree where a file
    /// of several names changed that lost the latest of them. What changed is held in windows: more of it than there is
    /// room for takes another pass, not more memory. Names of one inode are held at once.
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
        let mut diff = Diff {
            meta: &*shared.parts.meta,
            epochs: (first, last),
            window_bytes: shared.options.change_window_bytes,
            before: Side::new(Past::new(shared, first)),
            after: Side::new(Past::new(shared, last)),
            in_place: InPlace::default(),
            meta_error: &|error| shared.meta_error(error),
            visit,
        };
        let told = diff.run().map(|_| ());
        // What is read of a snapshot that goes is anything.
        let state = shared.state.lock();
        let stand = [first, last].iter().all(|id| *id == Epoch(u64::MAX) || state.snapshots.stands(*id));
        if stand { told } else { Err(VfsError::NotFound) }
    }
}
