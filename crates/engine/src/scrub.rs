//! Scrub of a volume: its own packs, then its vault's, at a rate that leaves the disk to those who use the volume.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use verfs_base::Clock;
use verfs_format::scrub::ScrubPass;
use verfs_store::{Pace, ScrubEnd, ScrubPosition, ScrubProgress};

use crate::activity::Activity;
use crate::{EngineError, ReadOnly, Volume};

/// How long a piece of the vault's scrub is at most: nobody can unlock or lock it meanwhile.
const VAULT_PIECE: Duration = Duration::from_millis(500);
/// Pause between two pieces, for who wants to.
const VAULT_PAUSE: Duration = Duration::from_millis(10);
/// How often whoever waits for a scrub that somebody else began is asked whether he still does.
const WAIT: Duration = Duration::from_millis(100);

/// How a volume is scrubbed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubOptions {
    /// Bytes that are read in a second at most. `None`: as fast as it goes while nobody uses the volume, and at
    /// `OpenOptions::scrub_busy_rate_bytes` while somebody does.
    pub rate_bytes: Option<u64>,
}

/// Scrub at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubStatus {
    /// Whether one runs.
    pub active: bool,
    /// How far it is, or how far one came that was stopped.
    pub running: ScrubProgress,
    /// Whether one was stopped, and can go on.
    pub interrupted: bool,
    /// The last one that saw everything.
    pub ended: Option<ScrubPass>,
    /// Why the last one failed, since the volume was opened; empty when it didn't.
    pub failure: String,
}

#[derive(Default)]
struct State {
    running: Option<ScrubProgress>,
    /// Somebody asks it to stop.
    stop: bool,
    shutdown: bool,
    /// Scrubs that ended, in whatever way.
    runs: u64,
    last: Option<(ScrubProgress, ScrubEnd)>,
    failure: String,
}

/// The one scrub of a volume.
pub(crate) struct Scrubber {
    clock: Arc<dyn Clock>,
    busy_rate_bytes: u64,
    state: Mutex<State>,
    /// Something of the state changed.
    changed: Condvar,
}

/// Who asked for a scrub, and whether he still wants it.
type Wanted<'a> = dyn FnMut(&ScrubProgress) -> ControlFlow<()> + 'a;

/// Keeps to a rate.
struct Throttle {
    rate_bytes: Option<u64>,
    activity: Activity,
    seen_bytes: u64,
    at: Duration,
}

