//! Putting and reading, dedup, counters, limits.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::disk::{Call, TestDisk};
use support::{Rig, chunk, options};
use verfs_meta::{MemoryStore, MetaStore, WriteBatch};
use verfs_store::{Indexed, StoreError, StoreOptions};

#[test]
fn chunks_come_back_before_and_after_reopening() {
    let rig = Rig::new();
    rig.put_all(0..200);
    rig.assert_reads(0..200);
    let rig = rig.reopen();
    rig.assert_reads(0..200);
    assert!(rig.files("vpk").len() > 3, "the chunks fill several packs");
    assert_eq!(rig.files("vpk").len(), rig.files("vpi").len(), "close seals every pack");
}

#[test]
fn the_id_depends_on_the_content_and_on_the_secret() {
    let rig = Rig::new();
    let other = verfs_store::ChunkStore::open(
        TestDisk::new().as_disk(),
        Arc::new(MemoryStore::new()),
        &std::array::from_fn(|at| at as u8),
        Arc::new(verfs_base::SystemClock::new()),
        options(),
    )
    .unwrap();
    for data in [&b"x"[..], &[7; 100], &[7; 5000]] {
        assert_eq!(rig.store.id_of(data), rig.store.id_of(data));
        assert_ne!(rig.store.id_of(data), other.id_of(data));
    }
    assert_ne!(rig.store.id_of(b"a"), rig.store.id_of(b"b"));
}

#[test]
fn a_duplicate_is_counted_and_not_stored_again() {
    let rig = Rig::new();
    rig.put_all(0..50);
    let bytes: usize = rig.files("vpk").iter().map(|path| rig.disk.read(path).len()).sum();
    // In the batch itself, in a later one, and in a later run.
    rig.put_all((0..50).chain(0..50));
    let rig = rig.reopen();
    rig.put_all(0..50);
    assert_eq!(rig.refcount(7), 4);
    assert_eq!(rig.files("vpk").iter().map(|path| rig.disk.read(path).len()).sum::<usize>(), bytes);
    let stats = rig.store.stats();
    assert_eq!((stats.dedup_misses, stats.dedup_hits, stats.chunks), (50, 150, 50));
    assert_eq!(stats.unique_bytes, (0..50).map(|number| chunk(number).len() as u64).sum::<u64>());
    assert_eq!(stats.dead_bytes, 0);
    assert_eq!(stats.packs as usize, rig.files("vpk").len());
}

#[test]
fn a_patch_that_the_volume_has_already_leaves_the_new_copy_dead() {
    let rig = Rig::new();
    rig.put_all(0..3);
    let before = rig.record(1).unwrap();
    let mut batch = rig.store.begin();
    batch.put(chunk(1), Indexed::PatchOnly).unwrap();
    batch.put(chunk(77), Indexed::PatchOnly).unwrap();
    batch.put(chunk(77), Indexed::Yes).unwrap();
    rig.commit(batch).unwrap();
    assert_eq!((rig.refcount(1), rig.refcount(77)), (2, 2));
    let after = rig.record(1).unwrap();
    assert_eq!((after.pack, after.stored_len), (before.pack, before.stored_len));
    assert_eq!(rig.store.stats().dead_bytes, before.block_bytes());
    rig.assert_reads([0, 1, 2, 77].into_iter());
    rig.reopen().assert_reads([0, 1, 2, 77].into_iter());
}

#[test]
fn a_count_of_zero_stays_readable_and_is_revived_by_dedup() {
    let rig = Rig::new();
    let id = rig.put_all(3..4)[0];
    let block = rig.record(3).unwrap().block_bytes();
    let mut batch = rig.store.begin();
    batch.drop_reference(id, 1);
    rig.commit(batch).unwrap();
    assert_eq!(rig.record(3).unwrap().refcount, 0);
    let pack = rig.pack_record(rig.record(3).unwrap().pack);
    assert_eq!((pack.blocks, pack.dead_blocks, pack.dead_bytes), (1, 1, block));
    let stats = rig.store.stats();
    assert_eq!((stats.chunks, stats.unique_bytes, stats.stored_bytes, stats.dead_bytes), (0, 0, 0, block));
    rig.assert_reads(3..4);
    rig.put_all(3..4);
    let pack = rig.pack_record(rig.record(3).unwrap().pack);
    assert_eq!((pack.blocks, pack.dead_blocks, pack.dead_bytes), (1, 0, 0));
    let stats = rig.store.stats();
    assert_eq!((stats.chunks, stats.stored_bytes, stats.dead_bytes), (1, block, 0));
}

