//! What a file operation answers instead of its result.

use rustix::io::Errno;
use verfs_vfs::VfsError;

/// An error number of Linux, or the end of the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileError {
    /// As the system call gives it.
    #[error("{0}")]
    System(Errno),
    /// The volume is closed.
    #[error("volume is closed")]
    Closed,
}

impl FileError {
    pub(super) const NOT_FOUND: FileError = FileError::System(Errno::NOENT);
    pub(super) const EXISTS: FileError = FileError::System(Errno::EXIST);
    pub(super) const NOT_DIRECTORY: FileError = FileError::System(Errno::NOTDIR);
    pub(super) const IS_DIRECTORY: FileError = FileError::System(Errno::ISDIR);
    pub(super) const INVALID: FileError = FileError::System(Errno::INVAL);
    pub(super) const DENIED: FileError = FileError::System(Errno::ACCESS);
    pub(super) const NOT_PERMITTED: FileError = FileError::System(Errno::PERM);
    pub(super) const READ_ONLY: FileError = FileError::System(Errno::ROFS);
    pub(super) const LOOP: FileError = FileError::System(Errno::LOOP);
    pub(super) const NAME_TOO_LONG: FileError = FileError::System(Errno::NAMETOOLONG);
    pub(super) const BAD_HANDLE: FileError = FileError::System(Errno::BADF);
    pub(super) const TOO_MANY_OPEN: FileError = FileError::System(Errno::MFILE);
    pub(super) const UNSUPPORTED: FileError = FileError::System(Errno::OPNOTSUPP);
    pub(super) const BUSY: FileError = FileError::System(Errno::BUSY);
    pub(super) const NOT_EMPTY: FileError = FileError::System(Errno::NOTEMPTY);
    pub(super) const NO_ATTRIBUTE: FileError = FileError::System(Errno::NODATA);
    pub(super) const IO: FileError = FileError::System(Errno::IO);
    pub(super) const CROSS_DEVICE: FileError = FileError::System(Errno::XDEV);
    pub(super) const NO_DEVICE: FileError = FileError::System(Errno::NXIO);
}

impl From<VfsError> for FileError {
    fn from(error: VfsError) -> FileError {
        match error {
            VfsError::Closed => FileError::Closed,
            error => FileError::System(Errno::from_raw_os_error(verfs_fuse::errno(error))),
        }
    }
}
