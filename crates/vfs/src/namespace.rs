//! Names: lookup, creation, links, removal, rename.

use bytes::Bytes;
use verfs_base::{Ino, Timestamp};
use verfs_format::{ContentId, DirentRecord, InodeFlags, InodeKind, InodeRecord};

use crate::attributes::{MODE_SETGID, attr};
use crate::directory::Name;
use crate::state::{Demand, Need, State, Step, Stop};
use crate::{Attr, Context, NodeKind, Pin, RenameMode, Result, Vfs, VfsError};

/// Most names that an inode may have.
const LINKS_MAX: u32 = 1 << 20;
/// Longest symlink target.
const TARGET_MAX_BYTES: usize = 4095;
/// Mode of every symlink.
const SYMLINK_MODE: u16 = 0o777;
/// Permission bits and the sticky, set-group-id and set-user-id bits.
const MODE_MASK: u16 = 0o7777;

/// What a new inode is to be.
struct Birth<'a> {
    kind: InodeKind,
    mode: u16,
    rdev: u32,
    target: Option<&'a Bytes>,
}

impl State {
    fn count_pin(&mut self, context: &Context, ino: Ino) {
        match context.pin {
            Pin::Count => self.pin(ino),
            Pin::No => {}
        }
    }

    /// What a name leads to, which must be something.
    fn target(&mut self, parent: Ino, name: &Name) -> Step<DirentRecord> {
        self.dirent(parent, name)?.ok_or(Stop::Fail(VfsError::NotFound))
    }

    fn make(
        &mut self,
        context: &Context,
        (parent, name): (Ino, &Name),
        birth: &Birth<'_>,
        now: Timestamp,
    ) -> Step<Attr> {
        let mut directory = self.directory(parent)?;
        if self.dirent(parent, name)?.is_some() {
            return Err(Stop::Fail(VfsError::Exists));
        }
        if birth.kind == InodeKind::Directory && directory.nlink >= LINKS_MAX {
            return Err(Stop::Fail(VfsError::TooManyLinks));
        }
        Self::check_extendable(&directory)?;
        self.admit(Demand::Bytes(0))?;

        let default_acl = match birth.kind {
            InodeKind::Symlink => None,
            InodeKind::Regular
            | InodeKind::Directory
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => self.default_acl(parent, &directory)?,
        };
        let inherits_group = directory.mode & MODE_SETGID != 0;
        let mut mode = birth.mode & MODE_MASK;
        let access_acl = default_acl.as_ref().map(|acl| acl.inherited(mode));
        match &access_acl {
            Some(acl) => mode = mode & !0o777 | acl.mode(),
            None if birth.kind == InodeKind::Symlink => {}
            None => mode &= !context.umask,
        }
        if inherits_group && birth.kind == InodeKind::Directory {
            mode |= MODE_SETGID;
        }
        let mut record = InodeRecord {
            kind: birth.kind,
            mode,
            flags: InodeFlags::default(),
            nlink: if birth.kind == InodeKind::Directory { 2 } else { 1 },
            uid: context.uid,
            gid: if inherits_group { directory.gid } else { context.gid },
            rdev: birth.rdev,
            size: birth.target.map_or(0, |target| target.len() as u64),
            allocated: 0,
            content: ContentId(0),
            parent,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
        };
        let ino = self.add_inode(record);
        record.content = ContentId(ino.0);
        if let (Some(access), Some(default)) = (access_acl, default_acl) {
            self.inherit_acls(ino, &mut record, &access, &default);
        }
        if birth.kind == InodeKind::Directory {
            self.directories.create(ino);
            self.counters.directories += 1;
            directory.nlink += 1;
        }
        if let Some(target) = birth.target {
            self.symlinks.put(ino, target.clone(), self.open.id, 1);
            self.open.symlinks.insert(ino, target.clone());
            self.unlogged.symlinks.insert(ino);
        }
        self.put_dirent(parent, name, Some(DirentRecord { kind: birth.kind, ino }));
        directory.size += 1;
        Self::touch_directory(&mut directory, now);
        self.put_inode(parent, directory);
        self.count_pin(context, ino);
        Ok(attr(ino, &record))
    }

