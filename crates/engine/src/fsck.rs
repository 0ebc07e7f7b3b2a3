//! `fsck`: whether the parts of a volume that nobody has open agree with each other, and their repair.
//!
//! A repair goes in rounds: a check of everything, then the changes that put right what it found, in durable batches. Each
//! change follows from what is there, so that a repair that is cut short is begun anew. Nothing that a file may
//! consist of is deleted.

mod watch;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use verfs_base::{Clock, Disk, Ino, RealDisk, SystemClock};
use verfs_format::chunk_record::{SYSTEM_STORE, StoreRecord};
use verfs_format::superblock::Superblock;
use verfs_format::vault::{SYSTEM_VAULT_KEYS, VAULT_DIRECTORY, VAULT_PREFIX};
use verfs_format::{NameHash, TreeCounters, keys, varint};
use verfs_meta::{Change, MetaStore, PrefixedStore, Standing, WitnessedStore, WriteBatch};
use verfs_pack::pack_path;
use verfs_store::{ChunkBackend, Finding, Findings, Mend, Mending, StoreCheck, StoreError, rebuild_index};
use verfs_vfs::{ClearView, HashName, TreeCheck, check_log};

pub use self::watch::{FsckProgress, FsckWatch};
use self::watch::{Watch, WatchedView};
use crate::lock::VolumeLock;
use crate::records::{self, DAMAGED_DIRECTORY};
use crate::recovery::Scratch;
use crate::volume::{META_DIRECTORY, close_meta, kinds, read_superblock};
use crate::{Background, EngineError, OpenOptions, Volume};

/// What to do without metadata.
const MISSING: &str = "it is not there, and data are: put it back from a copy; a repair keeps the data without their \
                       names in lost+found";
/// What to do about older metadata.
const OLDER: &str = "put the newest back; a repair keeps what it doesn't know in lost+found";
/// What to do about metadata that the engine refuses.
const UNREADABLE: &str = "put it back from a copy; or keep the data without their names: move meta/ away, then repair";
/// Chunks that one round gives a place.
const PLACED_MAX: usize = 1 << 20;
/// Rounds of a repair at most: damage that hides other damage that often is not met in practice.
const ROUNDS_MAX: u32 = 64;
/// Changes of one batch of a repair.
const BATCH_MAX: usize = 1000;
/// How often a round looks at what belongs to an inode, and to a chunk, of a tree as trees are. More names, segments or
/// snapshots take more looks: this is for a guess at what is left.
const LOOKS_OF_INODE: u64 = 5;
const LOOKS_OF_CHUNK: u64 = 3;

/// Whether what is found is mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    /// It is told, and nothing is written.
    No,
    /// It is, where that can be done without losing anything.
    Yes,
}

/// What an fsck does at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsckStage {
    /// It opens and closes the volume: what a crash left is brought in order.
    Recovering,
    /// It looks; the number counts the rounds of a repair from 1.
    Checking(u32),
    /// It writes so many changes.
    Mending(u64),
}

/// What became of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FsckVerdict {
    /// Nothing is wrong.
    #[default]
    Clean,
    /// Something is, and nobody asked for repair.
    Found,
    /// Something was, and all of it is mended.
    Mended,
    /// Something can't be mended.
    Left,
}

/// What an fsck found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FsckReport {
    /// In one word.
    pub verdict: FsckVerdict,
    /// Each thing, up to 10,000; those that were mended first.
    pub findings: Vec<Finding>,
    /// Things that were mended.
    pub mended: u64,
    /// Things that can be.
    pub mendable: u64,
    /// Things that can't.
    pub left: u64,
    /// Synced operations in the intent log that the next open completes: no damage.
    pub pending_log_frames: u64,
}

/// A tree and its packs: the volume's own, or its vault's.
struct Part {
    age: Age,
    disk: Arc<dyn Disk>,
    meta: Arc<dyn MetaStore>,
    backend: ChunkBackend,
    kind: PartKind,
}

/// What is checked, and where that is.
struct Site<'a> {
    superblock: &'a Superblock,
    disk: &'a PartDisk<'a>,
    ground: Ground,
}

