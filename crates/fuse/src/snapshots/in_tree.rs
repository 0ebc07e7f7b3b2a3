//! The tree of a volume with what only its mount shows: `.snapshots` in the root, and where asked for everywhere.
//!
//! Every other operation costs a comparison more: of a name's length, or of a number's upper bit.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::Ino;
use verfs_vfs::{
    Allocation, Attr, Context, DirEntry, FileFlags, FileKind, FsStat, Listing, NodeKind, Pin, RenameMode, Result,
    SeekFor, SetAttr, SetId, SyncScope, Vfs, VfsError, XattrMode,
};

use super::NAME;
use super::automount::{Automount, Place};
use super::earlier::Earlier;
use super::numbers::{self, Shown};
use crate::options::SnapshotsDirectory;
use crate::tree::{Lifetime, Tree};

/// Behind every entry of the tree.
const COOKIE_LAST: u64 = (1 << 63) - 1;

/// Whether a name in a directory is one that only the mount shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NameOf {
    /// It is the tree's.
    Tree,
    /// It is `.snapshots`, and the tree has none there.
    Mount,
}

/// What the tree's session serves.
pub(super) struct TreeWithSnapshots {
    vfs: Arc<Vfs>,
    shown: SnapshotsDirectory,
    automount: Arc<Automount>,
    earlier: Earlier,
}

/// Refuses changes of what only the mount shows.
fn of_tree(ino: Ino) -> Result<Ino> {
    if numbers::shown(ino).is_some() { Err(VfsError::ReadOnly) } else { Ok(ino) }
}

impl TreeWithSnapshots {
    pub(super) fn new(
        vfs: Arc<Vfs>,
        shown: SnapshotsDirectory,
        automount: Arc<Automount>,
        earlier: Earlier,
    ) -> TreeWithSnapshots {
        TreeWithSnapshots { vfs, shown, automount, earlier }
    }

