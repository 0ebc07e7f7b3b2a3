//! Packs: `packs/xx/ID.vpk`, an identifying header and then block records, each one chunk.
//!
//! All numbers are little-endian. A pack is a 32-byte header and records back to back, in the order in which their
//! compression ended; nothing is aligned.
//!
//! ```text
//! pack header, 32 bytes
//!  0        8        12       16       24       32
//!  | magic  |version |  zero  | pack id|checksum|      magic "VerFSpak", version 1,
//!  +--8-----+--4-----+--4-----+--8-----+--8-----+      checksum XXH3-64 of bytes 0..24
//!
//! record, 40 bytes and the stored bytes
//!  0      4                 20       24         28       29     32       40
//!  | magic|     chunk id    | raw_len|stored_len|encoding| zero |checksum| stored bytes ...
//!  +--4---+--------16-------+--4-----+--4-------+--1-----+--3---+--8-----+--stored_len--
//! ```
//! * magic "Vblk"; raw_len is 1 ..= 16 MiB, stored_len up to 64 bytes more; encoding is the codec's code (0 raw,
//!   1 zstd), and 128 more where the encoded bytes are sealed (the vault's; [`crate::vault`]).
//! * checksum: XXH3-64 of bytes 0..32 with seed `s`, where `s` is XXH3-64 of the stored bytes with the volume's
//!   [`RecordSeed`]. The seed comes from the volume's secret, so that bytes of a pack that a user stores as a file, or
//!   of another volume's, never pass for a record of this one.
//!
//! A pack without an index (`ID.vpi`, see [`crate::pack_index`]) was not sealed: its records are found by a scan.

use verfs_base::{ChunkId, PackId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_secret, xxh3_64_with_seed};

use crate::DecodeError;
use crate::superblock::ID_SECRET_BYTES;

/// Length of a pack's header.
pub const PACK_HEADER_BYTES: usize = 32;
/// Length of a record's header.
pub const RECORD_HEADER_BYTES: usize = 40;
/// First bytes of every record.
pub const RECORD_MAGIC: [u8; 4] = *b"Vblk";
/// Longest chunk.
pub const CHUNK_MAX_BYTES: u32 = 16 << 20;
/// Longest stored bytes: a chunk that did not shrink, sealed.
pub const STORED_MAX_BYTES: u32 = CHUNK_MAX_BYTES + 64;
/// In the encoding of a record: its stored bytes are a seal of the encoded ones.
pub const ENCODING_SEALED: u8 = 0x80;
/// Longest pack: offsets in it are 32-bit numbers.
pub const PACK_MAX_BYTES: u64 = 1 << 31;

const PACK_MAGIC: [u8; 8] = *b"VerFSpak";
const PACK_VERSION: u32 = 1;
const SEED_LABEL: &[u8] = b"VerFS pack record checksum";
const PACK_CHECKED_BYTES: usize = PACK_HEADER_BYTES - 8;
const RECORD_CHECKED_BYTES: usize = RECORD_HEADER_BYTES - 8;

/// What keys the checksums of a volume's pack records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordSeed(u64);

impl RecordSeed {
    /// The seed of the volume with this id secret.
    #[must_use]
    pub fn of_volume(secret: &[u8; ID_SECRET_BYTES]) -> Self {
        RecordSeed(xxh3_64_with_secret(SEED_LABEL, secret))
    }
}

