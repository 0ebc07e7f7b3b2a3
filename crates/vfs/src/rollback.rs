//! Rollback: the live tree becomes what a snapshot has, at the cost of what changed since.
//!
//! Nothing else happens meanwhile: operations wait while the volume is frozen. Later snapshots stay as they are.

use bytes::Bytes;
use verfs_base::Ino;

use crate::apply::{Return, Steps};
use crate::state::Failure;
use crate::volume::Shared;
use crate::{Result, Vfs, VfsError};
use verfs_format::keys;

/// Whether operations run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freeze {
    /// They do.
    No,
    /// They wait, while what they did before is committed.
    Draining,
    /// They wait, and so does the committer: the store's records change under them.
    Frozen,
}

/// What a rollback changed: whoever caches names or inodes must forget these.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RolledBack {
    /// Names that may lead elsewhere now, with their directories.
    pub names: Vec<(Ino, Bytes)>,
    /// Inodes that a caller keeps.
    pub inodes: Vec<Ino>,
}

impl Shared {
    /// Lets nothing begin, and waits until everything done before is durable.
    pub(crate) fn freeze(&self) -> Result<()> {
        let mut state = self.state.lock();
        while state.freeze != Freeze::No {
            self.progress.wait(&mut state);
        }
        state.freeze = Freeze::Draining;
        loop {
            let failed = match (state.failure.as_ref(), state.stalled) {
                (Some(Failure::Store), _) => Some(VfsError::ReadOnly),
                (Some(Failure::Closed), _) => Some(VfsError::Closed),
                (None, stalled) => stalled,
            };
            if let Some(error) = failed {
                state.freeze = Freeze::No;
                self.progress.notify_all();
                return Err(error);
            }
            if state.closing.is_none() && state.open.is_empty() && state.reapable.is_empty() {
                state.freeze = Freeze::Frozen;
                return Ok(());
            }
            state.close_requested = true;
            self.work.notify_one();
            self.progress.wait(&mut state);
        }
    }

    /// Lets operations go on.
    pub(crate) fn thaw(&self) {
        let mut state = self.state.lock();
        state.freeze = Freeze::No;
        if state.snapshots.is_pruning() || !state.reapable.is_empty() {
            state.begin_change(self.monotonic());
        }
        self.work.notify_one();
        self.progress.notify_all();
    }

    /// Rolls the frozen volume back.
    fn go_back(&self, name: &[u8]) -> Result<Vec<Bytes>> {
        let (to, standing, epoch, group) = {
            let state = self.state.lock();
            let to = state.snapshots.find(name, state.committed)?;
            (to, state.snapshots.standing(), state.epoch, state.open.id)
        };
        let gone_back = Return { steps: Steps { parts: &self.parts, standing, epoch }, to }.run(group);
        let rebuilt = gone_back.and_then(|(group, changed)| self.rebuild(group).map(|()| changed));
        if rebuilt.is_err() {
            // Some of it may be done: only opening the volume again can finish it.
            self.state.lock().failure = Some(Failure::Store);
        }
        rebuilt
    }
}

impl Vfs {
    /// Makes the tree what it was when the snapshot was made. Operations wait meanwhile. A crash in the middle is made
    /// up for when the volume is opened.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`]; after an error of the
    /// store the volume takes no more changes, and opening it again completes the rollback.
    pub fn rollback(&self, name: &[u8]) -> Result<RolledBack> {
        let shared = &self.shared;
        let _whole_tree = shared.whole_tree.lock();
        // Before anything stops for a name that isn't there.
        self.snapshot(name)?;
        shared.freeze()?;
        let changed = shared.go_back(name);
        shared.thaw();
        let name_of = |key: &Bytes| {
            let (parent, _, name) = keys::parse_dirent_of(key)?;
            Some((parent, Bytes::copy_from_slice(name)))
        };
        let names = changed?.iter().filter_map(name_of).collect();
        Ok(RolledBack { names, inodes: self.kept_inodes() })
    }

    /// Inodes that a caller keeps: those that the kernel may have attributes of.
    #[must_use]
    pub fn kept_inodes(&self) -> Vec<Ino> {
        self.shared.state.lock().pins.keys().copied().collect()
    }
}
