//! A process that is killed while it waits leaves nothing behind: no lock, no request, no pin of an inode, no space.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use support::connection::Connection;
use support::gate::{Gate, GatedDisk, Passing};
use support::{Other, report, told};
use verfs_base::{Ino, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_fuse::{Session, SessionOptions};
use verfs_meta::MemoryStore;
use verfs_store::{ChunkStore, StoreOptions};
use verfs_vfs::{Context, NodeKind, Vfs, VfsOptions, VfsParts};

const LEN: usize = 3 << 20;
/// Longest until something happens that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long somebody waits before he is taken for one who waits.
const SETTLED: Duration = Duration::from_millis(300);

/// A mounted volume whose disk makes others wait.
struct Slow {
    gate: Arc<Gate>,
    store: Arc<ChunkStore>,
    vfs: Arc<Vfs>,
    session: Session,
    connection: Connection,
    folder: tempfile::TempDir,
}

impl Slow {
    fn new() -> Slow {
        let folder = tempfile::Builder::new().prefix("verfs-kills-").tempdir().unwrap();
        let mountpoint = folder.path().join("mount");
        fs::create_dir(&mountpoint).unwrap();
        let gate = Arc::new(Gate::default());
        let disk = Arc::new(GatedDisk::new(folder.path().to_path_buf(), Arc::clone(&gate)));
        let (meta, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock::new()));
        let options = StoreOptions { chunk_cache_bytes: 4096, ..StoreOptions::default() };
        let store = ChunkStore::open(disk.clone(), meta.clone(), &[7; 192], clock.clone(), options).unwrap();
        let sizes = ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, sizes).unwrap();
        let parts = VfsParts { disk, meta, store: Arc::clone(&store), chunker, clock };
        let options = VfsOptions { dirty_limit_bytes: 1 << 20, ..VfsOptions::default() };
        let vfs = Vfs::open(parts, options).unwrap();
        // More than one file's read-ahead takes, whatever size its requests have: others are served meanwhile.
        let options = SessionOptions { io_threads: 16, ..SessionOptions::default() };
        let session = Session::mount(Arc::clone(&vfs), &mountpoint, &options).unwrap();
        let connection = Connection::of(&mountpoint);
        Slow { gate, store, vfs, session, connection, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mount/file")
    }

    /// A file of which the kernel knows nothing, with nothing of it in memory.
    fn make_file(&self) {
        let file = self.vfs.mknod(&Context::ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
        let mut rng = verfs_testkit::TestRng::new(3);
        let data: Vec<u8> = std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(LEN).collect();
        for (number, piece) in data.chunks(1 << 19).enumerate() {
            self.vfs.write(&Context::ROOT, file, (number << 19) as u64, piece).unwrap();
        }
        self.vfs.sync().unwrap();
    }

    fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(
                begun.elapsed() < PATIENCE,
                "never {what}: {:?}, {} queued, {:?} not answered",
                self.vfs.stats(),
                self.session.stats().queued(),
                self.connection.waiting()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the other process has been waiting in a request for a while, and somebody at the gate.
    fn settle(&self) {
        let waits = || self.connection.waiting().unwrap() > 0 && self.gate.waiting() > 0;
        self.eventually("does it wait", waits);
        let since = Instant::now();
        while since.elapsed() < SETTLED {
            assert!(waits(), "it does not wait for the disk");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Nothing of a process that was killed is left: it held the only file, which has no name any more.
    fn check_nothing_is_left(self, pinned_before: u64) {
        self.eventually("is every request answered", || self.connection.waiting().unwrap() == 0);
        self.eventually("are the queues empty", || self.session.stats().queued() == 0);
        self.eventually("is nothing pinned", || self.vfs.stats().pinned_inodes == pinned_before);
        self.eventually("is the space back", || {
            self.vfs.sync().unwrap();
            let (vfs, store) = (self.vfs.stats(), self.store.stats());
            (vfs.orphans, vfs.inodes, vfs.logical_bytes, store.unique_bytes) == (0, 1, 0, 0)
        });
        // Whoever comes next is served.
        fs::write(self.path(), "next").unwrap();
        assert_eq!(fs::read_to_string(self.path()).unwrap(), "next");
        self.session.unmount().unwrap();
        assert_eq!(self.vfs.stats().pinned_inodes, 0);
        self.vfs.close().unwrap();
        self.store.close().unwrap();
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.gate.open();
    }
}

const WAITER: &str = "a_process_waits_with_an_unlinked_file_until_it_is_killed";

/// For the other tests in a process of its own; by itself it does nothing.
#[test]
fn a_process_waits_with_an_unlinked_file_until_it_is_killed() {
    let open = |path: &Path| {
        let file = File::options().read(true).write(true).open(path).unwrap();
        fs::remove_file(path).unwrap();
        report("waits");
        file
    };
    if let Some(path) = told("FCNTL") {
        fcntl_lock(open(&path), FlockOperation::LockExclusive).unwrap();
    }
    if let Some(path) = told("FLOCK") {
        flock(open(&path), FlockOperation::LockExclusive).unwrap();
    }
    if let Some(path) = told("READ") {
        open(&path).read_exact_at(&mut vec![0; LEN], 0).unwrap();
    }
    if let Some(path) = told("FSYNC") {
        let file = open(&path);
        file.write_all_at(b"dirty", 0).unwrap();
        file.sync_all().unwrap();
    }
    if let Some(path) = told("WRITE") {
        let file = open(&path);
        // Thrice what there is room for.
        for piece in 0..3 * 16 {
            file.write_all_at(&vec![piece; 1 << 16], u64::from(piece) << 16).unwrap();
        }
    }
}

/// Kills a process while it waits for the disk.
fn kill_while_it_waits(role: &str, for_what: Passing) {
    let slow = Slow::new();
    slow.make_file();
    let pinned = slow.vfs.stats().pinned_inodes;
    slow.gate.close(for_what);
    let mut other = Other::start(WAITER, role, &slow.path());
    other.expect("waits");
    slow.settle();
    assert_eq!(slow.vfs.stats().pinned_inodes, pinned + 1, "nobody holds the file");
    other.send_kill();
    // Who is killed takes nobody along.
    assert_eq!(fs::read_dir(slow.folder.path().join("mount")).unwrap().count(), 0);
    std::thread::sleep(SETTLED);
    slow.gate.open();
    other.kill();
    slow.check_nothing_is_left(pinned);
}

#[test]
fn a_process_killed_while_it_reads_leaves_nothing() {
    kill_while_it_waits("READ", Passing::Reads);
}

#[test]
fn a_process_killed_in_fsync_leaves_nothing() {
    kill_while_it_waits("FSYNC", Passing::Syncs);
}

#[test]
fn a_process_killed_while_it_waits_for_room_leaves_nothing() {
    kill_while_it_waits("WRITE", Passing::Syncs);
}

/// Whether a thread of a process waits for a lock.
fn waits_for_a_lock(pid: i32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.flatten().any(|task| {
        let place = fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
        // Names of functions of the kernel.
        ["setlk", "lock_file_wait", "locks_lock"].iter().any(|part| place.contains(part))
    })
}

/// Kills a process while it waits for a lock that this one has.
fn kill_while_it_waits_for_a_lock(role: &str, lock: impl Fn(&File, FlockOperation) -> rustix::io::Result<()>) {
    let slow = Slow::new();
    slow.make_file();
    let pinned = slow.vfs.stats().pinned_inodes;
    let own = File::options().read(true).write(true).open(slow.path()).unwrap();
    let also = File::options().read(true).write(true).open(slow.path()).unwrap();
    lock(&own, FlockOperation::LockExclusive).unwrap();
    let mut other = Other::start(WAITER, role, &slow.path());
    other.expect("waits");
    slow.eventually("does it wait", || waits_for_a_lock(other.pid()));
    let killed = Instant::now();
    other.kill();
    assert!(killed.elapsed() < PATIENCE / 4, "it took {:?} to go", killed.elapsed());
    lock(&own, FlockOperation::Unlock).unwrap();
    lock(&also, FlockOperation::NonBlockingLockExclusive).expect("a lock of a process that is gone");
    drop((own, also));
    slow.check_nothing_is_left(pinned);
}

#[test]
fn a_process_killed_while_it_waits_for_a_lock_leaves_nothing() {
    kill_while_it_waits_for_a_lock("FCNTL", |file, operation| fcntl_lock(file, operation));
    kill_while_it_waits_for_a_lock("FLOCK", |file, operation| flock(file, operation));
}
