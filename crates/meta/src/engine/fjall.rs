//! fjall, with a guard against each of its hazards (docs/decisions/0003-metadata-engines.md has the list).

use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::fjall::{Database, Error, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable, Snapshot};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::batch_numbers::{BatchNumbers, SyncedFile};
use super::format_version::{self, Records};
use super::{EngineOptions, disk_usage_bytes, fjall_files, free_bytes, is_out_of_space};
use crate::{
    Change, Direction, Health, KeyRange, MetaError, MetaStore, MetaView, Result, Visit, WriteBatch, keys, limits,
};

const KEYSPACE: &str = "meta";

/// Memtables that may wait for a flush when a commit begins. fjall holds a commit while there are four, and a rotation
/// that was asked for may add one meanwhile.
const SEALED_MEMTABLES_MAX: usize = 2;
/// Tables that may wait for a merge when a commit begins. fjall holds a commit while there are thirty.
const UNMERGED_TABLES_MAX: usize = 28;
/// How often a commit looks whether its turn has come.
const BACKLOG_POLL: Duration = Duration::from_millis(2);

/// What is open, shared with the readers: it closes when the last of them is done.
struct Open {
    database: Database,
    keyspace: Keyspace,
    /// What readers read, taken when no commit was in flight: fjall makes a batch visible record by record, and any
    /// flush that ends meanwhile lets a new snapshot see the first part of it.
    published: RwLock<Arc<Snapshot>>,
}

/// What commits and syncs change, one at a time.
struct Writes {
    numbers: BatchNumbers,
    /// Why writes stopped: fjall takes none after its first failure, whatever that was.
    stopped: Option<String>,
}

pub(super) struct FjallStore {
    open: RwLock<Option<Arc<Open>>>,
    writes: Mutex<Writes>,
    synced: Mutex<SyncedFile>,
    dir: PathBuf,
    memtable_bytes: u64,
}

impl FjallStore {
    pub(super) fn open(dir: &Path, store_dir: &Path, options: &EngineOptions) -> Result<Self> {
        fjall_files::check(store_dir)?;
        let memtable_bytes = options.memtable_bytes as u64;
        let database = Database::builder(store_dir)
            .cache_size(options.block_cache_bytes)
            .open()
            .map_err(|error| opening_error(&error))?;
        let keyspace = database
            .keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes))
            .map_err(|error| opening_error(&error))?;
        let snapshot = database.snapshot();
        let slots = batch_slots(&snapshot, &keyspace)?;
        let synced = SyncedFile::open(dir)?;
        let numbers = BatchNumbers::recover(slots, synced.number())?;
        let open = Open { database, keyspace, published: RwLock::new(Arc::new(snapshot)) };
        let store = FjallStore {
            open: RwLock::new(Some(Arc::new(open))),
            writes: Mutex::new(Writes { numbers, stopped: None }),
            synced: Mutex::new(synced),
            dir: dir.to_path_buf(),
            memtable_bytes,
        };
        format_version::check(&store)?;
        Ok(store)
    }

    fn opened(&self) -> Result<Arc<Open>> {
        self.open.read().as_ref().map(Arc::clone).ok_or(MetaError::Closed)
    }

    fn read(&self) -> Result<FjallView<'_>> {
        let open = self.opened()?;
        let snapshot = Arc::clone(&open.published.read());
        Ok(FjallView { store: self, keyspace: open.keyspace.clone(), snapshot })
    }

    fn commit_changes(&self, changes: impl Iterator<Item = (Vec<u8>, Change)>) -> Result<()> {
        let mut writes = self.writes.lock();
        let open = self.opened()?;
        writes.check()?;
        wait_for_flushes(&open).map_err(|error| writes.failed(&error, self))?;
        let mut batch = open.database.batch();
        for (key, change) in changes {
            match change {
                Change::Put(value) => batch.insert(&open.keyspace, key, &value[..]),
                Change::Delete => batch.remove(&open.keyspace, key),
            }
        }
        let (slot, number) = writes.numbers.next();
        batch.insert(&open.keyspace, slot, number.to_be_bytes());
        batch.commit().map_err(|error| writes.failed(&error, self))?;
        writes.numbers.advance();
        *open.published.write() = Arc::new(open.database.snapshot());
        Ok(())
    }
}

