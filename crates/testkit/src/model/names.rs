//! Operations on names, rename apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use verfs_vfs::{FileFlags, FileKind, NodeKind, VfsError};

use super::{
    Answer, Body, GROUP_EXECUTE, Id, Model, NAME_MAX_BYTES, Node, Refusal, SET_GID, TARGET_MAX_BYTES, Times, Who,
    errors_of, refuse,
};
use crate::content::Content;

impl Model {
    /// Errors of the directory and the name before anything is looked at in it.
    pub(super) fn refuse_place(&self, parent: Id, name: &[u8]) -> Answer<&BTreeMap<Vec<u8>, Id>> {
        let mut errors = Vec::new();
        if name.len() > NAME_MAX_BYTES {
            errors.push(VfsError::NameTooLong);
        }
        let entries = match self.node(parent) {
            Ok(node) => node.entries(),
            Err(Refusal(mut missing)) => {
                errors.append(&mut missing);
                return Err(Refusal(errors));
            }
        };
        match entries {
            Some(entries) if errors.is_empty() => Ok(entries),
            Some(_) => Err(Refusal(errors)),
            None => {
                errors.push(VfsError::NotDirectory);
                Err(Refusal(errors))
            }
        }
    }

    /// `lookup(parent, name)`.
    ///
    /// # Errors
    /// As the operation.
    pub fn lookup(&self, parent: Id, name: &[u8]) -> Answer<Id> {
        let entries = self.refuse_place(parent, name)?;
        entries.get(name).copied().ok_or_else(|| VfsError::NotFound.into())
    }

    /// A new name may be made here.
    fn refuse_new(&self, parent: Id, name: &[u8]) -> Answer<()> {
        let entries = self.refuse_place(parent, name)?;
        let mut errors = errors_of(self.node(parent)?.refuse_any());
        if entries.contains_key(name) {
            errors.push(VfsError::Exists);
        }
        // A removed directory that is still open takes no names.
        if self.node(parent)?.nlink == 0 {
            errors.push(VfsError::NotFound);
        }
        refuse(errors)
    }

    /// Puts a new inode under a free name.
    fn born(&mut self, parent: Id, name: &[u8], who: Who, kind: FileKind, mode: u16, body: Body) -> Answer<Id> {
        let now = self.now;
        let (dir_mode, dir_gid, default) = {
            let dir = self.node(parent)?;
            (dir.mode, dir.gid, dir.default_list().filter(|_| kind != FileKind::Symlink))
        };
        // umask(2): a default list takes its place.
        let mode = if default.is_some() || kind == FileKind::Symlink { mode } else { mode & !who.umask };
        let inherits = dir_mode & SET_GID != 0;
        let (mut mode, gid) = (mode, if inherits { dir_gid } else { who.gid });
        if inherits && kind == FileKind::Directory {
            mode |= SET_GID;
        }
        // Linux strips the bit from a group-executable file of a user who isn't in the directory's group.
        let both = SET_GID | GROUP_EXECUTE;
        let set_gid_in_doubt = inherits && kind != FileKind::Directory && who.uid != 0 && mode & both == both;
        let nlink = if kind == FileKind::Directory { 2 } else { 1 };
        let times = Times::at(now);
        let (xattrs, flags) = (Arc::default(), FileFlags::default());
        let uid = who.uid;
        let mut node = Node { kind, mode, uid, gid, nlink, times, pins: 0, set_gid_in_doubt, xattrs, flags, body };
        if let Some(default) = default {
            node.inherit(default);
        }
        let id = self.insert(node);
        self.attach(parent, name, id)?;
        Ok(id)
    }

    /// Enters a name into a directory and moves the directory's times.
    pub(super) fn attach(&mut self, parent: Id, name: &[u8], id: Id) -> Answer<()> {
        let now = self.now;
        let child_is_dir = match &mut self.node_mut(id)?.body {
            Body::Directory { parent: up, .. } => {
                *up = parent;
                true
            }
            Body::File(_) | Body::Symlink(_) | Body::Device(_) => false,
        };
        let dir = self.node_mut(parent)?;
        if child_is_dir {
            dir.nlink += 1;
        }
        dir.touch_content(now);
        if let Body::Directory { entries, .. } = &mut dir.body {
            entries.insert(name.to_vec(), id);
        }
        Ok(())
    }

    /// Takes a name out of a directory and moves the directory's times.
    pub(super) fn detach(&mut self, parent: Id, name: &[u8]) -> Answer<Id> {
        let now = self.now;
        let id = self.lookup(parent, name)?;
        let child_is_dir = self.node(id)?.kind == FileKind::Directory;
        let dir = self.node_mut(parent)?;
        if child_is_dir {
            dir.nlink -= 1;
        }
        dir.touch_content(now);
        if let Body::Directory { entries, .. } = &mut dir.body {
            entries.remove(name);
        }
        Ok(id)
    }

