//! The interface of a metadata engine.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{Result, WriteBatch};

/// Order of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// Keys `start ..= end` with either side open: `start` is included, `end` is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Bytes,
    /// First key after the range; `None` for the end of the keyspace.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key that begins with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return KeyRange { start: Bytes::copy_from_slice(prefix), end: Some(end.into()) };
            }
        }
        KeyRange { start: Bytes::copy_from_slice(prefix), end: None }
    }

    /// Keys from `start` up to, not including, `end`.
    #[must_use]
    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        KeyRange { start: start.into(), end: Some(end.into()) }
    }
}

/// Whether the engine takes writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// Reads and writes work.
    Ready,
    /// Writes are refused until the volume is opened again; the text says why.
    Stopped(String),
}

/// Called for each pair of a scan; `Break` ends it.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A consistent state of all keys: reads of one view never see half of a batch, nor a later one.
pub trait MetaView: Send {
    /// The value of a key.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Visits the pairs of a range in order.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()>;
}

/// A metadata engine. Every method may be called from many threads, inside or outside an async runtime; none needs one.
/// Keys may be empty; how long keys, values and batches may be is in [`crate::KEY_MAX_BYTES`] and its neighbours. A
/// range whose end isn't after its start holds nothing; committing an empty batch does nothing.
///
/// Contract, checked by the conformance suite for each engine:
/// * a batch is atomic, for readers and across a crash;
/// * when `commit` returns, every later read sees the batch;
/// * after a crash the store is a prefix of the committed batches, and holds every batch whose `commit` returned
///   before a `sync` began that returned `Ok`;
/// * reads don't wait for `commit` or `sync` beyond short internal latches.
pub trait MetaStore: Send + Sync {
    /// The latest value of a key.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// The values of several keys, in their order, from one consistent state.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>>;

    /// A consistent view of everything committed so far. Short-lived: it may hold back the engine's clean-up.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn view(&self) -> Result<Box<dyn MetaView + '_>>;

    /// Visits the pairs of a range in order, in a consistent state.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        self.view()?.scan(range, direction, visit)
    }

    /// Applies a batch atomically. Visible when it returns; durable after the next [`MetaStore::sync`].
    ///
    /// # Errors
    /// [`crate::MetaError`]; nothing of the batch is visible then. It may be found, whole, when the store is opened
    /// again. Whether a full disk stops the engine is told by [`MetaStore::health`].
    fn commit(&self, batch: WriteBatch) -> Result<()>;

    /// Makes every batch committed before the call durable.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn sync(&self) -> Result<()>;

    /// Bytes on disk, roughly and without a scan.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn approximate_size_bytes(&self) -> Result<u64>;

    /// Whether writes are still taken.
    fn health(&self) -> Health;

    /// Syncs and closes; every later call answers [`crate::MetaError::Closed`]. Calling it twice is no error.
    ///
    /// # Errors
    /// [`crate::MetaError`].
    fn close(&self) -> Result<()>;
}