#[test]
fn put_and_dropped_in_one_batch_ends_with_a_record_of_count_zero() {
    let rig = Rig::new();
    let mut batch = rig.store.begin();
    let id = batch.put(chunk(5), Indexed::Yes).unwrap();
    batch.add_reference(id, 2);
    batch.drop_reference(id, 3);
    rig.commit(batch).unwrap();
    let record = rig.record(5).unwrap();
    assert_eq!(record.refcount, 0);
    assert_eq!(rig.pack_record(record.pack).dead_blocks, 1);
}

#[test]
fn references_that_can_not_be_right_stop_nothing_and_lose_nothing() {
    let rig = Rig::new();
    let id = rig.put_all(4..5)[0];
    let mut batch = rig.store.begin();
    batch.drop_reference(id, 5);
    batch.drop_reference(rig.store.id_of(b"never stored"), 1);
    batch.add_reference(rig.store.id_of(b"never stored either"), 1);
    rig.commit(batch).unwrap();
    assert_eq!(rig.refcount(4), 1, "a count that can't be trusted never lets the data go");
    let damaged = rig.store.damaged();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].chunk, rig.store.id_of(b"never stored either"));
    assert!(matches!(rig.store.read(rig.store.id_of(b"never stored")), Err(StoreError::Missing { .. })));
}

#[test]
fn a_batch_without_changes_writes_nothing() {
    let rig = Rig::new();
    let calls = rig.disk.calls();
    let mut batch = rig.store.begin();
    let mut records = WriteBatch::new();
    batch.finish(&mut records).unwrap();
    batch.committed();
    assert!(records.is_empty());
    assert_eq!(rig.disk.calls(), calls);
}

#[test]
fn reads_work_from_finish_on_once_the_records_are_committed() {
    let rig = Rig::new();
    let mut batch = rig.store.begin();
    let ids: Vec<_> = (0..40).map(|number| batch.put(chunk(number), Indexed::Yes).unwrap()).collect();
    let mut records = WriteBatch::new();
    batch.finish(&mut records).unwrap();
    rig.meta.commit(records).unwrap();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(rig.store.read(*id).unwrap(), chunk(number as u64), "between commit and committed()");
    }
    batch.committed();
}

#[test]
fn the_first_read_goes_to_the_disk_and_the_second_to_memory() {
    let rig = Rig::new();
    let id = rig.put_all(6..7)[0];
    assert_eq!(rig.store.cached(id), None);
    rig.store.read(id).unwrap();
    rig.disk.take_trace();
    assert_eq!(rig.store.cached(id), Some(chunk(6)));
    rig.store.read(id).unwrap();
    assert_eq!(rig.disk.take_trace(), []);
    let stats = rig.store.stats();
    assert_eq!((stats.chunk_cache_hits, stats.chunk_cache_misses), (2, 1));
    assert!(stats.chunk_cache_bytes >= chunk(6).len() as u64);
}

#[test]
fn the_chunk_cache_keeps_to_its_bound() {
    let rig = Rig::with(StoreOptions { chunk_cache_bytes: 64 << 10, ..options() });
    rig.put_all(0..300);
    for _ in 0..2 {
        rig.assert_reads(0..300);
        assert!(rig.store.stats().chunk_cache_bytes <= 64 << 10);
    }
    assert!(rig.store.stats().chunk_cache_bytes > 16 << 10, "something is cached");
}

#[test]
fn the_chunk_cache_gets_another_bound_while_it_works() {
    let rig = Rig::with(StoreOptions { chunk_cache_bytes: 64 << 10, ..options() });
    rig.put_all(0..300);
    rig.assert_reads(0..300);
    rig.store.set_chunk_cache_bytes(8 << 10);
    assert!(rig.store.stats().chunk_cache_bytes <= 8 << 10, "what is too much leaves it");
    rig.store.set_chunk_cache_bytes(256 << 10);
    rig.assert_reads(0..300);
    assert!(rig.store.stats().chunk_cache_bytes > 128 << 10, "it takes more again");
}

#[test]
fn the_chunk_cache_gives_way_to_what_waits_to_be_written_and_has_its_room_again_afterwards() {
    let rig = Rig::with(StoreOptions { chunk_cache_bytes: 200 << 10, ..options() });
    rig.put_all(0..300);
    let cached = || {
        rig.assert_reads(0..300);
        rig.store.stats().chunk_cache_bytes
    };
    let whole = cached();
    assert!(whole > 150 << 10, "{whole}");
    rig.store.give_way_to(50 << 10);
    assert!(rig.store.stats().chunk_cache_bytes <= 150 << 10, "what is too much leaves it");
    rig.store.give_way_to(1 << 30);
    assert!(rig.store.stats().chunk_cache_bytes <= 80 << 10, "no more than two fifths stay");
    let least = cached();
    assert!((40 << 10..=80 << 10).contains(&least), "readers still have a cache: {least}");
    let ahead = rig.store.read_ahead_max_bytes();
    assert_eq!(ahead, 40 << 10, "what is read ahead still has its place");
    rig.store.set_chunk_cache_bytes(100 << 10);
    assert!(cached() <= 40 << 10, "so it is with another bound");
    rig.store.give_way_to(0);
    assert!((60 << 10..=100 << 10).contains(&cached()), "it takes more again");
}

