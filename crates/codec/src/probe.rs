//! A cheap forecast of whether compression is worth its time.
//!
//! zstd gains by shorter codes for frequent bytes and by repeated strings. The first gain is bounded by a sample of the
//! bytes, the second is tried at a level that only looks for strings, six times as fast as the real one on such input.

use zstd::zstd_safe::{CCtx, CParameter};

use crate::CodecError;

/// Shorter blocks aren't worth a forecast.
const PROBED_BYTES_MIN: usize = 2048;
const SLICES: usize = 32;
const SLICE_BYTES: usize = 32;
/// A pair of sampled bytes that are equal less often than once in 181 means at least log2 181 = 7.5 bits a byte: less
/// than 1/16 to gain by codes. (The collision entropy is never above Shannon's, and pairs estimate it without bias.)
const EQUAL_PAIRS_ONE_IN: u64 = 181;
/// Codes no byte shorter, and finds what strings there are at 8 GB/s where there are none.
const STRINGS_LEVEL: i32 = -1;

/// Forecasts blocks, one at a time.
pub(crate) struct Probe {
    strings: CCtx<'static>,
}

impl Probe {
    pub(crate) fn new() -> Result<Self, CodecError> {
        let mut strings = CCtx::try_create().ok_or(CodecError::OutOfMemory)?;
        strings.set_parameter(CParameter::CompressionLevel(STRINGS_LEVEL)).map_err(|_| CodecError::OutOfMemory)?;
        Ok(Self { strings })
    }

    /// Whether `raw` surely doesn't shrink to `limit_bytes`. Leaves anything in `scratch`.
    pub(crate) fn hopeless(&mut self, raw: &[u8], limit_bytes: usize, scratch: &mut Vec<u8>) -> bool {
        raw.len() >= PROBED_BYTES_MIN
            && bytes_are_even(raw)
            && match self.strings.compress2(scratch, raw) {
                Ok(stored_bytes) => stored_bytes > limit_bytes,
                Err(_too_long) => true,
            }
    }
}

/// Whether the bytes of a sample are so evenly distributed that codes gain less than 1/16.
fn bytes_are_even(raw: &[u8]) -> bool {
    // Counters side by side, so that equal neighbours don't wait for each other's.
    let mut counts = [[0_u16; 256]; 2];
    for slice in raw.chunks_exact(raw.len() / SLICES).take(SLICES) {
        for pair in slice[..SLICE_BYTES].as_chunks::<2>().0 {
            counts[0][usize::from(pair[0])] += 1;
            counts[1][usize::from(pair[1])] += 1;
        }
    }
    const SAMPLED: u64 = (SLICES * SLICE_BYTES) as u64;
    let equal_pairs: u64 = std::iter::zip(&counts[0], &counts[1])
        .map(|(first, second)| u64::from(first + second))
        .map(|count| count * count.saturating_sub(1))
        .sum();
    equal_pairs * EQUAL_PAIRS_ONE_IN < SAMPLED * (SAMPLED - 1)
}
