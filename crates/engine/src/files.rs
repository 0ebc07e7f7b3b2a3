//! The tree of an open volume by paths and open files, for callers in this process: no mount, no kernel.
//!
//! Lives here: what the kernel does for programs in a mount, done here for callers of the library: paths, symbolic
//! links, permissions, open files with positions. Never here: what a file is made of, JavaScript. Data flows from a
//! caller through `vfs`, and to the kernel of a mount, if there is one, goes what it must forget.

mod attributes;
mod caller;
mod copying;
mod error;
mod ground;
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
use verfs_fuse::{Invalidation, SnapshotsTree};
use verfs_vfs::{AccessTimes, Context, FileKind, FsStat, Patience, Pin, Vfs};

use self::ground::Ground;
use self::handles::Handles;
use crate::Volume;

pub use attributes::{NewTimes, Who};
pub use caller::{Access, Caller};
pub use copying::CopyTarget;
pub use error::FileError;
pub use ground::Found;
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
/// the volume, with a slash or without. `/.snapshots` has the snapshots and `/.vault` the vault while it is open, as in a
/// mount.
///
/// Every operation answers the error number that the system call of its name gives on Linux.
pub struct Files {
    volume: Arc<Volume>,
    caller: Caller,
    /// What is in `/.snapshots`.
    snapshots: SnapshotsTree,
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
        let door = Arc::clone(self.vault().door());
        let snapshots = SnapshotsTree::of(self.vfs(), Some(door));
        Files { volume: Arc::clone(self), caller, snapshots, handles: Mutex::new(Handles::default()) }
    }
}

impl Files {
    /// The tree, unless the volume is closed.
    fn vfs(&self) -> Result<&Vfs, FileError> {
        self.volume.refuse_closed().map_err(|_| FileError::Closed)?;
        Ok(self.volume.vfs())
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
    fn tell_content(&self, ground: &Ground, ino: Ino) {
        self.tell(ground, || [Invalidation::Inode(ino)]);
    }

    /// Tells the kernel of a mount that attributes of an inode are new.
    fn tell_attributes(&self, ground: &Ground, ino: Ino) {
        self.tell(ground, || [Invalidation::Attributes(ino)]);
    }

    /// Tells the kernel of a mount that names came, went, or lead elsewhere, and that `inodes` count them.
    fn tell_names(&self, ground: &Ground, names: &[(Ino, &[u8])], inodes: &[Ino]) {
        self.tell(ground, || {
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
        let found = self.existing(path, Links::Follow)?;
        self.on(&found.ground, |tree| tree.statfs())
    }

    /// The attributes of what `path` leads to.
    ///
    /// # Errors
    /// As `stat(2)` and `lstat(2)`.
    pub fn stat(&self, path: &[u8], links: Links) -> Result<Found, FileError> {
        self.existing(path, links)
    }

    /// Whether the caller may use what `path` leads to so.
    ///
    /// # Errors
    /// As `access(2)`: it is no question but an error when he may not.
    pub fn access(&self, path: &[u8], wanted: Access) -> Result<(), FileError> {
        let found = self.existing(path, Links::Follow)?;
        if wanted.contains(Access::WRITE) && self.volume.is_read_only() {
            return Err(FileError::READ_ONLY);
        }
        self.check(&found, wanted)
    }

    /// What a symbolic link leads to.
    ///
    /// # Errors
    /// As `readlink(2)`.
    pub fn readlink(&self, path: &[u8]) -> Result<Bytes, FileError> {
        let found = self.existing(path, Links::Stay)?;
        match found.kind {
            FileKind::Symlink => self.on(&found.ground, |tree| tree.readlink(&self.context(), found.ino)),
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
        open.inodes().for_each(|(ground, ino)| self.end_hold(&ground, ino));
    }
}
