//! The vault's view of a metadata engine: whoever uses it sees what he wrote, and the engine sees no secret.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use verfs_base::{ChunkId, Epoch, GroupId, Ino, OsRng};
use verfs_codec::crypto::{KeyMaterial, VaultKeys};
use verfs_format::{ChangeList, ContentId, NameHash, Run, RunData, Segment, encode_versioned, keys};
use verfs_meta::{Direction, KeyRange, MemoryStore, MetaError, MetaStore, PrefixedStore, WriteBatch};
use verfs_vfs::SealedMeta;

const CANARY: &[u8] = b"canary-of-the-vault";

fn vault_keys() -> Arc<VaultKeys> {
    Arc::new(VaultKeys::new(&KeyMaterial::generate(&OsRng).unwrap(), [3; 16], Arc::new(OsRng)))
}

fn store() -> (Arc<MemoryStore>, SealedMeta) {
    let inner = Arc::new(MemoryStore::new());
    let prefixed = PrefixedStore::new(Arc::clone(&inner) as Arc<dyn MetaStore>, b'V');
    (inner, SealedMeta::new(Arc::new(prefixed), vault_keys()))
}

/// Few names and hashes, so that they meet in one group, and names that begin like others.
fn dirent_keys() -> impl Strategy<Value = Vec<u8>> {
    (0_u64..3, 0_u64..3, proptest::collection::vec(prop_oneof![Just(b'a'), Just(0), Just(255)], 1..4))
        .prop_map(|(parent, hash, name)| keys::dirent(Ino(parent), NameHash::from_number(hash), &name))
}

fn any_keys() -> impl Strategy<Value = Bytes> {
    let record = prop_oneof![
        6 => dirent_keys(),
        1 => (0_u64..3).prop_map(|ino| keys::inode(Ino(ino))),
        1 => (0_u64..3).prop_map(|ino| keys::symlink(Ino(ino))),
        1 => (0_u64..3).prop_map(|ino| keys::xattrs(Ino(ino))),
        1 => (0_u64..3, 0_u32..2).prop_map(|(content, index)| keys::segment(ContentId(content), index)),
    ];
    prop_oneof![
        4 => (record, proptest::option::of(0_u64..3)).prop_map(|(key, death)| match death {
            Some(death) => keys::history(&key, Epoch(death)),
            None => key,
        }),
        1 => (0_u64..3).prop_map(|death| keys::changes(Epoch(death), GroupId(1), 0)),
        // Whatever else: parts of keys, and none of ours.
        2 => (dirent_keys(), 0_usize..22).prop_map(|(mut key, len)| {
            key.truncate(len);
            key
        }),
        2 => (dirent_keys(), 0_usize..30).prop_map(|(key, len)| {
            let mut key = keys::history(&key, Epoch(1));
            key.truncate(len);
            key
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..5),
    ]
    .prop_map(Bytes::from)
}

fn any_values() -> impl Strategy<Value = Bytes> {
    let segment = || Segment {
        runs: vec![
            Run { len: 5, data: RunData::Chunk { id: ChunkId([4; 16]), offset: 1, birth: Epoch(1) } },
            Run { len: CANARY.len() as u32, data: RunData::Inline(Bytes::from_static(CANARY)) },
        ],
    };
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (1_u64..200).prop_map(|birth| encode_versioned(Epoch(birth), |out| out.extend_from_slice(CANARY))),
        (1_u64..200)
            .prop_map(move |birth| encode_versioned(Epoch(birth), |out| out.extend_from_slice(&segment().encode()))),
        proptest::collection::vec(any_keys(), 0..6).prop_map(|keys| ChangeList::encode(&keys)),
    ]
    .prop_map(Bytes::from)
}

#[derive(Clone, Debug)]
enum Operation {
    Commit(Vec<(Bytes, Option<Bytes>)>),
    MultiGet(Vec<Bytes>),
    Scan { start: Bytes, end: Option<Bytes>, direction: Direction, limit: usize },
}

fn operations() -> impl Strategy<Value = Operation> {
    let directions = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    let scans = (any_keys(), proptest::option::of(any_keys()), directions, 1_usize..60);
    prop_oneof![
        3 => proptest::collection::vec((any_keys(), proptest::option::weighted(0.8, any_values())), 0..30)
            .prop_map(Operation::Commit),
        1 => proptest::collection::vec(any_keys(), 0..12).prop_map(Operation::MultiGet),
        4 => scans.prop_map(|(start, end, direction, limit)| Operation::Scan { start, end, direction, limit }),
    ]
}

fn scan(store: &dyn MetaStore, range: &KeyRange, direction: Direction, limit: usize) -> Vec<(Bytes, Bytes)> {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(range, direction, &mut visit).unwrap();
    found
}

