//! Bytes of files: read and write. Data is copied outside the state's lock; disk reads happen without it.

use bytes::Bytes;
use verfs_base::{ByteRange, ChunkId, Ino, Timestamp};
use verfs_format::{ContentId, InodeFlags, InodeKind, InodeRecord, RunData, SEGMENT_BYTES, Segment};
use verfs_store::StoreError;

use crate::attributes::drop_set_id;
use crate::dirty::{DirtyContent, Stored, View};
use crate::load::store_error;
use crate::state::{Demand, Need, Node, State, Step, Stop};
use crate::volume::{FILE_MAX_BYTES, Shared};
use crate::{AccessTimes, Context, Patience, Result, SetId, Vfs, VfsError};

/// Zeros that holes are read as.
static ZEROS: [u8; 128 << 10] = [0; 128 << 10];
/// Writes beyond this size are copied before the lock is taken; smaller ones under it.
const COPY_AHEAD_MIN_BYTES: usize = 32 << 10;
/// A read moves the access time if it is older than the last change, or than this.
const ATIME_MAX_AGE_SECONDS: i64 = 24 * 60 * 60;

/// A stretch of a read, in order.
#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Bytes),
    Zeros(u64),
    Chunk(Stored),
}

impl Part {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Zeros(len) => *len,
            Part::Chunk(stored) => u64::from(stored.len),
        }
    }
}

/// What a read consists of.
#[derive(Default, Debug)]
struct Plan {
    parts: Vec<Part>,
    /// The read itself, if it needs chunks.
    stored: Option<StoredRead>,
}

/// A read that needs chunks.
#[derive(Clone, Copy, Debug)]
struct StoredRead {
    content: ContentId,
    range: ByteRange,
    /// Size of the file.
    size: u64,
}

/// Why the parts of a read could not be collected.
#[derive(Debug)]
enum Unread {
    /// The store has no such chunk, or has it no more.
    Missing(ChunkId),
    Failed(VfsError),
}

impl From<VfsError> for Unread {
    fn from(error: VfsError) -> Unread {
        Unread::Failed(error)
    }
}

pub(crate) fn regular(record: &InodeRecord) -> Step<()> {
    match record.kind {
        InodeKind::Regular => Ok(()),
        InodeKind::Directory => Err(Stop::Fail(VfsError::IsDirectory)),
        InodeKind::Symlink | InodeKind::Fifo | InodeKind::Socket | InodeKind::CharDevice | InodeKind::BlockDevice => {
            Err(Stop::Fail(VfsError::InvalidArgument))
        }
    }
}

/// Adds what an overlay has of `range` and returns the gaps with their places in `parts`.
fn plan_overlay(
    dirty: Option<&DirtyContent>,
    range: ByteRange,
    parts: &mut Vec<Option<Part>>,
) -> Vec<(usize, ByteRange)> {
    let mut gaps = Vec::new();
    let Some(dirty) = dirty else {
        gaps.push((parts.len(), range));
        parts.push(None);
        return gaps;
    };
    dirty.visit(range, &mut |range, view, skip| {
        let end = skip + range.len as usize;
        parts.push(match view {
            None => {
                gaps.push((parts.len(), range));
                None
            }
            Some(View::Hole) => Some(Part::Zeros(range.len)),
            Some(View::Shared(bytes)) => Some(Part::Bytes(bytes.slice(skip..end))),
            Some(View::Borrowed(bytes)) => Some(Part::Bytes(Bytes::copy_from_slice(&bytes[skip..end]))),
            Some(View::Stored(stored)) => Some(Part::Chunk(stored)),
        });
    });
    gaps
}

fn wants_atime(record: &InodeRecord, now: Timestamp) -> bool {
    record.atime <= record.mtime
        || record.atime <= record.ctime
        || now.seconds - record.atime.seconds >= ATIME_MAX_AGE_SECONDS
}

