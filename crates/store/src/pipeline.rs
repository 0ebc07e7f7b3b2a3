//! The worker threads: they compress and append what batches put, seal full packs and decompress ahead of readers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, select_biased};
use parking_lot::{Condvar, Mutex};
use verfs_base::ChunkId;
use verfs_pack::{BlockEncoder, Compression, StoredBlock};

use crate::core::Core;
use crate::live::LivePack;
use crate::stretch::Stretch;
use crate::{Result, StoreError};

/// Jobs that may wait; each has many chunks, and `inflight_bytes` bounds what they hold.
const WORK_MAX_JOBS: usize = 1024;
/// Stretches that may wait to be read ahead; more are dropped.
const AHEAD_MAX_STRETCHES: usize = 128;

/// A job of the worker threads.
pub(crate) enum Work {
    /// Compress and append these chunks.
    Store(StoreJob),
    /// Seal this pack.
    Seal(Arc<LivePack>),
}

/// A chunk on its way into a pack.
pub(crate) struct Inbound {
    pub(crate) id: ChunkId,
    pub(crate) data: Data,
    /// Lets the next one in when this one is stored, or dropped for whatever reason.
    pub(crate) ticket: Ticket,
}

/// What is to be stored of a chunk.
pub(crate) enum Data {
    /// Its bytes.
    Raw(Bytes),
    /// What another volume stored of it.
    Block(StoredBlock),
}

impl Data {
    /// Bytes of the chunk.
    pub(crate) fn raw_len(&self) -> usize {
        match self {
            Data::Raw(bytes) => bytes.len(),
            Data::Block(block) => block.raw_len as usize,
        }
    }
}

/// Chunks of one batch to be stored.
pub(crate) struct StoreJob {
    pub(crate) chunks: Vec<Inbound>,
    pub(crate) status: Arc<BatchStatus>,
}

/// The first thing that went wrong in a batch.
#[derive(Default)]
pub(crate) struct BatchStatus {
    error: Mutex<Option<StoreError>>,
}

impl BatchStatus {
    /// The batch can't succeed any more; the first reason counts.
    pub(crate) fn fail(&self, error: StoreError) {
        self.error.lock().get_or_insert(error);
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.error.lock().clone().map_or(Ok(()), Err)
    }
}

/// Counts what is on its way into packs, and makes `put` wait at the bound.
pub(crate) struct Gate {
    limit_bytes: u64,
    inside: Mutex<Inside>,
    changed: Condvar,
}

/// What is on its way.
#[derive(Clone, Copy, Default)]
pub(crate) struct Inside {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
}

/// A chunk's place inside the gate; given back when dropped.
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    bytes: u64,
}

impl Gate {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Gate { limit_bytes, inside: Mutex::new(Inside::default()), changed: Condvar::new() }
    }

    /// Takes a chunk in if it fits. Into nothing any chunk fits, however large.
    pub(crate) fn try_enter(self: &Arc<Self>, bytes: u64) -> Option<Ticket> {
        let mut inside = self.inside.lock();
        let fits = inside.chunks == 0 || inside.bytes + bytes <= self.limit_bytes;
        fits.then(|| inside.admit(self, bytes))
    }

    /// Waits until the chunk fits and half of the room is free, so that the two sides don't wake each other for every
    /// chunk.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64) -> Ticket {
        let mut inside = self.inside.lock();
        while inside.chunks > 0 && (!self.is_half_empty(&inside) || inside.bytes + bytes > self.limit_bytes) {
            self.changed.wait(&mut inside);
        }
        inside.admit(self, bytes)
    }

    /// Waits until nothing is on its way.
    pub(crate) fn wait_empty(&self) {
        let mut inside = self.inside.lock();
        while inside.chunks > 0 {
            self.changed.wait(&mut inside);
        }
    }

    pub(crate) fn inside(&self) -> Inside {
        *self.inside.lock()
    }

    fn is_half_empty(&self, inside: &Inside) -> bool {
        inside.bytes <= self.limit_bytes / 2
    }
}

