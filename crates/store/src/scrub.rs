//! Scrub: reads every record of every pack and checks that it is what was written: the checksum of the stored bytes, and
//! the identity of what they decode to. Indexes are held against their packs. It goes on where it was stopped.
//!
//! Lives here: what one store checks, and its position in the metadata. Never here: when, how fast, which file a chunk
//! belongs to. Data flows from packs to a verdict; nothing is written but indexes that were wrong, and the position.

use std::ops::ControlFlow;

use rustc_hash::FxHashSet;
use verfs_base::{ChunkId, PackId};
use verfs_format::chunk_record::{CHUNK, ChunkRecord, PACK, PackRecord, pack_key};
use verfs_format::pack::{PACK_HEADER_BYTES, record_bytes};
use verfs_format::scrub::{SYSTEM_SCRUB, ScrubPass, ScrubRecord, ScrubTally};
use verfs_meta::{Direction, KeyRange, MetaError, WriteBatch};
use verfs_pack::{BlockSeal, IndexEntry, IndexTable, PackError, PackReader, load_index, scan_pack, store_index};

use crate::core::Core;
use crate::gc::Pace;
use crate::halt::{Halt, Step};
use crate::{ChunkStore, Result};

/// Bytes that are read at once.
const READ_MAX_BYTES: u64 = 1 << 20;
/// Bytes between two blocks that are read rather than passed over by a second read.
const GAP_MAX_BYTES: u64 = 64 << 10;
/// Records of packs that are looked up at once.
const PACKS_AT_ONCE: usize = 256;
/// Chunks of a lost pack that are named.
const NAMED_MAX: usize = 1024;

/// Whether a scrub leaves its position in the metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScrubPosition {
    /// It does, and goes on from one that was left.
    Kept,
    /// Nothing is written: it begins at the first pack, and its result is known to its caller only.
    Unkept,
}

/// How far a scrub is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ScrubProgress {
    /// What it saw, in earlier pieces included.
    pub tally: ScrubTally,
    /// Bytes of records that it will have seen.
    pub total_bytes: u64,
}

impl ScrubProgress {
    /// Both together, of two stores of one volume.
    #[must_use]
    pub fn with(&self, other: &ScrubProgress) -> ScrubProgress {
        ScrubProgress { tally: self.tally.with(&other.tally), total_bytes: self.total_bytes + other.total_bytes }
    }
}

/// How a scrub ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScrubEnd {
    /// It saw every pack that was there when it began.
    Done,
    /// It was told to stop.
    Stopped,
}

struct Scrub<'a> {
    store: &'a ChunkStore,
    core: &'a Core,
    pace: &'a mut dyn FnMut(&ScrubProgress) -> Pace,
    progress: ScrubProgress,
    buffer: Vec<u8>,
}

/// The place of a pack's blocks.
struct Contents {
    reader: PackReader,
    /// Rising by their offsets.
    entries: Vec<IndexEntry>,
    /// Length up to which the pack has blocks.
    len: u64,
    /// None of a pack that grows still.
    table: Option<IndexTable>,
}

fn end_of(entry: &IndexEntry) -> u64 {
    u64::from(entry.offset) + u64::from(record_bytes(entry.stored_len))
}

impl ChunkStore {
    /// What is known of scrubs of this store.
    ///
    /// # Errors
    /// What the metadata engine says. A damaged record counts as none.
    pub fn scrub_record(&self) -> Result<ScrubRecord> {
        Ok(match self.core.meta.get(SYSTEM_SCRUB)?.map(|value| ScrubRecord::decode(&value)) {
            Some(Ok(record)) => record,
            Some(Err(error)) => {
                tracing::warn!(%error, "the record of scrubs is damaged; the next one begins anew");
                ScrubRecord::default()
            }
            None => ScrubRecord::default(),
        })
    }

