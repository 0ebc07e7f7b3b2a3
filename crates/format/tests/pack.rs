//! Packs and their indexes: what was written is read back, and wrong bytes are never taken for it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use support::{cases, check_golden, golden_path};
use verfs_base::{ChunkId, PackId};
use verfs_format::DecodeError;
use verfs_format::pack::{
    CHUNK_MAX_BYTES, PACK_HEADER_BYTES, RECORD_HEADER_BYTES, RecordHeader, RecordSeed, STORED_MAX_BYTES,
    decode_pack_header, encode_pack_header,
};
use verfs_format::pack_index::{IndexEntry, IndexTable};

const PACK: PackId = PackId(0x0102_0304_0506_0708);

fn seed() -> RecordSeed {
    RecordSeed::of_volume(&std::array::from_fn(|position| position as u8))
}

fn id(number: u8) -> ChunkId {
    ChunkId(std::array::from_fn(|position| number.wrapping_mul(31).wrapping_add(position as u8 * 5)))
}

/// A pack of three records, and where they are.
fn sample_pack() -> (Vec<u8>, Vec<IndexEntry>) {
    let mut pack = encode_pack_header(PACK).to_vec();
    let mut entries = Vec::new();
    for (number, stored) in [(1, &b"raw bytes"[..]), (2, &[7; 300]), (3, &[0])] {
        let header = RecordHeader {
            chunk: id(number),
            raw_len: stored.len() as u32 * u32::from(number),
            stored_len: stored.len() as u32,
            encoding: u8::from(number > 1),
        };
        entries.push(IndexEntry { chunk: id(number), offset: pack.len() as u32, stored_len: header.stored_len });
        pack.extend_from_slice(&header.encode(seed(), stored));
        pack.extend_from_slice(stored);
    }
    (pack, entries)
}

fn read_all(pack: &[u8], entries: &[IndexEntry]) -> Vec<Result<(RecordHeader, Vec<u8>), DecodeError>> {
    entries
        .iter()
        .map(|entry| {
            let record = &pack[(entry.offset as usize).min(pack.len())..];
            RecordHeader::decode(seed(), record).map(|(header, stored)| (header, stored.to_vec()))
        })
        .collect()
}

#[test]
fn version_1_of_packs_is_what_it_was_when_it_was_released() {
    let (pack, entries) = sample_pack();
    check_golden("pack.vpk", &pack);
    let golden = std::fs::read(golden_path("pack.vpk")).unwrap();
    assert_eq!(decode_pack_header(&golden).unwrap(), PACK);
    let read = read_all(&golden, &entries);
    assert_eq!(read[0].as_ref().unwrap().1, b"raw bytes");
    assert_eq!(read[1].as_ref().unwrap().0, RecordHeader { chunk: id(2), raw_len: 600, stored_len: 300, encoding: 1 });
    assert_eq!(read[2].as_ref().unwrap().1, [0]);
}

#[test]
fn version_1_of_indexes_is_what_it_was_when_it_was_released() {
    let (pack, entries) = sample_pack();
    check_golden("pack.vpi", IndexTable::build(PACK, pack.len() as u64, &entries).as_bytes());
    let golden = std::fs::read(golden_path("pack.vpi")).unwrap();
    let table = IndexTable::decode(golden.into()).unwrap();
    assert_eq!((table.pack(), table.pack_len(), table.len()), (PACK, pack.len() as u64, 3));
    for entry in entries {
        assert_eq!(table.find(entry.chunk), Some(entry));
    }
    assert_eq!(table.find(id(9)), None);
}

