//! Replies on their way back to the thread of a queue, which alone may touch its entries.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::event::EventfdFlags;

use crate::wire::Port;

/// A reply that is ready.
pub(super) struct FinishedReply {
    pub(super) entry: usize,
    /// The request that it is for.
    pub(super) unique: u64,
    /// Positive.
    pub(super) errno: i32,
    pub(super) head: Vec<u8>,
    pub(super) data: Vec<Bytes>,
}

/// The replies of one queue that its thread hasn't taken yet: never more than it has entries.
pub(super) struct Finished {
    replies: Mutex<Vec<FinishedReply>>,
    /// Written to when another thread than the queue's has a reply.
    wake: OwnedFd,
    owner: OnceLock<ThreadId>,
    stopped: AtomicBool,
}

impl Finished {
    pub(super) fn new() -> io::Result<Finished> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Finished { replies: Mutex::default(), wake, owner: OnceLock::new(), stopped: AtomicBool::new(false) })
    }

    /// The thread that calls this needs no waking.
    pub(super) fn own(&self) {
        // Once.
        let _ = self.owner.set(std::thread::current().id());
    }

    /// What becomes readable when there is something to take.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes what is ready; `into` is empty.
    pub(super) fn take(&self, into: &mut Vec<FinishedReply>) {
        std::mem::swap(&mut *self.replies.lock(), into);
    }

    /// The wake-up was seen.
    pub(super) fn clear_wake(&self) {
        // It was readable, and nobody else reads it.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    /// Whether the thread is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The thread is to end.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // Fails only when 2^64 wake-ups were not seen.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn put(&self, reply: FinishedReply) {
        self.replies.lock().push(reply);
        if self.owner.get() != Some(&std::thread::current().id()) {
            self.wake();
        }
    }
}

/// Where the reply of one request goes.
pub(super) struct RingPort {
    pub(super) finished: Arc<Finished>,
    pub(super) entry: usize,
    pub(super) unique: u64,
}

impl Port for RingPort {
    fn send(self, errno: i32, head: &[u8], data: &[Bytes]) {
        let RingPort { finished, entry, unique } = self;
        finished.put(FinishedReply { entry, unique, errno, head: head.to_vec(), data: data.to_vec() });
    }
}
