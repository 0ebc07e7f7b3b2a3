//! The tree of a volume with `.vault` in its root, while the vault is open.

use bytes::Bytes;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use verfs_base::Ino;
use verfs_vfs::{
    Allocation, Attr, Context, DirEntry, FileFlags, FileKind, FsStat, Listing, NodeKind, Pin, RenameMode, Result,
    SeekFor, SetAttr, SetId, SyncScope, VfsError, XattrMode,
};

use super::NAME;
use super::door::{VaultDoor, VaultShown};
use crate::tree::{Lifetime, Opening, Tree};

/// The number of `.vault`, which no inode of the tree has, nor anything else that only the mount shows.
const VAULT: Ino = Ino((1 << 63) | ((1 << 62) - 1));
/// Behind every entry of the tree, and before what else only the mount shows.
const COOKIE: u64 = (1 << 63) - 2;

/// What the tree's session serves.
pub(crate) struct TreeWithVault<T> {
    tree: T,
    door: Arc<VaultDoor>,
}

/// Whose a name in a directory is.
enum NameOf {
    /// The tree's.
    Tree,
    /// The vault's, which is to be seen as this.
    Vault(VaultShown),
}

/// Refuses changes of what only the mount shows.
fn of_tree(ino: Ino) -> Result<Ino> {
    if ino == VAULT { Err(VfsError::ReadOnly) } else { Ok(ino) }
}

impl<T: Tree> TreeWithVault<T> {
    pub(crate) fn new(tree: T, door: Arc<VaultDoor>) -> TreeWithVault<T> {
        TreeWithVault { tree, door }
    }

    fn whose(&self, parent: Ino, name: &[u8]) -> NameOf {
        if parent != Ino::ROOT || name != NAME {
            return NameOf::Tree;
        }
        match self.door.shown() {
            VaultShown::Never => NameOf::Tree,
            shown @ (VaultShown::Locked | VaultShown::Directory | VaultShown::Link(_)) => NameOf::Vault(shown),
        }
    }

    /// Lets a name be made, or replaced, only where it is the tree's.
    fn free(&self, parent: Ino, name: &[u8]) -> Result<()> {
        of_tree(parent)?;
        match self.whose(parent, name) {
            NameOf::Tree => Ok(()),
            NameOf::Vault(VaultShown::Never | VaultShown::Locked) => Err(VfsError::NotPermitted),
            NameOf::Vault(VaultShown::Directory | VaultShown::Link(_)) => Err(VfsError::Busy),
        }
    }

    /// Lets a name be taken away only where it is the tree's.
    fn removable(&self, parent: Ino, name: &[u8]) -> Result<()> {
        of_tree(parent)?;
        match self.whose(parent, name) {
            NameOf::Tree => Ok(()),
            NameOf::Vault(VaultShown::Never | VaultShown::Locked) => Err(VfsError::NotFound),
            NameOf::Vault(VaultShown::Directory | VaultShown::Link(_)) => Err(VfsError::Busy),
        }
    }

    fn attr(&self, context: &Context) -> Result<Attr> {
        let root = self.tree.getattr(&Context { pin: Pin::No, ..*context }, Ino::ROOT)?;
        let (kind, mode, nlink, size) = match self.door.shown() {
            VaultShown::Never | VaultShown::Locked => return Err(VfsError::NotFound),
            VaultShown::Directory => (FileKind::Directory, 0o700, 2, 0),
            VaultShown::Link(path) => (FileKind::Symlink, 0o777, 1, path.as_os_str().len() as u64),
        };
        Ok(Attr { ino: VAULT, kind, mode, nlink, size, blocks: 0, ..root })
    }
}

impl<T: Tree> Tree for TreeWithVault<T> {
    fn opening(&self) -> Opening {
        self.tree.opening()
    }

    fn attr_lifetime(&self, ino: Ino) -> Lifetime {
        if ino == VAULT { Lifetime::Moment } else { self.tree.attr_lifetime(ino) }
    }

    fn names_lifetime(&self, ino: Ino) -> Lifetime {
        if ino == VAULT { Lifetime::Moment } else { self.tree.names_lifetime(ino) }
    }

