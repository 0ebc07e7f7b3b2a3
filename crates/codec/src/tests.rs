//! `VERFS_TEST_FACTOR` multiplies the number of cases of each property.
#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::probe::Probe;
use crate::{CodecError, Compressor, Decompressor, Encoding};

/// `usual` cases, times `VERFS_TEST_FACTOR` if that is set. A failure prints the whole input, so no file is kept of it.
fn cases(usual: u32) -> Config {
    let factor = std::env::var("VERFS_TEST_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    Config { cases: usual.saturating_mul(factor), failure_persistence: None, ..Config::default() }
}

/// splitmix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }

    fn text(&mut self, count: usize) -> Vec<u8> {
        const WORDS: [&str; 8] = ["inode ", "dentry ", "extent ", "chunk ", "pack ", "epoch ", "txg ", "tombstone\n"];
        (0..count).flat_map(|_| WORDS[self.below(8)].bytes()).take(count).collect()
    }
}

/// Blocks made of stretches of random bytes, text and zeros, of any proportion.
fn block(seed: u64, bytes_max: usize) -> Vec<u8> {
    let mut random = SplitMix(seed);
    let count = random.below(bytes_max + 1);
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let stretch = (1 + random.below(bytes_max)).min(count - out.len());
        match random.below(3) {
            0 => out.extend(random.bytes(stretch)),
            1 => out.extend(random.text(stretch)),
            _ => out.resize(out.len() + stretch, 0),
        }
    }
    out
}

fn encoded(raw: &[u8]) -> (Encoding, Vec<u8>) {
    let mut stored = Vec::new();
    (Compressor::new(Compressor::DEFAULT_LEVEL).unwrap().encode(raw, &mut stored), stored)
}

/// Random bytes that come again after a prime number of them, so that a sample at even distances doesn't see it.
fn repeated_strings(random: &mut SplitMix, count: usize) -> Vec<u8> {
    random.bytes(10_007).into_iter().cycle().take(count).collect()
}

/// Sixteen byte values at random.
fn nibbles(random: &mut SplitMix, count: usize) -> Vec<u8> {
    random.bytes(count).iter().map(|byte| byte & 0xF0).collect()
}

/// A stored block that zstd shrank, and its raw bytes.
fn zstd_block(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut random = SplitMix(seed);
    let text_bytes = 200 + random.below(30_000);
    let raw = [random.bytes(1 + text_bytes / 3), random.text(text_bytes)].concat();
    let (encoding, stored) = encoded(&raw);
    assert_eq!(encoding, Encoding::Zstd);
    (raw, stored)
}

fn decoded(stored: &[u8], raw_len: usize) -> Result<bytes::Bytes, CodecError> {
    Decompressor::new().decode(Encoding::Zstd, stored, raw_len)
}

