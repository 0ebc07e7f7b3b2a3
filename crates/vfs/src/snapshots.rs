//! Snapshots of the whole tree: made in constant time, held, listed, deleted.
//!
//! A snapshot is the end of an epoch: making one closes the open group and begins the next epoch. Nothing is copied;
//! `versions` keeps what later groups replace, `prune` removes it again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;
use verfs_base::{Epoch, GroupId, Timestamp};
use verfs_format::{PruneProgress, SnapshotRecord, TreeCounters, keys};
use verfs_meta::{Direction, KeyRange, MetaError, MetaStore};

use crate::group::{EpochEnd, Group};
use crate::prune::{Prune, Pruned};
use crate::rollback::Freeze;
use crate::state::{Demand, State, Stop};
use crate::versions::{SnapshotIds, read_used};
use crate::volume::Shared;
use crate::{Result, Vfs, VfsError};

/// Longest name of a snapshot: it is a directory entry in `.snapshots`.
const NAME_MAX_BYTES: usize = 255;
/// Longest note, and longest reason to hold a snapshot.
pub const TEXT_MAX_BYTES: usize = 4096;
/// Most reasons to hold one snapshot.
const HOLDS_MAX: usize = 1024;

/// A snapshot as callers see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Its number: later snapshots have greater ones; never reused.
    pub id: Epoch,
    /// Identity, also in other volumes that received it.
    pub uuid: [u8; 16],
    /// Its name.
    pub name: Bytes,
    /// What its maker wrote about it.
    pub note: Bytes,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes that its deletion gives up: of file data, before deduplication and compression, and of old records.
    pub used_bytes: u64,
    /// Sizes of all its files.
    pub logical_bytes: u64,
    /// Its inodes, directories included.
    pub inodes: u64,
    /// Its directories.
    pub directories: u64,
    /// Why it must not be deleted.
    pub holds: Vec<Bytes>,
}

#[derive(Debug)]
struct Entry {
    record: SnapshotRecord,
    used_bytes: u64,
    /// The group that it was made with: before that is durable, nobody is told of it.
    made_in: GroupId,
    /// How many read it and must find it whole to the end.
    uses: usize,
}

/// Keeps a snapshot from being deleted.
pub(crate) struct SnapshotUse {
    shared: Arc<Shared>,
    id: Epoch,
}

impl std::fmt::Debug for SnapshotUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SnapshotUse").field(&self.id).finish()
    }
}

impl SnapshotUse {
    pub(crate) fn id(&self) -> Epoch {
        self.id
    }
}

impl Drop for SnapshotUse {
    fn drop(&mut self) {
        if let Some(entry) = self.shared.state.lock().snapshots.entries.get_mut(&self.id) {
            entry.uses -= 1;
        }
    }
}

/// All snapshots of a volume, those included that are being deleted.
#[derive(Default, Debug)]
pub(crate) struct SnapshotTable {
    entries: BTreeMap<Epoch, Entry>,
    by_name: BTreeMap<Bytes, Epoch>,
    /// Those that stand.
    standing: Arc<SnapshotIds>,
    /// Those that are being deleted, the one under way first.
    deleting: Vec<Epoch>,
}

impl SnapshotTable {
    /// Reads the table of a volume.
    pub(crate) fn read(meta: &dyn MetaStore) -> std::result::Result<SnapshotTable, MetaError> {
        let mut table = SnapshotTable::default();
        let mut records = Vec::new();
        let mut damaged = Vec::new();
        meta.scan(&KeyRange::prefix(&[keys::SNAPSHOT]), Direction::Forward, &mut |key, value| {
            match (keys::parse_snapshot(key), SnapshotRecord::decode(value)) {
                (Some(id), Ok(record)) => records.push((id, record)),
                (Some(id), Err(error)) => {
                    tracing::error!(snapshot = id.0, %error, "snapshot record is damaged; its tree is still there");
                    damaged.push(id);
                }
                (None, _) => {}
            }
            ControlFlow::Continue(())
        })?;
        for (id, record) in records {
            table.add(id, Entry { used_bytes: read_used(meta, id)?, record, made_in: GroupId(0), uses: 0 });
        }
        for id in damaged {
            let record = table.stand_in(id);
            table.add(id, Entry { used_bytes: read_used(meta, id)?, record, made_in: GroupId(0), uses: 0 });
        }
        // The one whose deletion was under way goes on first: what the others wait for depends on it.
        let TableParts { entries, deleting } = table.parts();
        deleting.sort_by_key(|id| entries[id].record.pruning == Some(PruneProgress::Waiting));
        Ok(table)
    }