/// The files of a part of a volume.
type PartDisk<'a> = dyn Fn(&str) -> Arc<dyn Disk> + 'a;

/// Where a repair works.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// On the volume.
    Volume,
    /// On a copy of its metadata, which goes.
    Copy,
}

/// Whether the metadata is as new as the packs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Newest,
    /// There are packs, and frames in the log, that it doesn't know.
    Older,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartKind {
    Volume,
    LockedVault,
}

impl Volume {
    /// Checks the volume at `path`, and mends it if asked to. `watch` hears how far it is, and ends it: a check changes
    /// nothing, and a repair that is ended is completed by the next one.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] when `watch` said so. [`EngineError::VolumeLocked`] when it is mounted or open; those of [`Volume::inspect`] for a superblock that can't
    /// be used; what the disk says. Damage of all else is in the report.
    pub fn fsck(path: &Path, repair: Repair, watch: &mut FsckWatch<'_>) -> Result<FsckReport, EngineError> {
        let watch = &Watch::new(watch);
        let cancelled = || EngineError::Cancelled { path: path.to_path_buf() };
        let superblock = read_superblock(path)?;
        kinds(path, &superblock)?;
        let mut report = FsckReport::default();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(path.to_path_buf()));
        if records::is_absent(&path.join(META_DIRECTORY)) {
            // Of a volume that was never opened there is nothing to check.
            if !records::was_used(path, &*disk)? {
                return Ok(report);
            }
            if repair == Repair::No {
                // Opened, it would get new metadata, and look like an empty volume.
                let mut findings = Findings::default();
                findings.mendable("metadata-missing", META_DIRECTORY, MISSING, Mend::Records(WriteBatch::new()));
                report.conclude(&findings, repair);
                return Ok(report);
            }
        }
        let lock = VolumeLock::take(path)?;
        let mut findings = check_volume(path, &superblock, repair, watch, &mut report)?;
        drop(lock);
        if repair == Repair::Yes {
            // Not before: an open removes packs that the metadata doesn't know, and they may have what it lacks.
            if watch.begin(FsckStage::Recovering, 0).is_break() {
                return Err(cancelled());
            }
            if let Some(error) = recover(path)? {
                findings.left("open-refused", path.display().to_string(), error.to_string());
            } else {
                // What the log had was made of records as they were before.
                let _lock = VolumeLock::take(path)?;
                findings = check_volume(path, &superblock, repair, watch, &mut report)?;
            }
        }
        report.conclude(&findings, repair);
        Ok(report)
    }
}

/// Opens the volume and closes it. What refuses it for damage is returned; the repair may help.
fn recover(path: &Path) -> Result<Option<EngineError>, EngineError> {
    let options = OpenOptions { gc_background: Background::Off, ..OpenOptions::default() };
    match Volume::open(path, &options).and_then(|volume| volume.close()) {
        Ok(()) => Ok(None),
        Err(
            error @ (EngineError::Damaged { .. }
            | EngineError::Io { .. }
            | EngineError::SuperblockDamaged { .. }
            | EngineError::MetadataOlder { .. }
            | EngineError::MetadataMissing { .. }),
        ) => {
            tracing::warn!(%error, "the volume can't be opened before its repair");
            Ok(Some(error))
        }
        Err(error) => Err(error),
    }
}

impl FsckReport {
    /// What can be mended of these is.
    fn note_mended(&mut self, findings: &Findings) {
        let mended = findings.list().iter().filter(|finding| finding.mending == Mending::Mendable);
        self.findings.extend(mended.map(|finding| Finding { mending: Mending::Mended, ..finding.clone() }));
        self.mended += findings.mendable_count();
    }

    fn take_mended(&mut self, findings: &mut Findings) {
        self.note_mended(&std::mem::take(findings));
    }

