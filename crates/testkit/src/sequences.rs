//! Every short sequence of the core operations on a few files, with the power cut at every call that it makes to the
//! disk and to the metadata engine.
//!
//! This is bounded black-box crash testing: J. Mohan, A. Martinez, S. Ponnapalli, P. Raju, V. Chidambaram, "Finding
//! Crash-Consistency Bugs with Bounded Black-Box Crash Testing" (CrashMonkey and ACE), OSDI'18, which found that the
//! crash bugs of ext4, btrfs and F2FS take few operations on few files in a new file system, each followed by a point
//! of persistence. As there, a sequence runs once and is recorded; unlike there, not only what was recorded at the
//! points of persistence is crashed, but the state before every changing call, and what a crash keeps of unsynced
//! writes is chosen in every [`CrashStyle`].
//!
//! Groups close only at syncs here, so that [`History`] says exactly what may survive.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use verfs_vfs::{Allocation, FileFlags, NodeKind, RenameMode, SyncScope, VfsOptions, XattrMode};

use crate::content::Fill;
use crate::crash_case::{fresh, meaning, reopen};
use crate::disk::CrashStyle;
use crate::machine::{Machine, Settings};
use crate::model::{Change, Who};
use crate::op::{Entry, Listed, Name, Op, Target};
use crate::power::Call;
use crate::random::TestRng;
use crate::session::Step;
use crate::snapshot::SnapshotOp;
use crate::xattr::XattrValue;

const A: Name = 0;
const B: Name = 1;
const C: Name = 2;
const D: Name = 3;
const E: Name = 4;

/// Bytes of `/a/c` at the beginning: several chunks.
const LARGE_BYTES: u32 = 9000;
/// Bytes of `/a/d` at the beginning: they are kept in its metadata.
const SMALL_BYTES: u32 = 1000;

fn at(path: &[Name]) -> Target {
    Target::Path(path.to_vec())
}

fn entry(path: &[Name]) -> Entry {
    let (name, dir) = path.split_last().map_or((E, path), |(name, dir)| (*name, dir));
    Entry { dir: at(dir), name }
}

fn write(path: &[Name], offset: u64, len: u32, fill: Fill) -> Op {
    Op::Write { target: at(path), offset, len, fill, who: Who::ROOT }
}

fn change(path: &[Name], change: Change) -> Op {
    Op::Change { target: at(path), change, who: Who::ROOT }
}

fn allocate(path: &[Name], offset: u64, len: u64, how: Allocation) -> Op {
    Op::Allocate { target: at(path), offset, len, how, who: Who::ROOT }
}

fn rename(from: &[Name], to: &[Name], mode: RenameMode) -> Op {
    Op::Rename { from: entry(from), to: entry(to), mode }
}

fn make(path: &[Name]) -> Op {
    Op::Make { at: entry(path), kind: NodeKind::Regular, mode: 0o644, who: Who::ROOT }
}

fn make_dir(path: &[Name]) -> Op {
    Op::MakeDir { at: entry(path), mode: 0o755, who: Who::ROOT }
}

fn set_xattr(path: &[Name], bytes: u32) -> Op {
    let value = XattrValue::Bytes(bytes, 7);
    Op::SetXattr { target: at(path), name: 0, value, mode: XattrMode::Set, who: Who::ROOT }
}

/// The tree that every sequence begins with, durable: two directories and two files in one of them.
fn beginning() -> Vec<Op> {
    vec![
        make_dir(&[A]),
        make_dir(&[B]),
        make(&[A, C]),
        write(&[A, C], 0, LARGE_BYTES, Fill::Random(0)),
        make(&[A, D]),
        write(&[A, D], 0, SMALL_BYTES, Fill::Text(0)),
        Op::Sync,
    ]
}

