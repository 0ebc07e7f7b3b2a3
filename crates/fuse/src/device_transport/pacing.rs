//! Adaptive polling: whether the leader asks again at once or sleeps until a request comes, and where.
//!
//! Waking a thread that sleeps on another, idle core is most of a round trip's cost. So after a request that came soon
//! the leader goes to the core of its only client where it can ([`Company`]), or else polls for a short time before it
//! sleeps; after one that let it wait it sleeps at once, and an idle mount costs nothing. On a machine where others want
//! every core it doesn't poll: it would take the core its client needs. Its own clients are no others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::company::Company;
use super::vigil::HOLD;
use crate::dispatch::Machinery;
use crate::run_queue::RunQueue;

/// So long polling stays off when the machine has no core to spare; twice as long each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(10);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_millis(640);
/// How often a leader that polls looks whether the machine has a core to spare.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// So long the leader leaves waiting to others after somebody had to take its seat: where each read is slow, it is there most
/// of the time.
const SLOW_STORE_PAUSE: Duration = Duration::from_millis(10);

/// A store that answers later than this had to ask its disk.
const QUICK_STORE_MAX: Duration = Duration::from_micros(80);

/// Clients that are told apart.
const CLIENTS_MAX: usize = 16;

/// The clients of a short time.
#[derive(Default)]
struct Clients {
    now: Vec<u32>,
    /// Who asked last.
    last: u32,
    /// How many there were in the interval before.
    before: usize,
    since: Option<Instant>,
}

impl Clients {
    /// A request of the thread `id` came; the kernel's own have 0.
    fn note(&mut self, id: u32) {
        if id == 0 {
            return;
        }
        self.last = id;
        if self.now.last() != Some(&id) && self.now.len() < CLIENTS_MAX && !self.now.contains(&id) {
            self.now.push(id);
        }
    }

    /// How many there are, about.
    fn count(&mut self, now: Instant) -> usize {
        if self.since.is_none_or(|since| now.duration_since(since) >= LOOK_INTERVAL) {
            self.before = self.now.len();
            self.now.clear();
            self.since = Some(now);
        }
        self.before.max(self.now.len())
    }
}

/// What the leader does when nothing has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It looks again.
    AskAgain,
    /// It sleeps until something comes.
    Sleep,
}

/// What the leader knows of the requests before.
pub(super) struct Pacing {
    /// How long it polls after a request; who let it wait for longer doesn't start it.
    window: Duration,
    run_queue: RunQueue,
    machinery: Arc<Machinery>,
    /// When it began to wait. `None` until it found that nothing has come.
    waits_since: Option<Instant>,
    mode: Mode,
    pause: Duration,
    clients: Clients,
    stays_until: Option<Instant>,
    company: Option<Company>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// It sleeps when nothing has come.
    Sleeping,
    /// It polls, and looks at the machine at this time again.
    Polling { look_at: Instant },
    /// It is with its client, and sleeps when nothing has come; it looks for him at this time again.
    Joined { look_at: Instant },
    /// It sleeps, also after requests that came soon, until then.
    Paused { until: Instant },
}

impl Pacing {
    /// A window of 0 never polls; neither does a machine with one core.
    pub(super) fn new(
        window: Duration,
        run_queue: RunQueue,
        company: Option<Company>,
        machinery: Arc<Machinery>,
    ) -> Pacing {
        let window = if run_queue.has_one_core() { Duration::ZERO } else { window };
        Pacing {
            window,
            run_queue,
            machinery,
            waits_since: None,
            mode: Mode::Sleeping,
            pause: PAUSE,
            clients: Clients::default(),
            stays_until: None,
            company,
        }
    }

    /// From now on it waits for the next request. What it does first.
    pub(super) fn begin(&mut self) -> Next {
        let (Mode::Joined { .. }, Some(company)) = (self.mode, &mut self.company) else {
            self.waits_since = None;
            return Next::AskAgain;
        };
        let now = Instant::now();
        self.waits_since = Some(now);
        company.stay(now);
        Next::Sleep
    }

