//! What programs do, several operations in a row.

use verfs_vfs::{FileFlags, FileKind, NodeKind, RenameMode, SyncScope};

use super::Generator;
use super::extras::ALLOCATIONS;
use crate::model::{Change, Who};
use crate::op::{Entry, Name, Op, SLOTS, Target};

impl Generator {
    /// What programs do, several operations in a row.
    pub(super) fn pattern(&mut self) -> Option<Op> {
        match self.rng.below(12) {
            0..=2 => self.save_by_rename(),
            3 => self.append_and_fsync(),
            4 => self.twice_the_same(),
            5 => self.write_after_unlink(),
            6..=9 => self.copy_and_sync(),
            10 => self.attributes_and_removal(),
            _ => self.freeze_and_try(),
        }
        self.ahead.pop_front()
    }

    /// Write a temporary file, rename it over the old one; with and without fsync.
    fn save_by_rename(&mut self) {
        let dir = match self.dir() {
            Target::Path(path) => path,
            Target::Slot(_) => Vec::new(),
        };
        let entry = |name: Name| Entry { dir: Target::Path(dir.clone()), name };
        let path = |name: Name| Target::Path([dir.clone(), vec![name]].concat());
        let (temp, goal) = (4 + self.rng.below(2) as Name, self.rng.below(4) as Name);
        self.ahead.push_back(Op::Make { at: entry(temp), kind: NodeKind::Regular, mode: 0o644, who: Who::ROOT });
        for _ in 0..self.rng.between(1, 3) {
            let offset = *self.rng.pick(&[0, 100, 4096]);
            let op = self.write_to(path(temp), offset);
            self.ahead.push_back(op);
        }
        if self.rng.chance(1, 3) {
            self.ahead.push_back(Op::Fsync { target: path(temp), scope: SyncScope::All });
        }
        let mode = if self.rng.chance(1, 5) { RenameMode::Exchange } else { RenameMode::Replace };
        self.ahead.push_back(Op::Rename { from: entry(temp), to: entry(goal), mode });
        if self.rng.chance(1, 3) {
            let other = self.fsync();
            self.ahead.extend(other);
        }
        if self.rng.chance(1, 3) {
            let op = self.write_to(path(goal), 10);
            self.ahead.push_back(op);
        }
        if self.rng.chance(1, 3) {
            self.ahead.push_back(Op::Fsync { target: Target::Path(dir), scope: SyncScope::All });
        }
    }

    fn append_and_fsync(&mut self) {
        let target = self.file();
        let mut size = self.size_of(&target);
        for _ in 0..self.rng.between(2, 4) {
            let op = self.write_to(target.clone(), size);
            if let Op::Write { len, .. } = &op {
                size += u64::from(*len);
            }
            self.ahead.push_back(op);
            let scope = self.scope();
            self.ahead.push_back(Op::Fsync { target: target.clone(), scope });
        }
    }

    /// The same bytes in two files: the second copy is a duplicate.
    fn twice_the_same(&mut self) {
        let (first, second) = (self.file(), self.file());
        let op = self.write_to(first, 0);
        if let Op::Write { offset, len, fill, who, .. } = &op {
            let copy = Op::Write { target: second, offset: *offset, len: *len, fill: *fill, who: *who };
            self.bytes_left = self.bytes_left.saturating_sub(u64::from(*len));
            self.ahead.push_back(copy);
        }
        self.ahead.push_back(op);
    }

    fn write_after_unlink(&mut self) {
        let at = self.old_entry(|kind| kind == FileKind::Regular);
        let Target::Path(dir) = &at.dir else { return };
        let path = [dir.clone(), vec![at.name]].concat();
        let slot = self.rng.below(u64::from(SLOTS)) as u8;
        self.ahead.push_back(Op::Open { target: Target::Path(path), slot });
        self.ahead.push_back(Op::Unlink { at });
        let op = self.write_to(Target::Slot(slot), 0);
        self.ahead.push_back(op);
        self.ahead.push_back(Op::Fsync { target: Target::Slot(slot), scope: SyncScope::All });
        self.ahead.push_back(Op::Close { slot });
    }