/// The core operations, each with the arguments that it has in every sequence.
#[must_use]
pub fn core_operations() -> Vec<Op> {
    let append_only = FileFlags { append_only: true, ..FileFlags::default() };
    vec![
        make(&[A, E]),
        make(&[B, C]),
        make_dir(&[E]),
        make_dir(&[B, C]),
        // Overwriting, appending, leaving a hole.
        write(&[A, C], 0, 4096, Fill::Random(100_000)),
        write(&[A, C], 3000, 2000, Fill::Text(50_000)),
        write(&[A, C], u64::from(LARGE_BYTES), 3000, Fill::Random(200_000)),
        write(&[A, C], 20_000, 500, Fill::Text(70_000)),
        write(&[A, D], u64::from(SMALL_BYTES), 1500, Fill::Random(300_000)),
        write(&[A, E], 0, 5000, Fill::Random(400_000)),
        write(&[B, C], 0, 700, Fill::Text(90_000)),
        allocate(&[A, C], 4096, 8192, Allocation::Reserve),
        allocate(&[A, C], 4096, 8192, Allocation::ReserveKeepSize),
        allocate(&[A, C], 1000, 5000, Allocation::PunchHole),
        allocate(&[A, C], 4096, 8192, Allocation::Zero),
        allocate(&[A, C], 4096, 8192, Allocation::ZeroKeepSize),
        change(&[A, C], Change::Size(0)),
        change(&[A, C], Change::Size(5000)),
        change(&[A, C], Change::Size(20_000)),
        change(&[A, D], Change::Size(300)),
        Op::Copy { from: at(&[A, C]), from_offset: 0, to: at(&[A, D]), to_offset: 500, len: 6000, who: Who::ROOT },
        Op::Link { from: at(&[A, C]), at: entry(&[B, C]) },
        Op::Link { from: at(&[A, D]), at: entry(&[A, E]) },
        Op::Symlink { at: entry(&[A, E]), target_bytes: 60, who: Who::ROOT },
        Op::Unlink { at: entry(&[A, C]) },
        Op::Unlink { at: entry(&[A, D]) },
        Op::Unlink { at: entry(&[A, E]) },
        Op::RemoveDir { at: entry(&[B]) },
        // To a new name, to another directory, over a file; a directory to a new name, over one, into one.
        rename(&[A, C], &[A, E], RenameMode::Replace),
        rename(&[A, C], &[B, C], RenameMode::Replace),
        rename(&[A, C], &[A, D], RenameMode::Replace),
        rename(&[A, D], &[A, C], RenameMode::Replace),
        rename(&[A], &[E], RenameMode::Replace),
        rename(&[A], &[B], RenameMode::Replace),
        rename(&[B], &[A, E], RenameMode::Replace),
        rename(&[A, C], &[A, D], RenameMode::Exchange),
        rename(&[A], &[B], RenameMode::Exchange),
        set_xattr(&[A, C], 40),
        set_xattr(&[A], 3000),
        Op::RemoveXattr { target: at(&[A, C]), name: 0 },
        change(&[A, C], Change::Mode(0o600)),
        change(&[A], Change::Mode(0o700)),
        Op::SetFlags { target: at(&[A, D]), flags: append_only, who: Who::ROOT },
        Op::Snapshot(SnapshotOp::Create(0)),
        Op::Snapshot(SnapshotOp::Rollback(0)),
        Op::Snapshot(SnapshotOp::Delete(0)),
    ]
}

/// What may follow an operation to make it, or something else, durable.
#[must_use]
pub fn persistence_points() -> Vec<Op> {
    let fsync = |path: &[Name], scope| Op::Fsync { target: at(path), scope };
    vec![
        fsync(&[A, C], SyncScope::All),
        fsync(&[A, C], SyncScope::Data),
        fsync(&[A, D], SyncScope::All),
        fsync(&[A, E], SyncScope::All),
        fsync(&[A], SyncScope::All),
        Op::Sync,
    ]
}

/// All sequences of one length, by number. Each operation but the last may be followed by a point of persistence, and
/// the last one is.
#[derive(Clone, Debug)]
pub struct Sequences {
    operations: Vec<Op>,
    points: Vec<Op>,
    length: u32,
}

impl Sequences {
    /// Those with so many core operations.
    #[must_use]
    pub fn of_length(length: u32) -> Sequences {
        Sequences { operations: core_operations(), points: persistence_points(), length }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        let (operations, points) = (self.operations.len() as u64, self.points.len() as u64);
        (operations * (points + 1)).pow(self.length.saturating_sub(1)) * operations * points
    }

    /// The one of a number below [`Sequences::count`].
    #[must_use]
    pub fn sequence(&self, number: u64) -> Vec<Op> {
        let mut left = number;
        let mut digit = |base: usize| {
            let digit = left % base as u64;
            left /= base as u64;
            digit as usize
        };
        let mut ops = Vec::new();
        for place in 1..=self.length {
            ops.push(self.operations[digit(self.operations.len())].clone());
            if place == self.length {
                ops.push(self.points[digit(self.points.len())].clone());
            } else {
                ops.extend(digit(self.points.len() + 1).checked_sub(1).map(|point| self.points[point].clone()));
            }
        }
        ops
    }
}

