//! Logical copy of a store into another engine: how a volume leaves an engine, and the way past a format of theirs.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{Direction, KeyRange, MetaError, MetaStore, Result, WriteBatch};

/// A batch of the copy is committed at this many records …
const BATCH_RECORDS: usize = 4096;
/// … or this many bytes, whichever comes first: the copy needs this much memory whatever the store holds.
const BATCH_BYTES: usize = 4 << 20;

/// What [`copy_all`] copied.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Copied {
    /// Number of records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Copies every record of `from`, as it is now, into the empty store `to`, and syncs `to`.
///
/// The copy isn't atomic: a crash leaves a part of it, so the caller copies into a new directory and names it as the
/// volume's only when this has returned.
///
/// # Errors
/// [`MetaError::Unsupported`] if `to` holds a record; otherwise what either engine answers.
pub fn copy_all(from: &dyn MetaStore, to: &dyn MetaStore) -> Result<Copied> {
    let everything = KeyRange::prefix(b"");
    let mut occupied = false;
    to.scan(&everything, Direction::Forward, &mut |_, _| {
        occupied = true;
        ControlFlow::Break(())
    })?;
    if occupied {
        return Err(MetaError::Unsupported("copying into a store that holds records already".into()));
    }

    let mut copied = Copied::default();
    let mut batch = WriteBatch::new();
    let mut outcome = Ok(());
    from.scan(&everything, Direction::Forward, &mut |key, value| {
        copied.records += 1;
        copied.bytes += (key.len() + value.len()) as u64;
        batch.put(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        if batch.len() < BATCH_RECORDS && batch.size_bytes() < BATCH_BYTES {
            return ControlFlow::Continue(());
        }
        outcome = to.commit(std::mem::take(&mut batch));
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    to.commit(batch)?;
    to.sync()?;
    Ok(copied)
}
