//! What operations do to the model alone: lets a generator choose operations that make sense, and a check find out
//! which inode a target was.

use crate::model::{Answer, Id, Model, Place, ROOT};
use crate::op::{Entry, NAMES, Op, SLOTS, Target};
use crate::snapshot::SnapshotOp;
use crate::xattr::XATTR_NAMES;

/// A model with open files, but without a volume.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The tree.
    pub model: Model,
    slots: [Option<Id>; SLOTS as usize],
}

/// The inode that a path leads to, if there is one.
#[must_use]
pub fn find(model: &Model, path: &[u8]) -> Option<Id> {
    path.iter().try_fold(ROOT, |at, name| model.lookup(at, NAMES[*name as usize]).ok())
}

impl Plan {
    /// Starts from a tree with nothing open.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Plan { model, slots: [None; SLOTS as usize] }
    }

    /// The inode of a target, if there is one.
    #[must_use]
    pub fn target(&self, target: &Target) -> Option<Id> {
        match target {
            Target::Path(path) => find(&self.model, path),
            Target::Slot(slot) => self.slots[*slot as usize],
        }
    }

    /// The inode in a slot.
    #[must_use]
    pub fn slot(&self, slot: u8) -> Option<Id> {
        self.slots[slot as usize]
    }

    fn place<'n>(&self, entry: &Entry) -> Option<Place<'n>> {
        Some(Place { dir: self.target(&entry.dir)?, name: NAMES[entry.name as usize] })
    }

    fn fill_slot(&mut self, slot: u8, id: Id) {
        self.model.pin(id);
        self.empty_slot(slot);
        self.slots[slot as usize] = Some(id);
    }

    fn empty_slot(&mut self, slot: u8) {
        if let Some(id) = self.slots[slot as usize].take() {
            self.model.unpin(id);
        }
    }

    fn close_nameless(&mut self) {
        for slot in 0..SLOTS {
            let open = self.slot(slot);
            if open.is_some_and(|id| self.model.node(id).map_or(0, |node| node.nlink) == 0) {
                self.empty_slot(slot);
            }
        }
    }

    /// Does what the operation would do; refusals change nothing.
    pub fn apply(&mut self, op: &Op) {
        // Whether the model refuses is of no concern here.
        let _refused = self.try_apply(op);
    }

    fn try_apply(&mut self, op: &Op) -> Option<Answer<()>> {
        let done = match op {
            Op::Make { at, kind, mode, who } => {
                let at = self.place(at)?;
                self.model.make_node(*who, at.dir, at.name, *kind, *mode).map(|_| ())
            }
            Op::Create { at, mode, who, slot } => {
                let at = self.place(at)?;
                let made = self.model.make_node(*who, at.dir, at.name, verfs_vfs::NodeKind::Regular, *mode);
                made.map(|id| self.fill_slot(*slot, id))
            }
            Op::MakeDir { at, mode, who } => {
                let at = self.place(at)?;
                self.model.make_dir(*who, at.dir, at.name, *mode).map(|_| ())
            }
            Op::Symlink { at, target_bytes, who } => {
                let at = self.place(at)?;
                let target = vec![b't'; *target_bytes as usize];
                self.model.make_symlink(*who, at.dir, at.name, &target).map(|_| ())
            }
            Op::Link { from, at } => {
                let (from, at) = (self.target(from)?, self.place(at)?);
                self.model.make_link(from, at.dir, at.name).map(|_| ())
            }
            Op::Unlink { at } => {
                let at = self.place(at)?;
                self.model.unlink(at.dir, at.name)
            }
            Op::RemoveDir { at } => {
                let at = self.place(at)?;
                self.model.remove_dir(at.dir, at.name)
            }
            Op::Rename { from, to, mode } => {
                let (from, to) = (self.place(from)?, self.place(to)?);
                self.model.rename(from, to, *mode)
            }
            Op::Change { target, change, who } => {
                let id = self.target(target)?;
                self.model.set_attributes(*who, id, *change)
            }
            Op::Write { target, offset, len, fill, who } => {
                let id = self.target(target)?;
                self.model.write(*who, id, *offset, u64::from(*len), *fill)
            }
            Op::SetXattr { target, name, value, mode, who } => {
                let id = self.target(target)?;
                self.model.set_xattr(*who, id, XATTR_NAMES[*name as usize], &value.bytes(), *mode)
            }
            Op::RemoveXattr { target, name } => {
                let id = self.target(target)?;
                self.model.remove_xattr(id, XATTR_NAMES[*name as usize])
            }
            Op::SetFlags { target, flags, who } => {
                let id = self.target(target)?;
                self.model.set_flags(*who, id, *flags)
            }
            Op::Allocate { target, offset, len, how, who } => {
                let id = self.target(target)?;
                self.model.allocate(*who, id, *offset, *len, *how)
            }
            Op::Copy { from, from_offset, to, to_offset, len, who } => {
                let (from, to) = (self.target(from)?, self.target(to)?);
                self.model.copy_range(*who, (from, *from_offset), (to, *to_offset), *len).map(|_| ())
            }
            Op::Open { target: Target::Path(path), slot } if !path.is_empty() => {
                let id = find(&self.model, path)?;
                self.fill_slot(*slot, id);
                Ok(())
            }
            Op::Close { slot } => {
                self.empty_slot(*slot);
                Ok(())
            }
            Op::Snapshot(op) => {
                let closes = matches!(op, SnapshotOp::Rollback(_));
                if closes {
                    self.close_nameless();
                }
                let done = self.model.change_snapshot(*op);
                if closes {
                    self.close_nameless();
                }
                done
            }
            Op::CopyOut { snapshot, from, to, mode } => self.model.copy_out(*snapshot, from, to, *mode),
            Op::Remount => {
                self.slots = [None; SLOTS as usize];
                self.model.unpin_all();
                Ok(())
            }
            Op::Open { .. }
            | Op::GetXattr { .. }
            | Op::ListXattr { .. }
            | Op::Seek { .. }
            | Op::Read { .. }
            | Op::ReadLink { .. }
            | Op::Stat { .. }
            | Op::List { .. }
            | Op::ListBegin { .. }
            | Op::ListNext { .. }
            | Op::Fsync { .. }
            | Op::Sync
            | Op::Collect { .. }
            | Op::Pause { .. } => Ok(()),
        };
        Some(done)
    }
}