#[test]
fn prefetched_chunks_are_in_memory_when_the_reader_comes() {
    let rig = Rig::new();
    let ids = rig.put_all(0..60);
    rig.store.prefetch(&ids);
    let deadline = Instant::now() + Duration::from_secs(10);
    while ids.iter().any(|id| rig.store.cached(*id).is_none()) {
        assert!(Instant::now() < deadline, "prefetch brought nothing");
        thread::sleep(Duration::from_millis(1));
    }
    rig.disk.take_trace();
    rig.assert_reads(0..60);
    assert!(rig.disk.take_trace().iter().all(|(call, ..)| *call != Call::Read));
}

#[test]
fn readers_of_one_missing_chunk_share_one_read() {
    let rig = Rig::new();
    let id = rig.put_all(1..2)[0];
    rig.disk.take_trace();
    thread::scope(|scope| {
        let held = rig.disk.hold(Call::Read);
        let readers: Vec<_> = (0..8).map(|_| scope.spawn(|| rig.store.read(id))).collect();
        thread::sleep(Duration::from_millis(50));
        drop(held);
        for reader in readers {
            assert_eq!(reader.join().unwrap().unwrap(), chunk(1));
        }
    });
    assert_eq!(rig.disk.take_trace().iter().filter(|(call, ..)| *call == Call::Read).count(), 1);
}

#[test]
fn readers_do_not_wait_for_a_batch_whose_disk_hangs() {
    // Without a cache, every read goes to the packs.
    let rig = Rig::with(StoreOptions { chunk_cache_bytes: 0, ..options() });
    let ids = rig.put_all(0..20);
    for (stuck, new) in [(Call::Write, 1000..1100), (Call::Sync, 1100..1200)] {
        thread::scope(|scope| {
            let held = rig.disk.hold(stuck);
            let writer = scope.spawn(|| rig.put_all(new));
            thread::sleep(Duration::from_millis(30));
            for (number, id) in ids.iter().enumerate() {
                assert_eq!(rig.store.read(*id).unwrap(), chunk(number as u64));
            }
            assert!(!writer.is_finished(), "the batch was to hang at {stuck:?}");
            drop(held);
            writer.join().unwrap();
        });
    }
}

#[test]
fn readers_during_batches_see_every_committed_chunk() {
    let rig = Rig::new();
    rig.put_all(0..100);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3u64)
            .map(|reader| {
                let (rig, done) = (&rig, &done);
                scope.spawn(move || {
                    let mut round = reader;
                    while !done.load(Ordering::Relaxed) {
                        rig.assert_reads((0..100).map(|at| (at * 37 + round) % 100));
                        round += 1;
                    }
                    round
                })
            })
            .collect();
        for group in 1..30 {
            rig.put_all(group * 100..group * 100 + 60);
            rig.assert_reads(group * 100..group * 100 + 60);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 3);
        }
    });
}

#[test]
fn the_pipeline_holds_no_more_than_its_bound() {
    let rig = Rig::with(StoreOptions { inflight_bytes: 64 << 10, ..options() });
    thread::scope(|scope| {
        let held = rig.disk.hold(Call::Create);
        let writer = scope.spawn(|| rig.put_all(0..400));
        thread::sleep(Duration::from_millis(80));
        let stats = rig.store.stats();
        assert!(stats.inflight_bytes <= 64 << 10, "{} bytes are in the pipeline", stats.inflight_bytes);
        assert!(stats.inflight_bytes > 32 << 10 && stats.queue_depth > 0, "the pipeline was to be full");
        assert!(!writer.is_finished());
        drop(held);
        writer.join().unwrap();
    });
    assert_eq!((rig.store.stats().inflight_bytes, rig.store.stats().queue_depth), (0, 0));
    rig.assert_reads(0..400);
}

#[test]
fn a_chunk_larger_than_the_bound_still_goes_through() {
    let rig = Rig::with(StoreOptions { inflight_bytes: 100, ..options() });
    rig.put_all(0..30);
    rig.assert_reads(0..30);
}

