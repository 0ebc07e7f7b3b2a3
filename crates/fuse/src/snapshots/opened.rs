//! The snapshots that requests came for, opened.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use verfs_base::Epoch;
use verfs_vfs::{Context, Patience, Result, SnapshotTree, Vfs, VfsError};

/// Snapshots that are kept open. One that isn't is found again by its number.
const OPEN_MAX: usize = 4096;

/// Refuses to be tried: what a snapshot answers may be on disk.
pub(super) fn may_wait(context: &Context) -> Result<()> {
    match context.patience {
        Patience::Try => Err(VfsError::WouldBlock),
        Patience::Wait => Ok(()),
    }
}

/// Snapshots by their numbers. What was deleted stays until there is no room, and answers that it is gone.
pub(super) struct OpenedSnapshots {
    vfs: Arc<Vfs>,
    trees: Mutex<HashMap<Epoch, SnapshotTree>>,
}

impl OpenedSnapshots {
    pub(super) fn new(vfs: Arc<Vfs>) -> OpenedSnapshots {
        OpenedSnapshots { vfs, trees: Mutex::default() }
    }

    /// The snapshot that has a name now.
    pub(super) fn by_name(&self, name: &[u8]) -> Result<SnapshotTree> {
        let id = self.vfs.snapshot(name)?.id;
        let known = self.trees.lock().get(&id).cloned();
        match known {
            Some(tree) => Ok(tree),
            None => self.open(name),
        }
    }

    /// The snapshot of a number.
    pub(super) fn by_id(&self, id: Epoch) -> Result<SnapshotTree> {
        let known = self.trees.lock().get(&id).cloned();
        if let Some(tree) = known {
            return Ok(tree);
        }
        let snapshots = self.vfs.snapshots();
        let snapshot = snapshots.iter().find(|snapshot| snapshot.id == id).ok_or(VfsError::NotFound)?;
        let tree = self.open(&snapshot.name)?;
        // Another one may have got the name meanwhile.
        if tree.id() == id { Ok(tree) } else { Err(VfsError::NotFound) }
    }

    fn open(&self, name: &[u8]) -> Result<SnapshotTree> {
        let tree = self.vfs.open_snapshot(name)?;
        let mut trees = self.trees.lock();
        if trees.len() >= OPEN_MAX {
            trees.clear();
        }
        trees.insert(tree.id(), tree.clone());
        Ok(tree)
    }
}
