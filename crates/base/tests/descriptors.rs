//! When a process may open no more files: what closes its file at once is done with the reserve, what keeps it leaves the
//! last descriptors to others, and with descriptors the reserve comes back. One test: the limit is the process's.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use verfs_base::{Descriptors, Disk, RealDisk, is_out_of_descriptors};

const LIMIT: u64 = 200;

fn open() -> io::Result<File> {
    File::open("/dev/null")
}

fn refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| is_out_of_descriptors(&error))
}

#[test]
fn the_reserve_is_there_when_nothing_else_is_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "bytes").unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), ..getrlimit(Resource::Nofile) }).unwrap();
    let descriptors = Arc::new(Descriptors::keep().unwrap());
    let disk = RealDisk::with_descriptors(PathBuf::from(folder.path()), Arc::clone(&descriptors));
    let room = descriptors.look();
    assert!(room.is_enough() && !room.on_reserve && room.limit == LIMIT, "{room:?}");
    disk.ready().unwrap();

    let mut taken: Vec<File> = std::iter::from_fn(|| open().ok()).collect();
    assert!(refused(open()) && taken.len() as u64 > LIMIT / 2);
    // What gives its descriptor back is done.
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(disk.list(Path::new("")).unwrap(), [PathBuf::from("file")]);
    let room = descriptors.look();
    assert!(room.is_enough() && room.on_reserve, "{room:?}");
    disk.ready().unwrap();
    let kept = disk.open_read(Path::new("file")).unwrap();

    // The last ones are for those who can't wait, although they could be had.
    while descriptors.look().is_enough() {
        taken.push(open().unwrap());
    }
    assert!(refused(disk.ready()) && refused(disk.open_read(Path::new("file"))));
    assert!(refused(disk.create(Path::new("new"))) && !folder.path().join("new").exists());
    assert!(open().is_ok(), "nothing is left to others");
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(kept.len().unwrap(), 5);

    let before = descriptors.look().free;
    taken.clear();
    let room = descriptors.look();
    assert!(room.is_enough() && !room.on_reserve && room.free > before, "{room:?}");
    // It is held again, not only said to be.
    taken.extend(std::iter::from_fn(|| open().ok()));
    disk.create(Path::new("new")).unwrap();
}
