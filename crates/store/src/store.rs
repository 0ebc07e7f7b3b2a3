//! A volume's chunk store: open, read, close.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::{ChunkId, Clock, Disk, GroupId, Ino};
use verfs_format::pack::PACK_MAX_BYTES;
use verfs_format::{DecodeError, FrameBuilder, FrameHeader, LogEntry};
use verfs_meta::MetaStore;
use verfs_pack::{BlockDecoder, StoredBlock};

use crate::accounts::Accounts;
use crate::core::Core;
use crate::gc::Collector;
use crate::pipeline::Workers;
use crate::recovery::load_record;
use crate::slot::Slot;
use crate::stretch::Stretch;
use crate::{ChunkBackend, ChunkBatch, Damage, Result, StoreError, StoreOptions, StoreStats};

/// Share of the chunk cache for what is read ahead.
const AHEAD_SHARE_ONE_IN: u64 = 5;

/// The chunks of one volume. Used through `Arc`, from any thread.
pub struct ChunkStore {
    pub(crate) core: Arc<Core>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) collector: Mutex<Collector>,
    backend: ChunkBackend,
    workers: Mutex<Option<Workers>>,
}

impl ChunkStore {
    /// Opens the store of a volume's own chunks, as [`ChunkStore::open_backend`] does.
    ///
    /// # Errors
    /// As there.
    pub fn open(
        disk: Arc<dyn Disk>,
        meta: Arc<dyn MetaStore>,
        secret: &[u8; 192],
        clock: Arc<dyn Clock>,
        options: StoreOptions,
    ) -> Result<Arc<ChunkStore>> {
        ChunkStore::open_backend(disk, meta, ChunkBackend::plain(secret), clock, options)
    }

    /// Opens the store in `packs/` under the disk's root and starts its worker threads. Packs that the last run left
    /// unsealed are scanned and sealed; chunks in what can't be read are [`StoreError::Damaged`] when they are read.
    ///
    /// # Errors
    /// [`StoreError::Option`] for options that can't work, else what the disk or the metadata engine says.
    pub fn open_backend(
        disk: Arc<dyn Disk>,
        meta: Arc<dyn MetaStore>,
        backend: ChunkBackend,
        clock: Arc<dyn Clock>,
        options: StoreOptions,
    ) -> Result<Arc<ChunkStore>> {
        options.check()?;
        let record = load_record(disk.as_ref(), meta.as_ref(), options.leftovers)?;
        let decoder = BlockDecoder::new(backend.record_seed(), backend.block_seal());
        let core = Arc::new(Core::new(disk, meta, decoder, clock, &options, Accounts::new(record))?);
        let collector = core.recover()?;
        let workers = Workers::start(&core, options.compress_threads, backend.compression(&options))?;
        Ok(Arc::new(ChunkStore {
            core,
            backend,
            slot: Arc::new(Slot::default()),
            collector: Mutex::new(collector),
            workers: Mutex::new(Some(workers)),
        }))
    }

    /// The identity of a chunk of these bytes in this volume: XXH3-128 keyed with the volume's secret, big-endian; in a
    /// vault 128 bits of BLAKE3, keyed.
    #[must_use]
    pub fn id_of(&self, data: &[u8]) -> ChunkId {
        self.backend.chunk_id(data)
    }

    /// What stands for a name in a directory: the identity of its bytes; in a vault keyed with the directory, too.
    #[must_use]
    pub fn name_id(&self, directory: Ino, name: &[u8]) -> ChunkId {
        self.backend.name_id(directory, name)
    }

    /// A frame of the intent log as it is to be written; in a vault sealed.
    ///
    /// # Errors
    /// A vault's: it is locked, or there are no random bytes.
    pub fn finish_frame(&self, frame: FrameBuilder, group: GroupId, sequence: u64) -> Result<Vec<u8>> {
        self.backend.finish_frame(frame, group, sequence)
    }

    /// Reads what [`ChunkStore::finish_frame`] made.
    ///
    /// # Errors
    /// [`DecodeError`]: it is no frame of this volume.
    pub fn read_frame(&self, frame: &[u8]) -> std::result::Result<(FrameHeader, Vec<LogEntry>), DecodeError> {
        self.backend.read_frame(frame)
    }

