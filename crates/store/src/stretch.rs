//! Reading many chunks at once: chunks that lie near each other in a pack are read with one read, and several such
//! stretches are decompressed by as many threads (docs/decisions/0011-read-ahead.md).

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::GuardResult;
use verfs_base::{ChunkId, PackId};
use verfs_format::pack::record_bytes;
use verfs_pack::IndexEntry;

use crate::core::Core;
use crate::live::LivePack;

/// Blocks of one stretch: about 0.2 ms of decompression, worth the waking of a thread.
const STRETCH_MAX_BLOCKS: usize = 16;
/// Length of a stretch in its pack.
const STRETCH_MAX_BYTES: u32 = 512 << 10;
/// Bytes of other chunks between two blocks that are read rather than passed over by a second read.
const GAP_MAX_BYTES: u32 = 64 << 10;
/// Packs whose indexes are fetched for one list of chunks; chunks in more packs are left to their readers.
const FETCHED_INDEXES_MAX: usize = 8;
/// Buffers kept for the next stretch.
const SPARE_BUFFERS_MAX: usize = 4;

/// Blocks of one pack, by their offsets, near enough for one read.
pub(crate) struct Stretch {
    source: Source,
    entries: Vec<IndexEntry>,
}

#[derive(Clone)]
enum Source {
    Live(Arc<LivePack>),
    Sealed(PackId),
}

impl Source {
    fn pack(&self) -> PackId {
        match self {
            Source::Live(live) => live.pack,
            Source::Sealed(pack) => *pack,
        }
    }
}

impl Core {
    /// Where those of `chunks` lie that are not in the cache. One look-up in the metadata for each pack whose index was
    /// not used just now. Chunks that can't be found are left to their readers, who learn why.
    pub(crate) fn locate(&self, chunks: &[ChunkId]) -> Vec<Stretch> {
        let mut found: Vec<(Source, IndexEntry)> = Vec::with_capacity(chunks.len());
        let mut fetched = 0;
        for chunk in chunks.iter().filter(|chunk| !self.cache.contains_key(*chunk)) {
            if let Some((live, entry)) = self.live.find(*chunk) {
                found.push((Source::Live(live), entry));
                continue;
            }
            let mut place = self.find_recent(*chunk);
            if place.is_none() && fetched < FETCHED_INDEXES_MAX {
                fetched += 1;
                place = self.fetch_index_of(*chunk);
            }
            found.extend(place.map(|(pack, entry)| (Source::Sealed(pack), entry)));
        }
        split(found)
    }

    /// Brings the index of the pack that has the chunk to the front.
    fn fetch_index_of(&self, chunk: ChunkId) -> Option<(PackId, IndexEntry)> {
        let record = self.chunk_record(chunk).ok()??;
        if self.live.get(record.pack).is_some() {
            return None;
        }
        let table = self.sealed.index(record.pack).ok()?;
        let entry = table.find(chunk)?;
        self.note_recent(table);
        Some((record.pack, entry))
    }

    /// Lets the disk begin to read what is going to be loaded.
    pub(crate) fn begin_reads(&self, stretches: &[Stretch]) {
        for stretch in stretches {
            let Some((offset, len)) = stretch.range() else { continue };
            match &stretch.source {
                Source::Live(live) => live.reader.file().begin_read(offset, len),
                Source::Sealed(pack) => {
                    if let Ok(reader) = self.sealed.reader(*pack) {
                        reader.file().begin_read(offset, len);
                    }
                }
            }
        }
    }

    /// Brings the chunks of a stretch into the cache, but for those that another thread is bringing. Errors are left to
    /// the readers, who meet them again.
    pub(crate) fn load_stretch(&self, stretch: &Stretch) {
        if self.check_open().is_err() {
            return;
        }
        let mut entries = Vec::with_capacity(stretch.entries.len());
        let mut guards = Vec::with_capacity(stretch.entries.len());
        for entry in &stretch.entries {
            // Never waits: two threads with a part of each other's chunks would wait for ever.
            match self.cache.get_value_or_guard(&entry.chunk, Some(Duration::ZERO)) {
                GuardResult::Guard(guard) => {
                    entries.push(*entry);
                    guards.push(Some(guard));
                }
                GuardResult::Value(_) | GuardResult::Timeout => {}
            }
        }
        if entries.is_empty() {
            return;
        }
        let mut buffer = self.spare_buffers.lock().pop().unwrap_or_default();
        let take = |number: usize, data| {
            if let Some(guard) = guards.get_mut(number).and_then(Option::take) {
                // Refused only if the entry was removed meanwhile.
                let _ = guard.insert(data);
            }
        };
        // Whatever fails: dropping the other guards lets the readers try for themselves.
        let _ = match &stretch.source {
            Source::Live(live) => live.reader.read_stretch(&self.decoder, &entries, &mut buffer, take),
            Source::Sealed(pack) => self
                .sealed
                .reader(*pack)
                .and_then(|reader| reader.read_stretch(&self.decoder, &entries, &mut buffer, take)),
        };
        let mut spare = self.spare_buffers.lock();
        if spare.len() < SPARE_BUFFERS_MAX && buffer.len() <= STRETCH_MAX_BYTES as usize {
            spare.push(buffer);
        }
    }
}

/// Sorts blocks by their places and cuts them into stretches.
fn split(mut found: Vec<(Source, IndexEntry)>) -> Vec<Stretch> {
    found.sort_by_key(|(source, entry)| (source.pack(), entry.offset));
    let mut stretches: Vec<Stretch> = Vec::new();
    for (source, entry) in found {
        match stretches.last_mut() {
            Some(stretch) if stretch.takes(&source, entry) => stretch.entries.push(entry),
            Some(_) | None => stretches.push(Stretch { source, entries: vec![entry] }),
        }
    }
    stretches
}

impl Stretch {
    /// Where it begins in its pack, and its length.
    fn range(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.entries.first()?, self.entries.last()?);
        let end = u64::from(last.offset) + u64::from(record_bytes(last.stored_len));
        Some((u64::from(first.offset), end.saturating_sub(u64::from(first.offset))))
    }

    fn takes(&self, source: &Source, entry: IndexEntry) -> bool {
        let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) else { return true };
        let end = |entry: &IndexEntry| u64::from(entry.offset) + u64::from(record_bytes(entry.stored_len));
        self.source.pack() == source.pack()
            && self.entries.len() < STRETCH_MAX_BLOCKS
            && u64::from(entry.offset) <= end(last) + u64::from(GAP_MAX_BYTES)
            && end(&entry) - u64::from(first.offset) <= u64::from(STRETCH_MAX_BYTES)
    }
}