    fn conclude(&mut self, findings: &Findings, repair: Repair) {
        self.findings.extend_from_slice(findings.list());
        (self.mendable, self.left) = (findings.mendable_count(), findings.left_count());
        self.verdict = match (repair, self.mended, self.mendable + self.left) {
            (_, 0, 0) => FsckVerdict::Clean,
            (Repair::No, _, _) => FsckVerdict::Found,
            (Repair::Yes, _, 0) => FsckVerdict::Mended,
            (Repair::Yes, _, _) => FsckVerdict::Left,
        };
    }
}

fn check_volume(
    path: &Path,
    superblock: &Superblock,
    repair: Repair,
    watch: &Watch<'_>,
    report: &mut FsckReport,
) -> Result<Findings, EngineError> {
    let (engine, _) = kinds(path, superblock)?;
    let disk = |part: &str| Arc::new(RealDisk::new(path.join(part))) as Arc<dyn Disk>;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = OpenOptions::default().meta();
    let at = path.join(META_DIRECTORY);
    let mut named = Findings::default();
    if let Some(other) = verfs_meta::engine_of_files(&at).filter(|other| *other != engine) {
        let detail = format!("its files are of {other}, and volume.toml says {engine}: put back what belongs together");
        named.left("metadata-engine", META_DIRECTORY, detail);
        return Ok(named);
    }
    if !records::is_absent(&at) && !verfs_meta::is_named(engine, &at) {
        let detail = format!("the file ENGINE doesn't say {engine}, as volume.toml does");
        named.mendable("metadata-engine", META_DIRECTORY, detail, Mend::Records(WriteBatch::new()));
        if repair == Repair::No {
            return Ok(named);
        }
        verfs_meta::name_again(engine, &at).map_err(|error| EngineError::from_meta(path, &error))?;
        report.take_mended(&mut named);
    }
    let unreadable = |detail: &str| {
        let mut findings = Findings::default();
        findings.left("metadata-unreadable", META_DIRECTORY, format!("{detail}: {UNREADABLE}"));
        Ok(findings)
    };
    let meta = match records::open(engine, &at, &options, &disk(""), &clock) {
        Ok(meta) => meta,
        Err(verfs_meta::MetaError::Corrupt(detail) | verfs_meta::MetaError::Io(detail)) => return unreadable(&detail),
        Err(error) => return Err(EngineError::from_meta(path, &error)),
    };
    let checked =
        check_trusted(path, &meta, Site { superblock, disk: &disk, ground: Ground::Volume }, repair, watch, report);
    close_meta(&*meta);
    match checked {
        Err(EngineError::Damaged { detail, .. }) => unreadable(&detail),
        checked => checked,
    }
}

/// Checks what the metadata has, whether it is the newest or not.
fn check_trusted(
    path: &Path,
    meta: &Arc<WitnessedStore>,
    Site { superblock, disk, ground }: Site<'_>,
    repair: Repair,
    watch: &Watch<'_>,
    report: &mut FsckReport,
) -> Result<Findings, EngineError> {
    let mut findings = Findings::default();
    let is_lost = records::is_lost(path, &**meta, &*disk(""))?;
    if is_lost {
        findings.mendable("metadata-missing", META_DIRECTORY, MISSING, Mend::Records(WriteBatch::new()));
        if repair == Repair::No {
            return Ok(findings);
        }
        begin_anew(path, meta)?;
    } else if let Standing::Older { last, witnessed } = meta.standing() {
        let detail = format!("its last batch is {last}, and {witnessed} was durable: {OLDER}");
        findings.mendable("metadata-older", META_DIRECTORY, detail, Mend::Records(WriteBatch::new()));
    }
    let is_older = matches!(meta.standing(), Standing::Older { .. });
    let shared: Arc<dyn MetaStore> = Arc::<WitnessedStore>::clone(meta);
    let parts = parts(disk, superblock, &shared, is_older).map_err(|error| EngineError::from_meta(path, &error))?;
    let left = rounds(path, &parts, repair, watch, report)?;
    if is_older && repair == Repair::Yes {
        for part in &parts {
            part.put_aside(path, ground)?;
        }
        meta.supersede().map_err(|error| EngineError::from_meta(path, &error))?;
        report.take_mended(&mut findings);
    }
    findings.append(left);
    Ok(findings)
}

