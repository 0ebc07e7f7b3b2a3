//! Rollback: the live tree becomes what a snapshot has, at the cost of what changed since.
//!
//! Nothing else happens meanwhile: operations wait while the volume is frozen. Later snapshots stay as they are.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::MutexGuard;
use verfs_base::{Epoch, Ino};
use verfs_format::keys;
use verfs_meta::KeyRange;

use crate::apply::{Return, Steps};
use crate::history::ChangedKeys;
use crate::snapshots::SnapshotUse;
use crate::state::Failure;
use crate::volume::Shared;
use crate::{Context, Listing, Result, Vfs, VfsError};

/// Whether operations run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freeze {
    /// They do.
    No,
    /// They wait, while what they did before is committed.
    Draining,
    /// They wait, and so does the committer: the store's records change under them.
    Frozen,
    /// Those that change something wait, and so does the committer: somebody copies what is on the disk.
    Still,
}

/// Whether an operation changes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Intent {
    /// It looks.
    Look,
    /// It does.
    Change,
}

impl Freeze {
    /// Whether an operation has to wait.
    pub(crate) fn holds(self, intent: Intent) -> bool {
        match (self, intent) {
            (Freeze::No, _) | (Freeze::Still, Intent::Look) => false,
            (Freeze::Draining | Freeze::Frozen, _) | (Freeze::Still, Intent::Change) => true,
        }
    }
}

/// A tree that stands still: what changes it waits until this goes.
pub struct Still<'a> {
    shared: &'a Shared,
    _whole_tree: MutexGuard<'a, ()>,
}

impl std::fmt::Debug for Still<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Still").finish_non_exhaustive()
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        self.shared.thaw();
    }
}

/// What a rollback, or a stream, changed: whoever caches names or inodes must forget these.
#[derive(Debug)]
pub struct Outdated {
    /// Names that changed behind this snapshot, which keeps the lists of them; without one those in the root.
    since: Option<SnapshotUse>,
    /// Inodes that a caller keeps.
    pub inodes: Vec<Ino>,
}

/// Called with names, and the directories that they are in.
type Tell<'a> = dyn FnMut(Vec<(Ino, Bytes)>) + 'a;

/// Names that are told at once.
const TOLD_NAMES: usize = 4096;

/// A volume in which nothing begins; it goes on when this goes.
pub(crate) struct Frozen<'a>(&'a Shared);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Some of what was to be one change may be done: only opening the volume again can finish it.
            self.0.state.lock().failure.get_or_insert(Failure::Defect);
        }
        self.0.thaw();
    }
}

