//! Bytes that were written and not committed yet: a sparse overlay over a file's committed extents.

use std::collections::BTreeMap;

use bytes::Bytes;
use verfs_base::{ByteRange, ChunkId};

/// Memory that a piece costs beside its bytes.
const PIECE_OVERHEAD_BYTES: u64 = 128;
/// Writes up to this size are gathered in growing pieces instead of one piece each.
const GATHER_WRITE_MAX_BYTES: usize = 32 << 10;
/// A growing piece takes no more bytes beyond this size.
const GATHER_PIECE_MAX_BYTES: usize = 256 << 10;
/// Bytes per block, the unit in which a group counts dirty data.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Ranges without overlap, merged where they touch.
#[derive(Clone, Default, Debug)]
pub(crate) struct RangeSet {
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds a range.
    pub(crate) fn insert(&mut self, range: ByteRange) {
        if range.len == 0 {
            return;
        }
        let (mut start, mut end) = (range.offset, range.end());
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back()
            && before_end >= start
        {
            if before_end >= end {
                return;
            }
            start = before;
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..).next() {
            if next > end {
                break;
            }
            end = end.max(next_end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(start, end);
    }

    /// The ranges, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.ranges.iter().map(|(&start, &end)| ByteRange::new(start, end - start))
    }
}

/// What a piece reads as.
#[derive(Debug)]
enum Piece {
    /// Zeros.
    Hole(u64),
    /// These bytes, never changed again.
    Data(Bytes),
    /// These bytes; small writes that follow on are appended, ones inside overwrite.
    Growing(Vec<u8>),
    /// Bytes that the store has.
    Stored(Stored),
}

/// A stretch of a chunk that the store has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stored {
    pub(crate) id: ChunkId,
    /// Where it begins in the chunk.
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

impl Stored {
    /// It without its first `skip` bytes, `len` bytes long.
    pub(crate) fn part(self, skip: u32, len: u32) -> Stored {
        Stored { id: self.id, offset: self.offset + skip, len }
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Hole(len) => *len,
            Piece::Data(bytes) => bytes.len() as u64,
            Piece::Growing(bytes) => bytes.len() as u64,
            Piece::Stored(stored) => u64::from(stored.len),
        }
    }

    fn data_bytes(&self) -> u64 {
        match self {
            Piece::Hole(_) => 0,
            Piece::Data(_) | Piece::Growing(_) | Piece::Stored(_) => self.len(),
        }
    }

    fn held_bytes(&self) -> u64 {
        match self {
            Piece::Hole(_) | Piece::Stored(_) => 0,
            Piece::Data(_) | Piece::Growing(_) => self.len(),
        }
    }

    /// Keeps the first `at` bytes and returns the rest.
    fn split_off(&mut self, at: u64) -> Piece {
        match self {
            Piece::Hole(len) => {
                let rest = *len - at;
                *len = at;
                Piece::Hole(rest)
            }
            Piece::Data(bytes) => Piece::Data(bytes.split_off(at as usize)),
            Piece::Growing(bytes) => Piece::Growing(bytes.split_off(at as usize)),
            Piece::Stored(stored) => {
                let rest = stored.part(at as u32, stored.len - at as u32);
                stored.len = at as u32;
                Piece::Stored(rest)
            }
        }
    }
}

