//! What a volume shows after a crash, read through its public operations.

use std::collections::BTreeMap;

use verfs_base::Ino;
use verfs_vfs::{Attr, Context, FileFlags, FileKind, Listing, Vfs, VfsError};

use crate::content::Content;
use crate::model::XattrMap;
use crate::session::walk_extents;

/// What an inode has that its attributes don't show.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Extended attributes.
    pub xattrs: XattrMap,
    /// Flags.
    pub flags: FileFlags,
}

/// Reads what an inode has beside its attributes.
pub(crate) fn extras(vfs: &Vfs, context: &Context, ino: Ino) -> Result<Extras, VfsError> {
    let mut extras = Extras { xattrs: XattrMap::new(), flags: vfs.file_flags(context, ino)? };
    for name in vfs.listxattr(context, ino)? {
        let value = vfs.getxattr(context, ino, &name)?;
        extras.xattrs.insert(name.to_vec(), value.to_vec());
    }
    Ok(extras)
}

/// An inode as the volume shows it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Attributes.
    pub attr: Attr,
    /// Names of a directory.
    pub entries: BTreeMap<Vec<u8>, Ino>,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Extended attributes and flags.
    pub extras: Extras,
}

/// A tree as the volume shows it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Where it begins.
    pub root: Ino,
    /// Every inode that has a name.
    pub inodes: BTreeMap<Ino, Seen>,
}

/// A volume after a crash must answer everything.
fn answered<T>(what: impl FnOnce() -> String, answer: Result<T, VfsError>) -> Result<T, String> {
    answer.map_err(|error| format!("{}: {error}", what()))
}

fn list(vfs: &Vfs, dir: Ino) -> Result<BTreeMap<Vec<u8>, Ino>, String> {
    let mut entries = BTreeMap::new();
    let mut cookie = 0;
    loop {
        let page = vfs.readdir(&Context::ROOT, dir, cookie, 64, Listing::Names);
        let page = answered(|| format!("listing inode {dir}"), page)?;
        let Some(last) = page.last() else { return Ok(entries) };
        cookie = last.cookie;
        for entry in page {
            if entry.name != b"."[..]
                && entry.name != b".."[..]
                && entries.insert(entry.name.to_vec(), entry.ino).is_some()
            {
                return Err(format!("inode {dir} lists {} twice", crate::op::short(&entry.name)));
            }
        }
    }
}

impl Observed {
    /// Reads all names and attributes below `root`.
    ///
    /// # Errors
    /// What can't be read, in words.
    pub fn read(vfs: &Vfs, root: Ino) -> Result<Observed, String> {
        let mut inodes = BTreeMap::new();
        let mut todo = vec![root];
        while let Some(ino) = todo.pop() {
            if inodes.contains_key(&ino) {
                continue;
            }
            let attr = answered(|| format!("getattr of inode {ino}"), vfs.getattr(&Context::ROOT, ino))?;
            let extras = answered(|| format!("attributes of inode {ino}"), extras(vfs, &Context::ROOT, ino))?;
            let mut seen = Seen { attr, entries: BTreeMap::new(), target: Vec::new(), extras };
            match attr.kind {
                FileKind::Directory => seen.entries = list(vfs, ino)?,
                FileKind::Symlink => {
                    let target = vfs.readlink(&Context::ROOT, ino);
                    seen.target = answered(|| format!("readlink of inode {ino}"), target)?.to_vec();
                }
                FileKind::Regular
                | FileKind::Fifo
                | FileKind::Socket
                | FileKind::CharDevice
                | FileKind::BlockDevice => {}
            }
            for (name, child) in &seen.entries {
                let found = vfs.lookup(&Context::ROOT, ino, name);
                let found = answered(|| format!("lookup of the listed {}", crate::op::short(name)), found)?;
                if found.ino != *child {
                    return Err(format!("{} is listed as {child} but is {}", crate::op::short(name), found.ino));
                }
                todo.push(*child);
            }
            inodes.insert(ino, seen);
        }
        Ok(Observed { root, inodes })
    }
}

/// Reads one file and compares it with several contents that it might have.
pub struct Reader<'a> {
    vfs: &'a Vfs,
    ino: Ino,
    size: u64,
    pieces: BTreeMap<(u64, usize), Vec<u8>>,
}

impl<'a> Reader<'a> {
    /// A file of so many bytes.
    #[must_use]
    pub fn new(vfs: &'a Vfs, ino: Ino, size: u64) -> Self {
        Reader { vfs, ino, size, pieces: BTreeMap::new() }
    }

    /// Whether the file is this; if not, why.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn is(&mut self, content: &Content) -> Result<Result<(), String>, String> {
        if content.size() != self.size {
            return Ok(Err(format!("size {} instead of {}", self.size, content.size())));
        }
        for (offset, len) in content.probes() {
            if let std::collections::btree_map::Entry::Vacant(piece) = self.pieces.entry((offset, len)) {
                let bytes = self.vfs.read(&Context::ROOT, self.ino, offset, len as u32);
                let bytes = answered(|| format!("reading inode {} at {offset}+{len}", self.ino), bytes)?;
                piece.insert(bytes.concat());
            }
            if let Err(difference) = content.compare(offset, len, &self.pieces[&(offset, len)]) {
                return Ok(Err(difference.to_string()));
            }
        }
        let walked = walk_extents(|at, wanted| self.vfs.seek(&Context::ROOT, self.ino, at, wanted), content);
        answered(|| format!("data and holes of inode {}", self.ino), walked)
    }
}
