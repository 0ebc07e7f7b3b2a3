//! Sets the tree back to a snapshot, key by key: old values are written as new births.
//!
//! Lives here: what happens to records while nothing else changes them, in steps that each are one batch. The first
//! step of several leaves an intent that the last removes: a crash between is gone on from when the volume is opened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use verfs_base::{Epoch, GroupId};
use verfs_format::{DecodeError, InodeKind, InodeRecord, LOST_CHUNK, RunData, Segment, TreeCounters, keys, varint};
use verfs_meta::{MetaError, MetaStore, WriteBatch};
use verfs_store::{ChunkBatch, StoreError};

use crate::commit::put_system;
use crate::history::{ChangedKeys, Version, corrupt, version_at};
use crate::load::{decode_inode, decode_segment, meta_error, store_error};
use crate::versions::{Next, SnapshotIds, Versions, put_used};
use crate::volume::VfsParts;
use crate::{Result, VfsError};

/// Keys of one step: each may be a segment of many runs.
const STEP_KEYS: usize = 4096;

/// Changes of the tree's records by hand, in steps.
#[derive(Clone)]
pub(crate) struct Steps<'a> {
    pub(crate) parts: &'a VfsParts,
    pub(crate) standing: Arc<SnapshotIds>,
    /// The present epoch.
    pub(crate) epoch: Epoch,
}

/// A step that is being made.
pub(crate) struct Written {
    pub(crate) batch: WriteBatch,
    group: GroupId,
}

/// A return to a snapshot.
pub(crate) struct Return<'a> {
    pub(crate) steps: Steps<'a>,
    /// The snapshot.
    pub(crate) to: Epoch,
    /// Counts the records that it looked at.
    pub(crate) records: &'a AtomicU64,
}

/// A record, if it can be decoded: one that can't is no reason to leave the tree between two states.
fn sound<T>(key: &[u8], decoded: std::result::Result<T, DecodeError>) -> Option<T> {
    match decoded {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(key = %key.escape_ascii(), %error, "metadata record is damaged");
            None
        }
    }
}

/// Counts what becomes of one inode.
pub(crate) fn count(counters: &mut TreeCounters, before: Option<&InodeRecord>, after: Option<&InodeRecord>) {
    let linked = |record: Option<&InodeRecord>| record.filter(|record| record.nlink > 0).copied();
    let bytes = |record: Option<&InodeRecord>| match linked(record) {
        Some(record) if record.kind == InodeKind::Regular => record.size,
        Some(_) | None => 0,
    };
    let directories = |record: Option<&InodeRecord>| {
        u64::from(linked(record).is_some_and(|record| record.kind == InodeKind::Directory))
    };
    let inodes = |record: Option<&InodeRecord>| u64::from(record.is_some());
    let moved = |total: u64, before: u64, after: u64| total.saturating_add(after).saturating_sub(before);
    counters.inodes = moved(counters.inodes, inodes(before), inodes(after));
    counters.directories = moved(counters.directories, directories(before), directories(after));
    counters.logical_bytes = moved(counters.logical_bytes, bytes(before), bytes(after));
}

