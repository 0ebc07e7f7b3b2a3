//! Random batches, crashes and aborts against a model that only counts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use support::disk::Crash;
use support::{Rig, cases, chunk, options};
use verfs_format::chunk_record::PackState;
use verfs_meta::{MetaStore, WriteBatch};
use verfs_pack::{RecordSeed, pack_path, scan_pack};
use verfs_store::{ChunkBatch, GcProgress, Indexed, Pace, StoreOptions, StoreStats};

/// Chunks that operations choose from.
const CHUNKS: u64 = 24;

#[derive(Clone, Debug)]
enum Change {
    Put(u64, Indexed),
    Add(u64, u32),
    /// Gives back this share of the references that there are.
    Drop(u64, u32),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    Abort,
    AbortAfterFinish,
    CrashBeforeFinish(Power),
    CrashAfterFinish(Power),
    CrashAfterCommit(Power),
    Reopen,
    /// The batch is committed, then garbage of at least so many percent collected, up to so many moments.
    Collect(u8, u32),
    /// The batch is begun and committed in the middle of a collection, at this moment of it.
    CommitInCollect(u8, u32),
    /// Garbage is collected up to a moment, and then everything stops.
    CrashInCollect(u8, u32, Power),
}

#[derive(Clone, Copy, Debug)]
enum Power {
    Stays,
    Fails,
    Tears(u64),
}

impl Power {
    fn crash(self) -> Crash {
        match self {
            Power::Stays => Crash::Process,
            Power::Fails => Crash::Power,
            Power::Tears(seed) => Crash::Torn(seed),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..CHUNKS).prop_map(|number| Change::Put(number, Indexed::Yes)),
        2 => (0..CHUNKS).prop_map(|number| Change::Put(number, Indexed::PatchOnly)),
        1 => (0..CHUNKS, 1u32..4).prop_map(|(number, count)| Change::Add(number, count)),
        3 => (0..CHUNKS, 1u32..4).prop_map(|(number, count)| Change::Drop(number, count)),
    ]
}

fn power() -> impl Strategy<Value = Power> {
    prop_oneof![Just(Power::Stays), Just(Power::Fails), any::<u64>().prop_map(Power::Tears)]
}

fn calm_end() -> impl Strategy<Value = End> {
    prop_oneof![5 => Just(End::Commit), 1 => Just(End::Abort), 1 => Just(End::AbortAfterFinish), 1 => Just(End::Reopen),
        2 => (0u8..=100, 0u32..60).prop_map(|(percent, moments)| End::Collect(percent, moments)),
        2 => (0u8..=100, 0u32..30).prop_map(|(percent, moment)| End::CommitInCollect(percent, moment))]
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        5 => calm_end(),
        1 => power().prop_map(End::CrashBeforeFinish),
        1 => power().prop_map(End::CrashAfterFinish),
        1 => power().prop_map(End::CrashAfterCommit),
        2 => (1u8..=100, 0u32..40, power()).prop_map(|(percent, moments, power)| {
            End::CrashInCollect(percent, moments, power)
        }),
    ]
}

fn batches(end: impl Strategy<Value = End>) -> impl Strategy<Value = Vec<(Vec<Change>, End)>> {
    proptest::collection::vec((proptest::collection::vec(change(), 0..30), end), 1..12)
}

/// So little may be in the pipeline that blocks reach packs while a batch is still being filled.
fn model_options() -> StoreOptions {
    StoreOptions {
        inflight_bytes: 8 << 10,
        pack_target_bytes: 20 << 10,
        chunk_cache_bytes: 16 << 10,
        pack_index_cache_bytes: 4 << 10,
        ..options()
    }
}