    /// Nothing has come yet.
    pub(super) fn next(&mut self) -> Next {
        if self.window.is_zero() {
            return Next::Sleep;
        }
        let now = Instant::now();
        let since = *self.waits_since.get_or_insert(now);
        self.next_at(now, since)
    }

    fn next_at(&mut self, now: Instant, since: Instant) -> Next {
        let waited = now.duration_since(since);
        match self.mode {
            Mode::Polling { .. } if waited >= self.window => self.rest(),
            Mode::Polling { look_at } if now >= look_at => self.look(now),
            Mode::Polling { .. } => Next::AskAgain,
            Mode::Joined { .. } | Mode::Sleeping | Mode::Paused { .. } => Next::Sleep,
        }
    }

    /// Nobody asks any more.
    fn rest(&mut self) -> Next {
        self.part();
        self.mode = Mode::Sleeping;
        Next::Sleep
    }

    /// It is with no client from now on.
    fn part(&mut self) {
        if let Some(company) = &mut self.company {
            company.leave();
        }
    }

    /// Who sent the request that came last.
    pub(super) fn served(&mut self, client: u32) {
        self.clients.note(client);
    }

    /// Whether the leader may wait for the store itself: whoever else asked would wait for it, too.
    pub(super) fn may_leave(&mut self) -> bool {
        self.may_leave_at(Instant::now())
    }

    fn may_leave_at(&mut self, now: Instant) -> bool {
        self.clients.count(now) <= 1 && self.stays_until.is_none_or(|until| now >= until)
    }

    /// The leader was away for so long to wait for the store, and is back.
    pub(super) fn returned(&mut self, away: Duration) {
        if let Some(company) = &mut self.company
            && away >= QUICK_STORE_MAX
        {
            company.waited_for_disk();
        }
    }

    /// The calling thread leads now, since the leader was away for too long.
    pub(super) fn replaced(&mut self) {
        if let Some(company) = &mut self.company {
            company.replaced();
            self.mode = Mode::Sleeping;
        }
        self.stays_until = Some(Instant::now() + SLOW_STORE_PAUSE);
    }

    /// Joins its client if it has one and can. Else polls on if there is a core to spare beside the leader's; the first
    /// client is not reckoned, he needs a core too.
    fn look(&mut self, now: Instant) -> Next {
        let was_quick = matches!(self.mode, Mode::Polling { .. } | Mode::Joined { .. });
        let known = self.clients.count(now).max(1) as u64;
        let joins = known == 1 && self.company.as_mut().is_some_and(|company| company.join(self.clients.last));
        let look_at = now + LOOK_INTERVAL;
        let next = if joins {
            self.mode = Mode::Joined { look_at };
            Next::Sleep
        } else {
            self.part();
            if self.run_queue.is_crowded(known) {
                self.mode = Mode::Paused { until: now + self.pause };
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                return Next::Sleep;
            }
            self.mode = Mode::Polling { look_at };
            Next::AskAgain
        };
        if was_quick {
            self.pause = PAUSE;
        } else {
            self.machinery.polls_started.fetch_add(1, Ordering::Relaxed);
        }
        next
    }

    /// A request came.
    pub(super) fn arrived(&mut self) {
        if self.window.is_zero() || matches!(self.mode, Mode::Polling { .. }) {
            return;
        }
        let now = Instant::now();
        self.arrived_at(now);
    }

