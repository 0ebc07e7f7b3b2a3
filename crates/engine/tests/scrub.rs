//! Scrub of a whole volume: damaged files by name, the vault locked and not, stop and resume.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use verfs_engine::{
    Background, CreateOptions, LOCK_GRACE, OpenOptions, ReadOnly, ScrubEnd, ScrubOptions, ScrubProgress,
    VaultCompression, VaultSecret, Volume,
};
use verfs_vfs::{Context, NodeKind, Vfs};

fn options() -> OpenOptions {
    OpenOptions { gc_background: Background::Off, pack_target_bytes: 1 << 20, ..OpenOptions::default() }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = seed * 2 + 1;
    let mut byte = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as u8
    };
    (0..len).map(|_| byte()).collect()
}

fn write(vfs: &Vfs, name: &str, bytes: &[u8]) {
    let made = vfs.mknod(&Context::ROOT, verfs_base::Ino::ROOT, name.as_bytes(), NodeKind::Regular, 0o644).unwrap();
    vfs.write(&Context::ROOT, made.ino, 0, bytes).unwrap();
    vfs.sync().unwrap();
}

fn packs(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut packs: Vec<_> = std::fs::read_dir(dir.join("packs"))
        .unwrap()
        .flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "vpk"))
        .collect();
    packs.sort();
    packs
}

fn flip(pack: &Path) {
    let mut bytes = std::fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(pack, bytes).unwrap();
}

fn all(volume: &Volume) -> (ScrubProgress, ScrubEnd) {
    volume.scrub(&ScrubOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn the_file_of_a_damaged_record_is_named_whoever_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    write(volume.vfs(), "whole", &noise(1, 2 << 20));
    write(volume.vfs(), "bad", &noise(2, 900_000));
    volume.close().unwrap();
    flip(packs(&path).last().unwrap());
    let volume = Volume::open(&path, &options()).unwrap();
    let (progress, end) = all(&volume);
    assert_eq!((progress.tally.damaged, end), (1, ScrubEnd::Done));
    let damaged = volume.stats().damaged;
    assert_eq!(damaged.iter().map(|damage| &damage.path[..]).collect::<Vec<_>>(), ["/bad"]);
    assert!(!damaged[0].pack.is_empty());
    volume.close().unwrap();
    // What is known survives; the list of this process does not.
    let volume = Volume::open(&path, &options()).unwrap();
    let status = volume.scrub_status().unwrap();
    assert_eq!(status.ended.unwrap().tally, progress.tally);
    assert!(!status.active && !status.interrupted);
}

#[test]
fn a_vault_is_scrubbed_locked_and_unlocked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    write(volume.vfs(), "clear", &noise(1, 300_000));
    let secret = VaultSecret::new(b"a password".to_vec(), VaultSecret::new_key_file().unwrap().into_bytes()).unwrap();
    volume.create_vault(&secret, VaultCompression::On).unwrap();
    volume.unlock_vault(&secret).unwrap();
    write(&volume.vault_vfs().unwrap(), "secret", &noise(2, 900_000));
    let (unlocked, _) = all(&volume);
    assert_eq!((unlocked.tally.damaged, unlocked.tally.sealed), (0, 0));
    volume.lock_vault(LOCK_GRACE).unwrap();
    let (locked, _) = all(&volume);
    assert_eq!(locked.tally.records, unlocked.tally.records);
    assert!(locked.tally.sealed > 0 && locked.tally.damaged == 0, "{locked:?}");
    flip(packs(&path.join("vault")).last().unwrap());
    assert_eq!(all(&volume).0.tally.damaged, 1);
    volume.unlock_vault(&secret).unwrap();
    assert_eq!(all(&volume).0.tally.damaged, 1);
    let damaged = volume.vault_vfs().unwrap().damaged();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].path, b"/secret");
}

#[test]
fn a_stopped_scrub_goes_on_in_the_next_process_and_a_slow_one_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    write(volume.vfs(), "file", &noise(1, 5 << 20));
    let slow = ScrubOptions { rate_bytes: Some(1 << 20) };
    let other = std::sync::Arc::clone(&volume);
    let running = std::thread::spawn(move || other.scrub(&slow, &mut |_| ControlFlow::Continue(())).unwrap());
    while volume.scrub_status().unwrap().running.tally.bytes == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let begun = std::time::Instant::now();
    volume.stop_scrub();
    let (first, end) = running.join().unwrap();
    assert_eq!(end, ScrubEnd::Stopped);
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(volume.scrub_status().unwrap().interrupted);
    volume.close().unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    let (whole, end) = all(&volume);
    assert_eq!(end, ScrubEnd::Done);
    assert!(first.tally.records > 0 && first.tally.records < whole.tally.records);
    volume.close().unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    assert_eq!(all(&volume).0.tally.records, whole.tally.records, "each record counts once, in however many pieces");
}

