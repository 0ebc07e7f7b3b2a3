//! File contents that cost nothing: runs of well-known bytes, holes between them, and a size.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use crate::random::TestRng;

/// Longest single write.
pub const WRITE_MAX_BYTES: usize = 3 << 20;
/// Where a fill may start in its pool.
pub const FILL_START_MAX: u32 = 5 << 20;

/// A file that was this short once may have data wherever it had holes then.
const WHOLE_MAX_BYTES: u64 = 2048;

const POOL_BYTES: usize = WRITE_MAX_BYTES + FILL_START_MAX as usize;

static RANDOM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = TestRng::new(1);
    let mut pool: Vec<u8> = (0..POOL_BYTES / 8).flat_map(|_| rng.bits().to_le_bytes()).collect();
    // No zero byte, so that a zero found in such data is always an error.
    pool.iter_mut().for_each(|byte| *byte = (*byte).max(1));
    pool
});

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const WORDS: [&str; 12] = [
        "inode ", "extent ", "chunk ", "pack ", "epoch ", "group ", "log\n", "seal ", "hole ", "run ", "pin ", "key\t",
    ];
    let mut rng = TestRng::new(2);
    let mut pool = Vec::with_capacity(POOL_BYTES);
    while pool.len() < POOL_BYTES {
        pool.extend_from_slice(rng.pick(&WORDS).as_bytes());
    }
    pool.truncate(POOL_BYTES);
    pool
});

static ZEROS: [u8; WRITE_MAX_BYTES] = [0; WRITE_MAX_BYTES];

/// Where written bytes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Incompressible bytes, none of them zero, from this position of a fixed pool. Equal positions give duplicates.
    Random(u32),
    /// Compressible bytes, none of them zero.
    Text(u32),
    /// Zeros that were written.
    Zero,
    /// Zeros that may be kept as data or as a hole: a hole of a small file, copied. No operation writes them.
    Doubtful,
}

impl Fill {
    /// `len` bytes from the position `skip` of this fill; `skip + len` is at most [`WRITE_MAX_BYTES`].
    #[must_use]
    pub fn bytes(self, skip: u64, len: usize) -> &'static [u8] {
        let skip = skip as usize;
        match self {
            Fill::Random(start) => &RANDOM[start as usize + skip..][..len],
            Fill::Text(start) => &TEXT[start as usize + skip..][..len],
            Fill::Zero | Fill::Doubtful => &ZEROS[..len],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    len: u64,
    fill: Fill,
    skip: u64,
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Content {
    size: u64,
    runs: BTreeMap<u64, Run>,
}

/// Where bytes differ from a [`Content`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// First differing byte of the file.
    pub offset: u64,
    /// What should be there, up to 16 bytes; fewer at the end of the file.
    pub expected: Vec<u8>,
    /// What is there.
    pub found: Vec<u8>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: expected {:02x?}, found {:02x?}", self.offset, self.expected, self.found)
    }
}

impl Content {
    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts `len` bytes of `fill` at `offset`.
    pub fn write(&mut self, offset: u64, len: u64, fill: Fill) {
        if len == 0 {
            return;
        }
        self.clear(offset, offset + len);
        self.runs.insert(offset, Run { len, fill, skip: 0 });
        self.size = self.size.max(offset + len);
    }

    /// Cuts, or grows by a hole.
    pub fn set_size(&mut self, size: u64) {
        if size < self.size {
            self.clear(size, self.size);
        }
        self.size = size;
    }

    /// Makes `start .. end` a hole, as far as it lies in the file.
    pub fn punch(&mut self, start: u64, end: u64) {
        if start < self.size {
            self.clear(start, end.min(self.size));
        }
    }

