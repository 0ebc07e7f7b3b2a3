//! A volume on a disk and a metadata engine that can crash.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use verfs_base::{Clock, Disk, Epoch, Ino, Timestamp};
use verfs_chunker::{ChunkSizes, Chunker, ChunkerKind};
use verfs_codec::crypto::{KeyMaterial, VaultKeys};
use verfs_format::NameHash;
use verfs_format::vault::VAULT_PREFIX;
use verfs_meta::{MemoryStore, MetaError, MetaStore, MetaView, PrefixedStore, Standing, WitnessedStore};
use verfs_store::{
    ChunkBackend, ChunkStore, Compressed, Findings, GcProgress, Leftovers, Pace, ScrubPosition, ScrubProgress,
    StoreCheck, StoreError, StoreOptions,
};
use verfs_vfs::{
    ClearView, HashName, Keyring, LockedVault, SealedMeta, TreeCheck, Vfs, VfsError, VfsOptions, VfsParts,
};

use crate::audit::Audit;
use crate::clock::TestClock;
use crate::disk::{CrashDisk, CrashStyle};
use crate::meta::CrashMeta;
use crate::power::Power;
use crate::random::{SeededRng, TestRng};
use crate::session::{Host, Stop};

/// How a volume is run. Small limits reach in a few operations what real ones reach in hours.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the filesystem.
    pub vfs: VfsOptions,
    /// Of the chunk store.
    pub store: StoreOptions,
    /// Chunking algorithm.
    pub chunker: ChunkerKind,
    /// Mean size of its chunks.
    pub chunk_mean_bytes: u32,
    /// Nothing becomes durable but by a sync: a group never closes by itself.
    pub quiet: bool,
    /// Whether it is a volume's tree or that of its vault.
    pub tree: TreeKind,
}

/// Which tree of a volume is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeKind {
    /// Its own.
    Volume,
    /// The vault's: sealed records, chunks and log.
    Vault,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "group {} blocks, {} ms, {} dirty bytes; log {} bytes, {} inline; prune {}, window {}; caches {} inodes, \
             {} names, {} segment bytes, {} chunk bytes; packs {} bytes, {} threads; {} of {} bytes; {:?}",
            self.vfs.group_blocks,
            self.vfs.group_interval_ms,
            self.vfs.dirty_limit_bytes,
            self.vfs.log_file_bytes,
            self.vfs.log_inline_bytes,
            self.vfs.prune_step,
            self.vfs.change_window_bytes,
            self.vfs.inode_cache_entries,
            self.vfs.dirent_cache_entries,
            self.vfs.segment_cache_bytes,
            self.store.chunk_cache_bytes,
            self.store.pack_target_bytes,
            self.store.compress_threads,
            self.chunker,
            self.chunk_mean_bytes,
            self.tree,
        )
    }
}

impl Settings {
    /// Any settings that are allowed, small ones more often.
    pub fn random(rng: &mut TestRng) -> Settings {
        let log_inline_bytes = *rng.pick(&[4096, 64 << 10, 1 << 20]);
        let vfs = VfsOptions {
            group_blocks: *rng.pick(&[1, 8, 64, 3000]),
            group_interval_ms: *rng.pick(&[1, 5, 20, 500]),
            dirty_limit_bytes: *rng.pick(&[64 << 10, 1 << 20, 64 << 20]),
            log_inline_bytes,
            log_file_bytes: log_inline_bytes * 2 + *rng.pick(&[128 << 10, 512 << 10]),
            inode_cache_entries: *rng.pick(&[1, 8, 1000]),
            dirent_cache_entries: *rng.pick(&[1, 8, 1000]),
            segment_cache_bytes: *rng.pick(&[1, 1000, 1 << 20]),
            prune_step: *rng.pick(&[1, 1, 4, 32 << 10]),
            change_window_bytes: *rng.pick(&[1, 300, 2000, 16 << 20]),
            ..VfsOptions::default()
        };
        let store = StoreOptions {
            pack_target_bytes: *rng.pick(&[1, 20_000, 300_000, 64 << 20]),
            chunk_cache_bytes: *rng.pick(&[100_000, 4 << 20]),
            pack_index_cache_bytes: *rng.pick(&[4096, 1 << 20]),
            compression_level: 1,
            compress_threads: *rng.pick(&[1, 2]),
            inflight_bytes: *rng.pick(&[10_000, 4 << 20]),
            open_packs: *rng.pick(&[1, 64]),
            leftovers: Leftovers::Keep,
        };
        let chunker = *rng.pick(&ChunkerKind::ALL);
        let chunk_mean_bytes = *rng.pick(&[1024, 4096, 32 << 10]);
        let tree = *rng.pick(&[TreeKind::Volume, TreeKind::Volume, TreeKind::Vault]);
        Settings { vfs, store, chunker, chunk_mean_bytes, quiet: false, tree }
    }

