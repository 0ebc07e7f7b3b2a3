//! What every chunker promises, whatever the input.

use std::collections::HashSet;

use proptest::prelude::*;

use super::data::{self, Shape, SplitMix};
use super::{cases, cut_all};
use crate::{ChunkSizes, Chunker, ChunkerKind, End, chunker};

fn kind() -> impl Strategy<Value = ChunkerKind> {
    proptest::sample::select(ChunkerKind::ALL.as_slice())
}

fn sizes() -> impl Strategy<Value = ChunkSizes> {
    (64..2000_u32, 1..4000_u32, 1..8000_u32).prop_map(|(min_bytes, to_mean, to_max)| {
        let mean_bytes = (min_bytes + to_mean).max(ChunkSizes::LOWEST_MEAN_BYTES);
        ChunkSizes { min_bytes, mean_bytes, max_bytes: mean_bytes + to_max }
    })
}

/// Chunks `data` through a buffer that is refilled by random steps, as a writer that streams does it.
fn cut_streaming(chunker: &dyn Chunker, data: &[u8], random: &mut SplitMix) -> Vec<usize> {
    let max = chunker.sizes().max_bytes as usize;
    let (mut lengths, mut start, mut filled) = (Vec::new(), 0, 0);
    loop {
        let buffer = &data[start..filled];
        let end = if filled == data.len() && random.below(2) == 0 { End::Last } else { End::More };
        match chunker.first_chunk(buffer, end) {
            Some(length) => {
                lengths.push(length);
                start += length;
            }
            None if end == End::Last => return lengths,
            None => {
                assert!(buffer.len() < max, "undecided with {} bytes at hand", buffer.len());
                let refill = [1 + random.below(max * 2), (max - buffer.len()).max(1)][random.below(2)];
                filled = data.len().min(filled + refill);
            }
        }
    }
}

/// Chunks of `new` that are not chunks of `old`, where `new` is `old` with `inserted` bytes at `place`.
fn changed_chunks(chunker: &dyn Chunker, old: &[u8], new: &[u8], place: usize, inserted: usize) -> usize {
    let ends = |data| {
        cut_all(chunker, data)
            .iter()
            .scan(0, |end, chunk| {
                let start = *end;
                *end += chunk.len();
                Some((start, *end))
            })
            .collect::<Vec<_>>()
    };
    let before: HashSet<_> = ends(old).into_iter().collect();
    ends(new)
        .into_iter()
        .filter(|&(start, end)| {
            let old = if end <= place { (start, end) } else { (start.wrapping_sub(inserted), end - inserted) };
            !(before.contains(&old) && (end <= place || start >= place + inserted))
        })
        .count()
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn chunks_make_up_the_input_and_keep_the_bounds(
        kind in kind(), sizes in sizes(), shape in data::shape(), seed: u64, count in 0..60_000_usize
    ) {
        let data = data::bytes(shape, seed, count);
        let chunker = chunker(kind, sizes).unwrap();
        prop_assert_eq!(chunker.sizes(), sizes);
        let chunks = cut_all(chunker.as_ref(), &data);
        prop_assert!(chunks.concat() == data);
        let allowed = sizes.min_bytes as usize..=sizes.max_bytes as usize;
        if let Some((last, others)) = chunks.split_last() {
            prop_assert!(others.iter().all(|chunk| allowed.contains(&chunk.len())));
            prop_assert!(last.len() <= *allowed.end());
        }
    }

    #[test]
    fn boundaries_are_the_same_whatever_the_refills(
        kind in kind(), sizes in sizes(), shape in data::shape(), seed: u64, count in 0..60_000_usize
    ) {
        let data = data::bytes(shape, seed, count);
        let chunker = chunker(kind, sizes).unwrap();
        let at_once: Vec<usize> = cut_all(chunker.as_ref(), &data).iter().map(|chunk| chunk.len()).collect();
        prop_assert_eq!(cut_streaming(chunker.as_ref(), &data, &mut SplitMix(seed)), at_once);
    }

    #[test]
    fn repeated_bytes_become_few_distinct_chunks(kind in kind(), sizes in sizes(), period in 1..40_usize, seed: u64) {
        let data = data::bytes(Shape::Period(period), seed, 400_000);
        let chunker = chunker(kind, sizes).unwrap();
        let mut chunks = cut_all(chunker.as_ref(), &data);
        chunks.pop();
        // A chunk depends only on where in the period it starts.
        let distinct: HashSet<&[u8]> = chunks.into_iter().collect();
        prop_assert!(distinct.len() <= period, "{} distinct chunks", distinct.len());
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn an_insertion_changes_few_chunks(seed: u64) {
        let mut random = SplitMix(seed);
        for (kind, shape) in [
            (ChunkerKind::Min, Shape::Random),
            (ChunkerKind::Min, Shape::Text),
            (ChunkerKind::Fast, Shape::Random),
            (ChunkerKind::Fast, Shape::Text),
            // Not on text: its bytes are far from UltraCDC's pattern, so most chunks end at the largest size.
            (ChunkerKind::Ultra, Shape::Random),
        ] {
            let old = data::bytes(shape, seed, 2 << 20);
            let chunker = chunker(kind, ChunkSizes::for_mean(kind, 8 << 10).unwrap()).unwrap();
            let counts: Vec<usize> = (0..24).map(|_| {
                let (place, inserted) = (random.below(old.len()), 1 + random.below(100));
                let new = [&old[..place], &data::bytes(Shape::Random, random.next(), inserted), &old[place..]].concat();
                changed_chunks(chunker.as_ref(), &old, &new, place, inserted)
            }).collect();
            let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
            prop_assert!(mean < 3.0, "{} {:?}: {} of 256 chunks in the mean, {:?}", kind, shape, mean, counts);
        }
    }
}

#[test]
fn chunks_of_random_bytes_have_the_mean_size_asked_for() {
    let data = data::bytes(Shape::Random, 1, 64 << 20);
    for kind in ChunkerKind::ALL {
        for mean in [8 << 10, 32 << 10, 64 << 10] {
            let chunker = chunker(kind, ChunkSizes::for_mean(kind, mean).unwrap()).unwrap();
            let measured = data.len() as f64 / cut_all(chunker.as_ref(), &data).len() as f64;
            let deviation = measured / f64::from(mean) - 1.0;
            assert!(deviation.abs() < 0.04, "{kind}: {measured:.0} bytes where {mean} were asked for");
        }
    }
}