    fn arrived_at(&mut self, now: Instant) {
        // Without a beginning it didn't wait at all.
        let came_soon = self.waits_since.is_none_or(|since| now.duration_since(since) < self.window);
        match self.mode {
            Mode::Paused { until } if now < until => {}
            Mode::Polling { .. } => {}
            Mode::Joined { .. } if self.waits_since.is_some_and(|since| now.duration_since(since) >= HOLD) => {
                self.rest();
            }
            Mode::Joined { look_at } if now < look_at => {}
            Mode::Joined { .. } => {
                self.look(now);
            }
            Mode::Paused { .. } | Mode::Sleeping if came_soon => {
                self.look(now);
            }
            Mode::Paused { .. } | Mode::Sleeping => self.mode = Mode::Sleeping,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::File;
    use std::io::{Seek, Write};

    use super::*;
    use crate::device_transport::company::tests::{beside_a_thread_on, is_in_a_rush, own_cores};
    use crate::device_transport::vigil::{CORES, Vigil};
    use crate::dispatch::test_machinery;

    const WINDOW: Duration = Duration::from_millis(1);

    fn pacing(loadavg: Option<File>) -> Pacing {
        Pacing::new(WINDOW, RunQueue::new(loadavg, 2), None, test_machinery())
    }

    /// A request that came after a wait; then what it does when nothing more has come for a moment.
    fn after(pacing: &mut Pacing, wait: Duration, now: Instant) -> Next {
        pacing.waits_since = now.checked_sub(wait);
        pacing.arrived_at(now);
        pacing.next_at(now, now)
    }

    #[test]
    fn requests_that_come_soon_start_polling_and_quiet_ends_it() {
        let mut pacing = pacing(None);
        let now = Instant::now();
        for round in 1..=3 {
            assert_eq!(after(&mut pacing, WINDOW / 2, now), Next::AskAgain);
            assert_eq!(pacing.next_at(now + WINDOW / 2, now), Next::AskAgain);
            assert_eq!(pacing.next_at(now + WINDOW, now), Next::Sleep, "it polls for ever");
            assert_eq!(pacing.next_at(now, now), Next::Sleep);
            assert_eq!(pacing.machinery.polls_started.load(Ordering::Relaxed), round);
        }
        pacing.machinery.lanes.stop();
    }

    #[test]
    fn requests_far_apart_never_start_it() {
        let mut pacing = pacing(None);
        let now = Instant::now();
        for index in 1..10 {
            assert_eq!(after(&mut pacing, WINDOW * index, now), Next::Sleep);
        }
        pacing.machinery.lanes.stop();
    }

    #[test]
    fn a_machine_without_a_spare_core_pauses_polling() {
        let mut loadavg = tempfile::tempfile().unwrap();
        let shared = loadavg.try_clone().unwrap();
        let mut runnable = |threads: u32| {
            loadavg.rewind().unwrap();
            loadavg.write_all(format!("9.00 9.00 9.00 {threads}/100 7").as_bytes()).unwrap();
        };
        runnable(3);
        let mut pacing = pacing(Some(shared));
        let now = Instant::now();
        let soon = |pacing: &mut Pacing, now| after(pacing, WINDOW / 2, now);
        assert_eq!(soon(&mut pacing, now), Next::Sleep, "it polls although two other threads want the two cores");
        runnable(2);
        assert_eq!(soon(&mut pacing, now + PAUSE / 2), Next::Sleep, "it did not pause");
        assert_eq!(soon(&mut pacing, now + PAUSE), Next::AskAgain, "the pause has no end");
        // Now the machine gets crowded while it polls.
        runnable(4);
        let later = now + PAUSE + LOOK_INTERVAL;
        assert_eq!(pacing.next_at(later, later), Next::Sleep);
        assert_eq!(soon(&mut pacing, later + PAUSE), Next::Sleep, "the second pause is not longer");
        runnable(1);
        assert_eq!(soon(&mut pacing, later + PAUSE * 2), Next::AskAgain);
        pacing.machinery.lanes.stop();
    }

    #[test]
    fn its_own_clients_are_no_crowd() {
        let mut loadavg = tempfile::tempfile().unwrap();
        loadavg.write_all(b"9.00 9.00 9.00 3/100 7").unwrap();
        let mut pacing = pacing(Some(loadavg));
        let now = Instant::now();
        // The leader and two clients run; or is the third somebody else?
        pacing.served(7);
        pacing.served(7);
        pacing.served(0);
        assert_eq!(after(&mut pacing, WINDOW / 2, now), Next::Sleep);
        let later = now + PAUSE;
        pacing.served(7);
        pacing.served(8);
        assert_eq!(after(&mut pacing, WINDOW / 2, later), Next::AskAgain);
        assert_eq!(pacing.next_at(later + LOOK_INTERVAL, later + LOOK_INTERVAL), Next::Sleep, "both went on");
        pacing.machinery.lanes.stop();
    }

    #[test]
    fn the_leader_waits_itself_for_one_client_and_not_for_a_slow_store() {
        let mut pacing = pacing(None);
        let now = Instant::now();
        pacing.served(7);
        assert!(pacing.may_leave_at(now));
        pacing.served(7);
        pacing.served(8);
        assert!(!pacing.may_leave_at(now), "the other one would wait, too");
        assert!(!pacing.may_leave_at(now + LOOK_INTERVAL), "he was there just now");
        assert!(pacing.may_leave_at(now + 2 * LOOK_INTERVAL));
        pacing.replaced();
        assert!(!pacing.may_leave_at(now + 3 * LOOK_INTERVAL));
        assert!(pacing.may_leave_at(Instant::now() + SLOW_STORE_PAUSE));
        pacing.machinery.lanes.stop();
    }

    #[test]
    fn an_only_client_is_joined_until_there_is_another_one_or_quiet() {
        let company = Company::new(Vigil::start(&CORES).unwrap());
        let mut pacing = Pacing::new(WINDOW, RunQueue::new(None, 2), Some(company), test_machinery());
        let mut now = Instant::now();
        for round in 1..=2 {
            beside_a_thread_on(1, |client| {
                pacing.served(client);
                assert_eq!(after(&mut pacing, WINDOW / 2, now), Next::Sleep, "it polls beside its client");
                assert_eq!(own_cores(), [1]);
                assert_eq!(pacing.begin(), Next::Sleep, "it would look in vain");
                // Within the time that he is looked for again.
                pacing.served(client);
                pacing.served(client + 1);
                after(&mut pacing, WINDOW / 4, now + LOOK_INTERVAL / 2);
                assert_eq!(own_cores(), [1]);
                assert_eq!(after(&mut pacing, WINDOW / 4, now + LOOK_INTERVAL), Next::AskAgain, "one of two is joined");
                assert_eq!(own_cores(), CORES);
                // The other one is gone.
                now += LOOK_INTERVAL * 3;
                pacing.served(client);
                assert_eq!(pacing.next_at(now, now), Next::Sleep);
                assert_eq!(own_cores(), [1]);
                after(&mut pacing, HOLD, now);
                assert_eq!(own_cores(), CORES, "it waits for one request on the core of another");
            });
            assert_eq!(pacing.machinery.polls_started.load(Ordering::Relaxed), round);
            now += LOOK_INTERVAL * 3;
        }
        pacing.machinery.lanes.stop();
    }

    #[test]
    fn a_rush_goes_on_while_the_store_is_quick() {
        let company = Company::new(Vigil::start(&CORES).unwrap());
        let mut pacing = Pacing::new(WINDOW, RunQueue::new(None, 2), Some(company), test_machinery());
        let is_in_a_rush = |pacing: &Pacing| pacing.company.as_ref().is_some_and(is_in_a_rush);
        beside_a_thread_on(1, |client| {
            pacing.served(client);
            after(&mut pacing, WINDOW / 2, Instant::now());
            for _ in 0..100 {
                pacing.begin();
            }
            assert!(is_in_a_rush(&pacing));
            pacing.returned(QUICK_STORE_MAX / 2);
            assert!(is_in_a_rush(&pacing), "an answer from memory ended it");
            pacing.returned(QUICK_STORE_MAX);
            assert!(!is_in_a_rush(&pacing), "it goes on while the disk works");
        });
        pacing.machinery.lanes.stop();
    }

    #[test]
    fn a_window_of_zero_is_off() {
        let mut pacing = Pacing::new(Duration::ZERO, RunQueue::new(None, 2), None, test_machinery());
        pacing.arrived();
        assert_eq!(pacing.next(), Next::Sleep);
        pacing.machinery.lanes.stop();
    }
}
