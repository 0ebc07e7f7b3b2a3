//! Keys with names in them, as the vault stores them.
//!
//! ```text
//! d | parent 8 | hash 8 | name               ->  d | parent 8 | hash 8 | keyed hash 16
//! h | d | parent 8 | hash 8 | name | death 8 ->  h | d | parent 8 | hash 8 | keyed hash 16 | death 8
//! ```
//! All others are stored as they are; none of them has the length of a stored name's key.

use bytes::Bytes;
use verfs_codec::crypto::VaultKeys;
use verfs_format::keys::{DIRENT, HISTORY};

/// Kind, parent and hash.
const HEAD_BYTES: usize = 17;
/// What stands for a name.
const TAG_BYTES: usize = 16;
const DEATH_BYTES: usize = 8;

/// A key whose name is told apart.
pub(super) struct Named<'k> {
    /// What is before the name.
    head: &'k [u8],
    /// The name; in a stored key what stands for it.
    pub(super) name: &'k [u8],
    /// What is behind it.
    death: &'k [u8],
}

/// How much of a key with a name is before the name; `None` if it is no key of names.
fn head_bytes(key: &[u8]) -> Option<usize> {
    match key {
        [DIRENT, ..] => Some(HEAD_BYTES),
        [HISTORY, DIRENT, ..] => Some(HEAD_BYTES + 1),
        _ => None,
    }
}

/// Takes a key apart; `None` if there is no name in it.
pub(super) fn named(key: &[u8]) -> Option<Named<'_>> {
    let head_bytes = head_bytes(key)?;
    let (head, rest) = key.split_at_checked(head_bytes)?;
    let death_bytes = if head_bytes > HEAD_BYTES { DEATH_BYTES } else { 0 };
    let (name, death) = rest.split_at_checked(rest.len().checked_sub(death_bytes)?)?;
    (!name.is_empty()).then_some(Named { head, name, death })
}

/// The part of a stored key that makes its group: keys of one group are stored in another order than they have.
pub(super) fn group(stored: &[u8]) -> Option<&[u8]> {
    stored.get(..head_bytes(stored)?)
}

/// Where keys from `bound` on begin when they are stored: at the start of its group.
pub(super) fn group_start(bound: &[u8]) -> Bytes {
    Bytes::copy_from_slice(group(bound).unwrap_or(bound))
}

/// Where keys up to `bound` end when they are stored: behind its group, if a name has begun in it.
pub(super) fn group_end(bound: &Bytes) -> Option<Bytes> {
    match group(bound) {
        Some(group) if bound.len() > group.len() => verfs_meta::KeyRange::prefix(group).end,
        Some(_) | None => Some(bound.clone()),
    }
}

impl Named<'_> {
    /// The key with something else in the name's place.
    pub(super) fn with(&self, name: &[u8]) -> Vec<u8> {
        [self.head, name, self.death].concat()
    }

    /// The key as it is stored.
    pub(super) fn stored(&self, keys: &VaultKeys) -> Vec<u8> {
        let mut parent = [0; 8];
        parent.copy_from_slice(&self.head[self.head.len() - 16..self.head.len() - 8]);
        self.with(&keys.name_hash(u64::from_be_bytes(parent), self.name))
    }

    /// Whether it may be a stored key.
    pub(super) fn is_stored(&self) -> bool {
        self.name.len() == TAG_BYTES
    }
}

/// The key of a record without `h` and death: what its seal is bound to.
pub(super) fn record_key(stored: &[u8]) -> &[u8] {
    match stored {
        [HISTORY, inner @ ..] => &inner[..inner.len().saturating_sub(DEATH_BYTES)],
        key => key,
    }
}

/// A key as it is stored.
pub(super) fn stored(keys: &VaultKeys, key: &[u8]) -> Bytes {
    match named(key) {
        Some(named) => named.stored(keys).into(),
        None => Bytes::copy_from_slice(key),
    }
}
