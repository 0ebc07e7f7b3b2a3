//! A stream's part of a vault becomes the vault of this volume, or leads on the one that is there: record by record as they
//! are stored, without a key. What the vault of the sender has, that of the receiver has after it, epochs included.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{ChunkId, Epoch, GroupId};
use verfs_format::vault::VaultRecord;
use verfs_format::{
    DeadList, DeadReference, InodeRecord, LOST_CHUNK, Run, RunData, SealedRecord, SnapshotRecord, StreamBegin,
    StreamFrame, StreamVault, TreeCounters, keys, split_versioned,
};
use verfs_meta::{Direction, KeyRange, WriteBatch};
use verfs_store::{ChunkBatch, StoredBlock};

use super::locked::LockedVault;
use super::send::{RECORD_KINDS, keyring_error, mismatch, runs_of};
use super::walk::birth_of;
use super::{keys::named, values};
use crate::commit::put_system;
use crate::history::ChangedKeys;
use crate::load::{meta_error, store_error};
use crate::snapshot_pair::vault_note;
use crate::stream::{SpoolReader, StreamError, TargetChanges};
use crate::versions::{DEAD_MAX, Holders, SnapshotIds, put_used};

/// Records of one step.
const STEP_RECORDS: usize = 4096;
/// Bytes of chunks of one step.
const STEP_BYTES: usize = 32 << 20;
/// Memory of the keys that changed.
const WINDOW_BYTES: usize = 16 << 20;

fn damaged<T>(detail: &str) -> Result<T, StreamError> {
    Err(StreamError::Damaged { detail: detail.to_owned(), resume: None })
}

/// Whether a key may come in a stream.
fn is_known(key: &[u8]) -> bool {
    match key.first() {
        Some(&keys::DIRENT) => named(key).is_some_and(|named| named.is_stored()),
        Some(&keys::SEGMENT) => keys::parse_segment_of(key).is_some(),
        Some(&keys::CHANGES) => keys::parse_changes(key).is_some(),
        Some(kind) => RECORD_KINDS.contains(kind) && key.len() == keys::inode(verfs_base::Ino::ROOT).len(),
        None => false,
    }
}

/// What dies in one step, by death and birth.
#[derive(Default)]
struct Dead {
    references: BTreeMap<ChunkId, DeadReference>,
    record_bytes: u64,
}

struct Step<'a> {
    vault: &'a LockedVault,
    part: &'a StreamVault,
    held: &'a SnapshotIds,
    batch: WriteBatch,
    chunks: ChunkBatch,
    /// Chunks whose first reference waits for its run.
    fresh: HashSet<ChunkId>,
    dead: BTreeMap<(Epoch, Epoch), Dead>,
}

