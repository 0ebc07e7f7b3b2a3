//! Finds out which files are read from front to back, and how far ahead of each reader the store should be
//! (docs/decisions/0011-read-ahead.md).

use std::collections::VecDeque;

use parking_lot::Mutex;
use verfs_base::ByteRange;
use verfs_format::ContentId;

use crate::Patience;

/// Readers that are followed at a time; the one that read longest ago is forgotten first.
const STREAMS_MAX: usize = 16;
/// So many bytes read in a row make a sequential reader. The kernel's own read-ahead begins with more.
const SEQUENTIAL_MIN_BYTES: u64 = 64 << 10;
/// How far the first hint reaches; each one reaches twice as far as the one before.
const WINDOW_FIRST_BYTES: u64 = 1 << 20;
/// How far a hint reaches at most: some milliseconds of the work of all processors.
const WINDOW_MAX_BYTES: u64 = 8 << 20;
/// A reader may leave out this much: what the page cache had, or what another thread asks for.
const GAP_MAX_BYTES: u64 = 128 << 10;
/// Requests of one reader may overtake each other by this much.
const OVERTAKE_MAX_BYTES: u64 = 4 << 20;

/// The readers of all files.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    /// What all readers together may have in memory ahead of them.
    budget_bytes: u64,
    /// The one that read last is first.
    streams: Mutex<VecDeque<Stream>>,
}

/// One reader of one file.
#[derive(Clone, Copy, Debug)]
struct Stream {
    content: ContentId,
    /// Where its next read should begin.
    next: u64,
    /// Bytes that it read in a row.
    run_bytes: u64,
    /// End of what the store was told.
    told: u64,
    window_bytes: u64,
}

impl ReadAhead {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        ReadAhead { budget_bytes, streams: Mutex::new(VecDeque::new()) }
    }

    /// Notes a read of a file of `size` bytes and answers what the store is to be told now. With [`Patience::Try`] it
    /// stays to be told: the same read comes again with [`Patience::Wait`].
    pub(crate) fn note(&self, content: ContentId, read: ByteRange, size: u64, patience: Patience) -> Option<ByteRange> {
        let mut streams = self.streams.lock();
        let known = streams.iter().position(|stream| stream.content == content && stream.follows(read));
        let mut stream = match known.and_then(|at| streams.remove(at)) {
            Some(stream) => stream.advanced(read),
            None => Stream::begun(content, read),
        };
        let readers = 1 + streams.iter().filter(|other| other.is_sequential()).count() as u64;
        let window_max_bytes = WINDOW_MAX_BYTES.min(self.budget_bytes / readers);
        let due = stream.due(window_max_bytes, size);
        if let (Some(range), Patience::Wait) = (due, patience) {
            stream.told = range.end();
            stream.window_bytes = (2 * stream.window_bytes).min(WINDOW_MAX_BYTES);
        }
        streams.truncate(STREAMS_MAX - 1);
        streams.push_front(stream);
        due
    }
}

impl Stream {
    /// The reader whose first read this is. Only at the start of a file it counts: elsewhere it may be the only one.
    fn begun(content: ContentId, read: ByteRange) -> Self {
        let run_bytes = if read.offset == 0 { read.len } else { 0 };
        Stream { content, next: read.end(), run_bytes, told: 0, window_bytes: WINDOW_FIRST_BYTES }
    }

    fn follows(&self, read: ByteRange) -> bool {
        read.offset <= self.next + GAP_MAX_BYTES && read.offset + OVERTAKE_MAX_BYTES >= self.next
    }

    /// The reader after one more read.
    fn advanced(self, read: ByteRange) -> Self {
        if read.end() <= self.next {
            return self;
        }
        Stream { next: read.end(), run_bytes: self.run_bytes.saturating_add(read.len), ..self }
    }

    fn is_sequential(&self) -> bool {
        self.run_bytes >= SEQUENTIAL_MIN_BYTES
    }

