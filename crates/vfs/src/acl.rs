//! POSIX access control lists (POSIX.1e draft 17, acl(5)): their form as extended attributes, and how they and the
//! permission bits follow each other. In a mount the kernel checks permissions; here they are kept consistent, and told
//! to those who check without a kernel.

use bytes::Bytes;

use crate::{Result, VfsError};

/// Extended attribute of the list that permissions are checked by.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// Extended attribute of the list that new entries of a directory inherit.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Version of the form (`linux/posix_acl_xattr.h`): version 4 | entries x (tag 2 | permissions 2 | id 4), little-endian.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
/// Id of entries that are nobody's in particular.
const NO_ID: u32 = u32::MAX;

/// Whom an entry is for, with its code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Tag {
    Owner = 0x01,
    User = 0x02,
    OwningGroup = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

impl Tag {
    fn decode(code: u16) -> Option<Tag> {
        [Tag::Owner, Tag::User, Tag::OwningGroup, Tag::Group, Tag::Mask, Tag::Other]
            .into_iter()
            .find(|tag| *tag as u16 == code)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: Tag,
    /// `0o7`.
    permissions: u16,
    id: u32,
}

/// A valid list: one owner, owning group and other entry, and a mask where a user or a group is named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Reads an extended attribute's value.
    pub(crate) fn decode(value: &[u8]) -> Result<Acl> {
        let (header, rest) = value.split_first_chunk::<HEADER_BYTES>().ok_or(VfsError::InvalidArgument)?;
        if u32::from_le_bytes(*header) != VERSION {
            return Err(VfsError::Unsupported);
        }
        let (chunks, []) = rest.as_chunks::<ENTRY_BYTES>() else { return Err(VfsError::InvalidArgument) };
        let mut entries = Vec::with_capacity(chunks.len());
        for [tag0, tag1, permissions0, permissions1, id @ ..] in chunks {
            let tag = Tag::decode(u16::from_le_bytes([*tag0, *tag1])).ok_or(VfsError::InvalidArgument)?;
            let permissions = u16::from_le_bytes([*permissions0, *permissions1]);
            if permissions > 0o7 {
                return Err(VfsError::InvalidArgument);
            }
            let id = match tag {
                Tag::User | Tag::Group => u32::from_le_bytes(*id),
                Tag::Owner | Tag::OwningGroup | Tag::Mask | Tag::Other => NO_ID,
            };
            entries.push(Entry { tag, permissions, id });
        }
        let acl = Acl { entries };
        if acl.is_valid() { Ok(acl) } else { Err(VfsError::InvalidArgument) }
    }

    fn is_valid(&self) -> bool {
        let count = |tag| self.entries.iter().filter(|entry| entry.tag == tag).count();
        let named = count(Tag::User) + count(Tag::Group);
        self.entries.is_sorted_by_key(|entry| entry.tag)
            && [Tag::Owner, Tag::OwningGroup, Tag::Other].into_iter().all(|tag| count(tag) == 1)
            && count(Tag::Mask) <= 1
            && (named == 0 || count(Tag::Mask) == 1)
            && self.entries.iter().all(|entry| entry.id != NO_ID || !matches!(entry.tag, Tag::User | Tag::Group))
    }

    /// The extended attribute's value.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEADER_BYTES + ENTRY_BYTES * self.entries.len());
        out.extend_from_slice(&VERSION.to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&(entry.tag as u16).to_le_bytes());
            out.extend_from_slice(&entry.permissions.to_le_bytes());
            out.extend_from_slice(&entry.id.to_le_bytes());
        }
        out.into()
    }

    /// The entry that the group bits of the mode stand for: the mask, or without one the owning group.
    fn group_class(&self) -> Tag {
        if self.entries.iter().any(|entry| entry.tag == Tag::Mask) { Tag::Mask } else { Tag::OwningGroup }
    }

    /// By how much the bits of a mode are shifted for the class that an entry stands for.
    fn shift(&self, tag: Tag) -> Option<u32> {
        match tag {
            Tag::Owner => Some(6),
            Tag::Other => Some(0),
            Tag::OwningGroup | Tag::Mask if tag == self.group_class() => Some(3),
            Tag::User | Tag::Group | Tag::OwningGroup | Tag::Mask => None,
        }
    }

    /// The permission bits (`0o777`) that go with the list.
    pub(crate) fn mode(&self) -> u16 {
        self.entries
            .iter()
            .filter_map(|entry| self.shift(entry.tag).map(|shift| entry.permissions << shift))
            .fold(0, |mode, bits| mode | bits)
    }

    /// Whether permission bits say all that the list says.
    pub(crate) fn is_minimal(&self) -> bool {
        self.entries.len() == 3
    }

    /// The list after `chmod` to `mode`.
    pub(crate) fn with_mode(&self, mode: u16) -> Acl {
        let entries = self.entries.iter().map(|entry| match self.shift(entry.tag) {
            Some(shift) => Entry { permissions: mode >> shift & 0o7, ..*entry },
            None => *entry,
        });
        Acl { entries: entries.collect() }
    }

    /// Access list of what is made with `mode` in a directory with this default list. Neither grants what the other
    /// doesn't; [`Acl::mode`] of the result is the new mode.
    pub(crate) fn inherited(&self, mode: u16) -> Acl {
        let entries = self.entries.iter().map(|entry| match self.shift(entry.tag) {
            Some(shift) => Entry { permissions: entry.permissions & (mode >> shift), ..*entry },
            None => *entry,
        });
        Acl { entries: entries.collect() }
    }
}