/// In what manner a cut is crashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crashes {
    /// In every style.
    EveryStyle,
    /// In one, drawn by a seed.
    OneStyle,
}

/// How a volume is run that keeps what an fsync is for in the log, or commits it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FsyncPath {
    /// The intent log.
    Log,
    /// A group of its own.
    Group,
}

impl FsyncPath {
    /// Both.
    pub const BOTH: [FsyncPath; 2] = [FsyncPath::Log, FsyncPath::Group];

    fn settings(self) -> Settings {
        let log_inline_bytes = match self {
            FsyncPath::Log => 64 << 10,
            FsyncPath::Group => 0,
        };
        let mut settings = Settings::random(&mut TestRng::new(1));
        settings.vfs = VfsOptions { log_inline_bytes, prune_step: 1, ..VfsOptions::default() };
        settings.store.pack_target_bytes = 20_000;
        settings.store.compress_threads = 1;
        settings.chunk_mean_bytes = 1024;
        settings.tree = crate::machine::TreeKind::Volume;
        let mut settings = settings.quiet();
        settings.vfs.log_file_bytes = 256 << 10;
        settings
    }
}

/// The state before a changing call, and how many operations had completed.
struct Recorded {
    machine: Machine,
    completed: usize,
}

/// A sequence that is run once and crashed everywhere.
#[derive(Clone, Debug)]
pub struct SequenceCase {
    /// The operations after [`beginning`].
    pub ops: Vec<Op>,
    /// How the volume is run.
    pub path: FsyncPath,
    /// Syncs that do nothing and say that they did: a promise is broken then, and that must be noticed.
    pub pretended: Option<Call>,
}

impl fmt::Display for SequenceCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fsync by {:?}\nafter\n{}{}", self.path, Listed(&beginning()), Listed(&self.ops))
    }
}

impl SequenceCase {
    /// Runs the sequence, then crashes every state that it went through. Returns how many outcomes there were.
    ///
    /// # Errors
    /// A broken promise.
    pub fn run(&self, crashes: Crashes, seed: u64) -> Result<u64, String> {
        crate::campaign::note(format!("{seed:#x}\n{self}"));
        let (machine, mut session, mut history) = fresh(&self.path.settings(), seed)?;
        let recorded: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let completed = Arc::new(AtomicUsize::new(0));
        let begun = beginning().len();
        for (number, op) in beginning().iter().chain(&self.ops).enumerate() {
            if number == begun {
                self.pretended.into_iter().for_each(|call| machine.power().pretend(call));
                let (recorded, completed) = (Arc::clone(&recorded), Arc::clone(&completed));
                completed.store(number, Ordering::SeqCst);
                machine.record(move |machine| {
                    let completed = completed.load(Ordering::SeqCst);
                    recorded.lock().push(Recorded { machine, completed });
                });
            }
            let meaning = meaning(&session, op);
            match session.step(op).map_err(|what| format!("operation {number}: {op}: {what}"))? {
                Step::Agreed => history.completed(meaning, &session.model, session.inos()),
                Step::Failed { error, .. } => return Err(format!("operation {number}: {op}: the volume said {error}")),
            }
            completed.store(number + 1, Ordering::SeqCst);
        }
        machine.power().stop_recording();
        // What comes after this is another story; and this is the last state.
        machine.power().cut_now();
        drop(session);
        let _failed = machine.close();
        let last = Recorded { completed: begun + self.ops.len(), machine: machine.frozen() };
        let mut states = std::mem::take(&mut *recorded.lock());
        states.push(last);
        let mut rng = TestRng::new(seed);
        let mut crashed = 0;
        for (number, state) in states.iter().enumerate() {
            crate::campaign::count_crash_point();
            let history = history.cut(state.completed);
            let styles = match crashes {
                Crashes::EveryStyle => CrashStyle::ALL.to_vec(),
                Crashes::OneStyle => vec![*rng.pick(&CrashStyle::ALL)],
            };
            for style in styles {
                let mut told = String::new();
                let (machine, _survived) = reopen(&state.machine, style, &history, &mut rng.fork(), &mut told)
                    .map_err(|what| format!("cut at call {number} of {}: {what}\n{told}\n{self}", states.len() - 1))?;
                machine.close()?;
                crashed += 1;
            }
        }
        Ok(crashed)
    }
}
