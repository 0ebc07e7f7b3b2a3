//! Garbage collection: it gives room back, and loses nothing, whatever happens to the disk, the power, or the references
//! meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::disk::{Call, Crash, Fault};
use support::{Rig, chunk, is_damaged, options};
use verfs_base::{Disk, PackId, Space};
use verfs_format::chunk_record::PackState;
use verfs_format::discard::{DiscardCheckpoint, REMOVED_PACK, SYSTEM_DISCARD_CHECKPOINT};
use verfs_meta::{Direction, FaultAt, KeyRange, MetaError, MetaStore};
use verfs_pack::{IndexTable, index_path, load_index, pack_path, store_index};
use verfs_store::{GcEnd, GcPhase, GcProgress, Indexed, Pace, StoreError, StoreOptions};

/// Chunks of a rig; every third one stays alive.
const CHUNKS: u64 = 90;

fn is_alive(number: u64) -> bool {
    number.is_multiple_of(3)
}

/// One thread compresses, so that chunks come into the packs in their order, and only the last ones into the open pack.
fn small_packs() -> StoreOptions {
    StoreOptions { pack_target_bytes: 24 << 10, chunk_cache_bytes: 0, compress_threads: 1, ..options() }
}

/// Several packs, each of which has lost two thirds of its chunks.
fn rig() -> Rig {
    let rig = Rig::with(small_packs());
    rig.put_all(0..CHUNKS);
    drop_all(&rig, (0..CHUNKS).filter(|number| !is_alive(*number)));
    rig.wait_sealed();
    rig
}

fn drop_all(rig: &Rig, numbers: impl Iterator<Item = u64>) {
    let mut batch = rig.store.begin();
    for number in numbers {
        batch.drop_reference(rig.store.id_of(&chunk(number)), 1);
    }
    rig.commit(batch).unwrap();
}

fn collect(rig: &Rig) -> (GcProgress, GcEnd) {
    rig.store.collect(0, &mut |_| Pace::Go).unwrap()
}

fn pack_bytes(rig: &Rig) -> usize {
    rig.files("vpk").iter().map(|path| rig.disk.read(path).len()).sum()
}

fn list_path() -> PathBuf {
    PathBuf::from("gc/.DISCARD")
}

fn checkpoint(rig: &Rig) -> DiscardCheckpoint {
    DiscardCheckpoint::decode(&rig.meta.get(SYSTEM_DISCARD_CHECKPOINT).unwrap().unwrap()).unwrap()
}

fn assert_alive(rig: &Rig) {
    rig.assert_reads((0..CHUNKS).filter(|number| is_alive(*number)));
    for number in (0..CHUNKS).filter(|number| is_alive(*number)) {
        assert_eq!(rig.refcount(number), 1, "chunk {number}");
    }
}

/// Nothing dead is left but in the packs that still grow, and every file belongs to a pack that is known.
fn assert_collected(rig: &Rig) {
    assert_alive(rig);
    for number in (0..CHUNKS).filter(|number| !is_alive(*number)) {
        assert_eq!(rig.record(number), None, "chunk {number}");
    }
    assert_eq!(rig.store.stats().dead_bytes, 0);
    let mut removed = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        removed += 1;
        std::ops::ControlFlow::Continue(())
    };
    rig.meta.scan(&KeyRange::prefix(&[REMOVED_PACK]), Direction::Forward, &mut count).unwrap();
    assert_eq!(removed, 0, "packs are still to be removed");
    assert_eq!(rig.files("vpk").len(), rig.store.stats().packs as usize);
    assert_eq!(rig.files("vpk").len(), rig.pack_records().len());
}

