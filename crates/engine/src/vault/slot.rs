//! What happens to a volume's vault, one thing at a time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use verfs_base::{Clock, Descriptors, OsRng};
use verfs_chunker::Chunker;
use verfs_codec::crypto::PasswordCost;
use verfs_format::scrub::{SYSTEM_SCRUB, ScrubRecord};
use verfs_format::superblock::ID_SECRET_BYTES;
use verfs_format::vault::VAULT_PREFIX;
use verfs_fuse::{SessionOptions, VaultDoor, VaultShown, VolumeMount};
use verfs_meta::{MetaStore, PrefixedStore};
use verfs_store::{GcProgress, Leftovers, Pace, ScrubEnd, ScrubPosition, ScrubProgress, StoreError};
use verfs_vfs::{Context, Keyring, Outdated, Retirement, UnlockedKeys, VaultError, Vfs, VfsError};

use super::attempts::Attempts;
use super::chunks::VaultChunks;
use super::open::{OpenVault, open_locked};
use super::{RekeyState, VaultCompression, VaultSecret, VaultState, VaultStatus, snapshots};
use crate::pause::Pause;
use crate::recovery::Scratch;
use crate::snapshots::{SessionSlot, tell_kernel, tell_outdated};
use crate::{EngineError, OpenOptions};

/// How long one try of a password shall take.
const TRY_TIME: Duration = Duration::from_millis(500);
/// The name in the root.
const NAME: &[u8] = b".vault";

/// What a vault needs of its volume while it is locked.
pub(crate) struct VaultGround {
    /// Directory of the volume.
    pub(crate) path: PathBuf,
    pub(crate) uuid: [u8; 16],
    pub(crate) id_secret: [u8; ID_SECRET_BYTES],
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: OpenOptions,
    pub(crate) descriptors: Arc<Descriptors>,
    /// What becomes of packs that the metadata doesn't know.
    pub(crate) leftovers: Leftovers,
    /// Where what would be written goes instead, of a damaged volume.
    pub(crate) scratch: Option<Arc<Scratch>>,
}

