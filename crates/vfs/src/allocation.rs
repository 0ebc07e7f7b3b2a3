//! Where a file has data and where holes: reserving and punching, seeking, and copying by reference.

use verfs_base::{ByteRange, Ino, Timestamp};
use verfs_format::{ContentId, InodeRecord, SEGMENT_BYTES, keys};
use verfs_meta::{Direction, KeyRange};

use crate::attributes::drop_set_id;
use crate::dirty::{Content, DirtyContent};
use crate::file_data::{Part, regular};
use crate::state::{Demand, Need, State, Step, Stop};
use crate::volume::{FILE_MAX_BYTES, Shared};
use crate::{Allocation, Context, Result, SeekFor, SetId, Vfs, VfsError};

/// How far one look of `seek` goes.
const SEEK_WINDOW_BYTES: u64 = 16 * SEGMENT_BYTES;
/// Most bytes that one `copy_range` copies: bounds the time that it holds the lock.
const COPY_MAX_BYTES: u64 = 32 << 20;

/// What one look of `seek` found.
enum Sight {
    /// It is here.
    At(u64),
    /// It isn't before this offset, where data goes on.
    Onward(u64),
    /// No data up to this offset, nor in uncommitted data before the second one.
    Empty { content: ContentId, from: u64, uncommitted: Option<u64>, size: u64 },
}

fn end_of(offset: u64, len: u64) -> Result<u64> {
    offset.checked_add(len).filter(|end| *end <= FILE_MAX_BYTES).ok_or(VfsError::FileTooLarge)
}

/// A file's content changed: its times and set-id bits follow.
fn changed(context: &Context, record: &mut InodeRecord, now: Timestamp) -> SetId {
    record.mtime = now;
    record.ctime = now;
    drop_set_id(context, record)
}

impl State {
    fn allocate(
        &mut self,
        context: &Context,
        ino: Ino,
        range: ByteRange,
        allocation: Allocation,
        now: Timestamp,
    ) -> Step<SetId> {
        let mut record = self.inode(ino)?;
        regular(&record)?;
        match allocation {
            // Nothing that is there changes: of an append-only file that may be done, as in vfs_fallocate of Linux.
            Allocation::Reserve | Allocation::ReserveKeepSize => Self::check_extendable(&record)?,
            Allocation::PunchHole | Allocation::Zero | Allocation::ZeroKeepSize => Self::check_changeable(&record)?,
        }
        let (grows, erases) = match allocation {
            Allocation::Reserve => (true, false),
            Allocation::ReserveKeepSize => (false, false),
            Allocation::PunchHole | Allocation::ZeroKeepSize => (false, true),
            Allocation::Zero => (true, true),
        };
        let demand = match allocation {
            Allocation::PunchHole => Demand::Release,
            Allocation::Reserve | Allocation::ReserveKeepSize | Allocation::Zero | Allocation::ZeroKeepSize => {
                Demand::Bytes(range.len)
            }
        };
        self.admit(demand)?;
        if grows && range.end() > record.size {
            self.set_size(ino, &mut record, range.end());
        }
        let inside = ByteRange::new(range.offset, range.end().min(record.size).saturating_sub(range.offset));
        if erases && inside.len > 0 {
            self.change_data(record.content, inside, 0, |dirty| dirty.punch(inside));
        }
        let set_id = changed(context, &mut record, now);
        self.put_inode(ino, record);
        Ok(set_id)
    }

