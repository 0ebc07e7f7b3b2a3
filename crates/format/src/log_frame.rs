//! Frames of the intent log: what an fsync made durable before its group was committed.
//!
//! A log file is a sequence of frames from offset 0. The file is reused from the start, so a frame counts only while
//! each one before it is valid and has the sequence number just below.
//!
//! ```text
//! header (32):
//!   0  magic      8  "VFSLOG1\n"
//!   8  group      8  little-endian: frames of committed groups are skipped
//!  16  sequence   8  little-endian: one more than the frame before
//!  24  length     4  little-endian: bytes of the body
//!  28  zero       4
//! body: count v | count x entry; in the vault a seal of that, bound to group and sequence
//! trailer (16): keyed hash of header and body, so that no file content can pass for a frame
//! entry:  1 inode    ino v | scope 1 | inode record
//!         2 dirent   parent v | name (v + bytes) | 0, or 1 + dirent record
//!         3 symlink  ino v | target (v + bytes)
//!         4 data     content v | offset v | bytes (v + bytes)
//!         5 hole     content v | offset v | length v
//!         6 xattrs   ino v | record of extended attributes
//! ```
//! An inode entry of scope 0 (attributes) changes neither size nor content of an inode that exists already, one of
//! scope 2 (content) nothing else; one of scope 1 sets all.

use std::borrow::Cow;

use bytes::Bytes;
use verfs_base::{ChunkId, GroupId, Ino};

use crate::DecodeError;
use crate::content::ContentId;
use crate::inode::{DirentRecord, InodeRecord};
use crate::varint::{Reader, put_bytes, put_u64};
use crate::xattr::Xattrs;

/// First bytes of each frame.
pub const MAGIC: [u8; 8] = *b"VFSLOG1\n";
/// Bytes before the body.
pub const HEADER_BYTES: usize = 32;
/// Bytes after the body.
pub const TRAILER_BYTES: usize = 16;

/// Which part of an inode entry's record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InodeScope {
    /// All but size and content.
    Attributes,
    /// All of it: every unlogged byte of the content is in the same frame.
    All,
    /// Size and content, with every unlogged byte in the same frame: newer attributes may be logged already.
    Content,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogEntry {
    /// An inode.
    Inode {
        /// Which.
        ino: Ino,
        /// Which part of the record holds.
        scope: InodeScope,
        /// The record.
        record: InodeRecord,
    },
    /// What a name leads to, or that it leads nowhere.
    Dirent {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Bytes,
        /// Where it leads.
        target: Option<DirentRecord>,
    },
    /// A symlink's target.
    Symlink {
        /// The symlink.
        ino: Ino,
        /// Its target.
        target: Bytes,
    },
    /// Bytes of a file.
    Data {
        /// Of which content.
        content: ContentId,
        /// From where.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// A range of a file that reads as zeros.
    Hole {
        /// Of which content.
        content: ContentId,
        /// From where.
        offset: u64,
        /// How long.
        len: u64,
    },
    /// All extended attributes of an inode.
    Xattrs {
        /// The inode.
        ino: Ino,
        /// What it has from now on.
        xattrs: Xattrs,
    },
}

/// Where a frame stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// The group whose changes it holds.
    pub group: GroupId,
    /// Its place in the sequence of all frames of the volume.
    pub sequence: u64,
    /// Bytes of the body.
    pub body_bytes: u32,
}

impl FrameHeader {
    /// Decodes the first [`HEADER_BYTES`] of a frame.
    ///
    /// # Errors
    /// [`DecodeError`]: there is no frame here.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err(DecodeError::Invalid("magic"));
        }
        let group = GroupId(u64::from_le_bytes(reader.array()?));
        let sequence = u64::from_le_bytes(reader.array()?);
        let body_bytes = u32::from_le_bytes(reader.array()?);
        if reader.array()? != [0; 4] {
            return Err(DecodeError::Invalid("header"));
        }
        Ok(FrameHeader { group, sequence, body_bytes })
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize + TRAILER_BYTES
    }
}

/// Builds one frame.
#[derive(Debug)]
pub struct FrameBuilder {
    body: Vec<u8>,
    count: u64,
}

impl FrameBuilder {
    /// An empty frame.
    #[must_use]
    pub fn new() -> Self {
        FrameBuilder { body: Vec::new(), count: 0 }
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &LogEntry) {
        self.count += 1;
        let out = &mut self.body;
        match entry {
            LogEntry::Inode { ino, scope, record } => {
                out.push(1);
                put_u64(out, ino.0);
                out.push(match scope {
                    InodeScope::Attributes => 0,
                    InodeScope::All => 1,
                    InodeScope::Content => 2,
                });
                record.encode(out);
            }
            LogEntry::Dirent { parent, name, target } => {
                out.push(2);
                put_u64(out, parent.0);
                put_bytes(out, name);
                match target {
                    None => out.push(0),
                    Some(record) => {
                        out.push(1);
                        record.encode(out);
                    }
                }
            }
            LogEntry::Symlink { ino, target } => {
                out.push(3);
                put_u64(out, ino.0);
                put_bytes(out, target);
            }
            LogEntry::Data { content, offset, bytes } => {
                out.push(4);
                put_u64(out, content.0);
                put_u64(out, *offset);
                put_bytes(out, bytes);
            }
            LogEntry::Hole { content, offset, len } => {
                out.push(5);
                put_u64(out, content.0);
                put_u64(out, *offset);
                put_u64(out, *len);
            }
            LogEntry::Xattrs { ino, xattrs } => {
                out.push(6);
                put_u64(out, ino.0);
                out.extend_from_slice(&xattrs.encode());
            }
        }
    }

