//! A volume: its directory, its parts, its life.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use verfs_base::{Clock, Descriptors, Disk, OsRng, RealDisk, Rng, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_format::superblock::{FORMAT_VERSION, ID_SECRET_BYTES, SUPERBLOCK_FILE, Superblock};
use verfs_fuse::{MountRole, Operation, SessionOptions, VaultShown, VolumeMount};
use verfs_meta::{EngineKind, MetaError, MetaStore};
use verfs_store::{ChunkStore, GcProgress, Leftovers, Reclaimable, StoreOptions};
use verfs_vfs::{Copied, Vfs, VfsParts};

use crate::freeze::Freezer;
use crate::gc::{Collector, GcStatus};
use crate::health::{SessionName, Waiting};
use crate::lock::VolumeLock;
use crate::pause::Pause;
use crate::recovered::{open_copy, probe};
use crate::recovery::Scratch;
use crate::runtime_directory::{Outside, mountpoint_outside};
use crate::scrub::Scrubber;
use crate::snapshots::SessionSlot;
use crate::stats::{latencies, resident_bytes};
use crate::tasks::{StopSignal, Tasks};
use crate::vault::{LOCK_GRACE, Unsaved, VaultGround, VaultPlace, VaultSetting, VaultSlot, complete_receive};
use crate::{CreateOptions, Damage, EngineError, MountOptions, OpenOptions, ReadOnly, Recovery, Stats, VolumeInfo};
use crate::{descriptors, file_limit, health, records};

/// Directory of the metadata engine.
pub(crate) const META_DIRECTORY: &str = "meta";
/// Groups that a collection waits for at most until what was unlinked before is released.
const RELEASE_SYNCS_MAX: usize = 1000;
/// Begin of the name of a superblock that is being written; the uuid of its volume follows.
const SUPERBLOCK_DRAFT: &str = "volume.toml.new-";

/// An open volume. Closing it, or dropping the last handle, makes everything durable.
pub struct Volume {
    path: PathBuf,
    superblock: Superblock,
    read_only: ReadOnly,
    meta: Arc<dyn MetaStore>,
    store: Arc<ChunkStore>,
    vfs: Arc<Vfs>,
    collector: Collector,
    scrubber: Scrubber,
    session: Arc<SessionSlot>,
    vault: Arc<VaultSlot>,
    descriptors: Arc<Descriptors>,
    tasks: Tasks,
    pause: Arc<Pause>,
    freezer: Arc<Freezer>,
    /// Where imports and exports under way go.
    transfers: Mutex<HashSet<PathBuf>>,
    /// The copy under way, and how many inodes it will have.
    copying: Mutex<(Copied, u64)>,
    lock: Mutex<Option<VolumeLock>>,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("path", &self.path).field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

pub(crate) fn read_superblock(path: &Path) -> Result<Superblock, EngineError> {
    let file = path.join(SUPERBLOCK_FILE);
    let bytes = fs::read(&file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.is_dir() => {
            EngineError::NotAVolume { path: path.to_path_buf(), reason: format!("it has no {SUPERBLOCK_FILE}") }
        }
        io::ErrorKind::NotFound => {
            EngineError::NotAVolume { path: path.to_path_buf(), reason: "there is nothing".to_owned() }
        }
        io::ErrorKind::NotADirectory => {
            EngineError::NotAVolume { path: path.to_path_buf(), reason: "it is not a directory".to_owned() }
        }
        _ => EngineError::from_io(&file, &error),
    })?;
    Superblock::decode(&bytes).map_err(|error| EngineError::from_superblock(path, &error))
}

/// The engine and the chunker that a superblock names.
pub(crate) fn kinds(path: &Path, superblock: &Superblock) -> Result<(EngineKind, ChunkerKind), EngineError> {
    let unknown = |detail: String| EngineError::FormatNewer { path: path.to_path_buf(), detail };
    let engine = superblock.metadata_engine.parse().map_err(|error| unknown(format!("{error}")))?;
    let chunker = superblock.chunker.parse().map_err(|error| unknown(format!("{error}")))?;
    Ok((engine, chunker))
}

