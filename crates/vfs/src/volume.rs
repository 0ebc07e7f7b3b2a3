//! The handle of an open filesystem, and the loop that runs an operation on the state.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use verfs_base::{Clock, Disk, GroupId, Ino, Timestamp};
use verfs_chunker::Chunker;
use verfs_format::NameHash;
use verfs_meta::MetaStore;
use verfs_store::ChunkStore;

use crate::changes::Watchers;
use crate::damage::DamagedInode;
use crate::directory::Name;
use crate::intent_log::IntentLog;
use crate::read_ahead::ReadAhead;
use crate::rollback::{Freeze, Intent};
use crate::state::{Failure, Need, State, Step, Stop};
use crate::{Context, FsStat, Patience, Result, VfsError};

/// Longest name, as on every Linux filesystem.
pub(crate) const NAME_MAX_BYTES: usize = 255;
/// Largest file: offsets are signed 64-bit numbers to the kernel, and segments are numbered with 32 bits.
pub(crate) const FILE_MAX_BYTES: u64 = (1 << 52) - 1;

/// How often, and with which pauses, the last commit is tried while no more files can be opened: ten seconds.
const LAST_TRIES: u32 = 50;
const LAST_TRY_PAUSE: Duration = Duration::from_millis(200);

/// Limits of an open filesystem. Each one is a key of the configuration.
#[derive(Clone, Debug)]
pub struct VfsOptions {
    /// A group closes at so many 4 KiB blocks of dirty data.
    pub group_blocks: u32,
    /// A group closes so many milliseconds after its first change.
    pub group_interval_ms: u32,
    /// Bytes of uncommitted data and records; half is for the open group. Writers wait at the limit.
    pub dirty_limit_bytes: u64,
    /// An fsync of more bytes than this closes the group instead of writing them to the intent log.
    pub log_inline_bytes: u64,
    /// Size of each of the two intent log files.
    pub log_file_bytes: u64,
    /// Inodes in memory beside changed ones.
    pub inode_cache_entries: usize,
    /// Names in memory beside changed ones.
    pub dirent_cache_entries: usize,
    /// Extent segments in memory.
    pub segment_cache_bytes: usize,
    /// References and old records that one group gives back at most for a snapshot that is being deleted. No key of the
    /// configuration: tests make it small.
    pub prune_step: usize,
    /// Memory of what a comparison, a rollback or a stream of changes holds at once of what changed. No key of the
    /// configuration: tests make it small.
    pub change_window_bytes: usize,
    /// Owner of the root directory of a new volume.
    pub root_uid: u32,
    /// Group of the root directory of a new volume.
    pub root_gid: u32,
    /// Mode of the root directory of a new volume.
    pub root_mode: u16,
}

impl Default for VfsOptions {
    fn default() -> Self {
        VfsOptions {
            group_blocks: 3000,
            group_interval_ms: 500,
            dirty_limit_bytes: 32 << 20,
            log_inline_bytes: 1 << 20,
            log_file_bytes: 16 << 20,
            inode_cache_entries: 40 << 10,
            dirent_cache_entries: 80 << 10,
            segment_cache_bytes: 8 << 20,
            prune_step: 32 << 10,
            change_window_bytes: 16 << 20,
            root_uid: 0,
            root_gid: 0,
            root_mode: 0o755,
        }
    }
}

/// What a filesystem stands on.
pub struct VfsParts {
    /// Where the intent log lives (`log/`).
    pub disk: Arc<dyn Disk>,
    /// Records.
    pub meta: Arc<dyn MetaStore>,
    /// Chunks.
    pub store: Arc<ChunkStore>,
    /// Cuts file data into chunks.
    pub chunker: Arc<dyn Chunker>,
    /// Timestamps and intervals.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for VfsParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VfsParts").field("disk", &self.disk).field("chunker", &self.chunker).finish_non_exhaustive()
    }
}

/// Figures of an open filesystem.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VfsStats {
    /// Inodes, unlinked ones that are still to be released included.
    pub inodes: u64,
    /// Directories.
    pub directories: u64,
    /// Sizes of all regular files.
    pub logical_bytes: u64,
    /// Memory of uncommitted data and records.
    pub dirty_bytes: u64,
    /// Groups committed since the volume was opened.
    pub groups_committed: u64,
    /// Intent log frames written since the volume was opened.
    pub log_frames: u64,
    /// Contents that wait for release.
    pub orphans: u64,
    /// Inodes that a caller keeps until [`Vfs::forget`].
    pub pinned_inodes: u64,
}

/// What the thread that commits groups is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commits {
    /// Nothing.
    Idle,
    /// A group, for so long.
    Working(Duration),
    /// A group, for so long, for which the disk has no room.
    Full(Duration),
    /// A group, for so long, for which no more files can be opened.
    OutOfFiles(Duration),
    /// It could not go on, and the volume takes no more changes; or the volume is closed.
    Failed,
    /// It panicked, and the volume takes no more changes.
    Defect,
}

