//! Who reads the device: the leader, or who takes its seat while it is away for too long.
//!
//! A read that another thread waits for costs two wake-ups: of that thread, and of the leader for the next request, since
//! a disk takes longer than anybody polls. So while there is one client the leader leaves its seat, waits for the store
//! itself, and is back and polling when the client asks again: none of both. A second thread looks now and then whether
//! the leader is still away as it was before; then it sits down, so that a store that hangs keeps nobody else waiting, and
//! the two have changed places.

use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How often the second thread looks. Who asks meanwhile waits for twice as long at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// So often it sees that nobody left before it sleeps until somebody does.
const QUIET_LOOKS_MAX: u32 = 10;

/// Of one session.
#[derive(Default)]
pub(super) struct Seat {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// How often it was left.
    departures: u64,
    /// Whoever left last may come back.
    is_free: bool,
    second: Second,
    ended: bool,
}

/// The thread that would take the seat.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Second {
    /// There is none: it leads, or is away itself.
    #[default]
    Away,
    Looks,
    Sleeps,
}

/// Says which departure it was.
pub(super) struct Departure(u64);

impl Seat {
    /// Leaves the seat; nothing when nobody is there to take it.
    pub(super) fn leave(&self) -> Option<Departure> {
        let mut state = self.state.lock();
        match state.second {
            Second::Away => return None,
            Second::Looks => {}
            Second::Sleeps => {
                state.second = Second::Looks;
                self.wake.notify_one();
            }
        }
        state.departures += 1;
        state.is_free = true;
        Some(Departure(state.departures))
    }

    /// Whether the seat is still free for whoever left; then it is taken.
    pub(super) fn return_to(&self, Departure(number): &Departure) -> bool {
        let mut state = self.state.lock();
        let returns = state.is_free && state.departures == *number && !state.ended;
        if returns {
            state.is_free = false;
        }
        returns
    }

    /// Waits until somebody is away for too long and takes his seat; false when there is no seat any more.
    pub(super) fn take(&self) -> bool {
        let mut state = self.state.lock();
        state.second = Second::Looks;
        let mut quiet_looks = 0;
        while !state.ended {
            let before = (state.departures, state.is_free);
            self.wake.wait_for(&mut state, LOOK_INTERVAL);
            if before == (state.departures, true) && state.is_free {
                state.is_free = false;
                state.second = Second::Away;
                return true;
            }
            quiet_looks = if before.0 == state.departures { quiet_looks + 1 } else { 0 };
            if quiet_looks >= QUIET_LOOKS_MAX {
                self.sleep(&mut state);
                quiet_looks = 0;
            }
        }
        false
    }

    fn sleep(&self, state: &mut MutexGuard<'_, State>) {
        state.second = Second::Sleeps;
        while state.second == Second::Sleeps && !state.ended {
            self.wake.wait(state);
        }
    }

    /// Nobody sits there any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Leaves as soon as there is somebody to take the seat.
    fn leave(seat: &Seat) -> Departure {
        let begun = Instant::now();
        loop {
            match seat.leave() {
                Some(departure) => return departure,
                None => assert!(begun.elapsed() < Duration::from_secs(10), "nobody is there"),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_stays_away_loses_the_seat_and_may_take_it_back_in_the_same_way() {
        let seat = Seat::default();
        assert!(seat.leave().is_none(), "nobody would have taken the seat");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| seat.take());
            // It goes to sleep meanwhile.
            let departure = leave(&seat);
            assert!(seat.return_to(&departure));
            std::thread::sleep(LOOK_INTERVAL * (2 * QUIET_LOOKS_MAX));
            let departure = leave(&seat);
            assert!(second.join().is_ok_and(|took| took));
            assert!(!seat.return_to(&departure));
            assert!(seat.leave().is_none(), "the first one is not back");
            let first = scope.spawn(|| seat.take());
            let departure = leave(&seat);
            assert!(first.join().is_ok_and(|took| took));
            assert!(!seat.return_to(&departure));
        });
    }

    #[test]
    fn who_comes_back_soon_keeps_the_seat() {
        let seat = Seat::default();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| seat.take());
            let begun = Instant::now();
            while begun.elapsed() < 10 * LOOK_INTERVAL {
                let before = Instant::now();
                let departure = leave(&seat);
                // On a machine that is busy the test itself may be the one that stays away.
                if !seat.return_to(&departure) {
                    assert!(before.elapsed() >= LOOK_INTERVAL);
                    return assert!(second.join().is_ok_and(|took| took));
                }
            }
            seat.end();
            assert!(second.join().is_ok_and(|took| !took));
        });
    }

    #[test]
    fn a_seat_that_is_gone_is_not_taken() {
        let seat = Seat::default();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| seat.take());
            let departure = leave(&seat);
            seat.end();
            assert!(!seat.return_to(&departure));
            let _took_it_before = second.join();
            assert!(!seat.take());
        });
    }
}
