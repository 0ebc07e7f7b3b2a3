//! Threads that work for a volume beside its callers, and end with it.

use std::convert::Infallible;
use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

/// Never sends anything; its sender goes when its reader should stop.
pub(crate) type StopSignal = Receiver<Infallible>;

/// The threads of one volume.
pub(crate) struct Tasks {
    state: Mutex<State>,
    stopped: StopSignal,
}

struct State {
    /// None once they were told to stop.
    stop: Option<Sender<Infallible>>,
    threads: Vec<JoinHandle<()>>,
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        Tasks { state: Mutex::new(State { stop: Some(stop), threads: Vec::new() }), stopped }
    }

    /// Starts a thread, which should end soon after its signal's sender is gone. Not after [`Tasks::stop`].
    ///
    /// # Errors
    /// When the operating system refuses to start a thread.
    pub(crate) fn start(&self, name: &str, job: impl FnOnce(&StopSignal) + Send + 'static) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.stop.is_none() {
            return Ok(());
        }
        state.threads.retain(|thread| !thread.is_finished());
        let stopped = self.stopped.clone();
        state.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(move || job(&stopped))?);
        Ok(())
    }

    /// Tells all to stop.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = None;
    }

    /// Waits for the end of all.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut self.state.lock().threads);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the volume panicked");
            }
        }
    }
}
