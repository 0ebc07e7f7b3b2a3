//! A metadata engine whose power can fail, around any other engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_meta::{Change, Direction, Health, KeyRange, MetaError, MetaStore, MetaView, Result, Visit, WriteBatch};

use crate::power::{Call, DiskError, Power, Verdict};
use crate::random::TestRng;

#[derive(Clone, Debug, Default)]
struct Journal {
    /// What a crash can't take away. Shared with the engines that were frozen since it last changed.
    durable: Arc<BTreeMap<Bytes, Bytes>>,
    /// Batches since, oldest first.
    unsynced: Vec<WriteBatch>,
}

impl Journal {
    fn harden(&mut self, batches: usize) {
        if batches == 0 {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        for batch in self.unsynced.drain(..batches) {
            apply(durable, &batch);
        }
    }
}

fn apply(pairs: &mut BTreeMap<Bytes, Bytes>, batch: &WriteBatch) {
    for (key, change) in batch.iter() {
        match change {
            Change::Put(value) => {
                pairs.insert(key.clone(), value.clone());
            }
            Change::Delete => {
                pairs.remove(key);
            }
        }
    }
}

/// Decorates an engine with the power switch that it shares with a [`crate::CrashDisk`], and keeps what a crash
/// leaves: every batch whose commit returned before a sync began that succeeded, and any prefix of the others.
pub struct CrashMeta {
    power: Arc<Power>,
    inner: Arc<dyn MetaStore>,
    journal: Mutex<Journal>,
    /// Keeps the journal in the order of the engine's commits.
    committing: Mutex<()>,
}

impl CrashMeta {
    /// Around an empty engine.
    #[must_use]
    pub fn new(inner: Arc<dyn MetaStore>, power: Arc<Power>) -> Self {
        CrashMeta { power, inner, journal: Mutex::new(Journal::default()), committing: Mutex::new(()) }
    }

    /// This engine as it is now, everything unsynced included, without power: for [`CrashMeta::crash`] later. It can't be
    /// read.
    #[must_use]
    pub fn frozen(&self, power: Arc<Power>) -> CrashMeta {
        let journal = self.journal.lock().clone();
        let inner = Arc::clone(&self.inner);
        CrashMeta { power, inner, journal: Mutex::new(journal), committing: Mutex::new(()) }
    }

    /// The engine after a power failure, on new power; `empty` is where it lives on. This one is unchanged.
    ///
    /// # Errors
    /// What `empty` says to a commit.
    pub fn crash(&self, rng: &mut TestRng, empty: Arc<dyn MetaStore>, power: Arc<Power>) -> Result<CrashMeta> {
        let journal = self.journal.lock();
        let mut durable = Arc::clone(&journal.durable);
        let kept = rng.index(journal.unsynced.len() + 1);
        for batch in &journal.unsynced[..kept] {
            apply(Arc::make_mut(&mut durable), batch);
        }
        let mut batch = WriteBatch::new();
        for (key, value) in &*durable {
            batch.put(key.clone(), value.clone());
        }
        empty.commit(batch)?;
        let journal = Journal { durable, unsynced: Vec::new() };
        Ok(CrashMeta { power, inner: empty, journal: Mutex::new(journal), committing: Mutex::new(()) })
    }

    fn judge(&self, call: Call, detail: impl FnOnce() -> String) -> Result<()> {
        match self.power.spend(call, detail) {
            Verdict::Proceed => Ok(()),
            Verdict::CutHere => Err(gone()),
            Verdict::Fail(error) => Err(failure(error)),
        }
    }
}

fn gone() -> MetaError {
    MetaError::Io(Power::gone().to_string())
}

fn failure(error: DiskError) -> MetaError {
    match error {
        DiskError::Full => MetaError::OutOfSpace("a test filled the disk".into()),
        DiskError::OutOfFiles => MetaError::OutOfFiles("a test took all descriptors".into()),
        DiskError::Broken => MetaError::Io("a test broke the disk".into()),
    }
}

impl MetaStore for CrashMeta {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.judge(Call::MetaRead, || format!("get {}", Printable(key)))?;
        self.inner.get(key)
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.judge(Call::MetaRead, || format!("multi_get {} keys", keys.len()))?;
        self.inner.multi_get(keys)
    }