    /// Checks every record of every pack, until all are seen or `pace` says so: it is asked after each MiB. One at a
    /// time, as the caller sees to. Readers, batches and garbage collection go on meanwhile. Memory: 1 MiB, or one chunk,
    /// and the index of one pack.
    ///
    /// What is damaged and needed is in [`ChunkStore::damaged`] then. A locked vault's records are not opened.
    ///
    /// # Errors
    /// What the metadata engine says; a pack that can't be read is damage, and no error.
    pub fn scrub(
        &self,
        position: ScrubPosition,
        pace: &mut dyn FnMut(&ScrubProgress) -> Pace,
    ) -> Result<(ScrubProgress, ScrubEnd)> {
        let mut record = match position {
            ScrubPosition::Kept => self.scrub_record()?,
            ScrubPosition::Unkept => ScrubRecord::default(),
        };
        let now = self.core.now();
        let mut pass = record.under_way.unwrap_or(ScrubPass {
            began: now,
            seen: now,
            next_pack: PackId(0),
            offset: 0,
            tally: ScrubTally::default(),
        });
        let limit = PackId(self.core.appender.next_pack());
        let mut scrub = Scrub {
            store: self,
            core: &self.core,
            pace,
            progress: ScrubProgress { tally: pass.tally, total_bytes: pass.tally.bytes },
            buffer: Vec::new(),
        };
        scrub.core.visit_packs_between(pass.next_pack, limit, &mut |_, known| {
            scrub.progress.total_bytes += known.block_bytes;
            ControlFlow::Continue(())
        })?;
        scrub.progress.total_bytes = scrub.progress.total_bytes.saturating_sub(pass.offset);
        let ended = scrub.packs(limit, &mut pass, &mut |pass| match position {
            ScrubPosition::Kept => self.keep(&ScrubRecord { under_way: Some(*pass), ..record }),
            ScrubPosition::Unkept => Ok(()),
        });
        let progress = ScrubProgress { tally: pass.tally, ..scrub.progress };
        match ended {
            Ok(()) => {
                pass.seen = self.core.now();
                record = ScrubRecord { ended: Some(pass), under_way: None };
                if position == ScrubPosition::Kept {
                    self.keep(&record)?;
                }
                Ok((progress, ScrubEnd::Done))
            }
            Err(Halt::Stopped) => Ok((progress, ScrubEnd::Stopped)),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    fn keep(&self, record: &ScrubRecord) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put(SYSTEM_SCRUB, record.encode());
        Ok(self.core.meta.commit(batch)?)
    }
}

impl Core {
    /// Visits the records of packs from `from` up to, not including, `limit`.
    fn visit_packs_between(
        &self,
        from: PackId,
        limit: PackId,
        visit: &mut dyn FnMut(PackId, PackRecord) -> ControlFlow<()>,
    ) -> Result<()> {
        let range = KeyRange::between(pack_key(from).to_vec(), pack_key(limit).to_vec());
        self.meta.scan(&range, Direction::Forward, &mut |key, value| {
            let number = key.strip_prefix(&[PACK]).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes);
            match (number, PackRecord::decode(value)) {
                (Some(number), Ok(record)) => visit(PackId(number), record),
                (Some(number), Err(error)) => {
                    tracing::error!(pack = number, %error, "the record of a pack is damaged");
                    visit(PackId(number), PackRecord::empty())
                }
                (None, _) => ControlFlow::Continue(()),
            }
        })?;
        Ok(())
    }
}

