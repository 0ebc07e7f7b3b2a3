//! The reference model: a store in memory that says what the others must answer, forgets what was not synced when
//! asked to lose power, and fails when told to.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use parking_lot::{RwLock, RwLockWriteGuard};

use crate::{Change, Direction, Health, KeyRange, MetaError, MetaStore, MetaView, Result, Visit, WriteBatch, limits};

/// A scan reads this many pairs at a time, so that it holds the lock neither for long nor while the caller looks.
const SCAN_PAIRS: usize = 128;

/// Number of a commit: the first one is 1.
type Commit = u64;

/// What a commit left at a key.
#[derive(Clone, Debug)]
struct Version {
    commit: Commit,
    value: Option<Bytes>,
}

/// Where a [`Fault`] strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultAt {
    /// [`MetaStore::commit`] of a batch that isn't empty.
    Commit,
    /// [`MetaStore::sync`], also the one in [`MetaStore::close`].
    Sync,
}

/// One failure to come. [`MetaError::Io`] stops the store, as it stops the engines; after any other error it goes on.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The kind of call that fails.
    pub at: FaultAt,
    /// Number of calls of that kind, counted from now, that succeed before it.
    pub after: usize,
    /// What the failing call answers.
    pub error: MetaError,
}

#[derive(Debug, Default)]
struct State {
    /// Versions of each key, oldest first; all that a view or a crash may still ask for.
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Keys with versions that go once no view and no crash can ask for them.
    superseded: Vec<Bytes>,
    /// Views that are open, by the commit that they read.
    views: BTreeMap<Commit, usize>,
    last: Commit,
    synced: Commit,
    bytes: u64,
    faults: Vec<Fault>,
    stopped: Option<String>,
    closed: bool,
}

/// A metadata store in memory. Views cost nothing but the old versions that they keep.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: RwLock<State>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits that no sync has covered yet: what a crash may take, newest first.
    #[must_use]
    pub fn unsynced_commits(&self) -> usize {
        let state = self.state.read();
        usize::try_from(state.last - state.synced).unwrap_or(usize::MAX)
    }

    /// The store as it is after power is lost now and comes back: every synced commit, and the oldest `survivors` of
    /// the unsynced ones (all of them if there are fewer). What survived is durable in the new store. This store stays
    /// as it is, so that each outcome of one crash can be looked at; faults are not carried over.
    #[must_use]
    pub fn crash(&self, survivors: usize) -> MemoryStore {
        let state = self.state.read();
        let kept = state.synced.saturating_add(survivors as u64).min(state.last);
        let mut after = State { last: kept, synced: kept, ..State::default() };
        for (key, versions) in &state.keys {
            if let Some(Version { commit, value: Some(value) }) = visible(versions, kept) {
                after.bytes += (key.len() + value.len()) as u64;
                after.keys.insert(key.clone(), vec![Version { commit: *commit, value: Some(value.clone()) }]);
            }
        }
        MemoryStore { state: RwLock::new(after) }
    }

    /// Adds a failure to come. Several of one kind count the same calls.
    pub fn inject(&self, fault: Fault) {
        self.state.write().faults.push(fault);
    }

    fn writable(&self) -> Result<RwLockWriteGuard<'_, State>> {
        let state = self.state.write();
        state.check_open()?;
        match &state.stopped {
            Some(reason) => Err(MetaError::Io(reason.clone())),
            None => Ok(state),
        }
    }
}

fn visible(versions: &[Version], commit: Commit) -> Option<&Version> {
    versions.iter().rev().find(|version| version.commit <= commit)
}

impl State {
    fn check_open(&self) -> Result<()> {
        if self.closed { Err(MetaError::Closed) } else { Ok(()) }
    }

    fn get(&self, key: &[u8], commit: Commit) -> Option<Bytes> {
        visible(self.keys.get(key)?, commit)?.value.clone()
    }

    /// Counts one call of this kind; the error that it is to fail with, if its time has come.
    fn strike(&mut self, at: FaultAt) -> Result<()> {
        let due = self.faults.iter().position(|fault| fault.at == at && fault.after == 0);
        for fault in self.faults.iter_mut().filter(|fault| fault.at == at) {
            fault.after = fault.after.saturating_sub(1);
        }
        let Some(due) = due else { return Ok(()) };
        let error = self.faults.swap_remove(due).error;
        if let MetaError::Io(reason) = &error {
            self.stopped = Some(reason.clone());
        }
        Err(error)
    }