    /// Takes over `len` bytes of another content from `from` on, holes as holes. All of them are within its size.
    pub fn copy(&mut self, source: &Content, from: u64, to: u64, len: u64) {
        if len == 0 {
            return;
        }
        self.clear(to, to + len);
        let end = from + len;
        // What lies so near the front may be data by now, though nobody wrote it.
        let mut at = from;
        while at < end.min(WHOLE_MAX_BYTES) {
            let piece = (end.min(WHOLE_MAX_BYTES) - at).min(WRITE_MAX_BYTES as u64);
            self.runs.insert(to + (at - from), Run { len: piece, fill: Fill::Doubtful, skip: 0 });
            at += piece;
        }
        let before = source.runs.range(..from).next_back();
        for (&at, run) in before.into_iter().chain(source.runs.range(from..end)) {
            let (first, last) = (at.max(from), (at + run.len).min(end));
            if first < last {
                let target = to + (first - from);
                self.clear(target, target + (last - first));
                self.runs.insert(target, Run { len: last - first, fill: run.fill, skip: run.skip + (first - at) });
            }
        }
        self.size = self.size.max(to + len);
    }

    /// Makes `start .. end` a hole.
    fn clear(&mut self, start: u64, end: u64) {
        if let Some((&at, &run)) = self.runs.range(..start).next_back()
            && at + run.len > start
        {
            self.runs.insert(at, Run { len: start - at, ..run });
            if at + run.len > end {
                let tail = Run { len: at + run.len - end, fill: run.fill, skip: run.skip + (end - at) };
                self.runs.insert(end, tail);
            }
        }
        let inside: Vec<u64> = self.runs.range(start..end).map(|(at, _)| *at).collect();
        for at in inside {
            if let Some(run) = self.runs.remove(&at)
                && at + run.len > end
            {
                let tail = Run { len: at + run.len - end, fill: run.fill, skip: run.skip + (end - at) };
                self.runs.insert(end, tail);
            }
        }
    }

