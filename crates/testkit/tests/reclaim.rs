//! Promise 5: who reads while another overwrites and garbage is collected sees a version of the file, and never an error:
//! the chunks that his plan names may be gone before he gets to them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use verfs_base::Ino;
use verfs_store::StoreOptions;
use verfs_testkit::{Host, Machine, Settings, TestRng};
use verfs_vfs::{Context, NodeKind, VfsOptions};

const ROUNDS: u64 = 150;
const FILE_BYTES: usize = 40_000;

/// Version `number` of the file: noise that begins with the number.
fn version(number: u64) -> Vec<u8> {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes: Vec<u8> = (0..FILE_BYTES)
        .map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as u8
        })
        .collect();
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// A volume without a cache, so that every read goes to a pack, which commits at once.
fn machine() -> Arc<Machine> {
    let mut settings = Settings::random(&mut TestRng::new(1));
    settings.vfs = VfsOptions { group_interval_ms: 1, ..VfsOptions::default() };
    settings.store = StoreOptions { chunk_cache_bytes: 0, pack_target_bytes: 100_000, ..StoreOptions::default() };
    settings.chunk_mean_bytes = 4096;
    let machine = Arc::new(Machine::new(settings, 1));
    machine.open().unwrap();
    machine
}

#[test]
fn a_reader_whose_chunks_are_reclaimed_reads_what_the_file_is_now() {
    let machine = machine();
    let vfs = machine.vfs();
    let file = vfs.mknod(&Context::ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    vfs.write(&Context::ROOT, file, 0, &version(0)).unwrap();
    vfs.sync().unwrap();
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let read = vfs.read(&Context::ROOT, file, 0, 1 << 20).map(|pieces| pieces.concat());
                    let read = read.inspect_err(|_| done.store(true, Ordering::Relaxed)).unwrap();
                    let number = u64::from_le_bytes(read[..8].try_into().unwrap());
                    assert!(read == version(number), "what was read begins as version {number} and goes on otherwise");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Beside the commits: the readers' memory may be behind what is committed.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                machine.collect(0, u8::MAX).inspect_err(|_| done.store(true, Ordering::Relaxed)).unwrap();
            }
        });
        for number in 1..=ROUNDS {
            if done.load(Ordering::Relaxed) {
                break;
            }
            vfs.write(&Context::ROOT, file, 0, &version(number)).unwrap();
            vfs.sync().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > ROUNDS / 10, "hardly anybody read");
    assert!(vfs.damaged().is_empty());
    machine.audit().unwrap();
    drop(vfs);
    machine.close().unwrap();
}

const APPENDS: u64 = 600;
const APPEND_BYTES: u64 = 500;
/// Copies that are kept.
const COPIES: u64 = 50;
/// What is read and copied: the end of the file, which the next append is cut together with.
const TAIL_BYTES: u64 = 6000;

/// Bytes of a file that grows.
fn grown(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as u8).collect()
}

#[test]
fn what_is_appended_to_takes_no_chunk_from_who_reads_or_copies_it() {
    let machine = machine();
    let vfs = machine.vfs();
    let make = |name: &[u8]| vfs.mknod(&Context::ROOT, Ino::ROOT, name, NodeKind::Regular, 0o644).unwrap().ino;
    let (file, copy) = (make(b"file"), make(b"copy"));
    vfs.write(&Context::ROOT, file, 0, &grown(0, TAIL_BYTES)).unwrap();
    vfs.sync().unwrap();
    let (done, size, copies) = (AtomicBool::new(false), AtomicU64::new(TAIL_BYTES), AtomicU64::new(0));
    let until_done = |act: &dyn Fn() -> Result<(), String>| {
        while !done.load(Ordering::Relaxed) {
            act().inspect_err(|_| done.store(true, Ordering::Relaxed)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until_done(&|| {
                let at = size.load(Ordering::SeqCst) - TAIL_BYTES;
                let read = vfs.read(&Context::ROOT, file, at, TAIL_BYTES as u32).map_err(|error| error.to_string())?;
                if read.concat() == grown(at, TAIL_BYTES) { Ok(()) } else { Err("other bytes".to_owned()) }
            });
        });
        scope.spawn(|| {
            until_done(&|| {
                let at = size.load(Ordering::SeqCst) - TAIL_BYTES;
                let to = copies.fetch_add(1, Ordering::Relaxed) % COPIES * TAIL_BYTES;
                let copied = vfs.copy_range(&Context::ROOT, (file, at), (copy, to), TAIL_BYTES);
                copied.map(drop).map_err(|error| error.to_string())
            });
        });
        scope.spawn(|| until_done(&|| machine.collect(0, u8::MAX).map_err(|error| error.to_string())));
        for _ in 0..APPENDS {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let at = size.load(Ordering::SeqCst);
            vfs.write(&Context::ROOT, file, at, &grown(at, APPEND_BYTES)).unwrap();
            size.fetch_add(APPEND_BYTES, Ordering::SeqCst);
            vfs.sync().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(copies.load(Ordering::Relaxed) > APPENDS / 10, "hardly anything was copied");
    let lost = machine.store().unwrap().damaged();
    assert!(vfs.damaged().is_empty() && lost.is_empty(), "{} chunks: {:?}", lost.len(), lost.first());
    machine.audit().unwrap();
    drop(vfs);
    machine.close().unwrap();
}
