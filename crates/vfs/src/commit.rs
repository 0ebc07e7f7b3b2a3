//! The committer: closes groups and makes them durable, one after the other, on a thread of its own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::MutexGuard;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use verfs_base::{Epoch, Ino};
use verfs_format::{
    ContentId, InodeKind, InodeRecord, OrphanRecord, PruneProgress, Segment, SnapshotRecord, encode_versioned, keys,
    varint,
};
use verfs_meta::WriteBatch;

use crate::VfsError;
use crate::companion::Fate;
use crate::content_commit::ContentCommit;
use crate::group::{EpochEnd, Group, Reap, ReapExtent, ReapExtras};
use crate::load::decode_inode;
use crate::prune::{self, Pruned};
use crate::rollback::Freeze;
use crate::space::SpaceGauge;
use crate::state::{Closing, Failure, Node, REAP_RECORDS, State};
use crate::versions::{Versions, put_used};
use crate::volume::Shared;

/// Runs whose references one group drops at most for contents that are released.
const RELEASE_RUNS_MAX: usize = 32 << 10;
/// Contents that a group releases, however much else it has.
const REAP_MIN: usize = 512;
/// Records that the committer looks at or changes in memory before it lets others at the lock.
const LOCKED_RECORDS_MAX: usize = 128;
/// How long to wait after the disk was found full, or no more files could be opened.
const STALL_RETRY: Duration = Duration::from_millis(500);

/// What a committed group leaves for memory.
struct Committed {
    segments: Vec<((ContentId, u32), Arc<Segment>)>,
    /// Inodes with the allocation that was committed.
    allocated: Vec<(Ino, u64)>,
    /// Contents that were not released whole.
    unfinished: Vec<Reap>,
    space: Option<SpaceGauge>,
    /// What single snapshots use, where that changed.
    used: BTreeMap<Epoch, u64>,
    pruned: Option<Pruned>,
    /// Whether the snapshot that the group ends with, if any, is made.
    is_made: bool,
}

/// Runs until the filesystem is closed. A panic makes the volume read-only instead of silently never committing.
pub(crate) fn run(shared: &Shared) {
    if catch_unwind(AssertUnwindSafe(|| commit_groups(shared))).is_err() {
        tracing::error!("the committer panicked; the volume takes no more changes");
        let mut state = shared.state.lock();
        state.failure = Some(Failure::Defect);
        if let Some(closing) = &state.closing {
            closing.group.companion.decide(Fate::Lost);
        }
        drop(state);
        shared.progress.notify_all();
    }
}

