//! Sparse files and copies by reference, as far as random operations don't show it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use verfs_base::Ino;
use verfs_meta::{Direction, KeyRange, MemoryStore, MetaStore, MetaView, Result, Visit, WriteBatch};
use verfs_vfs::{Allocation, NodeKind, SeekFor, SetId, SyncScope, VfsError};

use self::volume::{Open, ROOT, Volume, noise, slow};

const TIB: u64 = 1 << 40;

fn file(open: &Open, name: &[u8]) -> Ino {
    open.vfs.mknod(&ROOT, Ino::ROOT, name, NodeKind::Regular, 0o644).unwrap().ino
}

/// Counts the records that are asked for.
struct Counting {
    inner: Arc<MemoryStore>,
    asked: AtomicU64,
}

impl MetaStore for Counting {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key)
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.asked.fetch_add(keys.len() as u64, Ordering::Relaxed);
        self.inner.multi_get(keys)
    }

    fn view(&self) -> Result<Box<dyn MetaView + '_>> {
        self.inner.view()
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.scan(range, direction, visit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        self.inner.commit(batch)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn approximate_size_bytes(&self) -> Result<u64> {
        self.inner.approximate_size_bytes()
    }

    fn health(&self) -> verfs_meta::Health {
        self.inner.health()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

#[test]
fn seeking_in_a_sparse_file_of_16_tib_asks_for_a_few_records() {
    let volume = Volume::new(slow());
    let meta = Arc::new(Counting { inner: Arc::new(MemoryStore::new()), asked: AtomicU64::new(0) });
    let open = volume.open_over(meta.clone());
    let sparse = file(&open, b"sparse");
    let data = noise(10_000, 1);
    let places = [5 * TIB + 123, 9 * TIB, 16 * TIB - 10_000];
    for place in places {
        open.vfs.write(&ROOT, sparse, place, &data).unwrap();
    }
    for committed in [false, true] {
        if committed {
            open.vfs.sync().unwrap();
        }
        let before = meta.asked.load(Ordering::Relaxed);
        let mut at = 0;
        for place in places {
            assert_eq!(open.vfs.seek(&ROOT, sparse, at, SeekFor::Data), Ok(place));
            at = place + 10_000;
            let hole = open.vfs.seek(&ROOT, sparse, place, SeekFor::Hole).unwrap();
            assert_eq!(hole, at);
        }
        assert_eq!(open.vfs.seek(&ROOT, sparse, at, SeekFor::Data), Err(VfsError::NoSuchOffset));
        let asked = meta.asked.load(Ordering::Relaxed) - before;
        assert!(asked < 1000, "{asked} records were asked for");
    }
    open.vfs.allocate(&ROOT, sparse, 1, 16 * TIB, Allocation::PunchHole).unwrap();
    open.vfs.sync().unwrap();
    assert_eq!(open.vfs.seek(&ROOT, sparse, 0, SeekFor::Data), Err(VfsError::NoSuchOffset));
    assert_eq!(open.vfs.seek(&ROOT, sparse, 0, SeekFor::Hole), Ok(0));
    let attr = open.vfs.getattr(&ROOT, sparse).unwrap();
    assert_eq!((attr.size, attr.blocks), (16 * TIB, 0));
    open.close();
}

#[test]
fn a_copy_shares_what_is_stored_until_either_side_changes_or_goes() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let (source, copy) = (file(&open, b"source"), file(&open, b"copy"));
    let mut data = noise(3_000_000, 2);
    open.vfs.write(&ROOT, source, 0, &data).unwrap();
    open.vfs.sync().unwrap();
    let before = open.store.stats();
    assert_eq!(open.vfs.copy_range(&ROOT, (source, 0), (copy, 0), u64::MAX), Ok((3_000_000, SetId::Kept)));
    // Chunks end elsewhere here: found by cutting they would not be.
    assert_eq!(open.vfs.copy_range(&ROOT, (source, 1_000_001), (copy, 3_000_000), 500_000), Ok((500_000, SetId::Kept)));
    open.vfs.sync().unwrap();
    let after = open.store.stats();
    assert_eq!((after.unique_bytes, after.stored_bytes), (before.unique_bytes, before.stored_bytes));
    assert_eq!(after.dedup_misses, before.dedup_misses, "nothing was cut into chunks and looked up");

    let expected = [&data[..], &data[1_000_001..1_500_001]].concat();
    assert!(open.read(copy) == expected);
    open.vfs.write(&ROOT, copy, 100, b"changed").unwrap();
    open.vfs.sync().unwrap();
    assert!(open.read(source) == data);
    open.vfs.unlink(&ROOT, Ino::ROOT, b"source").unwrap();
    open.vfs.sync().unwrap();
    open.vfs.sync().unwrap();
    data[100..107].copy_from_slice(b"changed");
    assert!(open.read(copy) == [&data[..], &expected[3_000_000..]].concat());
    open.vfs.unlink(&ROOT, Ino::ROOT, b"copy").unwrap();
    open.vfs.sync().unwrap();
    open.vfs.sync().unwrap();
    assert_eq!(open.store.stats().unique_bytes, 0, "every reference of the copy was given back");
    open.close();
}

#[test]
fn a_copy_that_was_synced_survives_a_crash_and_its_source() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let (source, copy) = (file(&open, b"source"), file(&open, b"copy"));
    let stored = noise(200_000, 3);
    open.vfs.write(&ROOT, source, 0, &stored).unwrap();
    open.vfs.sync().unwrap();
    // Half of it comes from the store, half from memory.
    let fresh = noise(10_000, 4);
    open.vfs.write(&ROOT, source, 200_000, &fresh).unwrap();
    assert_eq!(open.vfs.copy_range(&ROOT, (source, 100), (copy, 0), 209_900), Ok((209_900, SetId::Kept)));
    open.vfs.unlink(&ROOT, Ino::ROOT, b"source").unwrap();
    open.vfs.fsync(&ROOT, copy, SyncScope::Data).unwrap();

    let crashed = volume.after_power_loss();
    let recovered = crashed.open();
    let found = recovered.vfs.lookup(&ROOT, Ino::ROOT, b"copy").unwrap().ino;
    assert!(recovered.read(found) == [&stored[100..], &fresh[..]].concat());
    assert_eq!(recovered.vfs.lookup(&ROOT, Ino::ROOT, b"source"), Err(VfsError::NotFound));
    recovered.close();
    open.close();
}

