//! Extended attributes: one record has all of an inode's.
//!
//! ```text
//! xattrs: count v | count x (name (v + bytes) | value (v + bytes)), in the order of names
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::DecodeError;
use crate::varint::{Reader, put_bytes, put_u64};

/// All extended attributes of one inode, in the order of their names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Xattrs {
    values: BTreeMap<Bytes, Bytes>,
}

impl Xattrs {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Bytes> {
        self.values.get(name)
    }

    /// All names with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.values.iter()
    }

    /// Sets a value.
    pub fn insert(&mut self, name: Bytes, value: Bytes) {
        self.values.insert(name, value);
    }

    /// Removes a name. Returns whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.values.remove(name).is_some()
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        self.values.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data_bytes() + 8 * self.values.len() + 4);
        put_u64(&mut out, self.values.len() as u64);
        for (name, value) in &self.values {
            put_bytes(&mut out, name);
            put_bytes(&mut out, value);
        }
        out
    }

    /// Reads a record off the front.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.u64()?;
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let name = Bytes::copy_from_slice(reader.bytes()?);
            let value = Bytes::copy_from_slice(reader.bytes()?);
            if values.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::Invalid("order of extended attributes"));
            }
            values.insert(name, value);
        }
        Ok(Xattrs { values })
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(record)
    }
}
