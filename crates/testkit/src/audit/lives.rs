//! Whether what snapshots keep is exactly what they need: versions of records, and references of runs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use verfs_base::{ChunkId, Epoch};
use verfs_format::{
    ChangeList, ContentId, DeadList, DeadReference, LOST_CHUNK, RunData, SnapshotRecord, encode_versioned, keys,
    split_versioned, varint,
};

use super::tree::Tree;

/// A record and when it was born.
#[derive(Clone, Debug)]
struct Version {
    birth: Epoch,
    record: Bytes,
}

/// References of a chunk, and the bytes of their runs.
type References = BTreeMap<ChunkId, (u64, u64)>;

/// Every version of every record, and the lists about them.
#[derive(Debug, Default)]
pub(super) struct Lives {
    live: BTreeMap<Bytes, Version>,
    /// By key and death.
    history: BTreeMap<Bytes, BTreeMap<Epoch, Version>>,
    changes: BTreeMap<Epoch, BTreeSet<Bytes>>,
    /// By death and birth.
    dead: BTreeMap<(Epoch, Epoch), Vec<DeadReference>>,
    /// Bytes of old records that the lists count, by death and birth.
    record_bytes: BTreeMap<(Epoch, Epoch), u64>,
    snapshots: BTreeMap<Epoch, SnapshotRecord>,
    used: BTreeMap<Epoch, u64>,
}

fn version(value: &[u8]) -> Option<Version> {
    let (birth, record) = split_versioned(value).ok()?;
    Some(Version { birth, record: Bytes::copy_from_slice(record) })
}

impl Lives {
    /// Keyspaces of what snapshots keep.
    pub(super) const KEYSPACES: [u8; 5] =
        [keys::HISTORY, keys::CHANGES, keys::DEAD, keys::SNAPSHOT, keys::SNAPSHOT_USED];

    /// Takes a live record, and gives it back without its birth.
    pub(super) fn take_live(&mut self, key: &[u8], value: &[u8]) -> Option<Bytes> {
        let version = version(value)?;
        let record = version.record.clone();
        self.live.insert(Bytes::copy_from_slice(key), version);
        Some(record)
    }

