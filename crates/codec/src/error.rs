//! What can go wrong between raw and stored bytes.

use thiserror::Error;

/// A block that can't be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// zstd has no such level.
    #[error("zstd has no level {level}: use one of {lowest} to {highest}")]
    Level {
        /// The level as given.
        level: i32,
        /// The lowest level.
        lowest: i32,
        /// The highest level.
        highest: i32,
    },
    /// No encoding has this code: damage, or a newer format.
    #[error("encoding code {code} is unknown")]
    UnknownEncoding {
        /// The code as read.
        code: u8,
    },
    /// The stored bytes aren't what a compressor wrote, or stand for another number of raw bytes.
    #[error("{stored_bytes} stored bytes don't decode to {raw_bytes} bytes: {reason}")]
    Corrupt {
        /// Length of the stored bytes.
        stored_bytes: usize,
        /// Length that the caller expected.
        raw_bytes: usize,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// There is no memory for zstd's state or the raw bytes.
    #[error("no memory for a block")]
    OutOfMemory,
}