    /// A record for a snapshot that lost its own: what it keeps can be read, and deleted.
    fn stand_in(&self, id: Epoch) -> SnapshotRecord {
        let mut name = format!("damaged-{}", id.0).into_bytes();
        while self.by_name.contains_key(&name[..]) {
            name.push(b'+');
        }
        let mut uuid = [0; 16];
        uuid[8..].copy_from_slice(&id.0.to_be_bytes());
        SnapshotRecord {
            uuid,
            name: name.into(),
            note: Bytes::from_static(b"Its record was damaged: name, note, time and counts are lost."),
            created: Timestamp::default(),
            counters: TreeCounters::default(),
            holds: Vec::new(),
            pruning: None,
        }
    }

    fn parts(&mut self) -> TableParts<'_> {
        TableParts { entries: &self.entries, deleting: &mut self.deleting }
    }

    fn add(&mut self, id: Epoch, entry: Entry) {
        if entry.record.pruning.is_some() {
            self.deleting.push(id);
        } else {
            self.by_name.insert(entry.record.name.clone(), id);
            Arc::make_mut(&mut self.standing).insert(id);
        }
        self.entries.insert(id, entry);
    }

    /// Those who read a snapshot go on, although the table is a new one.
    pub(crate) fn keep_uses(&mut self, before: &SnapshotTable) {
        for (id, entry) in &mut self.entries {
            entry.uses = before.entries.get(id).map_or(0, |before| before.uses);
        }
    }

    /// Whether a deletion is under way.
    pub(crate) fn is_pruning(&self) -> bool {
        !self.deleting.is_empty()
    }

    /// The standing snapshot of an identity.
    pub(crate) fn with_uuid(&self, uuid: [u8; 16]) -> Option<Epoch> {
        let standing = self.entries.iter().filter(|(_, entry)| entry.record.pruning.is_none());
        standing.filter(|(_, entry)| entry.record.uuid == uuid).map(|(id, _)| *id).next()
    }

    /// The standing snapshot of a name, durable or not.
    pub(crate) fn with_name(&self, name: &[u8]) -> Option<Epoch> {
        self.by_name.get(name).copied()
    }

    /// Whether a name is taken.
    pub(crate) fn has_name(&self, name: &[u8]) -> bool {
        self.by_name.contains_key(name)
    }

    /// Whether nothing of any snapshot is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ids of those that stand.
    pub(crate) fn standing(&self) -> Arc<SnapshotIds> {
        Arc::clone(&self.standing)
    }

    /// Whether a snapshot is there and not being deleted.
    pub(crate) fn stands(&self, id: Epoch) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.record.pruning.is_none())
    }

    /// The snapshot of a name, made durable in `committed` or before.
    pub(crate) fn find(&self, name: &[u8], committed: GroupId) -> Result<Epoch> {
        let id = self.by_name.get(name).copied().ok_or(VfsError::NotFound)?;
        if self.entries[&id].made_in <= committed { Ok(id) } else { Err(VfsError::NotFound) }
    }

    /// Gives a closing group what it needs to know of snapshots. Its counters have `nameless` inodes that no snapshot
    /// shows.
    pub(crate) fn close(&mut self, group: &mut Group, nameless: u64) {
        match group.ends {
            EpochEnd::No => {}
            EpochEnd::Snapshot => {
                let made = (group.snapshots.get_mut(&group.epoch), self.entries.get_mut(&group.epoch));
                if let (Some(record), Some(entry)) = made {
                    let inodes = group.counters.inodes - nameless;
                    record.counters = TreeCounters { inodes, ..group.counters };
                    entry.record.counters = record.counters;
                }
            }
        }
        group.held = Arc::clone(&self.standing);
        // One that was marked in this very group waits for the next: what this one still gives up must be in its lists.
        let begun = self.deleting.first().filter(|id| !group.snapshots.contains_key(id));
        group.prune = begun.map(|&id| self.prune_of(id, group.epoch));
    }

    /// What the deletion of a snapshot has to look at, in epoch `epoch`.
    fn prune_of(&self, id: Epoch, epoch: Epoch) -> Prune {
        let before = self.entries.range(..id).next_back().map_or(Epoch(0), |(id, _)| *id);
        let after = self.entries.range(Epoch(id.0 + 1)..).next().map(|(id, _)| *id);
        Prune { id, record: self.entries[&id].record.clone(), lower: before, upper: after.unwrap_or(epoch) }
    }

    /// The deletion that is to go on, if there is one, in epoch `epoch`.
    pub(crate) fn next_prune(&self, epoch: Epoch) -> Option<Prune> {
        self.deleting.first().map(|&id| self.prune_of(id, epoch))
    }

    /// The records of those that stand, oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Epoch, &SnapshotRecord)> {
        let standing = self.entries.iter().filter(|(_, entry)| entry.record.pruning.is_none());
        standing.map(|(id, entry)| (*id, &entry.record))
    }

    /// The record of one that is there.
    pub(crate) fn record(&self, id: Epoch) -> Option<&SnapshotRecord> {
        self.entries.get(&id).map(|entry| &entry.record)
    }

    /// A snapshot that was not made after all is deleted.
    pub(crate) fn unmake(&mut self, id: Epoch) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.record.pruning = Some(PruneProgress::Waiting);
        self.by_name.remove(&entry.record.name);
        Arc::make_mut(&mut self.standing).remove(id);
        self.deleting.push(id);
    }

    /// What a committed group did with snapshots.
    pub(crate) fn committed(&mut self, used: &BTreeMap<Epoch, u64>, pruned: Option<Pruned>) {
        for (id, bytes) in used {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.used_bytes = *bytes;
            }
        }
        match pruned {
            None => {}
            Some(Pruned::Gone(id)) => {
                self.entries.remove(&id);
                self.deleting.retain(|other| *other != id);
            }
            Some(Pruned::Left(id, record)) => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.record = record;
                }
            }
        }
    }
}