    /// Takes a record of what snapshots keep; `None` for one that can't be decoded.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match *key.first()? {
            keys::HISTORY => {
                let (of, death) = keys::parse_history(key)?;
                let versions = self.history.entry(Bytes::copy_from_slice(of)).or_default();
                versions.insert(death, version(value)?);
            }
            keys::CHANGES => {
                let list = ChangeList::decode(value).ok()?;
                self.changes.entry(keys::parse_changes(key)?).or_default().extend(list.keys);
            }
            keys::DEAD => {
                let list = DeadList::decode(value).ok()?;
                let is_empty = list.references.is_empty() && list.record_bytes == 0;
                if is_empty || !list.references.is_sorted_by(|one, two| one.chunk < two.chunk) {
                    return None;
                }
                let life = keys::parse_dead(key)?;
                self.dead.entry(life).or_default().extend(list.references);
                *self.record_bytes.entry(life).or_default() += list.record_bytes;
            }
            keys::SNAPSHOT => {
                self.snapshots.insert(keys::parse_snapshot(key)?, SnapshotRecord::decode(value).ok()?);
            }
            keys::SNAPSHOT_USED => {
                let id = Epoch(u64::from_be_bytes(key.get(1..)?.try_into().ok()?));
                self.used.insert(id, varint::Reader::new(value).u64().ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    /// References of chunks that only snapshots have.
    pub(super) fn dead_references(&self) -> BTreeMap<ChunkId, u64> {
        let mut references = BTreeMap::new();
        for dead in self.dead.values().flatten() {
            *references.entry(dead.chunk).or_insert(0) += dead.references;
        }
        references
    }

    fn standing(&self) -> impl Iterator<Item = (&Epoch, &SnapshotRecord)> {
        self.snapshots.iter().filter(|(_, record)| record.pruning.is_none())
    }

    /// Snapshots that are being deleted.
    pub(super) fn deleting(&self) -> usize {
        self.snapshots.len() - self.standing().count()
    }

    /// What history takes, by death and birth.
    fn history_bytes(&self) -> BTreeMap<(Epoch, Epoch), u64> {
        let mut bytes = BTreeMap::new();
        for (key, versions) in &self.history {
            for (death, Version { birth, record }) in versions {
                let value = encode_versioned(*birth, |out| out.extend_from_slice(record));
                *bytes.entry((*death, *birth)).or_default() += (keys::history(key, *death).len() + value.len()) as u64;
            }
        }
        bytes
    }

    /// What each standing snapshot alone uses, from the dead lists and the history.
    pub(super) fn used(&self) -> BTreeMap<Epoch, u64> {
        let mut used: BTreeMap<Epoch, u64> = self.standing().map(|(id, _)| (*id, 0)).collect();
        let standing: BTreeSet<Epoch> = used.keys().copied().collect();
        for ((death, birth), references) in self.dead.iter().filter(|((death, birth), _)| birth < death) {
            let mut holders = standing.range(*birth..*death);
            if let (Some(only), None) = (holders.next(), holders.next())
                && let Some(used) = used.get_mut(only)
            {
                *used += references.iter().map(|dead| dead.bytes).sum::<u64>();
            }
        }
        for ((death, birth), bytes) in self.history_bytes().into_iter().filter(|((death, birth), _)| birth < death) {
            let mut holders = standing.range(birth..death);
            if let (Some(only), None) = (holders.next(), holders.next())
                && let Some(used) = used.get_mut(only)
            {
                *used += bytes;
            }
        }
        used
    }

    /// Whether some snapshot that isn't wholly gone has a version of this life.
    fn is_needed(&self, birth: Epoch, death: Epoch) -> bool {
        birth < death && self.snapshots.range(birth..death).next().is_some()
    }

    pub(super) fn check(&self, epoch: Epoch, live: &Tree, found: &mut Vec<String>) {
        self.check_snapshots(epoch, found);
        self.check_versions(epoch, live, found);
        self.check_lists(epoch, found);
        for (content, record) in &live.orphans {
            let birth = self.live.get(&keys::orphan(*content)[..]).map(|version| version.birth);
            if birth != Some(record.died) || record.died > epoch {
                found.push(format!("orphan {} died in {} and was recorded in {birth:?}", content.0, record.died.0));
            }
        }
        for (id, record) in self.standing() {
            self.check_past(*id, record, live, found);
        }
    }

    fn check_snapshots(&self, epoch: Epoch, found: &mut Vec<String>) {
        let mut names = BTreeSet::new();
        for (id, record) in self.standing() {
            if !names.insert(&record.name) {
                found.push(format!("two snapshots are called {}", record.name.escape_ascii()));
            }
            if *id >= epoch {
                found.push(format!("snapshot {} is of an epoch that has not ended", id.0));
            }
        }
        for (id, used) in self.used() {
            let told = self.used.get(&id).copied().unwrap_or(0);
            if used != told {
                found.push(format!("snapshot {} alone uses {used} bytes and says {told}", id.0));
            }
        }
        for id in self.used.keys().filter(|id| !self.snapshots.contains_key(id)) {
            found.push(format!("what snapshot {} uses is left of it", id.0));
        }
    }

    /// Lives of a key follow each other, and each is in the list of its first epoch and, ended, in that of its last.
    fn check_versions(&self, epoch: Epoch, live: &Tree, found: &mut Vec<String>) {
        let oldest = self.standing().next().map(|(id, _)| *id);
        let is_listed = |key: &Bytes, at: Epoch| self.changes.get(&at).is_some_and(|keys| keys.contains(key));
        let is_unlisted =
            |key: &Bytes, birth: Epoch| oldest.is_some_and(|oldest| oldest < birth) && !is_listed(key, birth);
        // What befalls an open file without names is listed at its death, if at all: nobody can see it later.
        let mut unlisted = Vec::new();
        for (key, version) in self.live.iter().filter(|(key, version)| is_unlisted(key, version.birth)) {
            if live.shows(key) {
                unlisted.push((key, version.birth));
            }
        }
        for (key, versions) in &self.history {
            for (death, version) in versions.iter().filter(|(_, version)| is_unlisted(key, version.birth)) {
                let mut holders = self.snapshots.range(version.birth..*death.max(&version.birth));
                if holders.any(|(id, _)| self.tree_at(*id).shows(key)) {
                    unlisted.push((key, version.birth));
                }
            }
        }
        for (key, birth) in unlisted {
            found.push(format!("{} was born in {} and is not in its list", key.escape_ascii(), birth.0));
        }
        for (key, version) in self.live.iter().filter(|(_, version)| version.birth > epoch) {
            found.push(format!("{} was born in {}, an epoch to come", key.escape_ascii(), version.birth.0));
        }
        for (key, versions) in &self.history {
            let shown = key.escape_ascii();
            let mut free_from = Epoch(0);
            for (death, Version { birth, .. }) in versions {
                if *birth < free_from || *death > epoch {
                    found.push(format!("history of {shown}: {} to {} overlaps or is to come", birth.0, death.0));
                }
                if !self.is_needed(*birth, *death) {
                    found.push(format!("history of {shown}: no snapshot has {} to {}", birth.0, death.0));
                }
                if !is_listed(key, *death) {
                    found.push(format!("history of {shown}: not in the list of {}", death.0));
                }
                free_from = *death;
            }
            if self.live.get(key).is_some_and(|version| version.birth < free_from) {
                found.push(format!("{shown} is live from before its history's end at {}", free_from.0));
            }
        }
    }

    fn check_lists(&self, epoch: Epoch, found: &mut Vec<String>) {
        let oldest = self.snapshots.keys().next();
        for death in self.changes.keys() {
            if oldest.is_none_or(|oldest| oldest >= death) || *death > epoch {
                found.push(format!("a change list of epoch {} is left, and no snapshot before it", death.0));
            }
        }
        for (death, birth) in self.dead.keys() {
            if !self.is_needed(*birth, *death) || *death > epoch {
                found.push(format!("no snapshot has the dead list of {} to {}", birth.0, death.0));
            }
        }
        let standing: BTreeSet<Epoch> = self.standing().map(|(id, _)| *id).collect();
        for ((death, birth), bytes) in self.history_bytes() {
            let told = self.record_bytes.get(&(death, birth)).copied().unwrap_or(0);
            if birth < death && standing.range(birth..death).next().is_some() && told != bytes {
                found.push(format!("old records of {} to {} have {bytes} bytes, lists say {told}", birth.0, death.0));
            }
        }
        for dead in self.dead.values().flatten().filter(|dead| dead.references == 0 || dead.chunk == LOST_CHUNK) {
            found.push(format!("a dead list has {} references of {}", dead.references, dead.chunk));
        }
    }

    /// The records that a snapshot has.
    fn tree_at(&self, id: Epoch) -> Tree {
        let mut tree = Tree::default();
        let keys: BTreeSet<&Bytes> = self.live.keys().chain(self.history.keys()).collect();
        for key in keys {
            let early = self.live.get(key).filter(|version| version.birth <= id);
            let versions = self.history.get(key).into_iter().flat_map(|versions| versions.range(Epoch(id.0 + 1)..));
            let version = early.or_else(|| versions.map(|(_, version)| version).next().filter(|old| old.birth <= id));
            // What can't be decoded is missing from it.
            let _decoded = version.and_then(|version| tree.take(key, &version.record));
        }
        tree
    }

    /// The tree of a snapshot is whole, its counters are right, and its runs are those that are live still and those of
    /// dead lists.
    fn check_past(&self, id: Epoch, record: &SnapshotRecord, live: &Tree, found: &mut Vec<String>) {
        let tree = self.tree_at(id);
        let mut expected = References::new();
        let mut count = |chunk: ChunkId, references: u64, bytes: u64| {
            let counts = expected.entry(chunk).or_default();
            counts.0 += references;
            counts.1 += bytes;
        };
        // What lost its last name before is not in it, whether it was released already or not.
        let was_named = |content: &ContentId| live.orphans.get(content).is_none_or(|orphan| orphan.died > id);
        for run in live.runs(&was_named) {
            if let RunData::Chunk { id: chunk, birth, .. } = run.data
                && birth <= id
                && chunk != LOST_CHUNK
            {
                count(chunk, 1, u64::from(run.len));
            }
        }
        for ((death, birth), references) in &self.dead {
            if *birth <= id && id < *death {
                references.iter().for_each(|dead| count(dead.chunk, dead.references, dead.bytes));
            }
        }
        let mut runs = References::new();
        for run in tree.runs(&was_named) {
            if let RunData::Chunk { id: chunk, .. } = run.data
                && chunk != LOST_CHUNK
            {
                let counts = runs.entry(chunk).or_default();
                counts.0 += 1;
                counts.1 += u64::from(run.len);
            }
        }
        if runs != expected {
            found.push(format!("snapshot {} has the runs {runs:?} and keeps {expected:?}", id.0));
        }
        let tree = tree.named();
        let mut inside = Vec::new();
        tree.check(&mut inside);
        found.extend(inside.into_iter().map(|what| format!("snapshot {}: {what}", id.0)));
        if record.counters != tree.counters() {
            found.push(format!("snapshot {} says {:?}, it has {:?}", id.0, record.counters, tree.counters()));
        }
    }
}
