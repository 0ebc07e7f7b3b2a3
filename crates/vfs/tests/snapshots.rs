//! Snapshots show the tree as it was, whatever happens to it later, and leave nothing behind when they are deleted.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use verfs_base::Ino;
use verfs_format::keys;
use verfs_meta::{Direction, KeyRange, MetaStore};
use verfs_vfs::{
    Attr, Context, CopyMode, DirEntry, FileKind, NodeKind, Pin, RenameMode, TreeChange, TreeChangeKind, Vfs, VfsError,
    VfsOptions, XattrMode,
};

use self::volume::cut_off::CutOff;
use self::volume::tree::{Dice, Dump, Readable, assert_same, change, dump};
use self::volume::{Open, ROOT, Volume, noise, slow};

/// Whether everything of a tree is below `at` with what a copy keeps: all but numbers, and times that nobody can set.
fn assert_copied(open: &Open, at: &[u8], expected: &Dump) {
    let plain = |(attr, bytes): &(Attr, Vec<u8>)| {
        let nlink = if attr.kind == FileKind::Directory { 0 } else { attr.nlink };
        let attr = Attr { ino: Ino::ROOT, nlink, btime: attr.mtime, ctime: attr.mtime, atime: attr.mtime, ..*attr };
        (attr, bytes.clone())
    };
    let found = dump(&*open.vfs);
    let found: Dump = (found.iter())
        .filter_map(|(path, node)| Some((path.strip_prefix(at)?.to_vec(), plain(node))))
        .filter(|(path, _)| path.is_empty() || path.starts_with(b"/"))
        .collect();
    let expected = expected.iter().map(|(path, node)| (path.clone(), plain(node))).collect();
    assert_same(&found, &expected, "copied");
    assert_eq!(open.vfs.lookup(&ROOT, Ino::ROOT, b".verfs-copy").err(), Some(VfsError::NotFound));
}

fn keys_of(volume: &Volume, first: u8) -> usize {
    let mut count = 0;
    let range = KeyRange::prefix(&[first]);
    let counted = volume.meta.scan(&range, Direction::Forward, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    });
    counted.unwrap();
    count
}

fn random_life(seed: u64) {
    let mut dice = Dice(seed);
    let volume = Volume::new(VfsOptions { group_interval_ms: 2, inode_cache_entries: 4, ..VfsOptions::default() });
    let mut open = volume.open();
    let mut past: BTreeMap<Vec<u8>, Dump> = BTreeMap::new();
    for step in 0..250 {
        for _ in 0..dice.below(12) {
            change(&open, &mut dice);
        }
        let name = format!("s{}", dice.below(8)).into_bytes();
        match dice.below(20) {
            0..=5 => match open.vfs.create_snapshot(&name, b"") {
                Ok(made) => {
                    assert_eq!(made.name, name);
                    assert!(past.insert(name, dump(&*open.vfs)).is_none());
                }
                Err(error) => assert!(error == VfsError::Exists && past.contains_key(&name), "{error}"),
            },
            6..=8 => {
                let deleted = open.vfs.delete_snapshot(&name);
                assert_eq!(deleted.is_ok(), past.remove(&name).is_some(), "{deleted:?}");
            }
            9 => {
                open.close();
                open = volume.open();
            }
            10 => open.vfs.sync().unwrap(),
            12 if past.contains_key(&name) => {
                let mode = if dice.below(2) == 0 { CopyMode::New } else { CopyMode::Replace };
                let copied = open.vfs.copy_out(&name, b"", b"a/clone", mode, &mut |_| ControlFlow::Continue(()));
                match copied {
                    Ok(_) => assert_copied(&open, b"/a/clone", &past[&name]),
                    Err(VfsError::NotDirectory | VfsError::Exists) => {}
                    Err(error) => panic!("seed {seed}, step {step}: {error}"),
                }
            }
            11 if past.contains_key(&name) => {
                open.vfs.rollback(&name).unwrap();
                assert_same(&dump(&*open.vfs), &past[&name], &format!("seed {seed}, step {step}, rolled back"));
            }
            _ => {}
        }
        if step % 10 == 9 {
            for (name, expected) in &past {
                let tree = open.vfs.open_snapshot(name).unwrap();
                assert_same(&dump(&tree), expected, &format!("seed {seed}, step {step}, {name:?}"));
            }
        }
    }
    for name in past.keys() {
        open.vfs.delete_snapshot(name).unwrap();
    }
    let names: Vec<DirEntry> = open.vfs.list(Ino::ROOT);
    for entry in names {
        remove(&open.vfs, Ino::ROOT, &entry);
    }
    for _ in 0..20 {
        open.vfs.mknod(&ROOT, Ino::ROOT, b"last", NodeKind::Regular, 0o644).unwrap();
        open.vfs.unlink(&ROOT, Ino::ROOT, b"last").unwrap();
        open.vfs.sync().unwrap();
    }
    assert_eq!(open.store.stats().chunks, 0, "seed {seed}: references are left of what is gone");
    for (first, what) in [
        (keys::HISTORY, "history"),
        (keys::CHANGES, "change lists"),
        (keys::DEAD, "dead lists"),
        (keys::SNAPSHOT, "snapshots"),
        (keys::SNAPSHOT_USED, "use"),
        (keys::SEGMENT, "segments"),
        (keys::SYMLINK, "targets"),
        (keys::XATTRS, "attributes"),
    ] {
        assert_eq!(keys_of(&volume, first), 0, "seed {seed}: {what} are left");
    }
    open.close();
}

