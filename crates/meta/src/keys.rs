//! How a caller's keys and our own records share an engine's one keyspace.
//!
//! ```text
//! 00 'f'            format version of what this crate writes: u32, little-endian
//! 00 's' slot       number of the last batch that wrote the slot (fjall only): u64; slot is u16, big-endian
//! 01 <key>          a caller's record; the key may be empty
//! ```
//! The first byte keeps the two apart in scans and gives every key a byte: no engine takes an empty key.

use std::ops::Range;

use crate::KeyRange;

const SYSTEM: u8 = 0;
const RECORD: u8 = 1;

/// Where the format version is kept.
pub(crate) const FORMAT_VERSION: &[u8] = &[SYSTEM, b'f'];

/// Every record of a caller.
pub(crate) const RECORDS: Range<&[u8]> = Range { start: &[RECORD], end: &[RECORD + 1] };

/// Where the number of the batch that wrote `slot` last is kept.
pub(crate) fn batch_slot(slot: u16) -> [u8; 4] {
    let [high, low] = slot.to_be_bytes();
    [SYSTEM, b's', high, low]
}

/// The slot that a key of [`batch_slot`] names.
pub(crate) fn slot_of(stored: &[u8]) -> Option<u16> {
    match stored {
        [SYSTEM, b's', high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// Every key of [`batch_slot`].
pub(crate) const BATCH_SLOTS: Range<&[u8]> = Range { start: &[SYSTEM, b's'], end: &[SYSTEM, b's' + 1] };

/// The engine's key for a caller's key.
pub(crate) fn stored(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(RECORD);
    stored.extend_from_slice(key);
    stored
}

/// The caller's key in an engine's key of [`RECORDS`].
pub(crate) fn of_caller(stored: &[u8]) -> &[u8] {
    stored.get(1..).unwrap_or_default()
}

/// The engine's keys for a caller's range, `None` if the range holds no key.
pub(crate) fn stored_range(range: &KeyRange) -> Option<Range<Vec<u8>>> {
    let start = stored(&range.start);
    let end = match &range.end {
        Some(end) => stored(end),
        None => RECORDS.end.to_vec(),
    };
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    #[test]
    fn every_caller_key_lies_in_the_record_range_and_no_system_key_does() {
        for key in [&b""[..], &[0], &[u8::MAX], &[u8::MAX; 300]] {
            let stored = stored(key);
            assert!(RECORDS.contains(&stored.as_slice()), "{key:?}");
            assert_eq!(of_caller(&stored), key);
            assert!(stored_range(&KeyRange::prefix(b"")).unwrap().contains(&stored), "{key:?}");
        }
        for key in [FORMAT_VERSION, &batch_slot(0), &batch_slot(u16::MAX)] {
            assert!(!RECORDS.contains(&key), "{key:?}");
        }
        assert_eq!(slot_of(&batch_slot(513)), Some(513));
        assert!(BATCH_SLOTS.contains(&batch_slot(u16::MAX).as_slice()));
        assert!(!BATCH_SLOTS.contains(&FORMAT_VERSION));
    }

    #[test]
    fn an_empty_or_reversed_range_holds_no_key() {
        assert_eq!(stored_range(&KeyRange::between(&b"b"[..], &b"b"[..])), None);
        assert_eq!(stored_range(&KeyRange::between(&b"b"[..], &b"a"[..])), None);
    }
}
