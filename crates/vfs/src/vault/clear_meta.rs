//! What is clear of a vault's metadata: its structure, without names and secrets.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use verfs_meta::{Change, Direction, Health, KeyRange, MetaError, MetaStore, MetaView, Result, Visit, WriteBatch};

use super::values;

/// Keys as they are stored, and what is clear of their values. What has a seal can be deleted, and not written.
pub(super) struct ClearMeta {
    inner: Arc<dyn MetaStore>,
}

impl ClearMeta {
    pub(super) fn new(inner: Arc<dyn MetaStore>) -> ClearMeta {
        ClearMeta { inner }
    }
}

fn clear(key: &[u8], value: Option<Bytes>) -> Result<Option<Bytes>> {
    value.map(|value| values::clear(key, &value)).transpose()
}

struct ClearView<'a>(Box<dyn MetaView + 'a>);

impl MetaView for ClearView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        clear(key, self.0.get(key)?)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        let mut outcome = Ok(());
        self.0.scan(range, direction, &mut |key, value| match values::clear(key, value) {
            Ok(value) => visit(key, &value),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        })?;
        outcome
    }
}

impl MetaStore for ClearMeta {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        clear(key, self.inner.get(key)?)
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let values = self.inner.multi_get(keys)?;
        keys.iter().zip(values).map(|(key, value)| clear(key, value)).collect()
    }

    fn view(&self) -> Result<Box<dyn MetaView + '_>> {
        Ok(Box::new(ClearView(self.inner.view()?)))
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        let mut stored = WriteBatch::new();
        for (key, change) in batch {
            match change {
                Change::Put(_) if values::is_sealed(&key) => {
                    return Err(MetaError::Unsupported("writing to a locked vault".to_owned()));
                }
                Change::Put(value) => stored.put(key, value),
                Change::Delete => stored.delete(key),
            }
        }
        self.inner.commit(stored)
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
        Ok(())
    }
}
