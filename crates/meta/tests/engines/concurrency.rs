//! What many threads may rely on.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use verfs_meta::{Direction, KeyRange, MetaError, WriteBatch};

use crate::subject::{Fixture, Subject, cases, put};

for_every_engine!(
    readers_never_see_a_part_of_a_batch,
    a_key_that_is_always_there_is_never_missing,
    overlapping_writers_never_conflict,
    closing_under_load_ends_every_call,
);

fn run_time() -> Duration {
    Duration::from_millis(1200) * cases(1)
}

fn number(value: Option<Bytes>) -> u64 {
    u64::from_be_bytes(value.unwrap()[..8].try_into().unwrap())
}

/// Batches flip all keys together, large enough that the engine flushes and merges all the time.
fn readers_never_see_a_part_of_a_batch(subject: Subject) {
    const KEYS: u64 = 1500;
    let fixture = Fixture::new(subject);
    let store = fixture.store();
    let key = |n: u64| Bytes::copy_from_slice(&(n * 7919).to_be_bytes());
    let flip = |to: u64| {
        let mut batch = WriteBatch::new();
        for n in 0..KEYS {
            let mut value = vec![0; 150];
            value[..8].copy_from_slice(&to.to_be_bytes());
            batch.put(key(n), value);
        }
        store.commit(batch).unwrap();
    };
    flip(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..2 {
            let over = &over;
            scope.spawn(move || {
                let mut newest = 0;
                while !over.load(Ordering::Relaxed) {
                    let mut seen = Vec::new();
                    let direction = if reader == 0 { Direction::Forward } else { Direction::Backward };
                    let view = store.view().unwrap();
                    view.scan(&KeyRange::prefix(b""), direction, &mut |_, value| {
                        seen.push(number(Some(Bytes::copy_from_slice(value))));
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                    assert_eq!(seen.len() as u64, KEYS);
                    assert!(seen.iter().all(|n| *n == seen[0]), "a scan saw {} and others", seen[0]);
                    assert_eq!(number(view.get(&key(3)).unwrap()), seen[0]);
                    let many = store.multi_get(&[key(0), key(KEYS / 2), key(KEYS - 1)]).unwrap();
                    let many: Vec<u64> = many.into_iter().map(number).collect();
                    assert!(many.iter().all(|n| *n == many[0]), "one multi_get saw {many:?}");
                    // The first record of a batch is no older than what was seen before, nor newer than the last.
                    let first = number(store.get(&key(0)).unwrap());
                    let last = number(store.get(&key(KEYS - 1)).unwrap());
                    assert!(newest <= seen[0] && seen[0] <= many[0] && many[0] <= first && first <= last);
                    newest = last;
                }
            });
        }
        let begun = Instant::now();
        let mut to = 0;
        while begun.elapsed() < run_time() {
            to += 1;
            flip(to);
            assert_eq!(number(store.get(&key(to % KEYS)).unwrap()), to, "a commit that returned is seen");
        }
        over.store(true, Ordering::Relaxed);
    });
}

fn a_key_that_is_always_there_is_never_missing(subject: Subject) {
    const KEYS: u64 = 20_000;
    let fixture = Fixture::new(subject);
    let store = fixture.store();
    let write = |round: u64, part: u64| {
        let mut batch = WriteBatch::new();
        for n in (part * 2000..(part + 1) * 2000).map(|n| n % KEYS) {
            let mut value = vec![0; 200];
            value[..8].copy_from_slice(&round.to_be_bytes());
            value[8..16].copy_from_slice(&n.to_be_bytes());
            batch.put(n.to_be_bytes().to_vec(), value);
            // Tombstones for the merges to drop.
            batch.put([&n.to_be_bytes()[..], b"passing"].concat(), "x");
            batch.delete([&n.to_be_bytes()[..], b"passing"].concat());
        }
        store.commit(batch).unwrap();
    };
    for part in 0..10 {
        write(0, part);
    }
    let over = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    thread::scope(|scope| {
        for reader in 0..16u64 {
            let (over, reads) = (&over, &reads);
            scope.spawn(move || {
                let mut n = reader * 1237;
                while !over.load(Ordering::Relaxed) {
                    n = (n * 6_364_136_223 + 1_442_695) % KEYS;
                    let value = store.get(&n.to_be_bytes()).unwrap();
                    let value = value.unwrap_or_else(|| panic!("key {n} is missing"));
                    assert_eq!(value[8..16], n.to_be_bytes());
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        let mut round = 0;
        while begun.elapsed() < run_time() {
            round += 1;
            write(round, round % 10);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(reads.into_inner() > 1000, "the readers read");
}

fn overlapping_writers_never_conflict(subject: Subject) {
    let mut fixture = Fixture::new(subject);
    let store = fixture.store();
    thread::scope(|scope| {
        for writer in 0..8u8 {
            scope.spawn(move || {
                for round in 0..40u8 {
                    let mut batch = WriteBatch::new();
                    for key in 0..10u8 {
                        batch.put(vec![key], vec![writer, round]);
                    }
                    batch.put(vec![b'w', writer], vec![round]);
                    store.commit(batch).unwrap();
                    if round % 16 == writer {
                        store.sync().unwrap();
                    }
                }
            });
        }
    });
    for _ in 0..2 {
        let store = fixture.store();
        let last = store.get(&[0]).unwrap().unwrap();
        assert_eq!(last[1], 39, "the last batch of all is the last one of its writer");
        for key in 0..10 {
            assert_eq!(store.get(&[key]).unwrap().unwrap(), last, "one batch is the last for all keys");
        }
        for writer in 0..8 {
            assert_eq!(store.get(&[b'w', writer]).unwrap().unwrap()[..], [39]);
        }
        fixture.reopen();
    }
}

fn closing_under_load_ends_every_call(subject: Subject) {
    let mut fixture = Fixture::new(subject);
    let store = fixture.store();
    let acknowledged = AtomicU64::new(0);
    let ended = |error: MetaError| assert!(matches!(error, MetaError::Closed), "{error:?}");
    thread::scope(|scope| {
        let (acknowledged, ended) = (&acknowledged, &ended);
        scope.spawn(move || {
            for n in 1u64.. {
                match put(store, b"n", &n.to_be_bytes()) {
                    Ok(()) => acknowledged.store(n, Ordering::SeqCst),
                    Err(error) => return ended(error),
                }
            }
        });
        for _ in 0..3 {
            scope.spawn(move || {
                loop {
                    if let Err(error) = store.get(b"n") {
                        return ended(error);
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(150));
        store.close().unwrap();
    });
    fixture.reopen();
    assert_eq!(number(fixture.store().get(b"n").unwrap()), acknowledged.into_inner());
}
