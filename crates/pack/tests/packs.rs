//! Packs through a disk: what was appended is read back, damage is noticed, an index can be made again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::io::ErrorKind;

use proptest::prelude::*;
use support::disk::{Call, Crash, Fault, TestDisk};
use support::{PACK, cases, chunk, decoder, seed, write_pack};
use verfs_base::{Disk, PackId, Space};
use verfs_pack::{
    BlockEncoder, BlockSeal, Compression, PackError, PackReader, PackWriter, SealedPacks, index_path, load_index,
    pack_dir, pack_path, remove_pack, scan_pack, seal_pack,
};

fn sealed_packs(disk: &TestDisk) -> SealedPacks {
    SealedPacks::new(disk.as_disk(), decoder(), 1 << 20, 8)
}

/// A sealed pack of chunks `0..count` on a disk of its own.
fn sealed_disk(count: u64) -> TestDisk {
    let disk = TestDisk::new();
    let (file, entries, len) = write_pack(&disk, 0..count);
    seal_pack(&disk, PACK, file.as_ref(), len, &entries).unwrap();
    disk
}

/// Reads chunks `0..count` through the index; the numbers of those that fail with `Damaged`. Anything else is a panic.
fn damaged_chunks(disk: &TestDisk, count: u64) -> Vec<u64> {
    let packs = sealed_packs(disk);
    let table = match packs.index(PACK) {
        Ok(table) => table,
        Err(PackError::Damaged { .. }) => return (0..count).collect(),
        Err(error) => panic!("{error}"),
    };
    (0..count)
        .filter(|number| {
            let (id, data) = chunk(*number);
            match table.find(id).map(|entry| packs.read(PACK, entry)) {
                Some(Ok(read)) => {
                    assert!(read == data, "chunk {number} came back with wrong bytes");
                    false
                }
                None | Some(Err(PackError::Damaged { .. })) => true,
                Some(Err(error)) => panic!("chunk {number}: {error}"),
            }
        })
        .collect()
}

/// How far behind the first block that is written blocks are reserved, on a disk of this size.
fn reserved_bytes(total: u64) -> Option<usize> {
    let disk = TestDisk::new();
    disk.pretend(Space { total, available: total });
    write_pack(&disk, 0..1);
    disk.take_trace().into_iter().find(|(call, ..)| *call == Call::Allocate).map(|(.., len)| len)
}

#[test]
fn a_pack_on_a_small_disk_reserves_little_of_it() {
    assert_eq!(reserved_bytes(1 << 40), Some(8 << 20));
    assert_eq!(reserved_bytes(512 << 20), Some(1 << 20));
    assert_eq!(reserved_bytes(0), None);
}

#[test]
fn a_sealed_pack_gives_back_every_chunk_with_one_read_each() {
    let disk = sealed_disk(100);
    assert_eq!(damaged_chunks(&disk, 100), []);
    let packs = sealed_packs(&disk);
    let entry = packs.index(PACK).unwrap().find(chunk(7).0).unwrap();
    packs.read(PACK, entry).unwrap();
    disk.take_trace();
    packs.read(PACK, entry).unwrap();
    let reads: Vec<Call> = disk.take_trace().into_iter().map(|(call, ..)| call).collect();
    assert_eq!(reads, [Call::Read]);
}

#[test]
fn text_shrinks_and_noise_grows_by_the_header_alone() {
    let disk = TestDisk::new();
    let (_, entries, _) = write_pack(&disk, 0..2);
    let (text, noise) = (chunk(0).1.len(), chunk(1).1.len());
    assert!(text == 1 && entries[0].stored_len == 1, "one byte of text is stored raw");
    assert_eq!(entries[1].stored_len as usize, noise);
    let (_, entries, _) = write_pack(&TestDisk::new(), 2..3);
    assert!((entries[0].stored_len as usize) < chunk(2).1.len() / 10);
}

