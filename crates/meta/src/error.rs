//! What can go wrong in a metadata engine, coarsely: what the caller can do about it decides the kind.

/// Result of a metadata operation.
pub type Result<T> = std::result::Result<T, MetaError>;

/// Errors of every engine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MetaError {
    /// The disk is full. Nothing of the batch is visible; the same call may succeed once there is room.
    #[error("metadata engine is out of space: {0}")]
    OutOfSpace(String),
    /// No more files can be opened for now. Nothing of the batch is visible; the same call may succeed once some are
    /// closed.
    #[error("metadata engine can't open more files: {0}")]
    OutOfFiles(String),
    /// The disk or the engine failed. The engine takes no more writes until it is opened again.
    #[error("metadata engine failed: {0}")]
    Io(String),
    /// What is on disk is not what the engine wrote.
    #[error("metadata is damaged: {0}")]
    Corrupt(String),
    /// The engine's files were written by a version or an engine that this build can't read as asked, or a record is
    /// over the limits ([`crate::KEY_MAX_BYTES`] and its neighbours). Nothing was changed.
    #[error("not supported by the metadata engine: {0}")]
    Unsupported(String),
    /// The engine was closed.
    #[error("metadata engine is closed")]
    Closed,
}
