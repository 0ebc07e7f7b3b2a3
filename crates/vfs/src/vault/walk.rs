//! Records of a vault's snapshot as they are stored, found by their clear structure.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use verfs_base::Epoch;
use verfs_format::{keys, split_versioned};
use verfs_meta::{Direction, KeyRange, MetaError};

use super::locked::LockedVault;
use super::values;
use crate::load::meta_error;
use crate::stream::StreamError;

/// Live records, and old ones, that are looked at together.
const PAGE_RECORDS: usize = 1024;

/// A record as a snapshot has it.
pub(super) struct StoredVersion {
    /// The stored value.
    pub(super) value: Bytes,
    /// When it died, if it did.
    pub(super) death: Option<Epoch>,
}

/// When a stored value was born. Of one that is a secret as a whole nobody knows: it is as old as the vault.
pub(super) fn birth_of(key: &[u8], value: &[u8]) -> Result<Epoch, MetaError> {
    let clear = values::clear(key, value)?;
    Ok(split_versioned(&clear).map_or(Epoch::FIRST, |(birth, _)| birth))
}

/// Called for each record in the order of their keys.
type Visit<'a> = dyn FnMut(Bytes, StoredVersion) -> Result<(), StreamError> + 'a;

/// The versions of some keys: what is live, and what died, by death.
type Versions = BTreeMap<Bytes, (Option<Bytes>, BTreeMap<Epoch, Bytes>)>;

fn pick(
    key: &[u8],
    (live, old): (Option<Bytes>, BTreeMap<Epoch, Bytes>),
    id: Epoch,
) -> Result<Option<StoredVersion>, MetaError> {
    if let Some(value) = live
        && birth_of(key, &value)? <= id
    {
        return Ok(Some(StoredVersion { value, death: None }));
    }
    let first = old.range((Bound::Excluded(id), Bound::Unbounded)).next();
    match first.map(|(death, value)| (*death, value.clone())) {
        Some((death, value)) if birth_of(key, &value)? <= id => Ok(Some(StoredVersion { value, death: Some(death) })),
        Some(_) | None => Ok(None),
    }
}

impl LockedVault {
    /// What a key had at the end of epoch `id`.
    pub(super) fn version_at(&self, key: &[u8], id: Epoch) -> Result<Option<StoredVersion>, MetaError> {
        // Live first: what a commit takes away there meanwhile, it has put into history.
        let live = self.stored.get(key)?;
        let mut old = BTreeMap::new();
        let range = KeyRange::between(
            keys::history(key, Epoch(id.0 + 1)),
            [&keys::history(key, Epoch(u64::MAX))[..], &[0]].concat(),
        );
        self.stored.scan(&range, Direction::Forward, &mut |history, value| match keys::parse_history(history) {
            Some((of, death)) if of == key => {
                old.insert(death, Bytes::copy_from_slice(value));
                ControlFlow::Break(())
            }
            Some(_) | None => ControlFlow::Continue(()),
        })?;
        pick(key, (live, old), id)
    }

    /// Every record of a kind that a snapshot has. What is done to the vault meanwhile changes neither their order nor
    /// their values.
    pub(super) fn walk(&self, kind: u8, id: Epoch, visit: &mut Visit<'_>) -> Result<(), StreamError> {
        let mut next = Some(Bytes::copy_from_slice(&[kind]));
        let mut page = PAGE_RECORDS;
        while let Some(start) = next {
            let (versions, end) = self.page(kind, &start, page).map_err(|error| meta_error(&error))?;
            // One key may have more old versions than a page.
            page = if end.as_ref() == Some(&start) { page * 2 } else { PAGE_RECORDS };
            for (key, found) in versions {
                if end.as_ref().is_some_and(|end| key >= *end) {
                    break;
                }
                if let Some(version) = pick(&key, found, id).map_err(|error| meta_error(&error))? {
                    visit(key, version)?;
                }
            }
            next = end;
        }
        Ok(())
    }

    /// All versions of keys from `start` on, and the first key of which some may be missing; `None` at the end.
    fn page(&self, kind: u8, start: &Bytes, records: usize) -> Result<(Versions, Option<Bytes>), MetaError> {
        let mut versions = Versions::new();
        let (mut count, mut end) = (0, None::<Bytes>);
        let live = KeyRange { start: start.clone(), end: KeyRange::prefix(&[kind]).end };
        self.stored.scan(&live, Direction::Forward, &mut |key, value| {
            let key = Bytes::copy_from_slice(key);
            if count == records {
                end = Some(key);
                return ControlFlow::Break(());
            }
            count += 1;
            versions.entry(key).or_default().0 = Some(Bytes::copy_from_slice(value));
            ControlFlow::Continue(())
        })?;
        count = 0;
        let old = KeyRange { start: keys::histories(start).into(), end: KeyRange::prefix(&[keys::HISTORY, kind]).end };
        self.stored.scan(&old, Direction::Forward, &mut |history, value| {
            let Some((key, death)) = keys::parse_history(history) else { return ControlFlow::Continue(()) };
            let key = Bytes::copy_from_slice(key);
            if end.as_ref().is_some_and(|end| key >= *end) {
                return ControlFlow::Break(());
            }
            if count == records {
                // More of this key may follow.
                end = Some(key);
                return ControlFlow::Break(());
            }
            count += 1;
            versions.entry(key).or_default().1.insert(death, Bytes::copy_from_slice(value));
            ControlFlow::Continue(())
        })?;
        Ok((versions, end))
    }
}
