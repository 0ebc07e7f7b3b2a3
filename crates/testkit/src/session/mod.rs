//! Runs operations on a volume and on the model at once, and says where they differ.
//!
//! Lives here: one caller's view of a volume. Never here: which operations to run, and what a crash may leave.
//! Data flows from an [`Op`] into both, and from both into a comparison.

mod compare;
mod extents;
mod listing;
mod snapshots;
mod step;
mod xattrs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use verfs_base::{Ino, Timestamp};
use verfs_vfs::{Context, Patience, Pin, Vfs, VfsError};

pub(crate) use self::compare::{Blocks, attribute_difference, size_difference};
pub(crate) use self::extents::walk_extents;
use self::listing::Cursor;
pub(crate) use self::snapshots::{Caller, check_snapshots};
pub(crate) use self::xattrs::extras_difference;
use crate::model::{Answer, Id, Model, ROOT, Who};
use crate::op::{CURSORS, SLOTS};

/// Where the volume lives: what a session can't do through the volume itself.
pub trait Host: Send + Sync {
    /// The mounted volume.
    fn vfs(&self) -> Arc<Vfs>;
    /// The volume's clock.
    fn now(&self) -> Timestamp;
    /// Moves the volume's clock.
    fn advance(&self, by: Duration);
    /// Closes the volume and opens it again.
    ///
    /// # Errors
    /// What went wrong.
    fn remount(&self) -> Result<(), Stop>;
    /// Collects garbage; see [`crate::op::Op::Collect`].
    ///
    /// # Errors
    /// What went wrong.
    fn collect(&self, dead_percent: u8, pieces: u8) -> Result<(), Stop>;
}

/// Why an operation did not end as the model says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The volume broke the rules.
    Diverged(String),
    /// The disk broke, or is full, or the power is gone: the volume says so, and the model knows nothing of it.
    Environment(VfsError),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Diverged(what) => f.write_str(what),
            Stop::Environment(error) => write!(f, "the volume failed: {error}"),
        }
    }
}

/// How an operation ended.
#[derive(Debug)]
pub enum Step {
    /// As the model says; the model has moved on.
    Agreed,
    /// The volume failed for reasons of its environment. The model stands where it stood; `after` is where it would
    /// be, had the operation been done.
    Failed {
        /// What the volume said.
        error: VfsError,
        /// The model after the operation.
        after: Box<Model>,
    },
}

/// Which timestamps a comparison looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clockwork {
    /// The session alone moves the clock: times are known.
    Exact,
    /// Others move it too: times are only told to the model.
    Shared,
}

/// A caller with its model.
pub struct Session {
    host: Arc<dyn Host>,
    vfs: Arc<Vfs>,
    /// What the tree must be.
    pub model: Model,
    inos: BTreeMap<Id, Ino>,
    used: BTreeSet<Ino>,
    slots: [Option<Id>; SLOTS as usize],
    cursors: [Option<Cursor>; CURSORS as usize],
    clockwork: Clockwork,
    blocks: Blocks,
    steps: u64,
}

fn environment(error: VfsError) -> bool {
    match error {
        VfsError::NoSpace | VfsError::OutOfFiles | VfsError::ReadOnly | VfsError::Io | VfsError::Closed => true,
        VfsError::WouldBlock
        | VfsError::NotFound
        | VfsError::Exists
        | VfsError::NotDirectory
        | VfsError::IsDirectory
        | VfsError::NotEmpty
        | VfsError::NotPermitted
        | VfsError::Denied
        | VfsError::NoAttribute
        | VfsError::Unsupported
        | VfsError::NoSuchOffset
        | VfsError::NoRoom
        | VfsError::InvalidArgument
        | VfsError::NameTooLong
        | VfsError::TooManyLinks
        | VfsError::FileTooLarge
        | VfsError::Busy
        | VfsError::Stale
        | VfsError::Overflow
        | VfsError::Interrupted => false,
    }
}

/// Holds an answer of the volume against the model's: both when both succeed, `None` when both refuse alike.
fn meet<T, U>(what: &str, model: Answer<T>, volume: verfs_vfs::Result<U>) -> Result<Option<(T, U)>, Stop> {
    match (model, volume) {
        (Ok(expected), Ok(found)) => Ok(Some((expected, found))),
        (Err(refusal), Err(error)) if refusal.0.contains(&error) => Ok(None),
        (_, Err(error)) if environment(error) => Err(Stop::Environment(error)),
        (Err(refusal), Err(error)) => {
            Err(Stop::Diverged(format!("{what}: expected one of {:?}, the volume said {error:?}", refusal.0)))
        }
        (Ok(_), Err(error)) => Err(Stop::Diverged(format!("{what}: expected success, the volume said {error:?}"))),
        (Err(refusal), Ok(_)) => {
            Err(Stop::Diverged(format!("{what}: expected one of {:?}, the volume succeeded", refusal.0)))
        }
    }
}

