//! What the kernel is answered, and what it is told without a question.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Structures of `linux/fuse.h`, named as there without their prefix.
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        })*
    };
}

replies! {
    /// Before every reply, and with `unique` 0 before every notification.
    OutHeader {
        len: u32,
        error: i32,
        unique: u64,
    }

    /// INIT.
    InitOut {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_gran: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        max_stack_depth: u32,
        request_timeout: u16,
        unused: [u16; 11],
    }

    /// Attributes of an inode.
    Attr {
        ino: u64,
        size: u64,
        blocks: u64,
        atime: i64,
        mtime: i64,
        ctime: i64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        rdev: u32,
        blksize: u32,
        flags: u32,
    }

    /// What a name leads to: LOOKUP and whatever makes an inode. `nodeid` 0 is a name that isn't there.
    EntryOut {
        nodeid: u64,
        generation: u64,
        entry_valid: u64,
        attr_valid: u64,
        entry_valid_nsec: u32,
        attr_valid_nsec: u32,
        attr: Attr,
    }

    /// GETATTR and SETATTR.
    AttrOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        padding: u32,
        attr: Attr,
    }

    /// A time of STATX.
    SxTime {
        tv_sec: i64,
        tv_nsec: u32,
        reserved: i32,
    }

    /// `struct statx` of `statx(2)`.
    Statx {
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        spare0: u16,
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: SxTime,
        btime: SxTime,
        ctime: SxTime,
        mtime: SxTime,
        rdev_major: u32,
        rdev_minor: u32,
        dev_major: u32,
        dev_minor: u32,
        spare2: [u64; 14],
    }

    /// STATX.
    StatxOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        flags: u32,
        spare: [u64; 2],
        stat: Statx,
    }

    /// OPEN and OPENDIR.
    OpenOut {
        fh: u64,
        open_flags: u32,
        backing_id: i32,
    }

    /// WRITE and COPY_FILE_RANGE.
    WriteOut {
        size: u32,
        padding: u32,
    }

    /// COPY_FILE_RANGE_64.
    WriteOut64 {
        size: u64,
    }

    /// STATFS.
    StatfsOut {
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        bsize: u32,
        namelen: u32,
        frsize: u32,
        padding: u32,
        spare: [u32; 6],
    }

    /// GETXATTR and LISTXATTR that ask for the size.
    GetxattrOut {
        size: u32,
        padding: u32,
    }

    /// IOCTL, before what the command answers.
    IoctlOut {
        result: i32,
        flags: u32,
        in_iovs: u32,
        out_iovs: u32,
    }

    /// LSEEK.
    LseekOut {
        offset: u64,
    }

    /// An entry of READDIR, before its name; of READDIRPLUS behind an [`EntryOut`].
    Dirent {
        ino: u64,
        off: u64,
        namelen: u32,
        kind: u32,
    }

    /// Notification: drop what is cached of an inode. A negative offset leaves its content alone.
    NotifyInvalInodeOut {
        ino: u64,
        off: i64,
        len: i64,
    }

    /// Notification: drop what is cached of a name, which follows with a NUL.
    NotifyInvalEntryOut {
        parent: u64,
        namelen: u32,
        flags: u32,
    }
}
