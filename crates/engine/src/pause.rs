//! Has work in the background rest, between two pieces of it.

use parking_lot::{Condvar, Mutex};

#[derive(Default)]
struct State {
    paused: bool,
    /// How many are between two rests.
    working: usize,
}

/// Where work in the background rests while nothing on the disk may change.
#[derive(Default)]
pub(crate) struct Pause {
    state: Mutex<State>,
    changed: Condvar,
}

/// Someone at work.
pub(crate) struct AtWork<'a>(&'a Pause);

/// Everybody rests until this goes.
pub(crate) struct Paused<'a>(&'a Pause);

impl Pause {
    fn enter(&self) {
        let mut state = self.state.lock();
        while state.paused {
            self.changed.wait(&mut state);
        }
        state.working += 1;
    }

    fn leave(&self) {
        self.state.lock().working -= 1;
        self.changed.notify_all();
    }

    /// Begins work, once that may be.
    pub(crate) fn work(&self) -> AtWork<'_> {
        self.enter();
        AtWork(self)
    }

    /// Has all who work rest, and waits until they do.
    pub(crate) fn pause(&self) -> Paused<'_> {
        let mut state = self.state.lock();
        while state.paused {
            self.changed.wait(&mut state);
        }
        state.paused = true;
        while state.working > 0 {
            self.changed.wait(&mut state);
        }
        Paused(self)
    }
}

impl AtWork<'_> {
    /// To be called between two pieces of work, with nothing locked that others need.
    pub(crate) fn rest(&self) {
        if self.0.state.lock().paused {
            self.0.leave();
            self.0.enter();
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.state.lock().paused = false;
        self.0.changed.notify_all();
    }
}
