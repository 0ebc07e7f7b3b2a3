//! Each chunker against its definition, computed byte by byte.

use proptest::prelude::*;

use super::{cases, data};
use crate::normal::normal_bytes;
use crate::{ChunkSizes, ChunkerKind, End, chunker, ultra};

fn sizes() -> impl Strategy<Value = ChunkSizes> {
    (64..600_u32, 1..30_000_u32, 1..30_000_u32).prop_map(|(min_bytes, to_mean, to_max)| {
        let mean_bytes = (min_bytes + to_mean).max(ChunkSizes::LOWEST_MEAN_BYTES);
        ChunkSizes { min_bytes, mean_bytes, max_bytes: mean_bytes + to_max }
    })
}

/// The place between the bounds where the hash of the 4 bytes before it is smallest, the earliest of equals.
fn min_cdc(sizes: ChunkSizes, data: &[u8]) -> usize {
    let end = data.len().min(sizes.max_bytes as usize);
    (sizes.min_bytes as usize..=end)
        .min_by_key(|&place| {
            let window = u32::from_le_bytes(data[place - 4..place].try_into().unwrap());
            window.wrapping_mul(0x915F_77F5).wrapping_add(0x3463_6463)
        })
        .unwrap_or(end)
}

/// The first place where the gear hash of the bytes since the smallest length, its own included, has zeros under the
/// mask.
fn fast_cdc(sizes: ChunkSizes, data: &[u8]) -> usize {
    use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};
    let (strict, loose) = select_masks(sizes.mean_bytes as usize, Normalization::Level2);
    let way = |mask: u64| (1_u64 << mask.count_ones()) as f64;
    let normal = normal_bytes(sizes, crate::normal::CutRates { strict_bytes: way(strict), loose_bytes: way(loose) });
    let (min, max) = (sizes.min_bytes.next_multiple_of(2) as usize, (sizes.max_bytes / 2 * 2) as usize);
    let normal = (normal.next_multiple_of(2) as usize).clamp(min, max);
    let (gear, _) = get_gear_with_seed(0);
    let end = data.len().min(max);
    let mut hash = 0_u64;
    for place in min..end / 2 * 2 {
        hash = (hash << 1).wrapping_add(gear[usize::from(data[place])]);
        if hash & (if place < normal { strict } else { loose }) == 0 {
            return place;
        }
    }
    end
}

/// The paper's algorithm with the distance counted anew at each place.
fn ultra_cdc(sizes: ChunkSizes, data: &[u8]) -> usize {
    let normal = normal_bytes(sizes, ultra::RATES) as usize;
    let end = data.len().min(sizes.max_bytes as usize);
    let mut equal_blocks = 0;
    let mut start = sizes.min_bytes as usize + 8;
    while start + 8 <= end {
        if data[start..start + 8] == data[start - 8..start] {
            equal_blocks += 1;
            if equal_blocks == 64 {
                return start + 8;
            }
        } else {
            equal_blocks = 0;
            for place in start..start + 8 {
                let distance: u32 = data[place - 8..place].iter().map(|byte| (byte ^ 0xAA).count_ones()).sum();
                if distance & (if start < normal { 0x2F } else { 0x2C }) == 0 {
                    return place;
                }
            }
        }
        start += 8;
    }
    end
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_chunk_ends_where_the_definition_says(
        sizes in sizes(), shape in data::shape(), seed: u64, count in 1..90_000_usize
    ) {
        let data = data::bytes(shape, seed, count);
        for (kind, definition) in [
            (ChunkerKind::Min, min_cdc as fn(ChunkSizes, &[u8]) -> usize),
            (ChunkerKind::Fast, fast_cdc),
            (ChunkerKind::Ultra, ultra_cdc),
        ] {
            let chunker = chunker(kind, sizes).unwrap();
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                let length = definition(sizes, rest);
                prop_assert_eq!(chunker.first_chunk(rest, End::Last), Some(length), "{}", kind);
                rest = &rest[length..];
            }
        }
    }
}

#[test]
fn ultracdc_ends_a_chunk_after_64_equal_blocks() {
    let sizes = ChunkSizes::for_mean(ChunkerKind::Ultra, 8192).unwrap();
    let chunker = chunker(ChunkerKind::Ultra, sizes).unwrap();
    assert_eq!(chunker.first_chunk(&[0; 100_000], End::Last), Some(4096 + 8 + 64 * 8));
}

#[test]
fn ultracdc_takes_the_loose_mask_from_the_normal_point_on() {
    let sizes = ChunkSizes { min_bytes: 1000, mean_bytes: 9000, max_bytes: 60_000 };
    let chunker = chunker(ChunkerKind::Ultra, sizes).unwrap();
    let normal = normal_bytes(sizes, ultra::RATES) as usize;
    let loose_from = 1000 + (normal - 1000).next_multiple_of(8);
    // Each of these two bytes is at distance 5 from the pattern's: 40 in any window, and no two blocks are equal.
    let plain: Vec<u8> = [[0x61; 8], [0xB5; 8]].concat().into_iter().cycle().skip(8).take(60_000).collect();
    assert_eq!(chunker.first_chunk(&plain, End::Last), Some(60_000));
    for (place, cut) in [(loose_from - 1, 60_000), (loose_from, loose_from), (loose_from + 100, loose_from + 100)] {
        let mut data = plain.clone();
        // Distances 2, but one 3: 17 in this window, at least 20 in its neighbours.
        data[place - 8..place].copy_from_slice(&[0xA9, 0xA9, 0xA9, 0xAD, 0xA9, 0xA9, 0xA9, 0xA9]);
        assert_eq!(chunker.first_chunk(&data, End::Last), Some(cut), "planted at {place}");
    }
}

#[test]
fn the_normal_point_is_where_the_mean_follows_from_it() {
    let rates = ultra::RATES;
    for (min_bytes, mean_bytes, normal_expected) in [
        // By hand: E = (min + s - mean) / (s - l), normal = min - s ln E.
        (4096, 8192, 4096 + 2039),
        (16_384, 32_768, 16_384 + 18_092),
        // The loose mask alone gives a larger mean; even the strict one gives a smaller mean.
        (4096, 5000, 4096),
        (4096, 90_000, 200_000),
    ] {
        let sizes = ChunkSizes { min_bytes, mean_bytes, max_bytes: 200_000 };
        assert_eq!(normal_bytes(sizes, rates), normal_expected, "{sizes:?}");
    }
}
