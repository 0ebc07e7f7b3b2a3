//! Metadata that are older than the data, or gone: no normal open touches anything, fsck names it, and a repair keeps all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod damage;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use damage::{Built, copy, noise};
use verfs_base::Ino;
use verfs_engine::{
    FsckStage, FsckVerdict, Mending, OpenOptions, Recovery, Repair, VaultCompression, VaultSecret, Volume,
};
use verfs_vfs::{Context, Listing, NodeKind, SyncScope, Vfs, VfsError};

const ROOT: Context = Context::ROOT;
/// Names of data that no older metadata knows.
const TODAY: [&[u8]; 2] = [b"today", b"today too"];

fn file_of(number: usize) -> Vec<u8> {
    noise(1000 + number as u64, 300_000)
}

/// Every file below the volume but for what a normal open may write: the lock, and the engine's own.
fn data(built: &Built) -> BTreeMap<PathBuf, Vec<u8>> {
    fn collect(at: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("meta") {
                collect(&path, files);
            } else if !path.is_dir() && !path.ends_with("LOCK") {
                files.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    collect(&built.path, &mut files);
    files
}

fn recovery() -> OpenOptions {
    OpenOptions { recovery: Recovery::ReadOnly, ..damage::options() }
}

fn codes(built: &Built, repair: Repair) -> (FsckVerdict, Vec<(&'static str, Mending)>) {
    let report = Volume::fsck(&built.path, repair, &mut |_| ControlFlow::Continue(())).unwrap();
    (report.verdict, report.findings.iter().map(|finding| (finding.code, finding.mending)).collect())
}

fn assert_has(found: &[(&'static str, Mending)], code: &str, mending: Mending) {
    assert!(found.iter().any(|(named, how)| *named == code && *how == mending), "{code}: {found:?}");
}

/// Writes `TODAY` in runs of their own, and over a file that is older: logged with fsync, then committed.
fn write_today(volume: &Volume) {
    let vfs = volume.vfs();
    for (number, name) in TODAY.iter().enumerate() {
        let ino = vfs.mknod(&ROOT, Ino::ROOT, name, NodeKind::Regular, 0o644).unwrap().ino;
        vfs.write(&ROOT, ino, 0, &file_of(number)).unwrap();
        vfs.sync().unwrap();
    }
    let small = vfs.lookup(&ROOT, Ino::ROOT, b"small").unwrap().ino;
    vfs.write(&ROOT, small, 3, b"TODAY").unwrap();
    vfs.fsync(&ROOT, small, SyncScope::All).unwrap();
}

/// A volume whose metadata directory is from before `write_today`. Returns the one that belongs to it, too.
fn with_older() -> (Built, PathBuf) {
    let built = Built::new();
    let meta = built.path.join("meta");
    let (yesterday, newest) = (built.directory.path().join("yesterday"), built.directory.path().join("newest"));
    copy(&meta, &yesterday);
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    write_today(&volume);
    volume.close().unwrap();
    drop(volume);
    std::fs::rename(&meta, &newest).unwrap();
    copy(&yesterday, &meta);
    (built, newest)
}

fn names(vfs: &Vfs, directory: Ino) -> Vec<(Vec<u8>, Ino)> {
    let listing = vfs.readdir(&ROOT, directory, 0, 1000, Listing::Names).unwrap();
    let inner = listing.into_iter().filter(|entry| !matches!(&entry.name[..], b"." | b".."));
    inner.map(|entry| (entry.name.to_vec(), entry.ino)).collect()
}

fn read_all(vfs: &Vfs, ino: Ino) -> Result<Vec<u8>, VfsError> {
    let size = vfs.getattr(&ROOT, ino)?.size as u32;
    Ok(vfs.read(&ROOT, ino, 0, size)?.concat())
}

/// All that is in `lost+found`, one file behind the other.
fn found(volume: &Volume) -> Vec<u8> {
    let vfs = volume.vfs();
    let Ok(directory) = vfs.lookup(&ROOT, Ino::ROOT, b"lost+found") else { return Vec::new() };
    names(vfs, directory.ino).into_iter().flat_map(|(_, ino)| read_all(vfs, ino).unwrap()).collect()
}

/// Whether every stretch of a file is among `found`: chunks keep together, and come in the order of their compression.
fn assert_kept(found: &[u8], content: &[u8]) {
    for stretch in content.chunks_exact(1000).step_by(7) {
        // A stretch that a chunk ends in is in two places.
        let halves = [&stretch[..200], &stretch[800..]];
        let is_there = halves.iter().any(|half| found.windows(half.len()).any(|window| window == *half));
        assert!(is_there, "a part of a file is in no file of lost+found");
    }
}

fn refused(built: &Built, code: &str) {
    let before = data(built);
    let error = Volume::open(&built.path, &damage::options()).map(drop).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    for advice in ["verfs fsck --repair", "meta/"] {
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert!(data(built) == before, "a refused open changed something");
}

#[test]
fn a_normal_open_of_older_metadata_is_refused_and_changes_nothing() {
    let (built, newest) = with_older();
    for _ in 0..2 {
        refused(&built, "VERFS_E_METADATA_OLDER");
    }
    // Nothing happened: with the right metadata everything is there.
    std::fs::remove_dir_all(built.path.join("meta")).unwrap();
    copy(&newest, &built.path.join("meta"));
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    for (number, name) in TODAY.iter().enumerate() {
        let ino = volume.vfs().lookup(&ROOT, Ino::ROOT, name).unwrap().ino;
        assert!(read_all(volume.vfs(), ino).unwrap() == file_of(number));
    }
    volume.close().unwrap();
    drop(volume);
    assert_eq!(codes(&built, Repair::No), (FsckVerdict::Clean, Vec::new()));
}

#[test]
fn a_repair_keeps_what_older_metadata_does_not_know() {
    let (built, _) = with_older();
    let (verdict, told) = codes(&built, Repair::No);
    assert_eq!(verdict, FsckVerdict::Found);
    assert_has(&told, "metadata-older", Mending::Mendable);
    let (verdict, told) = codes(&built, Repair::Yes);
    assert_eq!(verdict, FsckVerdict::Mended, "{told:?}");
    assert_has(&told, "metadata-older", Mending::Mended);
    assert_has(&told, "chunks-unplaced", Mending::Mended);
    assert_eq!(codes(&built, Repair::No), (FsckVerdict::Clean, Vec::new()));
    // Yesterday is whole, not mixed with what the log had of today.
    built.assert_reads(&[]);
    let kept: Vec<_> = std::fs::read_dir(built.path.join("damaged")).unwrap().collect();
    assert_eq!(kept.len(), 2, "both files of the log");
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    volume.collect_garbage().unwrap();
    let kept = found(&volume);
    for number in 0..TODAY.len() {
        assert_kept(&kept, &file_of(number));
    }
    volume.close().unwrap();
}

/// Packs below a volume, by their paths in it.
fn packs(built: &Built) -> BTreeMap<PathBuf, Vec<u8>> {
    let of_pack = |path: &Path| path.extension() == Some("vpk".as_ref());
    let inside = |path: PathBuf| path.strip_prefix(&built.path).unwrap().to_path_buf();
    data(built).into_iter().filter(|(path, _)| of_pack(path)).map(|(path, bytes)| (inside(path), bytes)).collect()
}

#[test]
fn newer_packs_of_which_nothing_can_be_read_stay_as_they_are() {
    for has_index in [true, false] {
        let (built, _) = with_older();
        let of_yesterday = packs(&Built::new());
        let newer: Vec<PathBuf> = packs(&built).into_keys().filter(|path| !of_yesterday.contains_key(path)).collect();
        assert!(!newer.is_empty());
        for path in newer.iter().map(|path| built.path.join(path)) {
            let mut bytes = std::fs::read(&path).unwrap();
            let starts: Vec<usize> = (32..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"Vblk")).collect();
            starts.iter().for_each(|start| bytes[start + 60] ^= 8);
            std::fs::write(&path, bytes).unwrap();
            if !has_index {
                std::fs::remove_file(path.with_extension("vpi")).unwrap();
            }
        }
        let before = packs(&built);
        // The repair opens the volume at its end: metadata that are the newest from then on would remove what they don't know.
        assert_eq!(codes(&built, Repair::Yes).0, FsckVerdict::Mended);
        built.assert_reads(&[]);
        let after = packs(&built);
        for path in &newer {
            assert!(after.get(path) == before.get(path), "{} {has_index}: {:?}", path.display(), after.keys());
        }
    }
}

#[test]
fn recovery_shows_what_older_metadata_know_and_the_rest_without_names() {
    let (built, _) = with_older();
    let before = data(&built);
    let volume = Volume::open(&built.path, &recovery()).unwrap();
    built.assert_reads_of(&volume, &[]);
    let kept = found(&volume);
    (0..TODAY.len()).for_each(|number| assert_kept(&kept, &file_of(number)));
    volume.close().unwrap();
    drop(volume);
    assert!(data(&built) == before, "recovery changed the volume");
    refused(&built, "VERFS_E_METADATA_OLDER");
}

#[test]
fn older_metadata_are_told_by_what_no_pack_shows() {
    // No new pack, no chunk: a name and inline bytes alone.
    let built = Built::new();
    copy(&built.path.join("meta"), &built.directory.path().join("yesterday"));
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    volume.vfs().mkdir(&ROOT, Ino::ROOT, b"newer", 0o755).unwrap();
    volume.close().unwrap();
    drop(volume);
    std::fs::remove_dir_all(built.path.join("meta")).unwrap();
    copy(&built.directory.path().join("yesterday"), &built.path.join("meta"));
    refused(&built, "VERFS_E_METADATA_OLDER");
}

#[test]
fn a_repair_of_older_metadata_that_is_cut_short_is_begun_anew() {
    let (built, _) = with_older();
    let mut cuts = 0;
    for round in 2.. {
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Volume::fsck(&built.path, Repair::Yes, &mut |progress| {
                assert_ne!(progress.stage, FsckStage::Checking(round), "cut");
                ControlFlow::Continue(())
            })
        }));
        if cut.is_ok() {
            break;
        }
        cuts += 1;
        refused(&built, "VERFS_E_METADATA_OLDER");
    }
    assert!(cuts > 1, "{cuts} cuts");
    assert_eq!(codes(&built, Repair::No), (FsckVerdict::Clean, Vec::new()));
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    let kept = found(&volume);
    (0..TODAY.len()).for_each(|number| assert_kept(&kept, &file_of(number)));
    volume.close().unwrap();
}

#[test]
fn metadata_that_a_repair_superseded_are_older_from_then_on() {
    let (built, newest) = with_older();
    assert_eq!(codes(&built, Repair::Yes).0, FsckVerdict::Mended);
    std::fs::remove_dir_all(built.path.join("meta")).unwrap();
    copy(&newest, &built.path.join("meta"));
    refused(&built, "VERFS_E_METADATA_OLDER");
    // And they are mended in their turn: nothing of both is lost.
    assert_eq!(codes(&built, Repair::Yes).0, FsckVerdict::Mended);
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    for (number, name) in TODAY.iter().enumerate() {
        let ino = volume.vfs().lookup(&ROOT, Ino::ROOT, name).unwrap().ino;
        assert!(read_all(volume.vfs(), ino).unwrap() == file_of(number));
    }
    volume.close().unwrap();
}

#[test]
fn missing_metadata_are_refused_and_a_repair_keeps_the_data_without_their_names() {
    for part in ["meta", "meta/store"] {
        for witness in [true, false] {
            let built = Built::new();
            std::fs::remove_dir_all(built.path.join(part)).unwrap();
            if !witness {
                std::fs::remove_file(built.path.join("WITNESS")).unwrap();
            }
            refused(&built, "VERFS_E_METADATA_MISSING");
            assert!(!built.path.join("meta/store").exists(), "an open made metadata");
            let (verdict, told) = codes(&built, Repair::No);
            assert_eq!((verdict, told), (FsckVerdict::Found, vec![("metadata-missing", Mending::Mendable)]));
            assert!(!built.path.join("meta/store").exists(), "a check made metadata");

            let before = data(&built);
            let volume = Volume::open(&built.path, &recovery()).unwrap();
            assert_kept(&found(&volume), &noise(2, 300_000));
            volume.close().unwrap();
            drop(volume);
            assert!(data(&built) == before, "recovery changed the volume");

            // Cut short, it is still no volume that opens.
            let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Volume::fsck(&built.path, Repair::Yes, &mut |progress| {
                    assert_ne!(progress.stage, FsckStage::Checking(2), "cut");
                    ControlFlow::Continue(())
                })
            }));
            assert!(cut.is_err());
            refused(&built, "VERFS_E_METADATA_OLDER");

            let (verdict, told) = codes(&built, Repair::Yes);
            assert_eq!(verdict, FsckVerdict::Mended, "{told:?}");
            assert_eq!(codes(&built, Repair::No), (FsckVerdict::Clean, Vec::new()));
            let volume = Volume::open(&built.path, &damage::options()).unwrap();
            volume.collect_garbage().unwrap();
            let kept = found(&volume);
            for content in [noise(2, 300_000), noise(3, 200_000), noise(4, 100_000), noise(6, 100_000)] {
                assert_kept(&kept, &content);
            }
            volume.close().unwrap();
        }
    }
}