    fn apply(&mut self, batch: WriteBatch) {
        self.last += 1;
        for (key, change) in batch {
            let value = match change {
                Change::Put(value) => Some(value),
                Change::Delete => None,
            };
            self.bytes += weight(&key, value.as_ref());
            let versions = self.keys.entry(key.clone()).or_default();
            let version = Version { commit: self.last, value };
            match versions.last_mut() {
                Some(newest) if newest.commit == self.last => {
                    self.bytes -= weight(&key, newest.value.as_ref());
                    *newest = version;
                }
                _ => versions.push(version),
            }
            if versions.len() > 1 || versions.iter().any(|version| version.value.is_none()) {
                self.superseded.push(key);
            }
        }
    }

    /// Drops the versions that neither a view nor a crash can ask for any more.
    fn prune(&mut self) {
        let oldest = self.views.keys().next().copied().unwrap_or(self.last).min(self.synced);
        let mut keys = std::mem::take(&mut self.superseded);
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| {
            let Some(versions) = self.keys.get_mut(key) else { return false };
            let needed = versions.iter().rposition(|version| version.commit <= oldest).unwrap_or(0);
            for version in versions.drain(..needed) {
                self.bytes -= weight(key, version.value.as_ref());
            }
            let absent = matches!(versions.as_slice(), [Version { commit, value: None }] if *commit <= oldest);
            if absent {
                self.keys.remove(key);
                self.bytes -= weight(key, None);
                return false;
            }
            versions.len() > 1 || versions.iter().any(|version| version.value.is_none())
        });
        self.superseded = keys;
    }

    /// Up to [`SCAN_PAIRS`] pairs of a range as of a commit.
    fn pairs(&self, bounds: (Bound<Bytes>, Bound<Bytes>), direction: Direction, commit: Commit) -> Vec<(Bytes, Bytes)> {
        let present = |(key, versions): (&Bytes, &Vec<Version>)| {
            visible(versions, commit)?.value.clone().map(|value| (key.clone(), value))
        };
        let range = self.keys.range::<Bytes, _>(bounds);
        match direction {
            Direction::Forward => range.filter_map(present).take(SCAN_PAIRS).collect(),
            Direction::Backward => range.rev().filter_map(present).take(SCAN_PAIRS).collect(),
        }
    }
}

fn weight(key: &Bytes, value: Option<&Bytes>) -> u64 {
    (key.len() + value.map_or(0, Bytes::len)) as u64
}

struct MemoryView<'a> {
    store: &'a MemoryStore,
    commit: Commit,
}

impl MetaView for MemoryView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.store.state.read();
        state.check_open()?;
        Ok(state.get(key, self.commit))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        if range.end.as_ref().is_some_and(|end| *end <= range.start) {
            return Ok(());
        }
        let mut start = Bound::Included(range.start.clone());
        let mut end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        loop {
            let pairs = {
                let state = self.store.state.read();
                state.check_open()?;
                state.pairs((start.clone(), end.clone()), direction, self.commit)
            };
            let Some((last, _)) = pairs.last() else { return Ok(()) };
            match direction {
                Direction::Forward => start = Bound::Excluded(last.clone()),
                Direction::Backward => end = Bound::Excluded(last.clone()),
            }
            for (key, value) in &pairs {
                if let ControlFlow::Break(()) = visit(key, value) {
                    return Ok(());
                }
            }
            if matches!((&start, &end), (Bound::Excluded(s) | Bound::Included(s), Bound::Excluded(e)) if s >= e) {
                return Ok(());
            }
        }
    }
}

impl Drop for MemoryView<'_> {
    fn drop(&mut self) {
        let mut state = self.store.state.write();
        if let Some(open) = state.views.get_mut(&self.commit) {
            *open -= 1;
            if *open == 0 {
                state.views.remove(&self.commit);
            }
        }
    }
}

