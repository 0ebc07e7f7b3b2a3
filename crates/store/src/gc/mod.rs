//! Garbage collection: gives the room of blocks that no reference needs back to the disk, while the volume is in use
//! (docs/decisions/0014-garbage-collection.md).
//!
//! Lives here: choosing packs by their dead share, the list of what is dead in them (`gc/.DISCARD`), moving what is
//! needed to other packs, removing the rest. Never here: threads, clocks, when to run; the caller decides that.
//! Data flows from packs to the output pack, and record by record into the metadata, in turns between the groups'.

mod choice;
mod fate;
mod list;
mod output;
mod progress;
mod removal;
mod round;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use verfs_base::PackId;

pub use choice::Resealed;
pub(crate) use list::is_list_readable;
pub(crate) use output::sync_dir;
pub use progress::{GcEnd, GcPhase, GcProgress, Pace, Reclaimable};

use self::output::Output;
use crate::core::Core;
use crate::halt::{Halt, Step};
use crate::slot::Turn;
use crate::{ChunkStore, Result, StoreError};

/// How long it waits for its turn before it asks whether to go on.
const TURN_WAIT: Duration = Duration::from_millis(100);

/// What outlives a collection.
#[derive(Default)]
pub(crate) struct Collector {
    /// The pack that takes what is needed of others.
    output: Option<Output>,
    /// Packs that can't be collected, with the dead blocks that they had: tried again when there are more.
    left_alone: BTreeMap<PackId, u64>,
    /// Packs that no record names, whose files are to be removed.
    doomed: Vec<PackId>,
    /// Packs whose files are gone and whose keys are to be deleted.
    swept: Vec<PackId>,
}

impl Collector {
    /// A collector that has these packs to remove.
    pub(crate) fn of_doomed(doomed: Vec<PackId>) -> Collector {
        Collector { doomed, ..Collector::default() }
    }

    /// Whether files of packs are to be removed.
    pub(crate) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// The output pack takes no more blocks; whoever claims full packs next seals it.
    pub(crate) fn close_output(&mut self, core: &Core) {
        if let Some(output) = self.output.take() {
            output.abandon(core);
        }
    }
}

/// One collection.
struct Collection<'a> {
    store: &'a ChunkStore,
    core: &'a Core,
    collector: &'a mut Collector,
    dead_percent: u8,
    pace: &'a mut dyn FnMut(&GcProgress) -> Pace,
    progress: GcProgress,
    /// Packs that this collection does not try again.
    passed: BTreeSet<PackId>,
}

impl ChunkStore {
    /// Collects every sealed pack of which at least `dead_percent` percent are dead, and those without a live block,
    /// worst first, until there is none or `pace` says so. One collection at a time: a second one waits. Goes on where
    /// the last one was stopped. Needs room for what is alive in one pack.
    ///
    /// Readers and batches go on meanwhile: a batch waits for one look at some 2000 records at most.
    ///
    /// # Errors
    /// [`StoreError::OutOfSpace`] when the disk has no room even for one pack's survivors; what the disk or the metadata
    /// engine says. What was done until then stays done, and nothing is lost.
    pub fn collect(&self, dead_percent: u8, pace: &mut dyn FnMut(&GcProgress) -> Pace) -> Result<(GcProgress, GcEnd)> {
        let mut collector = self.collector.lock();
        let mut collection = Collection {
            store: self,
            core: &self.core,
            collector: &mut collector,
            dead_percent,
            pace,
            progress: GcProgress::default(),
            passed: BTreeSet::new(),
        };
        let ended = collection.rounds();
        let progress = GcProgress { phase: GcPhase::Idle, ..collection.progress };
        let tidied = collector.forget_swept(&self.core);
        match ended {
            Ok(()) => tidied.map(|()| (progress, GcEnd::Done)),
            Err(Halt::Stopped) => tidied.map(|()| (progress, GcEnd::Stopped)),
            Err(Halt::Failed(error)) => Err(error),
        }
    }
}

impl Collection<'_> {
    /// Round after round: a list of bounded length, then the packs in it.
    fn rounds(&mut self) -> Step<()> {
        self.sweep()?;
        if let Some(list) = self.unfinished_list()? {
            self.work_off(list)?;
        }
        loop {
            self.progress.phase = GcPhase::Listing;
            self.close_packs()?;
            let packs = self.choose()?;
            if packs.is_empty() {
                return Ok(());
            }
            let list = self.make_list(&packs)?;
            self.work_off(list)?;
        }
    }

    /// Asks whether to go on.
    fn breathe(&mut self) -> Step<()> {
        self.core.check_open()?;
        match (self.pace)(&self.progress) {
            Pace::Go => Ok(()),
            Pace::Stop => Err(Halt::Stopped),
        }
    }

    /// Waits for the turn: until it is dropped no batch is between its look-ups and its commit.
    /// A group whose disk is full keeps its turn until there is room, so this asks now and then whether to go on.
    fn turn(&mut self) -> Step<Turn> {
        loop {
            match self.store.slot.take_within(TURN_WAIT) {
                Some(turn) if turn.is_real() => return Ok(turn),
                Some(_) => return Err(StoreError::Closed.into()),
                None => self.breathe()?,
            }
        }
    }

    /// The pack stays as it is.
    fn leave_alone(&mut self, pack: PackId, dead_blocks: u64) {
        self.progress.packs_left += 1;
        self.passed.insert(pack);
        self.collector.left_alone.insert(pack, dead_blocks);
    }
}
