//! A stream becomes the tree of a volume: one that is empty, or one whose latest state is the stream's base.
//!
//! Nothing changes before the whole stream was verified. Then the volume is frozen and the records are written in
//! steps, of which the first leaves an intent and the last removes it and makes the snapshot.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{ChunkId, Disk, Epoch, GroupId};
use verfs_codec::{Decompressor, Encoding};
use verfs_format::{
    ContentId, DirentRecord, InodeRecord, NameHash, Run, RunData, STREAM_WINDOW_CHUNKS, Segment, SnapshotRecord,
    StreamBegin, StreamFrame, StreamRun, StreamRunData, TreeCounters, keys, split_versioned,
};
use verfs_meta::{MetaStore, WriteBatch};
use verfs_store::{ChunkBatch, Indexed};

use super::StreamError;
use super::spool::{Filled, SpoolReader, fill, remove_others};
use crate::apply::{Replacement, Steps};
use crate::commit::put_system;
use crate::history::{ChangedKeys, version_at};
use crate::load::meta_error;
use crate::rollback::Outdated;
use crate::snapshots::SnapshotTable;
use crate::space::SpaceGauge;
use crate::state::Failure;
use crate::vault::{LockedVault, LockedVaults};
use crate::versions::Versions;
use crate::volume::{Shared, VfsParts};
use crate::{Snapshot, Vfs, VfsError};

/// Records of one step.
const STEP_RECORDS: usize = 4096;
/// Bytes of chunks of one step.
const STEP_BYTES: u64 = 32 << 20;

/// What happens to changes that the target had since the stream's base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetChanges {
    /// The stream is refused.
    Refuse,
    /// They are undone first.
    RollBack,
}

/// What was received.
#[derive(Debug)]
pub struct Received {
    /// The snapshot that was made.
    pub snapshot: Snapshot,
    /// What whoever caches names or inodes must forget.
    pub outdated: Outdated,
}

/// Called with the bytes that came so far; `Break` ends the transfer, which can be gone on with.
type Progress<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// Where an applied stream stands.
struct Applier<'a> {
    steps: Steps<'a>,
    /// The base, as the target numbers it.
    base: Option<Epoch>,
    decompressor: Decompressor,
    /// Ids of the latest chunks.
    window: VecDeque<ChunkId>,
    /// Chunks whose first reference waits for its run.
    fresh: HashSet<ChunkId>,
    highest_number: u64,
}

/// Records and chunks of one step, in the order of the stream.
struct Step {
    frames: Vec<StreamFrame>,
    end: bool,
}

fn read_step(spool: &mut SpoolReader) -> Result<Step, StreamError> {
    let (mut frames, mut bytes) = (Vec::new(), 0u64);
    loop {
        let frame = spool.next()?;
        match &frame {
            StreamFrame::End(_) => return Ok(Step { frames, end: true }),
            StreamFrame::Begin(_) | StreamFrame::Sealed(_) | StreamFrame::Block(..) => continue,
            StreamFrame::Chunk(raw_len, ..) => bytes += u64::from(*raw_len),
            StreamFrame::Inode(..)
            | StreamFrame::Dirent(..)
            | StreamFrame::Symlink(..)
            | StreamFrame::Xattrs(..)
            | StreamFrame::Segment(..) => {}
        }
        // Chunks belong to the segment behind them.
        let is_whole = !matches!(frame, StreamFrame::Chunk(..));
        frames.push(frame);
        if is_whole && (frames.len() >= STEP_RECORDS || bytes >= STEP_BYTES) {
            return Ok(Step { frames, end: false });
        }
    }
}

fn damaged(detail: impl Into<String>) -> StreamError {
    StreamError::Damaged { detail: detail.into(), resume: None }
}

