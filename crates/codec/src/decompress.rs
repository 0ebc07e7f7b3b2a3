//! Stored bytes to raw bytes.

use bytes::Bytes;
use zstd::zstd_safe::{DCtx, MAGICNUMBER, find_frame_compressed_size, get_error_name, get_frame_content_size};

use crate::{CodecError, Encoding};

/// Decodes blocks, one at a time. One per worker thread: it keeps zstd's context.
#[derive(Default)]
pub struct Decompressor {
    zstd: DCtx<'static>,
}

impl Decompressor {
    /// A decompressor; it decodes what any level wrote.
    ///
    /// # Panics
    /// When there is no memory for zstd's context (100 KB), as any allocation does.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `raw_len` bytes that `stored` stands for.
    ///
    /// Damage that leaves the length right is not noticed here: the layer that reads the stored bytes checks their sum.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] when `stored` isn't one whole block of exactly `raw_len` bytes; no more than that many
    /// are ever written. [`CodecError::OutOfMemory`] when there is no memory for them.
    pub fn decode(&mut self, encoding: Encoding, stored: &[u8], raw_len: usize) -> Result<Bytes, CodecError> {
        let corrupt = |reason| CodecError::Corrupt { stored_bytes: stored.len(), raw_bytes: raw_len, reason };
        let announced = match encoding {
            Encoding::Raw => Some(stored.len() as u64),
            Encoding::Zstd => frame_content_bytes(stored).map_err(corrupt)?,
        };
        if announced != Some(raw_len as u64) {
            return Err(corrupt("the length differs"));
        }
        let mut raw = Vec::new();
        raw.try_reserve_exact(raw_len).map_err(|_| CodecError::OutOfMemory)?;
        match encoding {
            Encoding::Raw => raw.extend_from_slice(stored),
            Encoding::Zstd => {
                let written = self.zstd.decompress(&mut raw, stored).map_err(|code| corrupt(get_error_name(code)))?;
                // The library checks it too; wrong bytes must not hang on that.
                if written != raw_len {
                    return Err(corrupt("the frame is shorter than it announces"));
                }
            }
        }
        Ok(raw.into())
    }
}

/// How many bytes `stored` announces to hold, if it is one frame of today's zstd format and nothing else. (The library
/// also takes a series of frames, and formats from before 1.0.)
fn frame_content_bytes(stored: &[u8]) -> Result<Option<u64>, &'static str> {
    if !stored.starts_with(&MAGICNUMBER.to_le_bytes()) {
        return Err("no zstd frame begins here");
    }
    match find_frame_compressed_size(stored) {
        Ok(frame_bytes) if frame_bytes == stored.len() => {}
        Ok(_) => return Err("bytes follow the frame"),
        Err(code) => return Err(get_error_name(code)),
    }
    get_frame_content_size(stored).map_err(|_| "the frame's header is damaged")
}
