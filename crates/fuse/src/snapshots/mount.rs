//! A mounted volume: the session of its tree, and when somebody looks that of its snapshots.

use std::path::Path;
use std::sync::Arc;

use verfs_base::Ino;
use verfs_vfs::{Context, Vfs, VfsError};

use super::NAME;
use super::automount::{Automount, Place};
use super::earlier::Earlier;
use super::in_tree::TreeWithSnapshots;
use super::opened::OpenedSnapshots;
use crate::error::FuseError;
use crate::options::{SessionOptions, SnapshotsDirectory};
use crate::session::Session;

/// A mounted volume. Dropping it detaches its mounts without waiting; whoever has files open is still served.
#[derive(Debug)]
pub struct VolumeMount {
    session: Session,
    snapshots: Arc<Automount>,
}

impl std::fmt::Debug for Automount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Automount").field("place", self.place()).finish_non_exhaustive()
    }
}

/// Where snapshots are shown: nowhere if the root has an entry of that name already, or if there is no place for them.
fn shown(vfs: &Vfs, wanted: SnapshotsDirectory, place: Option<&Place>) -> SnapshotsDirectory {
    match wanted {
        SnapshotsDirectory::Off => return SnapshotsDirectory::Off,
        SnapshotsDirectory::Hidden | SnapshotsDirectory::Listed | SnapshotsDirectory::Everywhere => {}
    }
    if place.is_none() {
        return SnapshotsDirectory::Off;
    }
    match vfs.lookup(&Context::ROOT, Ino::ROOT, NAME) {
        Err(VfsError::NotFound) => wanted,
        Ok(_) => {
            tracing::warn!("the volume has a `.snapshots` of its own: its snapshots are not shown in the mount");
            SnapshotsDirectory::Off
        }
        Err(error) => {
            tracing::warn!(%error, "looking for `.snapshots`: snapshots are not shown in the mount");
            SnapshotsDirectory::Off
        }
    }
}

impl VolumeMount {
    /// Mounts the volume behind `vfs`, as [`Session::mount`] does any tree.
    ///
    /// # Errors
    /// As [`Session::mount`].
    pub fn mount(vfs: &Arc<Vfs>, mountpoint: &Path, options: &SessionOptions) -> Result<VolumeMount, FuseError> {
        let wanted = options.validate()?.snapshots;
        let place = if rustix::process::geteuid().is_root() {
            Some(Place::InTree)
        } else {
            options.snapshots_mountpoint.clone().map(Place::Outside)
        };
        let shown = shown(vfs, wanted, place.as_ref());
        let opened = Arc::new(OpenedSnapshots::new(Arc::clone(vfs)));
        let place = place.unwrap_or(Place::InTree);
        let snapshots = Arc::new(Automount::new(place, Arc::clone(vfs), Arc::clone(&opened), options));
        let earlier = Earlier::new(Arc::clone(vfs), opened);
        let tree = TreeWithSnapshots::new(Arc::clone(vfs), shown, Arc::clone(&snapshots), earlier);
        let session = Session::mount(Arc::new(tree), mountpoint, options)?;
        let mount = VolumeMount { session, snapshots };
        match shown {
            SnapshotsDirectory::Off => {}
            SnapshotsDirectory::Hidden | SnapshotsDirectory::Listed | SnapshotsDirectory::Everywhere => {
                mount.begin()?
            }
        }
        Ok(mount)
    }

    fn begin(&self) -> Result<(), FuseError> {
        let begun = self.snapshots.begin(self.session.mount_point());
        begun.map_err(|source| FuseError::io("starting threads for", self.session.mountpoint(), source))
    }

    /// The session of the tree.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Unmounts the snapshots and then the tree, as [`Session::unmount`] does, and waits for both.
    ///
    /// # Errors
    /// As [`Session::unmount`]; then the tree is still mounted and served, its snapshots no longer.
    pub fn unmount(&self) -> Result<(), FuseError> {
        let snapshots = self.snapshots.end();
        self.session.unmount()?;
        if let Some(session) = snapshots {
            session.wait();
        }
        Ok(())
    }

    /// Waits until the tree is unmounted, whoever does that; then nothing of its snapshots is left either.
    pub fn wait(&self) {
        self.session.wait();
        if let Some(session) = self.snapshots.end() {
            session.wait();
        }
    }
}

impl Drop for VolumeMount {
    fn drop(&mut self) {
        self.snapshots.end();
    }
}