impl Applier<'_> {
    fn key(&self, frame: &StreamFrame) -> Option<Bytes> {
        Some(match frame {
            StreamFrame::Inode(ino, _) => keys::inode(*ino).into(),
            StreamFrame::Dirent(parent, name, _) => {
                let hash = NameHash::from_keyed(self.steps.parts.store.name_id(*parent, name));
                keys::dirent(*parent, hash, name).into()
            }
            StreamFrame::Symlink(ino, _) => keys::symlink(*ino).into(),
            StreamFrame::Xattrs(ino, _) => keys::xattrs(*ino).into(),
            StreamFrame::Segment(content, index, _) => keys::segment(*content, *index).into(),
            StreamFrame::Begin(_)
            | StreamFrame::Chunk(..)
            | StreamFrame::Sealed(_)
            | StreamFrame::Block(..)
            | StreamFrame::End(_) => return None,
        })
    }

    /// Stores a chunk, which has one reference from then on.
    fn store(
        &mut self,
        chunks: &mut ChunkBatch,
        (raw_len, encoding): (u32, u8),
        stored: &[u8],
    ) -> Result<(), StreamError> {
        let encoding = Encoding::try_from(encoding).map_err(|error| damaged(error.to_string()))?;
        let raw = self.decompressor.decode(encoding, stored, raw_len as usize);
        let raw = raw.map_err(|error| damaged(error.to_string()))?;
        let id = chunks.put(raw, Indexed::Yes).map_err(|error| self.steps.store_error(&error))?;
        // A chunk that comes again, from beyond the window, is the same to this volume.
        if !self.fresh.insert(id) {
            chunks.drop_reference(id, 1);
        }
        self.window.push_back(id);
        if self.window.len() as u64 > STREAM_WINDOW_CHUNKS {
            self.window.pop_front();
        }
        Ok(())
    }

    /// The segment that runs of a stream mean. Its runs have their references.
    fn segment(
        &mut self,
        chunks: &mut ChunkBatch,
        (content, index): (ContentId, u32),
        runs: Vec<StreamRun>,
    ) -> Result<Segment, StreamError> {
        let mut kept: HashMap<u32, Run> = HashMap::new();
        if let Some(base) = self.base.filter(|_| runs.iter().any(|run| run.data == StreamRunData::Kept)) {
            let key = keys::segment(content, index);
            let live = self.steps.parts.meta.get(&key).map_err(|error| self.steps.meta_error(&error))?;
            let version = version_at(&*self.steps.parts.meta, &key, live.as_ref(), base);
            let version = version.map_err(|error| self.steps.meta_error(&error))?;
            let segment = version.map(|version| Segment::decode(&version.record)).transpose();
            let mut at = 0;
            for run in segment.map_err(|error| damaged(error.to_string()))?.unwrap_or_default().runs {
                let len = run.len;
                kept.insert(at, run);
                at += len;
            }
        }
        let mut segment = Segment::default();
        let mut at = 0;
        for run in runs {
            let data = match run.data {
                StreamRunData::Hole => RunData::Hole,
                StreamRunData::Inline(bytes) => RunData::Inline(bytes),
                StreamRunData::Chunk { back, offset } => {
                    let place = (self.window.len() as u64).checked_sub(back + 1);
                    let id = place.and_then(|place| self.window.get(place as usize)).copied();
                    let id = id.ok_or_else(|| damaged("a run refers to a chunk that didn't come"))?;
                    self.refer(chunks, id);
                    RunData::Chunk { id, offset, birth: self.steps.epoch }
                }
                StreamRunData::Kept => match kept.remove(&at) {
                    Some(Run { len, data: RunData::Chunk { id, offset, .. } }) if len == run.len => {
                        self.refer(chunks, id);
                        RunData::Chunk { id, offset, birth: self.steps.epoch }
                    }
                    Some(_) | None => {
                        return Err(StreamError::Mismatch("the base here is not what the sender has".to_owned()));
                    }
                },
            };
            segment.runs.push(Run { len: run.len, data });
            at += run.len;
        }
        Ok(segment)
    }

    fn refer(&mut self, chunks: &mut ChunkBatch, id: ChunkId) {
        if !self.fresh.remove(&id) {
            chunks.add_reference(id, 1);
        }
    }

    fn apply(
        &mut self,
        frames: Vec<StreamFrame>,
        chunks: &mut ChunkBatch,
        versions: &mut Versions<'_>,
        counters: &mut TreeCounters,
    ) -> Result<(), StreamError> {
        let wanted: Vec<Bytes> = frames.iter().filter_map(|frame| self.key(frame)).collect();
        let live = self.steps.parts.meta.multi_get(&wanted).map_err(|error| self.steps.meta_error(&error))?;
        let mut live = wanted.into_iter().zip(live);
        for frame in frames {
            if let StreamFrame::Chunk(raw_len, encoding, stored) = &frame {
                self.store(chunks, (*raw_len, *encoding), stored)?;
                continue;
            }
            let Some((key, live)) = live.next() else { continue };
            let record = |encode: &mut dyn FnMut(&mut Vec<u8>)| {
                let mut out = Vec::new();
                encode(&mut out);
                Bytes::from(out)
            };
            let target = match frame {
                StreamFrame::Inode(ino, target) => {
                    let content = target.as_ref().map_or(0, |record: &InodeRecord| record.content.0);
                    self.highest_number = self.highest_number.max(ino.0).max(content);
                    target.map(|target| record(&mut |out| target.encode(out)))
                }
                StreamFrame::Dirent(_, _, target) => {
                    target.map(|target: DirentRecord| record(&mut |out| target.encode(out)))
                }
                StreamFrame::Symlink(_, target) => target,
                StreamFrame::Xattrs(_, target) => target.map(|xattrs| Bytes::from(xattrs.encode())),
                StreamFrame::Segment(content, index, runs) => {
                    let segment = self.segment(chunks, (content, index), runs)?;
                    (!segment.runs.is_empty()).then(|| segment.encode().into())
                }
                StreamFrame::Begin(_)
                | StreamFrame::Chunk(..)
                | StreamFrame::Sealed(_)
                | StreamFrame::Block(..)
                | StreamFrame::End(_) => continue,
            };
            // What has no name is no part of the base, and was undone if it changed.
            self.steps.set(chunks, versions, counters, Replacement { key: &key, live, target, died: None })?;
        }
        if self.fresh.is_empty() { Ok(()) } else { Err(damaged("a chunk came that nothing refers to")) }
    }

    /// Applies a whole spool in batches that have the numbers of groups from `group` on. Returns the last one.
    fn run(&mut self, begin: &StreamBegin, mut spool: SpoolReader, group: GroupId) -> Result<GroupId, StreamError> {
        let mut group = group;
        let mut counters = self.steps.counters()?;
        let number = self.steps.number(keys::SYSTEM_NEXT_NUMBER)?;
        loop {
            let Step { frames, end } = read_step(&mut spool)?;
            let steps = self.steps.clone();
            let epoch = steps.epoch;
            let mut written = steps.begin(group);
            let mut chunks = steps.parts.store.begin();
            let mut versions = steps.versions(&mut written);
            self.apply(frames, &mut chunks, &mut versions, &mut counters)?;
            let grown = versions.finish().map_err(|error| steps.meta_error(&error))?;
            let batch = &mut written.batch;
            if end {
                batch.delete(Bytes::from_static(keys::SYSTEM_RECEIVE));
                let record = SnapshotRecord {
                    uuid: begin.uuid,
                    name: begin.name.clone(),
                    note: begin.note.clone(),
                    created: begin.created,
                    counters,
                    holds: Vec::new(),
                    pruning: None,
                };
                batch.put(keys::snapshot(epoch), record.encode());
                put_system(batch, keys::SYSTEM_EPOCH, epoch.0 + 1);
                put_system(batch, keys::SYSTEM_NEXT_NUMBER, number.max(self.highest_number + 1));
            } else {
                batch.put(Bytes::from_static(keys::SYSTEM_RECEIVE), Bytes::copy_from_slice(&begin.stream));
            }
            steps.commit(written, chunks, &grown, &counters)?;
            if end {
                return Ok(group);
            }
            group = group.next();
        }
    }
}

