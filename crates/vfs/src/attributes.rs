//! Attributes: getattr, setattr, and how a record is shown to callers.

use verfs_base::{ByteRange, Ino, Timestamp};
use verfs_format::{InodeKind, InodeRecord, SEGMENT_BYTES};

use crate::state::{Demand, State, Step, Stop};
use crate::volume::FILE_MAX_BYTES;
use crate::{Attr, Context, FileKind, Result, SetAttr, SetId, SetTime, Vfs, VfsError};

/// Set-user-id.
pub(crate) const MODE_SETUID: u16 = 0o4000;
/// Set-group-id.
pub(crate) const MODE_SETGID: u16 = 0o2000;
/// Group execute: without it set-group-id on a file means mandatory locking, and stays.
const MODE_GROUP_EXECUTE: u16 = 0o0010;
/// Bytes of a block as `st_blocks` counts them.
const STAT_BLOCK_BYTES: u64 = 512;
/// Allocation is shown in whole blocks of this size.
const ALLOCATION_BYTES: u64 = 4096;

/// The kind that callers see.
pub(crate) fn file_kind(kind: InodeKind) -> FileKind {
    match kind {
        InodeKind::Regular => FileKind::Regular,
        InodeKind::Directory => FileKind::Directory,
        InodeKind::Symlink => FileKind::Symlink,
        InodeKind::Fifo => FileKind::Fifo,
        InodeKind::Socket => FileKind::Socket,
        InodeKind::CharDevice => FileKind::CharDevice,
        InodeKind::BlockDevice => FileKind::BlockDevice,
    }
}

/// The attributes that callers see.
pub(crate) fn attr(ino: Ino, record: &InodeRecord) -> Attr {
    Attr {
        ino,
        kind: file_kind(record.kind),
        mode: record.mode,
        nlink: record.nlink,
        uid: record.uid,
        gid: record.gid,
        rdev: record.rdev,
        size: record.size,
        blocks: record.allocated.next_multiple_of(ALLOCATION_BYTES) / STAT_BLOCK_BYTES,
        atime: record.atime,
        mtime: record.mtime,
        ctime: record.ctime,
        btime: record.btime,
    }
}

/// Removes set-id bits that a change of content or owner takes away.
pub(crate) fn without_set_id(mode: u16) -> u16 {
    let mode = mode & !MODE_SETUID;
    if mode & MODE_GROUP_EXECUTE == 0 { mode } else { mode & !MODE_SETGID }
}

/// Removes set-id bits from a file whose content somebody changes, unless that is root.
pub(crate) fn drop_set_id(context: &Context, record: &mut InodeRecord) -> SetId {
    let mode = if context.uid == 0 { record.mode } else { without_set_id(record.mode) };
    let outcome = if mode == record.mode { SetId::Kept } else { SetId::Cleared };
    record.mode = mode;
    outcome
}

fn resolve(time: SetTime, now: Timestamp) -> Timestamp {
    match time {
        SetTime::Now => now,
        SetTime::At(time) => time,
    }
}

impl State {
    /// Changes a file's size in memory: what was cut off reads as zeros if the file grows again.
    pub(crate) fn set_size(&mut self, ino: Ino, record: &mut InodeRecord, size: u64) {
        let old = record.size;
        if record.nlink > 0 {
            self.counters.logical_bytes = self.counters.logical_bytes - old + size;
        }
        record.size = size;
        // A file without names stays with the content that its orphan record names.
        if size == 0 && old > SEGMENT_BYTES && record.nlink > 0 {
            self.replace_content(ino, record);
        } else if size < old {
            let hole = ByteRange::new(size, old - size);
            self.change_data(record.content, hole, 0, |dirty| dirty.cut(size, old));
            record.allocated = record.allocated.min(size);
        } else if size > old {
            // A hole past the old end, noted so that an fsync logs the new size.
            let hole = ByteRange::new(old, size - old);
            self.change_data(record.content, hole, 0, |dirty| dirty.punch(hole));
        }
    }

    fn set_attributes(&mut self, context: &Context, ino: Ino, change: &SetAttr, now: Timestamp) -> Step<Attr> {
        let mut record = self.inode(ino)?;
        Self::check_settable(&record, change)?;
        let demand = match change.size {
            Some(size) if size < record.size => Demand::Release,
            Some(_) | None => Demand::Bytes(0),
        };
        self.admit(demand)?;
        let acl = match change.mode {
            Some(_) => self.access_acl(ino, &record)?,
            None => None,
        };
        if let Some(size) = change.size {
            match record.kind {
                InodeKind::Regular => {}
                InodeKind::Directory => return Err(Stop::Fail(VfsError::IsDirectory)),
                InodeKind::Symlink
                | InodeKind::Fifo
                | InodeKind::Socket
                | InodeKind::CharDevice
                | InodeKind::BlockDevice => return Err(Stop::Fail(VfsError::InvalidArgument)),
            }
            if size > FILE_MAX_BYTES {
                return Err(Stop::Fail(VfsError::FileTooLarge));
            }
            self.set_size(ino, &mut record, size);
            record.mtime = now;
            drop_set_id(context, &mut record);
        }
        let changes_owner = change.uid.is_some() || change.gid.is_some();
        record.uid = change.uid.unwrap_or(record.uid);
        record.gid = change.gid.unwrap_or(record.gid);
        if changes_owner && record.kind != InodeKind::Directory {
            record.mode = without_set_id(record.mode);
        }
        record.mode = change.mode.unwrap_or(record.mode);
        if let Some(acl) = acl {
            let acl = acl.with_mode(record.mode);
            self.put_access_acl(ino, &mut record, &acl)?;
        }
        record.atime = change.atime.map_or(record.atime, |time| resolve(time, now));
        record.mtime = change.mtime.map_or(record.mtime, |time| resolve(time, now));
        record.ctime = change.ctime.unwrap_or(now);
        self.put_inode(ino, record);
        Ok(attr(ino, &record))
    }
}

impl Vfs {
    /// The attributes of an inode.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Io`].
    pub fn getattr(&self, context: &Context, ino: Ino) -> Result<Attr> {
        self.shared.run(context, |state| Ok(attr(ino, &state.inode(ino)?)))
    }

    /// Changes attributes, all of them or none. Permission checks are the caller's (FUSE: the kernel's).
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::IsDirectory`] or [`VfsError::InvalidArgument`] for the size of something
    /// that has none, [`VfsError::FileTooLarge`], [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn setattr(&self, context: &Context, ino: Ino, change: &SetAttr) -> Result<Attr> {
        let attr = self.shared.run_change(context, |state, now| state.set_attributes(context, ino, change, now))?;
        self.tell_inode(ino);
        Ok(attr)
    }
}
