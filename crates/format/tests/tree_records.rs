//! Records of the tree and frames of the intent log: their bytes never change, and no bytes make a decoder panic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use bytes::Bytes;
use proptest::prelude::*;
use verfs_base::{ChunkId, Epoch, GroupId, Ino, Timestamp};
use verfs_format::{
    ChangeList, ContentId, DeadList, DeadReference, DirentRecord, FrameBuilder, InodeFlags, InodeKind, InodeRecord,
    InodeScope, LogEntry, OrphanRecord, PruneProgress, Run, RunData, SealedRecord, Segment, SnapshotRecord,
    StreamBegin, StreamCheck, StreamFrame, StreamRun, StreamRunData, StreamVault, TreeCounters, Xattrs, decode_frame,
    encode_versioned, keys, record_of_versioned, split_versioned,
};
use xxhash_rust::xxh3::xxh3_128;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keyed(bytes: &[u8]) -> ChunkId {
    ChunkId(xxh3_128(bytes).to_be_bytes())
}

fn inode() -> InodeRecord {
    InodeRecord {
        kind: InodeKind::Regular,
        mode: 0o4755,
        flags: InodeFlags::IMMUTABLE.with(InodeFlags::XATTRS),
        nlink: 3,
        uid: 1000,
        gid: 65_534,
        rdev: 0,
        size: 5_000_000_000,
        allocated: 4096,
        content: ContentId(77),
        parent: Ino(1),
        atime: Timestamp { seconds: -1, nanos: 999_999_999 },
        mtime: Timestamp { seconds: 4_102_444_800, nanos: 1 },
        ctime: Timestamp { seconds: 0, nanos: 0 },
        btime: Timestamp { seconds: 1, nanos: 2 },
    }
}

fn segment() -> Segment {
    Segment {
        runs: vec![
            Run { len: 4096, data: RunData::Hole },
            Run { len: 300, data: RunData::Chunk { id: ChunkId([0xab; 16]), offset: 129, birth: Epoch(2) } },
            Run { len: 3, data: RunData::Inline(Bytes::from_static(b"abc")) },
        ],
    }
}

fn xattrs() -> Xattrs {
    let mut xattrs = Xattrs::default();
    xattrs.insert(Bytes::from_static(b"user.b"), Bytes::from_static(b"\x00v"));
    xattrs.insert(Bytes::from_static(b"user.a"), Bytes::new());
    xattrs
}

fn entries() -> Vec<LogEntry> {
    vec![
        LogEntry::Inode { ino: Ino(9), scope: InodeScope::All, record: inode() },
        LogEntry::Dirent {
            parent: Ino(1),
            name: Bytes::from_static(b"n\xffme"),
            target: Some(DirentRecord { kind: InodeKind::Directory, ino: Ino(9) }),
        },
        LogEntry::Dirent { parent: Ino(1), name: Bytes::from_static(b"gone"), target: None },
        LogEntry::Symlink { ino: Ino(10), target: Bytes::from_static(b"../t") },
        LogEntry::Data { content: ContentId(77), offset: 1 << 40, bytes: Bytes::from_static(b"data") },
        LogEntry::Hole { content: ContentId(77), offset: 5, len: 1 << 33 },
        LogEntry::Xattrs { ino: Ino(9), xattrs: xattrs() },
    ]
}

fn frame() -> Vec<u8> {
    let mut builder = FrameBuilder::new();
    entries().iter().for_each(|entry| builder.push(entry));
    builder.finish(GroupId(6), 42, keyed)
}

