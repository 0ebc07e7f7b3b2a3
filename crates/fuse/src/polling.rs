//! Adaptive polling of a library's receive loop: after a request the leader asks again at once for a short time, before it blocks.
//!
//! Waking a thread that sleeps on another, idle core is most of a round trip's cost. A transport whose device returns
//! EAGAIN and that then reads again polls for as long as the device is non-blocking, so polling is switched by that
//! flag: set by the leader itself when requests follow each other quickly, cleared by a thread of its own when none
//! came for a while. That thread is parked while the leader blocks: an idle mount costs nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fs::OFlags;

use crate::run_queue::RunQueue;

/// So long polling stays off when the machine has no core to spare; twice as long each time, up to the longest.
const PAUSE_NS: u64 = 10_000_000;
/// See [`PAUSE_NS`].
const PAUSE_MAX_NS: u64 = 640_000_000;

/// Under sustained load the thread looks after ever longer intervals, up to this one.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(1);

/// The switch. The leader tells it of every request.
pub(crate) struct Poller {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// How long the leader polls after a request; requests further apart than this don't start it.
    window_ns: u64,
    start: Instant,
    /// When the last request came, in nanoseconds after `start`.
    last_ns: AtomicU64,
    /// Polling doesn't begin before, in nanoseconds after `start`.
    pause_until_ns: AtomicU64,
    /// How long the next pause is.
    pause_ns: AtomicU64,
    run_queue: RunQueue,
    /// Whether the device is non-blocking; changed only under the lock of `switch`.
    polling: AtomicBool,
    polls_started: AtomicU64,
    switch: Mutex<Switch>,
    wake: Condvar,
}

/// What changes the flag.
struct Switch {
    /// Absent after the end of the session: an open descriptor would keep the connection.
    device: Option<OwnedFd>,
    use_polling: UsePolling,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UsePolling {
    Yes,
    Never,
}

impl Poller {
    /// Starts the thread. `device` shares its file description, and so its flags, with the transport's.
    pub(crate) fn start(device: OwnedFd, window: Duration, run_queue: RunQueue) -> io::Result<Poller> {
        let use_polling =
            if window.is_zero() || run_queue.has_one_core() { UsePolling::Never } else { UsePolling::Yes };
        let shared = Arc::new(Shared {
            window_ns: u64::try_from(window.as_nanos()).unwrap_or(u64::MAX),
            start: Instant::now(),
            last_ns: AtomicU64::new(0),
            pause_until_ns: AtomicU64::new(0),
            pause_ns: AtomicU64::new(PAUSE_NS),
            run_queue,
            polling: AtomicBool::new(false),
            polls_started: AtomicU64::new(0),
            switch: Mutex::new(Switch { device: Some(device), use_polling }),
            wake: Condvar::new(),
        });
        let thread = match use_polling {
            UsePolling::Never => None,
            UsePolling::Yes => {
                let shared = shared.clone();
                let builder = std::thread::Builder::new().name("verfs-poll".to_owned());
                Some(builder.spawn(move || shared.clear_when_quiet(window))?)
            }
        };
        Ok(Poller { shared, thread: Mutex::new(thread) })
    }

    /// A request came at `now`. To be called before its reply is sent: then the client can't be quicker than the flag.
    pub(crate) fn request(&self, now: Instant) {
        let now_ns = u64::try_from(now.duration_since(self.shared.start).as_nanos()).unwrap_or(u64::MAX);
        let last_ns = self.shared.last_ns.swap(now_ns, Ordering::Relaxed);
        if !self.shared.polling.load(Ordering::Relaxed)
            && now_ns.saturating_sub(last_ns) < self.shared.window_ns
            && now_ns >= self.shared.pause_until_ns.load(Ordering::Relaxed)
        {
            self.shared.begin(now_ns);
        }
    }

    /// How often polling began.
    pub(crate) fn polls_started(&self) -> u64 {
        self.shared.polls_started.load(Ordering::Relaxed)
    }

