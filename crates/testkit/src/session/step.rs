//! One operation, on the volume and on the model.

use std::time::Duration;

use verfs_base::Ino;
use verfs_vfs::{Attr, Context, Listing, NodeKind, Pin, RenameMode, VfsError};

use super::{Blocks, Session, Step, Stop, demand, meet};
use crate::model::{Answer, Id, Place, ROOT, Who};
use crate::op::{Entry, NAMES, Op, Target};

/// The clock moves this much with every operation, so that each has a time of its own.
const STEP: Duration = Duration::from_millis(1);

/// A target as both sides know it.
#[derive(Clone, Copy)]
pub(super) struct Both {
    pub(super) id: Id,
    pub(super) ino: Ino,
}

impl Session {
    /// Runs an operation on both sides and compares the result, everything it changed included.
    ///
    /// # Errors
    /// The difference.
    pub fn step(&mut self, op: &Op) -> Result<Step, String> {
        self.steps += 1;
        self.host.advance(STEP);
        self.model.now = self.host.now();
        let before = self.model.clone();
        let what = op.to_string();
        let ended = self.run(&what, op).and_then(|()| {
            self.watch_listings();
            self.check_changed(&what, &before)
        });
        match ended {
            Ok(()) => Ok(Step::Agreed),
            Err(Stop::Diverged(difference)) => Err(difference),
            Err(Stop::Environment(error)) => {
                let after = std::mem::replace(&mut self.model, before);
                Ok(Step::Failed { error, after: Box::new(after) })
            }
        }
    }

    /// The inode that a target names, on both sides; `None` when both say that there is none.
    pub(super) fn resolve(&mut self, what: &str, target: &Target) -> Result<Option<Both>, Stop> {
        let id = match target {
            Target::Slot(slot) => match self.slots[*slot as usize] {
                Some(id) => id,
                None => return Ok(None),
            },
            Target::Path(names) => {
                let mut at = ROOT;
                for name in names {
                    match self.look_up(what, at, NAMES[*name as usize], Pin::No)? {
                        Some(id) => at = id,
                        None => return Ok(None),
                    }
                }
                at
            }
        };
        Ok(Some(Both { id, ino: self.ino(id)? }))
    }

    fn look_up(&mut self, what: &str, parent: Id, name: &[u8], pin: Pin) -> Result<Option<Id>, Stop> {
        let what = &format!("{what}: lookup of {}", crate::op::short(name));
        let ino = self.ino(parent)?;
        let answer = self.ask(Who::ROOT, pin, |context| self.vfs.lookup(context, ino, name));
        let Some((id, attr)) = meet(what, self.model.lookup(parent, name), answer)? else { return Ok(None) };
        if pin == Pin::Count {
            self.model.pin(id);
        }
        self.check_attr(what, id, &attr)?;
        Ok(Some(id))
    }