/// Waits until a commit will not have to wait inside fjall, where it would wait forever if the threads that it waits for
/// have failed.
fn wait_for_flushes(open: &Open) -> ::fjall::Result<()> {
    let is_behind = || {
        open.keyspace.sealed_memtable_count() > SEALED_MEMTABLES_MAX
            || open.keyspace.l0_table_count() > UNMERGED_TABLES_MAX
    };
    wait_while(is_behind, || check_alive(open))
}

fn wait_while<E>(
    is_behind: impl Fn() -> bool,
    mut check: impl FnMut() -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    loop {
        check()?;
        if !is_behind() {
            return Ok(());
        }
        thread::sleep(BACKLOG_POLL);
    }
}

/// Writes nothing (each commit leaves fjall's buffer empty), but answers whether one of its threads has failed.
fn check_alive(open: &Open) -> ::fjall::Result<()> {
    open.database.persist(PersistMode::Buffer)
}

impl Writes {
    fn check(&self) -> Result<()> {
        match &self.stopped {
            Some(reason) => Err(MetaError::Io(reason.clone())),
            None => Ok(()),
        }
    }

    /// Every failure is the last: fjall takes no write after it.
    fn failed(&mut self, error: &Error, store: &FjallStore) -> MetaError {
        let reason = error.to_string();
        tracing::error!(reason, "the metadata engine stopped taking writes");
        self.stopped = Some(reason.clone());
        // A background thread failed, and fjall doesn't say of what: a flush that finds the disk full ends like this.
        let is_background = matches!(error, Error::Poisoned);
        if is_background && free_bytes(&store.dir).is_ok_and(|free| free < store.memtable_bytes) {
            return MetaError::OutOfSpace(format!("{reason}; the disk is full"));
        }
        writing_error(error)
    }
}

/// The numbers of the batches that wrote the slots last.
fn batch_slots(snapshot: &Snapshot, keyspace: &Keyspace) -> Result<Vec<(u16, u64)>> {
    let mut slots = Vec::new();
    for pair in snapshot.range(keyspace, keys::BATCH_SLOTS) {
        let (key, value) = pair.into_inner().map_err(|error| reading_error(&error))?;
        match (keys::slot_of(&key), <[u8; 8]>::try_from(&value[..])) {
            (Some(slot), Ok(number)) => slots.push((slot, u64::from_be_bytes(number))),
            (None, _) | (_, Err(_)) => {
                return Err(MetaError::Corrupt(format!("a batch number of the metadata store is malformed: {key:?}")));
            }
        }
    }
    Ok(slots)
}

/// The error of the operating system in an error of the engine.
fn os_error(error: &Error) -> Option<&std::io::Error> {
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) => Some(error),
        _ => None,
    }
}

fn writing_error(error: &Error) -> MetaError {
    match os_error(error) {
        Some(io) if is_out_of_space(io.kind()) => MetaError::OutOfSpace(error.to_string()),
        _ => MetaError::Io(error.to_string()),
    }
}

fn reading_error(error: &Error) -> MetaError {
    match error {
        Error::Storage(LsmError::Io(_)) | Error::Io(_) | Error::Poisoned | Error::KeyspaceDeleted | Error::Locked => {
            MetaError::Io(error.to_string())
        }
        damage => MetaError::Corrupt(damage.to_string()),
    }
}

