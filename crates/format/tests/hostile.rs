//! No decoder panics, whatever it is given: random bytes, and true encodings with bytes changed, cut and added.
//! `VERFS_TEST_FACTOR` multiplies the number of cases.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use verfs_base::{ChunkId, Epoch, PackId};
use verfs_format::chunk_record::{ChunkRecord, PackRecord, PackState, StoreRecord};
use verfs_format::discard::{
    DiscardCheckpoint, DiscardFrame, decode_discard_header, encode_discard_header, parse_removed_pack,
};
use verfs_format::pack::{RecordHeader, RecordSeed, decode_pack_header, encode_pack_header};
use verfs_format::pack_index::{IndexEntry, IndexTable};
use verfs_format::superblock::Superblock;
use verfs_format::witness::decode_witness;
use verfs_format::{
    ChangeList, DeadList, DirentRecord, FrameHeader, InodeRecord, Run, RunData, SEGMENT_BYTES, Segment, SnapshotRecord,
    StreamFrame, TreeCounters, decode_frame, keys, split_versioned,
};

/// Gives bytes to every decoder. What one accepts must be usable without overflow.
fn decode_all(bytes: &[u8]) {
    let seed = RecordSeed::of_volume(&[7; 192]);
    let _ = ChunkRecord::decode(bytes).map(|record| record.block_bytes());
    let _ = PackRecord::decode(bytes);
    let _ = StoreRecord::decode(bytes);
    let _ = decode_discard_header(bytes);
    let _ = DiscardCheckpoint::decode(bytes);
    let _ = parse_removed_pack(bytes);
    if let Ok((frame, len)) = DiscardFrame::decode(1, bytes) {
        assert!(len <= bytes.len() && frame.chunks.len() * 16 < len);
    }
    let _ = InodeRecord::decode(bytes);
    let _ = DirentRecord::decode(bytes);
    let _ = TreeCounters::decode(bytes);
    let _ = SnapshotRecord::decode(bytes);
    let _ = ChangeList::decode(bytes);
    let _ = DeadList::decode(bytes);
    let _ = split_versioned(bytes);
    for kind in 0..10 {
        let _ = StreamFrame::decode(kind, bytes);
    }
    let _ = FrameHeader::decode(bytes).map(|header| header.frame_bytes());
    let _ = decode_frame(bytes, |_| ChunkId([0; 16]));
    let _ = decode_pack_header(bytes);
    let _ = RecordHeader::decode_unverified(bytes).map(|header| header.record_bytes());
    let _ = RecordHeader::decode(seed, bytes);
    let _ = Superblock::decode(bytes);
    if let Some(slot) = bytes.first_chunk() {
        let _ = decode_witness(slot);
    }
    let _ = (keys::parse_dirent(bytes), keys::parse_segment(bytes), keys::parse_orphan(bytes));
    if let Ok(segment) = Segment::decode(bytes) {
        assert!(segment.runs.iter().map(|run| u64::from(run.len)).sum::<u64>() <= SEGMENT_BYTES);
        for run in &segment.runs {
            if let RunData::Chunk { offset, .. } = run.data {
                assert!(offset.checked_add(run.len).is_some(), "{run:?}");
            }
        }
    }
    if let Ok(table) = IndexTable::decode(Bytes::copy_from_slice(bytes)) {
        assert!(table.iter().all(|entry| table.find(entry.chunk) == Some(entry)));
    }
}

/// True encodings, to be changed.
fn honest() -> Vec<Vec<u8>> {
    let entry = |number: u8| IndexEntry { chunk: ChunkId([number; 16]), offset: 100, stored_len: 50 };
    let chunk = Run { len: 9, data: RunData::Chunk { id: ChunkId([3; 16]), offset: 7, birth: Epoch(1) } };
    let segment = Segment { runs: vec![chunk, Run { len: 4, data: RunData::Inline(Bytes::from_static(b"abcd")) }] };
    let header = RecordHeader { chunk: ChunkId([9; 16]), raw_len: 3, stored_len: 3, encoding: 0 };
    let seed = RecordSeed::of_volume(&[7; 192]);
    let store = StoreRecord { next_pack: 9, unsealed: vec![PackId(3), PackId(8)], ..StoreRecord::default() };
    let mut discard = Vec::new();
    let chunks = vec![ChunkId([1; 16]), ChunkId([2; 16])];
    DiscardFrame { pack: PackId(4), dead_bytes: 99, chunks }.encode(1, &mut discard);
    vec![
        discard,
        encode_discard_header(1).to_vec(),
        DiscardCheckpoint { round: 1, length: 300, done: 32, packs: 1, ids: 2, dead_bytes: 99 }.encode(),
        segment.encode(),
        IndexTable::build(PackId(1), 1000, &[entry(1), entry(2)]).as_bytes().to_vec(),
        [&header.encode(seed, b"abc")[..], b"abc"].concat(),
        encode_pack_header(PackId(5)).to_vec(),
        store.encode(),
        PackRecord { state: PackState::Sealed, blocks: 1, ..PackRecord::empty() }.encode(),
        ChunkRecord { refcount: 1, pack: PackId(1), raw_len: 5, stored_len: 5 }.encode(),
    ]
}

fn config() -> Config {
    let factor = std::env::var("VERFS_TEST_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    Config { cases: 4000u32.saturating_mul(factor), failure_persistence: None, ..Config::default() }
}

#[test]
fn random_bytes_panic_no_decoder() {
    TestRunner::new(config())
        .run(&vec(any::<u8>(), 0..200), |bytes| {
            decode_all(&bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn changed_cut_and_grown_encodings_panic_no_decoder() {
    let honest = honest();
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let strategy = (0..honest.len(), changes, any::<prop::sample::Index>(), vec(any::<u8>(), 0..8));
    TestRunner::new(config())
        .run(&strategy, |(which, changes, cut, tail)| {
            let mut bytes = honest[which].clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            decode_all(&bytes);
            bytes.truncate(cut.index(bytes.len() + 1));
            bytes.extend(tail);
            decode_all(&bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_run_that_reaches_past_any_chunk_is_refused() {
    for offset in [u32::MAX, u32::MAX - 8, (16 << 20) - 8] {
        let run = Run { len: 9, data: RunData::Chunk { id: ChunkId([3; 16]), offset, birth: Epoch(1) } };
        Segment::decode(&Segment { runs: vec![run] }.encode()).unwrap_err();
    }
}
