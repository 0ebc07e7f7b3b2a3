//! What the store's callers and its worker threads share, and the way of a read through it:
//! chunk cache, packs that were used last, chunk record, pack index, pack.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder};
use verfs_base::{ChunkId, Clock, Disk, PackId, Timestamp};
use verfs_format::chunk_record::{ChunkRecord, chunk_key};
use verfs_meta::{MetaError, MetaStore};
use verfs_pack::{BlockDecoder, IndexEntry, IndexTable, PackError, SealedPacks, StoredBlock};

use crate::accounts::Accounts;
use crate::appender::Appender;
use crate::cache_room::{CacheRoom, ChunkBytes};
use crate::damage::DamageLog;
use crate::live::LivePacks;
use crate::pipeline::Gate;
use crate::{Result, StoreError, StoreOptions};

/// Chunk size from which the cache guesses its number of entries.
const TYPICAL_CHUNK_BYTES: u64 = 32 << 10;
/// Share of the chunk cache for chunks that were hit twice; the rest is for what was read, or read ahead, just now.
const CACHE_HOT_SHARE: f64 = 0.5;
/// Sealed packs whose indexes are asked before the metadata: those that the last reads came from. Of default packs it is a
/// gibibyte that is read at random without a look at the metadata, for less than a mebibyte of memory.
const RECENT_PACKS: usize = 16;

pub(crate) struct Core {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) decoder: Arc<BlockDecoder>,
    pub(crate) sealed: SealedPacks,
    pub(crate) live: Arc<LivePacks>,
    pub(crate) appender: Appender,
    pub(crate) accounts: Mutex<Accounts>,
    pub(crate) damage: DamageLog,
    pub(crate) gate: Arc<Gate>,
    pub(crate) closed: AtomicBool,
    /// Packs with lower numbers are collected whatever is dead in them, and their blocks sealed anew.
    pub(crate) reseal_before: AtomicU64,
    pub(crate) cache: Cache<ChunkId, Bytes, ChunkBytes>,
    pub(crate) room: CacheRoom,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) cache_misses: AtomicU64,
    /// Buffers of reads of several blocks.
    pub(crate) spare_buffers: Mutex<Vec<Vec<u8>>>,
    recent: RwLock<VecDeque<Arc<IndexTable>>>,
}

