//! When garbage is collected, and how fast. One thread waits for its time: the volume is idle, much of it is dead, the
//! disk is nearly full, or somebody asks.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use verfs_base::{Clock, Disk};
use verfs_memory::release_unused;
use verfs_store::{ChunkStore, GcEnd, GcProgress, Pace, Reclaimable, StoreError, StoreStats};
use verfs_vfs::Vfs;

use crate::activity::Activity;
use crate::pause::Pause;
use crate::tasks::REST;

/// How often the thread looks whether its time has come.
const TICK: Duration = Duration::from_secs(1);
/// A volume that nobody used for so long is idle.
const IDLE_MIN: Duration = Duration::from_secs(5);
/// Pause after a collection that failed, such as one for which the disk had no room.
const RETRY: Duration = Duration::from_secs(10);
/// How often one who waits for a collection looks whether he still wants it.
const WANTED_EVERY: Duration = Duration::from_millis(100);
/// More dead bytes than after the last collection that are worth another one.
const GROWTH_MIN_BYTES: u64 = 1 << 20;
/// The disk is nearly full below this share of it, as a divisor ...
const LOW_SPACE_SHARE: u64 = 16;
/// ... or below this.
const LOW_SPACE_MAX_BYTES: u64 = 1 << 30;
/// Dead share from which a pack is collected when somebody asks, or the disk is nearly full.
const THOROUGH_PERCENT: u8 = 1;

/// Whether garbage is collected without being asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Background {
    /// It is.
    #[default]
    On,
    /// Only when somebody asks.
    Off,
}

/// The limits of garbage collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GcOptions {
    pub(crate) background: Background,
    /// Dead share from which a pack is collected in the background.
    pub(crate) dead_percent: u8,
    /// Bytes copied in a second while the volume is in use.
    pub(crate) busy_rate_bytes: u64,
}

/// Garbage collection at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GcStatus {
    /// Of the collection that runs; all zero when none does.
    pub running: GcProgress,
    /// Whether one runs.
    pub active: bool,
    /// Collections that ended since the volume was opened.
    pub collections: u64,
    /// Bytes that the disk has back since the volume was opened.
    pub reclaimed_bytes: u64,
    /// Bytes that were copied for that.
    pub moved_bytes: u64,
    /// Dead bytes that are left.
    pub dead_bytes: u64,
    /// Bytes that are needed.
    pub stored_bytes: u64,
    /// Why the last collection failed; empty when it didn't.
    pub failure: String,
    /// Collections that ended by a defect; the thread went on.
    pub restarts: u64,
}

#[derive(Default)]
struct State {
    /// Somebody asks: collections that are to begin.
    asked: bool,
    /// Who asked and still waits.
    waiting: usize,
    /// Nobody waits any more for the collection that runs: it stops at its next piece of work.
    given_up: bool,
    shutdown: bool,
    running: Option<GcProgress>,
    collections: u64,
    reclaimed_bytes: u64,
    moved_bytes: u64,
    restarts: u64,
    last: Option<Result<GcProgress, StoreError>>,
}

/// Held by whoever has the store move what is alive in packs, and taken before he is at work: somebody who rests holds it, and
/// who waits for it must not seem to be at work, or a pause would wait for both for ever.
pub(crate) type CollectingTurn = Mutex<()>;

struct Shared {
    store: Arc<ChunkStore>,
    vfs: Arc<Vfs>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    pause: Arc<Pause>,
    turn: Arc<CollectingTurn>,
    options: GcOptions,
    state: Mutex<State>,
    /// The thread waits here for its time, or rests.
    work: Condvar,
    /// Who asked waits here.
    ended: Condvar,
}

