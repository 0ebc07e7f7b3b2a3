//! Sets the tree back to a snapshot, key by key: old values are written as new births.
//!
//! Lives here: what happens to records while nothing else changes them, in steps that each are one batch. The first
//! step of several leaves an intent that the last removes: a crash between is gone on from when the volume is opened.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use verfs_base::{Epoch, GroupId, Ino};
use verfs_format::{
    ContentId, DecodeError, InodeKind, InodeRecord, LOST_CHUNK, OrphanRecord, RunData, Segment, TreeCounters, keys,
    split_versioned, varint,
};
use verfs_meta::{Direction, KeyRange, MetaError, MetaStore, WriteBatch};
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

/// What becomes of a key.
pub(crate) struct Replacement<'a> {
    pub(crate) key: &'a Bytes,
    pub(crate) live: Option<Bytes>,
    pub(crate) target: Option<Bytes>,
    /// When what is live lost its last name, if it has none: no snapshot made since has anything of it.
    pub(crate) died: Option<Epoch>,
}

/// When what has no name lost its last one.
#[derive(Default)]
struct Nameless {
    inodes: HashMap<Ino, Epoch>,
    contents: HashMap<ContentId, (Epoch, Option<Ino>)>,
}

impl Nameless {
    /// Of a frozen volume that is what is open; of one that a crash left, what its opening releases.
    fn read(meta: &dyn MetaStore) -> std::result::Result<Nameless, MetaError> {
        let mut nameless = Nameless::default();
        meta.scan(&KeyRange::prefix(&[keys::ORPHAN]), Direction::Forward, &mut |key, value| {
            let record = split_versioned(value).and_then(|(_, record)| OrphanRecord::decode(record));
            if let (Some(content), Some(record)) = (keys::parse_orphan(key), sound(key, record)) {
                nameless.contents.insert(content, (record.died, record.ino));
                nameless.inodes.extend(record.ino.map(|ino| (ino, record.died)));
            }
            ControlFlow::Continue(())
        })?;
        Ok(nameless)
    }

    /// When what a key has died, if that is of something without a name.
    fn died(&self, key: &[u8]) -> Option<Epoch> {
        let content = keys::parse_segment_of(key).map(|(content, _)| content).or_else(|| keys::parse_orphan(key));
        let inode = keys::parse_inode(key).or_else(|| keys::parse_symlink(key)).or_else(|| keys::parse_xattrs(key));
        let of_content = content.and_then(|content| self.contents.get(&content)).map(|(died, _)| *died);
        of_content.or_else(|| inode.and_then(|ino| self.inodes.get(&ino)).copied())
    }
}

/// Keys that did not change since a snapshot, of what has lost its last name since: they died with that.
struct Unchanged<'a> {
    meta: &'a dyn MetaStore,
    to: Epoch,
    left: Vec<(ContentId, Option<Ino>)>,
    /// Where the first content goes on.
    next: Option<Bytes>,
}