    fn view(&self) -> Result<Box<dyn MetaView + '_>> {
        self.judge(Call::MetaRead, || "view".into())?;
        self.inner.view()
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        self.judge(Call::MetaRead, || format!("scan {}", Printable(&range.start)))?;
        self.inner.scan(range, direction, visit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        let _order = self.committing.lock();
        let verdict = self.power.spend(Call::MetaCommit, || {
            let keys: Vec<String> = batch.iter().take(12).map(|(key, _)| Printable(key).to_string()).collect();
            format!("{} changes: {}", batch.len(), keys.join(" "))
        });
        match verdict {
            Verdict::Proceed => {
                self.inner.commit(batch.clone())?;
                self.journal.lock().unsynced.push(batch);
                Ok(())
            }
            Verdict::CutHere => {
                self.journal.lock().unsynced.push(batch);
                Err(gone())
            }
            Verdict::Fail(error) => Err(failure(error)),
        }
    }

    fn sync(&self) -> Result<()> {
        let before = self.journal.lock().unsynced.len();
        self.judge(Call::MetaSync, || format!("{before} batches"))?;
        if self.power.pretends(Call::MetaSync) {
            return Ok(());
        }
        self.inner.sync()?;
        let mut journal = self.journal.lock();
        let batches = before.min(journal.unsynced.len());
        journal.harden(batches);
        Ok(())
    }

    fn approximate_size_bytes(&self) -> Result<u64> {
        self.inner.approximate_size_bytes()
    }

    fn health(&self) -> Health {
        if self.power.is_off() { Health::Stopped("the power is gone".into()) } else { self.inner.health() }
    }

    fn close(&self) -> Result<()> {
        if self.power.is_off() {
            return Err(gone());
        }
        self.sync()?;
        self.inner.close()
    }
}

/// Bytes of a key, readable where they are text.
struct Printable<'a>(&'a [u8]);

impl std::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::collections::BTreeSet;

    use verfs_meta::MemoryStore;

    use super::*;

    fn engine() -> (CrashMeta, Arc<Power>) {
        let power = Arc::new(Power::new());
        (CrashMeta::new(Arc::new(MemoryStore::new()), Arc::clone(&power)), power)
    }

    fn put(meta: &CrashMeta, value: &'static str) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put("key", value);
        batch.put(value, "");
        meta.commit(batch)
    }

    /// Values of `key` that 100 crashes leave.
    fn outcomes(meta: &CrashMeta) -> BTreeSet<Option<Bytes>> {
        let crash = |seed| {
            let power = Arc::new(Power::new());
            let after = meta.crash(&mut TestRng::new(seed), Arc::new(MemoryStore::new()), power).unwrap();
            let value = after.get(b"key").unwrap();
            if let Some(value) = &value {
                assert!(after.get(value).unwrap().is_some(), "half of a batch survived");
            }
            value
        };
        (0..100).map(crash).collect()
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_any_prefix_of_the_rest() {
        let (meta, _) = engine();
        put(&meta, "one").unwrap();
        meta.sync().unwrap();
        put(&meta, "two").unwrap();
        put(&meta, "three").unwrap();
        let expected = ["one", "two", "three"].map(|value| Some(Bytes::from(value)));
        assert_eq!(outcomes(&meta), BTreeSet::from(expected));
        meta.sync().unwrap();
        assert_eq!(outcomes(&meta), BTreeSet::from([Some(Bytes::from("three"))]));
    }

    #[test]
    fn a_commit_that_the_cut_hits_may_survive_and_a_sync_that_it_hits_may_do_nothing() {
        let (meta, power) = engine();
        power.cut_at(0);
        assert!(put(&meta, "one").is_err());
        assert!(meta.get(b"key").is_err());
        assert_eq!(outcomes(&meta), BTreeSet::from([None, Some(Bytes::from("one"))]));
        let (meta, power) = engine();
        put(&meta, "one").unwrap();
        power.cut_at(1);
        assert!(meta.sync().is_err());
        assert_eq!(outcomes(&meta), BTreeSet::from([None, Some(Bytes::from("one"))]));
    }
}