#[test]
fn a_volume_that_no_witness_tells_of_keeps_packs_that_it_does_not_know() {
    let (built, _) = with_older();
    std::fs::remove_file(built.path.join("WITNESS")).unwrap();
    let witness = built.path.join("WITNESS");
    let before = packs(&built);
    let assert_kept = |built: &Built| {
        let now = packs(built);
        assert!(before.iter().all(|(path, bytes)| now.get(path) == Some(bytes)), "{:?}", now.keys());
    };
    // Who looks at it must not make it the newest.
    codes(&built, Repair::No);
    assert!(!witness.exists(), "a check vouched for it");
    for name in [None, None, Some(b"named"), None] {
        let volume = Volume::open(&built.path, &damage::options()).unwrap();
        if let Some(name) = name {
            volume.vfs().mkdir(&ROOT, Ino::ROOT, name, 0o755).unwrap();
        }
        volume.close().unwrap();
        drop(volume);
        assert_kept(&built);
    }
    witness.metadata().unwrap();
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    write_today(&volume);
    volume.close().unwrap();
    drop(volume);
    assert_kept(&built);
    assert!(packs(&built).len() > before.len());
    assert_eq!(codes(&built, Repair::Yes).0, FsckVerdict::Mended);
}

#[test]
fn the_vault_of_older_metadata_opens_as_it_was_and_its_newer_packs_are_kept() {
    let built = Built::new();
    let secret = || {
        let key_file = VaultSecret::new_key_file().unwrap().into_bytes();
        move || VaultSecret::new(b"a password".to_vec(), key_file.clone()).unwrap()
    };
    let secret = secret();
    let write = |vault: &Arc<Vfs>, name: &[u8], seed: u64| {
        let ino = vault.mknod(&ROOT, Ino::ROOT, name, NodeKind::Regular, 0o600).unwrap().ino;
        vault.write(&ROOT, ino, 0, &noise(seed, 200_000)).unwrap();
        vault.sync().unwrap();
    };
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    volume.create_vault(&secret(), VaultCompression::On).unwrap();
    volume.unlock_vault(&secret()).unwrap();
    write(&volume.vault_vfs().unwrap(), b"yesterday", 50);
    volume.close().unwrap();
    drop(volume);
    copy(&built.path.join("meta"), &built.directory.path().join("yesterday"));
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    volume.unlock_vault(&secret()).unwrap();
    write(&volume.vault_vfs().unwrap(), b"today", 51);
    volume.close().unwrap();
    drop(volume);
    std::fs::remove_dir_all(built.path.join("meta")).unwrap();
    copy(&built.directory.path().join("yesterday"), &built.path.join("meta"));

    refused(&built, "VERFS_E_METADATA_OLDER");
    let before = data(&built);
    let in_vault =
        |path: &Path| path.starts_with(built.path.join("vault/packs")) && path.extension() == Some("vpk".as_ref());
    let packs: Vec<Vec<u8>> = before.into_iter().filter(|(path, _)| in_vault(path)).map(|(_, bytes)| bytes).collect();
    assert!(packs.len() > 1, "{} packs", packs.len());
    assert_eq!(codes(&built, Repair::Yes).0, FsckVerdict::Mended);
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    volume.unlock_vault(&secret()).unwrap();
    let vault = volume.vault_vfs().unwrap();
    let ino = vault.lookup(&ROOT, Ino::ROOT, b"yesterday").unwrap().ino;
    assert!(read_all(&vault, ino).unwrap() == noise(50, 200_000));
    assert!(matches!(vault.lookup(&ROOT, Ino::ROOT, b"today"), Err(VfsError::NotFound)));
    drop(vault);
    volume.collect_garbage().unwrap();
    volume.close().unwrap();
    drop(volume);
    let after: Vec<Vec<u8>> = data(&built).into_values().collect();
    let kept = packs.iter().filter(|pack| after.contains(pack)).count();
    assert_eq!(kept, packs.len(), "a pack of the vault is gone");
}
