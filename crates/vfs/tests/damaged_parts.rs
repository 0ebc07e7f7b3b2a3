//! What is damaged under a file hurts that file alone, and read-ahead reads nothing that nobody wants.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use verfs_base::{Epoch, Ino, RealDisk, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_format::{ContentId, keys};
use verfs_meta::{Direction, KeyRange, MemoryStore, MetaStore, WriteBatch};
use verfs_store::{ChunkStore, StoreOptions};
use verfs_vfs::{Context, NodeKind, Patience, Vfs, VfsError, VfsOptions, VfsParts};

const ROOT: Context = Context::ROOT;
const MIB: usize = 1 << 20;

struct Rig {
    directory: tempfile::TempDir,
    meta: Arc<MemoryStore>,
}

struct Open {
    vfs: Arc<Vfs>,
    store: Arc<ChunkStore>,
}

impl Rig {
    fn new() -> Rig {
        Rig { directory: tempfile::tempdir().unwrap(), meta: Arc::new(MemoryStore::new()) }
    }

    fn open(&self) -> Open {
        let disk = Arc::new(RealDisk::new(PathBuf::from(self.directory.path())));
        let meta: Arc<dyn MetaStore> = self.meta.clone();
        let clock = Arc::new(SystemClock::new());
        let store =
            ChunkStore::open(disk.clone(), meta.clone(), &[7; 192], clock.clone(), StoreOptions::default()).unwrap();
        let sizes = ChunkSizes::for_mean(ChunkerKind::Min, 16 << 10).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, sizes).unwrap();
        let parts = VfsParts { disk, meta, store: store.clone(), chunker, clock };
        let options = VfsOptions { group_interval_ms: 3_600_000, log_file_bytes: 1 << 20, ..VfsOptions::default() };
        Open { vfs: Vfs::open(parts, options).unwrap(), store }
    }

    /// Writes something else in the place of an extent segment.
    fn damage_segment(&self, ino: Ino, index: u32) {
        let mut batch = WriteBatch::new();
        // A new file's content has the inode's number.
        batch.put(keys::segment(ContentId(ino.0), index), &b"no segment"[..]);
        self.meta.commit(batch).unwrap();
    }

    fn packs(&self) -> Vec<PathBuf> {
        let mut packs = Vec::new();
        let list = |path: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        for dir in list(&self.directory.path().join("packs")) {
            packs.extend(list(&dir).into_iter().filter(|path| path.extension().is_some_and(|found| found == "vpk")));
        }
        packs
    }
}

impl Open {
    fn write(&self, name: &[u8], data: &[u8]) -> Ino {
        let ino = self.vfs.mknod(&ROOT, Ino::ROOT, name, NodeKind::Regular, 0o644).unwrap().ino;
        self.vfs.write(&ROOT, ino, 0, data).unwrap();
        self.vfs.sync().unwrap();
        ino
    }

    fn read(&self, ino: Ino, offset: usize, len: usize) -> Result<Vec<u8>, VfsError> {
        self.vfs.read(&ROOT, ino, offset as u64, len as u32).map(|pieces| pieces.concat())
    }

    fn close(self) {
        self.vfs.close().unwrap();
        self.store.close().unwrap();
    }
}

fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(len)
    .collect()
}

#[test]
fn a_damaged_segment_is_an_error_of_its_file_until_it_is_written_anew_and_stops_nothing() {
    let rig = Rig::new();
    let open = rig.open();
    let (hurt, other) = (open.write(b"hurt", &noise(3 * MIB, 1)), open.write(b"other", &noise(MIB, 2)));
    open.close();
    rig.damage_segment(hurt, 1);

    let open = rig.open();
    assert_eq!(open.read(hurt, MIB + 5, 10), Err(VfsError::Io));
    assert_eq!(open.read(hurt, 0, MIB).unwrap(), noise(3 * MIB, 1)[..MIB]);
    open.vfs.write(&ROOT, hurt, MIB as u64 + 1000, b"new").unwrap();
    open.vfs.write(&ROOT, other, 0, b"new").unwrap();
    open.vfs.sync().unwrap();
    assert_eq!(open.read(hurt, MIB + 1000, 3).unwrap(), b"new");
    for lost in [MIB, MIB + 999, MIB + 1003, 2 * MIB - 1] {
        assert_eq!(open.read(hurt, lost, 1), Err(VfsError::Io), "at {lost}");
    }
    assert_eq!(open.read(hurt, 2 * MIB, MIB).unwrap(), noise(3 * MIB, 1)[2 * MIB..]);
    assert_eq!(open.read(other, 0, 3).unwrap(), b"new");
    open.close();

    let open = rig.open();
    assert_eq!(open.read(hurt, MIB, 1), Err(VfsError::Io));
    open.vfs.write(&ROOT, hurt, MIB as u64, &noise(MIB, 3)).unwrap();
    open.vfs.sync().unwrap();
    assert_eq!(open.read(hurt, MIB, MIB).unwrap(), noise(MIB, 3));
    open.close();
}

