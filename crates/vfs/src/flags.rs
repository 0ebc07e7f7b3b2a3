//! Flags of inodes (`chattr(1)`, ioctl_iflags(2)), and what immutable and append-only ones refuse.

use verfs_base::{Ino, Timestamp};
use verfs_format::{InodeFlags, InodeKind, InodeRecord};

use crate::state::{Demand, State, Step, Stop};
use crate::{Context, FileFlags, Result, SetAttr, SetTime, Vfs, VfsError};

const FROZEN: [InodeFlags; 2] = [InodeFlags::IMMUTABLE, InodeFlags::APPEND_ONLY];

pub(crate) fn shown(flags: InodeFlags) -> FileFlags {
    FileFlags {
        immutable: flags.contains(InodeFlags::IMMUTABLE),
        append_only: flags.contains(InodeFlags::APPEND_ONLY),
        no_dump: flags.contains(InodeFlags::NO_DUMP),
        no_atime: flags.contains(InodeFlags::NO_ATIME),
    }
}

fn stored(before: InodeFlags, flags: FileFlags) -> InodeFlags {
    [
        (flags.immutable, InodeFlags::IMMUTABLE),
        (flags.append_only, InodeFlags::APPEND_ONLY),
        (flags.no_dump, InodeFlags::NO_DUMP),
        (flags.no_atime, InodeFlags::NO_ATIME),
    ]
    .into_iter()
    .fold(before, |all, (is_set, flag)| if is_set { all.with(flag) } else { all.without(flag) })
}

fn refuse_if(refused: bool) -> Result<()> {
    if refused { Err(VfsError::NotPermitted) } else { Ok(()) }
}

impl State {
    /// Whether owner, attributes, names and bytes of an inode may change freely.
    pub(crate) fn check_changeable(record: &InodeRecord) -> Result<()> {
        refuse_if(FROZEN.into_iter().any(|flag| record.flags.contains(flag)))
    }

    /// Whether an inode takes more than it has.
    pub(crate) fn check_extendable(record: &InodeRecord) -> Result<()> {
        refuse_if(record.flags.contains(InodeFlags::IMMUTABLE))
    }

    /// Whether a name of `record` may be removed from `directory`.
    pub(crate) fn check_removable(directory: &InodeRecord, record: &InodeRecord) -> Result<()> {
        Self::check_changeable(directory)?;
        Self::check_changeable(record)
    }

    /// Whether bytes may be written at `offset`.
    pub(crate) fn check_writable(record: &InodeRecord, offset: u64) -> Result<()> {
        refuse_if(
            record.flags.contains(InodeFlags::IMMUTABLE)
                || (record.flags.contains(InodeFlags::APPEND_ONLY) && offset != record.size),
        )
    }

    /// Whether attributes may change so: of an append-only file times may be set to now.
    pub(crate) fn check_settable(record: &InodeRecord, change: &SetAttr) -> Result<()> {
        let touches = |time: Option<SetTime>| matches!(time, None | Some(SetTime::Now));
        let only_touches = change.mode.is_none()
            && change.uid.is_none()
            && change.gid.is_none()
            && change.size.is_none()
            && touches(change.atime)
            && touches(change.mtime);
        match only_touches {
            true => refuse_if(record.flags.contains(InodeFlags::IMMUTABLE)),
            false => Self::check_changeable(record),
        }
    }

    /// Gives an inode that was just changed its flags, in the same change.
    pub(crate) fn keep_flags(&mut self, ino: Ino, flags: FileFlags) -> Step<()> {
        let mut record = self.inode(ino)?;
        record.flags = stored(record.flags, flags);
        self.put_inode(ino, record);
        Ok(())
    }

    fn set_flags(&mut self, context: &Context, ino: Ino, flags: FileFlags, now: Timestamp) -> Step<()> {
        let mut record = self.inode(ino)?;
        match record.kind {
            InodeKind::Regular | InodeKind::Directory => {}
            InodeKind::Symlink
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => return Err(Stop::Fail(VfsError::Unsupported)),
        }
        let after = stored(record.flags, flags);
        let freezes = FROZEN.into_iter().any(|flag| after.contains(flag) != record.flags.contains(flag));
        if context.uid != 0 && (freezes || context.uid != record.uid) {
            return Err(Stop::Fail(VfsError::NotPermitted));
        }
        let thaws = freezes && FROZEN.into_iter().all(|flag| !after.contains(flag));
        self.admit(if thaws { Demand::Release } else { Demand::Bytes(0) })?;
        record.flags = after;
        record.ctime = now;
        self.put_inode(ino, record);
        Ok(())
    }
}

impl Vfs {
    /// The flags of an inode.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Io`].
    pub fn file_flags(&self, context: &Context, ino: Ino) -> Result<FileFlags> {
        self.shared.run(context, |state| Ok(shown(state.inode(ino)?.flags)))
    }

    /// Sets all flags of a regular file or directory. Only root may make it immutable or append-only, or end that.
    ///
    /// # Errors
    /// [`VfsError::NotPermitted`] for others and for whoever is not the owner, [`VfsError::Unsupported`] for other
    /// kinds, [`VfsError::NotFound`], [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn set_file_flags(&self, context: &Context, ino: Ino, flags: FileFlags) -> Result<()> {
        self.shared.run_change(context, |state, now| state.set_flags(context, ino, flags, now))
    }
}
