//! The kernel's FUSE protocol as `linux/fuse.h` has it, version 7.45: every byte that goes over the device.
//!
//! Lives here: the structures of requests and replies, flags, versions. Never here: what they mean for a tree.
//! Requests of older kernels differ only in what isn't asked for; the oldest that is served is [`VERSION_MIN_MINOR`].

mod replies;
mod requests;
mod ring;

pub(crate) use replies::{
    Attr, AttrOut, Dirent, EntryOut, GetxattrOut, InitOut, IoctlOut, LseekOut, NotifyInvalEntryOut,
    NotifyInvalInodeOut, OpenOut, OutHeader, StatfsOut, Statx, StatxOut, SxTime, WriteOut, WriteOut64,
};
pub(crate) use requests::{
    AccessIn, BatchForgetIn, CopyFileRangeIn, FallocateIn, ForgetIn, ForgetOne, FsyncIn, GetxattrIn, InHeader, InitIn,
    InitInExtension, IoctlIn, LinkIn, LseekIn, MkdirIn, MknodIn, OpenIn, ReadIn, Rename2In, RenameIn, SetattrIn,
    SetxattrIn, WriteIn,
};

pub(crate) use ring::{RingCommand, RingHeader, RingInOut, ring_command};

/// Major version of the protocol. Another one is another protocol.
pub(crate) const VERSION_MAJOR: u32 = 7;
/// The minor version that is written down here.
pub(crate) const VERSION_MINOR: u32 = 45;
/// Least minor version: Linux 5.4. Since then no structure that is used here has changed its size.
pub(crate) const VERSION_MIN_MINOR: u32 = 31;

/// Flags of INIT, of which the upper half is in `flags2`.
pub(crate) mod init {
    pub(crate) const ASYNC_READ: u64 = 1 << 0;
    pub(crate) const BIG_WRITES: u64 = 1 << 5;
    pub(crate) const DONT_MASK: u64 = 1 << 6;
    pub(crate) const HAS_IOCTL_DIR: u64 = 1 << 11;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const POSIX_ACL: u64 = 1 << 20;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub(crate) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
    /// The kernel has it where the administrator switched it on.
    pub(crate) const OVER_IO_URING: u64 = 1 << 41;
}

/// Flags of SETATTR: which of its fields are meant.
pub(crate) mod setattr {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
    pub(crate) const CTIME: u32 = 1 << 10;
}

/// Flags of a reply to OPEN and OPENDIR.
pub(crate) mod opened {
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
    pub(crate) const CACHE_DIR: u32 = 1 << 3;
    pub(crate) const NOFLUSH: u32 = 1 << 5;
}

/// FSYNC: data and what is needed to read it back.
pub(crate) const FSYNC_DATA_ONLY: u32 = 1 << 0;

/// Codes of notifications.
pub(crate) mod notify {
    pub(crate) const INVAL_INODE: i32 = 2;
    pub(crate) const INVAL_ENTRY: i32 = 3;
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// As the header's structures come out on every platform: it pads them by hand.
    #[test]
    fn structures_have_the_sizes_of_the_header() {
        assert_eq!((size_of::<InHeader>(), size_of::<OutHeader>()), (40, 16));
        assert_eq!((size_of::<InitIn>() + size_of::<InitInExtension>(), size_of::<InitOut>()), (64, 64));
        assert_eq!((size_of::<Attr>(), size_of::<EntryOut>(), size_of::<AttrOut>()), (88, 128, 104));
        assert_eq!((size_of::<SetattrIn>(), size_of::<WriteIn>(), size_of::<ReadIn>()), (88, 40, 40));
        assert_eq!((size_of::<StatfsOut>(), size_of::<IoctlIn>(), size_of::<CopyFileRangeIn>()), (80, 32, 56));
        assert_eq!((size_of::<Statx>(), size_of::<StatxOut>(), size_of::<Dirent>()), (256, 288, 24));
        assert_eq!((size_of::<RingHeader>(), size_of::<RingCommand>()), (288, 80));
    }
}
