//! The vault's part of a stream: records and chunks as they are stored, whether it is locked or not.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{ChunkId, Epoch};
use verfs_format::vault::{SYSTEM_REKEYED, VaultRecord};
use verfs_format::{
    LOST_CHUNK, RunData, STREAM_WINDOW_CHUNKS, SealedRecord, Segment, StreamFrame, StreamVault, keys, split_versioned,
};
use verfs_meta::{Direction, KeyRange};
use verfs_store::{StoreError, StoredBlock};

use super::keyring::VaultError;
use super::locked::LockedVault;
use super::values;
use crate::history::ChangedKeys;
use crate::load::{meta_error, store_error};
use crate::snapshot_pair::vault_note;
use crate::stream::StreamError;
use crate::{Snapshot, VfsError};

/// Records of a snapshot, in the order in which they are sent: an inode before its parts.
pub(super) const RECORD_KINDS: [u8; 6] =
    [keys::INODE, keys::DIRENT, keys::SEGMENT, keys::SYMLINK, keys::XATTRS, keys::ORPHAN];
/// Lists of changes that are read at once.
const LISTS_AT_ONCE: usize = 32;
/// Memory of the keys that changed.
const WINDOW_BYTES: usize = 16 << 20;

/// Takes a frame.
type Put<'a> = dyn FnMut(&StreamFrame) -> Result<(), StreamError> + 'a;

pub(super) fn mismatch<T>(what: &str) -> Result<T, StreamError> {
    Err(StreamError::Mismatch(what.to_owned()))
}

/// What whoever sends or receives a vault hears of its keys.
pub(super) fn keyring_error(error: VaultError) -> StreamError {
    match error {
        VaultError::Meta(error) => meta_error(&error).into(),
        VaultError::Damaged(detail) => {
            StreamError::Mismatch(format!("the vault's wrapped keys are damaged ({detail})"))
        }
        VaultError::Exists | VaultError::Absent | VaultError::WrongSecret | VaultError::Crypto(_) => {
            tracing::error!(%error, "the vault's keys");
            VfsError::Io.into()
        }
    }
}

struct Sender<'a, 'b> {
    vault: &'a LockedVault,
    part: &'a StreamVault,
    put: &'a mut Put<'b>,
    /// Chunks that came a while ago at most.
    known: HashSet<ChunkId>,
    window: VecDeque<ChunkId>,
}

impl Sender<'_, '_> {
    fn record(&mut self, key: Bytes, died: Option<Epoch>, value: Option<Bytes>) -> Result<(), StreamError> {
        if let Some(value) = &value
            && keys::parse_segment_of(&key).is_some()
        {
            self.chunks_of(&key, value)?;
        }
        (self.put)(&StreamFrame::Sealed(SealedRecord { key, died, value }))
    }

    /// The chunks of a segment that the base doesn't have there.
    fn chunks_of(&mut self, key: &[u8], value: &[u8]) -> Result<(), StreamError> {
        let since = self.part.base.unwrap_or(Epoch(0));
        for run in runs_of(key, value)?.runs {
            match run.data {
                RunData::Chunk { id, birth, .. } if id != LOST_CHUNK && birth > since && !self.known.contains(&id) => {
                    self.chunk(id)?;
                }
                RunData::Chunk { .. } | RunData::Hole | RunData::Inline(_) => {}
            }
        }
        Ok(())
    }

    fn chunk(&mut self, id: ChunkId) -> Result<(), StreamError> {
        let StoredBlock { raw_len, encoding, stored } = self.vault.block(id)?;
        (self.put)(&StreamFrame::Block(id, raw_len, encoding, stored))?;
        self.known.insert(id);
        self.window.push_back(id);
        if self.window.len() as u64 > STREAM_WINDOW_CHUNKS
            && let Some(old) = self.window.pop_front()
        {
            self.known.remove(&old);
        }
        Ok(())
    }

    fn whole(&mut self) -> Result<(), StreamError> {
        let vault = self.vault;
        for kind in RECORD_KINDS {
            vault.walk(kind, self.part.snapshot, &mut |key, version| self.record(key, None, Some(version.value)))?;
        }
        Ok(())
    }