    /// What the store should be told, once half of the window is used up.
    fn due(&self, window_max_bytes: u64, size: u64) -> Option<ByteRange> {
        let window_bytes = self.window_bytes.min(window_max_bytes);
        if !self.is_sequential() || self.told >= self.next + window_bytes / 2 {
            return None;
        }
        let (start, end) = (self.told.max(self.next), (self.next + window_bytes).min(size));
        (start < end).then(|| ByteRange::new(start, end - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SIZE: u64 = 100 * MIB;
    const CONTENT: ContentId = ContentId(7);

    fn note(ahead: &ReadAhead, offset: u64, len: u64) -> Option<ByteRange> {
        ahead.note(CONTENT, ByteRange::new(offset, len), SIZE, Patience::Wait)
    }

    #[test]
    fn a_reader_from_the_start_is_led_further_and_further_and_never_past_the_end() {
        let ahead = ReadAhead::new(64 * MIB);
        let mut told = 0;
        let mut furthest = 0;
        for offset in (0..SIZE).step_by(MIB as usize) {
            if let Some(range) = note(&ahead, offset, MIB) {
                assert!(range.offset == told.max(offset + MIB), "{range:?} after {told}");
                told = range.end();
                furthest = furthest.max(told - offset - MIB);
            }
            assert!(told == SIZE || told >= offset + MIB + MIB / 2, "the reader at {offset} is not led: {told}");
        }
        assert_eq!((told, furthest), (SIZE, WINDOW_MAX_BYTES));
    }

    #[test]
    fn random_reads_lead_nowhere() {
        let ahead = ReadAhead::new(64 * MIB);
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..5000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let offset = random % (1 << 18) * 4096;
            let told = ahead.note(CONTENT, ByteRange::new(offset, 4096), 1 << 30, Patience::Wait);
            assert_eq!(told, None, "at {offset}");
        }
    }

    #[test]
    fn one_large_read_inside_a_file_is_not_yet_a_reader_and_a_second_one_is() {
        let ahead = ReadAhead::new(64 * MIB);
        assert_eq!(note(&ahead, 50 * MIB, MIB), None);
        assert_eq!(note(&ahead, 51 * MIB, MIB), Some(ByteRange::new(52 * MIB, MIB)));
    }

    #[test]
    fn a_hint_that_could_not_be_given_is_given_by_the_next_try() {
        let ahead = ReadAhead::new(64 * MIB);
        let read = ByteRange::new(0, MIB);
        let due = ahead.note(CONTENT, read, SIZE, Patience::Try);
        assert_eq!(due, Some(ByteRange::new(MIB, MIB)));
        assert_eq!(ahead.note(CONTENT, read, SIZE, Patience::Wait), due);
        assert_eq!(ahead.note(CONTENT, read, SIZE, Patience::Wait), None);
    }

    #[test]
    fn requests_that_overtake_each_other_are_one_reader() {
        let ahead = ReadAhead::new(64 * MIB);
        for offset in [0, 2, 1, 3, 5, 4].map(|at| at * 32 * 1024) {
            note(&ahead, offset, 32 << 10);
        }
        assert_eq!(ahead.streams.lock().len(), 1);
        assert_eq!(ahead.streams.lock()[0].next, 6 * 32 * 1024);
    }

    #[test]
    fn readers_share_the_budget_and_are_bounded() {
        let ahead = ReadAhead::new(8 * MIB);
        for round in 0..40 {
            let mut led_bytes = 0;
            for reader in 0..4 {
                let read = ByteRange::new(round * MIB, MIB);
                ahead.note(ContentId(reader), read, SIZE, Patience::Wait);
            }
            for stream in &*ahead.streams.lock() {
                led_bytes += stream.told.saturating_sub(stream.next);
            }
            assert!(round < 10 || led_bytes <= 8 * MIB, "{led_bytes} bytes ahead in round {round}");
        }
        for reader in 0..1000 {
            ahead.note(ContentId(reader), ByteRange::new(0, MIB), SIZE, Patience::Wait);
        }
        assert_eq!(ahead.streams.lock().len(), STREAMS_MAX);
        let none = ReadAhead::new(0);
        assert_eq!(note(&none, 0, MIB), None);
    }
}
