//! Measures zstd levels on blocks as a volume has them: bare, and through [`Compressor`] with its forecast. Prints a
//! Markdown table; docs/decisions/0007-compression.md has its results.
//!
//! `cargo run --release -p verfs-codec --example levels -- 32 NAME=FILE…` (block length in KiB; inputs beside the random one)
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measuring program: a panic is its error message")]

use std::time::Instant;

use verfs_codec::{Compressor, Decompressor, Encoding};
use zstd::zstd_safe::{CCtx, CParameter};

/// What btrfs rounds a compressed extent up to.
const SECTOR_BYTES: usize = 4 << 10;
const INPUT_BYTES: usize = 32 << 20;
const PASSES: usize = 5;
const LEVELS: [i32; 6] = [-1, 1, 2, 3, 4, 5];

/// splitmix64.
fn random_bytes(mut state: u64) -> Vec<u8> {
    let mut word = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    (0..INPUT_BYTES / 8).flat_map(|_| word().to_le_bytes()).collect()
}

/// GB/s of the fastest of several passes over all blocks.
fn best_speed(data: &[u8], block_bytes: usize, mut pass: impl FnMut(&[u8])) -> f64 {
    let seconds = (0..PASSES)
        .map(|_| {
            let start = Instant::now();
            data.chunks(block_bytes).for_each(&mut pass);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    data.len() as f64 / seconds / 1e9
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (block_kib, files) = arguments.split_first().expect("block length in KiB, then NAME=FILE…");
    let block_bytes = block_kib.parse::<usize>().unwrap() << 10;
    let random = random_bytes(1);
    let mut inputs = vec![("random".to_owned(), random.clone())];
    for argument in files {
        let (name, path) = argument.split_once('=').expect("NAME=FILE");
        let mut data = std::fs::read(path).unwrap();
        data.truncate(INPUT_BYTES);
        if inputs.len() == 1 {
            let halves = data.chunks(block_bytes).zip(random.chunks(block_bytes));
            let half_random =
                halves.flat_map(|(data, random)| [&data[..data.len() / 2], &random[..data.len() / 2]].concat());
            inputs.push((format!("half {name}, half random"), half_random.collect()));
        }
        inputs.push((name.to_owned(), data));
    }
    println!(
        "| input | level | zstd GB/s | with forecast GB/s | decode GB/s | ratio bare | ratio stored | blocks raw |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, data) in &inputs {
        for level in LEVELS {
            let mut zstd = CCtx::create();
            zstd.set_parameter(CParameter::CompressionLevel(level)).unwrap();
            let mut out = Vec::with_capacity(2 * block_bytes);
            let (mut bare_bytes, mut sectors) = (0, 0);
            let bare = best_speed(data, block_bytes, |block| {
                out.clear();
                let stored_bytes = zstd.compress2(&mut out, block).unwrap();
                bare_bytes += stored_bytes;
                sectors += stored_bytes.div_ceil(SECTOR_BYTES);
            });
            let mut compressor = Compressor::new(level).unwrap();
            let forecast = best_speed(data, block_bytes, |block| {
                compressor.encode(block, &mut out);
            });
            let stored: Vec<(Encoding, Vec<u8>)> =
                data.chunks(block_bytes).map(|block| (compressor.encode(block, &mut out), out.clone())).collect();
            let (mut decompressor, mut blocks) = (Decompressor::new(), stored.iter().cycle());
            let decode = best_speed(data, block_bytes, |block| {
                let (encoding, stored) = blocks.next().unwrap();
                assert_eq!(decompressor.decode(*encoding, stored, block.len()).unwrap().len(), block.len());
            });
            println!(
                "| {name} | {level} | {bare:.2} | {forecast:.2} | {decode:.2} | {:.3} | {:.3} | {:.3} | {} of {} |",
                (data.len() * PASSES) as f64 / bare_bytes as f64,
                (data.len() * PASSES) as f64 / (sectors * SECTOR_BYTES) as f64,
                data.len() as f64 / stored.iter().map(|(_, stored)| stored.len()).sum::<usize>() as f64,
                stored.iter().filter(|(encoding, _)| *encoding == Encoding::Raw).count(),
                stored.len(),
            );
        }
    }
}
