//! Telling the kernel to drop what it caches, from a thread of its own.
//!
//! The kernel may wait for requests under way before it takes a notification, so whoever holds a lock or serves
//! requests must never send one itself.

use std::io;
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
    /// What this name of this directory is, or that there is none.
    Entry {
        /// The directory.
        parent: Ino,
        /// The name.
        name: Bytes,
    },
}

/// The thread with its queue.
pub(crate) struct NotifierThread {
    queue: Mutex<Option<Sender<Invalidation>>>,
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
        let sender = self.queue.lock().clone();
        if let Some(sender) = sender {
            // Fails only when the thread is gone, and with it the session.
            let _ = sender.send(invalidation);
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

fn send_all(notifier: &impl Notifier, queue: &Receiver<Invalidation>) {
    for invalidation in queue {
        let result = match &invalidation {
            Invalidation::Inode(ino) => notifier.invalidate_inode(*ino),
            Invalidation::Entry { parent, name } => notifier.invalidate_entry(*parent, name),
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the kernel refused an invalidation");
        }
    }
}
