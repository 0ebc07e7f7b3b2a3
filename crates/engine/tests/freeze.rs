//! A volume that stands still: a copy of its directory is a volume with everything that was acknowledged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use verfs_engine::{
    Caller, CreateOptions, EngineError, FsckVerdict, LOCK_GRACE, Links, MetaEngine, OpenFlags, OpenOptions, RekeyState,
    Repair, VaultCompression, VaultSecret, Volume,
};
use verfs_testkit::TestRng;

const MINUTE: Duration = Duration::from_secs(60);

fn new_volume(directory: &Path, engine: MetaEngine) -> Arc<Volume> {
    Volume::create(directory, &CreateOptions { engine, ..CreateOptions::default() }).unwrap();
    Volume::open(directory, &OpenOptions::default()).unwrap()
}

fn root() -> Caller {
    Caller { uid: 0, gid: 0, groups: Vec::new(), umask: 0o022 }
}

fn put(volume: &Arc<Volume>, path: &str, content: &[u8]) {
    let flags = OpenFlags::from_bits(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC);
    volume.files(root()).write_file(path.as_bytes(), flags, 0o644, content).unwrap();
}

fn read(volume: &Arc<Volume>, path: &str) -> Vec<u8> {
    let flags = OpenFlags::from_bits(libc::O_RDONLY);
    let pieces = volume.files(root()).read_file(path.as_bytes(), flags, 1 << 20).unwrap().unwrap();
    pieces.concat()
}

fn copied_under_load(meta_engine: MetaEngine) {
    let folder = tempfile::tempdir().unwrap();
    let (directory, copy) = (folder.path().join("volume"), folder.path().join("copy"));
    let volume = new_volume(&directory, meta_engine);
    let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..3_u64)
        .map(|writer| {
            let (volume, written, stop) = (Arc::clone(&volume), Arc::clone(&written), Arc::clone(&stop));
            thread::spawn(move || {
                let mut number = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    // One makes new files; the others write some again and again, so that there is something to collect.
                    let path = format!("/file-{writer}-{}", if writer == 0 { number } else { number % 400 });
                    put(&volume, &path, &(number * 7 + writer).to_le_bytes().repeat(900));
                    if writer == 0 {
                        written.store(number + 1, Ordering::SeqCst);
                    }
                    number += 1;
                }
            })
        })
        .collect();
    while written.load(Ordering::SeqCst) < 600 {
        thread::sleep(Duration::from_millis(5));
    }
    let acknowledged = written.load(Ordering::SeqCst);
    volume.freeze(MINUTE).unwrap();
    assert!(volume.still_for().is_some());
    let before = written.load(Ordering::SeqCst);
    assert!(before >= acknowledged);
    // Readers go on; writers don't, though each of them has begun by now.
    assert!(!read(&volume, "/file-0-0").is_empty());
    volume.files(root()).stat(b"/file-0-1", Links::Follow).unwrap();
    thread::sleep(Duration::from_millis(300));
    let still = written.load(Ordering::SeqCst);
    assert!(still <= before + 1, "{still} were written after {before}");
    let made = Command::new("cp").arg("-a").args([&directory, &copy]).status().unwrap();
    assert!(made.success());
    assert_eq!(written.load(Ordering::SeqCst), still);
    volume.thaw().unwrap();
    assert_eq!(volume.still_for(), None);
    let end = Instant::now() + MINUTE;
    while written.load(Ordering::SeqCst) <= still + 10 {
        assert!(Instant::now() < end, "the writers don't go on");
        thread::sleep(Duration::from_millis(5));
    }
    stop.store(true, Ordering::SeqCst);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    volume.close().unwrap();

    let report = Volume::fsck(&copy, Repair::No, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(report.verdict, FsckVerdict::Clean, "{report:?}");
    let volume = Volume::open(&copy, &OpenOptions::default()).unwrap();
    for number in acknowledged.saturating_sub(400)..acknowledged {
        assert_eq!(read(&volume, &format!("/file-0-{number}")), (number * 7).to_le_bytes().repeat(900));
    }
    volume.close().unwrap();
}

#[test]
fn a_copy_of_its_directory_under_load_has_everything_acknowledged() {
    copied_under_load(MetaEngine::Surrealkv);
}

