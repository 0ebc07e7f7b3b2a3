//! Why bytes could not be decoded.

/// Bytes that this version did not write, or that were damaged since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("record ends too early")]
    Truncated,
    /// A field has a value that is never written; names the field.
    #[error("record has an invalid {0}")]
    Invalid(&'static str),
    /// The checksum doesn't match.
    #[error("record fails its checksum")]
    Checksum,
}