    /// Stops polling for good, ends the thread and lets go of the device.
    pub(crate) fn stop(&self) {
        {
            let mut switch = self.shared.switch.lock();
            self.shared.end(&mut switch);
            switch.device = None;
        }
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // It can't panic; if it did, polling is off all the same.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The leader calls it, and runs.
    fn begin(&self, now_ns: u64) {
        if self.run_queue.is_crowded(1) {
            return self.pause(now_ns);
        }
        // Taken: the thread is clearing the flag at this moment. The next request comes here again.
        let Some(switch) = self.switch.try_lock() else { return };
        if switch.set_flag(OFlags::NONBLOCK) {
            self.polling.store(true, Ordering::Relaxed);
            self.polls_started.fetch_add(1, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }

    fn pause(&self, now_ns: u64) {
        let pause_ns = self.pause_ns.load(Ordering::Relaxed);
        self.pause_ns.store((pause_ns * 2).min(PAUSE_MAX_NS), Ordering::Relaxed);
        self.pause_until_ns.store(now_ns.saturating_add(pause_ns), Ordering::Relaxed);
    }

    fn end(&self, switch: &mut Switch) {
        if self.polling.swap(false, Ordering::Relaxed) {
            switch.set_flag(OFlags::empty());
        }
    }

    /// The thread's whole life.
    fn clear_when_quiet(&self, window: Duration) {
        loop {
            {
                let mut switch = self.switch.lock();
                while switch.device.is_some() && !self.polling.load(Ordering::Relaxed) {
                    self.wake.wait(&mut switch);
                }
                if switch.device.is_none() {
                    return;
                }
            }
            let mut interval = window;
            loop {
                std::thread::sleep(interval);
                // Beside the leader and this thread.
                let is_crowded = self.run_queue.is_crowded(2);
                // Under the lock, so that a request which came in between can set the flag again only afterwards.
                let mut switch = self.switch.lock();
                let now_ns = self.now_ns();
                if is_crowded {
                    self.pause(now_ns);
                } else {
                    self.pause_ns.store(PAUSE_NS, Ordering::Relaxed);
                }
                let quiet_ns = now_ns.saturating_sub(self.last_ns.load(Ordering::Relaxed));
                if is_crowded || quiet_ns >= self.window_ns || switch.device.is_none() {
                    self.end(&mut switch);
                    break;
                }
                interval = (interval * 2).min(LOOK_INTERVAL_MAX.max(window));
            }
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Switch {
    /// Says whether the device has the flag now.
    fn set_flag(&self, flag: OFlags) -> bool {
        match (&self.device, self.use_polling) {
            (Some(device), UsePolling::Yes) => rustix::fs::fcntl_setfl(device, flag).is_ok(),
            (None, _) | (_, UsePolling::Never) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const WINDOW: Duration = Duration::from_millis(1);

    fn poller(window: Duration) -> (Poller, OwnedFd) {
        let reader = OwnedFd::from(std::io::pipe().unwrap().0);
        let device = reader.try_clone().unwrap();
        (Poller::start(device, window, RunQueue::new(None, 2)).unwrap(), reader)
    }

    fn polls(device: &OwnedFd) -> bool {
        rustix::fs::fcntl_getfl(device).unwrap().contains(OFlags::NONBLOCK)
    }

    fn wait_until(condition: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        condition()
    }

    #[test]
    fn quick_requests_start_polling_and_quiet_ends_it() {
        let (poller, device) = poller(WINDOW);
        for round in 1..=3 {
            // It ends for who looks at the device a moment before it can begin anew.
            let begins = || {
                let now = Instant::now();
                poller.request(now);
                poller.request(now + WINDOW / 2);
                poller.polls_started() == round
            };
            assert!(wait_until(begins), "round {round}: {} began", poller.polls_started());
            assert!(wait_until(|| !polls(&device)), "it polls for ever");
        }
        poller.stop();
    }

    #[test]
    fn requests_far_apart_never_start_it() {
        let (poller, device) = poller(WINDOW);
        let start = Instant::now();
        for index in 1..10 {
            poller.request(start + WINDOW * 2 * index);
            assert!(!polls(&device));
        }
        assert_eq!(poller.polls_started(), 0);
        poller.stop();
    }

    #[test]
    fn a_machine_without_a_spare_core_pauses_polling() {
        let mut loadavg = tempfile::tempfile().unwrap();
        let mut runnable = |threads: u32| {
            io::Seek::rewind(&mut loadavg).unwrap();
            io::Write::write_all(&mut loadavg, format!("9.00 9.00 9.00 {threads}/100 7").as_bytes()).unwrap();
            loadavg.try_clone().unwrap()
        };
        let reader = OwnedFd::from(std::io::pipe().unwrap().0);
        let run_queue = RunQueue::new(Some(runnable(3)), 2);
        let poller = Poller::start(reader.try_clone().unwrap(), WINDOW, run_queue).unwrap();
        let begins_at = |ns: u64| {
            let started = poller.polls_started();
            let time = poller.shared.start + Duration::from_nanos(ns);
            poller.request(time);
            poller.request(time);
            poller.polls_started() > started
        };
        assert!(!begins_at(0), "it polls although two other threads want the two cores");
        runnable(2);
        assert!(!begins_at(PAUSE_NS - 1), "it did not pause");
        assert!(begins_at(PAUSE_NS), "the pause has no end");
        // Now the machine gets crowded while it polls.
        runnable(4);
        assert!(wait_until(|| poller.shared.pause_until_ns.load(Ordering::Relaxed) > PAUSE_NS));
        assert!(wait_until(|| !polls(&reader)));
        poller.stop();
    }

    #[test]
    fn stopping_clears_the_flag_and_nothing_sets_it_again() {
        let (poller, device) = poller(Duration::from_millis(500));
        let now = Instant::now();
        poller.request(now);
        poller.request(now);
        assert!(polls(&device));
        poller.stop();
        assert!(!polls(&device));
        poller.request(now);
        assert!(!polls(&device));
    }

    #[test]
    fn a_window_of_zero_is_off() {
        let (poller, device) = poller(Duration::ZERO);
        poller.request(Instant::now());
        poller.request(Instant::now());
        assert!(!polls(&device));
        poller.stop();
    }
}
