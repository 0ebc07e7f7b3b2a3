//! The requests that wait for a thread or for what it does, and what becomes of one that waits too long.
//!
//! A disk that hangs answers nothing, for minutes or for ever, and whoever waits for it can't be killed while the kernel
//! waits for a reply. So a request past its deadline is answered EIO: one that no thread has taken up yet is dropped, and
//! one that a thread is at goes on, for nobody may take half of a change back; its reply then finds nobody. Threads that
//! hang stay what they were, a bounded pool. Data flows from [`crate::lanes`] into the table and from there to a thread or
//! to the end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::calls::Refusal;
use crate::errno::Errno;
use crate::lanes::Held;
use crate::operation::Operation;
use crate::stats::OverdueStats;

/// An operation with its reply.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A request on its way to a thread.
pub(crate) struct Request {
    pub(crate) operation: Operation,
    pub(crate) arrival: Instant,
    /// What it does.
    pub(crate) job: Job,
    /// Answers in its place; none for a transport whose replies can't be shared: its requests have no deadline.
    pub(crate) refusal: Option<Refusal>,
}

/// A request that is queued or under way.
struct Waiting {
    operation: Operation,
    arrival: Instant,
    /// Until a thread takes it up, with the bytes that it holds meanwhile.
    queued: Option<(Job, Arc<Held>, usize)>,
    /// Until the deadline.
    refusal: Option<Refusal>,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// In the order of arrival, and so of deadlines.
    waiting: BTreeMap<u64, Waiting>,
    /// Requests before this one had their deadline.
    due_from: u64,
    /// Requests that were answered EIO since the mount, and since the store last answered all.
    refused: u64,
    refused_now: u64,
    /// The thread waits until something comes.
    asleep: bool,
    stopped: bool,
}

struct Shared {
    table: Mutex<Table>,
    wake: Condvar,
}

/// The table, and the thread that looks at it.
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Deadlines {
    /// Starts the thread; without a limit there is none, and whoever waits, waits.
    pub(crate) fn start(limit: Option<Duration>) -> std::io::Result<Arc<Deadlines>> {
        let shared = Arc::new(Shared { table: Mutex::default(), wake: Condvar::new() });
        let thread = match limit {
            Some(limit) => {
                let shared = Arc::clone(&shared);
                let builder = std::thread::Builder::new().name("verfs-deadline".to_owned());
                Some(builder.spawn(move || {
                    // What panics is an answer, and the request that it was for has had its deadline.
                    while catch_unwind(AssertUnwindSafe(|| shared.watch(limit))).is_err() {
                        tracing::error!("answering a request past its deadline panicked; the next ones are answered");
                    }
                })?)
            }
            None => None,
        };
        Ok(Arc::new(Deadlines { shared, thread: Mutex::new(thread) }))
    }

    /// Takes a request in, which holds `bytes` of `held` until a thread takes it up. Gives its number.
    pub(crate) fn add(&self, request: Request, held: &Arc<Held>, bytes: usize) -> u64 {
        let Request { operation, arrival, job, refusal } = request;
        let queued = Some((job, Arc::clone(held), bytes));
        let mut table = self.shared.table.lock();
        let number = table.next;
        table.next += 1;
        table.waiting.insert(number, Waiting { operation, arrival, queued, refusal });
        if std::mem::take(&mut table.asleep) {
            self.shared.wake.notify_one();
        }
        number
    }

    /// What is to be done for a request; nothing when it was refused meanwhile.
    pub(crate) fn begin(&self, number: u64) -> Option<Job> {
        let mut table = self.shared.table.lock();
        let (job, held, bytes) = table.waiting.get_mut(&number)?.queued.take()?;
        drop(table);
        held.remove(bytes);
        Some(job)
    }

    /// It is done.
    pub(crate) fn end(&self, number: u64) {
        let mut table = self.shared.table.lock();
        table.waiting.remove(&number);
        let recovered = table.refused_now > 0 && table.overdue() == 0;
        let refused = if recovered { std::mem::take(&mut table.refused_now) } else { 0 };
        drop(table);
        if recovered {
            tracing::warn!(refused, "the store answers again; requests that waited too long got EIO meanwhile");
        }
    }

    /// How many requests were answered EIO since the mount.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.table.lock().refused
    }

    /// What is still under way after its deadline, by operation.
    pub(crate) fn overdue(&self) -> Vec<OverdueStats> {
        let table = self.shared.table.lock();
        let mut found: BTreeMap<&'static str, OverdueStats> = BTreeMap::new();
        for waiting in table.waiting.range(..table.due_from).map(|(_, waiting)| waiting) {
            let entry = found.entry(waiting.operation.name()).or_insert(OverdueStats {
                operation: waiting.operation,
                count: 0,
                longest: Duration::ZERO,
            });
            entry.count += 1;
            entry.longest = entry.longest.max(waiting.arrival.elapsed());
        }
        found.into_values().collect()
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.shared.table.lock().stopped = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches deadlines panicked");
        }
    }
}

impl Table {
    fn overdue(&self) -> usize {
        self.waiting.range(..self.due_from).count()
    }
}

