//! Damaged files: an error, never a wrong value and never a missing one.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use verfs_meta::{Direction, EngineKind, KeyRange, MetaError, MetaStore, WriteBatch};

use crate::subject::{Subject, copy_dir, open_small, temporary_dir};

for_kept_engines!(
    damage_is_an_error_and_never_a_wrong_value,
    damage_in_any_byte_of_a_manifest_or_of_the_end_of_a_table_is_an_error_and_no_abort,
);

const RECORDS: u32 = 8_000;
/// Tenths of a file's length.
const PLACES: [u64; 3] = [1, 5, 9];

fn value(number: u32) -> Bytes {
    let mut value = vec![(number % 251) as u8; 300];
    value[..4].copy_from_slice(&number.to_be_bytes());
    Bytes::from(value)
}

/// The files below a directory that hold more than a word or two.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).unwrap().len() > 20 {
            found.push(path);
        }
    }
    found
}

fn write_tables(kind: EngineKind, dir: &Path) {
    let store = open_small(kind, dir).unwrap();
    for from in (0..RECORDS).step_by(500) {
        let mut batch = WriteBatch::new();
        for number in from..from + 500 {
            batch.put(number.to_be_bytes().to_vec(), value(number));
        }
        store.commit(batch).unwrap();
    }
    store.close().unwrap();
    drop(store);
    // Opening cuts the zeros off fjall's journal, of which there are more than of anything else.
    open_small(kind, dir).unwrap().close().unwrap();
}

/// Whether everything is there; panics if anything is answered that was not written.
fn is_whole(store: &dyn MetaStore) -> bool {
    let mut scanned = 0;
    let scan = store.scan(&KeyRange::prefix(b""), Direction::Forward, &mut |key, found| {
        assert_eq!(key, u32::to_be_bytes(scanned));
        assert_eq!(found, value(scanned));
        scanned += 1;
        ControlFlow::Continue(())
    });
    let mut unreadable = 0;
    for number in (0..RECORDS).step_by(11) {
        match store.get(&number.to_be_bytes()) {
            Ok(found) => assert_eq!(found, Some(value(number)), "record {number}"),
            Err(MetaError::Corrupt(_)) => unreadable += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    match scan {
        Ok(()) => {
            assert_eq!(scanned, RECORDS, "a scan that ends without an error saw everything");
            assert_eq!(unreadable, 0);
            true
        }
        Err(MetaError::Corrupt(_)) => false,
        Err(other) => panic!("{other:?}"),
    }
}

fn damage_is_an_error_and_never_a_wrong_value(subject: Subject) {
    let kind = subject.kept();
    let dir = temporary_dir();
    write_tables(kind, dir.path());
    let mut noticed = 0;
    for file in files(&dir.path().join("store")) {
        let name = file.strip_prefix(dir.path()).unwrap();
        for place in PLACES {
            let damaged = temporary_dir();
            copy_dir(dir.path(), damaged.path());
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() * place as usize / 10;
            for byte in bytes.iter_mut().skip(at).take(8) {
                *byte ^= 0x55;
            }
            fs::write(damaged.path().join(name), bytes).unwrap();
            match open_small(kind, damaged.path()) {
                Ok(store) => noticed += u32::from(!is_whole(store.as_ref())),
                Err(MetaError::Corrupt(_)) => noticed += 1,
                Err(other) => panic!("{} damaged at byte {at}: {other:?}", name.display()),
            }
        }
    }
    assert!(noticed > 6, "the damage was where nobody looks: noticed {noticed} times");
}

/// Both engines reserve memory for as much as a number in a file says before they check the file: a flipped bit in one would
/// end the process.
fn damage_in_any_byte_of_a_manifest_or_of_the_end_of_a_table_is_an_error_and_no_abort(subject: Subject) {
    const END_BYTES: usize = 150;
    let kind = subject.kept();
    let dir = temporary_dir();
    write_tables(kind, dir.path());
    let mut noticed = 0;
    for file in files(&dir.path().join("store")) {
        let whole = fs::read(&file).unwrap();
        for at in whole.len().saturating_sub(END_BYTES)..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] = !bytes[at];
            fs::write(&file, bytes).unwrap();
            match open_small(kind, dir.path()) {
                Ok(store) => store.close().unwrap(),
                Err(MetaError::Corrupt(_)) => noticed += 1,
                // A version that this build doesn't know may be a newer one.
                Err(MetaError::Unsupported(_)) => noticed += 1,
                Err(other) => panic!("{} damaged at byte {at}: {other:?}", file.display()),
            }
            fs::write(&file, &whole).unwrap();
        }
    }
    assert!(noticed > 60, "the damage was where nobody looks: noticed {noticed} times");
}