#[test]
fn the_room_of_dead_chunks_comes_back() {
    let rig = rig();
    let (packs, bytes) = (rig.files("vpk").len(), pack_bytes(&rig));
    let stats = rig.store.stats();
    let planned = rig.store.reclaimable(10).unwrap();
    assert!(planned.dead_bytes > 0 && planned.packs as usize >= packs - 1, "{planned:?} of {packs}");
    let (progress, end) = collect(&rig);
    assert_eq!(end, GcEnd::Done);
    assert_eq!(progress.reclaimed_bytes(), stats.dead_bytes);
    assert_eq!(progress.moved_bytes, stats.stored_bytes);
    assert_eq!(progress.packs_removed as usize, packs);
    assert_eq!(progress.packs_left, 0);
    assert_eq!(rig.store.stats().stored_bytes, stats.stored_bytes);
    assert!(pack_bytes(&rig) * 2 < bytes, "{} of {bytes} bytes are left", pack_bytes(&rig));
    assert!(rig.disk.paths().contains(&list_path()));
    assert_eq!(checkpoint(&rig).ids, progress.blocks_listed);
    assert!(!checkpoint(&rig).is_open());
    assert_collected(&rig);
    let rig = rig.crash(Crash::Power);
    assert_collected(&rig);
    assert_eq!(rig.store.reclaimable(1).unwrap().packs, 0);
}

#[test]
fn a_pack_below_the_threshold_stays() {
    let rig = Rig::with(small_packs());
    rig.put_all(0..CHUNKS);
    drop_all(&rig, [0, 1].into_iter());
    let bytes = pack_bytes(&rig);
    let (progress, _) = rig.store.collect(90, &mut |_| Pace::Go).unwrap();
    assert_eq!(progress.packs_removed, 0);
    assert_eq!(pack_bytes(&rig), bytes);
    // Its dead chunks can still be had back.
    let before = rig.store.stats();
    rig.put_all(0..2);
    assert_eq!(rig.store.stats().dedup_hits, before.dedup_hits + 2);
    assert_eq!(rig.store.stats().dead_bytes, 0);
}

#[test]
fn packs_that_are_all_dead_go_without_a_copy_and_new_packs_take_other_numbers() {
    let rig = Rig::with(small_packs());
    rig.put_all(0..CHUNKS);
    drop_all(&rig, 0..CHUNKS);
    rig.wait_sealed();
    let (progress, _) = collect(&rig);
    assert_eq!(progress.moved_bytes, 0);
    assert!(rig.files("vpk").is_empty() && rig.files("vpi").is_empty(), "{:?}", rig.disk.paths());
    assert_eq!(rig.store.stats().packs, 0);
    let rig = rig.reopen();
    rig.put_all(0..CHUNKS);
    rig.assert_reads(0..CHUNKS);
    let rig = rig.crash(Crash::Power);
    rig.assert_reads(0..CHUNKS);
}

/// Runs `act` once, when the collection is at its pace for the `at`th time.
fn collect_with(rig: &Rig, at: usize, act: impl FnOnce(&GcProgress)) -> usize {
    let mut act = Some(act);
    let mut asked = 0;
    rig.store
        .collect(10, &mut |progress| {
            if asked == at
                && let Some(act) = act.take()
            {
                act(progress);
            }
            asked += 1;
            Pace::Go
        })
        .unwrap();
    asked
}

#[test]
fn a_chunk_that_is_referenced_again_while_its_pack_is_collected_is_never_lost() {
    let moments = collect_with(&rig(), usize::MAX, |_| {});
    assert!(moments > 8, "only {moments} moments");
    for at in 0..moments {
        let rig = rig();
        // Three ways to be referenced again: found by a look-up, stored without one, and counted while it is alive.
        let revived: Vec<u64> = (0..CHUNKS).filter(|number| number % 3 == 1).collect();
        collect_with(&rig, at, |_| {
            let mut batch = rig.store.begin();
            for number in &revived {
                let indexed = if number % 2 == 0 { Indexed::Yes } else { Indexed::PatchOnly };
                batch.put(chunk(*number), indexed).unwrap();
            }
            batch.add_reference(rig.store.id_of(&chunk(0)), 2);
            batch.drop_reference(rig.store.id_of(&chunk(3)), 1);
            rig.commit(batch).unwrap();
        });
        let check = |rig: &Rig| {
            rig.assert_reads(revived.iter().copied());
            for number in &revived {
                assert_eq!(rig.refcount(*number), 1, "moment {at}, chunk {number}");
            }
            rig.assert_reads((0..CHUNKS).filter(|number| is_alive(*number) && *number != 3));
            assert_eq!(rig.refcount(0), 3, "moment {at}");
            assert_eq!(rig.refcount(3), 0, "moment {at}");
        };
        check(&rig);
        let rig = rig.crash(Crash::Power);
        check(&rig);
        collect(&rig);
        check(&rig);
        assert_eq!(rig.store.stats().dead_bytes, 0, "moment {at}");
    }
}