fn reason(result: Result<bytes::Bytes, CodecError>) -> &'static str {
    match result.unwrap_err() {
        CodecError::Corrupt { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn blocks_come_back_and_never_take_more_than_their_length(
        level in -5..12_i32, seeds in proptest::collection::vec(any::<u64>(), 1..6)
    ) {
        let (mut compressor, mut decompressor) = (Compressor::new(level).unwrap(), Decompressor::new());
        // Filled, as a worker's buffer is by the block before.
        let mut stored = vec![7; 100];
        for seed in seeds {
            let raw = block(seed, 100_000);
            let encoding = compressor.encode(&raw, &mut stored);
            match encoding {
                Encoding::Raw => prop_assert!(stored == raw),
                Encoding::Zstd => prop_assert!(stored.len() + raw.len().div_ceil(16) <= raw.len()),
            }
            let back = decompressor.decode(encoding, &stored, raw.len());
            prop_assert!(back.as_deref() == Ok(&raw[..]), "block {} at level {}", seed, level);
        }
    }

    #[test]
    fn damage_gives_an_error_or_the_length_expected(seed: u64) {
        let (raw, mut stored) = zstd_block(seed);
        let mut random = SplitMix(!seed);
        for _ in 0..1 + random.below(4) {
            let (place, flip) = (random.below(stored.len()), 1 << random.below(8));
            stored[place] ^= flip;
        }
        let mut decompressor = Decompressor::new();
        if let Ok(back) = decompressor.decode(Encoding::Zstd, &stored, raw.len()) {
            prop_assert_eq!(back.len(), raw.len());
        }
        let (whole_raw, whole) = zstd_block(seed);
        let back = decompressor.decode(Encoding::Zstd, &whole, whole_raw.len());
        prop_assert!(back.as_deref() == Ok(&whole_raw[..]), "a block after a damaged one");
    }

    #[test]
    fn a_block_cut_short_or_grown_or_of_another_length_is_refused(seed: u64) {
        let (raw, stored) = zstd_block(seed);
        let mut random = SplitMix(!seed);
        prop_assert!(decoded(&stored[..random.below(stored.len())], raw.len()).is_err());
        let tail = 1 + random.below(20);
        prop_assert!(decoded(&[stored.clone(), random.bytes(tail)].concat(), raw.len()).is_err());
        prop_assert!(decoded(&stored, raw.len() + tail).is_err());
        prop_assert!(decoded(&stored, raw.len() - tail).is_err());
        let raw_refused = Decompressor::new().decode(Encoding::Raw, &stored, stored.len() - tail);
        prop_assert_eq!(reason(raw_refused), "the length differs");
    }

    #[test]
    fn arbitrary_bytes_behind_a_frame_header_never_yield_another_length(
        tail in proptest::collection::vec(any::<u8>(), 0..200), raw_len in 0..300_usize
    ) {
        let stored = [[0x28, 0xB5, 0x2F, 0xFD].as_slice(), &tail].concat();
        if let Ok(back) = decoded(&stored, raw_len) {
            prop_assert_eq!(back.len(), raw_len);
        }
    }
}

#[test]
fn what_shrinks_is_compressed_and_what_does_not_is_stored_raw() {
    const BLOCK: usize = 32 << 10;
    let mut random = SplitMix(1);
    let (repeated, nibbles) = (repeated_strings(&mut random, BLOCK), nibbles(&mut random, BLOCK));
    for (name, raw, expected) in [
        ("random", random.bytes(BLOCK), Encoding::Raw),
        ("text", random.text(BLOCK), Encoding::Zstd),
        (
            "random and a quarter of text",
            [random.bytes(BLOCK * 3 / 4), random.text(BLOCK / 4)].concat(),
            Encoding::Zstd,
        ),
        (
            "random and too little text",
            [random.bytes(BLOCK * 31 / 32), random.text(BLOCK / 32)].concat(),
            Encoding::Raw,
        ),
        ("even bytes, but repeated strings", repeated, Encoding::Zstd),
        ("no repeated strings, but few byte values", nibbles, Encoding::Zstd),
        ("short text", random.text(100), Encoding::Zstd),
        ("short random and too few zeros", [random.bytes(1500), vec![0; 60]].concat(), Encoding::Raw),
        ("short random", random.bytes(100), Encoding::Raw),
        ("nothing", Vec::new(), Encoding::Raw),
        ("one byte", vec![0], Encoding::Raw),
    ] {
        assert_eq!(encoded(&raw).0, expected, "{name}");
    }
}

#[test]
fn the_forecast_gives_up_on_random_bytes_only() {
    let (mut random, mut probe, mut scratch) = (SplitMix(2), Probe::new().unwrap(), Vec::with_capacity(40_000));
    for count in [2048, 5000, 32 << 10, 128 << 10] {
        let mut hopeless = |raw: &[u8]| probe.hopeless(raw, raw.len() - raw.len() / 16, &mut scratch);
        assert!(hopeless(&random.bytes(count)), "{count} random bytes");
        assert!(!hopeless(&random.text(count)), "{count} bytes of text");
        assert!(!hopeless(&nibbles(&mut random, count)), "{count} nibbles");
        assert!(
            count < 20_000 || !hopeless(&repeated_strings(&mut random, count)),
            "{count} bytes of repeated strings"
        );
    }
}

#[test]
fn random_bytes_are_not_tried_at_a_slow_level() {
    let raw = SplitMix(3).bytes(256 << 10);
    let fastest = |mut work: Box<dyn FnMut() + '_>| {
        let timed = |()| {
            let start = std::time::Instant::now();
            work();
            start.elapsed()
        };
        std::iter::repeat_n((), 5).map(timed).min().unwrap()
    };
    let (mut zstd, mut bare) = (zstd::bulk::Compressor::new(19).unwrap(), Vec::with_capacity(2 * raw.len()));
    let tried = fastest(Box::new(|| {
        bare.clear();
        zstd.compress_to_buffer(&raw, &mut bare).unwrap();
    }));
    let (mut compressor, mut stored) = (Compressor::new(19).unwrap(), Vec::new());
    let encoded = fastest(Box::new(|| assert_eq!(compressor.encode(&raw, &mut stored), Encoding::Raw)));
    assert!(encoded * 4 < tried, "{encoded:?} with the forecast, {tried:?} without");
}

