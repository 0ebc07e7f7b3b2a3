//! What a session serves.

use bytes::Bytes;
use verfs_base::Ino;
use verfs_vfs::{
    Allocation, Attr, Context, DirEntry, FileFlags, FsStat, Listing, NodeKind, RenameMode, Result, SeekFor, SetAttr,
    SetId, SyncScope, Vfs, VfsError, XattrMode,
};

/// How long the kernel may keep what it was told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lifetime {
    /// It asks again each time: this changes without its knowledge.
    Moment,
    /// For good: only this kernel changes it, or nobody.
    Forever,
}

/// Whether the kernel asks before it opens a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// It doesn't: nothing hangs on an open file.
    Unasked,
    /// It does, and who wants to write is refused with EROFS: files of this tree never change.
    ReadersOnly,
}

/// A tree of files that can be mounted. [`Vfs`] is the real one and documents every operation; tests and the
/// transport's bench mount others.
///
/// Every operation may be called from several threads at once. With [`verfs_vfs::Patience::Try`] it must not wait.
#[allow(missing_docs, reason = "the operations are those of `Vfs`, documented there")]
pub trait Tree: Send + Sync + 'static {
    /// Whether the kernel asks before it opens a file.
    fn opening(&self) -> Opening {
        Opening::Unasked
    }

    /// How long attributes of an inode hold.
    fn attr_lifetime(&self, _: Ino) -> Lifetime {
        Lifetime::Forever
    }

    /// How long the names of a directory hold, its lack of other names, and its listing.
    fn names_lifetime(&self, _: Ino) -> Lifetime {
        Lifetime::Forever
    }

    fn lookup(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<Attr>;
    fn forget(&self, ino: Ino, count: u64);
    fn forget_all(&self);
    fn getattr(&self, context: &Context, ino: Ino) -> Result<Attr>;
    fn setattr(&self, context: &Context, ino: Ino, change: &SetAttr) -> Result<Attr>;
    fn readlink(&self, context: &Context, ino: Ino) -> Result<Bytes>;
    fn mknod(&self, context: &Context, parent: Ino, name: &[u8], kind: NodeKind, mode: u16) -> Result<Attr>;
    fn mkdir(&self, context: &Context, parent: Ino, name: &[u8], mode: u16) -> Result<Attr>;
    fn symlink(&self, context: &Context, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr>;
    fn link(&self, context: &Context, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr>;
    fn unlink(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()>;
    fn rmdir(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()>;
    fn rename(&self, context: &Context, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()>;
    fn read(&self, context: &Context, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>>;
    fn write(&self, context: &Context, ino: Ino, offset: u64, data: &[u8]) -> Result<SetId>;
    fn readdir(
        &self,
        context: &Context,
        ino: Ino,
        cookie: u64,
        max_entries: usize,
        listing: Listing,
    ) -> Result<Vec<DirEntry>>;
    fn fsync(&self, context: &Context, ino: Ino, scope: SyncScope) -> Result<()>;
    fn statfs(&self) -> Result<FsStat>;

    // What a tree may do without.

    fn getxattr(&self, _: &Context, _: Ino, _: &[u8]) -> Result<Bytes> {
        Err(VfsError::Unsupported)
    }

    fn listxattr(&self, _: &Context, _: Ino) -> Result<Vec<Bytes>> {
        Err(VfsError::Unsupported)
    }

    fn setxattr(&self, _: &Context, _: Ino, _: &[u8], _: &[u8], _: XattrMode) -> Result<()> {
        Err(VfsError::Unsupported)
    }

    fn removexattr(&self, _: &Context, _: Ino, _: &[u8]) -> Result<()> {
        Err(VfsError::Unsupported)
    }

    fn file_flags(&self, _: &Context, _: Ino) -> Result<FileFlags> {
        Err(VfsError::Unsupported)
    }

    fn set_file_flags(&self, _: &Context, _: Ino, _: FileFlags) -> Result<()> {
        Err(VfsError::Unsupported)
    }

    fn allocate(&self, _: &Context, _: Ino, _: (u64, u64), _: Allocation) -> Result<SetId> {
        Err(VfsError::Unsupported)
    }

    fn seek(&self, _: &Context, _: Ino, _: u64, _: SeekFor) -> Result<u64> {
        Err(VfsError::Unsupported)
    }

    fn copy_range(&self, _: &Context, _: (Ino, u64), _: (Ino, u64), _: u64) -> Result<(u64, SetId)> {
        Err(VfsError::Unsupported)
    }
}

impl Tree for Vfs {
    fn lookup(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<Attr> {
        Vfs::lookup(self, context, parent, name)
    }

    fn forget(&self, ino: Ino, count: u64) {
        Vfs::forget(self, ino, count);
    }

    fn forget_all(&self) {
        Vfs::forget_all(self);
    }

    fn getattr(&self, context: &Context, ino: Ino) -> Result<Attr> {
        Vfs::getattr(self, context, ino)
    }

    fn setattr(&self, context: &Context, ino: Ino, change: &SetAttr) -> Result<Attr> {
        Vfs::setattr(self, context, ino, change)
    }

    fn readlink(&self, context: &Context, ino: Ino) -> Result<Bytes> {
        Vfs::readlink(self, context, ino)
    }

    fn mknod(&self, context: &Context, parent: Ino, name: &[u8], kind: NodeKind, mode: u16) -> Result<Attr> {
        Vfs::mknod(self, context, parent, name, kind, mode)
    }

    fn mkdir(&self, context: &Context, parent: Ino, name: &[u8], mode: u16) -> Result<Attr> {
        Vfs::mkdir(self, context, parent, name, mode)
    }

    fn symlink(&self, context: &Context, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr> {
        Vfs::symlink(self, context, parent, name, target)
    }

    fn link(&self, context: &Context, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        Vfs::link(self, context, ino, parent, name)
    }

    fn unlink(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        Vfs::unlink(self, context, parent, name)
    }

    fn rmdir(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        Vfs::rmdir(self, context, parent, name)
    }

    fn rename(&self, context: &Context, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        Vfs::rename(self, context, from.0, from.1, to.0, to.1, mode)
    }

    fn read(&self, context: &Context, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>> {
        Vfs::read(self, context, ino, offset, len)
    }

    fn write(&self, context: &Context, ino: Ino, offset: u64, data: &[u8]) -> Result<SetId> {
        Vfs::write(self, context, ino, offset, data)
    }

    fn readdir(
        &self,
        context: &Context,
        ino: Ino,
        cookie: u64,
        max_entries: usize,
        listing: Listing,
    ) -> Result<Vec<DirEntry>> {
        Vfs::readdir(self, context, ino, cookie, max_entries, listing)
    }

    fn fsync(&self, context: &Context, ino: Ino, scope: SyncScope) -> Result<()> {
        Vfs::fsync(self, context, ino, scope)
    }

    fn statfs(&self) -> Result<FsStat> {
        Vfs::statfs(self)
    }

    fn getxattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<Bytes> {
        Vfs::getxattr(self, context, ino, name)
    }

    fn listxattr(&self, context: &Context, ino: Ino) -> Result<Vec<Bytes>> {
        Vfs::listxattr(self, context, ino)
    }

    fn setxattr(&self, context: &Context, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        Vfs::setxattr(self, context, ino, name, value, mode)
    }

    fn removexattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<()> {
        Vfs::removexattr(self, context, ino, name)
    }

    fn file_flags(&self, context: &Context, ino: Ino) -> Result<FileFlags> {
        Vfs::file_flags(self, context, ino)
    }

    fn set_file_flags(&self, context: &Context, ino: Ino, flags: FileFlags) -> Result<()> {
        Vfs::set_file_flags(self, context, ino, flags)
    }

    fn allocate(&self, context: &Context, ino: Ino, range: (u64, u64), allocation: Allocation) -> Result<SetId> {
        Vfs::allocate(self, context, ino, range.0, range.1, allocation)
    }

    fn seek(&self, context: &Context, ino: Ino, offset: u64, wanted: SeekFor) -> Result<u64> {
        Vfs::seek(self, context, ino, offset, wanted)
    }

    fn copy_range(&self, context: &Context, from: (Ino, u64), to: (Ino, u64), len: u64) -> Result<(u64, SetId)> {
        Vfs::copy_range(self, context, from, to, len)
    }
}