/// Has metadata that is lost begin with nothing, and with the knowledge that this is not what was there.
fn begin_anew(path: &Path, meta: &WitnessedStore) -> Result<(), EngineError> {
    meta.disown().map_err(|error| EngineError::from_io(path, &error))?;
    let mut batch = WriteBatch::new();
    let mut group = Vec::new();
    varint::put_u64(&mut group, 0);
    batch.put(keys::SYSTEM_GROUP, group);
    meta.commit(batch).and_then(|()| meta.sync()).map_err(|error| EngineError::from_meta(path, &error))
}

/// Mends the copy of a damaged volume's metadata, so that what is left can be read.
pub(crate) fn mend_copy(
    path: &Path,
    superblock: &Superblock,
    meta: &Arc<WitnessedStore>,
    scratch: &Scratch,
) -> Result<(), EngineError> {
    let mut report = FsckReport::default();
    let disk = |part: &str| scratch.disk(part);
    let mut nobody = |_: &FsckProgress| ControlFlow::Continue(());
    let site = Site { superblock, disk: &disk, ground: Ground::Copy };
    let left = check_trusted(path, meta, site, Repair::Yes, &Watch::new(&mut nobody), &mut report)?;
    for Finding { code, place, detail, mending } in report.findings.iter().chain(left.list()) {
        tracing::warn!(code, place, detail, ?mending, "read-only recovery");
    }
    Ok(())
}

fn rounds(
    path: &Path,
    parts: &[Part],
    repair: Repair,
    watch: &Watch<'_>,
    report: &mut FsckReport,
) -> Result<Findings, EngineError> {
    let failed = |error| match watch.is_stopped() {
        true => EngineError::Cancelled { path: path.to_path_buf() },
        false => EngineError::from_store(path, &error),
    };
    let expected = parts.iter().map(Part::expected_looks).sum();
    let mut round = 0;
    loop {
        round += 1;
        // Whoever says no here is heard at the first record.
        let _ = watch.begin(FsckStage::Checking(round), expected);
        let mut all = Findings::default();
        let mut changed = 0;
        report.pending_log_frames = 0;
        for part in parts {
            let mut findings = Findings::default();
            report.pending_log_frames += part.check(watch, &mut findings).map_err(failed)?;
            let mends = findings.take_mends();
            if repair == Repair::Yes && round < ROUNDS_MAX && !mends.is_empty() {
                let _ = watch.begin(FsckStage::Mending(mends.len() as u64), mends.len() as u64);
                changed += mends.len();
                part.mend(watch, mends).map_err(failed)?;
                report.note_mended(&findings);
            }
            all.append(findings);
        }
        if changed == 0 {
            return Ok(all);
        }
    }
}

fn parts(
    disk: &PartDisk<'_>,
    superblock: &Superblock,
    meta: &Arc<dyn MetaStore>,
    is_older: bool,
) -> Result<Vec<Part>, verfs_meta::MetaError> {
    let age = if is_older { Age::Older } else { Age::Newest };
    let mut parts = vec![Part {
        age,
        disk: disk(""),
        meta: Arc::clone(meta),
        backend: ChunkBackend::plain(&superblock.id_secret),
        kind: PartKind::Volume,
    }];
    if meta.get(SYSTEM_VAULT_KEYS)?.is_some() {
        parts.push(Part {
            age,
            disk: disk(VAULT_DIRECTORY),
            meta: Arc::new(PrefixedStore::new(Arc::clone(meta), VAULT_PREFIX)),
            backend: ChunkBackend::Locked { secret: Box::new(superblock.id_secret) },
            kind: PartKind::LockedVault,
        });
    }
    Ok(parts)
}

impl Part {
    /// About how many records a check looks at. It is for a guess: what can't be read adds nothing.
    fn expected_looks(&self) -> u64 {
        let record = |key: &[u8]| self.meta.get(key).ok().flatten();
        let store = record(SYSTEM_STORE).and_then(|value| StoreRecord::decode(&value).ok());
        let tree = record(keys::SYSTEM_COUNTERS).and_then(|value| TreeCounters::decode(&value).ok());
        let inodes = tree.map_or(0, |counters| counters.inodes);
        inodes.saturating_mul(LOOKS_OF_INODE) + store.map_or(0, |store| store.chunks).saturating_mul(LOOKS_OF_CHUNK)
    }

