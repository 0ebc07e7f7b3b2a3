//! What the name `.vault` in the root stands for.

use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::Bytes;
use parking_lot::RwLock;
use verfs_base::Ino;
use verfs_vfs::{Result, VfsError};

use super::NAME;
use crate::notify::Invalidation;

/// What is to be seen of the vault.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum VaultShown {
    /// There is no vault: the name is one like any other.
    #[default]
    Never,
    /// It is locked: there is nothing, and nothing can be made.
    Locked,
    /// The directory over which it is mounted.
    Directory,
    /// A symlink to where it is mounted.
    Link(PathBuf),
}

/// Makes and deletes snapshots of a volume and its vault, for those who do so in the mount.
pub trait SnapshotMaker: Send + Sync {
    /// Makes one.
    ///
    /// # Errors
    /// As [`verfs_vfs::Vfs::create_snapshot`].
    fn create(&self, name: &[u8]) -> Result<()>;

    /// Deletes one.
    ///
    /// # Errors
    /// As [`verfs_vfs::Vfs::delete_snapshot`].
    fn delete(&self, name: &[u8]) -> Result<()>;
}

/// Tells the tree's session what to show, from any thread, and who makes snapshots.
#[derive(Default)]
pub struct VaultDoor {
    shown: RwLock<VaultShown>,
    maker: OnceLock<Box<dyn SnapshotMaker>>,
}

impl std::fmt::Debug for VaultDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultDoor").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl VaultDoor {
    /// From now on this is to be seen. The kernel must be told ([`VaultDoor::invalidations`]).
    pub fn show(&self, shown: VaultShown) {
        *self.shown.write() = shown;
    }

    /// Has snapshots made by `maker` from now on; the first one counts. Without one the mount makes none.
    pub fn make_snapshots_by(&self, maker: impl SnapshotMaker + 'static) {
        if self.maker.set(Box::new(maker)).is_err() {
            tracing::debug!("snapshots are made by another one already");
        }
    }

    pub(crate) fn maker(&self) -> Result<&dyn SnapshotMaker> {
        self.maker.get().map(|maker| &**maker).ok_or(VfsError::ReadOnly)
    }

    /// What is to be seen.
    #[must_use]
    pub fn shown(&self) -> VaultShown {
        self.shown.read().clone()
    }

    /// What the kernel has to ask again after a change.
    #[must_use]
    pub fn invalidations() -> [Invalidation; 2] {
        [Invalidation::Entry { parent: Ino::ROOT, name: Bytes::from_static(NAME) }, Invalidation::Inode(Ino::ROOT)]
    }
}