/// What a segment has of `range`, holes past its end included.
pub(crate) fn plan_segment(segment: &Segment, index: u32, range: ByteRange, parts: &mut Vec<Part>) {
    let segment_start = u64::from(index) * SEGMENT_BYTES;
    let from = range.offset.max(segment_start);
    let to = range.end().min(segment_start + SEGMENT_BYTES);
    let mut at = segment_start;
    for run in &segment.runs {
        let run_end = at + u64::from(run.len);
        let (start, end) = (from.max(at), to.min(run_end));
        if start < end {
            let skip = (start - at) as u32;
            let len = (end - start) as u32;
            parts.push(match &run.data {
                RunData::Hole => Part::Zeros(u64::from(len)),
                RunData::Chunk { id, offset, .. } => Part::Chunk(Stored { id: *id, offset: offset + skip, len }),
                RunData::Inline(bytes) => Part::Bytes(bytes.slice(skip as usize..skip as usize + len as usize)),
            });
        }
        at = run_end;
    }
    if at < to {
        parts.push(Part::Zeros(to - at.max(from)));
    }
}

impl State {
    /// The committed runs that cover `range`, holes past the end included.
    fn plan_committed(&mut self, content: ContentId, range: ByteRange, parts: &mut Vec<Part>) -> Step<()> {
        let first = (range.offset / SEGMENT_BYTES) as u32;
        let last = ((range.end() - 1) / SEGMENT_BYTES) as u32;
        for index in first..=last {
            let Some(segment) = self.segments.get((content, index)) else {
                return Err(Stop::Need(Need::Segments(content, index, last)));
            };
            plan_segment(segment, index, range, parts);
        }
        Ok(())
    }

    /// What a range of a file within its size consists of, in order.
    pub(crate) fn parts_of(&mut self, ino: Ino, record: &InodeRecord, range: ByteRange) -> Step<Vec<Part>> {
        let content = record.content;
        let mut slots = Vec::new();
        let gaps = plan_overlay(self.open.data.get(&content), range, &mut slots);
        // Gaps of the open group are looked up in the closing one, its gaps among the committed runs.
        let mut parts = Vec::new();
        let mut gaps = gaps.into_iter();
        let committed = self.has_committed_content(ino);
        for slot in slots {
            match slot {
                Some(part) => parts.push(part),
                None => {
                    let Some((_, gap)) = gaps.next() else { continue };
                    let mut below = Vec::new();
                    let closing = self.closing.as_ref().and_then(|closing| closing.group.data.get(&content));
                    let mut deeper = plan_overlay(closing, gap, &mut below).into_iter();
                    for slot in below {
                        match slot {
                            Some(part) => parts.push(part),
                            None => match deeper.next() {
                                Some((_, gap)) if committed => self.plan_committed(content, gap, &mut parts)?,
                                Some((_, gap)) => parts.push(Part::Zeros(gap.len)),
                                None => {}
                            },
                        }
                    }
                }
            }
        }
        Ok(parts)
    }

    fn plan_read(&mut self, ino: Ino, record: &InodeRecord, range: ByteRange) -> Step<Plan> {
        let mut plan = Plan { parts: self.parts_of(ino, record, range)?, stored: None };
        if plan.parts.iter().any(|part| matches!(part, Part::Chunk(_))) {
            plan.stored = Some(StoredRead { content: record.content, range, size: record.size });
        }
        Ok(plan)
    }

    /// Whether a committed group may hold anything of a file's present content.
    fn has_committed_content(&mut self, ino: Ino) -> bool {
        match self.nodes.get(ino) {
            Some(Node::Present { content_born, .. }) => content_born.group <= self.committed,
            Some(Node::Gone) | None => false,
        }
    }

    fn read(&mut self, context: &Context, ino: Ino, range: ByteRange, now: Timestamp) -> Step<(Plan, bool)> {
        let mut record = self.inode(ino)?;
        regular(&record)?;
        let len = range.len.min(record.size.saturating_sub(range.offset));
        if len == 0 {
            return Ok((Plan::default(), false));
        }
        let plan = self.plan_read(ino, &record, ByteRange::new(range.offset, len))?;
        let may_move = context.access_times == AccessTimes::Move
            && !record.flags.contains(InodeFlags::NO_ATIME)
            && self.failure.is_none()
            && record.nlink > 0;
        let moves_atime = may_move && wants_atime(&record, now);
        if moves_atime {
            record.atime = now;
            self.put_inode(ino, record);
        }
        Ok((plan, moves_atime))
    }