    fn lookup(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<Attr> {
        if parent == VAULT {
            // The session that is mounted here knows the names.
            return Err(VfsError::NotFound);
        }
        match self.whose(parent, name) {
            NameOf::Tree => self.tree.lookup(context, parent, name),
            NameOf::Vault(_) => self.attr(context),
        }
    }

    fn forget(&self, ino: Ino, count: u64) {
        if ino != VAULT {
            self.tree.forget(ino, count);
        }
    }

    fn forget_all(&self) {
        self.tree.forget_all();
    }

    fn getattr(&self, context: &Context, ino: Ino) -> Result<Attr> {
        if ino == VAULT { self.attr(context) } else { self.tree.getattr(context, ino) }
    }

    fn readlink(&self, context: &Context, ino: Ino) -> Result<Bytes> {
        if ino != VAULT {
            return self.tree.readlink(context, ino);
        }
        match self.door.shown() {
            VaultShown::Link(path) => Ok(Bytes::copy_from_slice(path.as_os_str().as_bytes())),
            VaultShown::Never | VaultShown::Locked => Err(VfsError::NotFound),
            VaultShown::Directory => Err(VfsError::InvalidArgument),
        }
    }

    fn readdir(
        &self,
        context: &Context,
        ino: Ino,
        cookie: u64,
        max_entries: usize,
        listing: Listing,
    ) -> Result<Vec<DirEntry>> {
        // Whoever sees the directory itself is in a mount namespace that the session isn't mounted in.
        if ino == VAULT || (ino == Ino::ROOT && cookie == COOKIE) {
            return Ok(Vec::new());
        }
        let mut entries = self.tree.readdir(context, ino, cookie, max_entries, listing)?;
        if ino == Ino::ROOT && entries.is_empty() && max_entries > 0 {
            match self.door.shown() {
                VaultShown::Never | VaultShown::Locked => {}
                VaultShown::Directory | VaultShown::Link(_) => {
                    let attr = self.attr(context)?;
                    entries.push(DirEntry {
                        name: Bytes::from_static(NAME),
                        ino: attr.ino,
                        kind: attr.kind,
                        cookie: COOKIE,
                        attr: match listing {
                            Listing::Names => None,
                            Listing::Plus => Some(attr),
                        },
                    });
                }
            }
        }
        Ok(entries)
    }

    fn statfs(&self) -> Result<FsStat> {
        self.tree.statfs()
    }

    fn fsync(&self, context: &Context, ino: Ino, scope: SyncScope) -> Result<()> {
        if ino == VAULT { Ok(()) } else { self.tree.fsync(context, ino, scope) }
    }

    fn listxattr(&self, context: &Context, ino: Ino) -> Result<Vec<Bytes>> {
        if ino == VAULT { Ok(Vec::new()) } else { self.tree.listxattr(context, ino) }
    }

    fn getxattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<Bytes> {
        if ino == VAULT { Err(VfsError::NoAttribute) } else { self.tree.getxattr(context, ino, name) }
    }

    fn file_flags(&self, context: &Context, ino: Ino) -> Result<FileFlags> {
        if ino == VAULT { Ok(FileFlags::default()) } else { self.tree.file_flags(context, ino) }
    }

    fn setattr(&self, context: &Context, ino: Ino, change: &SetAttr) -> Result<Attr> {
        self.tree.setattr(context, of_tree(ino)?, change)
    }

    fn mknod(&self, context: &Context, parent: Ino, name: &[u8], kind: NodeKind, mode: u16) -> Result<Attr> {
        self.free(parent, name)?;
        self.tree.mknod(context, parent, name, kind, mode)
    }

    fn mkdir(&self, context: &Context, parent: Ino, name: &[u8], mode: u16) -> Result<Attr> {
        self.free(parent, name)?;
        self.tree.mkdir(context, parent, name, mode)
    }

    fn symlink(&self, context: &Context, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr> {
        self.free(parent, name)?;
        self.tree.symlink(context, parent, name, target)
    }

    fn link(&self, context: &Context, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        self.free(parent, name)?;
        self.tree.link(context, of_tree(ino)?, parent, name)
    }

    fn unlink(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        self.removable(parent, name)?;
        self.tree.unlink(context, parent, name)
    }

    fn rmdir(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        self.removable(parent, name)?;
        self.tree.rmdir(context, parent, name)
    }

    fn rename(&self, context: &Context, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        self.removable(from.0, from.1)?;
        self.free(to.0, to.1)?;
        self.tree.rename(context, from, to, mode)
    }

    // The vault's directory is no regular file: the kernel asks for none of these.

    fn read(&self, context: &Context, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>> {
        self.tree.read(context, ino, offset, len)
    }

    fn write(&self, context: &Context, ino: Ino, offset: u64, data: &[u8]) -> Result<SetId> {
        self.tree.write(context, ino, offset, data)
    }

    fn setxattr(&self, context: &Context, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.tree.setxattr(context, of_tree(ino)?, name, value, mode)
    }

    fn removexattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<()> {
        self.tree.removexattr(context, of_tree(ino)?, name)
    }

    fn set_file_flags(&self, context: &Context, ino: Ino, flags: FileFlags) -> Result<()> {
        self.tree.set_file_flags(context, of_tree(ino)?, flags)
    }

    fn allocate(&self, context: &Context, ino: Ino, range: (u64, u64), allocation: Allocation) -> Result<SetId> {
        self.tree.allocate(context, ino, range, allocation)
    }

    fn seek(&self, context: &Context, ino: Ino, offset: u64, wanted: SeekFor) -> Result<u64> {
        self.tree.seek(context, ino, offset, wanted)
    }

    fn copy_range(&self, context: &Context, from: (Ino, u64), to: (Ino, u64), len: u64) -> Result<(u64, SetId)> {
        self.tree.copy_range(context, from, to, len)
    }
}