#[test]
fn encodings_are_those_of_format_1() {
    let mut out = Vec::new();
    inode().encode(&mut out);
    assert_eq!(hex(&out), INODE);
    assert_eq!(InodeRecord::decode(&out).unwrap(), inode());

    let record = DirentRecord { kind: InodeKind::Symlink, ino: Ino(300) };
    let mut out = Vec::new();
    record.encode(&mut out);
    assert_eq!(hex(&out), "03ac02");
    assert_eq!(DirentRecord::decode(&out).unwrap(), record);

    assert_eq!(hex(&segment().encode()), SEGMENT);
    assert_eq!(Segment::decode(&segment().encode()).unwrap(), segment());

    assert_eq!(hex(&xattrs().encode()), "0206757365722e610006757365722e62020076");
    assert_eq!(Xattrs::decode(&xattrs().encode()).unwrap(), xattrs());
    assert!(Xattrs::decode(b"\x02\x01b\x00\x01a\x00").is_err(), "names out of order are another record's bytes");

    for ino in [None, Some(Ino(5))] {
        let mut out = Vec::new();
        OrphanRecord { ino, died: Epoch(3) }.encode(&mut out);
        assert_eq!(hex(&out), if ino.is_none() { "0003" } else { "0503" });
        assert_eq!(OrphanRecord::decode(&out).unwrap(), OrphanRecord { ino, died: Epoch(3) });
    }
    let counters = TreeCounters { inodes: 200, directories: 3, logical_bytes: 1 };
    let mut out = Vec::new();
    counters.encode(&mut out);
    assert_eq!(hex(&out), "c8010301");
    assert_eq!(TreeCounters::decode(&out).unwrap(), counters);

    assert_eq!(hex(&frame()), FRAME);
    let (header, decoded) = decode_frame(&frame(), keyed).unwrap();
    assert_eq!((header.group, header.sequence, decoded), (GroupId(6), 42, entries()));
}

const INODE: &str = "01ed131103e807feff030080e497d01280204d0101ff93ebdc0380dcb2c81e0100000202";
const SEGMENT: &str = "0300802001ac02028101abababababababababababababababab0203616263";
const FRAME: &str = concat!(
    "5646534c4f47310a06000000000000002a000000000000006b000000000000000701090101ed131103e807feff030080e497",
    "d01280204d0101ff93ebdc0380dcb2c81e01000002020201046eff6d65010209020104676f6e6500030a042e2e2f74044d80",
    "80808080200464617461054d05808080802006090206757365722e610006757365722e620200763ef96914efdaf1f8d5deaa",
    "77fc986a87",
);

fn snapshot() -> SnapshotRecord {
    SnapshotRecord {
        uuid: [0x5a; 16],
        name: Bytes::from_static(b"before"),
        note: Bytes::from_static(b"why"),
        created: Timestamp { seconds: 1_000, nanos: 7 },
        counters: TreeCounters { inodes: 200, directories: 3, logical_bytes: 1 },
        holds: vec![Bytes::from_static(b"send")],
        pruning: None,
    }
}

#[test]
fn encodings_of_snapshots_are_those_of_format_1() {
    let common = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a066265666f726503776879d00f07c80103010104";
    let cursor = Bytes::from_static(b"k");
    let states = [
        (None, "00"),
        (Some(PruneProgress::Waiting), "01"),
        (Some(PruneProgress::Dead { upper: Epoch(9), cursor: cursor.clone() }), "0209016b"),
        (Some(PruneProgress::Changes { upper: Epoch(9), cursor }), "0309016b"),
    ];
    for (pruning, ends) in states {
        let record = SnapshotRecord { pruning, ..snapshot() };
        assert_eq!(hex(&record.encode()), format!("{common}73656e64{ends}"));
        assert_eq!(SnapshotRecord::decode(&record.encode()).unwrap(), record);
    }

    let changed = vec![Bytes::from(keys::inode(Ino(5))), Bytes::from_static(b"x")];
    let encoded = ChangeList::encode(&changed);
    assert_eq!(hex(&encoded), "02096900000000000000050178");
    assert_eq!(ChangeList::decode(&encoded).unwrap().keys, changed);

    let dead = vec![DeadReference { chunk: ChunkId([1; 16]), references: 2, bytes: 300 }];
    let without = DeadList::encode(&dead, 0);
    assert_eq!(hex(&without), "010101010101010101010101010101010102ac02", "as before records were counted");
    assert_eq!(DeadList::decode(&without).unwrap(), DeadList { references: dead.clone(), record_bytes: 0 });
    let with = DeadList::encode(&dead, 200);
    assert_eq!(hex(&with), "010101010101010101010101010101010102ac02c801");
    assert_eq!(DeadList::decode(&with).unwrap(), DeadList { references: dead, record_bytes: 200 });

    let value = Bytes::from(encode_versioned(Epoch(300), |out| out.extend_from_slice(b"rest")));
    assert_eq!(hex(&value), "ac0272657374");
    assert_eq!(split_versioned(&value).unwrap(), (Epoch(300), &b"rest"[..]));
    assert_eq!(record_of_versioned(&value).unwrap(), &b"rest"[..]);
}