    /// The same, but so that no group closes before a sync asks for it.
    #[must_use]
    pub fn quiet(mut self) -> Settings {
        self.vfs.group_blocks = u32::MAX;
        self.vfs.group_interval_ms = u32::MAX;
        self.vfs.dirty_limit_bytes = 1 << 40;
        self.vfs.log_file_bytes = 3 << 20;
        self.quiet = true;
        self
    }

    fn chunker(&self) -> Result<Arc<dyn Chunker>, String> {
        let sizes = ChunkSizes::for_mean(self.chunker, self.chunk_mean_bytes).map_err(|error| error.to_string())?;
        verfs_chunker::chunker(self.chunker, sizes).map_err(|error| error.to_string())
    }
}

/// What is there only while the volume is open.
struct Mounted {
    vfs: Arc<Vfs>,
    store: Arc<ChunkStore>,
}

/// Where the volume lies.
#[derive(Clone)]
struct Hardware {
    power: Arc<Power>,
    disk: CrashDisk,
    meta: Arc<CrashMeta>,
}

/// A machine with one volume.
pub struct Machine {
    settings: Settings,
    /// The vault's, if that is what is run.
    keys: Arc<VaultKeys>,
    clock: Arc<TestClock>,
    hardware: Mutex<Hardware>,
    mounted: Mutex<Option<Mounted>>,
    rng: Mutex<TestRng>,
}

/// Inodes, or chunks, of one pass of fsck.
const FSCK_PASS: usize = 3;
/// Longest time of one collection.
const COLLECT_MAX: Duration = Duration::from_millis(500);
/// Most parts in which snapshots are deleted: each has at least one of their old records or references.
const PRUNE_PARTS_MAX: u32 = 20_000;

/// The id secret of every test volume.
const SECRET: [u8; 192] = {
    let mut secret = [0; 192];
    let mut at = 0;
    while at < secret.len() {
        secret[at] = (at as u8).wrapping_mul(167) ^ 0x5a;
        at += 1;
    }
    secret
};

