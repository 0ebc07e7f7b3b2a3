//! Operations as system calls.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use verfs_testkit::model::{Change, Id, Place, Refusal};
use verfs_testkit::{Entry, NAMES, Op, Target, Who};
use verfs_vfs::{FileKind, NodeKind, RenameMode, SetTime, SyncScope, VfsError};

use crate::client::{Client, Freshness, Slot};
use crate::kernel::{Circumstance, meet};
use crate::mount::Mount;
use crate::user::acting;

fn mode(bits: u16) -> Mode {
    Mode::from_bits_retain(bits.into())
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(at)) => Timespec { tv_sec: at.seconds, tv_nsec: at.nanos.into() },
    }
}

/// `pread(2)` until the end or an error.
pub(crate) fn read_at(file: impl AsFd, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; len];
    let mut done = 0;
    loop {
        let read = rustix::io::pread(&file, &mut buffer[done..], offset.wrapping_add(done as u64))?;
        done += read;
        if read == 0 || done == len {
            buffer.truncate(done);
            return Ok(buffer);
        }
    }
}

impl Client {
    /// Opens what a target names; what isn't a file or directory only as a path.
    pub(crate) fn open(&self, target: &Target, id: Id, access: OFlags) -> Result<OwnedFd, Errno> {
        let spot = self.spot(target).ok_or(Errno::BADF)?;
        if spot.flags.contains(AtFlags::EMPTY_PATH) {
            return rustix::io::dup(spot.at);
        }
        let access = match self.model.kind(id) {
            Some(FileKind::Regular | FileKind::Directory) => access,
            Some(_) | None => OFlags::PATH,
        };
        rustix::fs::openat(spot.at, spot.path, access | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    fn about(&self, id: Id) -> Vec<Circumstance> {
        match self.model.kind(id) {
            Some(FileKind::Regular | FileKind::Directory) | None => Vec::new(),
            Some(_) => vec![Circumstance::PathOnly],
        }
    }

    pub(crate) fn run(&mut self, mount: &Mount, what: &str, op: &Op) -> Result<(), String> {
        match op {
            Op::Make { at, kind, mode: bits, who } => self.make_node(what, at, *kind, *bits, *who),
            Op::Create { at, mode: bits, who, slot } => self.create(what, at, *bits, *who, *slot),
            Op::MakeDir { at, mode: bits, who } => {
                let Some(dir) = self.resolve(what, &at.dir)? else { return Ok(()) };
                let expected = self.model.make_dir(*who, dir, NAMES[at.name as usize], *bits);
                let Some(spot) = self.place(at) else { return Ok(()) };
                let made = acting(*who, || rustix::fs::mkdirat(spot.at, &spot.path, mode(*bits)));
                self.made(what, at, dir, expected, made)
            }
            Op::Symlink { at, target_bytes, who } => {
                let Some(dir) = self.resolve(what, &at.dir)? else { return Ok(()) };
                let target = vec![b't'; *target_bytes as usize];
                let expected = self.model.make_symlink(*who, dir, NAMES[at.name as usize], &target);
                let Some(spot) = self.place(at) else { return Ok(()) };
                let made = acting(*who, || rustix::fs::symlinkat(&target, spot.at, &spot.path));
                self.made(what, at, dir, expected, made)
            }
            Op::Link { from, at } => self.link(what, from, at),
            Op::Unlink { at } => self.remove(what, at, AtFlags::empty()),
            Op::RemoveDir { at } => self.remove(what, at, AtFlags::REMOVEDIR),
            Op::Rename { from, to, mode } => self.rename(what, from, to, *mode),
            Op::Change { target, change, who } => {
                let Some(id) = self.resolve(what, target)? else { return Ok(()) };
                self.change(what, target, id, *change, *who)
            }
            Op::Write { target, offset, len, fill, who } => {
                let Some(id) = self.resolve(what, target)? else { return Ok(()) };
                let data = fill.bytes(0, *len as usize);
                let done = acting(*who, || {
                    let file = self.open(target, id, OFlags::WRONLY)?;
                    rustix::io::pwrite(&file, data, *offset)
                });
                let mut circumstances = self.about(id);
                circumstances.extend([Circumstance::WriteToDirectory]);
                circumstances.extend(i64::try_from(*offset).is_err().then_some(Circumstance::NegativeOffset));
                let expected = self.model.write(*who, id, *offset, u64::from(*len), *fill);
                match meet(what, &circumstances, expected, done)? {
                    Some(((), written)) if written != *len as usize => {
                        Err(format!("{what}: only {written} bytes were written"))
                    }
                    None if *who != Who::ROOT => {
                        // Before the write that is refused, the kernel has asked for set-id bits to go, though not in
                        // words: that may move the change time.
                        self.model.set_attributes(*who, id, Change::Nothing).or(Ok(()))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Op::Read { target, offset, len } => self.check_read(what, target, *offset, *len),
            Op::ReadLink { target } => self.read_link(what, target),
            Op::Stat { target } => self.resolve(what, target).map(|_| ()),
            Op::List { target, page } => self.list(what, target, usize::from((*page).max(1))),
            Op::ListBegin { target, cursor } => {
                let Some(id) = self.resolve(what, target)? else { return Ok(()) };
                if self.model.node(id).is_ok_and(|node| node.entries().is_some() && node.nlink > 0) {
                    self.begin_listing(what, target, *cursor, id)?;
                }
                Ok(())
            }
            Op::ListNext { cursor, count } => self.next_of_listing(what, *cursor, usize::from((*count).max(1))),
            Op::Open { target, slot } => self.open_slot(what, target, *slot),
            Op::Close { slot } => {
                self.close_slot(*slot);
                Ok(())
            }
            Op::Fsync { target, scope } => {
                let Some(id) = self.resolve(what, target)? else { return Ok(()) };
                let done = self.open(target, id, OFlags::RDONLY).and_then(|file| match scope {
                    SyncScope::Data => rustix::fs::fdatasync(&file),
                    SyncScope::All => rustix::fs::fsync(&file),
                });
                meet(what, &self.about(id), Ok::<(), Refusal>(()), done).map(|_| ())
            }
            Op::SetXattr { target, name, value, mode, .. } => self.set_xattr(what, target, (*name, *value), *mode),
            Op::RemoveXattr { target, name } => self.remove_xattr(what, target, *name),
            Op::GetXattr { target, name } => self.get_xattr(what, target, *name),
            Op::ListXattr { target, .. } => self.list_xattrs(what, target),
            Op::SetFlags { target, flags, who } => self.set_flags(what, target, *flags, *who),
            Op::Allocate { target, offset, len, how, .. } => self.allocate(what, target, (*offset, *len), *how),
            Op::Seek { target, offset, wanted } => self.seek(what, target, *offset, *wanted),
            Op::Copy { from, from_offset, to, to_offset, len, .. } => {
                self.copy(what, (from, *from_offset), (to, *to_offset), *len)
            }
            // They are no calls of the kernel's.
            Op::Snapshot(_) | Op::CopyOut { .. } => Ok(()),
            // sync(2) does not reach a FUSE server.
            Op::Sync => mount.sync().map_err(|error| format!("{what}: {error}")),
            Op::Remount => Err("a client can't remount".to_owned()),
            Op::Collect { dead_percent, pieces } => mount.collect(*dead_percent, *pieces),
            Op::Pause { millis } => {
                let pause = Duration::from_millis(u64::from(*millis));
                mount.advance(pause);
                self.model.now = mount.now();
                std::thread::sleep(pause);
                Ok(())
            }
        }
    }

    /// Holds what came of a new name against the model.
    fn made(
        &mut self,
        what: &str,
        at: &Entry,
        dir: Id,
        expected: Result<Id, Refusal>,
        made: Result<(), Errno>,
    ) -> Result<(), String> {
        let circumstances = self.circumstances(dir);
        let Some((id, ())) = meet(what, &circumstances, expected, made)? else { return Ok(()) };
        let target = match &at.dir {
            Target::Path(names) => Target::Path([names.clone(), vec![at.name]].concat()),
            Target::Slot(_) => match self.way_to(id) {
                Some(way) => way,
                None => return Err(format!("{what}: a new name in a directory without one")),
            },
        };
        self.born(what, id, &target)
    }

    /// In a directory that gives its group, the kernel lets nobody make a file that runs as a group he isn't in. It
    /// looks at the mode before the umask is taken from it.
    fn without_others_group(&self, dir: Id, bits: u16, who: Who) -> u16 {
        const RUNS_AS_GROUP: u16 = 0o2010;
        let gives = self.model.node(dir).is_ok_and(|node| node.mode & 0o2000 != 0 && node.gid != who.gid);
        if gives && who.uid != 0 && bits & RUNS_AS_GROUP == RUNS_AS_GROUP { bits & !0o2000 } else { bits }
    }

    fn make_node(&mut self, what: &str, at: &Entry, kind: NodeKind, bits: u16, who: Who) -> Result<(), String> {
        let Some(dir) = self.resolve(what, &at.dir)? else { return Ok(()) };
        let bits = self.without_others_group(dir, bits, who);
        let expected = self.model.make_node(who, dir, NAMES[at.name as usize], kind, bits);
        let Some(spot) = self.place(at) else { return Ok(()) };
        let (file_type, number) = match kind {
            NodeKind::Regular => (FileType::RegularFile, 0),
            NodeKind::Fifo => (FileType::Fifo, 0),
            NodeKind::Socket => (FileType::Socket, 0),
            NodeKind::CharDevice(number) => (FileType::CharacterDevice, number),
            NodeKind::BlockDevice(number) => (FileType::BlockDevice, number),
        };
        let device = rustix::fs::makedev(number >> 8, number & 0xff);
        let made = acting(who, || rustix::fs::mknodat(spot.at, &spot.path, file_type, mode(bits), device));
        self.made(what, at, dir, expected, made)
    }

    fn create(&mut self, what: &str, at: &Entry, bits: u16, who: Who, slot: u8) -> Result<(), String> {
        let Some(dir) = self.resolve(what, &at.dir)? else { return Ok(()) };
        let bits = self.without_others_group(dir, bits, who);
        let expected = self.model.make_node(who, dir, NAMES[at.name as usize], NodeKind::Regular, bits);
        let Some(spot) = self.place(at) else { return Ok(()) };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = acting(who, || rustix::fs::openat(spot.at, &spot.path, flags, mode(bits)));
        let circumstances = self.circumstances(dir);
        let Some((id, file)) = meet(what, &circumstances, expected, made)? else { return Ok(()) };
        self.fill_slot(slot, id, file);
        self.born(what, id, &Target::Slot(slot))
    }

    fn link(&mut self, what: &str, from: &Target, at: &Entry) -> Result<(), String> {
        let Some(id) = self.resolve(what, from)? else { return Ok(()) };
        let Some(dir) = self.resolve(what, &at.dir)? else { return Ok(()) };
        let expected = self.model.make_link(id, dir, NAMES[at.name as usize]);
        let (Some(old), Some(new)) = (self.spot(from), self.place(at)) else { return Ok(()) };
        // linkat(2) follows links only when it is told to.
        let flags = old.flags & AtFlags::EMPTY_PATH;
        let made = rustix::fs::linkat(old.at, &old.path, new.at, &new.path, flags);
        let circumstances = self.circumstances(dir);
        meet(what, &circumstances, expected, made).map(|_| ())
    }

    fn remove(&mut self, what: &str, at: &Entry, flags: AtFlags) -> Result<(), String> {
        let Some(dir) = self.resolve(what, &at.dir)? else { return Ok(()) };
        let circumstances = self.circumstances(dir);
        let name = NAMES[at.name as usize];
        let expected = if flags.contains(AtFlags::REMOVEDIR) {
            self.model.remove_dir(dir, name)
        } else {
            self.model.unlink(dir, name)
        };
        let Some(spot) = self.place(at) else { return Ok(()) };
        let done = rustix::fs::unlinkat(spot.at, &spot.path, flags);
        meet(what, &circumstances, expected, done).map(|_| ())
    }

    fn rename(&mut self, what: &str, from: &Entry, to: &Entry, mode: RenameMode) -> Result<(), String> {
        let Some(from_dir) = self.resolve(what, &from.dir)? else { return Ok(()) };
        let Some(to_dir) = self.resolve(what, &to.dir)? else { return Ok(()) };
        let mut circumstances = self.circumstances(from_dir);
        circumstances.extend(self.circumstances(to_dir));
        let (old, new) = (NAMES[from.name as usize], NAMES[to.name as usize]);
        let missing = self.model.lookup(from_dir, old) == Err(VfsError::NotFound.into());
        circumstances.extend(missing.then_some(Circumstance::OldNameMissing));
        let expected = self.model.rename(Place { dir: from_dir, name: old }, Place { dir: to_dir, name: new }, mode);
        let (Some(old), Some(new)) = (self.place(from), self.place(to)) else { return Ok(()) };
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        let done = rustix::fs::renameat_with(old.at, &old.path, new.at, &new.path, flags);
        meet(what, &circumstances, expected, done).map(|_| ())
    }

    fn change(&mut self, what: &str, target: &Target, id: Id, change: Change, who: Who) -> Result<(), String> {
        if matches!(change, Change::Nothing | Change::Times { access: None, modification: None }) {
            // No system call asks for nothing; utimensat(2) does nothing by itself.
            return Ok(());
        }
        let Ok(node) = self.model.node(id) else { return Ok(()) };
        let kind = node.kind;
        let by_slot = matches!(target, Target::Slot(_));
        let Some(spot) = self.spot(target) else { return Ok(()) };
        let mut circumstances = Vec::new();
        let done = acting(who, || match change {
            // No file system is asked for the mode of a link.
            Change::Mode(_) if kind == FileKind::Symlink => Err(Errno::OPNOTSUPP),
            Change::Mode(bits) if by_slot => rustix::fs::fchmod(spot.at, mode(bits)),
            Change::Mode(bits) => rustix::fs::chmodat(spot.at, &spot.path, mode(bits), AtFlags::empty()),
            Change::Owner { uid, gid } => {
                let (uid, gid) = (uid.map(rustix::fs::Uid::from_raw), gid.map(rustix::fs::Gid::from_raw));
                rustix::fs::chownat(spot.at, &spot.path, uid, gid, spot.flags)
            }
            Change::Size(size) => {
                let file = self.open(target, id, OFlags::WRONLY)?;
                rustix::fs::ftruncate(&file, size)
            }
            Change::Times { access, modification } => {
                let times = Timestamps { last_access: timespec(access), last_modification: timespec(modification) };
                rustix::fs::utimensat(spot.at, &spot.path, &times, spot.flags)
            }
            Change::Nothing => Ok(()),
        });
        match change {
            Change::Mode(_) if kind == FileKind::Symlink => return Ok(()),
            Change::Mode(_) if by_slot => circumstances.extend(self.about(id)),
            Change::Size(size) => {
                circumstances.extend(self.about(id));
                circumstances.extend(by_slot.then_some(Circumstance::TruncateDirectory));
                circumstances.extend(i64::try_from(size).is_err().then_some(Circumstance::NegativeOffset));
            }
            Change::Mode(_) | Change::Owner { .. } | Change::Times { .. } | Change::Nothing => {}
        }
        let before = self.model.clone();
        let expected = self.model.set_attributes(who, id, change);
        if meet(what, &circumstances, expected, done)?.is_none() {
            self.model = before;
        }
        Ok(())
    }

    fn check_read(&mut self, what: &str, target: &Target, offset: u64, len: u32) -> Result<(), String> {
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        let expected = self.model.read(id, offset, len);
        let found = self.open(target, id, OFlags::RDONLY).and_then(|file| read_at(&file, offset, len as usize));
        let mut circumstances = self.about(id);
        circumstances.extend(i64::try_from(offset).is_err().then_some(Circumstance::NegativeOffset));
        let Some((_, found)) = meet(what, &circumstances, expected, found)? else { return Ok(()) };
        self.read(id);
        let content = self.model.node(id).ok().and_then(|node| node.content().cloned()).unwrap_or_default();
        content.compare(offset, len as usize, &found).map_err(|difference| format!("{what}: {difference}"))
    }

    fn read_link(&mut self, what: &str, target: &Target) -> Result<(), String> {
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        let expected = self.model.read_link(id).map(<[u8]>::to_vec);
        let Some(spot) = self.spot(target) else { return Ok(()) };
        let found = rustix::fs::readlinkat(spot.at, &spot.path, Vec::new());
        let circumstances = matches!(target, Target::Slot(_)).then_some(Circumstance::ReadLinkByHandle);
        let circumstances: Vec<Circumstance> = circumstances.into_iter().collect();
        let Some((expected, found)) = meet(what, &circumstances, expected, found)? else { return Ok(()) };
        if found.to_bytes() != expected {
            return Err(format!("{what}: expected {} bytes, found {}", expected.len(), found.to_bytes().len()));
        }
        self.read(id);
        Ok(())
    }

    fn list(&mut self, what: &str, target: &Target, page: usize) -> Result<(), String> {
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        match self.model.node(id).map(|node| (node.entries().is_some(), node.nlink)) {
            Ok((true, 1..)) => self.compare_listing(what, (target, id), page, Freshness::Cached),
            // What a removed directory lists is nobody's business.
            Ok((true, 0)) | Err(_) => Ok(()),
            Ok((false, _)) => {
                let found = self.open_directory(target);
                meet(what, &[], Err::<(), _>(Refusal(vec![VfsError::NotDirectory])), found).map(|_| ())
            }
        }
    }

    fn fill_slot(&mut self, slot: u8, id: Id, file: OwnedFd) {
        self.model.pin(id);
        self.close_slot(slot);
        self.slots[slot as usize] = Some(Slot { id, file });
    }

    fn open_slot(&mut self, what: &str, target: &Target, slot: u8) -> Result<(), String> {
        let Target::Path(names) = target else { return Ok(()) };
        if names.is_empty() {
            return Ok(());
        }
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        let access = if self.model.kind(id) == Some(FileKind::Directory) { OFlags::RDONLY } else { OFlags::RDWR };
        let opened = self.open(target, id, access).map_err(|error| format!("{what}: {error:?}"))?;
        self.fill_slot(slot, id, opened);
        let found = self.stat(&Target::Slot(slot), Freshness::Cached);
        self.check_attr(what, id, &found.map_err(|error| format!("{what}: then statx: {error:?}"))?)
    }

    fn close_slot(&mut self, slot: u8) {
        if let Some(Slot { id, file }) = self.slots[slot as usize].take() {
            drop(file);
            self.model.unpin(id);
        }
    }
}
