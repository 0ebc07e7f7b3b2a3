//! A disk that is full, and has room again.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use verfs_meta::{EngineKind, Health, MetaError, MetaStore, WriteBatch};

use crate::mounted::Mounted;
use crate::subject::{SMALL, everything, open_small, put};

const DISK_MIB: u32 = 48;
const BALLAST_MIB: usize = 24;
const PAGE_BYTES: usize = 4096;
/// The engines space out their repairs by up to two seconds.
const REPAIR_TIME: Duration = Duration::from_secs(8);

/// A small disk with ballast to throw off.
struct Disk {
    mounted: Mounted,
}

impl Disk {
    fn tmpfs() -> Self {
        Self::with_ballast(Mounted::tmpfs(DISK_MIB))
    }

    /// With room for more than a journal of fjall's, so that a flush may be the first to find it full.
    fn ext4() -> Self {
        Self::with_ballast(Mounted::ext4(2 * DISK_MIB))
    }

    fn with_ballast(mounted: Mounted) -> Self {
        let disk = Disk { mounted };
        File::create(disk.mounted.path("ballast")).unwrap().write_all(&vec![1; BALLAST_MIB << 20]).unwrap();
        disk
    }

    /// Takes all that is left.
    fn fill(&self) {
        let mut rest = File::create(self.mounted.path("rest")).unwrap();
        while rest.write_all(&[1; PAGE_BYTES]).is_ok() {}
    }

    /// Takes all that is left but this.
    fn fill_but(&self, left_bytes: usize) {
        self.fill();
        let rest = File::options().write(true).open(self.mounted.path("rest")).unwrap();
        rest.set_len(rest.metadata().unwrap().len() - left_bytes as u64).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.mounted.path("ballast")).unwrap();
        fs::remove_file(self.mounted.path("rest")).unwrap();
    }
}

fn batch(number: u64, records: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for record in 0..records {
        let mut value = vec![0; 1000];
        value[..8].copy_from_slice(&number.to_be_bytes());
        batch.put([number.to_be_bytes(), record.to_be_bytes()].concat(), value);
    }
    batch
}

/// Commits and syncs batches until one of the two fails: how many batches are committed, and the failure.
fn commit_until_failure(store: &dyn MetaStore, from: u64, records: u64) -> (u64, MetaError) {
    for number in from.. {
        if let Err(error) = store.commit(batch(number, records)) {
            return (number, error);
        }
        if let Err(error) = store.sync() {
            return (number + 1, error);
        }
    }
    unreachable!("the disk is finite")
}

/// Exactly these batches, whole, and what else was put.
fn check(store: &dyn MetaStore, batches: u64, records: u64, others: usize) {
    let all = everything(store);
    assert_eq!(all.len(), (batches * records) as usize + others, "{batches} batches");
    for number in [0, batches / 2, batches - 1] {
        for record in [0, records - 1] {
            let key: Bytes = [number.to_be_bytes(), record.to_be_bytes()].concat().into();
            assert!(all.binary_search_by(|(found, _)| found.cmp(&key)).is_ok(), "record {record} of batch {number}");
        }
    }
}

/// The same after reopening, when the batch whose commit failed may be there too.
fn check_reopened(store: &dyn MetaStore, batches: u64, records: u64, others: usize) {
    let has_failed_one = store.get(&[batches.to_be_bytes(), 0u64.to_be_bytes()].concat()).unwrap().is_some();
    check(store, batches + u64::from(has_failed_one), records, others);
}