impl VaultGround {
    pub(super) fn keyring(&self) -> Keyring {
        Keyring {
            meta: Arc::clone(&self.meta),
            volume: self.uuid,
            rng: Arc::new(OsRng),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// What a vault needs of its volume.
pub(crate) struct VaultSetting {
    pub(crate) ground: VaultGround,
    pub(crate) chunker: Arc<dyn Chunker>,
    /// Who owns its root.
    pub(crate) owner: (u32, u32),
    /// The volume's tree.
    pub(crate) tree: Arc<Vfs>,
    /// Where that is mounted.
    pub(crate) session: Arc<SessionSlot>,
    /// Where its garbage collection rests.
    pub(crate) pause: Arc<Pause>,
}

impl std::ops::Deref for VaultSetting {
    type Target = VaultGround;

    fn deref(&self) -> &VaultGround {
        &self.ground
    }
}

/// Where the vault is mounted when it is open, and how.
pub(crate) struct VaultPlace {
    pub(crate) mountpoint: PathBuf,
    pub(crate) shown: VaultShown,
    pub(crate) options: SessionOptions,
}

/// What somebody without a mount sees of it.
pub(crate) enum VaultView {
    /// There is none: the name is one like any other.
    Absent,
    /// Nothing, and nothing can be made there.
    Locked,
    /// All of it, until it is locked.
    Open(Weak<OpenVault>),
}

/// What becomes of a vault whose last changes can't be made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsaved {
    /// It stays open: what was written must not vanish because somebody wants the vault locked.
    StaysOpen,
    /// It is locked all the same: the volume is being closed.
    IsLost,
}

/// The vault of a volume, if it has one.
pub(crate) struct VaultSlot {
    pub(super) setting: VaultSetting,
    door: Arc<VaultDoor>,
    /// Held by what makes, opens, locks or mounts it.
    pub(super) changing: Mutex<()>,
    open: Mutex<Option<Arc<OpenVault>>>,
    /// Held while snapshots are made or deleted, and while the vault comes or goes: a snapshot has it open or locked.
    pub(super) pairing: Mutex<()>,
    /// How many wait for what is done with the locked vault to end.
    pub(super) waiting: AtomicUsize,
    pub(super) chunks: Arc<VaultChunks>,
    /// Held by each change of the locked vault.
    pub(super) turn: Arc<Mutex<()>>,
    place: Mutex<Option<VaultPlace>>,
    attempts: Mutex<Attempts>,
}

impl VaultSlot {
    /// Locked, or absent. What can't be read now is told when somebody asks for it.
    pub(crate) fn new(setting: VaultSetting) -> VaultSlot {
        let chunks = Arc::new(VaultChunks::new(open_locked(&setting)));
        let slot = VaultSlot {
            setting,
            door: Arc::default(),
            changing: Mutex::new(()),
            open: Mutex::new(None),
            pairing: Mutex::new(()),
            waiting: AtomicUsize::new(0),
            chunks,
            turn: Arc::default(),
            place: Mutex::new(None),
            attempts: Mutex::default(),
        };
        match slot.keyring().record() {
            Ok(None) => {}
            Ok(Some(_)) => slot.door.show(VaultShown::Locked),
            Err(error) => {
                tracing::error!(%error, "the vault can't be opened");
                slot.door.show(VaultShown::Locked);
            }
        }
        slot
    }

    /// The volume is closed: what stood in for it goes, whoever holds a handle still.
    pub(crate) fn remove_scratch(&self) {
        if let Some(scratch) = &self.setting.scratch {
            scratch.remove();
        }
    }

    /// What the mount of the tree shows of it.
    pub(crate) fn door(&self) -> &Arc<VaultDoor> {
        &self.door
    }

    pub(super) fn keyring(&self) -> Keyring {
        self.setting.keyring()
    }

    pub(super) fn error(&self, error: VaultError) -> EngineError {
        let path = self.setting.path.clone();
        match error {
            VaultError::Exists => EngineError::VaultExists { path },
            VaultError::Absent => EngineError::VaultAbsent { path },
            VaultError::WrongSecret => EngineError::VaultSecret,
            VaultError::Damaged(detail) => EngineError::VaultDamaged { path, detail },
            VaultError::Meta(error) => EngineError::from_meta(&path, &error),
            VaultError::Crypto(error) => EngineError::Io { path, detail: error.to_string() },
        }
    }

    pub(super) fn opened(&self) -> Option<Arc<OpenVault>> {
        self.open.lock().clone()
    }

    pub(crate) fn status(&self) -> Result<VaultStatus, EngineError> {
        let absent = VaultStatus {
            state: VaultState::Absent,
            created: None,
            compression: None,
            memory_kib: 0,
            passes: 0,
            idle: None,
            rekey: RekeyState::Idle,
        };
        let record = match self.keyring().record() {
            Ok(None) => return Ok(absent),
            Ok(Some(record)) => record,
            Err(VaultError::Damaged(_)) => return Ok(VaultStatus { state: VaultState::Damaged, ..absent }),
            Err(error) => return Err(self.error(error)),
        };
        let open = self.opened();
        Ok(VaultStatus {
            state: if open.is_some() { VaultState::Unlocked } else { VaultState::Locked },
            created: Some(record.created),
            compression: Some(record.compression),
            memory_kib: record.memory_kib,
            passes: record.passes,
            idle: open.as_ref().map(|open| open.idle(self.setting.clock.monotonic())),
            rekey: open.map_or(RekeyState::Idle, |open| open.rekey_state()),
        })
    }

    /// How far a rekey is.
    pub(crate) fn rekey_state(&self) -> RekeyState {
        self.opened().map_or(RekeyState::Idle, |open| open.rekey_state())
    }

    fn cost(&self) -> Result<PasswordCost, EngineError> {
        PasswordCost::calibrate(TRY_TIME, self.setting.clock.as_ref())
            .map_err(|error| self.error(VaultError::Crypto(error)))
    }

    /// Makes a vault. It is locked then.
    pub(crate) fn create(&self, secret: &VaultSecret, compression: VaultCompression) -> Result<(), EngineError> {
        let _changing = self.change_soon();
        match self.setting.tree.lookup(&Context::ROOT, verfs_base::Ino::ROOT, NAME) {
            Err(VfsError::NotFound) => {}
            Ok(_) => return Err(EngineError::PathExists { path: PathBuf::from("/.vault") }),
            Err(error) => return Err(EngineError::from_vfs(&self.setting.path, error)),
        }
        let cost = self.cost()?;
        let _pairing = self.pairing.lock();
        let keys = self.keyring().create(secret.as_secrets(), cost, compression).map_err(|error| self.error(error))?;
        self.show(VaultShown::Locked);
        // There is a vault from here on. Its tree is made by the first opening, whenever that is.
        self.chunks.begin_change();
        let made = OpenVault::open(&self.setting, keys).and_then(|vault| vault.close(&self.setting));
        self.chunks.settle(None);
        if let Err(error) = made {
            tracing::warn!(%error, "the new vault's tree is made when it is unlocked");
        }
        Ok(())
    }

    /// Runs a try of secrets, as often as that is allowed.
    fn attempt<T>(&self, run: impl FnOnce(&Keyring) -> Result<T, VaultError>) -> Result<T, EngineError> {
        let now = || self.setting.clock.monotonic();
        // Held all along: tries at the same time would not be counted.
        let mut attempts = self.attempts.lock();
        if let Some(wait) = attempts.wait(now()) {
            return Err(EngineError::VaultRateLimited { wait });
        }
        let result = run(&self.keyring());
        match &result {
            Ok(_) => attempts.succeeded(),
            Err(VaultError::WrongSecret) => attempts.failed(now()),
            Err(
                VaultError::Exists
                | VaultError::Absent
                | VaultError::Damaged(_)
                | VaultError::Meta(_)
                | VaultError::Crypto(_),
            ) => {}
        }
        drop(attempts);
        result.map_err(|error| self.error(error))
    }

    /// Opens the vault, and mounts it where the volume is mounted.
    pub(crate) fn unlock(&self, secret: &VaultSecret) -> Result<(), EngineError> {
        let _changing = self.change_soon();
        if self.opened().is_some() {
            return Err(EngineError::VaultUnlocked { path: self.setting.path.clone() });
        }
        self.refuse_half_received()?;
        let mut keys = self.attempt(|keyring| keyring.unlock(secret.as_secrets()))?;
        let retirement = keys.retirement.take();
        let _pairing = self.pairing.lock();
        self.chunks.begin_change();
        let opened = self.begin(keys);
        self.chunks.settle(opened.as_ref().ok().map(|vault| vault.store()));
        let vault = opened?;
        if let (Some(retirement), crate::ReadOnly::No) = (retirement, self.setting.options.read_only) {
            self.start_rekey(&vault, retirement);
        }
        *self.open.lock() = Some(vault);
        Ok(())
    }

    /// Opens the vault's parts and shows it.
    fn begin(&self, keys: UnlockedKeys) -> Result<Arc<OpenVault>, EngineError> {
        let vault = Arc::new(OpenVault::open(&self.setting, keys)?);
        let settled = match self.setting.options.read_only {
            crate::ReadOnly::Yes => Ok(()),
            crate::ReadOnly::No => snapshots::settle(&vault.vfs, &self.setting.tree.snapshots(), vault.record.created),
        };
        let begun =
            settled.map_err(|error| EngineError::from_vfs(&self.setting.path, error)).and_then(|()| self.mount(&vault));
        if let Err(error) = begun {
            vault.gate.close();
            vault.cut_mount();
            self.show(VaultShown::Locked);
            if let Err(error) = vault.close(&self.setting) {
                tracing::error!(%error, "closing the vault after a failed start");
            }
            return Err(error);
        }
        Ok(vault)
    }

    /// Of a stream that was applied in part nobody can use anything before the rest is.
    fn refuse_half_received(&self) -> Result<(), EngineError> {
        let path = || self.setting.path.clone();
        match self.setting.meta.get(verfs_format::keys::SYSTEM_RECEIVE) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                let detail = "a stream was applied in part: open the volume again".to_owned();
                Err(EngineError::Io { path: path(), detail })
            }
            Err(error) => Err(EngineError::from_meta(&path(), &error)),
        }
    }

