//! The structure of a locked vault: its records without what is sealed of them.

use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_meta::{Direction, KeyRange, MetaView, Result, Visit};

use super::values;

/// Shows what is clear of each value. Nothing of it is known to be what was written: that takes the keys.
pub struct ClearView<'a> {
    inner: Box<dyn MetaView + 'a>,
}

impl<'a> ClearView<'a> {
    /// A view of the vault's records as they are stored.
    #[must_use]
    pub fn new(inner: Box<dyn MetaView + 'a>) -> ClearView<'a> {
        ClearView { inner }
    }
}

/// What is clear of a value; nothing of one that is not of its form.
fn clear(key: &[u8], value: &[u8]) -> Bytes {
    values::clear(key, value).unwrap_or_default()
}

impl MetaView for ClearView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.inner.get(key)?.map(|value| clear(key, &value)))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        let mut each = |key: &[u8], value: &[u8]| -> ControlFlow<()> { visit(key, &clear(key, value)) };
        self.inner.scan(range, direction, &mut each)
    }
}
