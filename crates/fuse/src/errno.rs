//! The one place where an operation's error becomes what `errno(3)` shows.

use verfs_vfs::VfsError;

/// An error number of the kernel, positive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    /// The answer of an operation that panicked, and of a bug.
    pub(crate) const IO: Errno = Errno(libc::EIO);
    /// What a tree that never changes answers to whoever wants to change it.
    pub(crate) const READ_ONLY: Errno = Errno(libc::EROFS);
    /// The kernel must not ask for this operation again.
    pub(crate) const NOT_IMPLEMENTED: Errno = Errno(libc::ENOSYS);
    /// A request that no program can have meant.
    pub(crate) const INVALID: Errno = Errno(libc::EINVAL);
    /// What this file system doesn't do.
    pub(crate) const UNSUPPORTED: Errno = Errno(libc::EOPNOTSUPP);
    /// The file system has no such ioctl.
    pub(crate) const NO_SUCH_COMMAND: Errno = Errno(libc::ENOTTY);
}

/// The number, positive, that `error` is to programs.
#[must_use]
pub fn errno(error: VfsError) -> i32 {
    Errno::from(error).0
}

impl From<VfsError> for Errno {
    fn from(error: VfsError) -> Errno {
        Errno(match error {
            VfsError::NotFound => libc::ENOENT,
            VfsError::Exists => libc::EEXIST,
            VfsError::NotDirectory => libc::ENOTDIR,
            VfsError::IsDirectory => libc::EISDIR,
            VfsError::NotEmpty => libc::ENOTEMPTY,
            VfsError::Busy => libc::EBUSY,
            VfsError::Interrupted => libc::EINTR,
            VfsError::NotPermitted => libc::EPERM,
            VfsError::Denied => libc::EACCES,
            VfsError::NoAttribute => libc::ENODATA,
            VfsError::Unsupported => libc::EOPNOTSUPP,
            VfsError::NoSuchOffset => libc::ENXIO,
            VfsError::NoRoom => libc::ERANGE,
            VfsError::InvalidArgument => libc::EINVAL,
            VfsError::NameTooLong => libc::ENAMETOOLONG,
            VfsError::TooManyLinks => libc::EMLINK,
            VfsError::FileTooLarge => libc::EFBIG,
            VfsError::NoSpace => libc::ENOSPC,
            // Not EMFILE: the caller is not at his own limit.
            VfsError::OutOfFiles => libc::ENFILE,
            VfsError::ReadOnly => libc::EROFS,
            VfsError::Stale => libc::ESTALE,
            VfsError::Overflow => libc::EOVERFLOW,
            // WouldBlock is the dispatcher's to handle: an operation that may wait must not answer it.
            VfsError::Io | VfsError::Closed | VfsError::WouldBlock => libc::EIO,
        })
    }
}