#[test]
fn frames_of_streams_are_those_of_format_1() {
    let run = |len, data| StreamRun { len, data };
    let frames = [
        (
            StreamFrame::Begin(StreamBegin {
                stream: [1; 16],
                uuid: [2; 16],
                base: None,
                name: Bytes::from_static(b"n"),
                note: Bytes::new(),
                created: Timestamp { seconds: 5, nanos: 6 },
                vault: None,
            }),
            "010101010101010101010101010101010202020202020202020202020202020200000000000000000000000000000000016e000a06",
        ),
        (StreamFrame::Inode(Ino(5), None), "0500"),
        (StreamFrame::Inode(Ino(5), Some(inode())), &format!("0501{INODE}")),
        (
            StreamFrame::Dirent(
                Ino(1),
                Bytes::from_static(b"n"),
                Some(DirentRecord { kind: InodeKind::Symlink, ino: Ino(300) }),
            ),
            "01016e0103ac02",
        ),
        (StreamFrame::Symlink(Ino(5), Some(Bytes::from_static(b"to"))), "0501746f"),
        (StreamFrame::Xattrs(Ino(5), None), "0500"),
        (StreamFrame::Chunk(300, 1, Bytes::from_static(b"z")), "ac02017a"),
        (
            StreamFrame::Segment(
                ContentId(7),
                1,
                vec![
                    run(9, StreamRunData::Hole),
                    run(8, StreamRunData::Chunk { back: 2, offset: 3 }),
                    run(2, StreamRunData::Inline(Bytes::from_static(b"ab"))),
                    run(1, StreamRunData::Kept),
                ],
            ),
            "0701040900080102030202616201 03",
        ),
        (StreamFrame::End(300), "ac02"),
        (
            StreamFrame::Begin(StreamBegin {
                stream: [1; 16],
                uuid: [2; 16],
                base: Some([4; 16]),
                name: Bytes::from_static(b"n"),
                note: Bytes::new(),
                created: Timestamp { seconds: 5, nanos: 6 },
                vault: Some(StreamVault {
                    id: [5; 16],
                    snapshot: Epoch(7),
                    base: Some(Epoch(2)),
                    counters: TreeCounters { inodes: 3, directories: 1, logical_bytes: 300 },
                    keys: Bytes::from_static(b"kk"),
                }),
            }),
            &format!(
                "{}{}{}016e000a06{}07020301ac02026b6b",
                "01".repeat(16),
                "02".repeat(16),
                "04".repeat(16),
                "05".repeat(16)
            ),
        ),
        (
            StreamFrame::Sealed(SealedRecord {
                key: Bytes::from_static(b"k"),
                died: Some(Epoch(3)),
                value: Some(Bytes::from_static(b"v")),
            }),
            "016b030176",
        ),
        (StreamFrame::Sealed(SealedRecord { key: Bytes::from_static(b"k"), died: None, value: None }), "016b0000"),
        (
            StreamFrame::Block(ChunkId([3; 16]), 300, 0x81, Bytes::from_static(b"z")),
            &format!("{}ac02817a", "03".repeat(16)),
        ),
    ];
    for (frame, expected) in frames {
        let (kind, body) = frame.encode();
        assert_eq!(hex(&body), expected.replace(' ', ""), "{frame:?}");
        assert_eq!(StreamFrame::decode(kind, &body).unwrap(), frame);
    }
    let check = StreamCheck::default().with(8, b"body");
    assert_eq!(hex(&check.bytes()), STREAM_CHECK);
    assert!(check.is(&check.bytes()) && !check.is(&StreamCheck::default().bytes()));
}

const STREAM_CHECK: &str = "9a54878def885dc37e3c4515cb222412";