/// Part of an overlay as a reader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum View<'a> {
    /// Zeros.
    Hole,
    /// These bytes, which can be shared.
    Shared(&'a Bytes),
    /// These bytes, which must be copied before the lock is dropped.
    Borrowed(&'a [u8]),
    /// Bytes that the store has.
    Stored(Stored),
}

/// The overlay of one content in one group.
#[derive(Default, Debug)]
pub(crate) struct DirtyContent {
    pieces: BTreeMap<u64, Piece>,
    data_bytes: u64,
    held_bytes: u64,
}

impl DirtyContent {
    /// Bytes that are no holes.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Memory used, with what the pieces themselves cost.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.held_bytes + self.pieces.len() as u64 * PIECE_OVERHEAD_BYTES
    }

    fn count(&mut self, piece: &Piece) {
        self.data_bytes += piece.data_bytes();
        self.held_bytes += piece.held_bytes();
    }

    fn discount(&mut self, piece: &Piece) {
        self.data_bytes -= piece.data_bytes();
        self.held_bytes -= piece.held_bytes();
    }

    fn insert(&mut self, at: u64, piece: Piece) {
        self.count(&piece);
        self.pieces.insert(at, piece);
    }

    /// Removes whatever covers a range; pieces at its ends are cut.
    fn clear(&mut self, range: ByteRange) {
        let (start, end) = (range.offset, range.end());
        let before = self.pieces.range(..start).next_back().map(|(at, piece)| (*at, *at + piece.len()));
        if let Some((at, _)) = before.filter(|(_, piece_end)| *piece_end > start)
            && let Some(mut piece) = self.pieces.remove(&at)
        {
            self.discount(&piece);
            let mut rest = piece.split_off(start - at);
            if start + rest.len() > end {
                let tail = rest.split_off(end - start);
                self.insert(end, tail);
            }
            self.insert(at, piece);
        }
        while let Some(at) = self.pieces.range(start..end).next().map(|(at, _)| *at) {
            let Some(mut piece) = self.pieces.remove(&at) else { break };
            self.discount(&piece);
            if at + piece.len() > end {
                let tail = piece.split_off(end - at);
                self.insert(end, tail);
            }
        }
    }

    /// Writes `data` at `offset`. Small writes are copied; `shared` gives large ones without a copy.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8], shared: Option<Bytes>) {
        let len = data.len() as u64;
        if len == 0 {
            return;
        }
        let range = ByteRange::new(offset, len);
        if let Some(bytes) = shared.filter(|_| data.len() > GATHER_WRITE_MAX_BYTES) {
            self.clear(range);
            self.insert(offset, Piece::Data(bytes));
            return;
        }
        if let Some((&at, Piece::Growing(bytes))) = self.pieces.range_mut(..=offset).next_back() {
            let position = (offset - at) as usize;
            let inside = position + data.len() <= bytes.len();
            if inside {
                bytes[position..position + data.len()].copy_from_slice(data);
                return;
            }
            let appends = position == bytes.len() && bytes.len() + data.len() <= GATHER_PIECE_MAX_BYTES;
            if appends {
                self.clear(range);
                if let Some(Piece::Growing(bytes)) = self.pieces.get_mut(&at) {
                    bytes.extend_from_slice(data);
                    self.data_bytes += len;
                    self.held_bytes += len;
                }
                return;
            }
        }
        self.clear(range);
        self.insert(offset, Piece::Growing(data.to_vec()));
    }

    /// Makes a range read as a stretch of a chunk.
    pub(crate) fn refer(&mut self, offset: u64, stored: Stored) {
        if stored.len > 0 {
            self.clear(ByteRange::new(offset, u64::from(stored.len)));
            self.insert(offset, Piece::Stored(stored));
        }
    }

    /// Makes a range read as zeros.
    pub(crate) fn punch(&mut self, range: ByteRange) {
        if range.len == 0 {
            return;
        }
        self.clear(range);
        self.insert(range.offset, Piece::Hole(range.len));
    }

    /// Makes everything from `size` on read as zeros, up to `end` and whatever was ever noted beyond it: an earlier
    /// cut of this group may stand for bytes that the store still has.
    pub(crate) fn cut(&mut self, size: u64, end: u64) {
        let noted = self.pieces.last_key_value().map_or(0, |(start, piece)| start + piece.len());
        let end = end.max(noted);
        if end > size {
            self.punch(ByteRange::new(size, end - size));
        }
    }

    /// Visits `range` in order: parts that are covered with what they read as, and gaps with `None`.
    pub(crate) fn visit<'a>(&'a self, range: ByteRange, visit: &mut dyn FnMut(ByteRange, Option<View<'a>>, usize)) {
        let (mut at, end) = (range.offset, range.end());
        let first = self.pieces.range(..=at).next_back().filter(|(start, piece)| *start + piece.len() > at);
        let from = first.map_or(at, |(start, _)| *start);
        for (&start, piece) in self.pieces.range(from..end) {
            if start > at {
                visit(ByteRange::new(at, start - at), None, 0);
                at = start;
            }
            let skip = at - start;
            let len = (piece.len() - skip).min(end - at);
            let view = match piece {
                Piece::Hole(_) => View::Hole,
                Piece::Data(bytes) => View::Shared(bytes),
                Piece::Growing(bytes) => View::Borrowed(bytes),
                Piece::Stored(stored) => View::Stored(stored.part(skip as u32, len as u32)),
            };
            visit(ByteRange::new(at, len), Some(view), skip as usize);
            at += len;
        }
        if at < end {
            visit(ByteRange::new(at, end - at), None, 0);
        }
    }

    /// All covered ranges in order, neighbours of one sort joined but for stretches of chunks.
    pub(crate) fn extents(&self) -> Vec<(ByteRange, Content)> {
        let mut extents: Vec<(ByteRange, Content)> = Vec::new();
        for (&start, piece) in &self.pieces {
            let sort = match piece {
                Piece::Hole(_) => Content::Hole,
                Piece::Data(_) | Piece::Growing(_) => Content::Data,
                Piece::Stored(stored) => Content::Stored(*stored),
            };
            match extents.last_mut() {
                Some((range, last)) if range.end() == start && *last == sort && !matches!(sort, Content::Stored(_)) => {
                    range.len += piece.len();
                }
                _ => extents.push((ByteRange::new(start, piece.len()), sort)),
            }
        }
        extents
    }

    /// Where the next piece with data begins, at or behind `offset`.
    pub(crate) fn next_data(&self, offset: u64) -> Option<u64> {
        let covering = self.pieces.range(..=offset).next_back().filter(|(at, piece)| *at + piece.len() > offset);
        let from = covering.map_or(offset, |(at, _)| *at);
        let next = self.pieces.range(from..).find(|(_, piece)| piece.data_bytes() > 0);
        next.map(|(at, _)| (*at).max(offset))
    }

    /// The piece of data that covers `offset`, from `offset` on.
    pub(crate) fn data_at(&self, offset: u64) -> Option<&[u8]> {
        let (&start, piece) = self.pieces.range(..=offset).next_back()?;
        let skip = usize::try_from(offset - start).ok()?;
        match piece {
            Piece::Hole(_) | Piece::Stored(_) => None,
            Piece::Data(bytes) => bytes.get(skip..).filter(|rest| !rest.is_empty()),
            Piece::Growing(bytes) => bytes.get(skip..).filter(|rest| !rest.is_empty()),
        }
    }
}