/// surrealkv answers OutOfSpace for as long as it lasts, and goes on without being opened again. The disk has this much
/// room when it begins.
fn surrealkv_goes_on(records: u64, room_bytes: usize) {
    let disk = Disk::tmpfs();
    let dir = disk.mounted.path("meta");
    let store = open_small(EngineKind::Surrealkv, &dir).unwrap();
    let view = store.view().unwrap();
    disk.fill_but(room_bytes);
    let (mut batches, mut error) = commit_until_failure(store.as_ref(), 0, records);
    disk.fill();
    // The engine may find a little room yet.
    for _ in 0..5 {
        assert!(matches!(error, MetaError::OutOfSpace(_)), "{error:?}");
        assert_eq!(store.health(), Health::Ready);
        (batches, error) = commit_until_failure(store.as_ref(), batches, records);
    }
    check(store.as_ref(), batches, records, 0);

    disk.make_room();
    let begun = Instant::now();
    while let Err(error) = put(store.as_ref(), b"with room again", b"1") {
        assert!(matches!(error, MetaError::OutOfSpace(_)), "{error:?}");
        assert!(begun.elapsed() < REPAIR_TIME, "it never went on: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
    store.sync().unwrap();
    assert_eq!(view.get(b"with room again").unwrap(), None, "views work on and stay as they were");
    store.commit(batch(batches, records)).unwrap();
    store.sync().unwrap();
    check(store.as_ref(), batches + 1, records, 1);
    drop(view);
    store.close().unwrap();
    let store = open_small(EngineKind::Surrealkv, &dir).unwrap();
    check(store.as_ref(), batches + 1, records, 1);
}

#[test]
fn surrealkv_goes_on_when_a_flush_found_the_disk_full() {
    // The log of a full memtable finds room, the table that it becomes does not.
    surrealkv_goes_on(10, SMALL.memtable_bytes + SMALL.memtable_bytes / 4);
}

#[test]
fn surrealkv_goes_on_when_a_commit_found_the_disk_full() {
    // More than the memtable takes: the commit writes a table itself.
    surrealkv_goes_on(900, 8 << 20);
}

#[test]
fn surrealkv_goes_on_when_its_log_found_the_disk_full() {
    surrealkv_goes_on(10, SMALL.memtable_bytes / 4);
}

#[test]
fn surrealkv_closes_on_a_full_disk_and_has_everything_when_there_is_room() {
    let disk = Disk::tmpfs();
    let dir = disk.mounted.path("meta");
    let store = open_small(EngineKind::Surrealkv, &dir).unwrap();
    let (batches, _) = commit_until_failure(store.as_ref(), 0, 10);
    disk.fill();
    store.close().unwrap();
    drop(store);
    // Opening may need room to replay its log; it must not need anything else.
    if let Err(error) = open_small(EngineKind::Surrealkv, &dir) {
        assert!(matches!(error, MetaError::OutOfSpace(_)), "{error:?}");
    }
    disk.make_room();
    check_reopened(open_small(EngineKind::Surrealkv, &dir).unwrap().as_ref(), batches, 10, 0);
}

/// fjall takes no write after its first failure until it is opened again; reads go on.
fn fjall_stops(disk: &Disk, records: u64) {
    let dir = disk.mounted.path("meta");
    let store = open_small(EngineKind::Fjall, &dir).unwrap();
    let (batches, error) = commit_until_failure(store.as_ref(), 0, records);
    assert!(matches!(error, MetaError::OutOfSpace(_)), "{error:?}");
    disk.fill();
    assert!(matches!(store.health(), Health::Stopped(_)));
    check(store.as_ref(), batches, records, 0);
    disk.make_room();
    assert!(matches!(put(store.as_ref(), b"k", b"1"), Err(MetaError::Io(_))));
    assert!(matches!(store.sync(), Err(MetaError::Io(_))));
    assert!(matches!(store.close(), Err(MetaError::Io(_))), "closing can't make anything durable");
    drop(store);

    let store = open_small(EngineKind::Fjall, &dir).unwrap();
    assert_eq!(store.health(), Health::Ready);
    put(store.as_ref(), b"with room again", b"1").unwrap();
    store.sync().unwrap();
    check_reopened(store.as_ref(), batches, records, 1);
}

#[test]
fn fjall_stops_until_it_is_opened_again_when_the_disk_is_full() {
    fjall_stops(&Disk::tmpfs(), 10);
    fjall_stops(&Disk::ext4(), 100);
}

#[test]
fn fjall_stops_until_it_is_opened_again_when_a_large_commit_finds_the_disk_full() {
    fjall_stops(&Disk::tmpfs(), 900);
}