/// Runs one batch on the store and on the counts; the rig afterwards and whether the counts are committed.
fn run(rig: Rig, counts: &mut BTreeMap<u64, u64>, changes: &[Change], end: End) -> Rig {
    if let End::CommitInCollect(percent, moment) = end {
        return commit_in_collect(rig, counts, changes, (percent, moment));
    }
    let mut next = counts.clone();
    let mut batch = rig.store.begin();
    fill(&rig, &mut batch, &mut next, changes);
    // A crash is what the disk and the metadata held at that moment; the store that goes on is forgotten.
    let crash_now = |rig: &Rig, power: Power| {
        let survivors = if matches!(power, Power::Stays) { usize::MAX } else { 0 };
        (rig.disk.crash(power.crash()), Arc::new(rig.meta.crash(survivors)))
    };
    match end {
        End::Commit => {
            rig.commit(batch).unwrap();
            *counts = next;
            rig
        }
        End::Abort => {
            drop(batch);
            rig
        }
        End::AbortAfterFinish => {
            batch.finish(&mut WriteBatch::new()).unwrap();
            drop(batch);
            rig
        }
        End::Reopen => {
            rig.commit(batch).unwrap();
            *counts = next;
            rig.reopen()
        }
        // Handled above.
        End::CommitInCollect(..) => rig,
        End::Collect(percent, moments) => {
            rig.commit(batch).unwrap();
            *counts = next;
            let mut left = moments;
            let pace = &mut |_: &GcProgress| {
                left = left.saturating_sub(1);
                if left == 0 { Pace::Stop } else { Pace::Go }
            };
            rig.store.collect(percent, pace).unwrap();
            forget_reclaimed(&rig, counts);
            rig
        }
        End::CrashInCollect(percent, moments, power) => {
            rig.commit(batch).unwrap();
            *counts = next;
            let (mut left, mut crashed) = (moments, None);
            let pace = &mut |_: &GcProgress| {
                left = left.saturating_sub(1);
                if left > 0 {
                    return Pace::Go;
                }
                crashed.get_or_insert_with(|| crash_now(&rig, power));
                Pace::Stop
            };
            rig.store.collect(percent, pace).unwrap();
            let (disk, meta) = crashed.unwrap_or_else(|| crash_now(&rig, power));
            let rig = Rig::on(disk, meta, model_options());
            forget_reclaimed(&rig, counts);
            rig
        }
        End::CrashBeforeFinish(power) => {
            let (disk, meta) = crash_now(&rig, power);
            drop(batch);
            Rig::on(disk, meta, model_options())
        }
        End::CrashAfterFinish(power) => {
            batch.finish(&mut WriteBatch::new()).unwrap();
            let (disk, meta) = crash_now(&rig, power);
            drop(batch);
            Rig::on(disk, meta, model_options())
        }
        End::CrashAfterCommit(power) => {
            // Committed and not synced: after a power failure the batch is gone, after the process's death it is there.
            let mut records = WriteBatch::new();
            batch.finish(&mut records).unwrap();
            rig.meta.commit(records).unwrap();
            let (disk, meta) = crash_now(&rig, power);
            batch.committed();
            if matches!(power, Power::Stays) {
                *counts = next;
            }
            Rig::on(disk, meta, model_options())
        }
    }
}

fn fill(rig: &Rig, batch: &mut ChunkBatch, next: &mut BTreeMap<u64, u64>, changes: &[Change]) {
    for change in changes {
        match *change {
            Change::Put(number, indexed) => {
                batch.put(chunk(number), indexed).unwrap();
                *next.entry(number).or_default() += 1;
            }
            Change::Add(number, count) => {
                // Only chunks that exist can be referenced.
                if let Some(known) = next.get_mut(&number) {
                    *known += u64::from(count);
                    batch.add_reference(rig.store.id_of(&chunk(number)), count);
                }
            }
            Change::Drop(number, count) => {
                if let Some(known) = next.get_mut(&number) {
                    let count = u64::from(count).min(*known);
                    *known -= count;
                    batch.drop_reference(rig.store.id_of(&chunk(number)), count as u32);
                }
            }
        }
    }
}

/// A group of other threads while garbage is collected. A chunk that it counts up must have references, as `vfs` sees to.
fn commit_in_collect(
    rig: Rig,
    counts: &mut BTreeMap<u64, u64>,
    changes: &[Change],
    (percent, moment): (u8, u32),
) -> Rig {
    let mut left = moment;
    let mut committed = false;
    let commit = |rig: &Rig, counts: &mut BTreeMap<u64, u64>| {
        let mut batch = rig.store.begin();
        forget_reclaimed(rig, counts);
        fill(rig, &mut batch, counts, changes);
        rig.commit(batch).unwrap();
    };
    let pace = &mut |_: &GcProgress| {
        if left == 0 && !committed {
            committed = true;
            commit(&rig, counts);
        }
        left = left.saturating_sub(1);
        Pace::Go
    };
    rig.store.collect(percent, pace).unwrap();
    if !committed {
        commit(&rig, counts);
    }
    forget_reclaimed(&rig, counts);
    rig
}

