//! Threads that work for a volume beside its callers, and end with it. None dies unheard: one that panics is begun anew, or
//! has ended by a defect that status names.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

/// Never sends anything; its sender goes when its reader should stop.
pub(crate) type StopSignal = Receiver<Infallible>;

/// How long one that panicked rests before it is begun anew: a defect that comes again at once takes no core.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// What a task is for, and so what becomes of it when it panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Something that is done once: whoever needs it hears that it ended, and may begin it again.
    Errand,
    /// Something that goes on as long as the volume is open: it is begun anew.
    Steady,
}

/// Panics of the tasks of one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Defect {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) times: u64,
}

/// Which tasks panicked, and how often.
#[derive(Default)]
struct Defects(Mutex<BTreeMap<&'static str, (Kind, u64)>>);

impl Defects {
    /// Runs `work`; a panic in it is told, and counted.
    fn catch(&self, name: &'static str, kind: Kind, work: impl FnOnce()) -> Result<(), ()> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
            tracing::error!(name, ?kind, "a task of the volume panicked");
            self.0.lock().entry(name).or_insert((kind, 0)).1 += 1;
        })
    }
}

/// The threads of one volume.
pub(crate) struct Tasks {
    state: Mutex<State>,
    stopped: StopSignal,
    defects: Arc<Defects>,
}

struct State {
    /// None once they were told to stop.
    stop: Option<Sender<Infallible>>,
    threads: Vec<JoinHandle<()>>,
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let state = Mutex::new(State { stop: Some(stop), threads: Vec::new() });
        Tasks { state, stopped, defects: Arc::default() }
    }

    /// Starts a thread for an errand, which should end soon after its signal's sender is gone. Not after
    /// [`Tasks::stop`].
    ///
    /// # Errors
    /// When the operating system refuses to start a thread.
    pub(crate) fn start(&self, name: &'static str, job: impl FnOnce(&StopSignal) + Send + 'static) -> io::Result<()> {
        self.spawn(name, move |stopped, defects| {
            // Its end is what is to be done about it.
            let _ = defects.catch(name, Kind::Errand, || job(stopped));
        })
    }

    /// Starts a thread that works until its signal's sender is gone; after a panic `job` is called again. Not after
    /// [`Tasks::stop`].
    ///
    /// # Errors
    /// When the operating system refuses to start a thread.
    pub(crate) fn start_steady(
        &self,
        name: &'static str,
        job: impl Fn(&StopSignal) + Send + 'static,
    ) -> io::Result<()> {
        self.spawn(name, move |stopped, defects| {
            while defects.catch(name, Kind::Steady, || job(stopped)).is_err() {
                if stopped.recv_timeout(REST) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        })
    }

    fn spawn(&self, name: &str, life: impl FnOnce(&StopSignal, &Defects) + Send + 'static) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.stop.is_none() {
            return Ok(());
        }
        state.threads.retain(|thread| !thread.is_finished());
        let (stopped, defects) = (self.stopped.clone(), Arc::clone(&self.defects));
        let thread = std::thread::Builder::new().name(name.to_owned());
        state.threads.push(thread.spawn(move || life(&stopped, &defects))?);
        Ok(())
    }

    /// Tasks that panicked since the volume was opened.
    pub(crate) fn defects(&self) -> Vec<Defect> {
        let found = self.defects.0.lock();
        found.iter().map(|(name, (kind, times))| Defect { name, kind: *kind, times: *times }).collect()
    }

    /// Tells all to stop.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = None;
    }

    /// Waits for the end of all.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut self.state.lock().threads);
        for thread in threads {
            // What panics in it is caught in it.
            let _ = thread.join();
        }
    }
}
