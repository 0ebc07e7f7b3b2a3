//! The stream that `send` makes of a snapshot and `receive` applies.
//!
//! ```text
//! stream:  magic 8 "VFSSEND1", with a vault in it "VFSSEND2" | frames, the first one `begin`, the last one `end`
//! resumed: magic 8 "VFSSENDR" | stream id 16 | offset 8, little-endian | the stream's bytes from there on
//! frame:   length 4, little-endian: bytes of the body | kind 1 | body | check 16
//! check:   XXH3-128, little-endian, of the check before it (zeros before the first), kind and body
//!
//! 1 begin     stream id 16 | snapshot uuid 16 | base uuid 16 (zeros: none) | name (v + bytes) | note (v + bytes)
//!             | created (seconds zigzag, nanos v) | with a vault: its part
//! vault       id 16 | snapshot v | base v (0: none) | counters | wrapped keys (v + bytes)
//! 2 inode     ino v | 0: gone, or 1 | inode record
//! 3 dirent    parent v | name (v + bytes) | 0: gone, or 1 | dirent record
//! 4 symlink   ino v | 0: gone, or 1 | target
//! 5 xattrs    ino v | 0: gone, or 1 | record of extended attributes
//! 6 chunk     raw length v | encoding 1 (as in packs) | stored bytes
//! 7 segment   content v | index v | runs v | that many runs
//! run         length v | 0: hole
//!                      | 1: back v | offset v      part of the chunk that came `back` chunks before the latest
//!                      | 2: that many bytes
//!                      | 3: as in the base, at the same place
//! 8 end       frames v: how many came before
//! 9 sealed    key (v + bytes) | died v (0: nothing) | 0: gone, or 1 | stored value      of the vault
//! 10 block    chunk id 16 | raw length v | encoding 1 | stored bytes                    of the vault
//! ```
//! What is of the vault is as it is stored there, and stands behind all else: lists of changes first. `died` is the epoch
//! in which what the base has at the key died.
//!
//! Chunks stand before the first segment that refers to them, and reach back [`STREAM_WINDOW_CHUNKS`] at most.

use bytes::Bytes;
use verfs_base::{ChunkId, Epoch, Ino, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::DecodeError;
use crate::content::{ContentId, SEGMENT_BYTES};
use crate::inode::{DirentRecord, InodeRecord, TreeCounters};
use crate::pack::CHUNK_MAX_BYTES;
use crate::varint::{Reader, put_bytes, put_i64, put_u64};
use crate::xattr::Xattrs;

/// First bytes of a stream.
pub const STREAM_MAGIC: [u8; 8] = *b"VFSSEND1";
/// First bytes of a stream that has a vault in it.
pub const STREAM_VAULT_MAGIC: [u8; 8] = *b"VFSSEND2";
/// First bytes of the rest of a stream.
pub const STREAM_RESUME_MAGIC: [u8; 8] = *b"VFSSENDR";
/// How many chunks a run may reach back.
pub const STREAM_WINDOW_CHUNKS: u64 = 1 << 16;
/// Longest body of a frame: a chunk with its head.
pub const STREAM_BODY_MAX_BYTES: usize = CHUNK_MAX_BYTES as usize + 256;
/// Bytes of a frame before its body.
pub const STREAM_HEAD_BYTES: usize = 5;
/// Bytes of a frame behind its body.
pub const STREAM_CHECK_BYTES: usize = 16;

/// What a stream is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamBegin {
    /// Identity of the stream: the same for the same snapshot and base.
    pub stream: [u8; 16],
    /// The snapshot.
    pub uuid: [u8; 16],
    /// The snapshot from which the stream leads to it.
    pub base: Option<[u8; 16]>,
    /// The snapshot's name.
    pub name: Bytes,
    /// Its note.
    pub note: Bytes,
    /// When it was made.
    pub created: Timestamp,
    /// The vault's part.
    pub vault: Option<StreamVault>,
}

/// What a stream has of a vault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamVault {
    /// What its seals are bound to.
    pub id: [u8; 16],
    /// The vault's own number of the snapshot, which is the same wherever the stream goes.
    pub snapshot: Epoch,
    /// Its number of the base; without one the stream has the whole vault.
    pub base: Option<Epoch>,
    /// Counters of its tree.
    pub counters: TreeCounters,
    /// The record of its wrapped keys.
    pub keys: Bytes,
}

/// What a run of a segment is in a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamRunData {
    /// Zeros.
    Hole,
    /// Part of a chunk of the stream.
    Chunk {
        /// How many chunks before the latest it came: 0 is the latest.
        back: u64,
        /// Where in the chunk the run starts.
        offset: u32,
    },
    /// The bytes.
    Inline(Bytes),
    /// What the base has at the same place.
    Kept,
}