fn remove(vfs: &Vfs, parent: Ino, entry: &DirEntry) {
    if entry.kind == FileKind::Directory {
        for below in vfs.list(entry.ino) {
            remove(vfs, entry.ino, &below);
        }
        vfs.rmdir(&ROOT, parent, &entry.name).unwrap();
    } else {
        vfs.unlink(&ROOT, parent, &entry.name).unwrap();
    }
}

#[test]
fn snapshots_show_what_was_and_leave_nothing_when_they_go() {
    for seed in 1..=4 {
        random_life(seed);
    }
}

fn told(open: &Open, from: &str, to: Option<&str>) -> Vec<String> {
    let mut told = Vec::new();
    let visit = &mut |change: TreeChange| {
        let size = |size: Option<u64>| size.map_or("-".to_owned(), |size| size.to_string());
        let path = String::from_utf8(change.path.to_vec()).unwrap();
        let sizes = match change.file_kind {
            FileKind::Directory => String::new(),
            _ => format!(" {} {}", size(change.size_before), size(change.size_after)),
        };
        told.push(match change.kind {
            TreeChangeKind::Added => format!("+ {path}{sizes}"),
            TreeChangeKind::Removed => format!("- {path}{sizes}"),
            TreeChangeKind::Changed => format!("M {path}{sizes}"),
            TreeChangeKind::Renamed { from } => {
                format!("R {} {path}{sizes}", String::from_utf8(from.to_vec()).unwrap())
            }
        });
        ControlFlow::Continue(())
    };
    open.vfs.diff(from.as_bytes(), to.map(str::as_bytes), visit).unwrap();
    told.sort();
    told
}

#[test]
fn a_difference_tells_names_and_changes() {
    let volume = Volume::new(VfsOptions::default());
    let open = volume.open();
    let vfs = &open.vfs;
    let make = |parent: Ino, name: &[u8], bytes: &[u8]| {
        let ino = vfs.mknod(&ROOT, parent, name, NodeKind::Regular, 0o644).unwrap().ino;
        vfs.write(&ROOT, ino, 0, bytes).unwrap();
        ino
    };
    let dir = vfs.mkdir(&ROOT, Ino::ROOT, b"dir", 0o755).unwrap().ino;
    let (kept, moved) = (make(dir, b"kept", b"same"), make(dir, b"moved", b"1234"));
    let changed = make(dir, b"changed", b"1");
    make(Ino::ROOT, b"gone", b"12");
    vfs.create_snapshot(b"one", b"").unwrap();
    assert_eq!(told(&open, "one", None), Vec::<String>::new());

    vfs.rename(&ROOT, dir, b"moved", Ino::ROOT, b"there", RenameMode::Replace).unwrap();
    vfs.write(&ROOT, changed, 1, b"23").unwrap();
    vfs.unlink(&ROOT, Ino::ROOT, b"gone").unwrap();
    vfs.link(&ROOT, kept, Ino::ROOT, b"linked").unwrap();
    let new = vfs.mkdir(&ROOT, dir, b"new", 0o755).unwrap().ino;
    make(new, b"file", b"12345");
    make(dir, b"came and went", b"");
    vfs.unlink(&ROOT, dir, b"came and went").unwrap();
    // A look is no change.
    vfs.read(&ROOT, kept, 0, 4).unwrap();
    vfs.create_snapshot(b"two", b"").unwrap();
    vfs.rename(&ROOT, Ino::ROOT, b"dir", Ino::ROOT, b"folder", RenameMode::Replace).unwrap();
    vfs.setxattr(&ROOT, changed, b"user.x", b"y", XattrMode::Set).unwrap();
    vfs.write(&ROOT, moved, 0, b"abc").unwrap();

    let first =
        ["+ dir/new", "+ dir/new/file - 5", "+ linked - 4", "- gone 2 -", "M dir/changed 1 3", "R dir/moved there 4 4"];
    assert_eq!(told(&open, "one", Some("two")), first);
    assert_eq!(told(&open, "two", None), ["M folder/changed 3 3", "M there 4 4", "R dir folder"]);
    let whole = [
        "+ folder/new",
        "+ folder/new/file - 5",
        "+ linked - 4",
        "- gone 2 -",
        "M folder/changed 1 3",
        "M there 4 4",
        "R dir folder",
        "R dir/moved there 4 4",
    ];
    assert_eq!(told(&open, "one", None), whole);
    let backwards = vfs.diff(b"two", Some(b"one"), &mut |_| ControlFlow::Continue(()));
    assert_eq!(backwards, Err(VfsError::InvalidArgument));
    assert_eq!(vfs.diff(b"none", None, &mut |_| ControlFlow::Continue(())), Err(VfsError::NotFound));
    open.close();
}

