//! The tree of an open volume by paths and open files, for callers in this process: no mount, no kernel.
//!
//! Lives here: what the kernel does for programs in a mount, done here for callers of the library: paths, symbolic
//! links, permissions, open files with positions. Never here: what a file is made of, JavaScript. Data flows from a
//! caller through `vfs`, and to the kernel of a mount, if there is one, goes what it must forget.

mod attributes;
mod caller;
mod copying;
mod error;
mod handles;
mod listing;
mod names;
mod open;
mod path;
mod watch;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::Ino;
use verfs_fuse::Invalidation;
use verfs_vfs::{AccessTimes, Attr, Context, FileKind, FsStat, Patience, Pin, Vfs};

use self::handles::Handles;
use crate::Volume;
use crate::snapshots::tell_kernel;

pub use attributes::{NewTimes, Who};
pub use caller::{Access, Caller};
pub use copying::CopyTarget;
pub use error::FileError;
pub use listing::{Entries, Listed};
pub use open::OpenFlags;
pub use watch::{Depth, Watch, WatchEnd, WatchEvent};

/// Whether the last name of a path is followed where it is a symbolic link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Links {
    /// What it leads to is meant.
    Follow,
    /// The link itself is meant.
    Stay,
}

/// The files of a volume, as one caller sees them. Paths are bytes with `/` between names; they begin at the root of
/// the volume, with a slash or without.
///
/// Every operation answers the error number that the system call of its name gives on Linux.
pub struct Files {
    volume: Arc<Volume>,
    caller: Caller,
    handles: Mutex<Handles>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("volume", &self.volume).field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Volume {
    /// Its files, as `caller` sees them.
    #[must_use]
    pub fn files(self: &Arc<Self>, caller: Caller) -> Files {
        Files { volume: Arc::clone(self), caller, handles: Mutex::new(Handles::default()) }
    }
}

impl Files {
    /// The tree, unless the volume is closed.
    fn vfs(&self) -> Result<&Vfs, FileError> {
        self.volume.refuse_closed().map_err(|_| FileError::Closed)?;
        Ok(self.volume.vfs())
    }

    /// The tree, for a change: the kernel of a mount that is read only would not let it through either.
    fn changing(&self) -> Result<&Vfs, FileError> {
        let vfs = self.vfs()?;
        if self.volume.is_read_only() { Err(FileError::READ_ONLY) } else { Ok(vfs) }
    }

    fn context(&self) -> Context {
        Context {
            uid: self.caller.uid,
            gid: self.caller.gid,
            umask: self.caller.umask,
            patience: Patience::Wait,
            pin: Pin::No,
            access_times: AccessTimes::Move,
        }
    }

    /// Tells the kernel of a mount that the content and attributes of an inode are new.
    fn tell_content(&self, ino: Ino) {
        tell_kernel(self.volume.session(), || [Invalidation::Inode(ino)]);
    }

    /// Tells the kernel of a mount that attributes of an inode are new.
    fn tell_attributes(&self, ino: Ino) {
        tell_kernel(self.volume.session(), || [Invalidation::Attributes(ino)]);
    }

    /// Tells the kernel of a mount that names came, went, or lead elsewhere, and that `inodes` count them.
    fn tell_names(&self, names: &[(Ino, &[u8])], inodes: &[Ino]) {
        tell_kernel(self.volume.session(), || {
            let entries =
                names.iter().map(|&(parent, name)| Invalidation::Entry { parent, name: Bytes::copy_from_slice(name) });
            let parents = names.iter().map(|&(parent, _)| Invalidation::Inode(parent));
            let counted = inodes.iter().map(|&ino| Invalidation::Attributes(ino));
            entries.chain(parents).chain(counted).collect::<Vec<_>>()
        });
    }

    /// Room and counts.
    ///
    /// # Errors
    /// As `statfs(2)`.
    pub fn statfs(&self, path: &[u8]) -> Result<FsStat, FileError> {
        self.existing(path, Links::Follow)?;
        Ok(self.vfs()?.statfs()?)
    }

    /// The attributes of what `path` leads to.
    ///
    /// # Errors
    /// As `stat(2)` and `lstat(2)`.
    pub fn stat(&self, path: &[u8], links: Links) -> Result<Attr, FileError> {
        self.existing(path, links)
    }

    /// Whether the caller may use what `path` leads to so.
    ///
    /// # Errors
    /// As `access(2)`: it is no question but an error when he may not.
    pub fn access(&self, path: &[u8], wanted: Access) -> Result<(), FileError> {
        let attr = self.existing(path, Links::Follow)?;
        if wanted.contains(Access::WRITE) && self.volume.is_read_only() {
            return Err(FileError::READ_ONLY);
        }
        self.caller.check(&attr, wanted)
    }

    /// What a symbolic link leads to.
    ///
    /// # Errors
    /// As `readlink(2)`.
    pub fn readlink(&self, path: &[u8]) -> Result<Bytes, FileError> {
        let attr = self.existing(path, Links::Stay)?;
        match attr.kind {
            FileKind::Symlink => Ok(self.vfs()?.readlink(&self.context(), attr.ino)?),
            FileKind::Regular
            | FileKind::Directory
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => Err(FileError::INVALID),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let open = std::mem::take(&mut *self.handles.lock());
        open.inodes().for_each(|ino| self.volume.vfs().end_hold(ino));
    }
}