impl Shared {
    /// The thread's whole life.
    fn watch(&self, limit: Duration) {
        let mut table = self.table.lock();
        while !table.stopped {
            let seen = table.next;
            match table.waiting.range(table.due_from..).next().map(|(number, waiting)| (*number, waiting.arrival)) {
                Some((number, arrival)) => match limit.checked_sub(arrival.elapsed()).filter(|left| !left.is_zero()) {
                    Some(left) => {
                        self.wake.wait_for(&mut table, left);
                    }
                    None => self.refuse(&mut table, number),
                },
                // Under load it is empty again and again, and the thread is not woken for each request.
                None if !self.wake.wait_for(&mut table, limit / 4).timed_out() || table.next != seen => {}
                None => {
                    table.asleep = true;
                    self.wake.wait(&mut table);
                    table.asleep = false;
                }
            }
        }
    }

    /// The deadline of a request has come.
    fn refuse(&self, table: &mut MutexGuard<'_, Table>, number: u64) {
        table.due_from = number + 1;
        let Some(waiting) = table.waiting.get_mut(&number) else { return };
        let (operation, refusal, queued) = (waiting.operation, waiting.refusal.take(), waiting.queued.take());
        let waited = waiting.arrival.elapsed();
        if refusal.is_none() {
            // It can't be answered for; nothing is lost but time.
            if let Some(waiting) = table.waiting.get_mut(&number) {
                waiting.queued = queued;
            }
            return;
        }
        if queued.is_some() {
            table.waiting.remove(&number);
        }
        let is_first = table.refused_now == 0;
        table.refused += 1;
        table.refused_now += 1;
        MutexGuard::unlocked(table, || {
            if is_first {
                tracing::error!(
                    operation = operation.name(),
                    waited_s = waited.as_secs(),
                    "the store does not answer: requests past their deadline get EIO, the work for them goes on"
                );
            }
            if let Some((job, held, bytes)) = queued {
                held.remove(bytes);
                drop(job);
            }
            if let Some(refusal) = refusal {
                refusal(Errno::IO);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(600);
    const PATIENCE: Duration = Duration::from_secs(10);

    struct Asked {
        number: u64,
        answer: crossbeam_channel::Receiver<Errno>,
        ran: Arc<AtomicBool>,
    }

    fn ask(deadlines: &Deadlines, held: &Arc<Held>) -> Asked {
        let (sender, answer) = crossbeam_channel::bounded(1);
        let ran = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&ran);
        let request = Request {
            operation: Operation::Fsync,
            arrival: Instant::now(),
            job: Box::new(move || runs.store(true, Ordering::SeqCst)),
            refusal: Some(Box::new(move |errno| sender.send(errno).unwrap())),
        };
        held.add(100);
        Asked { number: deadlines.add(request, held, 100), answer, ran }
    }

    #[test]
    fn what_waits_too_long_is_refused_and_what_is_under_way_goes_on() {
        let deadlines = Deadlines::start(Some(LIMIT)).unwrap();
        let held = Arc::new(Held::new(150));
        // After a time in which nothing came.
        std::thread::sleep(LIMIT);
        let quick = ask(&deadlines, &held);
        deadlines.begin(quick.number).unwrap()();
        deadlines.end(quick.number);
        let slow = ask(&deadlines, &held);
        let work = deadlines.begin(slow.number).unwrap();
        let queued = ask(&deadlines, &held);
        assert_eq!(slow.answer.recv_timeout(PATIENCE).unwrap(), Errno::IO);
        assert_eq!(queued.answer.recv_timeout(PATIENCE).unwrap(), Errno::IO);
        // Its data are gone, and nobody will do it; the other one is done, and until then status shows it.
        assert!(deadlines.begin(queued.number).is_none());
        let [overdue] = deadlines.overdue()[..] else { panic!("{:?}", deadlines.overdue()) };
        assert_eq!((overdue.operation, overdue.count), (Operation::Fsync, 1));
        assert!(overdue.longest >= LIMIT);
        held.add(150);
        work();
        deadlines.end(slow.number);
        assert!(slow.ran.load(Ordering::SeqCst) && !queued.ran.load(Ordering::SeqCst));
        assert!(deadlines.overdue().is_empty() && deadlines.refused() == 2);
        assert!(quick.answer.try_recv().is_err(), "it was refused although it was done");
        deadlines.stop();
    }

    #[test]
    fn an_answer_that_panics_does_not_end_the_watch() {
        let deadlines = Deadlines::start(Some(LIMIT)).unwrap();
        let held = Arc::new(Held::new(1000));
        let request = Request {
            operation: Operation::Read,
            arrival: Instant::now(),
            job: Box::new(|| ()),
            refusal: Some(Box::new(|_| panic!("on purpose"))),
        };
        held.add(1000);
        deadlines.add(request, &held, 1000);
        // There is room for it once the first one is dropped.
        let next = ask(&deadlines, &held);
        assert_eq!(next.answer.recv_timeout(PATIENCE).unwrap(), Errno::IO);
        assert_eq!(deadlines.refused(), 2);
        deadlines.stop();
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let deadlines = Deadlines::start(None).unwrap();
        let held = Arc::new(Held::new(1000));
        let asked = ask(&deadlines, &held);
        assert!(asked.answer.recv_timeout(LIMIT / 3).is_err());
        deadlines.begin(asked.number).unwrap()();
        deadlines.end(asked.number);
        assert!(asked.ran.load(Ordering::SeqCst));
        deadlines.stop();
    }
}
