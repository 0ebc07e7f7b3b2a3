//! Records of the tree as a group writes them: what a snapshot still needs of an older version is kept.
//!
//! A version lives from its birth to its death, both epochs; a snapshot of epoch `s` has it if `birth <= s < death`.
//! Versions that a snapshot has go to a history key when they are replaced, and the references of their chunks to a
//! dead list. Versions that none has vanish, and give their references back at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use verfs_base::{ChunkId, Epoch, GroupId};
use verfs_format::{ChangeList, DeadList, DeadReference, LOST_CHUNK, encode_versioned, keys, split_versioned, varint};
use verfs_meta::{MetaError, MetaStore, WriteBatch};
use verfs_store::ChunkBatch;

/// Old versions that are looked up at once.
const LOOKUP_KEYS: usize = 1024;
/// Keys of a change list in one record.
const CHANGES_MAX: usize = 4096;
/// References of a dead list in one record.
pub(crate) const DEAD_MAX: usize = 4096;

/// The snapshots that stand.
#[derive(Clone, Default, Debug)]
pub(crate) struct SnapshotIds(BTreeSet<Epoch>);

/// Which snapshots have a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holders {
    None,
    One(Epoch),
    Several,
}

impl SnapshotIds {
    pub(crate) fn insert(&mut self, id: Epoch) {
        self.0.insert(id);
    }

    pub(crate) fn remove(&mut self, id: Epoch) {
        self.0.remove(&id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that have a version of this life.
    pub(crate) fn holders(&self, birth: Epoch, death: Epoch) -> Holders {
        if death <= birth {
            return Holders::None;
        }
        let mut holders = self.0.range(birth..death);
        match (holders.next(), holders.next()) {
            (None, _) => Holders::None,
            (Some(id), None) => Holders::One(*id),
            (Some(_), Some(_)) => Holders::Several,
        }
    }

    /// The greatest id below `id`; epoch 0 if there is none.
    pub(crate) fn before(&self, id: Epoch) -> Epoch {
        self.0.range(..id).next_back().copied().unwrap_or(Epoch(0))
    }

    /// The smallest id above `id`.
    pub(crate) fn after(&self, id: Epoch) -> Option<Epoch> {
        self.0.range(Epoch(id.0 + 1)..).next().copied()
    }
}

/// What a key has after the group.
#[derive(Debug)]
pub(crate) enum Next {
    /// This value, birth included.
    Value(Vec<u8>),
    /// This value, of an inode that lost its last name in this epoch and is open still. What it had before died then, too:
    /// a snapshot made since has nothing of it.
    Nameless(Vec<u8>, Epoch),
    /// This value, of what a rollback gives its name back. What it had before died in this earlier epoch.
    Again(Vec<u8>, Epoch),
    /// Nothing. Whatever it had died in this epoch, which may be an earlier one than the group's.
    Gone(Epoch),
}

/// What died of one life.
#[derive(Default)]
struct Dead {
    references: FxHashMap<ChunkId, DeadReference>,
    /// Bytes of history entries.
    record_bytes: u64,
}

impl Dead {
    fn bytes(&self) -> u64 {
        self.record_bytes + self.references.values().map(|dead| dead.bytes).sum::<u64>()
    }
}

/// The changes of one group, or of one step of a longer change, on their way into a batch.
pub(crate) struct Versions<'a> {
    meta: &'a dyn MetaStore,
    pub(crate) batch: &'a mut WriteBatch,
    pub(crate) epoch: Epoch,
    group: GroupId,
    held: Arc<SnapshotIds>,
    waiting: Vec<(Bytes, Next)>,
    changes: BTreeMap<Epoch, Vec<Bytes>>,
    dead: BTreeMap<(Epoch, Epoch), Dead>,
    /// First part of each list that the group has not written yet.
    part: u32,
}

impl<'a> Versions<'a> {
    pub(crate) fn new(
        meta: &'a dyn MetaStore,
        batch: &'a mut WriteBatch,
        (epoch, group): (Epoch, GroupId),
        held: Arc<SnapshotIds>,
    ) -> Self {
        Versions {
            meta,
            batch,
            epoch,
            group,
            held,
            waiting: Vec::new(),
            changes: BTreeMap::new(),
            dead: BTreeMap::new(),
            part: 0,
        }
    }

