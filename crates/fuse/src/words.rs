//! Numbers of the kernel from and to our types: modes, flags, device numbers. Every transport reads them here.

use verfs_vfs::{AccessTimes, Allocation, FileKind, NodeKind, RenameMode, SeekFor, XattrMode};

use crate::dispatch::{Caller, OpenFor};
use crate::kernel;

/// Who asks for something that creates nothing.
pub(crate) fn caller(uid: u32, gid: u32) -> Caller {
    Caller { uid, gid, umask: 0 }
}

/// Who creates something: the umask is for the tree to apply.
pub(crate) fn creator(caller: Caller, umask: u32) -> Caller {
    Caller { umask: permissions(umask), ..caller }
}

pub(crate) fn permissions(mode: u32) -> u16 {
    (mode & kernel::MODE_PERMISSION_BITS) as u16
}

/// The kernel passes the flags of the open file with each read.
pub(crate) fn access_times(open_flags: i32) -> AccessTimes {
    if open_flags & libc::O_NOATIME == 0 { AccessTimes::Move } else { AccessTimes::Stay }
}

/// What somebody opens a file for.
pub(crate) fn open_for(open_flags: i32) -> OpenFor {
    let is_change = open_flags & libc::O_ACCMODE != libc::O_RDONLY || open_flags & libc::O_TRUNC != 0;
    if is_change { OpenFor::Change } else { OpenFor::Reading }
}

pub(crate) fn node_kind(mode: u32, device: u32) -> Option<NodeKind> {
    match mode & libc::S_IFMT {
        libc::S_IFREG | 0 => Some(NodeKind::Regular),
        libc::S_IFIFO => Some(NodeKind::Fifo),
        libc::S_IFSOCK => Some(NodeKind::Socket),
        libc::S_IFCHR => Some(NodeKind::CharDevice(device)),
        libc::S_IFBLK => Some(NodeKind::BlockDevice(device)),
        _ => None,
    }
}

pub(crate) fn rename_mode(flags: u32) -> Option<RenameMode> {
    match flags {
        0 => Some(RenameMode::Replace),
        libc::RENAME_NOREPLACE => Some(RenameMode::NoReplace),
        libc::RENAME_EXCHANGE => Some(RenameMode::Exchange),
        // RENAME_WHITEOUT among them: overlayfs then does without.
        _ => None,
    }
}

pub(crate) fn xattr_mode(flags: i32) -> Option<XattrMode> {
    match flags {
        0 => Some(XattrMode::Set),
        libc::XATTR_CREATE => Some(XattrMode::Create),
        libc::XATTR_REPLACE => Some(XattrMode::Replace),
        _ => None,
    }
}

/// What `fallocate(2)` is to do. The kernel passes no modes but these.
pub(crate) fn allocation(mode: i32) -> Option<Allocation> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Some(Allocation::Reserve),
        libc::FALLOC_FL_KEEP_SIZE => Some(Allocation::ReserveKeepSize),
        PUNCH => Some(Allocation::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Some(Allocation::Zero),
        ZERO_KEEP => Some(Allocation::ZeroKeepSize),
        _ => None,
    }
}

pub(crate) fn seek_for(whence: i32) -> Option<SeekFor> {
    match whence {
        libc::SEEK_DATA => Some(SeekFor::Data),
        libc::SEEK_HOLE => Some(SeekFor::Hole),
        _ => None,
    }
}

/// The type bits of a mode.
pub(crate) fn type_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    }
}

/// Major and minor number of a device as the kernel writes both in 32 bits.
pub(crate) fn device_numbers(device: u32) -> (u32, u32) {
    ((device & 0xf_ff00) >> 8, device & 0xff | device >> 12 & 0xf_ff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_flags_have_their_kinds() {
        assert_eq!(node_kind(libc::S_IFREG | 0o644, 0), Some(NodeKind::Regular));
        assert_eq!(node_kind(libc::S_IFBLK | 0o600, 7), Some(NodeKind::BlockDevice(7)));
        assert_eq!(node_kind(libc::S_IFDIR, 0), None);
        assert_eq!(permissions(libc::S_IFREG | 0o6755), 0o6755);
        assert_eq!(rename_mode(0), Some(RenameMode::Replace));
        assert_eq!(rename_mode(libc::RENAME_EXCHANGE), Some(RenameMode::Exchange));
        assert_eq!(rename_mode(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE), None);
        assert_eq!((open_for(libc::O_RDONLY), open_for(libc::O_RDWR)), (OpenFor::Reading, OpenFor::Change));
        assert_eq!(open_for(libc::O_RDONLY | libc::O_TRUNC), OpenFor::Change);
    }

    #[test]
    fn device_numbers_are_taken_apart_as_the_kernel_puts_them_together() {
        // new_encode_dev: minor & 0xff | major << 8 | (minor & !0xff) << 12.
        assert_eq!(device_numbers(0x8_01), (8, 1));
        assert_eq!(device_numbers(259 << 8 | 0x70 | (70_000_u32 & !0xff) << 12), (259, 70_000));
    }
}
