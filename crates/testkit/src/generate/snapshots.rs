//! What befalls snapshots, and what befalls files around them.

use std::sync::Arc;

use verfs_vfs::{CopyMode, FileKind, SyncScope};

use super::{Generator, Purpose, known};
use crate::model::{Change, Who};
use crate::op::{Entry, Name, Op, SLOTS, Target};
use crate::snapshot::{SNAPSHOT_NAMES, SNAPSHOT_NAMES_GOOD, SNAPSHOT_REASONS, SnapshotName, SnapshotOp};

impl Generator {
    /// A name of a snapshot that stands, mostly.
    fn standing(&mut self) -> SnapshotName {
        let known: Vec<SnapshotName> = self.plan.model.snapshots().keys().copied().collect();
        if known.is_empty() || self.rng.chance(1, 12) {
            self.rng.below(u64::from(SNAPSHOT_NAMES)) as SnapshotName
        } else {
            *self.rng.pick(&known)
        }
    }

    /// A name that is free, mostly.
    fn free(&mut self) -> SnapshotName {
        let free: Vec<SnapshotName> =
            (0..SNAPSHOT_NAMES_GOOD).filter(|name| !self.plan.model.snapshots().contains_key(name)).collect();
        if free.is_empty() || self.rng.chance(1, 12) {
            self.rng.below(u64::from(SNAPSHOT_NAMES)) as SnapshotName
        } else {
            *self.rng.pick(&free)
        }
    }

    pub(super) fn snapshot(&mut self) -> Option<Op> {
        let reason = self.rng.below(SNAPSHOT_REASONS.len() as u64) as u8;
        let op = match self.rng.below(26) {
            0..=6 => SnapshotOp::Create(self.free()),
            7..=11 => SnapshotOp::Delete(self.standing()),
            12 => SnapshotOp::Hold(self.standing(), reason),
            13 => self.release(),
            // It is of the whole tree, which callers at once share.
            14 if self.purpose != Purpose::Threads => SnapshotOp::Rollback(self.standing()),
            14..=15 => SnapshotOp::Compare(self.standing()),
            20..=21 if self.purpose != Purpose::Threads => return self.copy_out(),
            22..=23 if self.purpose != Purpose::Threads => SnapshotOp::Diff(self.standing(), self.other()),
            24 if self.purpose != Purpose::Threads => SnapshotOp::Send(self.standing(), self.other()),
            16 => return self.several_deleted(),
            17 => return self.nameless_under_a_snapshot(),
            _ => return self.changed_around_a_snapshot(),
        };
        Some(Op::Snapshot(op))
    }

    /// Another snapshot, or none.
    fn other(&mut self) -> Option<SnapshotName> {
        if self.rng.chance(1, 2) { Some(self.standing()) } else { None }
    }

    /// Anything of a snapshot to anywhere: in its place, or where nothing is.
    fn copy_out(&mut self) -> Option<Op> {
        let snapshot = self.standing();
        let tree = self.plan.model.snapshots().get(&snapshot).map(|snapshot| Arc::clone(&snapshot.tree))?;
        let known: Vec<Vec<Name>> = tree.paths().iter().filter_map(|(path, _)| known(path)).collect();
        let from = if self.rng.chance(1, 10) { vec![self.name(), self.name()] } else { self.rng.pick(&known).clone() };
        let mode = if self.rng.chance(1, 2) { CopyMode::Replace } else { CopyMode::New };
        let to = match mode {
            CopyMode::Replace if self.rng.chance(3, 4) => from.clone(),
            CopyMode::Replace | CopyMode::New => match self.new_entry() {
                Entry { dir: Target::Path(dir), name } => {
                    let deeper = (0..self.rng.below(3)).map(|_| self.name()).collect();
                    [dir, vec![name], deeper].concat()
                }
                Entry { dir: Target::Slot(_), name } => vec![name],
            },
        };
        Some(Op::CopyOut { snapshot, from, to, mode })
    }

