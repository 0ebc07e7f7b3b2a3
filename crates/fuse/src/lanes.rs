//! The bounded pool behind the leader: threads that may wait, in three groups that don't wait for each other.
//!
//! A cold read never queues behind a throttled write, and neither behind a disk flush. The leader waits when a group's
//! queue is full, so memory is bounded. That can't deadlock: a job calls the tree, and no tree waits for the leader.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use crate::operation::Operation;
use crate::options::SessionOptions;
use crate::stats::LaneStats;

/// What waits in a queue.
enum Job {
    /// An operation with its reply.
    Run(Box<dyn FnOnce() + Send>),
    /// The thread that takes it ends.
    Stop,
}

/// A queue and its threads.
struct Lane {
    name: &'static str,
    sender: Sender<Job>,
    receiver: Receiver<Job>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// All of them.
pub(crate) struct Lanes {
    read: Lane,
    change: Lane,
    sync: Lane,
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
            | Operation::Ioctl
            | Operation::Poll
            | Operation::Lseek => LaneKind::Read,
            Operation::Setattr
            | Operation::Symlink
            | Operation::Mknod
            | Operation::Mkdir
            | Operation::Unlink
            | Operation::Rmdir
            | Operation::Rename
            | Operation::Link
            | Operation::Write
            | Operation::Setxattr
            | Operation::Removexattr
            | Operation::Create
            | Operation::Fallocate
            | Operation::CopyFileRange => LaneKind::Change,
            Operation::Fsync | Operation::Fsyncdir => LaneKind::Sync,
        }
    }
}

impl Lane {
    fn start(name: &'static str, threads: u32, queue_max: usize) -> io::Result<Lane> {
        let (sender, receiver) = crossbeam_channel::bounded(queue_max);
        let lane = Lane { name, sender, receiver, threads: Mutex::default() };
        for index in 0..threads {
            let jobs = lane.receiver.clone();
            let thread = std::thread::Builder::new().name(format!("verfs-{name}-{index}"));
            match thread.spawn(move || work(&jobs)) {
                Ok(handle) => lane.threads.lock().push(handle),
                Err(error) => {
                    lane.stop();
                    return Err(error);
                }
            }
        }
        Ok(lane)
    }

    fn run(&self, job: Job) {
        // Fails only without receivers, and the lane itself holds one.
        let _ = self.sender.send(job);
    }

    /// Lets the threads finish what is queued, and joins them.
    fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for _ in &threads {
            self.run(Job::Stop);
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

fn work(jobs: &Receiver<Job>) {
    while let Ok(Job::Run(job)) = jobs.recv() {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a reply panicked");
        }
    }
}

impl Lanes {
    /// Starts every thread.
    pub(crate) fn start(options: &SessionOptions) -> io::Result<Lanes> {
        let read = Lane::start("read", options.io_threads, options.queue_max)?;
        let change = Lane::start("change", options.io_threads, options.queue_max).inspect_err(|_| read.stop())?;
        let sync = Lane::start("sync", options.sync_threads, options.queue_max).inspect_err(|_| {
            read.stop();
            change.stop();
        })?;
        Ok(Lanes { read, change, sync })
    }

    fn lane(&self, kind: LaneKind) -> &Lane {
        match kind {
            LaneKind::Read => &self.read,
            LaneKind::Change => &self.change,
            LaneKind::Sync => &self.sync,
        }
    }

    /// Queues a job; waits while the queue is full.
    pub(crate) fn run(&self, kind: LaneKind, job: Box<dyn FnOnce() + Send>) {
        self.lane(kind).run(Job::Run(job));
    }

    /// Finishes everything queued and joins the threads. Nothing may be queued any more.
    pub(crate) fn stop(&self) {
        for lane in [&self.read, &self.change, &self.sync] {
            lane.stop();
        }
    }

    /// Threads and queues now.
    pub(crate) fn stats(&self) -> Vec<LaneStats> {
        [&self.read, &self.change, &self.sync].map(Lane::stats).to_vec()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn lanes(threads: u32, queue_max: usize) -> Arc<Lanes> {
        let options =
            SessionOptions { io_threads: threads, sync_threads: threads, queue_max, ..SessionOptions::default() };
        Arc::new(Lanes::start(&options).unwrap())
    }

    #[test]
    fn a_full_lane_holds_its_caller_back_and_no_other_lane() {
        let lanes = lanes(1, 1);
        let (release, blocked) = crossbeam_channel::bounded::<()>(0);
        let (started, running) = crossbeam_channel::unbounded();
        let push = || {
            let (started, blocked) = (started.clone(), blocked.clone());
            lanes.run(
                LaneKind::Change,
                Box::new(move || {
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
                lanes.run(LaneKind::Change, Box::new(|| ()));
                queued.send(()).unwrap();
            }
        });
        assert!(third.recv_timeout(Duration::from_millis(50)).is_err(), "the queue of one took a second job");
        let (done, read) = crossbeam_channel::bounded(1);
        lanes.run(LaneKind::Read, Box::new(move || done.send(()).unwrap()));
        read.recv_timeout(PATIENCE).unwrap();
        release.send(()).unwrap();
        third.recv_timeout(PATIENCE).unwrap();
        release.send(()).unwrap();
        pusher.join().unwrap();
        lanes.stop();
    }

    #[test]
    fn stop_finishes_what_is_queued() {
        let lanes = lanes(2, 100);
        let done = Arc::new(AtomicU32::new(0));
        for _ in 0..50 {
            let done = done.clone();
            lanes.run(
                LaneKind::Sync,
                Box::new(move || {
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
        let lanes = lanes(1, 10);
        lanes.run(LaneKind::Read, Box::new(|| panic!("on purpose")));
        let (done, finished) = crossbeam_channel::bounded(1);
        lanes.run(LaneKind::Read, Box::new(move || done.send(()).unwrap()));
        finished.recv_timeout(PATIENCE).unwrap();
        lanes.stop();
    }
}
