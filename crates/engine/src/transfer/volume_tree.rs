//! The tree of a volume, as a source and as a target, and that of one of its snapshots, as a source.

use bytes::Bytes;
use verfs_base::{Ino, Timestamp};
use verfs_fuse::Invalidation;
use verfs_vfs::{
    AccessTimes, Attr, Context, DirEntry, FileKind, Listing, NodeKind, Patience, Pin, SeekFor, SetAttr, SetTime,
    SnapshotTree, Vfs, VfsError, XattrMode,
};

use super::owners::Owners;
use super::tree::{Go, Made, Meta, PIECE_BYTES, Source, Target, Trouble, Xattrs};
use crate::snapshots::{SessionSlot, tell_kernel};

/// Entries of a directory that are taken at once.
const LISTED: usize = 4096;

/// As root, whoever he is: what he may was asked before. Reads leave no trace.
const CONTEXT: Context =
    Context { uid: 0, gid: 0, umask: 0, patience: Patience::Wait, pin: Pin::No, access_times: AccessTimes::Stay };

fn meta_of(attr: &Attr) -> Meta {
    Meta {
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        device: attr.rdev,
        size: attr.size,
        names: attr.nlink,
        identity: (0, attr.ino.0),
        accessed: attr.atime,
        modified: attr.mtime,
        changed: attr.ctime,
    }
}

/// All entries of a directory but the dots, from a call that gives some at a time.
fn listed(mut some: impl FnMut(u64) -> verfs_vfs::Result<Vec<DirEntry>>) -> Result<Vec<(Bytes, Ino)>, Trouble> {
    let mut entries = Vec::new();
    let mut cookie = 0;
    loop {
        let page = some(cookie)?;
        let Some(last) = page.last() else { return Ok(entries) };
        cookie = last.cookie;
        let named = page.into_iter().filter(|entry| !matches!(&*entry.name, b"." | b".."));
        entries.extend(named.map(|entry| (entry.name, entry.ino)));
    }
}

/// Hands out the data of a file, from calls that find and read them.
fn handed_out(
    size: u64,
    mut seek: impl FnMut(u64, SeekFor) -> verfs_vfs::Result<u64>,
    mut read: impl FnMut(u64, u32) -> verfs_vfs::Result<Vec<Bytes>>,
    take: &mut dyn FnMut(u64, &[u8]) -> Go,
) -> Result<(), Trouble> {
    let mut at = 0;
    while at < size {
        at = match seek(at, SeekFor::Data) {
            Ok(data) => data,
            Err(VfsError::NoSuchOffset) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(at, SeekFor::Hole)?;
        while at < end {
            let pieces = read(at, (end - at).min(PIECE_BYTES) as u32)?;
            // Somebody made it shorter.
            if pieces.iter().all(Bytes::is_empty) {
                return Ok(());
            }
            for piece in pieces {
                if take(at, &piece) == Go::Stop {
                    return Ok(());
                }
                at += piece.len() as u64;
            }
        }
    }
    Ok(())
}

impl Source for SnapshotTree {
    type Node = Ino;

    fn meta(&self, node: &Ino) -> Result<Meta, Trouble> {
        Ok(meta_of(&self.getattr(*node)?))
    }

    fn entries(&self, directory: &Ino) -> Result<Vec<(Bytes, Ino)>, Trouble> {
        listed(|cookie| self.readdir(*directory, cookie, LISTED, Listing::Names))
    }

    fn link_target(&self, node: &Ino) -> Result<Bytes, Trouble> {
        Ok(self.readlink(*node)?)
    }

    fn xattrs(&self, node: &Ino) -> Result<Xattrs, Trouble> {
        let owners = Owners::of_process();
        let names = self.listxattr(*node)?.into_iter().filter(|name| owners.keeps_xattr(name));
        names.map(|name| Ok((name.clone(), self.getxattr(*node, &name)?))).collect()
    }

    fn content(&self, node: &Ino, take: &mut dyn FnMut(u64, &[u8]) -> Go) -> Result<(), Trouble> {
        let size = self.getattr(*node)?.size;
        handed_out(size, |at, wanted| self.seek(*node, at, wanted), |at, len| self.read(*node, at, len), take)
    }
}

/// The tree of a volume as it is now.
pub(super) struct LiveTree<'a> {
    pub(super) vfs: &'a Vfs,
    pub(super) session: &'a SessionSlot,
    pub(super) owners: Owners,
}

impl LiveTree<'_> {
    /// Tells the kernel of a mount of a name, if it may know the directory. What it looks up later is as it is.
    fn tell_name(&self, directory: Ino, name: &Bytes) {
        if self.vfs.is_kept(directory) {
            let entry = Invalidation::Entry { parent: directory, name: name.clone() };
            tell_kernel(self.session, || [entry, Invalidation::Inode(directory)]);
        }
    }

    fn tell_inode(&self, ino: Ino) {
        if self.vfs.is_kept(ino) {
            tell_kernel(self.session, || [Invalidation::Inode(ino)]);
        }
    }

    fn set(&self, ino: Ino, change: &SetAttr) -> Result<(), Trouble> {
        self.vfs.setattr(&CONTEXT, ino, change)?;
        Ok(())
    }

    /// Gives the finished tree its name.
    pub(super) fn rename(&self, directory: Ino, name: &Bytes, new_name: &Bytes) -> Result<(), VfsError> {
        self.vfs.rename(&CONTEXT, directory, name, directory, new_name, verfs_vfs::RenameMode::NoReplace)?;
        self.tell_name(directory, name);
        self.tell_name(directory, new_name);
        Ok(())
    }
}

