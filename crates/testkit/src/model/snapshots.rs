//! Snapshots: a clone of the model for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use verfs_vfs::{FileKind, VfsError};

use super::{Answer, Model, refuse};
use crate::snapshot::{SNAPSHOT_NAME_TOO_LONG, SNAPSHOT_NAMES_GOOD, SnapshotName, SnapshotOp};

/// A snapshot of the tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The tree of then, without what had no name.
    pub tree: Arc<Model>,
    /// Why it must stay: indices into [`crate::SNAPSHOT_REASONS`].
    pub holds: BTreeSet<u8>,
    /// How many were made before it.
    pub number: u32,
}

/// Sums over a tree, as a snapshot tells them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sums {
    /// Everything that has a name.
    pub inodes: u64,
    /// Directories.
    pub directories: u64,
    /// Sizes of regular files.
    pub logical_bytes: u64,
}

impl Model {
    /// The snapshots that stand.
    #[must_use]
    pub fn snapshots(&self) -> &BTreeMap<SnapshotName, Snapshot> {
        &self.snapshots
    }

    fn snapshot_mut(&mut self, name: SnapshotName) -> Answer<&mut Snapshot> {
        self.snapshots.get_mut(&name).ok_or_else(|| VfsError::NotFound.into())
    }

    /// An operation on a snapshot; a comparison only asks whether it is there.
    ///
    /// # Errors
    /// As the operation.
    pub fn change_snapshot(&mut self, op: SnapshotOp) -> Answer<()> {
        match op {
            SnapshotOp::Create(name) => {
                let mut errors = Vec::new();
                match name {
                    SNAPSHOT_NAME_TOO_LONG => errors.push(VfsError::NameTooLong),
                    name if name >= SNAPSHOT_NAMES_GOOD => errors.push(VfsError::InvalidArgument),
                    name if self.snapshots.contains_key(&name) => errors.push(VfsError::Exists),
                    _ => {}
                }
                refuse(errors)?;
                let mut tree = Model { snapshots: BTreeMap::new(), ..self.clone() };
                tree.unpin_all();
                let number = self.snapshots_made;
                self.snapshots_made += 1;
                self.snapshots.insert(name, Snapshot { tree: Arc::new(tree), holds: BTreeSet::new(), number });
                Ok(())
            }
            SnapshotOp::Delete(name) => {
                if !self.snapshot_mut(name)?.holds.is_empty() {
                    return Err(VfsError::Busy.into());
                }
                self.snapshots.remove(&name);
                Ok(())
            }
            SnapshotOp::Hold(name, reason) => match self.snapshot_mut(name)?.holds.insert(reason) {
                true => Ok(()),
                false => Err(VfsError::Exists.into()),
            },
            SnapshotOp::Release(name, reason) => match self.snapshot_mut(name)?.holds.remove(&reason) {
                true => Ok(()),
                false => Err(VfsError::NotFound.into()),
            },
            SnapshotOp::Rollback(name) => {
                let tree = Arc::clone(&self.snapshot_mut(name)?.tree);
                self.go_back(&tree);
                Ok(())
            }
            SnapshotOp::Compare(name) => self.snapshot_mut(name).map(|_| ()),
            SnapshotOp::Diff(name, to) => {
                let first = self.snapshot_mut(name)?.number;
                let last = to.map_or(Ok(u32::MAX), |to| self.snapshot_mut(to).map(|snapshot| snapshot.number))?;
                if last < first { Err(VfsError::InvalidArgument.into()) } else { Ok(()) }
            }
            SnapshotOp::Send(name, base) => {
                let last = self.snapshot_mut(name)?.number;
                let first = base.map(|base| self.snapshot_mut(base).map(|snapshot| snapshot.number)).transpose()?;
                if first.is_some_and(|first| first >= last) { Err(VfsError::InvalidArgument.into()) } else { Ok(()) }
            }
        }
    }

    /// A volume that has received these snapshots, one after the other.
    #[must_use]
    pub fn received(&self, names: &[SnapshotName]) -> Option<Model> {
        let mut received = Model::clone(&self.snapshots.get(names.last()?)?.tree);
        // Looks at what was received before are no change.
        received.forget_access();
        for name in names {
            let snapshot = self.snapshots.get(name)?;
            let mut tree = Model::clone(&snapshot.tree);
            tree.forget_access();
            // Nobody else's reasons come with a stream.
            let snapshot = Snapshot { tree: Arc::new(tree), holds: BTreeSet::new(), number: snapshot.number };
            received.snapshots.insert(*name, snapshot);
        }
        Some(received)
    }

    /// What is open stays open if it was there, also what has lost its name since.
    fn go_back(&mut self, tree: &Model) {
        let before = std::mem::replace(&mut self.nodes, tree.nodes.clone());
        for (id, node) in before {
            if let Some(old) = self.nodes.get_mut(&id) {
                old.pins = node.pins;
            }
        }
        self.pieces += 1;
    }

    /// How often the tree changed in one piece: went back to a snapshot, or got something out of one.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Sums over everything that has a name.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let named = || self.nodes.values().filter(|node| node.nlink > 0);
        Sums {
            inodes: named().count() as u64,
            directories: named().filter(|node| node.kind == FileKind::Directory).count() as u64,
            logical_bytes: named().filter(|node| node.kind == FileKind::Regular).map(super::Node::size).sum(),
        }
    }
}