#[test]
fn a_file_with_a_damaged_segment_can_be_removed() {
    let rig = Rig::new();
    let open = rig.open();
    let hurt = open.write(b"hurt", &noise(3 * MIB, 1));
    open.close();
    rig.damage_segment(hurt, 1);
    let open = rig.open();
    open.vfs.unlink(&ROOT, Ino::ROOT, b"hurt").unwrap();
    open.vfs.sync().unwrap();
    open.write(b"next", b"is committed");
    assert_eq!(open.vfs.stats().orphans, 0);
    open.close();
    assert_eq!(rig.meta.get(&keys::segment(ContentId(hurt.0), 1)).unwrap(), None);
}

#[test]
fn appending_behind_a_chunk_that_the_disk_can_not_read_stores_what_is_new() {
    let rig = Rig::new();
    let open = rig.open();
    let ino = open.write(b"f", &noise(5000, 1));
    open.close();
    let open = rig.open();
    for pack in rig.packs() {
        // Opens, and every read of it fails.
        std::fs::remove_file(&pack).unwrap();
        std::fs::create_dir(&pack).unwrap();
    }
    assert_eq!(open.read(ino, 0, 1), Err(VfsError::Io));
    open.vfs.write(&ROOT, ino, 5000, &noise(5000, 2)).unwrap();
    open.vfs.sync().unwrap();
    assert_eq!(open.read(ino, 5000, 5000).unwrap(), noise(5000, 2));
    open.vfs.close().unwrap();
}

