//! What the name `.vault` in the root stands for.

use std::path::PathBuf;

use bytes::Bytes;
use parking_lot::RwLock;
use verfs_base::Ino;

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

/// Tells the tree's session what to show, from any thread.
#[derive(Debug, Default)]
pub struct VaultDoor {
    shown: RwLock<VaultShown>,
}

impl VaultDoor {
    /// From now on this is to be seen. The kernel must be told ([`VaultDoor::invalidations`]).
    pub fn show(&self, shown: VaultShown) {
        *self.shown.write() = shown;
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