    /// For what comes or goes: whoever works on the locked vault ends soon.
    pub(super) fn change_soon(&self) -> MutexGuard<'_, ()> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let changing = self.changing.lock();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        changing
    }

    fn start_rekey(&self, vault: &OpenVault, retirement: Retirement) {
        if let Err(error) = vault.start_rekey(&self.setting, retirement) {
            tracing::warn!(%error, "sealing the vault anew waits until it is unlocked next");
        }
    }

    /// Gives the open vault a new data key, and begins to seal anew.
    pub(crate) fn rekey(&self, secret: &VaultSecret) -> Result<(), EngineError> {
        let _changing = self.change_soon();
        let vault = self.opened().ok_or_else(|| EngineError::VaultLocked { path: self.setting.path.clone() })?;
        if vault.rekey_state() != RekeyState::Idle {
            return Err(EngineError::Usage("the vault gets a new data key already: `verfs crypt --status`".to_owned()));
        }
        let retirement = self.attempt(|keyring| keyring.begin_rekey(secret.as_secrets(), vault.keys()))?;
        self.start_rekey(&vault, retirement);
        Ok(())
    }

    /// Ends the vault: what was done is made durable, from then on nobody sees anything, and nothing of it is left in
    /// memory. Operations under way may last for `grace`, then they are cut off. Nothing happens when it is locked.
    ///
    /// # Errors
    /// What the disk says; what becomes of the vault then `unsaved` says.
    pub(crate) fn lock(&self, grace: Duration, unsaved: Unsaved) -> Result<(), EngineError> {
        let _changing = self.change_soon();
        let Some(vault) = self.opened() else { return Ok(()) };
        vault.gate.close();
        if !vault.gate.wait_empty(grace) {
            tracing::warn!("operations in the vault are cut off by its lock");
        }
        let saved = vault.vfs.sync().map_err(|error| EngineError::from_vfs(&self.setting.path, error));
        match (&saved, unsaved) {
            (Err(_), Unsaved::StaysOpen) => {
                vault.gate.reopen();
                return saved;
            }
            (Err(error), Unsaved::IsLost) => tracing::error!(%error, "what was written to the vault last is lost"),
            (Ok(()), Unsaved::StaysOpen | Unsaved::IsLost) => {}
        }
        vault.cut_mount();
        self.show(VaultShown::Locked);
        let _pairing = self.pairing.lock();
        self.chunks.begin_change();
        *self.open.lock() = None;
        let closed = vault.close(&self.setting);
        self.chunks.settle(None);
        if Arc::strong_count(&vault) > 1 {
            tracing::debug!("somebody still looks at the locked vault");
        }
        saved.and(closed)
    }

    /// Has the vault opened by other secrets from now on.
    pub(crate) fn change(&self, old: &VaultSecret, new: &VaultSecret) -> Result<(), EngineError> {
        let _changing = self.change_soon();
        let cost = self.cost()?;
        self.attempt(|keyring| keyring.change(old.as_secrets(), new.as_secrets(), cost))
    }

    /// Whether these secrets open it; opens nothing.
    pub(crate) fn check(&self, secret: &VaultSecret) -> Result<(), EngineError> {
        self.attempt(|keyring| keyring.unlock(secret.as_secrets())).map(drop)
    }

    /// The volume was mounted.
    pub(crate) fn mounted(&self, place: VaultPlace) -> Result<(), EngineError> {
        let _changing = self.change_soon();
        *self.place.lock() = Some(place);
        match self.opened() {
            Some(vault) => self.mount(&vault),
            None => Ok(()),
        }
    }

    /// The mount of the open vault, if it has one and nobody is changing that: without waiting.
    pub(crate) fn mount_seen(&self) -> Option<Arc<VolumeMount>> {
        self.opened()?.mount.try_lock()?.clone()
    }

    /// The volume is mounted no more.
    pub(crate) fn unmounted(&self) {
        *self.place.lock() = None;
    }

    fn mount(&self, vault: &OpenVault) -> Result<(), EngineError> {
        let place = self.place.lock();
        let Some(VaultPlace { mountpoint, shown, options }) = &*place else { return Ok(()) };
        // The mountpoint must be there before anything can be mounted on it.
        self.show(shown.clone());
        if let VaultShown::Link(path) = shown {
            let made = std::fs::DirBuilder::new().recursive(true).create(path);
            made.map_err(|error| EngineError::from_io(path, &error))?;
        }
        Ok(vault.mount(mountpoint, options)?)
    }

    pub(super) fn show(&self, shown: VaultShown) {
        self.door.show(shown);
        tell_kernel(&self.setting.session, VaultDoor::invalidations);
    }

    /// Tells the kernel what a rollback of the open vault changed.
    pub(crate) fn tell_outdated(&self, outdated: &Outdated) {
        if let Some(vault) = self.opened() {
            tell_outdated(&vault.vfs, &vault.mount, outdated);
        }
    }

    /// Collects garbage, whether it is locked or not; nothing when it is `wanted` no more. Nobody waits for it: a lock ends
    /// the collection of the open vault, which goes on in the locked one, and whatever is to change ends that.
    pub(crate) fn collect(&self, wanted: &dyn Fn() -> bool) -> Result<Option<GcProgress>, EngineError> {
        if let Some(vault) = self.opened() {
            match vault.collect(wanted) {
                Err(StoreError::Closed) => {}
                collected => return collected.map_err(|error| EngineError::from_store(&self.setting.path, &error)),
            }
        }
        let _changing = self.change_soon();
        match self.opened() {
            // Unlocked meanwhile: its own collector is at it.
            Some(_) => Ok(Some(GcProgress::default())),
            None if self.locked()?.is_none() => Ok(Some(GcProgress::default())),
            None => {
                let go_on = || self.waiting.load(Ordering::SeqCst) == 0 && wanted();
                let collected = self.collect_locked(1, &go_on);
                self.chunks.rest();
                Ok(Some(collected?).filter(|_| wanted()))
            }
        }
    }

    /// Nothing of it is open any more. It is locked.
    pub(crate) fn close(&self) {
        let _changing = self.change_soon();
        self.chunks.begin_change();
    }

    /// Scrubs a piece of it, whether it is locked or not: nobody can unlock or lock it meanwhile, so pieces are short.
    /// `None` for a volume without one, and for a locked one of a volume on which nothing may change.
    pub(crate) fn scrub(
        &self,
        position: ScrubPosition,
        pace: &mut dyn FnMut(&ScrubProgress) -> Pace,
    ) -> Result<Option<(ScrubProgress, ScrubEnd)>, EngineError> {
        let _changing = self.changing.lock();
        match (self.opened(), position) {
            (Some(vault), _) => vault.scrub(&self.setting, position, pace).map(Some),
            (None, ScrubPosition::Kept) => self.scrub_locked(pace),
            (None, ScrubPosition::Unkept) => Ok(None),
        }
    }

    /// What is known of scrubs of it.
    pub(crate) fn scrub_record(&self) -> Result<ScrubRecord, EngineError> {
        let record = PrefixedStore::new(Arc::clone(&self.setting.meta), VAULT_PREFIX).get(SYSTEM_SCRUB);
        let record = record.map_err(|error| EngineError::from_meta(&self.setting.path, &error))?;
        Ok(record.and_then(|value| ScrubRecord::decode(&value).ok()).unwrap_or_default())
    }

    /// Runs `work`, to which its tree is given if it is open, while nobody opens, locks or changes it, nor makes snapshots.
    pub(crate) fn standing_still<T>(&self, work: impl FnOnce(Option<&Vfs>) -> T) -> T {
        let _changing = self.change_soon();
        let _pairing = self.pairing.lock();
        let _turn = self.turn.lock();
        let open = self.opened();
        work(open.as_ref().map(|vault| &*vault.vfs))
    }

    /// Everything done in it before is durable.
    pub(crate) fn sync(&self) -> Result<(), EngineError> {
        match self.opened() {
            Some(vault) => vault.vfs.sync().map_err(|error| EngineError::from_vfs(&self.setting.path, error)),
            None => Ok(()),
        }
    }

    /// What a caller without a mount sees of it.
    pub(crate) fn view(&self) -> VaultView {
        match (self.opened(), self.door.shown()) {
            (Some(vault), _) => VaultView::Open(Arc::downgrade(&vault)),
            (None, VaultShown::Never) => VaultView::Absent,
            (None, VaultShown::Locked | VaultShown::Directory | VaultShown::Link(_)) => VaultView::Locked,
        }
    }

    /// Its tree while it is open, for callers without a mount.
    pub(crate) fn vfs(&self) -> Option<Arc<Vfs>> {
        self.opened().map(|vault| Arc::clone(&vault.vfs))
    }
}
