//! Files that were found damaged, for status: which, where they are, and what is wrong.

use bytes::Bytes;
use verfs_base::{Ino, PackId};
use verfs_store::StoreError;

use crate::volume::Shared;
use crate::{Context, Vfs};

/// Damaged files remembered at most; the log has them all.
const DAMAGED_MAX: usize = 256;
/// Directories that a path is followed upwards through at most.
const DEPTH_MAX: usize = 4096;

/// A file that could not be read whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DamagedInode {
    ino: Ino,
    pack: Option<PackId>,
    detail: String,
}

/// A damaged file as status shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedFile {
    /// Path from the volume's root, in bytes; empty when the file has no name any more.
    pub path: Vec<u8>,
    /// The inode.
    pub ino: Ino,
    /// The pack concerned, where one is known.
    pub pack: Option<PackId>,
    /// What is wrong.
    pub detail: String,
}

impl Shared {
    /// Remembers that a file is damaged.
    pub(crate) fn note_damage(&self, ino: Option<Ino>, error: &StoreError) {
        let Some(ino) = ino else { return };
        let pack = match error {
            StoreError::Damaged { pack, .. } => Some(*pack),
            StoreError::Missing { .. }
            | StoreError::OutOfSpace
            | StoreError::Io { .. }
            | StoreError::ChunkLength { .. }
            | StoreError::Meta(_)
            | StoreError::Option { .. }
            | StoreError::Closed => None,
        };
        let found = DamagedInode { ino, pack, detail: error.to_string() };
        let mut damaged = self.damaged.lock();
        if damaged.len() < DAMAGED_MAX && !damaged.contains(&found) {
            damaged.push(found);
        }
    }

    /// The name that leads from a directory to an inode.
    fn name_in(&self, parent: Ino, ino: Ino) -> Option<Bytes> {
        let resident = {
            let mut state = self.state.lock();
            let directory = state.directories.get(parent);
            let mut entries = directory.from(verfs_format::NameHash::from_number(0));
            entries
                .find(|(_, target)| target.is_some_and(|target| target.ino == ino))
                .map(|(name, _)| name.bytes.clone())
        };
        resident.or_else(|| {
            let stored = self.scan_directory(parent, 0, usize::MAX).ok()?;
            stored.into_iter().find(|(_, target)| target.ino == ino).map(|(name, _)| name.bytes)
        })
    }

    pub(crate) fn path_of(&self, ino: Ino) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let parent = self.run(&Context::ROOT, |state| Ok(state.inode(at)?.parent)).ok()?;
            names.push(self.name_in(parent, at)?);
            at = parent;
            if names.len() > DEPTH_MAX {
                return None;
            }
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Some(path)
    }
}

impl Vfs {
    /// Files found damaged since the volume was opened, at most 256.
    pub fn damaged(&self) -> Vec<DamagedFile> {
        let damaged = self.shared.damaged.lock().clone();
        damaged
            .into_iter()
            .map(|DamagedInode { ino, pack, detail }| DamagedFile {
                path: self.shared.path_of(ino).unwrap_or_default(),
                ino,
                pack,
                detail,
            })
            .collect()
    }
}