#[test]
fn a_frame_of_many_bytes_is_refused_where_few_are_expected() {
    let (_, bomb) = encoded(&vec![0; 64 << 20]);
    assert!(bomb.len() < 10_000);
    assert_eq!(reason(decoded(&bomb, 1000)), "the length differs");
}

#[test]
fn frames_that_no_compressor_of_ours_writes_are_refused() {
    let (raw, stored) = zstd_block(1);
    let twice = [stored.clone(), stored.clone()].concat();
    assert_eq!(reason(decoded(&twice, raw.len() * 2)), "bytes follow the frame");
    assert_eq!(reason(decoded(&twice, raw.len())), "bytes follow the frame");
    // A skippable frame of no bytes, and the magic number of format 0.7.
    assert_eq!(reason(decoded(&[0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0], 0)), "no zstd frame begins here");
    assert_eq!(reason(decoded(&[0x27, 0xB5, 0x2F, 0xFD, 0, 0, 0, 0], 0)), "no zstd frame begins here");
    // One empty last block behind a header that doesn't tell the size, and behind one that tells 100 bytes.
    assert_eq!(reason(decoded(&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58, 1, 0, 0], 0)), "the length differs");
    assert!(decoded(&[0x28, 0xB5, 0x2F, 0xFD, 0x20, 100, 1, 0, 0], 100).is_err());
}

#[test]
fn a_length_beyond_all_memory_is_an_error() {
    let announced: u64 = 1 << 62;
    let stored = [&[0x28, 0xB5, 0x2F, 0xFD, 0xE0][..], &announced.to_le_bytes(), &[1, 0, 0]].concat();
    assert_eq!(decoded(&stored, 1 << 62), Err(CodecError::OutOfMemory));
}

#[test]
fn codes_on_disk_are_what_they_were() {
    assert_eq!((Encoding::Raw.code(), Encoding::Zstd.code()), (0, 1));
    assert_eq!((Encoding::try_from(0), Encoding::try_from(1)), (Ok(Encoding::Raw), Ok(Encoding::Zstd)));
    for code in 2..=255 {
        assert_eq!(Encoding::try_from(code), Err(CodecError::UnknownEncoding { code }));
    }
}

#[test]
fn a_level_that_zstd_lacks_is_refused() {
    let refused = Compressor::new(23).map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), "zstd has no level 23: use one of -131072 to 22");
    assert!(Compressor::new(22).is_ok());
}

/// Written by zstd 1.5.7 at level 3: what volumes hold must stay readable.
#[test]
fn a_stored_block_of_the_first_release_is_read() {
    let stored = [
        0x28, 0xB5, 0x2F, 0xFD, 0x20, 0x60, 0x6D, 0x00, 0x00, 0x30, 0x76, 0x65, 0x72, 0x66, 0x73, 0x20, 0x01, 0x00,
        0x97, 0xA9, 0x14, 0x01,
    ];
    assert_eq!(decoded(&stored, 96).unwrap(), [b"verfs ".as_slice(); 16].concat());
}
