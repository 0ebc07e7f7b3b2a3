//! Telling others of changes, whoever makes them: callers of the library, or the kernel of a mount.
//!
//! A change that nobody watches costs one look at a flag. Nobody waits for those who watch: who is too slow is told
//! that he missed something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::Ino;

use crate::Vfs;

/// Changes that wait for one who watches.
const QUEUE_MAX: usize = 4096;

/// Something that an operation changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A name came, went, or leads elsewhere.
    Name {
        /// Its directory.
        directory: Ino,
        /// The name.
        name: Bytes,
    },
    /// Content or attributes of an inode.
    Inode(Ino),
}

/// One who watches.
#[derive(Debug)]
struct Watcher {
    number: u64,
    queue: SyncSender<Change>,
    missed: Arc<AtomicBool>,
}

/// All who watch.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    any: AtomicBool,
    next: AtomicU64,
    all: Mutex<Vec<Watcher>>,
}

/// Changes as they come, from [`Vfs::watch`] to [`Vfs::unwatch`].
#[derive(Debug)]
pub struct Changes {
    number: u64,
    queue: Receiver<Change>,
    missed: Arc<AtomicBool>,
}

impl Changes {
    /// For [`Vfs::unwatch`].
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the next change. None once nobody watches any more, or the filesystem is closed.
    pub fn wait(&self) -> Option<Change> {
        self.queue.recv().ok()
    }

    /// Whether changes were left out since the last question.
    pub fn missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }
}

impl Watchers {
    /// Tells all who watch. Not while the state is locked.
    pub(crate) fn tell(&self, change: impl FnOnce() -> Change) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let change = change();
        self.all.lock().retain(|watcher| match watcher.queue.try_send(change.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                watcher.missed.store(true, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }

    /// Ends all watching.
    pub(crate) fn end(&self) {
        self.all.lock().clear();
    }
}

impl Vfs {
    /// Begins to watch: everything that is changed from now on is told, as long as the queue of 4096 has room.
    pub fn watch(&self) -> Changes {
        let watchers = &self.shared.watchers;
        let (sender, queue) = sync_channel(QUEUE_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let number = watchers.next.fetch_add(1, Ordering::Relaxed);
        watchers.all.lock().push(Watcher { number, queue: sender, missed: Arc::clone(&missed) });
        watchers.any.store(true, Ordering::Relaxed);
        Changes { number, queue, missed }
    }

    /// Ends what [`Vfs::watch`] began.
    pub fn unwatch(&self, number: u64) {
        let watchers = &self.shared.watchers;
        let mut all = watchers.all.lock();
        all.retain(|watcher| watcher.number != number);
        watchers.any.store(!all.is_empty(), Ordering::Relaxed);
    }

    /// A path from the root to an inode, with a slash in front of each name; empty for the root. Costs a look at each
    /// directory on the way. None for what has no name.
    pub fn path_of(&self, ino: Ino) -> Option<Vec<u8>> {
        self.shared.path_of(ino)
    }

    pub(crate) fn tell_name(&self, directory: Ino, name: &[u8]) {
        self.shared.watchers.tell(|| Change::Name { directory, name: Bytes::copy_from_slice(name) });
    }

    pub(crate) fn tell_inode(&self, ino: Ino) {
        self.shared.watchers.tell(|| Change::Inode(ino));
    }
}