impl Machine {
    /// A machine whose disk is empty; nothing is open yet.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Machine {
        let power = Arc::new(Power::new());
        let disk = CrashDisk::new(Arc::clone(&power));
        let meta = Arc::new(CrashMeta::new(Arc::new(MemoryStore::new()), Arc::clone(&power)));
        let bits = Arc::new(SeededRng::new(seed));
        let keys = match KeyMaterial::generate(bits.as_ref()) {
            Ok(material) => VaultKeys::new(&material, [1; 16], bits),
            Err(error) => unreachable!("a seeded generator has no end: {error}"),
        };
        Machine {
            settings,
            keys: Arc::new(keys),
            clock: Arc::new(TestClock::new()),
            hardware: Mutex::new(Hardware { power, disk, meta }),
            mounted: Mutex::new(None),
            rng: Mutex::new(TestRng::new(seed)),
        }
    }

    /// The switch of its disk and engine.
    #[must_use]
    pub fn power(&self) -> Arc<Power> {
        Arc::clone(&self.hardware.lock().power)
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> CrashDisk {
        self.hardware.lock().disk.clone()
    }

    /// Its metadata engine.
    #[must_use]
    pub fn meta(&self) -> Arc<CrashMeta> {
        Arc::clone(&self.hardware.lock().meta)
    }

    /// Its metadata as the tree sees it.
    #[must_use]
    pub fn records(&self) -> Arc<dyn MetaStore> {
        self.records_of(self.meta())
    }

    fn records_of(&self, meta: Arc<dyn MetaStore>) -> Arc<dyn MetaStore> {
        match self.settings.tree {
            TreeKind::Volume => meta,
            TreeKind::Vault => {
                let prefixed = PrefixedStore::new(meta, VAULT_PREFIX);
                Arc::new(SealedMeta::new(Arc::new(prefixed), Arc::clone(&self.keys)))
            }
        }
    }

    fn backend(&self) -> ChunkBackend {
        match self.settings.tree {
            TreeKind::Volume => ChunkBackend::plain(&SECRET),
            TreeKind::Vault => ChunkBackend::Vault {
                secret: Box::new(SECRET),
                keys: Arc::clone(&self.keys),
                compressed: Compressed::Yes,
            },
        }
    }

    /// The machine's vault without its keys, and the store of its chunks. Nothing may be open; whoever asks closes the
    /// store.
    ///
    /// # Errors
    /// What the store said.
    pub fn locked_vault(&self, prune_step: usize) -> verfs_store::Result<(LockedVault, Arc<ChunkStore>)> {
        let Hardware { disk, meta, .. } = self.hardware.lock().clone();
        let stored: Arc<dyn MetaStore> = Arc::new(PrefixedStore::new(meta, VAULT_PREFIX));
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let backend = ChunkBackend::Locked { secret: Box::new(SECRET) };
        let options = self.settings.store.clone();
        let records = Arc::clone(&stored);
        let store =
            ChunkStore::open_backend(Arc::clone(&disk), Arc::clone(&stored), backend, Arc::clone(&clock), options)?;
        let keyring = Keyring { meta: records, volume: [1; 16], rng: Arc::new(SeededRng::new(0)), clock };
        let chunks = Arc::clone(&store);
        let vault = LockedVault::new(stored, disk, Arc::default(), keyring, move || Ok(Arc::clone(&chunks)));
        Ok((vault.with_prune_step(prune_step), store))
    }

    /// The open chunk store.
    #[must_use]
    pub fn store(&self) -> Option<Arc<ChunkStore>> {
        self.mounted.lock().as_ref().map(|mounted| Arc::clone(&mounted.store))
    }

    /// Opens the volume, recovering it where needed.
    ///
    /// # Errors
    /// `Environment` when power or disk failed, else `Diverged`.
    pub fn open(&self) -> Result<(), Stop> {
        let hardware = self.hardware.lock().clone();
        let excused = |what: String| {
            if hardware.power.is_off() || hardware.power.faults_hit() > 0 {
                Stop::Environment(VfsError::Io)
            } else {
                Stop::Diverged(what)
            }
        };
        let disk: Arc<dyn Disk> = Arc::new(hardware.disk.clone());
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let engine: Arc<dyn MetaStore> = Arc::<CrashMeta>::clone(&hardware.meta);
        let witnessed = WitnessedStore::open(engine, Arc::clone(&disk), Arc::clone(&clock))
            .map_err(|error| excused(format!("reading the witness: {error}")))?;
        // As the engine does.
        let leftovers = match witnessed.standing() {
            Standing::Newest => Leftovers::Remove,
            Standing::Unwitnessed => Leftovers::Keep,
            older @ Standing::Older { .. } => return Err(excused(format!("a crash left {older:?} metadata"))),
        };
        let meta = self.records_of(Arc::new(witnessed));
        let chunker = self.settings.chunker().map_err(Stop::Diverged)?;
        let options = StoreOptions { leftovers, ..self.settings.store.clone() };
        let backend = self.backend();
        let store =
            ChunkStore::open_backend(Arc::clone(&disk), Arc::clone(&meta), backend, Arc::clone(&clock), options)
                .map_err(|error| excused(format!("opening the store: {error}")))?;
        let parts = VfsParts { disk, meta, store: Arc::clone(&store), chunker, clock };
        match Vfs::open(parts, self.settings.vfs.clone()) {
            Ok(vfs) => {
                // As the engine does.
                let cleared = vfs.remove_interrupted_copies();
                *self.mounted.lock() = Some(Mounted { vfs, store });
                cleared.map_err(|error| excused(format!("removing interrupted copies: {error}")))
            }
            Err(error) => {
                // The store is dropped with everything it could not finish.
                let _closed = store.close();
                Err(excused(format!("opening the volume: {error}")))
            }
        }
    }

    /// Closes the volume; without power that fails, and is fine.
    ///
    /// # Errors
    /// What the volume or the store said.
    pub fn close(&self) -> Result<(), String> {
        let Some(mounted) = self.mounted.lock().take() else { return Ok(()) };
        let vfs = mounted.vfs.close().map_err(|error| format!("closing the volume: {error}"));
        let store = mounted.store.close().map_err(|error| format!("closing the store: {error}"));
        vfs.and(store)
    }

    /// Whether the committed metadata agrees with itself, and every chunk that it refers to can be read.
    ///
    /// # Errors
    /// What doesn't.
    pub fn audit(&self) -> Result<(), String> {
        self.power().aside(|| {
            let Some(audit) = Audit::read(&*self.records())? else { return Ok(()) };
            audit.check()?;
            audit.check_pack_files(&self.disk())?;
            self.fsck()?;
            let Some(store) = self.store() else { return Ok(()) };
            match audit.check_chunks(&store) {
                Ok(()) => Ok(()),
                // A commit meanwhile may have released it.
                Err(_) => match Audit::read(&*self.records())? {
                    Some(audit) => audit.check_chunks(&store),
                    None => Ok(()),
                },
            }
        })
    }

    /// Whether fsck finds nothing, in passes so small that there are several. Of a vault it has the keys here, or not.
    fn fsck(&self) -> Result<(), String> {
        let told = |error: MetaError| format!("fsck: {error}");
        let (meta, backend) = (self.records(), self.backend());
        let hash = |name: &[u8]| NameHash::from_keyed(backend.name_id(Ino::ROOT, name));
        self.fsck_of(&*meta.view().map_err(told)?, Some(&hash))?;
        match self.settings.tree {
            TreeKind::Volume => Ok(()),
            TreeKind::Vault => {
                let stored = PrefixedStore::new(self.meta(), VAULT_PREFIX);
                let view = stored.view().map_err(told)?;
                self.fsck_of(&ClearView::new(view), None).map_err(|found| format!("locked: {found}"))
            }
        }
    }

    fn fsck_of(&self, view: &dyn MetaView, hash: Option<&HashName<'_>>) -> Result<(), String> {
        let told = |error: StoreError| format!("fsck: {error}");
        let (disk, backend) = (self.disk(), self.backend());
        let mut findings = Findings::default();
        let packs = StoreCheck { disk: &disk, view, seed: backend.record_seed() };
        let lost = packs.run(&mut findings).map_err(told)?;
        let tree = TreeCheck { pass_max: FSCK_PASS, ..TreeCheck::new(view, hash, &packs) };
        tree.run(&mut findings).map_err(told)?;
        // The pack of a volume's very first group is left alone when that was never committed: true, and no damage.
        let mut found = findings.list().iter().filter(|finding| finding.code != "pack-unreferenced");
        match found.next() {
            None if lost.is_empty() => Ok(()),
            finding => Err(format!("fsck: {} things, {} chunks lost: {finding:?}", findings.list().len(), lost.len())),
        }
    }

    /// Whether everything without a name, and every deleted snapshot, is released after a few commits, as nothing is
    /// held open.
    ///
    /// # Errors
    /// How much is left, or that a snapshot says that it uses something else than it does.
    pub fn check_released(&self) -> Result<(), String> {
        let vfs = self.vfs();
        let sync = || vfs.sync().map_err(|error| format!("sync: {error}"));
        let read = || self.power().aside(|| Audit::read(&*self.records()));
        for _ in 0..4 {
            sync()?;
        }
        // A part of a snapshot goes with each commit.
        let mut parts = 0;
        while read()?.is_some_and(|audit| audit.deleting() > 0) && parts < PRUNE_PARTS_MAX {
            sync()?;
            parts += 1;
        }
        let Some(audit) = read()? else { return Ok(()) };
        if audit.unreleased() > 0 {
            return Err(format!("{} contents or snapshots were never released", audit.unreleased()));
        }
        let told: BTreeMap<Epoch, u64> =
            vfs.snapshots().into_iter().map(|snapshot| (snapshot.id, snapshot.used_bytes)).collect();
        if told == audit.used() { Ok(()) } else { Err(format!("snapshots say {told:?}, they use {:?}", audit.used())) }
    }

    /// Deletes all snapshots.
    ///
    /// # Errors
    /// One can't be.
    pub fn delete_snapshots(&self) -> Result<(), String> {
        let vfs = self.vfs();
        for snapshot in vfs.snapshots() {
            let told = |error: VfsError| format!("deleting snapshot {}: {error}", crate::op::short(&snapshot.name));
            for reason in &snapshot.holds {
                vfs.release_snapshot(&snapshot.name, reason).map_err(told)?;
            }
            vfs.delete_snapshot(&snapshot.name).map_err(told)?;
        }
        Ok(())
    }

    /// This machine as it is now, everything unsynced included, without power: to be crashed later.
    #[must_use]
    pub fn frozen(&self) -> Machine {
        let hardware = self.hardware.lock().frozen();
        self.with(hardware, TestRng::new(0))
    }

    /// Has `keep` given this machine as [`Machine::frozen`] makes it, before each changing call, until its power is told
    /// to stop recording.
    pub fn record(&self, keep: impl Fn(Machine) + Send + 'static) {
        let hardware = self.hardware.lock().clone();
        let power = Arc::clone(&hardware.power);
        let this = self.with(hardware, TestRng::new(0));
        power.record(move |_| keep(this.frozen()));
    }

    fn with(&self, hardware: Hardware, rng: TestRng) -> Machine {
        Machine {
            settings: self.settings.clone(),
            keys: Arc::clone(&self.keys),
            clock: Arc::clone(&self.clock),
            hardware: Mutex::new(hardware),
            mounted: Mutex::new(None),
            rng: Mutex::new(rng),
        }
    }

    /// This machine after a power failure, nothing open. May be asked again for another outcome.
    ///
    /// # Errors
    /// The metadata engine in memory refused its content.
    pub fn crash(&self, style: CrashStyle, rng: &mut TestRng) -> Result<Machine, String> {
        let hardware = self.hardware.lock().after_crash(style, rng, Arc::new(Power::new()))?;
        Ok(self.with(hardware, rng.fork()))
    }
}

