//! The files of a volume without a mount: what the kernel does for others is done by `Files`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use support::files::{NEW, READ, errno, open, put};
use verfs_engine::{
    Access, Caller, CopyTarget, CreateOptions, Depth, FileError, Links, OpenFlags, OpenOptions, ReadOnly, SyncScope,
    Volume, WatchEvent, Who,
};
use verfs_vfs::{Context, XattrMode};

fn caller(uid: u32, groups: &[u32]) -> Caller {
    Caller { uid, gid: uid, groups: groups.to_vec(), umask: 0o022 }
}

fn volume(options: &OpenOptions) -> (tempfile::TempDir, Arc<Volume>) {
    let directory = tempfile::tempdir().unwrap();
    Volume::create(directory.path(), &CreateOptions::default()).unwrap();
    let volume = Volume::open(directory.path(), options).unwrap();
    (directory, volume)
}

#[test]
fn the_mode_says_what_a_user_may() {
    let (_directory, volume) = volume(&OpenOptions::default());
    let root = volume.files(caller(0, &[]));
    root.chmod(Who::Path(b"/", Links::Follow), 0o777).unwrap();
    let owner = volume.files(caller(1000, &[]));
    owner.mkdir(b"/d", 0o750).unwrap();
    put(&owner, "/d/file", "secret");
    owner.chmod(Who::Path(b"/d/file", Links::Follow), 0o640).unwrap();

    let friend = volume.files(caller(1001, &[1000]));
    let stranger = volume.files(caller(1002, &[]));
    assert!(open(&friend, "/d/file", READ).is_ok());
    assert_eq!(errno(open(&friend, "/d/file", libc::O_WRONLY)), libc::EACCES);
    assert_eq!(errno(open(&friend, "/d/other", NEW)), libc::EACCES);
    assert_eq!(errno(friend.unlink(b"/d/file")), libc::EACCES);
    assert_eq!(errno(stranger.stat(b"/d/file", Links::Follow)), libc::EACCES);
    assert_eq!(errno(friend.access(b"/d/file", Access::WRITE)), libc::EACCES);
    assert!(friend.access(b"/d/file", Access::READ).is_ok());
    assert_eq!(errno(friend.chmod(Who::Path(b"/d/file", Links::Follow), 0o666)), libc::EPERM);
    assert_eq!(errno(owner.chown(Who::Path(b"/d/file", Links::Follow), Some(1001), None)), libc::EPERM);
    assert!(root.chown(Who::Path(b"/d/file", Links::Follow), Some(1001), None).is_ok());
    assert!(open(&root, "/d/file", libc::O_RDWR).is_ok());
    assert_eq!(errno(root.access(b"/d/file", Access::EXECUTE)), libc::EACCES);
}

/// The value of an access list: `(tag, permissions, id)` of acl(5).
fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

