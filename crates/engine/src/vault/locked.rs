//! What is done with the vault while it is locked, and what snapshots and streams have to do with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use verfs_fuse::VaultShown;
use verfs_store::{GcProgress, Pace, ScrubEnd, ScrubPosition, ScrubProgress};
use verfs_vfs::{LockedVault, LockedVaults, StreamError, VaultError, Vfs, VfsError};

use super::open::locked_vault;
use super::slot::VaultSlot;
use crate::EngineError;

/// What a snapshot of the volume is to have of the vault.
pub(crate) enum SnapshotPartner {
    /// There is none.
    None,
    /// Nothing changes in it.
    Locked(LockedVault),
    /// Its tree.
    Open(Arc<Vfs>),
}

impl LockedVaults for VaultSlot {
    fn with(&self, act: &mut dyn FnMut(Option<&LockedVault>) -> Result<(), StreamError>) -> Result<(), StreamError> {
        let _changing = self.change_soon();
        let _pairing = self.pairing.lock();
        if self.opened().is_some() {
            return act(None);
        }
        let acted = act(Some(&self.place()));
        self.chunks.rest();
        // It may have come just now.
        if matches!(self.keyring().record(), Ok(Some(_))) {
            self.show(VaultShown::Locked);
        }
        acted
    }
}

impl VaultSlot {
    /// What snapshots have to do with the vault, which stays as it is until the guard goes.
    pub(crate) fn pair(&self) -> Result<(MutexGuard<'_, ()>, SnapshotPartner), VfsError> {
        let pairing = self.pairing.lock();
        let partner = match self.opened() {
            Some(vault) => SnapshotPartner::Open(Arc::clone(&vault.vfs)),
            None => {
                let locked = self.locked().map_err(|error| {
                    tracing::error!(%error, "looking at the vault");
                    VfsError::Io
                })?;
                locked.map_or(SnapshotPartner::None, SnapshotPartner::Locked)
            }
        };
        Ok((pairing, partner))
    }

    /// The vault without its keys; `None` if there is none, or nobody can open it.
    pub(crate) fn locked(&self) -> Result<Option<LockedVault>, EngineError> {
        match self.keyring().record() {
            Ok(Some(_)) => Ok(Some(self.place())),
            Ok(None) | Err(VaultError::Damaged(_)) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// The vault without its keys, open or locked; `None` if there is none.
    pub(crate) fn for_stream(&self) -> Result<Option<LockedVault>, EngineError> {
        let record = self.keyring().record().map_err(|error| self.error(error))?;
        Ok(record.map(|_| self.place()))
    }

    fn place(&self) -> LockedVault {
        let chunks = Arc::clone(&self.chunks);
        locked_vault(&self.setting, Arc::clone(&self.turn), move || chunks.get())
    }

    /// Deletes what the locked vault has of snapshots that are gone, and collects what only they had, until `stopped`
    /// says so or somebody wants to open it. Its open tree does that by itself.
    pub(crate) fn settle_locked(&self, stopped: &dyn Fn() -> bool) {
        let _changing = self.changing.lock();
        if self.opened().is_some() {
            return;
        }
        let go_on = || self.waiting.load(Ordering::SeqCst) == 0 && !stopped();
        let pruned = self.locked().map(|vault| vault.map(|vault| vault.prune(&self.setting.tree, &mut || go_on())));
        match pruned {
            Ok(None | Some(Ok(()) | Err(VfsError::Closed))) => {}
            Ok(Some(Err(error))) => tracing::warn!(%error, "the vault's part of deleted snapshots goes later"),
            Err(error) => tracing::warn!(%error, "the vault's part of deleted snapshots goes later"),
        }
        let gc = self.setting.options.gc();
        if self.chunks.is_locked() && gc.background == crate::Background::On {
            match self.collect_locked(gc.dead_percent, &go_on) {
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "garbage of the locked vault is collected later"),
            }
        }
        self.chunks.rest();
    }

    /// Checks checksums of what is stored, not what is in it.
    pub(super) fn scrub_locked(
        &self,
        pace: &mut dyn FnMut(&ScrubProgress) -> Pace,
    ) -> Result<Option<(ScrubProgress, ScrubEnd)>, EngineError> {
        if self.locked()?.is_none() {
            return Ok(None);
        }
        let failed = |error| EngineError::from_store(&self.setting.path, &error);
        let store = self.chunks.get().map_err(failed)?;
        let scrubbed = store.scrub(ScrubPosition::Kept, pace).map_err(failed);
        self.chunks.rest();
        scrubbed.map(Some)
    }

    pub(super) fn collect_locked(&self, dead_percent: u8, go_on: &dyn Fn() -> bool) -> Result<GcProgress, EngineError> {
        let failed = |error| EngineError::from_store(&self.setting.path, &error);
        let store = self.chunks.get().map_err(failed)?;
        let pace = &mut |_: &GcProgress| if go_on() { Pace::Go } else { Pace::Stop };
        store.collect(dead_percent, pace).map(|(progress, _)| progress).map_err(failed)
    }
}
