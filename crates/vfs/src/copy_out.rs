//! Copies out of a snapshot into the live tree, sharing all data: clones and restored files.
//!
//! A copy grows under a directory of the root that only its owner may enter and moves to its place whole, with one
//! rename. What a crash leaves there is removed when the volume is opened the next time.

use std::collections::HashMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{ByteRange, Ino, Timestamp};
use verfs_format::{InodeKind, InodeRecord};

use crate::allocation::held_bytes;
use crate::file_data::{Part, regular};
use crate::flags::shown;
use crate::snapshot_tree::Past;
use crate::state::{Demand, State, Step};
use crate::{
    Context, FileFlags, FileKind, Listing, NodeKind, RenameMode, Result, SetAttr, SetTime, Vfs, VfsError, XattrMode,
};

/// Directory of the root under which copies grow.
pub const NURSERY: &[u8] = b".verfs-copy";
/// Mode of that directory.
const NURSERY_MODE: u16 = 0o700;
/// Mode of a directory on the way to a copy that the snapshot doesn't have.
const WAY_MODE: u16 = 0o755;
/// What one operation takes over of a file: bounds the time that it holds the lock.
const STRETCH_BYTES: u64 = 16 << 20;
/// Names that one look at a directory to be removed reads.
const PAGE_ENTRIES: usize = 1024;

/// Where a copy goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyMode {
    /// The name must be free.
    New,
    /// What has the name is replaced, whatever it is, with everything in it.
    Replace,
}

/// How far a copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// Files, links and special files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Called after each inode; `Break` ends the copy, and nothing of it stays.
pub type CopyProgress<'a> = dyn FnMut(Copied) -> ControlFlow<()> + 'a;

/// A file or directory to be made: where, and of what.
struct Todo {
    parent: Ino,
    name: Bytes,
    source: Ino,
}

/// A directory that is made on the way to a copy: its name, and which one of the snapshot it is made after.
struct WayDirectory {
    name: Bytes,
    source: Option<Ino>,
}

/// Whether immutable and append-only inodes are that at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Freezing {
    AtOnce,
    /// When it has its place: nothing that is frozen can be moved.
    InPlace,
}

struct Copy<'a, 'b> {
    vfs: &'a Vfs,
    past: Past,
    /// Inodes with several names that were made already.
    linked: HashMap<Ino, Ino>,
    /// Attributes that are set once everything below is there: of which directory, and after which of the snapshot.
    directories: Vec<(Ino, Option<Ino>)>,
    /// Flags of what will be moved to its place.
    top_flags: FileFlags,
    copied: Copied,
    progress: &'a mut CopyProgress<'b>,
}

const ROOT: Context = Context::ROOT;

fn times(record: &InodeRecord) -> SetAttr {
    let at = |time: Timestamp| Some(SetTime::At(time));
    SetAttr { atime: at(record.atime), mtime: at(record.mtime), ..SetAttr::default() }
}

impl State {
    /// Makes a stretch of a file consist of parts, some of which may be chunks of the store.
    fn adopt(&mut self, ino: Ino, offset: u64, parts: &[Part]) -> Step<()> {
        let mut record = self.inode(ino)?;
        regular(&record)?;
        self.admit(Demand::Bytes(held_bytes(parts)))?;
        self.put_parts(&mut record, offset, parts);
        self.put_inode(ino, record);
        Ok(())
    }
}

impl Copy<'_, '_> {
    /// Makes the directories of a way under `name` of the nursery, one in the other, and in the last of them everything
    /// at and below `source`. Returns what has that name.
    fn run(&mut self, nursery: Ino, name: &Bytes, way: &[WayDirectory], last: &Bytes, source: Ino) -> Result<Ino> {
        let mut first = Todo { parent: nursery, name: name.clone(), source };
        for (depth, directory) in way.iter().enumerate() {
            let made = self.vfs.mkdir(&ROOT, first.parent, &first.name, NURSERY_MODE)?.ino;
            self.directories.push((made, directory.source));
            let below = way.get(depth + 1).map_or(last, |next| &next.name);
            first = Todo { parent: made, name: below.clone(), source };
        }
        let freezing = if way.is_empty() { Freezing::InPlace } else { Freezing::AtOnce };
        let made = self.grow(first, freezing)?;
        let top = self.directories.first().map_or(made, |(top, _)| *top);
        // From the deepest up: a change below moves the times above.
        for (made, source) in std::mem::take(&mut self.directories).into_iter().rev() {
            let freezing = if made == top { Freezing::InPlace } else { Freezing::AtOnce };
            match source {
                Some(source) => {
                    let record = self.past.inode(source)?.ok_or(VfsError::NotFound)?;
                    self.copy_attributes(made, source, &record, freezing)?;
                }
                None => {
                    let plain = SetAttr { mode: Some(WAY_MODE), uid: Some(0), gid: Some(0), ..SetAttr::default() };
                    self.vfs.setattr(&ROOT, made, &plain)?;
                }
            }
        }
        Ok(top)
    }

