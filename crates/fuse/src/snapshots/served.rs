//! The tree of the second session: in its root one directory for each snapshot, which can be made and deleted there;
//! below that nothing ever changes.

use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{Epoch, Ino};
use verfs_vfs::{
    Allocation, Attr, Context, DirEntry, FileFlags, FileKind, FsStat, Listing, NodeKind, Pin, RenameMode, Result,
    SeekFor, SetAttr, SetId, Snapshot, SnapshotTree, SyncScope, Vfs, VfsError, XattrMode,
};

use super::numbers;
use super::opened::{OpenedSnapshots, may_wait};
use crate::tree::{Lifetime, Opening, Tree};
use crate::vault::VaultDoor;

/// Cookies of `.` and `..`; behind them comes each snapshot's number.
const COOKIE_SELF: u64 = 1;
const COOKIE_PARENT: u64 = 2;

/// Bits of the volume's root that its list of snapshots never has: who else may write there makes no snapshots.
const MODE_OTHERS_WRITE: u16 = 0o7022;

/// All snapshots of a volume.
pub struct SnapshotsTree {
    vfs: Arc<Vfs>,
    opened: Arc<OpenedSnapshots>,
    /// Who makes and deletes them; a vault's follow those of the volume.
    door: Option<Arc<VaultDoor>>,
}

/// Attributes as this session numbers them.
fn renumbered(snapshot: Epoch, attr: Attr) -> Result<Attr> {
    Ok(Attr { ino: numbers::in_snapshot(snapshot, attr.ino)?, ..attr })
}

impl std::fmt::Debug for SnapshotsTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotsTree").finish_non_exhaustive()
    }
}

impl SnapshotsTree {
    /// The snapshots of a volume, for callers without a mount. Without a door nobody makes any here.
    #[must_use]
    pub fn of(vfs: &Arc<Vfs>, door: Option<Arc<VaultDoor>>) -> SnapshotsTree {
        SnapshotsTree::new(Arc::clone(vfs), Arc::new(OpenedSnapshots::new(Arc::clone(vfs))), door)
    }

    /// Which snapshot a number of this tree is in, and its number there; the root is in none.
    #[must_use]
    pub fn snapshot_of(number: Ino) -> Option<(Epoch, Ino)> {
        numbers::of_snapshot(number)
    }

    pub(super) fn new(vfs: Arc<Vfs>, opened: Arc<OpenedSnapshots>, door: Option<Arc<VaultDoor>>) -> SnapshotsTree {
        SnapshotsTree { vfs, opened, door }
    }

    fn door(&self) -> Result<&VaultDoor> {
        self.door.as_deref().ok_or(VfsError::ReadOnly)
    }

    /// The snapshot of a number, and the inode in it. The root is in none.
    fn inside(&self, context: &Context, number: Ino, of_root: VfsError) -> Result<(SnapshotTree, Ino)> {
        let (id, ino) = numbers::of_snapshot(number).ok_or(of_root)?;
        may_wait(context)?;
        Ok((self.opened.by_id(id)?, ino))
    }

    /// Attributes of the directory of a snapshot.
    fn top(tree: &SnapshotTree) -> Result<Attr> {
        renumbered(tree.id(), tree.getattr(Ino::ROOT)?)
    }

    fn root(&self, context: &Context) -> Result<Attr> {
        let live = self.vfs.getattr(&Context { pin: Pin::No, ..*context }, Ino::ROOT)?;
        let snapshots = self.vfs.snapshots();
        let count = snapshots.len() as u64;
        let changed = snapshots.last().map_or(live.btime, |newest| newest.created);
        Ok(Attr {
            ino: Ino::ROOT,
            kind: FileKind::Directory,
            mode: live.mode & !MODE_OTHERS_WRITE,
            nlink: u32::try_from(count.saturating_add(2)).unwrap_or(u32::MAX),
            size: count,
            blocks: 0,
            atime: changed,
            mtime: changed,
            ctime: changed,
            ..live
        })
    }