    /// Up to `len` bytes from `offset`; fewer at the end, holes as zeros.
    #[must_use]
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Vec::new();
        }
        let mut bytes = vec![0; (end - offset) as usize];
        let before = self.runs.range(..offset).next_back();
        for (&at, run) in before.into_iter().chain(self.runs.range(offset..end)) {
            let (from, to) = (at.max(offset), (at + run.len).min(end));
            if from < to {
                let source = run.fill.bytes(run.skip + (from - at), (to - from) as usize);
                bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
            }
        }
        bytes
    }

    /// Compares bytes that were read at `offset` by a read of `asked` bytes.
    ///
    /// # Errors
    /// The first difference, a wrong count included.
    pub fn compare(&self, offset: u64, asked: usize, found: &[u8]) -> Result<(), Difference> {
        let expected = self.read(offset, asked);
        if expected == found {
            return Ok(());
        }
        let same = expected.iter().zip(found).take_while(|(left, right)| left == right).count();
        let some = |bytes: &[u8]| bytes[same.min(bytes.len())..].iter().take(16).copied().collect();
        Err(Difference { offset: offset + same as u64, expected: some(&expected), found: some(found) })
    }

    /// Ranges that together show every written byte and the edges and middle of every hole, in pieces of at most
    /// 1 MiB: what to read of a file to know it.
    #[must_use]
    pub fn probes(&self) -> Vec<(u64, usize)> {
        const EDGE_BYTES: u64 = 8192;
        const PIECE_BYTES: u64 = 1 << 20;
        let mut spans: Vec<(u64, u64)> = vec![(0, EDGE_BYTES), (self.size / 2, self.size / 2 + EDGE_BYTES)];
        for (at, run) in &self.runs {
            spans.push((at.saturating_sub(EDGE_BYTES), at + run.len + EDGE_BYTES));
        }
        spans.push((self.size.saturating_sub(EDGE_BYTES), self.size + EDGE_BYTES));
        spans.sort_unstable();
        let mut probes = Vec::new();
        let mut done = 0;
        for (start, end) in spans {
            let mut at = start.max(done);
            while at < end {
                let len = PIECE_BYTES.min(end - at);
                probes.push((at, len as usize));
                at += len;
            }
            done = done.max(end);
        }
        probes
    }

    /// Where data must be found, in order: ranges that were written.
    fn data(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().filter(|(_, run)| run.fill != Fill::Doubtful).map(|(at, run)| (*at, at + run.len))
    }

    /// First byte of `start .. end` that is certainly in a hole.
    fn certain_hole(&self, start: u64, end: u64) -> Option<u64> {
        let mut at = start.max(WHOLE_MAX_BYTES);
        if at >= end {
            return None;
        }
        let before = self.runs.range(..=at).next_back();
        for (&from, run) in before.into_iter().chain(self.runs.range(at + 1..end)) {
            if from > at {
                break;
            }
            at = at.max(from + run.len);
        }
        (at < end).then_some(at)
    }

    /// Whether a search for data from `offset` on, which lies in the file, may end like this.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_data(&self, offset: u64, found: Option<u64>) -> Result<(), String> {
        let until = found.unwrap_or(self.size);
        if found.is_some_and(|found| found < offset || found >= self.size) {
            return Err(format!("data from {offset} on was found at {until}"));
        }
        if let Some((at, _)) = self.data().find(|(at, end)| (*at).max(offset) < (*end).min(until)) {
            return Err(format!("data at {} was overlooked: found {found:?}", at.max(offset)));
        }
        match found.filter(|found| self.certain_hole(*found, found + 1).is_some()) {
            Some(found) => Err(format!("{found} is in a hole and was found as data")),
            None => Ok(()),
        }
    }

    /// Whether a search for a hole from `offset` on, which lies in the file, may end at `found`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_hole(&self, offset: u64, found: u64) -> Result<(), String> {
        if found < offset || found > self.size {
            return Err(format!("a hole from {offset} on was found at {found}"));
        }
        if let Some(at) = self.certain_hole(offset, found) {
            return Err(format!("the hole at {at} was overlooked: found {found}"));
        }
        match self.data().any(|(at, end)| (at..end).contains(&found)) {
            true => Err(format!("{found} is data and was found as a hole")),
            false => Ok(()),
        }
    }

    /// Whether some byte isn't zero.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.runs.values().any(|run| !matches!(run.fill, Fill::Zero | Fill::Doubtful))
    }

    /// Blocks of 4 KiB that hold written bytes, the most that a file may be charged for. A small file is stored whole,
    /// holes and all, and keeps what it took when it grows: the first block counts in any case.
    #[must_use]
    pub fn touched_blocks(&self) -> u64 {
        let mut blocks = 1;
        let mut next = 1;
        for (at, run) in &self.runs {
            let first = (at / 4096).max(next);
            let end = (at + run.len).div_ceil(4096);
            if end > first {
                blocks += end - first;
                next = end;
            }
        }
        blocks
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes:", self.size)?;
        for (at, run) in &self.runs {
            write!(f, " {at}+{}={:?}", run.len, run.fill)?;
            if run.skip > 0 {
                write!(f, "@{}", run.skip)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// Checks the run list against plain bytes.
    #[test]
    fn content_equals_plain_bytes() {
        let mut rng = TestRng::new(7);
        for _ in 0..300 {
            let mut content = Content::default();
            let mut plain: Vec<u8> = Vec::new();
            for _ in 0..20 {
                let offset = rng.below(300);
                if rng.chance(1, 4) {
                    content.set_size(offset);
                    plain.resize(offset as usize, 0);
                } else {
                    let len = rng.below(100);
                    let fill = *rng.pick(&[Fill::Random(17), Fill::Text(400), Fill::Zero]);
                    content.write(offset, len, fill);
                    if len > 0 {
                        plain.resize(plain.len().max((offset + len) as usize), 0);
                        plain[offset as usize..][..len as usize].copy_from_slice(fill.bytes(0, len as usize));
                    }
                }
                assert_eq!(content.size(), plain.len() as u64);
                assert_eq!(content.read(0, 1000), plain);
                let (offset, len) = (rng.below(400), rng.below(200) as usize);
                let from = plain.len().min(offset as usize);
                let expected = &plain[from..plain.len().min(offset as usize + len).max(from)];
                assert_eq!(content.read(offset, len), expected);
            }
        }
    }

    /// Copies and holes against plain bytes, with what of them was written.
    #[test]
    fn copies_and_searches_equal_plain_bytes() {
        let mut rng = TestRng::new(8);
        let base = WHOLE_MAX_BYTES;
        for _ in 0..300 {
            let mut content = Content::default();
            // Bytes, and whether they are data, from `base` on.
            let mut plain: Vec<(u8, bool)> = Vec::new();
            for _ in 0..15 {
                let (offset, len) = (rng.below(300), rng.below(100));
                match rng.below(3) {
                    0 => {
                        content.punch(base + offset, base + offset + len);
                        plain.iter_mut().skip(offset as usize).take(len as usize).for_each(|byte| *byte = (0, false));
                    }
                    1 if offset < plain.len() as u64 => {
                        let len = len.min(plain.len() as u64 - offset);
                        let to = if rng.chance(1, 2) { offset + len } else { plain.len() as u64 + 9 };
                        let source = content.clone();
                        content.copy(&source, base + offset, base + to, len);
                        let copied = plain[offset as usize..(offset + len) as usize].to_vec();
                        if len > 0 {
                            plain.resize(plain.len().max((to + len) as usize), (0, false));
                            plain.splice(to as usize..(to + len) as usize, copied).for_each(drop);
                        }
                    }
                    _ => {
                        let fill = *rng.pick(&[Fill::Random(17), Fill::Zero]);
                        content.write(base + offset, len, fill);
                        let end = if len == 0 { 0 } else { (offset + len) as usize };
                        plain.resize(plain.len().max(end), (0, false));
                        for (at, byte) in fill.bytes(0, len as usize).iter().enumerate() {
                            plain[offset as usize + at] = (*byte, true);
                        }
                    }
                }
                let bytes: Vec<u8> = plain.iter().map(|(byte, _)| *byte).collect();
                assert_eq!(content.read(base, 1000), bytes);
                if plain.is_empty() {
                    continue;
                }
                let from = rng.index(plain.len());
                let next = |wanted| (from..plain.len()).find(|at| plain[*at].1 == wanted).map(|at| base + at as u64);
                let (data, hole) = (next(true), next(false).unwrap_or(content.size()));
                let offset = base + from as u64;
                assert_eq!(content.check_data(offset, data), Ok(()));
                assert_eq!(content.check_hole(offset, hole), Ok(()));
                let wrong = offset + rng.below(content.size() - offset + 1);
                assert_eq!(content.check_hole(offset, wrong).is_ok(), wrong == hole);
                if data.is_none_or(|data| wrong < data) || wrong == content.size() {
                    assert!(content.check_data(offset, Some(wrong)).is_err());
                }
                assert_eq!(content.check_data(offset, None).is_ok(), data.is_none());
            }
        }
    }

    #[test]
    fn a_hole_of_a_small_file_may_be_data_and_its_copy_too() {
        let mut content = Content::default();
        content.set_size(5000);
        for found in [None, Some(0), Some(2047)] {
            assert_eq!(content.check_data(0, found), Ok(()));
        }
        assert!(content.check_data(0, Some(2048)).is_err());
        let source = content.clone();
        content.copy(&source, 1000, 10_000, 3000);
        assert_eq!(content.check_data(5000, Some(11_000)), Ok(()));
        assert!(content.check_data(5000, Some(11_048)).is_err());
        assert!(!content.has_data());
    }

    #[test]
    fn probes_cover_all_data_of_a_huge_file() {
        let mut content = Content::default();
        content.write(5 << 30, 3 << 20, Fill::Random(0));
        content.write(10, 1, Fill::Random(0));
        content.set_size(9 << 30);
        let probes = content.probes();
        let covered = |at: u64| probes.iter().any(|(start, len)| (*start..start + *len as u64).contains(&at));
        for at in [0, 10, 11, (5 << 30) - 1, 5 << 30, (5 << 30) + (2 << 20), (5 << 30) + (3 << 20), (9 << 30) - 1] {
            assert!(covered(at), "{at} is in no probe");
        }
        assert!(probes.iter().map(|(_, len)| *len as u64).sum::<u64>() < 5 << 20);
    }

    #[test]
    fn a_difference_names_the_byte() {
        let mut content = Content::default();
        content.write(0, 100, Fill::Random(3));
        let mut found = content.read(0, 100);
        found[40] = 0;
        assert_eq!(content.compare(0, 100, &found).unwrap_err().offset, 40);
        assert_eq!(content.compare(0, 100, &found[..30]).unwrap_err().offset, 30);
        assert_eq!(content.compare(0, 200, &content.read(0, 200)), Ok(()));
    }
}