    /// Makes everything at and below `first`. Returns what was made first.
    fn grow(&mut self, first: Todo, freezing: Freezing) -> Result<Ino> {
        let mut top = None;
        let mut todo = vec![first];
        while let Some(next) = todo.pop() {
            let record = self.past.inode(next.source)?.ok_or(VfsError::NotFound)?;
            let made = if record.kind == InodeKind::Directory {
                let made = self.vfs.mkdir(&ROOT, next.parent, &next.name, NURSERY_MODE)?.ino;
                self.past.walk_names(next.source, &mut |name, target| {
                    todo.push(Todo { parent: made, name: name.bytes.clone(), source: target.ino });
                    ControlFlow::Continue(())
                })?;
                self.directories.push((made, Some(next.source)));
                self.copied.directories += 1;
                made
            } else {
                self.copied.files += 1;
                self.copy_file(&next, &record, if top.is_none() { freezing } else { Freezing::AtOnce })?
            };
            top.get_or_insert(made);
            if (self.progress)(self.copied).is_break() {
                return Err(VfsError::Interrupted);
            }
        }
        top.ok_or(VfsError::NotFound)
    }

    fn copy_file(&mut self, todo: &Todo, record: &InodeRecord, freezing: Freezing) -> Result<Ino> {
        if let Some(made) = self.linked.get(&todo.source).copied() {
            // What is frozen takes no more names.
            let flags = self.vfs.thaw_inode(made)?;
            self.vfs.link(&ROOT, made, todo.parent, &todo.name)?;
            if let Some(flags) = flags {
                self.vfs.set_file_flags(&ROOT, made, flags)?;
            }
            return Ok(made);
        }
        let node = |kind| self.vfs.mknod(&ROOT, todo.parent, &todo.name, kind, 0o600);
        let made = match record.kind {
            InodeKind::Symlink => {
                let target = self.past.symlink(todo.source)?;
                self.vfs.symlink(&ROOT, todo.parent, &todo.name, &target)
            }
            InodeKind::Regular => node(NodeKind::Regular),
            InodeKind::Fifo => node(NodeKind::Fifo),
            InodeKind::Socket => node(NodeKind::Socket),
            InodeKind::CharDevice => node(NodeKind::CharDevice(record.rdev)),
            InodeKind::BlockDevice => node(NodeKind::BlockDevice(record.rdev)),
            InodeKind::Directory => Err(VfsError::IsDirectory),
        };
        let made = made?.ino;
        if record.nlink > 1 {
            self.linked.insert(todo.source, made);
        }
        if record.kind == InodeKind::Regular {
            self.copy_content(made, record)?;
        }
        self.copy_attributes(made, todo.source, record, freezing)?;
        Ok(made)
    }

    fn copy_content(&mut self, made: Ino, record: &InodeRecord) -> Result<()> {
        let mut offset = 0;
        while offset < record.size {
            let len = STRETCH_BYTES.min(record.size - offset);
            let parts = self.past.parts(record.content, ByteRange::new(offset, len))?;
            self.vfs.shared.run_change(&ROOT, |state, _| state.adopt(made, offset, &parts))?;
            offset += len;
            self.copied.bytes += len;
        }
        Ok(())
    }

