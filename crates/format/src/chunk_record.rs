//! Chunk, pack and store records of the metadata engine: reference counts, and what each pack holds.
//!
//! ```text
//! key                   value (v: varint, LEB128)
//! c | chunk id 16       refcount v | pack id v | raw_len v | stored_len v
//! p | pack id 8 (BE)    state 1 (0 open, 1 sealed) | blocks v | block bytes v | dead blocks v | dead bytes v
//! Sstore.state          next pack id v | packs v | chunks v | unique bytes v | stored bytes v | dead bytes v
//!                       | dedup hits v | dedup misses v | count v | count x unsealed pack id v, rising
//! ```
//! A chunk's record names its pack, never its offset. A record with refcount 0 stays until space is reclaimed; its
//! chunk may be referenced again. Reclaiming moves a chunk by naming another pack (see [`crate::discard`]). Block bytes, stored bytes and dead bytes count records whole, headers included.

use verfs_base::{ChunkId, PackId};

use crate::DecodeError;
use crate::pack::{CHUNK_MAX_BYTES, STORED_MAX_BYTES, record_bytes};
use crate::varint::{Reader, put_u64};

/// First byte of chunk keys.
pub const CHUNK: u8 = b'c';
/// First byte of pack keys.
pub const PACK: u8 = b'p';
/// Key of the store's own state.
pub const SYSTEM_STORE: &[u8] = b"Sstore.state";

/// Key of a chunk's record.
#[must_use]
pub fn chunk_key(chunk: ChunkId) -> [u8; 17] {
    let mut key = [CHUNK; 17];
    key[1..].copy_from_slice(&chunk.0);
    key
}

/// Key of a pack's record.
#[must_use]
pub fn pack_key(pack: PackId) -> [u8; 9] {
    let mut key = [PACK; 9];
    key[1..].copy_from_slice(&pack.0.to_be_bytes());
    key
}

/// How often a chunk is referenced, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkRecord {
    /// Extent runs that reference it.
    pub refcount: u64,
    /// The pack that holds it.
    pub pack: PackId,
    /// Length of the chunk.
    pub raw_len: u32,
    /// Length of its stored bytes in the pack, without the record header.
    pub stored_len: u32,
}

impl ChunkRecord {
    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        put_u64(&mut out, self.refcount);
        put_u64(&mut out, self.pack.0);
        put_u64(&mut out, u64::from(self.raw_len));
        put_u64(&mut out, u64::from(self.stored_len));
        out
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<ChunkRecord, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = ChunkRecord {
            refcount: reader.u64()?,
            pack: PackId(reader.u64()?),
            raw_len: reader.u32()?,
            stored_len: reader.u32()?,
        };
        reader.finish()?;
        if !(1..=CHUNK_MAX_BYTES).contains(&record.raw_len) || !(1..=STORED_MAX_BYTES).contains(&record.stored_len) {
            return Err(DecodeError::Invalid("chunk length"));
        }
        Ok(record)
    }

    /// Bytes that its block takes in the pack.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        u64::from(record_bytes(self.stored_len))
    }
}

/// Whether a pack may still grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackState {
    /// It had no index when the record was written.
    Open,
    /// It has its index and never changes again.
    Sealed,
}

/// What a pack holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackRecord {
    /// Whether it may still grow.
    pub state: PackState,
    /// Blocks in it.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// Blocks that no reference needs.
    pub dead_blocks: u64,
    /// Their bytes.
    pub dead_bytes: u64,
}

impl PackRecord {
    /// A pack with nothing in it.
    #[must_use]
    pub fn empty() -> Self {
        PackRecord { state: PackState::Open, blocks: 0, block_bytes: 0, dead_blocks: 0, dead_bytes: 0 }
    }

    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        out.push(match self.state {
            PackState::Open => 0,
            PackState::Sealed => 1,
        });
        put_u64(&mut out, self.blocks);
        put_u64(&mut out, self.block_bytes);
        put_u64(&mut out, self.dead_blocks);
        put_u64(&mut out, self.dead_bytes);
        out
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<PackRecord, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = PackRecord {
            state: match reader.u8()? {
                0 => PackState::Open,
                1 => PackState::Sealed,
                _ => return Err(DecodeError::Invalid("pack state")),
            },
            blocks: reader.u64()?,
            block_bytes: reader.u64()?,
            dead_blocks: reader.u64()?,
            dead_bytes: reader.u64()?,
        };
        reader.finish()?;
        Ok(record)
    }
}

/// What the chunk store knows about itself as of a committed batch.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StoreRecord {
    /// Packs from this number on hold nothing committed.
    pub next_pack: u64,
    /// Packs that hold something committed.
    pub packs: u64,
    /// Chunks with references.
    pub chunks: u64,
    /// Their raw bytes.
    pub unique_bytes: u64,
    /// Bytes of their blocks.
    pub stored_bytes: u64,
    /// Bytes of blocks that no reference needs.
    pub dead_bytes: u64,
    /// Chunks put that were there already.
    pub dedup_hits: u64,
    /// Chunks put that were stored.
    pub dedup_misses: u64,
    /// Packs that may have no index: to be looked at when the volume is opened. Rising.
    pub unsealed: Vec<PackId>,
}

impl StoreRecord {
    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        for number in [
            self.next_pack,
            self.packs,
            self.chunks,
            self.unique_bytes,
            self.stored_bytes,
            self.dead_bytes,
            self.dedup_hits,
            self.dedup_misses,
            self.unsealed.len() as u64,
        ] {
            put_u64(&mut out, number);
        }
        for pack in &self.unsealed {
            put_u64(&mut out, pack.0);
        }
        out
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<StoreRecord, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut record = StoreRecord {
            next_pack: reader.u64()?,
            packs: reader.u64()?,
            chunks: reader.u64()?,
            unique_bytes: reader.u64()?,
            stored_bytes: reader.u64()?,
            dead_bytes: reader.u64()?,
            dedup_hits: reader.u64()?,
            dedup_misses: reader.u64()?,
            unsealed: Vec::new(),
        };
        for _ in 0..reader.u64()? {
            let pack = PackId(reader.u64()?);
            if pack.0 >= record.next_pack || record.unsealed.last().is_some_and(|last| *last >= pack) {
                return Err(DecodeError::Invalid("unsealed pack"));
            }
            record.unsealed.push(pack);
        }
        reader.finish()?;
        Ok(record)
    }
}