/// Consecutive bytes of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamRun {
    /// Bytes, at least 1.
    pub len: u32,
    /// What they are.
    pub data: StreamRunData,
}

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamFrame {
    /// What follows.
    Begin(StreamBegin),
    /// An inode, or that it is gone.
    Inode(Ino, Option<InodeRecord>),
    /// A name, or that it is gone.
    Dirent(Ino, Bytes, Option<DirentRecord>),
    /// A symlink's target, or that it is gone.
    Symlink(Ino, Option<Bytes>),
    /// Extended attributes, or that they are gone.
    Xattrs(Ino, Option<Xattrs>),
    /// A chunk: its raw length, encoding and stored bytes.
    Chunk(u32, u8, Bytes),
    /// A segment; without runs it is gone.
    Segment(ContentId, u32, Vec<StreamRun>),
    /// Nothing follows; so many frames came before.
    End(u64),
    /// A record of the vault as it is stored, or that it is gone.
    Sealed(SealedRecord),
    /// A chunk of the vault as it is stored: raw length, encoding, bytes.
    Block(ChunkId, u32, u8, Bytes),
}

/// A record of a vault in a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedRecord {
    /// Its key, as it is stored.
    pub key: Bytes,
    /// When what the base has of it died; `None` if the base has nothing of it.
    pub died: Option<Epoch>,
    /// Its value, as it is stored; `None`: it is gone.
    pub value: Option<Bytes>,
}

/// The check of the frames so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamCheck([u8; STREAM_CHECK_BYTES]);

impl StreamCheck {
    /// With one more frame.
    #[must_use]
    pub fn with(self, kind: u8, body: &[u8]) -> StreamCheck {
        let mut hash = Xxh3::new();
        hash.update(&self.0);
        hash.update(&[kind]);
        hash.update(body);
        StreamCheck(hash.digest128().to_le_bytes())
    }

    /// Whether these bytes are it.
    #[must_use]
    pub fn is(self, bytes: &[u8]) -> bool {
        self.0 == bytes
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; STREAM_CHECK_BYTES] {
        self.0
    }
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&T, &mut Vec<u8>)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, out);
    }
}

fn read_option<T>(
    reader: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => read(reader).map(Some),
        _ => Err(DecodeError::Invalid("presence")),
    }
}

fn take_rest(reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    let count = reader.remaining();
    reader.take(count).map(Bytes::copy_from_slice)
}

impl StreamFrame {
    /// Kind and body.
    #[must_use]
    pub fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = Vec::new();
        let kind = match self {
            StreamFrame::Begin(begin) => {
                out.extend_from_slice(&begin.stream);
                out.extend_from_slice(&begin.uuid);
                out.extend_from_slice(&begin.base.unwrap_or_default());
                put_bytes(&mut out, &begin.name);
                put_bytes(&mut out, &begin.note);
                put_i64(&mut out, begin.created.seconds);
                put_u64(&mut out, u64::from(begin.created.nanos));
                if let Some(vault) = &begin.vault {
                    vault.encode(&mut out);
                }
                1
            }
            StreamFrame::Inode(ino, record) => {
                put_u64(&mut out, ino.0);
                put_option(&mut out, record.as_ref(), InodeRecord::encode);
                2
            }
            StreamFrame::Dirent(parent, name, record) => {
                put_u64(&mut out, parent.0);
                put_bytes(&mut out, name);
                put_option(&mut out, record.as_ref(), DirentRecord::encode);
                3
            }
            StreamFrame::Symlink(ino, target) => {
                put_u64(&mut out, ino.0);
                put_option(&mut out, target.as_ref(), |target, out| out.extend_from_slice(target));
                4
            }
            StreamFrame::Xattrs(ino, xattrs) => {
                put_u64(&mut out, ino.0);
                put_option(&mut out, xattrs.as_ref(), |xattrs, out| out.extend_from_slice(&xattrs.encode()));
                5
            }
            StreamFrame::Chunk(raw_len, encoding, stored) => {
                out.reserve(stored.len() + 8);
                put_u64(&mut out, u64::from(*raw_len));
                out.push(*encoding);
                out.extend_from_slice(stored);
                6
            }
            StreamFrame::Segment(content, index, runs) => {
                put_u64(&mut out, content.0);
                put_u64(&mut out, u64::from(*index));
                put_u64(&mut out, runs.len() as u64);
                runs.iter().for_each(|run| run.encode(&mut out));
                7
            }
            StreamFrame::End(frames) => {
                put_u64(&mut out, *frames);
                8
            }
            StreamFrame::Sealed(SealedRecord { key, died, value }) => {
                put_bytes(&mut out, key);
                put_u64(&mut out, died.map_or(0, |died| died.0));
                put_option(&mut out, value.as_ref(), |value, out| out.extend_from_slice(value));
                9
            }
            StreamFrame::Block(chunk, raw_len, encoding, stored) => {
                out.reserve(stored.len() + 24);
                out.extend_from_slice(&chunk.0);
                put_u64(&mut out, u64::from(*raw_len));
                out.push(*encoding);
                out.extend_from_slice(stored);
                10
            }
        };
        (kind, out)
    }

    /// A frame of a kind and a body whose check was right.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let reader = &mut reader;
        let frame = match kind {
            1 => StreamFrame::Begin(StreamBegin::read(reader)?),
            2 => StreamFrame::Inode(Ino(reader.u64()?), read_option(reader, InodeRecord::read)?),
            3 => {
                let (parent, name) = (Ino(reader.u64()?), Bytes::copy_from_slice(reader.bytes()?));
                StreamFrame::Dirent(parent, name, read_option(reader, DirentRecord::read)?)
            }
            4 => StreamFrame::Symlink(Ino(reader.u64()?), read_option(reader, take_rest)?),
            5 => StreamFrame::Xattrs(Ino(reader.u64()?), read_option(reader, Xattrs::read)?),
            6 => StreamFrame::Chunk(reader.u32()?, reader.u8()?, take_rest(reader)?),
            7 => {
                let (content, index) = (ContentId(reader.u64()?), reader.u32()?);
                let count = reader.u64()?;
                let (mut runs, mut total) = (Vec::new(), 0u64);
                for _ in 0..count {
                    let run = StreamRun::read(reader)?;
                    total += u64::from(run.len);
                    if total > SEGMENT_BYTES {
                        return Err(DecodeError::Invalid("run length"));
                    }
                    runs.push(run);
                }
                StreamFrame::Segment(content, index, runs)
            }
            8 => StreamFrame::End(reader.u64()?),
            9 => StreamFrame::Sealed(SealedRecord {
                key: Bytes::copy_from_slice(reader.bytes()?),
                died: Some(reader.u64()?).filter(|died| *died > 0).map(Epoch),
                value: read_option(reader, take_rest)?,
            }),
            10 => StreamFrame::Block(ChunkId(reader.array()?), reader.u32()?, reader.u8()?, take_rest(reader)?),
            _ => return Err(DecodeError::Invalid("kind of frame")),
        };
        reader.clone().finish()?;
        Ok(frame)
    }
}

