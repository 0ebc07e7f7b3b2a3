//! The leader on the core of its only client.
//!
//! Client and leader wait for each other: only one of them ever has anything to do. On one core the kernel switches from
//! the one to the other; on two it has to wake the other core each time, which costs several times as much. So where it
//! can, the leader goes where its client is, and sleeps instead of polling.

use std::fs;
use std::time::Instant;

use super::vigil::{CORES, Rush, Vigil, bind};

/// Where the leader may join its client.
pub(super) struct Company {
    vigil: Vigil,
    /// The core that the leader is bound to.
    core: Option<usize>,
    /// Since it is bound.
    rush: Rush,
}

impl Company {
    pub(super) fn new(vigil: Vigil) -> Company {
        Company { vigil, core: None, rush: Rush::default() }
    }

    /// Binds the calling thread, the leader, to the core on which `client` ran last; whether it is there.
    pub(super) fn join(&mut self, client: u32) -> bool {
        match core_of(client).filter(|core| CORES.contains(core)) {
            Some(core) if self.core == Some(core) || bind(&[core]).is_ok() => {
                self.core = Some(core);
                true
            }
            Some(_) | None => {
                self.leave();
                false
            }
        }
    }

    /// Another request came.
    pub(super) fn stay(&mut self, now: Instant) {
        if let Some(core) = self.core
            && self.rush.goes_on()
        {
            self.vigil.keep_awake(now, core);
        }
    }

    /// The disk lets client and leader wait: an idle core is nothing that could draw the client away then, and who keeps it
    /// awake takes time from whatever serves the disk.
    pub(super) fn waited_for_disk(&mut self) {
        self.rush.end();
    }

    /// Lets the calling thread run where it likes.
    pub(super) fn leave(&mut self) {
        self.rush.end();
        if self.core.take().is_some() {
            self.unbind();
        }
    }

    /// The calling thread leads now, and nobody is bound.
    pub(super) fn replaced(&mut self) {
        self.core = None;
        self.rush.end();
        self.unbind();
    }

    fn unbind(&self) {
        if let Err(error) = bind(&CORES) {
            tracing::info!(%error, "the leader stays on its core");
        }
    }
}

/// Where a thread ran last, as `proc_pid_stat(5)` has it.
fn core_of(thread: u32) -> Option<usize> {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).ok()?;
    // The 39th field; the second one, a name in brackets, may have spaces.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(36)?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use rustix::thread::CpuSet;

    use super::*;

    /// Runs `with` beside a thread that is busy on `core`, whose number it gets.
    pub(in crate::device_transport) fn beside_a_thread_on(core: usize, with: impl FnOnce(u32)) {
        let (number, ends) = (AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                bind(&[core]).unwrap();
                let own = rustix::thread::gettid().as_raw_nonzero().get();
                number.store(own.try_into().unwrap(), Ordering::Release);
                while !ends.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
            });
            while number.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            let ended = catch_unwind(AssertUnwindSafe(|| with(number.load(Ordering::Acquire))));
            ends.store(true, Ordering::Release);
            ended.unwrap_or_else(|panic| resume_unwind(panic));
        });
    }

    pub(in crate::device_transport) fn is_in_a_rush(company: &Company) -> bool {
        company.rush.is_on()
    }

    /// The cores that the calling thread may use.
    pub(in crate::device_transport) fn own_cores() -> Vec<usize> {
        let cores = rustix::thread::sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core)).collect()
    }

    #[test]
    fn the_leader_goes_where_its_client_is_and_may_leave_him() {
        let mut company = Company::new(Vigil::start(&CORES).unwrap());
        for core in [1, 0] {
            beside_a_thread_on(core, |client| {
                assert!(company.join(client));
                assert_eq!(own_cores(), [core]);
            });
        }
        company.leave();
        assert_eq!(own_cores(), CORES);
        assert!(!company.join(u32::MAX), "a client that is not there");
        assert_eq!(own_cores(), CORES);
    }

    #[test]
    fn who_takes_the_seat_of_a_leader_is_not_bound_as_he_was() {
        let mut company = Company::new(Vigil::start(&CORES).unwrap());
        beside_a_thread_on(1, |client| assert!(company.join(client)));
        company.replaced();
        assert_eq!(own_cores(), CORES);
        beside_a_thread_on(1, |client| assert!(company.join(client)));
        assert_eq!(own_cores(), [1], "it took itself for bound");
        company.leave();
    }
}
