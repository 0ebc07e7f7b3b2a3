//! What a transfer asks of its two sides, and the errors that they give.

use bytes::Bytes;
use rustix::io::Errno;
use verfs_base::Timestamp;
use verfs_vfs::{FileKind, VfsError};

/// Bytes of a file that are read and written at once.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

/// All that a copy keeps of something, its content, its target and its extended attributes aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub(super) kind: FileKind,
    /// `0o7777`.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Of a device, in the kernel's 32-bit encoding.
    pub(super) device: u32,
    pub(super) size: u64,
    /// How many names it has.
    pub(super) names: u32,
    /// Two names with the same are one thing.
    pub(super) identity: (u64, u64),
    pub(super) accessed: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) changed: Timestamp,
}

impl Meta {
    /// Whether nobody changed the thing between two looks at it.
    pub(super) fn is_unchanged(&self, later: &Meta) -> bool {
        (self.identity, self.kind, self.size, self.modified, self.changed)
            == (later.identity, later.kind, later.size, later.modified, later.changed)
    }
}

/// Extended attributes, access control lists among them.
pub(super) type Xattrs = Vec<(Bytes, Bytes)>;

/// What one side says instead of a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// The operating system.
    System(Errno),
    /// The volume.
    Volume(VfsError),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        Trouble::System(errno)
    }
}

impl From<VfsError> for Trouble {
    fn from(error: VfsError) -> Trouble {
        Trouble::Volume(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::System(errno) => write!(f, "{}", std::io::Error::from(*errno)),
            Trouble::Volume(error) => write!(f, "{error}"),
        }
    }
}

impl Trouble {
    /// Whether the thing is not there (any more).
    pub(super) fn is_absence(self) -> bool {
        matches!(self, Trouble::System(Errno::NOENT) | Trouble::Volume(VfsError::NotFound))
    }

    /// Whether nothing more can be written to this side.
    pub(super) fn ends_writing(self) -> bool {
        match self {
            Trouble::System(errno) => matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO),
            Trouble::Volume(error) => {
                matches!(error, VfsError::NoSpace | VfsError::ReadOnly | VfsError::Closed | VfsError::Io)
            }
        }
    }
}

/// What a new thing is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Made {
    File,
    Directory,
    Symlink(Bytes),
    Fifo,
    Socket,
    CharDevice(u32),
    BlockDevice(u32),
}

/// A tree that can be read.
pub(super) trait Source: Sync {
    /// Something in it.
    type Node: Clone + Send + Sync;

    /// Its attributes; a symbolic link is not followed.
    fn meta(&self, node: &Self::Node) -> Result<Meta, Trouble>;

    /// The entries of a directory, `.` and `..` aside.
    fn entries(&self, directory: &Self::Node) -> Result<Vec<(Bytes, Self::Node)>, Trouble>;

    /// What a symbolic link leads to.
    fn link_target(&self, node: &Self::Node) -> Result<Bytes, Trouble>;

    /// The extended attributes that a copy has as well, in any order.
    fn xattrs(&self, node: &Self::Node) -> Result<Xattrs, Trouble>;

    /// Hands out the data of a regular file with their offsets, in order and without its holes, until `take` has enough.
    fn content(&self, node: &Self::Node, take: &mut dyn FnMut(u64, &[u8]) -> Go) -> Result<(), Trouble>;
}

/// Whether whoever takes data wants more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Go {
    On,
    Stop,
}

/// A tree that can be written, and read to see what became of it.
pub(super) trait Target: Source {
    /// An open file.
    type Writer;

    /// How many files are looked at again at once: each keeps what its node holds until then.
    const VERIFIED_FILES: usize;

    /// What a name leads to, if it is there.
    fn find(&self, directory: &Self::Node, name: &Bytes) -> Result<Option<(Self::Node, Meta)>, Trouble>;

    /// Makes something that nobody but its owner may use yet; the name is free. `like` says who owns it in the end.
    fn make(&self, directory: &Self::Node, name: &Bytes, made: &Made, like: &Meta) -> Result<Self::Node, Trouble>;

    /// Gives something one more name.
    fn link(&self, node: &Self::Node, directory: &Self::Node, name: &Bytes) -> Result<(), Trouble>;

    /// Removes the name of something that is no directory, or that of an empty one.
    fn remove(&self, directory: &Self::Node, name: &Bytes, kind: FileKind) -> Result<(), Trouble>;

    /// Makes sure that entries can be made in a directory, whatever an earlier run gave it.
    fn reopen(&self, directory: &Self::Node, meta: &Meta) -> Result<(), Trouble>;

    /// Opens a regular file.
    fn writer(&self, node: &Self::Node) -> Result<Self::Writer, Trouble>;

    /// Writes to it.
    fn write(&self, writer: &Self::Writer, offset: u64, data: &[u8]) -> Result<(), Trouble>;

    /// Sets its length; what was not written is a hole.
    fn set_size(&self, writer: &Self::Writer, size: u64) -> Result<(), Trouble>;

    /// Gives something its owner, mode, extended attributes and times, which says that it is whole.
    fn finish(&self, node: &Self::Node, meta: &Meta, xattrs: &Xattrs) -> Result<(), Trouble>;

    /// Gives a file a time that its source doesn't have, so that the next run copies it anew.
    fn spoil(&self, node: &Self::Node) -> Result<(), Trouble>;

    /// Has everything on its way to the disk, so that what is read is what was stored.
    fn settle(&self) -> Result<(), Trouble>;
}
