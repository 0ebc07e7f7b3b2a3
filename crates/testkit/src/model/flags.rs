//! Flags of inodes (ioctl_iflags(2), chattr(1)), and what immutable and append-only ones refuse.

use verfs_vfs::{FileFlags, FileKind, SetTime, VfsError};

use super::{Answer, Change, Id, Model, Node, Time, Who, refuse};

impl Node {
    fn is_frozen(&self) -> bool {
        self.flags.immutable || self.flags.append_only
    }

    fn refuse_if(refused: bool) -> Answer<()> {
        if refused { Err(VfsError::NotPermitted.into()) } else { Ok(()) }
    }

    /// Attributes, names and old bytes may change.
    pub(super) fn refuse_change(&self) -> Answer<()> {
        Node::refuse_if(self.is_frozen())
    }

    /// Nothing at all may change.
    pub(super) fn refuse_any(&self) -> Answer<()> {
        Node::refuse_if(self.flags.immutable)
    }

    /// Bytes may be written at `offset`.
    pub(super) fn refuse_write(&self, offset: u64) -> Answer<()> {
        Node::refuse_if(self.flags.immutable || (self.flags.append_only && offset != self.size()))
    }

    /// Attributes may be changed so. Of an append-only inode times may be set to now (`notify_change`).
    pub(super) fn refuse_attributes(&self, change: Change) -> Answer<()> {
        let is_now = |time: Option<SetTime>| !matches!(time, Some(SetTime::At(_)));
        match change {
            Change::Nothing | Change::Owner { uid: None, gid: None } => self.refuse_any(),
            Change::Times { access, modification } if is_now(access) && is_now(modification) => self.refuse_any(),
            Change::Mode(_) | Change::Owner { .. } | Change::Size(_) | Change::Times { .. } => self.refuse_change(),
        }
    }
}

impl Model {
    /// A name of `id` may be taken out of `dir`.
    pub(super) fn refuse_removal(&self, dir: Id, id: Id) -> Answer<()> {
        self.node(dir)?.refuse_change()?;
        self.node(id)?.refuse_change()
    }

    /// Sets all flags.
    ///
    /// # Errors
    /// As the operation.
    pub fn set_flags(&mut self, who: Who, id: Id, flags: FileFlags) -> Answer<()> {
        let now = self.now;
        let node = self.node_mut(id)?;
        let mut errors = Vec::new();
        if !matches!(node.kind, FileKind::Regular | FileKind::Directory) {
            errors.push(VfsError::Unsupported);
        }
        let thaws = (node.flags.immutable, node.flags.append_only) != (flags.immutable, flags.append_only);
        if who.uid != 0 && (thaws || who.uid != node.uid) {
            errors.push(VfsError::NotPermitted);
        }
        refuse(errors)?;
        node.flags = flags;
        node.times.change = Time::exactly(now);
        Ok(())
    }
}
