//! Speed of each chunker at the default mean, on random bytes and on bytes of few values.
//! `cargo bench -p verfs-chunker`
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench: a panic is its error message; criterion's macros")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use verfs_chunker::{ChunkSizes, ChunkerKind, End, chunker};

const INPUT_BYTES: usize = 16 << 20;

fn random_bytes(mut state: u64) -> Vec<u8> {
    let mut word = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    (0..INPUT_BYTES / 8).flat_map(|_| word().to_le_bytes()).collect()
}

fn speed(criterion: &mut Criterion) {
    let random = random_bytes(1);
    let letters: Vec<u8> = random.iter().map(|byte| b"etaoin shrdlu.,\n"[usize::from(byte & 15)]).collect();
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(INPUT_BYTES as u64)).sample_size(20).measurement_time(Duration::from_secs(3));
    for kind in ChunkerKind::ALL {
        let sizes = ChunkSizes::for_mean(kind, ChunkSizes::DEFAULT_MEAN_BYTES).unwrap();
        let chunker = chunker(kind, sizes).unwrap();
        for (name, data) in [("random", &random), ("letters", &letters)] {
            group.bench_with_input(BenchmarkId::new(kind.name(), name), data, |bencher, data| {
                bencher.iter(|| {
                    let mut rest = data.as_slice();
                    while let Some(length) = chunker.first_chunk(black_box(rest), End::Last) {
                        rest = &rest[length..];
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, speed);
criterion_main!(benches);
