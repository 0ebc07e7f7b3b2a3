//! Whether the kernel still holds its end of the device.

use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};

/// A look at the device of a session, from any thread.
pub(crate) struct Connection {
    /// Absent after the end of the session: an open descriptor would keep the connection.
    device: Mutex<Option<OwnedFd>>,
}

impl Connection {
    pub(crate) fn new(device: OwnedFd) -> Connection {
        Connection { device: Mutex::new(Some(device)) }
    }

    /// Whether the kernel holds it: not after an unmount, even before the transport notices.
    pub(crate) fn is_alive(&self) -> bool {
        let device = self.device.lock();
        let Some(device) = &*device else { return false };
        let mut poll = [PollFd::new(device, PollFlags::empty())];
        match rustix::event::poll(&mut poll, Some(&Timespec::default())) {
            Ok(_) => !poll[0].revents().contains(PollFlags::ERR),
            Err(_) => true,
        }
    }

    /// Lets go of the device.
    pub(crate) fn close(&self) {
        *self.device.lock() = None;
    }
}