    fn copy_attributes(&mut self, made: Ino, source: Ino, record: &InodeRecord, freezing: Freezing) -> Result<()> {
        let owner = SetAttr { uid: Some(record.uid), gid: Some(record.gid), ..SetAttr::default() };
        self.vfs.setattr(&ROOT, made, &owner)?;
        for (name, value) in self.past.xattrs(source, record)?.iter() {
            self.vfs.setxattr(&ROOT, made, name, value, XattrMode::Set)?;
        }
        let mode = (record.kind != InodeKind::Symlink).then_some(record.mode);
        self.vfs.setattr(&ROOT, made, &SetAttr { mode, ..times(record) })?;
        let flags = shown(record.flags);
        match freezing {
            Freezing::InPlace => self.top_flags = flags,
            Freezing::AtOnce if flags == FileFlags::default() => {}
            Freezing::AtOnce => self.vfs.set_file_flags(&ROOT, made, flags)?,
        }
        Ok(())
    }
}

/// Parts of a path, without empty ones.
///
/// # Errors
/// [`VfsError::InvalidArgument`] for `.` and `..`.
pub(crate) fn split(path: &[u8]) -> Result<Vec<&[u8]>> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    match names.iter().any(|name| *name == b"." || *name == b"..") {
        true => Err(VfsError::InvalidArgument),
        false => Ok(names),
    }
}