#[test]
fn every_flipped_byte_of_the_pack_hurts_one_chunk_at_most() {
    let disk = sealed_disk(6);
    let pack = disk.read(&pack_path(PACK));
    let mut hurt = 0;
    for position in (0..pack.len()).step_by(3) {
        let mut damaged = pack.clone();
        damaged[position] ^= 0x40;
        disk.replace(&pack_path(PACK), &damaged);
        let chunks = damaged_chunks(&disk, 6);
        assert!(chunks.len() <= 1, "byte {position} hurts {chunks:?}");
        assert_eq!(chunks.is_empty(), position < 32, "byte {position}: only the pack's own header is no chunk's");
        hurt += chunks.len();
    }
    assert!(hurt > 1000);
}

#[test]
fn a_damaged_or_missing_index_is_made_again_from_the_pack_and_stored() {
    let disk = sealed_disk(20);
    let index = disk.read(&index_path(PACK));
    for position in (0..index.len()).step_by(7) {
        let mut damaged = index.clone();
        damaged[position] ^= 1;
        disk.replace(&index_path(PACK), &damaged);
        assert_eq!(damaged_chunks(&disk, 20), [], "byte {position}");
        assert_eq!(disk.read(&index_path(PACK)), index, "byte {position}: not stored again");
    }
    disk.delete(&index_path(PACK));
    assert_eq!(damaged_chunks(&disk, 20), []);
    assert_eq!(disk.read(&index_path(PACK)), index);
}

#[test]
fn an_index_of_another_pack_is_not_believed() {
    let disk = sealed_disk(5);
    let other = PackId(PACK.0 + 0x100);
    disk.rename(&index_path(PACK), &index_path(other)).unwrap();
    assert!(matches!(load_index(&disk, other), Err(PackError::Damaged { .. })));
}

#[test]
fn a_pack_whose_file_is_gone_is_damage_and_no_panic() {
    let disk = sealed_disk(5);
    disk.delete(&pack_path(PACK));
    assert_eq!(damaged_chunks(&disk, 5), [0, 1, 2, 3, 4]);
    disk.delete(&index_path(PACK));
    assert_eq!(damaged_chunks(&disk, 5), [0, 1, 2, 3, 4]);
}

#[test]
fn a_scan_finds_the_records_in_front_of_a_torn_tail_and_where_they_end() {
    let disk = TestDisk::new();
    let (file, entries, len) = write_pack(&disk, 0..30);
    let whole = disk.read(&pack_path(PACK));
    for cut in [0, 10, 32, 33, 71, 72, 5_000, whole.len() - 1, whole.len()] {
        for tail in [&b""[..], &[0; 700], &[0xa5; 700], b"VblkVblkVblk"] {
            let bytes = [&whole[..cut], tail].concat();
            disk.replace(&pack_path(PACK), &bytes);
            let scan = scan_pack(file.as_ref(), PACK, seed()).unwrap();
            let intact: Vec<_> = entries
                .iter()
                .filter(|entry| (entry.offset + 40 + entry.stored_len) as usize <= cut)
                .copied()
                .collect();
            let found: Vec<_> = scan.blocks.iter().map(|block| block.entry).collect();
            assert_eq!(found, intact, "cut at {cut}");
            let end =
                intact.last().map_or(32.min(bytes.len() as u64), |last| u64::from(last.offset + 40 + last.stored_len));
            assert_eq!((scan.end, scan.skipped_bytes), (end, 0), "cut at {cut}");
            assert_eq!(scan.header_damage.is_some(), cut < 32);
        }
    }
    assert_eq!(len as usize, whole.len());
}

