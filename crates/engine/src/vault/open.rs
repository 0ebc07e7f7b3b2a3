//! The parts of an open vault.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use verfs_base::{Descriptors, Disk, RealDisk};
use verfs_codec::crypto::VaultKeys;
use verfs_format::vault::{VAULT_DIRECTORY, VAULT_PREFIX, VaultCompression, VaultRecord};
use verfs_fuse::{SessionOptions, SnapshotsTree, VaultGate, VaultVisit, VolumeMount};
use verfs_meta::{MetaStore, PrefixedStore};
use verfs_store::{
    ChunkBackend, ChunkStore, Compressed, GcProgress, Pace, ScrubEnd, ScrubPosition, ScrubProgress, StoreError,
    StoreOptions,
};
use verfs_vfs::{LockedVault, Retirement, SealedMeta, StreamError, UnlockedKeys, Vfs, VfsOptions, VfsParts};

use super::chunks::VaultChunks;
use super::core_dumps::NoCoreDumps;
use super::rekey::{Rekey, RekeyParts, RekeyState};
use super::slot::{VaultGround, VaultSetting};
use crate::EngineError;
use crate::gc::Collector;
use crate::recovery::Scratch;
use crate::snapshots::SessionSlot;

/// Mode of a new vault's root: its owner's alone, until he changes it.
const ROOT_MODE: u16 = 0o700;
/// Share of the volume's limits that its vault has on top.
const LIMITS_SHARE: u64 = 2;

/// A vault that can be used. All of it is gone, and wiped, when the last user lets go.
pub(crate) struct OpenVault {
    pub(super) record: VaultRecord,
    pub(super) vfs: Arc<Vfs>,
    pub(super) gate: Arc<VaultGate>,
    pub(super) mount: SessionSlot,
    /// As they are in a mount, for callers without one.
    snapshots: SnapshotsTree,
    /// What these did.
    visits: AtomicU64,
    store: Arc<ChunkStore>,
    meta: Arc<SealedMeta>,
    keys: Arc<VaultKeys>,
    collector: Collector,
    rekey: Rekey,
    /// Activity when it was looked at last, and when it changed.
    activity: Mutex<(u64, Duration)>,
    // Dropped last: until then there may be something to be seen in memory.
    _no_core_dumps: NoCoreDumps,
}

/// Where the vault's packs and log are.
fn disk(ground: &VaultGround) -> Result<Arc<dyn Disk>, EngineError> {
    opened_disk(&ground.path, ground.scratch.as_deref(), &ground.descriptors)
        .map_err(|error| EngineError::from_io(&ground.path.join(VAULT_DIRECTORY), &error))
}

