//! Replies through the device: header, structure and data from where each of them is.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::abi::OutHeader;
use crate::wire::Port;

/// Slices that `writev(2)` takes at once, less those of header and structure.
const SLICES_MAX: usize = 1024 - 2;

/// Where the reply of one request goes.
pub(crate) struct DevicePort {
    device: Arc<OwnedFd>,
    unique: u64,
}

impl DevicePort {
    pub(crate) fn new(device: Arc<OwnedFd>, unique: u64) -> DevicePort {
        DevicePort { device, unique }
    }

    fn write(&self, errno: i32, head: &[u8], data: &[Bytes]) -> Result<(), Errno> {
        let len = size_of::<OutHeader>() + head.len() + data.iter().map(Bytes::len).sum::<usize>();
        let header =
            OutHeader { len: u32::try_from(len).map_err(|_| Errno::OVERFLOW)?, error: -errno, unique: self.unique };
        let written = match data {
            [] => rustix::io::writev(&self.device, &[IoSlice::new(header.as_bytes()), IoSlice::new(head)]),
            data => {
                let first = [header.as_bytes(), head].map(IoSlice::new);
                let slices: Vec<IoSlice<'_>> =
                    first.into_iter().chain(data.iter().map(|piece| IoSlice::new(piece))).collect();
                rustix::io::writev(&self.device, &slices)
            }
        };
        written.map(|_| ())
    }
}

impl Port for DevicePort {
    fn send(self, errno: i32, head: &[u8], data: &[Bytes]) {
        let written = match data.len() {
            0..=SLICES_MAX => self.write(errno, head, data),
            _ => self.write(errno, head, &[data.concat().into()]),
        };
        match written {
            // Whoever asked is gone, or the mount is.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(refused) => {
                tracing::error!(error = %refused, "the kernel refused a reply");
                // It still waits for one. That of an error can be refused only for the reasons above.
                let _ = self.write(libc::EIO, &[], &[]);
            }
        }
    }
}
