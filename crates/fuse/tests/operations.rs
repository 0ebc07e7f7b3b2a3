//! Requests through a real mount: each operation, what the kernel caches, and what goes to which thread.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, RawDir, RenameFlags, Timespec, Timestamps};
use support::memory_tree::MemoryTree;
use support::{Mount, eventually};
use verfs_base::Ino;
use verfs_fuse::{AccessMode, Invalidation, Operation, SessionOptions, TransportChoice, Tree};
use verfs_vfs::{Context, NodeKind, SetAttr};

#[test]
fn a_file_is_made_written_read_renamed_and_removed() {
    let mount = Mount::new();
    let (file, moved) = (mount.path("file"), mount.path("folder/moved"));
    fs::create_dir(mount.path("folder")).unwrap();
    let data: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    fs::write(&file, &data).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), data.len() as u64);
    assert_eq!(fs::read(&file).unwrap(), data);
    fs::rename(&file, &moved).unwrap();
    assert_eq!(fs::metadata(&file).unwrap_err().kind(), ErrorKind::NotFound);
    let mut opened = File::open(&moved).unwrap();
    fs::remove_file(&moved).unwrap();
    assert_eq!(opened.metadata().unwrap().nlink(), 0);
    let mut read = Vec::new();
    opened.read_to_end(&mut read).unwrap();
    assert!(read == data, "an unlinked open file lost its content");
    drop(opened);
    fs::remove_dir(mount.path("folder")).unwrap();
    assert_eq!(fs::read_dir(mount.root()).unwrap().count(), 0);
}

