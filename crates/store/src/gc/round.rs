//! A round: the list of what is dead in some packs, and then pack by pack what is needed of it to another pack.

use std::path::Path;

use rustc_hash::FxHashSet;
use verfs_base::{ChunkId, PackId};
use verfs_format::chunk_record::{PackRecord, chunk_key};
use verfs_format::discard::{DiscardFrame, SYSTEM_DISCARD_CHECKPOINT};
use verfs_format::pack::record_bytes;
use verfs_meta::WriteBatch;
use verfs_pack::{BlockSeal, IndexEntry, PackReader, load_index, pack_path, scan_pack};

use super::fate::{Copied, Fate, fate};
use super::list::{List, load_checkpoint, load_list, store_list};
use super::output::{Copies, Output};
use super::{Collection, GcPhase, Step};
use crate::accounts::Statement;
use crate::ledger::{Ledger, PackDelta, Prefer};
use crate::slot::Turn;
use crate::{Result, StoreError};

/// Chunk ids of one list at most, but for those of its last pack: 4 MiB.
const ROUND_MAX_IDS: u64 = 256 << 10;
/// Records that are read at once.
const LOOKUP_CHUNKS: usize = 1024;
/// Blocks that are settled in one turn; bounds how long a group may wait for it.
const SLICE_MAX_BLOCKS: usize = 2048;
/// Bytes that are copied between two syncs.
const SLICE_MAX_BYTES: u64 = 16 << 20;
/// Bytes that are read at once.
const READ_MAX_BYTES: u64 = 1 << 20;
/// Bytes between two blocks that are read rather than passed over by a second read.
const GAP_MAX_BYTES: u64 = 64 << 10;
/// How often blocks are tried that were referenced again while their pack was being collected.
const PASSES_MAX: usize = 3;
/// Share of the disk that no copy takes, as a divisor: commits need it, and without them nothing is collected.
const COMMIT_SHARE: u64 = 64;
/// It is never more than this.
const COMMIT_MAX_BYTES: u64 = 32 << 20;
/// Blocks in the output pack beyond which it is closed: as of every pack.
const OUTPUT_MAX_BLOCKS: usize = 1 << 16;

/// What was found of a slice that was to be copied.
struct Copying {
    copies: Copies,
    /// A block that is needed and can't be read.
    damaged: bool,
}

fn block_bytes(entry: &IndexEntry) -> u64 {
    u64::from(record_bytes(entry.stored_len))
}

fn end_of(entry: &IndexEntry) -> u64 {
    u64::from(entry.offset) + block_bytes(entry)
}

/// Splits entries, which rise by their offsets, before each one that `is_next` says begins another part.
fn parts(entries: &[IndexEntry], mut is_next: impl FnMut(&[IndexEntry], &IndexEntry) -> bool) -> Vec<&[IndexEntry]> {
    let mut parts = Vec::new();
    let mut start = 0;
    for at in 1..entries.len() {
        if is_next(&entries[start..at], &entries[at]) {
            parts.push(&entries[start..at]);
            start = at;
        }
    }
    if start < entries.len() {
        parts.push(&entries[start..]);
    }
    parts
}

