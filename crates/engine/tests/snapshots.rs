//! Snapshots of a volume with a real mount: what the kernel knew before must not outlive a change behind its back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Mount, mountpoint, new_volume};
use verfs_base::Ino;
use verfs_engine::{Copied, EngineError, OpenOptions, ReadOnly, Volume};
use verfs_vfs::Context;

fn go_on(_: Copied) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Everything that a program can see below a directory: names, kinds, attributes, contents.
fn look(path: &Path) -> Vec<(PathBuf, String)> {
    let mut seen = Vec::new();
    let mut todo = vec![path.to_path_buf()];
    while let Some(next) = todo.pop() {
        let status = fs::symlink_metadata(&next).unwrap();
        let content = if status.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            todo.extend(names.iter().cloned());
            format!("{names:?}")
        } else if status.is_symlink() {
            format!("{:?}", fs::read_link(&next).unwrap())
        } else {
            String::from_utf8(fs::read(&next).unwrap()).unwrap()
        };
        let attributes =
            (status.ino(), status.mode(), status.nlink(), status.size(), status.mtime(), status.mtime_nsec());
        seen.push((next, format!("{attributes:?} {content}")));
    }
    seen.sort();
    seen
}

fn exists(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{}", path.display());
            false
        }
    }
}

#[test]
fn a_mount_shows_the_old_tree_at_once_after_a_rollback() {
    let mount = Mount::new();
    let at = |name: &str| mount.path(name);
    fs::create_dir_all(at("kept/deep")).unwrap();
    fs::write(at("kept/deep/file"), "old").unwrap();
    fs::write(at("gone"), "was here").unwrap();
    fs::write(at("linked"), "one").unwrap();
    symlink("gone", at("link")).unwrap();
    fs::create_dir(at("moved")).unwrap();
    let before = look(&at("."));
    mount.volume().create_snapshot(b"then", b"").unwrap();

    fs::write(at("kept/deep/file"), "new and longer").unwrap();
    fs::remove_file(at("gone")).unwrap();
    fs::rename(at("moved"), at("kept/elsewhere")).unwrap();
    fs::hard_link(at("linked"), at("kept/second")).unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("kept", at("link")).unwrap();
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/file"), "x").unwrap();
    // The kernel knows all of it, names that are missing included.
    look(&at("."));
    assert!(!exists(&at("gone")) && !exists(&at("moved")) && exists(&at("new/file")));
    let mut stays = File::options().read(true).write(true).open(at("kept/deep/file")).unwrap();
    let mut goes = File::options().read(true).write(true).open(at("new/file")).unwrap();

    mount.volume().rollback(b"then").unwrap();

    assert!(exists(&at("gone")) && exists(&at("moved")) && !exists(&at("new")) && !exists(&at("kept/elsewhere")));
    assert_eq!(look(&at(".")), before);
    // A file that the snapshot has is the old one for those who have it open, and can be written.
    let mut text = String::new();
    stays.rewind().unwrap();
    stays.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
    stays.write_all(b"er").unwrap();
    assert_eq!(fs::read_to_string(at("kept/deep/file")).unwrap(), "older");
    // Others are gone.
    goes.write_all(b"y").unwrap_err();
    fs::write(at("new"), "a file now").unwrap();
    assert_eq!(fs::read_to_string(at("new")).unwrap(), "a file now");

    // The root has no name that would be forgotten.
    fs::set_permissions(at("."), fs::Permissions::from_mode(0o755)).unwrap();
    mount.volume().create_snapshot(b"mode", b"").unwrap();
    fs::set_permissions(at("."), fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(fs::metadata(at(".")).unwrap().mode() & 0o777, 0o711);
    mount.volume().rollback(b"mode").unwrap();
    assert_eq!(fs::metadata(at(".")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn a_mount_shows_what_was_cloned_and_restored_at_once() {
    let mount = Mount::new();
    let at = |name: &str| mount.path(name);
    fs::create_dir_all(at("docs/sub")).unwrap();
    fs::write(at("docs/report"), "old").unwrap();
    fs::write(at("docs/sub/x"), "x").unwrap();
    fs::hard_link(at("docs/report"), at("outside")).unwrap();
    let volume = mount.volume();
    volume.create_snapshot(b"then", b"").unwrap();
    fs::write(at("docs/report"), "new").unwrap();
    fs::write(at("docs/more"), "more").unwrap();
    // The kernel knows that none of these is there.
    assert!(!exists(&at("a")) && !exists(&at(".verfs-copy")));
    look(&at("."));
    let mut open = File::open(at("docs/report")).unwrap();

    volume.clone_snapshot(b"then", b"a/b/copy", &mut go_on).unwrap();
    assert_eq!(fs::read_to_string(at("a/b/copy/docs/report")).unwrap(), "old");
    assert!(exists(&at("a")) && !exists(&at(".verfs-copy")));
    let names: Vec<_> = fs::read_dir(at(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(fs::metadata(at(".")).unwrap().nlink(), 4);

    volume.restore(b"then", b"docs", None, &mut go_on).unwrap();
    assert_eq!(fs::read_to_string(at("docs/report")).unwrap(), "old");
    assert!(!exists(&at("docs/more")) && exists(&at("docs/sub/x")));
    // What was replaced has lost its name, for the one who has it open and under its other name.
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "new");
    let links = [open.metadata().unwrap().nlink(), fs::metadata(at("outside")).unwrap().nlink()];
    assert_eq!(links, [1, 1]);

    volume.restore(b"then", b"/docs/report", Some(b"/docs/again"), &mut go_on).unwrap();
    assert_eq!(fs::read_to_string(at("docs/again")).unwrap(), "old");
    assert_eq!(fs::read_dir(at("docs")).unwrap().count(), 3);
}

#[test]
fn what_cannot_be_copied_is_refused_and_leaves_nothing() {
    let mount = Mount::new();
    let volume = mount.volume();
    fs::write(mount.path("file"), "x").unwrap();
    fs::create_dir(mount.path("there")).unwrap();
    volume.create_snapshot(b"s", b"").unwrap();
    let clone = |to: &str| volume.clone_snapshot(b"s", to.as_bytes(), &mut go_on).unwrap_err();
    assert!(matches!(clone("there"), EngineError::PathExists { path } if path == Path::new("/there")));
    for wrong in ["", "/", "a/../b", "file/below", ".verfs-copy/x", &"n".repeat(256)] {
        assert!(matches!(clone(wrong), EngineError::Usage(_)), "{wrong}");
    }
    let restore = |name: &[u8], path: &[u8]| volume.restore(name, path, None, &mut go_on).unwrap_err();
    assert!(matches!(restore(b"s", b"absent/x"), EngineError::PathNotFound { snapshot, .. } if snapshot == "s"));
    assert!(matches!(restore(b"none", b"file"), EngineError::SnapshotNotFound { name } if name == "none"));
    let stopped = volume.clone_snapshot(b"s", b"stopped", &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(EngineError::Cancelled { .. })));
    assert!(!exists(&mount.path("stopped")) && !exists(&mount.path(".verfs-copy")));
}

#[test]
fn what_a_crash_left_of_a_copy_goes_in_the_background_and_from_the_mount() {
    let folder = new_volume();
    let path = folder.path().join("volume");
    let volume = Volume::open(&path, &OpenOptions::default()).unwrap();
    let mut at = volume.vfs().mkdir(&Context::ROOT, Ino::ROOT, b".verfs-copy", 0o700).unwrap().ino;
    // So many that the mount sees them before they are gone.
    for _ in 0..3000 {
        at = volume.vfs().mkdir(&Context::ROOT, at, b"d", 0o700).unwrap().ino;
    }
    volume.create_snapshot(b"within a copy", b"").unwrap();
    volume.close().unwrap();

    let read_only = OpenOptions { read_only: ReadOnly::Yes, ..OpenOptions::default() };
    let volume = Volume::open(&path, &read_only).unwrap();
    assert!(volume.vfs().lookup(&Context::ROOT, Ino::ROOT, b".verfs-copy").is_ok());
    let refused = volume.create_snapshot(b"x", b"").unwrap_err();
    assert_eq!(refused.code(), "VERFS_E_VOLUME_READ_ONLY");
    assert!(matches!(volume.rollback(b"within a copy"), Err(EngineError::OpenReadOnly { .. })));
    volume.close().unwrap();

    let mount = Mount::of(folder);
    let gone = || {
        let end = Instant::now() + Duration::from_secs(60);
        while exists(&mount.path(".verfs-copy")) {
            assert!(Instant::now() < end, "it stays");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    gone();
    mount.volume().rollback(b"within a copy").unwrap();
    gone();
    assert_eq!(fs::read_dir(mount.path(".")).unwrap().count(), 0);
}

#[test]
fn a_diff_comes_in_pieces_and_ends_with_its_reader_or_the_volume() {
    let folder = new_volume();
    let volume = support::open_and_mount(folder.path());
    volume.create_snapshot(b"a", b"").unwrap();
    for number in 0..2000 {
        fs::write(mountpoint(folder.path()).join(format!("file-{number:04}")), "x").unwrap();
    }
    volume.create_snapshot(b"b", b"").unwrap();
    let all = |diff: &verfs_engine::SnapshotDiff| {
        let mut paths = Vec::new();
        while let Some(changes) = diff.next_changes().unwrap() {
            assert!(!changes.is_empty());
            paths.extend(changes.into_iter().map(|change| change.path));
        }
        paths
    };
    assert_eq!(all(&volume.diff_snapshots(b"a", Some(b"b")).unwrap()).len(), 2000);
    assert_eq!(all(&volume.diff_snapshots(b"a", None).unwrap()).len(), 2000);
    assert_eq!(all(&volume.diff_snapshots(b"b", None).unwrap()).len(), 0);
    assert!(matches!(volume.diff_snapshots(b"b", Some(b"a")), Err(EngineError::Usage(_))));
    assert!(
        matches!(volume.diff_snapshots(b"a", Some(b"c")), Err(EngineError::SnapshotNotFound { name }) if name == "c")
    );

    let threads = || {
        let names = fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "verfs-diff").count()
    };
    let stopped = volume.diff_snapshots(b"a", None).unwrap();
    stopped.next_changes().unwrap().unwrap();
    stopped.stop();
    // What was found before may still come.
    assert!(all(&stopped).len() < 2000);
    let dropped = volume.diff_snapshots(b"a", None).unwrap();
    drop(dropped);
    let end = Instant::now() + Duration::from_secs(60);
    while threads() > 0 {
        assert!(Instant::now() < end, "a diff goes on for nobody");
        std::thread::sleep(Duration::from_millis(5));
    }

    let left = Arc::new(volume.diff_snapshots(b"a", None).unwrap());
    left.next_changes().unwrap().unwrap();
    volume.close().unwrap();
    assert_eq!(threads(), 0);
    let end = loop {
        match left.next_changes() {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Err(EngineError::Closed { .. })), "{end:?}");
    assert!(matches!(volume.diff_snapshots(b"a", None), Err(EngineError::Closed { .. })));
    assert!(matches!(volume.snapshots(), Err(EngineError::Closed { .. })));
}

#[test]
fn each_thing_that_is_wrong_with_a_snapshot_has_its_code() {
    let mount = Mount::new();
    let volume = mount.volume();
    volume.create_snapshot(b"s", b"a note").unwrap();
    volume.hold_snapshot(b"s", b"backup").unwrap();
    let code = |result: Result<(), EngineError>| result.unwrap_err().code();
    let create = |name: &str| code(volume.create_snapshot(name.as_bytes(), b"").map(drop));
    assert_eq!(create("s"), "VERFS_E_SNAPSHOT_EXISTS");
    for name in ["", ".", "..", "-s", "a/b", "a\nb", &"n".repeat(256)] {
        assert_eq!(create(name), "VERFS_E_SNAPSHOT_NAME", "{name:?}");
    }
    assert_eq!(code(volume.create_snapshot(b"t", &[b'x'; 4097]).map(drop)), "VERFS_E_USAGE");
    let held = volume.delete_snapshot(b"s").unwrap_err();
    assert_eq!(held.code(), "VERFS_E_SNAPSHOT_HELD");
    assert!(held.to_string().contains("held by backup"), "{held}");
    assert_eq!(code(volume.hold_snapshot(b"s", b"backup")), "VERFS_E_USAGE");
    assert_eq!(code(volume.hold_snapshot(b"s", b"")), "VERFS_E_USAGE");
    assert_eq!(code(volume.release_snapshot(b"s", b"other")), "VERFS_E_USAGE");
    for missing in [
        volume.delete_snapshot(b"none"),
        volume.hold_snapshot(b"none", b"x"),
        volume.release_snapshot(b"none", b"x"),
        volume.rollback(b"none"),
        volume.diff_snapshots(b"none", None).map(drop),
    ] {
        assert_eq!(code(missing), "VERFS_E_SNAPSHOT_NOT_FOUND");
    }
    volume.release_snapshot(b"s", b"backup").unwrap();
    volume.delete_snapshot(b"s").unwrap();
    assert!(volume.snapshots().unwrap().is_empty());
}
