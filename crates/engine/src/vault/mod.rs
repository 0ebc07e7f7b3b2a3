//! The vault of a volume: made, opened, locked; its secrets changed.
//!
//! Lives here: when the vault's parts come and go, and what the tree's mount shows meanwhile. Never here: how anything is
//! sealed. Data flows from secrets through `verfs_vfs::Keyring` to keys, over which a second `Vfs` and `ChunkStore` are
//! opened and mounted. See docs/decisions/0016-vault.md.

mod attempts;
mod chunks;
mod core_dumps;
mod locked;
mod open;
mod rekey;
mod secret;
mod slot;
mod snapshots;

pub use core_dumps::watch_freed_memory;
pub(crate) use locked::SnapshotPartner;
pub(crate) use open::{OpenVault, complete_receive};
pub use rekey::RekeyState;
pub use secret::VaultSecret;
pub(crate) use slot::{Unsaved, VaultGround, VaultPlace, VaultSetting, VaultSlot, VaultView};

use std::time::Duration;

use verfs_base::Timestamp;
pub use verfs_format::vault::VaultCompression;

use crate::{Damage, EngineError, Volume};

/// What a vault is at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VaultState {
    /// The volume has none.
    Absent,
    /// Nothing of it can be seen.
    Locked,
    /// It can be used.
    Unlocked,
    /// The record of its keys is damaged: nobody can open it.
    Damaged,
}

/// What is told about a vault, locked or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VaultStatus {
    /// What it is.
    pub state: VaultState,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether its chunks are compressed before they are sealed.
    pub compression: Option<VaultCompression>,
    /// Memory of one try of a password, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// For how long nobody used it, while it is unlocked.
    pub idle: Option<Duration>,
    /// Whether it gets a new data key.
    pub rekey: RekeyState,
}

/// How long operations under way may last when the vault is locked.
pub const LOCK_GRACE: Duration = Duration::from_secs(10);

impl Volume {
    /// What its vault is.
    ///
    /// # Errors
    /// [`EngineError::Closed`], [`EngineError::Io`].
    pub fn vault_status(&self) -> Result<VaultStatus, EngineError> {
        self.refuse_closed()?;
        self.vault().status()
    }

    /// Makes a vault, which is locked then. Durable when it returns.
    ///
    /// # Errors
    /// [`EngineError::VaultExists`]; [`EngineError::PathExists`]: the tree has a `.vault` of its own; and those of every
    /// change.
    pub fn create_vault(&self, secret: &VaultSecret, compression: VaultCompression) -> Result<(), EngineError> {
        self.refuse_read_only()?;
        self.vault().create(secret, compression)
    }

    /// Opens the vault. It is in `.vault` of the mount, if there is one, when this returns.
    ///
    /// # Errors
    /// [`EngineError::VaultAbsent`], [`EngineError::VaultUnlocked`], [`EngineError::VaultSecret`],
    /// [`EngineError::VaultRateLimited`], [`EngineError::VaultDamaged`], [`EngineError::Mount`], [`EngineError::Closed`],
    /// [`EngineError::VolumeFull`], [`EngineError::Io`].
    pub fn unlock_vault(&self, secret: &VaultSecret) -> Result<(), EngineError> {
        self.refuse_closed()?;
        self.vault().unlock(secret)
    }

    /// Whether these secrets open the vault; nothing is opened.
    ///
    /// # Errors
    /// As [`Volume::unlock_vault`].
    pub fn check_vault_secret(&self, secret: &VaultSecret) -> Result<(), EngineError> {
        self.refuse_closed()?;
        self.vault().check(secret)
    }

    /// Locks the vault: no operation begins any more, what was done is made durable, open files give errors, and nothing
    /// of it is left in memory. Operations under way may last for `grace`. A locked one stays so.
    ///
    /// # Errors
    /// [`EngineError::VolumeFull`], [`EngineError::Io`]: what was written can't be made durable. Then it stays open.
    pub fn lock_vault(&self, grace: Duration) -> Result<(), EngineError> {
        self.refuse_closed()?;
        self.vault().lock(grace, Unsaved::StaysOpen)?;
        self.settle_vault()
    }

    /// Has the locked vault, if there is one, give back what deleted snapshots had, in the background.
    pub(crate) fn settle_vault(&self) -> Result<(), EngineError> {
        if self.refuse_read_only().is_err() || self.vault_status()?.state != VaultState::Locked {
            return Ok(());
        }
        let vault = std::sync::Arc::clone(self.vault());
        let is_stopped = |stop: &crate::tasks::StopSignal| {
            stop.try_recv().is_err_and(|error| error == crossbeam_channel::TryRecvError::Disconnected)
        };
        self.start_task("verfs-vault-gc", move |stop| vault.settle_locked(&|| is_stopped(stop)))
    }

    /// Has the vault opened by other secrets from now on. Durable when it returns; after a crash the old ones open it or
    /// the new ones.
    ///
    /// # Errors
    /// As [`Volume::unlock_vault`], and those of every change.
    pub fn change_vault_secret(&self, old: &VaultSecret, new: &VaultSecret) -> Result<(), EngineError> {
        self.refuse_read_only()?;
        self.vault().change(old, new)
    }

    /// Gives the open vault a new data key, with which it seals from now on, and begins to seal anew what it has; in the
    /// background, and again after each unlocking until it is done. Then nothing on the disk needs the old key.
    ///
    /// # Errors
    /// [`EngineError::VaultLocked`]; [`EngineError::Usage`]: one is under way; and those of [`Volume::unlock_vault`].
    pub fn rekey_vault(&self, secret: &VaultSecret) -> Result<(), EngineError> {
        self.refuse_read_only()?;
        self.vault().rekey(secret)
    }

    /// Files in the vault that were found damaged since it was unlocked, with their paths from the volume's root; none
    /// while it is locked. Not among [`Volume::stats`], which get to those who must not know names.
    ///
    /// # Errors
    /// [`EngineError::Closed`].
    pub fn vault_damaged(&self) -> Result<Vec<Damage>, EngineError> {
        self.refuse_closed()?;
        let damaged = self.vault().vfs().map(|vfs| vfs.damaged()).unwrap_or_default();
        Ok(damaged.into_iter().map(|file| Damage::of("/.vault", file)).collect())
    }

    /// The tree of the vault while it is open, for callers without a mount.
    #[must_use]
    pub fn vault_vfs(&self) -> Option<std::sync::Arc<verfs_vfs::Vfs>> {
        self.vault().vfs()
    }
}
