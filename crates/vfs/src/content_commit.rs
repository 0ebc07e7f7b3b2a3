//! Turns the dirty bytes of one file into chunks, runs and segment records.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use verfs_base::{ByteRange, ChunkId, Epoch};
use verfs_chunker::{Chunker, End};
use verfs_format::{ContentId, LOST_CHUNK, Run, RunData, SEGMENT_BYTES, Segment, keys};
use verfs_meta::{Direction, KeyRange, MetaStore};
use verfs_store::{ChunkBatch, ChunkStore, Indexed, StoreError};

use crate::dirty::{Content, DirtyContent, Stored, View};
use crate::group::ReapExtent;
use crate::load::decode_segment;
use crate::versions::{Next, Versions};

/// Files up to this size are stored in their segment record.
pub(crate) const INLINE_MAX_BYTES: u64 = 2048;

/// Small pieces are copied together in stretches of this size before they are cut into chunks.
const JOIN_BYTES: usize = 512 << 10;

/// What committing contents needs and leaves.
pub(crate) struct ContentCommit<'a, 'b> {
    pub(crate) meta: &'a dyn MetaStore,
    pub(crate) store: &'a ChunkStore,
    pub(crate) chunker: &'a dyn Chunker,
    pub(crate) chunks: &'a mut ChunkBatch,
    pub(crate) versions: &'a mut Versions<'b>,
    /// Contents from this number on were born in the group: the store has nothing of them.
    pub(crate) first_number: u64,
    /// Segments as they are after the commit, for the cache.
    pub(crate) segments: Vec<((ContentId, u32), Arc<Segment>)>,
}

/// The runs of one content while they are changed.
struct Editor {
    content: ContentId,
    /// When its file lost its last name, if it is open without one.
    died: Option<Epoch>,
    segments: BTreeMap<u32, Segment>,
    /// Values that the store has of them, while a snapshot stands.
    stored: BTreeMap<u32, Bytes>,
    allocated_before: u64,
    changed: std::collections::BTreeSet<u32>,
}