/// Somebody who isn't the owner of a file.
pub struct AclCaller<'a> {
    /// User.
    pub uid: u32,
    /// Whether a group is one of his.
    pub is_in: &'a dyn Fn(u32) -> bool,
}

impl std::fmt::Debug for AclCaller<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AclCaller").field("uid", &self.uid).finish_non_exhaustive()
    }
}

/// Whether an access list, as its extended attribute has it, grants `wanted` (`0o7`) to somebody: the check of acl(5). A
/// named user counts before groups; of all his groups one entry has to grant everything.
///
/// # Errors
/// [`VfsError::InvalidArgument`], [`VfsError::Unsupported`] for what is no list.
pub fn acl_permits(list: &[u8], caller: &AclCaller<'_>, owning_group: u32, wanted: u16) -> Result<bool> {
    let acl = Acl::decode(list)?;
    let of = |tag| acl.entries.iter().filter(move |entry| entry.tag == tag);
    let mask = of(Tag::Mask).next().map_or(0o7, |entry| entry.permissions);
    let grants = |entry: &Entry| entry.permissions & mask & wanted == wanted;
    if let Some(named) = of(Tag::User).find(|entry| entry.id == caller.uid) {
        return Ok(grants(named));
    }
    let owning = of(Tag::OwningGroup).filter(|_| (caller.is_in)(owning_group));
    let mut groups = owning.chain(of(Tag::Group).filter(|entry| (caller.is_in)(entry.id))).peekable();
    if groups.peek().is_some() {
        return Ok(groups.any(grants));
    }
    Ok(of(Tag::Other).any(|entry| entry.permissions & wanted == wanted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&permissions.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    /// `user::rw-,user:7:r-x,group::r--,mask::rwx,other::r--`.
    fn extended() -> Vec<u8> {
        list(&[(1, 6, NO_ID), (2, 5, 7), (4, 4, NO_ID), (0x10, 7, NO_ID), (0x20, 4, NO_ID)])
    }

    #[test]
    fn lists_read_back_and_show_their_mask_as_the_group_bits() {
        let acl = Acl::decode(&extended()).unwrap();
        assert_eq!(acl.encode(), extended());
        assert_eq!((acl.mode(), acl.is_minimal()), (0o674, false));
        let minimal = Acl::decode(&list(&[(1, 7, 0), (4, 5, 0), (0x20, 0, 0)])).unwrap();
        assert_eq!((minimal.mode(), minimal.is_minimal()), (0o750, true));
    }

    #[test]
    fn chmod_changes_the_mask_and_inheriting_only_takes_away() {
        let acl = Acl::decode(&extended()).unwrap();
        assert_eq!(acl.with_mode(0o711).mode(), 0o711);
        let named = |acl: &Acl| acl.entries.iter().find(|entry| entry.tag == Tag::User).map(|entry| entry.permissions);
        assert_eq!(named(&acl.with_mode(0)), Some(5), "the mask limits a named user, whose own entry stays");
        assert_eq!(acl.inherited(0o640).mode(), 0o640);
        assert_eq!(acl.inherited(0o777).mode(), 0o674);
        assert_eq!(named(&acl.inherited(0)), Some(5));
    }

    #[test]
    fn what_is_no_valid_list_is_refused() {
        for entries in [
            &[][..],
            &[(1, 7, 0), (4, 7, 0)],
            &[(4, 7, 0), (1, 7, 0), (0x20, 7, 0)],
            &[(1, 7, 0), (2, 7, 7), (4, 7, 0), (0x20, 7, 0)],
            &[(1, 8, 0), (4, 7, 0), (0x20, 7, 0)],
            &[(1, 7, 0), (4, 7, 0), (3, 7, 0), (0x20, 7, 0)],
            &[(1, 7, 0), (2, 7, NO_ID), (4, 7, 0), (0x10, 7, 0), (0x20, 7, 0)],
        ] {
            assert_eq!(Acl::decode(&list(entries)), Err(VfsError::InvalidArgument), "{entries:?}");
        }
        assert_eq!(Acl::decode(&[2, 0]), Err(VfsError::InvalidArgument));
        assert_eq!(Acl::decode(&extended()[..13]), Err(VfsError::InvalidArgument));
        assert_eq!(Acl::decode(&[3, 0, 0, 0]), Err(VfsError::Unsupported));
    }
}
