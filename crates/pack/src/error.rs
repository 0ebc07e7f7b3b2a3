//! What can go wrong with a pack.

use std::io;
use std::path::Path;

use verfs_base::{PackId, is_out_of_descriptors};

/// Result of a pack operation.
pub type Result<T> = std::result::Result<T, PackError>;

/// Errors of packs.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PackError {
    /// The disk is full.
    #[error("can't {action} {path}: the disk is full")]
    OutOfSpace {
        /// What was tried.
        action: &'static str,
        /// The file, relative to the volume.
        path: String,
    },
    /// No more files can be opened for now.
    #[error("can't {action} {path}: too many files are open")]
    OutOfFiles {
        /// What was tried.
        action: &'static str,
        /// The file, relative to the volume.
        path: String,
    },
    /// The disk failed.
    #[error("can't {action} {path}: {message}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file, relative to the volume.
        path: String,
        /// Kind of the operating system's error.
        kind: io::ErrorKind,
        /// Text of the operating system's error.
        message: String,
    },
    /// What is on disk is not what was written.
    #[error("pack {pack}: {detail}")]
    Damaged {
        /// The pack.
        pack: PackId,
        /// What was found.
        detail: String,
    },
}

impl PackError {
    /// Whether the disk may do later what it could not do now: nothing is wrong with the pack.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            PackError::OutOfSpace { .. } | PackError::OutOfFiles { .. } => true,
            PackError::Io { .. } | PackError::Damaged { .. } => false,
        }
    }

    /// The error of the disk for `action` on `path`.
    pub(crate) fn of_disk(action: &'static str, path: &Path) -> impl Fn(io::Error) -> PackError {
        move |error| {
            let path = path.display().to_string();
            let kind = error.kind();
            if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                PackError::OutOfSpace { action, path }
            } else if is_out_of_descriptors(&error) {
                PackError::OutOfFiles { action, path }
            } else {
                PackError::Io { action, path, kind, message: error.to_string() }
            }
        }
    }
}
