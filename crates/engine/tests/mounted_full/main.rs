//! A mounted volume on a disk without room: a real file system of its own, full to the last block. Whatever is tried
//! succeeds or says ENOSPC, nothing that was accepted is lost, deleting works, and room that comes back is used.
//!
//! Lives here: the disk, what fills it, and what must be true then. Never here: which errors a disk in memory gives, of
//! which `crates/testkit` knows more. Data flows from the attempts into the mount, and from it into the ledger's check.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod attempts;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use attempts::{ATTEMPTS, prepare};
use rustix::fs::FallocateFlags;
use support::connection::Connection;
use support::disk::LoopDisk;
use support::{mountpoint, open_and_mount};
use verfs_engine::{CreateOptions, Volume};
use verfs_testkit::TestRng;

/// Longest that one operation may take before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Longest until a volume uses room that came back.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;
/// Small enough to be full within seconds, large enough for what a volume sets aside.
const DISK_MIB: u64 = 160;

/// An ext4 of its own with a mounted volume on it. Nothing of it stays, however the test ends.
struct Full {
    volume: Option<Arc<Volume>>,
    disk: LoopDisk,
    folder: tempfile::TempDir,
}

impl Full {
    fn new(disk_mib: u64) -> Full {
        let folder = tempfile::Builder::new().prefix("verfs-full-").tempdir().unwrap();
        fs::create_dir(mountpoint(folder.path())).unwrap();
        let disk = LoopDisk::new(folder.path(), disk_mib);
        Volume::create(&disk.path().join("volume"), &CreateOptions::default()).unwrap();
        symlink(disk.path().join("volume"), folder.path().join("volume")).unwrap();
        let mut full = Full { volume: None, disk, folder };
        full.volume = Some(open_and_mount(full.folder.path()));
        full
    }

    fn volume(&self) -> &Arc<Volume> {
        self.volume.as_ref().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        mountpoint(self.folder.path()).join(name)
    }

    /// A file beside the volume, on its disk.
    fn filler(&self) -> PathBuf {
        self.disk.path().join("filler")
    }

    /// Somebody else takes all the room that there is.
    fn take_all(&self) {
        let filler = OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        let mut piece = 16 * MIB as u64;
        while piece >= 4096 {
            let len = filler.metadata().unwrap().len();
            match rustix::fs::fallocate(&filler, FallocateFlags::empty(), len, piece) {
                Ok(()) => {}
                Err(rustix::io::Errno::NOSPC) => piece /= 2,
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
    }

    fn give_back(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn remount(&mut self) {
        self.volume.take().unwrap().close().unwrap();
        self.volume = Some(open_and_mount(self.folder.path()));
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        // Before the disk under it.
        drop(self.volume.take());
    }
}

/// Bytes that neither compress nor repeat.
fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = TestRng::new(seed);
    std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(len).collect()
}

/// What every file must hold: everything that was accepted.
#[derive(Default)]
struct Ledger {
    files: BTreeMap<PathBuf, Vec<u8>>,
    seed: u64,
}

impl Ledger {
    /// Writes a new file, or as much of it as there is room for. `false` when there was none for all of it.
    fn write(&mut self, path: PathBuf, len: usize) -> bool {
        self.seed += 1;
        let data = random(self.seed, len);
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            Err(error) => {
                check_refusal("creating a file", &error);
                return false;
            }
        };
        let mut done = 0;
        let refused = loop {
            if done == len {
                break None;
            }
            match file.write(&data[done..]) {
                Ok(written) => done += written,
                Err(error) => break Some(error),
            }
        };
        // What a refused write has accepted all the same is there, and nothing else.
        let held = file.metadata().unwrap().len() as usize;
        assert!(held >= done && held <= len, "{} has {held} bytes after {done} were accepted", path.display());
        self.files.insert(path, data[..held].to_vec());
        if let Some(error) = &refused {
            check_refusal("writing a file", error);
        }
        refused.is_none()
    }

    /// Reads everything, from the volume and not from the kernel's copies.
    fn check(&self, when: &str) {
        for (path, data) in &self.files {
            let file = File::open(path).unwrap_or_else(|error| panic!("{when}: {}: {error}", path.display()));
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let found = fs::read(path).unwrap_or_else(|error| panic!("{when}: {}: {error}", path.display()));
            assert!(found == *data, "{when}: {} has other bytes: {} of {}", path.display(), found.len(), data.len());
        }
    }
}

fn check_refusal(what: &str, error: &io::Error) {
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{what}: {error}");
}

/// Fills the volume until not even an empty file finds room, also after everything is committed.
fn fill(full: &Full, ledger: &mut Ledger) {
    for len in [MIB, 64 << 10, 4096, 0] {
        let mut refused_at_once = 0;
        // The volume claims the worst case for what isn't committed yet, so that each commit makes room.
        while refused_at_once < 3 {
            let mut written = 0;
            while ledger.write(full.path(&format!("fill/{}", ledger.seed)), len) {
                written += 1;
            }
            refused_at_once = if written == 0 { refused_at_once + 1 } else { 0 };
            full.volume().sync().unwrap();
        }
    }
}

/// Runs something that must end. When it doesn't, the mount is cut off, so that the test can fail.
fn timely<T: Send + 'static>(full: &Full, what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let connection = Connection::of(&full.path(""));
    std::thread::spawn(move || {
        let _nobody_waits = sender.send(run());
    });
    receiver.recv_timeout(STUCK_AFTER).unwrap_or_else(|error| {
        let (waiting, aborted) = (connection.waiting(), connection.abort());
        panic!("{what}: {error} after {STUCK_AFTER:?}; requests not answered: {waiting:?}; aborted: {aborted:?}")
    })
}

