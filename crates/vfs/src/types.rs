//! What callers say and get: attributes, requests and entries. No type here knows FUSE or N-API.

use bytes::Bytes;
use verfs_base::{Ino, Timestamp};

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

/// Attributes of an inode, as `stat(2)` shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, set-id bits and the sticky bit (`0o7777`).
    pub mode: u16,
    /// Number of names; of a directory, 2 + its subdirectories.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, in the kernel's 32-bit encoding; else 0.
    pub rdev: u32,
    /// Length in bytes; of a symlink its target's length; of a directory its number of entries.
    pub size: u64,
    /// Allocated 512-byte blocks before deduplication and compression; holes are not counted.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

/// Whether an operation may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Answer from memory or say [`crate::VfsError::WouldBlock`], with nothing changed.
    Try,
    /// Wait for the store, or for room in the open group.
    Wait,
}

/// Whether the caller keeps the inodes that it is told of until [`crate::Vfs::forget`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pin {
    /// Each inode returned by lookup, mknod, mkdir, symlink, link and readdir-plus counts one pin. A pinned inode
    /// survives its last unlink.
    Count,
    /// Nothing is kept.
    No,
}

/// Whether reads move access times, where the rule of `relatime` lets them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessTimes {
    /// They do.
    Move,
    /// They don't: the reader, or his mount, leaves no trace.
    Stay,
}

/// Who asks, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// Effective user, owner of what is created.
    pub uid: u32,
    /// Effective group, group of what is created outside set-gid directories.
    pub gid: u32,
    /// Permission bits that are taken from the mode of what is created, unless the directory has a default access
    /// control list (`umask(2)`).
    pub umask: u16,
    /// May it wait?
    pub patience: Patience,
    /// Does it keep inodes?
    pub pin: Pin,
    /// Do its reads leave a trace?
    pub access_times: AccessTimes,
}

impl Context {
    /// Root, waiting, keeping nothing: what the library and tests use.
    pub const ROOT: Context =
        Context { uid: 0, gid: 0, umask: 0, patience: Patience::Wait, pin: Pin::No, access_times: AccessTimes::Move };
}

/// A new value for a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The clock's time now.
    Now,
    /// This time.
    At(Timestamp),
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttr {
    /// Permission and set-id bits (`0o7777`).
    pub mode: Option<u16>,
    /// Owner. A change by anyone clears set-id bits of non-directories, as `chown(2)` says.
    pub uid: Option<u32>,
    /// Group. As for `uid`.
    pub gid: Option<u32>,
    /// Length; growing makes a hole.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Change time, where the kernel gives one.
    pub ctime: Option<Timestamp>,
}

/// What `mknod` makes. Directories and symlinks have operations of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// Regular, empty file.
    Regular,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device with its number.
    CharDevice(u32),
    /// Block device with its number.
    BlockDevice(u32),
}

/// How `rename` treats an existing target (`renameat2(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// [`crate::VfsError::Exists`].
    NoReplace,
    /// Both names change places; both must exist.
    Exchange,
}

/// Whether `setxattr` may create or replace an attribute (`setxattr(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrMode {
    /// Either.
    Set,
    /// Create: [`crate::VfsError::Exists`] if it is there.
    Create,
    /// Replace: [`crate::VfsError::NoAttribute`] if it isn't.
    Replace,
}

/// What is special about an inode, as `chattr(1)` sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileFlags {
    /// Nothing about it may change, not even its names.
    pub immutable: bool,
    /// Bytes or names may only be added.
    pub append_only: bool,
    /// `dump(8)` leaves it out.
    pub no_dump: bool,
    /// Reads don't move its access time.
    pub no_atime: bool,
}

/// What a change of content did to the set-id bits of its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetId {
    /// They are what they were, or there were none.
    Kept,
    /// They were cleared, as `write(2)` says for users but root: whoever caches the mode must forget it.
    Cleared,
}

/// What `allocate` does with a range of a file (`fallocate(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocation {
    /// Bytes that are there stay, the others read as zeros; the file grows if the range ends behind it.
    Reserve,
    /// The same, but the file never grows.
    ReserveKeepSize,
    /// The range becomes a hole; the file never grows.
    PunchHole,
    /// The range reads as zeros; the file grows if it ends behind it.
    Zero,
    /// The same, but the file never grows.
    ZeroKeepSize,
}

/// What `seek` looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeekFor {
    /// Data at or behind the offset (`SEEK_DATA`).
    Data,
    /// A hole at or behind the offset, of which there is one at the end of the file (`SEEK_HOLE`).
    Hole,
}

/// How much of a file `fsync` makes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncScope {
    /// Data and what is needed to read it back (`fdatasync(2)`).
    Data,
    /// Everything (`fsync(2)`).
    All,
}

/// One entry of a directory listing. `.` and `..` come first, with cookies 1 and 2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Name: any bytes but `/` and NUL, 1 ..= 255 of them.
    pub name: Bytes,
    /// Its inode.
    pub ino: Ino,
    /// What the inode is.
    pub kind: FileKind,
    /// Where to go on after this entry; stable for as long as the entry has its name. Below 2^63.
    pub cookie: u64,
    /// The inode's attributes, where they were asked for.
    pub attr: Option<Attr>,
}

/// Whether a listing carries attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listing {
    /// Names only.
    Names,
    /// Names with attributes; every entry but `.` and `..` counts a pin where the context says so.
    Plus,
}

/// Room and counts, as `statfs(2)` shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FsStat {
    /// Bytes of the disk under the volume.
    pub total_bytes: u64,
    /// Bytes that may still be written: what the disk has, less the reserve.
    pub available_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
}
