//! The bounded pool behind the leader: threads that may wait, in three groups that don't wait for each other.
//!
//! A cold read never queues behind a throttled write, and neither behind a disk flush. Queues are bounded by the bytes
//! that their jobs hold, not by their number: a client has one request at a time, so however many wait in fsync, the
//! leader goes on. It waits only when written data fills a queue. That can't deadlock: a job calls the tree, and no
//! tree waits for the leader.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

use crate::deadlines::{Deadlines, Request};
use crate::operation::Operation;
use crate::options::SessionOptions;
use crate::stats::LaneStats;

/// What a queued job takes beside the data it holds: the closure with its reply and a name.
const JOB_BYTES: usize = 512;

/// What waits in a queue.
enum Order {
    /// The request of this number among those that wait.
    Run(u64),
    /// The thread that takes it ends.
    Stop,
}

/// A queue and its threads.
struct Lane {
    name: &'static str,
    sender: Sender<Order>,
    receiver: Receiver<Order>,
    held: Arc<Held>,
    deadlines: Arc<Deadlines>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The bytes that a queue's jobs hold.
pub(crate) struct Held {
    bytes: Mutex<usize>,
    max_bytes: usize,
    less: Condvar,
}

impl Held {
    pub(crate) fn new(max_bytes: usize) -> Held {
        Held { bytes: Mutex::new(0), max_bytes, less: Condvar::new() }
    }

    /// Waits until there is room for `bytes`; an empty queue has room for anything.
    pub(crate) fn add(&self, bytes: usize) {
        let mut held = self.bytes.lock();
        while *held > 0 && *held + bytes > self.max_bytes {
            self.less.wait(&mut held);
        }
        *held += bytes;
    }

    pub(crate) fn remove(&self, bytes: usize) {
        *self.bytes.lock() -= bytes;
        self.less.notify_one();
    }
}

/// All of them.
pub(crate) struct Lanes {
    read: Lane,
    change: Lane,
    sync: Lane,
    deadlines: Arc<Deadlines>,
}

/// What an operation waits for when it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LaneKind {
    /// The store.
    Read,
    /// The store, or room in the open group.
    Change,
    /// The disk.
    Sync,
}

impl LaneKind {
    /// Where `operation` waits.
    pub(crate) fn of(operation: Operation) -> LaneKind {
        match operation {
            Operation::Lookup
            | Operation::Forget
            | Operation::Getattr
            | Operation::Readlink
            | Operation::Open
            | Operation::Read
            | Operation::Statfs
            | Operation::Release
            | Operation::Getxattr
            | Operation::Listxattr
            | Operation::Flush
            | Operation::Opendir
            | Operation::Readdir
            | Operation::Readdirplus
            | Operation::Releasedir
            | Operation::Getlk
            | Operation::Setlk
            | Operation::Access
            | Operation::Bmap
            | Operation::Poll
            | Operation::Lseek
            | Operation::Statx
            // These wait for nothing.
            | Operation::Init
            | Operation::Setlkw
            | Operation::Interrupt
            | Operation::Destroy
            | Operation::NotifyReply
            | Operation::BatchForget
            | Operation::Setupmapping
            | Operation::Removemapping => LaneKind::Read,
            Operation::Setattr
            | Operation::Symlink
            | Operation::Mknod
            | Operation::Mkdir
            | Operation::Unlink
            | Operation::Rmdir
            | Operation::Rename
            | Operation::Rename2
            | Operation::Tmpfile
            | Operation::Link
            | Operation::Write
            | Operation::Ioctl
            | Operation::Setxattr
            | Operation::Removexattr
            | Operation::Create
            | Operation::Fallocate
            | Operation::CopyFileRange
            | Operation::CopyFileRange64 => LaneKind::Change,
            Operation::Fsync | Operation::Fsyncdir | Operation::Syncfs => LaneKind::Sync,
        }
    }
}

impl Lane {
    fn start(name: &'static str, threads: u32, max_bytes: usize, deadlines: &Arc<Deadlines>) -> io::Result<Lane> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let (held, deadlines) = (Arc::new(Held::new(max_bytes)), Arc::clone(deadlines));
        let lane = Lane { name, sender, receiver, held, deadlines, threads: Mutex::default() };
        for index in 0..threads {
            let (orders, deadlines) = (lane.receiver.clone(), Arc::clone(&lane.deadlines));
            let thread = std::thread::Builder::new().name(format!("verfs-{name}-{index}"));
            match thread.spawn(move || work(&orders, &deadlines)) {
                Ok(handle) => lane.threads.lock().push(handle),
                Err(error) => {
                    lane.stop();
                    return Err(error);
                }
            }
        }
        Ok(lane)
    }

    fn run(&self, bytes: usize, request: Request) {
        self.held.add(bytes);
        self.order(Order::Run(self.deadlines.add(request, &self.held, bytes)));
    }

    fn perform(&self, request: Request) {
        // Nothing of it is in the queue.
        run(self.deadlines.add(request, &self.held, 0), &self.deadlines);
    }

    fn order(&self, order: Order) {
        // Fails only without receivers, and the lane itself holds one.
        let _ = self.sender.send(order);
    }

    /// Lets the threads finish what is queued, and joins them.
    fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for _ in &threads {
            self.order(Order::Stop);
        }
        for thread in threads {
            // A job's panic is caught in the job.
            let _ = thread.join();
        }
    }

    fn stats(&self) -> LaneStats {
        LaneStats { name: self.name, threads: self.threads.lock().len(), queued: self.receiver.len() }
    }
}

