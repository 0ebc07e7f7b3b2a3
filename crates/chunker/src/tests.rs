//! Tests of all chunkers. `VERFS_TEST_FACTOR` multiplies the number of cases of each property.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's failure is a panic")]

mod data;
mod definitions;
mod golden;
mod properties;

use proptest::test_runner::Config;

use crate::{ChunkSizes, Chunker, ChunkerError, ChunkerKind, End, chunker};

/// `usual` cases, times `VERFS_TEST_FACTOR` if that is set. A failure prints the whole input, so no file is kept of it.
fn cases(usual: u32) -> Config {
    let factor = std::env::var("VERFS_TEST_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    Config { cases: usual.saturating_mul(factor), failure_persistence: None, ..Config::default() }
}

fn cut_all<'a>(chunker: &dyn Chunker, data: &'a [u8]) -> Vec<&'a [u8]> {
    let (mut chunks, mut rest) = (Vec::new(), data);
    while let Some(length) = chunker.first_chunk(rest, End::Last) {
        assert!(length > 0, "an empty chunk");
        let (chunk, after) = rest.split_at(length);
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

#[test]
fn names_are_parsed_back_and_others_refused() {
    for (name, kind) in [("mincdc", ChunkerKind::Min), ("fastcdc", ChunkerKind::Fast), ("ultracdc", ChunkerKind::Ultra)]
    {
        assert_eq!(name.parse(), Ok(kind));
        assert_eq!(kind.to_string(), name);
    }
    assert_eq!(
        "MinCDC".parse::<ChunkerKind>().map_err(|error| error.to_string()),
        Err("unknown chunker `MinCDC`: use mincdc, fastcdc or ultracdc".to_owned())
    );
}

#[test]
fn sizes_outside_the_bounds_are_refused() {
    let refused = |min_bytes, mean_bytes, max_bytes| {
        let error = chunker(ChunkerKind::Min, ChunkSizes { min_bytes, mean_bytes, max_bytes }).map(|_| ()).unwrap_err();
        let ChunkerError::Sizes { rule, .. } = error else { panic!("{error}") };
        rule
    };
    assert_eq!(refused(63, 128, 256), "the smallest chunk has at least 64 bytes");
    assert_eq!(refused(64, 127, 256), "the mean is at least 128 bytes");
    assert_eq!(refused(64, 128, (4 << 20) + 1), "the largest chunk has at most 4 MiB");
    assert_eq!(refused(128, 128, 256), "they must rise");
    assert_eq!(refused(64, 256, 256), "they must rise");
    for kind in ChunkerKind::ALL {
        ChunkSizes::for_mean(kind, 128).unwrap();
        ChunkSizes::for_mean(kind, 1 << 20).unwrap();
        ChunkSizes::for_mean(kind, 0).unwrap_err();
        ChunkSizes::for_mean(kind, u32::MAX).unwrap_err();
    }
}
