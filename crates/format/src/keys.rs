//! Keys of the metadata engine. The first byte is the keyspace; numbers are big-endian, so that order is numeric.
//!
//! ```text
//! i | ino 8                          inode record
//! d | parent ino 8 | hash 8 | name   dirent: hash is 56 bits of the keyed name hash, so listing order is stable
//! e | content 8 | segment 4          extent segment
//! l | ino 8                          symlink target
//! x | ino 8                          extended attributes
//! o | content 8                      orphan: content to be released
//! h | one of the keys above | death 8                  history: what the key had before epoch `death`
//! L | death 8 | group 8 | part 4                       keys that changed in an epoch
//! D | death 8 | birth 8 | group 8 | part 4             references that only snapshots have
//! s | id 8                           snapshot; its id is the epoch that it ended
//! u | id 8                           bytes that only this snapshot has, a varint
//! c, p                               chunk and pack records (chunk_record)
//! S | name                           system values
//! ```

use verfs_base::{ChunkId, Epoch, GroupId, Ino};

use crate::content::ContentId;

/// First byte of inode keys.
pub const INODE: u8 = b'i';
/// First byte of dirent keys.
pub const DIRENT: u8 = b'd';
/// First byte of extent segment keys.
pub const SEGMENT: u8 = b'e';
/// First byte of symlink target keys.
pub const SYMLINK: u8 = b'l';
/// First byte of keys of extended attributes.
pub const XATTRS: u8 = b'x';
/// First byte of orphan keys.
pub const ORPHAN: u8 = b'o';

/// First byte of history keys.
pub const HISTORY: u8 = b'h';
/// First byte of keys of change lists.
pub const CHANGES: u8 = b'L';
/// First byte of keys of dead lists.
pub const DEAD: u8 = b'D';
/// First byte of snapshot keys.
pub const SNAPSHOT: u8 = b's';
/// First byte of keys of what a snapshot alone uses.
pub const SNAPSHOT_USED: u8 = b'u';

/// System value: id of the last committed group, a varint.
pub const SYSTEM_GROUP: &[u8] = b"Svfs.group";
/// System value: next inode and content number, a varint.
pub const SYSTEM_NEXT_NUMBER: &[u8] = b"Svfs.next-number";
/// System value: counters of the whole tree ([`crate::TreeCounters`]).
pub const SYSTEM_COUNTERS: &[u8] = b"Svfs.counters";

/// System value: the epoch in which records are born, a varint; without it the first.
pub const SYSTEM_EPOCH: &[u8] = b"Svfs.epoch";
/// System value: id of the snapshot to which the tree is being rolled back, a varint.
pub const SYSTEM_ROLLBACK: &[u8] = b"Svfs.rollback";

/// System value: id of the stream that is being applied to the tree, 16 bytes.
pub const SYSTEM_RECEIVE: &[u8] = b"Svfs.receive";

/// Position of a dirent in its directory's order: 56 bits of the keyed hash of its name, at least 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NameHash(u64);

impl NameHash {
    /// Number of bits of a name hash; the 7 below it in a listing cookie count names of equal hash.
    pub const BITS: u32 = 56;

    /// From the keyed 128-bit hash of the name.
    #[must_use]
    pub fn from_keyed(hash: ChunkId) -> Self {
        let mut low = [0; 8];
        low.copy_from_slice(&hash.0[..8]);
        NameHash((u64::from_le_bytes(low) & ((1 << Self::BITS) - 1)).max(1))
    }