    /// Takes one name from an inode; the last one orphans it.
    fn drop_link(&mut self, ino: Ino, mut record: InodeRecord, now: Timestamp) {
        record.nlink = if record.kind == InodeKind::Directory { 0 } else { record.nlink - 1 };
        record.ctime = now;
        self.put_inode(ino, record);
        if record.nlink == 0 {
            self.orphan(ino);
        }
    }

    fn remove_file(&mut self, parent: Ino, name: &Name, now: Timestamp) -> Step<()> {
        let mut directory = self.directory(parent)?;
        let target = self.target(parent, name)?;
        if target.kind == InodeKind::Directory {
            return Err(Stop::Fail(VfsError::IsDirectory));
        }
        let record = self.inode(target.ino)?;
        Self::check_removable(&directory, &record)?;
        self.admit(Demand::Release)?;

        self.put_dirent(parent, name, None);
        directory.size -= 1;
        Self::touch_directory(&mut directory, now);
        self.put_inode(parent, directory);
        self.drop_link(target.ino, record, now);
        Ok(())
    }

    fn remove_directory(&mut self, parent: Ino, name: &Name, now: Timestamp) -> Step<()> {
        let mut directory = self.directory(parent)?;
        let target = self.target(parent, name)?;
        if target.kind != InodeKind::Directory {
            return Err(Stop::Fail(VfsError::NotDirectory));
        }
        let record = self.inode(target.ino)?;
        if record.size > 0 {
            return Err(Stop::Fail(VfsError::NotEmpty));
        }
        Self::check_removable(&directory, &record)?;
        self.admit(Demand::Release)?;

        self.put_dirent(parent, name, None);
        directory.size -= 1;
        directory.nlink -= 1;
        Self::touch_directory(&mut directory, now);
        self.put_inode(parent, directory);
        self.drop_link(target.ino, record, now);
        Ok(())
    }

    fn add_link(&mut self, context: &Context, ino: Ino, parent: Ino, name: &Name, now: Timestamp) -> Step<Attr> {
        let mut record = self.inode(ino)?;
        if record.kind == InodeKind::Directory {
            return Err(Stop::Fail(VfsError::NotPermitted));
        }
        if record.nlink == 0 {
            return Err(Stop::Fail(VfsError::NotFound));
        }
        let mut directory = self.directory(parent)?;
        if self.dirent(parent, name)?.is_some() {
            return Err(Stop::Fail(VfsError::Exists));
        }
        if record.nlink >= LINKS_MAX {
            return Err(Stop::Fail(VfsError::TooManyLinks));
        }
        Self::check_changeable(&record)?;
        Self::check_extendable(&directory)?;
        self.admit(Demand::Bytes(0))?;

        record.nlink += 1;
        record.ctime = now;
        record.parent = parent;
        self.put_inode(ino, record);
        self.put_dirent(parent, name, Some(DirentRecord { kind: record.kind, ino }));
        directory.size += 1;
        Self::touch_directory(&mut directory, now);
        self.put_inode(parent, directory);
        self.note_moved(ino, &record);
        self.count_pin(context, ino);
        Ok(attr(ino, &record))
    }

    /// A name of an inode changed: whoever logs the name has to log the content that is there now.
    fn note_moved(&mut self, ino: Ino, record: &InodeRecord) {
        // A file that was emptied has nothing dirty, but an end that the log must have.
        let closing = self.closing.as_ref().is_some_and(|closing| closing.unlogged.has_content(record.content));
        let unlogged = closing || self.unlogged.has_content(record.content);
        if record.kind == InodeKind::Regular && (unlogged || self.is_dirty(record.content)) {
            self.unlogged.moved.insert(ino);
        }
    }

    /// Whether `ino` is `ancestor` or lies below it.
    fn is_below(&mut self, mut ino: Ino, ancestor: Ino) -> Step<bool> {
        loop {
            if ino == ancestor {
                return Ok(true);
            }
            if ino == Ino::ROOT {
                return Ok(false);
            }
            ino = self.inode(ino)?.parent;
        }
    }

