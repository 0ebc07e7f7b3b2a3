//! A tree behind the gate of the vault.

use std::sync::Arc;

use bytes::Bytes;
use verfs_base::Ino;
use verfs_vfs::{
    Allocation, Attr, Context, DirEntry, FileFlags, FsStat, Listing, NodeKind, RenameMode, Result, SeekFor, SetAttr,
    SetId, SyncScope, XattrMode,
};

use super::gate::{VaultGate, VaultVisit};
use crate::tree::{Lifetime, Opening, Tree};

/// A tree whose operations pass a gate, where there is one.
pub(crate) struct Gated<T> {
    tree: Arc<T>,
    gate: Option<Arc<VaultGate>>,
}

impl<T: Tree> Gated<T> {
    pub(crate) fn new(tree: Arc<T>, gate: Option<Arc<VaultGate>>) -> Gated<T> {
        Gated { tree, gate }
    }

    fn enter(&self) -> Result<Option<VaultVisit<'_>>> {
        self.gate.as_ref().map(|gate| gate.enter()).transpose()
    }

    fn told(&self, attr: Result<Attr>) -> Result<Attr> {
        if let (Some(gate), Ok(attr)) = (&self.gate, &attr) {
            gate.told(attr.ino);
        }
        attr
    }
}

impl<T: Tree> Tree for Gated<T> {
    fn opening(&self) -> Opening {
        self.tree.opening()
    }

    fn attr_lifetime(&self, ino: Ino) -> Lifetime {
        self.tree.attr_lifetime(ino)
    }

    fn names_lifetime(&self, ino: Ino) -> Lifetime {
        self.tree.names_lifetime(ino)
    }

    // What the kernel forgets it forgets, also while the vault is locked.

    fn forget(&self, ino: Ino, count: u64) {
        if let Some(gate) = &self.gate {
            gate.forgotten(ino, count);
        }
        self.tree.forget(ino, count);
    }

    fn forget_all(&self) {
        self.tree.forget_all();
    }

    fn statfs(&self) -> Result<FsStat> {
        let _inside = self.enter()?;
        self.tree.statfs()
    }

    fn readdir(
        &self,
        context: &Context,
        ino: Ino,
        cookie: u64,
        max_entries: usize,
        listing: Listing,
    ) -> Result<Vec<DirEntry>> {
        let _inside = self.enter()?;
        let entries = self.tree.readdir(context, ino, cookie, max_entries, listing)?;
        if let (Some(gate), Listing::Plus) = (&self.gate, listing) {
            entries.iter().for_each(|entry| gate.told(entry.ino));
        }
        Ok(entries)
    }

    fn lookup(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<Attr> {
        let _inside = self.enter()?;
        self.told(self.tree.lookup(context, parent, name))
    }

    fn getattr(&self, context: &Context, ino: Ino) -> Result<Attr> {
        let _inside = self.enter()?;
        self.tree.getattr(context, ino)
    }

    fn setattr(&self, context: &Context, ino: Ino, change: &SetAttr) -> Result<Attr> {
        let _inside = self.enter()?;
        self.tree.setattr(context, ino, change)
    }

    fn readlink(&self, context: &Context, ino: Ino) -> Result<Bytes> {
        let _inside = self.enter()?;
        self.tree.readlink(context, ino)
    }

    fn mknod(&self, context: &Context, parent: Ino, name: &[u8], kind: NodeKind, mode: u16) -> Result<Attr> {
        let _inside = self.enter()?;
        self.told(self.tree.mknod(context, parent, name, kind, mode))
    }

    fn mkdir(&self, context: &Context, parent: Ino, name: &[u8], mode: u16) -> Result<Attr> {
        let _inside = self.enter()?;
        self.told(self.tree.mkdir(context, parent, name, mode))
    }

    fn symlink(&self, context: &Context, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr> {
        let _inside = self.enter()?;
        self.told(self.tree.symlink(context, parent, name, target))
    }

    fn link(&self, context: &Context, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        let _inside = self.enter()?;
        self.told(self.tree.link(context, ino, parent, name))
    }

    fn unlink(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        let _inside = self.enter()?;
        self.tree.unlink(context, parent, name)
    }

    fn rmdir(&self, context: &Context, parent: Ino, name: &[u8]) -> Result<()> {
        let _inside = self.enter()?;
        self.tree.rmdir(context, parent, name)
    }

    fn rename(&self, context: &Context, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        let _inside = self.enter()?;
        self.tree.rename(context, from, to, mode)
    }

    fn read(&self, context: &Context, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>> {
        let _inside = self.enter()?;
        self.tree.read(context, ino, offset, len)
    }

    fn write(&self, context: &Context, ino: Ino, offset: u64, data: &[u8]) -> Result<SetId> {
        let _inside = self.enter()?;
        self.tree.write(context, ino, offset, data)
    }

    fn fsync(&self, context: &Context, ino: Ino, scope: SyncScope) -> Result<()> {
        let _inside = self.enter()?;
        self.tree.fsync(context, ino, scope)
    }

    fn getxattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<Bytes> {
        let _inside = self.enter()?;
        self.tree.getxattr(context, ino, name)
    }

    fn listxattr(&self, context: &Context, ino: Ino) -> Result<Vec<Bytes>> {
        let _inside = self.enter()?;
        self.tree.listxattr(context, ino)
    }

    fn setxattr(&self, context: &Context, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let _inside = self.enter()?;
        self.tree.setxattr(context, ino, name, value, mode)
    }

    fn removexattr(&self, context: &Context, ino: Ino, name: &[u8]) -> Result<()> {
        let _inside = self.enter()?;
        self.tree.removexattr(context, ino, name)
    }

    fn file_flags(&self, context: &Context, ino: Ino) -> Result<FileFlags> {
        let _inside = self.enter()?;
        self.tree.file_flags(context, ino)
    }

    fn set_file_flags(&self, context: &Context, ino: Ino, flags: FileFlags) -> Result<()> {
        let _inside = self.enter()?;
        self.tree.set_file_flags(context, ino, flags)
    }

    fn allocate(&self, context: &Context, ino: Ino, range: (u64, u64), allocation: Allocation) -> Result<SetId> {
        let _inside = self.enter()?;
        self.tree.allocate(context, ino, range, allocation)
    }

    fn seek(&self, context: &Context, ino: Ino, offset: u64, wanted: SeekFor) -> Result<u64> {
        let _inside = self.enter()?;
        self.tree.seek(context, ino, offset, wanted)
    }

    fn copy_range(&self, context: &Context, from: (Ino, u64), to: (Ino, u64), len: u64) -> Result<(u64, SetId)> {
        let _inside = self.enter()?;
        self.tree.copy_range(context, from, to, len)
    }
}
