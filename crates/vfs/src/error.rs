//! What an operation can answer instead of its result.

/// Result of an operation.
pub type Result<T> = std::result::Result<T, VfsError>;

/// Errors of operations, one for each thing that a caller may do differently. `fuse` maps them to errno.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum VfsError {
    /// [`crate::Patience::Try`] and the answer isn't in memory, or the open group has no room. Nothing changed.
    #[error("would have to wait")]
    WouldBlock,
    /// No such name or inode.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("file exists")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// Something stands in the way that has to be taken away first.
    #[error("device or resource busy")]
    Busy,
    /// The caller ended it.
    #[error("interrupted")]
    Interrupted,
    /// The operation is not for this inode or caller.
    #[error("operation not permitted")]
    NotPermitted,
    /// Access is refused.
    #[error("permission denied")]
    Denied,
    /// There is no such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// This kind of thing is not had here.
    #[error("operation not supported")]
    Unsupported,
    /// The caller's buffer is too small.
    #[error("result too large")]
    NoRoom,
    /// Past the end, or no data behind the offset.
    #[error("no such offset")]
    NoSuchOffset,
    /// The arguments make no sense together.
    #[error("invalid argument")]
    InvalidArgument,
    /// A name of more than 255 bytes, or a symlink target of more than 4095.
    #[error("name too long")]
    NameTooLong,
    /// The inode has as many names as it may have.
    #[error("too many links")]
    TooManyLinks,
    /// Past the largest file size.
    #[error("file too large")]
    FileTooLarge,
    /// The disk is full.
    #[error("no space left on device")]
    NoSpace,
    /// The process that serves the volume can open no more files for now.
    #[error("too many open files in system")]
    OutOfFiles,
    /// The volume takes no writes.
    #[error("read-only file system")]
    ReadOnly,
    /// What was found by a name is no longer what the name leads to. Whoever looked it up is to look again.
    #[error("stale file handle")]
    Stale,
    /// A number that the caller's form of it can't hold.
    #[error("value too large")]
    Overflow,
    /// The store failed, or a record is damaged; the log has the details.
    #[error("input/output error")]
    Io,
    /// The volume is closed.
    #[error("volume is closed")]
    Closed,
}

impl VfsError {
    /// Whether it says that the machine lacks something now that it may have later: nothing failed.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, VfsError::NoSpace | VfsError::OutOfFiles)
    }
}
