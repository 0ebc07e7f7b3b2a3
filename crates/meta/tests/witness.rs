//! The witness: what it says of a store that was put back, cut, or that a crash left.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use verfs_base::{Clock, Disk, RealDisk, SystemClock};
use verfs_meta::{MemoryStore, MetaStore, Standing, WitnessedStore, WriteBatch};

fn open(meta: &Arc<MemoryStore>, at: &Path) -> WitnessedStore {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(at.to_path_buf()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    WitnessedStore::open(Arc::<MemoryStore>::clone(meta), disk, clock).unwrap()
}

fn put(store: &dyn MetaStore, key: &'static str) {
    let mut batch = WriteBatch::new();
    batch.put(key, "value");
    store.commit(batch).unwrap();
}

/// The engine as a loss of power leaves it, with so many batches that were not synced.
fn crashed(meta: &MemoryStore, kept: usize) -> Arc<MemoryStore> {
    Arc::new(meta.crash(kept))
}

#[test]
fn a_crash_leaves_the_newest_and_an_earlier_copy_is_older() {
    let at = tempfile::tempdir().unwrap();
    let meta = Arc::new(MemoryStore::new());
    let store = open(&meta, at.path());
    assert_eq!(store.standing(), Standing::Unwitnessed);
    assert!(!at.path().join("WITNESS").exists(), "looking writes nothing");
    put(&store, "one");
    store.sync().unwrap();
    let earlier = crashed(&meta, 0);
    assert_eq!(open(&earlier, at.path()).standing(), Standing::Newest);
    put(&store, "two");
    put(&store, "three");
    // Not synced: any prefix may be what a crash leaves.
    for kept in 0..=2 {
        assert_eq!(open(&crashed(&meta, kept), at.path()).standing(), Standing::Newest, "{kept}");
    }
    store.sync().unwrap();
    assert_eq!(open(&meta, at.path()).standing(), Standing::Newest);
    assert_eq!(open(&earlier, at.path()).standing(), Standing::Older { last: 1, witnessed: 3 });
    assert_eq!(open(&Arc::new(MemoryStore::new()), at.path()).standing(), Standing::Older { last: 0, witnessed: 3 });
}

#[test]
fn a_torn_slot_leaves_the_other_and_two_leave_none() {
    let at = tempfile::tempdir().unwrap();
    let (meta, file) = (Arc::new(MemoryStore::new()), at.path().join("WITNESS"));
    let store = open(&meta, at.path());
    for key in ["one", "two", "three"] {
        put(&store, key);
        store.sync().unwrap();
    }
    let empty = || open(&Arc::new(MemoryStore::new()), at.path()).standing();
    let whole = fs::read(&file).unwrap();
    let mut seen = Vec::new();
    for slot in [0, 4096] {
        let mut torn = whole.clone();
        torn[slot + 17] ^= 1;
        fs::write(&file, torn).unwrap();
        seen.push(empty());
    }
    seen.sort_by_key(|standing| format!("{standing:?}"));
    assert_eq!(seen, [2, 3].map(|witnessed| Standing::Older { last: 0, witnessed }));
    for len in [0, 16, 31] {
        fs::write(&file, &whole[..len]).unwrap();
        assert_eq!(empty(), Standing::Unwitnessed, "{len} bytes");
    }
}

#[test]
fn older_metadata_get_no_number_until_they_supersede_the_others() {
    let at = tempfile::tempdir().unwrap();
    let meta = Arc::new(MemoryStore::new());
    let store = open(&meta, at.path());
    put(&store, "one");
    store.sync().unwrap();
    let earlier = crashed(&meta, 0);
    put(&store, "two");
    store.sync().unwrap();

    let repaired = open(&earlier, at.path());
    for key in ["a", "b", "c", "d"] {
        put(&repaired, key);
        repaired.sync().unwrap();
    }
    let older = Standing::Older { last: 1, witnessed: 2 };
    assert_eq!(repaired.standing(), older);
    assert_eq!(open(&crashed(&earlier, 0), at.path()).standing(), older, "a repair that is cut short");
    repaired.supersede().unwrap();
    put(&repaired, "e");
    repaired.sync().unwrap();
    assert_eq!(repaired.standing(), Standing::Newest);
    assert_eq!(open(&crashed(&earlier, 0), at.path()).standing(), Standing::Newest);
    // The one that it stands for now is no longer the newest.
    assert!(matches!(open(&meta, at.path()).standing(), Standing::Older { last: 2, .. }));
}

#[test]
fn a_store_that_is_disowned_is_older_until_it_supersedes() {
    let at = tempfile::tempdir().unwrap();
    let meta = Arc::new(MemoryStore::new());
    let store = open(&meta, at.path());
    store.disown().unwrap();
    put(&store, "one");
    store.sync().unwrap();
    assert!(matches!(open(&meta, at.path()).standing(), Standing::Older { .. }));
    store.supersede().unwrap();
    assert_eq!(open(&meta, at.path()).standing(), Standing::Newest);
}

#[test]
fn a_witness_that_can_not_be_written_stops_nothing() {
    let at = tempfile::tempdir().unwrap();
    fs::create_dir(at.path().join("WITNESS")).unwrap();
    let meta = Arc::new(MemoryStore::new());
    let store = open(&meta, at.path());
    assert_eq!(store.standing(), Standing::Unwitnessed);
    put(&store, "one");
    store.sync().unwrap();
    store.close().unwrap();
}
