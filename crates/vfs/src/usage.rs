//! What a part of the tree takes: how much of it is stored once, and how much it shares with what lies elsewhere.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use verfs_base::{ChunkId, Epoch, Ino};
use verfs_format::chunk_record::{ChunkRecord, chunk_key};
use verfs_format::{InodeKind, LOST_CHUNK, RunData};

use crate::copy_out::split;
use crate::snapshot_tree::Past;
use crate::{Result, Vfs, VfsError};

/// Chunks that are counted in one pass over the tree: bounds the memory, at about 40 bytes for each.
const PASS_CHUNKS: usize = 1 << 20;
/// Records of chunks that are read at once.
const BATCH_RECORDS: usize = 1024;

/// What a part of the tree takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Inodes that are no directories, those of several names once.
    pub files: u64,
    /// Directories, the topmost one included.
    pub directories: u64,
    /// Sizes of the files.
    pub logical_bytes: u64,
    /// Distinct chunks that they are made of, before compression.
    pub unique_bytes: u64,
    /// Of these, what files elsewhere in the volume, or versions that only snapshots have, are made of as well.
    pub shared_bytes: u64,
    /// The distinct chunks as they are stored.
    pub stored_bytes: u64,
    /// Of these, what nothing else needs: what would be given back with the part of the tree, but for snapshots that
    /// have it.
    pub exclusive_bytes: u64,
}

/// Called after each inode with how many were looked at; `Break` ends it.
pub type UsageProgress<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// References of chunks whose ids begin with numbers in a range.
struct Counted {
    prefixes: Range<u128>,
    references: HashMap<ChunkId, u64>,
}

impl Counted {
    fn prefix(id: ChunkId) -> u128 {
        u128::from_be_bytes(id.0)
    }

    /// Counts one. When that are too many, those of the upper half of the range are dropped, and its range returned, for
    /// another pass.
    fn add(&mut self, id: ChunkId, chunks_max: usize) -> Option<Range<u128>> {
        if !self.prefixes.contains(&Self::prefix(id)) {
            return None;
        }
        *self.references.entry(id).or_default() += 1;
        if self.references.len() <= chunks_max {
            return None;
        }
        let middle = self.prefixes.start + (self.prefixes.end - self.prefixes.start) / 2;
        let later = middle..self.prefixes.end;
        self.prefixes.end = middle;
        self.references.retain(|id, _| Self::prefix(*id) < middle);
        Some(later)
    }
}

impl Vfs {
    /// What everything at and below `path` takes (the whole tree: an empty path), as it is committed after a sync. Changes
    /// meanwhile may be in it or not. Costs a look at each inode and each run of it, several times where there are more
    /// chunks than memory is spent on.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::InvalidArgument`] for paths with `.` or `..`, [`VfsError::Interrupted`] when
    /// `progress` ended it, [`VfsError::Io`].
    pub fn usage(&self, path: &[u8], progress: &mut UsageProgress<'_>) -> Result<Usage> {
        self.usage_with(path, PASS_CHUNKS, progress)
    }

    /// As [`Vfs::usage`], with another bound of the chunks of a pass.
    ///
    /// # Errors
    /// Those of [`Vfs::usage`].
    pub fn usage_with(&self, path: &[u8], chunks_max: usize, progress: &mut UsageProgress<'_>) -> Result<Usage> {
        let chunks_max = chunks_max.max(1);
        self.shared.barrier()?;
        let now = Past::new(&self.shared, Epoch(u64::MAX));
        let mut top = Ino::ROOT;
        for name in split(path)? {
            top = now.dirent(top, &self.shared.name(top, name)?)?.ok_or(VfsError::NotFound)?.ino;
        }
        let mut usage = Usage::default();
        let mut seen = 0;
        // But for an id of ones alone, which no hash will ever be.
        let all = 0..u128::MAX;
        let mut passes = vec![all];
        let mut is_first = true;
        while let Some(prefixes) = passes.pop() {
            let mut counted = Counted { prefixes, references: HashMap::new() };
            walk(&now, top, &mut |found| {
                match found {
                    Found::Inode { kind, size } => {
                        seen += 1;
                        if progress(seen).is_break() {
                            return Err(VfsError::Interrupted);
                        }
                        if is_first {
                            usage.files += u64::from(kind != InodeKind::Directory);
                            usage.directories += u64::from(kind == InodeKind::Directory);
                            usage.logical_bytes += if kind == InodeKind::Regular { size } else { 0 };
                        }
                    }
                    Found::Inline(bytes) if is_first => {
                        usage.unique_bytes += bytes;
                        usage.stored_bytes += bytes;
                        usage.exclusive_bytes += bytes;
                    }
                    Found::Inline(_) => {}
                    Found::Chunk(id) => passes.extend(counted.add(id, chunks_max)),
                }
                Ok(())
            })?;
            self.weigh(&counted.references, &mut usage)?;
            is_first = false;
        }
        Ok(usage)
    }

    /// Adds what chunks take.
    fn weigh(&self, references: &HashMap<ChunkId, u64>, usage: &mut Usage) -> Result<()> {
        let ids: Vec<ChunkId> = references.keys().copied().collect();
        for batch in ids.chunks(BATCH_RECORDS) {
            let wanted: Vec<Bytes> = batch.iter().map(|id| Bytes::copy_from_slice(&chunk_key(*id))).collect();
            let records = self.shared.parts.meta.multi_get(&wanted).map_err(|error| self.shared.meta_error(&error))?;
            for (id, record) in batch.iter().zip(records) {
                // One that is gone was overwritten meanwhile.
                let Some(record) = record else { continue };
                let record = ChunkRecord::decode(&record).map_err(|error| self.shared.damaged("chunk", 0, error))?;
                let (raw, stored) = (u64::from(record.raw_len), u64::from(record.stored_len));
                usage.unique_bytes += raw;
                usage.stored_bytes += stored;
                match record.refcount > references.get(id).copied().unwrap_or(0) {
                    true => usage.shared_bytes += raw,
                    false => usage.exclusive_bytes += stored,
                }
            }
        }
        Ok(())
    }
}

/// What a walk comes by.
enum Found {
    Inode { kind: InodeKind, size: u64 },
    Inline(u64),
    Chunk(ChunkId),
}

/// Visits everything at and below `top`, inodes of several names once.
fn walk(now: &Past, top: Ino, visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
    let mut linked = HashSet::new();
    let mut todo = vec![top];
    while let Some(ino) = todo.pop() {
        // What is gone meanwhile is not there.
        let Some(record) = now.inode(ino)? else { continue };
        if record.kind != InodeKind::Directory && record.nlink > 1 && !linked.insert(ino) {
            continue;
        }
        visit(Found::Inode { kind: record.kind, size: record.size })?;
        match record.kind {
            InodeKind::Directory => now.walk_names(ino, &mut |_, target| {
                todo.push(target.ino);
                ControlFlow::Continue(())
            })?,
            InodeKind::Regular => {
                for index in now.segment_indexes(record.content)? {
                    for (_, segment) in now.segments(record.content, index, index)? {
                        for run in segment.runs {
                            match run.data {
                                RunData::Chunk { id, .. } if id != LOST_CHUNK => visit(Found::Chunk(id))?,
                                RunData::Chunk { .. } | RunData::Hole => {}
                                RunData::Inline(bytes) => visit(Found::Inline(bytes.len() as u64))?,
                            }
                        }
                    }
                }
            }
            InodeKind::Symlink
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => {}
        }
    }
    Ok(())
}
