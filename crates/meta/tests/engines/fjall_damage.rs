//! fjall cuts its journal at what it can't read and says nothing of it: the batches behind must be missed.

use std::fs;
use std::path::{Path, PathBuf};

use verfs_meta::{EngineKind, MetaError};

use crate::subject::{copy_dir, open_small, put, temporary_dir};

const BATCHES: u32 = 150;

fn write_batches(dir: &Path, from: u32) {
    let store = open_small(EngineKind::Fjall, dir).unwrap();
    for n in from..from + BATCHES {
        put(store.as_ref(), &n.to_be_bytes(), &[n as u8; 300]).unwrap();
    }
    store.sync().unwrap();
    store.close().unwrap();
}

fn journal(dir: &Path, id: u32) -> PathBuf {
    dir.join("store").join(format!("{id}.jnl"))
}

/// Bytes of the journal that hold batches: it is longer, of zeros, until it is opened for the second time.
fn written_bytes(dir: &Path, id: u32) -> usize {
    fs::read(journal(dir, id)).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
}

/// Opens copies of a store, each with its journal damaged at another place.
fn assert_damage_is_noticed(dir: &Path, journal_id: u32) {
    let length = written_bytes(dir, journal_id);
    for place in 1..10 {
        let damaged = temporary_dir();
        copy_dir(dir, damaged.path());
        let at = length / 10 * place;
        let mut bytes = fs::read(journal(damaged.path(), journal_id)).unwrap();
        bytes[at..at + 64].fill(0xff);
        fs::write(journal(damaged.path(), journal_id), bytes).unwrap();
        let opened = open_small(EngineKind::Fjall, damaged.path()).map(drop);
        assert!(matches!(&opened, Err(MetaError::Corrupt(_))), "damage at byte {at} of {length}: {opened:?}");
        let again = open_small(EngineKind::Fjall, damaged.path()).map(drop);
        assert!(matches!(&again, Err(MetaError::Corrupt(_))), "the second time, at byte {at}: {again:?}");
    }
}

#[test]
fn damage_in_the_newest_journal_is_noticed_by_the_synced_number() {
    let dir = temporary_dir();
    write_batches(dir.path(), 0);
    // Opening cuts the zeros off, of which there are many to copy.
    open_small(EngineKind::Fjall, dir.path()).unwrap().close().unwrap();
    assert_damage_is_noticed(dir.path(), 0);
}

#[test]
fn damage_in_an_older_journal_is_noticed_by_the_hole_it_leaves() {
    let dir = temporary_dir();
    write_batches(dir.path(), 0);
    // Opening cuts the zeros off, so that the next batch begins where the file ends now.
    open_small(EngineKind::Fjall, dir.path()).unwrap().close().unwrap();
    let boundary = fs::metadata(journal(dir.path(), 0)).unwrap().len() as usize;
    write_batches(dir.path(), BATCHES);
    // As if the journal had been sealed there, and the crash had come before its memtable was a table.
    let bytes = fs::read(journal(dir.path(), 0)).unwrap();
    fs::write(journal(dir.path(), 0), &bytes[..boundary]).unwrap();
    fs::write(journal(dir.path(), 1), &bytes[boundary..]).unwrap();

    let whole = temporary_dir();
    copy_dir(dir.path(), whole.path());
    let store = open_small(EngineKind::Fjall, whole.path()).unwrap();
    for n in 0..2 * BATCHES {
        assert!(store.get(&n.to_be_bytes()).unwrap().is_some(), "batch {n}");
    }
    assert_damage_is_noticed(dir.path(), 0);
}

#[test]
fn a_torn_end_that_was_not_synced_is_no_damage() {
    let dir = temporary_dir();
    write_batches(dir.path(), 0);
    let store = open_small(EngineKind::Fjall, dir.path()).unwrap();
    put(store.as_ref(), b"unsynced", b"1").unwrap();
    let torn = temporary_dir();
    copy_dir(dir.path(), torn.path());
    store.close().unwrap();
    let path = journal(torn.path(), 0);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..written_bytes(torn.path(), 0) - 5]).unwrap();
    let store = open_small(EngineKind::Fjall, torn.path()).unwrap();
    assert_eq!(store.get(b"unsynced").unwrap(), None);
    assert!(store.get(&(BATCHES - 1).to_be_bytes()).unwrap().is_some());
}
