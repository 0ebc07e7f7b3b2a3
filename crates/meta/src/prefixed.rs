//! A part of an engine's keys as a store of its own: those that begin with a byte.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::{Change, Direction, Health, KeyRange, MetaError, MetaStore, MetaView, Result, Visit, WriteBatch};

/// The keys of an engine behind one first byte. Closing it closes nothing but itself.
pub struct PrefixedStore {
    inner: Arc<dyn MetaStore>,
    prefix: u8,
    closed: AtomicBool,
}

impl PrefixedStore {
    /// The keys of `inner` that begin with `prefix`, without it.
    #[must_use]
    pub fn new(inner: Arc<dyn MetaStore>, prefix: u8) -> PrefixedStore {
        PrefixedStore { inner, prefix, closed: AtomicBool::new(false) }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(MetaError::Closed) } else { Ok(()) }
    }

    fn key(&self, key: &[u8]) -> Bytes {
        let mut stored = Vec::with_capacity(key.len() + 1);
        stored.push(self.prefix);
        stored.extend_from_slice(key);
        stored.into()
    }
}

fn range(prefix: u8, range: &KeyRange) -> KeyRange {
    let with_prefix = |key: &[u8]| Bytes::from([&[prefix], key].concat());
    KeyRange {
        start: with_prefix(&range.start),
        end: range.end.as_ref().map_or(KeyRange::prefix(&[prefix]).end, |end| Some(with_prefix(end))),
    }
}

struct PrefixedView<'a> {
    inner: Box<dyn MetaView + 'a>,
    store: &'a PrefixedStore,
}

impl MetaView for PrefixedView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(&self.store.key(key))
    }

    fn scan(&self, wanted: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        self.inner.scan(&range(self.store.prefix, wanted), direction, &mut |key, value| match key.split_first() {
            Some((_, key)) => visit(key, value),
            None => ControlFlow::Continue(()),
        })
    }
}

impl MetaStore for PrefixedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.check_open()?;
        self.inner.get(&self.key(key))
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.check_open()?;
        let keys: Vec<Bytes> = keys.iter().map(|key| self.key(key)).collect();
        self.inner.multi_get(&keys)
    }

    fn view(&self) -> Result<Box<dyn MetaView + '_>> {
        self.check_open()?;
        Ok(Box::new(PrefixedView { inner: self.inner.view()?, store: self }))
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        self.check_open()?;
        let mut stored = WriteBatch::new();
        for (key, change) in batch {
            match change {
                Change::Put(value) => stored.put(self.key(&key), value),
                Change::Delete => stored.delete(self.key(&key)),
            }
        }
        self.inner.commit(stored)
    }

    fn sync(&self) -> Result<()> {
        self.check_open()?;
        self.inner.sync()
    }

    fn approximate_size_bytes(&self) -> Result<u64> {
        self.inner.approximate_size_bytes()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) { Ok(()) } else { self.inner.sync() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;
    use crate::MemoryStore;

    fn keys(store: &dyn MetaStore, range: &KeyRange, direction: Direction) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut take = |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        };
        store.scan(range, direction, &mut take).unwrap();
        keys
    }

    #[test]
    fn what_is_behind_a_prefix_is_a_store_of_its_own_and_stays_open_without_it() {
        let inner: Arc<dyn MetaStore> = Arc::new(MemoryStore::new());
        let mut batch = WriteBatch::new();
        for key in [&b"U\xff"[..], b"W", b"V"] {
            batch.put(key.to_vec(), b"outside".to_vec());
        }
        inner.commit(batch).unwrap();
        let store = PrefixedStore::new(Arc::clone(&inner), b'V');
        let mut batch = WriteBatch::new();
        for key in [&b"a"[..], b"b", b"\xff\xff"] {
            batch.put(key.to_vec(), b"inside".to_vec());
        }
        batch.delete(b"".to_vec());
        store.commit(batch).unwrap();
        let all = KeyRange::prefix(b"");
        assert_eq!(keys(&store, &all, Direction::Forward), [&b"a"[..], b"b", b"\xff\xff"]);
        assert_eq!(keys(&store, &all, Direction::Backward), [&b"\xff\xff"[..], b"b", b"a"]);
        assert_eq!(keys(&store, &KeyRange::between(&b"a"[..], &b"b"[..]), Direction::Forward), [b"a"]);
        assert_eq!(store.get(b"b").unwrap().unwrap(), &b"inside"[..]);
        assert_eq!(store.multi_get(&[Bytes::from_static(b"\xff"), Bytes::from_static(b"a")]).unwrap()[0], None);
        assert_eq!(inner.get(b"W").unwrap().unwrap(), &b"outside"[..]);
        assert_eq!(inner.get(b"V").unwrap(), None);
        store.close().unwrap();
        assert!(matches!(store.get(b"a"), Err(MetaError::Closed)));
        assert_eq!(inner.get(b"Va").unwrap().unwrap(), &b"inside"[..]);
    }
}