impl Editor {
    /// Replaces `range` of one segment by `runs`, which have their references, and gives up those of what was there.
    fn replace(
        &mut self,
        index: u32,
        range: std::ops::Range<u32>,
        runs: Vec<Run>,
        (chunks, versions): (&mut ChunkBatch, &mut Versions<'_>),
    ) {
        let death = self.died.unwrap_or(versions.epoch);
        let segment = self.segments.entry(index).or_default();
        self.changed.insert(index);
        let mut out: Vec<Run> = Vec::with_capacity(segment.runs.len() + runs.len() + 1);
        let mut at = 0u32;
        let mut inserted = Some(runs);
        for run in std::mem::take(&mut segment.runs) {
            let end = at + run.len;
            if end <= range.start {
                out.push(run);
            } else if at >= range.end {
                out.extend(inserted.take().into_iter().flatten());
                out.push(run);
            } else {
                let head = range.start.saturating_sub(at);
                let tail = end.saturating_sub(range.end);
                let run = match &run.data {
                    RunData::Chunk { id, offset, birth } if *id != LOST_CHUNK => {
                        let (id, offset, birth) = (*id, *offset, *birth);
                        let pieces = u32::from(head > 0) + u32::from(tail > 0);
                        if pieces == 0 || versions.is_held(birth, death) {
                            // A snapshot has the run as it is: pieces of it are runs of their own.
                            versions.give_up(chunks, (id, run.len), (birth, death));
                            if pieces > 0 {
                                chunks.add_reference(id, pieces);
                            }
                            Run { len: run.len, data: RunData::Chunk { id, offset, birth: versions.epoch } }
                        } else {
                            if pieces > 1 {
                                chunks.add_reference(id, pieces - 1);
                            }
                            run
                        }
                    }
                    RunData::Chunk { .. } | RunData::Hole | RunData::Inline(_) => run,
                };
                if head > 0 {
                    out.push(slice(&run, 0, head));
                }
                if tail > 0 {
                    out.extend(inserted.take().into_iter().flatten());
                    out.push(slice(&run, run.len - tail, tail));
                }
            }
            at = end;
        }
        if at < range.start {
            out.push(Run { len: range.start - at, data: RunData::Hole });
        }
        out.extend(inserted.take().into_iter().flatten());
        segment.runs = out;
        join_holes(&mut segment.runs);
    }
}

/// What a segment is taken for whose record is damaged: all of it, up to the end of the file, is data that can't be read.
/// Writes replace parts of it as of any other; the rest neither turns to zeros nor keeps the volume from committing.
fn lost_segment(file_bytes: u64) -> Segment {
    let len = file_bytes.min(SEGMENT_BYTES) as u32;
    let data = RunData::Chunk { id: LOST_CHUNK, offset: 0, birth: Epoch::FIRST };
    Segment { runs: if len == 0 { Vec::new() } else { vec![Run { len, data }] } }
}

/// Part of a run.
fn slice(run: &Run, skip: u32, len: u32) -> Run {
    let data = match &run.data {
        RunData::Hole => RunData::Hole,
        RunData::Chunk { id, offset, birth } => RunData::Chunk { id: *id, offset: offset + skip, birth: *birth },
        RunData::Inline(bytes) => RunData::Inline(bytes.slice(skip as usize..(skip + len) as usize)),
    };
    Run { len, data }
}

/// Joins neighbouring holes and drops one at the end.
fn join_holes(runs: &mut Vec<Run>) {
    runs.dedup_by(|next, before| {
        let joins = next.data == RunData::Hole && before.data == RunData::Hole;
        if joins {
            before.len += next.len;
        }
        joins
    });
    if runs.last().is_some_and(|run| run.data == RunData::Hole) {
        runs.pop();
    }
}

impl ContentCommit<'_, '_> {
    /// Commits the overlay of one content whose file has `size` bytes, and lost its last name in epoch `died` if it has
    /// none. Returns the change of allocated bytes.
    pub(crate) fn commit(
        &mut self,
        content: ContentId,
        (size, died): (u64, Option<Epoch>),
        dirty: &DirtyContent,
    ) -> Result<i64, StoreError> {
        let mut editor = Editor {
            content,
            died,
            segments: BTreeMap::new(),
            stored: BTreeMap::new(),
            allocated_before: 0,
            changed: std::collections::BTreeSet::new(),
        };
        let extents = dirty.extents();
        for (range, sort) in &extents {
            self.load(&mut editor, *range, *sort, size)?;
        }
        if size <= INLINE_MAX_BYTES && self.commit_inline(&mut editor, size, dirty) {
            return self.finish(editor);
        }
        for (range, sort) in extents {
            match sort {
                Content::Hole => self.punch(&mut editor, range),
                Content::Data => self.store_range(&mut editor, range, size, dirty)?,
                Content::Stored(stored) => {
                    self.refer(stored.id);
                    self.place(&mut editor, range.offset, stored);
                }
            }
        }
        self.finish(editor)
    }

    /// Stores a small file in its segment record, unless parts of it are in chunks already.
    fn commit_inline(&mut self, editor: &mut Editor, size: u64, dirty: &DirtyContent) -> bool {
        let Some(len) = usize::try_from(size).ok().filter(|len| *len > 0) else { return false };
        let mut bytes = vec![0; len];
        let mut has_data = false;
        let mut at = 0;
        for run in editor.segments.get(&0).iter().flat_map(|segment| &segment.runs) {
            match &run.data {
                RunData::Hole => {}
                RunData::Inline(inline) => {
                    let kept = inline.len().min(len.saturating_sub(at));
                    bytes[at.min(len)..at.min(len) + kept].copy_from_slice(&inline[..kept]);
                    has_data = true;
                }
                RunData::Chunk { .. } => return false,
            }
            at += run.len as usize;
        }
        if editor.segments.range(1..).any(|(_, segment)| !segment.is_hole()) {
            return false;
        }
        let mut whole = true;
        dirty.visit(ByteRange::new(0, size), &mut |range, view, skip| {
            let target = &mut bytes[range.offset as usize..range.end() as usize];
            let source = match view {
                None => return,
                Some(View::Hole) => return target.fill(0),
                Some(View::Shared(shared)) => &shared[..],
                Some(View::Borrowed(borrowed)) => borrowed,
                Some(View::Stored(_)) => {
                    whole = false;
                    return;
                }
            };
            target.copy_from_slice(&source[skip..skip + target.len()]);
            has_data = true;
        });
        if !has_data || !whole {
            return false;
        }
        let run = Run { len: len as u32, data: RunData::Inline(bytes.into()) };
        editor.replace(0, 0..SEGMENT_BYTES as u32, vec![run], (self.chunks, self.versions));
        true
    }