fn opened_disk(volume: &Path, scratch: Option<&Scratch>, descriptors: &Arc<Descriptors>) -> io::Result<Arc<dyn Disk>> {
    if let Some(scratch) = scratch {
        return Ok(scratch.disk(VAULT_DIRECTORY));
    }
    let path = volume.join(VAULT_DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => File::open(volume)?.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(Arc::new(RealDisk::with_descriptors(path, Arc::clone(descriptors))))
}

fn records(setting: &VaultGround) -> Arc<dyn MetaStore> {
    Arc::new(PrefixedStore::new(Arc::clone(&setting.meta), VAULT_PREFIX))
}

fn store_options(setting: &VaultGround) -> StoreOptions {
    let whole = setting.options.store();
    StoreOptions {
        chunk_cache_bytes: whole.chunk_cache_bytes / LIMITS_SHARE,
        pack_index_cache_bytes: whole.pack_index_cache_bytes / LIMITS_SHARE,
        leftovers: setting.leftovers,
        ..whole
    }
}

fn vfs_options(setting: &VaultSetting) -> VfsOptions {
    let whole = setting.options.vfs(setting.owner);
    let part = |entries: usize| (entries / LIMITS_SHARE as usize).max(1);
    VfsOptions {
        inode_cache_entries: part(whole.inode_cache_entries),
        dirent_cache_entries: part(whole.dirent_cache_entries),
        segment_cache_bytes: part(whole.segment_cache_bytes),
        root_mode: ROOT_MODE,
        ..whole
    }
}

impl OpenVault {
    /// Opens the vault over its keys, and brings it to its last durable state.
    pub(super) fn open(setting: &VaultSetting, keys: UnlockedKeys) -> Result<OpenVault, EngineError> {
        let no_core_dumps = NoCoreDumps::begin();
        let UnlockedKeys { record, keys, .. } = keys;
        let disk = disk(setting)?;
        let sealed = Arc::new(SealedMeta::new(records(setting), Arc::clone(&keys)));
        let meta: Arc<dyn MetaStore> = Arc::clone(&sealed) as Arc<dyn MetaStore>;
        let backend = ChunkBackend::Vault {
            secret: Box::new(setting.id_secret),
            keys: Arc::clone(&keys),
            compressed: match record.compression {
                VaultCompression::On => Compressed::Yes,
                VaultCompression::Off => Compressed::No,
            },
        };
        let clock = &setting.clock;
        let store = ChunkStore::open_backend(
            Arc::clone(&disk),
            Arc::clone(&meta),
            backend,
            Arc::clone(clock),
            store_options(setting),
        )
        .map_err(|error| EngineError::from_store(&setting.path, &error))?;
        let parts = VfsParts {
            disk: Arc::clone(&disk),
            meta,
            store: Arc::clone(&store),
            chunker: Arc::clone(&setting.chunker),
            clock: Arc::clone(clock),
        };
        let opened =
            Vfs::open(parts, vfs_options(setting)).map_err(|error| EngineError::from_open(&setting.path, error));
        let opened = opened.and_then(|vfs| {
            let parts = (Arc::clone(&store), Arc::clone(&vfs));
            let pause = Arc::clone(&setting.pause);
            let collector = Collector::start(parts, disk, Arc::clone(clock), pause, setting.options.gc());
            Ok((vfs, collector.map_err(|error| EngineError::from_io(&setting.path, &error))?))
        });
        match opened {
            Ok((vfs, collector)) => Ok(OpenVault {
                record,
                snapshots: SnapshotsTree::of(&vfs, None),
                visits: AtomicU64::new(0),
                vfs,
                gate: Arc::default(),
                mount: Mutex::new(None),
                store,
                meta: sealed,
                keys,
                collector,
                rekey: Rekey::default(),
                activity: Mutex::new((0, clock.monotonic())),
                _no_core_dumps: no_core_dumps,
            }),
            Err(error) => {
                if let Err(error) = store.close() {
                    tracing::error!(%error, "closing the vault's chunk store after a failed start");
                }
                Err(error)
            }
        }
    }

    /// Lets a caller without a mount in, for one operation.
    ///
    /// # Errors
    /// [`verfs_vfs::VfsError::Io`]: it is being locked.
    pub(crate) fn enter(&self) -> verfs_vfs::Result<VaultVisit<'_>> {
        let visit = self.gate.enter()?;
        self.visits.fetch_add(1, Ordering::Relaxed);
        Ok(visit)
    }

    /// Its tree.
    pub(crate) fn tree(&self) -> &Arc<Vfs> {
        &self.vfs
    }

    /// Its snapshots, which are made and deleted with those of the volume.
    pub(crate) fn snapshots(&self) -> &SnapshotsTree {
        &self.snapshots
    }

    /// Where its session is while it is mounted.
    pub(crate) fn session(&self) -> &SessionSlot {
        &self.mount
    }

    /// Its chunks.
    pub(super) fn store(&self) -> &Arc<ChunkStore> {
        &self.store
    }

    /// Its keys.
    pub(super) fn keys(&self) -> &VaultKeys {
        &self.keys
    }

    /// Seals anew what is sealed with old data keys, in the background.
    pub(super) fn start_rekey(&self, setting: &VaultSetting, retirement: Retirement) -> io::Result<()> {
        let parts = RekeyParts {
            keyring: setting.keyring(),
            keys: Arc::clone(&self.keys),
            meta: Arc::clone(&self.meta),
            store: Arc::clone(&self.store),
            vfs: Arc::clone(&self.vfs),
            pause: Arc::clone(&setting.pause),
            collecting: Arc::clone(self.collector.turn()),
        };
        self.rekey.start(parts, retirement)
    }

    /// How far that is.
    pub(super) fn rekey_state(&self) -> RekeyState {
        self.rekey.state()
    }

    /// For how long nobody used it.
    pub(super) fn idle(&self, now: Duration) -> Duration {
        let (vfs, store) = (self.vfs.stats(), self.store.stats());
        let requests: u64 = self
            .mount
            .lock()
            .as_ref()
            .map_or(0, |mount| mount.session().stats().operations.iter().map(|operation| operation.count).sum());
        let visits = self.visits.load(Ordering::Relaxed);
        let stored = store.chunk_cache_hits + store.chunk_cache_misses;
        let activity = requests + visits + vfs.groups_committed + vfs.log_frames + stored;
        let mut last = self.activity.lock();
        if last.0 != activity {
            *last = (activity, now);
        }
        now.saturating_sub(last.1)
    }

    /// Collects garbage now, as [`Collector::collect`] does.
    pub(super) fn collect(&self, wanted: &dyn Fn() -> bool) -> Result<Option<GcProgress>, StoreError> {
        self.collector.collect(wanted)
    }

    /// Scrubs its packs, and names the files of what is damaged.
    pub(super) fn scrub(
        &self,
        setting: &VaultSetting,
        position: ScrubPosition,
        pace: &mut dyn FnMut(&ScrubProgress) -> Pace,
    ) -> Result<(ScrubProgress, ScrubEnd), EngineError> {
        let scrubbed = self.store.scrub(position, pace);
        let scrubbed = scrubbed.map_err(|error| EngineError::from_store(&setting.path, &error))?;
        let named = self.vfs.note_damaged_chunks(&self.store.damaged());
        named.map_err(|error| EngineError::from_vfs(&setting.path, error))?;
        Ok(scrubbed)
    }

    /// Mounts it, at `options` of the volume's mount.
    pub(super) fn mount(
        &self,
        mountpoint: &std::path::Path,
        options: &SessionOptions,
    ) -> Result<(), verfs_fuse::FuseError> {
        let role = verfs_fuse::MountRole::Vault(Arc::clone(&self.gate));
        *self.mount.lock() = Some(Arc::new(VolumeMount::mount(&self.vfs, mountpoint, options, role)?));
        Ok(())
    }

    /// Ends the mount whoever uses it. The gate is closed.
    pub(super) fn cut_mount(&self) {
        if let Some(mount) = self.mount.lock().take()
            && let Err(error) = mount.cut()
        {
            tracing::error!(%error, "the vault's mount stays, with nothing behind it");
        }
    }

    /// Commits what is left, ends every thread and forgets the keys, whoever still holds on to parts of it.
    pub(super) fn close(&self, setting: &VaultSetting) -> Result<(), EngineError> {
        // First: a rekey may wait for the end of a collection.
        self.collector.begin_stop();
        self.rekey.stop();
        let vfs = self.vfs.close().map_err(|error| EngineError::from_vfs(&setting.path, error));
        self.collector.stop();
        let store = self.store.close().map_err(|error| EngineError::from_store(&setting.path, &error));
        self.keys.forget();
        vfs.and(store)
    }
}

