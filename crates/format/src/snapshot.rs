//! Snapshots, and what their deletion needs: which keys changed in an epoch, and which references only they have.
//!
//! ```text
//! snapshot:    uuid 16 | name (v + bytes) | note (v + bytes) | created (seconds zigzag, nanos v)
//!              | inodes v | directories v | logical bytes v | holds v | that many (tag v + bytes)
//!              | 0: it stands, 1: it waits for its deletion, or
//!                2 (dead lists) or 3 (change lists) | upper v | cursor (v + bytes)
//! change list: count v | count x key (v + bytes)
//! dead list:   count v | count x (chunk id 16 | references v | bytes v)
//! ```
//! `upper` is the last epoch in which something may have died that the snapshot had and the next one has not; `cursor`
//! is the last key of the walk that was dealt with.

use bytes::Bytes;
use verfs_base::{ChunkId, Epoch, Timestamp};

use crate::DecodeError;
use crate::inode::TreeCounters;
use crate::varint::{Reader, put_bytes, put_i64, put_u64};

/// How far the deletion of a snapshot is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PruneProgress {
    /// It has not begun.
    Waiting,
    /// References of dead lists up to this key were given back.
    Dead {
        /// Last epoch of interest.
        upper: Epoch,
        /// Last key dealt with; empty at the start.
        cursor: Bytes,
    },
    /// All references were given back, and the histories of change lists up to this key are removed.
    Changes {
        /// Last epoch of interest.
        upper: Epoch,
        /// Last key dealt with; empty at the start.
        cursor: Bytes,
    },
}

/// A snapshot: the tree at the end of an epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRecord {
    /// Identity, also in other volumes that received it.
    pub uuid: [u8; 16],
    /// Its name, unique among the volume's snapshots.
    pub name: Bytes,
    /// What its maker wrote about it.
    pub note: Bytes,
    /// When it was made.
    pub created: Timestamp,
    /// Sums over its tree.
    pub counters: TreeCounters,
    /// Why it must not be deleted.
    pub holds: Vec<Bytes>,
    /// Set while it is being deleted.
    pub pruning: Option<PruneProgress>,
}

fn put_walk(out: &mut Vec<u8>, walk: u8, upper: Epoch, cursor: &[u8]) {
    out.push(walk);
    put_u64(out, upper.0);
    put_bytes(out, cursor);
}

impl SnapshotRecord {
    /// The encoded record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.name.len() + self.note.len());
        out.extend_from_slice(&self.uuid);
        put_bytes(&mut out, &self.name);
        put_bytes(&mut out, &self.note);
        put_i64(&mut out, self.created.seconds);
        put_u64(&mut out, u64::from(self.created.nanos));
        self.counters.encode(&mut out);
        put_u64(&mut out, self.holds.len() as u64);
        for tag in &self.holds {
            put_bytes(&mut out, tag);
        }
        match &self.pruning {
            None => out.push(0),
            Some(PruneProgress::Waiting) => out.push(1),
            Some(PruneProgress::Dead { upper, cursor }) => put_walk(&mut out, 2, *upper, cursor),
            Some(PruneProgress::Changes { upper, cursor }) => put_walk(&mut out, 3, *upper, cursor),
        }
        out
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let uuid = reader.array()?;
        let name = Bytes::copy_from_slice(reader.bytes()?);
        let note = Bytes::copy_from_slice(reader.bytes()?);
        let created = Timestamp { seconds: reader.i64()?, nanos: reader.u32()? };
        if created.nanos >= 1_000_000_000 {
            return Err(DecodeError::Invalid("time"));
        }
        let counters = TreeCounters::read(&mut reader)?;
        let count = reader.u64()?;
        let mut holds = Vec::new();
        for _ in 0..count {
            holds.push(Bytes::copy_from_slice(reader.bytes()?));
        }
        let pruning = match reader.u8()? {
            0 => None,
            1 => Some(PruneProgress::Waiting),
            walk @ (2 | 3) => {
                let upper = Epoch(reader.u64()?);
                let cursor = Bytes::copy_from_slice(reader.bytes()?);
                Some(match walk {
                    2 => PruneProgress::Dead { upper, cursor },
                    _ => PruneProgress::Changes { upper, cursor },
                })
            }
            _ => return Err(DecodeError::Invalid("state of a snapshot")),
        };
        reader.finish()?;
        Ok(SnapshotRecord { uuid, name, note, created, counters, holds, pruning })
    }
}

/// Keys that changed in an epoch. A key is in one list of each epoch in which it changed, births included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChangeList {
    /// The keys, in the order in which they were changed.
    pub keys: Vec<Bytes>,
}

impl ChangeList {
    /// The encoded list of `keys`.
    #[must_use]
    pub fn encode(keys: &[Bytes]) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + keys.iter().map(|key| key.len() + 1).sum::<usize>());
        put_u64(&mut out, keys.len() as u64);
        for key in keys {
            put_bytes(&mut out, key);
        }
        out
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.u64()?;
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(Bytes::copy_from_slice(reader.bytes()?));
        }
        reader.finish()?;
        Ok(ChangeList { keys })
    }
}

/// References of one chunk that a snapshot keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadReference {
    /// The chunk.
    pub chunk: ChunkId,
    /// How many.
    pub references: u64,
    /// Bytes of the runs that they belong to.
    pub bytes: u64,
}

/// What the live tree gave up and a snapshot keeps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeadList {
    /// In the order of the chunks.
    pub references: Vec<DeadReference>,
    /// Bytes of the history entries of the same life, keys included. Lists that were written before they were counted
    /// have none.
    pub record_bytes: u64,
}

impl DeadList {
    /// The encoded list.
    #[must_use]
    pub fn encode(references: &[DeadReference], record_bytes: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + references.len() * 22);
        put_u64(&mut out, references.len() as u64);
        for dead in references {
            out.extend_from_slice(&dead.chunk.0);
            put_u64(&mut out, dead.references);
            put_u64(&mut out, dead.bytes);
        }
        if record_bytes > 0 {
            put_u64(&mut out, record_bytes);
        }
        out
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.u64()?;
        let mut references = Vec::new();
        for _ in 0..count {
            references.push(DeadReference {
                chunk: ChunkId(reader.array()?),
                references: reader.u64()?,
                bytes: reader.u64()?,
            });
        }
        let record_bytes = if reader.remaining() == 0 { 0 } else { reader.u64()? };
        reader.finish()?;
        Ok(DeadList { references, record_bytes })
    }
}