/// The thread that collects garbage.
pub(crate) struct Collector {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread remembers between its looks.
struct Watch {
    activity: Activity,
    /// Dead bytes that the last collection left.
    settled_dead_bytes: u64,
    /// After a collection that failed: the next one, unless much more is dead than then.
    not_before: Duration,
    failed_dead_bytes: u64,
}

impl Collector {
    pub(crate) fn start(
        (store, vfs): (Arc<ChunkStore>, Arc<Vfs>),
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        pause: Arc<Pause>,
        options: GcOptions,
    ) -> std::io::Result<Collector> {
        let shared = Arc::new(Shared {
            store,
            vfs,
            disk,
            clock,
            pause,
            turn: Arc::default(),
            options,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            ended: Condvar::new(),
        });
        let worker = Arc::clone(&shared);
        let thread = Builder::new().name("verfs-gc".to_owned()).spawn(move || worker.run())?;
        Ok(Collector { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Collects now, all that is worth it at all; returns when it is done, or nothing when it is `wanted` no more. Then it
    /// stops, unless somebody else waits for it too.
    pub(crate) fn collect(&self, wanted: &dyn Fn() -> bool) -> Result<Option<GcProgress>, StoreError> {
        let mut state = self.shared.state.lock();
        // What runs now may have passed by what died since it began.
        let target = state.collections + 1 + u64::from(state.running.is_some());
        let mut asked_after = None;
        state.waiting += 1;
        let ended = loop {
            if state.collections >= target {
                break state.last.clone().unwrap_or(Ok(GcProgress::default())).map(Some);
            }
            if state.shutdown {
                break Err(StoreError::Closed);
            }
            if !wanted() {
                break Ok(None);
            }
            if asked_after != Some(state.collections) {
                asked_after = Some(state.collections);
                state.asked = true;
                self.shared.work.notify_all();
            }
            let late = self.shared.ended.wait_for(&mut state, WANTED_EVERY).timed_out();
            if late && state.running.is_none() && !state.asked {
                // The thread had a defect after it took the order.
                asked_after = None;
            }
        };
        state.waiting -= 1;
        if matches!(ended, Ok(None)) && state.waiting == 0 {
            state.asked = false;
            state.given_up = state.running.is_some();
            self.shared.work.notify_all();
        }
        ended
    }

    /// What others who have its store move packs hold meanwhile.
    pub(crate) fn turn(&self) -> &Arc<CollectingTurn> {
        &self.shared.turn
    }

    /// What [`Collector::collect`] would find.
    pub(crate) fn plan(&self) -> Result<Reclaimable, StoreError> {
        self.shared.store.reclaimable(THOROUGH_PERCENT)
    }

    pub(crate) fn status(&self) -> GcStatus {
        let StoreStats { dead_bytes, stored_bytes, .. } = self.shared.store.stats();
        let state = self.shared.state.lock();
        GcStatus {
            running: state.running.unwrap_or_default(),
            active: state.running.is_some(),
            collections: state.collections,
            reclaimed_bytes: state.reclaimed_bytes,
            moved_bytes: state.moved_bytes,
            dead_bytes,
            stored_bytes,
            restarts: state.restarts,
            failure: match &state.last {
                Some(Err(error)) => error.to_string(),
                Some(Ok(_)) | None => String::new(),
            },
        }
    }

    /// Tells the thread to end; a collection that runs stops at its next piece of work, and goes on after the next open.
    pub(crate) fn begin_stop(&self) {
        self.shared.state.lock().shutdown = true;
        self.shared.work.notify_all();
        self.shared.ended.notify_all();
    }

    /// Waits for the end of the thread.
    pub(crate) fn stop(&self) {
        self.begin_stop();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of garbage collection panicked");
        }
    }
}

impl Shared {
    /// The thread's whole life. A panic between two collections has changed nothing: it begins anew.
    fn run(&self) {
        while catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            tracing::error!("the thread of garbage collection panicked; it is begun anew");
            self.state.lock().restarts += 1;
            self.rest(REST);
        }
    }

    fn work(&self) {
        let mut watch = Watch {
            activity: Activity::begin(&self.vfs, &self.store, &*self.clock),
            settled_dead_bytes: 0,
            not_before: Duration::ZERO,
            failed_dead_bytes: 0,
        };
        while let Some(percent) = self.wait_for_time(&mut watch) {
            {
                let mut state = self.state.lock();
                state.running = Some(GcProgress::default());
                state.given_up = false;
            }
            let ended = catch_unwind(AssertUnwindSafe(|| self.collect(percent, &mut watch))).unwrap_or_else(|_| {
                tracing::error!("garbage collection panicked");
                self.state.lock().restarts += 1;
                Err(StoreError::Io {
                    context: "collecting garbage".to_owned(),
                    kind: std::io::ErrorKind::Other,
                    message: "internal error, see the log".to_owned(),
                })
            });
            match &ended {
                Ok(_) => watch.settled_dead_bytes = self.store.stats().dead_bytes,
                Err(_) => {
                    watch.not_before = self.clock.monotonic() + RETRY;
                    watch.failed_dead_bytes = self.store.stats().dead_bytes;
                }
            }
            self.conclude(ended);
        }
    }

    fn conclude(&self, ended: Result<GcProgress, StoreError>) {
        match &ended {
            Ok(progress) if progress.packs_removed > 0 || progress.packs_left > 0 => tracing::info!(
                packs = progress.packs_removed,
                reclaimed_bytes = progress.reclaimed_bytes(),
                moved_bytes = progress.moved_bytes,
                left_alone = progress.packs_left,
                "collected garbage"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "garbage collection ended early; it is tried again"),
        }
        let mut state = self.state.lock();
        let seen = state.running.take().unwrap_or_default();
        // Of one that failed, what it told last.
        let done = ended.as_ref().copied().unwrap_or(seen);
        state.reclaimed_bytes += done.reclaimed_bytes();
        state.moved_bytes += done.moved_bytes;
        state.collections += 1;
        state.last = Some(ended);
        drop(state);
        self.ended.notify_all();
    }

    fn collect(&self, percent: u8, watch: &mut Watch) -> Result<GcProgress, StoreError> {
        let _turn = self.turn.lock();
        let at_work = self.pause.work();
        let mut paced_bytes = 0;
        let mut paced_at = self.clock.monotonic();
        let pace = &mut |progress: &GcProgress| {
            let mut state = self.state.lock();
            state.running = Some(*progress);
            if state.shutdown || state.given_up {
                return Pace::Stop;
            }
            drop(state);
            at_work.rest();
            let copied = progress.moved_bytes.saturating_sub(paced_bytes);
            paced_bytes = progress.moved_bytes;
            let now = self.look(watch);
            if watch.activity.is_busy(now) {
                let due = Duration::from_secs_f64(copied as f64 / self.options.busy_rate_bytes.max(1) as f64);
                self.rest(due.saturating_sub(now.saturating_sub(paced_at)));
            }
            paced_at = self.clock.monotonic();
            Pace::Go
        };
        self.store.collect(percent, pace).map(|(progress, end)| match end {
            GcEnd::Done | GcEnd::Stopped => progress,
        })
    }

    fn rest(&self, time: Duration) {
        if !time.is_zero() {
            let mut state = self.state.lock();
            if !state.shutdown {
                self.work.wait_for(&mut state, time);
            }
        }
    }

    /// Waits until garbage is to be collected, and says from which dead share on. `None` at shutdown.
    fn wait_for_time(&self, watch: &mut Watch) -> Option<u8> {
        loop {
            {
                let mut state = self.state.lock();
                if state.shutdown {
                    return None;
                }
                if std::mem::take(&mut state.asked) {
                    return Some(THOROUGH_PERCENT);
                }
                match self.options.background {
                    Background::On => {
                        self.work.wait_for(&mut state, TICK);
                    }
                    Background::Off => self.work.wait(&mut state),
                }
                if state.shutdown || state.asked || self.options.background == Background::Off {
                    continue;
                }
            }
            release_unused();
            if let Some(percent) = self.is_due(watch) {
                return Some(percent);
            }
        }
    }

    /// Whether it is worth it now, without being asked.
    fn is_due(&self, watch: &mut Watch) -> Option<u8> {
        let now = self.look(watch);
        let StoreStats { dead_bytes, stored_bytes, .. } = self.store.stats();
        // What the last collection left may come alive again.
        watch.settled_dead_bytes = watch.settled_dead_bytes.min(dead_bytes);
        let grown = dead_bytes - watch.settled_dead_bytes;
        let rests = now < watch.not_before && dead_bytes < watch.failed_dead_bytes + GROWTH_MIN_BYTES;
        if grown < GROWTH_MIN_BYTES || rests {
            return None;
        }
        if self.is_space_low() {
            return Some(THOROUGH_PERCENT);
        }
        let percent = self.options.dead_percent;
        let idle = watch.activity.idle(now) >= IDLE_MIN;
        // While the volume is in use, it has to be worth it for the volume as a whole.
        let share = |bytes: u64| u128::from(bytes) * 100;
        let wanted = u128::from(dead_bytes + stored_bytes) * u128::from(percent);
        (idle || share(grown) >= wanted).then_some(percent)
    }

    fn is_space_low(&self) -> bool {
        self.disk.space().is_ok_and(|space| space.available < (space.total / LOW_SPACE_SHARE).min(LOW_SPACE_MAX_BYTES))
    }

    /// Notes whether the volume was used since the last look.
    fn look(&self, watch: &mut Watch) -> Duration {
        watch.activity.look(&self.vfs, &self.store, &*self.clock)
    }
}
