//! The chunk changes of one transaction group.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Sender;
use rustc_hash::FxHashMap;
use verfs_base::{ChunkId, PackId};
use verfs_format::chunk_record::{ChunkRecord, chunk_key};
use verfs_format::pack::CHUNK_MAX_BYTES;
use verfs_meta::WriteBatch;

use crate::accounts::Statement;
use crate::appender::Placed;
use crate::ledger::{Imbalance, Ledger, PackDelta, Prefer};
use crate::pipeline::{BatchStatus, Data, Inbound, StoreJob, Ticket, Work};
use crate::slot::Turn;
use crate::{ChunkStore, Result, StoreError, StoredBlock};

/// Chunks are looked up in the metadata this many at a time.
const LOOKUP_MAX_CHUNKS: usize = 64;
/// ... or when they hold this much, so that the workers don't starve.
const LOOKUP_MAX_BYTES: u64 = 512 << 10;
/// A job of the workers has at least this much where possible: waking a thread costs as much as compressing some KiB.
const JOB_BYTES: u64 = 128 << 10;
/// Records that are read at once when the batch is settled.
const SETTLE_CHUNKS: usize = 1024;

/// Whether a chunk is looked up before it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indexed {
    /// Looked up first: a chunk that the volume has already is not stored again.
    Yes,
    /// A small patch chunk, unlikely to be there already: stored without a look-up on the way. It is content
    /// addressed and counted all the same; if the volume had it already, the new copy is dead at once.
    PatchOnly,
}

/// New chunks and reference changes of one transaction group.
///
/// Dropping it without [`ChunkBatch::committed`] undoes everything in memory; bytes that reached packs are garbage.
/// After an error, every later call on the batch answers the same error: drop it, begin another one, put again.
pub struct ChunkBatch {
    store: Arc<ChunkStore>,
    work: Option<Sender<Work>>,
    status: Arc<BatchStatus>,
    changes: FxHashMap<ChunkId, Change>,
    waiting: Vec<Inbound>,
    waiting_bytes: u64,
    job: Vec<Inbound>,
    job_bytes: u64,
    hits: u64,
    misses: u64,
    stage: Stage,
    /// Dropped last: then the next batch may begin.
    _turn: Turn,
}

/// What the batch knows about a chunk.
struct Change {
    references: i64,
    content: Content,
    earlier: Earlier,
    placed: Option<Placed>,
}

/// What became of the chunk's bytes in this batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// They were not put: only references change.
    NotPut,
    /// They wait for the look-up.
    Waiting,
    /// The volume has them.
    Found,
    /// They are on their way into a pack.
    Stored,
}

/// The committed record of the chunk.
#[derive(Clone, Copy)]
enum Earlier {
    NotRead,
    Read(Option<ChunkRecord>),
}

enum Stage {
    Filling,
    Finished(Option<Statement>),
    Ended,
}

