//! The disk must lose things, and only what it may lose.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use super::*;
use crate::power::{DiskError, Fault, Lasting};

fn disk() -> CrashDisk {
    CrashDisk::new(Arc::new(Power::new()))
}

fn crash(disk: &CrashDisk, style: CrashStyle, seed: u64) -> CrashDisk {
    disk.crash(style, &mut TestRng::new(seed), Arc::new(Power::new()))
}

fn content(disk: &CrashDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open_read(Path::new(path)).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// All contents of `path` that 300 crashes of each style leave.
fn outcomes(disk: &CrashDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    let styles = CrashStyle::ALL.into_iter();
    styles.flat_map(|style| (0..300).map(move |seed| content(&crash(disk, style, seed), path))).collect()
}

fn durable_file(disk: &CrashDisk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(Path::new(path)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    file
}

#[test]
fn synced_content_under_a_synced_name_survives_every_crash() {
    let disk = disk();
    durable_file(&disk, "f", &[7; 3000]);
    assert_eq!(outcomes(&disk, "f"), BTreeSet::from([Some(vec![7; 3000])]));
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn_at_sectors() {
    let disk = disk();
    let file = durable_file(&disk, "f", &[1; 1536]);
    file.write_all_at(&[2; 1536], 0).unwrap();
    let mut expected = BTreeSet::new();
    for bits in 0..8 {
        expected.insert(Some((0..3).flat_map(|sector| [1 + (bits >> sector & 1); 512]).collect::<Vec<u8>>()));
    }
    assert_eq!(outcomes(&disk, "f"), expected);
}

#[test]
fn later_writes_may_survive_earlier_ones() {
    let disk = disk();
    let file = durable_file(&disk, "f", &[0; 1024]);
    file.write_all_at(&[1; 512], 0).unwrap();
    file.write_all_at(&[2; 512], 512).unwrap();
    let swapped: Vec<u8> = [[0; 512], [2; 512]].concat();
    assert!(outcomes(&disk, "f").contains(&Some(swapped)));
}

#[test]
fn a_length_may_survive_without_its_bytes_and_the_other_way_round() {
    let disk = disk();
    let file = durable_file(&disk, "f", b"");
    file.write_all_at(&[5; 600], 0).unwrap();
    let outcomes = outcomes(&disk, "f");
    assert!(outcomes.contains(&Some(Vec::new())));
    assert!(outcomes.contains(&Some(vec![0; 600])));
    assert!(outcomes.contains(&Some([vec![5; 512], vec![0; 88]].concat())));
    assert!(outcomes.contains(&Some(vec![5; 600])));
}

#[test]
fn bytes_behind_a_lost_length_never_come_back() {
    let disk = disk();
    let file = durable_file(&disk, "f", b"");
    file.write_all_at(&[5; 600], 0).unwrap();
    let after = crash(&disk, CrashStyle::ContentFirst, 0);
    let file = after.open(Path::new("f")).unwrap();
    assert_eq!(file.len().unwrap(), 0);
    file.set_len(600).unwrap();
    assert_eq!(content(&after, "f"), Some(vec![0; 600]));
}

#[test]
fn a_truncation_may_be_lost() {
    let disk = disk();
    let file = durable_file(&disk, "f", &[3; 5000]);
    file.set_len(10).unwrap();
    let outcomes = outcomes(&disk, "f");
    assert!(outcomes.contains(&Some(vec![3; 5000])));
    assert!(outcomes.contains(&Some(vec![3; 10])));
    assert_eq!(content(&disk, "f"), Some(vec![3; 10]));
    file.set_len(5000).unwrap();
    assert_eq!(content(&disk, "f"), Some([vec![3; 10], vec![0; 4990]].concat()));
}

#[test]
fn a_name_is_lost_without_its_directory_being_synced() {
    let disk = disk();
    let file = disk.create(Path::new("f")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "f"), BTreeSet::from([None, Some(b"x".to_vec())]));
}

#[test]
fn a_directory_is_lost_with_all_that_was_synced_in_it() {
    let disk = disk();
    disk.create_dir_all(Path::new("d/e")).unwrap();
    let file = disk.create(Path::new("d/e/f")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("d/e")).unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    assert_eq!(outcomes(&disk, "d/e/f"), BTreeSet::from([None, Some(b"x".to_vec())]));
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(outcomes(&disk, "d/e/f"), BTreeSet::from([Some(b"x".to_vec())]));
}

#[test]
fn a_rename_may_show_either_file_and_a_removal_may_be_undone() {
    let disk = disk();
    durable_file(&disk, "old", b"old");
    durable_file(&disk, "new", b"new");
    disk.rename(Path::new("new"), Path::new("old")).unwrap();
    assert_eq!(content(&disk, "old"), Some(b"new".to_vec()));
    assert_eq!(outcomes(&disk, "old"), BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]));
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(outcomes(&disk, "old"), BTreeSet::from([Some(b"new".to_vec())]));
    disk.remove(Path::new("old")).unwrap();
    assert_eq!(outcomes(&disk, "old"), BTreeSet::from([None, Some(b"new".to_vec())]));
}