    /// `mknod`.
    ///
    /// # Errors
    /// As the operation.
    pub fn make_node(&mut self, who: Who, parent: Id, name: &[u8], kind: NodeKind, mode: u16) -> Answer<Id> {
        self.refuse_new(parent, name)?;
        let (kind, body) = match kind {
            NodeKind::Regular => (FileKind::Regular, Body::File(Arc::new(Content::default()))),
            NodeKind::Fifo => (FileKind::Fifo, Body::Device(0)),
            NodeKind::Socket => (FileKind::Socket, Body::Device(0)),
            NodeKind::CharDevice(number) => (FileKind::CharDevice, Body::Device(number)),
            NodeKind::BlockDevice(number) => (FileKind::BlockDevice, Body::Device(number)),
        };
        self.born(parent, name, who, kind, mode, body)
    }

    /// `mkdir`.
    ///
    /// # Errors
    /// As the operation.
    pub fn make_dir(&mut self, who: Who, parent: Id, name: &[u8], mode: u16) -> Answer<Id> {
        self.refuse_new(parent, name)?;
        let body = Body::Directory { entries: BTreeMap::new(), parent };
        self.born(parent, name, who, FileKind::Directory, mode, body)
    }

    /// `symlink`.
    ///
    /// # Errors
    /// As the operation.
    pub fn make_symlink(&mut self, who: Who, parent: Id, name: &[u8], target: &[u8]) -> Answer<Id> {
        let target_error = if target.is_empty() {
            Some(VfsError::NotFound)
        } else if target.len() > TARGET_MAX_BYTES {
            Some(VfsError::NameTooLong)
        } else {
            None
        };
        match (self.refuse_new(parent, name), target_error) {
            (Ok(()), None) => self.born(parent, name, who, FileKind::Symlink, 0o777, Body::Symlink(target.to_vec())),
            (Ok(()), Some(error)) => Err(error.into()),
            (Err(refusal), None) => Err(refusal),
            (Err(Refusal(mut errors)), Some(error)) => {
                errors.push(error);
                Err(Refusal(errors))
            }
        }
    }

    /// `link`.
    ///
    /// # Errors
    /// As the operation.
    pub fn make_link(&mut self, id: Id, parent: Id, name: &[u8]) -> Answer<Id> {
        let mut errors = Vec::new();
        match self.node(id) {
            Ok(node) if node.kind == FileKind::Directory => errors.push(VfsError::NotPermitted),
            Ok(node) if node.nlink == 0 => errors.push(VfsError::NotFound),
            Ok(node) => errors.extend(errors_of(node.refuse_change())),
            Err(Refusal(mut missing)) => errors.append(&mut missing),
        }
        if let Err(Refusal(mut refused)) = self.refuse_new(parent, name) {
            errors.append(&mut refused);
        }
        if !errors.is_empty() {
            return Err(Refusal(errors));
        }
        let now = self.now;
        let node = self.node_mut(id)?;
        node.nlink += 1;
        node.times.change = super::Time::exactly(now);
        self.attach(parent, name, id)?;
        Ok(id)
    }

    /// `unlink`.
    ///
    /// # Errors
    /// As the operation.
    pub fn unlink(&mut self, parent: Id, name: &[u8]) -> Answer<()> {
        let id = self.lookup(parent, name)?;
        if self.node(id)?.kind == FileKind::Directory {
            return Err(VfsError::IsDirectory.into());
        }
        self.refuse_removal(parent, id)?;
        self.detach(parent, name)?;
        self.lose_name(id)
    }

    /// `rmdir`.
    ///
    /// # Errors
    /// As the operation.
    pub fn remove_dir(&mut self, parent: Id, name: &[u8]) -> Answer<()> {
        let id = self.lookup(parent, name)?;
        match self.node(id)?.entries() {
            None => return Err(VfsError::NotDirectory.into()),
            Some(entries) if !entries.is_empty() => {
                let errors = errors_of(self.refuse_removal(parent, id)).into_iter().chain([VfsError::NotEmpty]);
                return Err(Refusal(errors.collect()));
            }
            Some(_) => self.refuse_removal(parent, id)?,
        }
        self.detach(parent, name)?;
        self.lose_name(id)
    }

    /// One name less; a directory has only one.
    pub(super) fn lose_name(&mut self, id: Id) -> Answer<()> {
        let now = self.now;
        let node = self.node_mut(id)?;
        node.nlink = if node.kind == FileKind::Directory { 0 } else { node.nlink - 1 };
        node.times.change = super::Time::exactly(now);
        self.drop_if_unused(id);
        Ok(())
    }

    /// `readlink`.
    ///
    /// # Errors
    /// As the operation.
    pub fn read_link(&self, id: Id) -> Answer<&[u8]> {
        match &self.node(id)?.body {
            Body::Symlink(target) => Ok(target),
            Body::File(_) | Body::Directory { .. } | Body::Device(_) => Err(VfsError::InvalidArgument.into()),
        }
    }
}