#[test]
fn links_symlinks_and_special_nodes() {
    let mount = Mount::new();
    fs::write(mount.path("a"), "x").unwrap();
    fs::hard_link(mount.path("a"), mount.path("b")).unwrap();
    let [a, b] = ["a", "b"].map(|name| fs::metadata(mount.path(name)).unwrap());
    assert_eq!((a.ino(), a.nlink(), b.nlink()), (b.ino(), 2, 2));
    symlink("../else/where", mount.path("link")).unwrap();
    assert_eq!(fs::read_link(mount.path("link")).unwrap().to_str(), Some("../else/where"));
    let device = rustix::fs::makedev(259, 70_000);
    rustix::fs::mknodat(CWD, mount.path("block"), FileType::BlockDevice, Mode::from(0o600), device).unwrap();
    rustix::fs::mknodat(CWD, mount.path("fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let block = fs::metadata(mount.path("block")).unwrap();
    assert!(block.file_type().is_block_device() && block.rdev() == device);
    assert!(fs::metadata(mount.path("fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn names_are_bytes() {
    let mount = Mount::new();
    let name = OsStr::from_bytes(b"\xff\xfe caf\xe9\n");
    fs::write(mount.root().join(name), "x").unwrap();
    let listed: Vec<_> = fs::read_dir(mount.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(listed, [name]);
    fs::write(mount.path(&"n".repeat(255)), "x").unwrap();
}

#[test]
fn the_umask_is_applied_and_modes_change() {
    let mount = Mount::new();
    let before = rustix::process::umask(Mode::from(0o027));
    let made = fs::write(mount.path("file"), "x");
    rustix::process::umask(before);
    made.unwrap();
    assert_eq!(fs::metadata(mount.path("file")).unwrap().mode() & 0o7777, 0o640);
    fs::set_permissions(mount.path("file"), fs::Permissions::from_mode(0o4711)).unwrap();
    assert_eq!(fs::metadata(mount.path("file")).unwrap().mode() & 0o7777, 0o4711);
    std::os::unix::fs::chown(mount.path("file"), Some(12), Some(34)).unwrap();
    let owner = fs::metadata(mount.path("file")).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (12, 34));
}

#[test]
fn times_before_1970_and_after_2038_are_kept_to_the_nanosecond() {
    let mount = Mount::new();
    fs::write(mount.path("file"), "x").unwrap();
    for (seconds, nanos) in [
        (-2, 800_000_000),
        (-1, 1),
        (0, 0),
        (1 << 33, 123_456_789),
        (-(1 << 40), 999_999_999),
        // The extremes, where the kernel itself drops the nanoseconds.
        (i64::MAX, 0),
        (i64::MIN, 0),
    ] {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, mount.path("file"), &times, AtFlags::empty()).unwrap();
        let kept = fs::metadata(mount.path("file")).unwrap();
        assert_eq!((kept.mtime(), kept.mtime_nsec()), (seconds, nanos));
        assert_eq!((kept.atime(), kept.atime_nsec()), (seconds, nanos));
    }
}

#[test]
fn rename_modes_reach_the_tree() {
    let mount = Mount::new();
    for name in ["a", "b"] {
        fs::write(mount.path(name), name).unwrap();
    }
    let rename = |flags| rustix::fs::renameat_with(CWD, mount.path("a"), CWD, mount.path("b"), flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
    // The tree in memory has no exchange, and says so.
    assert_eq!(rename(RenameFlags::EXCHANGE), Err(rustix::io::Errno::INVAL));
    rename(RenameFlags::empty()).unwrap();
    assert_eq!(fs::read(mount.path("b")).unwrap(), b"a");
}

#[test]
fn a_long_directory_is_listed_whole_and_every_pin_is_given_back() {
    const FILES: u64 = 3000;
    let mount = Mount::new();
    // Made behind the kernel's back, so that only the listing tells it of them.
    for index in 0..FILES {
        let attr = mount.tree.mknod(&Context::ROOT, Ino::ROOT, name(index).as_bytes(), NodeKind::Regular, 0o644);
        mount.tree.forget(attr.unwrap().ino, 1);
    }
    let mut names = Vec::new();
    // A buffer of one page, which holds a fraction of the entries that the tree is asked for at once.
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut listing = RawDir::new(File::open(mount.root()).unwrap(), &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_str().unwrap().to_owned();
        assert_eq!(entry.file_type() == FileType::Directory, name.starts_with('.'), "{name}");
        names.push(name);
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    assert_eq!(names, (0..FILES).map(name).collect::<Vec<_>>());
    for name in &names {
        assert_eq!(fs::metadata(mount.path(name)).unwrap().mode(), libc::S_IFREG | 0o644);
    }
    assert!(mount.count(Operation::Readdirplus) > 100, "large buffers: this tests nothing");
    assert_eq!(mount.count(Operation::Lookup), 0, "the listing did not bring the attributes");
    for index in 0..FILES {
        fs::remove_file(mount.path(&name(index))).unwrap();
    }
    assert!(eventually(|| mount.tree.all_pins() == 0), "{} pins are left", mount.tree.all_pins());

    fn name(index: u64) -> String {
        format!("file-{index:05}")
    }
}

#[test]
fn a_listing_and_a_missing_name_are_cached_until_they_change() {
    let mount = Mount::new();
    fs::write(mount.path("a"), "x").unwrap();
    let list = || fs::read_dir(mount.root()).unwrap().count();
    let listings = || mount.count(Operation::Readdir) + mount.count(Operation::Readdirplus);
    let (first, after_first) = (list(), listings());
    for _ in 0..10 {
        assert_eq!(list(), first);
        assert!(!mount.path("missing").exists());
    }
    assert_eq!(listings(), after_first, "a cached directory was asked for again");
    assert_eq!(mount.count(Operation::Lookup), 2, "one look-up for `a`, one for `missing`");
    fs::write(mount.path("missing"), "x").unwrap();
    assert_eq!(list(), first + 1);
}

#[test]
fn what_changes_behind_the_kernel_is_seen_after_an_invalidation() {
    let mount = Mount::new();
    fs::write(mount.path("a"), "old").unwrap();
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"old");
    assert!(!mount.path("b").exists());
    let ino = Ino(fs::metadata(mount.path("a")).unwrap().ino());
    mount.tree.write(&Context::ROOT, ino, 0, b"new and longer").unwrap();
    let made = mount.tree.mknod(&Context::ROOT, Ino::ROOT, b"b", NodeKind::Regular, 0o600).unwrap();
    mount.tree.forget(made.ino, 1);
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"old", "the kernel caches nothing: this test proves nothing");
    mount.session().invalidate(Invalidation::Inode(ino));
    mount.session().invalidate(Invalidation::Entry { parent: Ino::ROOT, name: "b".into() });
    assert!(eventually(|| fs::read(mount.path("a")).unwrap() == b"new and longer"));
    assert!(eventually(|| mount.path("b").exists()));
}

#[test]
fn warm_operations_do_not_reach_the_session() {
    let mount = Mount::new();
    fs::write(mount.path("file"), vec![7; 100_000]).unwrap();
    symlink("file", mount.path("link")).unwrap();
    let touch = || {
        fs::metadata(mount.path("link")).unwrap();
        fs::read_link(mount.path("link")).unwrap();
        let mut file = File::open(mount.path("file")).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        file.seek(SeekFrom::Start(5)).unwrap();
        assert_eq!(content.len(), 100_000);
    };
    // Twice, since the reads of the first time moved the access time, which the next stat asks for.
    touch();
    touch();
    let asked = mount.asked_during(|| (0..20).for_each(|_| touch()));
    assert_eq!(asked, []);
}

#[test]
fn creating_a_file_takes_three_requests_and_closing_none() {
    let mount = Mount::new();
    // The first one teaches the kernel what it need not ask.
    fs::write(mount.path("teacher"), "x").unwrap();
    let asked = mount.asked_during(|| drop(File::create(mount.path("file")).unwrap()));
    assert_eq!(asked, [(Operation::Lookup, 1), (Operation::Getattr, 1), (Operation::Mknod, 1)]);
}

#[test]
fn a_panic_costs_one_caller_an_eio() {
    let mount = Mount::new();
    for _ in 0..3 {
        assert_eq!(fs::metadata(mount.path("panic")).unwrap_err().raw_os_error(), Some(libc::EIO));
        fs::write(mount.path("alive"), "x").unwrap();
    }
}

#[test]
fn what_would_block_waits_elsewhere_and_blocks_nobody() {
    let mount = Mount::new();
    fs::write(mount.path("is it later"), "x").unwrap();
    let lookups = mount.session().stats().operations;
    let lookups = lookups.iter().find(|stats| stats.operation == Operation::Lookup).unwrap();
    assert_eq!((lookups.queued, mount.tree.deferred.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn many_cold_reads_and_writes_at_once() {
    let mut tree = MemoryTree::new();
    tree.cold_reads = true;
    let options = SessionOptions { io_threads: 2, queue_max_bytes: 1, ..SessionOptions::default() };
    let mount = Mount::with(tree, &options);
    std::thread::scope(|scope| {
        for index in 0..8_u8 {
            let path = mount.path(&format!("file-{index}"));
            scope.spawn(move || {
                let mut expected = Vec::new();
                for round in 0..20_u8 {
                    let file = OpenOptions::new().create(true).append(true).read(true).open(&path).unwrap();
                    let block = vec![index ^ round; 70_001];
                    (&file).write_all(&block).unwrap();
                    expected.extend(block);
                    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                    let mut read = vec![0; expected.len()];
                    file.read_exact_at(&mut read, 0).unwrap();
                    assert!(read == expected, "file {index} differs in round {round}");
                }
            });
        }
    });
    assert!(mount.tree.deferred.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_disk_that_hangs_under_the_leader_stops_nobody_else() {
    let mut tree = MemoryTree::new();
    tree.cold_reads = true;
    let options = SessionOptions { transport: TransportChoice::Device, ..SessionOptions::default() };
    let mount = Mount::with(tree, &options);
    fs::write(mount.path("read"), "content").unwrap();
    let file = File::open(mount.path("read")).unwrap();
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let queued = || {
        let operations = mount.session().stats().operations;
        operations.iter().find(|stats| stats.operation == Operation::Read).map_or(0, |stats| stats.queued)
    };
    // What held for a moment counts.
    let once = |holds: &dyn Fn() -> bool| {
        let held = Cell::new(false);
        eventually(|| {
            held.set(held.get() || holds());
            held.get()
        })
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                let mut content = [0; 7];
                file.read_exact_at(&mut content, 0).unwrap();
                assert_eq!(&content, b"content");
                reads.fetch_add(1, Ordering::SeqCst);
            }
        });
        // The second time the leader is the thread that took the seat the first time.
        let rounds = [(); 2].map(|()| {
            // While there is one client the leader waits itself; now and then, on a busy machine, somebody takes its seat.
            let leader_waits = once(&|| {
                let (queued_before, before) = (queued(), reads.load(Ordering::SeqCst));
                eventually(|| reads.load(Ordering::SeqCst) > before + 20) && queued() == queued_before
            });
            let disk = mount.tree.disk.lock().unwrap();
            let hangs = once(&|| {
                let before = reads.load(Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                reads.load(Ordering::SeqCst) == before
            });
            let (others, others_went_on) = mpsc::channel();
            let path = mount.path("other");
            std::thread::spawn(move || others.send(fs::write(&path, "x").and_then(|()| fs::remove_file(&path))));
            let went_on = others_went_on.recv_timeout(Duration::from_secs(10)).is_ok_and(|done| done.is_ok());
            drop(disk);
            (leader_waits, hangs, went_on)
        });
        done.store(true, Ordering::SeqCst);
        let was_read = reader.join().is_ok();
        assert_eq!((rounds, was_read), ([(true, true, true); 2], true));
    });
}

#[test]
fn readers_do_not_wait_for_writers_that_have_no_room() {
    const WRITERS: u64 = 120;
    let mut tree = MemoryTree::new();
    tree.cold_reads = true;
    let options = SessionOptions { io_threads: 2, ..SessionOptions::default() };
    let mount = Mount::with(tree, &options);
    fs::write(mount.path("read"), "content").unwrap();
    let file = File::open(mount.path("read")).unwrap();
    let held = mount.tree.writes.lock().unwrap();
    std::thread::scope(|scope| {
        for index in 0..WRITERS {
            let path = mount.path(&format!("written-{index}"));
            scope.spawn(move || fs::write(path, "x").unwrap());
        }
        let all_wait = eventually(|| mount.tree.deferred.load(Ordering::SeqCst) == WRITERS);
        let reader = scope.spawn(|| {
            for index in 0..10 {
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                let mut content = [0; 7];
                file.read_exact_at(&mut content, 0).unwrap();
                assert_eq!(&content, b"content");
                assert!(!mount.path(&format!("missing {index}")).exists());
            }
            file.sync_all().unwrap();
        });
        let reads_went_on = eventually(|| reader.is_finished());
        drop(held);
        assert!(all_wait && reads_went_on);
    });
    assert_eq!(mount.count(Operation::Write), WRITERS + 1);
}

#[test]
fn fsync_of_files_and_directories_and_synchronous_writes_reach_the_tree() {
    let mount = Mount::new();
    let synced = || mount.tree.synced.load(Ordering::SeqCst);
    let file = File::create(mount.path("file")).unwrap();
    (&file).write_all(b"x").unwrap();
    assert_eq!(synced(), 0);
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    assert_eq!((synced(), mount.count(Operation::Fsync)), (2, 2));
    File::open(mount.root()).unwrap().sync_all().unwrap();
    assert_eq!(synced(), 3);
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::DSYNC;
    let file = File::from(rustix::fs::open(mount.path("file"), flags, Mode::empty()).unwrap());
    (&file).write_all(b"y").unwrap();
    assert_eq!(synced(), 4, "a write with O_DSYNC returned before it was durable");
}

#[test]
fn statfs_shows_the_room() {
    let mount = Mount::new();
    let room = rustix::fs::statvfs(mount.root()).unwrap();
    assert_eq!((room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize), (1 << 40, 1 << 39));
    assert_eq!(room.f_namemax, 255);
    assert!(room.f_ffree > 0);
}

#[test]
fn a_read_only_mount_takes_no_writes() {
    let tree = MemoryTree::new();
    tree.mknod(&Context::ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o644).unwrap();
    let mount = Mount::with(tree, &SessionOptions { access: AccessMode::ReadOnly, ..SessionOptions::default() });
    for result in [
        fs::write(mount.path("new"), "x"),
        fs::write(mount.path("file"), "x"),
        fs::remove_file(mount.path("file")),
        fs::create_dir(mount.path("folder")),
    ] {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"");
}

#[test]
fn locks_are_the_kernels() {
    let mount = Mount::new();
    let [first, second] = [(), ()].map(|()| File::create(mount.path("file")).unwrap());
    first.try_lock().unwrap();
    assert!(second.try_lock().is_err());
    first.unlock().unwrap();
    second.try_lock().unwrap();
    assert_eq!(mount.count(Operation::Setlk), 0);
}

#[test]
fn a_size_is_set_without_the_file_being_open() {
    let mount = Mount::new();
    fs::write(mount.path("file"), "abcdef").unwrap();
    OpenOptions::new().write(true).open(mount.path("file")).unwrap().set_len(3).unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"abc");
    let ino = Ino(fs::metadata(mount.path("file")).unwrap().ino());
    let attr = mount.tree.setattr(&Context::ROOT, ino, &SetAttr::default()).unwrap();
    assert_eq!(attr.size, 3);
}