    /// Reads the segments that a range touches; of a hole only those that exist.
    fn load(&self, editor: &mut Editor, range: ByteRange, sort: Content, size: u64) -> Result<(), StoreError> {
        if editor.content.0 >= self.first_number {
            return Ok(());
        }
        let first = (range.offset / SEGMENT_BYTES) as u32;
        let last = ((range.end() - 1) / SEGMENT_BYTES) as u32;
        // A range that begins at a segment's start may go on with the chunk before it.
        let first = if sort == Content::Data { first.saturating_sub(1) } else { first };
        let mut end = keys::segment(editor.content, last);
        end.push(0);
        let keys_range = KeyRange::between(keys::segment(editor.content, first), end);
        let keeps_versions = self.versions.keeps_versions();
        let Editor { content, segments, stored, allocated_before: allocated, .. } = editor;
        let content = *content;
        self.meta.scan(&keys_range, Direction::Forward, &mut |key, value| {
            let Some(index) = keys::parse_segment(key) else { return ControlFlow::Continue(()) };
            if segments.contains_key(&index) {
                return ControlFlow::Continue(());
            }
            if keeps_versions {
                // Damaged or not: a snapshot that has it must not take it for a hole.
                stored.insert(index, Bytes::copy_from_slice(value));
            }
            match decode_segment(value) {
                Ok(segment) => {
                    *allocated += segment.allocated();
                    segments.insert(index, segment);
                }
                Err(error) => {
                    tracing::error!(content = content.0, index, %error, "extent segment is damaged; what it had is lost");
                    let lost = lost_segment(size.saturating_sub(u64::from(index) * SEGMENT_BYTES));
                    *allocated += lost.allocated();
                    segments.insert(index, lost);
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    fn punch(&mut self, editor: &mut Editor, range: ByteRange) {
        let first = (range.offset / SEGMENT_BYTES) as u32;
        let last = ((range.end() - 1) / SEGMENT_BYTES) as u32;
        let touched: Vec<u32> = editor.segments.range(first..=last).map(|(index, _)| *index).collect();
        for index in touched {
            let start = u64::from(index) * SEGMENT_BYTES;
            let from = (range.offset.max(start) - start) as u32;
            let to = (range.end().min(start + SEGMENT_BYTES) - start) as u32;
            let hole = Run { len: to - from, data: RunData::Hole };
            editor.replace(index, from..to, vec![hole], (self.chunks, self.versions));
        }
    }

    /// Bytes before a range that belong into its first chunk: a chunk that an earlier group had to end early, or the
    /// inline bytes of a file that grows. Without them, where chunks end would depend on when groups were closed.
    fn prelude(&self, editor: &Editor, range: ByteRange) -> Result<Bytes, StoreError> {
        let Some(before) = range.offset.checked_sub(1) else { return Ok(Bytes::new()) };
        let index = (before / SEGMENT_BYTES) as u32;
        let Some(segment) = editor.segments.get(&index) else { return Ok(Bytes::new()) };
        let end: u64 =
            u64::from(index) * SEGMENT_BYTES + segment.runs.iter().map(|run| u64::from(run.len)).sum::<u64>();
        // Only what was the file's end: in the middle of a file the old boundaries stand.
        let followed = editor.segments.range(index + 1..).any(|(_, segment)| !segment.is_hole());
        let Some(last) = segment.runs.last().filter(|_| end == range.offset && !followed) else {
            return Ok(Bytes::new());
        };
        match &last.data {
            RunData::Hole => Ok(Bytes::new()),
            RunData::Inline(bytes) => Ok(bytes.clone()),
            RunData::Chunk { id, offset, .. } => {
                let max = self.chunker.sizes().max_bytes;
                if offset + last.len >= max {
                    return Ok(Bytes::new());
                }
                // The chunk may begin in the segment before: only one that lies whole in this one is taken up again.
                if *offset > 0 {
                    return Ok(Bytes::new());
                }
                match self.store.read(*id) {
                    Ok(chunk) if chunk.len() == last.len as usize => Ok(chunk),
                    Ok(_) => Ok(Bytes::new()),
                    Err(error @ (StoreError::Meta(_) | StoreError::Closed)) => Err(error),
                    // A neighbour that can't be read must not keep new bytes from being stored.
                    Err(
                        StoreError::Damaged { .. }
                        | StoreError::Missing { .. }
                        | StoreError::Io { .. }
                        | StoreError::OutOfSpace
                        | StoreError::OutOfFiles
                        | StoreError::ChunkLength { .. }
                        | StoreError::Option { .. },
                    ) => Ok(Bytes::new()),
                }
            }
        }
    }

    fn store_range(
        &mut self,
        editor: &mut Editor,
        range: ByteRange,
        size: u64,
        dirty: &DirtyContent,
    ) -> Result<(), StoreError> {
        let prelude = self.prelude(editor, range)?;
        let start = range.offset - prelude.len() as u64;
        let sizes = self.chunker.sizes();
        let mut at = start;
        let mut source =
            Source { dirty, range, prelude, prelude_start: start, joined: Bytes::new(), joined_start: start };
        while at < range.end() {
            let rest = range.end() - at;
            // What is shorter than the smallest chunk and no end of a file is a patch: nobody else will have it.
            let indexed = if range.len < u64::from(sizes.min_bytes) && start == range.offset && range.end() != size {
                Indexed::PatchOnly
            } else {
                Indexed::Yes
            };
            let window = source.window(at, rest.min(u64::from(sizes.max_bytes)) as usize);
            let end = if window.len() as u64 == rest { End::Last } else { End::More };
            let len = self.chunker.first_chunk(&window, end).unwrap_or(window.len());
            let id = self.chunks.put(window.slice(..len), indexed)?;
            self.place(editor, at, Stored { id, offset: 0, len: len as u32 });
            at += len as u64;
        }
        Ok(())
    }

    /// Takes a reference of a chunk, if it is one.
    fn refer(&mut self, id: ChunkId) {
        if id != LOST_CHUNK {
            self.chunks.add_reference(id, 1);
        }
    }

    /// Puts a stretch of a chunk, which has one reference for it, at a place in the file; a run ends with its segment.
    fn place(&mut self, editor: &mut Editor, at: u64, stored: Stored) {
        let Stored { id, offset, len } = stored;
        let mut done = 0u32;
        while done < len {
            let position = at + u64::from(done);
            let index = (position / SEGMENT_BYTES) as u32;
            let from = (position % SEGMENT_BYTES) as u32;
            let step = (len - done).min(SEGMENT_BYTES as u32 - from);
            if done > 0 {
                self.refer(id);
            }
            let data = RunData::Chunk { id, offset: offset + done, birth: self.versions.epoch };
            let run = Run { len: step, data };
            editor.replace(index, from..from + step, vec![run], (self.chunks, self.versions));
            done += step;
        }
    }

    fn finish(&mut self, editor: Editor) -> Result<i64, StoreError> {
        let mut allocated_after = 0;
        for (index, segment) in editor.segments {
            allocated_after += segment.allocated();
            if !editor.changed.contains(&index) {
                continue;
            }
            let next = match segment.runs.is_empty() {
                true => Next::Gone(editor.died.unwrap_or(self.versions.epoch)),
                false => self.versions.next(editor.died, |out| out.extend_from_slice(&segment.encode())),
            };
            let old = editor.stored.get(&index).map(|old| &old[..]);
            self.versions.replace(keys::segment(editor.content, index).into(), old, next);
            self.segments.push(((editor.content, index), Arc::new(segment)));
        }
        Ok(allocated_after as i64 - editor.allocated_before as i64)
    }

    /// Gives up the references of up to `budget` runs of a content whose last name died in epoch `died`, and deletes
    /// their segments. Returns whether all are gone, and takes what it used from `budget`.
    pub(crate) fn release(
        &mut self,
        content: ContentId,
        died: Epoch,
        extent: ReapExtent,
        budget: &mut usize,
    ) -> Result<bool, StoreError> {
        let (chunks, versions) = (&mut *self.chunks, &mut *self.versions);
        let mut left = *budget;
        let mut drop_segment = |key: &[u8], value: &[u8]| {
            let key = Bytes::copy_from_slice(key);
            let runs = match decode_segment(value) {
                Ok(segment) => {
                    for run in &segment.runs {
                        if let RunData::Chunk { id, birth, .. } = run.data {
                            versions.give_up(chunks, (id, run.len), (birth, died));
                        }
                    }
                    segment.runs.len()
                }
                // Its chunks keep references that nobody has: they are never reclaimed, and nobody loses anything.
                Err(error) => {
                    tracing::error!(content = content.0, %error, "extent segment is damaged; its chunks are not released");
                    0
                }
            };
            versions.replace(key, Some(value), Next::Gone(died));
            left = left.saturating_sub(runs + 1);
            if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let first_only = extent == ReapExtent::FirstSegment;
        if first_only {
            let key = keys::segment(content, 0);
            if let Some(value) = self.meta.get(&key)? {
                let _ = drop_segment(&key, &value);
            }
        } else {
            let range = KeyRange::prefix(&keys::segments(content));
            self.meta.scan(&range, Direction::Forward, &mut drop_segment)?;
        }
        // Whoever used the budget up comes again: there may be more.
        let complete = first_only || left > 0;
        *budget = left;
        Ok(complete)
    }
}

/// Copies a range that is all data.
fn copy_out(dirty: &DirtyContent, range: ByteRange, out: &mut BytesMut) {
    let mut at = range.offset;
    while at < range.end() {
        let Some(piece) = dirty.data_at(at) else { return };
        let len = piece.len().min((range.end() - at) as usize);
        out.extend_from_slice(&piece[..len]);
        at += len as u64;
    }
}

/// The bytes of a range behind its prelude, in windows that the chunker looks at.
struct Source<'a> {
    dirty: &'a DirtyContent,
    range: ByteRange,
    prelude: Bytes,
    prelude_start: u64,
    /// Bytes that were copied together last.
    joined: Bytes,
    joined_start: u64,
}

impl Source<'_> {
    /// `len` bytes from `at` on: shared with the overlay where one piece has them all, else from a joined copy.
    fn window(&mut self, at: u64, len: usize) -> Bytes {
        if at >= self.range.offset
            && let Some(bytes) = self.dirty.shared_at(at, len)
        {
            return bytes;
        }
        let skip = (at - self.joined_start) as usize;
        if skip + len > self.joined.len() {
            self.join(at, len);
            return self.joined.slice(..len);
        }
        self.joined.slice(skip..skip + len)
    }

    fn join(&mut self, at: u64, len: usize) {
        let len = len.max(JOIN_BYTES).min((self.range.end() - at) as usize);
        let mut joined = BytesMut::with_capacity(len);
        let skip = (at - self.prelude_start).min(self.prelude.len() as u64) as usize;
        let head = (self.prelude.len() - skip).min(len);
        joined.extend_from_slice(&self.prelude[skip..skip + head]);
        copy_out(self.dirty, ByteRange::new(at + head as u64, (len - head) as u64), &mut joined);
        self.joined = joined.freeze();
        self.joined_start = at;
    }
}
