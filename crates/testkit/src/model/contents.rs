//! Reading and writing.

use std::sync::Arc;

use verfs_vfs::{FileKind, VfsError};

use super::{Answer, Body, GROUP_EXECUTE, Id, Model, Node, Refusal, SET_GID, SET_UID, Who, errors_of, refuse};
use crate::content::{Content, Fill};

/// Largest file of a volume: segments of 1 MiB are numbered with 32 bits.
pub const SIZE_MAX_BYTES: u64 = (1 << 52) - 1;

impl Node {
    /// What a change of content by somebody who isn't root does to the set-id bits.
    pub(super) fn drop_set_ids(&mut self, who: Who) {
        if who.uid == 0 {
            return;
        }
        self.mode &= !SET_UID;
        if self.mode & GROUP_EXECUTE != 0 {
            self.mode &= !SET_GID;
        } else if self.mode & SET_GID != 0 {
            // Linux since 6.2 clears it here too, unless the writer is in the file's group.
            self.set_gid_in_doubt = true;
        }
    }
}

impl Model {
    pub(super) fn refuse_content(&self, id: Id) -> Answer<&Arc<Content>> {
        match &self.node(id)?.body {
            Body::File(content) => Ok(content),
            Body::Directory { .. } => Err(VfsError::IsDirectory.into()),
            Body::Symlink(_) | Body::Device(_) => Err(VfsError::InvalidArgument.into()),
        }
    }

    /// Nor may the file get longer than files can be.
    pub(super) fn refuse_growth(&self, id: Id, end: Option<u64>) -> Answer<()> {
        let mut errors = match self.refuse_content(id) {
            Ok(_) => Vec::new(),
            Err(Refusal(errors)) => errors,
        };
        if end.is_none_or(|end| end > SIZE_MAX_BYTES) {
            errors.push(VfsError::FileTooLarge);
        }
        if errors.is_empty() { Ok(()) } else { Err(Refusal(errors)) }
    }

    /// `write` of `len` bytes of `fill`.
    ///
    /// # Errors
    /// As the operation.
    pub fn write(&mut self, who: Who, id: Id, offset: u64, len: u64, fill: Fill) -> Answer<()> {
        if len == 0 {
            return self.refuse_content(id).map(|_| ());
        }
        let mut errors = errors_of(self.refuse_growth(id, offset.checked_add(len)));
        errors.extend(self.node(id).map_or_else(|_| Vec::new(), |node| errors_of(node.refuse_write(offset))));
        refuse(errors)?;
        let now = self.now;
        let node = self.node_mut(id)?;
        if let Body::File(content) = &mut node.body {
            Arc::make_mut(content).write(offset, len, fill);
        }
        node.touch_content(now);
        node.drop_set_ids(who);
        Ok(())
    }

    /// `read`: the bytes.
    ///
    /// # Errors
    /// As the operation.
    pub fn read(&mut self, id: Id, offset: u64, len: u32) -> Answer<Vec<u8>> {
        let bytes = self.refuse_content(id)?.read(offset, len as usize);
        self.accessed(id);
        Ok(bytes)
    }

    /// The content was looked at: the access time may have moved.
    pub fn accessed(&mut self, id: Id) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.flags.no_atime) {
            node.times.access.or(now);
        }
    }

    /// Kind of an inode that a caller is about to use as a file.
    #[must_use]
    pub fn kind(&self, id: Id) -> Option<FileKind> {
        self.nodes.get(&id).map(|node| node.kind)
    }
}