#[test]
fn every_flipped_bit_of_a_record_is_noticed() {
    let (pack, entries) = sample_pack();
    let honest = read_all(&pack, &entries);
    for position in PACK_HEADER_BYTES..pack.len() {
        for bit in 0..8 {
            let mut pack = pack.clone();
            pack[position] ^= 1 << bit;
            let damaged = entries.iter().rposition(|entry| entry.offset as usize <= position).unwrap();
            for (number, (read, honest)) in read_all(&pack, &entries).iter().zip(&honest).enumerate() {
                if number == damaged {
                    assert!(read.is_err(), "bit {bit} of byte {position} went unnoticed");
                } else {
                    assert_eq!(read, honest);
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_pack_header_is_noticed() {
    let header = encode_pack_header(PACK);
    for bit in 0..PACK_HEADER_BYTES * 8 {
        let mut header = header;
        header[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_pack_header(&header).is_err(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_an_index_is_noticed() {
    let (pack, entries) = sample_pack();
    let index = IndexTable::build(PACK, pack.len() as u64, &entries).as_bytes().to_vec();
    for bit in 0..index.len() * 8 {
        let mut index = index.clone();
        index[bit / 8] ^= 1 << (bit % 8);
        assert!(IndexTable::decode(index.into()).is_err(), "bit {bit}");
    }
    for len in 0..index.len() {
        assert!(IndexTable::decode(Bytes::copy_from_slice(&index[..len])).is_err(), "length {len}");
    }
}

#[test]
fn a_record_of_another_volume_is_none_of_ours() {
    let (pack, entries) = sample_pack();
    let other = RecordSeed::of_volume(&[9; 192]);
    let record = &pack[entries[0].offset as usize..];
    assert_eq!(RecordHeader::decode(other, record), Err(DecodeError::Checksum));
}

#[test]
fn lengths_out_of_bounds_are_refused_before_anything_is_read_by_them() {
    for (raw_len, stored_len) in
        [(0, 5), (5, 0), (CHUNK_MAX_BYTES + 1, 5), (5, STORED_MAX_BYTES + 1), (u32::MAX, u32::MAX)]
    {
        let mut bytes = RecordHeader { chunk: id(1), raw_len: 5, stored_len: 5, encoding: 0 }.encode(seed(), b"12345");
        bytes[20..24].copy_from_slice(&raw_len.to_le_bytes());
        bytes[24..28].copy_from_slice(&stored_len.to_le_bytes());
        assert_eq!(RecordHeader::decode_unverified(&bytes), Err(DecodeError::Invalid("record length")));
    }
}

#[test]
fn of_several_entries_of_one_chunk_the_last_counts() {
    let entry = |number: u8, offset: u32| IndexEntry { chunk: id(number), offset, stored_len: 10 };
    let table = IndexTable::build(PACK, 10_000, &[entry(1, 100), entry(2, 200), entry(1, 300), entry(1, 400)]);
    assert_eq!(table.len(), 2);
    assert_eq!(table.find(id(1)), Some(entry(1, 400)));
    assert_eq!(table.find(id(2)), Some(entry(2, 200)));
    let again = IndexTable::decode(table.as_bytes().clone()).unwrap();
    assert!(again.iter().eq(table.iter()));
}

#[test]
fn an_index_with_a_right_checksum_and_wrong_contents_is_refused() {
    let entry = |offset: u32, stored_len: u32| IndexEntry { chunk: id(1), offset, stored_len };
    for bad in [entry(0, 10), entry(31, 10), entry(40, 0), entry(40, STORED_MAX_BYTES + 1), entry(60, 10)] {
        let bytes = IndexTable::build(PACK, 100, &[bad]).as_bytes().clone();
        assert_eq!(IndexTable::decode(bytes).unwrap_err(), DecodeError::Invalid("index entry"), "{bad:?}");
    }
    let fits = IndexTable::build(PACK, 100, &[entry(50, 10)]).as_bytes().clone();
    assert!(IndexTable::decode(fits).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1000)))]

    #[test]
    fn random_bytes_are_no_record_and_no_index(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), magic in 0..4) {
        let start: &[u8] = match magic { 0 => b"Vblk", 1 => b"VerFSidx\x01\0\0\0", 2 => b"VerFSpak\x01\0\0\0", _ => b"" };
        let len = start.len().min(bytes.len());
        bytes[..len].copy_from_slice(&start[..len]);
        prop_assert!(RecordHeader::decode(seed(), &bytes).is_err());
        prop_assert!(decode_pack_header(&bytes).is_err());
        prop_assert!(IndexTable::decode(bytes.into()).is_err());
    }

    #[test]
    fn a_record_comes_back(
        chunk in any::<[u8; 16]>(), raw_len in 1..=CHUNK_MAX_BYTES, encoding in any::<u8>(),
        stored in proptest::collection::vec(any::<u8>(), 1..5000), rest in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let header = RecordHeader { chunk: ChunkId(chunk), raw_len, stored_len: stored.len() as u32, encoding };
        let mut record = header.encode(seed(), &stored).to_vec();
        record.extend_from_slice(&stored);
        prop_assert_eq!(record.len() as u32, header.record_bytes());
        record.extend_from_slice(&rest);
        prop_assert_eq!(RecordHeader::decode(seed(), &record), Ok((header, &stored[..])));
        prop_assert!(RecordHeader::decode(seed(), &record[..RECORD_HEADER_BYTES + stored.len() - 1]).is_err());
    }

    #[test]
    fn an_index_finds_exactly_what_it_was_built_of(
        ids in proptest::collection::btree_set(any::<[u8; 16]>(), 0..200), other in any::<[u8; 16]>(),
        crowded in proptest::sample::select(vec![0xff, 0x0f, 0x01, 0x00]),
    ) {
        // Ids are looked for where hashes would be; these are not spread as hashes are.
        let ids: std::collections::BTreeSet<[u8; 16]> = ids
            .into_iter()
            .map(|mut id| {
                id[0] = id[0] & crowded | !crowded & other[1];
                id
            })
            .collect();
        let entries: Vec<IndexEntry> = ids
            .iter()
            .enumerate()
            .map(|(at, id)| IndexEntry { chunk: ChunkId(*id), offset: 32 + at as u32 * 50, stored_len: 1 + at as u32 % 10 })
            .collect();
        let built = IndexTable::build(PACK, 1 << 20, &entries);
        let table = IndexTable::decode(built.as_bytes().clone()).unwrap();
        prop_assert_eq!(table.len(), entries.len());
        for entry in &entries {
            prop_assert_eq!(table.find(entry.chunk), Some(*entry));
        }
        prop_assert_eq!(table.find(ChunkId(other)).is_some(), ids.contains(&other));
    }
}