    /// A hash by its number; anything above 56 bits becomes the greatest hash.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        NameHash(number.min((1 << Self::BITS) - 1))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

fn with_number(kind: u8, number: u64, extra: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + extra);
    key.push(kind);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Key of an inode record.
#[must_use]
pub fn inode(ino: Ino) -> Vec<u8> {
    with_number(INODE, ino.0, 0)
}

/// Key of a dirent.
#[must_use]
pub fn dirent(parent: Ino, hash: NameHash, name: &[u8]) -> Vec<u8> {
    let mut key = with_number(DIRENT, parent.0, 8 + name.len());
    key.extend_from_slice(&hash.0.to_be_bytes());
    key.extend_from_slice(name);
    key
}

/// First key of a directory's dirents from `hash` on.
#[must_use]
pub fn dirents_from(parent: Ino, hash: u64) -> Vec<u8> {
    let mut key = with_number(DIRENT, parent.0, 8);
    key.extend_from_slice(&hash.to_be_bytes());
    key
}

/// Prefix of all dirents of a directory.
#[must_use]
pub fn dirents(parent: Ino) -> Vec<u8> {
    with_number(DIRENT, parent.0, 0)
}

/// Hash and name of a dirent key of `parent`; `None` for any other key.
#[must_use]
pub fn parse_dirent(key: &[u8]) -> Option<(NameHash, &[u8])> {
    let (head, name) = key.split_at_checked(17)?;
    if head[0] != DIRENT || name.is_empty() {
        return None;
    }
    let mut number = [0; 8];
    number.copy_from_slice(&head[9..]);
    Some((NameHash(u64::from_be_bytes(number)), name))
}

/// Inode of an inode key; `None` for any other key.
#[must_use]
pub fn parse_inode(key: &[u8]) -> Option<Ino> {
    number_behind(INODE, key).map(Ino)
}

/// Directory, hash and name of a dirent key; `None` for any other key.
#[must_use]
pub fn parse_dirent_of(key: &[u8]) -> Option<(Ino, NameHash, &[u8])> {
    let (hash, name) = parse_dirent(key)?;
    let mut number = [0; 8];
    number.copy_from_slice(&key[1..9]);
    Some((Ino(u64::from_be_bytes(number)), hash, name))
}

/// Key of an extent segment.
#[must_use]
pub fn segment(content: ContentId, index: u32) -> Vec<u8> {
    let mut key = with_number(SEGMENT, content.0, 4);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Prefix of all extent segments of a content.
#[must_use]
pub fn segments(content: ContentId) -> Vec<u8> {
    with_number(SEGMENT, content.0, 0)
}

/// Index of an extent segment key; `None` for any other key.
#[must_use]
pub fn parse_segment(key: &[u8]) -> Option<u32> {
    if key.len() != 13 || key[0] != SEGMENT {
        return None;
    }
    let mut number = [0; 4];
    number.copy_from_slice(&key[9..]);
    Some(u32::from_be_bytes(number))
}

/// Content and index of an extent segment key; `None` for any other key.
#[must_use]
pub fn parse_segment_of(key: &[u8]) -> Option<(ContentId, u32)> {
    let index = parse_segment(key)?;
    Some((ContentId(u64::from_be_bytes(key[1..9].try_into().ok()?)), index))
}

fn number_behind(kind: u8, key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(&[kind])?.try_into().ok()?))
}

/// Inode of the key of a symlink's target; `None` for any other key.
#[must_use]
pub fn parse_symlink(key: &[u8]) -> Option<Ino> {
    number_behind(SYMLINK, key).map(Ino)
}

/// Inode of a key of extended attributes; `None` for any other key.
#[must_use]
pub fn parse_xattrs(key: &[u8]) -> Option<Ino> {
    number_behind(XATTRS, key).map(Ino)
}

/// Key of a symlink's target.
#[must_use]
pub fn symlink(ino: Ino) -> Vec<u8> {
    with_number(SYMLINK, ino.0, 0)
}

/// Key of an inode's extended attributes.
#[must_use]
pub fn xattrs(ino: Ino) -> Vec<u8> {
    with_number(XATTRS, ino.0, 0)
}

/// Key of an orphan record.
#[must_use]
pub fn orphan(content: ContentId) -> Vec<u8> {
    with_number(ORPHAN, content.0, 0)
}

