//! Random operations that make sense most of the time.

mod extras;
mod patterns;
mod snapshots;

use std::collections::VecDeque;

use verfs_base::Timestamp;
use verfs_vfs::{FileKind, NodeKind, RenameMode, SetTime, SyncScope};

use crate::content::{FILL_START_MAX, Fill, WRITE_MAX_BYTES};
use crate::model::{Change, Model, Who};
use crate::op::{CURSORS, Entry, NAME_TOO_LONG, NAMES, Name, Op, SLOTS, Target};
use crate::plan::Plan;
use crate::random::TestRng;

/// What a sequence is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Every operation, every range, remounts.
    Model,
    /// Small trees and files, many syncs, renames over files: what a crash can tell apart.
    Crash,
    /// As for a crash, with larger data.
    Fault,
    /// As for a crash, by several callers at once: nobody remounts.
    Threads,
}

/// Sizes and offsets at which something in the volume begins or ends.
const EDGES: [u64; 24] = [
    0,
    1,
    511,
    512,
    513,
    2047,
    2048,
    2049,
    4095,
    4096,
    4097,
    8191,
    8192,
    32 << 10,
    (32 << 10) + 1,
    (64 << 10) - 1,
    64 << 10,
    (128 << 10) + 1,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    (2 << 20) - 1,
    2 << 20,
    (2 << 20) + 1,
];

/// Offsets that only sparse files have.
const FAR: [u64; 4] = [(4 << 30) - 1, 4 << 30, (5 << 30) + 123, (1 << 40) + 4096];

/// Fill positions that are used again and again: duplicates.
const POPULAR: [u32; 3] = [0, 4096, 77_777];

/// A path in the names that operations have.
fn known(path: &[Vec<u8>]) -> Option<Vec<Name>> {
    path.iter().map(|name| NAMES.iter().position(|known| known == name).map(|at| at as Name)).collect()
}

/// Makes the operations of one sequence.
pub struct Generator {
    rng: TestRng,
    plan: Plan,
    purpose: Purpose,
    ahead: VecDeque<Op>,
    bytes_left: u64,
    /// How often something befalls a snapshot: in half of the sequences nothing does.
    snapshots: u32,
}

impl Generator {
    /// Operations that start from `model`. `bytes` bounds what they write together.
    #[must_use]
    pub fn new(rng: TestRng, model: Model, purpose: Purpose, bytes: u64) -> Self {
        let mut rng = rng;
        let snapshots = *rng.pick(&[0, 0, 12, 30]);
        Generator { rng, plan: Plan::new(model), purpose, ahead: VecDeque::new(), bytes_left: bytes, snapshots }
    }

    /// The next so many operations.
    pub fn sequence(&mut self, len: usize) -> Vec<Op> {
        (0..len).map(|_| self.next_op()).collect()
    }

    fn next_op(&mut self) -> Op {
        let op = loop {
            if let Some(op) = self.ahead.pop_front() {
                break op;
            }
            if let Some(op) = self.invent() {
                break op;
            }
        };
        self.plan.apply(&op);
        op
    }

    fn invent(&mut self) -> Option<Op> {
        type Maker = fn(&mut Generator) -> Option<Op>;
        let often = |model: u32, crash: u32| match self.purpose {
            Purpose::Model => model,
            Purpose::Crash | Purpose::Fault | Purpose::Threads => crash,
        };
        let choices: [(u32, Maker); 35] = [
            (often(12, 10), Self::make),
            (often(6, 4), Self::create),
            (often(8, 6), Self::make_dir),
            (often(3, 2), Self::symlink),
            (often(5, 5), Self::link),
            (often(9, 8), Self::unlink),
            (often(4, 3), Self::remove_dir),
            (often(14, 14), Self::rename),
            (often(4, 4), Self::change_mode),
            (often(3, 2), Self::change_owner),
            (often(9, 8), Self::change_size),
            (often(3, 1), Self::change_times),
            (often(30, 24), Self::write),
            (often(10, 1), Self::read),
            (often(2, 0), Self::read_link),
            (often(2, 0), Self::stat),
            (often(3, 0), Self::list),
            (often(6, 0), Self::list_on),
            (often(6, 3), Self::open),
            (often(4, 2), Self::close),
            (often(5, 14), Self::fsync),
            (often(2, 3), |_| Some(Op::Sync)),
            (often(3, 4), Self::collect),
            (often(1, 1), Self::rare),
            (often(3, 12), Self::pattern),
            (often(8, 6), Self::set_xattr),
            (often(2, 2), Self::set_acl),
            (often(3, 2), Self::remove_xattr),
            (often(3, 0), Self::get_xattr),
            (often(1, 0), Self::list_xattr),
            (often(3, 2), Self::set_flags),
            (often(7, 7), Self::allocate),
            (often(5, 1), Self::seek),
            (often(10, 12), Self::copy),
            (self.snapshots, Self::snapshot),
        ];
        let maker = self.rng.weighted(&choices);
        maker(self)
    }

