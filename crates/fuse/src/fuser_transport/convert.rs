//! Values of the library from and to ours.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, Request, TimeOrNow};
use verfs_base::{Ino, Timestamp};
use verfs_vfs::{Attr, FileKind, SetTime};

use crate::dispatch::Caller;
use crate::errno::Errno;
use crate::kernel;
use crate::words;

pub(super) fn ino(ino: INodeNo) -> Ino {
    Ino(ino.0)
}

pub(super) fn name(name: &OsStr) -> Cow<'_, [u8]> {
    Cow::Borrowed(name.as_bytes())
}

pub(super) fn caller(request: &Request) -> Caller {
    words::caller(request.uid(), request.gid())
}

/// Undoes a slip of the library: it reads -1.2 s, which the kernel writes as -2 s + 0.8 s, as -(2 s + 0.8 s).
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    match UNIX_EPOCH.duration_since(time) {
        Ok(before) if !before.is_zero() => Timestamp {
            // 2^63 seconds before is the least that there is.
            seconds: 0_i64.saturating_sub_unsigned(before.as_secs()),
            nanos: before.subsec_nanos(),
        },
        _ => Timestamp::from_system(time),
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
    }
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.to_system(),
        mtime: attr.mtime.to_system(),
        ctime: attr.ctime.to_system(),
        crtime: attr.btime.to_system(),
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: kernel::PREFERRED_IO_BYTES,
        flags: 0,
    }
}

/// Attributes of which only inode and type are said: of `.` and `..`, which the kernel doesn't take from a listing,
/// and with inode 0 of a name that doesn't exist.
pub(super) fn bare_attr(number: u64, kind: FileKind) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(super) fn error(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_before_1970_come_back_as_the_kernel_meant_them() {
        // As the library makes them of what the kernel sends: seconds and nanoseconds taken apart from the epoch.
        let as_library = |seconds: u64, nanos: u32| UNIX_EPOCH - Duration::new(seconds, nanos);
        let check = |seconds: i64, nanos: u32| {
            let read = timestamp(as_library(seconds.unsigned_abs(), nanos));
            assert_eq!(read, Timestamp { seconds, nanos });
        };
        check(-2, 800_000_000);
        check(-1, 1);
        check(-1, 999_999_999);
        check(-5_000_000_000, 0);
        check(i64::MIN, 0);
        assert_eq!(timestamp(UNIX_EPOCH), Timestamp { seconds: 0, nanos: 0 });
        let late = UNIX_EPOCH + Duration::new(1 << 33, 7);
        assert_eq!(timestamp(late), Timestamp { seconds: 1 << 33, nanos: 7 });
    }
}
