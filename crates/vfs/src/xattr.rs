//! Extended attributes (xattr(7)): four namespaces, all attributes of an inode in one record.

use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{Ino, Timestamp};
use verfs_format::{InodeFlags, InodeKind, InodeRecord, Xattrs};

use crate::acl::{self, Acl};
use crate::attributes::MODE_SETGID;
use crate::state::{Demand, Need, State, Step, Stop, xattr_weight};
use crate::{Context, Result, Vfs, VfsError, XattrMode};

/// Longest name of an extended attribute, its namespace included (`XATTR_NAME_MAX`).
const NAME_MAX_BYTES: usize = 255;
/// Bytes of names and values that one inode may have: what `listxattr` and one value may have (`XATTR_SIZE_MAX`), twice.
const INODE_MAX_BYTES: usize = 128 << 10;
/// Bytes of the names alone, each with a NUL, which is what `listxattr` can give (`XATTR_LIST_MAX`).
const LIST_MAX_BYTES: usize = 64 << 10;

/// Whose an attribute is: by the first part of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Namespace {
    User,
    Trusted,
    Security,
    AccessAcl,
    DefaultAcl,
}

fn namespace(name: &[u8]) -> Result<Namespace> {
    if name.len() > NAME_MAX_BYTES {
        return Err(VfsError::NameTooLong);
    }
    let prefixes: [(&[u8], Namespace); 3] =
        [(b"user.", Namespace::User), (b"trusted.", Namespace::Trusted), (b"security.", Namespace::Security)];
    match prefixes.into_iter().find(|(prefix, _)| name.starts_with(prefix)) {
        Some((prefix, _)) if name.len() == prefix.len() => Err(VfsError::InvalidArgument),
        Some((_, namespace)) => Ok(namespace),
        None if name == acl::ACCESS => Ok(Namespace::AccessAcl),
        None if name == acl::DEFAULT => Ok(Namespace::DefaultAcl),
        None => Err(VfsError::Unsupported),
    }
}

/// Whether inodes of a kind may have attributes of a namespace at all.
fn check_kind(kind: InodeKind, namespace: Namespace) -> Result<()> {
    match (namespace, kind) {
        (Namespace::User, InodeKind::Regular | InodeKind::Directory) => Ok(()),
        (Namespace::User, _) => Err(VfsError::NotPermitted),
        (Namespace::AccessAcl | Namespace::DefaultAcl, InodeKind::Symlink) => Err(VfsError::Unsupported),
        (Namespace::AccessAcl | Namespace::DefaultAcl | Namespace::Trusted | Namespace::Security, _) => Ok(()),
    }
}

impl State {
    /// The extended attributes of an inode.
    pub(crate) fn xattrs(&mut self, ino: Ino, record: &InodeRecord) -> Step<Arc<Xattrs>> {
        if !record.flags.contains(InodeFlags::XATTRS) {
            return Ok(Arc::default());
        }
        self.xattrs.get(ino).cloned().ok_or(Stop::Need(Need::Xattrs(ino)))
    }

    /// Gives an inode these extended attributes; its record, which the caller puts, says whether there are any.
    pub(crate) fn put_xattrs(&mut self, ino: Ino, record: &mut InodeRecord, xattrs: Xattrs) {
        if xattrs.is_empty() && !record.flags.contains(InodeFlags::XATTRS) {
            return;
        }
        record.flags = match xattrs.is_empty() {
            true => record.flags.without(InodeFlags::XATTRS),
            false => record.flags.with(InodeFlags::XATTRS),
        };
        let xattrs = Arc::new(xattrs);
        let weight = xattr_weight(&xattrs);
        self.xattrs.put(ino, Arc::clone(&xattrs), self.open.id, weight);
        self.open.put_xattrs(ino, xattrs);
        self.unlogged.xattrs.insert(ino);
    }

    /// The access list of an inode, where it says more than the permission bits.
    pub(crate) fn access_acl(&mut self, ino: Ino, record: &InodeRecord) -> Step<Option<Acl>> {
        let xattrs = self.xattrs(ino, record)?;
        Ok(xattrs.get(acl::ACCESS).map(|value| Acl::decode(value)).transpose()?)
    }

