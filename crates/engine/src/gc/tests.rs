//! The thread goes on after a collection that had a defect, and says so.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use verfs_base::{DiskFile, Ino, RealDisk, Space, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_meta::MemoryStore;
use verfs_store::StoreOptions;
use verfs_testkit::{Call, CrashMeta, Lasting, Power};
use verfs_vfs::{Context, NodeKind, VfsOptions, VfsParts};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A directory whose room nobody can tell while it is told to panic.
#[derive(Debug)]
struct Panicking {
    disk: RealDisk,
    armed: AtomicBool,
}

impl Disk for Panicking {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn space(&self) -> io::Result<Space> {
        assert!(!self.armed.load(Ordering::SeqCst), "a defect, on purpose");
        self.disk.space()
    }
}

/// A volume with garbage: a file that is gone.
struct Garbage {
    disk: Arc<Panicking>,
    power: Arc<Power>,
    store: Arc<ChunkStore>,
    vfs: Arc<Vfs>,
    clock: Arc<dyn Clock>,
    _folder: tempfile::TempDir,
}

impl Garbage {
    fn new() -> Garbage {
        let folder = tempfile::tempdir().unwrap();
        let power = Arc::new(Power::new());
        let meta = Arc::new(CrashMeta::new(Arc::new(MemoryStore::new()), Arc::clone(&power)));
        let disk = RealDisk::new(folder.path().to_path_buf());
        let disk = Arc::new(Panicking { disk, armed: AtomicBool::new(false) });
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let options = StoreOptions { pack_target_bytes: 1 << 20, ..StoreOptions::default() };
        let store = ChunkStore::open(disk.clone(), meta.clone(), &[7; 192], clock.clone(), options).unwrap();
        let chunker = ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, chunker).unwrap();
        let parts = VfsParts { disk: disk.clone(), meta, store: store.clone(), chunker, clock: clock.clone() };
        let vfs = Vfs::open(parts, VfsOptions::default()).unwrap();
        let file = vfs.mknod(&Context::ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
        let noise: Vec<u8> = (0..900_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        vfs.write(&Context::ROOT, file, 0, &noise).unwrap();
        vfs.sync().unwrap();
        vfs.unlink(&Context::ROOT, Ino::ROOT, b"file").unwrap();
        (0..4).for_each(|_| vfs.sync().unwrap());
        Garbage { disk, power, store, vfs, clock, _folder: folder }
    }

    fn collector(&self, background: Background) -> Collector {
        let options = GcOptions { background, dead_percent: 20, busy_rate_bytes: 1 << 30 };
        let stores = (Arc::clone(&self.store), Arc::clone(&self.vfs));
        Collector::start(stores, self.disk.clone(), Arc::clone(&self.clock), Arc::default(), options).unwrap()
    }

    fn end(self, collector: &Collector) {
        collector.stop();
        self.vfs.close().unwrap();
        self.store.close().unwrap();
    }
}

#[test]
fn a_collection_that_panics_is_begun_anew() {
    let garbage = Garbage::new();
    let collector = garbage.collector(Background::Off);
    garbage.power.panic_at(Call::MetaRead, Lasting::Forever);
    assert!(matches!(collector.collect(&|| true), Err(StoreError::Io { .. })));
    garbage.power.heal();
    let status = collector.status();
    assert_eq!((status.restarts, status.active, status.collections), (1, false, 1));
    assert!(!status.failure.is_empty());
    assert!(collector.collect(&|| true).unwrap().unwrap().reclaimed_bytes() > 0);
    let status = collector.status();
    assert_eq!((status.restarts, status.failure.as_str()), (1, ""));
    garbage.end(&collector);
}

#[test]
fn a_thread_that_panics_between_two_collections_is_begun_anew_and_does_what_it_is_asked() {
    let garbage = Garbage::new();
    garbage.disk.armed.store(true, Ordering::SeqCst);
    let collector = Arc::new(garbage.collector(Background::On));
    let begun = Instant::now();
    while collector.status().restarts == 0 {
        assert!(begun.elapsed() < PATIENCE, "it never looks whether its time has come");
        std::thread::sleep(Duration::from_millis(10));
    }
    garbage.disk.armed.store(false, Ordering::SeqCst);
    // Not from this thread: if nobody is there to collect, it waits for ever.
    let (done, ends) = std::sync::mpsc::channel();
    let asked = Arc::clone(&collector);
    std::thread::spawn(move || {
        done.send(asked.collect(&|| true).map(|progress| progress.map(|of| of.reclaimed_bytes())))
    });
    ends.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(collector.status().reclaimed_bytes > 0, "{:?}", collector.status());
    garbage.end(&collector);
}
