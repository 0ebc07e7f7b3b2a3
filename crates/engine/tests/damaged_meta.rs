//! Metadata whose engine's files are damaged: each file, each kind of damage. An open ends with what was written or with an
//! error that has a code and says what to do; recovery mounts; nobody panics, and nobody waits for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod damage;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use damage::{copy, noise};
use verfs_base::Ino;
use verfs_engine::{CreateOptions, FsckVerdict, MetaEngine, OpenOptions, Recovery, Repair, Volume};
use verfs_vfs::{Context, Listing, NodeKind, Vfs, VfsError};

const ROOT: Context = Context::ROOT;
/// Enough records for several tables and a log.
const FILES: u64 = 600;
/// Every so many files have chunks.
const CHUNKED_ONE_IN: u64 = 100;
/// Longest until a call on a small volume ends, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What an error of damaged metadata may be.
const CODES: [&str; 4] =
    ["VERFS_E_DAMAGED", "VERFS_E_METADATA_OLDER", "VERFS_E_METADATA_MISSING", "VERFS_E_FORMAT_NEWER"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    /// One bit, at so many tenths of the file.
    Flip(u64),
    Halved,
    Emptied,
    Removed,
}

const DAMAGES: [Damage; 6] =
    [Damage::Flip(0), Damage::Flip(5), Damage::Flip(9), Damage::Halved, Damage::Emptied, Damage::Removed];

fn options() -> OpenOptions {
    OpenOptions { memtable_bytes: 1 << 20, ..damage::options() }
}

fn name(number: u64) -> Vec<u8> {
    format!("a file with a name that takes some room, number {number}").into_bytes()
}

fn content(number: u64) -> Vec<u8> {
    if number.is_multiple_of(CHUNKED_ONE_IN) { noise(number, 40_000) } else { noise(number, 900) }
}

/// A volume as a crash leaves it, its metadata in tables and in the log.
fn build(engine: MetaEngine) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("open");
    Volume::create(&path, &CreateOptions { engine, ..CreateOptions::default() }).unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    for number in 0..FILES {
        let ino = volume.vfs().mknod(&ROOT, Ino::ROOT, &name(number), NodeKind::Regular, 0o644).unwrap().ino;
        volume.vfs().write(&ROOT, ino, 0, &content(number)).unwrap();
        if number % 50 == 49 {
            volume.vfs().sync().unwrap();
        }
    }
    copy(&path, &directory.path().join("volume"));
    volume.close().unwrap();
    directory
}

fn files(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn spoil(file: &Path, damage: Damage) {
    let mut bytes = std::fs::read(file).unwrap();
    match damage {
        Damage::Removed => return std::fs::remove_file(file).unwrap(),
        Damage::Emptied => bytes.clear(),
        Damage::Halved => bytes.truncate(bytes.len() / 2),
        Damage::Flip(tenths) => {
            let at = bytes.len() * tenths as usize / 10;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 4;
            }
        }
    }
    std::fs::write(file, bytes).unwrap();
}

/// Runs something that must end, and not by a panic.
fn ends<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(PATIENCE) {
        Ok(done) => done,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: it does not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let panic = thread.join().unwrap_err();
            panic!("{what}: it panicked: {:?}", panic.downcast_ref::<String>());
        }
    }
}

fn read_all(vfs: &Vfs, ino: Ino) -> Result<Vec<u8>, VfsError> {
    let size = vfs.getattr(&ROOT, ino)?.size as u32;
    Ok(vfs.read(&ROOT, ino, 0, size)?.concat())
}

/// How many files read as they were written; none reads as anything else.
fn right(vfs: &Vfs, what: &str) -> u64 {
    let mut right = 0;
    for number in 0..FILES {
        match vfs.lookup(&ROOT, Ino::ROOT, &name(number)).and_then(|attr| read_all(vfs, attr.ino)) {
            Ok(bytes) if bytes == content(number) => right += 1,
            // Of an older state: it was made and not written yet.
            Ok(bytes) => assert!(bytes.is_empty(), "{what}: file {number} has other bytes"),
            Err(VfsError::Io | VfsError::NotFound) => {}
            Err(error) => panic!("{what}: file {number}: {error}"),
        }
    }
    right
}