impl StreamBegin {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (stream, uuid, base) = (reader.array()?, reader.array()?, reader.array::<16>()?);
        let begin = StreamBegin {
            stream,
            uuid,
            base: (base != [0; 16]).then_some(base),
            name: Bytes::copy_from_slice(reader.bytes()?),
            note: Bytes::copy_from_slice(reader.bytes()?),
            created: Timestamp { seconds: reader.i64()?, nanos: reader.u32()? },
            vault: if reader.remaining() > 0 { Some(StreamVault::read(reader)?) } else { None },
        };
        if begin.created.nanos >= 1_000_000_000 {
            return Err(DecodeError::Invalid("time"));
        }
        Ok(begin)
    }
}

impl StreamVault {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        put_u64(out, self.snapshot.0);
        put_u64(out, self.base.map_or(0, |base| base.0));
        self.counters.encode(out);
        put_bytes(out, &self.keys);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let vault = StreamVault {
            id: reader.array()?,
            snapshot: Epoch(reader.u64()?),
            base: Some(reader.u64()?).filter(|base| *base > 0).map(Epoch),
            counters: TreeCounters::read(reader)?,
            keys: Bytes::copy_from_slice(reader.bytes()?),
        };
        // Epochs are far from the end of their numbers: there is always a next one.
        match vault.base.is_some_and(|base| base >= vault.snapshot) || vault.snapshot.0 >= u64::from(u32::MAX) << 16 {
            true => Err(DecodeError::Invalid("number of a snapshot")),
            false => Ok(vault),
        }
    }
}

impl StreamRun {
    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, u64::from(self.len));
        match &self.data {
            StreamRunData::Hole => out.push(0),
            StreamRunData::Chunk { back, offset } => {
                out.push(1);
                put_u64(out, *back);
                put_u64(out, u64::from(*offset));
            }
            StreamRunData::Inline(bytes) => {
                out.push(2);
                out.extend_from_slice(bytes);
            }
            StreamRunData::Kept => out.push(3),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = reader.u32()?;
        if len == 0 {
            return Err(DecodeError::Invalid("run length"));
        }
        let data = match reader.u8()? {
            0 => StreamRunData::Hole,
            1 => StreamRunData::Chunk { back: reader.u64()?, offset: reader.u32()? },
            2 => StreamRunData::Inline(Bytes::copy_from_slice(reader.take(len as usize)?)),
            3 => StreamRunData::Kept,
            _ => return Err(DecodeError::Invalid("run")),
        };
        Ok(StreamRun { len, data })
    }
}