    /// A reason that there is, where there is one.
    fn release(&mut self) -> SnapshotOp {
        let held = self.plan.model.snapshots().iter().find_map(|(name, snapshot)| {
            snapshot.holds.iter().next().map(|reason| SnapshotOp::Release(*name, *reason))
        });
        held.unwrap_or_else(|| SnapshotOp::Release(self.standing(), 0))
    }

    /// Snapshots in quick succession, then some of them gone at once, in any order.
    fn several_deleted(&mut self) -> Option<Op> {
        for _ in 0..self.rng.between(1, 3) {
            let create = Op::Snapshot(SnapshotOp::Create(self.free()));
            self.ahead.push_back(create);
            if self.rng.chance(1, 2) {
                let change = self.change_of_extents();
                self.ahead.extend(change);
            }
        }
        for _ in 0..self.rng.between(1, 4) {
            let name = self.rng.below(u64::from(SNAPSHOT_NAMES_GOOD)) as SnapshotName;
            self.ahead.push_back(Op::Snapshot(SnapshotOp::Delete(name)));
        }
        self.ahead.pop_front()
    }

    /// A write, cut, hole or copy somewhere in a file.
    fn change_of_extents(&mut self) -> Option<Op> {
        match self.rng.below(6) {
            0 => self.change_size(),
            1 => self.allocate(),
            2 => self.copy(),
            _ => {
                let target = self.file();
                let size = self.size_of(&target);
                let offset = self.rng.below(size + 1);
                Some(self.write_to(target, offset))
            }
        }
    }

    /// A file that loses its name while it is open, is written or cut, and goes at last, with snapshots in between.
    fn nameless_under_a_snapshot(&mut self) -> Option<Op> {
        let at = self.old_entry(|kind| kind == FileKind::Regular);
        let Target::Path(dir) = &at.dir else { return None };
        let path = [dir.clone(), vec![at.name]].concat();
        let slot = self.rng.below(u64::from(SLOTS)) as u8;
        self.ahead.push_back(Op::Open { target: Target::Path(path), slot });
        for part in 0..4 {
            if self.rng.chance(1, 2) {
                let create = Op::Snapshot(SnapshotOp::Create(self.free()));
                self.ahead.push_back(create);
            }
            match part {
                0 => self.ahead.push_back(Op::Unlink { at: at.clone() }),
                1 if self.rng.chance(1, 3) => {
                    let (target, change) = (Target::Slot(slot), Change::Size(0));
                    self.ahead.push_back(Op::Change { target, change, who: Who::ROOT });
                }
                1 => {
                    let op = self.write_to(Target::Slot(slot), 100);
                    self.ahead.push_back(op);
                }
                2 if self.rng.chance(1, 3) => {
                    self.ahead.push_back(Op::Fsync { target: Target::Slot(slot), scope: SyncScope::All });
                }
                2 => {}
                _ => self.ahead.push_back(Op::Close { slot }),
            }
        }
        self.ahead.pop_front()
    }

    /// The same file changed before and after a snapshot, which then goes or stays.
    fn changed_around_a_snapshot(&mut self) -> Option<Op> {
        let before = self.change_of_extents();
        self.ahead.extend(before);
        let name = self.free();
        self.ahead.push_back(Op::Snapshot(SnapshotOp::Create(name)));
        for _ in 0..self.rng.between(1, 3) {
            let after = if self.rng.chance(1, 4) { self.unlink() } else { self.change_of_extents() };
            self.ahead.extend(after);
        }
        match self.rng.below(4) {
            0 => self.ahead.push_back(Op::Snapshot(SnapshotOp::Delete(name))),
            1 => self.ahead.push_back(Op::Sync),
            2 => self.ahead.push_back(Op::Snapshot(SnapshotOp::Compare(name))),
            _ => {}
        }
        self.ahead.pop_front()
    }
}