fn commit_groups(shared: &Shared) {
    while let Some(group) = next_group(shared) {
        shared.parts.store.give_way_to(group.memory_bytes());
        loop {
            match commit(shared, &group) {
                Ok(committed) => {
                    let left_bytes = finish(shared, &group, committed);
                    shared.parts.store.give_way_to(left_bytes);
                    break;
                }
                Err(error) if error.passes() => {
                    group.companion.decide(Fate::Lost);
                    if !wait_out(shared, error) {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(group = group.id.0, %error, "a group could not be committed; the volume takes no more changes");
                    group.companion.decide(Fate::Lost);
                    let mut state = shared.state.lock();
                    state.failure = Some(Failure::Store);
                    shared.progress.notify_all();
                    return;
                }
            }
        }
    }
}

/// Waits until a group is due and closes it. `None` at shutdown.
fn next_group(shared: &Shared) -> Option<Arc<Group>> {
    let interval = Duration::from_millis(u64::from(shared.options.group_interval_ms));
    let mut state = shared.state.lock();
    loop {
        // Closed by whoever made a snapshot of two trees.
        if let Some(closing) = &state.closing {
            return Some(Arc::clone(&closing.group));
        }
        match state.open.first_change {
            _ if matches!(state.freeze, Freeze::Frozen | Freeze::Still) || state.meeting => {
                shared.work.wait(&mut state);
            }
            Some(_) if state.close_requested || state.shutdown => return Some(close(&mut state, shared)),
            Some(first_change) => {
                let age = shared.monotonic().saturating_sub(first_change);
                match interval.checked_sub(age).filter(|rest| !rest.is_zero()) {
                    None => return Some(close(&mut state, shared)),
                    Some(rest) => {
                        shared.work.wait_for(&mut state, rest);
                    }
                }
            }
            None if state.shutdown => return None,
            None => {
                state.close_requested = false;
                shared.work.wait(&mut state);
            }
        }
    }
}

/// Moves the open group out, in constant time, and opens the next one. No other one is being committed.
pub(crate) fn close(state: &mut State, shared: &Shared) -> Arc<Group> {
    let next = state.open.id.next();
    match state.open.ends {
        EpochEnd::No => {}
        EpochEnd::Snapshot => state.epoch = Epoch(state.epoch.0 + 1),
    }
    let mut group = std::mem::replace(&mut state.open, Group::new(next, state.epoch, state.next_number));
    group.counters = state.counters;
    group.next_number = state.next_number;
    let room = state.limits.records.saturating_sub(group.batch_records()) / REAP_RECORDS;
    let reaped = state.reapable.len().min(room.max(REAP_MIN));
    group.reap = state.reapable.drain(..reaped).collect();
    for reap in &group.reap {
        if let Some(ino) = reap.ino {
            state.counters.inodes -= 1;
            group.counters.inodes -= 1;
            state.nodes.put(ino, Node::Gone, group.id, 1);
        }
    }
    if !state.reapable.is_empty() {
        state.begin_change(shared.monotonic());
    }
    // Inodes that still have no name but are not released yet are in no snapshot.
    let nameless = state.kept.len() + state.reapable.iter().filter(|reap| reap.ino.is_some()).count();
    state.snapshots.close(&mut group, nameless as u64);
    if state.freeze != Freeze::No {
        group.prune = None;
    }
    let group = Arc::new(group);
    let unlogged = std::mem::take(&mut state.unlogged);
    state.closing = Some(Closing { group: Arc::clone(&group), unlogged, since: shared.monotonic() });
    // What is left to be released doesn't wait for the interval.
    state.close_requested = state.is_group_full();
    // Writers that waited for room have it in the new group.
    shared.progress.notify_all();
    group
}

/// Tells everyone what is lacking and waits a little. `false` when the filesystem is closed meanwhile.
fn wait_out(shared: &Shared, lacking: VfsError) -> bool {
    let mut state = shared.state.lock();
    if state.stalled != Some(lacking) {
        tracing::warn!(%lacking, "nothing can be committed for now; changes wait in memory until that passes");
    }
    state.stalled = Some(lacking);
    shared.progress.notify_all();
    shared.work.wait_for(&mut state, STALL_RETRY);
    !state.shutdown
}

pub(crate) fn put_system(batch: &mut WriteBatch, key: &'static [u8], number: u64) {
    let mut value = Vec::new();
    varint::put_u64(&mut value, number);
    batch.put(Bytes::from_static(key), value);
}

/// Whether a group's orphan has to be on record: an inode that never got a record needs none.
fn is_recorded(group: &Group, reap: &Reap) -> bool {
    reap.ino.is_none_or(|ino| group.inodes.contains_key(&ino))
}

fn commit(shared: &Shared, group: &Group) -> Result<Committed, VfsError> {
    let parts = &shared.parts;
    // The metadata engine opens files by itself, and takes no more writes where it can't.
    parts.disk.ready().map_err(|error| shared.io_error("looking for descriptors", &error))?;
    let mut chunks = parts.store.begin();
    let mut batch = WriteBatch::new();
    let mut versions = Versions::new(&*parts.meta, &mut batch, (group.epoch, group.id), Arc::clone(&group.held));
    let mut content = ContentCommit {
        meta: &*parts.meta,
        store: &parts.store,
        chunker: &*parts.chunker,
        chunks: &mut chunks,
        versions: &mut versions,
        first_number: group.first_number,
        segments: Vec::new(),
    };

    let released: FxHashSet<ContentId> = group.reap.iter().map(|reap| reap.content).collect();
    let gone: FxHashMap<Ino, Epoch> = group.reap.iter().filter_map(|reap| Some((reap.ino?, reap.died))).collect();
    let before = committed_allocations(shared, group, &gone)?;
    let mut allocated = Vec::new();
    let mut records: Vec<(Ino, InodeRecord)> = Vec::with_capacity(group.inodes.len());
    for (&ino, record) in group.inodes.iter().filter(|(ino, _)| !gone.contains_key(ino)) {
        let mut record = *record;
        if record.kind == InodeKind::Regular {
            record.allocated = before.get(&ino).copied().unwrap_or(0);
            if let Some(dirty) = group.data.get(&record.content).filter(|_| !released.contains(&record.content)) {
                let change = content
                    .commit(record.content, (record.size, group.nameless.get(&ino).copied()), dirty)
                    .map_err(|error| shared.store_error(Some(ino), &error))?;
                record.allocated = record.allocated.saturating_add_signed(change);
            }
            allocated.push((ino, record.allocated));
        }
        records.push((ino, record));
    }
    let unfinished = release(shared, group, &mut content)?;
    let segments = content.segments;

    let unfinished_contents: FxHashSet<ContentId> = unfinished.iter().map(|reap| reap.content).collect();
    put_records(&mut versions, group, records, &gone, &Releases { released, unfinished: unfinished_contents });
    let mut grown = versions.finish().map_err(|error| shared.meta_error(&error))?;
    let is_made = group.companion.is_made();
    put_system_records(&mut batch, group, is_made);
    let begins = |record: &SnapshotRecord| record.pruning == Some(PruneProgress::Waiting);
    let begun: Vec<Epoch> = group.snapshots.iter().filter(|(_, record)| begins(record)).map(|(id, _)| *id).collect();
    prune::count_shared(&*parts.meta, &begun, (&group.held, group.epoch), &mut grown)
        .map_err(|error| shared.meta_error(&error))?;
    let used = put_used(&*parts.meta, &mut batch, &grown).map_err(|error| shared.meta_error(&error))?;
    let prune =
        |prune| prune::step(&*parts.meta, &mut batch, &mut chunks, (prune, group.epoch), shared.options.prune_step);
    let pruned = group.prune.as_ref().map(prune).transpose().map_err(|error| shared.meta_error(&error))?;
    chunks.finish(&mut batch).map_err(|error| shared.store_error(None, &error))?;
    parts.meta.commit(batch).map_err(|error| shared.meta_error(&error))?;
    // Even if it never gets durable: what the store counts from now on is beside this batch.
    chunks.committed();
    // The batch is visible: it must not be made a second time, whatever happens to its sync.
    while let Err(error) = parts.meta.sync() {
        group.companion.decide(Fate::Lost);
        let error = shared.meta_error(&error);
        if !error.passes() || !wait_out(shared, error) {
            return Err(error);
        }
    }
    let space = parts.disk.space().ok().map(SpaceGauge::new);
    Ok(Committed { segments, allocated, unfinished, space, used, pruned, is_made })
}

/// Allocation of the group's files as of the last committed group: their records in the group only have a bound. Memory
/// has most of them, since what changed stays there until it is committed.
fn committed_allocations(
    shared: &Shared,
    group: &Group,
    gone: &FxHashMap<Ino, Epoch>,
) -> Result<FxHashMap<Ino, u64>, VfsError> {
    let older: Vec<(Ino, ContentId)> = group
        .inodes
        .iter()
        .filter(|(ino, record)| record.kind == InodeKind::Regular && ino.0 < group.first_number)
        .filter(|(ino, _)| !gone.contains_key(ino))
        .map(|(ino, record)| (*ino, record.content))
        .collect();
    let mut allocations = FxHashMap::with_capacity_and_hasher(older.len(), FxBuildHasher);
    let mut unknown = Vec::new();
    for step in older.chunks(LOCKED_RECORDS_MAX) {
        let mut state = shared.state.lock();
        for &(ino, content) in step {
            match state.nodes.adjust(ino) {
                Some(Node::Present { record, committed_allocated, .. }) if record.content == content => {
                    allocations.insert(ino, *committed_allocated);
                }
                Some(Node::Present { .. } | Node::Gone) | None => unknown.push((ino, content)),
            }
        }
    }
    let wanted: Vec<Bytes> = unknown.iter().map(|(ino, _)| keys::inode(*ino).into()).collect();
    let values = shared.parts.meta.multi_get(&wanted).map_err(|error| shared.meta_error(&error))?;
    for ((ino, content), value) in unknown.into_iter().zip(values) {
        let Some(value) = value else { continue };
        // The record of the group takes its place; how much its content had, nobody knows.
        let Ok(record) = decode_inode(&value).map_err(|error| shared.damaged("inode", ino.0, error)) else { continue };
        if record.content == content {
            allocations.insert(ino, record.allocated);
        }
    }
    Ok(allocations)
}

/// Drops the references of contents that nothing leads to. Returns those for which the budget was too small.
fn release(shared: &Shared, group: &Group, content: &mut ContentCommit<'_, '_>) -> Result<Vec<Reap>, VfsError> {
    let mut budget = RELEASE_RUNS_MAX;
    let mut unfinished = Vec::new();
    for reap in &group.reap {
        let complete = match reap.extent {
            ReapExtent::Nothing => Ok(true),
            ReapExtent::FirstSegment | ReapExtent::All if budget == 0 => Ok(false),
            ReapExtent::FirstSegment | ReapExtent::All => {
                content.release(reap.content, reap.died, reap.extent, &mut budget)
            }
        };
        let complete = complete.map_err(|error| shared.store_error(reap.ino, &error))?;
        if !complete {
            // The inode goes now; only the rest of its content stays on record.
            unfinished.push(Reap { ino: None, ..*reap });
        }
    }
    Ok(unfinished)
}

/// Contents that a group releases.
struct Releases {
    /// All of them.
    released: FxHashSet<ContentId>,
    /// Those of which something is left for a later group.
    unfinished: FxHashSet<ContentId>,
}

fn put_records(
    versions: &mut Versions<'_>,
    group: &Group,
    records: Vec<(Ino, InodeRecord)>,
    gone: &FxHashMap<Ino, Epoch>,
    Releases { released, unfinished }: &Releases,
) {
    for (ino, record) in records {
        versions.put_of(keys::inode(ino), group.nameless.get(&ino).copied(), |out| record.encode(out));
    }
    for ((parent, name), target) in &group.dirents {
        let key = keys::dirent(*parent, name.hash, &name.bytes);
        match target {
            None => versions.delete(key, group.epoch),
            Some(record) => versions.put(key, |out| record.encode(out)),
        }
    }
    for (ino, target) in &group.symlinks {
        if !gone.contains_key(ino) {
            versions.put(keys::symlink(*ino), |out| out.extend_from_slice(target));
        }
    }
    for (ino, xattrs) in &group.xattrs {
        let died = gone.get(ino).or_else(|| group.nameless.get(ino)).copied();
        // An inode that loses them and goes in one group has a record of an earlier one, and nobody else deletes it.
        match xattrs.is_empty() || gone.contains_key(ino) {
            true => versions.delete(keys::xattrs(*ino), died.unwrap_or(group.epoch)),
            false => versions.put_of(keys::xattrs(*ino), died, |out| out.extend_from_slice(&xattrs.encode())),
        }
    }
    for orphan in group.orphans.iter().filter(|orphan| is_recorded(group, orphan)) {
        if !released.contains(&orphan.content) {
            put_orphan(versions, orphan);
        }
    }
    let fresh: FxHashSet<ContentId> = group.orphans.iter().map(|orphan| orphan.content).collect();
    for reap in &group.reap {
        if unfinished.contains(&reap.content) {
            // Not a new version: a snapshot that had the whole orphan loses what is released of it.
            let record = OrphanRecord { ino: None, died: reap.died };
            versions.batch.put(keys::orphan(reap.content), encode_versioned(reap.died, |out| record.encode(out)));
        } else if !fresh.contains(&reap.content) {
            versions.delete(keys::orphan(reap.content), reap.died);
        }
        if let Some(ino) = reap.ino {
            versions.delete(keys::inode(ino), reap.died);
            match reap.extras {
                ReapExtras::Any => {
                    versions.delete(keys::symlink(ino), reap.died);
                    if !group.xattrs.contains_key(&ino) {
                        versions.delete(keys::xattrs(ino), reap.died);
                    }
                }
                ReapExtras::Nothing => {}
            }
        }
    }
}

fn put_orphan(versions: &mut Versions<'_>, reap: &Reap) {
    let record = OrphanRecord { ino: reap.ino, died: reap.died };
    versions.put(keys::orphan(reap.content), |out| record.encode(out));
}

/// Records of the tree as a whole.
fn put_system_records(batch: &mut WriteBatch, group: &Group, is_made: bool) {
    for (id, record) in &group.snapshots {
        // The other tree has none: so neither has this one.
        let record = match *id == group.epoch && !is_made {
            true => &SnapshotRecord { pruning: Some(PruneProgress::Waiting), ..record.clone() },
            false => record,
        };
        batch.put(keys::snapshot(*id), record.encode());
    }
    let mut counters = Vec::new();
    group.counters.encode(&mut counters);
    batch.put(Bytes::from_static(keys::SYSTEM_COUNTERS), counters);
    put_system(batch, keys::SYSTEM_NEXT_NUMBER, group.next_number);
    put_system(batch, keys::SYSTEM_GROUP, group.id.0);
    let next_epoch = match group.ends {
        EpochEnd::No => group.epoch.0,
        EpochEnd::Snapshot => group.epoch.0 + 1,
    };
    put_system(batch, keys::SYSTEM_EPOCH, next_epoch);
}

/// The group is durable: memory follows. Gives the bytes that wait in the next one.
fn finish(shared: &Shared, group: &Group, committed: Committed) -> u64 {
    let mut state = shared.state.lock();
    // Whoever read the store before the commit reads it again: memory may be newer from here on. What the group has
    // still covers what it left, so the rest of memory may follow step by step.
    state.commits += 1;
    for step in committed.segments.chunks(LOCKED_RECORDS_MAX) {
        for ((content, index), segment) in step {
            state.replace_segment(*content, *index, Arc::clone(segment));
        }
        MutexGuard::bump(&mut state);
    }
    for step in committed.allocated.chunks(LOCKED_RECORDS_MAX) {
        for &(ino, allocated) in step {
            settle_allocation(&mut state, group, ino, allocated);
        }
        MutexGuard::bump(&mut state);
    }
    state.committed = group.id;
    if let Some(lacked) = state.stalled.take() {
        tracing::info!(%lacked, "groups are committed again");
    }
    let closing = state.closing.take();
    if !committed.unfinished.is_empty() {
        state.reapable.extend(committed.unfinished);
        state.begin_change(shared.monotonic());
    }
    if let Some(space) = committed.space {
        state.space = space;
    }
    state.snapshots.committed(&committed.used, committed.pruned);
    if !committed.is_made {
        state.snapshots.unmake(group.epoch);
    }
    group.companion.decide(Fate::Durable);
    // At the end of a volume's day the rest is left to the next: nobody waits for it.
    if state.snapshots.is_pruning() && state.freeze == Freeze::No && !state.shutdown {
        state.begin_change(shared.monotonic());
    }
    shared.progress.notify_all();
    let left_bytes = state.open.memory_bytes();
    drop(state);
    // A large group takes a while to free: not under the lock.
    drop(closing);
    left_bytes
}

/// The record of a file in memory, after its group was committed with so many bytes allocated.
fn settle_allocation(state: &mut State, group: &Group, ino: Ino, allocated: u64) {
    let State { nodes, open, .. } = state;
    if let Some(Node::Present { record, committed_allocated, .. }) = nodes.adjust(ino)
        && group.inodes.get(&ino).is_some_and(|was| was.content == record.content)
    {
        *committed_allocated = allocated;
        let dirty = open.data.get(&record.content).map_or(0, crate::dirty::DirtyContent::data_bytes);
        record.allocated = (allocated + dirty).min(record.size.next_multiple_of(4096));
    }
}