fn run(operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let (_, store) = store();
    let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for operation in operations {
        match operation {
            Operation::Commit(changes) => {
                let mut batch = WriteBatch::new();
                for (key, value) in changes {
                    match value {
                        Some(value) => {
                            batch.put(key.clone(), value.clone());
                            model.insert(key, value);
                        }
                        None => {
                            batch.delete(key.clone());
                            model.remove(&key);
                        }
                    }
                }
                store.commit(batch).unwrap();
                let all = scan(&store, &KeyRange::prefix(b""), Direction::Forward, usize::MAX);
                prop_assert!(all.into_iter().eq(model.clone()));
            }
            Operation::MultiGet(keys) => {
                let expected: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
                prop_assert_eq!(store.multi_get(&keys).unwrap(), expected.clone());
                for (key, value) in keys.iter().zip(expected) {
                    prop_assert_eq!(store.view().unwrap().get(key).unwrap(), value.clone());
                    prop_assert_eq!(store.get(key).unwrap(), value);
                }
            }
            Operation::Scan { start, end, direction, limit } => {
                let range = KeyRange { start, end };
                let inside = |key: &Bytes| *key >= range.start && range.end.as_ref().is_none_or(|end| key < end);
                let mut expected: Vec<_> =
                    model.iter().filter(|(key, _)| inside(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
                if direction == Direction::Backward {
                    expected.reverse();
                }
                expected.truncate(limit);
                prop_assert_eq!(scan(&store, &range, direction, limit), expected);
            }
        }
    }
    Ok(())
}

#[test]
fn whoever_uses_it_sees_what_a_sorted_map_has() {
    let factor: u32 = std::env::var("VERFS_TEST_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let config = Config { cases: 300 * factor, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&proptest::collection::vec(operations(), 1..30), run)
        .unwrap_or_else(|failure| panic!("{failure}"));
}

fn versioned(record: &[u8]) -> Vec<u8> {
    encode_versioned(Epoch(1), |out| out.extend_from_slice(record))
}

/// Records of each kind that has a secret, with [`CANARY`] in it.
fn secrets() -> Vec<(Vec<u8>, Vec<u8>)> {
    let dirent = keys::dirent(Ino(1), NameHash::from_number(77), CANARY);
    let segment =
        Segment { runs: vec![Run { len: CANARY.len() as u32, data: RunData::Inline(Bytes::from_static(CANARY)) }] };
    let live = vec![
        (dirent.clone(), versioned(b"\x01\x05")),
        (keys::symlink(Ino(3)), versioned(CANARY)),
        (keys::xattrs(Ino(3)), versioned(CANARY)),
        (keys::segment(ContentId(3), 0), versioned(&segment.encode())),
    ];
    let history = live.iter().map(|(key, value)| (keys::history(key, Epoch(9)), value.clone()));
    let changes = (keys::changes(Epoch(9), GroupId(1), 0), ChangeList::encode(&[dirent.into()]));
    history.chain([changes]).chain(live.clone()).collect()
}

#[test]
fn the_engine_sees_no_secret() {
    let (inner, store) = store();
    let mut batch = WriteBatch::new();
    for (key, value) in secrets() {
        batch.put(key, value);
    }
    store.commit(batch).unwrap();
    let stored = scan(inner.as_ref(), &KeyRange::prefix(b""), Direction::Forward, usize::MAX);
    assert_eq!(stored.len(), secrets().len());
    for (key, value) in stored {
        for bytes in [&key, &value] {
            assert!(!bytes.windows(6).any(|window| window == &CANARY[..6]), "{} has it", key.escape_ascii());
        }
    }
}

#[test]
fn a_record_in_another_place_or_with_another_byte_is_damage() {
    for (key, value) in secrets() {
        let (inner, store) = store();
        let mut batch = WriteBatch::new();
        batch.put(key.clone(), value);
        store.commit(batch).unwrap();
        let (stored_key, stored) =
            scan(inner.as_ref(), &KeyRange::prefix(b""), Direction::Forward, usize::MAX).remove(0);
        for at in 0..stored.len() {
            let mut changed = stored.to_vec();
            changed[at] ^= 1;
            let mut batch = WriteBatch::new();
            batch.put(stored_key.clone(), changed);
            inner.commit(batch).unwrap();
            assert!(matches!(store.get(&key), Err(MetaError::Corrupt(_))), "byte {at} of {}", key.escape_ascii());
        }
        // The same record, of another inode or directory.
        let mut elsewhere = stored_key.to_vec();
        let ino_at = if elsewhere[1] == b'h' { 10 } else { 9 };
        elsewhere[ino_at] ^= 0x40;
        let mut batch = WriteBatch::new();
        batch.delete(stored_key);
        batch.put(elsewhere, stored);
        inner.commit(batch).unwrap();
        let mut failed = false;
        let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Continue(());
        failed |= store.scan(&KeyRange::prefix(b""), Direction::Forward, &mut visit).is_err();
        assert!(failed, "{}", key.escape_ascii());
    }
}