impl Vfs {
    /// Copies what had the path `from` in a snapshot (the whole tree: an empty path) to the path `to` of the live tree,
    /// which appears whole or not at all. Data is shared, so that it costs what the names and attributes take.
    /// Directories that `to` needs and that are missing come with it, as they were in the snapshot, or else with mode
    /// 0755.
    ///
    /// # Errors
    /// [`VfsError::NotFound`] for the snapshot or the path in it, [`VfsError::Exists`], [`VfsError::NotDirectory`],
    /// [`VfsError::InvalidArgument`] for paths with `.` or `..`, [`VfsError::Interrupted`] when `progress` ended it,
    /// [`VfsError::NotPermitted`] where flags of the place or of the root are against it, [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn copy_out(
        &self,
        snapshot: &[u8],
        from: &[u8],
        to: &[u8],
        mode: CopyMode,
        progress: &mut CopyProgress<'_>,
    ) -> Result<Copied> {
        // One at a time, and no rollback takes away what it makes.
        let _whole_tree = self.shared.whole_tree.lock();
        let use_of_it = self.use_snapshot(snapshot)?;
        let past = Past::new(&self.shared, use_of_it.id());
        let mut source = Ino::ROOT;
        for name in split(from)? {
            source = past.dirent(source, &self.shared.name(source, name)?)?.ok_or(VfsError::NotFound)?.ino;
        }
        let way = split(to)?;
        let (last, way) = way.split_last().ok_or(VfsError::Exists)?;
        let (parent, missing) = self.make_way(&past, way)?;
        let last = self.shared.name(parent, last)?.bytes;
        let name = missing.first().map_or(&last, |directory| &directory.name).clone();
        let target = match self.lookup(&ROOT, parent, &name) {
            Ok(_) if mode == CopyMode::New => return Err(VfsError::Exists),
            Ok(attr) => Some(attr.ino),
            Err(VfsError::NotFound) => None,
            Err(error) => return Err(error),
        };

        let nursery = self.nursery()?;
        let unique = Bytes::from(format!("{:x}", self.shared.state.lock().take_number()));
        let mut copy = Copy {
            vfs: self,
            past,
            linked: HashMap::new(),
            directories: Vec::new(),
            top_flags: FileFlags::default(),
            copied: Copied::default(),
            progress,
        };
        let placed = copy.run(nursery, &unique, &missing, &last, source).and_then(|made| {
            // Somebody's fsync makes the names durable that are there: then the contents must be.
            self.sync()?;
            let mode = if target.is_some() { RenameMode::Exchange } else { RenameMode::NoReplace };
            let (from, to) = (self.shared.name(nursery, &unique)?, self.shared.name(parent, &name)?);
            self.shared.run_change(&ROOT, |state, now| {
                state.rename((nursery, &from), (parent, &to), mode, now)?;
                state.keep_flags(made, copy.top_flags)
            })?;
            Ok(copy.copied)
        });
        // What failed, or what was there before.
        let cleared = match self.remove_tree(nursery, &unique) {
            Ok(()) | Err(VfsError::NotFound) => self.rmdir(&ROOT, Ino::ROOT, NURSERY),
            Err(error) => Err(error),
        };
        if let Err(error) = cleared {
            tracing::warn!(%error, "can't remove what a copy left; opening the volume will");
        }
        // Before the snapshot may go: the copies' references are counted then.
        self.sync()?;
        placed
    }

    /// Removes what copies left that a crash interrupted.
    ///
    /// # Errors
    /// [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn remove_interrupted_copies(&self) -> Result<()> {
        // A copy under way is not one of them, and after a rollback what was left may be somewhere else.
        let _whole_tree = self.shared.whole_tree.lock();
        match self.remove_tree(Ino::ROOT, NURSERY) {
            // Once and for all: the next crash finds nothing to be removed.
            Ok(()) => self.sync(),
            Err(VfsError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The directory under which copies grow. It passes nothing on to what is made in it.
    fn nursery(&self) -> Result<Ino> {
        let root = self.file_flags(&ROOT, Ino::ROOT)?;
        if root.immutable || root.append_only {
            // Nothing could be removed there again.
            return Err(VfsError::NotPermitted);
        }
        let nursery = match self.mkdir(&ROOT, Ino::ROOT, NURSERY, NURSERY_MODE) {
            Ok(made) => made.ino,
            Err(VfsError::Exists) => self.lookup(&ROOT, Ino::ROOT, NURSERY)?.ino,
            Err(error) => return Err(error),
        };
        for name in self.listxattr(&ROOT, nursery)? {
            self.removexattr(&ROOT, nursery, &name)?;
        }
        self.setattr(&ROOT, nursery, &SetAttr { mode: Some(NURSERY_MODE), ..SetAttr::default() })?;
        Ok(nursery)
    }

    /// The last directory of a way through the live tree that is there, and those that are missing.
    fn make_way(&self, past: &Past, way: &[&[u8]]) -> Result<(Ino, Vec<WayDirectory>)> {
        let mut at = Ino::ROOT;
        let mut then = Some(Ino::ROOT);
        let mut missing = Vec::new();
        for name in way {
            let bytes = self.shared.name(at, name)?.bytes;
            then = match then {
                Some(parent) => past.dirent(parent, &self.shared.name(parent, name)?)?,
                None => None,
            }
            .filter(|target| target.kind == InodeKind::Directory)
            .map(|target| target.ino);
            if missing.is_empty() {
                match self.lookup(&ROOT, at, name) {
                    Ok(found) if found.kind == FileKind::Directory => {
                        at = found.ino;
                        continue;
                    }
                    Ok(_) => return Err(VfsError::NotDirectory),
                    Err(VfsError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            missing.push(WayDirectory { name: bytes, source: then });
        }
        Ok((at, missing))
    }

    /// Makes an inode one that can be changed. Returns its flags if it was not.
    fn thaw_inode(&self, ino: Ino) -> Result<Option<FileFlags>> {
        let flags = self.file_flags(&ROOT, ino)?;
        if !flags.immutable && !flags.append_only {
            return Ok(None);
        }
        self.set_file_flags(&ROOT, ino, FileFlags::default())?;
        Ok(Some(flags))
    }

    /// Removes a name with everything below it, flags notwithstanding.
    fn remove_tree(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let mut way = vec![(parent, Bytes::copy_from_slice(name))];
        while let Some((parent, name)) = way.last().cloned() {
            let found = match self.lookup(&ROOT, parent, &name) {
                Err(VfsError::NotFound) if way.len() > 1 => {
                    way.pop();
                    continue;
                }
                found => found?,
            };
            let flags = self.thaw_inode(found.ino)?;
            if found.kind != FileKind::Directory {
                self.unlink(&ROOT, parent, &name)?;
                if let Some(flags) = flags.filter(|_| found.nlink > 1) {
                    self.set_file_flags(&ROOT, found.ino, flags)?;
                }
                way.pop();
                continue;
            }
            // Behind `.` and `..`.
            let entries = self.readdir(&ROOT, found.ino, 2, PAGE_ENTRIES, Listing::Names)?;
            if entries.is_empty() {
                self.rmdir(&ROOT, parent, &name)?;
                way.pop();
            }
            way.extend(entries.into_iter().map(|entry| (found.ino, entry.name)));
        }
        Ok(())
    }
}