    fn look(&mut self, ino: Ino, at: u64, wanted: SeekFor) -> Step<Sight> {
        let record = self.inode(ino)?;
        regular(&record)?;
        if at >= record.size {
            return Err(Stop::Fail(VfsError::NoSuchOffset));
        }
        let window = ByteRange::new(at, SEEK_WINDOW_BYTES.min(record.size - at));
        let mut position = at;
        for part in self.parts_of(ino, &record, window)? {
            let is_data = match part {
                Part::Zeros(_) => false,
                Part::Bytes(_) | Part::Chunk(_) => true,
            };
            if is_data == (wanted == SeekFor::Data) {
                return Ok(Sight::At(position));
            }
            position += part.len();
        }
        if wanted == SeekFor::Hole {
            // The end of a file is a hole.
            return Ok(if window.end() == record.size { Sight::At(record.size) } else { Sight::Onward(window.end()) });
        }
        let content = record.content;
        let closing = self.closing.as_ref().and_then(|closing| closing.group.data.get(&content));
        let overlays = [self.open.data.get(&content), closing];
        let uncommitted = overlays.into_iter().flatten().filter_map(|dirty| dirty.next_data(window.end())).min();
        Ok(Sight::Empty { content, from: window.end(), uncommitted, size: record.size })
    }

    fn copy_range(
        &mut self,
        context: &Context,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        len: u64,
        now: Timestamp,
    ) -> Step<(u64, SetId)> {
        let source = self.inode(from)?;
        let mut target = self.inode(to)?;
        regular(&source)?;
        regular(&target)?;
        let len = len.min(COPY_MAX_BYTES).min(source.size.saturating_sub(from_offset));
        let end = end_of(to_offset, len)?;
        if from == to && from_offset < end && to_offset < from_offset + len {
            return Err(Stop::Fail(VfsError::InvalidArgument));
        }
        if len == 0 {
            return Ok((0, SetId::Kept));
        }
        Self::check_writable(&target, to_offset)?;
        let range = ByteRange::new(from_offset, len);
        let closing = self.closing.as_ref().and_then(|closing| closing.group.data.get(&source.content));
        if closing.is_some_and(|dirty| may_take_up(dirty, range)) {
            return Err(Stop::Need(Need::Commit));
        }
        let parts = self.parts_of(from, &source, range)?;
        self.admit(Demand::Bytes(held_bytes(&parts)))?;
        self.put_parts(&mut target, to_offset, &parts);
        let set_id = changed(context, &mut target, now);
        self.put_inode(to, target);
        Ok((len, set_id))
    }

    /// Makes a file consist of `parts` from an offset on. Its record, which the caller puts, follows.
    pub(crate) fn put_parts(&mut self, target: &mut InodeRecord, to_offset: u64, parts: &[Part]) {
        if to_offset > target.size {
            let gap = ByteRange::new(target.size, to_offset - target.size);
            self.change_data(target.content, gap, 0, |dirty| dirty.punch(gap));
        }
        let mut at = to_offset;
        let mut copied = 0;
        for part in parts {
            let range = ByteRange::new(at, part.len());
            at = range.end();
            match part {
                Part::Zeros(_) => self.change_data(target.content, range, 0, |dirty| dirty.punch(range)),
                Part::Bytes(bytes) => {
                    copied += range.len;
                    self.change_data(target.content, range, range.len, |dirty| {
                        dirty.write(range.offset, bytes, Some(bytes.clone()));
                    });
                }
                Part::Chunk(stored) => {
                    copied += range.len;
                    self.change_data(target.content, range, 0, |dirty| dirty.refer(range.offset, *stored));
                    self.unlogged.note_references(target.content, range);
                }
            }
        }
        if at > target.size {
            if target.nlink > 0 {
                self.counters.logical_bytes += at - target.size;
            }
            target.size = at;
        }
        target.allocated = (target.allocated + copied).min(target.size);
    }
}

/// Whether the commit of these changes may take up a chunk anew that has a part of `range`, and drop it: what is appended
/// to a file is cut together with the last chunk before it, which lies in one segment.
fn may_take_up(dirty: &DirtyContent, range: ByteRange) -> bool {
    let is_before = |appended: &ByteRange| {
        let Some(last) = appended.offset.checked_sub(1) else { return false };
        let segment_start = last / SEGMENT_BYTES * SEGMENT_BYTES;
        range.offset <= last && segment_start < range.end()
    };
    dirty.extents().iter().any(|(appended, sort)| *sort == Content::Data && is_before(appended))
}

/// Bytes that parts hold in memory.
pub(crate) fn held_bytes(parts: &[Part]) -> u64 {
    parts.iter().map(|part| if let Part::Bytes(bytes) = part { bytes.len() as u64 } else { 0 }).sum()
}