#[test]
fn keys_of_snapshots_sort_by_epoch_and_parse_back() {
    let key = keys::history(&keys::inode(Ino(3)), Epoch(9));
    assert_eq!(keys::parse_history(&key), Some((&keys::inode(Ino(3))[..], Epoch(9))));
    assert!(key.starts_with(&keys::histories(&keys::inode(Ino(3)))));
    assert!(key < keys::history(&keys::inode(Ino(3)), Epoch(256)));
    assert_eq!(keys::parse_changes(&keys::changes(Epoch(7), GroupId(1), 2)), Some(Epoch(7)));
    assert!(keys::changes(Epoch(7), GroupId(u64::MAX), 2) < keys::changes_from(Epoch(8)));
    let dead = keys::dead(Epoch(7), Epoch(4), GroupId(1), 2);
    assert_eq!(keys::parse_dead(&dead), Some((Epoch(7), Epoch(4))));
    assert_eq!(keys::parse_group(&keys::changes(Epoch(7), GroupId(1), 2)), Some(GroupId(1)));
    assert_eq!(keys::parse_group(&keys::dead(Epoch(7), Epoch(4), GroupId(9), 2)), Some(GroupId(9)));
    assert!(dead > keys::dead_from(Epoch(7), Epoch(4)) && dead < keys::dead_from(Epoch(7), Epoch(5)));
    assert_eq!(keys::parse_snapshot(&keys::snapshot(Epoch(7))), Some(Epoch(7)));
    for other in [keys::inode(Ino(3)), keys::snapshot_used(Epoch(7)), Vec::new()] {
        assert_eq!(keys::parse_history(&other), None);
        assert_eq!(keys::parse_changes(&other), None);
        assert_eq!(keys::parse_dead(&other), None);
        assert_eq!(keys::parse_group(&other), None);
        assert_eq!(keys::parse_snapshot(&other), None);
    }
}

#[test]
fn keys_sort_by_number_and_parse_back() {
    assert!(keys::inode(Ino(255)) < keys::inode(Ino(256)));
    assert!(keys::segment(ContentId(1), 255) < keys::segment(ContentId(1), 256));
    let hash = keys::NameHash::from_keyed(ChunkId([0xff; 16]));
    let key = keys::dirent(Ino(3), hash, b"name");
    assert_eq!(keys::parse_dirent(&key), Some((hash, &b"name"[..])));
    assert!(key.starts_with(&keys::dirents(Ino(3))) && key > keys::dirents_from(Ino(3), hash.number()));
    assert_eq!(keys::parse_segment(&keys::segment(ContentId(7), 9)), Some(9));
    assert_eq!(keys::parse_orphan(&keys::orphan(ContentId(7))), Some(ContentId(7)));
    assert_eq!(keys::parse_dirent(&keys::inode(Ino(3))), None);
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = InodeRecord::decode(&bytes);
        let _ = DirentRecord::decode(&bytes);
        let _ = OrphanRecord::decode(&bytes);
        let _ = SnapshotRecord::decode(&bytes);
        let _ = ChangeList::decode(&bytes);
        let _ = DeadList::decode(&bytes);
        let _ = split_versioned(&bytes);
        let _ = TreeCounters::decode(&bytes);
        let _ = Segment::decode(&bytes);
        let _ = Xattrs::decode(&bytes);
        let _ = decode_frame(&bytes, keyed);
        let _ = (keys::parse_dirent(&bytes), keys::parse_segment(&bytes), keys::parse_orphan(&bytes));
    }

    #[test]
    fn an_altered_frame_is_refused(at in 0usize..10_000, flip in 1u8..=255, cut in 0usize..10_000) {
        let mut altered = frame();
        let at = at % altered.len();
        altered[at] ^= flip;
        prop_assert!(decode_frame(&altered, keyed).is_err());
        let whole = frame();
        prop_assert!(decode_frame(&whole[..cut % whole.len()], keyed).is_err());
    }

    #[test]
    fn altered_segments_decode_to_something_bounded_or_fail(at in 0usize..1000, flip in 1u8..=255) {
        let mut altered = segment().encode();
        let at = at % altered.len();
        altered[at] ^= flip;
        if let Ok(decoded) = Segment::decode(&altered) {
            let total: u64 = decoded.runs.iter().map(|run| u64::from(run.len)).sum();
            prop_assert!(total <= verfs_format::SEGMENT_BYTES);
        }
    }
}
