//! Files that were found damaged, for status: which, where they are, and what is wrong.

use std::ops::ControlFlow;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use verfs_base::{ChunkId, Ino, PackId};
use verfs_format::{ContentId, RunData, keys};
use verfs_meta::{Direction, KeyRange};
use verfs_store::{Damage, StoreError};

use crate::load::{decode_inode, decode_segment};
use crate::volume::Shared;
use crate::{Context, Result, Vfs};

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
            | StoreError::OutOfFiles
            | StoreError::Io { .. }
            | StoreError::ChunkLength { .. }
            | StoreError::Meta(_)
            | StoreError::Option { .. }
            | StoreError::Closed => None,
        };
        self.remember(DamagedInode { ino, pack, detail: error.to_string() });
    }

    fn remember(&self, found: DamagedInode) {
        let mut damaged = self.damaged.lock();
        if damaged.len() < DAMAGED_MAX && !damaged.contains(&found) {
            damaged.push(found);
        }
    }

    /// Contents that have a run of one of these chunks, each with one of them: those of the keyspace `prefix`.
    fn contents_of(
        &self,
        prefix: &[u8],
        wanted: &FxHashMap<ChunkId, &Damage>,
    ) -> Result<FxHashMap<ContentId, ChunkId>> {
        let mut contents = FxHashMap::default();
        let mut each = |key: &[u8], value: &[u8]| {
            let live = keys::parse_history(key).map_or(key, |(live, _)| live);
            if let (Some((content, _)), Ok(segment)) = (keys::parse_segment_of(live), decode_segment(value)) {
                let mut chunks = segment.runs.iter().filter_map(|run| match &run.data {
                    RunData::Chunk { id, .. } => Some(*id),
                    RunData::Hole | RunData::Inline(_) => None,
                });
                if let Some(chunk) = chunks.find(|chunk| wanted.contains_key(chunk)) {
                    contents.insert(content, chunk);
                }
            }
            if contents.len() < DAMAGED_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let range = KeyRange::prefix(prefix);
        let scanned = self.parts.meta.scan(&range, Direction::Forward, &mut each);
        scanned.map_err(|error| self.meta_error(&error))?;
        Ok(contents)
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
    /// Remembers the files that these chunks belong to as damaged. Costs nothing without a chunk, else a look at every
    /// segment and inode.
    ///
    /// # Errors
    /// [`crate::VfsError::Io`]: the metadata can't be read.
    pub fn note_damaged_chunks(&self, damage: &[Damage]) -> Result<()> {
        if damage.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let wanted: FxHashMap<ChunkId, &Damage> = damage.iter().map(|damage| (damage.chunk, damage)).collect();
        let mut live = shared.contents_of(&[keys::SEGMENT], &wanted)?;
        let mut found = Vec::new();
        let mut each = |key: &[u8], value: &[u8]| {
            if let (Some(ino), Ok(record)) = (keys::parse_inode(key), decode_inode(value))
                && let Some(chunk) = live.remove(&record.content)
            {
                found.push((ino, chunk, ""));
            }
            ControlFlow::Continue(())
        };
        let range = KeyRange::prefix(&[keys::INODE]);
        let scanned = shared.parts.meta.scan(&range, Direction::Forward, &mut each);
        scanned.map_err(|error| shared.meta_error(&error))?;
        for (content, chunk) in shared.contents_of(&keys::histories(&[keys::SEGMENT]), &wanted)? {
            found.push((Ino(content.0), chunk, ", in snapshots"));
        }
        for (ino, chunk, place) in found {
            let Some(damage) = wanted.get(&chunk) else { continue };
            let detail = format!("chunk {chunk} in pack {} is damaged: {}{place}", damage.pack, damage.detail);
            shared.remember(DamagedInode { ino, pack: Some(damage.pack), detail });
        }
        Ok(())
    }

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
