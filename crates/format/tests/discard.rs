//! The work list of garbage collection: one encoding, bound to its round.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use support::{cases, check_golden};
use verfs_base::{ChunkId, PackId};
use verfs_format::DecodeError;
use verfs_format::discard::{
    DISCARD_HEADER_BYTES, DiscardCheckpoint, DiscardFrame, decode_discard_header, encode_discard_header,
    parse_removed_pack, removed_pack_key,
};

const ROUND: u64 = 5;

fn frames() -> Vec<DiscardFrame> {
    let ids = |numbers: &[u8]| numbers.iter().map(|number| ChunkId([*number; 16])).collect();
    vec![
        DiscardFrame { pack: PackId(7), dead_bytes: 90_000, chunks: ids(&[1, 2, 200]) },
        DiscardFrame { pack: PackId(3), dead_bytes: 12, chunks: ids(&[9]) },
        DiscardFrame { pack: PackId(8), dead_bytes: 0, chunks: Vec::new() },
    ]
}

fn list() -> Vec<u8> {
    let mut bytes = encode_discard_header(ROUND).to_vec();
    for frame in frames() {
        frame.encode(ROUND, &mut bytes);
    }
    bytes
}

#[test]
fn version_1_is_what_it_was_when_it_was_released() {
    let checkpoint = DiscardCheckpoint { round: ROUND, length: 1000, done: 32, packs: 3, ids: 4, dead_bytes: 90_012 };
    check_golden("gc.DISCARD", &list());
    check_golden("gc.checkpoint", &checkpoint.encode());
    assert_eq!(DiscardCheckpoint::decode(&checkpoint.encode()).unwrap(), checkpoint);
    let bytes = list();
    assert_eq!(decode_discard_header(&bytes).unwrap(), ROUND);
    let mut at = DISCARD_HEADER_BYTES;
    for expected in frames() {
        let (frame, len) = DiscardFrame::decode(ROUND, &bytes[at..]).unwrap();
        assert_eq!(frame, expected);
        at += len;
    }
    assert_eq!(at, bytes.len());
}

#[test]
fn a_frame_of_another_round_or_with_any_bit_changed_is_refused() {
    let mut bytes = Vec::new();
    frames()[0].encode(ROUND, &mut bytes);
    assert_eq!(DiscardFrame::decode(ROUND + 1, &bytes), Err(DecodeError::Checksum));
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(DiscardFrame::decode(ROUND, &changed).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(DiscardFrame::decode(ROUND, &bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_header_with_any_bit_changed_is_refused() {
    for bit in 0..DISCARD_HEADER_BYTES * 8 {
        let mut changed = encode_discard_header(ROUND);
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_discard_header(&changed).is_err(), "bit {bit}");
    }
}

#[test]
fn keys_of_removed_packs_sort_as_their_numbers_do() {
    assert_eq!(removed_pack_key(PackId(0x0102))[..], [b'r', 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(parse_removed_pack(&removed_pack_key(PackId(77))), Some(PackId(77)));
    assert_eq!(parse_removed_pack(b"r1234567"), None);
    assert_eq!(parse_removed_pack(b"p12345678"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(256)))]

    #[test]
    fn every_frame_comes_back(pack: u64, dead_bytes: u64, round: u64, ids in proptest::collection::btree_set(any::<[u8; 16]>(), 0..40)) {
        let frame = DiscardFrame { pack: PackId(pack), dead_bytes, chunks: ids.into_iter().map(ChunkId).collect() };
        let mut bytes = Vec::new();
        frame.encode(round, &mut bytes);
        let len = bytes.len();
        bytes.extend_from_slice(b"what follows");
        prop_assert_eq!(DiscardFrame::decode(round, &bytes).unwrap(), (frame, len));
    }

    #[test]
    fn every_checkpoint_comes_back(round: u64, length: u64, part in 0..=100u64, packs: u64, ids: u64, dead_bytes: u64) {
        let done = length / 100 * part;
        let checkpoint = DiscardCheckpoint { round, length, done, packs, ids, dead_bytes };
        prop_assert_eq!(DiscardCheckpoint::decode(&checkpoint.encode()).unwrap(), checkpoint);
    }
}
