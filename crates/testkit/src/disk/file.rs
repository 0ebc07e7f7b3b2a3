//! The content of one file: what a reader sees now, and every older state of a sector that a crash may bring back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crash::Chooser;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;
/// What the disk allocates.
pub(super) const BLOCK_BYTES: u64 = 4096;

const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES / SECTOR_BYTES;

/// Most states of one sector that are remembered besides the newest.
const OLD_STATES: usize = 6;

type BlockBytes = [u8; BLOCK_BYTES as usize];
type SectorBytes = [u8; SECTOR_BYTES as usize];

/// An allocated block. Zeros take no memory: logs are preallocated with them.
#[derive(Clone, Debug)]
enum Block {
    Zero,
    Data(Arc<BlockBytes>),
}

/// Whether the next sync writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pending {
    /// The next sync makes the newest state durable.
    Dirty,
    /// A sync failed: the cache holds the newest state, no later sync writes it, and the disk has any of the states.
    Forsaken,
}

/// The states of something since it was last durable, each with the moment at which it came about.
#[derive(Clone, Debug)]
pub(super) struct History<T> {
    /// Oldest first, the durable one in front; the newest is in `newest_at`.
    pub(super) earlier: Vec<(u64, T)>,
    pub(super) newest_at: u64,
    pub(super) pending: Pending,
}

impl<T> History<T> {
    fn begin(before: T, at: u64) -> Self {
        History { earlier: vec![(0, before)], newest_at: at, pending: Pending::Dirty }
    }

    fn replace(&mut self, before: T, at: u64) {
        if self.earlier.len() > OLD_STATES {
            self.earlier.remove(1);
        }
        self.earlier.push((self.newest_at, before));
        self.newest_at = at;
        self.pending = Pending::Dirty;
    }

    /// Moments of all states, oldest first, the newest last.
    fn moments(&self) -> Vec<u64> {
        self.earlier.iter().map(|(at, _)| *at).chain([self.newest_at]).collect()
    }
}

/// A file. `len` and `blocks` are what readers see.
#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    pub(super) len: u64,
    blocks: BTreeMap<u64, Block>,
    reserved_blocks: u64,
    sectors: BTreeMap<u64, History<Option<Box<SectorBytes>>>>,
    lens: Option<History<u64>>,
    /// Names in the present tree.
    pub(super) names: u32,
    /// Open handles.
    pub(super) handles: u32,
}

impl FileState {
    /// An empty file with one name.
    pub(super) fn named() -> Self {
        FileState { names: 1, ..FileState::default() }
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        if offset >= self.len {
            return 0;
        }
        let count = (buffer.len() as u64).min(self.len - offset) as usize;
        self.copy_out(&mut buffer[..count], offset);
        count
    }