impl Shared {
    /// Offset of the first committed segment of a content at or behind `from`.
    fn next_segment(&self, content: ContentId, from: u64) -> Result<Option<u64>> {
        let first = u32::try_from(from / SEGMENT_BYTES).map_err(|_| VfsError::FileTooLarge)?;
        let all = KeyRange::prefix(&keys::segments(content));
        let range = KeyRange { start: keys::segment(content, first).into(), ..all };
        let mut found = None;
        let mut first_key = |key: &[u8], _: &[u8]| {
            found = keys::parse_segment(key);
            std::ops::ControlFlow::Break(())
        };
        self.parts.meta.scan(&range, Direction::Forward, &mut first_key).map_err(|error| self.meta_error(&error))?;
        Ok(found.map(|index| u64::from(index) * SEGMENT_BYTES))
    }
}

impl Vfs {
    /// Reserves, punches or zeroes a range of a regular file. Nothing is set aside on the disk: what is stored depends on
    /// what is written. But a range for which there is no room now is refused.
    ///
    /// # Errors
    /// [`VfsError::InvalidArgument`] for an empty range or another kind of inode, [`VfsError::IsDirectory`],
    /// [`VfsError::FileTooLarge`], [`VfsError::NoSpace`], [`VfsError::NotPermitted`], [`VfsError::NotFound`],
    /// [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn allocate(
        &self,
        context: &Context,
        ino: Ino,
        offset: u64,
        len: u64,
        allocation: Allocation,
    ) -> Result<SetId> {
        if len == 0 {
            return Err(VfsError::InvalidArgument);
        }
        end_of(offset, len)?;
        let range = ByteRange::new(offset, len);
        let set_id =
            self.shared.run_change(context, |state, now| state.allocate(context, ino, range, allocation, now))?;
        self.tell_inode(ino);
        Ok(set_id)
    }

    /// The next data or hole of a regular file at or behind `offset`. Zeros that were written count as data.
    ///
    /// # Errors
    /// [`VfsError::NoSuchOffset`] at or past the end, and for data when only a hole follows;
    /// [`VfsError::InvalidArgument`] and [`VfsError::IsDirectory`] for other kinds; [`VfsError::NotFound`],
    /// [`VfsError::Io`].
    pub fn seek(&self, context: &Context, ino: Ino, offset: u64, wanted: SeekFor) -> Result<u64> {
        let mut at = offset;
        loop {
            match self.shared.run(context, |state| state.look(ino, at, wanted))? {
                Sight::At(found) => return Ok(found),
                Sight::Onward(next) => at = next,
                Sight::Empty { content, from, uncommitted, size } => {
                    if context.patience == crate::Patience::Try {
                        return Err(VfsError::WouldBlock);
                    }
                    let committed = self.shared.next_segment(content, from)?;
                    let next = uncommitted.into_iter().chain(committed.map(|next| next.max(from))).min();
                    at = next.filter(|next| *next < size).ok_or(VfsError::NoSuchOffset)?;
                }
            }
        }
    }

    /// Copies up to `len` bytes from one regular file to another, or within one, without reading what is stored: both
    /// share it. Returns how many bytes were copied: at most 32 MiB, fewer at the end of the source.
    ///
    /// # Errors
    /// [`VfsError::InvalidArgument`] for ranges of one file that overlap and for other kinds of inodes,
    /// [`VfsError::IsDirectory`], [`VfsError::FileTooLarge`], [`VfsError::NoSpace`], [`VfsError::NotPermitted`],
    /// [`VfsError::NotFound`], [`VfsError::ReadOnly`], [`VfsError::Io`].
    pub fn copy_range(&self, context: &Context, from: (Ino, u64), to: (Ino, u64), len: u64) -> Result<(u64, SetId)> {
        let copied = self.shared.run_change(context, |state, now| state.copy_range(context, from, to, len, now))?;
        self.tell_inode(to.0);
        Ok(copied)
    }
}
