//! Records of the tree carry the epoch of their birth: snapshots stand on it.
//!
//! ```text
//! value of an inode, dirent, segment, symlink, attribute or orphan key, live or in history:
//!          birth v | record
//! ```

use bytes::Bytes;
use verfs_base::Epoch;

use crate::DecodeError;
use crate::varint::{Reader, put_u64};

/// The value of a record that was written in epoch `birth`; `record` appends the record.
#[must_use]
pub fn encode_versioned(birth: Epoch, record: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = Vec::with_capacity(80);
    put_u64(&mut value, birth.0);
    record(&mut value);
    value
}

/// Birth and record of a value.
///
/// # Errors
/// [`DecodeError`].
pub fn split_versioned(value: &[u8]) -> Result<(Epoch, &[u8]), DecodeError> {
    let mut reader = Reader::new(value);
    let birth = Epoch(reader.u64()?);
    Ok((birth, reader.rest()))
}

/// The record of a value, shared with it.
///
/// # Errors
/// [`DecodeError`].
pub fn record_of_versioned(value: &Bytes) -> Result<Bytes, DecodeError> {
    let (_, record) = split_versioned(value)?;
    Ok(value.slice(value.len() - record.len()..))
}
