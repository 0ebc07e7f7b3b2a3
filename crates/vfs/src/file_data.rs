//! Bytes of files: read and write. Data is copied outside the state's lock; disk reads happen without it.

use bytes::Bytes;
use verfs_base::{ByteRange, ChunkId, Ino, Timestamp};
use verfs_format::{ContentId, InodeKind, InodeRecord, RunData, SEGMENT_BYTES};
use verfs_store::StoreError;

use crate::attributes::without_set_id;
use crate::dirty::{DirtyContent, View};
use crate::state::{Demand, Need, Node, State, Step, Stop};
use crate::volume::{FILE_MAX_BYTES, Shared};
use crate::{AccessTimes, Context, Patience, Result, Vfs, VfsError};

/// Zeros that holes are read as.
static ZEROS: [u8; 128 << 10] = [0; 128 << 10];
/// Writes beyond this size are copied before the lock is taken; smaller ones under it.
const COPY_AHEAD_MIN_BYTES: usize = 32 << 10;
/// A read moves the access time if it is older than the last change, or than this.
const ATIME_MAX_AGE_SECONDS: i64 = 24 * 60 * 60;
/// How far behind a read the store is told what may be wanted next.
const READ_AHEAD_BYTES: u64 = 1 << 20;

/// A stretch of a read, in order.
#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    Zeros(u64),
    Chunk { id: ChunkId, offset: u32, len: u32 },
}

/// What a read consists of, and what may be wanted next.
#[derive(Default, Debug)]
struct Plan {
    parts: Vec<Part>,
    ahead: Vec<ChunkId>,
}

fn regular(record: &InodeRecord) -> Step<()> {
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
        });
    });
    gaps
}

fn wants_atime(record: &InodeRecord, now: Timestamp) -> bool {
    record.atime <= record.mtime
        || record.atime <= record.ctime
        || now.seconds - record.atime.seconds >= ATIME_MAX_AGE_SECONDS
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
                        RunData::Chunk { id, offset, .. } => Part::Chunk { id: *id, offset: offset + skip, len },
                        RunData::Inline(bytes) => Part::Bytes(bytes.slice(skip as usize..skip as usize + len as usize)),
                    });
                }
                at = run_end;
            }
            if at < to {
                parts.push(Part::Zeros(to - at.max(from)));
            }
        }
        Ok(())
    }

    fn plan_read(&mut self, ino: Ino, record: &InodeRecord, range: ByteRange) -> Step<Plan> {
        let content = record.content;
        let mut slots = Vec::new();
        let gaps = plan_overlay(self.open.data.get(&content), range, &mut slots);
        // Gaps of the open group are looked up in the closing one, its gaps among the committed runs.
        let mut plan = Plan::default();
        let mut gaps = gaps.into_iter();
        let committed = self.has_committed_content(ino);
        for slot in slots {
            match slot {
                Some(part) => plan.parts.push(part),
                None => {
                    let Some((_, gap)) = gaps.next() else { continue };
                    let mut below = Vec::new();
                    let closing = self.closing.as_ref().and_then(|closing| closing.group.data.get(&content));
                    let mut deeper = plan_overlay(closing, gap, &mut below).into_iter();
                    for slot in below {
                        match slot {
                            Some(part) => plan.parts.push(part),
                            None => match deeper.next() {
                                Some((_, gap)) if committed => self.plan_committed(content, gap, &mut plan.parts)?,
                                Some((_, gap)) => plan.parts.push(Part::Zeros(gap.len)),
                                None => {}
                            },
                        }
                    }
                }
            }
        }
        if committed && plan.parts.iter().any(|part| matches!(part, Part::Chunk { .. })) {
            self.plan_ahead(content, range.end(), &mut plan.ahead);
        }
        Ok(plan)
    }

    /// Chunks behind a read, as far as their segments are in memory.
    fn plan_ahead(&mut self, content: ContentId, from: u64, ahead: &mut Vec<ChunkId>) {
        let mut parts = Vec::new();
        if self.plan_committed(content, ByteRange::new(from, READ_AHEAD_BYTES), &mut parts).is_ok() || !parts.is_empty()
        {
            ahead.extend(parts.iter().filter_map(|part| match part {
                Part::Chunk { id, .. } => Some(*id),
                Part::Bytes(_) | Part::Zeros(_) => None,
            }));
        }
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
        let may_move = context.access_times == AccessTimes::Move && self.failure.is_none() && record.nlink > 0;
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
    ) -> Step<()> {
        let mut record = self.inode(ino)?;
        regular(&record)?;
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
        if context.uid != 0 {
            record.mode = without_set_id(record.mode);
        }
        self.put_inode(ino, record);
        Ok(())
    }
}