impl<'a> Unchanged<'a> {
    fn new(meta: &'a dyn MetaStore, to: Epoch, nameless: &Nameless) -> Unchanged<'a> {
        let since = nameless.contents.iter().filter(|(_, (died, _))| *died > to);
        Unchanged { meta, to, left: since.map(|(content, (_, ino))| (*content, *ino)).collect(), next: None }
    }

    /// The next ones, about so many at most; none at the end.
    fn take(&mut self, count: usize) -> std::result::Result<Vec<Bytes>, MetaError> {
        let mut taken = Vec::new();
        let is_older = |value: &[u8]| split_versioned(value).is_ok_and(|(birth, _)| birth <= self.to);
        while taken.len() < count
            && let Some(&(content, ino)) = self.left.last()
        {
            let segments = KeyRange::prefix(&keys::segments(content));
            let range = KeyRange { start: self.next.take().unwrap_or(segments.start), end: segments.end };
            self.meta.scan(&range, Direction::Forward, &mut |key, value| {
                if taken.len() >= count {
                    self.next = Some(Bytes::copy_from_slice(key));
                    return ControlFlow::Break(());
                }
                taken.extend(is_older(value).then(|| Bytes::copy_from_slice(key)));
                ControlFlow::Continue(())
            })?;
            if self.next.is_some() {
                break;
            }
            self.left.pop();
            let beside: Vec<Bytes> =
                ino.into_iter().flat_map(|ino| [keys::symlink(ino).into(), keys::xattrs(ino).into()]).collect();
            for (key, value) in beside.iter().zip(self.meta.multi_get(&beside)?) {
                taken.extend(value.filter(|value| is_older(value)).map(|_| key.clone()));
            }
        }
        Ok(taken)
    }
}

/// The keys that are set back, in that order. What says of others when they died goes last, so that whoever completes a
/// rollback knows it too.
struct Order<'a> {
    changed: [ChangedKeys<'a>; 2],
    unchanged: Unchanged<'a>,
    orphans: ChangedKeys<'a>,
}

impl<'a> Order<'a> {
    fn new(meta: &'a dyn MetaStore, epochs: (Epoch, Epoch), nameless: &Nameless, window_bytes: usize) -> Order<'a> {
        let orphans = KeyRange::prefix(&[keys::ORPHAN]);
        let before = KeyRange { start: Bytes::new(), end: Some(orphans.start.clone()) };
        let behind = KeyRange { start: orphans.end.clone().unwrap_or_default(), end: None };
        let of = |range| ChangedKeys::new(meta, epochs, window_bytes).within(range);
        let unchanged = Unchanged::new(meta, epochs.0, nameless);
        Order { changed: [of(before), of(behind)], unchanged, orphans: of(orphans) }
    }

    /// The next ones, at most so many; none at the end.
    fn take(&mut self, count: usize) -> std::result::Result<Vec<Bytes>, MetaError> {
        let mut taken = Vec::new();
        for part in &mut self.changed {
            taken.extend(part.take(count - taken.len())?);
        }
        if taken.len() < count {
            taken.extend(self.unchanged.take(count - taken.len())?);
        }
        if taken.len() < count {
            taken.extend(self.orphans.take(count - taken.len())?);
        }
        Ok(taken)
    }
}

/// A return to a snapshot.
pub(crate) struct Return<'a> {
    pub(crate) steps: Steps<'a>,
    /// The snapshot.
    pub(crate) to: Epoch,
    /// Counts the records that it looked at.
    pub(crate) records: &'a AtomicU64,
    /// A record outside of the tree that becomes durable with the first step.
    pub(crate) beside: Option<(Bytes, Bytes)>,
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
        Replacement { key, live, target, died }: Replacement<'_>,
    ) -> Result<()> {
        if live.is_none() && target.is_none() {
            return Ok(());
        }
        let death = died.unwrap_or(self.epoch);
        match key.first() {
            Some(&keys::SEGMENT) => {
                for run in live
                    .as_deref()
                    .and_then(|live| sound(key, decode_segment(live)))
                    .into_iter()
                    .flat_map(|segment| segment.runs)
                {
                    if let RunData::Chunk { id, birth, .. } = run.data {
                        versions.give_up(chunks, (id, run.len), (birth, death));
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
            Some(record) => {
                let value = versions.born(|out| out.extend_from_slice(&record));
                if death < self.epoch { Next::Again(value, death) } else { Next::Value(value) }
            }
            None => Next::Gone(death),
        };
        versions.replace(key.clone(), live.as_deref(), next);
        Ok(())
    }
}

impl Return<'_> {
    /// Goes back, in batches that have the numbers of groups from `group` on. Returns the last one, which is durable.
    pub(crate) fn run(&self, group: GroupId, window_bytes: usize) -> Result<GroupId> {
        let steps = &self.steps;
        let nameless = Nameless::read(steps.meta()).map_err(|error| steps.meta_error(&error))?;
        // What the steps write themselves is of keys that were dealt with.
        let mut changed = Order::new(steps.meta(), (self.to, steps.epoch), &nameless, window_bytes);
        let mut next = || changed.take(STEP_KEYS).map_err(|error| steps.meta_error(&error));
        let mut counters = steps.counters()?;
        let mut group = group;
        let mut part = next()?;
        let mut beside = self.beside.clone();
        // An intent goes even if nothing changed.
        let mut is_over = part.is_empty() && steps.number(keys::SYSTEM_ROLLBACK)? == 0;
        while !is_over {
            let rest = next()?;
            is_over = rest.is_empty();
            let mut written = steps.begin(group);
            match is_over {
                false => put_system(&mut written.batch, keys::SYSTEM_ROLLBACK, self.to.0),
                true => written.batch.delete(Bytes::from_static(keys::SYSTEM_ROLLBACK)),
            }
            if let Some((key, value)) = beside.take() {
                written.batch.put(key, value);
            }
            self.step((&part, &nameless), written, &mut counters)?;
            self.records.fetch_add(part.len() as u64, Ordering::Relaxed);
            if !is_over {
                group = group.next();
            }
            part = rest;
        }
        Ok(group)
    }

    fn step(
        &self,
        (part, nameless): (&[Bytes], &Nameless),
        mut written: Written,
        counters: &mut TreeCounters,
    ) -> Result<()> {
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
            let died = nameless.died(key);
            steps.set(&mut chunks, &mut versions, counters, Replacement { key, live, target, died })?;
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
