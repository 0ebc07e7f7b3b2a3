//! MinCDC by a hash of 4 bytes (Orson Peters, <https://github.com/orlp/mincdc>), from crate `mothcdc`.

use mothcdc::mincdc::{Cdc, MinCdcHash4};

use crate::{ChunkSizes, Chunker, End};

/// Bytes that the hash of a position looks back on.
const WINDOW_BYTES: usize = 4;
/// The hash of a window, read as a little-endian number x, is `x * MULTIPLIER + ADDEND` modulo 2^32. They are the
/// crate's defaults, repeated because the boundaries of stored volumes depend on them.
const MULTIPLIER: u32 = 0x915F_77F5;
const ADDEND: u32 = 0x3463_6463;

/// Cuts where a hash of the last 4 bytes is smallest between the bounds, at the earliest place on a tie.
///
/// The window search runs on AVX-512, AVX2, SSE4.1 or NEON, as the CPU of the moment has them; all find the same place.
#[derive(Debug)]
pub(crate) struct MinChunker {
    sizes: ChunkSizes,
    hash: MinCdcHash4,
}

impl MinChunker {
    /// `sizes` must be validated.
    pub(crate) const fn new(sizes: ChunkSizes) -> Self {
        Self { sizes, hash: MinCdcHash4::with_params(MULTIPLIER, ADDEND) }
    }
}

impl Chunker for MinChunker {
    fn first_chunk(&self, data: &[u8], end: End) -> Option<usize> {
        let (min, max) = (self.sizes.min_bytes as usize, self.sizes.max_bytes as usize);
        if data.is_empty() || (end == End::More && data.len() < max) {
            return None;
        }
        if data.len() <= min {
            return Some(data.len());
        }
        let start = min - WINDOW_BYTES;
        Some(start + self.hash.best_splitpoint(&data[start..max.min(data.len())]))
    }

    fn sizes(&self) -> ChunkSizes {
        self.sizes
    }
}
