//! One batch at a time, in the order in which they asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

/// Where batches take turns.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Numbers given out.
    numbers: u64,
    /// Whose turn it is, or will be.
    serving: u64,
    /// Numbers whose owners wait no more.
    given_up: BTreeSet<u64>,
    taken: bool,
    closed: bool,
}

/// A turn; ends when dropped. `None` once the store is closed: then everything fails anyway.
pub(crate) struct Turn(Option<Arc<Slot>>);

impl Slot {
    /// Waits for the turn. Who asked first has it first: neither groups nor garbage collection can starve the other.
    pub(crate) fn take(self: &Arc<Self>) -> Turn {
        let mut state = self.state.lock();
        let number = state.numbers;
        state.numbers += 1;
        while !state.closed {
            if state.serving == number && !state.taken {
                return self.taken(&mut state);
            }
            self.changed.wait(&mut state);
        }
        Turn(None)
    }

    /// As [`Slot::take`], for so long; `None` when somebody else had the turn all the while.
    pub(crate) fn take_within(self: &Arc<Self>, time: Duration) -> Option<Turn> {
        let mut state = self.state.lock();
        let number = state.numbers;
        state.numbers += 1;
        let mut late = false;
        while !state.closed {
            if state.serving == number && !state.taken {
                return Some(self.taken(&mut state));
            }
            if late {
                state.given_up.insert(number);
                return None;
            }
            late = self.changed.wait_for(&mut state, time).timed_out();
        }
        Some(Turn(None))
    }

    fn taken(self: &Arc<Self>, state: &mut State) -> Turn {
        state.taken = true;
        Turn(Some(Arc::clone(self)))
    }

    /// Waits for the turn that is taken to end; there is none after it. False when it was closed already.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.state.lock();
        let first = !state.closed;
        state.closed = true;
        self.changed.notify_all();
        while state.taken {
            self.changed.wait(&mut state);
        }
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
            let mut state = slot.state.lock();
            state.taken = false;
            state.serving += 1;
            while let Some(number) = state.given_up.first().copied().filter(|number| *number == state.serving) {
                state.given_up.remove(&number);
                state.serving += 1;
            }
            slot.changed.notify_all();
        }
    }
}
