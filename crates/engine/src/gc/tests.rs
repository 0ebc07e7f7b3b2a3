//! The thread goes on after a collection that had a defect, and says so.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use verfs_base::{Ino, RealDisk, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_meta::MemoryStore;
use verfs_store::StoreOptions;
use verfs_testkit::{Call, CrashMeta, Power};
use verfs_vfs::{Context, NodeKind, VfsOptions, VfsParts};

use super::*;

#[test]
fn a_collection_that_panics_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let power = Arc::new(Power::new());
    let meta = Arc::new(CrashMeta::new(Arc::new(MemoryStore::new()), Arc::clone(&power)));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(folder.path().to_path_buf()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = StoreOptions { pack_target_bytes: 1 << 20, ..StoreOptions::default() };
    let store = ChunkStore::open(disk.clone(), meta.clone(), &[7; 192], clock.clone(), options).unwrap();
    let chunker = ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap();
    let chunker = verfs_chunker::chunker(ChunkerKind::Min, chunker).unwrap();
    let parts = VfsParts { disk: disk.clone(), meta, store: store.clone(), chunker, clock: clock.clone() };
    let vfs = Vfs::open(parts, VfsOptions::default()).unwrap();
    // Garbage: a file that is gone.
    let file = vfs.mknod(&Context::ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    let noise: Vec<u8> = (0..300_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    vfs.write(&Context::ROOT, file, 0, &noise).unwrap();
    vfs.sync().unwrap();
    vfs.unlink(&Context::ROOT, Ino::ROOT, b"file").unwrap();
    (0..4).for_each(|_| vfs.sync().unwrap());
    let options = GcOptions { background: Background::Off, dead_percent: 20, busy_rate_bytes: 1 << 30 };
    let collector =
        Collector::start((Arc::clone(&store), Arc::clone(&vfs)), disk, clock, Arc::default(), options).unwrap();

    power.panic_at(Call::MetaRead);
    assert!(matches!(collector.collect(), Err(StoreError::Io { .. })));
    power.heal();
    let status = collector.status();
    assert_eq!((status.restarts, status.active, status.collections), (1, false, 1));
    assert!(!status.failure.is_empty());
    assert!(collector.collect().unwrap().reclaimed_bytes() > 0);
    let status = collector.status();
    assert_eq!((status.restarts, status.failure.as_str()), (1, ""));
    collector.stop();
    vfs.close().unwrap();
    store.close().unwrap();
}
