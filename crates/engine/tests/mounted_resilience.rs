//! A store that hangs and threads that panic: whoever asks gets an error in time, the mount stays, and what is wrong has
//! a name.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use support::gate::{Gate, GatedDisk, Passing};
use verfs_base::SystemClock;
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_fuse::{Session, SessionOptions};
use verfs_meta::MemoryStore;
use verfs_store::{ChunkStore, StoreOptions};
use verfs_testkit::{Call, CrashMeta, Lasting, Power};
use verfs_vfs::{Commits, Vfs, VfsOptions, VfsParts};

/// What a request may wait for the store.
const DEADLINE: Duration = Duration::from_millis(500);
/// Longest until an answer that comes at a deadline on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than there are threads for fsync.
const CLIENTS: usize = 40;
const LEN: usize = 2 << 20;

/// A mounted volume whose disk hangs and whose engine panics when it is told to.
struct Mounted {
    gate: Arc<Gate>,
    power: Arc<Power>,
    store: Arc<ChunkStore>,
    vfs: Arc<Vfs>,
    session: Session,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Threads of the process are counted: one mount at a time.
static ALONE: Mutex<()> = Mutex::new(());

impl Mounted {
    fn new() -> Mounted {
        let alone = ALONE.lock();
        let folder = tempfile::Builder::new().prefix("verfs-resilience-").tempdir().unwrap();
        let mountpoint = folder.path().join("mount");
        fs::create_dir(&mountpoint).unwrap();
        let gate = Arc::new(Gate::default());
        let power = Arc::new(Power::new());
        let meta = Arc::new(CrashMeta::new(Arc::new(MemoryStore::new()), Arc::clone(&power)));
        let disk = Arc::new(GatedDisk::new(folder.path().to_path_buf(), Arc::clone(&gate)));
        let clock = Arc::new(SystemClock::new());
        let options = StoreOptions { chunk_cache_bytes: 4096, ..StoreOptions::default() };
        let store = ChunkStore::open(disk.clone(), meta.clone(), &[7; 192], clock.clone(), options).unwrap();
        let sizes = ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, sizes).unwrap();
        let parts = VfsParts { disk, meta, store: Arc::clone(&store), chunker, clock };
        let vfs = Vfs::open(parts, VfsOptions { dirty_limit_bytes: 1 << 20, ..VfsOptions::default() }).unwrap();
        let options = SessionOptions { deadline: Some(DEADLINE), ..SessionOptions::default() };
        let session = Session::mount(Arc::clone(&vfs), &mountpoint, &options).unwrap();
        Mounted { gate, power, store, vfs, session, folder, _alone: alone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("mount").join(name)
    }

