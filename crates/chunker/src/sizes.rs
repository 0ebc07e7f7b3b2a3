//! Size bounds of chunks.

use crate::{ChunkerError, ChunkerKind};

/// Bounds of a volume's chunks, in bytes: `min_bytes < mean_bytes < max_bytes`.
///
/// Recorded per volume; a chunker made of the same kind and sizes cuts at the same places for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkSizes {
    /// No chunk is smaller, the last of an input excepted.
    pub min_bytes: u32,
    /// What FastCDC and UltraCDC aim at on data of high entropy; MinCDC yields the middle of the bounds.
    pub mean_bytes: u32,
    /// No chunk is larger.
    pub max_bytes: u32,
}

impl ChunkSizes {
    /// Mean of a volume's chunks unless it was created with another.
    pub const DEFAULT_MEAN_BYTES: u32 = 32 << 10;
    /// Smallest allowed `mean_bytes`.
    pub const LOWEST_MEAN_BYTES: u32 = 128;
    /// Smallest allowed `min_bytes`.
    pub const LOWEST_MIN_BYTES: u32 = 64;
    /// Largest allowed `max_bytes`: bounds the memory of a stream.
    pub const HIGHEST_MAX_BYTES: u32 = 4 << 20;

    /// The bounds with which `kind` yields about `mean_bytes` on data of high entropy; those that deduplicated best at
    /// equal mean (docs/decisions/0002-default-chunker.md).
    ///
    /// MinCDC cuts anywhere between its bounds with equal likelihood, so its mean is their middle. The other two need
    /// a far upper bound, or it cuts where the content doesn't.
    ///
    /// # Errors
    /// When the bounds that follow are outside the allowed ones.
    pub fn for_mean(kind: ChunkerKind, mean_bytes: u32) -> Result<Self, ChunkerError> {
        let (min_bytes, max_bytes) = match kind {
            ChunkerKind::Min => (mean_bytes - mean_bytes / 3, mean_bytes.saturating_add(mean_bytes / 3)),
            ChunkerKind::Fast | ChunkerKind::Ultra => (mean_bytes / 2, mean_bytes.saturating_mul(4)),
        };
        let sizes = Self { min_bytes, mean_bytes, max_bytes };
        sizes.validate()?;
        Ok(sizes)
    }

    /// Checks the relations.
    ///
    /// # Errors
    /// Names the relation that doesn't hold.
    pub const fn validate(self) -> Result<(), ChunkerError> {
        let rule = if self.min_bytes < Self::LOWEST_MIN_BYTES {
            "the smallest chunk has at least 64 bytes"
        } else if self.mean_bytes < Self::LOWEST_MEAN_BYTES {
            "the mean is at least 128 bytes"
        } else if self.max_bytes > Self::HIGHEST_MAX_BYTES {
            "the largest chunk has at most 4 MiB"
        } else if self.min_bytes >= self.mean_bytes || self.mean_bytes >= self.max_bytes {
            "they must rise"
        } else {
            return Ok(());
        };
        Err(ChunkerError::Sizes {
            min_bytes: self.min_bytes,
            mean_bytes: self.mean_bytes,
            max_bytes: self.max_bytes,
            rule,
        })
    }
}