fn info(path: &Path, superblock: &Superblock) -> Result<VolumeInfo, EngineError> {
    let (engine, chunker) = kinds(path, superblock)?;
    Ok(VolumeInfo {
        path: path.to_path_buf(),
        uuid: superblock.uuid_text(),
        format_version: FORMAT_VERSION,
        engine,
        chunker,
        chunk_min_bytes: superblock.chunk_min_bytes,
        chunk_mean_bytes: superblock.chunk_mean_bytes,
        chunk_max_bytes: superblock.chunk_max_bytes,
        created: superblock.created,
        holder_pid: VolumeLock::holder(path),
    })
}

/// Where the directory of a new volume comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Directory {
    /// It was there, empty.
    Found,
    /// It was made for the volume.
    Made,
}

/// Makes sure that `path` is a directory in which a volume may be made.
fn prepare_directory(path: &Path) -> Result<Directory, EngineError> {
    let about = |error: io::Error| EngineError::from_io(path, &error);
    let no_place = |reason| EngineError::NoPlaceForVolume { path: path.to_path_buf(), reason };
    match fs::read_dir(path) {
        Ok(mut entries) => {
            let is_draft = |name: &OsStr| name.as_encoded_bytes().starts_with(SUPERBLOCK_DRAFT.as_bytes());
            let foreign = entries.find(|entry| entry.as_ref().is_ok_and(|entry| !is_draft(&entry.file_name())));
            match foreign {
                None => Ok(Directory::Found),
                // After the look at the entries: another process may have made it meanwhile.
                Some(_) if path.join(SUPERBLOCK_FILE).exists() => {
                    Err(EngineError::VolumeExists { path: path.to_path_buf() })
                }
                Some(_) => Err(no_place("it has other files")),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What a volume holds is for its owner only.
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(about)?;
            Ok(Directory::Made)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(no_place("it is not a directory")),
        Err(error) => Err(about(error)),
    }
}

/// Writes the superblock of a new volume, so that after a crash it is there whole or not at all, and never in the place
/// of one that another process wrote meanwhile.
fn write_superblock(directory: &Path, superblock: &Superblock) -> io::Result<()> {
    let draft = directory.join(format!("{SUPERBLOCK_DRAFT}{}", superblock.uuid_text()));
    let target = directory.join(SUPERBLOCK_FILE);
    let write = || {
        let mut file = File::create_new(&draft)?;
        file.write_all(superblock.encode().as_bytes())?;
        file.sync_all()?;
        match renameat_with(CWD, &draft, CWD, &target, RenameFlags::NOREPLACE) {
            // Not every file system can refuse to replace.
            Err(Errno::INVAL | Errno::NOSYS) if !target.exists() => fs::rename(&draft, &target),
            renamed => Ok(renamed?),
        }
    };
    write().inspect_err(|_| {
        let cleared = fs::remove_file(&draft);
        tracing::debug!(?cleared, "removed what a failed create left");
    })?;
    File::open(directory)?.sync_all()
}

impl Volume {
    /// Makes a volume in a directory that is empty or doesn't exist.
    ///
    /// # Errors
    /// [`EngineError::VolumeExists`], [`EngineError::NoPlaceForVolume`] for a directory with other files,
    /// [`EngineError::Usage`] for chunk sizes that can't be, and what the disk says.
    pub fn create(path: &Path, options: &CreateOptions) -> Result<VolumeInfo, EngineError> {
        let sizes = ChunkSizes::for_mean(options.chunker, options.chunk_mean_bytes)
            .map_err(|error| EngineError::Usage(error.to_string()))?;
        let about = |error: io::Error| EngineError::from_io(path, &error);
        let directory = prepare_directory(path)?;
        let mut uuid = [0; 16];
        OsRng.fill(&mut uuid).map_err(about)?;
        // Version 4, variant 1 of RFC 9562: random.
        uuid[6] = (uuid[6] & 0x0f) | 0x40;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        let mut id_secret = [0; ID_SECRET_BYTES];
        OsRng.fill(&mut id_secret).map_err(about)?;
        let superblock = Superblock {
            uuid,
            created: SystemClock::new().now(),
            metadata_engine: options.engine.name().to_owned(),
            chunker: options.chunker.name().to_owned(),
            chunk_min_bytes: sizes.min_bytes,
            chunk_mean_bytes: sizes.mean_bytes,
            chunk_max_bytes: sizes.max_bytes,
            id_secret,
        };
        write_superblock(path, &superblock).map_err(|error| {
            if directory == Directory::Made {
                // Another process may be making a volume there; then it isn't empty, and stays.
                let cleared = fs::remove_dir(path);
                tracing::debug!(?cleared, "removed the directory of a failed create");
            }
            match error.kind() {
                io::ErrorKind::AlreadyExists => EngineError::VolumeExists { path: path.to_path_buf() },
                _ => about(error),
            }
        })?;
        info(path, &superblock)
    }

    /// What the superblock says, whoever has the volume open. Changes nothing.
    ///
    /// # Errors
    /// [`EngineError::NotAVolume`], [`EngineError::FormatNewer`], [`EngineError::SuperblockDamaged`], and what the
    /// disk says.
    pub fn inspect(path: &Path) -> Result<VolumeInfo, EngineError> {
        info(path, &read_superblock(path)?)
    }

    /// Opens a volume; what a crash left is recovered before the call returns.
    ///
    /// # Errors
    /// As [`Volume::inspect`]; [`EngineError::VolumeLocked`], [`EngineError::VolumeReadOnly`],
    /// [`EngineError::VolumeFull`], [`EngineError::Damaged`], [`EngineError::MetadataOlder`],
    /// [`EngineError::MetadataMissing`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Arc<Volume>, EngineError> {
        let superblock = read_superblock(path)?;
        let (engine, chunker) = kinds(path, &superblock)?;
        let sizes = ChunkSizes {
            min_bytes: superblock.chunk_min_bytes,
            mean_bytes: superblock.chunk_mean_bytes,
            max_bytes: superblock.chunk_max_bytes,
        };
        let chunker = verfs_chunker::chunker(chunker, sizes)
            .map_err(|error| EngineError::SuperblockDamaged { path: path.to_path_buf(), detail: error.to_string() })?;
        file_limit::ensure(path)?;
        let lock = VolumeLock::take(path)?;
        // Before anything else is opened: see there.
        let descriptors = Arc::new(Descriptors::keep().map_err(|error| EngineError::from_io(path, &error))?);
        let owner = fs::metadata(path).map_err(|error| EngineError::from_io(path, &error))?;

        let scratch = match options.recovery {
            Recovery::No => None,
            Recovery::ReadOnly => Some(Arc::new(Scratch::of_volume(path, &superblock.uuid_text())?)),
        };
        let (disk, meta_path): (Arc<dyn Disk>, PathBuf) = match &scratch {
            None => {
                let disk = RealDisk::with_descriptors(path.to_path_buf(), Arc::clone(&descriptors));
                (Arc::new(disk), path.join(META_DIRECTORY))
            }
            Some(scratch) => (scratch.disk(""), scratch.path(META_DIRECTORY)),
        };
        if options.recovery == Recovery::No && records::is_absent(&meta_path) && records::was_used(path, &*disk)? {
            return Err(EngineError::MetadataMissing { path: path.to_path_buf() });
        }
        let options = &match options.recovery {
            Recovery::No => options.clone(),
            Recovery::ReadOnly => OpenOptions { read_only: ReadOnly::Yes, ..options.clone() },
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let witnessed = match &scratch {
            Some(scratch) => open_copy(path, &superblock, scratch, &options.meta(), &clock)?,
            None => {
                let meta = records::open(engine, &meta_path, &options.meta(), &disk, &clock);
                let meta = meta.map_err(|error| EngineError::from_meta(path, &error))?;
                if let Err(error) = records::refuse_older(path, &meta, &*disk) {
                    close_meta(&*meta);
                    return Err(error);
                }
                meta
            }
        };
        let leftovers = match &scratch {
            None => records::leftovers(&witnessed),
            Some(_) => Leftovers::Keep,
        };
        let meta: Arc<dyn MetaStore> = witnessed;
        let store = ChunkStore::open(
            Arc::clone(&disk),
            Arc::clone(&meta),
            &superblock.id_secret,
            Arc::clone(&clock),
            StoreOptions { leftovers, ..options.store() },
        );
        let store = match store {
            Ok(store) => store,
            Err(error) => {
                close_meta(&*meta);
                return Err(EngineError::from_store(path, &error));
            }
        };
        let parts = VfsParts {
            disk: Arc::clone(&disk),
            meta: Arc::clone(&meta),
            store: Arc::clone(&store),
            chunker: Arc::clone(&chunker),
            clock: Arc::clone(&clock),
        };
        let ground = VaultGround {
            path: path.to_path_buf(),
            uuid: superblock.uuid,
            id_secret: superblock.id_secret,
            meta: Arc::clone(&meta),
            clock: Arc::clone(&clock),
            options: options.clone(),
            descriptors: Arc::clone(&descriptors),
            leftovers,
            scratch,
        };
        // The vault's part first: with the tree's the stream is applied.
        let opened = complete_receive(&ground, &*disk).and_then(|()| {
            let vfs = Vfs::open(parts, options.vfs((owner.uid(), owner.gid())));
            vfs.map_err(|error| EngineError::from_open(path, error))
        });
        let vfs = match opened {
            Ok(vfs) => vfs,
            Err(error) => {
                // The tree says EIO for either; only the engine knows whether its files are damaged.
                let error = match (error, probe(&*meta)) {
                    (EngineError::Io { path, .. }, Err(MetaError::Corrupt(detail))) => {
                        EngineError::Damaged { path, detail }
                    }
                    (error, Ok(()) | Err(_)) => error,
                };
                if let Err(error) = store.close() {
                    tracing::error!(%error, "closing the chunk store after a failed start");
                }
                close_meta(&*meta);
                return Err(error);
            }
        };
        let pause = Arc::new(Pause::default());
        let collector = Collector::start(
            (Arc::clone(&store), Arc::clone(&vfs)),
            disk,
            Arc::clone(&clock),
            Arc::clone(&pause),
            options.gc(),
        );
        let collector = match collector {
            Ok(collector) => collector,
            Err(error) => {
                let closed = vfs.close();
                tracing::error!(?closed, "closing the tree after a failed start");
                if let Err(error) = store.close() {
                    tracing::error!(%error, "closing the chunk store after a failed start");
                }
                close_meta(&*meta);
                return Err(EngineError::from_io(path, &error));
            }
        };
        let session: Arc<SessionSlot> = Arc::new(Mutex::new(None));
        let vault = Arc::new(VaultSlot::new(VaultSetting {
            ground,
            chunker,
            owner: (owner.uid(), owner.gid()),
            tree: Arc::clone(&vfs),
            session: Arc::clone(&session),
            pause: Arc::clone(&pause),
        }));
        let volume = Arc::new(Volume {
            path: path.to_path_buf(),
            superblock,
            read_only: options.read_only,
            meta,
            store,
            vfs,
            collector,
            scrubber: Scrubber::new(clock, options.scrub_busy_rate_bytes),
            session,
            vault,
            descriptors: Arc::clone(&descriptors),
            tasks: Tasks::new(),
            pause,
            freezer: Arc::default(),
            transfers: Mutex::default(),
            copying: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        let watched = volume.tasks.start_steady("verfs-fds", move |stop| descriptors::watch(&descriptors, stop));
        watched.map_err(|error| EngineError::from_io(path, &error))?;
        if options.read_only == ReadOnly::No {
            volume.make_snapshots_of_mounts();
            volume.clear_interrupted_copies()?;
            volume.settle_vault()?;
        }
        Ok(volume)
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where its session is while it is mounted.
    pub(crate) fn session(&self) -> &Arc<SessionSlot> {
        &self.session
    }

    /// The copy under way, and how many inodes it will have, if that is known.
    pub(crate) fn copying(&self) -> &Mutex<(Copied, u64)> {
        &self.copying
    }

    /// Starts a thread that ends with the volume at the latest.
    pub(crate) fn start_task(
        &self,
        name: &'static str,
        job: impl FnOnce(&StopSignal) + Send + 'static,
    ) -> Result<(), EngineError> {
        self.tasks.start(name, job).map_err(|error| EngineError::from_io(&self.path, &error))
    }

    /// Where its background work rests.
    pub(crate) fn pause(&self) -> &Arc<Pause> {
        &self.pause
    }

    /// Whether it stands still.
    pub(crate) fn freezer(&self) -> &Arc<Freezer> {
        &self.freezer
    }

    /// Where imports and exports under way go.
    pub(crate) fn transfers(&self) -> &Mutex<HashSet<PathBuf>> {
        &self.transfers
    }

    /// Its chunks.
    pub(crate) fn store(&self) -> &Arc<ChunkStore> {
        &self.store
    }

    /// The scrub of it.
    pub(crate) fn scrubber(&self) -> &Scrubber {
        &self.scrubber
    }

    /// Whether it may be changed.
    pub(crate) fn read_only(&self) -> ReadOnly {
        self.read_only
    }

    /// For what does not fail by itself once the volume is closed.
    pub(crate) fn refuse_closed(&self) -> Result<(), EngineError> {
        match *self.lock.lock() {
            Some(_) => Ok(()),
            None => Err(EngineError::Closed { path: self.path.clone() }),
        }
    }

    /// Whether it was opened to be read only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only == ReadOnly::Yes
    }

    /// For changes.
    pub(crate) fn refuse_read_only(&self) -> Result<(), EngineError> {
        self.refuse_closed()?;
        match self.read_only {
            ReadOnly::No => Ok(()),
            ReadOnly::Yes => Err(EngineError::OpenReadOnly { path: self.path.clone() }),
        }
    }

    /// The tree, for callers without a mount.
    #[must_use]
    pub fn vfs(&self) -> &Arc<Vfs> {
        &self.vfs
    }

    /// What the superblock says.
    #[must_use]
    pub fn info(&self) -> VolumeInfo {
        let holder_pid = self.lock.lock().is_some().then(std::process::id);
        match info(&self.path, &self.superblock) {
            Ok(info) => VolumeInfo { holder_pid, ..info },
            // The kinds were known when the volume was opened.
            Err(_) => unreachable!("the superblock of an open volume names kinds that are not known"),
        }
    }

    /// Bounds the cache of chunks anew, as [`OpenOptions::chunk_cache_bytes`] did when the volume was opened. The vault
    /// keeps its share of that.
    pub fn set_chunk_cache_bytes(&self, bytes: u64) {
        self.store.set_chunk_cache_bytes(bytes);
    }

    /// State and counters, without a scan.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (vfs, store) = (self.vfs.stats(), self.store.stats());
        let mount = self.session.lock().clone();
        let session = mount.as_ref().map(|mount| mount.session().stats());
        let mut waiting = Waiting::default();
        if let Some(mount) = &mount {
            waiting.add(mount, (SessionName::Tree, SessionName::Snapshots));
        }
        if let Some(mount) = self.vault.mount_seen() {
            waiting.add(&mount, (SessionName::Vault, SessionName::VaultSnapshots));
        }
        let room = self.vfs.statfs().ok();
        let damaged = self.vfs.damaged().into_iter().map(|file| Damage::of("", file));
        let collection = self.collector.status();
        let room_for_files = self.descriptors.look();
        let mut tasks =
            vec![health::commits(self.vfs.commits()), health::collection(&collection), health::files(room_for_files)];
        tasks.extend(mount.is_some().then(|| health::serving(&waiting)));
        tasks.extend(health::rekey(&self.vault.rekey_state()));
        tasks.extend(self.tasks.defects().into_iter().map(health::defect));
        Stats {
            logical_bytes: vfs.logical_bytes,
            unique_bytes: store.unique_bytes,
            stored_bytes: store.stored_bytes,
            files: vfs.inodes.saturating_sub(vfs.directories),
            directories: vfs.directories,
            dedup_hits: store.dedup_hits,
            dedup_misses: store.dedup_misses,
            chunk_cache_hits: store.chunk_cache_hits,
            chunk_cache_misses: store.chunk_cache_misses,
            read_bytes: session.as_ref().map_or(0, |session| session.moved_bytes(Operation::Read)),
            written_bytes: session.as_ref().map_or(0, |session| session.moved_bytes(Operation::Write)),
            dirty_bytes: vfs.dirty_bytes,
            queue_depth: store.queue_depth + session.as_ref().map_or(0, |session| session.queued() as u64),
            groups_committed: vfs.groups_committed,
            log_frames: vfs.log_frames,
            meta_bytes: self.meta.approximate_size_bytes().unwrap_or(0),
            packs: store.packs,
            dead_bytes: store.dead_bytes,
            gc_reclaimed_bytes: collection.reclaimed_bytes,
            free_bytes: room.map_or(0, |room| room.available_bytes),
            total_bytes: room.map_or(0, |room| room.total_bytes),
            memory_rss_bytes: resident_bytes(),
            op_latencies: session.as_ref().map(latencies).unwrap_or_default(),
            damaged: damaged.collect(),
            tasks,
            overdue: waiting.overdue,
            refused_requests: waiting.refused,
        }
    }

    /// Everything done before the call is durable when it returns.
    ///
    /// # Errors
    /// [`EngineError::VolumeFull`], [`EngineError::Io`], [`EngineError::Closed`].
    pub fn sync(&self) -> Result<(), EngineError> {
        self.refuse_closed()?;
        self.vfs.sync().map_err(|error| EngineError::from_vfs(&self.path, error))?;
        self.vault.sync()
    }

    /// Collects garbage now, from every pack that has some; returns when it is done. What is to be deleted is deleted
    /// first: a sync comes before it.
    ///
    /// # Errors
    /// [`EngineError::VolumeFull`] when there is no room even for what is alive in one pack, [`EngineError::Io`],
    /// [`EngineError::Closed`], [`EngineError::Usage`] for a volume that was opened to be read only.
    pub fn collect_garbage(&self) -> Result<GcProgress, EngineError> {
        self.collect_garbage_while(&|| true)
    }

    /// As [`Volume::collect_garbage`], until it is `wanted` no more: then the collection stops, unless somebody else waits
    /// for it too. What it gave back stays so.
    ///
    /// # Errors
    /// As [`Volume::collect_garbage`]; [`EngineError::Cancelled`] when it ended early.
    pub fn collect_garbage_while(&self, wanted: &dyn Fn() -> bool) -> Result<GcProgress, EngineError> {
        match self.read_only {
            ReadOnly::No => {}
            ReadOnly::Yes => {
                return Err(EngineError::Usage(format!(
                    "volume {} was opened to be read only: open it without `volume.read_only` to collect garbage",
                    self.path.display()
                )));
            }
        }
        // References of what was unlinked are given back by the group after the one that unlinked it.
        for _ in 0..RELEASE_SYNCS_MAX {
            self.sync()?;
            if self.vfs.stats().orphans == 0 || !wanted() {
                break;
            }
        }
        let cancelled = || EngineError::Cancelled { path: self.path.clone() };
        let collected = self.collector.collect(wanted).map_err(|error| EngineError::from_store(&self.path, &error))?;
        let progress = collected.ok_or_else(cancelled)?;
        Ok(progress.with(&self.vault.collect(wanted)?.ok_or_else(cancelled)?))
    }

    /// What [`Volume::collect_garbage`] would find; changes nothing. Costs a look at the record of each pack.
    ///
    /// # Errors
    /// [`EngineError::Io`], [`EngineError::Closed`].
    pub fn reclaimable(&self) -> Result<Reclaimable, EngineError> {
        self.collector.plan().map_err(|error| EngineError::from_store(&self.path, &error))
    }

    /// Garbage collection at this moment.
    #[must_use]
    pub fn gc_status(&self) -> GcStatus {
        self.collector.status()
    }

    /// Mounts the volume; returns once the kernel answers.
    ///
    /// # Errors
    /// [`EngineError::AlreadyMounted`], [`EngineError::Usage`] for a mountpoint inside the volume,
    /// [`EngineError::Mount`]; no half mount is left.
    pub fn mount(&self, mountpoint: &Path, options: &MountOptions) -> Result<(), EngineError> {
        self.refuse_own_directory(mountpoint)?;
        let mut session = self.session.lock();
        self.refuse_closed()?;
        // One that `umount(8)` ended is over, whoever saw it.
        if let Some(ended) = session.take_if(|mount| !mount.session().is_connected()) {
            ended.wait();
        }
        if let Some(session) = &*session {
            let mountpoint = session.session().mountpoint().to_path_buf();
            return Err(EngineError::AlreadyMounted { path: self.path.clone(), mountpoint });
        }
        let uuid = self.superblock.uuid_text();
        let options = SessionOptions {
            snapshots_mountpoint: Some(mountpoint_outside(&uuid, Outside::Snapshots)),
            ..options.session(self.path.display().to_string(), self.read_only)
        };
        let role = MountRole::Volume(Arc::clone(self.vault.door()));
        let mounted = Arc::new(VolumeMount::mount(&self.vfs, mountpoint, &options, role)?);
        let (vault_at, shown) = if rustix::process::geteuid().is_root() {
            (mounted.session().mountpoint().join(".vault"), VaultShown::Directory)
        } else {
            let outside = mountpoint_outside(&uuid, Outside::Vault);
            (outside.clone(), VaultShown::Link(outside))
        };
        let vault_options = SessionOptions {
            snapshots_mountpoint: Some(mountpoint_outside(&uuid, Outside::VaultSnapshots)),
            ..options
        };
        *session = Some(mounted);
        drop(session);
        self.vault.mounted(VaultPlace { mountpoint: vault_at, shown, options: vault_options })
    }

    /// Makes everything durable, then unmounts. A mount in use is detached: it goes when its last user does.
    ///
    /// # Errors
    /// [`EngineError::NotMounted`], or why it could not be made durable or unmounted.
    pub fn unmount(&self) -> Result<(), EngineError> {
        let Some(session) = self.session.lock().clone() else {
            return Err(EngineError::NotMounted { path: self.path.clone() });
        };
        self.go_on();
        // What can't be made durable keeps the vault open, and with it its mount.
        self.vault.lock(LOCK_GRACE, Unsaved::StaysOpen)?;
        self.vault.unmounted();
        let synced = self.sync();
        session.unmount()?;
        self.forget_session(&session);
        synced?;
        // What came between the barrier and the end of the mount.
        self.sync()
    }

    /// Waits until the mount is gone, whoever unmounts it. Returns at once without a mount.
    pub fn wait_unmounted(&self) {
        let session = self.session.lock().clone();
        if let Some(session) = session {
            session.wait();
            self.forget_session(&session);
            // Its mount went with that of the tree.
            if let Err(error) = self.vault.lock(LOCK_GRACE, Unsaved::StaysOpen) {
                tracing::error!(%error, "the vault stays unlocked");
            }
        }
    }

    /// The vault.
    pub(crate) fn vault(&self) -> &Arc<VaultSlot> {
        &self.vault
    }

    /// Ends a freeze: what follows needs to write.
    fn go_on(&self) {
        if self.end_freeze().is_some() {
            tracing::warn!(
                "the volume goes on since it is unmounted: a copy of it that is not complete is worth nothing"
            );
        }
    }

    /// Lets go of a session that ended. Another one, mounted since by somebody else, stays.
    fn forget_session(&self, ended: &Arc<VolumeMount>) {
        self.session.lock().take_if(|current| Arc::ptr_eq(current, ended));
    }

    /// A volume whose own files were hidden by its mount would wait for itself.
    fn refuse_own_directory(&self, mountpoint: &Path) -> Result<(), EngineError> {
        let (Ok(volume), Ok(inside)) = (self.path.canonicalize(), mountpoint.canonicalize()) else {
            // Mounting says what is wrong with the place.
            return Ok(());
        };
        if inside.starts_with(&volume) {
            return Err(EngineError::Usage(format!(
                "mountpoint {} is inside the volume {}: choose a directory outside of it",
                inside.display(),
                volume.display()
            )));
        }
        Ok(())
    }

    /// Unmounts, makes everything durable and gives the volume back. A second close is no error.
    ///
    /// # Errors
    /// The first thing that went wrong; the volume is closed all the same.
    pub fn close(&self) -> Result<(), EngineError> {
        self.go_on();
        let vault = self.vault.lock(LOCK_GRACE, Unsaved::IsLost);
        let mut result = Ok(());
        if self.session.lock().is_some() {
            result = self.unmount();
        }
        let lock = {
            // Nobody mounts between here and the end of the volume: a mount that began before is seen now.
            let session = self.session.lock();
            let lock = self.lock.lock().take();
            drop(session);
            lock
        };
        let Some(lock) = lock else { return result.and(vault) };
        if self.session.lock().is_some() && result.is_ok() {
            result = self.unmount();
        }
        self.collector.begin_stop();
        self.scrubber.shut_down();
        self.tasks.stop();
        let vfs = self.vfs.close().map_err(|error| EngineError::from_vfs(&self.path, error));
        // What they do with the tree fails now, if it did not end.
        self.tasks.join();
        self.collector.stop();
        self.vault.close();
        let store = self.store.close().map_err(|error| EngineError::from_store(&self.path, &error));
        let meta = self.meta.close().map_err(|error| EngineError::from_meta(&self.path, &error));
        self.vault.remove_scratch();
        drop(lock);
        result.and(vault).and(vfs).and(store).and(meta)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing a volume");
        }
    }
}

pub(crate) fn close_meta(meta: &dyn MetaStore) {
    if let Err(error) = meta.close() {
        tracing::error!(%error, "closing the metadata engine after a failed start");
    }
}