    /// Puts an inode under a new name: `..` of a directory follows.
    fn place(&mut self, ino: Ino, mut record: InodeRecord, parent: Ino, name: &Name, now: Timestamp) {
        record.parent = parent;
        record.ctime = now;
        self.put_inode(ino, record);
        self.put_dirent(parent, name, Some(DirentRecord { kind: record.kind, ino }));
        self.note_moved(ino, &record);
    }

    pub(crate) fn rename(
        &mut self,
        from: (Ino, &Name),
        to: (Ino, &Name),
        mode: RenameMode,
        now: Timestamp,
    ) -> Step<()> {
        let from_directory = self.directory(from.0)?;
        let to_directory = self.directory(to.0)?;
        let source = self.target(from.0, from.1)?;
        let source_record = self.inode(source.ino)?;
        let replaced = self.dirent(to.0, to.1)?;
        match (mode, replaced) {
            // Two names of one inode: nothing to do, says POSIX, and so nothing that a flag could refuse.
            (RenameMode::Replace | RenameMode::Exchange, Some(other)) if other.ino == source.ino => return Ok(()),
            (RenameMode::NoReplace, Some(_)) => return Err(Stop::Fail(VfsError::Exists)),
            (RenameMode::Exchange, None) => return Err(Stop::Fail(VfsError::NotFound)),
            (RenameMode::Replace | RenameMode::Exchange, _) | (RenameMode::NoReplace, None) => {}
        }
        Self::check_removable(&from_directory, &source_record)?;
        Self::check_extendable(&to_directory)?;
        if source.kind == InodeKind::Directory && self.is_below(to.0, source.ino)? {
            return Err(Stop::Fail(VfsError::InvalidArgument));
        }
        match (mode, replaced) {
            (RenameMode::Exchange, Some(other)) => {
                let other_record = self.inode(other.ino)?;
                Self::check_removable(&to_directory, &other_record)?;
                if other.kind == InodeKind::Directory && self.is_below(from.0, other.ino)? {
                    return Err(Stop::Fail(VfsError::InvalidArgument));
                }
                self.admit(Demand::Bytes(0))?;
                self.exchange(from, to, (source.ino, source_record), (other.ino, other_record), now)?;
                return Ok(());
            }
            (RenameMode::Replace | RenameMode::NoReplace, _) | (RenameMode::Exchange, None) => {}
        }
        let victim = match replaced {
            Some(target) => {
                let record = self.inode(target.ino)?;
                match (source.kind == InodeKind::Directory, target.kind == InodeKind::Directory) {
                    (true, false) => return Err(Stop::Fail(VfsError::NotDirectory)),
                    (false, true) => return Err(Stop::Fail(VfsError::IsDirectory)),
                    (true, true) if record.size > 0 => return Err(Stop::Fail(VfsError::NotEmpty)),
                    (true, true) | (false, false) => {
                        Self::check_removable(&to_directory, &record)?;
                        Some((target.ino, record))
                    }
                }
            }
            None => None,
        };
        self.admit(Demand::Bytes(0))?;

        let moves_directory = source.kind == InodeKind::Directory;
        self.put_dirent(from.0, from.1, None);
        self.change_directory(from.0, -1, if moves_directory { -1 } else { 0 }, now)?;
        let (entries, links) = match victim {
            Some((_, record)) => (0, i64::from(moves_directory) - i64::from(record.kind == InodeKind::Directory)),
            None => (1, i64::from(moves_directory)),
        };
        if let Some((ino, record)) = victim {
            self.drop_link(ino, record, now);
        }
        self.change_directory(to.0, entries, links, now)?;
        self.place(source.ino, source_record, to.0, to.1, now);
        Ok(())
    }