/// Chunks without references may be gone after a collection; nobody else may.
fn forget_reclaimed(rig: &Rig, counts: &mut BTreeMap<u64, u64>) {
    counts.retain(|number, count| *count > 0 || rig.record(*number).is_some());
}

fn check(rig: &Rig, counts: &BTreeMap<u64, u64>) {
    for (number, count) in counts {
        assert_eq!(rig.refcount(*number), *count, "count of chunk {number}");
        assert_eq!(rig.store.read(rig.store.id_of(&chunk(*number))).unwrap(), chunk(*number));
    }
    for number in (0..CHUNKS).filter(|number| !counts.contains_key(number)) {
        // A record that a collection deleted may be back after a power failure; then its chunk is, too.
        if let Some(record) = rig.record(number) {
            assert_eq!(record.refcount, 0, "count of chunk {number}");
            assert_eq!(rig.store.read(rig.store.id_of(&chunk(number))).unwrap(), chunk(number));
        }
    }
    let alive: Vec<u64> = counts.iter().filter(|(_, count)| **count > 0).map(|(number, _)| *number).collect();
    let StoreStats { chunks, unique_bytes, stored_bytes, damaged, .. } = rig.store.stats();
    assert_eq!(chunks as usize, alive.len());
    assert_eq!(unique_bytes, alive.iter().map(|number| chunk(*number).len() as u64).sum::<u64>());
    assert_eq!(stored_bytes, alive.iter().map(|number| rig.record(*number).unwrap().block_bytes()).sum::<u64>());
    assert_eq!(damaged, 0);
}

/// Every pack's record says what a scan of the pack and the chunk records say.
fn check_packs(rig: &Rig) {
    use verfs_base::Disk;
    let mut dead_in_all = 0;
    for path in rig.files("vpk") {
        let number = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        let pack = verfs_base::PackId(number);
        let file = rig.disk.open_read(&pack_path(pack)).unwrap();
        let scan = scan_pack(file.as_ref(), pack, RecordSeed::of_volume(&support::SECRET)).unwrap();
        let bytes: u64 = scan.blocks.iter().map(|block| u64::from(block.entry.stored_len) + 40).sum();
        let alive: Vec<u64> = (0..CHUNKS)
            .filter_map(|number| rig.record(number))
            .filter(|record| record.pack == pack && record.refcount > 0)
            .map(|record| record.block_bytes())
            .collect();
        let record = rig.pack_record(pack);
        assert_eq!(record.state, PackState::Sealed);
        assert_eq!((record.blocks, record.block_bytes), (scan.blocks.len() as u64, bytes), "pack {pack}");
        let dead = (record.blocks - alive.len() as u64, bytes - alive.iter().sum::<u64>());
        assert_eq!((record.dead_blocks, record.dead_bytes), dead, "pack {pack}");
        dead_in_all += record.dead_bytes;
    }
    assert_eq!(rig.store.stats().dead_bytes, dead_in_all);
    assert_eq!(rig.store.stats().packs as usize, rig.files("vpk").len());
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 300, ..ProptestConfig::with_cases(cases(800)) })]

    #[test]
    fn counts_and_pack_records_are_those_of_the_model(batches in batches(calm_end())) {
        let mut counts = BTreeMap::new();
        let mut rig = Rig::with(model_options());
        for (changes, end) in &batches {
            rig = run(rig, &mut counts, changes, *end);
            check(&rig, &counts);
        }
        let rig = rig.reopen();
        check(&rig, &counts);
        check_packs(&rig);
    }

    #[test]
    fn committed_batches_survive_every_crash(batches in batches(any_end())) {
        let mut counts = BTreeMap::new();
        let mut rig = Rig::with(model_options());
        for (changes, end) in &batches {
            rig = run(rig, &mut counts, changes, *end);
            check(&rig, &counts);
        }
        check(&rig.reopen(), &counts);
    }
}