/// Fields of a table, borrowed apart.
struct TableParts<'a> {
    entries: &'a BTreeMap<Epoch, Entry>,
    deleting: &'a mut Vec<Epoch>,
}

fn shown(id: Epoch, entry: &Entry) -> Snapshot {
    let record = &entry.record;
    let TreeCounters { inodes, directories, logical_bytes } = record.counters;
    Snapshot {
        id,
        uuid: record.uuid,
        name: record.name.clone(),
        note: record.note.clone(),
        created: record.created,
        used_bytes: entry.used_bytes,
        logical_bytes,
        inodes,
        directories,
        holds: record.holds.clone(),
    }
}

/// Refuses what can't be the name of a directory, or would be taken for an option of a command.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX_BYTES {
        return Err(VfsError::NameTooLong);
    }
    let odd = name.iter().any(|byte| *byte == b'/' || byte.is_ascii_control());
    if name.is_empty() || name == b"." || name == b".." || name.starts_with(b"-") || odd {
        return Err(VfsError::InvalidArgument);
    }
    Ok(())
}

/// What a snapshot that is to be made has beside the tree.
pub(crate) struct NewSnapshot<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) note: &'a [u8],
    pub(crate) created: Timestamp,
    /// Its identity, if it has one already.
    pub(crate) uuid: Option<[u8; 16]>,
}

impl<'a> NewSnapshot<'a> {
    /// Refuses what can't be.
    pub(crate) fn checked(name: &'a [u8], note: &'a [u8], created: Timestamp) -> Result<Self> {
        check_name(name)?;
        match note.len() > TEXT_MAX_BYTES {
            true => Err(VfsError::InvalidArgument),
            false => Ok(NewSnapshot { name, note, created, uuid: None }),
        }
    }

