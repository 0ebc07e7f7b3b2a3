//! Extents: where the bytes of a content are.
//!
//! A content is the data of one regular file, numbered apart from inodes so that truncation to nothing is O(1). Its
//! bytes are cut into segments of [`SEGMENT_BYTES`]; a segment that is all hole has no record.
//!
//! ```text
//! segment: count v | count x run
//! run:     tag 1 | len v | tag 0: nothing, a hole
//!                        | tag 1: birth v | offset in chunk v | chunk id 16
//!                        | tag 2: len bytes of data (small files)
//! ```
//! Runs follow each other without gaps from the segment's start; what is past the last one is a hole. A chunk id of
//! zeros is no chunk: it stands where a segment's record was found damaged, and reading it is an error.

use bytes::Bytes;
use verfs_base::{ChunkId, Epoch};

use crate::DecodeError;
use crate::pack::CHUNK_MAX_BYTES;
use crate::varint::{Reader, put_u64};

/// Bytes of a file that one segment record maps.
pub const SEGMENT_BYTES: u64 = 1 << 20;

/// Stands in a run for bytes whose place was lost: there is no such chunk.
pub const LOST_CHUNK: ChunkId = ChunkId([0; 16]);

/// Number of a content, from the same sequence as inode numbers; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContentId(pub u64);

/// What a run holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RunData {
    /// Nothing: reads as zeros.
    Hole,
    /// Part of a chunk. The run holds one reference of it.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Where in the chunk the run starts.
        offset: u32,
        /// Epoch in which the run was written.
        birth: Epoch,
    },
    /// The bytes themselves.
    Inline(Bytes),
}

/// Consecutive bytes of a segment that are stored in one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Bytes, at least 1.
    pub len: u32,
    /// Where they are.
    pub data: RunData,
}

/// The runs of one segment, from its start on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// In order, without gaps.
    pub runs: Vec<Run>,
}

impl Segment {
    /// Whether it maps nothing.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.runs.iter().all(|run| run.data == RunData::Hole)
    }

    /// Bytes of runs that are no holes.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.runs.iter().filter(|run| run.data != RunData::Hole).map(|run| u64::from(run.len)).sum()
    }

    /// The encoded segment.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.runs.len() * 24);
        put_u64(&mut out, self.runs.len() as u64);
        for run in &self.runs {
            let tag = match run.data {
                RunData::Hole => 0,
                RunData::Chunk { .. } => 1,
                RunData::Inline(_) => 2,
            };
            out.push(tag);
            put_u64(&mut out, u64::from(run.len));
            match &run.data {
                RunData::Hole => {}
                RunData::Chunk { id, offset, birth } => {
                    put_u64(&mut out, birth.0);
                    put_u64(&mut out, u64::from(*offset));
                    out.extend_from_slice(&id.0);
                }
                RunData::Inline(bytes) => out.extend_from_slice(bytes),
            }
        }
        out
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = usize::try_from(reader.u64()?).map_err(|_| DecodeError::Invalid("run count"))?;
        // A run takes at least 2 bytes: a count that can't be true must not allocate.
        let mut runs = Vec::with_capacity(count.min(bytes.len() / 2));
        let mut total = 0u64;
        for _ in 0..count {
            let tag = reader.u8()?;
            let len = reader.u32()?;
            total += u64::from(len);
            if len == 0 || total > SEGMENT_BYTES {
                return Err(DecodeError::Invalid("run length"));
            }
            let data = match tag {
                0 => RunData::Hole,
                1 => {
                    let birth = Epoch(reader.u64()?);
                    let offset = reader.u32()?;
                    if u64::from(offset) + u64::from(len) > u64::from(CHUNK_MAX_BYTES) {
                        return Err(DecodeError::Invalid("run offset"));
                    }
                    RunData::Chunk { id: ChunkId(reader.array()?), offset, birth }
                }
                2 => RunData::Inline(Bytes::copy_from_slice(reader.take(len as usize)?)),
                _ => return Err(DecodeError::Invalid("run tag")),
            };
            runs.push(Run { len, data });
        }
        reader.finish()?;
        Ok(Segment { runs })
    }
}
