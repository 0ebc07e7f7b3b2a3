//! The threads on which calls into the engine run: never JavaScript's, never libuv's.

use std::sync::OnceLock;
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};

/// Calls that run at once in each pool. They mostly wait for the disk or for a lock of the engine.
const THREADS: usize = 4;
/// Calls that wait for a thread of a bounded pool; further ones are refused.
const QUEUED_CALLS_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads behind a queue. They live as long as the process: the addon cannot be unloaded
/// while a promise may still need one.
pub struct Pool {
    jobs: Sender<Job>,
}

/// The pools of this process, so that a question is answered while barriers wait for the disk, and a file is read while
/// others are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For calls that only look.
    Ask,
    /// For calls that may wait for the disk.
    Work,
    /// For operations on files that only look. Its queue is not bounded here: who makes thousands of calls at once is made to wait
    /// before they get here (packages/fs/src/gate.ts), since nobody awaits each call of `fs`.
    Files,
    /// For those that change files: they may wait for room in the open group, and readers never wait for them.
    FileChanges,
    /// For those that make files durable.
    FileSyncs,
}

impl Pool {
    /// A pool of this process, started by its first use.
    ///
    /// # Errors
    /// When the operating system refuses to start a thread.
    pub fn get(kind: Kind) -> Result<&'static Self, std::io::Error> {
        static ASK: OnceLock<Pool> = OnceLock::new();
        static WORK: OnceLock<Pool> = OnceLock::new();
        static FILES: OnceLock<Pool> = OnceLock::new();
        static FILE_CHANGES: OnceLock<Pool> = OnceLock::new();
        static FILE_SYNCS: OnceLock<Pool> = OnceLock::new();
        let (pool, name, is_bounded) = match kind {
            Kind::Ask => (&ASK, "verfs-ask", true),
            Kind::Work => (&WORK, "verfs-work", true),
            Kind::Files => (&FILES, "verfs-files", false),
            Kind::FileChanges => (&FILE_CHANGES, "verfs-change", false),
            Kind::FileSyncs => (&FILE_SYNCS, "verfs-fsync", false),
        };
        if let Some(pool) = pool.get() {
            return Ok(pool);
        }
        let (jobs, queue) = if is_bounded { bounded(QUEUED_CALLS_MAX) } else { unbounded() };
        let started = Self::start(name, jobs, &queue)?;
        Ok(pool.get_or_init(|| started))
    }

    fn start(name: &str, jobs: Sender<Job>, queue: &Receiver<Job>) -> Result<Self, std::io::Error> {
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

/// Drops `value` on a thread where it may wait: the garbage collector of JavaScript, which lets go of it, must not.
pub fn drop_elsewhere(value: impl Send + 'static) {
    let job = Box::new(move || drop(value));
    let refused = match Pool::get(Kind::Work) {
        Ok(pool) => pool.submit(job).err(),
        Err(_) => Some(job as Job),
    };
    if let Some(job) = refused
        && let Err(error) = run_apart("verfs-node-drop", job)
    {
        tracing::error!("a volume was dropped on the JavaScript thread: {error}");
    }
}
