//! The work list of garbage collection: `gc/.DISCARD`, and how far it has been worked off.
//!
//! A hint. It names blocks that no reference needed when the list was made, pack by pack; whether that still holds is
//! only in the chunk records. Without the file, or with a damaged one, the list is made again.
//!
//! All numbers are little-endian.
//!
//! ```text
//! header, 32 bytes
//!  0        8        12       16       24       32
//!  | magic  |version |  zero  | round  |checksum|       magic "VerFSgc\n", version 1, round: which list this is,
//!  +--8-----+--4-----+--4-----+--8-----+--8-----+       checksum XXH3-64 of bytes 0..24
//!
//! frame, one for each pack
//!  0      4        8        16         24
//!  | magic| count  | pack id|dead bytes| count x chunk id 16 | checksum |
//!  +--4---+--4-----+--8-----+--8-------+---------------------+--8-------+
//! ```
//! * magic "Vdsc"; dead bytes: what the pack's record said when the list was made; chunk ids rise;
//!   checksum: XXH3-64 of everything of the frame before it, with the round as seed.
//!
//! ```text
//! Sgc.discard_checkpoint    round v | length v | done v | packs v | ids v | dead bytes v
//! ```
//! * The system value `SYS:gc.discard_checkpoint`: `length` bytes of the file of that `round` are durable, and the frames
//!   before `done` are worked off. `packs`, `ids` and `dead bytes` sum up the whole list.
//! * `r | pack id 8 (BE)` is the key of a pack that was collected and whose files are still to be removed; its value is
//!   one byte 1.

use verfs_base::{ChunkId, PackId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::DecodeError;
use crate::varint::{Reader, put_u64};

/// Length of the file's header.
pub const DISCARD_HEADER_BYTES: usize = 32;
/// Key of [`DiscardCheckpoint`].
pub const SYSTEM_DISCARD_CHECKPOINT: &[u8] = b"Sgc.discard_checkpoint";
/// First byte of the keys of packs whose files are to be removed.
pub const REMOVED_PACK: u8 = b'r';
/// Value of such a key.
pub const REMOVED_PACK_VALUE: &[u8] = &[1];

const MAGIC: [u8; 8] = *b"VerFSgc\n";
const VERSION: u32 = 1;
const FRAME_MAGIC: [u8; 4] = *b"Vdsc";
const FRAME_HEADER_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 8;

/// Key of a pack whose files are to be removed.
#[must_use]
pub fn removed_pack_key(pack: PackId) -> [u8; 9] {
    let mut key = [REMOVED_PACK; 9];
    key[1..].copy_from_slice(&pack.0.to_be_bytes());
    key
}

/// The pack of such a key.
#[must_use]
pub fn parse_removed_pack(key: &[u8]) -> Option<PackId> {
    match key.split_first() {
        Some((&REMOVED_PACK, number)) => Some(PackId(u64::from_be_bytes(number.try_into().ok()?))),
        Some(_) | None => None,
    }
}

/// The header of the list of a round.
#[must_use]
pub fn encode_discard_header(round: u64) -> [u8; DISCARD_HEADER_BYTES] {
    let mut bytes = [0; DISCARD_HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&round.to_le_bytes());
    let checksum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Which round's list begins with these bytes.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_discard_header(bytes: &[u8]) -> Result<u64, DecodeError> {
    let header: &[u8; DISCARD_HEADER_BYTES] = bytes.first_chunk().ok_or(DecodeError::Truncated)?;
    if header[..8] != MAGIC {
        return Err(DecodeError::Invalid("discard magic"));
    }
    let mut reader = Reader::new(&header[8..]);
    let (version, zero) = (u32::from_le_bytes(reader.array()?), u32::from_le_bytes(reader.array()?));
    let (round, checksum) = (u64::from_le_bytes(reader.array()?), u64::from_le_bytes(reader.array()?));
    if checksum != xxh3_64(&header[..24]) {
        return Err(DecodeError::Checksum);
    }
    if version != VERSION || zero != 0 {
        return Err(DecodeError::Invalid("discard version"));
    }
    Ok(round)
}

/// Blocks of one pack that no reference needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscardFrame {
    /// The pack.
    pub pack: PackId,
    /// Bytes of its dead blocks.
    pub dead_bytes: u64,
    /// Their chunks, rising.
    pub chunks: Vec<ChunkId>,
}

impl DiscardFrame {
    /// Appends the frame to a list of this round.
    pub fn encode(&self, round: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&FRAME_MAGIC);
        out.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.pack.0.to_le_bytes());
        out.extend_from_slice(&self.dead_bytes.to_le_bytes());
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.0);
        }
        let checksum = xxh3_64_with_seed(&out[start..], round);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the frame at the start of `bytes`, and its length.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(round: u64, bytes: &[u8]) -> Result<(DiscardFrame, usize), DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array::<4>()? != FRAME_MAGIC {
            return Err(DecodeError::Invalid("discard frame magic"));
        }
        let count = u32::from_le_bytes(reader.array()?) as usize;
        let pack = PackId(u64::from_le_bytes(reader.array()?));
        let dead_bytes = u64::from_le_bytes(reader.array()?);
        let ids = reader.take(count.checked_mul(16).ok_or(DecodeError::Truncated)?)?;
        let checksum = u64::from_le_bytes(reader.array()?);
        let checked = FRAME_HEADER_BYTES + ids.len();
        if checksum != xxh3_64_with_seed(&bytes[..checked], round) {
            return Err(DecodeError::Checksum);
        }
        let (ids, _) = ids.as_chunks::<16>();
        if !ids.is_sorted_by(|before, after| before < after) {
            return Err(DecodeError::Invalid("discard order"));
        }
        let chunks = ids.iter().map(|id| ChunkId(*id)).collect();
        Ok((DiscardFrame { pack, dead_bytes, chunks }, checked + CHECKSUM_BYTES))
    }
}

/// How far the list of a round has been worked off.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DiscardCheckpoint {
    /// The round; lists are numbered from 1.
    pub round: u64,
    /// Durable length of the file.
    pub length: u64,
    /// Frames before this offset are worked off; `length` when all are.
    pub done: u64,
    /// Packs in the list.
    pub packs: u64,
    /// Chunk ids in the list.
    pub ids: u64,
    /// Bytes of the dead blocks in the list.
    pub dead_bytes: u64,
}

impl DiscardCheckpoint {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        for number in [self.round, self.length, self.done, self.packs, self.ids, self.dead_bytes] {
            put_u64(&mut out, number);
        }
        out
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<DiscardCheckpoint, DecodeError> {
        let mut reader = Reader::new(bytes);
        let checkpoint = DiscardCheckpoint {
            round: reader.u64()?,
            length: reader.u64()?,
            done: reader.u64()?,
            packs: reader.u64()?,
            ids: reader.u64()?,
            dead_bytes: reader.u64()?,
        };
        reader.finish()?;
        if checkpoint.done > checkpoint.length {
            return Err(DecodeError::Invalid("discard checkpoint"));
        }
        Ok(checkpoint)
    }

    /// Whether frames are left.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.done < self.length
    }
}