/// The header of a pack.
#[must_use]
pub fn encode_pack_header(pack: PackId) -> [u8; PACK_HEADER_BYTES] {
    let mut bytes = [0; PACK_HEADER_BYTES];
    bytes[..8].copy_from_slice(&PACK_MAGIC);
    bytes[8..12].copy_from_slice(&PACK_VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&pack.0.to_le_bytes());
    let checksum = xxh3_64(&bytes[..PACK_CHECKED_BYTES]);
    bytes[PACK_CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Which pack the header at the start of `bytes` names.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_pack_header(bytes: &[u8]) -> Result<PackId, DecodeError> {
    let header: &[u8; PACK_HEADER_BYTES] = bytes.first_chunk().ok_or(DecodeError::Truncated)?;
    if header[..8] != PACK_MAGIC {
        return Err(DecodeError::Invalid("pack magic"));
    }
    if u64_at(header, PACK_CHECKED_BYTES) != xxh3_64(&header[..PACK_CHECKED_BYTES]) {
        return Err(DecodeError::Checksum);
    }
    if u32_at(header, 8) != PACK_VERSION || u32_at(header, 12) != 0 {
        return Err(DecodeError::Invalid("pack version"));
    }
    Ok(PackId(u64_at(header, 16)))
}

/// The header of a record: one chunk's block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// The chunk.
    pub chunk: ChunkId,
    /// Length of the chunk.
    pub raw_len: u32,
    /// Length of the bytes that follow the header.
    pub stored_len: u32,
    /// Code of the codec's encoding.
    pub encoding: u8,
}

impl RecordHeader {
    /// The header's bytes, to be followed by `stored`, whose length must be `stored_len`.
    #[must_use]
    pub fn encode(&self, seed: RecordSeed, stored: &[u8]) -> [u8; RECORD_HEADER_BYTES] {
        debug_assert_eq!(self.stored_len as usize, stored.len());
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4..20].copy_from_slice(&self.chunk.0);
        bytes[20..24].copy_from_slice(&self.raw_len.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes[28] = self.encoding;
        let checksum = checksum(seed, &bytes, stored);
        bytes[RECORD_CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the fields of a header and checks their bounds; the record's checksum is not looked at.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_unverified(bytes: &[u8]) -> Result<RecordHeader, DecodeError> {
        let bytes: &[u8; RECORD_HEADER_BYTES] = bytes.first_chunk().ok_or(DecodeError::Truncated)?;
        if bytes[..4] != RECORD_MAGIC {
            return Err(DecodeError::Invalid("record magic"));
        }
        let mut chunk = ChunkId([0; 16]);
        chunk.0.copy_from_slice(&bytes[4..20]);
        let header =
            RecordHeader { chunk, raw_len: u32_at(bytes, 20), stored_len: u32_at(bytes, 24), encoding: bytes[28] };
        if !(1..=CHUNK_MAX_BYTES).contains(&header.raw_len) || !(1..=STORED_MAX_BYTES).contains(&header.stored_len) {
            return Err(DecodeError::Invalid("record length"));
        }
        if bytes[29..RECORD_CHECKED_BYTES] != [0; 3] {
            return Err(DecodeError::Invalid("reserved byte"));
        }
        Ok(header)
    }

    /// Reads the record at the start of `bytes` and checks all of it; answers its header and its stored bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(seed: RecordSeed, bytes: &[u8]) -> Result<(RecordHeader, &[u8]), DecodeError> {
        let header = RecordHeader::decode_unverified(bytes)?;
        let stored = bytes[RECORD_HEADER_BYTES..].get(..header.stored_len as usize).ok_or(DecodeError::Truncated)?;
        if u64_at(bytes, RECORD_CHECKED_BYTES) != checksum(seed, bytes, stored) {
            return Err(DecodeError::Checksum);
        }
        Ok((header, stored))
    }

    /// Length of the whole record.
    #[must_use]
    pub fn record_bytes(&self) -> u32 {
        record_bytes(self.stored_len)
    }
}

/// Length of a record of `stored_len` stored bytes (at most [`STORED_MAX_BYTES`]).
#[must_use]
pub fn record_bytes(stored_len: u32) -> u32 {
    RECORD_HEADER_BYTES as u32 + stored_len
}

/// `header` holds at least the checked bytes of a record header.
fn checksum(seed: RecordSeed, header: &[u8], stored: &[u8]) -> u64 {
    xxh3_64_with_seed(&header[..RECORD_CHECKED_BYTES], xxh3_64_with_seed(stored, seed.0))
}

/// The number at `at`, which lies inside `bytes`.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// The number at `at`, which lies inside `bytes`.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
