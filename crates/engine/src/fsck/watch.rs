//! How far an fsck is, and whether it is still wanted: told from between the records that it looks at.
//!
//! Every check reads through a view of the metadata, so a view that counts is all it takes: the checks themselves know of
//! nobody who watches. One that is not wanted any more ends with an error of the view, and has changed nothing.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_meta::{Direction, KeyRange, MetaError, MetaView, Result, Visit};

use super::FsckStage;

/// Records between two looks at whether it is still wanted.
const TOLD_RECORDS: u64 = 16;

/// How far an fsck is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FsckProgress {
    /// What it does.
    pub stage: FsckStage,
    /// Records that this round looked at, again and again where it has to.
    pub records: u64,
    /// About how many it will look at: what the round before did, or what is to be expected of a volume like this.
    pub expected: u64,
}

/// Hears how far an fsck is, and says whether it is to go on. Called from the thread that checks.
pub type FsckWatch<'a> = dyn FnMut(&FsckProgress) -> ControlFlow<()> + Send + 'a;

/// Who watches, and what he was told.
pub(super) struct Watch<'a> {
    tell: Mutex<(&'a mut FsckWatch<'a>, FsckProgress)>,
    records: AtomicU64,
    stopped: AtomicBool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(tell: &'a mut FsckWatch<'a>) -> Watch<'a> {
        let progress = FsckProgress { stage: FsckStage::Recovering, records: 0, expected: 0 };
        Watch { tell: Mutex::new((tell, progress)), records: AtomicU64::new(0), stopped: AtomicBool::new(false) }
    }

    /// From here on it does something else, which begins at no record.
    pub(super) fn begin(&self, stage: FsckStage, expected: u64) -> ControlFlow<()> {
        let before = self.records.swap(0, Ordering::Relaxed);
        {
            let progress = &mut self.tell.lock().1;
            let is_known = matches!((progress.stage, stage), (FsckStage::Checking(_), FsckStage::Checking(_)));
            *progress = FsckProgress { stage, records: 0, expected: if is_known { before } else { expected } };
        }
        self.tell()
    }

    /// Somebody looked at a record, or wrote one.
    pub(super) fn note(&self) -> ControlFlow<()> {
        let records = self.records.fetch_add(1, Ordering::Relaxed) + 1;
        if records.is_multiple_of(TOLD_RECORDS) { self.tell() } else { self.flow() }
    }

    fn tell(&self) -> ControlFlow<()> {
        let (tell, progress) = &mut *self.tell.lock();
        progress.records = self.records.load(Ordering::Relaxed);
        if tell(progress).is_break() {
            self.stopped.store(true, Ordering::Relaxed);
        }
        self.flow()
    }

    fn flow(&self) -> ControlFlow<()> {
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Whether nobody wants the rest.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// A view whose reader is watched.
pub(super) struct WatchedView<'a, 'w> {
    pub(super) inner: Box<dyn MetaView + 'a>,
    pub(super) watch: &'a Watch<'w>,
}

impl WatchedView<'_, '_> {
    fn go_on(&self) -> Result<()> {
        // Nobody sees it: whoever ended the check is told that he did.
        if self.watch.is_stopped() { Err(MetaError::Closed) } else { Ok(()) }
    }
}

impl MetaView for WatchedView<'_, '_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let _ = self.watch.note();
        self.go_on()?;
        self.inner.get(key)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        self.go_on()?;
        self.inner.scan(range, direction, &mut |key, value| {
            self.watch.note()?;
            visit(key, value)
        })?;
        self.go_on()
    }
}