    fn exchange(
        &mut self,
        from: (Ino, &Name),
        to: (Ino, &Name),
        source: (Ino, InodeRecord),
        other: (Ino, InodeRecord),
        now: Timestamp,
    ) -> Step<()> {
        let links = i64::from(other.1.kind == InodeKind::Directory) - i64::from(source.1.kind == InodeKind::Directory);
        self.change_directory(from.0, 0, links, now)?;
        self.change_directory(to.0, 0, -links, now)?;
        // The records are read anew: one of the two may be a directory whose counts just changed.
        let source_record = self.inode(source.0)?;
        self.place(source.0, source_record, to.0, to.1, now);
        let other_record = self.inode(other.0)?;
        self.place(other.0, other_record, from.0, from.1, now);
        Ok(())
    }

    /// Adds to a directory's entries and links. Its record is in memory.
    fn change_directory(&mut self, ino: Ino, entries: i64, links: i64, now: Timestamp) -> Step<()> {
        let mut record = self.inode(ino)?;
        record.size = record.size.saturating_add_signed(entries);
        record.nlink = (i64::from(record.nlink) + links) as u32;
        Self::touch_directory(&mut record, now);
        self.put_inode(ino, record);
        Ok(())
    }
}

impl Vfs {
    /// The inode that a name leads to. Pinned, if the context counts pins.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NotDirectory`], [`VfsError::NameTooLong`], [`VfsError::Io`].
    pub fn lookup(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<Attr> {
        let name = self.shared.name(parent, name)?;
        self.shared.run(context, |state| {
            state.directory(parent)?;
            let target = state.target(parent, &name)?;
            let record = state.inode(target.ino)?;
            state.count_pin(context, target.ino);
            Ok(attr(target.ino, &record))
        })
    }

    /// Removes `count` pins of an inode. Never waits; unknown inodes are ignored.
    pub fn forget(&self, ino: Ino, count: u64) {
        let mut state = self.shared.state.lock();
        if state.unpin(ino, count) && state.begin_change(self.shared.monotonic()) {
            self.shared.work.notify_one();
        }
    }

    /// Removes every pin: whoever counted them is gone, as a kernel is after an unmount.
    pub fn forget_all(&self) {
        let mut state = self.shared.state.lock();
        let pinned: Vec<Ino> = state.pins.keys().copied().collect();
        let mut released = false;
        for ino in pinned {
            released |= state.unpin(ino, u64::MAX);
        }
        if released && state.begin_change(self.shared.monotonic()) {
            self.shared.work.notify_one();
        }
    }

    /// Keeps an inode until [`Vfs::end_hold`], beyond its last name: it is open. Apart from pins, which go with a mount.
    ///
    /// # Errors
    /// [`VfsError::NotFound`] when it is gone, [`VfsError::Io`].
    pub fn hold(&self, context: &Context, ino: Ino) -> Result<()> {
        self.shared.run(context, |state| {
            state.inode(ino)?;
            *state.holds.entry(ino).or_insert(0) += 1;
            Ok(())
        })
    }

    /// Ends one hold. Never waits.
    pub fn end_hold(&self, ino: Ino) {
        let mut state = self.shared.state.lock();
        if state.end_hold(ino) && state.begin_change(self.shared.monotonic()) {
            self.shared.work.notify_one();
        }
    }

    /// A symlink's target.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::InvalidArgument`] for anything else, [`VfsError::Io`].
    pub fn readlink(&self, context: &Context, ino: Ino) -> Result<Bytes> {
        self.shared.run(context, |state| {
            if state.inode(ino)?.kind != InodeKind::Symlink {
                return Err(Stop::Fail(VfsError::InvalidArgument));
            }
            state.symlinks.get(ino).cloned().ok_or(Stop::Need(Need::Symlink(ino)))
        })
    }

    /// Makes anything but a directory or a symlink. `mode` is `0o7777`, the umask already applied.
    ///
    /// # Errors
    /// [`VfsError::Exists`], [`VfsError::NotFound`], [`VfsError::NotDirectory`], [`VfsError::NameTooLong`],
    /// [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn mknod(&self, context: &Context, parent: Ino, name: &[u8], kind: NodeKind, mode: u16) -> Result<Attr> {
        let name = self.shared.name(parent, name)?;
        let (kind, rdev) = match kind {
            NodeKind::Regular => (InodeKind::Regular, 0),
            NodeKind::Fifo => (InodeKind::Fifo, 0),
            NodeKind::Socket => (InodeKind::Socket, 0),
            NodeKind::CharDevice(number) => (InodeKind::CharDevice, number),
            NodeKind::BlockDevice(number) => (InodeKind::BlockDevice, number),
        };
        let birth = Birth { kind, mode, rdev, target: None };
        let attr = self.shared.run_change(context, |state, now| state.make(context, (parent, &name), &birth, now))?;
        self.tell_name(parent, &name.bytes);
        Ok(attr)
    }

