//! Extended attributes, access control lists and flags of every kind of inode, side by side with ext4: what the one
//! answers the other does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, IFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use support::Mount;
use support::disk::LoopDisk;

const KINDS: [&str; 7] = ["file", "directory", "symlink", "pipe", "socket", "character device", "block device"];

fn make_all(at: &Path) {
    std::fs::write(at.join("file"), "").unwrap();
    std::fs::create_dir(at.join("directory")).unwrap();
    symlink("nowhere", at.join("symlink")).unwrap();
    let null = rustix::fs::makedev(1, 3);
    for (name, kind, device) in [
        ("pipe", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("character device", FileType::CharacterDevice, null),
        ("block device", FileType::BlockDevice, null),
    ] {
        rustix::fs::mknodat(CWD, at.join(name), kind, Mode::from_bits_retain(0o644), device).unwrap();
    }
}

fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// What a call said, with the bytes or the number that it gave.
type Answer = Result<Vec<u8>, Errno>;

/// A name of an attribute, and values that are set, each looked at and removed afterwards.
fn trials() -> Vec<(&'static str, Vec<u8>)> {
    const NOBODY: u32 = u32::MAX;
    let plain = list(&[(1, 6, NOBODY), (4, 4, NOBODY), (32, 0, NOBODY)]);
    let extended = list(&[(1, 6, NOBODY), (2, 5, 7), (4, 4, NOBODY), (16, 7, NOBODY), (32, 4, NOBODY)]);
    let unmasked = list(&[(1, 6, NOBODY), (2, 5, 7), (4, 4, NOBODY), (32, 4, NOBODY)]);
    let mut trials = Vec::new();
    for name in ["user.a", "trusted.a", "security.a", "user.", "system.other", "other.a", "plain", ""] {
        trials.extend([(name, b"value".to_vec()), (name, Vec::new())]);
    }
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        for value in [&plain, &extended, &unmasked, &extended[..13].to_vec(), &list(&[]), &Vec::new(), &vec![9; 20]] {
            trials.push((name, value.clone()));
        }
    }
    trials
}

/// Every call about attributes on one inode, in order, with its answer.
fn attributes(at: &Path) -> Vec<(String, Answer)> {
    let inode = rustix::fs::open(at, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
    // The way that also leads to a link itself.
    let path = format!("/proc/self/fd/{}", inode.as_raw_fd());
    let get = |name: &str| {
        let mut value = vec![0; 65536];
        rustix::fs::getxattr(&path, name, &mut value[..]).map(|len| value[..len].to_vec())
    };
    let names = || {
        let mut names = vec![0; 65536];
        let len = rustix::fs::listxattr(&path, &mut names[..])?;
        let mut names: Vec<&[u8]> = names[..len].split_inclusive(|byte| *byte == 0).collect();
        // In which order they come is nobody's promise.
        names.sort_unstable();
        Ok(names.concat())
    };
    let mode = || rustix::fs::fstat(&inode).map(|found| found.st_mode.to_le_bytes().to_vec());
    let done = |result: Result<(), Errno>| result.map(|()| Vec::new());
    let mut answers = Vec::new();
    for (name, value) in trials() {
        for flags in [XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE] {
            let mut note = |what: &str, answer| {
                answers.push((format!("{what} {name:?}, {} bytes, {flags:?}", value.len()), answer));
            };
            note("set", done(rustix::fs::setxattr(&path, name, &value, flags)));
            note("get", get(name));
            note("list", names());
            note("mode", mode());
            note("set again", done(rustix::fs::setxattr(&path, name, &value, flags)));
            note("remove", done(rustix::fs::removexattr(&path, name)));
            note("remove again", done(rustix::fs::removexattr(&path, name)));
            note("get", get(name));
        }
    }
    answers
}

/// Every call about flags on what can be opened; of what can't, that.
fn flags(at: &Path) -> Vec<(String, Answer)> {
    let opened = rustix::fs::open(at, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW, Mode::empty());
    let mut answers = vec![("open".to_owned(), opened.as_ref().map(|_| Vec::new()).map_err(|error| *error))];
    let ask = |file: &OwnedFd| rustix::fs::ioctl_getflags(file);
    // What ext4 shows beside: how it keeps the file.
    let shown = IFlags::IMMUTABLE | IFlags::APPEND | IFlags::NODUMP | IFlags::NOATIME;
    for file in opened.iter() {
        let get = || ask(file).map(|flags| (flags & shown).bits().to_le_bytes().to_vec());
        answers.push(("get flags".to_owned(), get()));
        for flag in [IFlags::NODUMP, IFlags::NOATIME, IFlags::APPEND, IFlags::IMMUTABLE, IFlags::empty()] {
            // All that ext4 has beside stays.
            let others = ask(file).unwrap_or(IFlags::empty()) & !shown;
            let set = rustix::fs::ioctl_setflags(file, flag | others).map(|()| Vec::new());
            answers.push((format!("set {flag:?}"), set));
            answers.push(("get flags".to_owned(), get()));
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let tried = rustix::fs::setxattr(path, "user.b", b"", XattrFlags::empty()).map(|()| Vec::new());
            answers.push((format!("setxattr with {flag:?}"), tried));
        }
    }
    answers
}

#[test]
fn attributes_lists_and_flags_of_every_kind_of_inode_are_as_on_ext4() {
    let folder = tempfile::Builder::new().prefix("verfs-attributes-").tempdir().unwrap();
    let (disk, mount) = (LoopDisk::new(folder.path(), 16), Mount::new());
    make_all(disk.path());
    make_all(&mount.path(""));
    let mut differences = Vec::new();
    for kind in KINDS {
        let (there, here) = (disk.path().join(kind), mount.path(kind));
        let expected = [attributes(&there), flags(&there)].concat();
        let found = [attributes(&here), flags(&here)].concat();
        assert_eq!(expected.len(), found.len(), "{kind}: one can be opened, the other can't");
        for ((what, expected), (_, found)) in expected.iter().zip(&found) {
            if expected != found {
                differences.push(format!("{kind}: {what}: ext4 {expected:?}, here {found:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
