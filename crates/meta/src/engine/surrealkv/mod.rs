//! surrealkv, with a guard against each of its hazards (docs/decisions/0003-metadata-engines.md has the list).

mod failures;
mod manifest;

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::surrealkv::{LSMIterator, Mode, Options, Transaction, Tree, TreeBuilder, WalRecoveryMode};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Handle, Runtime};

use self::failures::{Background, Writes, closing_error, opening_error, reading_error, shortage};
use super::format_version::{self, Records};
use super::{Damage, EngineOptions, disk_usage_bytes, io_error};
use crate::{
    Change, Direction, Health, KeyRange, MetaError, MetaStore, MetaView, Result, Visit, WriteBatch, keys, limits,
};

/// Its flusher, flush and compaction tasks block the worker that runs them; with fewer workers they starve each other.
const RUNTIME_WORKERS: usize = 4;
const RUNTIME_THREAD_NAME: &str = "verfs-meta";
const BLOCK_BYTES: usize = 64 << 10;
/// Tombstones leave at the last level only, so there are few levels.
const LEVELS: u8 = 4;

/// The tree and the runtime that its tasks live on.
struct Open {
    /// The only `Tree`: dropping any clone of one closes the database, so the `Arc` is cloned and never the tree.
    tree: Arc<Tree>,
    runtime: Runtime,
}

pub(super) struct SurrealkvStore {
    open: RwLock<Option<Open>>,
    /// Held by the one commit that runs: no two can conflict, and they are logged in the order in which they return.
    turn: Mutex<()>,
    writes: Mutex<Writes>,
    handle: Handle,
    dir: PathBuf,
}

impl SurrealkvStore {
    pub(super) fn open(dir: &Path, options: &EngineOptions, damage: Damage) -> Result<Self> {
        manifest::check(dir)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(RUNTIME_WORKERS)
            .thread_name(RUNTIME_THREAD_NAME)
            .enable_time()
            .build()
            .map_err(|error| io_error("cannot start the threads of the metadata engine", &error))?;
        let handle = runtime.handle().clone();
        let tree = match build_tree(&handle, dir, options, damage) {
            Ok(tree) => tree,
            Err(error) => {
                outside_runtimes(|| drop(runtime))?;
                return Err(opening_error(&error));
            }
        };
        let store = SurrealkvStore {
            open: RwLock::new(Some(Open { tree, runtime })),
            turn: Mutex::default(),
            writes: Mutex::default(),
            handle,
            dir: dir.to_path_buf(),
        };
        format_version::check(&store)?;
        Ok(store)
    }

    fn tree(&self) -> Result<Arc<Tree>> {
        self.open.read().as_ref().map(|open| Arc::clone(&open.tree)).ok_or(MetaError::Closed)
    }

    fn read(&self) -> Result<SurrealkvView<'_>> {
        let transaction = self.tree()?.begin_with_mode(Mode::ReadOnly).map_err(|error| reading_error(&error))?;
        Ok(SurrealkvView { store: self, transaction })
    }

    /// Runs a commit or a sync, unless writes stopped, and remembers how it ended.
    fn write(&self, write: impl FnOnce(&Tree) -> ::surrealkv::Result<()>) -> Result<()> {
        let tree = self.tree()?;
        if let Writes::Failed(reason) = &*self.writes.lock() {
            return Err(MetaError::Io(reason.clone()));
        }
        let outcome = write(&tree);
        let mut writes = self.writes.lock();
        match outcome {
            Ok(()) => {
                *writes = Writes::Working;
                Ok(())
            }
            Err(error) => Err(writes.failed(&error, tree.background_error().map(Background::from))),
        }
    }

    fn commit_changes(&self, mut changes: Vec<(Vec<u8>, Change)>) -> Result<()> {
        let handle = &self.handle;
        // The engine keeps a transaction in a tree by keys: in order they cost a third of what they cost in none. Of
        // several changes of one key the last one still comes last.
        changes.sort_by(|(one, _), (other, _)| one.cmp(other));
        outside_runtimes(|| {
            let _turn = self.turn.lock();
            self.write(|tree| {
                // The durability of a transaction is Eventual: sync() makes it durable, once for many commits.
                let mut transaction = tree.begin_with_mode(Mode::WriteOnly)?;
                for (key, change) in changes {
                    match change {
                        Change::Put(value) => transaction.set(key, Vec::from(value))?,
                        Change::Delete => transaction.delete(key)?,
                    }
                }
                handle.block_on(transaction.commit())
            })
        })?
    }
}

fn build_tree(handle: &Handle, dir: &Path, options: &EngineOptions, damage: Damage) -> ::surrealkv::Result<Arc<Tree>> {
    let _entered = handle.enter();
    let tree = TreeBuilder::with_options(tree_options(dir, options, damage)).build()?;
    let report = tree.recovery_report();
    if report.bytes_trimmed > 0 || report.records_dropped > 0 {
        tracing::info!(
            bytes_trimmed = report.bytes_trimmed,
            records_dropped = report.records_dropped,
            "cut the unfinished end off the log of the metadata engine"
        );
    }
    Ok(Arc::new(tree))
}