    fn changes(&mut self, base: Epoch) -> Result<(), StreamError> {
        let (vault, last) = (self.vault, self.part.snapshot);
        let mut start = Bytes::from(keys::changes_from(Epoch(base.0 + 1)));
        let end = Bytes::from(keys::changes_from(Epoch(last.0 + 1)));
        loop {
            let mut lists = Vec::new();
            let range = KeyRange::between(start.clone(), end.clone());
            let read = vault.stored.scan(&range, Direction::Forward, &mut |key, value| {
                lists.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                if lists.len() < LISTS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            read.map_err(|error| meta_error(&error))?;
            let Some((last, _)) = lists.last() else { break };
            start = [last, &[0][..]].concat().into();
            for (key, value) in lists {
                self.record(key, None, Some(value))?;
            }
        }
        let mut changed = ChangedKeys::new(&vault.clear, (base, last), WINDOW_BYTES);
        while let Some(key) = changed.next().map_err(|error| meta_error(&error))? {
            let then = vault.version_at(&key, base).map_err(|error| meta_error(&error))?;
            let now = vault.version_at(&key, last).map_err(|error| meta_error(&error))?;
            let died = then.and_then(|then| then.death).filter(|death| *death <= last);
            match now {
                // It is what the base has.
                Some(now) if super::walk::birth_of(&key, &now.value).map_err(|error| meta_error(&error))? <= base => {}
                now => self.record(key, died, now.map(|now| now.value))?,
            }
        }
        Ok(())
    }
}

/// The runs of a stored segment; none if it is a secret as a whole.
pub(super) fn runs_of(key: &[u8], value: &[u8]) -> Result<Segment, StreamError> {
    let clear = values::clear(key, value).map_err(|error| meta_error(&error))?;
    let segment = split_versioned(&clear).and_then(|(_, record)| Segment::decode(record));
    Ok(segment.unwrap_or_default())
}

impl LockedVault {
    /// A chunk as it is stored. The vault may be opened or locked meanwhile: then it is asked for again.
    fn block(&self, id: ChunkId) -> Result<StoredBlock, VfsError> {
        let read = || (self.store)().and_then(|store| store.stored(id));
        let read = match read() {
            Err(StoreError::Closed) => read(),
            read => read,
        };
        read.map_err(|error| store_error(None, &error))
    }

    /// What a stream of a snapshot of the volume has of the vault; nothing if the vault is younger.
    ///
    /// # Errors
    /// [`StreamError::Mismatch`] where it can't have what it should.
    pub(crate) fn stream_part(
        &self,
        snapshot: &Snapshot,
        base: Option<&Snapshot>,
    ) -> Result<Option<StreamVault>, StreamError> {
        let Some(wrapped) = self.keyring.stored().map_err(keyring_error)? else { return Ok(None) };
        let record = VaultRecord::decode(&wrapped);
        let record = record.map_err(|error| keyring_error(VaultError::Damaged(error.to_string())))?;
        let table = self.table()?;
        let of = |snapshot: &Snapshot| {
            let note = vault_note(&snapshot.uuid);
            table.records().find(|(_, record)| record.note == note)
        };
        let Some((own, of_tree)) = of(snapshot) else {
            return match snapshot.created < record.created {
                true => Ok(None),
                false => mismatch("what the snapshot has of the vault is not made yet: unlock the vault once"),
            };
        };
        let base = base.and_then(of).map(|(base, _)| base);
        let rekeyed = self.number(SYSTEM_REKEYED)?.map(Epoch);
        if base.zip(rekeyed).is_some_and(|(base, rekeyed)| base < rekeyed) {
            return mismatch(
                "the vault has had a new data key since the base, which the receiver doesn't have: send the whole \
                 snapshot, to a new volume",
            );
        }
        Ok(Some(StreamVault {
            id: self.keyring.id().map_err(keyring_error)?,
            snapshot: own,
            base,
            counters: of_tree.counters,
            keys: wrapped,
        }))
    }

    /// Sends what [`LockedVault::stream_part`] told.
    pub(crate) fn send(&self, part: &StreamVault, put: &mut Put<'_>) -> Result<(), StreamError> {
        let waiting = self.orphans_at(part.snapshot)?;
        let mut sender = Sender { vault: self, part, put, known: HashSet::new(), window: VecDeque::new() };
        match part.base {
            None => sender.whole()?,
            Some(base) => sender.changes(base)?,
        }
        // What had no name when the snapshot was made is no part of it, and may go while it is sent.
        let is_same = self.orphans_at(part.snapshot)? == waiting;
        match is_same && self.keyring.stored().map_err(keyring_error)? == Some(part.keys.clone()) {
            true => Ok(()),
            false => mismatch("the vault was changed in a way that a stream can't follow: send it again"),
        }
    }

    fn orphans_at(&self, id: Epoch) -> Result<Vec<(Bytes, Bytes)>, StreamError> {
        let mut orphans = Vec::new();
        self.walk(keys::ORPHAN, id, &mut |key, version| {
            orphans.push((key, version.value));
            Ok(())
        })?;
        Ok(orphans)
    }
}