#[test]
fn a_scan_goes_on_behind_damage_and_unreadable_places() {
    let disk = TestDisk::new();
    let (file, entries, _) = write_pack(&disk, 0..30);
    let mut bytes = disk.read(&pack_path(PACK));
    bytes[entries[3].offset as usize + 5] ^= 1;
    bytes[entries[7].offset as usize + 50] ^= 1;
    bytes[2] ^= 1;
    disk.replace(&pack_path(PACK), &bytes);
    let scan = scan_pack(file.as_ref(), PACK, seed()).unwrap();
    let found: Vec<_> = scan.blocks.iter().map(|block| block.entry).collect();
    let expected: Vec<_> = (0..30).filter(|at| *at != 3 && *at != 7).map(|at| entries[at]).collect();
    assert_eq!(found, expected);
    assert_eq!(scan.skipped_bytes, u64::from(entries[3].stored_len + entries[7].stored_len) + 80);
    assert_eq!(scan.header_damage.as_deref(), Some("record has an invalid pack magic"));
    // Two reads fail, the large one and the first block of it; then the disk has recovered.
    disk.fail(Fault { call: Some(Call::Read), after: 0, times: 2, kind: ErrorKind::Other });
    let scan = scan_pack(file.as_ref(), PACK, seed()).unwrap();
    assert_eq!((scan.unreadable_bytes, scan.blocks.len()), (0, 28));
    disk.fail(Fault { call: Some(Call::Read), after: 0, times: u64::MAX, kind: ErrorKind::Other });
    let scan = scan_pack(file.as_ref(), PACK, seed()).unwrap();
    assert!(scan.blocks.is_empty() && scan.unreadable_bytes >= bytes.len() as u64 - 40);
}

#[test]
fn a_pack_inside_a_pack_is_only_data() {
    // A user stores a pack of this size of another volume; then the record that holds it is torn.
    let disk = TestDisk::new();
    let mut foreign = Vec::new();
    let mut encoder =
        BlockEncoder::new(verfs_pack::RecordSeed::of_volume(&[6; 192]), Compression::Level(3), BlockSeal::None)
            .unwrap();
    for number in 1..4 {
        let (id, data) = chunk(number);
        let block = encoder.encode(id, &data).unwrap();
        foreign.extend_from_slice(&block.header_bytes);
        foreign.extend_from_slice(block.stored);
    }
    disk.create_dir_all(&pack_dir(PACK)).unwrap();
    let mut writer = PackWriter::create(&disk, PACK).unwrap();
    let mut ours = support::encoder(3);
    writer.append(&ours.encode(chunk(9).0, &foreign).unwrap());
    writer.take_write(Vec::new()).run().unwrap();
    let mut bytes = disk.read(&pack_path(PACK));
    bytes[36] ^= 1;
    disk.replace(&pack_path(PACK), &bytes);
    assert!(bytes.windows(4).filter(|window| *window == b"Vblk").count() >= 3, "the foreign records are there");
    assert!(scan_pack(writer.file().as_ref(), PACK, seed()).unwrap().blocks.is_empty());
}

#[test]
fn an_existing_file_is_never_overwritten_by_a_new_pack() {
    let disk = sealed_disk(3);
    let before = disk.read(&pack_path(PACK));
    let refused = PackWriter::create(&disk, PACK).map(drop);
    assert!(matches!(refused, Err(PackError::Io { kind: ErrorKind::AlreadyExists, .. })), "{refused:?}");
    assert_eq!(disk.read(&pack_path(PACK)), before);
}

#[test]
fn rewinding_overwrites_what_was_behind() {
    let disk = TestDisk::new();
    disk.create_dir_all(&pack_dir(PACK)).unwrap();
    let mut writer = PackWriter::create(&disk, PACK).unwrap();
    let mut encoder = support::encoder(3);
    let mut append = |writer: &mut PackWriter, number: u64| {
        let (id, data) = chunk(number);
        let entry = writer.append(&encoder.encode(id, &data).unwrap());
        writer.take_write(Vec::new()).run().unwrap();
        entry
    };
    let first = append(&mut writer, 1);
    let (len, blocks) = (writer.len(), writer.blocks());
    append(&mut writer, 3);
    writer.rewind(len, blocks);
    let second = append(&mut writer, 5);
    assert_eq!(u64::from(second.offset), len);
    let reader = PackReader::open(&disk, PACK).unwrap();
    for (number, entry) in [(1, first), (5, second)] {
        assert_eq!(reader.read(&decoder(), entry).unwrap(), chunk(number).1);
    }
}

