//! A metadata engine that is cut off.
#![allow(dead_code, reason = "each file uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use verfs_meta::{Health, MemoryStore, MetaError, MetaStore, MetaView, WriteBatch};

/// A metadata engine whose commits fail from one on, as with a power cut: nothing of it is seen any more.
pub struct CutOff {
    pub inner: Arc<MemoryStore>,
    pub commits_left: AtomicI64,
}

impl MetaStore for CutOff {
    fn get(&self, key: &[u8]) -> verfs_meta::Result<Option<Bytes>> {
        self.inner.get(key)
    }

    fn multi_get(&self, keys: &[Bytes]) -> verfs_meta::Result<Vec<Option<Bytes>>> {
        self.inner.multi_get(keys)
    }

    fn view(&self) -> verfs_meta::Result<Box<dyn MetaView + '_>> {
        self.inner.view()
    }

    fn commit(&self, batch: WriteBatch) -> verfs_meta::Result<()> {
        if self.commits_left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(MetaError::Io("cut off".to_owned()));
        }
        self.inner.commit(batch)
    }

    fn sync(&self) -> verfs_meta::Result<()> {
        self.inner.sync()
    }

    fn approximate_size_bytes(&self) -> verfs_meta::Result<u64> {
        self.inner.approximate_size_bytes()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn close(&self) -> verfs_meta::Result<()> {
        Ok(())
    }
}
