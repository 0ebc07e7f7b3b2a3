//! Copies out of a snapshot: what is made, and what is replaced.

use std::collections::BTreeMap;

use verfs_vfs::{CopyMode, FileFlags, FileKind, VfsError};

use super::{Answer, Body, Id, Model, NAME_MAX_BYTES, Node, ROOT, Time, Times, refuse};
use crate::op::{NAMES, Name};
use crate::snapshot::SnapshotName;

/// Mode of a directory that is made on the way, if the snapshot doesn't have it.
const WAY_MODE: u16 = 0o755;

impl Model {
    /// `copy_out`: everything that has the path `from` in a snapshot appears at the path `to`, in one piece.
    ///
    /// # Errors
    /// As the operation.
    pub fn copy_out(&mut self, snapshot: SnapshotName, from: &[Name], to: &[Name], mode: CopyMode) -> Answer<()> {
        let then = self.snapshots().get(&snapshot).map(|snapshot| snapshot.tree.clone());
        let then = then.ok_or(VfsError::NotFound)?;
        let source = from.iter().try_fold(ROOT, |at, name| then.lookup_whole(at, *name))?;
        let Some((last, way)) = to.split_last() else { return Err(VfsError::Exists.into()) };

        // As far as the way is there.
        let (mut parent, mut there) = (ROOT, 0);
        for name in way {
            check_length(*name)?;
            match self.node(parent)?.entries().and_then(|entries| entries.get(NAMES[*name as usize])) {
                Some(next) if self.node(*next)?.entries().is_some() => parent = *next,
                Some(_) => return Err(VfsError::NotDirectory.into()),
                None => break,
            }
            there += 1;
        }
        to.iter().try_for_each(|name| check_length(*name))?;
        let missing = &way[there..];
        let first = missing.first().copied().unwrap_or(*last);
        let replaced = match missing {
            [] => self.lookup(parent, NAMES[first as usize]).ok(),
            _ => None,
        };
        let mut errors = Vec::new();
        let root = self.node(ROOT)?;
        // Copies grow in the root.
        if root.flags.immutable || root.flags.append_only {
            errors.push(VfsError::NotPermitted);
        }
        match replaced {
            Some(_) if mode == CopyMode::New => errors.push(VfsError::Exists),
            Some(id) => errors.extend(super::errors_of(self.refuse_removal(parent, id))),
            None => errors.extend(super::errors_of(self.node(parent)?.refuse_any())),
        }
        refuse(errors)?;

        let top = self.grow(&then, source, &mut BTreeMap::new())?;
        let mut at = top;
        for depth in (0..missing.len()).rev() {
            let made = way[..=there + depth].iter().try_fold(ROOT, |at, name| then.lookup_whole(at, *name).ok());
            let made = made.and_then(|id| then.node(id).ok()).filter(|node| node.entries().is_some());
            let below = missing.get(depth + 1).unwrap_or(last);
            at = self.wrap(made, NAMES[*below as usize], at);
        }
        if let Some(id) = replaced {
            self.detach(parent, NAMES[first as usize])?;
            self.remove_all(id)?;
        }
        self.attach(parent, NAMES[first as usize], at)?;
        let now = self.now;
        self.node_mut(at)?.times.change = Time::exactly(now);
        self.node_mut(ROOT)?.touch_content(now);
        self.pieces += 1;
        Ok(())
    }

    /// Where a name leads, in the words of a path.
    fn lookup_whole(&self, at: Id, name: Name) -> Answer<Id> {
        check_length(name)?;
        let entries = self.node(at)?.entries();
        entries.and_then(|entries| entries.get(NAMES[name as usize])).copied().ok_or_else(|| VfsError::NotFound.into())
    }

    /// A copy of everything at and below an inode of another tree, without a name yet.
    fn grow(&mut self, then: &Model, source: Id, linked: &mut BTreeMap<Id, Id>) -> Answer<Id> {
        if let Some(made) = linked.get(&source) {
            self.node_mut(*made)?.nlink += 1;
            return Ok(*made);
        }
        let node = then.node(source)?.clone();
        let mut entries = BTreeMap::new();
        for (name, child) in node.entries().into_iter().flatten() {
            entries.insert(name.clone(), self.grow(then, *child, linked)?);
        }
        let made = self.adopt_copy(&node, entries);
        if node.kind != FileKind::Directory {
            linked.insert(source, made);
        }
        Ok(made)
    }

    /// A directory on the way, with one name in it.
    fn wrap(&mut self, then: Option<&Node>, name: &[u8], child: Id) -> Id {
        let fresh = Node {
            kind: FileKind::Directory,
            mode: WAY_MODE,
            uid: 0,
            gid: 0,
            nlink: 2,
            times: Times::at(self.now),
            pins: 0,
            set_gid_in_doubt: false,
            xattrs: Default::default(),
            flags: FileFlags::default(),
            body: Body::Directory { entries: BTreeMap::new(), parent: ROOT },
        };
        self.adopt_copy(&then.cloned().unwrap_or(fresh), BTreeMap::from([(name.to_vec(), child)]))
    }

    /// A new inode with the attributes of another one.
    fn adopt_copy(&mut self, of: &Node, entries: BTreeMap<Vec<u8>, Id>) -> Id {
        let times = Times { change: Time::exactly(self.now), birth: self.now, ..of.times.clone() };
        let is_directory = |id: &&Id| self.node(**id).is_ok_and(|node| node.kind == FileKind::Directory);
        let subdirectories = entries.values().filter(is_directory).count() as u32;
        let nlink = if of.kind == FileKind::Directory { 2 + subdirectories } else { 1 };
        let children: Vec<Id> = entries.values().copied().collect();
        let body = match &of.body {
            Body::Directory { .. } => Body::Directory { entries, parent: ROOT },
            Body::File(_) | Body::Symlink(_) | Body::Device(_) => of.body.clone(),
        };
        let made = self.insert(Node { nlink, times, pins: 0, body, ..of.clone() });
        for child in children {
            if let Some(Node { body: Body::Directory { parent, .. }, .. }) = self.observed(child) {
                *parent = made;
            }
        }
        made
    }

    /// Removes everything below an inode that has lost its name, and the inode.
    fn remove_all(&mut self, id: Id) -> Answer<()> {
        let now = self.now;
        let node = self.node_mut(id)?;
        let frozen = node.flags.immutable || node.flags.append_only;
        if frozen && (node.nlink == 1 || node.kind == FileKind::Directory) {
            node.flags = FileFlags::default();
        }
        let children = match &mut node.body {
            Body::Directory { entries, .. } => std::mem::take(entries),
            Body::File(_) | Body::Symlink(_) | Body::Device(_) => BTreeMap::new(),
        };
        if !children.is_empty() {
            node.touch_content(now);
        }
        if node.kind == FileKind::Directory {
            node.times.access.or(now);
        }
        for child in children.into_values() {
            self.remove_all(child)?;
        }
        self.lose_name(id)
    }
}

fn check_length(name: Name) -> Answer<()> {
    if NAMES[name as usize].len() > NAME_MAX_BYTES { Err(VfsError::NameTooLong.into()) } else { Ok(()) }
}
