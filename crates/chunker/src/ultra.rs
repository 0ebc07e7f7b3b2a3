//! UltraCDC (Zhou, Wang, Xia, Zhang: "UltraCDC: A Fast and Stable Content-Defined Chunking Algorithm for
//! Deduplication-based Backup Storage Systems", IPCCC 2022), written from its description.
//!
//! From the smallest length on, the input is taken in 8-byte blocks. A place is a cut when the Hamming distance between
//! the 8 bytes before it and the pattern 0xAA… has zeros under a mask: a strict mask up to the normal point, a loose
//! one behind it. A block equal to the one before it holds no cut, but the 64th such block in a row ends the chunk.
//!
//! The masks are the paper's for any size; the mean is set by the normal point. On text, whose bytes lie far from the
//! pattern, most chunks grow to the largest size: there this chunker finds few duplicates behind an insertion.
//!
//! The distances of the eight places of a block are computed together, one per byte of a 64-bit word.

use crate::normal::{CutRates, normal_bytes};
use crate::{ChunkSizes, Chunker, End};

const BLOCK_BYTES: usize = 8;
/// A byte of ones in each place: multiplying by it copies a byte to all, or sums up bytes from the lowest on.
const ONES: u64 = 0x0101_0101_0101_0101;
const PATTERN: u64 = 0xAA * ONES;
/// Zeros here: distance 0, 16 or 64, which a window of random bytes has once in 37,700.
const STRICT_MASK: u64 = 0x2F * ONES;
/// Zeros here: distance 0 to 3, 16 to 19 or 64, which a window of random bytes has once in 1300.
const LOOSE_MASK: u64 = 0x2C * ONES;
/// Equal blocks in a row that end a chunk (LEST in the paper).
const EQUAL_BLOCKS_MAX: u32 = 64;
/// Mean ways from a random place of random bytes to the next cut of each mask, measured over 4 GiB. They are longer
/// than the density says because overlapping windows make cuts come in clusters.
pub(crate) const RATES: CutRates = CutRates { strict_bytes: 45_200.0, loose_bytes: 2_200.0 };

/// See the module.
#[derive(Debug)]
pub(crate) struct UltraChunker {
    sizes: ChunkSizes,
    /// Blocks, counted from the smallest length, that the strict mask judges; the first one is only looked back on.
    strict_blocks: usize,
}

/// Where the scan stands between the two masks.
struct Scan {
    block: u64,
    /// Byte `j` is the distance of the block's first `j + 1` bytes from the pattern.
    sums: u64,
    equal_blocks: u32,
}

impl UltraChunker {
    /// `sizes` must be validated.
    pub(crate) fn new(sizes: ChunkSizes) -> Self {
        let normal = normal_bytes(sizes, RATES);
        Self { sizes, strict_blocks: ((normal - sizes.min_bytes) as usize).div_ceil(BLOCK_BYTES).max(1) }
    }
}

impl Chunker for UltraChunker {
    fn first_chunk(&self, data: &[u8], end: End) -> Option<usize> {
        let (min, max) = (self.sizes.min_bytes as usize, self.sizes.max_bytes as usize);
        let reach = &data[..data.len().min(max)];
        let cut = reach.get(min..).and_then(|rest| {
            let (first, blocks) = rest.as_chunks::<BLOCK_BYTES>().0.split_first()?;
            let (strict, loose) = blocks.split_at(blocks.len().min(self.strict_blocks - 1));
            let mut scan = Scan::after(u64::from_le_bytes(*first));
            let ahead = min + BLOCK_BYTES;
            scan.find(strict, STRICT_MASK).map(|at| ahead + at).or_else(|| {
                let ahead = ahead + strict.len() * BLOCK_BYTES;
                scan.find(loose, LOOSE_MASK).map(|at| ahead + at)
            })
        });
        match (cut, end) {
            (Some(cut), _) => Some(cut),
            (None, End::More) if data.len() < max => None,
            (None, End::More | End::Last) => (!reach.is_empty()).then_some(reach.len()),
        }
    }

    fn sizes(&self) -> ChunkSizes {
        self.sizes
    }
}

impl Scan {
    fn after(block: u64) -> Self {
        Self { block, sums: distance_sums(block), equal_blocks: 0 }
    }

    /// Offset in bytes of the first cut in `blocks`.
    fn find(&mut self, blocks: &[[u8; BLOCK_BYTES]], mask: u64) -> Option<usize> {
        for (index, block) in blocks.iter().enumerate() {
            let block = u64::from_le_bytes(*block);
            if block == self.block {
                self.equal_blocks += 1;
                if self.equal_blocks == EQUAL_BLOCKS_MAX {
                    return Some((index + 1) * BLOCK_BYTES);
                }
                continue;
            }
            self.equal_blocks = 0;
            let sums = distance_sums(block);
            // Byte j: the window that ends before the block's byte j, which is what the last block has from its byte j
            // on, and what this one has before it. Each is at most 64, so no byte borrows from the next.
            let before = (self.sums >> 56).wrapping_mul(ONES).wrapping_sub(self.sums << 8);
            let zeros = first_zero_bytes(before.wrapping_add(sums << 8) & mask);
            if zeros != 0 {
                return Some(index * BLOCK_BYTES + zeros.trailing_zeros() as usize / 8);
            }
            self.block = block;
            self.sums = sums;
        }
        None
    }
}

/// Running sums, lowest byte first, of the Hamming distances of `block`'s bytes to the pattern's.
#[inline]
const fn distance_sums(block: u64) -> u64 {
    let bits = block ^ PATTERN;
    let pairs = bits - ((bits >> 1) & (0x55 * ONES));
    let nibbles = (pairs & (0x33 * ONES)) + ((pairs >> 2) & (0x33 * ONES));
    let bytes = (nibbles + (nibbles >> 4)) & (0x0F * ONES);
    bytes.wrapping_mul(ONES)
}

/// Zero when no byte of `word` is; else the lowest bit set belongs to its lowest zero byte.
#[inline]
const fn first_zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (0x80 * ONES)
}