#[test]
fn a_rollback_that_was_cut_is_completed_by_the_next_open() {
    const FILES: u32 = 6000;
    for commits in [0, 1, 2] {
        let volume = Volume::new(slow());
        let meta = Arc::new(CutOff { inner: Arc::clone(&volume.meta), commits_left: AtomicI64::new(i64::MAX) });
        let open = volume.open_over(Arc::clone(&meta) as Arc<dyn MetaStore>);
        let vfs = &open.vfs;
        let make = |name: &str| {
            let ino = vfs.mknod(&ROOT, Ino::ROOT, name.as_bytes(), NodeKind::Regular, 0o644).unwrap().ino;
            vfs.write(&ROOT, ino, 0, name.repeat(900).as_bytes()).unwrap();
            ino
        };
        for number in 0..FILES / 2 {
            make(&format!("old {number}"));
        }
        vfs.create_snapshot(b"then", b"").unwrap();
        let expected = dump(&**vfs);
        for number in 0..FILES / 2 {
            vfs.unlink(&ROOT, Ino::ROOT, format!("old {number}").as_bytes()).unwrap();
            make(&format!("new {number}"));
        }
        while vfs.stats().orphans > 0 {
            vfs.sync().unwrap();
        }
        vfs.sync().unwrap();
        meta.commits_left.store(commits, Ordering::Relaxed);
        assert_eq!(vfs.rollback(b"then").err(), Some(VfsError::Io), "the rollback takes more than {commits} steps");
        assert_eq!(vfs.mkdir(&ROOT, Ino::ROOT, b"x", 0o755).err(), Some(VfsError::ReadOnly));
        drop(open);

        let open = volume.open();
        let found = dump(&*open.vfs);
        // Of nothing that was committed, nothing is left to be completed.
        match commits {
            0 => assert!(found.contains_key(&b"/new 1"[..]) && found.len() == FILES as usize / 2 + 1),
            _ => assert_same(&found, &expected, &format!("cut after {commits} steps")),
        }
        open.close();
    }
}

#[test]
fn a_rollback_keeps_what_is_open_and_tells_what_to_forget() {
    let volume = Volume::new(VfsOptions::default());
    let open = volume.open();
    let vfs = &open.vfs;
    let pinned = Context { pin: Pin::Count, ..ROOT };
    let kept = vfs.mknod(&pinned, Ino::ROOT, b"kept", NodeKind::Regular, 0o644).unwrap().ino;
    vfs.write(&ROOT, kept, 0, b"then").unwrap();
    vfs.create_snapshot(b"then", b"").unwrap();
    vfs.write(&ROOT, kept, 0, b"now!").unwrap();
    vfs.unlink(&ROOT, Ino::ROOT, b"kept").unwrap();
    let young = vfs.mknod(&pinned, Ino::ROOT, b"young", NodeKind::Regular, 0o644).unwrap().ino;
    assert_eq!(vfs.rollback(b"none").err(), Some(VfsError::NotFound));

    let told = vfs.rollback(b"then").unwrap();
    let names = open.outdated_names(&told);
    assert!(names.contains(&(Ino::ROOT, Bytes::from_static(b"kept"))));
    assert!(names.contains(&(Ino::ROOT, Bytes::from_static(b"young"))));
    assert_eq!(vfs.delete_snapshot(b"then"), Err(VfsError::Busy), "its lists are still needed");
    assert!(told.inodes.contains(&kept) && told.inodes.contains(&young));
    assert_eq!(open.read(kept), b"then", "an unlinked file that is open has its name again");
    assert_eq!(vfs.lookup(&ROOT, Ino::ROOT, b"kept").unwrap().ino, kept);
    assert_eq!(vfs.getattr(&ROOT, young), Err(VfsError::NotFound), "it never was");
    vfs.forget(young, 1);
    vfs.forget(kept, 1);
    vfs.sync().unwrap();
    assert_eq!(open.read(kept), b"then");
    open.close();
}

