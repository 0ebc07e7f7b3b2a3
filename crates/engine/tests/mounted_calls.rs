//! System calls in a mounted volume whose effects the model test does not know: locks between processes, maps, direct
//! I/O, holes, shared extents, limits of the caller.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, SeekFrom, fcntl_lock, flock};
use rustix::io::Errno;
use support::page::Page;
use support::{Mount, Other, report, told, wait_for_the_end};

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Bytes without any repetition that a chunker could find.
fn random(len: usize) -> Vec<u8> {
    let mut rng = verfs_testkit::TestRng::new(11);
    std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(len).collect()
}

const LOCKER: &str = "a_process_locks_a_file_until_it_ends";

/// For other tests in a process of its own; by itself it locks a file twice, which a process may.
#[test]
fn a_process_locks_a_file_until_it_ends() {
    let mount = told("LOCK").is_none().then(Mount::new);
    let path = told("LOCK").unwrap_or_else(|| mount.as_ref().unwrap().path("file"));
    let file = open(&path);
    fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    report("locked");
    if mount.is_none() {
        wait_for_the_end();
        // A process loses its fcntl locks with the first descriptor of the file that it closes; flock stays.
        drop(open(&path));
        report("closed another");
        wait_for_the_end();
    }
}

/// The process that keeps `fcntl(2)` from locking the file.
fn holder(file: &File) -> Option<i32> {
    // SAFETY: all zeros are a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    // SAFETY: F_GETLK reads and writes one `flock`, which outlives the call.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
    assert_eq!(asked, 0);
    (lock.l_type != libc::F_UNLCK as i16).then_some(lock.l_pid)
}

#[test]
fn locks_hold_between_processes_until_the_holder_closes_or_ends() {
    let mount = Mount::new();
    let file = open(&mount.path("file"));
    let mut other = Other::start(LOCKER, "LOCK", &mount.path("file"));
    other.expect("locked");
    let try_fcntl = || fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
    let try_flock = || flock(&file, FlockOperation::NonBlockingLockExclusive);
    assert_eq!((try_fcntl(), try_flock()), (Err(Errno::AGAIN), Err(Errno::AGAIN)));
    assert_eq!(holder(&file), Some(other.pid()));
    other.let_go();
    other.expect("closed another");
    assert_eq!((try_fcntl(), try_flock()), (Ok(()), Err(Errno::AGAIN)));
    fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    other.kill();
    assert_eq!((try_flock(), holder(&file)), (Ok(()), None));
}

extern "C" fn ignore(_: libc::c_int) {}

/// Runs something that waits, while signals come to this thread.
fn interrupted(wait: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    // SAFETY: all zeros are a valid `sigaction`: no flags, so that no call is restarted; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    // SAFETY: it only tells who this thread is.
    let waiting = unsafe { libc::pthread_self() };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
                // SAFETY: the thread is alive: it leaves the scope after this one.
                unsafe { libc::pthread_kill(waiting, libc::SIGUSR1) };
            }
        });
        let answer = wait();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        answer
    })
}

#[test]
fn a_signal_ends_the_wait_for_a_lock() {
    let mount = Mount::new();
    let file = open(&mount.path("file"));
    let mut other = Other::start(LOCKER, "LOCK", &mount.path("file"));
    other.expect("locked");
    assert_eq!(interrupted(|| fcntl_lock(&file, FlockOperation::LockExclusive)), Err(Errno::INTR));
    assert_eq!(interrupted(|| flock(&file, FlockOperation::LockExclusive)), Err(Errno::INTR));
    other.kill();
    fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
}

#[test]
fn files_without_a_name_are_refused_so_that_programs_fall_back() {
    let mount = Mount::new();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    assert_eq!(rustix::fs::open(mount.path(""), flags, Mode::RUSR).unwrap_err(), Errno::OPNOTSUPP);
    let mut file = tempfile::tempfile_in(mount.path("")).unwrap();
    file.write_all(b"fallen back").unwrap();
    assert_eq!((file.metadata().unwrap().nlink(), file.metadata().unwrap().len()), (0, 11));
    assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 0);
}

#[test]
fn holes_are_found_before_and_after_a_remount() {
    const MIB: u64 = 1 << 20;
    let mut mount = Mount::new();
    let file = open(&mount.path("file"));
    file.write_all_at(&random(1 << 20), 2 * MIB).unwrap();
    file.set_len(8 * MIB).unwrap();
    drop(file);
    for _ in 0..2 {
        let file = open(&mount.path("file"));
        let seek = |to| rustix::fs::seek(&file, to);
        assert_eq!((seek(SeekFrom::Data(0)), seek(SeekFrom::Data(2 * MIB + 5))), (Ok(2 * MIB), Ok(2 * MIB + 5)));
        assert_eq!((seek(SeekFrom::Hole(0)), seek(SeekFrom::Hole(2 * MIB))), (Ok(0), Ok(3 * MIB)));
        assert_eq!(seek(SeekFrom::Data(3 * MIB)), Err(Errno::NXIO));
        assert_eq!(
            (seek(SeekFrom::Hole(8 * MIB - 1)), seek(SeekFrom::Hole(8 * MIB))),
            (Ok(8 * MIB - 1), Err(Errno::NXIO))
        );
        drop(file);
        mount.remount();
    }
}

