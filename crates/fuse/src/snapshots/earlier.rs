//! `.snapshots` of a directory below the root: for each snapshot that had the directory a symlink to what it was then.
//!
//! A symlink leads up to the root and down again through `.snapshots` there, along the names that the directory and
//! those above it had. So it is right wherever the directory was moved since.

use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{Epoch, Ino};
use verfs_vfs::{Attr, Context, DirEntry, FileKind, Listing, Pin, Result, SnapshotTree, Vfs, VfsError};

use super::NAME;
use super::numbers::{self, Link};
use super::opened::{OpenedSnapshots, may_wait};

/// Cookies of `.` and `..`; behind them comes each snapshot's number.
const COOKIE_SELF: u64 = 1;
const COOKIE_PARENT: u64 = 2;

/// Levels that are followed upwards: more than a link's number can say, so that a damaged tree ends somewhere.
const DEPTH_MAX: u64 = 4096;

/// Entries that are read at once in the search for a directory's name.
const SEARCH_ENTRIES: usize = 1024;

/// Longest target of a symlink (`PATH_MAX` with its NUL).
const TARGET_MAX_BYTES: usize = 4095;

/// Earlier states of directories.
pub(super) struct Earlier {
    vfs: Arc<Vfs>,
    opened: Arc<OpenedSnapshots>,
}

impl Earlier {
    pub(super) fn new(vfs: Arc<Vfs>, opened: Arc<OpenedSnapshots>) -> Earlier {
        Earlier { vfs, opened }
    }

    /// Attributes of `.snapshots` of a directory.
    pub(super) fn attr(&self, context: &Context, directory: Ino) -> Result<Attr> {
        let live = self.vfs.getattr(&Context { pin: Pin::No, ..*context }, directory)?;
        Ok(Attr { ino: numbers::directory(directory)?, mode: live.mode & 0o555, nlink: 2, size: 0, blocks: 0, ..live })
    }

    /// The link to what a directory was in the snapshot of a name.
    pub(super) fn lookup(&self, context: &Context, directory: Ino, name: &[u8]) -> Result<Attr> {
        may_wait(context)?;
        let tree = self.opened.by_name(name)?;
        let depth = self.depth(context, directory)?;
        self.link_attr_in(&tree, Link { directory, snapshot: tree.id(), depth })
    }

    /// Attributes of a link.
    pub(super) fn link_attr(&self, context: &Context, link: Link) -> Result<Attr> {
        may_wait(context)?;
        self.link_attr_in(&self.opened.by_id(link.snapshot)?, link)
    }

    /// Where a link leads.
    pub(super) fn target(&self, context: &Context, link: Link) -> Result<Bytes> {
        may_wait(context)?;
        self.target_in(&self.opened.by_id(link.snapshot)?, link)
    }

    /// The links of a directory.
    pub(super) fn list(
        &self,
        context: &Context,
        directory: Ino,
        cookie: u64,
        max_entries: usize,
        listing: Listing,
    ) -> Result<Vec<DirEntry>> {
        may_wait(context)?;
        let dots = [(COOKIE_SELF, ".", numbers::directory(directory)?), (COOKIE_PARENT, "..", directory)];
        let dots = dots.into_iter().filter(|(at, ..)| *at > cookie).map(|(cookie, name, ino)| DirEntry {
            name: Bytes::from_static(name.as_bytes()),
            ino,
            kind: FileKind::Directory,
            cookie,
            attr: None,
        });
        let mut entries: Vec<DirEntry> = dots.take(max_entries).collect();
        let depth = self.depth(context, directory)?;
        for snapshot in self.vfs.snapshots().into_iter().filter(|snapshot| snapshot.id.0 + COOKIE_PARENT > cookie) {
            if entries.len() >= max_entries {
                break;
            }
            let link = Link { directory, snapshot: snapshot.id, depth };
            let found = self.opened.by_id(snapshot.id).and_then(|tree| self.link_attr_in(&tree, link));
            let attr = match found {
                Ok(attr) => attr,
                // It wasn't there yet, or the snapshot was deleted since.
                Err(VfsError::NotFound) => continue,
                Err(error) => return Err(error),
            };
            entries.push(DirEntry {
                name: snapshot.name,
                ino: attr.ino,
                kind: attr.kind,
                cookie: snapshot.id.0 + COOKIE_PARENT,
                attr: match listing {
                    Listing::Names => None,
                    Listing::Plus => Some(attr),
                },
            });
        }
        Ok(entries)
    }

    fn link_attr_in(&self, tree: &SnapshotTree, link: Link) -> Result<Attr> {
        let then = tree.getattr(link.directory)?;
        let target = self.target_in(tree, link)?;
        Ok(Attr {
            ino: link.number()?,
            kind: FileKind::Symlink,
            mode: 0o777,
            nlink: 1,
            size: target.len() as u64,
            blocks: 0,
            ..then
        })
    }

    fn target_in(&self, tree: &SnapshotTree, link: Link) -> Result<Bytes> {
        let mut names = Vec::new();
        let mut at = link.directory;
        while at != Ino::ROOT {
            if names.len() as u64 > DEPTH_MAX {
                return Err(VfsError::Io);
            }
            let parent = tree.parent(at)?;
            names.push(name_in(tree, parent, at)?);
            at = parent;
        }
        let snapshot = self.name_of(tree.id())?;
        // From `.snapshots` of the directory to the directory, and from there to the root.
        let mut target = b"../".repeat(usize::try_from(link.depth + 1).unwrap_or(usize::MAX));
        target.extend_from_slice(NAME);
        for name in std::iter::once(&snapshot).chain(names.iter().rev()) {
            target.push(b'/');
            target.extend_from_slice(name);
        }
        if target.len() > TARGET_MAX_BYTES { Err(VfsError::NameTooLong) } else { Ok(target.into()) }
    }

    fn name_of(&self, id: Epoch) -> Result<Bytes> {
        let snapshots = self.vfs.snapshots();
        snapshots.into_iter().find(|snapshot| snapshot.id == id).map(|found| found.name).ok_or(VfsError::NotFound)
    }

    /// How many directories `directory` is below the root now.
    fn depth(&self, context: &Context, directory: Ino) -> Result<u64> {
        let context = Context { pin: Pin::No, ..*context };
        let mut depth = 0;
        let mut at = directory;
        while at != Ino::ROOT && depth < DEPTH_MAX {
            let above = self.vfs.readdir(&context, at, COOKIE_SELF, 1, Listing::Names)?;
            at = above.first().ok_or(VfsError::NotFound)?.ino;
            depth += 1;
        }
        Ok(depth)
    }
}

/// The name of a directory in the one above it. There is no way to it but to look through that.
fn name_in(tree: &SnapshotTree, parent: Ino, wanted: Ino) -> Result<Bytes> {
    let mut cookie = COOKIE_PARENT;
    loop {
        let entries = tree.readdir(parent, cookie, SEARCH_ENTRIES, Listing::Names)?;
        let Some(last) = entries.last() else { return Err(VfsError::NotFound) };
        cookie = last.cookie;
        if let Some(found) = entries.into_iter().find(|entry| entry.ino == wanted) {
            return Ok(found.name);
        }
    }
}
