//! What can go wrong with a mount, each with what to do about it. Errors of single operations are errnos instead.

use std::io;
use std::path::{Path, PathBuf};

/// Why a tree could not be mounted or unmounted. The message says what, which path, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum FuseError {
    /// Nothing is there to mount over.
    #[error("mountpoint {} does not exist: create it with `mkdir -p` first", path.display())]
    MountpointMissing {
        /// The mountpoint.
        path: PathBuf,
    },
    /// A file is there.
    #[error("mountpoint {} is not a directory: choose an empty directory", path.display())]
    MountpointNotDirectory {
        /// The mountpoint.
        path: PathBuf,
    },
    /// The directory has entries, which the mount would hide.
    #[error("mountpoint {} is not empty: choose an empty directory", path.display())]
    MountpointNotEmpty {
        /// The mountpoint.
        path: PathBuf,
    },
    /// A living VerFS mount is there.
    #[error("{} is mounted at {} already: unmount it first or choose another directory", source_name, path.display())]
    AlreadyMounted {
        /// The mountpoint.
        path: PathBuf,
        /// What the mount table names as the mount's source.
        source_name: String,
    },
    /// A mount whose daemon died is there and could not be detached.
    #[error("{} is a mount whose daemon is gone ({detail}): detach it with `umount -l` as root", path.display())]
    MountpointStale {
        /// The mountpoint.
        path: PathBuf,
        /// Why it could not be detached.
        detail: String,
    },
    /// The kernel offers no FUSE.
    #[error(
        "there is no /dev/fuse: load the kernel module with `modprobe fuse`, or give the container `--device /dev/fuse`"
    )]
    NoFuseDevice,
    /// An ordinary user needs the set-user-id helper.
    #[error(
        "fusermount3 was not found, which an ordinary user needs to mount: install the package fuse3, or mount as root"
    )]
    NoFusermount,
    /// The system refuses this mount to this user.
    #[error("no permission to mount at {}: {detail}", path.display())]
    PermissionDenied {
        /// The mountpoint.
        path: PathBuf,
        /// Who refused what, and what may be done.
        detail: String,
    },
    /// A mount option that is not known or makes no sense here.
    #[error("mount option `{option}` is not possible: {detail}")]
    InvalidOption {
        /// The option as it was given.
        option: String,
        /// Why, or what is.
        detail: String,
    },
    /// Anything else that the system answered.
    #[error("{action} {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FuseError {
    /// The path that the error is about, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            FuseError::MountpointMissing { path }
            | FuseError::MountpointNotDirectory { path }
            | FuseError::MountpointNotEmpty { path }
            | FuseError::AlreadyMounted { path, .. }
            | FuseError::MountpointStale { path, .. }
            | FuseError::PermissionDenied { path, .. }
            | FuseError::Io { path, .. } => Some(path),
            FuseError::NoFuseDevice | FuseError::NoFusermount | FuseError::InvalidOption { .. } => None,
        }
    }

    /// An [`FuseError::Io`] of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> FuseError {
        FuseError::Io { action, path: path.to_path_buf(), source: source.into() }
    }
}
