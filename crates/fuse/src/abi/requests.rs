//! What the kernel sends. Fields that nothing here reads are named as padding.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Structures of `linux/fuse.h`, named as there without their prefix.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        })*
    };
}

requests! {
    /// Before every request.
    InHeader {
        len: u32,
        opcode: u32,
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        extension_words: u16,
        padding: u16,
    }

    /// INIT.
    InitIn {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
    }

    /// The rest of INIT since version 7.36.
    InitInExtension {
        flags2: u32,
        unused: [u32; 11],
    }

    /// FORGET.
    ForgetIn {
        nlookup: u64,
    }

    /// BATCH_FORGET, before its [`ForgetOne`]s.
    BatchForgetIn {
        count: u32,
        padding: u32,
    }

    /// One inode of a BATCH_FORGET.
    ForgetOne {
        nodeid: u64,
        nlookup: u64,
    }

    /// SETATTR.
    SetattrIn {
        valid: u32,
        padding: u32,
        fh: u64,
        size: u64,
        lock_owner: u64,
        atime: i64,
        mtime: i64,
        ctime: i64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        unused4: u32,
        uid: u32,
        gid: u32,
        unused5: u32,
    }

    /// MKNOD, before the name.
    MknodIn {
        mode: u32,
        rdev: u32,
        umask: u32,
        padding: u32,
    }

    /// MKDIR, before the name.
    MkdirIn {
        mode: u32,
        umask: u32,
    }

    /// RENAME, before both names.
    RenameIn {
        newdir: u64,
    }

    /// RENAME2, before both names.
    Rename2In {
        newdir: u64,
        flags: u32,
        padding: u32,
    }

    /// LINK, before the name.
    LinkIn {
        oldnodeid: u64,
    }

    /// OPEN and OPENDIR.
    OpenIn {
        flags: u32,
        open_flags: u32,
    }

    /// READ, READDIR and READDIRPLUS.
    ReadIn {
        fh: u64,
        offset: u64,
        size: u32,
        read_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }

    /// WRITE, before the data.
    WriteIn {
        fh: u64,
        offset: u64,
        size: u32,
        write_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }

    /// FSYNC and FSYNCDIR.
    FsyncIn {
        fh: u64,
        fsync_flags: u32,
        padding: u32,
    }

    /// SETXATTR, before name and value, in the form of who has not asked for the longer one.
    SetxattrIn {
        size: u32,
        flags: u32,
    }

    /// GETXATTR, before the name, and LISTXATTR.
    GetxattrIn {
        size: u32,
        padding: u32,
    }

    /// IOCTL, before what the command sends.
    IoctlIn {
        fh: u64,
        flags: u32,
        cmd: u32,
        arg: u64,
        in_size: u32,
        out_size: u32,
    }

    /// FALLOCATE.
    FallocateIn {
        fh: u64,
        offset: u64,
        length: u64,
        mode: u32,
        padding: u32,
    }

    /// ACCESS.
    AccessIn {
        mask: u32,
        padding: u32,
    }

    /// LSEEK.
    LseekIn {
        fh: u64,
        offset: u64,
        whence: u32,
        padding: u32,
    }

    /// COPY_FILE_RANGE and COPY_FILE_RANGE_64.
    CopyFileRangeIn {
        fh_in: u64,
        off_in: u64,
        nodeid_out: u64,
        fh_out: u64,
        off_out: u64,
        len: u64,
        flags: u64,
    }
}
