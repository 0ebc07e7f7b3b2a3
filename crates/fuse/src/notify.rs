//! Telling the kernel to drop what it caches, from a thread of its own.
//!
//! The kernel may wait for requests under way before it takes a notification, so whoever holds a lock or serves
//! requests must never send one itself.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use verfs_base::Ino;

use crate::transport::Notifier;

/// Notifications that may queue before a caller waits.
const QUEUE_MAX: usize = 1024;

/// Something that changed, but not through the mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Invalidation {
    /// Attributes and content of this inode.
    Inode(Ino),
    /// Attributes of this inode, but not its content.
    Attributes(Ino),
    /// What this name of this directory is, or that there is none.
    Entry {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Bytes,
    },
}

/// What the thread is given.
enum Order {
    Tell(Invalidation),
    /// Answers: what was given before has been told.
    Report(Sender<()>),
}

/// The thread with its queue.
pub(crate) struct NotifierThread {
    queue: Mutex<Option<Sender<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl NotifierThread {
    pub(crate) fn start(notifier: impl Notifier) -> io::Result<NotifierThread> {
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE_MAX);
        let builder = std::thread::Builder::new().name("verfs-notify".to_owned());
        let thread = builder.spawn(move || send_all(&notifier, &receiver))?;
        Ok(NotifierThread { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Queues one. After the end of the session there is nothing to invalidate.
    pub(crate) fn send(&self, invalidation: Invalidation) {
        self.order(Order::Tell(invalidation));
    }

    /// Waits until everything queued before has been told.
    pub(crate) fn wait_told(&self) {
        let (report, told) = crossbeam_channel::bounded(1);
        self.order(Order::Report(report));
        // Fails only when the thread is gone.
        let _ = told.recv();
    }

    fn order(&self, order: Order) {
        let sender = self.queue.lock().clone();
        if let Some(sender) = sender {
            // Fails only when the thread is gone, and with it the session.
            let _ = sender.send(order);
        }
    }

    /// Sends what is queued, then ends the thread.
    pub(crate) fn stop(&self) {
        *self.queue.lock() = None;
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

fn send_all(notifier: &impl Notifier, queue: &Receiver<Order>) {
    for order in queue {
        // Without this thread the kernel would show for ever what is no more.
        match catch_unwind(AssertUnwindSafe(|| obey(notifier, &order))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the kernel refused an invalidation"),
            Err(_) => tracing::error!("an invalidation panicked; the next ones go on"),
        }
    }
}

fn obey(notifier: &impl Notifier, order: &Order) -> io::Result<()> {
    match order {
        Order::Tell(Invalidation::Inode(ino)) => notifier.invalidate_inode(*ino),
        Order::Tell(Invalidation::Attributes(ino)) => notifier.outdate_attributes(*ino),
        Order::Tell(Invalidation::Entry { parent, name }) => notifier.invalidate_entry(*parent, name),
        Order::Report(report) => {
            // Whoever waits for it holds the other end.
            let _ = report.send(());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// Tells of what it is told, and panics at inode 1.
    struct Panicking(Sender<Ino>);

    impl Notifier for Panicking {
        fn invalidate_inode(&self, ino: Ino) -> io::Result<()> {
            assert!(ino.0 != 1, "on purpose");
            self.0.send(ino).map_err(io::Error::other)
        }

        fn outdate_attributes(&self, _: Ino) -> io::Result<()> {
            Ok(())
        }

        fn invalidate_entry(&self, _: Ino, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_invalidation_that_panics_does_not_end_the_others() {
        let (told, tells) = crossbeam_channel::unbounded();
        let thread = NotifierThread::start(Panicking(told)).unwrap();
        (0..3).for_each(|ino| thread.send(Invalidation::Inode(Ino(ino))));
        thread.wait_told();
        assert_eq!(tells.try_iter().collect::<Vec<_>>(), [Ino(0), Ino(2)]);
        thread.stop();
    }
}