    /// The whole frame; `hash` is the volume's keyed hash.
    #[must_use]
    pub fn finish(self, group: GroupId, sequence: u64, hash: impl Fn(&[u8]) -> ChunkId) -> Vec<u8> {
        enclose(group, sequence, &self.into_body(), hash)
    }

    /// As [`FrameBuilder::finish`], with the body as `seal` gives it back, bound to [`frame_context`].
    ///
    /// # Errors
    /// Those of `seal`.
    pub fn finish_sealed<E>(
        self,
        group: GroupId,
        sequence: u64,
        seal: impl FnOnce(&[u8], &[u8]) -> Result<Vec<u8>, E>,
        hash: impl Fn(&[u8]) -> ChunkId,
    ) -> Result<Vec<u8>, E> {
        let body = seal(&frame_context(group, sequence), &self.into_body())?;
        Ok(enclose(group, sequence, &body, hash))
    }

    fn into_body(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body.len() + 8);
        put_u64(&mut body, self.count);
        body.extend_from_slice(&self.body);
        body
    }
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// What the seal of a frame's body is bound to: `group 8 | sequence 8`, little-endian.
#[must_use]
pub fn frame_context(group: GroupId, sequence: u64) -> [u8; 16] {
    let mut context = [0; 16];
    context[..8].copy_from_slice(&group.0.to_le_bytes());
    context[8..].copy_from_slice(&sequence.to_le_bytes());
    context
}

fn enclose(group: GroupId, sequence: u64, body: &[u8], hash: impl Fn(&[u8]) -> ChunkId) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len() + TRAILER_BYTES);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&frame_context(group, sequence));
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(body);
    let trailer = hash(&frame);
    frame.extend_from_slice(&trailer.0);
    frame
}

/// Decodes a whole frame and checks its hash.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_frame(
    frame: &[u8],
    hash: impl Fn(&[u8]) -> ChunkId,
) -> Result<(FrameHeader, Vec<LogEntry>), DecodeError> {
    decode_sealed_frame(frame, |_, body| Some(Cow::Borrowed(body)), hash)
}

/// As [`decode_frame`], with a body that `open` makes plain.
///
/// # Errors
/// [`DecodeError`], also where `open` has nothing.
pub fn decode_sealed_frame<'f>(
    frame: &'f [u8],
    open: impl FnOnce(&[u8], &'f [u8]) -> Option<Cow<'f, [u8]>>,
    hash: impl Fn(&[u8]) -> ChunkId,
) -> Result<(FrameHeader, Vec<LogEntry>), DecodeError> {
    let header = FrameHeader::decode(frame)?;
    let (signed, trailer) =
        frame.split_at_checked(HEADER_BYTES + header.body_bytes as usize).ok_or(DecodeError::Truncated)?;
    if trailer.len() != TRAILER_BYTES || hash(signed).0 != trailer {
        return Err(DecodeError::Checksum);
    }
    let context = frame_context(header.group, header.sequence);
    let body = open(&context, &signed[HEADER_BYTES..]).ok_or(DecodeError::Checksum)?;
    let mut reader = Reader::new(&body);
    let count = reader.u64()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(read_entry(&mut reader)?);
    }
    reader.finish()?;
    Ok((header, entries))
}

fn read_entry(reader: &mut Reader<'_>) -> Result<LogEntry, DecodeError> {
    Ok(match reader.u8()? {
        1 => {
            let ino = Ino(reader.u64()?);
            let scope = match reader.u8()? {
                0 => InodeScope::Attributes,
                1 => InodeScope::All,
                2 => InodeScope::Content,
                _ => return Err(DecodeError::Invalid("inode scope")),
            };
            LogEntry::Inode { ino, scope, record: InodeRecord::read(reader)? }
        }
        2 => {
            let parent = Ino(reader.u64()?);
            let name = Bytes::copy_from_slice(reader.bytes()?);
            let target = match reader.u8()? {
                0 => None,
                1 => Some(DirentRecord::read(reader)?),
                _ => return Err(DecodeError::Invalid("dirent target")),
            };
            LogEntry::Dirent { parent, name, target }
        }
        3 => LogEntry::Symlink { ino: Ino(reader.u64()?), target: Bytes::copy_from_slice(reader.bytes()?) },
        4 => LogEntry::Data {
            content: ContentId(reader.u64()?),
            offset: reader.u64()?,
            bytes: Bytes::copy_from_slice(reader.bytes()?),
        },
        5 => LogEntry::Hole { content: ContentId(reader.u64()?), offset: reader.u64()?, len: reader.u64()? },
        6 => LogEntry::Xattrs { ino: Ino(reader.u64()?), xattrs: Xattrs::read(reader)? },
        _ => return Err(DecodeError::Invalid("log entry")),
    })
}