#[test]
fn readers_find_every_chunk_at_every_moment() {
    let rig = rig();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (rig, done) = (&rig, &done);
            scope.spawn(move || {
                let mut number = reader;
                while !done.load(Ordering::Relaxed) {
                    number = (number + 3) % CHUNKS;
                    let alive = number / 3 * 3;
                    rig.assert_reads(std::iter::once(alive));
                }
            });
        }
        for round in 0..12 {
            rig.put_all(1000 + round * 40..1040 + round * 40);
            collect(&rig);
            drop_all(&rig, 1000 + round * 40..1030 + round * 40);
            drop_all(&rig, 1030 + round * 40..1040 + round * 40);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(rig.store.stats().damaged, 0);
}

/// Collects until the disk fails for good after so many calls; answers whether it did.
fn collect_until_failure(rig: &Rig, after: u64) -> bool {
    rig.disk.fail(Fault { call: None, after, times: u64::MAX, kind: ErrorKind::Other });
    let _ = rig.store.collect(10, &mut |_| Pace::Go);
    let calls = rig.disk.calls();
    // One more call, to see whether the disk works.
    let failed = rig.disk.space().is_err() || rig.disk.list(Path::new("")).is_err();
    assert!(rig.disk.calls() > calls);
    failed
}

#[test]
fn killed_at_any_call_it_is_completed_or_undone() {
    let mut kills = 0;
    for after in 0.. {
        let mut killed = true;
        for crash in [Crash::Process, Crash::Power, Crash::Torn(after)] {
            let rig = rig();
            killed = collect_until_failure(&rig, after);
            let rig = rig.crash(crash);
            assert_alive(&rig);
            collect(&rig);
            assert_collected(&rig);
            let rig = rig.reopen();
            assert_collected(&rig);
        }
        if !killed {
            break;
        }
        kills += 1;
    }
    assert!(kills > 40, "only {kills} calls");
}

#[test]
fn a_disk_that_fails_once_at_any_call_loses_nothing() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for after in 0.. {
            let rig = rig();
            rig.disk.fail(Fault { call: None, after, times: 1, kind });
            let calls = rig.disk.calls();
            let outcome = rig.store.collect(10, &mut |_| Pace::Go);
            let made = rig.disk.calls() - calls;
            rig.disk.heal();
            if let Err(error) = &outcome {
                assert!(matches!(error, StoreError::Io { .. } | StoreError::OutOfSpace), "call {after}: {error:?}");
            }
            assert_alive(&rig);
            rig.put_all(200..220);
            // What could not be read once is read now.
            let rig = rig.reopen();
            rig.assert_reads(200..220);
            collect(&rig);
            assert_collected(&rig);
            if made < after {
                break;
            }
        }
    }
}

