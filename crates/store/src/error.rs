//! What can go wrong in the chunk store; what the caller can do about it decides the kind.

use std::io;
use std::path::Path;

use verfs_base::{ChunkId, PackId, is_out_of_descriptors};
use verfs_codec::crypto::CryptoError;
use verfs_meta::MetaError;
use verfs_pack::PackError;

/// Result of a chunk store operation.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Errors of the chunk store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. The batch is undone; a later batch may succeed once there is room.
    #[error("the disk under the volume is full")]
    OutOfSpace,
    /// No more files can be opened for now. The batch is undone; a later batch may succeed once some are closed.
    #[error("too many files are open")]
    OutOfFiles,
    /// The disk failed. The batch, if there was one, is undone; a later batch goes to another pack.
    #[error("{context}: {message}")]
    Io {
        /// What the store was doing, with the file's path.
        context: String,
        /// Kind of the operating system's error.
        kind: io::ErrorKind,
        /// Text of the operating system's error.
        message: String,
    },
    /// The chunk's bytes on disk are not what was written.
    #[error("chunk {chunk} in pack {pack} is damaged: {detail}")]
    Damaged {
        /// The chunk.
        chunk: ChunkId,
        /// The pack that should hold it.
        pack: PackId,
        /// What was found instead.
        detail: String,
    },
    /// No record names this chunk.
    #[error("chunk {chunk} is not in the volume's chunk index")]
    Missing {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A chunk is empty or longer than 16 MiB: no chunker cuts such, nothing was stored.
    #[error("a chunk of {len} bytes can't be stored")]
    ChunkLength {
        /// Its length.
        len: usize,
    },
    /// The metadata engine failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The options can't work; nothing was opened.
    #[error("chunk store option {option}: {reason}")]
    Option {
        /// Name of the field of [`crate::StoreOptions`].
        option: &'static str,
        /// Why its value is refused.
        reason: String,
    },
    /// The store was closed.
    #[error("the chunk store is closed")]
    Closed,
}

impl StoreError {
    /// The disk's error for `action` on `path`.
    #[must_use]
    pub fn of_disk(action: &str, path: &Path, error: &io::Error) -> StoreError {
        let kind = error.kind();
        if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return StoreError::OutOfSpace;
        }
        if is_out_of_descriptors(error) {
            return StoreError::OutOfFiles;
        }
        StoreError::Io { context: format!("can't {action} {}", path.display()), kind, message: error.to_string() }
    }

    /// A pack's error while one chunk was read.
    pub(crate) fn of_chunk(chunk: ChunkId, error: PackError) -> StoreError {
        match error {
            PackError::Damaged { pack, detail } => StoreError::Damaged { chunk, pack, detail },
            error @ (PackError::OutOfSpace { .. } | PackError::OutOfFiles { .. } | PackError::Io { .. }) => {
                error.into()
            }
        }
    }
}

impl From<CryptoError> for StoreError {
    fn from(error: CryptoError) -> StoreError {
        StoreError::Io { context: "sealing".to_owned(), kind: io::ErrorKind::Other, message: error.to_string() }
    }
}

impl From<PackError> for StoreError {
    fn from(error: PackError) -> StoreError {
        match error {
            PackError::OutOfSpace { .. } => StoreError::OutOfSpace,
            PackError::OutOfFiles { .. } => StoreError::OutOfFiles,
            PackError::Io { action, path, kind, message } => {
                StoreError::Io { context: format!("can't {action} {path}"), kind, message }
            }
            PackError::Damaged { pack, detail } => {
                StoreError::Io { context: format!("pack {pack}"), kind: io::ErrorKind::InvalidData, message: detail }
            }
        }
    }
}
