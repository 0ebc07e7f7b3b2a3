//! Every transport serves the same tree, and each says what it is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use support::memory_tree::MemoryTree;
use support::{Mount, eventually};
use verfs_base::Ino;
use verfs_fuse::{FuseError, Invalidation, Operation, Session, SessionOptions, TransportChoice, Tree};
use verfs_vfs::{Context, Patience, Pin};

/// The kernel's switch of FUSE over io_uring, put back when the test ends.
struct RingSwitch {
    before: String,
}

impl RingSwitch {
    const PATH: &'static str = "/sys/module/fuse/parameters/enable_uring";

    fn set(value: &str) -> RingSwitch {
        let before = fs::read_to_string(Self::PATH).unwrap();
        fs::write(Self::PATH, value).unwrap();
        RingSwitch { before }
    }
}

impl Drop for RingSwitch {
    fn drop(&mut self) {
        let _ = fs::write(Self::PATH, &self.before);
    }
}

fn over(transport: TransportChoice) -> Mount {
    Mount::over(transport, MemoryTree::new(), &SessionOptions::default())
}

/// What a session is for, each thing once.
fn check(mount: &Mount) {
    let data: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    fs::create_dir(mount.path("folder")).unwrap();
    fs::write(mount.path("folder/file"), &data).unwrap();
    let file = File::open(mount.path("folder/file")).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut read = Vec::new();
    (&file).read_to_end(&mut read).unwrap();
    assert!(read == data, "other bytes come back");
    file.sync_all().unwrap();
    assert_eq!(mount.tree.synced.load(Ordering::SeqCst), 1);
    fs::rename(mount.path("folder/file"), mount.path("moved")).unwrap();
    let names: Vec<_> = fs::read_dir(mount.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(fs::metadata(mount.path("panic")).unwrap_err().raw_os_error(), Some(libc::EIO));
    fs::write(mount.path("is it later"), "x").unwrap();
    assert_eq!(mount.tree.deferred.load(Ordering::SeqCst), 1);

    // Behind the kernel's back.
    let context = Context { patience: Patience::Wait, pin: Pin::No, ..Context::ROOT };
    let ino = mount.tree.lookup(&context, Ino::ROOT, b"moved").unwrap().ino;
    mount.tree.forget(ino, 1);
    mount.tree.write(&context, ino, 0, b"changed").unwrap();
    mount.session().invalidate_all([Invalidation::Inode(ino)]);
    let mut start = [0; 7];
    file.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(&start, b"changed");
    drop(file);

    for name in ["moved", "is it later"] {
        fs::remove_file(mount.path(name)).unwrap();
    }
    fs::remove_dir(mount.path("folder")).unwrap();
    assert!(eventually(|| mount.tree.all_pins() == 0), "{} pins are left", mount.tree.all_pins());
}

/// Many clients, and more requests that wait than a queue has entries.
fn check_many_clients(mount: &Mount) {
    let before = mount.count(Operation::Fsync);
    std::thread::scope(|scope| {
        for index in 0..150_u8 {
            let path = mount.path(&format!("file-{index}"));
            scope.spawn(move || {
                let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
                for round in 0..5_u8 {
                    (&file).write_all(&[index ^ round; 5000]).unwrap();
                    file.sync_all().unwrap();
                    let mut back = [0; 5000];
                    file.read_exact_at(&mut back, u64::from(round) * 5000).unwrap();
                    assert!(back.iter().all(|byte| *byte == index ^ round));
                }
            });
        }
    });
    assert_eq!(mount.count(Operation::Fsync) - before, 750);
}

fn check_ends(mount: Mount) {
    let file = File::create(mount.path("open")).unwrap();
    let session = mount.session();
    std::thread::scope(|scope| {
        let unmounting = scope.spawn(move || session.unmount());
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(file);
        unmounting.join().unwrap().unwrap();
    });
    assert_eq!(session.stats().lanes.iter().map(|lane| lane.threads).sum::<usize>(), 0);
}

#[test]
fn the_device_and_the_library_serve_the_same() {
    for (choice, name) in [(TransportChoice::Device, "device"), (TransportChoice::Fuser, "fuser")] {
        let mount = over(choice);
        assert_eq!(mount.session().stats().transport, name);
        check(&mount);
        check_many_clients(&mount);
        check_ends(mount);
    }
}

/// An io_uring that can't be had is refused, and nobody has to have one.
fn check_without_ring() {
    let folder = tempfile::tempdir().unwrap();
    let options = SessionOptions { transport: TransportChoice::IoUring, ..SessionOptions::default() };
    match Session::mount(std::sync::Arc::new(MemoryTree::new()), folder.path(), &options) {
        Err(FuseError::Io { source, .. }) => assert!(source.to_string().contains("enable_uring"), "{source}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(over(TransportChoice::Auto).session().stats().transport, "device");
}

#[test]
fn a_ring_serves_where_the_kernel_has_it_switched_on_and_is_refused_elsewhere() {
    if !Path::new(RingSwitch::PATH).exists() {
        // Before Linux 6.14.
        return check_without_ring();
    }
    let off = RingSwitch::set("N");
    check_without_ring();
    let on = RingSwitch::set("Y");
    assert_eq!(over(TransportChoice::Device).session().stats().transport, "device");
    for choice in [TransportChoice::Auto, TransportChoice::IoUring, TransportChoice::Auto] {
        let mount = over(choice);
        assert_eq!(mount.session().stats().transport, "io_uring");
        check(&mount);
        check_many_clients(&mount);
        check_ends(mount);
    }
    // Cut while entries have requests that nobody answers.
    let mount = over(TransportChoice::IoUring);
    let held = mount.tree.writes.lock().unwrap();
    let path = mount.path("waits");
    let waiter = std::thread::spawn(move || fs::write(path, "x"));
    assert!(eventually(|| mount.tree.deferred.load(Ordering::SeqCst) == 1));
    // A mount whose connection is cut is nobody's any more, so it goes first.
    mount.session().detach().unwrap();
    mount.session().abort().unwrap();
    assert!(waiter.join().unwrap().is_err());
    drop(held);
    mount.session().wait();
    drop((on, off));
}

#[test]
fn the_time_of_birth_is_shown_and_a_nameless_file_is_refused() {
    let mount = over(TransportChoice::Device);
    fs::write(mount.path("file"), "x").unwrap();
    let shown =
        rustix::fs::statx(CWD, mount.path("file"), AtFlags::empty(), StatxFlags::ALL | StatxFlags::BTIME).unwrap();
    let born = mount.tree.lookup(&Context::ROOT, Ino::ROOT, b"file").unwrap().btime;
    mount.tree.forget(Ino(shown.stx_ino), 1);
    assert_ne!(shown.stx_mask & StatxFlags::BTIME.bits(), 0);
    assert_eq!((shown.stx_btime.tv_sec, shown.stx_btime.tv_nsec), (born.seconds, born.nanos));
    assert_eq!((shown.stx_size, u32::from(shown.stx_mode)), (1, libc::S_IFREG | 0o644));
    let nameless = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(mount.root());
    assert_eq!(nameless.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
}
