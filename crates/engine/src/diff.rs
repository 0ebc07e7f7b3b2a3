//! What changed between two snapshots, for a caller who takes it piece by piece.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, select};
use parking_lot::Mutex;
use verfs_vfs::{TreeChange, VfsError};

use crate::tasks::StopSignal;
use crate::{EngineError, Volume};

/// Changes that the caller gets at once.
const BATCH_CHANGES: usize = 256;
/// Batches that are found before he asks for them.
const BATCHES_AHEAD: usize = 2;

/// A comparison under way: a thread of the volume finds changes, and waits when nobody takes them. It ends with this.
pub struct SnapshotDiff {
    batches: Receiver<Vec<TreeChange>>,
    /// How it ended; set before the last batch can have been taken.
    end: Arc<OnceLock<Result<(), VfsError>>>,
    /// The thread stops when this goes.
    wanted: Mutex<Option<Sender<Infallible>>>,
    /// What an error of it means.
    explain: Box<dyn Fn(VfsError) -> EngineError + Send + Sync>,
}

impl std::fmt::Debug for SnapshotDiff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotDiff").field("end", &self.end).finish_non_exhaustive()
    }
}

impl SnapshotDiff {
    /// The next changes, in the order of [`verfs_vfs::Vfs::diff`]; none at the end, and after [`SnapshotDiff::stop`].
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`] for a snapshot that was deleted meanwhile, [`EngineError::Closed`],
    /// [`EngineError::Io`].
    pub fn next_changes(&self) -> Result<Option<Vec<TreeChange>>, EngineError> {
        if let Ok(batch) = self.batches.recv() {
            return Ok(Some(batch));
        }
        match self.end.get() {
            Some(Ok(())) => Ok(None),
            Some(Err(error)) => Err((self.explain)(*error)),
            // It panicked.
            None => Err((self.explain)(VfsError::Io)),
        }
    }

    /// Ends it: nobody wants the rest.
    pub fn stop(&self) {
        *self.wanted.lock() = None;
    }
}

/// The finding end.
struct Finder<'a> {
    batch: Vec<TreeChange>,
    batches: Sender<Vec<TreeChange>>,
    unwanted: StopSignal,
    closing: &'a StopSignal,
    closed: bool,
}

impl Finder<'_> {
    fn found(&mut self, change: TreeChange) -> ControlFlow<()> {
        self.batch.push(change);
        if self.batch.len() < BATCH_CHANGES { ControlFlow::Continue(()) } else { self.hand_over() }
    }

    fn hand_over(&mut self) -> ControlFlow<()> {
        let batch = std::mem::take(&mut self.batch);
        select! {
            recv(self.closing) -> _ => {
                self.closed = true;
                ControlFlow::Break(())
            }
            recv(self.unwanted) -> _ => ControlFlow::Break(()),
            send(self.batches, batch) -> sent => match sent {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
        }
    }
}

impl Volume {
    /// Tells what is different in the snapshot `to`, or now, from what was in the snapshot `from`.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], [`EngineError::Usage`] when `to` is the older one, [`EngineError::Closed`].
    pub fn diff_snapshots(&self, from: &[u8], to: Option<&[u8]>) -> Result<SnapshotDiff, EngineError> {
        self.refuse_closed()?;
        let vfs = Arc::clone(self.vfs());
        let explain = {
            // Who still has a diff of a closed volume does not keep its memory.
            let vfs = Arc::downgrade(&vfs);
            let (path, from, to) = (self.path().to_path_buf(), from.to_vec(), to.map(<[u8]>::to_vec));
            let is_there = move |name: &[u8]| vfs.upgrade().is_some_and(|vfs| vfs.snapshot(name).is_ok());
            move |error| match (error, &to) {
                (VfsError::NotFound, Some(to)) if is_there(&from) => EngineError::snapshot_not_found(to),
                (VfsError::NotFound, _) => EngineError::snapshot_not_found(&from),
                (error, _) => EngineError::from_vfs(&path, error),
            }
        };
        let first = vfs.snapshot(from).map_err(&explain)?.id;
        if let Some(to) = to
            && vfs.snapshot(to).map_err(&explain)?.id < first
        {
            let (from, to) = (String::from_utf8_lossy(from), String::from_utf8_lossy(to));
            return Err(EngineError::Usage(format!("snapshot {to} is older than {from}: name the older one first")));
        }
        let (sender, batches) = crossbeam_channel::bounded(BATCHES_AHEAD);
        let (wanted, unwanted) = crossbeam_channel::bounded(0);
        let end = Arc::new(OnceLock::new());
        let (from, to, ended) = (from.to_vec(), to.map(<[u8]>::to_vec), Arc::clone(&end));
        self.start_task("verfs-diff", move |closing| {
            let mut finder = Finder { batch: Vec::new(), batches: sender, unwanted, closing, closed: false };
            let mut result = vfs.diff(&from, to.as_deref(), &mut |change| finder.found(change));
            if result.is_ok() && !finder.batch.is_empty() {
                // Whoever stops it does not want the end either.
                let _ = finder.hand_over();
            }
            if finder.closed {
                result = Err(VfsError::Closed);
            }
            // It is set once; then the sender goes.
            let _ = ended.set(result);
        })?;
        Ok(SnapshotDiff { batches, end, wanted: Mutex::new(Some(wanted)), explain: Box::new(explain) })
    }
}