    /// Makes a directory. `mode` is `0o7777`, the umask already applied.
    ///
    /// # Errors
    /// As [`Vfs::mknod`], and [`VfsError::TooManyLinks`].
    pub fn mkdir(&self, context: &Context, parent: Ino, name: &[u8], mode: u16) -> Result<Attr> {
        let name = self.shared.name(parent, name)?;
        let birth = Birth { kind: InodeKind::Directory, mode, rdev: 0, target: None };
        let attr = self.shared.run_change(context, |state, now| state.make(context, (parent, &name), &birth, now))?;
        self.tell_name(parent, &name.bytes);
        Ok(attr)
    }

    /// Makes a symlink.
    ///
    /// # Errors
    /// As [`Vfs::mknod`]; [`VfsError::NotFound`] for an empty target, [`VfsError::NameTooLong`] for one of more than
    /// 4095 bytes.
    pub fn symlink(&self, context: &Context, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr> {
        let name = self.shared.name(parent, name)?;
        if target.is_empty() {
            return Err(VfsError::NotFound);
        }
        if target.len() > TARGET_MAX_BYTES {
            return Err(VfsError::NameTooLong);
        }
        let target = Bytes::copy_from_slice(target);
        let birth = Birth { kind: InodeKind::Symlink, mode: SYMLINK_MODE, rdev: 0, target: Some(&target) };
        let attr = self.shared.run_change(context, |state, now| state.make(context, (parent, &name), &birth, now))?;
        self.tell_name(parent, &name.bytes);
        Ok(attr)
    }

    /// Gives an inode one more name.
    ///
    /// # Errors
    /// As [`Vfs::mknod`]; [`VfsError::NotPermitted`] for a directory, [`VfsError::TooManyLinks`].
    pub fn link(&self, context: &Context, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        let name = self.shared.name(parent, name)?;
        let attr = self.shared.run_change(context, |state, now| state.add_link(context, ino, parent, &name, now))?;
        self.tell_name(parent, &name.bytes);
        Ok(attr)
    }

    /// Removes a name of anything but a directory. O(1) in the size of the file.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NotDirectory`], [`VfsError::IsDirectory`], [`VfsError::ReadOnly`],
    /// [`VfsError::Io`].
    pub fn unlink(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        let name = self.shared.name(parent, name)?;
        self.shared.run_change(context, |state, now| state.remove_file(parent, &name, now))?;
        self.tell_name(parent, &name.bytes);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NotDirectory`], [`VfsError::NotEmpty`], [`VfsError::ReadOnly`],
    /// [`VfsError::Io`].
    pub fn rmdir(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        let name = self.shared.name(parent, name)?;
        self.shared.run_change(context, |state, now| state.remove_directory(parent, &name, now))?;
        self.tell_name(parent, &name.bytes);
        Ok(())
    }

    /// Moves a name. Atomic: a lookup of the new name finds the old or the new inode, never nothing.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Exists`] (no-replace), [`VfsError::NotDirectory`],
    /// [`VfsError::IsDirectory`], [`VfsError::NotEmpty`], [`VfsError::InvalidArgument`] (a directory into itself),
    /// [`VfsError::NameTooLong`], [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn rename(
        &self,
        context: &Context,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let (name, new_name) = (self.shared.name(parent, name)?, self.shared.name(new_parent, new_name)?);
        self.shared
            .run_change(context, |state, now| state.rename((parent, &name), (new_parent, &new_name), mode, now))?;
        self.tell_name(parent, &name.bytes);
        self.tell_name(new_parent, &new_name.bytes);
        Ok(())
    }
}
