//! A set of changes that is committed whole or not at all.

use bytes::Bytes;

/// One change of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The key has this value afterwards.
    Put(Bytes),
    /// The key is absent afterwards; no error if it was before.
    Delete,
}

/// Changes in the order they were added; of several changes of one key the last one counts.
#[derive(Clone, Default, Debug)]
pub struct WriteBatch {
    changes: Vec<(Bytes, Change)>,
    bytes: usize,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.changes.push((key, Change::Put(value)));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.changes.push((key, Change::Delete));
    }

    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// The changes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(Bytes, Change)> {
        self.changes.iter()
    }
}

impl IntoIterator for WriteBatch {
    type Item = (Bytes, Change);
    type IntoIter = std::vec::IntoIter<(Bytes, Change)>;

    fn into_iter(self) -> Self::IntoIter {
        self.changes.into_iter()
    }
}
