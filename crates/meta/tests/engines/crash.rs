//! What is left after a process was killed, and after power was lost.
//!
//! A child commits numbered batches and syncs now and then. Batch n writes every part of slot `n % SLOTS` and its own
//! number, so that what a store holds tells which batches it has: all up to one, and all that were synced.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, prlimit};
use verfs_meta::{EngineKind, Health, MetaError, MetaStore, WriteBatch};

use crate::child::{Role, Running};
use crate::mounted::Mounted;
use crate::subject::{Subject, cases, open_small, put, temporary_dir};

for_kept_engines!(
    after_a_kill_there_is_a_prefix_of_batches_with_every_synced_one,
    after_a_loss_of_power_there_is_a_prefix_of_batches_with_every_synced_one,
    after_a_loss_of_power_while_tables_are_written_there_is_a_prefix_of_batches_with_every_synced_one,
    after_a_limit_of_files_below_what_is_open_there_is_a_prefix_of_batches_with_every_synced_one,
    a_disk_that_failed_stops_writes_until_the_store_is_opened_again,
    a_disk_that_fails_under_load_ends_every_commit,
);

const SLOTS: u64 = 64;
const PARTS: u64 = 5;

fn slot_key(slot: u64, part: u64) -> Bytes {
    Bytes::from(format!("slot {slot:03} part {part}"))
}

/// How much a batch has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Some 10 KB: many batches for a memtable.
    Light,
    /// Some 150 KB: tables are written and merged all the time.
    Heavy,
}

fn slot_value(load: Load, number: u64, part: u64) -> Bytes {
    let unit = match load {
        Load::Light => 100,
        Load::Heavy => 1500,
    };
    let mut value = vec![(number % 251) as u8; ((number * 7 + part * 13) % 40 * unit) as usize];
    value.extend(number.to_be_bytes());
    Bytes::from(value)
}

fn last_number(store: &dyn MetaStore) -> u64 {
    store.get(b"last").unwrap().map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
}

/// Ends with the first error: the power may be gone.
pub fn write_until_killed(kind: EngineKind, dir: &Path, load: Load, synced: &mut dyn FnMut(u64)) {
    let store = open_small(kind, dir).unwrap();
    let mut number = last_number(store.as_ref());
    loop {
        number += 1;
        let mut batch = WriteBatch::new();
        for part in 0..PARTS {
            batch.put(slot_key(number % SLOTS, part), slot_value(load, number, part));
        }
        batch.put("last", number.to_be_bytes().to_vec());
        store.commit(batch).unwrap();
        if number % 5 < 2 {
            store.sync().unwrap();
            synced(number);
        }
    }
}

/// Checks what a store holds, and gives the number of its last batch.
fn check_prefix(store: &dyn MetaStore, load: Load, synced: u64) -> u64 {
    let last = last_number(store);
    assert!(last >= synced, "batch {synced} was synced, the store ends at {last}");
    for slot in 0..SLOTS {
        let newest = last.saturating_sub((last + SLOTS - slot) % SLOTS);
        let is_written = newest > 0 && newest % SLOTS == slot;
        for part in 0..PARTS {
            let found = store.get(&slot_key(slot, part)).unwrap();
            let expected = is_written.then(|| slot_value(load, newest, part));
            assert!(found == expected, "of batches up to {last}, part {part} of slot {slot} isn't batch {newest}'s");
        }
    }
    last
}

/// Lets a child write for some time after its first sync; gives it and the last number that it has said it synced.
fn run_child(kind: EngineKind, dir: &Path, round: u32) -> (Running, u64) {
    let mut child = Running::start(Role::Write, kind, dir);
    let first = child.line().expect("the child syncs");
    thread::sleep(Duration::from_millis(u64::from(20 + round * 97 % 400)));
    (child, first.parse().unwrap())
}

fn newest(first: u64, lines: &[String]) -> u64 {
    lines.last().map_or(first, |line| line.parse().unwrap())
}

fn after_a_kill_there_is_a_prefix_of_batches_with_every_synced_one(subject: Subject) {
    let kind = subject.kept();
    let dir = temporary_dir();
    let path = dir.path().join("meta");
    let mut last = 0;
    for round in 0..cases(8) {
        let (child, first) = run_child(kind, &path, round);
        let synced = newest(first, &child.kill());
        let store = open_small(kind, &path).unwrap_or_else(|error| panic!("round {round}: {error}"));
        last = check_prefix(store.as_ref(), Load::Light, synced.max(last));
        store.close().unwrap();
    }
}

fn after_a_loss_of_power_there_is_a_prefix_of_batches_with_every_synced_one(subject: Subject) {
    let kind = subject.kept();
    let mut disk = Mounted::ext4(512);
    let path = disk.path("meta");
    let mut last = 0;
    for round in 0..cases(6) {
        let (mut child, first) = run_child(kind, &path, round);
        // What was said before the cut. A sync that is under way at that moment may end well and be lost: the kernel
        // marks the file system first, and an fsync in the middle then doesn't hear that its extents were not converted.
        let synced = newest(first, &child.lines_so_far());
        cut_power(&disk);
        child.kill();
        disk.unmount();
        disk.mount_image();
        let store = open_small(kind, &path).unwrap_or_else(|error| panic!("round {round}: {error}"));
        last = check_prefix(store.as_ref(), Load::Light, synced.max(last));
        store.close().unwrap();
    }
}

/// Every file below a directory that was there at some moment.
fn files_below(dir: &Path, into: &mut BTreeSet<PathBuf>) {
    // Directories and files go while they are looked at.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), into),
            Ok(_) => drop(into.insert(entry.path())),
            Err(_) => {}
        }
    }
}

