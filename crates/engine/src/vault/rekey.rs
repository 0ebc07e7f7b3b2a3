//! A new data key: what is sealed with an older one is sealed anew in the background, then the old key is forgotten.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::PackId;
use verfs_codec::crypto::VaultKeys;
use verfs_format::varint::{Reader, put_u64};
use verfs_format::vault::{SYSTEM_REKEY, SYSTEM_REKEYED};
use verfs_meta::{MetaError, MetaStore, WriteBatch};
use verfs_store::{ChunkStore, GcProgress, Pace, Resealed, StoreError};
use verfs_vfs::{Keyring, Retirement, SealedMeta, VaultError, Vfs, VfsError};

use crate::gc::CollectingTurn;
use crate::pause::Pause;

/// How far a rekey is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RekeyState {
    /// None is needed.
    #[default]
    Idle,
    /// It runs: so many bytes of chunks are sealed anew.
    Running(u64),
    /// It could not go on; it does after the next unlocking.
    Failed(String),
}

/// What it works with.
pub(super) struct RekeyParts {
    pub(super) keyring: Keyring,
    pub(super) keys: Arc<VaultKeys>,
    pub(super) meta: Arc<SealedMeta>,
    pub(super) store: Arc<ChunkStore>,
    pub(super) vfs: Arc<Vfs>,
    /// Where it rests while nothing on the disk may change.
    pub(super) pause: Arc<Pause>,
    /// Held while it moves packs.
    pub(super) collecting: Arc<CollectingTurn>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    moved_bytes: AtomicU64,
    state: Mutex<RekeyState>,
}

/// The thread that seals anew, if there is one.
#[derive(Default)]
pub(super) struct Rekey {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("it was told to stop")]
    Stopped,
    #[error("internal error, see the log")]
    Defect,
    #[error("{0} packs can't be moved: they are damaged; what they hold needs the old key")]
    PacksLeft(u64),
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Vfs(#[from] VfsError),
}

impl Rekey {
    /// Begins, or goes on with, what `retirement` ends.
    pub(super) fn start(&self, parts: RekeyParts, retirement: Retirement) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        *shared.state.lock() = RekeyState::Running(0);
        let thread = std::thread::Builder::new().name("verfs-rekey".to_owned());
        *self.thread.lock() = Some(thread.spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| run(&shared, &parts, retirement)));
            *shared.state.lock() = match ended.unwrap_or(Err(Interrupted::Defect)) {
                Ok(()) => {
                    tracing::info!("the vault has a new data key, and the old one is gone");
                    RekeyState::Idle
                }
                Err(Interrupted::Stopped) => RekeyState::Running(shared.moved_bytes.load(Ordering::Relaxed)),
                Err(error) => {
                    tracing::warn!(%error, "sealing the vault anew ended early; it goes on when it is unlocked next");
                    RekeyState::Failed(error.to_string())
                }
            };
        })?);
        Ok(())
    }

    pub(super) fn state(&self) -> RekeyState {
        match &*self.shared.state.lock() {
            RekeyState::Running(_) => RekeyState::Running(self.shared.moved_bytes.load(Ordering::Relaxed)),
            state => state.clone(),
        }
    }

    /// Ends the thread; the rest is done after the next unlocking.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that seals the vault anew panicked");
        }
    }
}

/// Commits while no group can: one batch at a time has the turn.
fn with_turn<T>(store: &Arc<ChunkStore>, act: impl FnOnce() -> Result<T, MetaError>) -> Result<T, MetaError> {
    let turn = store.begin();
    let done = act();
    drop(turn);
    done
}

/// The packs below this number are sealed with older keys than that of `generation`, if its rekey has begun. What is left
/// of an earlier one doesn't count.
fn limit_of(meta: &SealedMeta, generation: u32) -> Result<Option<u64>, MetaError> {
    let Some(value) = meta.get(SYSTEM_REKEY)? else { return Ok(None) };
    let mut reader = Reader::new(&value);
    match (reader.u64(), reader.u64()) {
        (Ok(of), Ok(limit)) => Ok((of == u64::from(generation)).then_some(limit)),
        (Err(error), _) | (_, Err(error)) => Err(MetaError::Corrupt(format!("the mark of a rekey: {error}"))),
    }
}

fn run(shared: &Shared, parts: &RekeyParts, mut retirement: Retirement) -> Result<(), Interrupted> {
    let limit = reseal_records(shared, parts)?;
    reseal_packs(shared, parts, limit)?;
    let RekeyParts { keyring, keys, meta, store, vfs, pause, .. } = parts;
    let _at_work = pause.work();
    let (mut batch, mut value) = (WriteBatch::new(), Vec::new());
    // Before the end: what was sent of earlier snapshots has seals that nobody can open soon.
    put_u64(&mut value, vfs.epoch().0);
    batch.put(SYSTEM_REKEYED, value);
    with_turn(store, || meta.commit(batch).and_then(|()| meta.sync()))?;
    keyring.end_rekey(&mut retirement, keys)?;
    let mut batch = WriteBatch::new();
    batch.delete(SYSTEM_REKEY);
    with_turn(store, || meta.commit(batch).and_then(|()| meta.sync()))?;
    Ok(())
}

/// Seals the records anew. The packs below what it returns are sealed with older keys.
fn reseal_records(shared: &Shared, parts: &RekeyParts) -> Result<PackId, Interrupted> {
    let RekeyParts { keys, meta, store, vfs, pause, .. } = parts;
    let at_work = pause.work();
    // Frames of the log that are sealed with the old key are not needed any more then.
    vfs.sync()?;
    let limit = match limit_of(meta, keys.generation())? {
        Some(limit) => limit,
        None => {
            // What is stored from here on is sealed with the new key; packs that are open now are closed first.
            let limit = store.next_pack().0;
            let (mut batch, mut value) = (WriteBatch::new(), Vec::new());
            put_u64(&mut value, keys.generation().into());
            put_u64(&mut value, limit);
            batch.put(SYSTEM_REKEY, value);
            with_turn(store, || meta.commit(batch).and_then(|()| meta.sync()))?;
            limit
        }
    };
    let mut from = Some(Bytes::new());
    while let Some(key) = from {
        if shared.stop.load(Ordering::Acquire) {
            return Err(Interrupted::Stopped);
        }
        at_work.rest();
        from = with_turn(store, || meta.reseal(&key))?;
    }
    Ok(PackId(limit))
}

/// Seals what the packs below `limit` hold anew, in others.
fn reseal_packs(shared: &Shared, parts: &RekeyParts, limit: PackId) -> Result<(), Interrupted> {
    let _collecting = parts.collecting.lock();
    let at_work = parts.pause.work();
    let resealed = parts.store.reseal(limit, &mut |progress: &GcProgress| {
        shared.moved_bytes.store(progress.moved_bytes, Ordering::Relaxed);
        if shared.stop.load(Ordering::Acquire) {
            return Pace::Stop;
        }
        at_work.rest();
        Pace::Go
    })?;
    match resealed {
        Resealed::All => Ok(()),
        Resealed::Stopped => Err(Interrupted::Stopped),
        Resealed::PacksLeft(left) => Err(Interrupted::PacksLeft(left)),
    }
}
