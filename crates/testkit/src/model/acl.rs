//! POSIX access control lists, as acl(5) describes them and Linux takes them (`posix_acl_from_xattr`).

use verfs_vfs::VfsError;

/// The list that permissions are checked by.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The list that new entries of a directory inherit.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const OWNER: u16 = 1;
const USER: u16 = 2;
const OWNING_GROUP: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHER: u16 = 32;
const TAGS: [u16; 6] = [OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER];
const NOBODY: u32 = u32::MAX;

/// A list: (tag, permissions, id) in the order of tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Acl(Vec<(u16, u16, u32)>);

impl Acl {
    /// Reads an attribute's value; the error that it gets otherwise.
    pub(super) fn parse(value: &[u8]) -> Result<Acl, VfsError> {
        let invalid = VfsError::InvalidArgument;
        let version = value.get(..4).ok_or(invalid)?;
        if version != [2, 0, 0, 0] {
            return Err(VfsError::Unsupported);
        }
        let rest = &value[4..];
        if !rest.len().is_multiple_of(8) {
            return Err(invalid);
        }
        let entries = rest.chunks(8).map(|entry| {
            let tag = u16::from(entry[0]) | u16::from(entry[1]) << 8;
            let permissions = u16::from(entry[2]) | u16::from(entry[3]) << 8;
            let id = entry[4..].iter().rev().fold(0, |id, byte| id << 8 | u32::from(*byte));
            (tag, permissions, if tag == USER || tag == GROUP { id } else { NOBODY })
        });
        let acl = Acl(entries.collect());
        if acl.makes_sense() { Ok(acl) } else { Err(invalid) }
    }

    fn makes_sense(&self) -> bool {
        let count = |tag: u16| self.0.iter().filter(|entry| entry.0 == tag).count();
        let in_order = self.0.windows(2).all(|pair| pair[0].0 <= pair[1].0);
        let known = self.0.iter().all(|(tag, permissions, _)| TAGS.contains(tag) && *permissions < 8);
        let named = self.0.iter().filter(|entry| entry.0 == USER || entry.0 == GROUP);
        let names_somebody = named.clone().all(|entry| entry.2 != NOBODY);
        let masked = count(MASK) == 1 || (count(MASK) == 0 && named.count() == 0);
        let once = [OWNER, OWNING_GROUP, OTHER].into_iter().all(|tag| count(tag) == 1);
        in_order && known && names_somebody && masked && once
    }

    pub(super) fn value(&self) -> Vec<u8> {
        let mut value = vec![2, 0, 0, 0];
        for (tag, permissions, id) in &self.0 {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    /// Whether it says no more than nine permission bits do.
    pub(super) fn is_plain(&self) -> bool {
        self.0.iter().all(|(tag, ..)| [OWNER, OWNING_GROUP, OTHER].contains(tag))
    }

    fn classes(&mut self) -> [&mut u16; 3] {
        let group = if self.0.iter().any(|entry| entry.0 == MASK) { MASK } else { OWNING_GROUP };
        let mut bits = [OWNER, group, OTHER].map(|_| None);
        for (tag, permissions, _) in &mut self.0 {
            if let Some(class) = [OWNER, group, OTHER].iter().position(|of| of == tag) {
                bits[class] = Some(permissions);
            }
        }
        match bits {
            [Some(owner), Some(group), Some(other)] => [owner, group, other],
            _ => panic!("a list without one of its three classes passed"),
        }
    }

    /// The nine permission bits that show it.
    pub(super) fn bits(&self) -> u16 {
        self.clone().classes().iter().fold(0, |bits, class| bits << 3 | **class)
    }

    /// After `chmod`.
    pub(super) fn changed_to(mut self, mode: u16) -> Acl {
        for (class, shift) in self.classes().into_iter().zip([6, 3, 0]) {
            *class = mode >> shift & 7;
        }
        self
    }

    /// What an inode gets that is made with `mode` where this is the default.
    pub(super) fn passed_on(mut self, mode: u16) -> Acl {
        for (class, shift) in self.classes().into_iter().zip([6, 3, 0]) {
            *class &= mode >> shift & 7;
        }
        self
    }
}
