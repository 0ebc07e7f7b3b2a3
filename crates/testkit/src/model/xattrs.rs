//! Extended attributes (xattr(7)).

use std::collections::BTreeMap;
use std::sync::Arc;

use verfs_vfs::{FileKind, VfsError, XattrMode};

use super::acl::{ACCESS, Acl, DEFAULT};
use super::{Answer, Id, Model, Node, Refusal, SET_GID, Time, Who, errors_of, refuse};

/// Extended attributes of an inode.
pub type XattrMap = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes of names and values that one inode may have together, in this volume.
const ALL_MAX_BYTES: usize = 128 << 10;
/// Bytes of its names in a list, each with a NUL.
const LIST_MAX_BYTES: usize = 64 << 10;
const NAME_MAX_BYTES: usize = 255;

/// Which namespace a name is in; the error that it gets otherwise.
fn refuse_name(name: &[u8]) -> Result<(), VfsError> {
    if name.len() > NAME_MAX_BYTES {
        return Err(VfsError::NameTooLong);
    }
    if name == ACCESS || name == DEFAULT {
        return Ok(());
    }
    for prefix in [&b"user."[..], b"trusted.", b"security."] {
        match name.strip_prefix(prefix) {
            Some(b"") => return Err(VfsError::InvalidArgument),
            Some(_) => return Ok(()),
            None => {}
        }
    }
    Err(VfsError::Unsupported)
}

fn is_acl(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

/// The error that such an inode has for any change of such an attribute.
fn refuse_kind(node: &Node, name: &[u8]) -> Result<(), VfsError> {
    let user_fits = matches!(node.kind, FileKind::Regular | FileKind::Directory);
    if name.starts_with(b"user.") && !user_fits {
        return Err(VfsError::NotPermitted);
    }
    if is_acl(name) && node.kind == FileKind::Symlink {
        return Err(VfsError::Unsupported);
    }
    Ok(())
}

impl Node {
    fn list(&self, name: &[u8]) -> Option<Acl> {
        self.xattrs.get(name).and_then(|value| Acl::parse(value).ok())
    }

    /// The list that new entries inherit.
    pub(super) fn default_list(&self) -> Option<Acl> {
        self.list(DEFAULT)
    }

    /// Takes over a list that says more than the mode; the mode follows.
    fn take_list(&mut self, list: &Acl) {
        self.mode = self.mode & !0o777 | list.bits();
        if list.is_plain() {
            Arc::make_mut(&mut self.xattrs).remove(ACCESS);
        } else {
            Arc::make_mut(&mut self.xattrs).insert(ACCESS.to_vec(), list.value());
        }
    }

    /// What a new inode gets from the default list of its directory.
    pub(super) fn inherit(&mut self, default: Acl) {
        if self.kind == FileKind::Directory {
            Arc::make_mut(&mut self.xattrs).insert(DEFAULT.to_vec(), default.value());
        }
        let list = default.passed_on(self.mode);
        self.take_list(&list);
    }

    /// The list follows the mode.
    pub(super) fn list_follows_mode(&mut self) {
        if let Some(list) = self.list(ACCESS) {
            let list = list.changed_to(self.mode);
            self.take_list(&list);
        }
    }
}

impl Model {
    /// `setxattr`.
    ///
    /// # Errors
    /// As the operation.
    pub fn set_xattr(&mut self, who: Who, id: Id, name: &[u8], value: &[u8], mode: XattrMode) -> Answer<()> {
        let now = self.now;
        let mut errors: Vec<VfsError> = refuse_name(name).err().into_iter().collect();
        let node = match self.node(id) {
            Ok(node) => node,
            Err(Refusal(mut missing)) => {
                errors.append(&mut missing);
                return Err(Refusal(errors));
            }
        };
        errors.extend(refuse_kind(node, name).err());
        errors.extend(errors_of(node.refuse_change()));
        match (mode, node.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => errors.push(VfsError::Exists),
            (XattrMode::Replace, false) => errors.push(VfsError::NoAttribute),
            (XattrMode::Set, _) | (XattrMode::Create, false) | (XattrMode::Replace, true) => {}
        }
        // No bytes at all are no list.
        let list = if is_acl(name) && !value.is_empty() { Some(Acl::parse(value)) } else { None };
        errors.extend(list.as_ref().and_then(|list| list.as_ref().err()));
        if name == DEFAULT && list.is_some() && node.kind != FileKind::Directory {
            errors.push(VfsError::Denied);
        }
        let list = list.and_then(Result::ok);
        let mut after = node.clone();
        match (&list, name == ACCESS) {
            (Some(list), true) => {
                after.take_list(list);
                // Whether the caller is in the file's group is known by its first group only.
                after.set_gid_in_doubt |= who.uid != 0 && who.gid != after.gid && after.mode & SET_GID != 0;
            }
            (Some(list), false) => {
                Arc::make_mut(&mut after.xattrs).insert(name.to_vec(), list.value());
            }
            (None, _) if is_acl(name) => {
                Arc::make_mut(&mut after.xattrs).remove(name);
            }
            (None, _) => {
                Arc::make_mut(&mut after.xattrs).insert(name.to_vec(), value.to_vec());
            }
        }
        let all: usize = after.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if all > ALL_MAX_BYTES || after.xattrs.keys().map(|name| name.len() + 1).sum::<usize>() > LIST_MAX_BYTES {
            errors.push(VfsError::NoSpace);
        }
        refuse(errors)?;
        after.times.change = Time::exactly(now);
        *self.node_mut(id)? = after;
        Ok(())
    }

    /// `removexattr`. The mode stays what it is when the access list goes; a list need not be there to be removed.
    ///
    /// # Errors
    /// As the operation.
    pub fn remove_xattr(&mut self, id: Id, name: &[u8]) -> Answer<()> {
        let now = self.now;
        let mut errors: Vec<VfsError> = refuse_name(name).err().into_iter().collect();
        let node = match self.node_mut(id) {
            Ok(node) => node,
            Err(Refusal(mut missing)) => {
                errors.append(&mut missing);
                return Err(Refusal(errors));
            }
        };
        let kind = refuse_kind(node, name).err();
        errors.extend(kind);
        errors.extend(errors_of(node.refuse_change()));
        let is_there = node.xattrs.contains_key(name);
        if kind.is_none() && !is_there && !is_acl(name) {
            errors.push(VfsError::NoAttribute);
        }
        refuse(errors)?;
        if !is_there {
            return Ok(());
        }
        Arc::make_mut(&mut node.xattrs).remove(name);
        node.times.change = Time::exactly(now);
        Ok(())
    }

    /// `getxattr`.
    ///
    /// # Errors
    /// As the operation.
    pub fn get_xattr(&self, id: Id, name: &[u8]) -> Answer<Vec<u8>> {
        let node = self.node(id)?;
        refuse_name(name)?;
        match refuse_kind(node, name) {
            // What can't be there isn't.
            Err(VfsError::NotPermitted) => return Err(VfsError::NoAttribute.into()),
            checked => checked?,
        }
        node.xattrs.get(name).cloned().ok_or_else(|| VfsError::NoAttribute.into())
    }

    /// `listxattr`: names that the caller is shown.
    ///
    /// # Errors
    /// As the operation.
    pub fn list_xattrs(&self, who: Who, id: Id) -> Answer<Vec<Vec<u8>>> {
        let shown = |name: &&Vec<u8>| who.uid == 0 || !name.starts_with(b"trusted.");
        Ok(self.node(id)?.xattrs.keys().filter(shown).cloned().collect())
    }
}
