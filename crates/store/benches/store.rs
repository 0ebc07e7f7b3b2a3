//! Throughput of the chunk store on a real directory (`VERFS_BENCH_DIR`, else the system's temporary one): raw bytes
//! a second of putting unique and duplicate chunks with everything durable at the end, and of reading them.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "bench")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use verfs_base::{ChunkId, RealDisk, SystemClock};
use verfs_meta::{MemoryStore, MetaStore, WriteBatch};
use verfs_store::{ChunkStore, Indexed, StoreOptions};

/// Chunks of one measurement.
const CHUNKS: usize = 2048;
const CHUNK_BYTES: usize = 32 << 10;
const TOTAL_BYTES: u64 = (CHUNKS * CHUNK_BYTES) as u64;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Random,
    HalfRandom,
    Text,
}

struct Volume {
    dir: TempDir,
    meta: Arc<MemoryStore>,
    store: Arc<ChunkStore>,
}

impl Volume {
    fn new() -> Volume {
        let base = std::env::var_os("VERFS_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
        let dir = tempfile::tempdir_in(base).unwrap();
        let meta = Arc::new(MemoryStore::new());
        let store = open(&dir, &meta);
        Volume { dir, meta, store }
    }

    /// Puts chunks as one batch, which is durable afterwards.
    fn put(&self, chunks: &[Bytes]) -> Vec<ChunkId> {
        let mut batch = self.store.begin();
        let ids = chunks.iter().map(|data| batch.put(data.clone(), Indexed::Yes).unwrap()).collect();
        let mut records = WriteBatch::new();
        batch.finish(&mut records).unwrap();
        self.meta.commit(records).unwrap();
        batch.committed();
        ids
    }

    /// Closes and opens again: nothing is cached but by the kernel.
    fn reopen(&mut self) {
        self.store.close().unwrap();
        self.store = open(&self.dir, &self.meta);
    }
}

fn open(dir: &TempDir, meta: &Arc<MemoryStore>) -> Arc<ChunkStore> {
    let secret = std::array::from_fn(|at| at as u8);
    let disk = Arc::new(RealDisk::new(dir.path().to_path_buf()));
    let options = StoreOptions { chunk_cache_bytes: 2 * TOTAL_BYTES, ..StoreOptions::default() };
    let meta: Arc<dyn MetaStore> = Arc::clone(meta) as Arc<dyn MetaStore>;
    ChunkStore::open(disk, meta, &secret, Arc::new(SystemClock::new()), options).unwrap()
}

fn chunks(kind: Kind, generation: u64) -> Vec<Bytes> {
    let mut state = generation.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    const WORDS: [&[u8]; 16] = [
        b"extent ",
        b"chunk ",
        b"of the ",
        b"pack\n",
        b"is a ",
        b"inode ",
        b"return ",
        b"if (",
        b") {\n    ",
        b"let ",
        b" = ",
        b"0x",
        b"group ",
        b"struct ",
        b"and ",
        b", ",
    ];
    (0..CHUNKS)
        .map(|_| {
            let mut data = Vec::with_capacity(CHUNK_BYTES + 16);
            while data.len() < CHUNK_BYTES {
                let noise = match kind {
                    Kind::Random => true,
                    Kind::HalfRandom => data.len() % 2048 < 1024,
                    Kind::Text => false,
                };
                let bits = random();
                if noise {
                    data.extend_from_slice(&bits.to_le_bytes());
                } else {
                    data.extend_from_slice(WORDS[(bits % 16) as usize]);
                    if bits & 0xf00 == 0 {
                        data.extend_from_slice(format!("{}", bits >> 48).as_bytes());
                    }
                }
            }
            data.truncate(CHUNK_BYTES);
            data.into()
        })
        .collect()
}

fn put_unique(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put unique");
    group.throughput(Throughput::Bytes(TOTAL_BYTES)).sample_size(10).measurement_time(Duration::from_secs(5));
    for kind in [Kind::Random, Kind::HalfRandom, Kind::Text] {
        let mut generation = 0;
        group.bench_function(BenchmarkId::from_parameter(format!("{kind:?}")), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    generation += 1;
                    let (volume, data) = (Volume::new(), chunks(kind, generation));
                    let start = Instant::now();
                    black_box(volume.put(&data));
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

fn put_duplicate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put duplicate");
    group.throughput(Throughput::Bytes(TOTAL_BYTES)).sample_size(10);
    let volume = Volume::new();
    let data = chunks(Kind::HalfRandom, 1);
    volume.put(&data);
    group.bench_function("HalfRandom", |bencher| bencher.iter(|| volume.put(&data)));
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(TOTAL_BYTES)).sample_size(10);
    for kind in [Kind::Random, Kind::HalfRandom, Kind::Text] {
        let mut volume = Volume::new();
        let ids = volume.put(&chunks(kind, 1));
        group.bench_function(BenchmarkId::new("cold", format!("{kind:?}")), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    volume.reopen();
                    let start = Instant::now();
                    ids.iter().for_each(|id| drop(black_box(volume.store.read(*id).unwrap())));
                    spent += start.elapsed();
                }
                spent
            });
        });
        group.bench_function(BenchmarkId::new("cold, prefetched", format!("{kind:?}")), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    volume.reopen();
                    let start = Instant::now();
                    for window in ids.chunks(32) {
                        volume.store.prefetch(window);
                        window.iter().for_each(|id| drop(black_box(volume.store.read(*id).unwrap())));
                    }
                    spent += start.elapsed();
                }
                spent
            });
        });
        group.bench_function(BenchmarkId::new("warm", format!("{kind:?}")), |bencher| {
            bencher.iter(|| ids.iter().for_each(|id| drop(black_box(volume.store.read(*id).unwrap()))));
        });
    }
    group.finish();
}

criterion_group!(benches, put_unique, put_duplicate, read);
criterion_main!(benches);