    /// Looks at all of it. Returns the frames of the log that the next open replays.
    fn check(&self, watch: &Watch<'_>, findings: &mut Findings) -> verfs_store::Result<u64> {
        let view: Box<dyn verfs_meta::MetaView> = Box::new(WatchedView { inner: self.meta.view()?, watch });
        match self.kind {
            PartKind::Volume => {
                let hash = |name: &[u8]| NameHash::from_keyed(self.backend.name_id(Ino::ROOT, name));
                self.check_records(&*view, Some(&hash), findings)?;
                if self.age == Age::Older {
                    // Nobody replays it.
                    return Ok(0);
                }
                check_log(&*self.disk, &*view, &|frame| self.backend.read_frame(frame))
            }
            PartKind::LockedVault => {
                self.check_records(&ClearView::new(view), None, findings)?;
                // Its log is sealed; unlocking it replays it.
                Ok(0)
            }
        }
    }

    fn check_records(
        &self,
        view: &dyn verfs_meta::MetaView,
        hash: Option<&HashName<'_>>,
        findings: &mut Findings,
    ) -> verfs_store::Result<()> {
        let packs = StoreCheck { disk: &*self.disk, view, seed: self.backend.record_seed() };
        let before = findings.mendable_count();
        let is_placed = self.age == Age::Older && self.kind == PartKind::Volume;
        if is_placed {
            packs.adopt_newer(findings)?;
        }
        let lost = packs.run(findings)?;
        let tree = TreeCheck::new(view, hash, &packs);
        tree.run(findings)?;
        if is_placed && findings.mendable_count() == before {
            tree.place(&packs.unplaced(PLACED_MAX)?, findings)?;
        }
        if lost.is_empty() { Ok(()) } else { tree.name_lost(&lost, findings) }
    }

    /// Keeps in `damaged/` what older metadata can't place: the intent log, and of a vault, whose records nobody can write
    /// without its keys, the packs that it doesn't know whole.
    fn put_aside(&self, path: &Path, ground: Ground) -> Result<(), EngineError> {
        let about = |error: std::io::Error| EngineError::from_io(&path.join(DAMAGED_DIRECTORY), &error);
        records::put_log_aside(&*self.disk).map_err(about)?;
        if self.kind == PartKind::LockedVault && ground == Ground::Volume {
            let view = self.meta.view().map_err(|error| EngineError::from_meta(path, &error))?;
            let packs = StoreCheck { disk: &*self.disk, view: &*view, seed: self.backend.record_seed() };
            for pack in packs.unknown_packs().map_err(|error| EngineError::from_store(path, &error))? {
                records::keep_copy(&*self.disk, &pack_path(pack)).map_err(about)?;
            }
        }
        Ok(())
    }

    /// Makes changes durable, in batches. Each mend is in one batch.
    fn mend(&self, watch: &Watch<'_>, mends: Vec<Mend>) -> verfs_store::Result<()> {
        let mut batch = WriteBatch::new();
        for mend in mends {
            if watch.note().is_break() {
                return Err(StoreError::Closed);
            }
            match mend {
                Mend::Index(pack) => rebuild_index(&*self.disk, pack, self.backend.record_seed())?,
                Mend::Log => records::put_log_aside(&*self.disk)
                    .map_err(|error| StoreError::of_disk("rename", Path::new("log"), &error))?,
                Mend::Records(changes) => {
                    for (key, change) in changes {
                        match change {
                            Change::Put(value) => batch.put(key, value),
                            Change::Delete => batch.delete(key),
                        }
                    }
                    if batch.len() >= BATCH_MAX {
                        self.meta.commit(std::mem::take(&mut batch))?;
                    }
                }
            }
        }
        self.meta.commit(batch)?;
        Ok(self.meta.sync()?)
    }
}

#[cfg(test)]
mod tests;