/// Whether a live value is the record that was: but for the access time, as reading a file is no change of it, and for
/// when runs were born, as one that was rolled back to is as it was.
fn says_the_same(key: &[u8], live: &[u8], then: &[u8]) -> bool {
    let Ok((_, live)) = split_versioned(live) else { return false };
    if keys::parse_inode(key).is_some() {
        return match (InodeRecord::decode(live), InodeRecord::decode(then)) {
            (Ok(live), Ok(then)) => InodeRecord { atime: then.atime, ..live } == then,
            (Err(_), _) | (_, Err(_)) => false,
        };
    }
    if keys::parse_segment(key).is_some() {
        let ageless = |record: &[u8]| {
            let mut segment = Segment::decode(record).ok()?;
            for run in &mut segment.runs {
                if let RunData::Chunk { birth, .. } = &mut run.data {
                    *birth = Epoch::FIRST;
                }
            }
            Some(segment)
        };
        return ageless(live).is_some_and(|live| Some(live) == ageless(then));
    }
    live == then
}

/// Whether a volume is what a stream leads on from: which snapshot is the base, and whether anything changed since.
fn find_base(
    parts: &VfsParts,
    snapshots: &SnapshotTable,
    begin: &StreamBegin,
    (inodes, epoch): (u64, Epoch),
    window_bytes: usize,
) -> Result<(Option<Epoch>, Changed), StreamError> {
    let mismatch = |what: &str| Err(StreamError::Mismatch(what.to_owned()));
    if snapshots.with_uuid(begin.uuid).is_some() {
        return mismatch("the volume has this snapshot already");
    }
    if snapshots.has_name(&begin.name) {
        return mismatch("the volume has another snapshot of this name");
    }
    let Some(uuid) = begin.base else {
        return match inodes == 1 && snapshots.is_empty() {
            true => Ok((None, Changed::No)),
            false => mismatch("the stream is of a whole snapshot, and the volume is not empty"),
        };
    };
    let Some(base) = snapshots.with_uuid(uuid) else {
        return mismatch("the volume doesn't have the snapshot from which the stream leads on");
    };
    let meta = &*parts.meta;
    let read = || -> Result<Changed, verfs_meta::MetaError> {
        let mut changed = ChangedKeys::new(meta, (base, epoch), window_bytes);
        while let Some(key) = changed.next()? {
            let live = meta.get(&key)?;
            let then = version_at(meta, &key, live.as_ref(), base)?;
            let same = match (&live, &then) {
                (None, None) => true,
                (Some(live), Some(then)) => says_the_same(&key, live, &then.record),
                (None, Some(_)) | (Some(_), None) => false,
            };
            if !same {
                return Ok(Changed::Since);
            }
        }
        Ok(Changed::No)
    };
    let changed = read().map_err(|error| {
        tracing::error!(%error, "looking for changes since a stream's base");
        VfsError::Io
    })?;
    Ok((Some(base), changed))
}