    /// Whether any snapshot stands: without one, old versions need not be known.
    pub(crate) fn keeps_versions(&self) -> bool {
        !self.held.is_empty()
    }

    /// The value of a record that is born now.
    pub(crate) fn born(&self, record: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        encode_versioned(self.epoch, record)
    }

    /// Sets a key to a record that is born now.
    pub(crate) fn put(&mut self, key: impl Into<Bytes>, record: impl FnOnce(&mut Vec<u8>)) {
        let next = self.next(None, record);
        self.change(key.into(), next);
    }

    /// Sets a key to a record that is born now, of an inode that lost its last name in epoch `died`, if it has none.
    pub(crate) fn put_of(&mut self, key: impl Into<Bytes>, died: Option<Epoch>, record: impl FnOnce(&mut Vec<u8>)) {
        let next = self.next(died, record);
        self.change(key.into(), next);
    }

    /// A record that is born now, of an inode that lost its last name in epoch `died`, if it has none.
    pub(crate) fn next(&self, died: Option<Epoch>, record: impl FnOnce(&mut Vec<u8>)) -> Next {
        let value = self.born(record);
        match died {
            None => Next::Value(value),
            Some(died) => Next::Nameless(value, died),
        }
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, key: impl Into<Bytes>, died: Epoch) {
        self.change(key.into(), Next::Gone(died));
    }

    fn change(&mut self, key: Bytes, next: Next) {
        if self.keeps_versions() {
            self.waiting.push((key, next));
        } else {
            write(self.batch, key, next);
        }
    }

    /// Replaces what a key is known to have.
    pub(crate) fn replace(&mut self, key: Bytes, old: Option<&[u8]>, next: Next) {
        let death = match next {
            Next::Value(_) => self.epoch,
            Next::Nameless(_, died) | Next::Again(_, died) | Next::Gone(died) => died,
        };
        if self.keeps_versions() {
            let birth = old.map(|old| birth_of(&key, old, self.epoch));
            if let Some((birth, old)) = birth.zip(old)
                && self.held.holders(birth, death) != Holders::None
            {
                let history = keys::history(&key, death);
                self.dead.entry((death, birth)).or_default().record_bytes += (history.len() + old.len()) as u64;
                self.batch.put(history, Bytes::copy_from_slice(old));
            }
            // What was born in this epoch is in its list already, and nobody asks what changed before the first snapshot.
            if birth.is_none_or(|birth| birth < death) && self.held.before(death) > Epoch(0) {
                self.changes.entry(death).or_default().push(key.clone());
            }
            // It died in the one epoch, and is born in the other.
            if matches!(next, Next::Again(..)) && self.held.before(self.epoch) > Epoch(0) {
                self.changes.entry(self.epoch).or_default().push(key.clone());
            }
        }
        write(self.batch, key, next);
    }

    /// Gives up the reference of a run that was born in `birth` and dies in `death`.
    pub(crate) fn give_up(
        &mut self,
        chunks: &mut ChunkBatch,
        (chunk, run_bytes): (ChunkId, u32),
        (birth, death): (Epoch, Epoch),
    ) {
        if chunk == LOST_CHUNK {
            return;
        }
        if self.held.holders(birth, death) == Holders::None {
            chunks.drop_reference(chunk, 1);
            return;
        }
        let list = &mut self.dead.entry((death, birth)).or_default().references;
        let dead = list.entry(chunk).or_insert(DeadReference { chunk, references: 0, bytes: 0 });
        dead.references += 1;
        dead.bytes += u64::from(run_bytes);
    }

    /// Whether a snapshot has a run that was born in `birth` and would die in `death`.
    pub(crate) fn is_held(&self, birth: Epoch, death: Epoch) -> bool {
        self.held.holders(birth, death) != Holders::None
    }

