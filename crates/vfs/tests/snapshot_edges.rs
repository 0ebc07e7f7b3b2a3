//! What snapshots keep and don't keep where files are odd: without a name, or almost without data.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use verfs_base::Ino;
use verfs_format::{ChangeList, ContentId, keys};
use verfs_meta::{Direction, Health, KeyRange, MemoryStore, MetaStore, MetaView, WriteBatch};
use verfs_vfs::{Context, NodeKind, Pin, SeekFor, SetAttr, VfsError, VfsOptions, XattrMode};

use self::volume::cut_off::CutOff;
use self::volume::{Open, ROOT, Volume, noise, slow};

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

/// A file that stays open, with data and an attribute.
fn make_open(open: &Open, name: &[u8], data: &[u8]) -> Ino {
    let ino = open.vfs.mknod(&KEEPING, Ino::ROOT, name, NodeKind::Regular, 0o644).unwrap().ino;
    open.vfs.write(&ROOT, ino, 0, data).unwrap();
    open.vfs.setxattr(&ROOT, ino, b"user.note", name, XattrMode::Set).unwrap();
    ino
}

/// Deletes a snapshot to its end.
fn delete_whole(volume: &Volume, open: &Open, name: &[u8]) {
    open.vfs.delete_snapshot(name).unwrap();
    while keys_of(volume, keys::SNAPSHOT) > open.vfs.snapshots().len() {
        open.vfs.sync().unwrap();
    }
}

/// Chunks with references, after everything without any was collected.
fn chunks_left(open: &Open) -> u64 {
    open.store.collect(1, &mut |_| verfs_store::Pace::Go).unwrap();
    open.store.stats().chunks
}

#[test]
fn what_is_open_without_a_name_gives_its_room_back_with_a_rollback() {
    let volume = Volume::new(slow());
    let open = volume.open();
    let vfs = &open.vfs;
    let changed = make_open(&open, b"changed", &noise(100_000, 1));
    let untouched = make_open(&open, b"untouched", &noise(100_000, 2));
    let nameless = make_open(&open, b"nameless", &noise(100_000, 3));
    vfs.unlink(&ROOT, Ino::ROOT, b"nameless").unwrap();
    vfs.create_snapshot(b"then", b"").unwrap();
    let chunks = open.store.stats().chunks;

    let young = make_open(&open, b"young", &noise(100_000, 4));
    for name in [&b"changed"[..], b"untouched", b"young"] {
        vfs.unlink(&ROOT, Ino::ROOT, name).unwrap();
    }
    // Snapshots of a tree that has none of them, while they are written to.
    for name in [&b"later"[..], b"last"] {
        vfs.create_snapshot(name, b"").unwrap();
        for ino in [changed, young, nameless] {
            vfs.write(&ROOT, ino, 30_000, &noise(50_000, ino.0 + name.len() as u64)).unwrap();
            vfs.setxattr(&ROOT, ino, b"user.note", name, XattrMode::Set).unwrap();
        }
        vfs.sync().unwrap();
    }
    vfs.rollback(b"then").unwrap();
    assert!(open.read(changed) == noise(100_000, 1) && open.read(untouched) == noise(100_000, 2));
    assert_eq!(vfs.getxattr(&ROOT, changed, b"user.note").unwrap(), b"changed"[..]);
    assert_eq!(vfs.getattr(&ROOT, young), Err(VfsError::NotFound));
    // What had no name then neither is the program's own still.
    assert_eq!(open.read(nameless).len(), 100_000);
    for ino in [changed, untouched, young, nameless] {
        vfs.forget(ino, 1);
    }
    vfs.sync().unwrap();
    for name in [&b"later"[..], b"last"] {
        let used = vfs.snapshot(name).unwrap().used_bytes;
        assert!(used < 1000, "{used} bytes for a tree that has nothing but its root");
    }
    let diff = |from: &[u8]| {
        let mut paths = Vec::new();
        let done = vfs.diff(from, None, &mut |change| {
            paths.push(change.path.to_vec());
            ControlFlow::Continue(())
        });
        done.unwrap();
        paths.sort();
        paths
    };
    assert_eq!(diff(b"then"), Vec::<Vec<u8>>::new());
    assert_eq!(diff(b"later"), [b"changed".to_vec(), b"untouched".to_vec()]);

    // What has its name again is listed as born: it goes with a way back to before that.
    vfs.rollback(b"later").unwrap();
    assert_eq!([keys::INODE, keys::SEGMENT, keys::XATTRS].map(|first| keys_of(&volume, first)), [1, 0, 0]);
    vfs.rollback(b"then").unwrap();
    assert!(open.read(changed) == noise(100_000, 1) && open.read(untouched) == noise(100_000, 2));

    delete_whole(&volume, &open, b"then");
    let named = chunks_left(&open);
    assert!(named < chunks, "{named} of {chunks} chunks");
    open.close();
    let open = volume.open();
    assert_eq!(chunks_left(&open), named);
    assert_eq!(open.store.stats().dead_bytes, 0, "room that nobody needs is not given back");
    for name in [&b"later"[..], b"last"] {
        delete_whole(&volume, &open, name);
    }
    assert_eq!(chunks_left(&open), named, "the last snapshots had something of files that had no name");
    for first in [keys::HISTORY, keys::DEAD, keys::CHANGES, keys::ORPHAN] {
        assert_eq!(keys_of(&volume, first), 0, "something is left behind {}", first.escape_ascii());
    }
    for name in [&b"changed"[..], b"untouched"] {
        open.vfs.unlink(&ROOT, Ino::ROOT, name).unwrap();
    }
    open.vfs.sync().unwrap();
    assert_eq!(chunks_left(&open), 0);
    open.close();
}