    /// A copy of what is committed, or dirty, or half of each; then an fsync and whatever befalls the source.
    fn copy_and_sync(&mut self) {
        let source = self.file();
        let op = self.write_to(source.clone(), 0);
        let written = if let Op::Write { len, .. } = &op { u64::from(*len) } else { 0 };
        self.ahead.push_back(op);
        match self.rng.below(4) {
            0 => self.ahead.push_back(Op::Sync),
            1 => self.ahead.push_back(Op::Fsync { target: source.clone(), scope: SyncScope::Data }),
            2 => {
                self.ahead.push_back(Op::Sync);
                let offset = self.rng.below(written.max(1));
                let op = self.write_to(source.clone(), offset);
                self.ahead.push_back(op);
            }
            _ => {}
        }
        let target = if self.rng.chance(1, 4) { source.clone() } else { self.file() };
        let from_offset = *self.rng.pick(&[0, 0, 1, written / 2]);
        let to_offset = *self.rng.pick(&[0, written, 2 * written, 4096, (1 << 20) - 7]);
        let (from, who) = (source.clone(), self.who());
        let len = written + self.rng.below(3) * 1000;
        self.ahead.push_back(Op::Copy { from, from_offset, to: target.clone(), to_offset, len, who });
        match self.rng.below(4) {
            0 => {
                let op = self.write_to(source, 0);
                self.ahead.push_back(op);
            }
            1 => self.ahead.push_back(Op::Change { target: source, change: Change::Size(0), who: Who::ROOT }),
            2 => {
                let op = self.write_to(target.clone(), to_offset + written / 2);
                self.ahead.push_back(op);
            }
            _ => {}
        }
        if self.rng.chance(2, 3) {
            let scope = self.scope();
            self.ahead.push_back(Op::Fsync { target, scope });
        }
    }

    /// Attributes of a file that loses them, its name, or both, perhaps between two commits.
    fn attributes_and_removal(&mut self) {
        let at = self.old_entry(|kind| kind == FileKind::Regular);
        let Target::Path(dir) = &at.dir else { return };
        let target = Target::Path([dir.clone(), vec![at.name]].concat());
        let (name, who) = (self.rng.below(2) as u8, Who::ROOT);
        let value = crate::xattr::XattrValue::Bytes(self.rng.below(300) as u32, 0x61);
        let mode = verfs_vfs::XattrMode::Set;
        self.ahead.push_back(Op::SetXattr { target: target.clone(), name, value, mode, who });
        if self.rng.chance(2, 3) {
            self.ahead.push_back(Op::Sync);
        }
        self.ahead.push_back(Op::RemoveXattr { target: target.clone(), name });
        if self.rng.chance(1, 3) {
            self.ahead.push_back(Op::Fsync { target, scope: SyncScope::All });
        }
        if self.rng.chance(2, 3) {
            self.ahead.push_back(Op::Unlink { at });
        }
        if self.rng.chance(1, 2) {
            let other = self.fsync();
            self.ahead.extend(other);
        }
    }

    /// What an immutable or append-only inode refuses.
    fn freeze_and_try(&mut self) {
        let at = self.old_entry(|kind| matches!(kind, FileKind::Regular | FileKind::Directory));
        let Target::Path(dir) = &at.dir else { return };
        let target = Target::Path([dir.clone(), vec![at.name]].concat());
        let immutable = self.rng.chance(1, 2);
        let flags = FileFlags { immutable, append_only: !immutable, ..FileFlags::default() };
        self.ahead.push_back(Op::SetFlags { target: target.clone(), flags, who: Who::ROOT });
        let size = self.size_of(&target);
        for _ in 0..self.rng.between(1, 4) {
            let (who, copied) = (self.who(), self.file());
            let inside = Entry { dir: target.clone(), name: self.name() };
            let op = match self.rng.below(12) {
                0 => self.write_to(target.clone(), 0),
                1 => self.write_to(target.clone(), size),
                2 => Op::Change { target: target.clone(), change: Change::Mode(0o640), who },
                3 => Op::Change { target: target.clone(), change: Change::Size(0), who },
                4 => Op::Unlink { at: at.clone() },
                5 => Op::Link { from: target.clone(), at: self.new_entry() },
                6 => Op::Rename { from: at.clone(), to: self.new_entry(), mode: RenameMode::Replace },
                7 => Op::Rename { from: self.old_entry(|_| true), to: at.clone(), mode: RenameMode::Exchange },
                8 => Op::MakeDir { at: inside, mode: 0o755, who },
                9 => Op::Copy { from: copied, from_offset: 0, to: target.clone(), to_offset: size, len: 5000, who },
                10 => Op::Unlink { at: inside },
                _ => Op::Allocate {
                    target: target.clone(),
                    offset: 0,
                    len: 5000,
                    how: *self.rng.pick(&ALLOCATIONS),
                    who,
                },
            };
            self.ahead.push_back(op);
        }
        if self.rng.chance(5, 6) {
            self.ahead.push_back(Op::SetFlags { target, flags: FileFlags::default(), who: Who::ROOT });
        }
    }
}