#[test]
fn a_file_comes_back_from_a_snapshot() {
    let volume = Volume::new(VfsOptions::default());
    let open = volume.open();
    let vfs = &open.vfs;
    let mut go_on = |_| ControlFlow::Continue(());
    let deep = vfs.mkdir(&ROOT, Ino::ROOT, b"deep", 0o700).unwrap().ino;
    let file = vfs.mknod(&ROOT, deep, b"file", NodeKind::Regular, 0o640).unwrap().ino;
    vfs.write(&ROOT, file, 0, &noise(100_000, 1)).unwrap();
    vfs.create_snapshot(b"then", b"").unwrap();
    let chunks = open.store.stats().unique_bytes;
    vfs.unlink(&ROOT, deep, b"file").unwrap();
    vfs.rmdir(&ROOT, Ino::ROOT, b"deep").unwrap();

    let mut copy = |from: &[u8], to: &[u8], mode| vfs.copy_out(b"then", from, to, mode, &mut go_on);
    let copied = copy(b"/deep/file", b"/deep/file", CopyMode::Replace).unwrap();
    assert_eq!((copied.files, copied.directories, copied.bytes), (1, 0, 100_000));
    let again = vfs.lookup(&ROOT, Ino::ROOT, b"deep").unwrap();
    assert_eq!(again.mode, 0o700, "a directory that was missing is as it was");
    let found = vfs.lookup(&ROOT, again.ino, b"file").unwrap();
    assert_eq!((found.mode, open.read(found.ino)), (0o640, noise(100_000, 1)));
    assert_eq!(open.store.stats().unique_bytes, chunks, "nothing is stored twice");

    vfs.write(&ROOT, found.ino, 5, b"changed").unwrap();
    assert_eq!(copy(b"deep/file", b"deep/file", CopyMode::New), Err(VfsError::Exists));
    copy(b"deep/file", b"deep/file", CopyMode::Replace).unwrap();
    assert_eq!(open.read(vfs.lookup(&ROOT, again.ino, b"file").unwrap().ino), noise(100_000, 1));
    copy(b"deep", b"elsewhere/deep", CopyMode::New).unwrap();
    assert_eq!(copy(b"deep/none", b"x", CopyMode::New), Err(VfsError::NotFound));
    assert_eq!(copy(b"deep", b"deep/file/x", CopyMode::New), Err(VfsError::NotDirectory));
    assert_eq!(copy(b"../deep", b"x", CopyMode::New), Err(VfsError::InvalidArgument));
    assert_eq!(copy(b"deep", b"", CopyMode::Replace), Err(VfsError::Exists), "the root stays");
    let stopped = vfs.copy_out(b"then", b"", b"stopped", CopyMode::New, &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped, Err(VfsError::Interrupted));
    assert_eq!(vfs.lookup(&ROOT, Ino::ROOT, b"stopped").err(), Some(VfsError::NotFound));
    assert_eq!(vfs.lookup(&ROOT, Ino::ROOT, b".verfs-copy").err(), Some(VfsError::NotFound));

    // What a crash left is removed.
    let left = vfs.mkdir(&ROOT, Ino::ROOT, b".verfs-copy", 0o700).unwrap().ino;
    let below = vfs.mkdir(&ROOT, left, b"1", 0o700).unwrap().ino;
    vfs.mknod(&ROOT, below, b"x", NodeKind::Regular, 0o600).unwrap();
    vfs.remove_interrupted_copies().unwrap();
    assert_eq!(vfs.lookup(&ROOT, Ino::ROOT, b".verfs-copy").err(), Some(VfsError::NotFound));
    vfs.delete_snapshot(b"then").unwrap();
    vfs.sync().unwrap();
    assert_eq!(open.read(vfs.lookup(&ROOT, again.ino, b"file").unwrap().ino), noise(100_000, 1));
    open.close();
}