#[test]
fn of_snapshots_that_go_one_after_the_other_nothing_stays_that_both_had() {
    const PARTS: u64 = 12;
    for [first, second] in [[&b"a"[..], b"b"], [b"b", b"a"]] {
        let volume = Volume::new(VfsOptions { prune_step: 1, ..slow() });
        let open = volume.open();
        let file = open.vfs.mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap().ino;
        // In many groups, so that each deletion takes many: parts that only one of them has, and some that both have.
        let write = |parts: std::ops::Range<u64>, round: u64| {
            for part in parts {
                open.vfs.write(&ROOT, file, part << 20, &noise(50_000, round * PARTS + part)).unwrap();
                open.vfs.sync().unwrap();
            }
        };
        write(0..PARTS, 0);
        open.vfs.create_snapshot(b"a", b"").unwrap();
        write(0..PARTS / 2, 1);
        open.vfs.create_snapshot(b"b", b"").unwrap();
        write(0..PARTS, 2);
        open.vfs.create_snapshot(b"c", b"").unwrap();
        open.vfs.delete_snapshot(first).unwrap();
        open.vfs.delete_snapshot(second).unwrap();
        assert_eq!(keys_of(&volume, keys::SNAPSHOT), 3, "the second one goes when the first one is still going");
        while keys_of(&volume, keys::SNAPSHOT) > 1 {
            open.vfs.sync().unwrap();
        }
        for kind in [keys::HISTORY, keys::DEAD, keys::CHANGES] {
            assert_eq!(keys_of(&volume, kind), 0, "{} first: behind {}", first.escape_ascii(), kind.escape_ascii());
        }
        let tree = open.vfs.open_snapshot(b"c").unwrap();
        for part in 0..PARTS {
            assert!(tree.read(file, part << 20, 50_000).unwrap().concat() == noise(50_000, 2 * PARTS + part));
        }
        let chunks = chunks_left(&open);
        open.vfs.delete_snapshot(b"c").unwrap();
        assert_eq!(chunks_left(&open), chunks, "it has what is live, and nothing else");
        open.vfs.unlink(&ROOT, Ino::ROOT, b"file").unwrap();
        open.vfs.sync().unwrap();
        assert_eq!(chunks_left(&open), 0);
        open.close();
    }
}

#[test]
fn a_rollback_that_a_crash_cut_gives_back_what_programs_had_open_without_a_name() {
    const FILES: u32 = 3000;
    for commits in 1..4 {
        let volume = Volume::new(slow());
        let meta = Arc::new(CutOff { inner: Arc::clone(&volume.meta), commits_left: AtomicI64::new(i64::MAX) });
        let open = volume.open_over(Arc::clone(&meta) as Arc<dyn MetaStore>);
        open.vfs.create_snapshot(b"then", b"").unwrap();
        for number in 0..FILES {
            make_open(&open, format!("young {number}").as_bytes(), &noise(3000, number.into()));
        }
        for number in 0..FILES {
            open.vfs.unlink(&ROOT, Ino::ROOT, format!("young {number}").as_bytes()).unwrap();
        }
        open.vfs.create_snapshot(b"later", b"").unwrap();
        meta.commits_left.store(commits, Ordering::Relaxed);
        assert_eq!(open.vfs.rollback(b"then").err(), Some(VfsError::Io), "it takes more than {commits} steps");
        drop(open);

        let open = volume.open();
        open.vfs.sync().unwrap();
        assert_eq!(open.vfs.stats().orphans, 0);
        assert_eq!(chunks_left(&open), 0, "{commits} steps");
        // Of the root alone.
        assert!(keys_of(&volume, keys::HISTORY) <= 2, "{} old records", keys_of(&volume, keys::HISTORY));
        for name in [&b"then"[..], b"later"] {
            delete_whole(&volume, &open, name);
        }
        for first in [keys::HISTORY, keys::DEAD, keys::CHANGES, keys::ORPHAN, keys::XATTRS, keys::SEGMENT] {
            assert_eq!(keys_of(&volume, first), 0, "{commits} steps, behind {}", first.escape_ascii());
        }
        open.close();
    }
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