/// Opens the store of a locked vault's chunks: they are counted, checked and moved as they are.
pub(super) fn open_locked(ground: &VaultGround) -> impl Fn() -> Result<Arc<ChunkStore>, StoreError> + 'static {
    let (path, scratch, meta) = (ground.path.clone(), ground.scratch.clone(), records(ground));
    let descriptors = Arc::clone(&ground.descriptors);
    let (secret, clock, options) = (Box::new(ground.id_secret), Arc::clone(&ground.clock), store_options(ground));
    move || {
        let disk = opened_disk(&path, scratch.as_deref(), &descriptors).map_err(|error| StoreError::Io {
            context: format!("making {VAULT_DIRECTORY} in {}", path.display()),
            kind: error.kind(),
            message: error.to_string(),
        })?;
        let backend = ChunkBackend::Locked { secret: secret.clone() };
        ChunkStore::open_backend(disk, Arc::clone(&meta), backend, Arc::clone(&clock), options.clone())
    }
}

/// A vault, there or to come, without its keys.
pub(crate) fn locked_vault(
    ground: &VaultGround,
    turn: Arc<Mutex<()>>,
    store: impl Fn() -> Result<Arc<ChunkStore>, StoreError> + Send + Sync + 'static,
) -> LockedVault {
    let path = ground.path.join(VAULT_DIRECTORY);
    let disk = Arc::new(RealDisk::with_descriptors(path, Arc::clone(&ground.descriptors)));
    LockedVault::new(records(ground), disk, turn, ground.keyring(), store)
}

/// Completes what a crash left of a vault that came in a stream. Nothing else of the volume is open yet.
pub(crate) fn complete_receive(ground: &VaultGround, volume: &dyn Disk) -> Result<(), EngineError> {
    let chunks = Arc::new(VaultChunks::new(open_locked(ground)));
    let open = Arc::clone(&chunks);
    let vault = locked_vault(ground, Arc::default(), move || open.get());
    let completed = verfs_vfs::complete_vault_receive(volume, &*ground.meta, &vault);
    chunks.rest();
    completed.map_err(|error| match error {
        StreamError::Volume(error) => EngineError::from_vfs(&ground.path, error),
        error => {
            let detail = format!("a stream was applied in part: {error}");
            EngineError::Damaged { path: ground.path.clone(), detail }
        }
    })
}
