//! What each engine takes for what a volume asks of it: `cargo bench -p verfs-meta`.
//!
//! Records as a volume has them: keys of 24 bytes in no order, values of 60 to 200 bytes.
#![allow(missing_docs, reason = "criterion's macros make public items without any")]
#![allow(clippy::unwrap_used, reason = "a benchmark that panics has failed")]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use verfs_meta::{Direction, EngineKind, EngineOptions, KeyRange, MemoryStore, MetaStore, WriteBatch, open};

/// Records of the store that reads go to.
const RECORDS: u64 = 500_000;
/// Records of a batch that a transaction group makes.
const GROUP_RECORDS: u64 = 5_000;
/// Changes of a small commit.
const SMALL_CHANGES: u64 = 10;
const SCAN_RECORDS: usize = 100;

struct Bench {
    name: &'static str,
    store: Arc<dyn MetaStore>,
    /// Number of the next record to load.
    next: u64,
    _dir: TempDir,
}

fn key(number: u64) -> Bytes {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

fn batch(from: u64, records: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for number in from..from + records {
        batch.put(key(number), vec![number as u8; 60 + number as usize % 141]);
    }
    batch
}

/// A new store of each engine; a volume's directory lies on a disk, and so do these.
fn benches() -> Vec<Bench> {
    let mut benches =
        vec![Bench { name: "memory", store: Arc::new(MemoryStore::new()), next: 0, _dir: TempDir::new().unwrap() }];
    for kind in EngineKind::ALL {
        let dir = TempDir::new().unwrap();
        let store = open(kind, &dir.path().join("meta"), &EngineOptions::default()).unwrap();
        benches.push(Bench { name: kind.name(), store, next: 0, _dir: dir });
    }
    benches
}

fn engines(criterion: &mut Criterion) {
    for mut bench in benches() {
        let store = Arc::clone(&bench.store);
        let mut group = criterion.benchmark_group(bench.name);

        group.throughput(Throughput::Elements(GROUP_RECORDS)).sample_size(20);
        group.bench_function("load: commit of 5k records", |bencher| {
            bencher.iter_batched(
                || {
                    bench.next += GROUP_RECORDS;
                    batch(bench.next - GROUP_RECORDS, GROUP_RECORDS)
                },
                |batch| store.commit(batch).unwrap(),
                BatchSize::PerIteration,
            );
        });
        while bench.next < RECORDS {
            store.commit(batch(bench.next, GROUP_RECORDS)).unwrap();
            bench.next += GROUP_RECORDS;
        }
        store.sync().unwrap();

        let mut number = 1u64;
        let mut pick = move || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (number >> 20) % RECORDS
        };
        group.throughput(Throughput::Elements(1)).sample_size(50);
        group.bench_function("get", |bencher| bencher.iter(|| black_box(store.get(&key(pick())).unwrap().unwrap())));
        group.bench_function("get of an absent key", |bencher| {
            bencher.iter(|| assert!(store.get(&key(pick() + (1 << 40))).unwrap().is_none()));
        });
        group.bench_function("scan of 100", |bencher| {
            bencher.iter(|| {
                let mut left = SCAN_RECORDS;
                let range = KeyRange { start: key(pick()), end: None };
                store
                    .scan(&range, Direction::Forward, &mut |key, value| {
                        black_box((key, value));
                        left -= 1;
                        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    })
                    .unwrap();
            });
        });
        group.bench_function("commit of 10 changes", |bencher| {
            bencher.iter_batched(
                || batch(pick(), SMALL_CHANGES),
                |batch| store.commit(batch).unwrap(),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("commit of 10 changes and sync", |bencher| {
            bencher.iter_batched(
                || batch(pick(), SMALL_CHANGES),
                |batch| {
                    store.commit(batch).unwrap();
                    store.sync().unwrap();
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
        store.close().unwrap();
    }
}

criterion_group!(all, engines);
criterion_main!(all);
