//! What operations of a filesystem take without a kernel in between, on a real directory (`VERFS_BENCH_DIR`, else the
//! system's temporary one) and the default metadata engine: `cargo bench -p verfs-vfs`. Groups are committed meanwhile,
//! as in use. The example `operations` of verfs-engine tells latencies and processor time apart.
#![allow(clippy::unwrap_used, missing_docs, reason = "bench")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use verfs_base::{Clock, Disk, Ino, RealDisk, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind, chunker};
use verfs_meta::{EngineKind, EngineOptions};
use verfs_store::{ChunkStore, StoreOptions};
use verfs_vfs::{Context, Listing, NodeKind, RenameMode, SetAttr, SyncScope, Vfs, VfsOptions, VfsParts};

const ROOT: Context = Context::ROOT;
const SMALL_BYTES: usize = 3000;
const BLOCK_BYTES: u64 = 4096;
const LARGE_BYTES: u64 = 64 << 20;
const CLIENTS: u64 = 16;

struct Volume {
    vfs: Arc<Vfs>,
    dir: Ino,
    next: AtomicU64,
    /// After the filesystem on it.
    _directory: TempDir,
}

fn name(number: u64) -> String {
    format!("file-{number:08}")
}

fn noise(number: u64, bytes: &mut [u8]) {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (at, word) in bytes.chunks_mut(8).enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let value = if at % 16 < 8 { state.to_le_bytes() } else { *b"the text" };
        word.copy_from_slice(&value[..word.len()]);
    }
}

impl Volume {
    fn new() -> Volume {
        let base = std::env::var_os("VERFS_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
        let directory = tempfile::tempdir_in(base).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path().to_path_buf()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let engine = EngineKind::default();
        let meta = verfs_meta::open(engine, &directory.path().join("meta"), &EngineOptions::default()).unwrap();
        let secret = std::array::from_fn(|at| at as u8);
        let options = StoreOptions::default();
        let store =
            ChunkStore::open(Arc::clone(&disk), Arc::clone(&meta), &secret, Arc::clone(&clock), options).unwrap();
        let sizes = ChunkSizes::for_mean(ChunkerKind::default(), ChunkSizes::DEFAULT_MEAN_BYTES).unwrap();
        let chunker = chunker(ChunkerKind::default(), sizes).unwrap();
        let vfs = Vfs::open(VfsParts { disk, meta, store, chunker, clock }, VfsOptions::default()).unwrap();
        let dir = vfs.mkdir(&ROOT, Ino::ROOT, b"dir", 0o755).unwrap().ino;
        Volume { vfs, dir, next: AtomicU64::new(0), _directory: directory }
    }

    fn create(&self) -> (u64, Ino) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let made = self.vfs.mknod(&ROOT, self.dir, name(number).as_bytes(), NodeKind::Regular, 0o644).unwrap();
        (number, made.ino)
    }

    fn create_with_data(&self) -> (u64, Ino) {
        let (number, ino) = self.create();
        let mut bytes = [0; SMALL_BYTES];
        noise(number, &mut bytes);
        self.vfs.write(&ROOT, ino, 0, &bytes).unwrap();
        (number, ino)
    }

    /// Writes a file of `LARGE_BYTES` and waits until it is committed.
    fn write_large(&self, seed: u64) -> Ino {
        let (_, ino) = self.create();
        let mut bytes = vec![0; 1 << 20];
        for at in (0..LARGE_BYTES).step_by(1 << 20) {
            noise(seed ^ at, &mut bytes);
            self.vfs.write(&ROOT, ino, at, &bytes).unwrap();
        }
        self.vfs.sync().unwrap();
        ino
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.vfs.close().unwrap();
    }
}

/// Prepares `rounds` files, commits them, and times what is done to each.
fn timed<T>(volume: &Volume, rounds: u64, prepare: impl Fn() -> T, run: impl Fn(&T)) -> Duration {
    let prepared: Vec<T> = (0..rounds).map(|_| prepare()).collect();
    volume.vfs.sync().unwrap();
    let begun = Instant::now();
    prepared.iter().for_each(run);
    begun.elapsed()
}

