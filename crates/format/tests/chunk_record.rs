//! Chunk, pack and store records: one encoding for every value, and no value for anything else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use support::{cases, check_golden};
use verfs_base::{ChunkId, PackId};
use verfs_format::DecodeError;
use verfs_format::chunk_record::{ChunkRecord, PackRecord, PackState, StoreRecord, chunk_key, pack_key};
use verfs_format::pack::{CHUNK_MAX_BYTES, STORED_MAX_BYTES};

fn sample_chunk() -> ChunkRecord {
    ChunkRecord { refcount: 300, pack: PackId(7), raw_len: 65_536, stored_len: 20_000 }
}

fn sample_pack() -> PackRecord {
    PackRecord { state: PackState::Sealed, blocks: 2000, block_bytes: 67_000_000, dead_blocks: 3, dead_bytes: 90_000 }
}

fn sample_store() -> StoreRecord {
    StoreRecord {
        next_pack: 9,
        packs: 8,
        chunks: 16_000,
        unique_bytes: 524_288_000,
        stored_bytes: 200_000_000,
        dead_bytes: 90_000,
        dedup_hits: 12,
        dedup_misses: 16_000,
        unsealed: vec![PackId(6), PackId(8)],
    }
}

#[test]
fn version_1_is_what_it_was_when_it_was_released() {
    check_golden("chunk.record", &sample_chunk().encode());
    check_golden("pack.record", &sample_pack().encode());
    check_golden("store.record", &sample_store().encode());
    assert_eq!(ChunkRecord::decode(&sample_chunk().encode()).unwrap(), sample_chunk());
    assert_eq!(PackRecord::decode(&sample_pack().encode()).unwrap(), sample_pack());
    assert_eq!(StoreRecord::decode(&sample_store().encode()).unwrap(), sample_store());
}

#[test]
fn keys_sort_as_their_numbers_do() {
    assert_eq!(chunk_key(ChunkId([0xab; 16]))[..2], [b'c', 0xab]);
    assert_eq!(pack_key(PackId(0x0102))[..], [b'p', 0, 0, 0, 0, 0, 0, 1, 2]);
    assert!(pack_key(PackId(255)) < pack_key(PackId(256)));
}

#[test]
fn a_chunk_counts_with_its_record_header() {
    assert_eq!(sample_chunk().block_bytes(), 20_040);
}

#[test]
fn lengths_that_no_chunk_has_are_refused() {
    for (raw_len, stored_len) in [(0, 1), (1, 0), (CHUNK_MAX_BYTES + 1, 1), (1, STORED_MAX_BYTES + 1)] {
        let record = ChunkRecord { raw_len, stored_len, ..sample_chunk() };
        assert_eq!(ChunkRecord::decode(&record.encode()), Err(DecodeError::Invalid("chunk length")));
    }
}

#[test]
fn unsealed_packs_rise_and_exist() {
    for unsealed in [vec![PackId(8), PackId(6)], vec![PackId(6), PackId(6)], vec![PackId(9)]] {
        let record = StoreRecord { unsealed, ..sample_store() };
        assert_eq!(StoreRecord::decode(&record.encode()), Err(DecodeError::Invalid("unsealed pack")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1000)))]

    #[test]
    fn any_bytes_decode_to_nothing_or_to_what_encodes_to_them(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(record) = ChunkRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        if let Ok(record) = PackRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        if let Ok(record) = StoreRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes);
        }
    }

    #[test]
    fn any_values_come_back(
        numbers in any::<[u64; 8]>(), raw_len in 1..=CHUNK_MAX_BYTES, stored_len in 1..=STORED_MAX_BYTES,
        unsealed in proptest::collection::btree_set(any::<u64>(), 0..5), sealed in any::<bool>(),
    ) {
        let chunk = ChunkRecord { refcount: numbers[0], pack: PackId(numbers[1]), raw_len, stored_len };
        prop_assert_eq!(ChunkRecord::decode(&chunk.encode()), Ok(chunk));
        let state = if sealed { PackState::Sealed } else { PackState::Open };
        let pack = PackRecord {
            state, blocks: numbers[2], block_bytes: numbers[3], dead_blocks: numbers[4], dead_bytes: numbers[5],
        };
        prop_assert_eq!(PackRecord::decode(&pack.encode()), Ok(pack));
        let store = StoreRecord {
            next_pack: u64::MAX, packs: numbers[1], chunks: numbers[2], unique_bytes: numbers[3], stored_bytes: numbers[4],
            dead_bytes: numbers[5], dedup_hits: numbers[6], dedup_misses: numbers[7],
            unsealed: unsealed.into_iter().filter(|pack| *pack < u64::MAX).map(PackId).collect(),
        };
        prop_assert_eq!(StoreRecord::decode(&store.encode()), Ok(store));
    }
}
