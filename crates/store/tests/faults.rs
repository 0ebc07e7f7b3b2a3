//! Disks that fail and fill up: the batch fails with the right error, and nothing else is hurt.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::io::ErrorKind;

use support::disk::{Call, Crash, Fault};
use support::{Rig, chunk, options};
use verfs_meta::{FaultAt, MetaError, MetaStore, WriteBatch};
use verfs_store::{Indexed, Result, StoreError, StoreOptions};

/// Small packs, so that one batch fills several; no cache, so that every read goes to the disk; and so small a pipeline
/// that blocks reach packs while a batch is still being filled.
fn rig() -> Rig {
    let options =
        StoreOptions { pack_target_bytes: 24 << 10, chunk_cache_bytes: 0, inflight_bytes: 16 << 10, ..options() };
    let rig = Rig::with(options);
    rig.put_all(0..14);
    rig.wait_sealed();
    rig
}

/// A batch with new chunks, duplicates and changed references.
fn try_batch(rig: &Rig) -> Result<()> {
    let mut batch = rig.store.begin();
    for number in (100..130).chain(0..5) {
        batch.put(chunk(number), if number % 7 == 0 { Indexed::PatchOnly } else { Indexed::Yes })?;
    }
    batch.drop_reference(rig.store.id_of(&chunk(13)), 1);
    rig.commit(batch)
}

fn assert_untouched(rig: &Rig) {
    rig.assert_reads(0..14);
    for number in 0..14 {
        assert_eq!(rig.refcount(number), 1, "chunk {number}");
    }
    for number in 100..130 {
        assert_eq!(rig.record(number), None);
    }
}

fn assert_applied(rig: &Rig) {
    rig.assert_reads((0..14).chain(100..130));
    for number in (0..14).chain(100..130) {
        assert_eq!(rig.refcount(number), if number < 5 { 2 } else { u64::from(number != 13) }, "chunk {number}");
    }
}

#[test]
fn a_failure_at_any_disk_call_fails_the_batch_or_nothing() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let mut failures = 0;
        for after in 0.. {
            let rig = rig();
            let calls = rig.disk.calls();
            rig.disk.fail(Fault { call: None, after, times: 1, kind });
            let outcome = try_batch(&rig);
            let made = rig.disk.calls() - calls;
            rig.disk.heal();
            match &outcome {
                Ok(()) => assert_applied(&rig),
                Err(StoreError::OutOfSpace) if kind == ErrorKind::StorageFull => assert_untouched(&rig),
                Err(StoreError::Io { .. }) if kind == ErrorKind::Other => assert_untouched(&rig),
                Err(error) => panic!("call {after}: {error:?}"),
            }
            if outcome.is_err() {
                failures += 1;
                // Nothing is poisoned: the same batch goes through now.
                try_batch(&rig).unwrap();
                assert_applied(&rig);
            }
            let crash = [Crash::Process, Crash::Power, Crash::Torn(after)][after as usize % 3];
            let rig = rig.crash(crash);
            assert_applied(&rig);
            rig.put_all(200..230);
            let rig = rig.reopen();
            assert_applied(&rig);
            rig.assert_reads(200..230);
            if made < after {
                break;
            }
        }
        assert!(failures > 10, "{kind:?} failed only {failures} batches");
    }
}

#[test]
fn a_full_disk_is_out_of_space_until_there_is_room() {
    let rig = rig();
    let used: usize = rig.disk.paths().iter().map(|path| rig.disk.read(path).len()).sum();
    for room in [0, 100, 5_000, 30_000] {
        rig.disk.limit(Some(used + room));
        for _ in 0..3 {
            let outcome = try_batch(&rig);
            assert!(matches!(outcome, Err(StoreError::OutOfSpace)), "{room}: {outcome:?}");
            assert_untouched(&rig);
        }
        // What needs no room still works.
        let mut batch = rig.store.begin();
        batch.drop_reference(rig.store.id_of(&chunk(2)), 1);
        rig.commit(batch).unwrap();
        let mut batch = rig.store.begin();
        batch.put(chunk(2), Indexed::Yes).unwrap();
        rig.commit(batch).unwrap();
    }
    let packs = rig.files("vpk").len();
    rig.disk.limit(None);
    try_batch(&rig).unwrap();
    assert_applied(&rig);
    assert!(rig.files("vpk").len() < packs + 8, "failed batches left packs behind");
    let rig = rig.crash(Crash::Power);
    assert_applied(&rig);
}

#[test]
fn after_a_failed_sync_nothing_unsynced_is_trusted() {
    let rig = rig();
    let open = rig.store_record().unsealed;
    rig.disk.fail(Fault { call: Some(Call::Sync), after: 0, times: 1, kind: ErrorKind::Other });
    let mut batch = rig.store.begin();
    batch.put(chunk(500), Indexed::Yes).unwrap();
    assert!(matches!(rig.commit(batch), Err(StoreError::Io { .. })));
    // The disk lies from now on about that file: only a new pack can hold the chunk.
    rig.put_all(500..501);
    assert!(!open.contains(&rig.record(500).unwrap().pack), "the pack of the failed sync was used again");
    rig.assert_reads((0..14).chain(500..501));
    let rig = rig.crash(Crash::Power);
    rig.assert_reads((0..14).chain(500..501));
}