    fn write(
        &mut self,
        context: &Context,
        ino: Ino,
        offset: u64,
        (data, shared): (&[u8], Option<&Bytes>),
        now: Timestamp,
    ) -> Step<SetId> {
        let mut record = self.inode(ino)?;
        regular(&record)?;
        Self::check_writable(&record, offset)?;
        let len = data.len() as u64;
        self.admit(Demand::Bytes(len))?;
        let content = record.content;
        let end = offset + len;
        if offset > record.size {
            let gap = ByteRange::new(record.size, offset - record.size);
            self.change_data(content, gap, 0, |dirty| dirty.punch(gap));
        }
        let range = ByteRange::new(offset, len);
        self.change_data(content, range, len, |dirty| dirty.write(offset, data, shared.cloned()));
        if end > record.size {
            if record.nlink > 0 {
                self.counters.logical_bytes += end - record.size;
            }
            record.size = end;
        }
        record.allocated = (record.allocated + len).min(record.size);
        record.mtime = now;
        record.ctime = now;
        let set_id = drop_set_id(context, &mut record);
        self.put_inode(ino, record);
        Ok(set_id)
    }
}

impl Shared {
    /// Logs a failure of the chunk store and says what the caller gets.
    pub(crate) fn store_error(&self, ino: Option<Ino>, error: &StoreError) -> VfsError {
        if matches!(error, StoreError::Damaged { .. } | StoreError::Missing { .. }) {
            self.note_damage(ino, error);
        }
        if let StoreError::Meta(error) = error {
            return self.meta_error(error);
        }
        store_error(ino, error)
    }

    /// Chunks of committed content, to be read ahead. Errors are left to the read that gets there.
    fn chunks_ahead(&self, stored: StoredRead, range: ByteRange) -> Vec<ChunkId> {
        let mut parts = Vec::new();
        let planned = self.run(&Context::ROOT, |state| {
            parts.clear();
            state.plan_committed(stored.content, range, &mut parts)
        });
        if planned.is_err() {
            return Vec::new();
        }
        chunks_of(&parts).collect()
    }

    fn collect(&self, context: &Context, ino: Ino, plan: Plan) -> std::result::Result<Vec<Bytes>, Unread> {
        let Some(stored) = plan.stored else { return Ok(pieces(ino, plan.parts, &mut std::iter::empty())?) };
        let store = &self.parts.store;
        let ahead = self.read_ahead.note(stored.content, stored.range, stored.size, context.patience);
        let chunks = match context.patience {
            // The store is to be told what comes next, and finding that out may take a look at the disk.
            Patience::Try if ahead.is_some() => return Err(VfsError::WouldBlock.into()),
            Patience::Try => {
                let cached: Option<Vec<Bytes>> = chunks_of(&plan.parts).map(|id| store.cached(id)).collect();
                cached.ok_or(VfsError::WouldBlock)?
            }
            Patience::Wait => {
                let ids: Vec<ChunkId> = chunks_of(&plan.parts).collect();
                let ahead = ahead.map(|range| self.chunks_ahead(stored, range)).unwrap_or_default();
                store.read_many(&ids, &ahead).map_err(|error| match error {
                    StoreError::Missing { chunk } => Unread::Missing(chunk),
                    error => Unread::Failed(self.store_error(Some(ino), &error)),
                })?
            }
        };
        Ok(pieces(ino, plan.parts, &mut chunks.into_iter())?)
    }
}

/// The chunks of some parts, in order.
pub(crate) fn chunks_of(parts: &[Part]) -> impl Iterator<Item = ChunkId> + '_ {
    parts.iter().filter_map(|part| match part {
        Part::Chunk(stored) => Some(stored.id),
        Part::Bytes(_) | Part::Zeros(_) => None,
    })
}