impl Scrub<'_> {
    fn packs(
        &mut self,
        limit: PackId,
        pass: &mut ScrubPass,
        keep: &mut dyn FnMut(&ScrubPass) -> Result<()>,
    ) -> Step<()> {
        loop {
            let mut packs = Vec::new();
            self.core.visit_packs_between(pass.next_pack, limit, &mut |pack, _| {
                packs.push(pack);
                if packs.len() < PACKS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            if packs.is_empty() {
                return Ok(());
            }
            for pack in packs {
                let from = if pack == pass.next_pack { pass.offset } else { 0 };
                let mut at = from;
                let seen = self.pack(pack, &mut at);
                let halt = match seen {
                    Ok(()) => {
                        self.progress.tally.packs += 1;
                        (pass.next_pack, pass.offset) = (PackId(pack.0 + 1), 0);
                        self.breathe().err()
                    }
                    Err(Halt::Stopped) => {
                        (pass.next_pack, pass.offset) = (pack, at);
                        Some(Halt::Stopped)
                    }
                    Err(failed) => return Err(failed),
                };
                (pass.tally, pass.seen) = (self.progress.tally, self.core.now());
                keep(pass)?;
                if let Some(halt) = halt {
                    return Err(halt);
                }
            }
        }
    }

    fn breathe(&mut self) -> Step<()> {
        self.core.check_open()?;
        match (self.pace)(&self.progress) {
            Pace::Go => Ok(()),
            Pace::Stop => Err(Halt::Stopped),
        }
    }

    /// Checks the blocks of a pack from `at` on, which it moves.
    fn pack(&mut self, pack: PackId, at: &mut u64) -> Step<()> {
        let Some(contents) = self.contents(pack)? else { return Ok(()) };
        let begin = contents.entries.partition_point(|entry| u64::from(entry.offset) < *at);
        let mut covered = PACK_HEADER_BYTES as u64;
        let mut failed = Vec::new();
        let mut halted = None;
        for part in parts(&contents.entries[begin..]) {
            self.part(pack, &contents.reader, part, &mut failed)?;
            covered += part.iter().map(|entry| u64::from(record_bytes(entry.stored_len))).sum::<u64>();
            *at = part.last().map_or(*at, end_of);
            halted = self.breathe().err();
            if halted.is_some() {
                break;
            }
        }
        if let Some(table) = &contents.table
            && halted.is_none()
            && (covered < contents.len || !failed.is_empty())
        {
            // A record that the index hasn't got, or a second copy of one that is damaged.
            self.complete_index(pack, &contents.reader, table, &mut failed)?;
        }
        for (chunk, reason) in failed {
            self.damaged(pack, chunk, &reason)?;
        }
        halted.map_or(Ok(()), Err)
    }

    /// What is in a pack; `None` for one that was collected meanwhile, or is lost.
    fn contents(&mut self, pack: PackId) -> Step<Option<Contents>> {
        if let Some(live) = self.core.live.get(pack) {
            let (len, mut entries) = live.contents();
            entries.sort_unstable_by_key(|entry| entry.offset);
            let reader = PackReader::of_file(pack, live.reader.file().clone());
            return Ok(Some(Contents { reader, entries, len, table: None }));
        }
        let reader = match PackReader::open(self.core.disk.as_ref(), pack) {
            Ok(reader) => reader,
            Err(error) => {
                self.lost(pack, &error)?;
                return Ok(None);
            }
        };
        let table = match load_index(self.core.disk.as_ref(), pack) {
            Ok(Some(table)) => table,
            Ok(None) | Err(_) => {
                // One in memory may be of a file that is gone.
                self.core.forget_pack(pack);
                match self.core.sealed.index(pack) {
                    Ok(table) => {
                        self.progress.tally.indexes_mended += 1;
                        IndexTable::clone(&table)
                    }
                    Err(error) => {
                        self.lost(pack, &error)?;
                        return Ok(None);
                    }
                }
            }
        };
        let mut entries: Vec<IndexEntry> = table.iter().collect();
        entries.sort_unstable_by_key(|entry| entry.offset);
        Ok(Some(Contents { reader, entries, len: table.pack_len(), table: Some(table) }))
    }

    /// Checks blocks that lie close to each other.
    fn part(
        &mut self,
        pack: PackId,
        reader: &PackReader,
        part: &[IndexEntry],
        failed: &mut Vec<(ChunkId, String)>,
    ) -> Step<()> {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { return Ok(()) };
        let start = u64::from(first.offset);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize((end_of(last) - start) as usize, 0);
        let whole = reader.file().read_exact_at(&mut buffer, start).is_ok();
        for entry in part {
            let at = (u64::from(entry.offset) - start) as usize;
            let bytes = record_bytes(entry.stored_len);
            let Some(record) = buffer.get_mut(at..at + bytes as usize) else { continue };
            let unread = if whole { None } else { reader.file().read_exact_at(record, u64::from(entry.offset)).err() };
            let verdict = match unread {
                Some(error) => Err(error.to_string()),
                None => self.verify(entry.chunk, record),
            };
            self.progress.tally.records += 1;
            self.progress.tally.bytes += u64::from(bytes);
            if let Err(reason) = verdict {
                tracing::debug!(%pack, chunk = %entry.chunk, reason, "scrub found a damaged record");
                failed.push((entry.chunk, format!("block at {}: {reason}", entry.offset)));
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn verify(&mut self, chunk: ChunkId, record: &mut [u8]) -> std::result::Result<(), String> {
        match self.core.decoder.seal() {
            BlockSeal::Locked => {
                self.core.decoder.block(chunk, record)?;
                self.progress.tally.sealed += 1;
                Ok(())
            }
            BlockSeal::None | BlockSeal::Keys(_) => {
                let data = self.core.decoder.decode(chunk, record)?;
                if self.store.id_of(&data) == chunk { Ok(()) } else { Err("it holds another chunk".to_owned()) }
            }
        }
    }

    /// Scans the pack; what the index lacks, and good copies of what `failed`, get into it.
    fn complete_index(
        &mut self,
        pack: PackId,
        reader: &PackReader,
        table: &IndexTable,
        failed: &mut Vec<(ChunkId, String)>,
    ) -> Step<()> {
        let Ok(scan) = scan_pack(reader.file().as_ref(), pack, self.core.decoder.seed()) else { return Ok(()) };
        let broken: FxHashSet<ChunkId> = failed.iter().map(|(chunk, _)| *chunk).collect();
        let found: Vec<IndexEntry> = scan
            .blocks
            .iter()
            .map(|block| block.entry)
            .filter(|entry| table.find(entry.chunk).is_none() || broken.contains(&entry.chunk))
            .collect();
        let mut mended = FxHashSet::default();
        for entry in &found {
            let mut record = vec![0; record_bytes(entry.stored_len) as usize];
            if reader.file().read_exact_at(&mut record, u64::from(entry.offset)).is_ok()
                && self.verify(entry.chunk, &mut record).is_ok()
            {
                mended.insert(entry.chunk);
            }
        }
        let better: Vec<IndexEntry> =
            table.iter().chain(found.into_iter().filter(|entry| mended.contains(&entry.chunk))).collect();
        if mended.is_empty() {
            return Ok(());
        }
        let index = IndexTable::build(pack, table.pack_len(), &better);
        match store_index(self.core.disk.as_ref(), &index) {
            Ok(()) => {
                self.core.forget_pack(pack);
                self.progress.tally.indexes_mended += 1;
                failed.retain(|(chunk, _)| !mended.contains(chunk));
            }
            Err(error) => tracing::warn!(%pack, %error, "can't store a completed index"),
        }
        Ok(())
    }

    /// A record is not what was written.
    fn damaged(&mut self, pack: PackId, chunk: ChunkId, reason: &str) -> Step<()> {
        let needed = self.core.chunk_record(chunk)?.is_some_and(|record| record.refcount > 0 && record.pack == pack);
        if needed {
            self.progress.tally.damaged += 1;
            self.core.damage.note(chunk, pack, reason);
        } else {
            self.progress.tally.dead_damaged += 1;
        }
        Ok(())
    }

    /// A pack can't be read at all: every chunk that is needed of it is damaged.
    fn lost(&mut self, pack: PackId, error: &PackError) -> Step<()> {
        if self.core.known_pack(pack)?.is_none_or(|record| record.blocks == record.dead_blocks) {
            return Ok(());
        }
        tracing::error!(%pack, %error, "scrub can't read a pack");
        let mut lost = Vec::new();
        let mut count = 0;
        let mut damaged = None;
        self.core.meta.scan(&KeyRange::prefix(&[CHUNK]), Direction::Forward, &mut |key, value| {
            let chunk = key.strip_prefix(&[CHUNK]).and_then(|id| id.try_into().ok()).map(ChunkId);
            match (chunk, ChunkRecord::decode(value)) {
                (Some(chunk), Ok(record)) if record.pack == pack && record.refcount > 0 => {
                    count += 1;
                    if lost.len() < NAMED_MAX {
                        lost.push(chunk);
                    }
                }
                (Some(_), Ok(_)) => {}
                (_, decoded) => damaged = Some(MetaError::Corrupt(format!("chunk record {key:02x?}: {decoded:?}"))),
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = damaged {
            tracing::error!(%error, "a record of a chunk is damaged");
        }
        self.progress.tally.damaged += count;
        for chunk in lost {
            self.core.damage.note(chunk, pack, &error.to_string());
        }
        Ok(())
    }
}

/// Splits entries, which rise by their offsets, into stretches to be read at once.
fn parts(entries: &[IndexEntry]) -> impl Iterator<Item = &[IndexEntry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let start = u64::from(first.offset);
        let mut end = end_of(first);
        let more = rest[1..].iter().take_while(|next| {
            let near = u64::from(next.offset) <= end + GAP_MAX_BYTES && end_of(next) - start <= READ_MAX_BYTES;
            end = end.max(end_of(next));
            near
        });
        let (part, behind) = rest.split_at(1 + more.count());
        rest = behind;
        Some(part)
    })
}
