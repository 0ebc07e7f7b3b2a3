//! The point at which a chunker of two masks changes from the strict to the loose one.

use crate::ChunkSizes;

/// Mean ways, in bytes, to the next place that each mask would cut on data of high entropy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CutRates {
    pub(crate) strict_bytes: f64,
    pub(crate) loose_bytes: f64,
}

/// The normal point, in bytes from the chunk's start, from which chunks of high-entropy data have the mean size wanted.
///
/// With s and l the ways of the masks, E the share of chunks that reach the point, and the largest size so far away
/// that it doesn't count: mean = min + s (1 - E) + l E. So E follows from the mean, and the point n from
/// E = (1 - 1/s)^(n - min). Lies between `min_bytes` and `max_bytes` where the mean can't be had.
///
/// Boundaries of stored volumes depend on the result, so it uses only the operations that IEEE 754 rounds exactly.
pub(crate) fn normal_bytes(sizes: ChunkSizes, rates: CutRates) -> u32 {
    let (min, mean) = (f64::from(sizes.min_bytes), f64::from(sizes.mean_bytes));
    let reaching = (min + rates.strict_bytes - mean) / (rates.strict_bytes - rates.loose_bytes);
    let survives = 1.0 - 1.0 / rates.strict_bytes;
    let (mut low, mut high) = (0, sizes.max_bytes - sizes.min_bytes);
    while low < high {
        let middle = u32::midpoint(low, high);
        if power(survives, middle) > reaching { low = middle + 1 } else { high = middle }
    }
    sizes.min_bytes + low
}

fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut product = 1.0;
    while exponent != 0 {
        if exponent & 1 == 1 {
            product *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    product
}