#[test]
fn a_failed_sync_forsakes_what_it_should_have_written() {
    let disk = disk();
    let file = durable_file(&disk, "f", &[1; 512]);
    file.write_all_at(&[2; 512], 0).unwrap();
    let fault = Fault { call: Call::SyncData, nth: 0, error: DiskError::Broken, lasting: Lasting::Once };
    disk.shared.power.fail(fault);
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    assert_eq!(content(&disk, "f"), Some(vec![2; 512]));
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "f").len(), 2, "the second sync wrote what the first one forsook");
    file.write_all_at(&[3; 512], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "f"), BTreeSet::from([Some(vec![3; 512])]));
    assert!(disk.shared.state.lock().files.values().all(FileState::is_durable));
}

#[test]
fn after_the_cut_nothing_works_and_the_cut_write_is_pending() {
    let disk = disk();
    let file = durable_file(&disk, "f", &[1; 512]);
    disk.shared.power.cut_at(disk.shared.power.changes());
    assert!(file.write_all_at(&[2; 512], 0).is_err());
    assert!(file.sync_data().is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(disk.create(Path::new("g")).is_err());
    assert_eq!(outcomes(&disk, "f"), BTreeSet::from([Some(vec![1; 512]), Some(vec![2; 512])]));
}

#[test]
fn a_sync_that_the_power_cut_hits_keeps_nothing_for_sure() {
    let disk = disk();
    let file = durable_file(&disk, "f", &[1; 512]);
    file.write_all_at(&[2; 512], 0).unwrap();
    disk.shared.power.cut_at(disk.shared.power.changes());
    assert!(file.sync_data().is_err());
    assert_eq!(outcomes(&disk, "f").len(), 2);
}

#[test]
fn the_nth_call_of_a_kind_fails_once_or_for_good() {
    let disk = disk();
    let file = durable_file(&disk, "f", b"");
    let fault = Fault { call: Call::Write, nth: 1, error: DiskError::Full, lasting: Lasting::Once };
    disk.shared.power.fail(fault);
    let write = |_| file.write_all_at(b"x", 0).map_err(|error| error.kind());
    assert_eq!((0..3).map(write).collect::<Vec<_>>(), [Ok(()), Err(ErrorKind::StorageFull), Ok(())]);
    disk.shared.power.heal();
    disk.shared.power.fail(Fault { lasting: Lasting::Forever, nth: 0, ..fault });
    assert_eq!((0..2).map(write).collect::<Vec<_>>(), [Err(ErrorKind::StorageFull); 2]);
    assert_eq!(disk.shared.power.faults_hit(), 3);
    file.sync_data().unwrap();
}

#[test]
fn a_full_disk_says_so_and_a_removed_file_makes_room() {
    let disk = disk();
    disk.limit(5 * 4096);
    let file = disk.create(Path::new("f")).unwrap();
    file.allocate(2 * 4096).unwrap();
    assert_eq!(disk.space().unwrap().available, 3 * 4096);
    file.write_all_at(&[1; 3 * 4096], 0).unwrap();
    assert_eq!(disk.space().unwrap().available, 2 * 4096);
    assert_eq!(file.allocate(6 * 4096).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.write_all_at(&[1; 4 * 4096], 3 * 4096).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.space().unwrap().available, 0);
    assert_eq!(disk.create(Path::new("g")).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.remove(Path::new("f")).unwrap();
    assert_eq!(disk.space().unwrap().available, 0, "an open file keeps its blocks");
    drop(file);
    assert_eq!(disk.space().unwrap().available, 5 * 4096);
    assert_eq!(disk.used_bytes(), 0);
}
