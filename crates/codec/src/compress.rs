//! Raw bytes to stored bytes.

use zstd::zstd_safe::{CCtx, CParameter, max_c_level, min_c_level};

use crate::probe::Probe;
use crate::{CodecError, Encoding};

/// A block that doesn't shrink by this share isn't worth the time to decode it.
const LEAST_GAIN_ONE_IN: usize = 16;

/// Compresses blocks, one at a time. One per worker thread: it keeps zstd's contexts.
pub struct Compressor {
    zstd: CCtx<'static>,
    probe: Probe,
}

impl Compressor {
    /// Level of a volume unless its configuration has another (docs/decisions/0007-compression.md).
    pub const DEFAULT_LEVEL: i32 = 2;

    /// A compressor of a zstd level.
    ///
    /// # Errors
    /// [`CodecError::Level`] when zstd has no such level; [`CodecError::OutOfMemory`].
    pub fn new(level: i32) -> Result<Self, CodecError> {
        let (lowest, highest) = (min_c_level(), max_c_level());
        if !(lowest..=highest).contains(&level) {
            return Err(CodecError::Level { level, lowest, highest });
        }
        let mut zstd = CCtx::try_create().ok_or(CodecError::OutOfMemory)?;
        zstd.set_parameter(CParameter::CompressionLevel(level)).map_err(|_| CodecError::OutOfMemory)?;
        Ok(Self { zstd, probe: Probe::new()? })
    }

    /// Replaces the contents of `out` by the bytes to store for `raw` and says how they are encoded.
    ///
    /// Never fails and never stores more than `raw.len()` bytes: what doesn't shrink by a sixteenth is stored raw.
    pub fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Encoding {
        let limit_bytes = raw.len() - raw.len().div_ceil(LEAST_GAIN_ONE_IN);
        out.clear();
        out.reserve(raw.len());
        if !self.probe.hopeless(raw, limit_bytes, out)
            && let Ok(stored_bytes) = self.zstd.compress2(out, raw)
            && stored_bytes <= limit_bytes
        {
            return Encoding::Zstd;
        }
        out.clear();
        out.extend_from_slice(raw);
        Encoding::Raw
    }
}
