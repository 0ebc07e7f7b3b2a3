//! What changed may be more than memory should hold: comparing, sending and rolling back take a bounded part of it.
//! The only test of its process, whose memory it measures.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::fs;
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{Epoch, GroupId, Ino};
use verfs_format::{
    ChangeList, ContentId, DirentRecord, InodeFlags, InodeKind, InodeRecord, NameHash, encode_versioned, keys, varint,
};
use verfs_meta::{MetaStore, WriteBatch};
use verfs_vfs::{TreeChangeKind, VfsOptions};

use self::volume::{ROOT, Volume, slow};

const DIRECTORIES: u64 = 1000;
const FILES_EACH: u64 = 1000;
/// What a window holds.
const WINDOW_BYTES: usize = 4 << 20;
/// What it may take beside: a window of keys and one of inodes, pages of names, change lists and batches.
const GROWTH_MAX_BYTES: u64 = 48 << 20;

fn record(kind: InodeKind, parent: Ino, mode: u16, size: u64) -> InodeRecord {
    let at = verfs_base::Timestamp::default();
    InodeRecord {
        kind,
        mode,
        flags: InodeFlags::default(),
        nlink: if kind == InodeKind::Directory { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        size,
        allocated: 0,
        content: ContentId(0),
        parent,
        atime: at,
        mtime: at,
        ctime: at,
        btime: at,
    }
}

/// A line of /proc/self/status, in bytes.
fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// By how much memory grew at most while `work` ran, beside what it left behind.
fn growth(work: impl FnOnce()) -> u64 {
    // proc_pid_clear_refs(5): resets the peak.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    work();
    status("VmHWM:").saturating_sub(before.max(status("VmRSS:")))
}

/// Puts the records of a million files that changed behind the first snapshot into a volume.
fn fill(meta: &dyn MetaStore, hash_of: impl Fn(&[u8]) -> NameHash) {
    let mut next = 10;
    for directory in 0..DIRECTORIES {
        let mut batch = WriteBatch::new();
        let mut changed: Vec<Bytes> = Vec::new();
        let born = |record: InodeRecord, birth| Bytes::from(encode_versioned(Epoch(birth), |out| record.encode(out)));
        let mut enter = |parent: Ino, name: String, ino: Ino, kind| {
            let key = keys::dirent(parent, hash_of(name.as_bytes()), name.as_bytes());
            batch.put(key, encode_versioned(Epoch(1), |out| DirentRecord { kind, ino }.encode(out)));
        };
        let dir = Ino(next);
        enter(Ino::ROOT, format!("directory {directory}"), dir, InodeKind::Directory);
        for file in 0..FILES_EACH {
            enter(dir, format!("file {file}"), Ino(next + 1 + file), InodeKind::Regular);
        }
        batch.put(keys::inode(dir), born(record(InodeKind::Directory, Ino::ROOT, 0o755, FILES_EACH), 1));
        for file in 0..FILES_EACH {
            let key = Bytes::from(keys::inode(Ino(next + 1 + file)));
            batch.put(key.clone(), born(record(InodeKind::Regular, dir, 0o600, 0), 2));
            batch.put(keys::history(&key, Epoch(2)), born(record(InodeKind::Regular, dir, 0o644, 0), 1));
            changed.push(key);
        }
        let list = keys::changes(Epoch(2), GroupId(1_000_000 + directory), 0);
        batch.put(list, ChangeList::encode(&changed));
        next += 1 + FILES_EACH;
        meta.commit(batch).unwrap();
    }
    let mut number = Vec::new();
    varint::put_u64(&mut number, next);
    let mut batch = WriteBatch::new();
    batch.put(Bytes::from_static(keys::SYSTEM_NEXT_NUMBER), number);
    meta.commit(batch).unwrap();
}

#[test]
fn a_million_changes_take_a_window_of_memory() {
    let volume = Volume::new(VfsOptions { change_window_bytes: WINDOW_BYTES, ..slow() });
    let open = volume.open();
    open.vfs.create_snapshot(b"then", b"").unwrap();
    let store = open.store.clone();
    fill(&*volume.meta, |name| NameHash::from_keyed(store.id_of(name)));
    drop(store);
    open.close();

    let open = volume.open();
    let vfs = &open.vfs;
    vfs.create_snapshot(b"now", b"").unwrap();
    let files = DIRECTORIES * FILES_EACH;

    let mut told = 0;
    let grown = growth(|| {
        vfs.diff(b"then", Some(b"now"), &mut |change| {
            assert_eq!(change.kind, TreeChangeKind::Changed);
            told += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    });
    assert_eq!(told, files);
    assert!(grown < GROWTH_MAX_BYTES, "comparing took {grown} bytes");

    let mut sent = 0;
    let grown = growth(|| {
        let go_on = &mut |_| ControlFlow::Continue(());
        sent = vfs.send(b"now", Some(b"then"), None, &mut std::io::sink(), go_on).unwrap().records;
    });
    assert_eq!(sent, files);
    assert!(grown < GROWTH_MAX_BYTES, "sending took {grown} bytes");

    let mut names = 0;
    let grown = growth(|| {
        let outdated = vfs.rollback(b"then").unwrap();
        vfs.outdated_names(&outdated, &mut |some| names += some.len()).unwrap();
    });
    assert_eq!(names, 0);
    assert!(grown < GROWTH_MAX_BYTES, "rolling back took {grown} bytes");
    let file = vfs.lookup(&ROOT, Ino::ROOT, b"directory 7").unwrap().ino;
    assert_eq!(vfs.lookup(&ROOT, file, b"file 900").unwrap().mode, 0o644);
    vfs.diff(b"then", None, &mut |change| panic!("{change:?}")).unwrap();
    open.close();
}
