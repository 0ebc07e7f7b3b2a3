//! The vault: a tree of its own over a sealing view of the same metadata engine.
//!
//! Lives here: the record of its wrapped keys and how it changes, the view that seals names and values. Never here:
//! where the vault is mounted, passwords' sources. Data flows from a [`crate::Vfs`] that knows of no vault through
//! [`SealedMeta`] into the engine; chunks and log frames are sealed by `verfs-store`.

mod clear;
mod clear_meta;
mod keyring;
mod keys;
mod locked;
mod receive;
mod sealed_meta;
mod send;
mod values;
mod walk;

pub use clear::ClearView;
pub use keyring::{Keyring, Retirement, UnlockedKeys, VaultError, VaultSecrets};
pub use locked::{LockedVault, LockedVaults, WhileLocked};
pub use sealed_meta::SealedMeta;