    /// Replaces the access list of an inode that has one, whose attributes are in memory.
    pub(crate) fn put_access_acl(&mut self, ino: Ino, record: &mut InodeRecord, acl: &Acl) -> Step<()> {
        let mut xattrs = Xattrs::clone(&*self.xattrs(ino, record)?);
        xattrs.insert(Bytes::from_static(acl::ACCESS), acl.encode());
        self.put_xattrs(ino, record, xattrs);
        Ok(())
    }

    /// The default list of a directory.
    pub(crate) fn default_acl(&mut self, ino: Ino, record: &InodeRecord) -> Step<Option<Acl>> {
        let xattrs = self.xattrs(ino, record)?;
        Ok(xattrs.get(acl::DEFAULT).map(|value| Acl::decode(value)).transpose()?)
    }

    /// Gives a new inode the access list that it inherits, and a directory the default list.
    pub(crate) fn inherit_acls(&mut self, ino: Ino, record: &mut InodeRecord, access: &Acl, default: &Acl) {
        let mut xattrs = Xattrs::default();
        if !access.is_minimal() {
            xattrs.insert(Bytes::from_static(acl::ACCESS), access.encode());
        }
        if record.kind == InodeKind::Directory {
            xattrs.insert(Bytes::from_static(acl::DEFAULT), default.encode());
        }
        self.put_xattrs(ino, record, xattrs);
        self.put_inode(ino, *record);
    }

    /// Puts an access list into `xattrs` and its bits into the mode; a list that says no more than these is not kept.
    fn set_access_acl(context: &Context, record: &mut InodeRecord, xattrs: &mut Xattrs, acl: Option<&Acl>) {
        let extended = acl.filter(|acl| !acl.is_minimal());
        match extended {
            Some(acl) => xattrs.insert(Bytes::from_static(acl::ACCESS), acl.encode()),
            None => {
                xattrs.remove(acl::ACCESS);
            }
        }
        if let Some(acl) = acl {
            record.mode = record.mode & !0o777 | acl.mode();
            if context.uid != 0 && context.gid != record.gid {
                record.mode &= !MODE_SETGID;
            }
        }
    }