/// Whether the tree is what its base was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Changed {
    No,
    Since,
}

/// Completes the application of a stream that a crash interrupted. Returns whether there was one.
pub(crate) fn complete_receive(
    parts: &VfsParts,
    snapshots: &SnapshotTable,
    (committed, epoch): (GroupId, Epoch),
) -> Result<bool, StreamError> {
    let steps = Steps { parts, standing: snapshots.standing(), epoch };
    let intent = parts.meta.get(keys::SYSTEM_RECEIVE).map_err(|error| steps.meta_error(&error))?;
    let Some(stream) = intent else { return Ok(false) };
    let stream: [u8; 16] = stream[..].try_into().map_err(|_| damaged("the id of the stream under way"))?;
    tracing::info!("completing the application of a stream");
    let mut spool = SpoolReader::open(&*parts.disk, stream)?;
    let begin = match spool.next()? {
        StreamFrame::Begin(begin) => begin,
        _ => return Err(damaged("the spool doesn't begin")),
    };
    let base = match begin.base {
        Some(uuid) => Some(snapshots.with_uuid(uuid).ok_or_else(|| damaged("its base is gone"))?),
        None => None,
    };
    applier(steps, base).run(&begin, spool, committed.next())?;
    remove_others(&*parts.disk, None)?;
    Ok(true)
}