    fn name(&mut self) -> Name {
        match self.rng.below(100) {
            0 => NAME_TOO_LONG,
            1..=4 => 7,
            5..=9 => 6,
            _ => self.rng.below(6) as Name,
        }
    }

    /// Paths of inodes that fit; the root only where it is asked for.
    fn paths(&self, fits: impl Fn(FileKind) -> bool) -> Vec<Vec<Name>> {
        (self.plan.model.paths().iter())
            .filter(|(_, id)| self.plan.model.kind(*id).is_some_and(&fits))
            .filter_map(|(path, _)| known(path))
            .collect()
    }

    fn target_of(&mut self, fits: impl Fn(FileKind) -> bool) -> Target {
        if self.rng.chance(1, 30) {
            let depth = self.rng.between(1, 3);
            return Target::Path((0..depth).map(|_| self.name()).collect());
        }
        if self.rng.chance(1, 6) {
            let slot = self.rng.below(u64::from(SLOTS)) as u8;
            let fitting = self.plan.slot(slot).and_then(|id| self.plan.model.kind(id)).is_some_and(&fits);
            if fitting {
                return Target::Slot(slot);
            }
        }
        let paths = if self.rng.chance(1, 40) { self.paths(|_| true) } else { self.paths(fits) };
        if paths.is_empty() { Target::Path(vec![self.name()]) } else { Target::Path(self.rng.pick(&paths).clone()) }
    }

    fn file(&mut self) -> Target {
        self.target_of(|kind| kind == FileKind::Regular)
    }

    fn dir(&mut self) -> Target {
        let deep = self.rng.chance(1, 20);
        match self.target_of(|kind| kind == FileKind::Directory) {
            Target::Path(path) if path.len() > 3 && !deep => Target::Path(path[..2].to_vec()),
            target => target,
        }
    }

    fn new_entry(&mut self) -> Entry {
        Entry { dir: self.dir(), name: self.name() }
    }

    /// The name of something that exists, most likely.
    fn old_entry(&mut self, fits: impl Fn(FileKind) -> bool) -> Entry {
        match self.target_of(fits) {
            Target::Path(mut path) => match path.pop() {
                Some(name) => Entry { dir: Target::Path(path), name },
                None => self.new_entry(),
            },
            Target::Slot(_) => self.new_entry(),
        }
    }

    fn who(&mut self) -> Who {
        if self.rng.chance(1, 4) { Who::USER } else { Who::ROOT }
    }

    /// Somebody who makes something.
    fn maker(&mut self) -> Who {
        let umask = *self.rng.pick(&[0, 0, 0o022, 0o077, 0o777]);
        Who { umask, ..self.who() }
    }

    fn file_mode(&mut self) -> u16 {
        *self.rng.pick(&[0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6711, 0o2644, 0o1777, 0])
    }

    fn dir_mode(&mut self) -> u16 {
        *self.rng.pick(&[0o755, 0o700, 0o1777])
    }

    fn make(&mut self) -> Option<Op> {
        let kind = match self.rng.below(20) {
            0 => NodeKind::Fifo,
            1 => NodeKind::Socket,
            2 => NodeKind::CharDevice(0x0103),
            3 => NodeKind::BlockDevice(0x0801),
            _ => NodeKind::Regular,
        };
        Some(Op::Make { at: self.new_entry(), kind, mode: self.file_mode(), who: self.maker() })
    }

    fn create(&mut self) -> Option<Op> {
        let slot = self.rng.below(u64::from(SLOTS)) as u8;
        Some(Op::Create { at: self.new_entry(), mode: self.file_mode(), who: self.maker(), slot })
    }

