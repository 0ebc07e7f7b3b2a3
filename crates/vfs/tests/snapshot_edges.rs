//! What snapshots keep and don't keep where files are odd: without a name, or almost without data.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use verfs_base::Ino;
use verfs_format::{ChangeList, ContentId, keys};
use verfs_meta::{Direction, Health, KeyRange, MemoryStore, MetaStore, MetaView, WriteBatch};
use verfs_vfs::{Context, NodeKind, Pin, SeekFor, SetAttr, VfsError, XattrMode};

use self::volume::{ROOT, Volume, noise, slow};

const KEEPING: Context = Context { pin: Pin::Count, ..ROOT };

fn keys_of(volume: &Volume, first: u8) -> usize {
    let mut count = 0;
    let counted = volume.meta.scan(&KeyRange::prefix(&[first]), Direction::Forward, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    });
    counted.unwrap();
    count
}

#[test]
fn a_snapshot_keeps_nothing_of_a_file_that_lost_its_name_before() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let vfs = &open.vfs;
    let file = vfs.mknod(&KEEPING, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    vfs.write(&ROOT, file, 0, &noise(100_000, 1)).unwrap();
    vfs.setxattr(&ROOT, file, b"user.note", b"one", XattrMode::Set).unwrap();
    vfs.unlink(&ROOT, Ino::ROOT, b"file").unwrap();
    let made = vfs.create_snapshot(b"then", b"").unwrap();
    assert_eq!((made.inodes, made.logical_bytes), (1, 0), "it has the root alone");

    // It is changed as any other file is: in part, cut, its attributes.
    vfs.write(&ROOT, file, 30_000, &noise(2000, 2)).unwrap();
    vfs.setxattr(&ROOT, file, b"user.note", b"two", XattrMode::Set).unwrap();
    vfs.sync().unwrap();
    vfs.setattr(&ROOT, file, &SetAttr { size: Some(50_000), ..SetAttr::default() }).unwrap();
    vfs.sync().unwrap();
    assert_eq!(open.read(file).len(), 50_000);
    for first in [keys::HISTORY, keys::DEAD] {
        assert_eq!(keys_of(&volume, first), 0, "old versions that nobody can reach are kept");
    }
    vfs.forget(file, 1);
    vfs.sync().unwrap();
    for first in [keys::HISTORY, keys::DEAD, keys::SEGMENT, keys::XATTRS] {
        assert_eq!(keys_of(&volume, first), 0, "something is left of the file");
    }
    assert_eq!(open.store.stats().chunks, 0);
    assert_eq!(vfs.snapshot(b"then").unwrap().used_bytes, 0);
    open.close();
}

#[test]
fn the_data_of_a_sparse_file_is_found_without_looking_at_its_holes() {
    const FAR: u64 = 1 << 50;
    let volume = Volume::new(slow());
    let open = volume.open();
    let vfs = &open.vfs;
    let file = vfs.mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    vfs.write(&ROOT, file, 5000, &noise(10_000, 1)).unwrap();
    vfs.write(&ROOT, file, FAR, &noise(5000, 2)).unwrap();
    vfs.create_snapshot(b"then", b"").unwrap();
    // Of the snapshot's two segments one is in history, one still live; what came between is of no concern to it.
    vfs.write(&ROOT, file, FAR, &noise(5000, 3)).unwrap();
    vfs.write(&ROOT, file, 1 << 40, b"later").unwrap();
    vfs.sync().unwrap();
    let tree = vfs.open_snapshot(b"then").unwrap();
    let begun = Instant::now();
    let end = 15_000 + (5000 - 5000 % 4096);
    assert!(tree.seek(file, 0, SeekFor::Data).unwrap() <= 5000);
    let hole = tree.seek(file, 5000, SeekFor::Hole).unwrap();
    assert!((15_000..=end).contains(&hole), "{hole}");
    assert_eq!(tree.seek(file, 1 << 21, SeekFor::Data), Ok(FAR));
    assert_eq!(tree.seek(file, FAR, SeekFor::Hole), Ok(FAR + 5000));
    assert_eq!(tree.seek(file, FAR + 5000, SeekFor::Data), Err(VfsError::NoSuchOffset));
    assert!(begun.elapsed() < Duration::from_secs(5), "it looked at every hole: {:?}", begun.elapsed());
    open.close();
}

#[test]
fn a_key_that_changes_often_is_listed_once_for_its_epoch() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let vfs = &open.vfs;
    let file = vfs.mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    for epoch in 0..3 {
        vfs.create_snapshot(format!("{epoch}").as_bytes(), b"").unwrap();
        for change in 0..5 {
            vfs.write(&ROOT, file, 0, &noise(5000, change)).unwrap();
            vfs.sync().unwrap();
        }
    }
    let mut listed = Vec::new();
    let scanned = volume.meta.scan(&KeyRange::prefix(&[keys::CHANGES]), Direction::Forward, &mut |_, value| {
        listed.extend(ChangeList::decode(value).unwrap().keys);
        ControlFlow::Continue(())
    });
    scanned.unwrap();
    for key in [keys::inode(file), keys::segment(ContentId(file.0), 0)] {
        assert_eq!(listed.iter().filter(|listed| **listed == key).count(), 3, "of {}", key.escape_ascii());
    }
    open.close();
}

/// A metadata engine that takes a while to sync, so that others do something meanwhile.
struct Slow(Arc<MemoryStore>);

impl MetaStore for Slow {
    fn get(&self, key: &[u8]) -> verfs_meta::Result<Option<Bytes>> {
        self.0.get(key)
    }

    fn multi_get(&self, keys: &[Bytes]) -> verfs_meta::Result<Vec<Option<Bytes>>> {
        self.0.multi_get(keys)
    }

    fn view(&self) -> verfs_meta::Result<Box<dyn MetaView + '_>> {
        self.0.view()
    }

    fn commit(&self, batch: WriteBatch) -> verfs_meta::Result<()> {
        self.0.commit(batch)
    }

    fn sync(&self) -> verfs_meta::Result<()> {
        std::thread::sleep(Duration::from_millis(30));
        self.0.sync()
    }

    fn approximate_size_bytes(&self) -> verfs_meta::Result<u64> {
        self.0.approximate_size_bytes()
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn close(&self) -> verfs_meta::Result<()> {
        Ok(())
    }
}

#[test]
fn snapshots_that_are_deleted_at_once_leave_what_a_third_shared_with_them_to_it_once() {
    let volume = Volume::new(slow());
    let open = volume.open_over(Arc::new(Slow(Arc::clone(&volume.meta))));
    let vfs = &open.vfs;
    let file = vfs.mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
    vfs.write(&ROOT, file, 0, &noise(100_000, 1)).unwrap();
    for name in [b"a", b"b", b"c"] {
        vfs.create_snapshot(name, b"").unwrap();
    }
    vfs.write(&ROOT, file, 0, &noise(100_000, 2)).unwrap();
    vfs.sync().unwrap();
    let begin = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        for name in [b"b", b"c"] {
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                // While a commit is under way.
                std::thread::sleep(Duration::from_millis(10));
                vfs.delete_snapshot(name).unwrap();
            });
        }
        vfs.mkdir(&ROOT, Ino::ROOT, b"dir", 0o755).unwrap();
        begin.wait();
        vfs.sync().unwrap();
    });
    let used = vfs.snapshot(b"a").unwrap().used_bytes;
    assert!((100_000..101_000).contains(&used), "its data and a few records: {used}");
    open.close();
}
