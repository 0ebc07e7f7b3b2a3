//! Sets the tree back to a snapshot, key by key: old values are written as new births.
//!
//! Lives here: what happens to records while nothing else changes them, in steps that each are one batch. The first
//! step of several leaves an intent that the last removes: a crash between is gone on from when the volume is opened.

use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{Epoch, GroupId};
use verfs_format::{InodeKind, InodeRecord, RunData, Segment, TreeCounters, keys, varint};
use verfs_meta::{MetaError, MetaStore, WriteBatch};
use verfs_store::{ChunkBatch, StoreError};

use crate::history::{Version, changed_keys, version_at};
use crate::load::{decode_inode, decode_segment};
use crate::versions::{Next, SnapshotIds, Versions, put_used};
use crate::volume::VfsParts;

/// Keys of one step: each may be a segment of many runs.
const STEP_KEYS: usize = 4096;

/// A return to a snapshot.
pub(crate) struct Return<'a> {
    pub(crate) parts: &'a VfsParts,
    pub(crate) standing: Arc<SnapshotIds>,
    /// The snapshot.
    pub(crate) to: Epoch,
    /// The present epoch.
    pub(crate) epoch: Epoch,
}

fn corrupt(key: &[u8], error: &verfs_format::DecodeError) -> MetaError {
    MetaError::Corrupt(format!("the record at {}: {error}", key.escape_ascii()))
}

fn put_number(batch: &mut WriteBatch, key: &'static [u8], number: u64) {
    let mut value = Vec::new();
    varint::put_u64(&mut value, number);
    batch.put(Bytes::from_static(key), value);
}

/// Counts what becomes of one inode.
fn count(counters: &mut TreeCounters, before: Option<&InodeRecord>, after: Option<&InodeRecord>) {
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

impl Return<'_> {
    fn meta(&self) -> &dyn MetaStore {
        &*self.parts.meta
    }

    /// Goes back, in batches that have the numbers of groups from `group` on. Returns the last one, which is durable,
    /// and the keys that changed.
    pub(crate) fn run(&self, group: GroupId) -> Result<(GroupId, Vec<Bytes>), StoreError> {
        let changed: Vec<Bytes> = changed_keys(self.meta(), self.to, self.epoch)?.into_iter().collect();
        let mut counters = match self.meta().get(keys::SYSTEM_COUNTERS)? {
            None => TreeCounters::default(),
            Some(value) => TreeCounters::decode(&value).map_err(|error| corrupt(keys::SYSTEM_COUNTERS, &error))?,
        };
        let mut group = group;
        let mut steps = changed.chunks(STEP_KEYS).peekable();
        while let Some(step) = steps.next() {
            let mut batch = WriteBatch::new();
            match steps.peek() {
                Some(_) => put_number(&mut batch, keys::SYSTEM_ROLLBACK, self.to.0),
                None => batch.delete(Bytes::from_static(keys::SYSTEM_ROLLBACK)),
            }
            self.step(step, group, &mut counters, batch)?;
            if steps.peek().is_some() {
                group = group.next();
            }
        }
        Ok((group, changed))
    }

    fn step(
        &self,
        step: &[Bytes],
        group: GroupId,
        counters: &mut TreeCounters,
        mut batch: WriteBatch,
    ) -> Result<(), StoreError> {
        let mut chunks = self.parts.store.begin();
        let mut versions = Versions::new(self.meta(), &mut batch, (self.epoch, group), Arc::clone(&self.standing));
        for (key, live) in step.iter().zip(self.meta().multi_get(step)?) {
            let target = version_at(self.meta(), key, live.as_ref(), self.to)?;
            self.set(&mut chunks, &mut versions, counters, (key, live, target))?;
        }
        let grown = versions.finish()?;
        put_used(self.meta(), &mut batch, &grown)?;
        let mut value = Vec::new();
        counters.encode(&mut value);
        batch.put(Bytes::from_static(keys::SYSTEM_COUNTERS), value);
        put_number(&mut batch, keys::SYSTEM_GROUP, group.0);
        chunks.finish(&mut batch)?;
        self.meta().commit(batch)?;
        self.meta().sync()?;
        chunks.committed();
        Ok(())
    }

    /// Gives a key the record that it had.
    fn set(
        &self,
        chunks: &mut ChunkBatch,
        versions: &mut Versions<'_>,
        counters: &mut TreeCounters,
        (key, live, target): (&Bytes, Option<Bytes>, Option<Version>),
    ) -> Result<(), MetaError> {
        if live.is_none() && target.is_none() {
            return Ok(());
        }
        let record = match key.first() {
            Some(&keys::SEGMENT) => {
                if let Some(live) = &live {
                    for run in decode_segment(live).map_err(|error| corrupt(key, &error))?.runs {
                        if let RunData::Chunk { id, birth, .. } = run.data {
                            versions.give_up(chunks, (id, run.len), (birth, self.epoch));
                        }
                    }
                }
                target.map(|target| self.born_again(chunks, key, &target)).transpose()?
            }
            Some(&keys::INODE) => {
                let before = live.as_deref().map(decode_inode).transpose().map_err(|error| corrupt(key, &error))?;
                let after = target.as_ref().map(|target| InodeRecord::decode(&target.record)).transpose();
                count(counters, before.as_ref(), after.map_err(|error| corrupt(key, &error))?.as_ref());
                target.map(|target| target.record)
            }
            Some(_) | None => target.map(|target| target.record),
        };
        let next = match record {
            Some(record) => Next::Value(versions.born(|out| out.extend_from_slice(&record))),
            None => Next::Gone(self.epoch),
        };
        versions.replace(key.clone(), live.as_deref(), next)
    }

    /// A segment whose runs are new ones, with references of their own.
    fn born_again(&self, chunks: &mut ChunkBatch, key: &[u8], target: &Version) -> Result<Bytes, MetaError> {
        let mut segment = Segment::decode(&target.record).map_err(|error| corrupt(key, &error))?;
        for run in &mut segment.runs {
            if let RunData::Chunk { id, birth, .. } = &mut run.data
                && *id != verfs_format::LOST_CHUNK
            {
                chunks.add_reference(*id, 1);
                *birth = self.epoch;
            }
        }
        Ok(segment.encode().into())
    }
}
