//! Snapshots and the vault by paths, without a mount: what is below `/.snapshots` and `/.vault`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use support::files::{NEW, READ, errno, open, put};
use verfs_engine::{
    Caller, CopyTarget, CreateOptions, Depth, Files, Links, NewTimes, OpenFlags, OpenOptions, ReadOnly, Timestamp,
    VaultCompression, VaultSecret, Volume, WatchEvent, Who,
};

fn caller(uid: u32) -> Caller {
    Caller { uid, gid: uid, groups: Vec::new(), umask: 0o022 }
}

fn volume() -> (tempfile::TempDir, Arc<Volume>) {
    let directory = tempfile::tempdir().unwrap();
    Volume::create(directory.path(), &CreateOptions::default()).unwrap();
    let volume = Volume::open(directory.path(), &OpenOptions::default()).unwrap();
    (directory, volume)
}

fn get(files: &Files, path: &str) -> String {
    let pieces = files.read_file(path.as_bytes(), OpenFlags::from_bits(READ), 1 << 20).unwrap().unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

fn names(files: &Files, path: &str) -> Vec<String> {
    let listed = files.list(path.as_bytes()).unwrap().entries.names;
    let mut names: Vec<String> = String::from_utf8(listed).unwrap().split_terminator('\0').map(str::to_owned).collect();
    names.sort();
    names
}

/// What opens the vault of a test.
struct Secret(String);

impl Secret {
    fn made(volume: &Volume) -> Secret {
        let secret = Secret(VaultSecret::new_key_file().unwrap());
        volume.create_vault(&secret.get(), VaultCompression::On).unwrap();
        secret
    }

    fn get(&self) -> VaultSecret {
        VaultSecret::new(b"password".to_vec(), self.0.clone().into_bytes()).unwrap()
    }
}

#[test]
fn a_snapshot_is_made_read_and_deleted_as_a_directory() {
    let (_directory, volume) = volume();
    let files = volume.files(caller(0));
    files.mkdir(b"/d", 0o755).unwrap();
    put(&files, "/d/file", "before");
    files.symlink(b"d/file", b"/link").unwrap();
    files.mkdir(b"/.snapshots/one", 0o755).unwrap();
    put(&files, "/d/file", "behind");

    assert_eq!(names(&files, "/.snapshots"), ["one"]);
    assert_eq!(names(&files, "/.snapshots/one"), ["d", "link"]);
    // Found by its name, and not listed.
    assert_eq!(names(&files, "/"), ["d", "link"]);
    assert_eq!(get(&files, "/.snapshots/one/d/file"), "before");
    assert_eq!(get(&files, "/.snapshots/one/link"), "before");
    assert_eq!(get(&files, "/.snapshots/../d/file"), "behind");
    assert_eq!(files.realpath(b"/.snapshots/./one/d/../link").unwrap(), b"/.snapshots/one/d/file");
    assert_eq!(volume.snapshots().unwrap().len(), 1);

    // No other file has its numbers.
    let identity = |path: &str| files.stat(path.as_bytes(), Links::Follow).unwrap().identity();
    files.mkdir(b"/.snapshots/two", 0o755).unwrap();
    let all = ["/", "/.snapshots", "/d/file", "/.snapshots/one", "/.snapshots/one/d/file", "/.snapshots/two/d/file"];
    let different: std::collections::BTreeSet<_> = all.map(identity).into();
    assert_eq!(different.len(), all.len());
    assert_eq!(identity("/d/file").1, identity("/.snapshots/one/d/file").1);

    let file = open(&files, "/.snapshots/two/d/file", READ).unwrap();
    files.rmdir(b"/.snapshots/two").unwrap();
    assert_eq!(errno(files.read(file, None, 10)), libc::ENOENT);
    files.close(file).unwrap();
    assert_eq!(names(&files, "/.snapshots"), ["one"]);
}

#[test]
fn nothing_changes_in_a_snapshot_and_nothing_moves_out_of_it() {
    let (_directory, volume) = volume();
    let files = volume.files(caller(0));
    put(&files, "/file", "content");
    volume.create_snapshot(b"one", b"").unwrap();
    let at = b"/.snapshots/one/file";
    let never = NewTimes { accessed: Timestamp { seconds: 0, nanos: 0 }, modified: Timestamp { seconds: 0, nanos: 0 } };
    let changes = [
        files.mkdir(b"/.snapshots/one/d", 0o755),
        files.symlink(b"x", b"/.snapshots/one/l"),
        files.link(at, b"/.snapshots/one/l"),
        files.unlink(at),
        files.rename(at, b"/.snapshots/one/other"),
        files.rename(b"/.snapshots/one", b"/.snapshots/two"),
        files.truncate(at, 0),
        files.chmod(Who::Path(at, Links::Follow), 0o600),
        files.chown(Who::Path(at, Links::Follow), Some(1), None),
        files.set_times(Who::Path(at, Links::Follow), never),
        files.copy_file(b"/file", b"/.snapshots/one/copy", CopyTarget::Replace),
        open(&files, "/.snapshots/one/new", NEW).map(drop),
        open(&files, "/.snapshots/new", NEW).map(drop),
        open(&files, "/.snapshots/one/file", libc::O_RDWR).map(drop),
        open(&files, "/.snapshots/one/file", libc::O_RDONLY | libc::O_TRUNC).map(drop),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_eq!(errno(change), libc::EROFS, "change {number}");
    }
    assert_eq!(errno(files.rename(at, b"/moved")), libc::EXDEV);
    assert_eq!(errno(files.rename(b"/file", b"/.snapshots/one/file")), libc::EXDEV);
    assert_eq!(errno(files.link(at, b"/linked")), libc::EXDEV);
    assert_eq!(errno(files.mkdir(b"/.snapshots", 0o755)), libc::EEXIST);
    assert_eq!(errno(files.mkdir(b"/.snapshots/one", 0o755)), libc::EEXIST);
    assert_eq!(errno(files.rmdir(b"/.snapshots")), libc::EBUSY);
    assert_eq!(errno(files.unlink(b"/.snapshots")), libc::EISDIR);
    assert_eq!(errno(files.rename(b"/.snapshots", b"/elsewhere")), libc::EBUSY);
    assert_eq!(errno(files.rename(b"/file", b"/.snapshots")), libc::EBUSY);
    assert_eq!(errno(files.watch(b"/.snapshots/one", Depth::All)), libc::EOPNOTSUPP);
    files.copy_file(at, b"/copy", CopyTarget::New).unwrap();
    assert_eq!(get(&files, "/copy"), "content");
    assert_eq!(get(&files, "/.snapshots/one/file"), "content");
}

#[test]
fn only_who_may_write_to_the_root_makes_snapshots_and_nobody_of_a_volume_that_is_read_only() {
    let (directory, volume) = volume();
    let files = volume.files(caller(0));
    files.chmod(Who::Path(b"/", Links::Follow), 0o777).unwrap();
    let stranger = volume.files(caller(1000));
    assert_eq!(errno(stranger.mkdir(b"/.snapshots/mine", 0o755)), libc::EACCES);
    files.mkdir(b"/.snapshots/one", 0o755).unwrap();
    assert_eq!(errno(stranger.rmdir(b"/.snapshots/one")), libc::EACCES);
    volume.hold_snapshot(b"one", b"backup").unwrap();
    assert_eq!(errno(files.rmdir(b"/.snapshots/one")), libc::EBUSY);
    volume.close().unwrap();

    let options = OpenOptions { read_only: ReadOnly::Yes, ..OpenOptions::default() };
    let volume = Volume::open(directory.path(), &options).unwrap();
    let files = volume.files(caller(0));
    assert_eq!(names(&files, "/.snapshots"), ["one"]);
    assert_eq!(errno(files.mkdir(b"/.snapshots/two", 0o755)), libc::EROFS);
    assert_eq!(errno(files.rmdir(b"/.snapshots/one")), libc::EROFS);
}

#[test]
fn a_vault_is_there_while_it_is_unlocked() {
    let (_directory, volume) = volume();
    let files = volume.files(caller(0));
    // Without a vault the name is one like any other.
    files.mkdir(b"/.vault", 0o755).unwrap();
    files.rmdir(b"/.vault").unwrap();
    let secret = Secret::made(&volume);
    let locked = |files: &Files| {
        assert_eq!(errno(files.stat(b"/.vault", Links::Follow)), libc::ENOENT);
        assert_eq!(errno(files.list(b"/.vault/d")), libc::ENOENT);
        assert_eq!(errno(files.rmdir(b"/.vault")), libc::ENOENT);
        assert_eq!(errno(files.mkdir(b"/.vault", 0o755)), libc::EPERM);
        assert_eq!(errno(files.rename(b"/outside", b"/.vault")), libc::EPERM);
        assert_eq!(names(files, "/"), ["outside"]);
    };
    put(&files, "/outside", "plain");
    locked(&files);

    volume.unlock_vault(&secret.get()).unwrap();
    assert_eq!(names(&files, "/"), [".vault", "outside"]);
    files.mkdir(b"/.vault/d", 0o755).unwrap();
    put(&files, "/.vault/d/file", "secret");
    assert_eq!(errno(files.rmdir(b"/.vault")), libc::EBUSY);
    assert_eq!(errno(files.rename(b"/.vault/d/file", b"/file")), libc::EXDEV);
    files.rename(b"/.vault/d/file", b"/.vault/file").unwrap();
    files.copy_file(b"/outside", b"/.vault/copy", CopyTarget::New).unwrap();
    assert_eq!(get(&files, "/.vault/copy"), "plain");
    let file = open(&files, "/.vault/file", libc::O_RDWR | libc::O_APPEND).unwrap();
    files.write(file, None, b" and more").unwrap();
    volume.create_snapshot(b"one", b"").unwrap();
    files.unlink(b"/.vault/copy").unwrap();
    assert_eq!(get(&files, "/.vault/.snapshots/one/copy"), "plain");
    assert_eq!(errno(files.mkdir(b"/.vault/.snapshots/two", 0o755)), libc::EROFS);

    volume.lock_vault(Duration::from_secs(10)).unwrap();
    locked(&files);
    assert_eq!(errno(files.read(file, Some(0), 10)), libc::EIO);
    assert_eq!(errno(files.write(file, None, b"x")), libc::EIO);
    files.close(file).unwrap();

    volume.unlock_vault(&secret.get()).unwrap();
    assert_eq!(get(&files, "/.vault/file"), "secret and more");
    assert_eq!(names(&files, "/.vault"), ["d", "file"]);
}

#[test]
fn nothing_of_a_locked_vault_stays_in_memory_for_who_has_its_files_open() {
    let (_directory, volume) = volume();
    let files = volume.files(caller(0));
    let secret = Secret::made(&volume);
    volume.unlock_vault(&secret.get()).unwrap();
    let tree = Arc::downgrade(&volume.vault_vfs().unwrap());
    files.mkdir(b"/.vault/d", 0o755).unwrap();
    let _file = open(&files, "/.vault/file", NEW).unwrap();
    let _listed = open(&files, "/.vault/d", READ).unwrap();
    let watch = files.watch(b"/.vault/d", Depth::Names).unwrap();
    let end = watch.end();
    put(&files, "/.vault/d/new", "");
    let told = thread::spawn(move || {
        let mut events = Vec::new();
        watch.run(&mut |event| events.push(event));
        events
    });
    volume.lock_vault(Duration::from_secs(10)).unwrap();
    assert!(told.join().unwrap().contains(&WatchEvent::Renamed(b"new".to_vec())));
    assert!(tree.upgrade().is_none());
    end.end();
}

#[test]
fn who_uses_the_vault_without_a_mount_is_no_idler() {
    let (_directory, volume) = volume();
    let files = volume.files(caller(0));
    let secret = Secret::made(&volume);
    volume.unlock_vault(&secret.get()).unwrap();
    let idle = || volume.vault_status().unwrap().idle.unwrap();
    // What the unlocking began ends some time.
    let waited = std::time::Instant::now();
    while idle() < Duration::from_secs(1) {
        assert!(waited.elapsed() < Duration::from_secs(60), "it is never idle");
        thread::sleep(Duration::from_millis(50));
    }
    files.stat(b"/.vault", Links::Follow).unwrap();
    assert!(idle() < Duration::from_secs(1));
}
