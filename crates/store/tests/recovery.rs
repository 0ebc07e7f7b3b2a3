//! Crashes and damage: what was committed is there or is an error, never something else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::io::ErrorKind;
use std::sync::Arc;

use support::disk::{Call, Crash, Fault};
use support::{Rig, chunk, is_damaged, options};
use verfs_base::PackId;
use verfs_meta::{MemoryStore, WriteBatch};
use verfs_pack::{index_path, pack_path};
use verfs_store::{ChunkBatch, Indexed, Leftovers, StoreError, StoreOptions};

fn big_packs() -> StoreOptions {
    StoreOptions { pack_target_bytes: 16 << 20, chunk_cache_bytes: 0, ..options() }
}

/// Chunks 0..40 committed in one open pack, then the process dies.
fn crashed() -> Rig {
    let rig = Rig::with(big_packs());
    rig.put_all(0..20);
    rig.put_all(20..40);
    rig
}

fn only_pack(rig: &Rig) -> PackId {
    let record = rig.record(0).unwrap();
    assert!((0..40).all(|number| rig.record(number).is_some_and(|other| other.pack == record.pack)));
    record.pack
}

/// Opens what is on the rig's disk as it is now, as after the death of the process.
fn restart(rig: Rig) -> Rig {
    rig.crash(Crash::Process)
}

#[test]
fn an_unsealed_pack_is_scanned_and_sealed() {
    let rig = crashed();
    let pack = only_pack(&rig);
    assert_eq!(rig.store_record().unsealed, [pack]);
    let rig = restart(rig);
    assert_eq!(rig.files("vpi"), [index_path(pack)]);
    assert!(rig.store_record().unsealed.is_empty());
    rig.assert_reads(0..40);
    rig.put_all(40..50);
    assert_ne!(rig.record(45).unwrap().pack, pack, "a sealed pack never grows");
    rig.reopen().assert_reads(0..50);
}

#[test]
fn a_torn_tail_is_cut_and_hurts_no_committed_chunk() {
    for tail in [&b""[..], b"V", b"Vblk", &[0; 5000], &[0xee; 5000]] {
        let rig = crashed();
        let pack = only_pack(&rig);
        let honest = rig.disk.read(&pack_path(pack));
        rig.disk.replace(&pack_path(pack), &[&honest[..], tail].concat());
        let rig = restart(rig);
        rig.assert_reads(0..40);
        assert_eq!(rig.disk.read(&pack_path(pack)), honest, "the tail is cut");
        assert_eq!(rig.store.damaged(), []);
        assert_eq!(rig.pack_record(pack).dead_blocks, 0);
    }
}

#[test]
fn whole_blocks_of_an_uncommitted_batch_are_dead() {
    let rig = crashed();
    let pack = only_pack(&rig);
    let mut batch = rig.store.begin();
    for number in 100..110 {
        batch.put(chunk(number), Indexed::Yes).unwrap();
    }
    batch.finish(&mut WriteBatch::new()).unwrap();
    let rig = {
        let (disk, meta) = (rig.disk.crash(Crash::Process), Arc::new(rig.meta.crash(usize::MAX)));
        drop(batch);
        Rig::on(disk, meta, rig.options.clone())
    };
    let record = rig.pack_record(pack);
    assert_eq!((record.blocks, record.dead_blocks), (50, 10));
    assert_eq!(rig.store.stats().dead_bytes, record.dead_bytes);
    assert!(matches!(rig.store.read(rig.store.id_of(&chunk(100))), Err(StoreError::Missing { .. })));
    rig.put_all(100..110);
    rig.assert_reads((0..40).chain(100..110));
}

#[test]
fn a_pack_cut_short_loses_what_was_behind_the_cut_and_says_so() {
    let rig = crashed();
    let pack = only_pack(&rig);
    let honest = rig.disk.read(&pack_path(pack));
    rig.disk.replace(&pack_path(pack), &honest[..honest.len() / 2]);
    let rig = restart(rig);
    let mut lost = 0;
    for number in 0..40 {
        match rig.store.read(rig.store.id_of(&chunk(number))) {
            Ok(data) => assert_eq!(data, chunk(number)),
            error => {
                assert!(is_damaged(&error), "{error:?}");
                lost += 1;
            }
        }
    }
    assert!(lost > 5 && lost < 35, "{lost}");
    assert_eq!(rig.store.damaged().len(), lost);
    assert_eq!(
        rig.disk.read(&pack_path(pack)).len(),
        honest.len() / 2,
        "nothing is cut where committed blocks are missing"
    );
}

