//! Content-defined chunkers behind one trait.
//!
//! Lives here: where a chunk of a byte stream ends, by MinCDC, FastCDC-2020 or UltraCDC, and the size bounds of each.
//! Never here: what a chunk is called, where it is stored, or who reads the bytes.
//! Data flows one way: the caller hands in bytes that begin at a chunk's start and gets a length back; a boundary
//! depends only on the bytes since that start, so the caller may refill its buffer in any steps and needs at most
//! [`ChunkSizes::max_bytes`] in memory.
#![forbid(unsafe_code)]

mod error;
mod fast;
mod kind;
mod min;
mod normal;
mod sizes;
#[cfg(test)]
mod tests;
mod ultra;

use std::fmt::Debug;
use std::sync::Arc;

pub use error::ChunkerError;
pub use kind::ChunkerKind;
pub use sizes::ChunkSizes;

/// Whether input continues after the bytes at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More input follows.
    More,
    /// The input ends with these bytes.
    Last,
}

/// Finds the end of a chunk. Stateless: one instance serves any number of streams and threads.
pub trait Chunker: Send + Sync + Debug {
    /// Length of the first chunk of `data`, in bytes, where `data` starts at a chunk boundary.
    ///
    /// `None` asks for more bytes: with [`End::More`] when the boundary can't be decided yet, which never happens once
    /// `data` holds [`ChunkSizes::max_bytes`]; with [`End::Last`] only when `data` is empty. A length given with
    /// [`End::More`] is the same however many bytes follow: boundaries don't depend on how a caller fills its buffer.
    ///
    /// The length lies in `min_bytes..=max_bytes`, except that the last chunk of the input may be shorter.
    fn first_chunk(&self, data: &[u8], end: End) -> Option<usize>;

    /// The bounds that this chunker keeps.
    fn sizes(&self) -> ChunkSizes;
}

/// Makes the chunker of a volume.
///
/// # Errors
/// When `sizes` are not bounds that this kind can keep ([`ChunkSizes::validate`]).
pub fn chunker(kind: ChunkerKind, sizes: ChunkSizes) -> Result<Arc<dyn Chunker>, ChunkerError> {
    sizes.validate()?;
    Ok(match kind {
        ChunkerKind::Min => Arc::new(min::MinChunker::new(sizes)),
        ChunkerKind::Fast => Arc::new(fast::FastChunker::new(sizes)),
        ChunkerKind::Ultra => Arc::new(ultra::UltraChunker::new(sizes)),
    })
}