impl DirtyContent {
    /// `len` bytes from `offset` on without a copy, if one unchanging piece has them all.
    pub(crate) fn shared_at(&self, offset: u64, len: usize) -> Option<Bytes> {
        let (&start, piece) = self.pieces.range(..=offset).next_back()?;
        let skip = usize::try_from(offset - start).ok()?;
        match piece {
            Piece::Data(bytes) if skip + len <= bytes.len() => Some(bytes.slice(skip..skip + len)),
            Piece::Hole(_) | Piece::Data(_) | Piece::Growing(_) | Piece::Stored(_) => None,
        }
    }
}

/// What an extent of an overlay reads as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Zeros.
    Hole,
    /// Bytes.
    Data,
    /// A stretch of a chunk.
    Stored(Stored),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(dirty: &DirtyContent, size: u64) -> Vec<u8> {
        let mut out = Vec::new();
        dirty.visit(ByteRange::new(0, size), &mut |range, view, skip| {
            let len = range.len as usize;
            match view {
                None => out.extend(std::iter::repeat_n(b'.', len)),
                Some(View::Hole) => out.extend(std::iter::repeat_n(b'0', len)),
                Some(View::Shared(bytes)) => out.extend_from_slice(&bytes[skip..skip + len]),
                Some(View::Borrowed(bytes)) => out.extend_from_slice(&bytes[skip..skip + len]),
                // The test's chunks are all letters of the alphabet.
                Some(View::Stored(stored)) => out.extend((stored.offset..).take(len).map(|at| b'a' + (at % 26) as u8)),
            }
        });
        out
    }

    #[test]
    fn later_writes_and_holes_cover_earlier_ones() {
        let mut dirty = DirtyContent::default();
        dirty.write(4, b"abcd", None);
        dirty.write(8, b"ef", None);
        dirty.write(6, b"XY", None);
        dirty.punch(ByteRange::new(5, 1));
        assert_eq!(read(&dirty, 12), b"....a0XYef..");
        dirty.write(0, b"123456", None);
        assert_eq!(read(&dirty, 12), b"123456XYef..");
        dirty.cut(7, 9);
        dirty.cut(7, 7);
        assert_eq!(read(&dirty, 11), b"123456X000.");
        assert_eq!(dirty.data_bytes(), 7);
        let hole = (ByteRange::new(7, 3), Content::Hole);
        assert_eq!(dirty.extents(), vec![(ByteRange::new(0, 7), Content::Data), hole]);
    }

    #[test]
    fn random_writes_match_a_flat_model() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for round in 0..200 {
            let mut dirty = DirtyContent::default();
            let mut model = vec![b'.'; 300];
            for step in 0..40u8 {
                let (offset, len) = (next(200), 1 + next(80));
                let fill = b'A' + step % 26;
                let range = offset as usize..(offset + len) as usize;
                match next(7) {
                    6 => {
                        let offset_in_chunk = next(500) as u32;
                        dirty.refer(offset, Stored { id: ChunkId([0; 16]), offset: offset_in_chunk, len: len as u32 });
                        for (at, byte) in model[range].iter_mut().enumerate() {
                            *byte = b'a' + ((offset_in_chunk as usize + at) % 26) as u8;
                        }
                    }
                    0 => {
                        dirty.punch(ByteRange::new(offset, len));
                        model[range].fill(b'0');
                    }
                    1 => {
                        dirty.cut(offset, 280);
                        let noted = model.iter().rposition(|byte| *byte != b'.').map_or(0, |last| last + 1);
                        model[offset as usize..noted.max(280)].fill(b'0');
                    }
                    _ => {
                        let data = vec![fill; len as usize];
                        dirty.write(offset, &data, None);
                        model[range].fill(fill);
                    }
                }
                assert_eq!(read(&dirty, 300), model, "round {round}, step {step}");
                let held = model.iter().filter(|byte| !matches!(byte, b'.' | b'0')).count() as u64;
                assert_eq!(dirty.data_bytes(), held, "round {round}, step {step}");
            }
        }
    }

    #[test]
    fn ranges_merge() {
        let mut set = RangeSet::default();
        set.insert(ByteRange::new(10, 5));
        set.insert(ByteRange::new(20, 5));
        set.insert(ByteRange::new(15, 5));
        set.insert(ByteRange::new(0, 3));
        set.insert(ByteRange::new(12, 1));
        let ranges: Vec<_> = set.iter().collect();
        assert_eq!(ranges, vec![ByteRange::new(0, 3), ByteRange::new(10, 15)]);
    }
}
