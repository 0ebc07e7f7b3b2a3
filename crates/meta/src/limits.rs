//! What a batch may hold, the same for every engine, so that no record can be written that another engine refuses.

use crate::{Change, MetaError, Result, WriteBatch};

/// Longest key. The engines stop at 64 KiB; no key of ours comes near this.
pub const KEY_MAX_BYTES: usize = 4 << 10;

/// Largest value. The engines stop at 4 GiB; metadata records are a few hundred bytes.
pub const VALUE_MAX_BYTES: usize = 16 << 20;

/// Keys and values of one batch together. An engine writes a batch as one log record, which surrealkv ends at 4 GiB.
pub const BATCH_MAX_BYTES: usize = 1 << 30;

/// Refuses what is over a limit before any engine sees it: some of them panic, none of them says the same.
pub(crate) fn check(batch: &WriteBatch) -> Result<()> {
    check_sizes(
        batch.iter().map(|(key, change)| match change {
            Change::Put(value) => (key.len(), value.len()),
            Change::Delete => (key.len(), 0),
        }),
        batch.size_bytes(),
    )
}

fn check_sizes(records: impl Iterator<Item = (usize, usize)>, total: usize) -> Result<()> {
    if total > BATCH_MAX_BYTES {
        return Err(too_large("batch", total, BATCH_MAX_BYTES));
    }
    for (key, value) in records {
        if key > KEY_MAX_BYTES {
            return Err(too_large("key", key, KEY_MAX_BYTES));
        }
        if value > VALUE_MAX_BYTES {
            return Err(too_large("value", value, VALUE_MAX_BYTES));
        }
    }
    Ok(())
}

fn too_large(what: &str, got: usize, limit: usize) -> MetaError {
    MetaError::Unsupported(format!("a {what} of {got} bytes; the limit is {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(records: &[(usize, usize)], total: usize) -> bool {
        matches!(check_sizes(records.iter().copied(), total), Err(MetaError::Unsupported(_)))
    }

    #[test]
    fn sizes_up_to_the_limits_are_taken_and_one_byte_more_is_not() {
        assert!(!is_refused(&[(KEY_MAX_BYTES, VALUE_MAX_BYTES)], BATCH_MAX_BYTES));
        assert!(is_refused(&[(KEY_MAX_BYTES + 1, 0)], 0));
        assert!(is_refused(&[(1, 1), (0, VALUE_MAX_BYTES + 1)], 0));
        assert!(is_refused(&[], BATCH_MAX_BYTES + 1));
    }
}