#[test]
fn a_volume_that_is_open_read_only_is_scrubbed_and_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    write(volume.vfs(), "file", &noise(1, 300_000));
    volume.close().unwrap();
    let volume = Volume::open(&path, &OpenOptions { read_only: ReadOnly::Yes, ..options() }).unwrap();
    assert!(all(&volume).0.tally.records > 0);
    assert_eq!(volume.scrub_status().unwrap().ended, None);
}

/// What is read in a second at most while somebody uses the volume of [`Readers`].
const BUSY_RATE: u64 = 4 << 20;
/// What a scrub reads between two looks at its rate, at most.
const PIECE_BYTES: u64 = 2 << 20;
const FILE_BYTES: usize = 24 << 20;

/// The slowest of a hundred reads from packs, in each window that somebody reads for.
fn p99(volume: &Volume, ino: verfs_base::Ino, window: Duration) -> Duration {
    let begun = Instant::now();
    let (mut times, mut at) = (Vec::new(), 0_u64);
    while begun.elapsed() < window {
        at = (at + 7_654_321) % (FILE_BYTES as u64 - 4096);
        let read = Instant::now();
        assert_eq!(volume.vfs().read(&Context::ROOT, ino, at, 4096).unwrap().concat().len(), 4096);
        times.push(read.elapsed());
    }
    times.sort();
    times[times.len() * 99 / 100]
}

/// The best of several windows, taken in turns: what else the machine does is in some of both.
#[test]
fn readers_are_as_fast_while_a_scrub_runs_and_it_keeps_to_the_rate_that_is_left_for_it() {
    const WINDOW: Duration = Duration::from_millis(400);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).unwrap();
    // Every read comes from a pack, as those of a scrub do.
    let options = OpenOptions { scrub_busy_rate_bytes: BUSY_RATE, chunk_cache_bytes: 4096, ..options() };
    let volume = Volume::open(&path, &options).unwrap();
    write(volume.vfs(), "file", &noise(1, FILE_BYTES));
    let ino = volume.vfs().lookup(&Context::ROOT, verfs_base::Ino::ROOT, b"file").unwrap().ino;
    let (mut alone, mut beside) = (Duration::MAX, Duration::MAX);
    let (mut scrubbed, mut took) = (0, Duration::ZERO);
    for _ in 0..6 {
        alone = alone.min(p99(&volume, ino, WINDOW));
        let before = volume.scrub_status().unwrap().running.tally.bytes;
        let other = std::sync::Arc::clone(&volume);
        let begun = Instant::now();
        let running = std::thread::spawn(move || {
            other.scrub(&ScrubOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap()
        });
        beside = beside.min(p99(&volume, ino, WINDOW));
        volume.stop_scrub();
        let (progress, _) = running.join().unwrap();
        took += begun.elapsed();
        scrubbed += progress.tally.bytes.saturating_sub(before);
    }
    println!("slowest of a hundred reads: {alone:?} alone, {beside:?} beside a scrub of {scrubbed} bytes in {took:?}");
    assert!(scrubbed > 0, "it did not run");
    assert!(beside <= alone * 3 / 2 + Duration::from_millis(2), "{beside:?} instead of {alone:?}");
    let allowed = took.as_secs_f64() * BUSY_RATE as f64 + (6 * PIECE_BYTES) as f64;
    assert!((scrubbed as f64) < allowed, "{scrubbed} bytes in {took:?}");
    volume.close().unwrap();
}

#[test]
fn a_scrub_keeps_to_the_rate_that_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    write(volume.vfs(), "file", &noise(1, 6 << 20));
    let begun = Instant::now();
    let (progress, end) =
        volume.scrub(&ScrubOptions { rate_bytes: Some(3 << 20) }, &mut |_| ControlFlow::Continue(())).unwrap();
    let due = (progress.tally.bytes - PIECE_BYTES) as f64 / (3 << 20) as f64;
    assert_eq!(end, ScrubEnd::Done);
    assert!(begun.elapsed().as_secs_f64() >= due, "{} bytes in {:?}", progress.tally.bytes, begun.elapsed());
    volume.close().unwrap();
}
