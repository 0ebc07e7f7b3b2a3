//! Compares the chunkers at equal measured mean chunk size: speed, deduplication of edited versions, compression per
//! chunk. Prints a Markdown table. docs/decisions/0002-default-chunker.md has its results.
//!
//! `cargo run --release -p verfs-chunker --example compare -- 8,32,64 FILE…` (means in KiB; without a file: random bytes)
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measuring program: a panic is its error message")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use verfs_chunker::{ChunkSizes, Chunker, ChunkerKind, End, chunker};

const RANDOM_BYTES: usize = 128 << 20;
const FILE_BYTES_MAX: usize = 192 << 20;
const VERSIONS: usize = 4;
const EDIT_DISTANCE_BYTES: usize = 128 << 10;
const EDIT_BYTES_MAX: u64 = 64;
/// Assumed cost of a chunk's records: identity with refcount and pack, place in the pack, run of an extent.
const RECORDS_BYTES: usize = 100;

/// splitmix64: the same edits in every run.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

fn lengths(chunker: &dyn Chunker, data: &[u8], mut each: impl FnMut(&[u8])) {
    let mut rest = data;
    while let Some(length) = chunker.first_chunk(rest, End::Last) {
        each(&rest[..length]);
        rest = &rest[length..];
    }
}

fn measured_mean(chunker: &dyn Chunker, data: &[u8]) -> f64 {
    let mut count = 0_usize;
    lengths(chunker, data, |_| count += 1);
    data.len() as f64 / count as f64
}

/// The chunker whose chunks of `data` are `target` bytes long in the mean, and the mean that it had to be asked for.
fn calibrated(kind: ChunkerKind, target: f64, data: &[u8]) -> (std::sync::Arc<dyn Chunker>, u32) {
    let (mut low, mut high) = (target as u32 / 4, target as u32 * 4);
    while high - low > target as u32 / 1000 {
        let asked = u32::midpoint(low, high);
        let candidate = chunker(kind, ChunkSizes::for_mean(kind, asked).unwrap()).unwrap();
        if measured_mean(candidate.as_ref(), data) < target { low = asked } else { high = asked }
    }
    (chunker(kind, ChunkSizes::for_mean(kind, high).unwrap()).unwrap(), high)
}

/// `data` with an insertion, a deletion or an overwriting of up to 64 bytes about every 128 KiB.
fn edited(data: &[u8], random: &mut SplitMix) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + data.len() / 100);
    let mut rest = data;
    loop {
        let keep = random.below(2 * EDIT_DISTANCE_BYTES as u64) as usize;
        if keep >= rest.len() {
            out.extend_from_slice(rest);
            return out;
        }
        out.extend_from_slice(&rest[..keep]);
        rest = &rest[keep..];
        let count = 1 + random.below(EDIT_BYTES_MAX) as usize;
        let (insert, remove) = [(count, 0), (0, count), (count, count)][random.below(3) as usize];
        out.extend(random.bytes(insert));
        rest = &rest[remove.min(rest.len())..];
    }
}

fn best_time(chunker: &dyn Chunker, data: &[u8]) -> Duration {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            let mut sum = 0;
            lengths(chunker, data, |chunk| sum += chunk.len());
            assert_eq!(sum, data.len());
            start.elapsed()
        })
        .min()
        .unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (means, files) = arguments.split_first().expect("means in KiB, as 8,32,64, then files");
    let mut random = SplitMix(1);
    let mut inputs = vec![("random".to_owned(), random.bytes(RANDOM_BYTES))];
    for file in files {
        let mut data = std::fs::read(file).unwrap();
        data.truncate(FILE_BYTES_MAX);
        inputs.push((file.rsplit('/').next().unwrap().to_owned(), data));
    }
    println!(
        "| input | chunker | mean asked; measured, KiB | smallest; largest | GB/s | dedup of {VERSIONS} versions \
         | self dedup | zstd-3 per chunk | stored + records, MiB |\n|---|---|---|---|---|---|---|---|---|"
    );
    for (name, data) in inputs {
        let mut random = SplitMix(2);
        let mut versions = vec![data];
        while versions.len() < VERSIONS {
            versions.push(edited(versions.last().unwrap(), &mut random));
        }
        let total: usize = versions.iter().map(Vec::len).sum();
        let first = &versions[0];
        for target in means.split(',').map(|mean| mean.parse::<f64>().unwrap() * 1024.0) {
            for kind in ChunkerKind::ALL {
                let (chunker, asked) = calibrated(kind, target, first);
                let speed = first.len() as f64 / best_time(chunker.as_ref(), first).as_secs_f64() / 1e9;
                let mut zstd = zstd::bulk::Compressor::new(3).unwrap();
                let mut stored: HashMap<u128, usize> = HashMap::new();
                let (mut unique, mut first_unique, mut runs) = (0_usize, 0_usize, 0_usize);
                for (index, version) in versions.iter().enumerate() {
                    lengths(chunker.as_ref(), version, |chunk| {
                        runs += 1;
                        stored.entry(xxhash_rust::xxh3::xxh3_128(chunk)).or_insert_with(|| {
                            unique += chunk.len();
                            zstd.compress(chunk).unwrap().len().min(chunk.len())
                        });
                    });
                    if index == 0 {
                        first_unique = unique;
                    }
                }
                let compressed: usize = stored.values().sum();
                let records = stored.len() * RECORDS_BYTES * 2 / 3 + runs * RECORDS_BYTES / 3;
                let sizes = chunker.sizes();
                println!(
                    "| {name} | {kind} | {:.1}; {:.1} | {}; {} | {speed:.1} | {:.3} | {:.3} | {:.3} | {:.1} |",
                    f64::from(asked) / 1024.0,
                    measured_mean(chunker.as_ref(), first) / 1024.0,
                    sizes.min_bytes,
                    sizes.max_bytes,
                    total as f64 / unique as f64,
                    first.len() as f64 / first_unique as f64,
                    unique as f64 / compressed as f64,
                    (compressed + records) as f64 / f64::from(1 << 20),
                );
            }
        }
    }
}