impl Collection<'_> {
    /// What the last collection left of its list.
    pub(super) fn unfinished_list(&mut self) -> Result<Option<List>> {
        Ok(load_list(self.core.disk.as_ref(), load_checkpoint(self.core.meta.as_ref())?))
    }

    /// The metadata stage: which blocks of these packs no record with references leads to.
    pub(super) fn make_list(&mut self, packs: &[(PackId, PackRecord)]) -> Step<List> {
        let mut frames = Vec::new();
        let mut ids = 0;
        for (pack, record) in packs {
            self.breathe()?;
            let Some(entries) = self.blocks_of(*pack, record)? else {
                self.leave_alone(*pack, record.dead_blocks);
                continue;
            };
            let mut chunks = self.unneeded(*pack, &entries)?;
            chunks.sort_unstable();
            ids += chunks.len() as u64;
            self.progress.packs_listed += 1;
            self.progress.blocks_listed += chunks.len() as u64;
            frames.push(DiscardFrame { pack: *pack, dead_bytes: record.dead_bytes, chunks });
            if ids >= ROUND_MAX_IDS {
                break;
            }
        }
        let round = load_checkpoint(self.core.meta.as_ref())?.round + 1;
        let list = store_list(self.core.disk.as_ref(), round, frames)?;
        self.write_checkpoint(&list)?;
        Ok(list)
    }

    fn unneeded(&self, pack: PackId, entries: &[IndexEntry]) -> Result<Vec<ChunkId>> {
        let mut unneeded = Vec::new();
        for entries in entries.chunks(LOOKUP_CHUNKS) {
            let ids: Vec<ChunkId> = entries.iter().map(|entry| entry.chunk).collect();
            let records = self.core.chunk_records(&ids)?;
            let dead = ids.iter().zip(records).filter(|(_, record)| match fate(pack, *record, Copied::No) {
                Fate::Unneeded | Fate::Drop => true,
                Fate::Move(_) | Fate::Stay(_) => false,
            });
            unneeded.extend(dead.map(|(id, _)| *id));
        }
        Ok(unneeded)
    }

    fn write_checkpoint(&self, list: &List) -> Result<()> {
        let Some(checkpoint) = &list.checkpoint else { return Ok(()) };
        let mut batch = WriteBatch::new();
        batch.put(SYSTEM_DISCARD_CHECKPOINT, checkpoint.encode());
        Ok(self.core.meta.commit(batch)?)
    }

    /// All blocks of a sealed pack, by their offsets; each chunk once. `None` when it can't be told what is in it: then
    /// records might lead to it that nobody finds, and it must stay.
    fn blocks_of(&self, pack: PackId, record: &PackRecord) -> Result<Option<Vec<IndexEntry>>> {
        let table = match load_index(self.core.disk.as_ref(), pack) {
            Ok(Some(table)) => Some(table),
            Ok(None) | Err(_) => None,
        };
        let mut entries: Vec<IndexEntry> = match table.filter(|table| table.len() as u64 >= record.blocks) {
            Some(table) => table.iter().collect(),
            // No index, or fewer chunks in it than blocks in the pack: a chunk may be there twice, or one is missing.
            None => match self.scan(pack, record.blocks)? {
                Some(entries) => entries,
                None => return Ok(None),
            },
        };
        entries.sort_unstable_by_key(|entry| (entry.chunk, entry.offset));
        entries.dedup_by_key(|entry| entry.chunk);
        entries.sort_unstable_by_key(|entry| entry.offset);
        Ok(Some(entries))
    }

    fn scan(&self, pack: PackId, blocks: u64) -> Result<Option<Vec<IndexEntry>>> {
        let path = pack_path(pack);
        let file = match self.core.disk.open_read(&path) {
            Ok(file) => file,
            // Nothing can be lost of a pack without a block.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && blocks == 0 => return Ok(Some(Vec::new())),
            Err(error) => {
                tracing::error!(%pack, blocks, %error, "garbage collection leaves a pack alone that can't be opened");
                return Ok(None);
            }
        };
        let scan = scan_pack(file.as_ref(), pack, self.core.decoder.seed())
            .map_err(|error| StoreError::of_disk("read", &path, &error))?;
        if (scan.blocks.len() as u64) < blocks {
            let found = scan.blocks.len();
            tracing::error!(%pack, blocks, found, "garbage collection leaves a damaged pack alone");
            return Ok(None);
        }
        Ok(Some(scan.blocks.iter().map(|block| block.entry).collect()))
    }

    /// The pack stage: collects the packs of a list.
    pub(super) fn work_off(&mut self, mut list: List) -> Step<()> {
        self.progress.phase = GcPhase::Collecting;
        for (frame, end) in std::mem::take(&mut list.frames) {
            self.breathe()?;
            let emptied = self.empty_pack(&frame)?;
            if let Some(checkpoint) = &mut list.checkpoint {
                checkpoint.done = end;
            }
            if emptied {
                self.remove_pack(frame.pack, list.checkpoint.as_ref())?;
            } else {
                self.write_checkpoint(&list)?;
            }
        }
        Ok(())
    }

    /// Moves everything that is needed of a pack to another one, and deletes the records of what isn't. False when
    /// something stays.
    fn empty_pack(&mut self, frame: &DiscardFrame) -> Step<bool> {
        let pack = frame.pack;
        // A list may name a pack that was removed before the list's checkpoint said so.
        let Some(record) = self.core.known_pack(pack)? else { return Ok(false) };
        let Some(mut entries) = self.blocks_of(pack, &record)? else {
            self.leave_alone(pack, record.dead_blocks);
            return Ok(false);
        };
        let mut dead: FxHashSet<ChunkId> = frame.chunks.iter().copied().collect();
        // What died since the list was made must not be copied: it may be most of the pack.
        let listed_alive: Vec<IndexEntry> =
            entries.iter().filter(|entry| !dead.contains(&entry.chunk)).copied().collect();
        dead.extend(self.unneeded(pack, &listed_alive)?);
        self.check_room(&entries, &dead)?;
        for _ in 0..PASSES_MAX {
            let mut staying = Vec::new();
            let mut bytes = 0;
            let slices = parts(&entries, |slice, next| {
                if slice.len() == 1 {
                    bytes = block_bytes(&slice[0]);
                }
                bytes += block_bytes(next);
                slice.len() >= SLICE_MAX_BLOCKS || bytes > SLICE_MAX_BYTES
            });
            for slice in slices {
                let Copying { copies, damaged } = self.copy(pack, slice, &dead)?;
                staying.extend(self.settle(pack, slice, copies)?);
                if damaged {
                    let dead_blocks = self.core.known_pack(pack)?.map_or(0, |record| record.dead_blocks);
                    self.leave_alone(pack, dead_blocks);
                    return Ok(false);
                }
                self.breathe()?;
            }
            if staying.is_empty() {
                return Ok(true);
            }
            // They were referenced again since the list was made.
            entries = staying;
            dead.clear();
        }
        self.passed.insert(pack);
        Ok(false)
    }

    /// Refuses to copy what the disk has no room for, before a part of it takes the room that commits need.
    fn check_room(&self, entries: &[IndexEntry], dead: &FxHashSet<ChunkId>) -> Result<()> {
        let needed: u64 = entries.iter().filter(|entry| !dead.contains(&entry.chunk)).map(block_bytes).sum();
        let space = self.core.disk.space().map_err(|error| StoreError::of_disk("statvfs", Path::new(""), &error))?;
        let left = (space.total / COMMIT_SHARE).min(COMMIT_MAX_BYTES);
        if needed == 0 || space.available >= needed + left { Ok(()) } else { Err(StoreError::OutOfSpace) }
    }

    /// Copies blocks to the output pack, durably.
    fn copy(&mut self, pack: PackId, slice: &[IndexEntry], dead: &FxHashSet<ChunkId>) -> Step<Copying> {
        let wanted: Vec<IndexEntry> = slice.iter().filter(|entry| !dead.contains(&entry.chunk)).copied().collect();
        if wanted.is_empty() {
            return Ok(Copying { copies: Copies::default(), damaged: false });
        }
        let mut output = match self.collector.output.take() {
            Some(output) => output,
            None => Output::create(self.core)?,
        };
        let copied = self.copy_to(&mut output, pack, &wanted);
        let synced = copied.and_then(|damaged| Ok(Copying { copies: output.sync(self.core)?, damaged }));
        match synced {
            Ok(copying) => {
                let (bytes, blocks) = output.size();
                if bytes >= self.core.appender.target_bytes() || blocks >= OUTPUT_MAX_BLOCKS {
                    self.core.seal(output.live());
                } else {
                    self.collector.output = Some(output);
                }
                Ok(copying)
            }
            Err(halt) => {
                output.abandon(self.core);
                Err(halt)
            }
        }
    }

    /// Appends blocks to the output pack; whether one of them is damaged.
    fn copy_to(&mut self, output: &mut Output, pack: PackId, wanted: &[IndexEntry]) -> Step<bool> {
        let reader = PackReader::open(self.core.disk.as_ref(), pack)?;
        let mut damaged = false;
        let (mut buffer, mut resealed) = (Vec::new(), Vec::new());
        // A block is never copied with an old data key: it would be in a pack that a rekey takes for new.
        let reseals = matches!(self.core.decoder.seal(), BlockSeal::Keys(_));
        let near = |part: &[IndexEntry], next: &IndexEntry| {
            let (first, last) =
                (part.first().map_or(0, |entry| u64::from(entry.offset)), part.last().map_or(0, end_of));
            u64::from(next.offset) > last + GAP_MAX_BYTES || end_of(next) - first > READ_MAX_BYTES
        };
        for part in parts(wanted, near) {
            let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
            let start = u64::from(first.offset);
            buffer.clear();
            buffer.resize((end_of(last) - start) as usize, 0);
            // What the disk can't read fails its checksum below.
            if let Err(error) = reader.file().read_exact_at(&mut buffer, start) {
                tracing::warn!(%pack, %error, "can't read a stretch of a pack at once");
                self.read_one_by_one(&reader, part, &mut buffer);
            }
            let mut moved = 0;
            for entry in part {
                let at = (u64::from(entry.offset) - start) as usize;
                let record = buffer.get(at..at + block_bytes(entry) as usize).unwrap_or_default();
                let block = if reseals {
                    self.core.decoder.resealed(entry.chunk, record, &mut resealed)
                } else {
                    self.core.decoder.block(entry.chunk, record)
                };
                match block {
                    Ok(block) => {
                        output.append(&block)?;
                        moved += block_bytes(entry);
                    }
                    Err(reason) => {
                        damaged = true;
                        self.core.damage.note(entry.chunk, pack, &format!("block at {}: {reason}", entry.offset));
                    }
                }
            }
            self.progress.moved_bytes += moved;
            self.breathe()?;
        }
        Ok(damaged)
    }

    fn read_one_by_one(&self, reader: &PackReader, part: &[IndexEntry], buffer: &mut [u8]) {
        let start = part.first().map_or(0, |entry| entry.offset);
        buffer.fill(0);
        for entry in part {
            let at = (entry.offset - start) as usize;
            let Some(record) = buffer.get_mut(at..at + block_bytes(entry) as usize) else { continue };
            if reader.file().read_exact_at(record, u64::from(entry.offset)).is_err() {
                record.fill(0);
            }
        }
    }

    /// Decides with the turn held what becomes of each block, and commits it. Returns those that have to stay.
    fn settle(&mut self, pack: PackId, slice: &[IndexEntry], copies: Copies) -> Step<Vec<IndexEntry>> {
        let settled = self.turn().and_then(|turn| Ok(self.try_settle(turn, pack, slice, &copies)?));
        if settled.is_err() {
            // The copies are durable, and nobody's. Whether the records were committed after all only the metadata
            // engine knows, so they stay where they are.
            let mut accounts = self.core.accounts.lock();
            for placed in copies.values() {
                accounts.change_pack(placed.pack, &PackDelta::dead_block(placed.record().block_bytes()));
            }
        }
        settled
    }

    fn try_settle(&self, _turn: Turn, pack: PackId, slice: &[IndexEntry], copies: &Copies) -> Result<Vec<IndexEntry>> {
        let ids: Vec<ChunkId> = slice.iter().map(|entry| entry.chunk).collect();
        let records = self.core.chunk_records(&ids)?;
        let mut ledger = Ledger::default();
        let mut batch = WriteBatch::new();
        let mut staying = Vec::new();
        for (entry, record) in slice.iter().zip(records) {
            let copy = copies.get(&entry.chunk).map(|placed| placed.record());
            let key = || bytes::Bytes::copy_from_slice(&chunk_key(entry.chunk));
            let copied = if copy.is_some() { Copied::Yes } else { Copied::No };
            let unneeded_copy = match fate(pack, record, copied) {
                Fate::Unneeded => copy,
                Fate::Drop => {
                    batch.delete(key());
                    copy
                }
                Fate::Move(record) => {
                    let (moved, _) = ledger.settle(0, Some(record), copy, Prefer::Stored);
                    if let Some(moved) = moved {
                        batch.put(key(), moved.encode());
                    }
                    None
                }
                Fate::Stay(_) => {
                    staying.push(*entry);
                    None
                }
            };
            if let Some(copy) = unneeded_copy {
                ledger.settle(0, None, Some(copy), Prefer::Stored);
            }
        }
        if batch.is_empty() && ledger.packs.is_empty() {
            return Ok(staying);
        }
        let pending = self.core.accounts.lock().pending().clone();
        let record = self.core.current_record();
        let statement = Statement::draw_up(self.core.meta.as_ref(), record, pending, ledger.packs, &ledger.totals)?;
        statement.write(&mut batch);
        self.core.meta.commit(batch)?;
        self.core.accounts.lock().committed(statement);
        Ok(staying)
    }
}
