//! A metadata store whose names and secrets are sealed in the one below it.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use verfs_codec::crypto::VaultKeys;
use verfs_meta::{Change, Direction, Health, KeyRange, MetaError, MetaStore, MetaView, Result, Visit, WriteBatch};

use super::{keys, values};

/// Records that are sealed anew at once, while every commit waits ...
const RESEAL_RECORDS: usize = 2048;
/// ... or this many bytes of them.
const RESEAL_BYTES: usize = 1 << 20;

/// Seals what goes down and opens what comes up. Whoever uses it sees the keys and values that he wrote, in their order.
///
/// Order: keys of one directory and hash are stored by the hash of their names. They are collected and put in order
/// again; two names of one directory have the same 56 bits of hash by a rare chance only.
pub struct SealedMeta {
    inner: Arc<dyn MetaStore>,
    keys: Arc<VaultKeys>,
}

impl SealedMeta {
    /// A view of `inner`, in which nothing else may write.
    #[must_use]
    pub fn new(inner: Arc<dyn MetaStore>, keys: Arc<VaultKeys>) -> SealedMeta {
        SealedMeta { inner, keys }
    }

    /// Seals some of the records from the stored key `from` on with the newest data key, and gives the key to go on with;
    /// `None` at the end. Nobody may write meanwhile: the caller holds the turn of the chunk store.
    ///
    /// # Errors
    /// What the engine says, and what is damaged.
    pub fn reseal(&self, from: &[u8]) -> Result<Option<Bytes>> {
        let range = KeyRange { start: Bytes::copy_from_slice(from), end: None };
        let mut batch = WriteBatch::new();
        let (mut seen, mut next, mut outcome) = (0, None, Ok(()));
        self.inner.scan(&range, Direction::Forward, &mut |key, value| {
            if seen == RESEAL_RECORDS || batch.size_bytes() >= RESEAL_BYTES {
                next = Some(Bytes::copy_from_slice(key));
                return ControlFlow::Break(());
            }
            seen += 1;
            match values::reseal(&self.keys, key, value) {
                Ok(Some(sealed)) => batch.put(Bytes::copy_from_slice(key), sealed),
                Ok(None) => {}
                // It stays damaged, under a key that is going.
                Err(MetaError::Corrupt(detail)) => tracing::error!(detail, "a record can't be sealed anew"),
                Err(error) => {
                    outcome = Err(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        outcome?;
        if !batch.is_empty() {
            self.inner.commit(batch)?;
        }
        Ok(next)
    }

    /// A record that goes to history keeps its seal: a stream has the same bytes of it before and after.
    fn sealed_before(&self, stored_key: &[u8], value: &Bytes) -> Result<Option<Bytes>> {
        if stored_key.first() != Some(&verfs_format::keys::HISTORY) {
            return Ok(None);
        }
        let live_key = keys::record_key(stored_key);
        let Some(live) = self.inner.get(live_key)? else { return Ok(None) };
        let is_it = values::open(&self.keys, live_key, &live).is_ok_and(|(_, opened)| opened == *value);
        Ok(is_it.then_some(live))
    }

    fn open_value(&self, key: &[u8], stored_key: &[u8], stored_value: Option<Bytes>) -> Result<Option<Bytes>> {
        let Some(stored_value) = stored_value else { return Ok(None) };
        let (found, value) = values::open(&self.keys, stored_key, &stored_value)?;
        // Only by a collision of 128 bits.
        if found == key { Ok(Some(value)) } else { Err(MetaError::Corrupt("the vault's metadata: a name".to_owned())) }
    }
}

struct SealedView<'a> {
    inner: Box<dyn MetaView + 'a>,
    store: &'a SealedMeta,
}

impl MetaView for SealedView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let stored_key = keys::stored(&self.store.keys, key);
        self.store.open_value(key, &stored_key, self.inner.get(&stored_key)?)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        let stored_range =
            KeyRange { start: keys::group_start(&range.start), end: range.end.as_ref().and_then(keys::group_end) };
        let mut ordered = Ordered { range, direction, visit, group: Vec::new(), pairs: Vec::new() };
        let mut outcome = Ok(());
        self.inner.scan(&stored_range, direction, &mut |stored_key, stored_value| match values::open(
            &self.store.keys,
            stored_key,
            stored_value,
        ) {
            Ok((key, value)) => ordered.take(keys::group(stored_key), key, value),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        })?;
        outcome?;
        // Whether the visitor wants more doesn't matter at the end.
        let _ = ordered.flush();
        Ok(())
    }
}

/// Puts the pairs of each group in order.
struct Ordered<'a, 'v> {
    range: &'a KeyRange,
    direction: Direction,
    visit: &'a mut Visit<'v>,
    group: Vec<u8>,
    pairs: Vec<(Bytes, Bytes)>,
}

impl Ordered<'_, '_> {
    fn take(&mut self, group: Option<&[u8]>, key: Bytes, value: Bytes) -> ControlFlow<()> {
        match group {
            Some(group) if group == self.group => {}
            Some(group) => {
                self.flush()?;
                self.group = group.to_vec();
            }
            None => {
                self.flush()?;
                self.group.clear();
            }
        }
        self.pairs.push((key, value));
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> ControlFlow<()> {
        let mut pairs = std::mem::take(&mut self.pairs);
        pairs.sort_unstable_by(|(a, _), (b, _)| match self.direction {
            Direction::Forward => a.cmp(b),
            Direction::Backward => b.cmp(a),
        });
        for (key, value) in pairs {
            let inside = key >= self.range.start && self.range.end.as_ref().is_none_or(|end| key < *end);
            if inside && (self.visit)(&key, &value).is_break() {
                // What comes after a break is no more asked for, at the end of the scan neither.
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

impl MetaStore for SealedMeta {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let stored_key = keys::stored(&self.keys, key);
        self.open_value(key, &stored_key, self.inner.get(&stored_key)?)
    }

    fn multi_get(&self, wanted: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let stored: Vec<Bytes> = wanted.iter().map(|key| keys::stored(&self.keys, key)).collect();
        let values = self.inner.multi_get(&stored)?;
        wanted
            .iter()
            .zip(&stored)
            .zip(values)
            .map(|((key, stored), value)| self.open_value(key, stored, value))
            .collect()
    }

    fn view(&self) -> Result<Box<dyn MetaView + '_>> {
        Ok(Box::new(SealedView { inner: self.inner.view()?, store: self }))
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        let mut sealed = WriteBatch::new();
        for (key, change) in batch {
            let stored_key = keys::stored(&self.keys, &key);
            match change {
                Change::Put(value) => {
                    let value = match self.sealed_before(&stored_key, &value)? {
                        Some(sealed) => sealed,
                        None => values::seal(&self.keys, &key, &stored_key, value)?,
                    };
                    sealed.put(stored_key, value);
                }
                Change::Delete => sealed.delete(stored_key),
            }
        }
        self.inner.commit(sealed)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn approximate_size_bytes(&self) -> Result<u64> {
        self.inner.approximate_size_bytes()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
