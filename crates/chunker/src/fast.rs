//! FastCDC (Xia et al.: "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems",
//! IEEE TPDS 2020), from crate `fastcdc`.

use fastcdc::v2020::{Normalization, cut, select_masks};

use crate::normal::{CutRates, normal_bytes};
use crate::{ChunkSizes, Chunker, End};

/// Two bits more in the strict mask and two fewer in the loose one: what the paper recommends.
const NORMALIZATION: Normalization = Normalization::Level2;

/// Cuts where the gear hash has zeros under a mask: a strict one up to the normal point, a loose one behind it.
///
/// The paper's chunks are larger than its "average", which is its normal point. Here that point is set so that the
/// mean is the one asked for.
#[derive(Debug)]
pub(crate) struct FastChunker {
    sizes: ChunkSizes,
    strict_mask: u64,
    loose_mask: u64,
    normal: usize,
}

impl FastChunker {
    /// `sizes` must be validated.
    pub(crate) fn new(sizes: ChunkSizes) -> Self {
        let (strict_mask, loose_mask) = select_masks(sizes.mean_bytes as usize, NORMALIZATION);
        let way = |mask: u64| (1_u64 << mask.count_ones()) as f64;
        let rates = CutRates { strict_bytes: way(strict_mask), loose_bytes: way(loose_mask) };
        Self { sizes, strict_mask, loose_mask, normal: normal_bytes(sizes, rates) as usize }
    }
}

impl Chunker for FastChunker {
    fn first_chunk(&self, data: &[u8], end: End) -> Option<usize> {
        // The crate steps by two bytes, so its bounds are even.
        let (min, max) = (self.sizes.min_bytes.next_multiple_of(2) as usize, self.sizes.max_bytes as usize & !1);
        let normal = self.normal.next_multiple_of(2).clamp(min, max);
        let (_, length) =
            cut(data, min, normal, max, self.strict_mask, self.loose_mask, self.strict_mask << 1, self.loose_mask << 1);
        let undecided = end == End::More && length == data.len() && length < max;
        (!undecided && length != 0).then_some(length)
    }

    fn sizes(&self) -> ChunkSizes {
        self.sizes
    }
}