impl Step<'_> {
    fn take(&mut self, frame: StreamFrame) -> Result<(), StreamError> {
        match frame {
            StreamFrame::Block(id, raw_len, encoding, stored) => {
                let block = StoredBlock { raw_len, encoding, stored };
                self.chunks.put_stored(id, block).map_err(|error| store_error(None, &error))?;
                if !self.fresh.insert(id) {
                    self.chunks.drop_reference(id, 1);
                }
                Ok(())
            }
            StreamFrame::Sealed(record) => self.set(record),
            StreamFrame::Begin(_)
            | StreamFrame::Inode(..)
            | StreamFrame::Dirent(..)
            | StreamFrame::Symlink(..)
            | StreamFrame::Xattrs(..)
            | StreamFrame::Chunk(..)
            | StreamFrame::Segment(..)
            | StreamFrame::End(_) => Ok(()),
        }
    }

    fn set(&mut self, SealedRecord { key, died, value }: SealedRecord) -> Result<(), StreamError> {
        if !is_known(&key) {
            return damaged("a record of the vault has a key that can't be");
        }
        let live = self.vault.stored.get(&key).map_err(|error| meta_error(&error))?;
        if live == value {
            return Ok(());
        }
        let (base, last) = (self.part.base.unwrap_or(Epoch(0)), self.part.snapshot);
        let died = died.unwrap_or(last);
        if died <= base || died > last {
            return damaged("a record of the vault died when it can't have");
        }
        if key.first() != Some(&keys::CHANGES) {
            if let Some(value) = &value
                && birth_of(&key, value).map_err(|error| meta_error(&error))? > last
            {
                return damaged("a record of the vault is younger than the snapshot");
            }
            if keys::parse_segment_of(&key).is_some() {
                self.exchange_runs(&key, (live.as_deref(), value.as_deref()), died)?;
            }
            if let Some(live) = &live {
                let birth = birth_of(&key, live).map_err(|error| meta_error(&error))?;
                if self.held.holders(birth, died) != Holders::None {
                    let history = keys::history(&key, died);
                    self.dead.entry((died, birth)).or_default().record_bytes += (history.len() + live.len()) as u64;
                    self.batch.put(history, live.clone());
                }
            }
        }
        match value {
            Some(value) => self.batch.put(key, value),
            None => self.batch.delete(key),
        }
        Ok(())
    }

    /// Gives references to the runs that are new, and those of the others to who still has them.
    fn exchange_runs(
        &mut self,
        key: &[u8],
        (live, value): (Option<&[u8]>, Option<&[u8]>),
        died: Epoch,
    ) -> Result<(), StreamError> {
        let placed = |value: Option<&[u8]>| -> Result<BTreeMap<u64, Run>, StreamError> {
            let mut at = 0;
            let runs = value.map(|value| runs_of(key, value)).transpose()?.unwrap_or_default().runs;
            let placed = runs.into_iter().map(|run| {
                let start = at;
                at += u64::from(run.len);
                (start, run)
            });
            Ok(placed.collect())
        };
        let (before, after) = (placed(live)?, placed(value)?);
        for (at, run) in &after {
            if let RunData::Chunk { id, .. } = run.data
                && before.get(at) != Some(run)
                && id != LOST_CHUNK
                && !self.fresh.remove(&id)
            {
                self.chunks.add_reference(id, 1);
            }
        }
        for (at, run) in &before {
            if let RunData::Chunk { id, birth, .. } = run.data
                && after.get(at) != Some(run)
                && id != LOST_CHUNK
            {
                if self.held.holders(birth, died) == Holders::None {
                    self.chunks.drop_reference(id, 1);
                    continue;
                }
                let list = &mut self.dead.entry((died, birth)).or_default().references;
                let dead = list.entry(id).or_insert(DeadReference { chunk: id, references: 0, bytes: 0 });
                dead.references += 1;
                dead.bytes += u64::from(run.len);
            }
        }
        Ok(())
    }

    /// Makes the step durable, as group `group`.
    fn commit(mut self, group: u64) -> Result<(), StreamError> {
        // What the volume had already, or a step before a crash used.
        for id in std::mem::take(&mut self.fresh) {
            self.chunks.drop_reference(id, 1);
        }
        let mut grown: BTreeMap<Epoch, u64> = BTreeMap::new();
        let mut part = 0;
        for ((death, birth), dead) in std::mem::take(&mut self.dead) {
            let references: Vec<DeadReference> = dead.references.into_values().collect();
            match self.held.holders(birth, death) {
                Holders::One(id) => {
                    let bytes = references.iter().map(|dead| dead.bytes).sum::<u64>() + dead.record_bytes;
                    *grown.entry(id).or_default() += bytes;
                }
                Holders::None | Holders::Several => {}
            }
            let mut record_bytes = dead.record_bytes;
            let mut rest = &references[..];
            while !rest.is_empty() || record_bytes > 0 {
                let (some, behind) = rest.split_at(rest.len().min(DEAD_MAX));
                let list = DeadList::encode(some, std::mem::take(&mut record_bytes));
                self.batch.put(keys::dead(death, birth, GroupId(group), part), list);
                part += 1;
                rest = behind;
            }
        }
        put_used(&self.vault.clear, &mut self.batch, &grown).map_err(|error| meta_error(&error))?;
        put_system(&mut self.batch, keys::SYSTEM_GROUP, group);
        self.chunks.finish(&mut self.batch).map_err(|error| store_error(None, &error))?;
        self.vault.commit_stored(self.batch)?;
        self.chunks.committed();
        Ok(())
    }
}

/// What a stored record says, but for when it was read.
fn says_the_same(key: &[u8], one: &[u8], other: &[u8]) -> bool {
    let record = |value: &[u8]| {
        let clear = values::clear(key, value).ok()?;
        let (_, record) = split_versioned(&clear).ok()?;
        Some(InodeRecord { atime: Default::default(), ..InodeRecord::decode(record).ok()? })
    };
    one == other || (keys::parse_inode(key).is_some() && record(one).is_some_and(|one| Some(one) == record(other)))
}

impl LockedVault {
    fn commit_stored(&self, batch: WriteBatch) -> Result<(), StreamError> {
        Ok(self.stored.commit(batch).and_then(|()| self.stored.sync()).map_err(|error| meta_error(&error))?)
    }

