//! What can be wrong with a chunker's description. Chunking itself can't fail.

use thiserror::Error;

/// A chunker that can't be made as described.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChunkerError {
    /// The name is not one of [`ChunkerKind::ALL`](crate::ChunkerKind::ALL).
    #[error("unknown chunker `{name}`: use mincdc, fastcdc or ultracdc")]
    UnknownKind {
        /// The name as given.
        name: String,
    },
    /// The sizes don't satisfy the relations of [`ChunkSizes`](crate::ChunkSizes).
    #[error("chunk sizes of {min_bytes}, {mean_bytes} and {max_bytes} bytes (min, mean, max) are refused: {rule}")]
    Sizes {
        /// Smallest chunk asked for.
        min_bytes: u32,
        /// Mean chunk asked for.
        mean_bytes: u32,
        /// Largest chunk asked for.
        max_bytes: u32,
        /// The relation that they break.
        rule: &'static str,
    },
}
