//! The threads on which calls into the engine run: never JavaScript's, never libuv's.

use std::sync::OnceLock;
use std::thread;

use crossbeam_channel::{Sender, TrySendError, bounded};

/// Calls that run at once in each pool. They mostly wait for the disk or for a lock of the engine.
const THREADS: usize = 4;
/// Calls that wait for a thread of a pool; further ones are refused.
const QUEUED_CALLS_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads behind a bounded queue. They live as long as the process: the addon cannot be unloaded
/// while a promise may still need one.
pub struct Pool {
    jobs: Sender<Job>,
}

/// The pools of this process. There are two, so that a question is answered while barriers wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For calls that only look.
    Ask,
    /// For calls that may wait for the disk.
    Work,
}

impl Pool {
    /// A pool of this process, started by its first use.
    ///
    /// # Errors
    /// When the operating system refuses to start a thread.
    pub fn get(kind: Kind) -> Result<&'static Self, std::io::Error> {
        static ASK: OnceLock<Pool> = OnceLock::new();
        static WORK: OnceLock<Pool> = OnceLock::new();
        let (pool, name) = match kind {
            Kind::Ask => (&ASK, "verfs-ask"),
            Kind::Work => (&WORK, "verfs-work"),
        };
        if let Some(pool) = pool.get() {
            return Ok(pool);
        }
        let started = Self::start(name)?;
        Ok(pool.get_or_init(|| started))
    }

    fn start(name: &str) -> Result<Self, std::io::Error> {
        let (jobs, queue) = bounded::<Job>(QUEUED_CALLS_MAX);
        for number in 0..THREADS {
            let queue = queue.clone();
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || queue.into_iter().for_each(|job| job()))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on one of the threads. It must not panic.
    ///
    /// # Errors
    /// Gives `job` back when the queue is full.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(TrySendError::into_inner)
    }
}

/// Runs `job` on a thread of its own named `name`: for calls that may last as long as a mount.
///
/// # Errors
/// When the operating system refuses to start a thread.
pub fn run_apart(name: &str, job: impl FnOnce() + Send + 'static) -> Result<(), std::io::Error> {
    thread::Builder::new().name(name.to_owned()).spawn(job).map(drop)
}