    /// Begins the references of one transaction group. There is one batch at a time: this waits until the previous
    /// one was committed or dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> ChunkBatch {
        let turn = self.slot.take();
        let work = self.workers.lock().as_ref().filter(|_| turn.is_real()).map(|workers| workers.work.clone());
        ChunkBatch::new(Arc::clone(self), work, turn)
    }

    /// The whole chunk, verified and decompressed, from cache or disk. Reads never wait for writers.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Missing`], or what the disk or the metadata engine says.
    pub fn read(&self, id: ChunkId) -> Result<Bytes> {
        self.core.read(id)
    }

    /// The chunk as it is stored, verified as far as that needs no key.
    ///
    /// # Errors
    /// As [`ChunkStore::read`].
    pub fn stored(&self, id: ChunkId) -> Result<StoredBlock> {
        self.core.stored(id)
    }

    /// The whole chunk if it is in memory.
    #[must_use]
    pub fn cached(&self, id: ChunkId) -> Option<Bytes> {
        let data = self.core.cache.get(&id)?;
        self.core.cache_hits.fetch_add(1, Ordering::Relaxed);
        Some(data)
    }

    /// The chunks in the order of `ids`, as [`ChunkStore::read`] answers each; what is not in memory is read in large
    /// stretches and decompressed by the caller and the store's threads together. `ahead` are chunks that will be read
    /// next, as in [`ChunkStore::prefetch`].
    ///
    /// # Errors
    /// As [`ChunkStore::read`], of the first chunk that can't be read.
    pub fn read_many(&self, ids: &[ChunkId], ahead: &[ChunkId]) -> Result<Vec<Bytes>> {
        let mut stretches = if ids.len() > 1 { self.core.locate(ids).into_iter() } else { Vec::new().into_iter() };
        let mine = stretches.next();
        self.send_ahead(stretches);
        self.prefetch(ahead);
        if let Some(stretch) = mine {
            self.core.load_stretch(&stretch);
        }
        ids.iter().map(|id| self.core.read(*id)).collect()
    }

    /// Hint: these chunks will be read soon. They are decompressed into the cache on the store's worker threads; hints
    /// are dropped when too many wait. May read a pack's index, nothing else.
    pub fn prefetch(&self, ids: &[ChunkId]) {
        if !ids.is_empty() && self.core.check_open().is_ok() {
            let stretches = self.core.locate(ids);
            self.core.begin_reads(&stretches);
            self.send_ahead(stretches.into_iter());
        }
    }

    /// How many bytes all readers together may read ahead without driving each other's chunks out of the cache.
    #[must_use]
    pub fn read_ahead_max_bytes(&self) -> u64 {
        self.core.room.cache_bytes() / AHEAD_SHARE_ONE_IN
    }

    fn send_ahead(&self, stretches: impl ExactSizeIterator<Item = Stretch>) {
        if stretches.len() == 0 {
            return;
        }
        let Some(ahead) = self.workers.lock().as_ref().map(|workers| workers.ahead.clone()) else { return };
        for stretch in stretches {
            if ahead.try_send(stretch).is_err() {
                return;
            }
        }
    }

    /// Bounds the cache of chunks anew; what is too much leaves it at once.
    pub fn set_chunk_cache_bytes(&self, bytes: u64) {
        self.core.room.set_cache_bytes(bytes, &self.core.cache);
    }

    /// Says how many bytes wait elsewhere to be written. The cache of chunks gives way to them, down to two fifths of it: who
    /// writes much at once needs memory more than who reads.
    pub fn give_way_to(&self, unwritten_bytes: u64) {
        self.core.room.set_unwritten_bytes(unwritten_bytes, &self.core.cache);
    }

    /// Figures; no scan, no I/O.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let inside = self.core.gate.inside();
        let accounts = self.core.accounts.lock();
        let record = accounts.record();
        StoreStats {
            chunks: record.chunks,
            unique_bytes: record.unique_bytes,
            stored_bytes: record.stored_bytes,
            dead_bytes: record.dead_bytes,
            packs: record.packs,
            dedup_hits: record.dedup_hits,
            dedup_misses: record.dedup_misses,
            chunk_cache_hits: self.core.cache_hits.load(Ordering::Relaxed),
            chunk_cache_misses: self.core.cache_misses.load(Ordering::Relaxed),
            chunk_cache_bytes: self.core.cache.weight(),
            inflight_bytes: inside.bytes,
            queue_depth: inside.chunks,
            damaged: self.core.damage.met(),
        }
    }

    /// The damaged chunks met since the store was opened, oldest first; a bounded list.
    #[must_use]
    pub fn damaged(&self) -> Vec<Damage> {
        self.core.damage.list()
    }

    /// Seals the open pack and joins the worker threads; waits for a batch that is not ended yet. Every later call
    /// answers [`StoreError::Closed`]. Calling it twice is no error. The metadata engine must still be open, and be
    /// synced afterwards.
    ///
    /// # Errors
    /// What the metadata engine says; the threads are joined all the same, and the next open makes up for it.
    pub fn close(&self) -> Result<()> {
        if !self.slot.close() {
            return Ok(());
        }
        self.core.closed.store(true, Ordering::Release);
        if let Some(workers) = self.workers.lock().take() {
            workers.join();
        }
        self.core.appender.close_pack();
        // A collection that is under way sees that the store is closed.
        self.collector.lock().close_output(&self.core);
        for pack in self.core.claim_full_packs() {
            self.core.seal(&pack);
        }
        let written = self.core.write_pending();
        // Whoever holds on to a closed store holds no content.
        self.core.cache.clear();
        written
    }
}

impl Drop for ChunkStore {
    fn drop(&mut self) {
        // Without close() nothing is sealed, as in a crash; but no thread outlives its store.
        self.core.closed.store(true, Ordering::Release);
        if let Some(workers) = self.workers.lock().take() {
            workers.join();
        }
    }
}

impl StoreOptions {
    fn check(&self) -> Result<()> {
        let refuse = |option: &'static str, reason: &str| Err(StoreError::Option { option, reason: reason.to_owned() });
        if self.pack_target_bytes == 0 || self.pack_target_bytes > PACK_MAX_BYTES / 2 {
            return refuse("pack_target_bytes", "a pack has 1 byte to 1 GiB");
        }
        if self.compress_threads == 0 {
            return refuse("compress_threads", "at least one thread has to compress");
        }
        if self.inflight_bytes == 0 {
            return refuse("inflight_bytes", "something must be allowed into the pipeline");
        }
        Ok(())
    }
}