    /// A file of noise that is in the packs alone.
    fn make_file(&self, name: &str) -> Vec<u8> {
        let mut rng = verfs_testkit::TestRng::new(3);
        let data: Vec<u8> = std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(LEN).collect();
        fs::write(self.path(name), &data).unwrap();
        self.vfs.sync().unwrap();
        rustix::fs::fadvise(File::open(self.path(name)).unwrap(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
        data
    }

    fn overdue(&self) -> Vec<(&'static str, u64)> {
        self.session.stats().overdue.iter().map(|overdue| (overdue.operation.name(), overdue.count)).collect()
    }

    fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < PATIENCE, "never {what}: {:?}", self.session.stats());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What needs nothing of the disk is done all the same.
    fn check_alive(&self, name: &str) {
        let begun = Instant::now();
        fs::create_dir(self.path(name)).unwrap();
        assert!(fs::metadata(self.path(name)).unwrap().is_dir());
        assert!(begun.elapsed() < DEADLINE, "it took {:?}", begun.elapsed());
    }

    fn end(self) {
        self.session.unmount().unwrap();
        self.vfs.close().unwrap();
        self.store.close().unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// How long `act` took to fail with EIO.
fn fails_in(act: impl FnOnce() -> io::Result<()>) -> Duration {
    let begun = Instant::now();
    let error = act().expect_err("the store hangs, and it was done");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    begun.elapsed()
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    File::open(path)?.read_to_end(&mut data)?;
    Ok(data)
}

#[test]
fn a_read_that_hangs_fails_at_its_deadline_and_works_once_the_disk_does() {
    let mounted = Mounted::new();
    let data = mounted.make_file("file");
    mounted.gate.close(Passing::Reads);
    let took = fails_in(|| read_whole(&mounted.path("file")).map(drop));
    assert!(took >= DEADLINE && took < PATIENCE, "it took {took:?}");
    mounted.check_alive("while it hangs");
    assert!(mounted.overdue().iter().any(|(name, count)| *name == "read" && *count > 0), "{:?}", mounted.overdue());
    mounted.gate.open();
    mounted.eventually("does it answer again", || mounted.overdue().is_empty());
    assert!(read_whole(&mounted.path("file")).unwrap() == data, "other bytes than were written");
    assert!(mounted.session.stats().refused > 0);
    assert!(mounted.vfs.damaged().is_empty(), "a disk that hangs is not a damaged one");
    mounted.end();
}

/// Names of the threads of this process that serve fsyncs.
fn sync_threads() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    names
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("verfs-sync")))
        .count()
}

#[test]
fn fsyncs_that_hang_fail_at_their_deadline_without_more_threads_and_are_done_all_the_same() {
    let mounted = Mounted::new();
    let files: Vec<File> = (0..CLIENTS)
        .map(|number| {
            File::options().read(true).write(true).create_new(true).open(mounted.path(&format!("file{number}")))
        })
        .collect::<io::Result<_>>()
        .unwrap();
    files.iter().for_each(|mut file| file.write_all(b"written").unwrap());
    let threads = sync_threads();
    mounted.gate.close(Passing::Syncs);
    std::thread::scope(|scope| {
        let clients: Vec<_> = files.iter().map(|file| scope.spawn(|| fails_in(|| file.sync_all()))).collect();
        for client in clients {
            let took = client.join().unwrap();
            assert!(took >= DEADLINE && took < PATIENCE, "it took {took:?}");
        }
    });
    assert_eq!(sync_threads(), threads);
    mounted.check_alive("while it hangs");
    let under_way: u64 = mounted.overdue().iter().filter(|(name, _)| *name == "fsync").map(|(_, count)| count).sum();
    assert!(under_way > 0 && under_way <= threads as u64, "{under_way} under way, {threads} threads");
    assert_eq!(mounted.session.stats().refused, CLIENTS as u64);
    mounted.gate.open();
    mounted.eventually("does it answer again", || mounted.overdue().is_empty());
    for file in &files {
        file.sync_all().unwrap();
        let mut data = [0; 7];
        file.read_exact_at(&mut data, 0).unwrap();
        assert_eq!(&data, b"written");
    }
    drop(files);
    mounted.end();
}

#[test]
fn writers_that_find_no_room_since_the_disk_hangs_fail_at_their_deadline() {
    let mounted = Mounted::new();
    let mut file = File::create(mounted.path("file")).unwrap();
    mounted.gate.close(Passing::Syncs);
    // Four times what there is room for, and a commit hangs.
    let took = fails_in(|| (0..64_u8).try_for_each(|piece| file.write_all(&vec![piece | 1; 1 << 16])));
    assert!(took >= DEADLINE && took < PATIENCE, "it took {took:?}");
    assert!(
        matches!(mounted.vfs.commits(), Commits::Working(since) if since >= DEADLINE),
        "{:?}",
        mounted.vfs.commits()
    );
    assert!(mounted.overdue().iter().any(|(name, _)| *name == "write"), "{:?}", mounted.overdue());
    // Names need no room.
    assert!(fs::metadata(mounted.path("file")).unwrap().is_file());
    mounted.gate.open();
    mounted.eventually("does it answer again", || mounted.overdue().is_empty());
    drop(file);
    fs::write(mounted.path("next"), "next").unwrap();
    File::open(mounted.path("next")).unwrap().sync_all().unwrap();
    mounted.vfs.sync().unwrap();
    mounted.eventually("does the committer rest", || mounted.vfs.commits() == Commits::Idle);
    mounted.end();
}

#[test]
fn a_committer_that_panics_leaves_a_mount_that_can_be_read() {
    let mounted = Mounted::new();
    let data = mounted.make_file("file");
    let mut other = File::create(mounted.path("other")).unwrap();
    other.write_all(&[1; 5000]).unwrap();
    mounted.power.panic_at(Call::MetaCommit, Lasting::Forever);
    assert_eq!(mounted.vfs.sync(), Err(verfs_vfs::VfsError::Io));
    assert_eq!(other.sync_all().unwrap_err().raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    assert_eq!(mounted.vfs.commits(), Commits::Defect);
    assert!(read_whole(&mounted.path("file")).unwrap() == data, "other bytes than were written");
    let refused = fs::create_dir(mounted.path("new")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    mounted.power.heal();
    drop(other);
    mounted.session.unmount().unwrap();
    assert!(mounted.vfs.close().is_err(), "what could not be committed is lost, and nobody hears of it");
}