impl Source for LiveTree<'_> {
    type Node = Ino;

    fn meta(&self, node: &Ino) -> Result<Meta, Trouble> {
        Ok(meta_of(&self.vfs.getattr(&CONTEXT, *node)?))
    }

    fn entries(&self, directory: &Ino) -> Result<Vec<(Bytes, Ino)>, Trouble> {
        listed(|cookie| self.vfs.readdir(&CONTEXT, *directory, cookie, LISTED, Listing::Names))
    }

    fn link_target(&self, node: &Ino) -> Result<Bytes, Trouble> {
        Ok(self.vfs.readlink(&CONTEXT, *node)?)
    }

    fn xattrs(&self, node: &Ino) -> Result<Xattrs, Trouble> {
        let names = self.vfs.listxattr(&CONTEXT, *node)?.into_iter().filter(|name| self.owners.keeps_xattr(name));
        let mut xattrs = Vec::new();
        for name in names {
            match self.vfs.getxattr(&CONTEXT, *node, &name) {
                Ok(value) => xattrs.push((name, value)),
                Err(VfsError::NoAttribute) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(xattrs)
    }

    fn content(&self, node: &Ino, take: &mut dyn FnMut(u64, &[u8]) -> Go) -> Result<(), Trouble> {
        let size = self.vfs.getattr(&CONTEXT, *node)?.size;
        handed_out(
            size,
            |at, wanted| self.vfs.seek(&CONTEXT, *node, at, wanted),
            |at, len| self.vfs.read(&CONTEXT, *node, at, len),
            take,
        )
    }
}

impl Target for LiveTree<'_> {
    type Writer = Ino;

    const VERIFIED_FILES: usize = 4096;

    fn find(&self, directory: &Ino, name: &Bytes) -> Result<Option<(Ino, Meta)>, Trouble> {
        match self.vfs.lookup(&CONTEXT, *directory, name) {
            Ok(attr) => Ok(Some((attr.ino, meta_of(&attr)))),
            Err(VfsError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn make(&self, directory: &Ino, name: &Bytes, made: &Made, like: &Meta) -> Result<Ino, Trouble> {
        let (uid, gid) = self.owners.of(like);
        let context = Context { uid, gid, ..CONTEXT };
        let node = |kind| self.vfs.mknod(&context, *directory, name, kind, 0o600);
        let made = match made {
            Made::File => node(NodeKind::Regular),
            Made::Directory => self.vfs.mkdir(&context, *directory, name, 0o700),
            Made::Symlink(target) => self.vfs.symlink(&context, *directory, name, target),
            Made::Fifo => node(NodeKind::Fifo),
            Made::Socket => node(NodeKind::Socket),
            Made::CharDevice(_) | Made::BlockDevice(_) if !self.owners.makes_devices() => {
                return Err(VfsError::NotPermitted.into());
            }
            Made::CharDevice(device) => node(NodeKind::CharDevice(*device)),
            Made::BlockDevice(device) => node(NodeKind::BlockDevice(*device)),
        }?;
        self.tell_name(*directory, name);
        Ok(made.ino)
    }

    fn link(&self, node: &Ino, directory: &Ino, name: &Bytes) -> Result<(), Trouble> {
        self.vfs.link(&CONTEXT, *node, *directory, name)?;
        self.tell_name(*directory, name);
        self.tell_inode(*node);
        Ok(())
    }

    fn remove(&self, directory: &Ino, name: &Bytes, kind: FileKind) -> Result<(), Trouble> {
        if kind == FileKind::Directory {
            self.vfs.rmdir(&CONTEXT, *directory, name)?;
        } else {
            self.vfs.unlink(&CONTEXT, *directory, name)?;
        }
        self.tell_name(*directory, name);
        Ok(())
    }

    fn reopen(&self, _directory: &Ino, _meta: &Meta) -> Result<(), Trouble> {
        // Modes are not asked here.
        Ok(())
    }

    fn writer(&self, node: &Ino) -> Result<Ino, Trouble> {
        Ok(*node)
    }

    fn write(&self, writer: &Ino, offset: u64, data: &[u8]) -> Result<(), Trouble> {
        self.vfs.write(&CONTEXT, *writer, offset, data)?;
        Ok(())
    }

    fn set_size(&self, writer: &Ino, size: u64) -> Result<(), Trouble> {
        self.set(*writer, &SetAttr { size: Some(size), ..SetAttr::default() })
    }

    fn finish(&self, node: &Ino, meta: &Meta, xattrs: &Xattrs) -> Result<(), Trouble> {
        let (uid, gid) = self.owners.of(meta);
        let now = self.meta(node)?;
        if (now.uid, now.gid) != (uid, gid) {
            self.set(*node, &SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() })?;
        }
        let there = self.xattrs(node)?;
        for (name, _) in there.iter().filter(|(name, _)| !xattrs.iter().any(|(wanted, _)| wanted == name)) {
            self.vfs.removexattr(&CONTEXT, *node, name)?;
        }
        for (name, value) in xattrs.iter().filter(|wanted| !there.contains(wanted)) {
            self.vfs.setxattr(&CONTEXT, *node, name, value, XattrMode::Set)?;
        }
        let mode = Some(meta.mode).filter(|_| meta.kind != FileKind::Symlink);
        let (atime, mtime) = (Some(SetTime::At(meta.accessed)), Some(SetTime::At(meta.modified)));
        self.set(*node, &SetAttr { mode, atime, mtime, ..SetAttr::default() })?;
        self.tell_inode(*node);
        Ok(())
    }

    fn spoil(&self, node: &Ino) -> Result<(), Trouble> {
        let never = Timestamp { seconds: 0, nanos: 0 };
        self.set(*node, &SetAttr { mtime: Some(SetTime::At(never)), ..SetAttr::default() })
    }

    fn settle(&self) -> Result<(), Trouble> {
        Ok(self.vfs.sync()?)
    }
}