    fn set_xattr(
        &mut self,
        context: &Context,
        ino: Ino,
        (name, value): (&[u8], &[u8]),
        mode: XattrMode,
        now: Timestamp,
    ) -> Step<()> {
        let namespace = namespace(name)?;
        let mut record = self.inode(ino)?;
        check_kind(record.kind, namespace)?;
        Self::check_changeable(&record)?;
        self.admit(Demand::Bytes(value.len() as u64))?;
        let mut xattrs = Xattrs::clone(&*self.xattrs(ino, &record)?);
        match (mode, xattrs.get(name).is_some()) {
            (XattrMode::Create, true) => return Err(Stop::Fail(VfsError::Exists)),
            (XattrMode::Replace, false) => return Err(Stop::Fail(VfsError::NoAttribute)),
            (XattrMode::Set, _) | (XattrMode::Create, false) | (XattrMode::Replace, true) => {}
        }
        // An empty value of a list means that there is none, says the kernel's interface.
        let acl = match namespace {
            Namespace::AccessAcl | Namespace::DefaultAcl if !value.is_empty() => Some(Acl::decode(value)?),
            Namespace::AccessAcl | Namespace::DefaultAcl => None,
            Namespace::User | Namespace::Trusted | Namespace::Security => None,
        };
        match (namespace, acl) {
            (Namespace::AccessAcl, acl) => Self::set_access_acl(context, &mut record, &mut xattrs, acl.as_ref()),
            (Namespace::DefaultAcl, Some(_)) if record.kind != InodeKind::Directory => {
                return Err(Stop::Fail(VfsError::Denied));
            }
            (Namespace::DefaultAcl, Some(acl)) => xattrs.insert(Bytes::from_static(acl::DEFAULT), acl.encode()),
            (Namespace::DefaultAcl, None) => {
                xattrs.remove(acl::DEFAULT);
            }
            (Namespace::User | Namespace::Trusted | Namespace::Security, _) => {
                xattrs.insert(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
            }
        }
        let list_bytes: usize = xattrs.iter().map(|(name, _)| name.len() + 1).sum();
        if xattrs.data_bytes() > INODE_MAX_BYTES || list_bytes > LIST_MAX_BYTES {
            return Err(Stop::Fail(VfsError::NoSpace));
        }
        self.put_xattrs(ino, &mut record, xattrs);
        record.ctime = now;
        self.put_inode(ino, record);
        Ok(())
    }

    fn remove_xattr(&mut self, ino: Ino, name: &[u8], now: Timestamp) -> Step<()> {
        let namespace = namespace(name)?;
        let mut record = self.inode(ino)?;
        check_kind(record.kind, namespace)?;
        Self::check_changeable(&record)?;
        self.admit(Demand::Release)?;
        let mut xattrs = Xattrs::clone(&*self.xattrs(ino, &record)?);
        if !xattrs.remove(name) {
            return match namespace {
                // As for every file system of Linux: whoever wants an inode without a list has it.
                Namespace::AccessAcl | Namespace::DefaultAcl => Ok(()),
                Namespace::User | Namespace::Trusted | Namespace::Security => Err(Stop::Fail(VfsError::NoAttribute)),
            };
        }
        self.put_xattrs(ino, &mut record, xattrs);
        record.ctime = now;
        self.put_inode(ino, record);
        Ok(())
    }
}

impl Vfs {
    /// The value of an extended attribute.
    ///
    /// # Errors
    /// [`VfsError::NoAttribute`]; [`VfsError::Unsupported`] for a name in none of the namespaces `user`, `trusted`,
    /// `security` and `system.posix_acl_*`; [`VfsError::NotFound`], [`VfsError::NameTooLong`], [`VfsError::Io`].
    pub fn getxattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<Bytes> {
        let namespace = namespace(name)?;
        self.shared.run(context, |state| {
            let record = state.inode(ino)?;
            match check_kind(record.kind, namespace) {
                Err(VfsError::NotPermitted) => return Err(Stop::Fail(VfsError::NoAttribute)),
                checked => checked?,
            }
            let xattrs = state.xattrs(ino, &record)?;
            Ok(xattrs.get(name).cloned().ok_or(VfsError::NoAttribute)?)
        })
    }

    /// The names of all extended attributes, in order; those of the namespace `trusted` for root only.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Io`].
    pub fn listxattr(&self, context: &Context, ino: Ino) -> Result<Vec<Bytes>> {
        let xattrs = self.shared.run(context, |state| {
            let record = state.inode(ino)?;
            state.xattrs(ino, &record)
        })?;
        let is_shown = |name: &&Bytes| context.uid == 0 || !name.starts_with(b"trusted.");
        Ok(xattrs.iter().map(|(name, _)| name).filter(is_shown).cloned().collect())
    }

    /// Sets an extended attribute. Of `system.posix_acl_access` the permission bits follow.
    ///
    /// # Errors
    /// [`VfsError::Exists`] and [`VfsError::NoAttribute`] as `mode` says; [`VfsError::InvalidArgument`] for a malformed
    /// access control list or a name without its second part; [`VfsError::NoSpace`] for more than 128 KiB of attributes,
    /// or 64 KiB of names;
    /// [`VfsError::Denied`] for a default list of anything but a directory; [`VfsError::NotPermitted`],
    /// [`VfsError::Unsupported`], [`VfsError::NameTooLong`], [`VfsError::NotFound`], [`VfsError::ReadOnly`],
    /// [`VfsError::Io`].
    pub fn setxattr(&self, context: &Context, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.shared.run_change(context, |state, now| state.set_xattr(context, ino, (name, value), mode, now))?;
        self.tell_inode(ino);
        Ok(())
    }

    /// Removes an extended attribute. That there is no access control list to be removed is no error.
    ///
    /// # Errors
    /// [`VfsError::NoAttribute`], [`VfsError::Unsupported`], [`VfsError::NotPermitted`], [`VfsError::NotFound`],
    /// [`VfsError::NameTooLong`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn removexattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<()> {
        self.shared.run_change(context, |state, now| state.remove_xattr(ino, name, now))?;
        self.tell_inode(ino);
        Ok(())
    }
}