    fn list_root(&self, context: &Context, cookie: u64, max_entries: usize, listing: Listing) -> Result<Vec<DirEntry>> {
        may_wait(context)?;
        let dots = [(COOKIE_SELF, "."), (COOKIE_PARENT, "..")].into_iter().map(|(cookie, name)| DirEntry {
            name: Bytes::from_static(name.as_bytes()),
            ino: Ino::ROOT,
            kind: FileKind::Directory,
            cookie,
            attr: None,
        });
        let mut entries: Vec<DirEntry> = dots.filter(|entry| entry.cookie > cookie).take(max_entries).collect();
        let after = |snapshot: &Snapshot| snapshot.id.0 + COOKIE_PARENT > cookie;
        for snapshot in self.vfs.snapshots().into_iter().filter(after) {
            if entries.len() >= max_entries {
                break;
            }
            let attr = match listing {
                Listing::Names => None,
                Listing::Plus => match self.opened.by_id(snapshot.id).and_then(|tree| Self::top(&tree)) {
                    Ok(attr) => Some(attr),
                    // Deleted since.
                    Err(VfsError::NotFound) => continue,
                    Err(error) => return Err(error),
                },
            };
            entries.push(DirEntry {
                ino: numbers::in_snapshot(snapshot.id, Ino::ROOT)?,
                kind: FileKind::Directory,
                cookie: snapshot.id.0 + COOKIE_PARENT,
                name: snapshot.name,
                attr,
            });
        }
        Ok(entries)
    }
}

impl Tree for SnapshotsTree {
    fn opening(&self) -> Opening {
        Opening::ReadersOnly
    }

    fn attr_lifetime(&self, ino: Ino) -> Lifetime {
        self.names_lifetime(ino)
    }

    fn names_lifetime(&self, ino: Ino) -> Lifetime {
        // Snapshots come and go also by other ways than this mount.
        if ino == Ino::ROOT { Lifetime::Moment } else { Lifetime::Forever }
    }