#[test]
fn a_reader_from_front_to_back_finds_what_comes_next_in_memory_and_a_random_one_brings_nothing_else() {
    let rig = Rig::new();
    let open = rig.open();
    let data = noise(32 * MIB, 1);
    let ino = open.vfs.mknod(&ROOT, Ino::ROOT, b"f", NodeKind::Regular, 0o644).unwrap().ino;
    for (index, piece) in data.chunks(MIB).enumerate() {
        open.vfs.write(&ROOT, ino, (index * MIB) as u64, piece).unwrap();
    }
    open.vfs.sync().unwrap();
    open.close();

    let open = rig.open();
    for place in [17, 3, 29, 11, 23, 7] {
        assert_eq!(open.read(ino, place * MIB, 4096).unwrap(), data[place * MIB..place * MIB + 4096]);
    }
    let bytes = open.store.stats().chunk_cache_bytes;
    assert!(bytes <= 6 * 2 * (24 << 10), "{bytes} bytes in memory for 6 chunks");
    open.close();

    let open = rig.open();
    assert_eq!(open.read(ino, 0, MIB).unwrap(), data[..MIB]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let in_memory = Context { patience: Patience::Try, ..ROOT };
    // The hint for what lies behind is still to be given, so the next read wants a thread that may wait; its data is there.
    while open.store.stats().chunk_cache_bytes < 2 * MIB as u64 {
        assert!(std::time::Instant::now() < deadline, "nothing was read ahead");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let misses = open.store.stats().chunk_cache_misses;
    assert_eq!(open.vfs.read(&in_memory, ino, MIB as u64, 65_536), Err(VfsError::WouldBlock));
    assert_eq!(open.read(ino, MIB, MIB / 2).unwrap(), data[MIB..MIB + MIB / 2]);
    assert_eq!(open.store.stats().chunk_cache_misses, misses);
    open.close();
}

#[test]
fn readers_have_less_memory_while_much_is_written() {
    let rig = Rig::new();
    let open = rig.open();
    let capacity_bytes = 10 * MIB as u64;
    open.store.set_chunk_cache_bytes(capacity_bytes);
    let ino = open.vfs.mknod(&ROOT, Ino::ROOT, b"f", NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.write(&ROOT, ino, 0, &noise(16 * MIB, 1)).unwrap();
    open.vfs.sync().unwrap();
    let cached = || {
        open.read(ino, 0, 16 * MIB).unwrap();
        open.store.stats().chunk_cache_bytes
    };
    let full = cached();
    assert!(full > capacity_bytes / 2, "{full}");
    open.vfs.write(&ROOT, ino, 16 * MIB as u64, &noise(16 * MIB, 2)).unwrap();
    open.vfs.sync().unwrap();
    let left = open.store.stats().chunk_cache_bytes;
    assert!(left <= capacity_bytes / 5 * 2, "{left}");
    // The committer notices a moment after the sync.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while cached() <= capacity_bytes / 2 {
        assert!(std::time::Instant::now() < deadline, "nothing waits any more");
    }
    open.close();
}

impl Rig {
    fn put(&self, key: Vec<u8>, value: &'static [u8]) {
        let mut batch = WriteBatch::new();
        batch.put(key, value);
        self.meta.commit(batch).unwrap();
    }

    /// Writes something else in the place of every record of a keyspace.
    fn damage_all(&self, first: u8) {
        for key in self.keys_of(first) {
            self.put(key, b"\xff\xff");
        }
    }

    fn keys_of(&self, first: u8) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let each = &mut |key: &[u8], _: &[u8]| {
            found.push(key.to_vec());
            std::ops::ControlFlow::Continue(())
        };
        self.meta.scan(&KeyRange::prefix(&[first]), Direction::Forward, each).unwrap();
        found
    }
}

impl Open {
    fn read_then(&self, name: &[u8], ino: Ino, offset: usize, len: usize) -> Result<Vec<u8>, VfsError> {
        let tree = self.vfs.open_snapshot(name).unwrap();
        tree.read(ino, offset as u64, len as u32).map(|pieces| pieces.concat())
    }

    fn commit_something(&self) {
        self.vfs.mknod(&ROOT, Ino::ROOT, b"next", NodeKind::Regular, 0o644).unwrap();
        self.vfs.sync().unwrap();
        self.vfs.unlink(&ROOT, Ino::ROOT, b"next").unwrap();
        self.vfs.sync().unwrap();
    }
}

#[test]
fn what_is_damaged_under_a_snapshot_is_damaged_in_it_and_never_a_hole() {
    let rig = Rig::new();
    for ends in [false, true] {
        let open = rig.open();
        let hurt = open.write(b"hurt", &noise(3 * MIB, 1));
        open.vfs.create_snapshot(b"then", b"").unwrap();
        open.close();
        rig.damage_segment(hurt, 1);

        let open = rig.open();
        assert_eq!(open.read_then(b"then", hurt, MIB + 5, 10), Err(VfsError::Io));
        open.vfs.write(&ROOT, hurt, MIB as u64, &noise(MIB, 2)).unwrap();
        open.vfs.sync().unwrap();
        if ends {
            open.vfs.unlink(&ROOT, Ino::ROOT, b"hurt").unwrap();
            open.vfs.sync().unwrap();
        } else {
            assert_eq!(open.read(hurt, MIB, MIB).unwrap(), noise(MIB, 2));
        }
        assert_eq!(open.read_then(b"then", hurt, MIB + 5, 10), Err(VfsError::Io));
        assert_eq!(open.read_then(b"then", hurt, 0, MIB).unwrap(), noise(3 * MIB, 1)[..MIB]);
        open.vfs.delete_snapshot(b"then").unwrap();
        open.commit_something();
        assert_eq!(rig.keys_of(keys::HISTORY).len() + rig.keys_of(keys::SNAPSHOT).len(), 0);
        if !ends {
            open.vfs.unlink(&ROOT, Ino::ROOT, b"hurt").unwrap();
        }
        open.close();
    }
}

#[test]
fn a_removed_file_with_a_damaged_segment_is_damaged_in_its_snapshot() {
    let rig = Rig::new();
    let open = rig.open();
    let hurt = open.write(b"hurt", &noise(3 * MIB, 1));
    open.vfs.create_snapshot(b"then", b"").unwrap();
    open.close();
    rig.damage_segment(hurt, 1);
    let open = rig.open();
    open.vfs.unlink(&ROOT, Ino::ROOT, b"hurt").unwrap();
    open.commit_something();
    assert_eq!(open.read_then(b"then", hurt, MIB + 5, 10), Err(VfsError::Io));
    assert_eq!(open.read_then(b"then", hurt, 2 * MIB, 10).unwrap(), noise(3 * MIB, 1)[2 * MIB..2 * MIB + 10]);
    open.close();
}

#[test]
fn a_damaged_record_that_is_replaced_stops_no_commit() {
    let rig = Rig::new();
    let open = rig.open();
    let file = open.write(b"file", b"some bytes");
    open.vfs.setxattr(&ROOT, file, b"user.a", b"1", verfs_vfs::XattrMode::Set).unwrap();
    open.vfs.create_snapshot(b"then", b"").unwrap();
    // Memory still has what the store loses.
    for key in [keys::inode(file), keys::xattrs(file)] {
        rig.put(key, b"\xff\xff");
    }
    open.vfs.write(&ROOT, file, 0, b"more").unwrap();
    open.vfs.setxattr(&ROOT, file, b"user.a", b"2", verfs_vfs::XattrMode::Set).unwrap();
    open.vfs.sync().unwrap();
    open.commit_something();
    assert_eq!(open.read(file, 0, 10).unwrap(), b"more bytes");
    let tree = open.vfs.open_snapshot(b"then").unwrap();
    assert_eq!(tree.getattr(file), Err(VfsError::Io));
    open.vfs.delete_snapshot(b"then").unwrap();
    open.commit_something();
    assert_eq!(rig.keys_of(keys::HISTORY).len(), 0);
    open.close();
}

#[test]
fn damaged_lists_and_snapshot_records_keep_no_volume_from_opening_nor_a_snapshot_from_going() {
    let rig = Rig::new();
    let open = rig.open();
    let file = open.write(b"file", &noise(MIB, 1));
    let id = open.vfs.create_snapshot(b"then", b"").unwrap().id;
    open.vfs.write(&ROOT, file, 0, &noise(MIB, 2)).unwrap();
    open.vfs.sync().unwrap();
    open.vfs.create_snapshot(format!("damaged-{}", id.0).as_bytes(), b"").unwrap();
    open.close();
    rig.put(keys::snapshot(id), b"\xff\xff");

    let open = rig.open();
    let names: Vec<_> = open.vfs.snapshots().into_iter().map(|snapshot| snapshot.name).collect();
    let stand_in = format!("damaged-{}+", id.0).into_bytes();
    assert_eq!(names, [stand_in.clone(), format!("damaged-{}", id.0).into_bytes()]);
    assert_eq!(open.read_then(&stand_in, file, 0, MIB).unwrap(), noise(MIB, 1));
    open.close();
    for first in [keys::CHANGES, keys::DEAD, keys::HISTORY, keys::SNAPSHOT_USED] {
        assert!(!rig.keys_of(first).is_empty());
        rig.damage_all(first);
    }

    let open = rig.open();
    assert_eq!(open.read_then(&stand_in, file, 0, MIB), Err(VfsError::Io));
    open.vfs.delete_snapshot(&names[1]).unwrap();
    open.vfs.delete_snapshot(&stand_in).unwrap();
    open.commit_something();
    open.commit_something();
    assert_eq!(rig.keys_of(keys::SNAPSHOT).len(), 0);
    assert_eq!(open.read(file, 0, MIB).unwrap(), noise(MIB, 2));
    open.close();
}

/// What is damaged stays as it is, and everything else goes back.
#[test]
fn a_rollback_over_damaged_records_loses_nothing_else() {
    let rig = Rig::new();
    let open = rig.open();
    let (kept, hurt) = (open.write(b"kept", &[1; 100_000]), open.write(b"hurt", &[1; 100_000]));
    let listed = open.write(b"listed", b"then");
    open.vfs.create_snapshot(b"then", b"").unwrap();
    for ino in [kept, hurt] {
        open.vfs.write(&ROOT, ino, 0, &[2; 100_000]).unwrap();
    }
    open.vfs.unlink(&ROOT, Ino::ROOT, b"listed").unwrap();
    open.write(b"young", b"now");
    open.close();
    let history = keys::history(&keys::segment(ContentId(hurt.0), 0), Epoch(2));
    assert!(rig.meta.get(&history).unwrap().is_some());
    let mut batch = WriteBatch::new();
    batch.put(history, &b"no record"[..]);
    rig.meta.commit(batch).unwrap();

    let open = rig.open();
    open.vfs.rollback(b"then").unwrap();
    assert_eq!(open.read(kept, 0, 100_000).unwrap(), [1; 100_000]);
    assert_eq!(open.read(listed, 0, 10).unwrap(), b"then");
    assert_eq!(open.vfs.lookup(&ROOT, Ino::ROOT, b"young").err(), Some(VfsError::NotFound));
    // What it had then nobody knows: it is what it was before the rollback, not a hole.
    assert_eq!(open.read(hurt, 0, 100_000).unwrap(), [2; 100_000]);
    let then = open.vfs.open_snapshot(b"then").unwrap();
    assert_eq!(then.read(hurt, 0, 100_000).err(), Some(VfsError::Io), "the snapshot says that it is damaged");
    assert_eq!(then.read(kept, 0, 100_000).unwrap().concat(), [1; 100_000]);
    open.close();

    let open = rig.open();
    assert_eq!(open.read(kept, 0, 100_000).unwrap(), [1; 100_000]);
    open.vfs.delete_snapshot(b"then").unwrap();
    open.vfs.sync().unwrap();
    open.close();
}