impl Shared {
    /// Logs a failure of the chunk store and says what the caller gets.
    pub(crate) fn store_error(&self, ino: Option<Ino>, error: &StoreError) -> VfsError {
        match error {
            StoreError::OutOfSpace => VfsError::NoSpace,
            StoreError::Meta(error) => self.meta_error(error),
            StoreError::Closed => VfsError::Closed,
            StoreError::Damaged { .. } | StoreError::Missing { .. } => {
                tracing::error!(%error, ino = ino.map(|ino| ino.0), "file is damaged");
                self.note_damage(ino, error);
                VfsError::Io
            }
            StoreError::Io { .. } | StoreError::Option { .. } | StoreError::ChunkLength { .. } => {
                tracing::error!(%error, ino = ino.map(|ino| ino.0), "chunk store");
                VfsError::Io
            }
        }
    }

    fn collect(&self, context: &Context, ino: Ino, plan: Plan) -> Result<Vec<Bytes>> {
        let store = &self.parts.store;
        let mut pieces = Vec::with_capacity(plan.parts.len());
        for part in plan.parts {
            match part {
                Part::Bytes(bytes) => pieces.push(bytes),
                Part::Zeros(mut len) => {
                    while len > 0 {
                        let step = len.min(ZEROS.len() as u64);
                        pieces.push(Bytes::from_static(&ZEROS[..step as usize]));
                        len -= step;
                    }
                }
                Part::Chunk { id, offset, len } => {
                    let chunk = match (store.cached(id), context.patience) {
                        (Some(chunk), _) => chunk,
                        (None, Patience::Try) => return Err(VfsError::WouldBlock),
                        (None, Patience::Wait) => {
                            store.read(id).map_err(|error| self.store_error(Some(ino), &error))?
                        }
                    };
                    let range = offset as usize..offset as usize + len as usize;
                    if range.end > chunk.len() {
                        tracing::error!(%ino, chunk = %id, "an extent reaches past its chunk");
                        return Err(VfsError::Io);
                    }
                    pieces.push(chunk.slice(range));
                }
            }
        }
        if !plan.ahead.is_empty() && context.patience == Patience::Wait {
            store.prefetch(&plan.ahead);
        }
        Ok(pieces)
    }
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
        let plan = self.shared.run(context, |state| {
            let (plan, changed) = state.read(context, ino, range, now)?;
            if changed && state.begin_change(self.shared.monotonic()) {
                self.shared.work.notify_one();
            }
            Ok(plan)
        })?;
        self.shared.collect(context, ino, plan)
    }

    /// Writes all of `data`, or fails with nothing changed. Clears set-id bits unless the caller is root.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::IsDirectory`], [`VfsError::InvalidArgument`] for other kinds,
    /// [`VfsError::FileTooLarge`], [`VfsError::NoSpace`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn write(&self, context: &Context, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return self.shared.run(context, |state| regular(&state.inode(ino)?));
        }
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > FILE_MAX_BYTES) {
            return Err(VfsError::FileTooLarge);
        }
        let shared = (data.len() > COPY_AHEAD_MIN_BYTES).then(|| Bytes::copy_from_slice(data));
        self.shared.run_change(context, |state, now| state.write(context, ino, offset, (data, shared.as_ref()), now))
    }
}