impl Inside {
    fn admit(&mut self, gate: &Arc<Gate>, bytes: u64) -> Ticket {
        self.chunks += 1;
        self.bytes += bytes;
        Ticket { gate: Arc::clone(gate), bytes }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inside = self.gate.inside.lock();
        inside.chunks -= 1;
        inside.bytes -= self.bytes;
        if inside.chunks == 0 || self.gate.is_half_empty(&inside) {
            drop(inside);
            self.gate.changed.notify_all();
        }
    }
}

/// The running threads and the ways to them.
pub(crate) struct Workers {
    pub(crate) work: Sender<Work>,
    pub(crate) ahead: Sender<Stretch>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn start(core: &Arc<Core>, threads: usize, compression: Compression) -> Result<Workers> {
        let (work, work_queue) = bounded(WORK_MAX_JOBS);
        let (ahead, ahead_queue) = bounded(AHEAD_MAX_STRETCHES);
        let mut workers = Workers { work, ahead, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let encoder = BlockEncoder::new(core.decoder.seed(), compression, core.decoder.seal().clone())
                .map_err(|error| StoreError::Option { option: "compression_level", reason: error.to_string() })?;
            let worker = Worker { core: Arc::clone(core), encoder };
            let (work, ahead) = (work_queue.clone(), ahead_queue.clone());
            let started = Builder::new()
                .name(format!("verfs-store-{number}"))
                .spawn(move || worker.run(&work, &ahead))
                .map_err(|error| StoreError::of_disk("start a thread for", Path::new("packs"), &error));
            match started {
                Ok(thread) => workers.threads.push(thread),
                Err(error) => {
                    workers.join();
                    return Err(error);
                }
            }
        }
        Ok(workers)
    }

    /// Lets the threads end what is queued and waits for them.
    pub(crate) fn join(self) {
        drop((self.work, self.ahead));
        for thread in self.threads {
            // A worker catches what panics in it.
            let _ = thread.join();
        }
    }
}

struct Worker {
    core: Arc<Core>,
    encoder: BlockEncoder,
}

impl Worker {
    fn run(mut self, work: &Receiver<Work>, ahead: &Receiver<Stretch>) {
        loop {
            // A reader waits for what is read ahead: it goes first.
            select_biased! {
                recv(ahead) -> stretch => match stretch {
                    Ok(stretch) => self.guarded("read ahead", |worker| worker.core.load_stretch(&stretch)),
                    Err(_) => break,
                },
                recv(work) -> job => match job {
                    Ok(job) => self.work(job),
                    Err(_) => break,
                },
            }
        }
        // Both ways close together; what was queued is still done.
        for job in work {
            self.work(job);
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Store(StoreJob { chunks, status }) => {
                for Inbound { id, data, ticket } in chunks {
                    if let Err(error) = self.guarded_result(|worker| worker.store(&status, id, &data)) {
                        status.fail(error);
                    }
                    // Whoever waits for the gate finds the error there.
                    drop(ticket);
                }
            }
            Work::Seal(pack) => self.guarded("seal", |worker| worker.core.seal(&pack)),
        }
    }

    fn store(&mut self, status: &BatchStatus, id: ChunkId, data: &Data) -> Result<()> {
        status.check()?;
        match data {
            Data::Raw(bytes) => self.core.appender.append(&self.encoder.encode(id, bytes)?),
            Data::Block(block) => {
                let refused = |reason: String| StoreError::Io {
                    context: format!("storing chunk {id} as another volume stored it"),
                    kind: std::io::ErrorKind::InvalidData,
                    message: reason,
                };
                self.core.appender.append(&self.core.decoder.adopt(id, block).map_err(refused)?)
            }
        }
    }

    fn guarded(&mut self, task: &'static str, run: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            tracing::error!(task, "a store worker panicked; it goes on");
        }
    }

    fn guarded_result(&mut self, run: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        catch_unwind(AssertUnwindSafe(|| run(self))).unwrap_or_else(|_| {
            tracing::error!(task = "store", "a store worker panicked; its batch fails");
            Err(StoreError::Io {
                context: "storing a chunk".to_owned(),
                kind: std::io::ErrorKind::Other,
                message: "internal error, see the log".to_owned(),
            })
        })
    }
}
