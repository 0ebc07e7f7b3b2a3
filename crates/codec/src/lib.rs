//! Encoding of a chunk's bytes: compression with an early way out for what doesn't shrink.
//!
//! Lives here: how the bytes of one block become the bytes that are stored, and back.
//! Never here: where bytes live, checksums, identity, or which thread compresses.
//! Data flows one way: raw bytes in, stored bytes and their [`Encoding`] out; the reverse needs the raw length.
#![forbid(unsafe_code)]

mod compress;
mod decompress;
mod encoding;
mod error;
mod probe;
#[cfg(test)]
mod tests;

pub use compress::Compressor;
pub use decompress::Decompressor;
pub use encoding::Encoding;
pub use error::CodecError;
