//! From a request to its reply: the leader tries, the pool waits, a panic costs one caller an EIO.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use verfs_base::Ino;
use verfs_vfs::{AccessTimes, Context, Patience, Pin, VfsError};

use crate::calls::{Call, Reply};
use crate::connection::Connection;
use crate::deadlines::Request;
use crate::errno::Errno;
use crate::lanes::{LaneKind, Lanes};
use crate::mounting::AbortSwitch;
use crate::operation::Operation;
use crate::polling::Poller;
use crate::stats::Stats;
use crate::transport::Notifier;
use crate::tree::{Lifetime, Opening, Tree};

/// Who sent a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    /// Effective user.
    pub(crate) uid: u32,
    /// Effective group.
    pub(crate) gid: u32,
    /// Of requests that create something.
    pub(crate) umask: u16,
}

impl Caller {
    fn context(self, access_times: AccessTimes, patience: Patience) -> Context {
        Context { uid: self.uid, gid: self.gid, umask: self.umask, patience, pin: Pin::Count, access_times }
    }
}

/// What somebody opens a file for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenFor {
    /// He may not change it.
    Reading,
    /// He may, or empties it at once.
    Change,
}

/// What the kernel can do without after it was declined once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Spared {
    /// OPEN.
    pub(crate) open: bool,
    /// OPENDIR.
    pub(crate) opendir: bool,
}

/// What the dispatcher and the session that owns it share.
pub(crate) struct Machinery {
    /// Threads that may wait.
    pub(crate) lanes: Lanes,
    /// Counters.
    pub(crate) stats: Stats,
    /// The polling of a leader that doesn't do it itself.
    pub(crate) poller: Option<Poller>,
    /// How often a leader that does began to.
    pub(crate) polls_started: AtomicU64,
    /// Whether the kernel is still there.
    pub(crate) connection: Connection,
    /// Whether reads through this mount leave a trace.
    pub(crate) access_times: AccessTimes,
    /// For what must be told before a reply; set once the transport runs.
    pub(crate) notifier: OnceLock<Box<dyn Notifier + Sync>>,
    /// Cuts the connection; set once the mount is served. What was said when there is no such thing.
    pub(crate) abort_switch: OnceLock<io::Result<AbortSwitch>>,
    /// Whether a part of the transport has ended before the connection did.
    pub(crate) is_broken: AtomicBool,
}

/// Serves the requests of one session.
pub(crate) struct Dispatcher<T> {
    tree: Arc<T>,
    machinery: Arc<Machinery>,
}

/// A request that has to wait for something.
pub(crate) struct Waiting {
    lane: LaneKind,
    data_bytes: usize,
    request: Request,
}

/// Why an operation has no answer.
enum Failure {
    WouldBlock,
    Errno(Errno),
}

impl<T> Dispatcher<T> {
    pub(crate) fn new(tree: Arc<T>, machinery: Arc<Machinery>) -> Dispatcher<T> {
        Dispatcher { tree, machinery }
    }

    /// What is shared with the session.
    pub(crate) fn machinery(&self) -> Arc<Machinery> {
        self.machinery.clone()
    }

    /// Replies from the leader, whose loop, and with it the mount, must outlive a reply that panics.
    fn answer<A, P: Reply<A>>(&self, operation: Operation, arrival: Instant, reply: P, answer: Result<A, Errno>) {
        let finish = || self.machinery.finish(operation, arrival, reply, answer);
        if catch_unwind(AssertUnwindSafe(finish)).is_err() {
            tracing::error!(operation = operation.name(), "a reply panicked");
        }
    }
}

impl<T: Tree> Dispatcher<T> {
    /// Answers `call` through `reply`: at once if nothing has to be waited for, else from another thread.
    pub(crate) fn serve<C, P>(&self, caller: Caller, call: C, reply: P)
    where
        C: Call<P>,
        P: Reply<C::Answer>,
    {
        if let Some(waiting) = self.attempt(caller, call, reply) {
            self.queue(waiting);
        }
    }