#[test]
fn an_access_list_says_it_where_there_is_one() {
    let (_directory, volume) = volume(&OpenOptions::default());
    let root = volume.files(caller(0, &[]));
    root.chmod(Who::Path(b"/", Links::Follow), 0o777).unwrap();
    let owner = volume.files(caller(1000, &[]));
    owner.mkdir(b"/d", 0o755).unwrap();
    put(&owner, "/d/file", "text");
    let set = |path: &str, entries: &[(u16, u16, u32)]| {
        let ino = root.stat(path.as_bytes(), Links::Follow).unwrap().ino;
        let (context, name) = (Context::ROOT, b"system.posix_acl_access");
        volume.vfs().setxattr(&context, ino, name, &access_list(entries), XattrMode::Set).unwrap();
    };
    // user::rw-, user:1001:rw-, user:1004:---, group::---, group:50:r--, group:60:-w-, mask::rw-, other::r--
    let none = u32::MAX;
    let entries: [(u16, u16, u32); 8] = [
        (0x01, 6, none),
        (0x02, 6, 1001),
        (0x02, 0, 1004),
        (0x04, 0, none),
        (0x08, 4, 50),
        (0x08, 2, 60),
        (0x10, 6, none),
        (0x20, 4, none),
    ];
    set("/d/file", &entries);
    let opens = |uid, groups: &[u32], flags| open(&volume.files(caller(uid, groups)), "/d/file", flags).is_ok();
    let (write, both) = (libc::O_WRONLY, libc::O_RDWR);
    assert!(opens(1000, &[], both), "the owner");
    assert!(opens(1001, &[], both), "a named user, to whom the mode gives less");
    assert!(!opens(1002, &[1000], READ), "the owning group, to which the mode gives more: its bits are the mask");
    assert!(opens(1002, &[50], READ) && !opens(1002, &[50], write), "a named group");
    assert!(opens(1002, &[50, 60], write) && !opens(1002, &[50, 60], both), "no entry alone grants both");
    assert!(!opens(1004, &[50], READ), "a named user counts before his groups");
    assert!(opens(1003, &[], READ) && !opens(1003, &[], write), "all others");
    let access = |uid, wanted| volume.files(caller(uid, &[])).access(b"/d/file", wanted);
    assert!(access(1001, Access::WRITE).is_ok());
    assert_eq!(errno(access(1004, Access::READ)), libc::EACCES);
    // The mask limits all but the owner and others.
    owner.chmod(Who::Path(b"/d/file", Links::Follow), 0o644).unwrap();
    assert!(opens(1001, &[], READ) && !opens(1001, &[], write));
    // Of directories it says who passes, and who makes and takes names.
    set("/d", &[(0x01, 7, none), (0x02, 7, 1001), (0x02, 0, 1004), (0x04, 5, none), (0x10, 7, none), (0x20, 5, none)]);
    let (named, barred) = (volume.files(caller(1001, &[])), volume.files(caller(1004, &[])));
    put(&named, "/d/made", "");
    named.rename(b"/d/made", b"/d/moved").unwrap();
    assert_eq!(errno(barred.stat(b"/d/file", Links::Follow)), libc::EACCES);
    assert_eq!(errno(volume.files(caller(1003, &[])).unlink(b"/d/moved")), libc::EACCES);
    // It is there in a snapshot too.
    root.mkdir(b"/.snapshots/one", 0o755).unwrap();
    assert_eq!(errno(barred.stat(b"/.snapshots/one/d/file", Links::Follow)), libc::EACCES);
    assert!(named.stat(b"/.snapshots/one/d/file", Links::Follow).is_ok());
}

#[test]
fn in_a_sticky_directory_only_owners_remove() {
    let (_directory, volume) = volume(&OpenOptions::default());
    let root = volume.files(caller(0, &[]));
    root.mkdir(b"/tmp", 0o777).unwrap();
    root.chmod(Who::Path(b"/tmp", Links::Follow), 0o1777).unwrap();
    let (one, other) = (volume.files(caller(1000, &[])), volume.files(caller(1001, &[])));
    put(&one, "/tmp/mine", "");
    put(&other, "/tmp/yours", "");
    assert_eq!(errno(other.unlink(b"/tmp/mine")), libc::EPERM);
    assert_eq!(errno(other.rename(b"/tmp/yours", b"/tmp/mine")), libc::EPERM);
    one.unlink(b"/tmp/mine").unwrap();
}

#[test]
fn links_are_followed_to_their_end_but_not_for_ever() {
    let (_directory, volume) = volume(&OpenOptions::default());
    let files = volume.files(caller(0, &[]));
    files.mkdir(b"/a", 0o755).unwrap();
    put(&files, "/a/file", "content");
    files.symlink(b"../a/./file", b"/a/relative").unwrap();
    files.symlink(b"/a", b"/absolute").unwrap();
    assert_eq!(files.realpath(b"absolute/../absolute/relative").unwrap(), b"/a/file");
    // Forty links are followed, and one more is a loop.
    for number in 0..41 {
        let target = if number == 0 { "a/file".to_owned() } else { format!("chain-{}", number - 1) };
        files.symlink(target.as_bytes(), format!("/chain-{number}").as_bytes()).unwrap();
    }
    assert!(files.stat(b"/chain-39", Links::Follow).is_ok());
    assert_eq!(errno(files.stat(b"/chain-40", Links::Follow)), libc::ELOOP);
    assert!(files.stat(b"/chain-40", Links::Stay).is_ok());
    assert_eq!(errno(files.stat(&[b'x'; 4096], Links::Follow)), libc::ENAMETOOLONG);
}