    /// The identity that it gets at the end of epoch `id`.
    pub(crate) fn uuid_at(&self, shared: &Shared, id: Epoch) -> [u8; 16] {
        let identity = [b"snapshot", &id.0.to_le_bytes()[..], &self.created.seconds.to_le_bytes(), self.name].concat();
        self.uuid.unwrap_or_else(|| shared.parts.store.id_of(&identity).0)
    }
}

impl State {
    /// Makes the open group end with a snapshot, and the epoch with it. The group must not end with one yet.
    pub(crate) fn end_epoch(&mut self, shared: &Shared, new: &NewSnapshot<'_>) -> Result<Epoch> {
        if self.snapshots.has_name(new.name) {
            return Err(VfsError::Exists);
        }
        if let Some(error) = self.stalled {
            return Err(error);
        }
        let id = self.epoch;
        let record = SnapshotRecord {
            uuid: new.uuid_at(shared, id),
            name: Bytes::copy_from_slice(new.name),
            note: Bytes::copy_from_slice(new.note),
            created: new.created,
            counters: TreeCounters::default(),
            holds: Vec::new(),
            pruning: None,
        };
        let made_in = self.open.id;
        self.snapshots.add(id, Entry { record: record.clone(), used_bytes: 0, made_in, uses: 0 });
        self.open.snapshots.insert(id, record);
        self.open.ends = EpochEnd::Snapshot;
        Ok(id)
    }

    fn change_snapshot(&mut self, id: Epoch, change: impl FnOnce(&mut SnapshotRecord) -> Result<()>) -> Result<()> {
        let Some(entry) = self.snapshots.entries.get_mut(&id) else { return Err(VfsError::NotFound) };
        let mut record = entry.record.clone();
        change(&mut record)?;
        entry.record = record.clone();
        self.open.snapshots.insert(id, record);
        Ok(())
    }
}

impl Shared {
    /// Keeps a snapshot that stands until the use is dropped.
    pub(crate) fn use_in(self: &Arc<Self>, state: &mut State, id: Epoch) -> Result<SnapshotUse> {
        let entry = state.snapshots.entries.get_mut(&id).filter(|entry| entry.record.pruning.is_none());
        entry.ok_or(VfsError::NotFound)?.uses += 1;
        Ok(SnapshotUse { shared: Arc::clone(self), id })
    }
}

impl Vfs {
    /// Waits until nothing stands in the way of a change of snapshots, and has `change` make it in the open group; then
    /// waits until that group is durable.
    fn change_snapshots<T>(
        &self,
        mut change: impl FnMut(&mut MutexGuard<'_, State>) -> Result<Option<T>>,
    ) -> Result<T> {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        loop {
            if state.freeze != Freeze::No {
                shared.progress.wait(&mut state);
                continue;
            }
            match state.admit(Demand::Release) {
                Ok(()) => {}
                Err(Stop::Fail(error)) => return Err(error),
                Err(Stop::Need(_)) => {
                    state.close_requested = true;
                    shared.work.notify_one();
                    shared.progress.wait(&mut state);
                    continue;
                }
            }
            if let Some(result) = change(&mut state)? {
                state.begin_change(shared.monotonic());
                let target = state.open.id;
                shared.wait_committed(&mut state, target)?;
                return Ok(result);
            }
            // Another snapshot goes with the open group: this one goes with the next.
            let target = state.open.id;
            shared.wait_committed(&mut state, target)?;
        }
    }

    /// Makes a snapshot of the whole tree as it is: everything that returned before the call is in it. Takes one
    /// commit, whatever the tree's size.
    ///
    /// # Errors
    /// [`VfsError::Exists`], [`VfsError::InvalidArgument`] and [`VfsError::NameTooLong`] for names that can't be,
    /// [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn create_snapshot(&self, name: &[u8], note: &[u8]) -> Result<Snapshot> {
        self.create(&NewSnapshot::checked(name, note, self.shared.now())?)
    }

    pub(crate) fn create(&self, new: &NewSnapshot<'_>) -> Result<Snapshot> {
        let id = self.change_snapshots(|state| match state.open.ends {
            EpochEnd::Snapshot if !state.snapshots.has_name(new.name) => Ok(None),
            EpochEnd::Snapshot | EpochEnd::No => state.end_epoch(&self.shared, new).map(Some),
        })?;
        self.made_snapshot(id)
    }

