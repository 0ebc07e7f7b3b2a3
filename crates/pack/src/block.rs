//! A chunk as a record of a pack, and back: the only place that knows compression and checksums. Encryption of the
//! vault goes between the codec and the record here.

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::ChunkId;
use verfs_codec::{CodecError, Compressor, Decompressor, Encoding};
use verfs_format::pack::{RECORD_HEADER_BYTES, RecordHeader, RecordSeed};

/// A chunk ready to be appended.
#[derive(Debug)]
pub struct Block<'a> {
    /// Its fields.
    pub header: RecordHeader,
    /// The header's bytes, checksum included.
    pub header_bytes: [u8; RECORD_HEADER_BYTES],
    /// The bytes that follow.
    pub stored: &'a [u8],
}

/// Makes blocks; one for each thread.
pub struct BlockEncoder {
    seed: RecordSeed,
    compressor: Compressor,
    stored: Vec<u8>,
}

impl BlockEncoder {
    /// An encoder of a zstd level.
    ///
    /// # Errors
    /// [`CodecError`] when there is no such level.
    pub fn new(seed: RecordSeed, level: i32) -> Result<Self, CodecError> {
        Ok(BlockEncoder { seed, compressor: Compressor::new(level)?, stored: Vec::new() })
    }

    /// The block of a chunk of 1 byte to [`verfs_format::pack::CHUNK_MAX_BYTES`].
    pub fn encode(&mut self, chunk: ChunkId, raw: &[u8]) -> Block<'_> {
        let encoding = self.compressor.encode(raw, &mut self.stored);
        let header = RecordHeader {
            chunk,
            raw_len: raw.len() as u32,
            stored_len: self.stored.len() as u32,
            encoding: encoding.code(),
        };
        Block { header, header_bytes: header.encode(self.seed, &self.stored), stored: &self.stored }
    }
}

/// Reads blocks; one for a volume, used from any thread.
pub struct BlockDecoder {
    seed: RecordSeed,
    idle: Mutex<Vec<Decompressor>>,
}

impl BlockDecoder {
    /// A decoder for a volume's records.
    #[must_use]
    pub fn new(seed: RecordSeed) -> Self {
        BlockDecoder { seed, idle: Mutex::new(Vec::new()) }
    }

    /// The key of the volume's record checksums.
    #[must_use]
    pub fn seed(&self) -> RecordSeed {
        self.seed
    }

    /// The raw bytes of `chunk`, from the bytes of its record.
    ///
    /// # Errors
    /// What is wrong with the record, in words.
    pub fn decode(&self, chunk: ChunkId, record: Bytes) -> Result<Bytes, String> {
        match self.verify(chunk, &record)? {
            (Encoding::Raw, header, _) => {
                Ok(record.slice(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + header.raw_len as usize))
            }
            (Encoding::Zstd, header, stored) => self.decompress(Encoding::Zstd, stored, header.raw_len as usize),
        }
    }

    /// As [`BlockDecoder::decode`], of a record in a buffer that serves others, too: what it answers is a copy.
    ///
    /// # Errors
    /// What is wrong with the record, in words.
    pub fn decode_copy(&self, chunk: ChunkId, record: &[u8]) -> Result<Bytes, String> {
        match self.verify(chunk, record)? {
            (Encoding::Raw, _, stored) => Ok(Bytes::copy_from_slice(stored)),
            (Encoding::Zstd, header, stored) => self.decompress(Encoding::Zstd, stored, header.raw_len as usize),
        }
    }

    /// The block that a record holds, as it is: to be appended to another pack.
    ///
    /// # Errors
    /// What is wrong with the record, in words.
    pub fn block<'a>(&self, chunk: ChunkId, record: &'a [u8]) -> Result<Block<'a>, String> {
        let (_, header, stored) = self.verify(chunk, record)?;
        let header_bytes = *record.first_chunk().ok_or_else(|| "the record is too short".to_owned())?;
        Ok(Block { header, header_bytes, stored })
    }

    /// Checks all of a record but what zstd checks.
    fn verify<'a>(&self, chunk: ChunkId, record: &'a [u8]) -> Result<(Encoding, RecordHeader, &'a [u8]), String> {
        let (header, stored) = RecordHeader::decode(self.seed, record).map_err(|error| error.to_string())?;
        if header.chunk != chunk {
            return Err(format!("the record is of chunk {}", header.chunk));
        }
        let encoding = Encoding::try_from(header.encoding).map_err(|error| error.to_string())?;
        if encoding == Encoding::Raw && stored.len() != header.raw_len as usize {
            return Err("the length differs".to_owned());
        }
        Ok((encoding, header, stored))
    }

    fn decompress(&self, encoding: Encoding, stored: &[u8], raw_len: usize) -> Result<Bytes, String> {
        let mut decompressor = self.idle.lock().pop().unwrap_or_default();
        let raw = decompressor.decode(encoding, stored, raw_len).map_err(|error| error.to_string());
        self.idle.lock().push(decompressor);
        raw
    }
}