    fn whose(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<NameOf> {
        if name != NAME {
            return Ok(NameOf::Tree);
        }
        match self.shown {
            SnapshotsDirectory::Off => Ok(NameOf::Tree),
            _ if parent == Ino::ROOT => Ok(NameOf::Mount),
            SnapshotsDirectory::Hidden | SnapshotsDirectory::Listed => Ok(NameOf::Tree),
            SnapshotsDirectory::Everywhere => {
                match self.vfs.lookup(&Context { pin: Pin::No, ..*context }, parent, name) {
                    Ok(_) => Ok(NameOf::Tree),
                    Err(VfsError::NotFound) => Ok(NameOf::Mount),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Lets a new name be made only where none is shown.
    fn free(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        of_tree(parent)?;
        match self.whose(context, parent, name)? {
            NameOf::Tree => Ok(()),
            NameOf::Mount => Err(VfsError::Exists),
        }
    }

    /// Refuses with `refusal` to take away what only the mount shows.
    fn removable(&self, context: &Context, parent: Ino, name: &[u8], refusal: VfsError) -> Result<()> {
        of_tree(parent)?;
        match self.whose(context, parent, name)? {
            NameOf::Tree => Ok(()),
            NameOf::Mount => Err(refusal),
        }
    }

    /// Attributes of `.snapshots` in the root.
    fn top(&self, context: &Context) -> Result<Attr> {
        let live = self.vfs.getattr(&Context { pin: Pin::No, ..*context }, Ino::ROOT)?;
        let link = |path: &Path| path.as_os_str().len() as u64;
        let (kind, mode, nlink, size) = match self.automount.place() {
            Place::InTree => (FileKind::Directory, live.mode & 0o755, 2, 0),
            Place::Outside(path) => (FileKind::Symlink, 0o777, 1, link(path)),
        };
        Ok(Attr { ino: numbers::directory(Ino::ROOT)?, kind, mode, nlink, size, blocks: 0, ..live })
    }

    fn top_entry(&self, context: &Context, listing: Listing) -> Result<DirEntry> {
        let attr = self.top(context)?;
        Ok(DirEntry {
            name: Bytes::from_static(NAME),
            ino: attr.ino,
            kind: attr.kind,
            cookie: COOKIE_LAST,
            attr: match listing {
                Listing::Names => None,
                Listing::Plus => Some(attr),
            },
        })
    }
}

impl Tree for TreeWithSnapshots {
    fn attr_lifetime(&self, ino: Ino) -> Lifetime {
        // Of the mountpoint these are asked for by whoever goes there, and only then can it be mounted.
        if numbers::shown(ino).is_some() { Lifetime::Moment } else { Lifetime::Forever }
    }

    fn names_lifetime(&self, ino: Ino) -> Lifetime {
        if numbers::shown(ino).is_some() { Lifetime::Moment } else { Lifetime::Forever }
    }

    fn lookup(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<Attr> {
        match numbers::shown(parent) {
            None => {}
            // The session that is mounted here knows the names.
            Some(Shown::Directory(Ino::ROOT)) => return Err(VfsError::NotFound),
            Some(Shown::Directory(directory)) => return self.earlier.lookup(context, directory, name),
            Some(Shown::Link(_)) => return Err(VfsError::NotDirectory),
        }
        match self.whose(context, parent, name)? {
            NameOf::Tree => self.vfs.lookup(context, parent, name),
            NameOf::Mount if parent == Ino::ROOT => self.top(context),
            NameOf::Mount => self.earlier.attr(context, parent),
        }
    }

    fn forget(&self, ino: Ino, count: u64) {
        if numbers::shown(ino).is_none() {
            self.vfs.forget(ino, count);
        }
    }

    fn forget_all(&self) {
        self.vfs.forget_all();
    }

    fn getattr(&self, context: &Context, ino: Ino) -> Result<Attr> {
        match numbers::shown(ino) {
            None => self.vfs.getattr(context, ino),
            Some(Shown::Directory(Ino::ROOT)) => {
                match self.automount.place() {
                    Place::InTree => self.automount.cover(context.patience)?,
                    Place::Outside(_) => {}
                }
                self.top(context)
            }
            Some(Shown::Directory(directory)) => self.earlier.attr(context, directory),
            Some(Shown::Link(link)) => self.earlier.link_attr(context, link),
        }
    }

    fn setattr(&self, context: &Context, ino: Ino, change: &SetAttr) -> Result<Attr> {
        self.vfs.setattr(context, of_tree(ino)?, change)
    }

    fn readlink(&self, context: &Context, ino: Ino) -> Result<Bytes> {
        match (numbers::shown(ino), self.automount.place()) {
            (None, _) => self.vfs.readlink(context, ino),
            (Some(Shown::Directory(Ino::ROOT)), Place::Outside(path)) => {
                self.automount.link_target(path, context.patience).map(Bytes::from)
            }
            (Some(Shown::Directory(_)), _) => Err(VfsError::InvalidArgument),
            (Some(Shown::Link(link)), _) => self.earlier.target(context, link),
        }
    }

    fn mknod(&self, context: &Context, parent: Ino, name: &[u8], kind: NodeKind, mode: u16) -> Result<Attr> {
        self.free(context, parent, name)?;
        self.vfs.mknod(context, parent, name, kind, mode)
    }

    fn mkdir(&self, context: &Context, parent: Ino, name: &[u8], mode: u16) -> Result<Attr> {
        self.free(context, parent, name)?;
        self.vfs.mkdir(context, parent, name, mode)
    }

    fn symlink(&self, context: &Context, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr> {
        self.free(context, parent, name)?;
        self.vfs.symlink(context, parent, name, target)
    }

    fn link(&self, context: &Context, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        self.free(context, parent, name)?;
        self.vfs.link(context, of_tree(ino)?, parent, name)
    }

    fn unlink(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        self.removable(context, parent, name, VfsError::IsDirectory)?;
        self.vfs.unlink(context, parent, name)
    }

    fn rmdir(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        self.removable(context, parent, name, VfsError::Busy)?;
        self.vfs.rmdir(context, parent, name)
    }

    fn rename(&self, context: &Context, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        self.removable(context, from.0, from.1, VfsError::Busy)?;
        self.removable(context, to.0, to.1, VfsError::Busy)?;
        self.vfs.rename(context, from.0, from.1, to.0, to.1, mode)
    }

    fn read(&self, context: &Context, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>> {
        self.vfs.read(context, ino, offset, len)
    }

    fn write(&self, context: &Context, ino: Ino, offset: u64, data: &[u8]) -> Result<SetId> {
        self.vfs.write(context, ino, offset, data)
    }

    fn readdir(
        &self,
        context: &Context,
        ino: Ino,
        cookie: u64,
        max_entries: usize,
        listing: Listing,
    ) -> Result<Vec<DirEntry>> {
        match numbers::shown(ino) {
            None => {}
            // Whoever sees this is in a mount namespace that the session isn't mounted in.
            Some(Shown::Directory(Ino::ROOT)) => return Ok(Vec::new()),
            Some(Shown::Directory(directory)) => {
                return self.earlier.list(context, directory, cookie, max_entries, listing);
            }
            Some(Shown::Link(_)) => return Err(VfsError::NotDirectory),
        }
        if ino != Ino::ROOT || self.shown != SnapshotsDirectory::Listed {
            return self.vfs.readdir(context, ino, cookie, max_entries, listing);
        }
        if cookie == COOKIE_LAST {
            return Ok(Vec::new());
        }
        let mut entries = self.vfs.readdir(context, ino, cookie, max_entries, listing)?;
        if entries.is_empty() && max_entries > 0 {
            entries.push(self.top_entry(context, listing)?);
        }
        Ok(entries)
    }

    fn fsync(&self, context: &Context, ino: Ino, scope: SyncScope) -> Result<()> {
        match numbers::shown(ino) {
            None => self.vfs.fsync(context, ino, scope),
            Some(_) => Ok(()),
        }
    }

    fn statfs(&self) -> Result<FsStat> {
        self.vfs.statfs()
    }

    fn getxattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<Bytes> {
        match numbers::shown(ino) {
            None => self.vfs.getxattr(context, ino, name),
            Some(_) => Err(VfsError::NoAttribute),
        }
    }

    fn listxattr(&self, context: &Context, ino: Ino) -> Result<Vec<Bytes>> {
        match numbers::shown(ino) {
            None => self.vfs.listxattr(context, ino),
            Some(_) => Ok(Vec::new()),
        }
    }

    fn setxattr(&self, context: &Context, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.vfs.setxattr(context, of_tree(ino)?, name, value, mode)
    }

    fn removexattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<()> {
        self.vfs.removexattr(context, of_tree(ino)?, name)
    }

    fn file_flags(&self, context: &Context, ino: Ino) -> Result<FileFlags> {
        match numbers::shown(ino) {
            None => self.vfs.file_flags(context, ino),
            Some(_) => Ok(FileFlags::default()),
        }
    }

    fn set_file_flags(&self, context: &Context, ino: Ino, flags: FileFlags) -> Result<()> {
        self.vfs.set_file_flags(context, of_tree(ino)?, flags)
    }

    // Nothing that only the mount shows is a regular file: the kernel asks for none of these.

    fn allocate(&self, context: &Context, ino: Ino, range: (u64, u64), allocation: Allocation) -> Result<SetId> {
        self.vfs.allocate(context, ino, range.0, range.1, allocation)
    }

    fn seek(&self, context: &Context, ino: Ino, offset: u64, wanted: SeekFor) -> Result<u64> {
        self.vfs.seek(context, ino, offset, wanted)
    }

    fn copy_range(&self, context: &Context, from: (Ino, u64), to: (Ino, u64), len: u64) -> Result<(u64, SetId)> {
        self.vfs.copy_range(context, from, to, len)
    }
}