    fn make_dir(&mut self) -> Option<Op> {
        Some(Op::MakeDir { at: self.new_entry(), mode: self.dir_mode(), who: self.maker() })
    }

    fn symlink(&mut self) -> Option<Op> {
        let target_bytes = *self.rng.pick(&[1, 9, 60, 255, 2048, 4095, 4096, 0]);
        Some(Op::Symlink { at: self.new_entry(), target_bytes, who: self.who() })
    }

    fn link(&mut self) -> Option<Op> {
        let from = self.target_of(|kind| kind != FileKind::Directory);
        Some(Op::Link { from, at: self.new_entry() })
    }

    fn unlink(&mut self) -> Option<Op> {
        Some(Op::Unlink { at: self.old_entry(|kind| kind != FileKind::Directory) })
    }

    fn remove_dir(&mut self) -> Option<Op> {
        Some(Op::RemoveDir { at: self.old_entry(|kind| kind == FileKind::Directory) })
    }

    fn rename(&mut self) -> Option<Op> {
        let modes = [(6, RenameMode::Replace), (2, RenameMode::NoReplace), (2, RenameMode::Exchange)];
        let mode = self.rng.weighted(&modes);
        let from = self.old_entry(|_| true);
        let to = match mode {
            RenameMode::Replace if self.rng.chance(1, 2) => self.old_entry(|_| true),
            RenameMode::Exchange => self.old_entry(|_| true),
            RenameMode::Replace | RenameMode::NoReplace => self.new_entry(),
        };
        Some(Op::Rename { from, to, mode })
    }

    fn change_mode(&mut self) -> Option<Op> {
        let target = self.target_of(|kind| kind != FileKind::Symlink);
        let is_link = self.plan.target(&target).and_then(|id| self.plan.model.kind(id)) == Some(FileKind::Symlink);
        let mode = *self.rng.pick(&[0o644, 0o755, 0o4755, 0o2755, 0o6755, 0o2775, 0o2777, 0]);
        (!is_link).then_some(Op::Change { target, change: Change::Mode(mode), who: Who::ROOT })
    }

    fn change_owner(&mut self) -> Option<Op> {
        let target = self.target_of(|_| true);
        let uid = self.rng.chance(2, 3).then_some(*self.rng.pick(&[0, 1000, 77]));
        let gid = self.rng.chance(2, 3).then_some(*self.rng.pick(&[0, 1000, 88]));
        Some(Op::Change { target, change: Change::Owner { uid, gid }, who: self.who() })
    }

    fn size_of(&self, target: &Target) -> u64 {
        self.plan.target(target).and_then(|id| self.plan.model.node(id).ok()).map_or(0, crate::model::Node::size)
    }

    fn is_small(&self) -> bool {
        matches!(self.purpose, Purpose::Crash | Purpose::Threads)
    }

    /// An offset: an edge, near the file's end, or anywhere.
    fn offset(&mut self, size: u64) -> u64 {
        let far = self.purpose == Purpose::Model;
        let small_edges = if self.is_small() { 14 } else { EDGES.len() };
        match self.rng.below(40) {
            0..=13 => *self.rng.pick(&EDGES[..small_edges]),
            14..=22 => size.saturating_add(self.rng.below(3)).saturating_sub(1),
            23..=26 => size / 2,
            27 if far => *self.rng.pick(&FAR),
            28 if self.rng.chance(1, 8) => *self.rng.pick(&[(1 << 52) - 1, 1 << 52, u64::MAX - 5]),
            _ => {
                let most = (size + 9000).min(3 << 20);
                self.rng.below(most)
            }
        }
    }

    fn change_size(&mut self) -> Option<Op> {
        let target = self.file();
        let size = self.size_of(&target);
        let new = if self.rng.chance(1, 5) { 0 } else { self.offset(size) };
        Some(Op::Change { target, change: Change::Size(new), who: self.who() })
    }

    fn change_times(&mut self) -> Option<Op> {
        let time = |rng: &mut TestRng| match rng.below(4) {
            0 => None,
            1 => Some(SetTime::Now),
            2 => Some(SetTime::At(Timestamp { seconds: -5, nanos: 999_999_999 })),
            _ => Some(SetTime::At(Timestamp { seconds: 7_000_000_000, nanos: rng.below(1_000_000_000) as u32 })),
        };
        let (access, modification) = (time(&mut self.rng), time(&mut self.rng));
        let target = self.target_of(|_| true);
        Some(Op::Change { target, change: Change::Times { access, modification }, who: Who::ROOT })
    }