fn opening_error(error: &Error) -> MetaError {
    match error {
        Error::InvalidVersion(Some(_)) => MetaError::Unsupported(error.to_string()),
        // The file that should name a version names none.
        Error::InvalidVersion(None) => MetaError::Corrupt(error.to_string()),
        Error::Io(io) | Error::Storage(LsmError::Io(io)) => match io.kind() {
            // Its manifests have no length of their own and name files: what is short, empty or not there was damaged, and
            // so was what says that there is a store at all, where it makes one and finds its files.
            ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists => MetaError::Corrupt(error.to_string()),
            _ => writing_error(error),
        },
        other => reading_error(other),
    }
}

struct FjallView<'a> {
    store: &'a FjallStore,
    keyspace: Keyspace,
    snapshot: Arc<Snapshot>,
}

impl FjallView<'_> {
    fn check_open(&self) -> Result<()> {
        if self.store.open.read().is_some() { Ok(()) } else { Err(MetaError::Closed) }
    }

    fn value(&self, stored: &[u8]) -> Result<Option<Bytes>> {
        let value = self.snapshot.get(&self.keyspace, stored).map_err(|error| reading_error(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn visit_stored(&self, range: Range<Vec<u8>>, direction: Direction, visit: &mut Visit<'_>) -> ::fjall::Result<()> {
        let mut pairs = self.snapshot.range(&self.keyspace, range);
        loop {
            let pair = match direction {
                Direction::Forward => pairs.next(),
                Direction::Backward => pairs.next_back(),
            };
            let Some(pair) = pair else { return Ok(()) };
            let (key, value) = pair.into_inner()?;
            if let ControlFlow::Break(()) = visit(keys::of_caller(&key), &value) {
                return Ok(());
            }
        }
    }
}

impl MetaView for FjallView<'_> {
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

impl Records for FjallStore {
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
        self.commit_changes([(stored.to_vec(), Change::Put(Bytes::copy_from_slice(value)))].into_iter())?;
        self.sync()
    }
}

impl MetaStore for FjallStore {
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
            return self.opened().map(drop);
        }
        self.commit_changes(batch.into_iter().map(|(key, change)| (keys::stored(&key), change)))
    }

    fn sync(&self) -> Result<()> {
        // One sync at a time: fjall has no group commit, and the synced numbers are written in order.
        let mut synced = self.synced.lock();
        let open = self.opened()?;
        let number = {
            let writes = self.writes.lock();
            writes.check()?;
            writes.numbers.last()
        };
        open.database.persist(PersistMode::SyncData).map_err(|error| self.writes.lock().failed(&error, self))?;
        synced.set(number)
    }

    fn approximate_size_bytes(&self) -> Result<u64> {
        self.opened()?;
        disk_usage_bytes(&self.dir)
    }

    fn health(&self) -> Health {
        let open = match self.opened() {
            Ok(open) => open,
            Err(error) => return Health::Stopped(error.to_string()),
        };
        if let Some(reason) = &self.writes.lock().stopped {
            return Health::Stopped(reason.clone());
        }
        match check_alive(&open) {
            Ok(()) => Health::Ready,
            Err(error) => Health::Stopped(error.to_string()),
        }
    }

    fn close(&self) -> Result<()> {
        let synced = match self.sync() {
            Err(MetaError::Closed) => return Ok(()),
            synced => synced,
        };
        let writes = self.writes.lock();
        // Its threads end, and its lock goes, when the last reader drops its reference.
        drop(self.open.write().take());
        drop(writes);
        synced
    }
}

impl Drop for FjallStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the metadata engine failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_wait_for_flushes_ends_when_they_are_done_and_when_they_have_failed() {
        let polls = Cell::new(0);
        let poll = || {
            polls.set(polls.get() + 1);
            Ok::<(), &str>(())
        };
        assert_eq!(wait_while(|| polls.get() < 3, poll), Ok(()));
        assert_eq!(polls.get(), 3);
        let mut left = 3;
        let fail = || {
            left -= 1;
            if left == 0 { Err("failed") } else { Ok(()) }
        };
        assert_eq!(wait_while(|| true, fail), Err("failed"));
    }
}
