//! Read-only recovery: what is left of a damaged volume can be read, no byte of it is wrong, and nothing on it changes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod damage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use damage::{Built, CHUNKED, copy, noise};
use verfs_base::Ino;
use verfs_engine::{OpenOptions, Recovery, Volume};
use verfs_format::chunk_record::{SYSTEM_STORE, chunk_key};
use verfs_format::keys;
use verfs_vfs::Context;

fn recovery() -> OpenOptions {
    OpenOptions { recovery: Recovery::ReadOnly, ..damage::options() }
}

/// Every file below a directory, but for the lock.
fn files(at: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if !path.ends_with("LOCK") {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// Opens it in recovery, expects what is not lost, and that nothing changed.
fn assert_recovers(built: &Built, lost: &[&str]) {
    let before = files(&built.path);
    let volume = Volume::open(&built.path, &recovery()).unwrap();
    built.assert_reads_of(&volume, lost);
    let refused = volume.create_snapshot(b"no", b"").unwrap_err();
    assert_eq!(refused.code(), "VERFS_E_VOLUME_READ_ONLY");
    volume.close().unwrap();
    drop(volume);
    let after = files(&built.path);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (path, bytes) in before {
        assert!(after[&path] == bytes, "{} changed", path.display());
    }
}

fn with_extension(built: &Built, extension: &str) -> Vec<PathBuf> {
    let all = files(&built.path.join("packs")).into_keys();
    all.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn a_whole_volume_is_shown_as_it_is() {
    assert_recovers(&Built::new(), &[]);
}

#[test]
fn what_a_normal_open_refuses_is_shown() {
    for (key, value) in
        [(SYSTEM_STORE, vec![1]), (keys::SYSTEM_COUNTERS, vec![200]), (keys::SYSTEM_NEXT_NUMBER, vec![])]
    {
        let built = Built::new();
        built.put(key, value);
        assert!(Volume::open(&built.path, &damage::options()).is_err(), "{}", key.escape_ascii());
        assert_recovers(&built, &[]);
    }
    let built = Built::new();
    built.put(&keys::orphan(verfs_format::ContentId(900)), vec![]);
    assert!(Volume::open(&built.path, &damage::options()).is_err());
    assert_recovers(&built, &[]);
}

#[test]
fn records_with_flipped_bits_give_errors_and_never_other_bytes() {
    for one_in in [1, 2, 5] {
        let built = Built::new();
        let mut seen = 0;
        for path in with_extension(&built, "vpk") {
            let mut bytes = std::fs::read(&path).unwrap();
            let starts: Vec<usize> = (32..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"Vblk")).collect();
            for start in starts {
                seen += 1;
                if seen % one_in == 0 {
                    bytes[start + 60] ^= 8;
                }
            }
            std::fs::write(&path, bytes).unwrap();
        }
        assert!(seen > 4, "{seen} records");
        built.assert_reads(&CHUNKED);
        assert_recovers(&built, &CHUNKED);
    }
}

#[test]
fn packs_that_are_cut_or_gone_and_indexes_that_are_gone_stop_nothing() {
    for keep in [0, 20, 5000] {
        let built = Built::new();
        for path in with_extension(&built, "vpk") {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(keep).unwrap();
        }
        assert_recovers(&built, &CHUNKED);
        built.assert_reads(&CHUNKED);
    }
    let built = Built::new();
    with_extension(&built, "vpk").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_recovers(&built, &CHUNKED);
    built.assert_reads(&CHUNKED);
    let built = Built::new();
    with_extension(&built, "vpi").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_recovers(&built, &[]);
    built.assert_reads(&[]);
}

#[test]
fn metadata_of_yesterday_shows_yesterday_and_harms_nothing_of_today() {
    let built = Built::new();
    let yesterday = built.directory.path().join("yesterday");
    copy(&built.path.join("meta"), &yesterday);
    let old_pack = built.pack_of("/dir/file").0;
    {
        // Garbage collection moves what is left of the packs that yesterday's metadata names.
        let volume = Volume::open(&built.path, &damage::options()).unwrap();
        let vfs = volume.vfs();
        volume.delete_snapshot(b"monday").unwrap();
        let deep = vfs.lookup(&Context::ROOT, built.ino("/dir"), b"deep").unwrap().ino;
        vfs.unlink(&Context::ROOT, deep, b"file").unwrap();
        vfs.write(&Context::ROOT, built.ino("/changed"), 0, &noise(77, 100_000)).unwrap();
        volume.collect_garbage().unwrap();
        volume.close().unwrap();
    }
    assert_ne!(built.pack_of("/dir/file").0, old_pack, "it was moved");
    std::fs::remove_dir_all(built.path.join("meta")).unwrap();
    copy(&yesterday, &built.path.join("meta"));
    // What was deleted since is gone, what was moved is found where it is now.
    assert_recovers(&built, &["/dir/deep/file", "/changed"]);
}

#[test]
fn a_chunk_whose_record_is_lost_is_found_in_its_pack() {
    let built = Built::new();
    built.delete(&chunk_key(built.chunk_of("/dir/file").0));
    built.delete(&keys::inode(Ino::ROOT));
    assert_recovers(&built, &[]);
}