impl MetaStore for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.state.read();
        state.check_open()?;
        Ok(state.get(key, state.last))
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let state = self.state.read();
        state.check_open()?;
        Ok(keys.iter().map(|key| state.get(key, state.last)).collect())
    }

    fn view(&self) -> Result<Box<dyn MetaView + '_>> {
        let mut state = self.state.write();
        state.check_open()?;
        let commit = state.last;
        *state.views.entry(commit).or_default() += 1;
        Ok(Box::new(MemoryView { store: self, commit }))
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        limits::check(&batch)?;
        let mut state = self.writable()?;
        if batch.is_empty() {
            return Ok(());
        }
        state.strike(FaultAt::Commit)?;
        state.apply(batch);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.writable()?;
        state.strike(FaultAt::Sync)?;
        state.synced = state.last;
        state.prune();
        Ok(())
    }

    fn approximate_size_bytes(&self) -> Result<u64> {
        let state = self.state.read();
        state.check_open()?;
        Ok(state.bytes)
    }

    fn health(&self) -> Health {
        let state = self.state.read();
        match (&state.stopped, state.closed) {
            (Some(reason), _) => Health::Stopped(reason.clone()),
            (None, true) => Health::Stopped(MetaError::Closed.to_string()),
            (None, false) => Health::Ready,
        }
    }

    fn close(&self) -> Result<()> {
        let mut state = self.state.write();
        if state.closed {
            return Ok(());
        }
        state.closed = true;
        if let Some(reason) = &state.stopped {
            return Err(MetaError::Io(reason.clone()));
        }
        state.strike(FaultAt::Sync)?;
        state.synced = state.last;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    fn put(store: &MemoryStore, key: &'static str, value: &'static str) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put(key, value);
        store.commit(batch)
    }

    fn fault(at: FaultAt, after: usize, error: MetaError) -> Fault {
        Fault { at, after, error }
    }

    #[test]
    fn a_crash_keeps_synced_commits_and_a_chosen_prefix_of_the_others() {
        let store = MemoryStore::new();
        put(&store, "k", "1").unwrap();
        store.sync().unwrap();
        put(&store, "k", "2").unwrap();
        let mut batch = WriteBatch::new();
        batch.delete("k");
        batch.put("other", "3");
        store.commit(batch).unwrap();
        assert_eq!(store.unsynced_commits(), 2);

        for (survivors, expected) in [(0, Some("1")), (1, Some("2")), (2, None), (9, None)] {
            let after = store.crash(survivors);
            assert_eq!(after.get(b"k").unwrap(), expected.map(Bytes::from), "{survivors} survivors");
            assert_eq!(after.get(b"other").unwrap().is_some(), survivors >= 2, "{survivors} survivors");
            assert_eq!(after.unsynced_commits(), 0);
            assert_eq!(after.crash(0).get(b"k").unwrap(), after.get(b"k").unwrap(), "what survived is durable");
        }
        assert_eq!(store.get(b"k").unwrap(), None, "the store that crashed is as it was");
    }

    #[test]
    fn a_fault_strikes_its_call_once_and_only_io_stops_the_store() {
        let store = MemoryStore::new();
        store.inject(fault(FaultAt::Commit, 1, MetaError::OutOfSpace("full".into())));
        store.inject(fault(FaultAt::Sync, 0, MetaError::OutOfSpace("full".into())));
        put(&store, "a", "1").unwrap();
        assert!(matches!(store.sync(), Err(MetaError::OutOfSpace(_))));
        assert_eq!(store.unsynced_commits(), 1, "a failed sync makes nothing durable");
        assert!(matches!(put(&store, "a", "2"), Err(MetaError::OutOfSpace(_))));
        assert_eq!(store.get(b"a").unwrap(), Some(Bytes::from("1")), "nothing of a failed batch is visible");
        put(&store, "a", "3").unwrap();
        store.sync().unwrap();
        assert_eq!(store.health(), Health::Ready);

        store.inject(fault(FaultAt::Commit, 0, MetaError::Io("disk gone".into())));
        assert!(matches!(put(&store, "a", "4"), Err(MetaError::Io(_))));
        assert_eq!(store.health(), Health::Stopped("disk gone".into()));
        assert!(matches!(put(&store, "a", "5"), Err(MetaError::Io(_))));
        assert!(matches!(store.sync(), Err(MetaError::Io(_))));
        assert_eq!(store.get(b"a").unwrap(), Some(Bytes::from("3")), "reads go on");
        assert!(matches!(store.close(), Err(MetaError::Io(_))));
        put(&store.crash(0), "a", "6").unwrap();
    }

    #[test]
    fn old_versions_go_when_no_view_and_no_crash_needs_them() {
        let store = MemoryStore::new();
        put(&store, "k", "old").unwrap();
        store.sync().unwrap();
        let view = store.view().unwrap();
        put(&store, "k", "new").unwrap();
        put(&store, "gone", "x").unwrap();
        let mut batch = WriteBatch::new();
        batch.delete("gone");
        store.commit(batch).unwrap();
        store.sync().unwrap();
        assert_eq!(view.get(b"k").unwrap(), Some(Bytes::from("old")));
        assert_eq!(view.get(b"gone").unwrap(), None);
        drop(view);
        store.sync().unwrap();
        assert_eq!(store.approximate_size_bytes().unwrap(), 4, "one version of one key is left");
        assert_eq!(store.state.read().keys.len(), 1);
        assert!(store.state.read().superseded.is_empty());
    }
}