#[test]
fn a_metadata_engine_that_fails_at_any_commit_or_sync_loses_nothing() {
    for at in [FaultAt::Commit, FaultAt::Sync] {
        let mut failures = 0;
        for after in 0..200 {
            let rig = rig();
            rig.meta.inject(verfs_meta::Fault { at, after, error: MetaError::OutOfSpace("full".to_owned()) });
            let outcome = rig.store.collect(10, &mut |_| Pace::Go);
            assert_alive(&rig);
            if outcome.is_ok() {
                break;
            }
            failures += 1;
            // A pack whose index was just written may not count as sealed yet.
            for _ in 0..2000 {
                collect(&rig);
                if rig.store.stats().dead_bytes == 0 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_collected(&rig);
            let rig = rig.crash(Crash::Power);
            assert_alive(&rig);
        }
        assert!(failures > 3, "{at:?} failed only {failures} collections");
    }
}

#[test]
fn a_full_disk_gives_back_what_needs_no_room_and_refuses_the_rest() {
    let rig = Rig::with(small_packs());
    // Some packs all dead, some half dead.
    rig.put_all(0..CHUNKS);
    rig.put_all(500..560);
    drop_all(&rig, 500..560);
    drop_all(&rig, (0..CHUNKS).filter(|number| !is_alive(*number)));
    rig.wait_sealed();
    let used: usize = rig.disk.paths().iter().map(|path| rig.disk.read(path).len()).sum();
    rig.disk.limit(Some(used));
    let (mut ended, mut removed) = (None, 0);
    let mut last = GcProgress::default();
    for _ in 0..10 {
        let outcome = rig.store.collect(10, &mut |progress| {
            last = *progress;
            Pace::Go
        });
        removed += last.packs_removed;
        assert_alive(&rig);
        if outcome.is_ok() {
            ended = Some(outcome);
            break;
        }
        assert!(matches!(outcome, Err(StoreError::OutOfSpace)), "{outcome:?}");
    }
    // The first packs made room for the others.
    assert!(removed > 2, "{removed} packs");
    assert!(ended.is_some(), "it never ended: {last:?}");
    rig.disk.limit(None);
    // A pack whose index found no room counts as sealed a little later.
    rig.wait_sealed();
    collect(&rig);
    assert_collected(&rig);
}

/// Changes a byte in the middle of a chunk's block.
fn damage(rig: &Rig, number: u64) -> PackId {
    let id = rig.store.id_of(&chunk(number));
    let pack = rig.record(number).unwrap().pack;
    let entry = load_index(&rig.disk, pack).unwrap().unwrap().find(id).unwrap();
    let mut bytes = rig.disk.read(&pack_path(pack));
    bytes[entry.offset as usize + 40 + entry.stored_len as usize / 2] ^= 1;
    rig.disk.replace(&pack_path(pack), &bytes);
    pack
}

#[test]
fn a_pack_with_a_damaged_survivor_is_left_alone_until_nobody_needs_it() {
    let rig = rig();
    let pack = damage(&rig, 30);
    let (progress, end) = collect(&rig);
    assert_eq!((progress.packs_left, end), (1, GcEnd::Done));
    assert!(rig.files("vpk").contains(&pack_path(pack)));
    assert!(is_damaged(&rig.store.read(rig.store.id_of(&chunk(30)))));
    rig.assert_reads((0..CHUNKS).filter(|number| is_alive(*number) && *number != 30));
    assert_eq!(rig.store.damaged().len(), 1);
    // It isn't tried again and again.
    assert_eq!(collect(&rig).0, GcProgress::default());
    // A good copy comes: now the pack can go.
    rig.put_all([30].into_iter());
    drop_all(&rig, [30].into_iter());
    collect(&rig);
    assert!(!rig.files("vpk").contains(&pack_path(pack)));
    assert_collected(&rig);
}

#[test]
fn a_pack_whose_index_does_not_tell_all_is_scanned_or_left_alone() {
    for lost in [false, true] {
        let rig = rig();
        let pack = rig.record(30).unwrap().pack;
        let id = rig.store.id_of(&chunk(30));
        let table = load_index(&rig.disk, pack).unwrap().unwrap();
        if lost {
            // Not even a scan finds the chunk: its header is gone.
            let entry = table.find(id).unwrap();
            let mut bytes = rig.disk.read(&pack_path(pack));
            bytes[entry.offset as usize..entry.offset as usize + 40].fill(0);
            rig.disk.replace(&pack_path(pack), &bytes);
        }
        let entries: Vec<_> = table.iter().filter(|entry| entry.chunk != id).collect();
        let len = rig.disk.read(&pack_path(pack)).len() as u64;
        store_index(&rig.disk, &IndexTable::build(pack, len, &entries)).unwrap();
        let rig = rig.reopen();
        let (progress, _) = collect(&rig);
        assert_eq!(progress.packs_left, u64::from(lost));
        assert_eq!(rig.files("vpk").contains(&pack_path(pack)), lost);
        assert_eq!(rig.refcount(30), 1);
        if !lost {
            assert_collected(&rig);
        }
    }
}

#[test]
fn a_pack_with_a_chunk_in_it_twice_and_no_index_is_collected() {
    let rig = Rig::with(StoreOptions { pack_target_bytes: 1 << 20, chunk_cache_bytes: 0, ..options() });
    rig.put_all(0..10);
    // Stored again without a look-up: the second copy is dead at once.
    let mut batch = rig.store.begin();
    for number in 0..10 {
        batch.put(chunk(number), Indexed::PatchOnly).unwrap();
    }
    rig.commit(batch).unwrap();
    let rig = rig.reopen();
    let pack = rig.record(0).unwrap().pack;
    assert_eq!(rig.pack_record(pack).blocks, 20);
    rig.disk.delete(&index_path(pack));
    collect(&rig);
    assert!(!rig.files("vpk").contains(&pack_path(pack)));
    rig.assert_reads(0..10);
    assert_eq!(rig.store.stats().dead_bytes, 0);
    let rig = rig.crash(Crash::Power);
    rig.assert_reads(0..10);
    for number in 0..10 {
        assert_eq!(rig.refcount(number), 2);
    }
}

#[test]
fn a_copy_that_would_take_the_room_of_commits_is_refused_before_it_begins() {
    let rig = rig();
    let stats = rig.store.stats();
    // Room for all that is alive, but not for commits beside it.
    rig.disk.pretend(Space { total: 64 << 20, available: stats.stored_bytes });
    let mut moved = 0;
    let outcome = rig.store.collect(10, &mut |progress| {
        moved = progress.moved_bytes;
        Pace::Go
    });
    assert!(matches!(outcome, Err(StoreError::OutOfSpace)), "{outcome:?}");
    assert_eq!((moved, rig.store.stats().dead_bytes), (0, stats.dead_bytes));
    rig.disk.pretend(Space { total: 64 << 20, available: stats.stored_bytes + (1 << 20) });
    collect(&rig);
    assert_collected(&rig);
}

/// Stops a collection when its list is made and so many packs of it are worked off.
fn stop_behind(rig: &Rig, packs: u64) {
    let stop = |progress: &GcProgress| {
        let behind = progress.phase == GcPhase::Collecting && progress.packs_removed >= packs;
        if behind { Pace::Stop } else { Pace::Go }
    };
    assert_eq!(rig.store.collect(10, &mut { stop }).unwrap().1, GcEnd::Stopped);
}

#[test]
fn a_stopped_collection_goes_on_with_its_list_after_a_crash() {
    let rig = rig();
    stop_behind(&rig, 2);
    let stopped = checkpoint(&rig);
    assert!(stopped.is_open() && stopped.done > 32, "{stopped:?}");
    let rig = rig.crash(Crash::Process);
    assert_eq!(checkpoint(&rig), stopped);
    let (progress, _) = collect(&rig);
    assert!(!checkpoint(&rig).is_open());
    // What was listed is not looked up again; only the pack that was open at first makes a second list.
    assert!(progress.packs_listed <= 1, "{progress:?}");
    assert!(progress.packs_removed >= stopped.packs - 2, "{progress:?}");
    assert_collected(&rig);
}

#[test]
fn what_died_after_the_list_was_made_is_not_copied() {
    let rig = rig();
    stop_behind(&rig, 0);
    drop_all(&rig, (0..CHUNKS).filter(|number| is_alive(*number)));
    let (progress, _) = collect(&rig);
    assert_eq!((progress.moved_bytes, rig.store.stats().dead_bytes), (0, 0));
    assert!(rig.files("vpk").is_empty(), "{:?}", rig.files("vpk"));
}

#[test]
fn a_lost_or_damaged_list_is_made_again() {
    for case in 0..4 {
        let rig = rig();
        stop_behind(&rig, 1);
        let bytes = rig.disk.read(&list_path());
        match case {
            0 => rig.disk.delete(&list_path()),
            1 => rig.disk.replace(&list_path(), &bytes[..bytes.len() / 2]),
            2 => {
                let mut changed = bytes.clone();
                changed[bytes.len() - 20] ^= 1;
                rig.disk.replace(&list_path(), &changed);
            }
            _ => rig.disk.replace(&list_path(), &[]),
        }
        let rig = rig.reopen();
        assert!(collect(&rig).0.packs_listed > 1, "case {case}");
        assert_collected(&rig);
    }
}

/// A list that lies, with right checksums: it names every block of every pack.
#[test]
fn the_list_is_a_hint_and_the_records_are_the_truth() {
    use verfs_format::discard::{DiscardFrame, encode_discard_header};
    let rig = rig();
    stop_behind(&rig, 0);
    let mut lie = encode_discard_header(checkpoint(&rig).round).to_vec();
    for path in rig.files("vpi") {
        let number = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        let table = load_index(&rig.disk, PackId(number)).unwrap().unwrap();
        let chunks = table.iter().map(|entry| entry.chunk).collect();
        DiscardFrame { pack: PackId(number), dead_bytes: 0, chunks }.encode(checkpoint(&rig).round, &mut lie);
    }
    let mut batch = verfs_meta::WriteBatch::new();
    let told = DiscardCheckpoint { length: lie.len() as u64, ..checkpoint(&rig) };
    batch.put(SYSTEM_DISCARD_CHECKPOINT, told.encode());
    rig.meta.commit(batch).unwrap();
    rig.disk.replace(&list_path(), &lie);
    let rig = rig.reopen();
    collect(&rig);
    assert_collected(&rig);
}

#[test]
fn files_of_removed_packs_that_are_still_there_go_at_the_next_open() {
    let rig = rig();
    rig.disk.fail(Fault { call: Some(Call::Remove), after: 1, times: u64::MAX, kind: ErrorKind::Other });
    let _ = rig.store.collect(10, &mut |_| Pace::Go);
    rig.disk.heal();
    assert!(rig.files("vpk").len() > rig.store.stats().packs as usize);
    let rig = rig.crash(Crash::Process);
    assert_eq!(rig.files("vpk").len(), rig.store.stats().packs as usize);
    collect(&rig);
    assert_collected(&rig);
}

#[test]
fn closing_ends_a_collection_and_seals_what_it_wrote() {
    let rig = rig();
    let store = Arc::clone(&rig.store);
    let mut closing = None;
    let outcome = rig.store.collect(10, &mut |progress| {
        if progress.moved_bytes > 0 && closing.is_none() {
            let store = Arc::clone(&store);
            closing = Some(std::thread::spawn(move || store.close()));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Pace::Go
    });
    assert!(matches!(outcome, Err(StoreError::Closed)), "{outcome:?}");
    closing.unwrap().join().unwrap().unwrap();
    assert!(matches!(rig.store.collect(10, &mut |_| Pace::Go), Err(StoreError::Closed)));
    let rig = Rig::on(rig.disk, rig.meta, rig.options);
    assert!(rig.pack_records().iter().all(|record| record.state == PackState::Sealed));
    assert_alive(&rig);
    collect(&rig);
    assert_collected(&rig);
}