#[test]
fn so_it_is_with_the_other_metadata_engine() {
    copied_under_load(MetaEngine::Fjall);
}

#[test]
fn it_goes_on_by_itself_and_says_that_the_copy_is_worth_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let volume = new_volume(&folder.path().join("volume"), MetaEngine::Surrealkv);
    volume.freeze(Duration::from_millis(200)).unwrap();
    // Waits for the end of it.
    put(&volume, "/file", b"later");
    assert_eq!(volume.still_for(), None);
    let error = volume.thaw().unwrap_err();
    assert!(matches!(error, EngineError::FreezeBroken { .. }), "{error}");
    assert_eq!(error.code(), "VERFS_E_FREEZE_BROKEN");
    // It was told.
    assert_eq!(volume.thaw().unwrap_err().code(), "VERFS_E_USAGE");
    volume.freeze(MINUTE).unwrap();
    assert_eq!(volume.freeze(MINUTE).unwrap_err().code(), "VERFS_E_USAGE");
    volume.thaw().unwrap();
    volume.close().unwrap();
}

#[test]
fn a_file_that_changes_all_the_same_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("volume");
    let volume = new_volume(&directory, MetaEngine::Surrealkv);
    volume.freeze(MINUTE).unwrap();
    std::fs::write(directory.join("meta/by-somebody-else"), "x").unwrap();
    assert_eq!(volume.thaw().unwrap_err().code(), "VERFS_E_FREEZE_BROKEN");
    volume.close().unwrap();
}

#[test]
fn closing_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let volume = new_volume(&folder.path().join("volume"), MetaEngine::Surrealkv);
    put(&volume, "/file", b"kept");
    volume.freeze(MINUTE).unwrap();
    let began = Instant::now();
    volume.close().unwrap();
    assert!(began.elapsed() < MINUTE / 2);
}

/// Has somebody end who goes on while it is set, also when a test fails.
struct EndOf<'a>(&'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[test]
fn a_vault_that_gets_a_new_data_key_rests_as_well_whoever_collects_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let volume = new_volume(&folder.path().join("volume"), MetaEngine::Surrealkv);
    let secret = VaultSecret::new(b"password".to_vec(), VaultSecret::new_key_file().unwrap().into_bytes()).unwrap();
    volume.create_vault(&secret, VaultCompression::Off).unwrap();
    volume.unlock_vault(&secret).unwrap();
    let mut rng = TestRng::new(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(96 << 20).collect();
    put(&volume, "/.vault/large", &noise);
    volume.sync().unwrap();
    let collecting = AtomicBool::new(true);
    thread::scope(|scope| {
        // It needs what the new key's thread holds while it rests.
        scope.spawn(|| {
            while collecting.load(Ordering::SeqCst) {
                volume.collect_garbage().unwrap();
            }
        });
        let _ended = EndOf(&collecting);
        volume.rekey_vault(&secret).unwrap();
        let state = || volume.vault_status().unwrap().rekey;
        let wait_while = |so: &dyn Fn(&RekeyState) -> bool| {
            let end = Instant::now() + MINUTE;
            while so(&state()) {
                assert!(Instant::now() < end, "{:?}: it does not go on", state());
                thread::sleep(Duration::from_millis(1));
            }
        };
        // While it seals records anew, and then while it moves packs.
        for _ in 0..2 {
            volume.freeze(MINUTE).unwrap();
            let rests_at = state();
            assert!(matches!(rests_at, RekeyState::Running(_)), "{rests_at:?}: it did not rest");
            thread::sleep(Duration::from_millis(300));
            assert_eq!(state(), rests_at);
            volume.thaw().unwrap();
            wait_while(&|state| *state == RekeyState::Running(0));
        }
        wait_while(&|state| *state != RekeyState::Idle);
    });
    volume.lock_vault(LOCK_GRACE).unwrap();
    volume.unlock_vault(&secret).unwrap();
    let flags = OpenFlags::from_bits(libc::O_RDONLY);
    let files = volume.files(root());
    let found = files.read_file(b"/.vault/large", flags, 128 << 20).unwrap().unwrap().concat();
    assert!(found == noise, "what the vault holds is something else");
    volume.close().unwrap();
}