/// Content number of an orphan key; `None` for any other key.
#[must_use]
pub fn parse_orphan(key: &[u8]) -> Option<ContentId> {
    if key.len() != 9 || key[0] != ORPHAN {
        return None;
    }
    let mut number = [0; 8];
    number.copy_from_slice(&key[1..]);
    Some(ContentId(u64::from_be_bytes(number)))
}

/// Key of what another key had before epoch `death`.
#[must_use]
pub fn history(record_key: &[u8], death: Epoch) -> Vec<u8> {
    let mut key = Vec::with_capacity(record_key.len() + 9);
    key.push(HISTORY);
    key.extend_from_slice(record_key);
    key.extend_from_slice(&death.0.to_be_bytes());
    key
}

/// Prefix of the history of all keys that begin with `prefix`.
#[must_use]
pub fn histories(prefix: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + 9);
    key.push(HISTORY);
    key.extend_from_slice(prefix);
    key
}

/// Record key and death of a history key; `None` for any other key.
#[must_use]
pub fn parse_history(key: &[u8]) -> Option<(&[u8], Epoch)> {
    let (record_key, death) = key.strip_prefix(&[HISTORY])?.split_last_chunk::<8>()?;
    Some((record_key, Epoch(u64::from_be_bytes(*death))))
}

/// Key of a part of the list of keys that changed in epoch `death`.
#[must_use]
pub fn changes(death: Epoch, group: GroupId, part: u32) -> Vec<u8> {
    let mut key = with_number(CHANGES, death.0, 12);
    key.extend_from_slice(&group.0.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// First key of the change lists of epoch `death` and later ones.
#[must_use]
pub fn changes_from(death: Epoch) -> Vec<u8> {
    with_number(CHANGES, death.0, 0)
}

/// Epoch of a key of a change list; `None` for any other key.
#[must_use]
pub fn parse_changes(key: &[u8]) -> Option<Epoch> {
    let number = key.strip_prefix(&[CHANGES])?.get(..8)?;
    (key.len() == 21).then_some(())?;
    Some(Epoch(u64::from_be_bytes(number.try_into().ok()?)))
}

/// Key of a part of the list of references born in `birth` and given up in `death`.
#[must_use]
pub fn dead(death: Epoch, birth: Epoch, group: GroupId, part: u32) -> Vec<u8> {
    let mut key = dead_from(death, birth);
    key.extend_from_slice(&group.0.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// First key of the dead lists of epoch `death` with references born in `birth` or later.
#[must_use]
pub fn dead_from(death: Epoch, birth: Epoch) -> Vec<u8> {
    let mut key = with_number(DEAD, death.0, 20);
    key.extend_from_slice(&birth.0.to_be_bytes());
    key
}

/// Death and birth of the references of a dead list; `None` for any other key.
#[must_use]
pub fn parse_dead(key: &[u8]) -> Option<(Epoch, Epoch)> {
    let number = |at: usize| Some(u64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?));
    (key.first() == Some(&DEAD) && key.len() == 29).then_some(())?;
    Some((Epoch(number(1)?), Epoch(number(9)?)))
}

/// The group that wrote a part of a change list or of a dead list; `None` for any other key.
#[must_use]
pub fn parse_group(key: &[u8]) -> Option<GroupId> {
    (parse_changes(key).is_some() || parse_dead(key).is_some()).then_some(())?;
    // Behind it is only the part's number.
    let number = key.get(key.len().checked_sub(12)?..)?.first_chunk()?;
    Some(GroupId(u64::from_be_bytes(*number)))
}

/// Key of a snapshot.
#[must_use]
pub fn snapshot(id: Epoch) -> Vec<u8> {
    with_number(SNAPSHOT, id.0, 0)
}

/// Id of a snapshot key; `None` for any other key.
#[must_use]
pub fn parse_snapshot(key: &[u8]) -> Option<Epoch> {
    number_behind(SNAPSHOT, key).map(Epoch)
}

/// Key of what a snapshot alone uses.
#[must_use]
pub fn snapshot_used(id: Epoch) -> Vec<u8> {
    with_number(SNAPSHOT_USED, id.0, 0)
}
