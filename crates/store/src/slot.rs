//! One batch at a time.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Where batches take turns.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Free,
    Taken,
    Closed,
}

/// A batch's turn; ends when dropped. `None` once the store is closed: then every batch fails anyway.
pub(crate) struct Turn(Option<Arc<Slot>>);

impl Slot {
    /// Waits for the turn.
    pub(crate) fn take(self: &Arc<Self>) -> Turn {
        let mut state = self.state.lock();
        loop {
            match *state {
                State::Free => {
                    *state = State::Taken;
                    return Turn(Some(Arc::clone(self)));
                }
                State::Taken => self.changed.wait(&mut state),
                State::Closed => return Turn(None),
            }
        }
    }

    /// Waits for the last turn to end; there is none after it. False when it was closed already.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.state.lock();
        while *state == State::Taken {
            self.changed.wait(&mut state);
        }
        let first = *state == State::Free;
        *state = State::Closed;
        drop(state);
        self.changed.notify_all();
        first
    }
}

impl Turn {
    /// Whether the store is open.
    pub(crate) fn is_real(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            *slot.state.lock() = State::Free;
            slot.changed.notify_all();
        }
    }
}