impl Steps<'_> {
    fn meta(&self) -> &dyn MetaStore {
        &*self.parts.meta
    }

    /// Logs a failure of the metadata engine and says what the caller gets.
    pub(crate) fn meta_error(&self, error: &MetaError) -> VfsError {
        meta_error(error)
    }

    /// Logs a failure of the chunk store and says what the caller gets.
    pub(crate) fn store_error(&self, error: &StoreError) -> VfsError {
        store_error(None, error)
    }

    /// The tree's counters as they are committed.
    pub(crate) fn counters(&self) -> Result<TreeCounters> {
        let value = self.meta().get(keys::SYSTEM_COUNTERS).map_err(|error| self.meta_error(&error))?;
        let counters = value.map_or(Ok(TreeCounters::default()), |value| TreeCounters::decode(&value));
        counters.map_err(|error| self.meta_error(&corrupt(keys::SYSTEM_COUNTERS, &error)))
    }

    /// A number of the tree as a whole; 0 if it isn't there.
    pub(crate) fn number(&self, key: &[u8]) -> Result<u64> {
        let value = self.meta().get(key).map_err(|error| self.meta_error(&error))?;
        let number = value.map_or(Ok(0), |value| varint::Reader::new(&value).u64());
        number.map_err(|error| self.meta_error(&corrupt(key, &error)))
    }

    /// Begins a step that takes the number of a group.
    pub(crate) fn begin(&self, group: GroupId) -> Written {
        Written { batch: WriteBatch::new(), group }
    }

    /// What writes the records of a step.
    pub(crate) fn versions<'s>(&'s self, written: &'s mut Written) -> Versions<'s> {
        Versions::new(self.meta(), &mut written.batch, (self.epoch, written.group), Arc::clone(&self.standing))
    }

    /// Makes a step durable.
    pub(crate) fn commit(
        &self,
        written: Written,
        mut chunks: ChunkBatch,
        grown: &BTreeMap<Epoch, u64>,
        counters: &TreeCounters,
    ) -> Result<()> {
        let Written { mut batch, group } = written;
        put_used(self.meta(), &mut batch, grown).map_err(|error| self.meta_error(&error))?;
        let mut value = Vec::new();
        counters.encode(&mut value);
        batch.put(Bytes::from_static(keys::SYSTEM_COUNTERS), value);
        put_system(&mut batch, keys::SYSTEM_GROUP, group.0);
        chunks.finish(&mut batch).map_err(|error| self.store_error(&error))?;
        self.meta().commit(batch).map_err(|error| self.meta_error(&error))?;
        self.meta().sync().map_err(|error| self.meta_error(&error))?;
        chunks.committed();
        Ok(())
    }

    /// Gives a key a record. The runs of a segment have their references.
    pub(crate) fn set(
        &self,
        chunks: &mut ChunkBatch,
        versions: &mut Versions<'_>,
        counters: &mut TreeCounters,
        (key, live, target): (&Bytes, Option<Bytes>, Option<Bytes>),
    ) -> Result<()> {
        if live.is_none() && target.is_none() {
            return Ok(());
        }
        match key.first() {
            Some(&keys::SEGMENT) => {
                for run in live
                    .as_deref()
                    .and_then(|live| sound(key, decode_segment(live)))
                    .into_iter()
                    .flat_map(|segment| segment.runs)
                {
                    if let RunData::Chunk { id, birth, .. } = run.data {
                        versions.give_up(chunks, (id, run.len), (birth, self.epoch));
                    }
                }
            }
            Some(&keys::INODE) => {
                let before = live.as_deref().and_then(|live| sound(key, decode_inode(live)));
                let after = target.as_deref().and_then(|target| sound(key, InodeRecord::decode(target)));
                count(counters, before.as_ref(), after.as_ref());
            }
            Some(_) | None => {}
        }
        let next = match target {
            Some(record) => Next::Value(versions.born(|out| out.extend_from_slice(&record))),
            None => Next::Gone(self.epoch),
        };
        versions.replace(key.clone(), live.as_deref(), next);
        Ok(())
    }
}

impl Return<'_> {
    /// Goes back, in batches that have the numbers of groups from `group` on. Returns the last one, which is durable.
    pub(crate) fn run(&self, group: GroupId, window_bytes: usize) -> Result<GroupId> {
        let steps = &self.steps;
        // What the steps write themselves is of keys that were dealt with.
        let mut changed = ChangedKeys::new(steps.meta(), (self.to, steps.epoch), window_bytes);
        let mut next = || changed.take(STEP_KEYS).map_err(|error| steps.meta_error(&error));
        let mut counters = steps.counters()?;
        let mut group = group;
        let mut part = next()?;
        while !part.is_empty() {
            let rest = next()?;
            let mut written = steps.begin(group);
            match rest.is_empty() {
                false => put_system(&mut written.batch, keys::SYSTEM_ROLLBACK, self.to.0),
                true => written.batch.delete(Bytes::from_static(keys::SYSTEM_ROLLBACK)),
            }
            self.step(&part, written, &mut counters)?;
            self.records.fetch_add(part.len() as u64, Ordering::Relaxed);
            if !rest.is_empty() {
                group = group.next();
            }
            part = rest;
        }
        Ok(group)
    }

    fn step(&self, part: &[Bytes], mut written: Written, counters: &mut TreeCounters) -> Result<()> {
        let steps = &self.steps;
        let meta_error = |error: MetaError| steps.meta_error(&error);
        let mut chunks = steps.parts.store.begin();
        let mut versions = steps.versions(&mut written);
        for (key, live) in part.iter().zip(steps.meta().multi_get(part).map_err(meta_error)?) {
            let target = match version_at(steps.meta(), key, live.as_ref(), self.to) {
                Ok(target) => target,
                // A record that nobody can read stays as it is: the rest of the tree goes back all the same.
                Err(error @ MetaError::Corrupt(_)) => {
                    meta_error(error);
                    continue;
                }
                Err(error) => return Err(meta_error(error)),
            };
            let target = match (key.first(), target) {
                (Some(&keys::SEGMENT), Some(target)) => Some(self.born_again(&mut chunks, key, &target)),
                (_, target) => target.map(|target| target.record),
            };
            steps.set(&mut chunks, &mut versions, counters, (key, live, target))?;
        }
        let grown = versions.finish().map_err(meta_error)?;
        steps.commit(written, chunks, &grown, counters)
    }

    /// A segment whose runs are new ones, with references of their own; one that is damaged stays as it is.
    fn born_again(&self, chunks: &mut ChunkBatch, key: &[u8], target: &Version) -> Bytes {
        let Some(mut segment) = sound(key, Segment::decode(&target.record)) else { return target.record.clone() };
        for run in &mut segment.runs {
            if let RunData::Chunk { id, birth, .. } = &mut run.data
                && *id != LOST_CHUNK
            {
                chunks.add_reference(*id, 1);
                *birth = self.steps.epoch;
            }
        }
        segment.encode().into()
    }
}