    fn copy_out(&self, buffer: &mut [u8], offset: u64) {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let within = (at % BLOCK_BYTES) as usize;
            let count = (BLOCK_BYTES as usize - within).min(buffer.len() - done);
            let target = &mut buffer[done..done + count];
            match self.blocks.get(&(at / BLOCK_BYTES)) {
                Some(Block::Data(bytes)) => target.copy_from_slice(&bytes[within..within + count]),
                Some(Block::Zero) | None => target.fill(0),
            }
            done += count;
        }
    }

    /// Blocks that count against the disk's capacity.
    pub(super) fn allocated_blocks(&self) -> u64 {
        self.reserved_blocks + self.blocks.range(self.reserved_blocks..).count() as u64
    }

    /// Blocks that a write of this range would newly allocate.
    pub(super) fn missing_blocks(&self, offset: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let first = (offset / BLOCK_BYTES).max(self.reserved_blocks);
        let end = (offset + len).div_ceil(BLOCK_BYTES);
        if first >= end { 0 } else { (end - first) - self.blocks.range(first..end).count() as u64 }
    }

    pub(super) fn missing_reservation(&self, len: u64) -> u64 {
        let end = len.div_ceil(BLOCK_BYTES);
        if end <= self.reserved_blocks {
            return 0;
        }
        (end - self.reserved_blocks) - self.blocks.range(self.reserved_blocks..end).count() as u64
    }

    pub(super) fn reserve(&mut self, len: u64) {
        self.reserved_blocks = self.reserved_blocks.max(len.div_ceil(BLOCK_BYTES));
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, at: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let zeros = bytes.iter().all(|byte| *byte == 0);
        if zeros && self.is_untouched(offset, end) {
            // Zeros over zeros look the same whether they survive or not; logs are preallocated with megabytes of them.
            (offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).for_each(|block| {
                self.blocks.entry(block).or_insert(Block::Zero);
            });
            self.change_len(end.max(self.len), at);
            return;
        }
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let before = self.sector(sector);
            self.remember(sector, before, at);
        }
        self.copy_in(bytes, offset);
        if end > self.len {
            self.change_len(end, at);
        }
    }

    /// Whether a range has no bytes but zeros, now and after any crash.
    fn is_untouched(&self, offset: u64, end: u64) -> bool {
        let blocks = offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        let all_zero = self.blocks.range(blocks).all(|(_, block)| matches!(block, Block::Zero));
        all_zero && self.sectors.range(sectors).next().is_none()
    }

    fn copy_in(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % BLOCK_BYTES) as usize;
            let count = (BLOCK_BYTES as usize - within).min(bytes.len() - done);
            let source = &bytes[done..done + count];
            let block = self.blocks.entry(at / BLOCK_BYTES).or_insert(Block::Zero);
            match block {
                Block::Data(data) => Arc::make_mut(data)[within..within + count].copy_from_slice(source),
                Block::Zero if source.iter().all(|byte| *byte == 0) => {}
                Block::Zero => {
                    let mut data = [0; BLOCK_BYTES as usize];
                    data[within..within + count].copy_from_slice(source);
                    *block = Block::Data(Arc::new(data));
                }
            }
            done += count;
        }
    }

    fn remember(&mut self, sector: u64, before: Option<Box<SectorBytes>>, at: u64) {
        match self.sectors.get_mut(&sector) {
            Some(history) => history.replace(before, at),
            None => {
                self.sectors.insert(sector, History::begin(before, at));
            }
        }
    }

    /// Content of a sector; zeros are `None`.
    fn sector(&self, sector: u64) -> Option<Box<SectorBytes>> {
        match self.blocks.get(&(sector / SECTORS_PER_BLOCK)) {
            Some(Block::Data(_)) => {
                let mut bytes = [0; SECTOR_BYTES as usize];
                self.copy_out(&mut bytes, sector * SECTOR_BYTES);
                Some(Box::new(bytes))
            }
            Some(Block::Zero) | None => None,
        }
    }

    pub(super) fn set_len(&mut self, len: u64, at: u64) {
        if len < self.len {
            let first = len / SECTOR_BYTES;
            let end = self.len.div_ceil(SECTOR_BYTES);
            let touched: Vec<u64> = (self.blocks.range(len / BLOCK_BYTES..))
                .flat_map(|(block, _)| block * SECTORS_PER_BLOCK..(block + 1) * SECTORS_PER_BLOCK)
                .filter(|sector| (first..end).contains(sector))
                .collect();
            for sector in touched {
                let before = self.sector(sector);
                self.remember(sector, before, at);
            }
            let kept = len.div_ceil(BLOCK_BYTES);
            drop(self.blocks.split_off(&kept));
            self.reserved_blocks = self.reserved_blocks.min(kept);
            let tail = kept * BLOCK_BYTES - len;
            if tail > 0 && self.blocks.contains_key(&(kept - 1)) {
                self.copy_in(&vec![0; tail as usize], len);
            }
        }
        self.change_len(len, at);
    }

    fn change_len(&mut self, len: u64, at: u64) {
        if len == self.len {
            return;
        }
        match &mut self.lens {
            Some(history) => history.replace(self.len, at),
            None => self.lens = Some(History::begin(self.len, at)),
        }
        self.len = len;
    }

    pub(super) fn sync(&mut self) {
        self.sectors.retain(|_, history| history.pending == Pending::Forsaken);
        if self.lens.as_ref().is_some_and(|history| history.pending == Pending::Dirty) {
            self.lens = None;
        }
    }

    /// A sync that failed: the system forgets that these sectors still have to be written.
    pub(super) fn forsake(&mut self) {
        for history in self.sectors.values_mut() {
            history.pending = Pending::Forsaken;
        }
        if let Some(history) = &mut self.lens {
            history.pending = Pending::Forsaken;
        }
    }

    /// Whether a crash could change anything.
    #[cfg(test)]
    pub(super) fn is_durable(&self) -> bool {
        self.sectors.is_empty() && self.lens.is_none()
    }

    /// What the crash leaves of it.
    pub(super) fn crashed(&self, file: u64, chooser: &mut Chooser<'_>) -> FileState {
        let mut after = FileState {
            len: self.len,
            blocks: self.blocks.clone(),
            reserved_blocks: self.reserved_blocks,
            ..FileState::default()
        };
        for (sector, history) in &self.sectors {
            let chosen = chooser.content(file, &history.moments());
            if let Some((_, bytes)) = history.earlier.get(chosen) {
                match bytes {
                    Some(bytes) => after.copy_in(&bytes[..], sector * SECTOR_BYTES),
                    None => after.copy_in(&[0; SECTOR_BYTES as usize], sector * SECTOR_BYTES),
                }
            }
        }
        if let Some(history) = &self.lens {
            let chosen = chooser.length(file, &history.moments());
            if let Some((_, len)) = history.earlier.get(chosen) {
                after.len = *len;
            }
        }
        after.cut_tail();
        after
    }

    /// Nothing may lie behind the end, or a later growth would show it.
    fn cut_tail(&mut self) {
        let kept = self.len.div_ceil(BLOCK_BYTES);
        drop(self.blocks.split_off(&kept));
        let tail = kept * BLOCK_BYTES - self.len;
        if tail > 0 && self.blocks.contains_key(&(kept - 1)) {
            self.copy_in(&vec![0; tail as usize], self.len);
        }
    }
}
