//! Imports and exports: what ends them early, what changes meanwhile, what is left for the next run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use verfs_engine::{
    Content, CreateOptions, Defects, EngineError, OpenOptions, ReadOnly, TransferCounters, TransferOptions,
    TransferReport, Volume,
};

/// A volume, and a directory of files beside it.
struct Ground {
    folder: tempfile::TempDir,
    volume: Arc<Volume>,
}

impl Ground {
    fn new() -> Ground {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("volume");
        Volume::create(&directory, &CreateOptions::default()).unwrap();
        let volume = Volume::open(&directory, &OpenOptions::default()).unwrap();
        fs::create_dir_all(folder.path().join("source/d")).unwrap();
        Ground { folder, volume }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes `count` files of some blocks in the source.
    fn fill(&self, count: usize) {
        for number in 0..count {
            let content = number.to_le_bytes().repeat(1000 + number);
            fs::write(self.path(&format!("source/d/{number}")), content).unwrap();
        }
    }

    /// Does something while a file of the source changes all the time.
    fn with_restless_file<R>(&self, work: impl FnOnce() -> R) -> R {
        let path = self.path("source/restless");
        fs::write(&path, vec![1; 64 << 20]).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let file = fs::File::options().write(true).open(path).unwrap();
                let mut number = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    file.write_all_at(&number.to_le_bytes(), number % 100).unwrap();
                    number += 1;
                    thread::sleep(std::time::Duration::from_millis(1));
                }
            });
            // Also when it panics.
            let result = panic::catch_unwind(panic::AssertUnwindSafe(work));
            stop.store(true, Ordering::SeqCst);
            result.unwrap_or_else(|reason| panic::resume_unwind(reason))
        })
    }

    fn import(&self, options: &TransferOptions) -> Result<TransferReport, EngineError> {
        let counters = TransferCounters::default();
        let paths = (&*self.path("source"), &b"/in/it"[..]);
        self.volume.import(paths, options, &counters, &mut || ControlFlow::Continue(()))
    }

    fn export(&self, target: &str, options: &TransferOptions) -> Result<TransferReport, EngineError> {
        let counters = TransferCounters::default();
        let source = (None, &b"/in/it"[..]);
        self.volume.export(source, &self.path(target), options, &counters, &mut || ControlFlow::Continue(()))
    }
}