    /// Answers `call` through `reply` if nothing has to be waited for. Else it is for the caller to have it performed.
    #[must_use = "nobody else answers it"]
    pub(crate) fn attempt<C, P>(&self, caller: Caller, call: C, mut reply: P) -> Option<Waiting>
    where
        C: Call<P>,
        P: Reply<C::Answer>,
    {
        let arrival = Instant::now();
        self.machinery.request(arrival);
        let lane = LaneKind::of(C::OPERATION);
        if lane != LaneKind::Sync {
            match perform(&*self.tree, &call, caller.context(self.machinery.access_times, Patience::Try), &mut reply) {
                Err(Failure::WouldBlock) => {}
                Ok(answer) => {
                    self.machinery.stats.record_moved(C::OPERATION, C::moved_bytes(&answer));
                    self.machinery.outdate(call.outdated(&answer));
                    self.answer(C::OPERATION, arrival, reply, Ok(answer));
                    return None;
                }
                Err(Failure::Errno(errno)) => {
                    self.answer(C::OPERATION, arrival, reply, Err(errno));
                    return None;
                }
            }
        }
        let data_bytes = call.data_bytes();
        let (tree, machinery, call) = (self.tree.clone(), self.machinery.clone(), call.into_owned());
        let refusal = reply.refusal();
        let job = move || {
            let answer = perform(&*tree, &call, caller.context(machinery.access_times, Patience::Wait), &mut reply);
            let answer = answer.map_err(|failure| match failure {
                Failure::Errno(errno) => errno,
                Failure::WouldBlock => {
                    tracing::error!(operation = C::OPERATION.name(), "an operation that may wait would not");
                    Errno::from(VfsError::WouldBlock)
                }
            });
            if let Ok(answer) = &answer {
                machinery.stats.record_moved(C::OPERATION, C::moved_bytes(answer));
                machinery.outdate(call.outdated(answer));
            }
            machinery.finish(C::OPERATION, arrival, reply, answer);
        };
        let request = Request { operation: C::OPERATION, arrival, job: Box::new(job), refusal };
        Some(Waiting { lane, data_bytes, request })
    }

    /// Has it performed by a thread that may wait.
    pub(crate) fn queue(&self, waiting: Waiting) {
        let Waiting { lane, data_bytes, request } = waiting;
        self.machinery.stats.record_queued(request.operation);
        self.machinery.lanes.run(lane, data_bytes, request);
    }

    /// Performs it here and waits for what it waits for.
    pub(crate) fn perform(&self, waiting: Waiting) {
        self.machinery.lanes.perform(waiting.lane, waiting.request);
    }

    /// Answers whether a file may be opened: where that is unasked the kernel learns that it need not ask.
    pub(crate) fn open<P: Reply<Lifetime>>(&self, purpose: OpenFor, spared: Spared, reply: P) {
        let answer = match (self.tree.opening(), purpose) {
            (Opening::Unasked, _) if spared.open => Err(Errno::NOT_IMPLEMENTED),
            (Opening::ReadersOnly, OpenFor::Change) => Err(Errno::READ_ONLY),
            (Opening::Unasked, _) | (Opening::ReadersOnly, OpenFor::Reading) => Ok(Lifetime::Forever),
        };
        self.answer_at_once(Operation::Open, reply, answer);
    }

    /// Answers that a directory may be listed, and how long the kernel may keep the listing.
    pub(crate) fn open_directory<P: Reply<Lifetime>>(&self, ino: Ino, spared: Spared, reply: P) {
        let answer = match self.tree.opening() {
            Opening::Unasked if spared.opendir => Err(Errno::NOT_IMPLEMENTED),
            Opening::Unasked | Opening::ReadersOnly => Ok(self.tree.names_lifetime(ino)),
        };
        self.answer_at_once(Operation::Opendir, reply, answer);
    }

    /// Answers who wants to make and open a file in one request: he is to make it first, and nothing hangs on it then.
    pub(crate) fn create<P: Reply<()>>(&self, reply: P) {
        let errno = match self.tree.opening() {
            Opening::Unasked => Errno::NOT_IMPLEMENTED,
            Opening::ReadersOnly => Errno::READ_ONLY,
        };
        self.answer_at_once(Operation::Create, reply, Err(errno));
    }

    fn answer_at_once<A, P: Reply<A>>(&self, operation: Operation, reply: P, answer: Result<A, Errno>) {
        let arrival = Instant::now();
        self.machinery.request(arrival);
        self.answer(operation, arrival, reply, answer);
    }

