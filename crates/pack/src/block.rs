//! A chunk as a record of a pack, and back: the only place that knows compression, seals and checksums.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::ChunkId;
use verfs_codec::crypto::{CryptoError, SEAL_OVERHEAD_BYTES, SealClass, VaultKeys};
use verfs_codec::{CodecError, Compressor, Decompressor, Encoding};
use verfs_format::pack::{ENCODING_SEALED, RECORD_HEADER_BYTES, RecordHeader, RecordSeed};

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

/// What becomes of chunks between compression and record.
#[derive(Clone, Debug)]
pub enum BlockSeal {
    /// They are stored as they are.
    None,
    /// They are sealed, and opened again.
    Keys(Arc<VaultKeys>),
    /// They are sealed and stay so: records can be checked and moved, not read.
    Locked,
}

/// Whether chunks are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// With this zstd level, where it makes them smaller.
    Level(i32),
    /// Never.
    Off,
}

/// Makes blocks; one for each thread.
pub struct BlockEncoder {
    seed: RecordSeed,
    compressor: Option<Compressor>,
    seal: BlockSeal,
    encoded: Vec<u8>,
    sealed: Vec<u8>,
}

impl BlockEncoder {
    /// An encoder.
    ///
    /// # Errors
    /// [`CodecError`] when there is no such level.
    pub fn new(seed: RecordSeed, compression: Compression, seal: BlockSeal) -> Result<Self, CodecError> {
        let compressor = match compression {
            Compression::Level(level) => Some(Compressor::new(level)?),
            Compression::Off => None,
        };
        Ok(BlockEncoder { seed, compressor, seal, encoded: Vec::new(), sealed: Vec::new() })
    }

    /// The block of a chunk of 1 byte to [`verfs_format::pack::CHUNK_MAX_BYTES`].
    ///
    /// # Errors
    /// [`CryptoError`], of sealed chunks only.
    pub fn encode(&mut self, chunk: ChunkId, raw: &[u8]) -> Result<Block<'_>, CryptoError> {
        let encoding = match &mut self.compressor {
            Some(compressor) => compressor.encode(raw, &mut self.encoded),
            None => {
                self.encoded.clear();
                self.encoded.extend_from_slice(raw);
                Encoding::Raw
            }
        };
        let (code, stored) = match &self.seal {
            BlockSeal::None => (encoding.code(), &self.encoded),
            BlockSeal::Keys(keys) => {
                let code = encoding.code() | ENCODING_SEALED;
                self.sealed.clear();
                keys.seal(
                    SealClass::Chunk,
                    &seal_context(chunk, raw.len() as u32, code),
                    &self.encoded,
                    &mut self.sealed,
                )?;
                (code, &self.sealed)
            }
            BlockSeal::Locked => return Err(CryptoError::Keys("the vault is locked")),
        };
        let header = RecordHeader { chunk, raw_len: raw.len() as u32, stored_len: stored.len() as u32, encoding: code };
        Ok(Block { header, header_bytes: header.encode(self.seed, stored), stored })
    }
}

/// What a chunk's seal is bound to: `id 16 | raw length 4 | encoding 1`.
fn seal_context(chunk: ChunkId, raw_len: u32, encoding: u8) -> [u8; 21] {
    let mut context = [0; 21];
    context[..16].copy_from_slice(&chunk.0);
    context[16..20].copy_from_slice(&raw_len.to_le_bytes());
    context[20] = encoding;
    context
}

/// A block as packs store it, without what binds it to a pack's volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBlock {
    /// Bytes of the chunk.
    pub raw_len: u32,
    /// How it is stored, as in packs.
    pub encoding: u8,
    /// What is stored.
    pub stored: Bytes,
}

/// Reads blocks; one for a volume, used from any thread.
pub struct BlockDecoder {
    seed: RecordSeed,
    seal: BlockSeal,
    idle: Mutex<Vec<Decompressor>>,
    /// Buffers for records; what they had may be plain.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// Buffers that are kept: as many as threads read at a time.
const BUFFERS_MAX: usize = 8;
/// Longest buffer that is kept: a record of the default chunk sizes, incompressible.
const BUFFER_MAX_BYTES: usize = 256 << 10;

impl BlockDecoder {
    /// A decoder for a volume's records.
    #[must_use]
    pub fn new(seed: RecordSeed, seal: BlockSeal) -> Self {
        BlockDecoder { seed, seal, idle: Mutex::new(Vec::new()), buffers: Mutex::new(Vec::new()) }
    }

    /// Runs `read` with a buffer of `len` bytes for records. What is in it is left from others.
    pub(crate) fn with_buffer<T>(&self, len: usize, read: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut buffer = self.buffers.lock().pop().unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let result = read(&mut buffer[..len]);
        let mut buffers = self.buffers.lock();
        if buffers.len() < BUFFERS_MAX && buffer.len() <= BUFFER_MAX_BYTES {
            buffers.push(buffer);
        }
        result
    }

    /// The key of the volume's record checksums.
    #[must_use]
    pub fn seed(&self) -> RecordSeed {
        self.seed
    }

    /// How its blocks are sealed.
    #[must_use]
    pub fn seal(&self) -> &BlockSeal {
        &self.seal
    }