fn tree_options(dir: &Path, options: &EngineOptions, damage: Damage) -> Options {
    Options::new()
        .with_path(dir.to_path_buf())
        .with_max_memtable_size(options.memtable_bytes)
        .with_block_cache_capacity(options.block_cache_bytes)
        .with_block_size(BLOCK_BYTES)
        .with_level_count(LEVELS)
        .with_wal_recovery_mode(match damage {
            Damage::Refused => WalRecoveryMode::TolerateTornTail,
            Damage::CutOff => WalRecoveryMode::SalvageValidPrefix,
        })
}

/// Runs `work`, which blocks on the engine's runtime. A thread that is inside a runtime may not do that (tokio panics),
/// so its work is done on a thread of its own meanwhile.
fn outside_runtimes<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    if Handle::try_current().is_err() {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(format!("{RUNTIME_THREAD_NAME}-call"))
            .spawn_scoped(scope, work)
            .map_err(|error| io_error("cannot start a thread for a call of the metadata engine", &error))?;
        match thread.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

struct SurrealkvView<'a> {
    store: &'a SurrealkvStore,
    transaction: Transaction,
}

impl SurrealkvView<'_> {
    fn check_open(&self) -> Result<()> {
        if self.store.open.read().is_some() { Ok(()) } else { Err(MetaError::Closed) }
    }

    fn value(&self, stored: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.transaction.get(stored).map_err(|error| reading_error(&error))?.map(Bytes::from))
    }

    fn visit_stored(
        &self,
        range: Range<Vec<u8>>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> ::surrealkv::Result<()> {
        let mut pairs = self.transaction.range(range.start, range.end)?;
        let mut more = match direction {
            Direction::Forward => pairs.seek_first()?,
            Direction::Backward => pairs.seek_last()?,
        };
        while more {
            let value = pairs.value_ref()?;
            if let ControlFlow::Break(()) = visit(keys::of_caller(pairs.key().user_key()), &value) {
                return Ok(());
            }
            drop(value);
            more = match direction {
                Direction::Forward => pairs.next()?,
                Direction::Backward => pairs.prev()?,
            };
        }
        Ok(())
    }
}

impl MetaView for SurrealkvView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.check_open()?;
        self.value(&keys::stored(key))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        self.check_open()?;
        let Some(range) = keys::stored_range(range) else { return Ok(()) };
        self.visit_stored(range, direction, visit).map_err(|error| reading_error(&error))
    }
}

impl Records for SurrealkvStore {
    fn record(&self, stored: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.read()?.value(stored)?.map(Vec::from))
    }

    fn has_caller_records(&self) -> Result<bool> {
        let mut any = false;
        self.scan(&KeyRange::prefix(b""), Direction::Forward, &mut |_, _| {
            any = true;
            ControlFlow::Break(())
        })?;
        Ok(any)
    }

    fn set_record(&self, stored: &[u8], value: &[u8]) -> Result<()> {
        self.commit_changes(vec![(stored.to_vec(), Change::Put(Bytes::copy_from_slice(value)))])?;
        self.sync()
    }
}

impl MetaStore for SurrealkvStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.read()?.value(&keys::stored(key))
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let view = self.read()?;
        keys.iter().map(|key| view.value(&keys::stored(key))).collect()
    }

    fn view(&self) -> Result<Box<dyn MetaView + '_>> {
        Ok(Box::new(self.read()?))
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        limits::check(&batch)?;
        if batch.is_empty() {
            return self.tree().map(drop);
        }
        self.commit_changes(batch.into_iter().map(|(key, change)| (keys::stored(&key), change)).collect())
    }

    fn sync(&self) -> Result<()> {
        // The log takes a sync even when a flush found the disk full.
        self.write(|tree| tree.flush_wal(true))
    }

    fn approximate_size_bytes(&self) -> Result<u64> {
        self.tree()?;
        disk_usage_bytes(&self.dir)
    }

    fn health(&self) -> Health {
        let tree = match self.tree() {
            Ok(tree) => tree,
            Err(error) => return Health::Stopped(error.to_string()),
        };
        if let Writes::Failed(reason) = &*self.writes.lock() {
            return Health::Stopped(reason.clone());
        }
        match tree.background_error().map(Background::from).and_then(|background| background.stops_writes()) {
            Some(reason) => Health::Stopped(reason),
            None => Health::Ready,
        }
    }

    fn close(&self) -> Result<()> {
        let handle = &self.handle;
        outside_runtimes(|| {
            let _turn = self.turn.lock();
            let Some(Open { tree, runtime }) = self.open.write().take() else { return Ok(()) };
            let synced = match self.writes.lock().clone() {
                Writes::Failed(reason) => Err(MetaError::Io(reason)),
                Writes::Working | Writes::Short(_) => tree.flush_wal(true).map_err(|error| closing_error(&error)),
            };
            let closed = match handle.block_on(tree.close()) {
                // The last flush found no room or no descriptor; the log has it all, and is replayed when the store is
                // opened.
                Err(error) if synced.is_ok() && shortage(&error).is_some() => {
                    tracing::warn!(%error, "the metadata engine was closed without its last flush");
                    Ok(())
                }
                closed => closed.map_err(|error| closing_error(&error)),
            };
            drop(tree);
            drop(runtime);
            synced.and(closed)
        })?
    }
}

impl Drop for SurrealkvStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the metadata engine failed");
        }
    }
}