    /// The kernel dropped `count` of its references to an inode. There is no reply.
    pub(crate) fn forget(&self, ino: Ino, count: u64) {
        let arrival = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| self.tree.forget(ino, count))).is_err() {
            tracing::error!(operation = Operation::Forget.name(), "an operation panicked");
        }
        self.machinery.stats.record(Operation::Forget, arrival.elapsed());
    }

    /// Answers an operation that this file system doesn't have, so that the kernel does it itself or stops asking.
    pub(crate) fn decline<P: Reply<()>>(&self, operation: Operation, reply: P) {
        self.answer_at_once(operation, reply, Err(Errno::NOT_IMPLEMENTED));
    }

    /// Answers an operation with an error, without asking the tree.
    pub(crate) fn refuse<A, P: Reply<A>>(&self, operation: Operation, errno: Errno, reply: P) {
        self.answer_at_once(operation, reply, Err(errno));
    }

    /// Answers an operation that needs nothing of the tree.
    pub(crate) fn accept<P: Reply<()>>(&self, operation: Operation, reply: P) {
        self.answer_at_once(operation, reply, Ok(()));
    }
}

impl Machinery {
    /// A part of the transport is gone, and requests that it should answer would wait for ever: nobody may come any more,
    /// and all who are there get ENOTCONN.
    pub(crate) fn break_off(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
        match self.abort_switch.get() {
            Some(Ok(switch)) => {
                if let Err(error) = switch.abort() {
                    tracing::error!(%error, "the connection of a session with a defect can't be cut");
                }
            }
            Some(Err(error)) => tracing::error!(%error, "the connection of a session with a defect can't be cut"),
            // It is not served yet, and whoever sets it up looks.
            None => {}
        }
    }

    /// A request came.
    fn request(&self, now: Instant) {
        if let Some(poller) = &self.poller {
            poller.request(now);
        }
    }

    /// Makes the kernel forget attributes before it has the answer that changed them. That waits for nobody: attributes
    /// alone can be forgotten while requests are under way.
    fn outdate(&self, ino: Option<Ino>) {
        if let (Some(ino), Some(notifier)) = (ino, self.notifier.get())
            && let Err(error) = notifier.outdate_attributes(ino)
        {
            tracing::warn!(%error, "the kernel refused an invalidation");
        }
    }

    /// Counts before it replies: who has the reply finds the operation counted.
    fn finish<A, P: Reply<A>>(&self, operation: Operation, arrival: Instant, reply: P, answer: Result<A, Errno>) {
        self.stats.record(operation, arrival.elapsed());
        reply.send(answer);
    }
}

fn perform<T: Tree, C: Call<P>, P>(tree: &T, call: &C, context: Context, reply: &mut P) -> Result<C::Answer, Failure> {
    match catch_unwind(AssertUnwindSafe(|| call.perform(tree, &context, reply))) {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(VfsError::WouldBlock)) => Err(Failure::WouldBlock),
        Ok(Err(error)) => Err(Failure::Errno(Errno::from(error))),
        Err(_) => {
            tracing::error!(operation = C::OPERATION.name(), "an operation panicked");
            Err(Failure::Errno(Errno::IO))
        }
    }
}

/// What a session has beside its transport, of a connection that is gone. Its lanes are to be stopped.
#[cfg(test)]
pub(crate) fn test_machinery() -> Arc<Machinery> {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    Arc::new(Machinery {
        lanes: Lanes::start(&crate::options::SessionOptions::default()).unwrap(),
        stats: Stats::new(),
        poller: None,
        polls_started: AtomicU64::new(0),
        connection: Connection::new(std::io::pipe().unwrap().0.into()),
        access_times: AccessTimes::Move,
        notifier: OnceLock::new(),
        abort_switch: OnceLock::new(),
        is_broken: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply that panics, as a value might make the library's do.
    struct PanickingReply;

    impl crate::calls::Refusable for PanickingReply {}

    impl Reply<()> for PanickingReply {
        fn send(self, _: Result<(), Errno>) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_reply_that_panics_does_not_end_the_leader() {
        let machinery = test_machinery();
        let dispatcher = Dispatcher::new(Arc::new(()), machinery.clone());
        dispatcher.answer(Operation::Release, Instant::now(), PanickingReply, Ok(()));
        machinery.lanes.stop();
    }
}