#[test]
fn blocks_reach_the_disk_in_large_writes() {
    let rig = Rig::with(StoreOptions { pack_target_bytes: 64 << 20, inflight_bytes: 4 << 20, ..options() });
    let mut batch = rig.store.begin();
    for number in 0..2000u64 {
        let mut noise = vec![0; 8192];
        let mut random = number * 2 + 1;
        noise.iter_mut().for_each(|byte| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (random >> 56) as u8;
        });
        batch.put(noise.into(), Indexed::Yes).unwrap();
    }
    rig.commit(batch).unwrap();
    let writes: Vec<usize> =
        rig.disk.take_trace().into_iter().filter(|(call, ..)| *call == Call::Write).map(|(.., len)| len).collect();
    assert!(writes.iter().sum::<usize>() > 15 << 20);
    assert!(writes.iter().filter(|len| **len < 1 << 20).count() <= 1, "{writes:?}");
}

#[test]
fn empty_and_oversized_chunks_are_refused_and_the_batch_goes_on() {
    let rig = Rig::new();
    let mut batch = rig.store.begin();
    assert!(matches!(batch.put(Bytes::new(), Indexed::Yes), Err(StoreError::ChunkLength { len: 0 })));
    let long = Bytes::from(vec![1; (16 << 20) + 1]);
    assert!(matches!(batch.put(long, Indexed::Yes), Err(StoreError::ChunkLength { .. })));
    let id = batch.put(chunk(1), Indexed::Yes).unwrap();
    rig.commit(batch).unwrap();
    assert_eq!(rig.store.read(id).unwrap(), chunk(1));
}

#[test]
fn options_that_can_not_work_are_refused_by_name() {
    let bad = [
        ("pack_target_bytes", StoreOptions { pack_target_bytes: 0, ..options() }),
        ("pack_target_bytes", StoreOptions { pack_target_bytes: 2 << 30, ..options() }),
        ("compress_threads", StoreOptions { compress_threads: 0, ..options() }),
        ("inflight_bytes", StoreOptions { inflight_bytes: 0, ..options() }),
        ("compression_level", StoreOptions { compression_level: 99, ..options() }),
    ];
    for (name, options) in bad {
        match support::open(&TestDisk::new(), &Arc::new(MemoryStore::new()), &options).map(drop) {
            Err(StoreError::Option { option, .. }) => assert_eq!(option, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_second_batch_waits_for_the_first() {
    let rig = Rig::new();
    let first = rig.store.begin();
    thread::scope(|scope| {
        let second = scope.spawn(|| rig.put_all(0..1));
        thread::sleep(Duration::from_millis(30));
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap();
    });
}

#[test]
fn after_close_everything_answers_closed() {
    let rig = Rig::new();
    let id = rig.put_all(1..2)[0];
    rig.store.close().unwrap();
    rig.store.close().unwrap();
    assert!(matches!(rig.store.read(id), Err(StoreError::Closed)));
    let mut batch = rig.store.begin();
    assert!(matches!(batch.put(chunk(1), Indexed::Yes), Err(StoreError::Closed)));
    assert!(matches!(batch.finish(&mut WriteBatch::new()), Err(StoreError::Closed)));
    rig.store.prefetch(&[id]);
}

#[test]
fn an_empty_run_leaves_no_pack() {
    let rig = Rig::new().reopen().reopen();
    assert_eq!(rig.files("vpk"), Vec::<std::path::PathBuf>::new());
    // A batch that was dropped leaves none either.
    let mut batch = rig.store.begin();
    for number in 0..100 {
        batch.put(chunk(number), Indexed::Yes).unwrap();
    }
    drop(batch);
    let rig = rig.reopen();
    assert_eq!(rig.files("vpk"), Vec::<std::path::PathBuf>::new());
    assert!(rig.meta.get(b"Sstore.state").unwrap().is_none());
}

#[test]
fn full_packs_are_sealed_in_the_background_and_named_so_in_the_records() {
    let rig = Rig::new();
    rig.put_all(0..200);
    rig.wait_sealed();
    // The last index may be there a moment before its pack counts as sealed; each commit says what does by then.
    let told = (200..220).any(|number| {
        rig.put_all(number..number + 1);
        let told = rig.store_record().unsealed.len() == 1;
        std::thread::sleep(std::time::Duration::from_millis(if told { 0 } else { 20 }));
        told
    });
    assert!(told, "{:?}", rig.store_record());
    let open =
        rig.pack_records().iter().filter(|record| record.state == verfs_format::chunk_record::PackState::Open).count();
    assert_eq!(open, 1);
    let rig = rig.reopen();
    assert!(rig.store_record().unsealed.is_empty());
    assert!(rig.pack_records().iter().all(|record| record.state == verfs_format::chunk_record::PackState::Sealed));
}