    /// Whether a stream fits the vault that is here, or none if none is.
    ///
    /// # Errors
    /// [`StreamError::Mismatch`] if not.
    pub(crate) fn check(&self, begin: &StreamBegin, changes: TargetChanges) -> Result<(), StreamError> {
        let Some(part) = &begin.vault else { return Ok(()) };
        let record = VaultRecord::decode(&part.keys);
        record.map_err(|error| StreamError::Damaged { detail: format!("the vault's keys: {error}"), resume: None })?;
        let own = self.keyring.stored().map_err(keyring_error)?;
        let (own, base, of_base) = match (own, part.base, begin.base) {
            (None, None, _) => return Ok(()),
            (Some(own), Some(base), Some(of_base)) => (own, base, of_base),
            (Some(_), _, _) => return mismatch("the stream brings a whole vault, and the volume has one"),
            (None, Some(_), _) => return mismatch("the stream has what changed in a vault, and the volume has none"),
        };
        if self.keyring.id().map_err(keyring_error)? != part.id {
            return mismatch("the vault of the volume is another one than the stream's");
        }
        let received = self.keyring.received().map_err(keyring_error)?;
        if received.unwrap_or_else(|| part.keys.clone()) != own {
            return mismatch("the vault of the volume was given another password or other keys than the sender's has");
        }
        if !self.is_at_rest()? {
            return mismatch("what a crash left of the vault has to be settled: unlock it once");
        }
        let table = self.table()?;
        if table.record(base).is_none_or(|record| record.note != vault_note(&of_base)) || !table.stands(base) {
            return mismatch("the vault of the volume doesn't have the snapshot from which the stream leads on");
        }
        if table.records().any(|(id, _)| id > base) {
            return mismatch(
                "the volume has snapshots of its own since the stream's base, which the vault can't keep: delete them",
            );
        }
        match changes == TargetChanges::Refuse && self.has_changed_since(base)? {
            true => mismatch("the vault changed since the stream's base"),
            false => Ok(()),
        }
    }