#[test]
fn dropping_a_batch_undoes_it() {
    let rig = rig();
    let before = rig.disk.paths();
    let mut batch = rig.store.begin();
    for number in 100..130 {
        batch.put(chunk(number), Indexed::Yes).unwrap();
    }
    batch.drop_reference(rig.store.id_of(&chunk(1)), 1);
    assert!(rig.disk.paths().len() > before.len(), "nothing reached a pack: there is nothing to undo");
    drop(batch);
    assert_untouched(&rig);
    assert!(matches!(rig.store.read(rig.store.id_of(&chunk(101))), Err(StoreError::Missing { .. })));
    assert_eq!(rig.disk.paths(), before, "packs of the dropped batch are left");
    try_batch(&rig).unwrap();
    assert_applied(&rig);
    assert_applied(&rig.crash(Crash::Power));
}

#[test]
fn a_batch_whose_records_were_not_committed_leaves_dead_blocks_only() {
    let rig = rig();
    let dead = rig.store.stats().dead_bytes;
    let mut batch = rig.store.begin();
    for number in 100..130 {
        batch.put(chunk(number), Indexed::Yes).unwrap();
    }
    batch.finish(&mut WriteBatch::new()).unwrap();
    drop(batch);
    assert_untouched(&rig);
    try_batch(&rig).unwrap();
    assert_applied(&rig);
    let rig = rig.reopen();
    assert_applied(&rig);
    let garbage: u64 = (100..130).map(|number| rig.record(number).unwrap().block_bytes()).sum();
    let dropped = rig.record(13).unwrap().block_bytes();
    let patches = [0].iter().map(|number| rig.record(*number).unwrap().block_bytes()).sum::<u64>();
    assert_eq!(rig.store.stats().dead_bytes - dead, garbage + dropped + patches);
}

#[test]
fn records_that_were_committed_after_all_keep_their_blocks() {
    // The engine committed, but said otherwise: the batch is dropped.
    let rig = rig();
    let mut batch = rig.store.begin();
    for number in 100..130 {
        batch.put(chunk(number), Indexed::Yes).unwrap();
    }
    let mut records = WriteBatch::new();
    batch.finish(&mut records).unwrap();
    rig.meta.commit(records).unwrap();
    drop(batch);
    rig.put_all(300..330);
    rig.assert_reads((0..14).chain(100..130).chain(300..330));
    let rig = rig.reopen();
    rig.assert_reads((0..14).chain(100..130).chain(300..330));
}

#[test]
fn a_metadata_engine_out_of_space_undoes_the_batch() {
    let rig = rig();
    rig.meta.inject(verfs_meta::Fault {
        at: FaultAt::Commit,
        after: 0,
        error: MetaError::OutOfSpace("full".to_owned()),
    });
    assert!(matches!(try_batch(&rig), Err(StoreError::Meta(MetaError::OutOfSpace(_)))));
    assert_untouched(&rig);
    try_batch(&rig).unwrap();
    assert_applied(&rig);
}

#[test]
fn an_error_sticks_to_its_batch() {
    let rig = rig();
    rig.disk.fail(Fault { call: Some(Call::Create), after: 0, times: 1, kind: ErrorKind::StorageFull });
    let mut batch = rig.store.begin();
    let mut first = None;
    for number in 100..5000 {
        if let Err(error) = batch.put(chunk(number), Indexed::Yes) {
            first = Some(error);
            break;
        }
    }
    assert!(matches!(first, Some(StoreError::OutOfSpace)), "put goes on although nothing can be stored");
    assert!(matches!(batch.put(chunk(1), Indexed::Yes), Err(StoreError::OutOfSpace)));
    let mut records = WriteBatch::new();
    assert!(matches!(batch.finish(&mut records), Err(StoreError::OutOfSpace)));
    assert!(records.is_empty());
}

#[test]
fn a_pack_that_can_not_be_sealed_stays_readable_and_is_sealed_later() {
    let rig = Rig::with(StoreOptions { pack_target_bytes: 24 << 10, chunk_cache_bytes: 0, ..options() });
    // Indexes are the only files that are renamed.
    rig.disk.fail(Fault { call: Some(Call::Rename), after: 0, times: u64::MAX, kind: ErrorKind::Other });
    rig.put_all(0..40);
    rig.put_all(40..50);
    rig.assert_reads(0..50);
    assert_eq!(rig.files("vpi"), Vec::<std::path::PathBuf>::new());
    rig.disk.heal();
    rig.put_all(50..51);
    rig.wait_sealed();
    rig.assert_reads(0..51);
    assert_eq!(rig.store.close().map_err(|error| error.to_string()), Ok(()));
    assert_eq!(rig.files("vpk").len(), rig.files("vpi").len());
}

#[test]
fn a_read_error_is_an_error_and_goes_away_with_its_cause() {
    let rig = rig();
    let id = rig.store.id_of(&chunk(3));
    rig.disk.fail(Fault { call: Some(Call::Read), after: 0, times: u64::MAX, kind: ErrorKind::Other });
    assert!(matches!(rig.store.read(id), Err(StoreError::Io { .. })));
    assert_eq!(rig.store.damaged().len(), 1);
    rig.disk.heal();
    assert_eq!(rig.store.read(id).unwrap(), chunk(3));
    assert_eq!(rig.store.damaged(), []);
}
