//! The transport over the `fuser` library: this module and those in its folder alone name the library's types.

mod callbacks;
mod convert;
mod replies;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{Config, INodeNo, SessionACL};
use verfs_base::Ino;

use self::callbacks::Adapter;
use crate::dispatch::Dispatcher;
use crate::options::AllowOther;
use crate::transport::{Notifier, Polling, Transport, TransportSettings};
use crate::tree::Tree;

/// A mount served by the library's receive loop.
pub(crate) struct FuserTransport<T: Tree> {
    session: fuser::Session<Adapter<T>>,
}

impl<T: Tree> Transport for FuserTransport<T> {
    type Notifier = fuser::Notifier;
    type Tree = T;

    const POLLING: Polling = Polling::ByDeviceFlag;

    fn start(device: OwnedFd, dispatcher: Arc<Dispatcher<T>>, settings: &TransportSettings) -> io::Result<Self> {
        let acl = match settings.allow_other {
            AllowOther::Yes => SessionACL::All,
            AllowOther::No => SessionACL::Owner,
        };
        let session = fuser::Session::from_fd(Adapter::new(dispatcher), device, acl, Config::default())?;
        Ok(FuserTransport { session })
    }

    fn name(&self) -> &'static str {
        "fuser"
    }

    fn notifier(&self) -> fuser::Notifier {
        self.session.notifier()
    }

    fn run(self) -> io::Result<()> {
        self.session.run()
    }
}

impl Notifier for fuser::Notifier {
    fn invalidate_inode(&self, ino: Ino) -> io::Result<()> {
        self.inval_inode(INodeNo(ino.0), 0, 0)
    }

    fn outdate_attributes(&self, ino: Ino) -> io::Result<()> {
        // A negative offset leaves the content alone, says `fuse_reverse_inval_inode` of the kernel.
        self.inval_inode(INodeNo(ino.0), -1, 0)
    }

    fn invalidate_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()> {
        self.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
    }
}