/// Holds an answer against the model's where success is expected.
fn demand<T>(what: &str, volume: verfs_vfs::Result<T>) -> Result<T, Stop> {
    match volume {
        Ok(found) => Ok(found),
        Err(error) if environment(error) => Err(Stop::Environment(error)),
        Err(error) => Err(Stop::Diverged(format!("{what}: expected success, the volume said {error:?}"))),
    }
}

impl Session {
    /// A session over the subtree at `root`, which `model` describes; `inos` says which inode is which.
    #[must_use]
    pub fn new(host: Arc<dyn Host>, model: Model, inos: BTreeMap<Id, Ino>, clockwork: Clockwork) -> Self {
        let used = inos.values().copied().collect();
        let vfs = host.vfs();
        let slots = [None; SLOTS as usize];
        let cursors = [const { None }; CURSORS as usize];
        Session { host, vfs, model, inos, used, slots, cursors, clockwork, blocks: Blocks::Bound, steps: 0 }
    }

    /// A session over an empty directory of the volume.
    ///
    /// # Errors
    /// The volume refused to say what the directory is.
    pub fn over_empty(host: Arc<dyn Host>, root: Ino, clockwork: Clockwork) -> Result<Self, Stop> {
        let attr = demand("getattr of the root", host.vfs().getattr(&Context::ROOT, root))?;
        let model = Model::new(attr.btime, attr.mode);
        let mut session = Session::new(host, model, BTreeMap::from([(ROOT, root)]), clockwork);
        session.adopt_times(ROOT, &attr);
        Ok(session)
    }

    /// Which inode of the volume is which of the model.
    #[must_use]
    pub fn inos(&self) -> &BTreeMap<Id, Ino> {
        &self.inos
    }

    /// The inode of a target, as the model has it.
    #[must_use]
    pub fn target(&self, target: &crate::op::Target) -> Option<Id> {
        match target {
            crate::op::Target::Path(path) => crate::plan::find(&self.model, path),
            crate::op::Target::Slot(slot) => self.slots[*slot as usize],
        }
    }

    /// After a failed step: finds out whether it was done or not, by looking. `after` is what the step said.
    ///
    /// # Errors
    /// The volume shows neither state, or can't be read.
    pub fn settle(&mut self, after: Model) -> Result<(), Stop> {
        let before = self.model.clone();
        let mut differences = Vec::new();
        for candidate in [before, after] {
            self.model = candidate;
            let known = self.inos.clone();
            match self.learn_inos().and_then(|()| self.compare_tree("after a failed operation")) {
                Ok(()) => return Ok(()),
                Err(Stop::Diverged(difference)) => differences.push(difference),
                Err(stop) => return Err(stop),
            }
            self.inos = known;
        }
        Err(Stop::Diverged(format!("neither done nor undone: {}", differences.join("; "))))
    }

    /// Looks up the inodes that an operation made before it failed.
    fn learn_inos(&mut self) -> Result<(), Stop> {
        for (path, id) in self.model.paths() {
            if self.inos.contains_key(&id) {
                continue;
            }
            let Some((name, way)) = path.split_last() else { continue };
            let parent = way.iter().try_fold(ROOT, |at, name| self.model.lookup(at, name).ok());
            let parent = self.ino(parent.unwrap_or(ROOT))?;
            let found = self.vfs.lookup(&Context::ROOT, parent, name);
            let attr = demand("lookup of what a failed operation may have made", found)?;
            self.inos.insert(id, attr.ino);
            self.used.insert(attr.ino);
        }
        Ok(())
    }

    fn ino(&self, id: Id) -> Result<Ino, Stop> {
        self.inos.get(&id).copied().ok_or_else(|| Stop::Diverged(format!("inode #{} was never seen", id.0)))
    }

    /// Asks the volume, every other time without patience first, as the FUSE leader thread does.
    fn ask<T>(&self, who: Who, pin: Pin, ask: impl Fn(&Context) -> verfs_vfs::Result<T>) -> verfs_vfs::Result<T> {
        let context = Context { uid: who.uid, gid: who.gid, umask: who.umask, pin, ..Context::ROOT };
        if self.steps.is_multiple_of(2) {
            match ask(&Context { patience: Patience::Try, ..context }) {
                Err(VfsError::WouldBlock) => {}
                answer => return answer,
            }
        }
        ask(&context)
    }
}