impl Shared {
    /// Lets nothing begin, and waits until everything done before is durable.
    pub(crate) fn freeze(&self) -> Result<Frozen<'_>> {
        self.freeze_to(Freeze::Frozen)?;
        Ok(Frozen(self))
    }

    /// The same; then it is as `end` says, until somebody thaws it.
    fn freeze_to(&self, end: Freeze) -> Result<()> {
        let mut state = self.state.lock();
        while state.freeze != Freeze::No {
            self.progress.wait(&mut state);
        }
        state.freeze = Freeze::Draining;
        loop {
            let failed = match (state.failure.as_ref(), state.stalled) {
                (Some(Failure::Store | Failure::Defect), _) => Some(VfsError::ReadOnly),
                (Some(Failure::Closed), _) => Some(VfsError::Closed),
                (None, stalled) => stalled,
            };
            if let Some(error) = failed {
                state.freeze = Freeze::No;
                self.progress.notify_all();
                return Err(error);
            }
            if state.closing.is_none() && state.open.is_empty() && state.reapable.is_empty() {
                state.freeze = end;
                self.progress.notify_all();
                return Ok(());
            }
            state.close_requested = true;
            self.work.notify_one();
            self.progress.wait(&mut state);
        }
    }

    /// Lets operations go on.
    fn thaw(&self) {
        let mut state = self.state.lock();
        state.freeze = Freeze::No;
        if state.snapshots.is_pruning() || !state.reapable.is_empty() {
            state.begin_change(self.monotonic());
        }
        self.work.notify_one();
        self.progress.notify_all();
    }

    /// Rolls the frozen volume back. The first step makes what is `beside` durable, too.
    pub(crate) fn go_back(&self, to: Epoch, beside: Option<(Bytes, Bytes)>) -> Result<()> {
        self.rolled_back.store(0, Ordering::Relaxed);
        let (standing, epoch, group) = {
            let state = self.state.lock();
            (state.snapshots.standing(), state.epoch, state.open.id)
        };
        let steps = Steps { parts: &self.parts, standing, epoch };
        let back = Return { steps, to, records: &self.rolled_back, beside };
        let rebuilt = back.run(group, self.options.change_window_bytes).and_then(|group| self.rebuild(group));
        if rebuilt.is_err() {
            // Some of it may be done: only opening the volume again can finish it.
            self.state.lock().failure = Some(Failure::Store);
        }
        self.rolled_back.store(0, Ordering::Relaxed);
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
    pub fn rollback(&self, name: &[u8]) -> Result<Outdated> {
        let shared = &self.shared;
        let _whole_tree = shared.whole_tree.lock();
        // Before anything stops for a name that isn't there.
        let to = self.use_snapshot(name)?;
        let frozen = shared.freeze()?;
        let gone_back = shared.go_back(to.id(), None);
        drop(frozen);
        gone_back?;
        Ok(self.outdated_since(Some(to)))
    }

    /// Makes everything durable, and holds whatever would change the tree, or what of it is on the disk, until the result
    /// goes. Reads go on.
    ///
    /// # Errors
    /// [`VfsError::NoSpace`], [`VfsError::ReadOnly`] after a failure of the store, [`VfsError::Closed`].
    pub fn hold_still(&self) -> Result<Still<'_>> {
        let whole_tree = self.shared.whole_tree.lock();
        self.shared.freeze_to(Freeze::Still)?;
        Ok(Still { shared: &self.shared, _whole_tree: whole_tree })
    }

    /// Records that the rollback under way looked at; 0 without one.
    #[must_use]
    pub fn rolled_back_records(&self) -> u64 {
        self.shared.rolled_back.load(Ordering::Relaxed)
    }

    /// What changed behind a snapshot, or everything, if the tree was empty.
    pub(crate) fn outdated_since(&self, since: Option<SnapshotUse>) -> Outdated {
        Outdated { since, inodes: self.kept_inodes() }
    }

    /// Tells the names that may lead elsewhere now, some at a time: there may be many.
    ///
    /// # Errors
    /// [`VfsError::Io`].
    pub fn outdated_names(&self, outdated: &Outdated, tell: &mut Tell<'_>) -> Result<()> {
        let shared = &self.shared;
        let Some(since) = &outdated.since else {
            // Of a tree that was empty nobody can know names but those.
            let mut cookie = 0;
            loop {
                let page = self.readdir(&Context::ROOT, Ino::ROOT, cookie, TOLD_NAMES, Listing::Names)?;
                let Some(last) = page.last() else { return Ok(()) };
                cookie = last.cookie;
                tell(page.into_iter().map(|entry| (Ino::ROOT, entry.name)).collect());
            }
        };
        let window_bytes = shared.options.change_window_bytes;
        let changed = ChangedKeys::new(&*shared.parts.meta, (since.id(), Epoch(u64::MAX)), window_bytes);
        let mut changed = changed.within(KeyRange::prefix(&[keys::DIRENT]));
        loop {
            let some = changed.take(TOLD_NAMES).map_err(|error| shared.meta_error(&error))?;
            if some.is_empty() {
                return Ok(());
            }
            let name_of = |key: &Bytes| {
                let (parent, _, name) = keys::parse_dirent_of(key)?;
                Some((parent, Bytes::copy_from_slice(name)))
            };
            tell(some.iter().filter_map(name_of).collect());
        }
    }

    /// Whether a caller keeps an inode: whether the kernel may have attributes of it, or names in it.
    #[must_use]
    pub fn is_kept(&self, ino: Ino) -> bool {
        ino == Ino::ROOT || self.shared.state.lock().pins.contains_key(&ino)
    }

    /// Inodes that a caller keeps: those that the kernel may have attributes of.
    #[must_use]
    pub fn kept_inodes(&self) -> Vec<Ino> {
        self.shared.state.lock().pins.keys().copied().collect()
    }
}
