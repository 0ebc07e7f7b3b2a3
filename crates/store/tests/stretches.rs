//! Reading many chunks at once: few reads, and damage and failures as with single ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use support::disk::{Call, Fault};
use support::{Rig, chunk, is_damaged, options};
use verfs_base::ChunkId;
use verfs_pack::pack_path;
use verfs_store::StoreOptions;

fn rig(cache_bytes: u64) -> (Rig, Vec<ChunkId>) {
    let options = StoreOptions { pack_target_bytes: 16 << 20, chunk_cache_bytes: cache_bytes, ..options() };
    let rig = Rig::with(options);
    let ids = rig.put_all(0..64);
    (rig.reopen(), ids)
}

#[test]
fn neighbours_are_read_together_and_come_in_the_order_asked_for() {
    let (rig, ids) = rig(8 << 20);
    rig.disk.take_trace();
    rig.store.prefetch(&ids);
    let deadline = Instant::now() + Duration::from_secs(10);
    while ids.iter().any(|id| rig.store.cached(*id).is_none()) {
        assert!(Instant::now() < deadline, "prefetch brought nothing");
        thread::sleep(Duration::from_millis(1));
    }
    let is_pack_read = |(call, path, _): &(Call, std::path::PathBuf, usize)| {
        *call == Call::Read && path.extension().is_some_and(|found| found == "vpk")
    };
    assert_eq!(rig.disk.take_trace().iter().filter(|call| is_pack_read(call)).count(), 64 / 16);
    let asked: Vec<ChunkId> = ids.iter().rev().copied().collect();
    assert_eq!(rig.store.read_many(&asked, &[]).unwrap(), (0..64).rev().map(chunk).collect::<Vec<_>>());
}

#[test]
fn a_damaged_chunk_hurts_no_neighbour_of_its_stretch() {
    let (rig, ids) = rig(8 << 20);
    let pack = rig.record(5).unwrap().pack;
    let mut bytes = rig.disk.read(&pack_path(pack));
    let place = bytes.windows(16).position(|window| window == ids[5].0).unwrap();
    bytes[place + 40] ^= 1;
    rig.disk.replace(&pack_path(pack), &bytes);
    assert!(is_damaged(&rig.store.read_many(&ids, &[])));
    for (number, id) in ids.iter().enumerate() {
        match rig.store.read(*id) {
            Ok(data) => assert_eq!(data, chunk(number as u64)),
            error => assert!(number == 5 && is_damaged(&error), "{number}: {error:?}"),
        }
    }
    assert_eq!(rig.store.damaged().len(), 1);
}

#[test]
fn a_stretch_that_can_not_be_read_is_tried_again_chunk_by_chunk() {
    let (rig, ids) = rig(8 << 20);
    rig.store.read(ids[0]).unwrap();
    rig.disk.fail(Fault { call: Some(Call::Read), after: 0, times: 1, kind: ErrorKind::Other });
    let read = rig.store.read_many(&ids[..8], &[]).unwrap();
    assert_eq!(read, (0..8).map(chunk).collect::<Vec<_>>());
}

#[test]
fn readers_of_overlapping_lists_never_wait_for_each_other_for_ever() {
    // A cache that holds a part of them: chunks come and go while others wait for them.
    for cache_bytes in [0, 64 << 10, 8 << 20] {
        let (rig, ids) = rig(cache_bytes);
        thread::scope(|scope| {
            for reader in 0..4usize {
                let (rig, ids) = (&rig, &ids);
                scope.spawn(move || {
                    for round in 0..40 {
                        let from = (reader * 13 + round * 7) % 40;
                        let mut asked = ids[from..from + 24].to_vec();
                        if reader % 2 == 1 {
                            asked.reverse();
                        }
                        let read = rig.store.read_many(&asked, &ids[..from]).unwrap();
                        assert!(asked.iter().zip(&read).all(|(id, data)| rig.store.id_of(data) == *id));
                    }
                });
            }
        });
        assert!(rig.store.stats().chunk_cache_bytes <= cache_bytes);
    }
}
