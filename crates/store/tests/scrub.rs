//! Scrub: everything that is needed and damaged is found, nothing else, in however many pieces.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::sync::Arc;

use support::disk::Crash;
use support::{Rig, SECRET, chunk, options};
use verfs_base::{PackId, SystemClock};
use verfs_meta::MetaStore;
use verfs_pack::{IndexTable, index_path, load_index, pack_path, store_index};
use verfs_store::{ChunkBackend, ChunkStore, Pace, ScrubEnd, ScrubPosition, ScrubProgress, StoreOptions};

/// Chunks 0..60 in several sealed packs, with nothing in memory.
fn sealed() -> Rig {
    let rig = Rig::with(StoreOptions { chunk_cache_bytes: 0, pack_target_bytes: 16 << 10, ..options() });
    for start in (0..60).step_by(5) {
        rig.put_all(start..start + 5);
    }
    rig.reopen()
}

fn scrub(rig: &Rig) -> ScrubProgress {
    let (progress, end) = rig.store.scrub(ScrubPosition::Kept, &mut |_| Pace::Go).unwrap();
    assert_eq!(end, ScrubEnd::Done);
    progress
}

/// Changes one byte of the stored bytes of a chunk; its pack.
fn flip(rig: &Rig, number: u64) -> PackId {
    let record = rig.record(number).unwrap();
    let entry = load_index(&*rig.disk.as_disk(), record.pack).unwrap().unwrap();
    let entry = entry.find(rig.store.id_of(&chunk(number))).unwrap();
    let mut bytes = rig.disk.read(&pack_path(record.pack));
    bytes[entry.offset as usize + 45] ^= 4;
    rig.disk.replace(&pack_path(record.pack), &bytes);
    record.pack
}

#[test]
fn every_record_is_seen_once_and_a_whole_volume_is_clean() {
    let rig = sealed();
    rig.put_all(60..65);
    let progress = scrub(&rig);
    assert_eq!(progress.tally.records, 65);
    assert_eq!(progress.tally.bytes, progress.total_bytes);
    assert_eq!(progress.tally.packs as usize, rig.pack_records().len());
    assert_eq!((progress.tally.damaged, progress.tally.dead_damaged, progress.tally.indexes_mended), (0, 0, 0));
    let record = rig.store.scrub_record().unwrap();
    assert_eq!(record.ended.unwrap().tally, progress.tally);
    assert_eq!(record.under_way, None);
}

#[test]
fn a_flipped_bit_is_named_and_one_in_dead_data_is_not() {
    let rig = sealed();
    let mut batch = rig.store.begin();
    batch.drop_reference(rig.store.id_of(&chunk(30)), 1);
    rig.commit(batch).unwrap();
    let pack = flip(&rig, 7);
    flip(&rig, 30);
    let progress = scrub(&rig);
    assert_eq!((progress.tally.damaged, progress.tally.dead_damaged), (1, 1));
    let [damage] = &rig.store.damaged()[..] else { panic!("{:?}", rig.store.damaged()) };
    assert_eq!((damage.chunk, damage.pack), (rig.store.id_of(&chunk(7)), pack));
    rig.assert_reads((0..60).filter(|number| ![7, 30].contains(number)));
}

#[test]
fn a_record_that_holds_another_chunk_under_a_right_checksum_is_found() {
    let rig = sealed();
    let record = rig.record(7).unwrap();
    let entry = load_index(&*rig.disk.as_disk(), record.pack).unwrap().unwrap();
    let entry = entry.find(rig.store.id_of(&chunk(7))).unwrap();
    let seed = verfs_pack::RecordSeed::of_volume(&SECRET);
    let mut bytes = rig.disk.read(&pack_path(record.pack));
    let at = entry.offset as usize;
    let (header, stored) = verfs_format::pack::RecordHeader::decode(seed, &bytes[at..]).unwrap();
    let mut other = stored.to_vec();
    *other.last_mut().unwrap() ^= 1;
    let forged = header.encode(seed, &other);
    bytes[at..at + forged.len()].copy_from_slice(&forged);
    bytes[at + forged.len()..at + forged.len() + other.len()].copy_from_slice(&other);
    rig.disk.replace(&pack_path(record.pack), &bytes);
    assert!(rig.store.read(rig.store.id_of(&chunk(7))).is_ok(), "a read checks no identity");
    assert_eq!(scrub(&rig).tally.damaged, 1);
}

#[test]
fn indexes_that_are_missing_damaged_or_incomplete_are_made_anew() {
    let rig = sealed();
    let packs: Vec<PackId> = (1..4).map(PackId).collect();
    let whole: Vec<_> = packs.iter().map(|pack| rig.disk.read(&index_path(*pack))).collect();
    rig.disk.as_disk().remove(&index_path(packs[0])).unwrap();
    rig.disk.replace(&index_path(packs[1]), &whole[1][..whole[1].len() - 1]);
    let table = load_index(&*rig.disk.as_disk(), packs[2]).unwrap().unwrap();
    let but_one: Vec<_> = table.iter().skip(1).collect();
    store_index(&*rig.disk.as_disk(), &IndexTable::build(packs[2], table.pack_len(), &but_one)).unwrap();
    let progress = scrub(&rig);
    assert_eq!((progress.tally.indexes_mended, progress.tally.damaged), (3, 0));
    for (pack, whole) in packs.iter().zip(&whole) {
        assert_eq!(rig.disk.read(&index_path(*pack)), *whole, "{pack}");
    }
    rig.assert_reads(0..60);
    assert_eq!(scrub(&rig).tally.indexes_mended, 0);
}

