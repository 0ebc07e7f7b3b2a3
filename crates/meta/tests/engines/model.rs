//! Random operations, compared with a plain sorted map.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use verfs_meta::{Direction, KeyRange, WriteBatch};

use crate::subject::{Fixture, Subject, cases};

for_every_engine!(random_operations_answer_what_a_sorted_map_answers);

#[derive(Clone, Debug)]
enum Operation {
    Commit(Vec<(Bytes, Option<Bytes>)>),
    Get(Bytes),
    MultiGet(Vec<Bytes>),
    Scan { start: Bytes, end: Option<Bytes>, direction: Direction, limit: usize },
    Sync,
    Reopen,
}

/// Few keys, many of them prefixes of each other, so that operations meet.
fn keys() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'k'), Just(254), Just(255)], 0..4)
            .prop_map(Bytes::from),
        (0u8..40).prop_map(|n| Bytes::from(format!("key{n:02}"))),
    ]
}

fn values() -> impl Strategy<Value = Bytes> {
    (any::<u8>(), 0usize..3000).prop_map(|(byte, len)| Bytes::from(vec![byte; len]))
}

fn operations() -> impl Strategy<Value = Operation> {
    let directions = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    let scans = (keys(), proptest::option::of(keys()), directions, 0usize..60);
    prop_oneof![
        8 => proptest::collection::vec((keys(), proptest::option::weighted(0.7, values())), 0..60)
            .prop_map(Operation::Commit),
        4 => keys().prop_map(Operation::Get),
        2 => proptest::collection::vec(keys(), 0..12).prop_map(Operation::MultiGet),
        4 => scans.prop_map(|(start, end, direction, limit)| Operation::Scan { start, end, direction, limit }),
        1 => Just(Operation::Sync),
        1 => Just(Operation::Reopen),
    ]
}

fn expected_scan(
    model: &BTreeMap<Bytes, Bytes>,
    range: &KeyRange,
    direction: Direction,
    limit: usize,
) -> Vec<(Bytes, Bytes)> {
    let inside = |key: &Bytes| *key >= range.start && range.end.as_ref().is_none_or(|end| key < end);
    let mut found: Vec<_> = model.iter().filter(|(key, _)| inside(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if direction == Direction::Backward {
        found.reverse();
    }
    found.truncate(limit);
    found
}

fn run(subject: Subject, operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let mut fixture = Fixture::new(subject);
    let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for operation in operations {
        match operation {
            Operation::Commit(changes) => {
                let before = model.clone();
                let view = fixture.store().view().unwrap();
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
                fixture.store().commit(batch).unwrap();
                let mut seen = Vec::new();
                view.scan(&KeyRange::prefix(b""), Direction::Forward, &mut |key, value| {
                    seen.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                    ControlFlow::Continue(())
                })
                .unwrap();
                proptest::prop_assert!(seen.into_iter().eq(before), "the view saw a later commit");
            }
            Operation::Get(key) => {
                let found = fixture.store().get(&key).unwrap();
                proptest::prop_assert_eq!(found.as_ref(), model.get(&key));
            }
            Operation::MultiGet(keys) => {
                let expected: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
                proptest::prop_assert_eq!(fixture.store().multi_get(&keys).unwrap(), expected);
            }
            Operation::Scan { start, end, direction, limit } => {
                let range = KeyRange { start, end };
                let mut found = Vec::new();
                if limit > 0 {
                    let visit = &mut |key: &[u8], value: &[u8]| {
                        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                        if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    };
                    fixture.store().scan(&range, direction, visit).unwrap();
                }
                proptest::prop_assert_eq!(found, expected_scan(&model, &range, direction, limit));
            }
            Operation::Sync => fixture.store().sync().unwrap(),
            Operation::Reopen => fixture.reopen(),
        }
    }
    Ok(())
}

fn random_operations_answer_what_a_sorted_map_answers(subject: Subject) {
    let base = match subject {
        Subject::Memory => 200,
        Subject::Kept(_) => 12,
    };
    let config = Config { cases: cases(base), failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    // A failure prints the shortest sequence that shows it.
    TestRunner::new(config)
        .run(&proptest::collection::vec(operations(), 1..60), |operations| run(subject, operations))
        .unwrap_or_else(|failure| panic!("{subject:?}: {failure}"));
}
