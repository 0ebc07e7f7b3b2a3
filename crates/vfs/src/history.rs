//! What keys had when a snapshot was made, and which keys changed behind it.

use std::collections::BTreeSet;
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

/// Every key that changed in the epochs behind `after` up to `last`. Takes memory for what changed.
pub(crate) fn changed_keys(meta: &dyn MetaStore, after: Epoch, last: Epoch) -> Result<BTreeSet<Bytes>, MetaError> {
    let range =
        KeyRange::between(keys::changes_from(Epoch(after.0 + 1)), keys::changes_from(Epoch(last.0.saturating_add(1))));
    let mut changed = BTreeSet::new();
    let mut broken = Ok(());
    meta.scan(&range, Direction::Forward, &mut |key, value| match ChangeList::decode(value) {
        Ok(list) => {
            changed.extend(list.keys);
            ControlFlow::Continue(())
        }
        Err(error) => {
            broken = Err(corrupt(key, &error));
            ControlFlow::Break(())
        }
    })?;
    broken.map(|()| changed)
}