    /// Writes what waits for a look at the old versions, and the lists. Returns by how much what single snapshots use
    /// has grown.
    pub(crate) fn finish(&mut self) -> Result<BTreeMap<Epoch, u64>, MetaError> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut waiting = waiting.into_iter().peekable();
        while waiting.peek().is_some() {
            let some: Vec<(Bytes, Next)> = waiting.by_ref().take(LOOKUP_KEYS).collect();
            let wanted: Vec<Bytes> = some.iter().map(|(key, _)| key.clone()).collect();
            let values = self.meta.multi_get(&wanted)?;
            for ((key, next), old) in some.into_iter().zip(values) {
                self.replace(key, old.as_deref(), next);
            }
        }
        for (death, keys) in std::mem::take(&mut self.changes) {
            for keys in keys.chunks(CHANGES_MAX) {
                self.batch.put(keys::changes(death, self.group, self.part), ChangeList::encode(keys));
                self.part += 1;
            }
        }
        let mut used: BTreeMap<Epoch, u64> = BTreeMap::new();
        for ((death, birth), dead) in std::mem::take(&mut self.dead) {
            match self.held.holders(birth, death) {
                Holders::One(id) => *used.entry(id).or_default() += dead.bytes(),
                Holders::None | Holders::Several => {}
            }
            let mut record_bytes = dead.record_bytes;
            let mut references: Vec<DeadReference> = dead.references.into_values().collect();
            references.sort_unstable_by_key(|dead| dead.chunk);
            let mut rest = &references[..];
            while !rest.is_empty() || record_bytes > 0 {
                let some = rest.len().min(DEAD_MAX);
                let list = DeadList::encode(&rest[..some], std::mem::take(&mut record_bytes));
                rest = &rest[some..];
                self.batch.put(keys::dead(death, birth, self.group, self.part), list);
                self.part += 1;
            }
        }
        Ok(used)
    }
}

fn write(batch: &mut WriteBatch, key: Bytes, next: Next) {
    match next {
        Next::Value(value) | Next::Nameless(value, _) | Next::Again(value, _) => batch.put(key, value),
        Next::Gone(_) => batch.delete(key),
    }
}

/// When a value was born, which was committed in `epoch` or before. Nobody knows that of a damaged one: it is taken to be
/// as old as the volume, so that every snapshot that may have it keeps what is left of it, and says that it is damaged.
pub(crate) fn birth_of(key: &[u8], value: &[u8], epoch: Epoch) -> Epoch {
    match split_versioned(value) {
        Ok((birth, _)) if birth <= epoch => birth,
        Ok(_) | Err(_) => {
            tracing::error!(key = %key.escape_ascii(), "metadata record is damaged: when it was written is not known");
            Epoch::FIRST
        }
    }
}

/// Writes what single snapshots use, after it has changed.
pub(crate) fn put_used(
    meta: &dyn MetaStore,
    batch: &mut WriteBatch,
    grown: &BTreeMap<Epoch, u64>,
) -> Result<BTreeMap<Epoch, u64>, MetaError> {
    let mut now = BTreeMap::new();
    for (&id, bytes) in grown.iter().filter(|(_, bytes)| **bytes > 0) {
        let used = read_used(meta, id)? + bytes;
        let mut value = Vec::new();
        varint::put_u64(&mut value, used);
        batch.put(keys::snapshot_used(id), value);
        now.insert(id, used);
    }
    Ok(now)
}

/// Bytes that a snapshot alone uses.
pub(crate) fn read_used(meta: &dyn MetaStore, id: Epoch) -> Result<u64, MetaError> {
    let Some(value) = meta.get(&keys::snapshot_used(id))? else { return Ok(0) };
    Ok(varint::Reader::new(&value).u64().unwrap_or_else(|error| {
        tracing::error!(snapshot = id.0, %error, "what a snapshot uses is damaged; it counts from nothing again");
        0
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_held_by_the_snapshots_of_its_life() {
        let mut ids = SnapshotIds::default();
        [2, 5, 6].into_iter().for_each(|id| ids.insert(Epoch(id)));
        let holders = |birth, death| ids.holders(Epoch(birth), Epoch(death));
        assert_eq!(holders(3, 5), Holders::None, "it died in the epoch that snapshot 5 ended, so before it");
        assert_eq!(holders(3, 6), Holders::One(Epoch(5)));
        assert_eq!(holders(5, 7), Holders::Several);
        assert_eq!(holders(2, 3), Holders::One(Epoch(2)), "it was born in the epoch that snapshot 2 ended");
        assert_eq!(holders(7, 7), Holders::None);
        assert_eq!(holders(7, 3), Holders::None);
        assert_eq!((ids.before(Epoch(2)), ids.before(Epoch(5))), (Epoch(0), Epoch(2)));
        assert_eq!((ids.after(Epoch(5)), ids.after(Epoch(6))), (Some(Epoch(6)), None));
    }
}