#[test]
fn damage_in_an_unsealed_pack_hurts_no_block_behind_it() {
    let rig = crashed();
    let pack = only_pack(&rig);
    let mut bytes = rig.disk.read(&pack_path(pack));
    bytes[100] ^= 1;
    rig.disk.replace(&pack_path(pack), &bytes);
    let rig = restart(rig);
    let damaged = (0..40).filter(|number| is_damaged(&rig.store.read(rig.store.id_of(&chunk(*number))))).count();
    assert_eq!(damaged, 1);
}

#[test]
fn an_unreadable_place_keeps_the_pack_as_it_is() {
    let rig = crashed();
    let pack = only_pack(&rig);
    let (disk, meta) = (rig.disk.crash(Crash::Process), Arc::new(rig.meta.crash(usize::MAX)));
    let before = disk.read(&pack_path(pack));
    disk.fail(Fault { call: Some(Call::Read), after: 0, times: u64::MAX, kind: ErrorKind::Other });
    let rig = Rig::on(disk, meta, big_packs());
    assert!(matches!(
        rig.store.read(rig.store.id_of(&chunk(1))),
        Err(StoreError::Io { .. } | StoreError::Damaged { .. })
    ));
    rig.disk.heal();
    rig.put_all(50..60);
    let rig = rig.reopen();
    assert_eq!(rig.disk.read(&pack_path(pack)), before);
    rig.assert_reads((0..40).chain(50..60));
}

#[test]
fn a_missing_or_damaged_index_is_made_again() {
    for damage in 0..4 {
        let rig = crashed();
        let pack = only_pack(&rig);
        let rig = rig.reopen();
        let index = rig.disk.read(&index_path(pack));
        match damage {
            0 => rig.disk.delete(&index_path(pack)),
            1 => rig.disk.replace(&index_path(pack), &[]),
            2 => rig.disk.replace(&index_path(pack), &index[..index.len() - 1]),
            _ => rig.disk.replace(&index_path(pack), &[&index[..40], &[0xff], &index[41..]].concat()),
        }
        let rig = restart(rig);
        rig.assert_reads(0..40);
        assert_eq!(rig.disk.read(&index_path(pack)), index);
    }
}

/// Chunks `0..14` committed, and packs with chunks `100..160` of a batch that is not.
fn with_uncommitted_packs(options: StoreOptions) -> (Rig, ChunkBatch) {
    let rig = Rig::with(StoreOptions { pack_target_bytes: 24 << 10, ..options });
    rig.put_all(0..14);
    rig.wait_sealed();
    let mut batch = rig.store.begin();
    for number in 100..160 {
        batch.put(chunk(number), Indexed::Yes).unwrap();
    }
    batch.finish(&mut WriteBatch::new()).unwrap();
    (rig, batch)
}

/// The store after its process died with a batch that never ended.
fn killed(rig: &Rig, batch: ChunkBatch) -> Rig {
    let (disk, meta) = (rig.disk.crash(Crash::Process), Arc::new(rig.meta.crash(usize::MAX)));
    drop(batch);
    Rig::on(disk, meta, rig.options.clone())
}

#[test]
fn packs_of_batches_that_were_never_committed_are_removed_when_the_volume_opens() {
    let (rig, batch) = with_uncommitted_packs(options());
    let before = rig.files("vpk").len();
    let rig = killed(&rig, batch);
    assert!(rig.files("vpk").len() + 3 < before, "{} of {before} packs are left", rig.files("vpk").len());
    rig.assert_reads(0..14);
    rig.put_all(100..160);
    rig.reopen().assert_reads((0..14).chain(100..160));
}

#[test]
fn packs_that_nobody_can_tell_for_leftovers_stay_and_their_numbers_are_passed_over() {
    let (rig, batch) = with_uncommitted_packs(StoreOptions { leftovers: Leftovers::Keep, ..options() });
    let before: Vec<_> = rig.files("vpk").into_iter().map(|path| (path.clone(), rig.disk.read(&path))).collect();
    let rig = killed(&rig, batch);
    rig.put_all(200..260);
    let rig = rig.reopen();
    rig.assert_reads((0..14).chain(200..260));
    for (path, bytes) in before.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        assert!(rig.disk.read(path).starts_with(bytes), "{} changed", path.display());
    }
}

#[test]
fn packs_without_metadata_are_left_alone() {
    let rig = crashed();
    let pack = only_pack(&rig);
    let before = rig.disk.read(&pack_path(pack));
    let rig = Rig::on(rig.disk.crash(Crash::Process), Arc::new(MemoryStore::new()), big_packs());
    assert!(matches!(rig.store.read(rig.store.id_of(&chunk(1))), Err(StoreError::Missing { .. })));
    rig.put_all(500..510);
    assert_ne!(rig.record(500).unwrap().pack, pack);
    let rig = rig.reopen();
    rig.assert_reads(500..510);
    assert_eq!(rig.disk.read(&pack_path(pack)), before);
}