impl Core {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        meta: Arc<dyn MetaStore>,
        decoder: BlockDecoder,
        clock: Arc<dyn Clock>,
        options: &StoreOptions,
        accounts: Accounts,
    ) -> Result<Core> {
        let cache_options = OptionsBuilder::new()
            .estimated_items_capacity((options.chunk_cache_bytes / TYPICAL_CHUNK_BYTES).max(1) as usize)
            .weight_capacity(options.chunk_cache_bytes)
            .hot_allocation(CACHE_HOT_SHARE)
            .build()
            .map_err(|error| StoreError::Option { option: "chunk_cache_bytes", reason: error.to_string() })?;
        let decoder = Arc::new(decoder);
        let live = Arc::new(LivePacks::default());
        Ok(Core {
            sealed: SealedPacks::new(
                Arc::clone(&disk),
                Arc::clone(&decoder),
                options.pack_index_cache_bytes,
                options.open_packs,
            ),
            appender: Appender::new(
                Arc::clone(&disk),
                Arc::clone(&live),
                options.pack_target_bytes,
                accounts.record().next_pack,
            ),
            disk,
            meta,
            decoder,
            live,
            accounts: Mutex::new(accounts),
            damage: DamageLog::new(clock),
            gate: Arc::new(Gate::new(options.inflight_bytes)),
            closed: AtomicBool::new(false),
            reseal_before: AtomicU64::new(0),
            cache: Cache::with_options(
                cache_options,
                ChunkBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            room: CacheRoom::new(options.chunk_cache_bytes),
            cache_hits: AtomicU64::new(0),
            cache_misses: AtomicU64::new(0),
            spare_buffers: Mutex::new(Vec::new()),
            recent: RwLock::new(VecDeque::with_capacity(RECENT_PACKS)),
        })
    }

    /// The chunk, from the cache or a pack. Of several readers that miss the same chunk one reads it.
    pub(crate) fn read(&self, chunk: ChunkId) -> Result<Bytes> {
        self.check_open()?;
        let mut loaded = false;
        let data = self.cache.get_or_insert_with(&chunk, || {
            loaded = true;
            self.load(chunk)
        });
        let counter = if loaded { &self.cache_misses } else { &self.cache_hits };
        counter.fetch_add(1, Ordering::Relaxed);
        data
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn load(&self, chunk: ChunkId) -> Result<Bytes> {
        let data = self.find_and_load(chunk)?;
        if self.damage.contains(chunk) {
            // The cause went away: a disk that failed for a while, or too many open files.
            self.damage.forget(chunk);
        }
        Ok(data)
    }

    fn find_and_load(&self, chunk: ChunkId) -> Result<Bytes> {
        // Any pack that has the chunk will do: its block is checked. A bad one may have a good one elsewhere.
        if let Some(data) = self.load_from_recent(chunk) {
            return Ok(data);
        }
        self.find_in_packs(chunk, |pack| self.load_from(pack, chunk))
    }

    /// The block of a chunk as it is stored.
    pub(crate) fn stored(&self, chunk: ChunkId) -> Result<StoredBlock> {
        self.check_open()?;
        self.find_in_packs(chunk, |pack| {
            let absent = || PackError::Damaged { pack, detail: "the chunk is not in its pack".to_owned() };
            if let Some(live) = self.live.get(pack) {
                return live.reader.read_stored(&self.decoder, live.find(chunk).ok_or_else(absent)?);
            }
            let entry = self.sealed.index(pack)?.find(chunk).ok_or_else(absent)?;
            self.sealed.reader(pack)?.read_stored(&self.decoder, entry)
        })
    }

    fn find_in_packs<T>(
        &self,
        chunk: ChunkId,
        read: impl Fn(PackId) -> std::result::Result<T, PackError>,
    ) -> Result<T> {
        let record = self.chunk_record(chunk)?.ok_or(StoreError::Missing { chunk })?;
        let mut pack = record.pack;
        loop {
            let error = match read(pack) {
                Ok(data) => return Ok(data),
                // That says nothing of the chunk.
                Err(PackError::OutOfFiles { .. }) => return Err(StoreError::OutOfFiles),
                Err(error) => error,
            };
            // The chunk may have been moved, or reclaimed, since the record was read.
            let now = self.chunk_record(chunk)?.ok_or(StoreError::Missing { chunk })?;
            if now.pack == pack {
                self.damage.note(chunk, pack, &error.to_string());
                return Err(StoreError::of_chunk(chunk, error));
            }
            pack = now.pack;
        }
    }

    /// The time of day.
    pub(crate) fn now(&self) -> Timestamp {
        self.damage.now()
    }

    /// The chunk's committed record.
    pub(crate) fn chunk_record(&self, chunk: ChunkId) -> Result<Option<ChunkRecord>> {
        self.meta.get(&chunk_key(chunk))?.map(|value| decode_chunk_record(chunk, &value)).transpose()
    }

    fn load_from_recent(&self, chunk: ChunkId) -> Option<Bytes> {
        if let Some((pack, entry)) = self.live.find(chunk) {
            return pack.reader.read(&self.decoder, entry).ok();
        }
        let (pack, entry) = self.find_recent(chunk)?;
        self.sealed.read(pack, entry).ok()
    }

    pub(crate) fn find_recent(&self, chunk: ChunkId) -> Option<(PackId, IndexEntry)> {
        let recent = self.recent.read();
        recent.iter().find_map(|table| table.find(chunk).map(|entry| (table.pack(), entry)))
    }

    fn load_from(&self, pack: PackId, chunk: ChunkId) -> std::result::Result<Bytes, PackError> {
        let absent = || PackError::Damaged { pack, detail: "the chunk is not in its pack".to_owned() };
        if let Some(live) = self.live.get(pack) {
            let entry = live.find(chunk).ok_or_else(absent)?;
            return live.reader.read(&self.decoder, entry);
        }
        let table = self.sealed.index(pack)?;
        let entry = table.find(chunk).ok_or_else(absent)?;
        let data = self.sealed.read(pack, entry)?;
        self.note_recent(table);
        Ok(data)
    }

    /// Puts the index to the front of those that are asked first.
    pub(crate) fn note_recent(&self, table: Arc<IndexTable>) {
        let mut recent = self.recent.write();
        recent.retain(|other| other.pack() != table.pack());
        recent.truncate(RECENT_PACKS - 1);
        recent.push_front(table);
    }

    /// The pack's files are gone: its index is asked no more, and nothing keeps its file open.
    pub(crate) fn forget_pack(&self, pack: PackId) {
        self.recent.write().retain(|table| table.pack() != pack);
        self.sealed.forget(pack);
    }

    /// Reads records of chunks, in the order of the ids.
    pub(crate) fn chunk_records(&self, chunks: &[ChunkId]) -> Result<Vec<Option<ChunkRecord>>> {
        let mut keys = Vec::with_capacity(chunks.len() * chunk_key(ChunkId([0; 16])).len());
        for chunk in chunks {
            keys.extend_from_slice(&chunk_key(*chunk));
        }
        let keys = Bytes::from(keys);
        let width = keys.len() / chunks.len().max(1);
        let keys: Vec<Bytes> = (0..chunks.len()).map(|at| keys.slice(at * width..(at + 1) * width)).collect();
        let values = self.meta.multi_get(&keys)?;
        chunks
            .iter()
            .zip(values)
            .map(|(chunk, value)| value.map(|value| decode_chunk_record(*chunk, &value)).transpose())
            .collect()
    }
}

fn decode_chunk_record(chunk: ChunkId, value: &[u8]) -> Result<ChunkRecord> {
    ChunkRecord::decode(value).map_err(|error| MetaError::Corrupt(format!("record of chunk {chunk}: {error}")).into())
}