/// Runs `act` with the locked vault that a stream's part is for, if it has one.
fn with_vault(
    begin: &StreamBegin,
    vaults: Option<&dyn LockedVaults>,
    act: &mut dyn FnMut(Option<&LockedVault>) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    let open =
        || StreamError::Mismatch("the stream has a vault's part, and the vault here is open: lock it".to_owned());
    match (&begin.vault, vaults) {
        (None, _) => act(None),
        (Some(_), None) => Err(open()),
        (Some(_), Some(vaults)) => vaults.with(&mut |vault| act(Some(vault.ok_or_else(open)?))),
    }
}

fn applier(steps: Steps<'_>, base: Option<Epoch>) -> Applier<'_> {
    Applier {
        steps,
        base,
        decompressor: Decompressor::new(),
        window: VecDeque::new(),
        fresh: HashSet::new(),
        highest_number: 0,
    }
}

impl Shared {
    /// Whether a stream may be applied to the tree as it is committed now.
    fn check_base(&self, begin: &StreamBegin) -> Result<(Option<Epoch>, Changed), StreamError> {
        let snapshots = SnapshotTable::read(&*self.parts.meta).map_err(|error| self.meta_error(&error))?;
        let now = {
            let state = self.state.lock();
            (state.counters.inodes, state.epoch)
        };
        find_base(&self.parts, &snapshots, begin, now, self.options.change_window_bytes)
    }

    /// Applies a verified spool to the frozen volume.
    fn apply_stream(&self, begin: &StreamBegin, vault: Option<&LockedVault>) -> Result<Option<Epoch>, StreamError> {
        let (base, changed) = self.check_base(begin)?;
        if changed == Changed::Since {
            return Err(StreamError::Mismatch("the volume changed since the stream's base".to_owned()));
        }
        let (standing, epoch, group) = {
            let state = self.state.lock();
            (state.snapshots.standing(), state.epoch, state.open.id)
        };
        let disk = &*self.parts.disk;
        let spool = SpoolReader::open(disk, begin.stream)?;
        let applied = match vault {
            None => Ok(()),
            Some(vault) => self.intend(begin).and_then(|()| vault.apply(begin, SpoolReader::open(disk, begin.stream)?)),
        };
        let steps = Steps { parts: &self.parts, standing, epoch };
        let applied = applied.and_then(|()| applier(steps, base).run(begin, spool, group));
        let rebuilt = applied.and_then(|group| Ok(self.rebuild(group)?));
        if rebuilt.is_err() {
            // Some of it may be done: only opening the volume again can finish it.
            self.state.lock().failure = Some(Failure::Store);
        }
        rebuilt.map(|()| base)
    }
}

impl Shared {
    /// From here on the stream is applied to its end, by whoever opens the volume next if need be.
    fn intend(&self, begin: &StreamBegin) -> Result<(), StreamError> {
        let mut batch = WriteBatch::new();
        batch.put(Bytes::from_static(keys::SYSTEM_RECEIVE), Bytes::copy_from_slice(&begin.stream));
        let meta = &self.parts.meta;
        Ok(meta.commit(batch).and_then(|()| meta.sync()).map_err(|error| self.meta_error(&error))?)
    }
}

/// Completes the vault's part of a stream whose application a crash interrupted, before the volume's tree is opened. `disk`
/// and `meta` are the volume's.
///
/// # Errors
/// [`StreamError`].
pub fn complete_vault_receive(disk: &dyn Disk, meta: &dyn MetaStore, vault: &LockedVault) -> Result<(), StreamError> {
    let intent = meta.get(keys::SYSTEM_RECEIVE).map_err(|error| meta_error(&error))?;
    let Some(stream) = intent else { return Ok(()) };
    let stream: [u8; 16] = stream[..].try_into().map_err(|_| damaged("the id of the stream under way"))?;
    let mut spool = SpoolReader::open(disk, stream)?;
    match spool.next()? {
        StreamFrame::Begin(begin) => vault.apply(&begin, spool),
        _ => Err(damaged("the spool doesn't begin")),
    }
}

impl Vfs {
    /// Receives a stream and makes the tree what the sender's snapshot was, and a snapshot of it. The volume must be
    /// empty for the stream of a whole snapshot, and else be as it was in the base. The stream is verified whole before
    /// anything changes; what came of one that was cut is kept, and the rest may follow later.
    ///
    /// # Errors
    /// [`StreamError`]; [`VfsError::Interrupted`] when `progress` ended it.
    pub fn receive(
        &self,
        source: &mut dyn Read,
        changes: TargetChanges,
        progress: &mut Progress<'_>,
    ) -> Result<Received, StreamError> {
        self.receive_with_vault(source, changes, None, progress)
    }

    /// As [`Vfs::receive`], with what the stream has of a vault, for the locked one of this volume, or for its first.
    ///
    /// # Errors
    /// As there.
    pub fn receive_with_vault(
        &self,
        source: &mut dyn Read,
        changes: TargetChanges,
        vault: Option<&dyn LockedVaults>,
        progress: &mut Progress<'_>,
    ) -> Result<Received, StreamError> {
        let shared = &self.shared;
        let _receiving = shared.receiving.lock();
        shared.barrier()?;
        let disk = &*shared.parts.disk;
        let accept = &mut |begin: &StreamBegin| match (shared.check_base(begin)?, changes) {
            ((_, Changed::No), _) | ((_, Changed::Since), TargetChanges::RollBack) => {
                with_vault(begin, vault, &mut |vault| vault.map_or(Ok(()), |vault| vault.check(begin, changes)))
            }
            ((_, Changed::Since), TargetChanges::Refuse) => {
                Err(StreamError::Mismatch("the volume changed since the stream's base".to_owned()))
            }
        };
        let Filled { begin, room_bytes } = fill(disk, source, accept, &mut |bytes| progress(bytes).is_continue())?;
        // Once it has begun it has to be completed, also by whoever opens the volume next.
        if !SpaceGauge::new(disk.space()?).covers(room_bytes) {
            return Err(VfsError::NoSpace.into());
        }
        if let (Some(base), Changed::Since) = shared.check_base(&begin)?
            && changes == TargetChanges::RollBack
        {
            let name = self.snapshots().into_iter().find(|snapshot| snapshot.id == base);
            let name = name.ok_or(VfsError::NotFound)?.name;
            self.rollback(&name)?;
        }
        let mut base = None;
        with_vault(&begin, vault, &mut |vault| {
            if let Some(vault) = vault {
                // It may have changed meanwhile.
                vault.check(&begin, changes)?;
            }
            let _whole_tree = shared.whole_tree.lock();
            let frozen = shared.freeze()?;
            let applied = shared.apply_stream(&begin, vault);
            // It can't go before the lists of what changed behind it were read.
            let used = applied.map(|base| base.map(|base| shared.use_in(&mut shared.state.lock(), base)));
            drop(frozen);
            base = used?.transpose()?;
            Ok(())
        })?;
        if let Err(error) = remove_others(disk, None) {
            tracing::warn!(%error, "can't remove the spool of a stream that was received");
        }
        Ok(Received { snapshot: self.snapshot(&begin.name)?, outdated: self.outdated_since(base) })
    }

    /// Where the stream that came last, and was cut, can be gone on with.
    ///
    /// # Errors
    /// [`StreamError`], when the spool can't be read.
    pub fn interrupted_receive(&self) -> Result<Option<super::ResumeToken>, StreamError> {
        super::spool::interrupted(&*self.shared.parts.disk)
    }
}
