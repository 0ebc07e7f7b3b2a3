//! What keys had when a snapshot was made, and which keys changed behind it.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::Epoch;
use verfs_format::{ChangeList, DecodeError, keys, split_versioned};
use verfs_meta::{Direction, KeyRange, MetaError, MetaStore};

/// A version of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Version {
    pub(crate) birth: Epoch,
    pub(crate) record: Bytes,
}

/// Bytes of a key that are no name: kind, directory and hash, one more in history.
const KEY_SHOWN_BYTES: usize = 18;

pub(crate) fn corrupt(key: &[u8], error: &DecodeError) -> MetaError {
    // A name in the vault has no place in the log.
    let shown = &key[..key.len().min(KEY_SHOWN_BYTES)];
    MetaError::Corrupt(format!("the record at {}: {error}", shown.escape_ascii()))
}

fn version(key: &[u8], value: &Bytes) -> Result<Version, MetaError> {
    let (birth, record) = split_versioned(value).map_err(|error| corrupt(key, &error))?;
    Ok(Version { birth, record: value.slice(value.len() - record.len()..) })
}

/// What a key had at the end of epoch `id`, given what it has now.
///
/// Live is looked at first: what a commit takes away there meanwhile, it has put into history.
pub(crate) fn version_at(
    meta: &dyn MetaStore,
    key: &[u8],
    live: Option<&Bytes>,
    id: Epoch,
) -> Result<Option<Version>, MetaError> {
    if let Some(value) = live {
        let live = version(key, value)?;
        if live.birth <= id {
            return Ok(Some(live));
        }
    }
    let first = keys::history(key, Epoch(id.0.saturating_add(1)));
    let mut last = keys::history(key, Epoch(u64::MAX));
    last.push(0);
    let mut found = None;
    meta.scan(&KeyRange::between(first, last), Direction::Forward, &mut |history, value| {
        // A longer key may lie between.
        match keys::parse_history(history) {
            Some((of, death)) if of == key => {
                found = Some((death, Bytes::copy_from_slice(value)));
                ControlFlow::Break(())
            }
            Some(_) | None => ControlFlow::Continue(()),
        }
    })?;
    let Some((death, value)) = found else { return Ok(None) };
    let found = version(key, &value)?;
    // What died before it was born is damaged, not younger than the snapshot.
    if found.birth >= death {
        return Err(corrupt(key, &DecodeError::Invalid("birth")));
    }
    Ok(Some(found).filter(|version| version.birth <= id))
}

/// What a key in a window costs beside its bytes.
const KEY_BYTES: usize = 64;

/// Every key that changed in a stretch of epochs: in order, and once. What changed may be more than memory should hold,
/// so that it is found window by window, each with a pass through the change lists.
pub(crate) struct ChangedKeys<'a> {
    meta: &'a dyn MetaStore,
    lists: KeyRange,
    window_bytes: usize,
    /// Where the next window begins; none behind the last one.
    next: Option<Bytes>,
    /// The first key that is not asked for.
    end: Option<Bytes>,
    window: VecDeque<Bytes>,
}

impl<'a> ChangedKeys<'a> {
    /// The keys that changed behind epoch `after`, up to epoch `last`, in windows of so many bytes.
    pub(crate) fn new(meta: &'a dyn MetaStore, (after, last): (Epoch, Epoch), window_bytes: usize) -> Self {
        let start = keys::changes_from(Epoch(after.0.saturating_add(1)));
        let end = keys::changes_from(Epoch(last.0.saturating_add(1)));
        let lists = KeyRange::between(start, end);
        ChangedKeys { meta, lists, window_bytes, next: Some(Bytes::new()), end: None, window: VecDeque::new() }
    }

    /// Only those of a range.
    pub(crate) fn within(self, range: KeyRange) -> Self {
        ChangedKeys { next: Some(range.start), end: range.end, ..self }
    }

    /// The next key.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, MetaError> {
        if self.window.is_empty() {
            self.fill()?;
        }
        Ok(self.window.pop_front())
    }

    /// The next keys, at most so many; none at the end.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<Bytes>, MetaError> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(key) = self.next()?
        {
            taken.push(key);
        }
        Ok(taken)
    }

    /// Finds the smallest keys that were not given yet, as many as a window has room for.
    fn fill(&mut self) -> Result<(), MetaError> {
        let Some(start) = self.next.take() else { return Ok(()) };
        let (mut found, mut bytes, mut is_cut) = (BTreeSet::new(), 0, false);
        let mut broken = Ok(());
        self.meta.scan(&self.lists, Direction::Forward, &mut |key, value| match ChangeList::decode(value) {
            Ok(list) => {
                let asked = |key: &Bytes| *key >= start && self.end.as_ref().is_none_or(|end| key < end);
                for key in list.keys.into_iter().filter(asked) {
                    // What is behind a window that had to be cut comes with a later one.
                    if is_cut && found.last().is_some_and(|last| key > *last) {
                        continue;
                    }
                    let cost = key.len() + KEY_BYTES;
                    if found.insert(key) {
                        bytes += cost;
                    }
                    while bytes > self.window_bytes
                        && found.len() > 1
                        && let Some(last) = found.pop_last()
                    {
                        bytes -= last.len() + KEY_BYTES;
                        is_cut = true;
                    }
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                broken = Err(corrupt(key, &error));
                ControlFlow::Break(())
            }
        })?;
        broken?;
        if is_cut {
            self.next = found.last().map(|last| [&last[..], &[0]].concat().into());
        }
        self.window = found.into_iter().collect();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use verfs_base::GroupId;
    use verfs_meta::{MemoryStore, WriteBatch};

    #[test]
    fn changed_keys_come_in_order_and_once_whatever_a_window_holds() {
        let meta = MemoryStore::new();
        let mut expected = BTreeSet::new();
        let mut batch = WriteBatch::new();
        for epoch in 2..6 {
            let names: Vec<Bytes> = (0..50u64).map(|n| format!("{:03}", n * 7919 * epoch % 97).into()).collect();
            batch.put(keys::changes(Epoch(epoch), GroupId(epoch), 0), ChangeList::encode(&names));
            if (3..=4).contains(&epoch) {
                expected.extend(names);
            }
        }
        meta.commit(batch).unwrap();
        let expected: Vec<Bytes> = expected.into_iter().collect();
        for window_bytes in [1, KEY_BYTES + 3, 3 * (KEY_BYTES + 3), 1 << 20] {
            let changed = || ChangedKeys::new(&meta, (Epoch(2), Epoch(4)), window_bytes);
            assert_eq!(changed().take(1000).unwrap(), expected, "windows of {window_bytes} bytes");
            let some = changed().within(KeyRange::between(expected[3].clone(), expected[9].clone()));
            assert_eq!({ some }.take(1000).unwrap(), expected[3..9], "a range of them");
        }
    }
}
