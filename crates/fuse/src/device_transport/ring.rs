//! FUSE over io_uring: a queue for each core, served by a thread on that core.
//!
//! A request is served where its caller runs, so nobody has to wake another core. The kernel puts it into an entry of the
//! core's queue; the reply goes into the same entry with the command that gives it back, and the thread waits for the
//! next one in the same system call. FORGET, INTERRUPT and notifications still go through the device.

mod entries;
mod finished;
mod queue;
mod submission;

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use self::finished::Finished;
pub(super) use self::queue::Haste;
use self::queue::Queue;
use crate::tree::Tree;
use crate::wire::Server;

/// Entries of all queues together: so many requests can wait for something at once.
const ENTRIES_TOTAL: usize = 512;

/// Entries of one queue, however many cores there are.
const ENTRIES: RangeInclusive<usize> = 32..=256;

/// What a queue's thread needs before it can serve.
struct Order<T> {
    device: Arc<OwnedFd>,
    server: Arc<Server<T>>,
    haste: Haste,
}

/// The thread of one queue. Without an order it ends.
struct QueueThread<T> {
    orders: Sender<Order<T>>,
    /// That memory and ring are there; then that the kernel has every entry.
    reports: Receiver<io::Result<()>>,
    finished: Arc<Finished>,
    thread: JoinHandle<()>,
}

/// Queues that the kernel doesn't know yet.
pub(super) struct PreparedRing<T> {
    threads: Vec<QueueThread<T>>,
}

/// Queues that serve.
pub(super) struct Ring {
    threads: Vec<(Arc<Finished>, JoinHandle<()>)>,
}

impl<T: Tree> PreparedRing<T> {
    /// Takes memory and starts threads.
    pub(super) fn new() -> io::Result<PreparedRing<T>> {
        let queues = possible_cores()?;
        let entries = (ENTRIES_TOTAL / queues).clamp(*ENTRIES.start(), *ENTRIES.end());
        let mut threads = Vec::new();
        for core in 0..queues {
            threads.push(QueueThread::start(core as u16, entries)?);
        }
        for thread in &threads {
            thread.report()?;
        }
        Ok(PreparedRing { threads })
    }

    /// Gives the entries to the kernel, which from then on puts every request into them.
    pub(super) fn register(self, device: &Arc<OwnedFd>, server: &Arc<Server<T>>, haste: Haste) -> io::Result<Ring> {
        for thread in &self.threads {
            let order = Order { device: device.clone(), server: server.clone(), haste: haste.clone() };
            // Fails only when the thread is gone, which its report says.
            let _ = thread.orders.send(order);
        }
        let registered = self.threads.iter().try_for_each(QueueThread::report);
        let threads = self.threads.into_iter().map(|thread| (thread.finished, thread.thread)).collect();
        let ring = Ring { threads };
        match registered {
            Ok(()) => Ok(ring),
            Err(error) => {
                ring.stop();
                Err(error)
            }
        }
    }
}

impl<T: Tree> QueueThread<T> {
    fn start(core: u16, entries: usize) -> io::Result<QueueThread<T>> {
        let (orders, ordered) = crossbeam_channel::bounded::<Order<T>>(1);
        let (report, reports) = crossbeam_channel::bounded(2);
        let finished = Arc::new(Finished::new()?);
        let thread = std::thread::Builder::new().name(format!("verfs-ring-{core}")).spawn({
            let finished = finished.clone();
            move || {
                // Whoever waits for a report holds the other end.
                let say = |said: io::Result<()>| drop(report.send(said));
                let queue = match Queue::new(core, entries, finished) {
                    Ok(queue) => queue,
                    Err(error) => return say(Err(error)),
                };
                say(Ok(()));
                let Ok(Order { device, server, haste }) = ordered.recv() else { return };
                // The kernel gives nothing to entries that nobody holds, so callers on this core would wait for ever.
                let served = catch_unwind(AssertUnwindSafe(|| queue.serve(&device, &*server, haste, say)));
                match served.unwrap_or_else(|_| Err(io::Error::other("it panicked"))) {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::error!(%error, core, "a queue of the ring broke off");
                        server.break_off();
                    }
                }
            }
        })?;
        Ok(QueueThread { orders, reports, finished, thread })
    }

    fn report(&self) -> io::Result<()> {
        self.reports.recv().unwrap_or_else(|_| Err(io::Error::other("a thread of the ring ended")))
    }
}

impl Ring {
    /// Waits for the threads, which end with the connection.
    pub(super) fn wait(self) {
        for (_, thread) in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the ring panicked");
            }
        }
    }

    /// Ends the threads although the connection lives.
    pub(super) fn stop(self) {
        for (finished, _) in &self.threads {
            finished.stop();
        }
        self.wait();
    }
}

/// How many cores the kernel reckons with, online or not: it wants a queue for each.
fn possible_cores() -> io::Result<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    last_core(&text).map(|last| last + 1).ok_or_else(|| io::Error::other(format!("cores {text:?} make no sense")))
}

/// The last of a list like `0-3,6-7`.
fn last_core(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_core_of_a_list_is_found() {
        assert_eq!(last_core("0\n"), Some(0));
        assert_eq!(last_core("0-7\n"), Some(7));
        assert_eq!(last_core("0-3,8-11\n"), Some(11));
        assert_eq!(last_core(""), None);
    }
}