/// Flushes and compactions make new files: the power goes right after one of them has come into being.
fn after_a_loss_of_power_while_tables_are_written_there_is_a_prefix_of_batches_with_every_synced_one(subject: Subject) {
    let kind = subject.kept();
    let mut disk = Mounted::ext4(512);
    let path = disk.path("meta");
    let mut last = 0;
    for round in 0..cases(10) {
        let mut child = Running::start(Role::WriteMuch, kind, &path);
        let first: u64 = child.line().expect("the child syncs").parse().unwrap();
        let mut files = BTreeSet::new();
        files_below(&path, &mut files);
        let wanted = files.len() + 1 + round as usize * 3 % 7;
        let begun = Instant::now();
        while files.len() < wanted {
            assert!(begun.elapsed() < Duration::from_secs(30), "the engine writes no tables");
            files_below(&path, &mut files);
        }
        let synced = newest(first, &child.lines_so_far());
        cut_power(&disk);
        child.kill();
        disk.unmount();
        disk.mount_image();
        let store = open_small(kind, &path).unwrap_or_else(|error| panic!("round {round}: {error}"));
        last = check_prefix(store.as_ref(), Load::Heavy, synced.max(last));
        store.close().unwrap();
    }
}

/// In the middle of a flush that stops the engine, and nobody above it can help.
fn after_a_limit_of_files_below_what_is_open_there_is_a_prefix_of_batches_with_every_synced_one(subject: Subject) {
    let kind = subject.kept();
    let dir = temporary_dir();
    let path = dir.path().join("meta");
    let mut last = 0;
    for round in 0..cases(4) {
        let mut child = Running::start(Role::WriteMuch, kind, &path);
        for _ in 0..=round * 7 {
            last = child.line().expect("the child syncs").parse().unwrap();
        }
        let limit = Rlimit { current: Some(3), maximum: Some(1024) };
        prlimit(Some(child.pid()), Resource::Nofile, limit).unwrap();
        // It ends with its first error.
        let lines: Vec<String> = std::iter::from_fn(|| child.line()).collect();
        let store = open_small(kind, &path).unwrap_or_else(|error| panic!("round {round}: {error}"));
        last = check_prefix(store.as_ref(), Load::Heavy, newest(last, &lines));
        store.close().unwrap();
    }
}

fn a_disk_that_failed_stops_writes_until_the_store_is_opened_again(subject: Subject) {
    let kind = subject.kept();
    let mut disk = Mounted::ext4(256);
    let path = disk.path("meta");
    let store = open_small(kind, &path).unwrap();
    put(store.as_ref(), b"synced", b"1").unwrap();
    store.sync().unwrap();
    assert_eq!(store.health(), Health::Ready);
    // Every write and sync fails from here on, with EIO.
    cut_power(&disk);
    let failure = put(store.as_ref(), b"unsynced", b"1").and_then(|()| store.sync());
    assert!(matches!(failure, Err(MetaError::Io(_))), "{failure:?}");
    assert!(matches!(store.health(), Health::Stopped(_)));
    for _ in 0..2 {
        assert!(matches!(put(store.as_ref(), b"later", b"1"), Err(MetaError::Io(_))));
        assert!(matches!(store.sync(), Err(MetaError::Io(_))));
    }
    assert_eq!(store.get(b"synced").unwrap().as_deref(), Some(&b"1"[..]), "reads go on");
    assert_eq!(store.get(b"later").unwrap(), None);
    assert!(matches!(store.close(), Err(MetaError::Io(_))));
    drop(store);

    disk.unmount();
    disk.mount_image();
    let store = open_small(kind, &path).unwrap();
    assert_eq!(store.get(b"synced").unwrap().as_deref(), Some(&b"1"[..]));
    put(store.as_ref(), b"later", b"1").unwrap();
    store.sync().unwrap();
}

/// A commit that waits for a flush must not wait for one that has failed.
fn a_disk_that_fails_under_load_ends_every_commit(subject: Subject) {
    const BATCH_RECORDS: u64 = 2000;
    for round in 0..cases(3) {
        let disk = Mounted::ext4(1024);
        let store = open_small(subject.kept(), &disk.path("meta")).unwrap();
        let (failed, failure) = mpsc::channel();
        let writer = {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                for number in 0u64.. {
                    let mut batch = WriteBatch::new();
                    for record in 0..BATCH_RECORDS {
                        batch.put((number * BATCH_RECORDS + record).to_be_bytes().to_vec(), vec![1; 1000]);
                    }
                    if let Err(error) = store.commit(batch) {
                        return failed.send(error).unwrap();
                    }
                }
            })
        };
        thread::sleep(Duration::from_millis(100 + 60 * u64::from(round)));
        cut_power(&disk);
        let error = failure.recv_timeout(Duration::from_secs(20)).expect("a commit waits forever");
        assert!(matches!(error, MetaError::Io(_)), "{error:?}");
        writer.join().unwrap();
    }
}

/// Takes the power from an ext4: what it hasn't written to its disk by now never gets there, its journal included.
fn cut_power(disk: &Mounted) {
    /// `EXT4_IOC_SHUTDOWN` of the kernel's fs/ext4/ext4.h, `_IOR('X', 125, __u32)`.
    const SHUTDOWN: libc::c_ulong = 0x8004_587d;
    /// `EXT4_GOING_FLAGS_NOLOGFLUSH`, of the same file.
    const WITHOUT_LOG_FLUSH: u32 = 2;
    let flags = WITHOUT_LOG_FLUSH;
    let root = File::open(disk.point()).unwrap();
    // SAFETY: the descriptor is open for the length of the call, and the call reads one u32 at the address, which is
    // that of a live u32.
    let outcome = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const flags) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}