    /// Whether anything changed behind a snapshot, but for times of access.
    fn has_changed_since(&self, base: Epoch) -> Result<bool, StreamError> {
        let mut changed = ChangedKeys::new(&self.clear, (base, Epoch(u64::MAX)), WINDOW_BYTES);
        while let Some(key) = changed.next().map_err(|error| meta_error(&error))? {
            let live = self.stored.get(&key).map_err(|error| meta_error(&error))?;
            let then = self.version_at(&key, base).map_err(|error| meta_error(&error))?;
            let same = match (&live, &then) {
                (None, None) => true,
                (Some(live), Some(then)) => says_the_same(&key, live, &then.value),
                (None, Some(_)) | (Some(_), None) => false,
            };
            if !same {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Undoes what happened behind the newest snapshot: each record is again the very one that it has. To be completed by
    /// whoever opens the volume next if it is interrupted; nobody may open the vault before.
    fn undo(&self, base: Epoch) -> Result<(), StreamError> {
        let behind = |first: Vec<u8>, end: u8| KeyRange::between(first, vec![end + 1]);
        let lists = behind(keys::changes_from(Epoch(base.0 + 1)), keys::CHANGES);
        let deads = behind(keys::dead_from(Epoch(base.0 + 1), Epoch(0)), keys::DEAD);
        let mut changed = ChangedKeys::new(&self.clear, (base, Epoch(u64::MAX)), WINDOW_BYTES);
        loop {
            let some = changed.take(STEP_RECORDS).map_err(|error| meta_error(&error))?;
            if some.is_empty() {
                break;
            }
            self.undo_step(&some, base)?;
        }
        // Their references are those of live runs again.
        let mut batch = WriteBatch::new();
        for range in [lists, deads] {
            let read = self.stored.scan(&range, Direction::Forward, &mut |key, _| {
                batch.delete(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            });
            read.map_err(|error| meta_error(&error))?;
        }
        batch.delete(keys::snapshot_used(base));
        self.commit_stored(batch)
    }

    fn undo_step(&self, changed: &[Bytes], base: Epoch) -> Result<(), StreamError> {
        let store = self.chunk_store()?;
        let (mut batch, mut chunks) = (WriteBatch::new(), store.begin());
        for key in changed {
            let live = self.stored.get(key).map_err(|error| meta_error(&error))?;
            if let Some(live) = &live
                && keys::parse_segment_of(key).is_some()
            {
                for run in runs_of(key, live)?.runs {
                    match run.data {
                        RunData::Chunk { id, birth, .. } if birth > base && id != LOST_CHUNK => {
                            chunks.drop_reference(id, 1);
                        }
                        RunData::Chunk { .. } | RunData::Hole | RunData::Inline(_) => {}
                    }
                }
            }
            match self.version_at(key, base).map_err(|error| meta_error(&error))? {
                Some(then) => {
                    if let Some(death) = then.death {
                        batch.put(key.clone(), then.value);
                        batch.delete(keys::history(key, death));
                    }
                }
                None => batch.delete(key.clone()),
            }
        }
        chunks.finish(&mut batch).map_err(|error| store_error(None, &error))?;
        self.commit_stored(batch)?;
        chunks.committed();
        Ok(())
    }

    /// Applies a stream's part, all of which is in its spool, or goes on where that was interrupted.
    ///
    /// # Errors
    /// [`StreamError`]: some of it may be done.
    pub(crate) fn apply(&self, begin: &StreamBegin, mut spool: SpoolReader) -> Result<(), StreamError> {
        let Some(part) = &begin.vault else { return Ok(()) };
        let _turn = self.turn.lock();
        let table = self.table()?;
        let note = vault_note(&begin.uuid);
        if table.records().any(|(_, record)| record.note == note) {
            return Ok(());
        }
        if let Some(base) = part.base {
            self.undo(base)?;
        }
        let held = table.standing();
        let mut group = self.number(keys::SYSTEM_GROUP)?.unwrap_or(0);
        let (mut is_over, mut highest_number) = (false, 0);
        while !is_over {
            let (frames, end) = read_step(&mut spool)?;
            is_over = end;
            highest_number = frames.iter().map(number_of).fold(highest_number, u64::max);
            if !frames.is_empty() {
                group += 1;
                self.step(part, &held, frames, group)?;
            }
        }
        self.keyring.adopt(part.id, &part.keys).map_err(keyring_error)?;
        let record = SnapshotRecord {
            uuid: begin.uuid,
            name: begin.name.clone(),
            note: note.into(),
            created: begin.created,
            counters: part.counters,
            holds: Vec::new(),
            pruning: None,
        };
        let mut batch = WriteBatch::new();
        batch.put(keys::snapshot(part.snapshot), record.encode());
        let mut counters = Vec::new();
        let inodes = part.counters.inodes + self.nameless()?;
        TreeCounters { inodes, ..part.counters }.encode(&mut counters);
        batch.put(Bytes::from_static(keys::SYSTEM_COUNTERS), counters);
        let next_number = self.number(keys::SYSTEM_NEXT_NUMBER)?.unwrap_or(0).max(highest_number + 1);
        put_system(&mut batch, keys::SYSTEM_NEXT_NUMBER, next_number);
        put_system(&mut batch, keys::SYSTEM_EPOCH, part.snapshot.0 + 1);
        put_system(&mut batch, keys::SYSTEM_GROUP, group + 1);
        self.commit_stored(batch)
    }

    fn step(
        &self,
        part: &StreamVault,
        held: &Arc<SnapshotIds>,
        frames: Vec<StreamFrame>,
        group: u64,
    ) -> Result<(), StreamError> {
        let mut step = Step {
            vault: self,
            part,
            held,
            batch: WriteBatch::new(),
            chunks: self.chunk_store()?.begin(),
            fresh: HashSet::new(),
            dead: BTreeMap::new(),
        };
        for frame in frames {
            step.take(frame)?;
        }
        step.commit(group)
    }
}

/// The greatest number that the record of an inode has: its own, or that of its content.
fn number_of(frame: &StreamFrame) -> u64 {
    let StreamFrame::Sealed(SealedRecord { key, value: Some(value), .. }) = frame else { return 0 };
    let Some(ino) = keys::parse_inode(key) else { return 0 };
    let clear = values::clear(key, value).unwrap_or_default();
    let record = split_versioned(&clear).and_then(|(_, record)| InodeRecord::decode(record));
    ino.0.max(record.map_or(0, |record| record.content.0))
}

/// The next frames of the vault, and whether they are the last ones.
fn read_step(spool: &mut SpoolReader) -> Result<(Vec<StreamFrame>, bool), StreamError> {
    let (mut frames, mut bytes) = (Vec::new(), 0);
    loop {
        let frame = spool.next()?;
        // Chunks belong to the segment behind them.
        let is_whole = match &frame {
            StreamFrame::End(_) => return Ok((frames, true)),
            StreamFrame::Block(_, _, _, stored) => {
                bytes += stored.len();
                false
            }
            StreamFrame::Sealed(record) => {
                bytes += record.value.as_ref().map_or(0, Bytes::len);
                true
            }
            StreamFrame::Begin(_)
            | StreamFrame::Inode(..)
            | StreamFrame::Dirent(..)
            | StreamFrame::Symlink(..)
            | StreamFrame::Xattrs(..)
            | StreamFrame::Chunk(..)
            | StreamFrame::Segment(..) => continue,
        };
        frames.push(frame);
        if is_whole && (frames.len() >= STEP_RECORDS || bytes >= STEP_BYTES) {
            return Ok((frames, false));
        }
    }
}