fn names(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("names");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let volume = Volume::new();
    let vfs = &volume.vfs;
    group.bench_function("create", |bencher| bencher.iter(|| volume.create()));
    group.bench_function("create, write 3000 bytes", |bencher| bencher.iter(|| volume.create_with_data()));
    group.bench_function("as tar: create, write, 3 setattr", |bencher| {
        bencher.iter(|| {
            let (_, ino) = volume.create_with_data();
            for change in [
                SetAttr { uid: Some(1), ..SetAttr::default() },
                SetAttr { mode: Some(0o600), ..SetAttr::default() },
                SetAttr { mtime: Some(verfs_vfs::SetTime::Now), ..SetAttr::default() },
            ] {
                vfs.setattr(&ROOT, ino, &change).unwrap();
            }
        });
    });
    group.bench_function("stat", |bencher| {
        bencher.iter_custom(|rounds| {
            timed(
                &volume,
                rounds,
                || volume.create().0,
                |number| {
                    let found = vfs.lookup(&ROOT, volume.dir, name(*number).as_bytes()).unwrap();
                    black_box(vfs.getattr(&ROOT, found.ino).unwrap());
                },
            )
        });
    });
    group.bench_function("rename", |bencher| {
        bencher.iter_custom(|rounds| {
            timed(
                &volume,
                rounds,
                || volume.create().0,
                |number| {
                    let to = format!("moved-{number}");
                    let (from, dir) = (name(*number), volume.dir);
                    vfs.rename(&ROOT, dir, from.as_bytes(), dir, to.as_bytes(), RenameMode::Replace).unwrap();
                },
            )
        });
    });
    group.bench_function("unlink of a file with data", |bencher| {
        bencher.iter_custom(|rounds| {
            timed(
                &volume,
                rounds,
                || volume.create_with_data().0,
                |number| vfs.unlink(&ROOT, volume.dir, name(*number).as_bytes()).unwrap(),
            )
        });
    });
    let mut cookie = 0;
    group.throughput(Throughput::Elements(100));
    group.bench_function("readdir-plus of 100", |bencher| {
        bencher.iter(|| {
            let entries = vfs.readdir(&ROOT, volume.dir, cookie, 100, Listing::Plus).unwrap();
            cookie = entries.last().map_or(0, |entry| entry.cookie);
            entries.len()
        });
    });
    group.finish();
}

fn fsync(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append 4 KiB and fsync");
    group.sample_size(10);
    let volume = Volume::new();
    let block = [7; BLOCK_BYTES as usize];
    let append = |ino: Ino, at: u64| {
        volume.vfs.write(&ROOT, ino, at * BLOCK_BYTES, &block).unwrap();
        volume.vfs.fsync(&ROOT, ino, SyncScope::Data).unwrap();
    };
    let (_, ino) = volume.create();
    let mut at = 0;
    group.throughput(Throughput::Elements(1));
    group.bench_function("1 client", |bencher| {
        bencher.iter(|| {
            append(ino, at);
            at += 1;
        });
    });
    group.throughput(Throughput::Elements(CLIENTS));
    group.bench_function("16 clients", |bencher| {
        bencher.iter_custom(|rounds| {
            let inos: Vec<Ino> = (0..CLIENTS).map(|_| volume.create().1).collect();
            let begun = Instant::now();
            std::thread::scope(|scope| {
                for ino in inos {
                    scope.spawn(move || (0..rounds).for_each(|at| append(ino, at)));
                }
            });
            begun.elapsed()
        });
    });
    group.finish();
}

fn data(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("data");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).throughput(Throughput::Bytes(LARGE_BYTES));
    let volume = Volume::new();
    let mut seed = 1 << 40;
    group.bench_function("write 64 MiB, half random, and sync", |bencher| {
        bencher.iter(|| {
            seed += 1 << 30;
            volume.write_large(seed)
        });
    });
    group.bench_function("write the same 64 MiB and sync", |bencher| bencher.iter(|| volume.write_large(3)));
    let ino = volume.write_large(5);
    group.bench_function("read 64 MiB", |bencher| {
        bencher.iter(|| {
            for at in (0..LARGE_BYTES).step_by(1 << 20) {
                black_box(volume.vfs.read(&ROOT, ino, at, 1 << 20).unwrap());
            }
        });
    });
    let mut number = 0u64;
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 random overwrites of 4 KiB and sync", |bencher| {
        bencher.iter(|| {
            let mut block = [0; BLOCK_BYTES as usize];
            for _ in 0..1000 {
                number += 1;
                noise(number, &mut block);
                let at = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % (LARGE_BYTES / BLOCK_BYTES);
                volume.vfs.write(&ROOT, ino, at * BLOCK_BYTES, &block).unwrap();
            }
            volume.vfs.sync().unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, names, fsync, data);
criterion_main!(benches);