/// What the operations and the committer thread share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// The committer waits here for work.
    pub(crate) work: Condvar,
    /// Everyone else waits here for a group to be committed, or to fail.
    pub(crate) progress: Condvar,
    pub(crate) log: IntentLog,
    pub(crate) parts: VfsParts,
    pub(crate) options: VfsOptions,
    pub(crate) log_frames: AtomicU64,
    pub(crate) damaged: Mutex<Vec<DamagedInode>>,
    /// The latest record of the metadata that was found damaged.
    pub(crate) damaged_record: Mutex<Option<String>>,
    pub(crate) read_ahead: ReadAhead,
    /// Held by what changes the tree in one piece: a copy out of a snapshot, a rollback.
    pub(crate) whole_tree: Mutex<()>,
    /// Held by the one stream that is received.
    pub(crate) receiving: Mutex<()>,
    /// Records that the rollback under way looked at.
    pub(crate) rolled_back: AtomicU64,
    pub(crate) watchers: Watchers,
}

/// An open filesystem. Every method may be called from many threads.
pub struct Vfs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) committer: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Vfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vfs").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.parts.clock.monotonic()
    }

    /// A name in the order of its directory.
    pub(crate) fn name_of(&self, directory: Ino, bytes: Bytes) -> Name {
        Name { hash: NameHash::from_keyed(self.parts.store.name_id(directory, &bytes)), bytes }
    }

    /// Checks and hashes a name in a directory that a caller gave.
    pub(crate) fn name(&self, directory: Ino, bytes: &[u8]) -> Result<Name> {
        if bytes.len() > NAME_MAX_BYTES {
            return Err(VfsError::NameTooLong);
        }
        if bytes.is_empty() {
            return Err(VfsError::NotFound);
        }
        if bytes == b"." || bytes == b".." || bytes.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(VfsError::InvalidArgument);
        }
        Ok(self.name_of(directory, Bytes::copy_from_slice(bytes)))
    }

    /// Runs an operation that changes nothing, but access times, on the state, fetching what it needs, until it has its
    /// result.
    pub(crate) fn run<T>(&self, context: &Context, operation: impl FnMut(&mut State) -> Step<T>) -> Result<T> {
        self.run_with(context, Intent::Look, operation)
    }

    fn run_with<T>(
        &self,
        context: &Context,
        intent: Intent,
        mut operation: impl FnMut(&mut State) -> Step<T>,
    ) -> Result<T> {
        loop {
            let need = {
                let mut state = self.state.lock();
                while state.freeze.holds(intent) {
                    match context.patience {
                        Patience::Try => return Err(VfsError::WouldBlock),
                        Patience::Wait => self.progress.wait(&mut state),
                    }
                }
                match operation(&mut state) {
                    Ok(result) => {
                        self.after_operation(&mut state);
                        return Ok(result);
                    }
                    Err(Stop::Fail(error)) => return Err(error),
                    Err(Stop::Need(need)) => need,
                }
            };
            match context.patience {
                Patience::Try => return Err(VfsError::WouldBlock),
                Patience::Wait => self.fetch(need)?,
            }
        }
    }

    /// As [`Shared::run`], for an operation that changes the tree.
    pub(crate) fn run_change<T>(
        &self,
        context: &Context,
        mut operation: impl FnMut(&mut State, Timestamp) -> Step<T>,
    ) -> Result<T> {
        let now = self.now();
        self.run_with(context, Intent::Change, |state| {
            let result = operation(state, now)?;
            if state.begin_change(self.monotonic()) {
                self.work.notify_one();
            }
            Ok(result)
        })
    }

    fn after_operation(&self, state: &mut State) {
        state.trim();
        if state.is_group_full() && !state.close_requested {
            state.close_requested = true;
            self.work.notify_one();
        }
    }

    /// Waits until there is room in the open group.
    pub(crate) fn wait_for_room(&self) -> Result<()> {
        let mut state = self.state.lock();
        while matches!(state.admit(crate::state::Demand::Bytes(1)), Err(Stop::Need(Need::Room))) {
            state.close_requested = true;
            self.work.notify_one();
            self.progress.wait(&mut state);
        }
        Ok(())
    }

    /// Waits until the group that is being committed, if there is one, is.
    pub(crate) fn wait_for_commit(&self) -> Result<()> {
        let mut state = self.state.lock();
        let Some(group) = state.closing.as_ref().map(|closing| closing.group.id) else { return Ok(()) };
        while state.closing.as_ref().is_some_and(|closing| closing.group.id == group) {
            match (&state.failure, state.stalled) {
                (Some(Failure::Closed), _) => return Err(VfsError::Closed),
                (Some(Failure::Store | Failure::Defect), _) => return Err(VfsError::ReadOnly),
                (None, Some(error)) => return Err(error),
                (None, None) => self.progress.wait(&mut state),
            }
        }
        Ok(())
    }

    /// Closes the open group if it has changes, and waits until everything done before the call is committed.
    pub(crate) fn barrier(&self) -> Result<()> {
        let mut state = self.state.lock();
        let target = state.last_changed_group();
        self.wait_committed(&mut state, target)
    }

    /// As [`Shared::barrier`], when there is none after it: a lack of descriptors is waited for.
    fn last_barrier(&self) -> Result<()> {
        for _ in 0..LAST_TRIES {
            match self.barrier() {
                Err(VfsError::OutOfFiles) => std::thread::sleep(LAST_TRY_PAUSE),
                ended => return ended,
            }
        }
        self.barrier()
    }

    /// Waits until group `target` is committed; asks for it to be closed.
    pub(crate) fn wait_committed(&self, state: &mut MutexGuard<'_, State>, target: GroupId) -> Result<()> {
        while state.committed < target {
            match state.failure {
                Some(Failure::Store | Failure::Defect) => return Err(VfsError::Io),
                Some(Failure::Closed) => return Err(VfsError::Closed),
                None => {}
            }
            if let Some(error) = state.stalled {
                if error == VfsError::OutOfFiles {
                    // Whoever asks once more finds how it is then.
                    self.work.notify_one();
                }
                return Err(error);
            }
            if state.open.id == target {
                state.close_requested = true;
            }
            self.work.notify_one();
            self.progress.wait(state);
        }
        Ok(())
    }
}

