//! The vault in a mounted volume: `.vault` in its root while the vault is open, and the gate that a lock closes.
//!
//! Lives here: what the tree's session answers for the name, and what stands between the vault's sessions and its tree.
//! Never here: keys, when the vault is opened. Data flows from the kernel through the gate into a tree that knows of
//! no vault. See docs/decisions/0016-vault.md.

mod door;
mod gate;
mod gated;
mod in_tree;

pub use door::{SnapshotMaker, VaultDoor, VaultShown};
pub use gate::{VaultGate, VaultVisit};
pub(crate) use gated::Gated;
pub(crate) use in_tree::TreeWithVault;

use std::sync::Arc;

/// The name of the directory, which no tree has.
pub const NAME: &[u8] = b".vault";

/// What of a volume is mounted.
#[derive(Clone, Debug)]
pub enum MountRole {
    /// Its tree, in whose root the vault appears and vanishes.
    Volume(Arc<VaultDoor>),
    /// Its vault.
    Vault(Arc<VaultGate>),
}
