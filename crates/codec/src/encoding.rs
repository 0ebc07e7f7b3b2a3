//! How the stored bytes of a block are encoded.

use crate::CodecError;

/// Encoding of a stored block. The codes are on disk and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// The stored bytes are the raw bytes.
    Raw = 0,
    /// The stored bytes are one zstd frame (RFC 8878) that tells its content's size; no checksum, no dictionary.
    Zstd = 1,
}

impl Encoding {
    /// The code on disk.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for Encoding {
    type Error = CodecError;

    fn try_from(code: u8) -> Result<Self, Self::Error> {
        match code {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            code => Err(CodecError::UnknownEncoding { code }),
        }
    }
}
