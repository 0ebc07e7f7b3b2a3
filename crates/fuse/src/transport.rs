//! What a session needs of the way to the kernel. The FUSE library is one; io_uring may become another.
//!
//! A transport turns each request into a [`crate::calls::Call`] and hands it to the [`Dispatcher`] together with a
//! reply of its own type. Both are generic, so the boundary is gone after compilation.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use verfs_base::Ino;

use crate::dispatch::Dispatcher;
use crate::options::AllowOther;
use crate::tree::Tree;

/// The serving end of a mount.
pub(crate) trait Transport: Sized + Send + 'static {
    /// What sends notifications.
    type Notifier: Notifier + Sync;
    /// What it serves.
    type Tree: Tree;

    /// Takes the device of a new mount and answers INIT: when this returns, the kernel may be asked.
    fn start(device: OwnedFd, dispatcher: Arc<Dispatcher<Self::Tree>>, allow_other: AllowOther) -> io::Result<Self>;

    /// Sends notifications, from any thread, until the session ended.
    fn notifier(&self) -> Self::Notifier;

    /// Serves requests until the mount is gone. Then the device is closed.
    fn run(self) -> io::Result<()>;
}

/// Sends notifications to the kernel. May wait for requests under way.
pub(crate) trait Notifier: Send + 'static {
    /// Attributes and content of `ino` changed.
    fn invalidate_inode(&self, ino: Ino) -> io::Result<()>;

    /// Attributes of `ino` changed. Unlike the others this waits for no request.
    fn outdate_attributes(&self, ino: Ino) -> io::Result<()>;

    /// `name` in `parent` changed.
    fn invalidate_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()>;
}
