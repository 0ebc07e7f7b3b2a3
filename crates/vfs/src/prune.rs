//! Deletion of snapshots: a part of it goes with each group, and costs what changed around the snapshot.
//!
//! With the snapshot goes every version that only it has: those whose life began after the snapshot before it and ended
//! up to the one behind it. Their references are in dead lists, their records in the history of the keys that change
//! lists name.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::Epoch;
use verfs_format::{ChangeList, DeadList, PruneProgress, SnapshotRecord, keys};
use verfs_meta::{Direction, KeyRange, MetaError, MetaStore, WriteBatch};
use verfs_store::ChunkBatch;

use crate::versions::{SnapshotIds, birth_of};

/// A snapshot of which a group removes a part.
#[derive(Clone, Debug)]
pub(crate) struct Prune {
    pub(crate) id: Epoch,
    pub(crate) record: SnapshotRecord,
    /// The snapshot before it that still has its records; epoch 0 if there is none.
    pub(crate) lower: Epoch,
    pub(crate) upper: Epoch,
}

/// What a group left of a snapshot.
#[derive(Clone, Debug)]
pub(crate) enum Pruned {
    Gone(Epoch),
    Left(Epoch, SnapshotRecord),
}

/// Called for each dead list of a walk; `Break` ends it.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, MetaError> + 'a;

/// Dead lists of a stretch of lives.
struct Lives {
    /// Births above the first and up to the second.
    births: (Epoch, Epoch),
    /// Deaths above the first and up to the second.
    deaths: (Epoch, Epoch),
}

