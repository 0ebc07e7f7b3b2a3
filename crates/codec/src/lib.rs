//! Encoding of bytes: compression with an early way out for what doesn't shrink, and the vault's cryptography.
//!
//! Lives here: how the bytes of one block become the bytes that are stored, and back; keys, seals, keyed identity.
//! Never here: where bytes live, checksums, or which thread compresses.
//! Data flows one way: raw bytes in, stored bytes and their [`Encoding`] out; the reverse needs the raw length.
#![forbid(unsafe_code)]

mod compress;
pub mod crypto;
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