impl Hardware {
    fn frozen(&self) -> Hardware {
        let power = Arc::new(Power::spent());
        let disk = self.disk.frozen(Arc::clone(&power));
        Hardware { disk, meta: Arc::new(self.meta.frozen(Arc::clone(&power))), power }
    }

    fn after_crash(&self, style: CrashStyle, rng: &mut TestRng, power: Arc<Power>) -> Result<Hardware, String> {
        let disk = self.disk.crash(style, rng, Arc::clone(&power));
        let meta = self
            .meta
            .crash(rng, Arc::new(MemoryStore::new()), Arc::clone(&power))
            .map_err(|error| error.to_string())?;
        Ok(Hardware { power, disk, meta: Arc::new(meta) })
    }
}

impl Host for Machine {
    fn vfs(&self) -> Arc<Vfs> {
        match &*self.mounted.lock() {
            Some(mounted) => Arc::clone(&mounted.vfs),
            None => panic!("a test uses a volume that is not open"),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn collect(&self, dead_percent: u8, pieces: u8) -> Result<(), Stop> {
        let Some(store) = self.store() else { return Err(Stop::Diverged("the volume is not open".into())) };
        let mut left = pieces;
        let begun = std::time::Instant::now();
        let pace = &mut |_: &GcProgress| {
            left = left.saturating_sub(1);
            // A group that waits for room keeps its turn.
            if left == 0 || begun.elapsed() > COLLECT_MAX { Pace::Stop } else { Pace::Go }
        };
        let power = self.power();
        match store.collect(dead_percent, pace) {
            Ok(_) => self.scrub(&store, pieces),
            Err(StoreError::OutOfSpace | StoreError::Meta(MetaError::OutOfSpace(_))) => {
                Err(Stop::Environment(VfsError::NoSpace))
            }
            Err(_) if power.is_off() || power.faults_hit() > 0 => Err(Stop::Environment(VfsError::Io)),
            Err(error) => Err(Stop::Diverged(format!("collecting garbage: {error}"))),
        }
    }

    /// Closing is a barrier: the power may fail right after it and nothing may be missing.
    fn remount(&self) -> Result<(), Stop> {
        let power = self.power();
        if let Err(what) = self.close() {
            return Err(if power.is_off() || power.faults_hit() > 0 {
                Stop::Environment(VfsError::Io)
            } else {
                Stop::Diverged(what)
            });
        }
        if power.is_off() {
            return Err(Stop::Environment(VfsError::Io));
        }
        self.audit().map_err(|what| Stop::Diverged(format!("after closing: {what}")))?;
        {
            let mut rng = self.rng.lock();
            let style = *rng.pick(&CrashStyle::ALL);
            let mut hardware = self.hardware.lock();
            *hardware = hardware.after_crash(style, &mut rng, power).map_err(Stop::Diverged)?;
        }
        self.open()?;
        self.audit().map_err(|what| Stop::Diverged(format!("after opening again: {what}")))
    }
}

impl Machine {
    /// Scrubs as many pieces. Nothing that was committed is damaged.
    fn scrub(&self, store: &ChunkStore, pieces: u8) -> Result<(), Stop> {
        let mut left = pieces;
        let begun = std::time::Instant::now();
        let pace = &mut |_: &ScrubProgress| {
            left = left.saturating_sub(1);
            if left == 0 || begun.elapsed() > COLLECT_MAX { Pace::Stop } else { Pace::Go }
        };
        let power = self.power();
        match store.scrub(ScrubPosition::Kept, pace) {
            Ok((progress, _)) if progress.tally.damaged == 0 => Ok(()),
            Ok(_) | Err(_) if power.is_off() || power.faults_hit() > 0 => Err(Stop::Environment(VfsError::Io)),
            Ok((progress, _)) => Err(Stop::Diverged(format!("a scrub found damage: {:?}", progress.tally))),
            Err(StoreError::OutOfSpace | StoreError::Meta(MetaError::OutOfSpace(_))) => {
                Err(Stop::Environment(VfsError::NoSpace))
            }
            Err(error) => Err(Stop::Diverged(format!("scrubbing: {error}"))),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _closed = self.close();
    }
}