impl Scrubber {
    pub(crate) fn new(clock: Arc<dyn Clock>, busy_rate_bytes: u64) -> Scrubber {
        Scrubber { clock, busy_rate_bytes, state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    /// Stops what runs, waits for its end, and lets none begin any more.
    pub(crate) fn shut_down(&self) {
        let mut state = self.state.lock();
        state.shutdown = true;
        self.changed.notify_all();
        while state.running.is_some() {
            self.changed.wait(&mut state);
        }
    }

    /// Whether to go on; rests first if it has to.
    fn pace(
        &self,
        volume: &Volume,
        progress: &ScrubProgress,
        throttle: &mut Throttle,
        wanted: &mut Wanted<'_>,
    ) -> Pace {
        let now = throttle.activity.look(volume.vfs(), volume.store(), &*self.clock);
        let limit = throttle.rate_bytes.or_else(|| throttle.activity.is_busy(now).then_some(self.busy_rate_bytes));
        let read = progress.tally.bytes.saturating_sub(throttle.seen_bytes);
        throttle.seen_bytes = progress.tally.bytes;
        let due = limit.map_or(0.0, |rate| read as f64 / rate.max(1) as f64);
        let end = throttle.at + Duration::from_secs_f64(due);
        loop {
            if wanted(progress).is_break() {
                return Pace::Stop;
            }
            let mut state = self.state.lock();
            state.running = Some(*progress);
            if state.stop || state.shutdown {
                return Pace::Stop;
            }
            let Some(rest) = end.checked_sub(self.clock.monotonic()).filter(|rest| !rest.is_zero()) else { break };
            self.changed.wait_for(&mut state, rest.min(WAIT));
        }
        throttle.at = self.clock.monotonic();
        Pace::Go
    }
}

impl Volume {
    /// Checks every record of every pack; returns when all were seen, or when `wanted` or [`Volume::stop_scrub`] says so.
    /// It is asked several times a second. One that was stopped goes on where it was, also in another process. When one
    /// runs already this waits for that one, whose rate stays.
    ///
    /// Damaged files are in [`Volume::stats`] then. A locked vault's records are checked as they are stored.
    ///
    /// # Errors
    /// [`EngineError::Io`], [`EngineError::Closed`]. Damage is none.
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        wanted: &mut dyn FnMut(&ScrubProgress) -> ControlFlow<()>,
    ) -> Result<(ScrubProgress, ScrubEnd), EngineError> {
        let scrubber = self.scrubber();
        {
            let mut state = scrubber.state.lock();
            self.refuse_closed()?;
            if state.shutdown {
                return Err(EngineError::Closed { path: self.path().to_path_buf() });
            }
            if state.running.is_some() {
                let runs = state.runs;
                drop(state);
                return self.join_scrub(runs, wanted);
            }
            state.running = Some(ScrubProgress::default());
            state.stop = false;
        }
        let ended = Ending { scrubber }.run(|| self.scrub_stores(options, wanted));
        let mut state = scrubber.state.lock();
        match &ended {
            Ok((progress, end)) => {
                tracing::info!(?end, ?progress.tally, "scrubbed");
                state.last = Some((*progress, *end));
                state.failure.clear();
            }
            Err(error) => {
                tracing::error!(%error, "scrub ended early");
                state.last = None;
                state.failure = error.to_string();
            }
        }
        ended
    }

    fn join_scrub(&self, runs: u64, wanted: &mut Wanted<'_>) -> Result<(ScrubProgress, ScrubEnd), EngineError> {
        let scrubber = self.scrubber();
        let mut state = scrubber.state.lock();
        while state.runs == runs {
            let progress = state.running.unwrap_or_default();
            drop(state);
            if wanted(&progress).is_break() {
                return Ok((progress, ScrubEnd::Stopped));
            }
            state = scrubber.state.lock();
            if state.runs == runs {
                scrubber.changed.wait_for(&mut state, WAIT);
            }
        }
        let failed = || EngineError::Io { path: self.path().to_path_buf(), detail: state.failure.clone() };
        state.last.ok_or_else(failed)
    }

    fn scrub_stores(
        &self,
        options: &ScrubOptions,
        wanted: &mut Wanted<'_>,
    ) -> Result<(ScrubProgress, ScrubEnd), EngineError> {
        let failed = |error| EngineError::from_store(self.path(), &error);
        let scrubber = self.scrubber();
        let position = match self.read_only() {
            ReadOnly::No => ScrubPosition::Kept,
            ReadOnly::Yes => ScrubPosition::Unkept,
        };
        let mut throttle = Throttle {
            rate_bytes: options.rate_bytes,
            activity: Activity::begin(self.vfs(), self.store(), &*scrubber.clock),
            seen_bytes: u64::MAX,
            at: scrubber.clock.monotonic(),
        };
        let record = self.store().scrub_record().map_err(failed)?;
        // One that was stopped in the vault had seen all of the volume.
        let in_vault = record.under_way.is_none() && self.vault().scrub_record()?.under_way.is_some();
        let whole = match record.ended.filter(|_| in_vault && position == ScrubPosition::Kept) {
            Some(pass) => ScrubProgress { tally: pass.tally, total_bytes: pass.tally.bytes },
            None => {
                // What follows in the vault is held off by whoever has that.
                let at_work = self.pause().work();
                let mut pace = |progress: &ScrubProgress| {
                    at_work.rest();
                    scrubber.pace(self, progress, &mut throttle, wanted)
                };
                let (progress, end) = self.store().scrub(position, &mut pace).map_err(failed)?;
                let named = self.vfs().note_damaged_chunks(&self.store().damaged());
                named.map_err(|error| EngineError::from_vfs(self.path(), error))?;
                if end == ScrubEnd::Stopped {
                    return Ok((progress, end));
                }
                progress
            }
        };
        loop {
            let begun = scrubber.clock.monotonic();
            let mut stopped = false;
            let mut pace = |progress: &ScrubProgress| {
                stopped = scrubber.pace(self, &whole.with(progress), &mut throttle, wanted) == Pace::Stop;
                let is_long = scrubber.clock.monotonic().saturating_sub(begun) >= VAULT_PIECE;
                if stopped || (is_long && position == ScrubPosition::Kept) { Pace::Stop } else { Pace::Go }
            };
            match self.vault().scrub(position, &mut pace)? {
                None => return Ok((whole, ScrubEnd::Done)),
                Some((progress, ScrubEnd::Done)) => return Ok((whole.with(&progress), ScrubEnd::Done)),
                Some((progress, ScrubEnd::Stopped)) if stopped => {
                    return Ok((whole.with(&progress), ScrubEnd::Stopped));
                }
                Some((_, ScrubEnd::Stopped)) => std::thread::sleep(VAULT_PAUSE),
            }
        }
    }

    /// Has the scrub that runs stop; it can go on later. Nothing happens when none runs.
    pub fn stop_scrub(&self) {
        let scrubber = self.scrubber();
        let mut state = scrubber.state.lock();
        if state.running.is_some() {
            state.stop = true;
            scrubber.changed.notify_all();
        }
    }

    /// Scrub at this moment, and how the last one ended.
    ///
    /// # Errors
    /// [`EngineError::Io`], [`EngineError::Closed`].
    pub fn scrub_status(&self) -> Result<ScrubStatus, EngineError> {
        self.refuse_closed()?;
        let record = self.store().scrub_record().map_err(|error| EngineError::from_store(self.path(), &error))?;
        let vault = self.vault().scrub_record()?;
        let (running, failure) = {
            let state = self.scrubber().state.lock();
            (state.running, state.failure.clone())
        };
        let ended = record.ended.map(|pass| match vault.ended.filter(|vault| vault.began >= pass.began) {
            Some(vault) => ScrubPass { seen: vault.seen, tally: pass.tally.with(&vault.tally), ..pass },
            None => pass,
        });
        let left = record.under_way.or(vault.under_way);
        let stopped = left.map(|pass| ScrubProgress { tally: pass.tally, total_bytes: 0 });
        Ok(ScrubStatus {
            active: running.is_some(),
            interrupted: running.is_none() && left.is_some(),
            running: running.or(stopped).unwrap_or_default(),
            ended,
            failure,
        })
    }
}

/// Says that a scrub has ended, however it does.
struct Ending<'a> {
    scrubber: &'a Scrubber,
}

impl Ending<'_> {
    fn run<T>(self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.scrubber.state.lock();
        state.running = None;
        state.runs += 1;
        self.scrubber.changed.notify_all();
    }
}