#[test]
fn a_large_reference_after_many_others_is_never_taken_for_something_the_log_can_hold() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let (source, copy) = (file(&open, b"source"), file(&open, b"copy"));
    let data = noise(100_000, 5);
    open.vfs.write(&ROOT, source, 0, &data).unwrap();
    open.vfs.sync().unwrap();
    let commits = open.vfs.stats().groups_committed;
    for _ in 0..50 {
        open.vfs.copy_range(&ROOT, (source, 0), (copy, 0), 100_000).unwrap();
    }
    open.vfs.fsync(&ROOT, copy, SyncScope::All).unwrap();
    assert_eq!(open.vfs.stats().groups_committed, commits + 1);
    assert!(open.read(copy) == data);
    open.close();
}

#[test]
fn a_name_takes_along_that_its_file_was_emptied() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let large = file(&open, b"large");
    open.vfs.write(&ROOT, large, 0, &noise(2_000_000, 6)).unwrap();
    open.vfs.sync().unwrap();
    let empty = verfs_vfs::SetAttr { size: Some(0), ..verfs_vfs::SetAttr::default() };
    open.vfs.setattr(&ROOT, large, &empty).unwrap();
    open.vfs.link(&ROOT, large, Ino::ROOT, b"name").unwrap();
    open.vfs.fsync(&ROOT, Ino::ROOT, SyncScope::All).unwrap();
    let crashed = volume.after_power_loss();
    let recovered = crashed.open();
    assert_eq!(recovered.vfs.lookup(&ROOT, Ino::ROOT, b"name").unwrap().size, 0);
    recovered.close();
    open.close();
}
