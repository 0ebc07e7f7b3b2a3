//! Notifications through the device.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::io::Errno;
use verfs_base::Ino;
use zerocopy::IntoBytes;

use crate::abi::{NotifyInvalEntryOut, NotifyInvalInodeOut, OutHeader, notify};
use crate::transport::Notifier;

/// Sends notifications. It keeps no connection: after the session's end nobody is there to be told.
pub(crate) struct DeviceNotifier {
    device: Weak<OwnedFd>,
}

impl DeviceNotifier {
    pub(crate) fn new(device: &Arc<OwnedFd>) -> DeviceNotifier {
        DeviceNotifier { device: Arc::downgrade(device) }
    }

    fn send(&self, code: i32, pieces: &[&[u8]]) -> io::Result<()> {
        let Some(device) = self.device.upgrade() else { return Ok(()) };
        let len = size_of::<OutHeader>() + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        // A notification has its code in place of an error, and no request.
        let header = OutHeader { len: len as u32, error: code, unique: 0 };
        let slices: Vec<IoSlice<'_>> =
            [header.as_bytes()].iter().chain(pieces).map(|piece| IoSlice::new(piece)).collect();
        match rustix::io::writev(device, &slices) {
            // The kernel doesn't know the inode or the name: there is nothing to drop.
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn inode(&self, ino: Ino, off: i64) -> io::Result<()> {
        self.send(notify::INVAL_INODE, &[NotifyInvalInodeOut { ino: ino.0, off, len: 0 }.as_bytes()])
    }
}

impl Notifier for DeviceNotifier {
    fn invalidate_inode(&self, ino: Ino) -> io::Result<()> {
        self.inode(ino, 0)
    }

    fn outdate_attributes(&self, ino: Ino) -> io::Result<()> {
        // A negative offset leaves the content alone, says `fuse_reverse_inval_inode` of the kernel.
        self.inode(ino, -1)
    }

    fn invalidate_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()> {
        let head = NotifyInvalEntryOut { parent: parent.0, namelen: name.len() as u32, flags: 0 };
        self.send(notify::INVAL_ENTRY, &[head.as_bytes(), name, &[0]])
    }
}