    /// A snapshot that was made just now.
    pub(crate) fn made_snapshot(&self, id: Epoch) -> Result<Snapshot> {
        let state = self.shared.state.lock();
        // Deleted by somebody else meanwhile: it was made all the same.
        state.snapshots.entries.get(&id).map(|entry| shown(id, entry)).ok_or(VfsError::NotFound)
    }

    /// The present epoch: what changes now is in no snapshot with a lower number.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.state.lock().epoch
    }

    /// The snapshots, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let state = self.shared.state.lock();
        let standing = state
            .snapshots
            .entries
            .iter()
            .filter(|(_, entry)| entry.record.pruning.is_none() && entry.made_in <= state.committed);
        standing.map(|(id, entry)| shown(*id, entry)).collect()
    }

    /// Keeps a snapshot until the use is dropped.
    pub(crate) fn use_snapshot(&self, name: &[u8]) -> Result<SnapshotUse> {
        let mut state = self.shared.state.lock();
        let id = state.snapshots.find(name, state.committed)?;
        self.shared.use_in(&mut state, id)
    }

    /// The snapshot of a name.
    ///
    /// # Errors
    /// [`VfsError::NotFound`].
    pub fn snapshot(&self, name: &[u8]) -> Result<Snapshot> {
        let state = self.shared.state.lock();
        let id = state.snapshots.find(name, state.committed)?;
        Ok(shown(id, &state.snapshots.entries[&id]))
    }

    /// Deletes a snapshot: its name is free and durably gone when the call returns, its space comes back with the
    /// groups that follow.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Busy`] for one that is held or being copied, [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<()> {
        self.change_snapshots(|state| {
            let id = state.snapshots.find(name, state.committed)?;
            let entry = &state.snapshots.entries[&id];
            if !entry.record.holds.is_empty() || entry.uses > 0 {
                return Err(VfsError::Busy);
            }
            // One with each group: what a third shared with two that go at once would be counted twice.
            if state.open.snapshots.values().any(|record| record.pruning.is_some()) {
                return Ok(None);
            }
            state.change_snapshot(id, |record| {
                record.pruning = Some(PruneProgress::Waiting);
                Ok(())
            })?;
            state.snapshots.by_name.remove(name);
            Arc::make_mut(&mut state.snapshots.standing).remove(id);
            state.snapshots.deleting.push(id);
            Ok(Some(()))
        })
    }

    /// Adds a reason not to delete a snapshot.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Exists`] for a reason that it has, [`VfsError::InvalidArgument`] for an
    /// empty or overlong one, [`VfsError::TooManyLinks`] when it has too many.
    pub fn hold_snapshot(&self, name: &[u8], reason: &[u8]) -> Result<()> {
        if reason.is_empty() || reason.len() > TEXT_MAX_BYTES {
            return Err(VfsError::InvalidArgument);
        }
        self.change_snapshots(|state| {
            let id = state.snapshots.find(name, state.committed)?;
            state.change_snapshot(id, |record| match record.holds.iter().any(|other| other == reason) {
                true => Err(VfsError::Exists),
                false if record.holds.len() >= HOLDS_MAX => Err(VfsError::TooManyLinks),
                false => {
                    record.holds.push(Bytes::copy_from_slice(reason));
                    Ok(())
                }
            })?;
            Ok(Some(()))
        })
    }

    /// Removes a reason not to delete a snapshot.
    ///
    /// # Errors
    /// [`VfsError::NotFound`] for the snapshot or the reason.
    pub fn release_snapshot(&self, name: &[u8], reason: &[u8]) -> Result<()> {
        self.change_snapshots(|state| {
            let id = state.snapshots.find(name, state.committed)?;
            state.change_snapshot(id, |record| {
                let before = record.holds.len();
                record.holds.retain(|other| other != reason);
                if record.holds.len() < before { Ok(()) } else { Err(VfsError::NotFound) }
            })?;
            Ok(Some(()))
        })
    }
}