/// Tries something until there is room for it again.
fn soon(full: &Full, begun: Instant, what: &str, act: impl Fn() -> io::Result<()>) {
    while let Err(error) = act() {
        check_refusal(what, &error);
        let gc = full.volume().gc_status();
        assert!(begun.elapsed() < RECOVERY_MAX, "{what}: no room after everything was deleted: {gc:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Of the bytes that were deleted, how many in a hundred can be written again, once garbage collection has come by: of
/// what is still there a part is worth no rewriting.
const BACK_MIN_PERCENT: u64 = 60;

/// What must work again once `deleted_bytes` are deleted: everything small, and [`BACK_MIN_PERCENT`] of what was there.
fn check_room_is_back(full: &Full, deleted_bytes: u64) {
    let begun = Instant::now();
    let at = full.path("again");
    soon(full, begun, "mkdir", || fs::create_dir(&at));
    for number in 0..50 {
        soon(full, begun, "a small file", || fs::write(at.join(format!("{number}")), random(number, 1000)));
    }
    File::open(&at).unwrap().sync_all().unwrap();
    let large = full.path("large");
    let mut file = File::create(&large).unwrap();
    let wanted = deleted_bytes * BACK_MIN_PERCENT / 100;
    let mut written = 0;
    while written < deleted_bytes {
        match file.write(&random(written, MIB)) {
            Ok(len) => written += len as u64,
            Err(error) => {
                check_refusal("writing after everything was deleted", &error);
                if written >= wanted {
                    break;
                }
                let gc = full.volume().gc_status();
                assert!(
                    begun.elapsed() < RECOVERY_MAX,
                    "of {deleted_bytes} bytes {written} can be written again: {gc:?}"
                );
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    eprintln!("of {} MiB that were deleted {} can be written again", deleted_bytes >> 20, written >> 20);
    fs::remove_file(large).unwrap();
}

#[test]
fn every_operation_on_a_full_volume_succeeds_or_finds_no_room_and_nothing_is_lost() {
    let mut full = Full::new(DISK_MIB);
    let mut ledger = Ledger::default();
    prepare(&full.path("work")).unwrap();
    fs::create_dir(full.path("kept")).unwrap();
    fs::create_dir(full.path("fill")).unwrap();
    for number in 0..20 {
        assert!(ledger.write(full.path(&format!("kept/{number}")), 1 << number));
    }
    let mut refused = Vec::new();
    for attempt in ATTEMPTS {
        fill(&full, &mut ledger);
        let (run, at) = (attempt.run, full.path("work"));
        match timely(&full, attempt.name, move || run(&at)) {
            Ok(()) => {}
            Err(error) => {
                assert!(!attempt.must_succeed, "{} on a full volume: {error}", attempt.name);
                check_refusal(attempt.name, &error);
                refused.push(attempt.name);
            }
        }
        full.volume().sync().unwrap();
    }
    eprintln!("{} of {} operations found no room: {refused:?}", refused.len(), ATTEMPTS.len());
    assert!(refused.contains(&"write much"), "the volume wasn't full");
    ledger.check("on the full volume");
    full.remount();
    ledger.check("after a remount of the full volume");
    let deleted: u64 = ledger.files.values().map(|data| data.len() as u64).sum();
    for name in ["work", "fill"] {
        fs::remove_dir_all(full.path(name)).unwrap_or_else(|error| panic!("deleting {name} on a full volume: {error}"));
    }
    ledger.files.retain(|path, _| path.starts_with(full.path("kept")));
    check_room_is_back(&full, deleted);
    full.remount();
    ledger.check("after everything else was deleted");
    assert_eq!(fs::read_dir(full.path("again")).unwrap().count(), 50);
}

/// A writer who goes on, whatever comes, and knows what must be there. Returns how often he found no room.
fn work_on(at: &Path, number: u64, is_over: &AtomicBool, done: &AtomicU64) -> u64 {
    let (mut rng, mut refused) = (TestRng::new(number), 0);
    let mut last: Option<(PathBuf, Vec<u8>)> = None;
    for round in 0_u64.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let (draft, goal) = (at.join(format!("draft-{number}")), at.join(format!("file-{number}-{}", round % 3)));
        let data = random(number << 32 | round, rng.between(1, 30_000) as usize);
        let written = (|| {
            let mut file = File::create(&draft)?;
            file.write_all(&data)?;
            if round.is_multiple_of(3) {
                file.sync_all()?;
            }
            fs::rename(&draft, &goal)
        })();
        match written {
            Ok(()) => {
                done.fetch_add(1, Ordering::SeqCst);
                last = Some((goal, data));
            }
            Err(error) => {
                check_refusal(&format!("writer {number}, round {round}"), &error);
                refused += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if let Some((path, data)) = &last {
            let found = fs::read(path).unwrap_or_else(|error| panic!("writer {number}, round {round}: {error}"));
            assert!(found == *data, "writer {number}, round {round}: {} has other bytes", path.display());
        }
    }
    refused
}

/// Tries everything again and again while room comes and goes. What was refused is missing later on.
fn try_everything(at: &Path, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        if let Err(error) = prepare(at) {
            check_refusal("preparing", &error);
            if !at.exists() {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
        }
        for attempt in ATTEMPTS {
            match (attempt.run)(at) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if attempt.name == "write through a map" && error.kind() == io::ErrorKind::UnexpectedEof => {
                }
                Err(error) if attempt.name == "removexattr" && error.raw_os_error() == Some(libc::ENODATA) => {}
                Err(error) => check_refusal(attempt.name, &error),
            }
            if is_over.load(Ordering::SeqCst) {
                break;
            }
        }
        fs::remove_dir_all(at).unwrap_or_else(|error| panic!("deleting while there is no room: {error}"));
    }
}

/// Ends those who go on until they are told, also when the test fails first.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_volume_whose_disk_somebody_else_fills_goes_on_by_itself_when_there_is_room() {
    const WRITERS: u64 = 3;
    let mut full = Full::new(DISK_MIB);
    let (is_over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let at = full.path("work");
    fs::create_dir(&at).unwrap();
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (at, is_over, done) = (&at, &is_over, &done);
                scope.spawn(move || work_on(at, number, is_over, done))
            })
            .collect();
        let trying = scope.spawn(|| try_everything(&full.path("tried"), &is_over));
        for round in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            full.take_all();
            std::thread::sleep(Duration::from_millis(1500));
            let before = done.load(Ordering::SeqCst);
            full.give_back();
            let since = Instant::now();
            while done.load(Ordering::SeqCst) < before + 10 && writers.iter().all(|writer| !writer.is_finished()) {
                let waited = since.elapsed();
                assert!(waited < RECOVERY_MAX, "round {round}: nobody can write {waited:?} after the room came back");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        drop(over);
        trying.join().unwrap();
        let refused: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        let (done, free) = (done.load(Ordering::SeqCst), full.volume().stats().free_bytes >> 20);
        eprintln!("{done} files were written, {refused} found no room; in the end {free} MiB were free");
        assert!(refused > 0, "nobody noticed that the disk was full");
    });
    let held: BTreeMap<PathBuf, Vec<u8>> = fs::read_dir(&at)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    full.remount();
    for (path, data) in held {
        assert!(fs::read(&path).unwrap() == data, "{} after a remount", path.display());
    }
}
