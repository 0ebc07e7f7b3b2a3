//! What a session needs of the way to the kernel: the device itself, or a FUSE library.
//!
//! A transport turns each request into a [`crate::calls::Call`] and hands it to the [`Dispatcher`] together with a
//! reply of its own type. Both are generic, so the boundary is gone after compilation.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use verfs_base::Ino;

use crate::dispatch::Dispatcher;
use crate::options::{AllowOther, PermissionChecks};
use crate::tree::Tree;

/// Who decides whether the leader polls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Polling {
    /// The transport.
    ByTransport,
    /// [`crate::polling::Poller`], through the flags of the device.
    ByDeviceFlag,
}

/// Whether requests come by io_uring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RingUse {
    /// They don't.
    Never,
    /// They do where the kernel has it switched on.
    WhereOffered,
    /// A mount without it is refused.
    Always,
}

/// What a transport is told of the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TransportSettings {
    /// Who may enter.
    pub(crate) allow_other: AllowOther,
    /// Who checks permissions.
    pub(crate) permission_checks: PermissionChecks,
    /// How long the leader polls after a request; 0 never polls.
    pub(crate) poll_window: Duration,
    /// Whether requests may come by io_uring.
    pub(crate) ring: RingUse,
}

/// The serving end of a mount.
pub(crate) trait Transport: Sized + Send + 'static {
    /// What sends notifications.
    type Notifier: Notifier + Sync;
    /// What it serves.
    type Tree: Tree;

    /// Who decides whether its leader polls.
    const POLLING: Polling;

    /// Takes the device of a new mount and answers INIT: when this returns, the kernel may be asked.
    fn start(
        device: OwnedFd,
        dispatcher: Arc<Dispatcher<Self::Tree>>,
        settings: &TransportSettings,
    ) -> io::Result<Self>;

    /// What it is called in statistics.
    fn name(&self) -> &'static str;

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