    fn place<'n>(&mut self, what: &str, entry: &Entry) -> Result<Option<(Both, &'n [u8])>, Stop> {
        Ok(self.resolve(what, &entry.dir)?.map(|dir| (dir, NAMES[entry.name as usize])))
    }

    /// Holds what a new inode's maker said against the model.
    fn make(&mut self, what: &str, model: Answer<Id>, volume: Result<Attr, VfsError>) -> Result<Option<Id>, Stop> {
        let Some((id, attr)) = meet(what, model, volume)? else { return Ok(None) };
        self.born(what, id, attr.ino)?;
        self.check_attr(what, id, &attr)?;
        Ok(Some(id))
    }

    fn run(&mut self, what: &str, op: &Op) -> Result<(), Stop> {
        match op {
            Op::Make { at, kind, mode, who } => self.mknod(what, at, *kind, *mode, *who, Pin::No).map(|_| ()),
            Op::Create { at, mode, who, slot } => {
                if let Some(id) = self.mknod(what, at, NodeKind::Regular, *mode, *who, Pin::Count)? {
                    self.close_slot(*slot)?;
                    self.slots[*slot as usize] = Some(id);
                }
                Ok(())
            }
            Op::MakeDir { at, mode, who } => {
                let Some((dir, name)) = self.place(what, at)? else { return Ok(()) };
                let made = self.ask(*who, Pin::No, |context| self.vfs.mkdir(context, dir.ino, name, *mode));
                let expected = self.model.make_dir(*who, dir.id, name, *mode);
                self.make(what, expected, made).map(|_| ())
            }
            Op::Symlink { at, target_bytes, who } => {
                let Some((dir, name)) = self.place(what, at)? else { return Ok(()) };
                let target = vec![b't'; *target_bytes as usize];
                let made = self.ask(*who, Pin::No, |context| self.vfs.symlink(context, dir.ino, name, &target));
                let expected = self.model.make_symlink(*who, dir.id, name, &target);
                self.make(what, expected, made).map(|_| ())
            }
            Op::Link { from, at } => self.link(what, from, at),
            Op::Unlink { at } => {
                let Some((dir, name)) = self.place(what, at)? else { return Ok(()) };
                let done = self.ask(Who::ROOT, Pin::No, |context| self.vfs.unlink(context, dir.ino, name));
                meet(what, self.model.unlink(dir.id, name), done).map(|_| ())
            }
            Op::RemoveDir { at } => {
                let Some((dir, name)) = self.place(what, at)? else { return Ok(()) };
                let done = self.ask(Who::ROOT, Pin::No, |context| self.vfs.rmdir(context, dir.ino, name));
                meet(what, self.model.remove_dir(dir.id, name), done).map(|_| ())
            }
            Op::Rename { from, to, mode } => self.rename(what, from, to, *mode),
            Op::Change { target, change, who } => {
                let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
                let done = self.ask(*who, Pin::No, |context| self.vfs.setattr(context, ino, &change.request()));
                match meet(what, self.model.set_attributes(*who, id, *change), done)? {
                    Some(((), attr)) => self.check_attr(what, id, &attr),
                    None => Ok(()),
                }
            }
            Op::Write { target, offset, len, fill, who } => {
                let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
                let data = fill.bytes(0, *len as usize);
                let done = self.ask(*who, Pin::No, |context| self.vfs.write(context, ino, *offset, data));
                meet(what, self.model.write(*who, id, *offset, u64::from(*len), *fill), done).map(|_| ())
            }
            Op::SetXattr { target, name, value, mode, who } => {
                self.set_xattr(what, target, (*name, *value), *mode, *who)
            }
            Op::RemoveXattr { target, name } => self.remove_xattr(what, target, *name),
            Op::GetXattr { target, name } => self.get_xattr(what, target, *name),
            Op::ListXattr { target, who } => self.list_xattr(what, target, *who),
            Op::SetFlags { target, flags, who } => {
                let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
                let done = self.ask(*who, Pin::No, |context| self.vfs.set_file_flags(context, ino, *flags));
                meet(what, self.model.set_flags(*who, id, *flags), done).map(|_| ())
            }
            Op::Allocate { target, offset, len, how, who } => {
                let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
                let done = self.ask(*who, Pin::No, |context| self.vfs.allocate(context, ino, *offset, *len, *how));
                meet(what, self.model.allocate(*who, id, *offset, *len, *how), done).map(|_| ())
            }
            Op::Seek { target, offset, wanted } => self.seek(what, target, *offset, *wanted),
            Op::Copy { from, from_offset, to, to_offset, len, who } => {
                self.copy(what, (from, *from_offset), (to, *to_offset), *len, *who)
            }
            Op::Read { target, offset, len } => {
                let Some(Both { id, .. }) = self.resolve(what, target)? else { return Ok(()) };
                self.check_read(what, id, (*offset, *len))
            }
            Op::ReadLink { target } => self.read_link(what, target),
            Op::Stat { target } => {
                let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
                let attr = demand(what, self.ask(Who::ROOT, Pin::No, |context| self.vfs.getattr(context, ino)))?;
                self.check_attr(what, id, &attr)
            }
            Op::List { target, page } => self.list(what, target, usize::from((*page).max(1))),
            Op::ListBegin { target, cursor } => {
                let Some(Both { id, .. }) = self.resolve(what, target)? else { return Ok(()) };
                if self.model.node(id).is_ok_and(|node| node.entries().is_some() && node.nlink > 0) {
                    self.begin_listing(*cursor, id);
                }
                Ok(())
            }
            Op::ListNext { cursor, count } => self.next_of_listing(what, *cursor, usize::from((*count).max(1))),
            Op::Open { target, slot } => self.open_slot(what, target, *slot),
            Op::Close { slot } => self.close_slot(*slot),
            Op::Fsync { target, scope } => {
                let Some(Both { ino, .. }) = self.resolve(what, target)? else { return Ok(()) };
                demand(what, self.vfs.fsync(&Context::ROOT, ino, *scope))
            }
            Op::Snapshot(op) => self.snapshot(what, *op),
            Op::CopyOut { snapshot, from, to, mode } => self.copy_out(what, *snapshot, (from, to), *mode),
            Op::Sync => demand(what, self.vfs.sync()),
            Op::Remount => self.remount(),
            Op::Collect { dead_percent, pieces } => self.host.collect(*dead_percent, *pieces),
            Op::Pause { millis } => {
                let pause = Duration::from_millis(u64::from(*millis));
                self.host.advance(pause);
                std::thread::sleep(pause);
                Ok(())
            }
        }
    }

    fn mknod(
        &mut self,
        what: &str,
        at: &Entry,
        kind: NodeKind,
        mode: u16,
        who: Who,
        pin: Pin,
    ) -> Result<Option<Id>, Stop> {
        let Some((dir, name)) = self.place(what, at)? else { return Ok(None) };
        let made = self.ask(who, pin, |context| self.vfs.mknod(context, dir.ino, name, kind, mode));
        let expected = self.model.make_node(who, dir.id, name, kind, mode);
        if let (Pin::Count, Ok(id), Ok(_)) = (pin, &expected, &made) {
            self.model.pin(*id);
        }
        self.make(what, expected, made)
    }

    fn link(&mut self, what: &str, from: &Target, at: &Entry) -> Result<(), Stop> {
        let Some(from) = self.resolve(what, from)? else { return Ok(()) };
        let Some((dir, name)) = self.place(what, at)? else { return Ok(()) };
        let made = self.ask(Who::ROOT, Pin::No, |context| self.vfs.link(context, from.ino, dir.ino, name));
        let expected = self.model.make_link(from.id, dir.id, name);
        match meet(what, expected, made)? {
            Some((id, attr)) => self.check_attr(what, id, &attr),
            None => Ok(()),
        }
    }

    fn rename(&mut self, what: &str, from: &Entry, to: &Entry, mode: RenameMode) -> Result<(), Stop> {
        let Some((from, old)) = self.place(what, from)? else { return Ok(()) };
        let Some((to, new)) = self.place(what, to)? else { return Ok(()) };
        let done = self.ask(Who::ROOT, Pin::No, |context| self.vfs.rename(context, from.ino, old, to.ino, new, mode));
        let (from, to) = (Place { dir: from.id, name: old }, Place { dir: to.id, name: new });
        meet(what, self.model.rename(from, to, mode), done).map(|_| ())
    }

    fn read_link(&mut self, what: &str, target: &Target) -> Result<(), Stop> {
        let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
        let found = self.ask(Who::ROOT, Pin::No, |context| self.vfs.readlink(context, ino));
        let expected = self.model.read_link(id).map(<[u8]>::to_vec);
        if let Some((expected, found)) = meet(what, expected, found)?
            && found != expected
        {
            return Err(Stop::Diverged(format!("{what}: expected {expected:02x?}, found {found:02x?}")));
        }
        self.model.accessed(id);
        Ok(())
    }

    fn list(&mut self, what: &str, target: &Target, page: usize) -> Result<(), Stop> {
        let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
        match self.model.node(id).map(|node| (node.entries().is_some(), node.nlink)) {
            Ok((true, 1..)) => self.compare_listing(what, id, page),
            // What a removed directory lists is nobody's business.
            Ok((true, 0)) | Err(_) => Ok(()),
            Ok((false, _)) => {
                let found =
                    self.ask(Who::ROOT, Pin::No, |context| self.vfs.readdir(context, ino, 0, page, Listing::Names));
                meet::<(), _>(what, Err(VfsError::NotDirectory.into()), found).map(|_| ())
            }
        }
    }

    fn open_slot(&mut self, what: &str, target: &Target, slot: u8) -> Result<(), Stop> {
        let id = match target {
            // The root needs no pin, and an open inode has no name to look up.
            Target::Slot(_) => return Ok(()),
            Target::Path(names) => {
                let Some((last, way)) = names.split_last() else { return Ok(()) };
                let Some(dir) = self.resolve(what, &Target::Path(way.to_vec()))? else { return Ok(()) };
                match self.look_up(what, dir.id, NAMES[*last as usize], Pin::Count)? {
                    Some(id) => id,
                    None => return Ok(()),
                }
            }
        };
        self.close_slot(slot)?;
        self.slots[slot as usize] = Some(id);
        Ok(())
    }

    pub(super) fn close_slot(&mut self, slot: u8) -> Result<(), Stop> {
        if let Some(id) = self.slots[slot as usize].take() {
            self.vfs.forget(self.ino(id)?, 1);
            self.model.unpin(id);
        }
        Ok(())
    }

    fn remount(&mut self) -> Result<(), Stop> {
        self.slots = Default::default();
        self.cursors = Default::default();
        self.model.unpin_all();
        self.host.remount()?;
        self.vfs = self.host.vfs();
        self.blocks = Blocks::Settled;
        let compared = self.compare_tree("after a remount");
        self.blocks = Blocks::Bound;
        compared
    }
}
