//! Snapshots of a volume, for callers without a mount, and where an ordinary user's mount has them.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use verfs_vfs::Snapshot;

use crate::{EngineError, Volume};

impl Volume {
    /// Makes a snapshot of the whole tree as it is.
    ///
    /// # Errors
    /// As [`verfs_vfs::Vfs::create_snapshot`].
    pub fn create_snapshot(&self, name: &[u8], note: &[u8]) -> Result<Snapshot, EngineError> {
        self.vfs().create_snapshot(name, note).map_err(|error| EngineError::from_vfs(self.path(), error))
    }

    /// The snapshots, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.vfs().snapshots()
    }

    /// Deletes a snapshot; its space comes back in the background.
    ///
    /// # Errors
    /// As [`verfs_vfs::Vfs::delete_snapshot`].
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<(), EngineError> {
        self.vfs().delete_snapshot(name).map_err(|error| EngineError::from_vfs(self.path(), error))
    }

    /// Adds a reason not to delete a snapshot.
    ///
    /// # Errors
    /// As [`verfs_vfs::Vfs::hold_snapshot`].
    pub fn hold_snapshot(&self, name: &[u8], reason: &[u8]) -> Result<(), EngineError> {
        self.vfs().hold_snapshot(name, reason).map_err(|error| EngineError::from_vfs(self.path(), error))
    }

    /// Removes a reason not to delete a snapshot.
    ///
    /// # Errors
    /// As [`verfs_vfs::Vfs::release_snapshot`].
    pub fn release_snapshot(&self, name: &[u8], reason: &[u8]) -> Result<(), EngineError> {
        self.vfs().release_snapshot(name, reason).map_err(|error| EngineError::from_vfs(self.path(), error))
    }
}

/// Where the snapshots of the volume with this uuid are mounted for an ordinary user: beside the sockets of his daemons.
pub(crate) fn mountpoint_outside(uuid: &str) -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let session = PathBuf::from(format!("/run/user/{uid}"));
    let is_private = || {
        let status = std::fs::symlink_metadata(&session);
        status.is_ok_and(|status| status.is_dir() && status.uid() == uid && status.mode() & 0o077 == 0)
    };
    let directory = match std::env::var_os("XDG_RUNTIME_DIR").filter(|named| !named.is_empty()) {
        Some(named) => PathBuf::from(named).join("verfs"),
        None if is_private() => session.join("verfs"),
        None => PathBuf::from(format!("/tmp/verfs-{uid}")),
    };
    directory.join(format!("{uuid}.snapshots"))
}