/// Bytes of the parts; `chunks` are those of the parts that are chunks, in order.
pub(crate) fn pieces(ino: Ino, parts: Vec<Part>, chunks: &mut dyn Iterator<Item = Bytes>) -> Result<Vec<Bytes>> {
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Bytes(bytes) => pieces.push(bytes),
            Part::Zeros(mut len) => {
                while len > 0 {
                    let step = len.min(ZEROS.len() as u64);
                    pieces.push(Bytes::from_static(&ZEROS[..step as usize]));
                    len -= step;
                }
            }
            Part::Chunk(Stored { id, offset, len }) => {
                let chunk = chunks.next().unwrap_or_default();
                let range = offset as usize..offset as usize + len as usize;
                if range.end > chunk.len() {
                    tracing::error!(%ino, chunk = %id, "an extent reaches past its chunk");
                    return Err(VfsError::Io);
                }
                pieces.push(chunk.slice(range));
            }
        }
    }
    Ok(pieces)
}

impl Vfs {
    /// Reads `min(len, size - offset)` bytes: pieces in order, which share memory with caches where they can.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::IsDirectory`], [`VfsError::InvalidArgument`] for other kinds,
    /// [`VfsError::Io`] for a damaged file.
    pub fn read(&self, context: &Context, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>> {
        let range = ByteRange::new(offset, u64::from(len));
        let now = self.shared.now();
        let mut missing = None;
        loop {
            let plan = self.shared.run(context, |state| {
                let (plan, changed) = state.read(context, ino, range, now)?;
                if changed && state.begin_change(self.shared.monotonic()) {
                    self.shared.work.notify_one();
                }
                Ok(plan)
            })?;
            match self.shared.collect(context, ino, plan) {
                // The chunk was there when the plan was made: the file may have changed since, and the chunk have been
                // reclaimed. Then the next plan is without it, once the commit that dropped it is done.
                Err(Unread::Missing(chunk)) if missing != Some(chunk) => {
                    missing = Some(chunk);
                    // What a commit that can't end has, it has not dropped.
                    let _not_done = self.shared.wait_for_commit();
                }
                Err(Unread::Missing(chunk)) => {
                    return Err(self.shared.store_error(Some(ino), &StoreError::Missing { chunk }));
                }
                Err(Unread::Failed(error)) => return Err(error),
                Ok(pieces) => return Ok(pieces),
            }
        }
    }

    /// Writes all of `data`, or fails with nothing changed. Clears set-id bits unless the caller is root.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::IsDirectory`], [`VfsError::InvalidArgument`] for other kinds,
    /// [`VfsError::FileTooLarge`], [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn write(&self, context: &Context, ino: Ino, offset: u64, data: &[u8]) -> Result<SetId> {
        if data.is_empty() {
            self.shared.run(context, |state| regular(&state.inode(ino)?))?;
            return Ok(SetId::Kept);
        }
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > FILE_MAX_BYTES) {
            return Err(VfsError::FileTooLarge);
        }
        let shared = (data.len() > COPY_AHEAD_MIN_BYTES).then(|| Bytes::copy_from_slice(data));
        let written = self
            .shared
            .run_change(context, |state, now| state.write(context, ino, offset, (data, shared.as_ref()), now))?;
        self.tell_inode(ino);
        Ok(written)
    }

    /// Writes all of `data` at the end of the file, wherever that is by then. Returns where it began.
    ///
    /// # Errors
    /// As [`Vfs::write`].
    pub fn append(&self, context: &Context, ino: Ino, data: &[u8]) -> Result<(u64, SetId)> {
        let shared = (data.len() > COPY_AHEAD_MIN_BYTES).then(|| Bytes::copy_from_slice(data));
        let appended = self.shared.run_change(context, |state, now| {
            let record = state.inode(ino)?;
            regular(&record)?;
            let end = record.size;
            if data.is_empty() {
                return Ok((end, SetId::Kept));
            }
            if end.checked_add(data.len() as u64).is_none_or(|end| end > FILE_MAX_BYTES) {
                return Err(Stop::Fail(VfsError::FileTooLarge));
            }
            Ok((end, state.write(context, ino, end, (data, shared.as_ref()), now)?))
        })?;
        self.tell_inode(ino);
        Ok(appended)
    }
}