    /// The raw bytes of `chunk`, from the bytes of its record, in which a seal is opened: they are not to be used again.
    ///
    /// # Errors
    /// What is wrong with the record, in words.
    pub fn decode(&self, chunk: ChunkId, record: &mut [u8]) -> Result<Bytes, String> {
        let Verified { kind, encoding, header, .. } = self.verify(chunk, record)?;
        let stored = &mut record[RECORD_HEADER_BYTES..][..header.stored_len as usize];
        let encoded = match kind {
            Kind::Plain => stored,
            Kind::Sealed => self.open(&header, stored)?,
        };
        match encoding {
            Encoding::Raw => Ok(Bytes::copy_from_slice(encoded)),
            Encoding::Zstd => self.decompress(encoded, header.raw_len as usize),
        }
    }

    /// The block that a record holds, as it is: to be appended to another pack. Needs no key.
    ///
    /// # Errors
    /// What is wrong with the record, in words.
    pub fn block<'a>(&self, chunk: ChunkId, record: &'a [u8]) -> Result<Block<'a>, String> {
        let Verified { header, stored, .. } = self.verify(chunk, record)?;
        let header_bytes = *record.first_chunk().ok_or_else(|| "the record is too short".to_owned())?;
        Ok(Block { header, header_bytes, stored })
    }

    /// The record header of a block that another volume stored, for this volume's packs. Needs no key.
    ///
    /// # Errors
    /// What is wrong with the block, in words.
    pub fn adopt<'a>(&self, chunk: ChunkId, block: &'a StoredBlock) -> Result<Block<'a>, String> {
        let StoredBlock { raw_len, encoding, stored } = block;
        let header = RecordHeader {
            chunk,
            raw_len: *raw_len,
            stored_len: u32::try_from(stored.len()).map_err(|_| "it is too long".to_owned())?,
            encoding: *encoding,
        };
        let header_bytes = header.encode(self.seed, stored);
        let record = [&header_bytes[..], stored].concat();
        self.verify(chunk, &record)?;
        Ok(Block { header, header_bytes, stored })
    }

    /// As [`BlockDecoder::block`], for a copy that is sealed with the newest data key: `buffer` holds its bytes.
    ///
    /// # Errors
    /// What is wrong with the record, in words, or that there is no key.
    pub fn resealed<'a>(&self, chunk: ChunkId, record: &'a [u8], buffer: &'a mut Vec<u8>) -> Result<Block<'a>, String> {
        let BlockSeal::Keys(keys) = &self.seal else { return Err("the vault is locked".to_owned()) };
        let Verified { header, stored, .. } = self.verify(chunk, record)?;
        if VaultKeys::generation_of(stored) == Ok(keys.generation()) {
            return self.block(chunk, record);
        }
        let context = seal_context(header.chunk, header.raw_len, header.encoding);
        let encoded = keys.open(SealClass::Chunk, &context, stored).map_err(|error| error.to_string())?;
        buffer.clear();
        keys.seal(SealClass::Chunk, &context, &encoded, buffer).map_err(|error| error.to_string())?;
        let header = RecordHeader { stored_len: buffer.len() as u32, ..header };
        Ok(Block { header, header_bytes: header.encode(self.seed, buffer), stored: buffer })
    }

    /// Checks all of a record but what zstd and seals check.
    fn verify<'a>(&self, chunk: ChunkId, record: &'a [u8]) -> Result<Verified<'a>, String> {
        let (header, stored) = RecordHeader::decode(self.seed, record).map_err(|error| error.to_string())?;
        if header.chunk != chunk {
            return Err(format!("the record is of chunk {}", header.chunk));
        }
        let kind = if header.encoding & ENCODING_SEALED == 0 { Kind::Plain } else { Kind::Sealed };
        // A plain record among sealed ones was put there by somebody else.
        match (&self.seal, kind) {
            (BlockSeal::None, Kind::Plain) | (BlockSeal::Keys(_) | BlockSeal::Locked, Kind::Sealed) => {}
            (BlockSeal::None, Kind::Sealed) => return Err("the record is sealed".to_owned()),
            (BlockSeal::Keys(_) | BlockSeal::Locked, Kind::Plain) => return Err("the record is not sealed".to_owned()),
        }
        let encoding = Encoding::try_from(header.encoding & !ENCODING_SEALED).map_err(|error| error.to_string())?;
        let overhead = match kind {
            Kind::Plain => 0,
            Kind::Sealed => SEAL_OVERHEAD_BYTES,
        };
        if encoding == Encoding::Raw && stored.len() != header.raw_len as usize + overhead {
            return Err("the length differs".to_owned());
        }
        Ok(Verified { kind, encoding, header, stored })
    }

    fn open<'s>(&self, header: &RecordHeader, stored: &'s mut [u8]) -> Result<&'s [u8], String> {
        let BlockSeal::Keys(keys) = &self.seal else { return Err("the vault is locked".to_owned()) };
        let context = seal_context(header.chunk, header.raw_len, header.encoding);
        keys.open_in_place(SealClass::Chunk, &context, stored).map_err(|error| error.to_string())
    }

    fn decompress(&self, stored: &[u8], raw_len: usize) -> Result<Bytes, String> {
        let mut decompressor = self.idle.lock().pop().unwrap_or_default();
        let raw = decompressor.decode(Encoding::Zstd, stored, raw_len).map_err(|error| error.to_string());
        self.idle.lock().push(decompressor);
        raw
    }
}

/// Whether a record is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Plain,
    Sealed,
}

/// A record that is what was written.
struct Verified<'a> {
    kind: Kind,
    encoding: Encoding,
    header: RecordHeader,
    stored: &'a [u8],
}