/// Names, sizes, times and contents of everything below a directory.
fn told(directory: &Path) -> Vec<(String, u64, i64, i64, Vec<u8>)> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if meta.is_dir() {
            lines.push((name, 0, meta.mtime(), meta.mtime_nsec(), Vec::new()));
            lines.extend(told(&path));
        } else {
            lines.push((name, meta.len(), meta.mtime(), meta.mtime_nsec(), fs::read(&path).unwrap()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn what_was_copied_before_the_end_is_not_copied_again() {
    let ground = Ground::new();
    ground.fill(500);
    let counters = TransferCounters::default();
    let paths = (ground.path("source"), b"/in/it");
    // It takes many looks: of its parts none is like another.
    fs::File::create(ground.path("source/large")).unwrap().set_len(1 << 35).unwrap();
    let large = fs::File::options().write(true).open(ground.path("source/large")).unwrap();
    for block in 0..6000_u64 {
        large.write_all_at(&block.to_le_bytes().repeat(1 << 13), block << 22).unwrap();
    }
    let mut looks = 0;
    let mut refused = None;
    let cancelled = ground.volume.import((&paths.0, paths.1), &TransferOptions::default(), &counters, &mut || {
        looks += 1;
        // Another one to the same place is refused meanwhile, and leaves it alone.
        refused.get_or_insert_with(|| ground.import(&TransferOptions::default()).map_err(|error| error.code()));
        if counters.progress().entries > 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let error = cancelled.unwrap_err();
    assert!(matches!(error, EngineError::TransferCancelled { .. }), "{error}");
    assert!(looks > 0);
    assert_eq!(refused, Some(Err("VERFS_E_USAGE")));
    let root = ground.volume.files(verfs_engine::Caller { uid: 0, gid: 0, groups: Vec::new(), umask: 0 });
    assert!(root.stat(b"/in/it", verfs_engine::Links::Stay).is_err());
    fs::remove_file(ground.path("source/large")).unwrap();
    let report = ground.import(&TransferOptions::default()).unwrap();
    assert_eq!((report.files, report.directories, report.failures), (500, 2, 0));
    assert!(report.already_there > 20, "{report:?}");
    assert_eq!(report.verified, 500 - report.already_there);
    // What the source does not have any more is not in the copy.
    ground.export("out", &TransferOptions::default()).unwrap();
    assert_eq!(told(&ground.path("out")), told(&ground.path("source")));
    assert!(matches!(ground.import(&TransferOptions::default()), Err(EngineError::PathExists { .. })));
    ground.volume.close().unwrap();
}

#[test]
fn a_file_that_never_rests_is_told_and_the_others_are_copied() {
    let ground = Ground::new();
    ground.fill(20);
    ground.with_restless_file(|| {
        let error = ground.import(&TransferOptions::default()).unwrap_err();
        assert!(matches!(error, EngineError::SourceChanged { count: 1, .. }), "{error}");
        let left_out = TransferOptions { defects: Defects::LeftOut, ..TransferOptions::default() };
        let report = ground.import(&left_out).unwrap();
        assert_eq!((report.failures, report.already_there, report.files), (1, 20, 20));
        assert!(report.told_failures.iter().all(|told| told.contains("restless changed")), "{report:?}");
    });
    ground.volume.close().unwrap();
}

#[test]
fn what_an_earlier_run_copied_is_compared_when_that_is_wanted() {
    let ground = Ground::new();
    ground.fill(10);
    ground.with_restless_file(|| ground.import(&TransferOptions::default()).unwrap_err());
    fs::remove_file(ground.path("source/restless")).unwrap();
    // The same size and the same time, other bytes.
    let path = ground.path("source/d/3");
    let meta = path.metadata().unwrap();
    let mut content = fs::read(&path).unwrap();
    content.reverse();
    content[0] ^= 1;
    fs::write(&path, &content).unwrap();
    let times = fs::FileTimes::new().set_modified(meta.modified().unwrap());
    fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    let report = ground.import(&TransferOptions { content: Content::Compared, ..TransferOptions::default() }).unwrap();
    assert_eq!((report.already_there, report.verified), (9, 1));
    ground.export("out", &TransferOptions::default()).unwrap();
    assert_eq!(fs::read(ground.path("out/d/3")).unwrap(), content);
    ground.volume.close().unwrap();
}

#[test]
fn places_that_can_not_be_have_errors_of_their_own() {
    let ground = Ground::new();
    ground.fill(1);
    let options = TransferOptions::default();
    let import = |source: &str, target: &str| {
        let counters = TransferCounters::default();
        let paths = (&*ground.path(source), target.as_bytes());
        ground.volume.import(paths, &options, &counters, &mut || ControlFlow::Continue(())).unwrap_err().code()
    };
    assert_eq!(import("absent", "/a"), "VERFS_E_SOURCE_MISSING");
    assert_eq!(import("source/d/0/below-a-file", "/a"), "VERFS_E_SOURCE_MISSING");
    assert_eq!(import("volume", "/a"), "VERFS_E_USAGE");
    assert_eq!(import("volume/meta", "/a"), "VERFS_E_USAGE");
    assert_eq!(import("source", "/"), "VERFS_E_USAGE");
    assert_eq!(import("source", "/.snapshots/a"), "VERFS_E_USAGE");
    assert_eq!(import("source", "/.vault"), "VERFS_E_USAGE");
    ground.import(&options).unwrap();
    assert_eq!(import("source", "/in/it"), "VERFS_E_PATH_EXISTS");
    assert_eq!(import("source", "/in/it/d/0/below-a-file"), "VERFS_E_USAGE");
    let export = |snapshot: Option<&str>, path: &str, target: &str| {
        let counters = TransferCounters::default();
        let source = (snapshot.map(str::as_bytes), path.as_bytes());
        let watch = &mut || ControlFlow::Continue(());
        ground.volume.export(source, &ground.path(target), &options, &counters, watch).unwrap_err().code()
    };
    assert_eq!(export(None, "/absent", "out"), "VERFS_E_PATH_NOT_FOUND");
    assert_eq!(export(None, "/in/it/d/0/x", "out"), "VERFS_E_PATH_NOT_FOUND");
    assert_eq!(export(Some("absent"), "/in", "out"), "VERFS_E_SNAPSHOT_NOT_FOUND");
    ground.volume.create_snapshot(b"empty", b"").unwrap();
    assert_eq!(export(Some("empty"), "/absent", "out"), "VERFS_E_PATH_NOT_FOUND");
    assert_eq!(export(None, "/in", "source"), "VERFS_E_TARGET_EXISTS");
    assert_eq!(export(None, "/in", "absent/out"), "VERFS_E_SOURCE_MISSING");
    assert_eq!(export(None, "/in", "volume/out"), "VERFS_E_USAGE");
    ground.volume.close().unwrap();
    assert_eq!(import("source", "/other"), "VERFS_E_CLOSED");
    let read_only = OpenOptions { read_only: ReadOnly::Yes, ..OpenOptions::default() };
    let volume = Volume::open(&ground.path("volume"), &read_only).unwrap();
    let counters = TransferCounters::default();
    let watch = &mut || ControlFlow::Continue(());
    let refused = volume.import((&ground.path("source"), b"/new"), &options, &counters, watch).unwrap_err();
    assert_eq!(refused.code(), "VERFS_E_VOLUME_READ_ONLY");
    volume.export((None, b"/in"), &ground.path("out"), &options, &counters, watch).unwrap();
    volume.close().unwrap();
}

#[test]
fn the_volume_is_not_copied_into_itself() {
    let ground = Ground::new();
    ground.fill(3);
    let counters = TransferCounters::default();
    let watch = &mut || ControlFlow::Continue(());
    let report = ground.volume.import((ground.folder.path(), b"/all"), &TransferOptions::default(), &counters, watch);
    let report = report.unwrap();
    assert_eq!(report.left_out, [PathBuf::from("volume")]);
    assert_eq!(report.files, 3);
    ground.volume.close().unwrap();
}