    fn lookup(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<Attr> {
        if parent == Ino::ROOT {
            may_wait(context)?;
            return Self::top(&self.opened.by_name(name)?);
        }
        let (tree, ino) = self.inside(context, parent, VfsError::NotFound)?;
        renumbered(tree.id(), tree.lookup(ino, name)?)
    }

    fn forget(&self, _: Ino, _: u64) {}

    fn forget_all(&self) {}

    fn getattr(&self, context: &Context, ino: Ino) -> Result<Attr> {
        if ino == Ino::ROOT {
            return self.root(context);
        }
        let (tree, ino) = self.inside(context, ino, VfsError::NotFound)?;
        renumbered(tree.id(), tree.getattr(ino)?)
    }

    fn setattr(&self, _: &Context, _: Ino, _: &SetAttr) -> Result<Attr> {
        Err(VfsError::ReadOnly)
    }

    fn readlink(&self, context: &Context, ino: Ino) -> Result<Bytes> {
        let (tree, ino) = self.inside(context, ino, VfsError::InvalidArgument)?;
        tree.readlink(ino)
    }

    fn mknod(&self, _: &Context, _: Ino, _: &[u8], _: NodeKind, _: u16) -> Result<Attr> {
        Err(VfsError::ReadOnly)
    }

    /// Makes a snapshot. Its directory has the mode that the tree's root has.
    fn mkdir(&self, context: &Context, parent: Ino, name: &[u8], _: u16) -> Result<Attr> {
        if parent != Ino::ROOT {
            return Err(VfsError::ReadOnly);
        }
        may_wait(context)?;
        self.door()?.maker()?.create(name)?;
        Self::top(&self.opened.by_name(name)?)
    }

    fn symlink(&self, _: &Context, _: Ino, _: &[u8], _: &[u8]) -> Result<Attr> {
        Err(VfsError::ReadOnly)
    }

    fn link(&self, _: &Context, _: Ino, _: Ino, _: &[u8]) -> Result<Attr> {
        Err(VfsError::ReadOnly)
    }

    fn unlink(&self, _: &Context, _: Ino, _: &[u8]) -> Result<()> {
        Err(VfsError::ReadOnly)
    }

    /// Deletes a snapshot, whatever is in it.
    fn rmdir(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        if parent != Ino::ROOT {
            return Err(VfsError::ReadOnly);
        }
        may_wait(context)?;
        self.door()?.maker()?.delete(name)
    }

    fn rename(&self, _: &Context, _: (Ino, &[u8]), _: (Ino, &[u8]), _: RenameMode) -> Result<()> {
        Err(VfsError::ReadOnly)
    }

    fn read(&self, context: &Context, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>> {
        let (tree, ino) = self.inside(context, ino, VfsError::IsDirectory)?;
        tree.read(ino, offset, len)
    }

    fn write(&self, _: &Context, _: Ino, _: u64, _: &[u8]) -> Result<SetId> {
        Err(VfsError::ReadOnly)
    }

    fn readdir(
        &self,
        context: &Context,
        ino: Ino,
        cookie: u64,
        max_entries: usize,
        listing: Listing,
    ) -> Result<Vec<DirEntry>> {
        if ino == Ino::ROOT {
            return self.list_root(context, cookie, max_entries, listing);
        }
        let (tree, ino) = self.inside(context, ino, VfsError::NotDirectory)?;
        let mut entries = tree.readdir(ino, cookie, max_entries, listing)?;
        for entry in &mut entries {
            let leaves = ino == Ino::ROOT && *entry.name == *b"..";
            entry.ino = if leaves { Ino::ROOT } else { numbers::in_snapshot(tree.id(), entry.ino)? };
            entry.attr = entry.attr.map(|attr| Attr { ino: entry.ino, ..attr });
        }
        Ok(entries)
    }

    /// A snapshot is durable since it was made.
    fn fsync(&self, _: &Context, _: Ino, _: SyncScope) -> Result<()> {
        Ok(())
    }

    fn statfs(&self) -> Result<FsStat> {
        self.vfs.statfs()
    }

    fn getxattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<Bytes> {
        let (tree, ino) = self.inside(context, ino, VfsError::NoAttribute)?;
        tree.getxattr(ino, name)
    }

    fn listxattr(&self, context: &Context, ino: Ino) -> Result<Vec<Bytes>> {
        if ino == Ino::ROOT {
            return Ok(Vec::new());
        }
        let (tree, ino) = self.inside(context, ino, VfsError::NoAttribute)?;
        let mut names = tree.listxattr(ino)?;
        // As in the tree: xattr(7) shows these to root only.
        names.retain(|name| context.uid == 0 || !name.starts_with(b"trusted."));
        Ok(names)
    }

    fn setxattr(&self, _: &Context, _: Ino, _: &[u8], _: &[u8], _: XattrMode) -> Result<()> {
        Err(VfsError::ReadOnly)
    }

    fn removexattr(&self, _: &Context, _: Ino, _: &[u8]) -> Result<()> {
        Err(VfsError::ReadOnly)
    }

    fn file_flags(&self, context: &Context, ino: Ino) -> Result<FileFlags> {
        if ino == Ino::ROOT {
            return Ok(FileFlags::default());
        }
        let (tree, ino) = self.inside(context, ino, VfsError::NotFound)?;
        tree.file_flags(ino)
    }

    fn set_file_flags(&self, _: &Context, _: Ino, _: FileFlags) -> Result<()> {
        Err(VfsError::ReadOnly)
    }

    fn allocate(&self, _: &Context, _: Ino, _: (u64, u64), _: Allocation) -> Result<SetId> {
        Err(VfsError::ReadOnly)
    }

    fn seek(&self, context: &Context, ino: Ino, offset: u64, wanted: SeekFor) -> Result<u64> {
        let (tree, ino) = self.inside(context, ino, VfsError::InvalidArgument)?;
        tree.seek(ino, offset, wanted)
    }

    fn copy_range(&self, _: &Context, _: (Ino, u64), _: (Ino, u64), _: u64) -> Result<(u64, SetId)> {
        Err(VfsError::ReadOnly)
    }
}