impl Lives {
    /// Visits the lists behind `cursor`, jumping over those of other births.
    fn scan(&self, meta: &dyn MetaStore, cursor: &[u8], visit: &mut Visit<'_>) -> Result<ControlFlow<()>, MetaError> {
        let after = |epoch: Epoch| Epoch(epoch.0 + 1);
        let end = keys::dead_from(after(self.deaths.1), Epoch(0));
        let mut start = keys::dead_from(after(self.deaths.0), after(self.births.0));
        if cursor >= &start[..] {
            start = [cursor, &[0]].concat();
        }
        loop {
            let mut next = None;
            let mut stopped = Ok(ControlFlow::Continue(()));
            meta.scan(&KeyRange::between(start, end.clone()), Direction::Forward, &mut |key, value| {
                let Some((death, birth)) = keys::parse_dead(key) else { return ControlFlow::Continue(()) };
                next = match birth {
                    _ if birth <= self.births.0 => Some(keys::dead_from(death, after(self.births.0))),
                    _ if birth > self.births.1 => Some(keys::dead_from(after(death), after(self.births.0))),
                    _ => None,
                };
                if next.is_some() {
                    return ControlFlow::Break(());
                }
                stopped = visit(key, value);
                match stopped {
                    Ok(flow) => flow,
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
            match (stopped?, next) {
                (ControlFlow::Break(()), _) => return Ok(ControlFlow::Break(())),
                (ControlFlow::Continue(()), Some(next)) => start = next,
                (ControlFlow::Continue(()), None) => return Ok(ControlFlow::Continue(())),
            }
        }
    }

    /// Bytes of the runs, and of old records.
    fn bytes(&self, meta: &dyn MetaStore) -> Result<u64, MetaError> {
        let mut bytes = 0;
        let _ = self.scan(meta, &[], &mut |key, value| {
            let list = decode_dead(key, value);
            bytes += list.record_bytes + list.references.iter().map(|dead| dead.bytes).sum::<u64>();
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(bytes)
    }
}

/// References of a dead list. Those of a damaged one stay with their chunks, which are never reclaimed: nobody loses
/// anything.
fn decode_dead(key: &[u8], value: &[u8]) -> DeadList {
    DeadList::decode(value).unwrap_or_else(|error| {
        tracing::error!(key = %key.escape_ascii(), %error, "dead list is damaged; its chunks are not released");
        DeadList::default()
    })
}

/// Keys of a change list. What a damaged one named stays in history, where nobody looks for it.
fn decode_changes(key: &[u8], value: &[u8]) -> ChangeList {
    ChangeList::decode(value).unwrap_or_else(|error| {
        tracing::error!(key = %key.escape_ascii(), %error, "change list is damaged; old versions of records are left");
        ChangeList::default()
    })
}

/// Snapshots whose deletion begins leave what they shared with one other snapshot to that one alone.
pub(crate) fn count_shared(
    meta: &dyn MetaStore,
    begun: &[Epoch],
    (held, epoch): (&SnapshotIds, Epoch),
    grown: &mut BTreeMap<Epoch, u64>,
) -> Result<(), MetaError> {
    for &id in begun {
        let before = held.before(id);
        let after = held.after(id);
        let last = after.unwrap_or(epoch);
        if before > Epoch(0) {
            let lives = Lives { births: (held.before(before), before), deaths: (id, last) };
            *grown.entry(before).or_default() += lives.bytes(meta)?;
        }
        if let Some(after) = after {
            let end = held.after(after).unwrap_or(epoch);
            let lives = Lives { births: (before, id), deaths: (after, end) };
            *grown.entry(after).or_default() += lives.bytes(meta)?;
        }
    }
    Ok(())
}

/// Does a part of a deletion in a batch of epoch `epoch`: gives back at most `budget` references, or looks at so many
/// histories.
pub(crate) fn step(
    meta: &dyn MetaStore,
    batch: &mut WriteBatch,
    chunks: &mut ChunkBatch,
    (prune, epoch): (&Prune, Epoch),
    mut budget: usize,
) -> Result<Pruned, MetaError> {
    let mut progress = match &prune.record.pruning {
        None | Some(PruneProgress::Waiting) => PruneProgress::Dead { upper: prune.upper, cursor: Bytes::new() },
        Some(progress) => progress.clone(),
    };
    if let PruneProgress::Dead { upper, cursor } = &progress {
        let (upper, mut cursor) = (*upper, cursor.clone());
        let lives = Lives { births: (prune.lower, prune.id), deaths: (prune.id, upper) };
        let flow = lives.scan(meta, &cursor.clone(), &mut |key, value| {
            let list = decode_dead(key, value);
            for dead in &list.references {
                chunks.drop_reference(dead.chunk, u32::try_from(dead.references).unwrap_or(u32::MAX));
            }
            let key = Bytes::copy_from_slice(key);
            batch.delete(key.clone());
            cursor = key;
            budget = budget.saturating_sub(list.references.len() + 1);
            Ok(if budget > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        progress = match flow {
            ControlFlow::Break(()) => PruneProgress::Dead { upper, cursor },
            ControlFlow::Continue(()) => PruneProgress::Changes { upper, cursor: Bytes::new() },
        };
    }
    if budget > 0
        && let PruneProgress::Changes { upper, cursor } = &progress
    {
        match remove_histories(meta, batch, (prune, epoch), *upper, cursor, &mut budget)? {
            Some(cursor) => progress = PruneProgress::Changes { upper: *upper, cursor },
            None => {
                batch.delete(keys::snapshot(prune.id));
                batch.delete(keys::snapshot_used(prune.id));
                return Ok(Pruned::Gone(prune.id));
            }
        }
    }
    let record = SnapshotRecord { pruning: Some(progress), ..prune.record.clone() };
    batch.put(keys::snapshot(prune.id), record.encode());
    Ok(Pruned::Left(prune.id, record))
}

/// Removes versions that only the snapshot has. Returns the last change list dealt with if there are more.
fn remove_histories(
    meta: &dyn MetaStore,
    batch: &mut WriteBatch,
    (prune, epoch): (&Prune, Epoch),
    upper: Epoch,
    cursor: &Bytes,
    budget: &mut usize,
) -> Result<Option<Bytes>, MetaError> {
    let end = keys::changes_from(Epoch(upper.0 + 1));
    let mut start = keys::changes_from(Epoch(prune.id.0 + 1));
    if cursor[..] >= start[..] {
        start = [cursor, &[0][..]].concat();
    }
    let mut lists = Vec::new();
    let mut left = *budget;
    meta.scan(&KeyRange::between(start, end), Direction::Forward, &mut |key, value| {
        let Some(death) = keys::parse_changes(key) else { return ControlFlow::Continue(()) };
        let list = decode_changes(key, value);
        left = left.saturating_sub(list.keys.len() + 1);
        lists.push((Bytes::copy_from_slice(key), death, list));
        if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    *budget = left;
    let mut last = cursor.clone();
    for (key, death, list) in lists {
        let histories: Vec<Bytes> = list.keys.iter().map(|key| keys::history(key, death).into()).collect();
        let values = meta.multi_get(&histories)?;
        for (history, value) in histories.into_iter().zip(values) {
            let Some(value) = value else { continue };
            if birth_of(&history, &value, epoch) > prune.lower {
                batch.delete(history);
            }
        }
        if prune.lower == Epoch(0) {
            // No snapshot is left before these changes: nobody asks what they were.
            batch.delete(key.clone());
        }
        last = key;
    }
    Ok((left == 0).then_some(last))
}