#[test]
fn of_a_lost_pack_every_needed_chunk_is_named() {
    let rig = sealed();
    let pack = rig.record(7).unwrap().pack;
    let in_it = (0..60).filter(|number| rig.record(*number).unwrap().pack == pack).count();
    rig.disk.as_disk().remove(&pack_path(pack)).unwrap();
    let rig = rig.reopen();
    assert_eq!(scrub(&rig).tally.damaged as usize, in_it);
    assert_eq!(rig.store.damaged().len(), in_it);
}

#[test]
fn a_truncated_pack_is_damage_of_what_was_behind_the_cut() {
    let rig = sealed();
    let pack = rig.record(7).unwrap().pack;
    let bytes = rig.disk.read(&pack_path(pack));
    rig.disk.replace(&pack_path(pack), &bytes[..bytes.len() - 1]);
    let rig = rig.reopen();
    assert_eq!(scrub(&rig).tally.damaged, 1);
}

#[test]
fn a_scrub_that_is_stopped_goes_on_also_after_a_crash() {
    let rig = sealed();
    let packs = rig.pack_records().len() as u64;
    let mut seen = 0;
    let stop = &mut |progress: &ScrubProgress| {
        seen = progress.tally.packs;
        if seen == 2 { Pace::Stop } else { Pace::Go }
    };
    let (_, end) = rig.store.scrub(ScrubPosition::Kept, stop).unwrap();
    assert_eq!(end, ScrubEnd::Stopped);
    let under_way = rig.store.scrub_record().unwrap().under_way.unwrap();
    assert_eq!((under_way.tally.packs, under_way.next_pack), (2, PackId(3)));
    rig.meta.sync().unwrap();
    let rig = rig.crash(Crash::Power);
    let mut first = None;
    let (progress, end) = rig
        .store
        .scrub(ScrubPosition::Kept, &mut |progress| {
            first.get_or_insert(progress.tally.packs);
            Pace::Go
        })
        .unwrap();
    assert_eq!((first, end), (Some(2), ScrubEnd::Done));
    assert_eq!((progress.tally.packs, progress.tally.records), (packs, 60));
    let ended = rig.store.scrub_record().unwrap().ended.unwrap();
    assert_eq!(ended.began, under_way.began);
}

#[test]
fn one_that_is_stopped_within_a_pack_sees_each_block_once() {
    let rig = Rig::with(StoreOptions { pack_target_bytes: 16 << 20, inflight_bytes: 4 << 20, ..options() });
    let mut batch = rig.store.begin();
    let noise = |number: u8| -> Vec<u8> {
        let mut random = u64::from(number) * 2 + 1;
        (0..300_000)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) as u8
            })
            .collect()
    };
    for number in 0..20 {
        batch.put(noise(number).into(), verfs_store::Indexed::Yes).unwrap();
    }
    rig.commit(batch).unwrap();
    let rig = rig.reopen();
    let mut pieces = 0;
    loop {
        let mut asked = 0;
        let (progress, end) = rig
            .store
            .scrub(ScrubPosition::Kept, &mut |_| {
                asked += 1;
                if asked == 2 { Pace::Stop } else { Pace::Go }
            })
            .unwrap();
        pieces += 1;
        assert!(pieces < 20, "it never ends");
        if end == ScrubEnd::Done {
            assert_eq!((progress.tally.records, progress.tally.packs), (20, 1));
            break;
        }
    }
    assert!(pieces > 2, "{pieces} pieces");
}

#[test]
fn without_a_position_nothing_is_written() {
    let rig = sealed();
    let (progress, _) = rig.store.scrub(ScrubPosition::Unkept, &mut |_| Pace::Go).unwrap();
    assert_eq!(progress.tally.records, 60);
    assert_eq!(rig.store.scrub_record().unwrap(), verfs_format::scrub::ScrubRecord::default());
}

#[test]
fn a_locked_vaults_records_are_checked_and_not_opened() {
    let rig = sealed();
    // Plain records, to whom they are locked, are no seals: each one is damage, and none is opened.
    rig.store.close().unwrap();
    let meta: Arc<dyn MetaStore> = Arc::clone(&rig.meta) as Arc<dyn MetaStore>;
    let backend = ChunkBackend::Locked { secret: Box::new(SECRET) };
    let clock = Arc::new(SystemClock::new());
    let locked = ChunkStore::open_backend(rig.disk.as_disk(), meta, backend, clock, rig.options.clone()).unwrap();
    let (progress, _) = locked.scrub(ScrubPosition::Unkept, &mut |_| Pace::Go).unwrap();
    assert_eq!((progress.tally.damaged, progress.tally.sealed), (60, 0));
    assert!(locked.damaged().iter().all(|damage| damage.detail.contains("not sealed")));
}
