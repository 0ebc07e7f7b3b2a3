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
use crate::mount_table::MountKind;
use crate::mounting;
use crate::notify::Invalidation;
use crate::options::{SessionOptions, SnapshotsDirectory};
use crate::session::Session;
use crate::vault::{Gated, MountRole, TreeWithVault, VaultGate};

/// A mounted volume. Dropping it detaches its mounts without waiting; whoever has files open is still served.
#[derive(Debug)]
pub struct VolumeMount {
    session: Session,
    snapshots: Arc<Automount>,
    /// Of a vault.
    gate: Option<Arc<VaultGate>>,
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
    /// Mounts the volume behind `vfs`, as [`Session::mount`] does any tree, or its vault.
    ///
    /// # Errors
    /// As [`Session::mount`].
    pub fn mount(
        vfs: &Arc<Vfs>,
        mountpoint: &Path,
        options: &SessionOptions,
        role: MountRole,
    ) -> Result<VolumeMount, FuseError> {
        let mut mount_options = options.validate()?;
        let (gate, door) = match role {
            MountRole::Volume(door) => (None, Some(door)),
            MountRole::Vault(gate) => {
                mount_options.kind = MountKind::Vault;
                (Some(gate), None)
            }
        };
        let wanted = mount_options.snapshots;
        let place = if rustix::process::geteuid().is_root() {
            Some(Place::InTree)
        } else {
            options.snapshots_mountpoint.clone().map(Place::Outside)
        };
        let shown = shown(vfs, wanted, place.as_ref());
        let opened = Arc::new(OpenedSnapshots::new(Arc::clone(vfs)));
        let place = place.unwrap_or(Place::InTree);
        let snapshots = Arc::new(Automount::new(
            place,
            (Arc::clone(vfs), Arc::clone(&opened)),
            options,
            (gate.clone(), door.clone()),
        ));
        let earlier = Earlier::new(Arc::clone(vfs), opened);
        let tree = TreeWithSnapshots::new(Arc::clone(vfs), shown, Arc::clone(&snapshots), earlier);
        let mounted = mounting::mount(mountpoint, &mount_options)?;
        let session = match door {
            Some(door) => Session::serve_mounted(Arc::new(TreeWithVault::new(tree, door)), mounted, options)?,
            None => Session::serve_mounted(Arc::new(Gated::new(Arc::new(tree), gate.clone())), mounted, options)?,
        };
        let mount = VolumeMount { session, snapshots, gate };
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

    /// The session of the snapshots, while somebody uses them. Never waits.
    #[must_use]
    pub fn snapshots(&self) -> Option<Arc<Session>> {
        self.snapshots.seen()
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

    /// Ends a vault's mount whoever uses it: the kernel drops what it has of it, then its connections are cut, and every
    /// open file gives errors. The gate must be closed, so that nobody brings anything back. Waits for the end of all that
    /// could be cut.
    ///
    /// # Errors
    /// The system refuses to unmount; what the kernel had of it is dropped all the same.
    pub fn cut(&self) -> Result<(), FuseError> {
        let kept: Vec<Ino> = self.gate.as_ref().map(|gate| gate.known()).unwrap_or_default();
        let drop_pages = |session: &Session| {
            session.invalidate_all(kept.iter().copied().chain([Ino::ROOT]).map(Invalidation::Inode));
        };
        if let Some(session) = self.snapshots.mounted() {
            drop_pages(&session);
        }
        drop_pages(&self.session);
        let snapshots = self.snapshots.end();
        let detached = self.session.detach();
        let mut are_cut = detached.is_ok();
        for session in snapshots.iter().map(AsRef::as_ref).chain([&self.session]) {
            if session.is_connected()
                && let Err(error) = session.abort()
            {
                tracing::error!(%error, "a connection of the vault can't be cut: it ends with its last open file");
                are_cut = false;
            }
        }
        // Whoever has files open in one that can't be cut gets errors from the gate, for as long as he likes.
        if are_cut {
            self.session.wait();
            if let Some(session) = snapshots {
                session.wait();
            }
        }
        detached.map(|_| ())
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
