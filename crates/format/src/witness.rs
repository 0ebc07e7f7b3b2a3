//! The witness: `WITNESS`, which number the last batch of metadata had that was durable for certain.
//!
//! It lies beside the metadata, so that a copy of older metadata in its place is told from what a crash leaves: each batch
//! has a number (`Smeta.batch`), and the witness is written behind the sync that made it durable, never before. So a crash
//! leaves a witness that is as old as the metadata, or older. Two slots take turns: a torn write spoils one of them, and
//! the greater number of those that can be read counts.
//!
//! All numbers are little-endian.
//!
//! ```text
//! slot, 32 bytes, at 0 and at 4096
//!  0        8        12       16       24       32
//!  | magic  |version |  zero  | number |checksum|       magic "VerFSwit", version 1, number of a durable batch,
//!  +--8-----+--4-----+--4-----+--8-----+--8-----+       checksum XXH3-64 of bytes 0..24
//! ```
//! ```text
//! Smeta.batch    number v
//! ```

use xxhash_rust::xxh3::xxh3_64;

use crate::DecodeError;

/// Name of the file in the volume's directory.
pub const WITNESS_FILE: &str = "WITNESS";
/// Key of the number of the batch that was committed last, a varint; without it none was numbered.
pub const SYSTEM_BATCH: &[u8] = b"Smeta.batch";
/// Slots of the file.
pub const WITNESS_SLOTS: u64 = 2;
/// From the start of one slot to that of the next: no write of one tears the other.
pub const WITNESS_SLOT_STEP: u64 = 4096;
/// Bytes of a slot.
pub const WITNESS_SLOT_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"VerFSwit";
const VERSION: u32 = 1;

/// A slot that names this batch.
#[must_use]
pub fn encode_witness(number: u64) -> [u8; WITNESS_SLOT_BYTES] {
    let mut bytes = [0; WITNESS_SLOT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    let checksum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Which batch a slot names.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_witness(bytes: &[u8; WITNESS_SLOT_BYTES]) -> Result<u64, DecodeError> {
    let (fields, checksum) = bytes.split_at(24);
    if checksum != xxh3_64(fields).to_le_bytes() {
        return Err(DecodeError::Checksum);
    }
    let (head, number) = fields.split_at(16);
    if head[..8] != MAGIC {
        return Err(DecodeError::Invalid("magic"));
    }
    if head[8..12] != VERSION.to_le_bytes() || head[12..16] != [0; 4] {
        return Err(DecodeError::Invalid("version"));
    }
    let number = number.try_into().map_err(|_| DecodeError::Truncated)?;
    Ok(u64::from_le_bytes(number))
}