#[test]
fn sealing_survives_a_failure_at_every_call_and_a_crash_after_it() {
    for (kind, is_full) in [(ErrorKind::StorageFull, true), (ErrorKind::Other, false)] {
        for failing in 0.. {
            let disk = TestDisk::new();
            let (file, entries, len) = write_pack(&disk, 0..10);
            disk.create_dir_all(&pack_dir(PACK)).unwrap();
            disk.sync_dir(std::path::Path::new("packs")).unwrap();
            disk.sync_dir(std::path::Path::new("")).unwrap();
            disk.fail(Fault { call: None, after: failing, times: 1, kind });
            let sealed = seal_pack(&disk, PACK, file.as_ref(), len, &entries);
            disk.heal();
            for crash in [Crash::Process, Crash::Power, Crash::Torn(failing)] {
                let after = disk.crash(crash);
                if sealed.is_ok() {
                    assert!(load_index(&after, PACK).unwrap().is_some(), "sealed is durable");
                }
                assert_eq!(damaged_chunks(&after, 10), [], "call {failing}, {crash:?}");
            }
            if sealed.is_ok() {
                assert!(failing > 5, "sealing makes more calls than {failing}");
                break;
            }
            assert_eq!(matches!(sealed, Err(PackError::OutOfSpace { .. })), is_full, "call {failing}");
            seal_pack(&disk, PACK, file.as_ref(), len, &entries).unwrap();
            assert_eq!(damaged_chunks(&disk, 10), []);
        }
    }
}

#[test]
fn a_removed_pack_leaves_nothing() {
    let disk = sealed_disk(3);
    remove_pack(&disk, PACK).unwrap();
    assert_eq!(disk.paths(), Vec::<std::path::PathBuf>::new());
    remove_pack(&disk, PACK).unwrap();
}

#[test]
fn index_memory_and_open_files_stay_within_their_bounds() {
    let disk = TestDisk::new();
    for number in 0..40 {
        let pack = PackId(number);
        disk.create_dir_all(&pack_dir(pack)).unwrap();
        let mut writer = PackWriter::create(&disk, pack).unwrap();
        let mut encoder = support::encoder(1);
        let entries: Vec<_> = (0..50)
            .map(|at| {
                let (id, data) = chunk(number * 50 + at);
                writer.append(&encoder.encode(id, &data).unwrap())
            })
            .collect();
        writer.take_write(Vec::new()).run().unwrap();
        seal_pack(&disk, pack, writer.file().as_ref(), writer.len(), &entries).unwrap();
    }
    // Room for some six indexes and four files.
    let packs = SealedPacks::new(disk.as_disk(), decoder(), 8 << 10, 4);
    for round in 0..3 {
        disk.take_trace();
        for number in 0..40 {
            let entry = packs.index(PackId(number)).unwrap().find(chunk(number * 50).0).unwrap();
            assert_eq!(packs.read(PackId(number), entry).unwrap(), chunk(number * 50).1);
        }
        let opened = disk.take_trace().iter().filter(|(call, ..)| *call == Call::Open).count();
        assert!(round == 0 || opened >= 60, "{opened} files were opened: more is cached than allowed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(150)))]

    #[test]
    fn mutated_packs_and_indexes_never_give_wrong_bytes(
        changes in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let disk = sealed_disk(12);
        let (mut pack, mut index) = (disk.read(&pack_path(PACK)), disk.read(&index_path(PACK)));
        for (in_pack, position, byte) in changes {
            let bytes = if in_pack { &mut pack } else { &mut index };
            let position = position.index(bytes.len());
            bytes[position] = byte;
        }
        if let Some(cut) = cut {
            pack.truncate(cut.index(pack.len()));
        }
        disk.replace(&pack_path(PACK), &pack);
        disk.replace(&index_path(PACK), &index);
        damaged_chunks(&disk, 12);
    }

    #[test]
    fn any_bytes_are_scanned_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), magics in proptest::collection::vec(0usize..3000, 0..20)) {
        let disk = TestDisk::new();
        let (file, ..) = write_pack(&disk, 0..1);
        let mut bytes = bytes;
        for at in magics {
            if at + 4 <= bytes.len() {
                bytes[at..at + 4].copy_from_slice(b"Vblk");
            }
        }
        disk.replace(&pack_path(PACK), &bytes);
        prop_assert!(scan_pack(file.as_ref(), PACK, seed()).unwrap().blocks.is_empty());
    }
}