    fn len(&mut self) -> u32 {
        let crash = self.is_small();
        let len = match self.rng.below(40) {
            0 => 0,
            1..=9 => self.rng.between(1, 64),
            10..=18 => *self.rng.pick(&EDGES[..15]),
            19..=21 if !crash => *self.rng.pick(&EDGES),
            22 if !crash => self.rng.between(1, WRITE_MAX_BYTES as u64),
            23..=30 => self.rng.between(1, 40_000),
            _ => self.rng.between(1, 6000),
        };
        len.min(self.bytes_left).min(WRITE_MAX_BYTES as u64) as u32
    }

    fn fill(&mut self) -> Fill {
        let start = if self.rng.chance(1, 4) {
            *self.rng.pick(&POPULAR)
        } else {
            self.rng.below(u64::from(FILL_START_MAX)) as u32
        };
        match self.rng.below(10) {
            0 => Fill::Zero,
            1..=4 => Fill::Text(start),
            _ => Fill::Random(start),
        }
    }

    fn write_to(&mut self, target: Target, offset: u64) -> Op {
        let len = self.len();
        self.bytes_left -= u64::from(len);
        Op::Write { target, offset, len, fill: self.fill(), who: self.who() }
    }

    fn write(&mut self) -> Option<Op> {
        let target = self.file();
        let size = self.size_of(&target);
        let offset = self.offset(size);
        Some(self.write_to(target, offset))
    }

    fn read(&mut self) -> Option<Op> {
        let target = self.file();
        let size = self.size_of(&target);
        let len = *self.rng.pick(&[0, 1, 100, 4096, 5000, 65_536, 131_072, 1 << 20]);
        Some(Op::Read { offset: self.offset(size), target, len })
    }

    fn read_link(&mut self) -> Option<Op> {
        Some(Op::ReadLink { target: self.target_of(|kind| kind == FileKind::Symlink) })
    }

    fn stat(&mut self) -> Option<Op> {
        Some(Op::Stat { target: self.target_of(|_| true) })
    }

    fn list(&mut self) -> Option<Op> {
        Some(Op::List { target: self.dir(), page: self.rng.between(1, 6) as u8 })
    }

    fn list_on(&mut self) -> Option<Op> {
        let cursor = self.rng.below(u64::from(CURSORS)) as u8;
        if self.rng.chance(1, 4) {
            Some(Op::ListBegin { target: self.dir(), cursor })
        } else {
            Some(Op::ListNext { cursor, count: self.rng.between(1, 4) as u8 })
        }
    }

    fn open(&mut self) -> Option<Op> {
        let slot = self.rng.below(u64::from(SLOTS)) as u8;
        let target = if self.rng.chance(1, 5) { self.dir() } else { self.file() };
        matches!(&target, Target::Path(path) if !path.is_empty()).then_some(Op::Open { target, slot })
    }

    fn close(&mut self) -> Option<Op> {
        Some(Op::Close { slot: self.rng.below(u64::from(SLOTS)) as u8 })
    }

    fn scope(&mut self) -> SyncScope {
        if self.rng.chance(1, 2) { SyncScope::Data } else { SyncScope::All }
    }

    fn fsync(&mut self) -> Option<Op> {
        let target = if self.rng.chance(1, 4) { self.dir() } else { self.file() };
        Some(Op::Fsync { target, scope: self.scope() })
    }

    fn collect(&mut self) -> Option<Op> {
        let pieces = if self.rng.chance(1, 4) { self.rng.below(20) as u8 } else { u8::MAX };
        Some(Op::Collect { dead_percent: self.rng.below(101) as u8, pieces })
    }

    fn rare(&mut self) -> Option<Op> {
        match self.rng.below(3) {
            0 => Some(Op::Pause { millis: self.rng.between(1, 4) as u8 }),
            1 if self.purpose != Purpose::Threads => Some(Op::Remount),
            _ => Some(Op::Change { target: self.file(), change: Change::Nothing, who: Who::ROOT }),
        }
    }
}
