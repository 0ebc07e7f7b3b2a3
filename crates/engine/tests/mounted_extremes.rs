//! A mounted volume at its limits: the longest directory, the most links, a crash with unlinked files open.
//!
//! `VERFS_TEST_FACTOR` makes it a directory of a million entries instead of a tenth of that.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;

use rustix::fs::{RawDir, SeekFrom};
use support::{Mount, Other, mountpoint, new_volume, open_and_mount, report, told, wait_for_the_end};
use verfs_base::Ino;
use verfs_vfs::{Context, NodeKind, VfsError};

fn entries() -> usize {
    if std::env::var_os("VERFS_TEST_FACTOR").is_some() { 1_000_000 } else { 100_000 }
}

/// Names and the offset behind each, from an offset on; at most `count`.
fn list(directory: &File, offset: u64, count: usize) -> Vec<(String, u64)> {
    rustix::fs::seek(directory, SeekFrom::Start(offset)).unwrap();
    let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
    let mut listing = RawDir::new(directory, &mut buffer);
    let mut found = Vec::new();
    while found.len() < count
        && let Some(entry) = listing.next()
    {
        let entry = entry.unwrap();
        found.push((entry.file_name().to_str().unwrap().to_owned(), entry.next_entry_cookie()));
    }
    found
}

#[test]
fn a_listing_of_a_huge_directory_goes_on_where_it_was_while_names_come_and_go() {
    let count = entries();
    let mount = Mount::new();
    let vfs = mount.volume().vfs();
    let directory = vfs.mkdir(&Context::ROOT, Ino::ROOT, b"huge", 0o755).unwrap().ino;
    for number in 0..count {
        let name = format!("stable-{number}");
        vfs.mknod(&Context::ROOT, directory, name.as_bytes(), NodeKind::Regular, 0o644).unwrap();
    }
    let huge = mount.path("huge");
    let handle = File::open(&huge).unwrap();
    let mut seen = HashSet::new();
    let mut offset = 0;
    let mut places = Vec::new();
    for round in 0.. {
        let page = list(&handle, offset, count / 20);
        let Some((_, last)) = page.last() else { break };
        offset = *last;
        places.push(page[page.len() / 2].clone());
        for (name, _) in page {
            if name.starts_with("stable-") {
                assert!(seen.insert(name.clone()), "{name} is listed twice");
            }
        }
        // Some of them hash before the place where the listing is, some behind it.
        for number in 0..20 {
            fs::write(huge.join(format!("new-{round}-{number}")), "").unwrap();
            if round > 0 {
                fs::remove_file(huge.join(format!("new-{}-{number}", round - 1))).unwrap();
            }
        }
    }
    assert_eq!(seen.len(), count, "names are missing");
    // seekdir(3) to where telldir(3) was, in any order: what follows then follows now.
    for (name, at) in places.iter().rev().filter(|(name, _)| name.starts_with("stable-")) {
        let following = list(&handle, *at, 5);
        assert!(following.iter().all(|(other, _)| other != name));
        let again = list(&File::open(&huge).unwrap(), *at, 5);
        let stable = |page: &[(String, u64)]| -> Vec<String> {
            page.iter().map(|(name, _)| name.clone()).filter(|name| name.starts_with("stable-")).collect()
        };
        assert_eq!(stable(&following), stable(&again));
    }
}

#[test]
fn an_inode_has_a_million_names_and_no_more() {
    const LINKS_MAX: u32 = 1 << 20;
    let mount = Mount::new();
    let vfs = mount.volume().vfs();
    let directory = vfs.mkdir(&Context::ROOT, Ino::ROOT, b"links", 0o755).unwrap().ino;
    let file = vfs.mknod(&Context::ROOT, directory, b"0", NodeKind::Regular, 0o644).unwrap().ino;
    for number in 1..LINKS_MAX {
        vfs.link(&Context::ROOT, file, directory, number.to_string().as_bytes()).unwrap();
    }
    assert_eq!(vfs.link(&Context::ROOT, file, directory, b"more"), Err(VfsError::TooManyLinks));
    let (one, more) = (mount.path("links/1"), mount.path("links/more"));
    assert_eq!(fs::hard_link(&one, &more).unwrap_err().raw_os_error(), Some(libc::EMLINK));
    fs::remove_file(mount.path("links/7")).unwrap();
    fs::hard_link(&one, &more).unwrap();
    assert_eq!(fs::hard_link(&one, mount.path("links/7")).unwrap_err().raw_os_error(), Some(libc::EMLINK));
}

const DAEMON: &str = "a_process_mounts_a_volume_and_holds_an_unlinked_file";
const LEN: usize = 8 << 20;

/// For another test in a process of its own, which is then killed. By itself it checks that the file lives.
#[test]
fn a_process_mounts_a_volume_and_holds_an_unlinked_file() {
    let own = told("DAEMON").is_none().then(new_volume);
    let folder = told("DAEMON").unwrap_or_else(|| own.as_ref().unwrap().path().to_path_buf());
    let volume = open_and_mount(&folder);
    let mut data = vec![0; LEN];
    File::open("/dev/urandom").unwrap().read_exact(&mut data).unwrap();
    let path = mountpoint(&folder).join("unlinked");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(&data).unwrap();
    fs::write(mountpoint(&folder).join("kept"), "kept").unwrap();
    volume.sync().unwrap();
    fs::remove_file(&path).unwrap();
    file.sync_all().unwrap();
    volume.sync().unwrap();
    let mut read = vec![0; LEN];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == data);
    assert!(volume.stats().unique_bytes >= LEN as u64, "the file that is open has lost its space");
    report("holds");
    if own.is_none() {
        wait_for_the_end();
    }
    drop(file);
    volume.close().unwrap();
}

#[test]
fn after_a_kill_the_space_of_files_that_were_unlinked_and_open_comes_back() {
    let folder = new_volume();
    let mut daemon = Other::start(DAEMON, "DAEMON", folder.path());
    daemon.expect("holds");
    daemon.kill();
    // Mounting detaches what the killed one left.
    let mount = Mount::of(folder);
    assert_eq!(fs::read_to_string(mount.path("kept")).unwrap(), "kept");
    assert!(!mount.path("unlinked").exists());
    let volume = mount.volume();
    for _ in 0..50 {
        volume.sync().unwrap();
        if volume.stats().unique_bytes < LEN as u64 {
            break;
        }
    }
    let stats = volume.stats();
    assert!(stats.unique_bytes < 1 << 20, "{} bytes of nobody's", stats.unique_bytes);
    assert_eq!(stats.logical_bytes, 4);
}
