//! Threads that keep cores from going idle while requests come fast.
//!
//! Who answers a client on the client's own core loses him to an idle one, if there is one: there the kernel wakes him,
//! and waking an idle core takes tens of microseconds in a virtual machine, which gives it back to its host. A thread
//! that does nothing, at the priority that gives way to everybody (`SCHED_IDLE`, `sched(7)`), prevents both for as long
//! as it runs. On machines of two cores, that is: with more of them somebody would have to sit on each.
#![allow(unsafe_code, reason = "sched_setscheduler(2) has no safe wrapper")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;

/// The machine's cores.
pub(super) const CORES: [usize; 2] = [0, 1];
/// So long a core is kept awake after a request; a cold read takes about as long.
pub(super) const HOLD: Duration = Duration::from_micros(400);
/// So many requests have to come fast before a core is kept awake: a file that is made now and then is not worth it.
const RUSH_REQUESTS: u32 = 16;
/// A thread that keeps its core awake looks after so many pauses whether it still has to.
const SPINS: u32 = 50;

/// Requests that came fast, one after the other.
#[derive(Clone, Copy, Default)]
pub(super) struct Rush(u32);

impl Rush {
    /// Another one; whether a core is to be kept awake.
    pub(super) fn goes_on(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        self.is_on()
    }

    /// Whether enough of them came.
    pub(super) fn is_on(self) -> bool {
        self.0 >= RUSH_REQUESTS
    }

    /// Who came next, if anybody, let it wait.
    pub(super) fn end(&mut self) {
        self.0 = 0;
    }
}

/// A thread for each core, asleep but for short times.
pub(super) struct Vigil {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    begun: Instant,
    watches: Vec<Watch>,
    ended: AtomicBool,
}

/// What one thread is told.
struct Watch {
    core: usize,
    /// How long it keeps the core awake, in nanoseconds after `begun`.
    until_ns: AtomicU64,
    asleep: AtomicBool,
}

impl Vigil {
    /// On a machine of two cores, both of which this process may use, starts the threads, which sleep.
    pub(super) fn on_two_cores() -> Option<Vigil> {
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
        let ours = rustix::thread::sched_getaffinity(None).ok()?;
        if online.trim() != "0-1" || ours.count() != 2 {
            return None;
        }
        Vigil::start(&CORES)
            .inspect_err(|error| tracing::warn!(%error, "cores are not kept awake while requests come fast"))
            .ok()
    }

    pub(super) fn start(cores: &[usize]) -> io::Result<Vigil> {
        let watch = |core: &usize| Watch { core: *core, until_ns: AtomicU64::new(0), asleep: AtomicBool::new(false) };
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            watches: cores.iter().map(watch).collect(),
            ended: AtomicBool::new(false),
        });
        // What was started ends with it when a later one can't be.
        let mut vigil = Vigil { shared, threads: Vec::new() };
        for (number, core) in cores.iter().enumerate() {
            let shared = Arc::clone(&vigil.shared);
            let builder = std::thread::Builder::new().name(format!("verfs-awake-{core}"));
            vigil.threads.push(builder.spawn(move || shared.keep(&shared.watches[number]))?);
        }
        Ok(vigil)
    }

    /// A request of a client on `client` came: every other core is kept awake for [`HOLD`].
    pub(super) fn keep_awake(&self, now: Instant, client: usize) {
        let until_ns = nanoseconds(now.duration_since(self.shared.begun) + HOLD);
        for (watch, thread) in self.shared.watches.iter().zip(&self.threads) {
            if watch.core != client {
                watch.until_ns.store(until_ns, Ordering::Release);
                if watch.asleep.load(Ordering::Acquire) {
                    thread.thread().unpark();
                }
            }
        }
    }
}

impl Drop for Vigil {
    /// On a busy machine it takes a while until the threads get a core to end on. They hold nothing, so nobody waits.
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Shared {
    /// A thread's whole life.
    fn keep(&self, watch: &Watch) {
        if let Err(error) = settle(watch.core) {
            tracing::info!(core = watch.core, %error, "a core is not kept awake while requests come fast");
            return;
        }
        while !self.ended.load(Ordering::Acquire) {
            watch.asleep.store(true, Ordering::Release);
            // Whoever saw it awake a moment ago did not wake it, and comes again with the next request.
            std::thread::park();
            watch.asleep.store(false, Ordering::Release);
            while nanoseconds(self.begun.elapsed()) < watch.until_ns.load(Ordering::Acquire)
                && !self.ended.load(Ordering::Acquire)
            {
                for _ in 0..SPINS {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

/// The calling thread runs on this core from now on, when nobody else wants to.
fn settle(core: usize) -> io::Result<()> {
    bind(&[core])?;
    // Its fields differ from one C library to the other.
    // SAFETY: all of them are numbers, and may be 0.
    let priority: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is the calling thread, and the structure is read during the call only.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &priority) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The calling thread runs on these cores only.
pub(super) fn bind(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// Processor time of the thread of this name, in ticks, once it has given way to everybody.
    fn ticks(name: &str) -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let stat = tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok())
            .find(|stat| stat.contains(&format!("({name})")))
            .unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!(fields[38], libc::SCHED_IDLE.to_string());
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    #[test]
    fn a_core_is_kept_awake_for_as_long_as_is_asked_and_no_longer() {
        let vigil = Vigil::start(&[0, 1]).unwrap();
        let asleep = || vigil.shared.watches.iter().all(|watch| watch.asleep.load(Ordering::Acquire));
        let wait_until_asleep = || {
            let begun = Instant::now();
            while !asleep() {
                assert!(begun.elapsed() < Duration::from_secs(10));
                std::thread::yield_now();
            }
        };
        wait_until_asleep();
        assert_eq!((ticks("verfs-awake-0"), ticks("verfs-awake-1")), (0, 0));
        let begun = Instant::now();
        // Others may keep the core busy all the time.
        while ticks("verfs-awake-1") == 0 {
            vigil.keep_awake(Instant::now(), 0);
            std::thread::sleep(HOLD / 4);
            assert!(begun.elapsed() < Duration::from_secs(120));
        }
        assert_eq!(ticks("verfs-awake-0"), 0, "the client's core");
        wait_until_asleep();
    }

    #[test]
    fn a_core_that_is_not_there_is_not_kept_awake() {
        let vigil = Vigil::start(&[0, 1023]).unwrap();
        vigil.keep_awake(Instant::now(), 0);
    }
}