#[test]
fn every_flipped_byte_is_damage_of_one_chunk_or_nothing() {
    let rig = Rig::with(big_packs());
    rig.put_all(0..6);
    let pack = rig.record(0).unwrap().pack;
    let rig = rig.reopen();
    let honest = rig.disk.read(&pack_path(pack));
    for position in (0..honest.len()).step_by(11) {
        let mut bytes = honest.clone();
        bytes[position] ^= 0x10;
        rig.disk.replace(&pack_path(pack), &bytes);
        let mut hurt = 0;
        for number in 0..6 {
            match rig.store.read(rig.store.id_of(&chunk(number))) {
                Ok(data) => assert_eq!(data, chunk(number), "byte {position}"),
                Err(StoreError::Damaged { pack: named, .. }) => {
                    assert_eq!(named, pack);
                    hurt += 1;
                }
                Err(error) => panic!("byte {position}: {error}"),
            }
        }
        assert_eq!(hurt, usize::from(position >= 32), "byte {position}");
    }
    rig.disk.replace(&pack_path(pack), &honest);
    rig.assert_reads(0..6);
}

#[test]
fn damage_is_listed_once_with_its_pack_and_putting_the_chunk_again_heals_it() {
    let rig = Rig::with(big_packs());
    rig.put_all(0..6);
    let pack = rig.record(2).unwrap().pack;
    let rig = rig.reopen();
    let id = rig.store.id_of(&chunk(2));
    let mut bytes = rig.disk.read(&pack_path(pack));
    let place = bytes.windows(16).position(|window| window == id.0).unwrap();
    bytes[place + 40] ^= 1;
    rig.disk.replace(&pack_path(pack), &bytes);
    for _ in 0..3 {
        assert!(is_damaged(&rig.store.read(id)));
    }
    let damaged = rig.store.damaged();
    assert_eq!(damaged.len(), 1);
    assert_eq!((damaged[0].chunk, damaged[0].pack), (id, pack));
    assert!(damaged[0].detail.contains("checksum"), "{}", damaged[0].detail);
    assert_eq!(rig.store.stats().damaged, 1);

    let old = rig.record(2).unwrap();
    rig.put_all(2..3);
    let new = rig.record(2).unwrap();
    assert_eq!((new.refcount, old.refcount), (2, 1));
    assert_ne!(new.pack, pack);
    assert_eq!(rig.store.read(id).unwrap(), chunk(2));
    assert_eq!(rig.store.damaged(), []);
    assert_eq!(rig.pack_record(pack).dead_bytes, old.block_bytes());
    assert_eq!(rig.store.stats().chunks, 6);
    rig.reopen().assert_reads(0..6);
}

#[test]
fn a_chunk_record_that_names_the_wrong_pack_is_damage() {
    let rig = Rig::with(StoreOptions { pack_target_bytes: 24 << 10, chunk_cache_bytes: 0, ..options() });
    rig.put_all(0..40);
    let rig = rig.reopen();
    use verfs_meta::MetaStore;
    let mut record = rig.record(1).unwrap();
    for pack in [PackId(record.pack.0 + 1), PackId(999)] {
        record.pack = pack;
        let mut batch = WriteBatch::new();
        let id = rig.store.id_of(&chunk(1));
        batch.put(verfs_format::chunk_record::chunk_key(id).to_vec(), record.encode());
        rig.meta.commit(batch).unwrap();
        let read = rig.store.read(id);
        assert!(is_damaged(&read), "{pack}: {read:?}");
    }
}

#[test]
fn a_pack_whose_length_can_not_be_told_keeps_nobody_from_opening() {
    let rig = Rig::with(StoreOptions { pack_target_bytes: 24 << 10, chunk_cache_bytes: 0, ..options() });
    rig.put_all(0..41);
    rig.wait_sealed();
    rig.put_all(40..41);
    let open = rig.store_record().unsealed;
    let in_open: Vec<u64> = (0..41).filter(|number| open.contains(&rig.record(*number).unwrap().pack)).collect();
    assert!(!in_open.is_empty() && in_open.len() < 41);
    let (disk, meta) = (rig.disk.crash(Crash::Power), Arc::new(rig.meta.crash(0)));
    disk.fail(Fault { call: Some(Call::Len), after: 0, times: 1, kind: ErrorKind::Other });
    let rig = Rig::on(disk, meta, rig.options.clone());
    rig.assert_reads((0..41).filter(|number| !in_open.contains(number)));
    rig.disk.heal();
    let rig = rig.reopen();
    rig.assert_reads(0..41);
}