impl Vfs {
    /// Room and counts.
    ///
    /// # Errors
    /// [`VfsError::Io`] when the disk can't tell.
    pub fn statfs(&self) -> Result<FsStat> {
        let space = self.shared.parts.disk.space().map_err(|_| VfsError::Io)?;
        let mut state = self.shared.state.lock();
        state.space = crate::space::SpaceGauge::new(space);
        let dirty = state.open.worst_case_bytes();
        Ok(FsStat {
            total_bytes: state.space.total_bytes(),
            available_bytes: state.space.available_bytes().saturating_sub(dirty),
            inodes: state.counters.inodes,
        })
    }

    /// Everything done before the call is committed and durable when it returns.
    ///
    /// # Errors
    /// [`VfsError::NoSpace`], [`VfsError::Io`], [`VfsError::Closed`].
    pub fn sync(&self) -> Result<()> {
        self.shared.barrier()
    }

    /// Figures, without a scan.
    pub fn stats(&self) -> VfsStats {
        let state = self.shared.state.lock();
        let closing = state.closing.as_ref().map_or(0, |closing| closing.group.memory_bytes());
        VfsStats {
            inodes: state.counters.inodes,
            directories: state.counters.directories,
            logical_bytes: state.counters.logical_bytes,
            dirty_bytes: state.open.memory_bytes() + closing,
            groups_committed: state.commits,
            log_frames: self.shared.log_frames.load(Ordering::Relaxed),
            orphans: (state.reapable.len() + state.kept.len()) as u64,
            pinned_inodes: state.pins.len() as u64,
        }
    }

    /// What the thread that commits groups is at.
    pub fn commits(&self) -> Commits {
        let state = self.shared.state.lock();
        match (&state.failure, &state.closing, state.stalled) {
            (Some(Failure::Defect), _, _) => Commits::Defect,
            (Some(Failure::Store | Failure::Closed), _, _) => Commits::Failed,
            (None, None, _) => Commits::Idle,
            (None, Some(closing), stalled) => {
                let busy = self.shared.monotonic().saturating_sub(closing.since);
                match stalled {
                    None => Commits::Working(busy),
                    Some(VfsError::OutOfFiles) => Commits::OutOfFiles(busy),
                    Some(_) => Commits::Full(busy),
                }
            }
        }
    }

    /// Commits everything, then stops. Every later call answers [`VfsError::Closed`]; a second close is no error.
    ///
    /// # Errors
    /// What the last commit said: [`VfsError::NoSpace`] or [`VfsError::Io`]; the volume is closed all the same.
    pub fn close(&self) -> Result<()> {
        let Some(committer) = self.committer.lock().take() else { return Ok(()) };
        let result = self.shared.last_barrier();
        {
            let mut state = self.shared.state.lock();
            while state.freeze != Freeze::No {
                self.shared.progress.wait(&mut state);
            }
            state.shutdown = true;
            state.failure = Some(Failure::Closed);
            self.shared.work.notify_all();
            self.shared.progress.notify_all();
        }
        self.shared.watchers.end();
        let joined = committer.join();
        self.shared.log.close();
        if joined.is_err() {
            tracing::error!("the committer thread panicked");
            return Err(VfsError::Io);
        }
        result
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the filesystem");
        }
    }
}