#[test]
fn copies_of_ranges_share_what_is_stored() {
    const LEN: usize = 8 << 20;
    let mut mount = Mount::new();
    let data = random(LEN);
    fs::write(mount.path("from"), &data).unwrap();
    mount.volume().sync().unwrap();
    let before = mount.volume().stats();
    let (from, to) = (open(&mount.path("from")), open(&mount.path("to")));
    let (mut at, mut end) = (0, 0);
    while (at as usize) < LEN {
        let left = LEN - at as usize;
        assert!(rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut end), left).unwrap() > 0);
    }
    mount.volume().sync().unwrap();
    let after = mount.volume().stats();
    assert_eq!((after.unique_bytes, after.stored_bytes), (before.unique_bytes, before.stored_bytes));
    // Neither was anything chunked to find that out.
    assert_eq!((after.dedup_hits, after.dedup_misses), (before.dedup_hits, before.dedup_misses));
    assert_eq!(after.logical_bytes, before.logical_bytes + LEN as u64);
    from.write_all_at(b"only here", 5).unwrap();
    drop((from, to));
    mount.remount();
    assert!(fs::read(mount.path("to")).unwrap() == data);
    assert_eq!(&fs::read(mount.path("from")).unwrap()[5..14], b"only here");
}

/// A buffer whose bytes from the returned index on are aligned for direct I/O.
fn aligned(len: usize) -> (Vec<u8>, usize) {
    let buffer = vec![0_u8; len + 4096];
    let start = buffer.as_ptr().align_offset(4096);
    (buffer, start)
}

#[test]
fn direct_and_buffered_io_see_each_other() {
    const LEN: usize = 64 << 10;
    let mut mount = Mount::new();
    let buffered = open(&mount.path("file"));
    let direct =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(mount.path("file")).unwrap();
    buffered.write_all_at(&[1; LEN], 0).unwrap();
    let (mut buffer, start) = aligned(LEN);
    direct.read_exact_at(&mut buffer[start..start + LEN], 0).unwrap();
    assert!(buffer[start..start + LEN] == [1; LEN]);
    buffer[start..start + 4096].fill(2);
    direct.write_all_at(&buffer[start..start + 4096], 8192).unwrap();
    let mut expected = vec![1; LEN];
    expected[8192..12288].fill(2);
    let mut read = vec![0; LEN];
    buffered.read_exact_at(&mut read, 0).unwrap();
    assert!(read == expected, "a page of the cache is older than a direct write");
    drop((buffered, direct));
    mount.remount();
    assert!(fs::read(mount.path("file")).unwrap() == expected);
}

#[test]
fn maps_and_files_see_each_other_but_private_maps_keep_their_changes() {
    let mut mount = Mount::new();
    let file = open(&mount.path("file"));
    file.write_all_at(&[b'-'; 4096], 0).unwrap();
    let (first, second) = (Page::map(&file, libc::MAP_SHARED, 0), Page::map(&file, libc::MAP_SHARED, 0));
    let private = Page::map(&file, libc::MAP_PRIVATE, 0);
    let byte = |at: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0]
    };
    first.set(10, b'm');
    assert_eq!((second.get(10), byte(10)), (b'm', b'm'));
    file.write_all_at(b"w", 20).unwrap();
    assert_eq!((first.get(20), private.get(20)), (b'w', b'w'));
    private.set(30, b'p');
    assert_eq!((first.get(30), byte(30), private.get(30)), (b'-', b'-', b'p'));
    first.sync().unwrap();
    drop((first, second, private, file));
    mount.remount();
    let content = fs::read(mount.path("file")).unwrap();
    assert_eq!((content[10], content[20], content[30]), (b'm', b'w', b'-'));
}

#[test]
fn a_limit_of_file_size_is_a_signal_or_an_error_and_what_fits_is_written() {
    let mount = Mount::new();
    // The unit of dash is 512 bytes, that of other shells may be 1024.
    let run = |before: &str| {
        let script = format!("{before} ulimit -f 8; exec head -c 100000 /dev/zero >\"$1\"");
        let output = Command::new("sh").args(["-c", &script, "sh"]).arg(mount.path("file")).output().unwrap();
        let len = fs::metadata(mount.path("file")).unwrap().len();
        assert!(len == 8 * 512 || len == 8 * 1024, "{len} bytes were written");
        output
    };
    assert_eq!(run("").status.signal(), Some(libc::SIGXFSZ));
    let refused = run("trap '' XFSZ;");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("File too large"), "{said}");
}

#[test]
fn an_inode_takes_as_many_attributes_as_can_be_listed() {
    let mount = Mount::new();
    let path = mount.path("file");
    open(&path);
    let name = |number: u32| format!("user.{number:0>250}");
    let set = |number| rustix::fs::setxattr(&path, name(number), b"v", rustix::fs::XattrFlags::empty());
    // Of 255 bytes and a NUL each, so many are 64 KiB.
    for number in 0..256 {
        set(number).unwrap();
    }
    assert_eq!(set(256), Err(Errno::NOSPC));
    let mut names = vec![0; 64 << 10];
    assert_eq!(rustix::fs::listxattr(&path, &mut names[..]), Ok(64 << 10));
    let listed: Vec<&[u8]> = names.split_inclusive(|byte| *byte == 0).collect();
    assert!(
        listed.len() == 256
            && listed
                .iter()
                .enumerate()
                .all(|(number, listed)| { listed.strip_suffix(b"\0") == Some(name(number as u32).as_bytes()) })
    );
    rustix::fs::removexattr(&path, name(7)).unwrap();
    set(256).unwrap();
}