impl ChunkBatch {
    pub(crate) fn new(store: Arc<ChunkStore>, work: Option<Sender<Work>>, turn: Turn) -> Self {
        let status = BatchStatus::default();
        if work.is_none() {
            status.fail(StoreError::Closed);
        }
        store.core.appender.begin_batch();
        ChunkBatch {
            store,
            work,
            status: Arc::new(status),
            changes: FxHashMap::default(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            job: Vec::new(),
            job_bytes: 0,
            hits: 0,
            misses: 0,
            stage: Stage::Filling,
            _turn: turn,
        }
    }

    /// Stores `data` (one chunk, 1 byte to 16 MiB) and takes 1 reference. Compression and appending go on in worker
    /// threads; waits only while the pipeline holds too many bytes already.
    ///
    /// # Errors
    /// [`StoreError`]: of this chunk or of an earlier one of this batch.
    pub fn put(&mut self, data: Bytes, indexed: Indexed) -> Result<ChunkId> {
        self.status.check()?;
        if data.is_empty() || data.len() > CHUNK_MAX_BYTES as usize {
            return Err(StoreError::ChunkLength { len: data.len() });
        }
        let id = self.store.id_of(&data);
        self.put_as(id, Data::Raw(data), indexed).inspect_err(|error| self.status.fail(error.clone()))?;
        Ok(id)
    }

    /// Stores a chunk as another volume stored it, and takes 1 reference. Nobody checks that it is the one of this id: a
    /// vault's chunks are bound to theirs by their seals.
    ///
    /// # Errors
    /// As [`ChunkBatch::put`].
    pub fn put_stored(&mut self, id: ChunkId, block: StoredBlock) -> Result<()> {
        self.status.check()?;
        self.put_as(id, Data::Block(block), Indexed::Yes).inspect_err(|error| self.status.fail(error.clone()))
    }

    /// Takes `count` more references of a chunk that this batch puts, or that has references in the volume as it was
    /// when the last batch was committed: one without references may be reclaimed before this batch begins.
    pub fn add_reference(&mut self, id: ChunkId, count: u32) {
        self.change(id).references += i64::from(count);
    }

    /// Gives back `count` references of a chunk. At 0 the chunk stays readable until space is reclaimed.
    pub fn drop_reference(&mut self, id: ChunkId, count: u32) {
        self.change(id).references -= i64::from(count);
    }

    /// Waits for the pipeline, makes the packs durable, then adds chunk, pack and counter records to `batch`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was added to `batch` then.
    pub fn finish(&mut self, batch: &mut WriteBatch) -> Result<()> {
        self.try_finish(batch).inspect_err(|error| self.status.fail(error.clone()))
    }

    /// The records that [`ChunkBatch::finish`] added are committed in the metadata engine, durable or not: whatever the
    /// store counts from now on is beside them. From here on chunks that the batch gave back may be reclaimed: who looks
    /// for chunks must not find them any more, or look again when one is [`StoreError::Missing`].
    pub fn committed(mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match stage {
            Stage::Finished(Some(statement)) => {
                let core = &self.store.core;
                core.accounts.lock().committed(statement);
                for (id, change) in &self.changes {
                    if change.placed.is_some() {
                        core.damage.forget(*id);
                    }
                }
                self.seal_full_packs();
            }
            Stage::Finished(None) | Stage::Ended => {}
            // Nothing was committed that finish did not add.
            stage @ Stage::Filling => self.stage = stage,
        }
    }

    fn put_as(&mut self, id: ChunkId, data: Data, indexed: Indexed) -> Result<()> {
        match self.changes.entry(id) {
            Entry::Occupied(mut known) => {
                let change = known.get_mut();
                change.references += 1;
                if change.content != Content::NotPut {
                    self.hits += 1;
                    return Ok(());
                }
                change.content = Content::Waiting;
            }
            Entry::Vacant(new) => {
                let content = match indexed {
                    Indexed::Yes => Content::Waiting,
                    Indexed::PatchOnly => Content::Stored,
                };
                new.insert(Change { references: 1, content, earlier: Earlier::NotRead, placed: None });
                if content == Content::Stored {
                    self.misses += 1;
                    let ticket = self.enter_gate(data.raw_len() as u64)?;
                    self.store_chunk(Inbound { id, data, ticket })?;
                    return Ok(());
                }
            }
        }
        let ticket = self.enter_gate(data.raw_len() as u64)?;
        self.waiting_bytes += data.raw_len() as u64;
        self.waiting.push(Inbound { id, data, ticket });
        if self.waiting.len() >= LOOKUP_MAX_CHUNKS || self.waiting_bytes >= LOOKUP_MAX_BYTES {
            self.look_up()?;
        }
        Ok(())
    }

    fn change(&mut self, id: ChunkId) -> &mut Change {
        self.changes.entry(id).or_insert(Change {
            references: 0,
            content: Content::NotPut,
            earlier: Earlier::NotRead,
            placed: None,
        })
    }

    fn enter_gate(&mut self, bytes: u64) -> Result<Ticket> {
        if let Some(ticket) = self.store.core.gate.try_enter(bytes) {
            return Ok(ticket);
        }
        // What is collected here is inside the gate, too: it has to move on before this can wait.
        self.look_up()?;
        self.send_job()?;
        Ok(self.store.core.gate.enter(bytes))
    }

    /// Asks for the chunks that wait; what the volume doesn't have goes to the workers.
    fn look_up(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let ids: Vec<ChunkId> = waiting.iter().map(|inbound| inbound.id).collect();
        let records = self.store.core.chunk_records(&ids)?;
        for (inbound, record) in waiting.into_iter().zip(records) {
            let usable = record.is_some_and(|record| self.is_usable(inbound.id, &record, inbound.data.raw_len()));
            let change = self.change(inbound.id);
            change.earlier = Earlier::Read(record);
            if usable {
                change.content = Content::Found;
                self.hits += 1;
            } else {
                change.content = Content::Stored;
                self.misses += 1;
                self.store_chunk(inbound)?;
            }
        }
        Ok(())
    }

    /// Whether the copy that the volume has may stand for the chunk.
    fn is_usable(&self, id: ChunkId, record: &ChunkRecord, len: usize) -> bool {
        record.raw_len as usize == len && !self.store.core.damage.contains(id)
    }

    /// Hands a chunk to the workers.
    fn store_chunk(&mut self, inbound: Inbound) -> Result<()> {
        self.job_bytes += inbound.data.raw_len() as u64;
        self.job.push(inbound);
        if self.job_bytes >= JOB_BYTES { self.send_job() } else { Ok(()) }
    }

    fn send_job(&mut self) -> Result<()> {
        if self.job.is_empty() {
            return Ok(());
        }
        self.job_bytes = 0;
        let job = StoreJob { chunks: std::mem::take(&mut self.job), status: Arc::clone(&self.status) };
        let sent = self.work.as_ref().is_some_and(|work| work.send(Work::Store(job)).is_ok());
        if sent { Ok(()) } else { Err(StoreError::Closed) }
    }

    fn try_finish(&mut self, batch: &mut WriteBatch) -> Result<()> {
        self.status.check()?;
        if !matches!(self.stage, Stage::Filling) {
            return Err(StoreError::Closed);
        }
        self.look_up()?;
        self.send_job()?;
        // While the workers go on.
        self.read_records()?;
        let core = Arc::clone(&self.store.core);
        core.gate.wait_empty();
        self.status.check()?;
        for placed in core.appender.placed() {
            self.change(placed.entry.chunk).placed = Some(placed);
        }
        let mut ledger = Ledger::default();
        let mut records = Vec::with_capacity(self.changes.len());
        for (id, change) in &self.changes {
            if let Some(record) = self.settle(&mut ledger, *id, change) {
                records.push((*id, record));
            }
        }
        let (record, pending) = {
            let accounts = core.accounts.lock();
            (accounts.record().clone(), accounts.pending().clone())
        };
        if records.is_empty() && pending.is_empty() && self.hits == 0 {
            self.stage = Stage::Finished(None);
            return Ok(());
        }
        let mut statement = Statement::draw_up(core.meta.as_ref(), record, pending, ledger.packs, &ledger.totals)?;
        // From here on nothing fails but the disk.
        core.appender.sync_batch()?;
        let current = core.current_record();
        statement.record.next_pack = current.next_pack;
        statement.record.unsealed = current.unsealed;
        statement.record.dedup_hits += self.hits;
        statement.record.dedup_misses += self.misses;
        for (id, record) in records {
            batch.put(Bytes::copy_from_slice(&chunk_key(id)), record.encode());
        }
        statement.write(batch);
        self.stage = Stage::Finished(Some(statement));
        Ok(())
    }

    /// Reads the records that no look-up has read.
    fn read_records(&mut self) -> Result<()> {
        let unread: Vec<ChunkId> = self
            .changes
            .iter()
            .filter(|(_, change)| matches!(change.earlier, Earlier::NotRead) && change.is_change())
            .map(|(id, _)| *id)
            .collect();
        for ids in unread.chunks(SETTLE_CHUNKS) {
            let records = self.store.core.chunk_records(ids)?;
            for (id, record) in ids.iter().zip(records) {
                self.change(*id).earlier = Earlier::Read(record);
            }
        }
        Ok(())
    }

    fn settle(&self, ledger: &mut Ledger, id: ChunkId, change: &Change) -> Option<ChunkRecord> {
        let earlier = match change.earlier {
            Earlier::NotRead => None,
            Earlier::Read(record) => record,
        };
        let stored = change.placed.map(|placed| placed.record());
        if stored.is_none() && change.references == 0 {
            return None;
        }
        let prefer = match (&earlier, &stored) {
            (Some(earlier), Some(stored)) if !self.is_usable(id, earlier, stored.raw_len as usize) => Prefer::Stored,
            (Some(_) | None, Some(_) | None) => Prefer::Earlier,
        };
        let (record, imbalance) = ledger.settle(change.references, earlier, stored, prefer);
        let pack = record.or(earlier).map_or(PackId(0), |record| record.pack);
        match imbalance {
            None => {}
            // The volume goes on: stopping every write would not bring the references back.
            Some(Imbalance::NoRecord) if change.references < 0 => {
                tracing::error!(chunk = %id, "references were given back of a chunk that has no record");
            }
            Some(Imbalance::NoRecord) => {
                self.store.core.damage.note(id, pack, "it is referenced and has no record");
            }
            Some(Imbalance::BelowZero) => {
                tracing::error!(chunk = %id, %pack, "more references were given back than there were");
            }
        }
        record
    }

    fn seal_full_packs(&self) {
        for pack in self.store.core.claim_full_packs() {
            let sent = self.work.as_ref().is_some_and(|work| work.try_send(Work::Seal(Arc::clone(&pack))).is_ok());
            if !sent {
                pack.release_sealing();
            }
        }
    }
}

impl Change {
    /// Whether anything is to be settled.
    fn is_change(&self) -> bool {
        self.references != 0 || self.content == Content::Stored
    }
}

impl Drop for ChunkBatch {
    fn drop(&mut self) {
        let core = &self.store.core;
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Filling => {
                self.status.fail(StoreError::Closed);
                self.waiting.clear();
                self.job.clear();
                core.gate.wait_empty();
                core.appender.undo_batch();
                self.seal_full_packs();
            }
            // The blocks are durable and readable. Whether the records were committed after all only the metadata
            // engine knows, so the blocks stay where they are.
            Stage::Finished(Some(_)) => {
                let mut accounts = core.accounts.lock();
                for placed in self.changes.values().filter_map(|change| change.placed) {
                    accounts.change_pack(placed.pack, &PackDelta::dead_block(placed.record().block_bytes()));
                }
                drop(accounts);
                self.seal_full_packs();
            }
            Stage::Finished(None) | Stage::Ended => {}
        }
    }
}