fn lost_and_found(vfs: &Vfs) -> usize {
    let Ok(directory) = vfs.lookup(&ROOT, Ino::ROOT, b"lost+found") else { return 0 };
    vfs.readdir(&ROOT, directory.ino, 0, 1000, Listing::Names).unwrap().len()
}

fn every_damage_of_every_file(engine: MetaEngine) {
    let built = build(engine);
    let volume = built.path().join("volume");
    let all = files(&volume.join("meta"));
    assert!(all.len() > 3, "{all:?}");
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = |outcome: String| *outcomes.entry(outcome).or_default() += 1;
    for file in &all {
        let inside = file.strip_prefix(&volume).unwrap();
        for damage in DAMAGES {
            let what = format!("{engine} {} {damage:?}", inside.display());
            let damaged = tempfile::tempdir().unwrap();
            let path = damaged.path().join("volume");
            copy(&volume, &path);
            spoil(&path.join(inside), damage);

            let (at, told) = (path.clone(), what.clone());
            let recovered = ends(&what, move || {
                let options = OpenOptions { recovery: Recovery::ReadOnly, ..options() };
                let volume = Volume::open(&at, &options).unwrap_or_else(|error| panic!("{told}: {error}"));
                let right = right(volume.vfs(), &told);
                let kept = lost_and_found(volume.vfs());
                volume.close().unwrap();
                assert!(right > 0 || kept > 0, "{told}: nothing is readable");
                right
            });
            count(format!("recovery {}", if recovered == FILES { "all" } else { "part" }));

            let (at, told) = (path.clone(), what.clone());
            let checked = ends(&what, move || {
                Volume::fsck(&at, Repair::No, &mut |_| ControlFlow::Continue(())).map(|report| report.verdict)
            });
            match checked {
                Ok(verdict) => count(format!("fsck {verdict:?}")),
                Err(error) => assert!(CODES.contains(&error.code()), "{what}: fsck: {error}"),
            }

            let at = path.clone();
            let opened = ends(&what, move || {
                let volume = Volume::open(&at, &options())?;
                let right = right(volume.vfs(), &told);
                volume.close().map(|()| right)
            });
            match opened {
                Ok(right) => count(format!("open {}", if right == FILES { "all" } else { "part" })),
                Err(error) => {
                    assert!(CODES.contains(&error.code()), "{what}: {}: {error}", error.code());
                    assert!(error.to_string().contains(": "), "{what}: {error}");
                    count(format!("open {}", error.code()));
                }
            }
        }
    }
    eprintln!("{engine}: {outcomes:?}");
    assert!(outcomes.keys().any(|outcome| outcome.contains("VERFS_E_DAMAGED")), "{outcomes:?}");
    assert!(outcomes.contains_key("recovery part"), "{outcomes:?}");
}

#[test]
fn surrealkv_with_damaged_files_is_refused_or_right_and_recovery_mounts() {
    every_damage_of_every_file(MetaEngine::Surrealkv);
}

#[test]
fn fjall_with_damaged_files_is_refused_or_right_and_recovery_mounts() {
    every_damage_of_every_file(MetaEngine::Fjall);
}

#[test]
fn a_directory_that_does_not_name_its_engine_is_named_again() {
    let built = damage::Built::new();
    for text in [&b""[..], b"surreamkv\n"] {
        std::fs::write(built.path.join("meta/ENGINE"), text).unwrap();
        assert!(Volume::open(&built.path, &damage::options()).is_err());
        for (repair, verdict) in [(Repair::No, FsckVerdict::Found), (Repair::Yes, FsckVerdict::Mended)] {
            let report = Volume::fsck(&built.path, repair, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(
                (report.verdict, report.findings[0].code),
                (verdict, "metadata-engine"),
                "{:?}",
                report.findings
            );
        }
        built.assert_reads(&[]);
    }
}