#[test]
fn appends_of_many_never_meet() {
    let (_directory, volume) = volume(&OpenOptions::default());
    let files = volume.files(caller(0, &[]));
    put(&files, "/log", "");
    thread::scope(|scope| {
        for writer in 0..4_u8 {
            let files = &files;
            scope.spawn(move || {
                let file = open(files, "/log", libc::O_WRONLY | libc::O_APPEND).unwrap();
                (0..100).for_each(|_| files.write(file, Some(0), &[writer; 10]).unwrap());
                files.close(file).unwrap();
            });
        }
    });
    let pieces = files.read_file(b"/log", OpenFlags::from_bits(READ), 1 << 20).unwrap().unwrap();
    let content = pieces.concat();
    assert_eq!(content.len(), 4 * 100 * 10);
    assert!(content.chunks(10).all(|line| line.iter().all(|byte| *byte == line[0])));
}

#[test]
fn an_unlinked_file_lives_while_it_is_open_and_goes_with_its_opener() {
    let (_directory, volume) = volume(&OpenOptions::default());
    let files = volume.files(caller(0, &[]));
    put(&files, "/file", "content");
    let file = open(&files, "/file", READ).unwrap();
    files.unlink(b"/file").unwrap();
    // What the end of a mount does.
    volume.vfs().forget_all();
    volume.sync().unwrap();
    assert_eq!(files.read(file, None, 100).unwrap().concat(), b"content");
    files.fsync(file, SyncScope::All).unwrap();
    assert_eq!(volume.stats().files, 1);
    drop(files);
    for _ in 0..50 {
        volume.sync().unwrap();
        if volume.stats().files == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("the file is kept for ever");
}

#[test]
fn a_volume_that_is_read_only_refuses_every_change() {
    let (directory, written) = volume(&OpenOptions::default());
    put(&written.files(caller(0, &[])), "/file", "content");
    written.close().unwrap();
    let options = OpenOptions { read_only: ReadOnly::Yes, ..OpenOptions::default() };
    let volume = Volume::open(directory.path(), &options).unwrap();
    let files = volume.files(caller(0, &[]));
    let changes = [
        files.mkdir(b"/d", 0o755),
        files.symlink(b"x", b"/l"),
        files.link(b"/file", b"/l"),
        files.unlink(b"/file"),
        files.rename(b"/file", b"/other"),
        files.truncate(b"/file", 0),
        files.chmod(Who::Path(b"/file", Links::Follow), 0o600),
        files.copy_file(b"/file", b"/copy", CopyTarget::Replace),
        open(&files, "/new", NEW).map(drop),
        open(&files, "/file", libc::O_RDWR).map(drop),
    ];
    for change in changes {
        assert_eq!(errno(change), libc::EROFS);
    }
    assert_eq!(errno(files.mkdir(b"/file", 0o755)), libc::EEXIST);
    assert!(open(&files, "/file", READ).is_ok());
}

#[test]
fn numbers_of_files_are_given_once() {
    let (_directory, volume) = volume(&OpenOptions::default());
    let files = volume.files(caller(0, &[]));
    put(&files, "/file", "x");
    let first = open(&files, "/file", READ).unwrap();
    files.close(first).unwrap();
    let second = open(&files, "/file", READ).unwrap();
    assert_ne!(first, second);
    assert_eq!(errno(files.close(first)), libc::EBADF);
    assert_eq!(errno(files.read(first, None, 1)), libc::EBADF);
    assert_eq!(errno(files.write(second, None, b"x")), libc::EBADF);
    assert_eq!(errno(files.ftruncate(second, 0)), libc::EINVAL);
    volume.close().unwrap();
    assert_eq!(files.read(second, None, 1).unwrap_err(), FileError::Closed);
}

#[test]
fn a_watch_that_nobody_reads_says_that_it_missed_something_and_ends_with_the_volume() {
    let (_directory, volume) = volume(&OpenOptions::default());
    let files = volume.files(caller(0, &[]));
    files.mkdir(b"/d", 0o755).unwrap();
    let watch = files.watch(b"/d", Depth::Names).unwrap();
    for number in 0..3000 {
        put(&files, &format!("/d/{number}"), "x");
    }
    volume.close().unwrap();
    let mut events = Vec::new();
    watch.run(&mut |event| events.push(event));
    assert!(events.contains(&WatchEvent::Missed));
    assert!(events.contains(&WatchEvent::Renamed(b"0".to_vec())));
}