fn work(orders: &Receiver<Order>, deadlines: &Deadlines) {
    while let Ok(Order::Run(number)) = orders.recv() {
        run(number, deadlines);
    }
}

fn run(number: u64, deadlines: &Deadlines) {
    let Some(job) = deadlines.begin(number) else { return };
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a reply panicked");
    }
    deadlines.end(number);
}

impl Lanes {
    /// Starts every thread.
    pub(crate) fn start(options: &SessionOptions) -> io::Result<Lanes> {
        let deadlines = Deadlines::start(options.deadline)?;
        let started = Lanes::start_all(options, &deadlines);
        started.inspect_err(|_| deadlines.stop())
    }

    fn start_all(options: &SessionOptions, deadlines: &Arc<Deadlines>) -> io::Result<Lanes> {
        let lane = |name, threads| Lane::start(name, threads, options.queue_max_bytes, deadlines);
        let read = lane("read", options.io_threads)?;
        let change = lane("change", options.io_threads).inspect_err(|_| read.stop())?;
        let sync = lane("sync", options.sync_threads).inspect_err(|_| {
            read.stop();
            change.stop();
        })?;
        Ok(Lanes { read, change, sync, deadlines: Arc::clone(deadlines) })
    }

    fn lane(&self, kind: LaneKind) -> &Lane {
        match kind {
            LaneKind::Read => &self.read,
            LaneKind::Change => &self.change,
            LaneKind::Sync => &self.sync,
        }
    }

    /// Queues a request that holds `data_bytes`; waits while the queue has no room for them.
    pub(crate) fn run(&self, kind: LaneKind, data_bytes: usize, request: Request) {
        self.lane(kind).run(JOB_BYTES + data_bytes, request);
    }

    /// Performs a request on the caller's thread, with the deadline of the others.
    pub(crate) fn perform(&self, kind: LaneKind, request: Request) {
        self.lane(kind).perform(request);
    }

    /// Finishes everything queued and joins the threads. Nothing may be queued any more.
    pub(crate) fn stop(&self) {
        for lane in [&self.read, &self.change, &self.sync] {
            lane.stop();
        }
        self.deadlines.stop();
    }

    /// What waits too long.
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Threads and queues now.
    pub(crate) fn stats(&self) -> Vec<LaneStats> {
        [&self.read, &self.change, &self.sync].map(Lane::stats).to_vec()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn request(job: impl FnOnce() + Send + 'static) -> Request {
        let arrival = std::time::Instant::now();
        Request { operation: Operation::Write, arrival, job: Box::new(job), refusal: None }
    }

    fn lanes(threads: u32, queue_max_bytes: usize) -> Arc<Lanes> {
        let options =
            SessionOptions { io_threads: threads, sync_threads: threads, queue_max_bytes, ..SessionOptions::default() };
        Arc::new(Lanes::start(&options).unwrap())
    }

    #[test]
    fn a_lane_full_of_data_holds_its_caller_back_and_no_other_lane() {
        let lanes = lanes(1, 2 * JOB_BYTES + 1000);
        let (release, blocked) = crossbeam_channel::bounded::<()>(0);
        let (started, running) = crossbeam_channel::unbounded();
        let push = || {
            let (started, blocked) = (started.clone(), blocked.clone());
            lanes.run(
                LaneKind::Change,
                1000,
                request(move || {
                    started.send(()).unwrap();
                    blocked.recv().unwrap();
                }),
            );
        };
        push();
        // The first job must have left the queue before the second one can fill it.
        running.recv_timeout(PATIENCE).unwrap();
        push();
        let (queued, third) = crossbeam_channel::bounded(1);
        let pusher = std::thread::spawn({
            let lanes = lanes.clone();
            move || {
                lanes.run(LaneKind::Change, 1, request(|| ()));
                queued.send(()).unwrap();
            }
        });
        assert!(third.recv_timeout(Duration::from_millis(50)).is_err(), "a full queue took one byte more");
        let (done, read) = crossbeam_channel::bounded(1);
        lanes.run(LaneKind::Read, 0, request(move || done.send(()).unwrap()));
        read.recv_timeout(PATIENCE).unwrap();
        release.send(()).unwrap();
        third.recv_timeout(PATIENCE).unwrap();
        release.send(()).unwrap();
        pusher.join().unwrap();
        lanes.stop();
    }

    #[test]
    fn stop_finishes_what_is_queued() {
        let lanes = lanes(2, 1 << 20);
        let done = Arc::new(AtomicU32::new(0));
        for _ in 0..50 {
            let done = done.clone();
            lanes.run(
                LaneKind::Sync,
                0,
                request(move || {
                    std::thread::sleep(Duration::from_micros(200));
                    done.fetch_add(1, Ordering::SeqCst);
                }),
            );
        }
        lanes.stop();
        assert_eq!(done.load(Ordering::SeqCst), 50);
        assert!(lanes.stats().iter().all(|lane| lane.threads == 0 && lane.queued == 0));
    }

    #[test]
    fn a_panicking_job_leaves_its_thread_alive() {
        let lanes = lanes(1, 1 << 20);
        lanes.run(LaneKind::Read, 0, request(|| panic!("on purpose")));
        let (done, finished) = crossbeam_channel::bounded(1);
        lanes.run(LaneKind::Read, 0, request(move || done.send(()).unwrap()));
        finished.recv_timeout(PATIENCE).unwrap();
        lanes.stop();
    }
}
