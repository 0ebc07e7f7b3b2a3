//! A store whose batches are numbered, with a witness beside it of the newest that was durable.
//!
//! Lives here: the numbers, the file `WITNESS`, and what the two say of each other when a store is opened. Never here: what
//! becomes of metadata that is older than it should be (`verfs-engine` refuses it, `fsck` mends it).
//!
//! The witness is written behind the sync that it tells of, so a crash leaves one that is as old as the store or older. One
//! that is newer proves that something else than a crash happened: a copy of earlier metadata was put in its place, or its
//! log lost an end that was durable. It is flushed with the first sync of a run, at its end, and otherwise every
//! [`FLUSH_INTERVAL`]: what it may lag behind at a loss of power costs no flush for each group.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::{Clock, Disk, DiskFile};
use verfs_format::varint;
use verfs_format::witness::{
    SYSTEM_BATCH, WITNESS_FILE, WITNESS_SLOT_BYTES, WITNESS_SLOT_STEP, WITNESS_SLOTS, decode_witness, encode_witness,
};

use crate::{Direction, Health, KeyRange, MetaStore, MetaView, Result, Visit, WriteBatch};

/// How long the witness may lag behind on the disk while batches become durable one after the other.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// How far the number jumps when older metadata is taken for the newest: past every number that was given since.
const SUPERSEDE_STEP: u64 = 1 << 32;

/// What the witness says of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has every batch that is known to have been durable.
    Newest,
    /// Nobody knows: there is no witness, as of a volume that only versions without one have used.
    Unwitnessed,
    /// It lacks batches that were durable.
    Older {
        /// The last one that it has.
        last: u64,
        /// One that was durable.
        witnessed: u64,
    },
}

/// Any store, numbered and witnessed. While it is [`Standing::Older`] its batches get no number and the witness stays as
/// it is, so that a repair that is cut short begins anew.
pub struct WitnessedStore {
    inner: Arc<dyn MetaStore>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    standing: Mutex<Standing>,
    /// Held by the one commit that runs: numbers rise in the order of commits.
    turn: Mutex<()>,
    committed: AtomicU64,
    /// The last number when it was opened.
    opened: u64,
    witness: Mutex<Witness>,
}

struct Witness {
    file: Option<Arc<dyn DiskFile>>,
    /// What it says; 0 without a witness.
    number: u64,
    /// The slot that is written next.
    slot: u64,
    flushed: Option<Duration>,
    /// It could not be written, and the log says so already.
    failed: bool,
}

/// When the witness is made durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    WhenDue,
    Now,
}

/// The number that the witness beside a store has, and the slot that has it.
fn read(disk: &dyn Disk) -> Option<(u64, u64)> {
    let file = match disk.open_read(Path::new(WITNESS_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, "can't read the witness of the newest metadata");
            return None;
        }
    };
    let slots = (0..WITNESS_SLOTS).filter_map(|slot| {
        let mut bytes = [0; WITNESS_SLOT_BYTES];
        file.read_exact_at(&mut bytes, slot * WITNESS_SLOT_STEP).ok()?;
        Some((decode_witness(&bytes).ok()?, slot))
    });
    slots.max()
}

fn number_of(meta: &dyn MetaStore) -> Result<u64> {
    let value = meta.get(SYSTEM_BATCH)?;
    // One that can't be read is none: then the witness tells that something is wrong.
    Ok(value.and_then(|value| varint::Reader::new(&value).u64().ok()).unwrap_or(0))
}

impl WitnessedStore {
    /// Looks at the store and its witness, which is in the root of `disk`. Writes nothing.
    ///
    /// # Errors
    /// What the store says.
    pub fn open(inner: Arc<dyn MetaStore>, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<WitnessedStore> {
        let last = number_of(&*inner)?;
        let found = read(&*disk);
        let standing = match found {
            None => Standing::Unwitnessed,
            Some((witnessed, _)) if last < witnessed => Standing::Older { last, witnessed },
            Some(_) => Standing::Newest,
        };
        let (number, slot) = found.map_or((0, 0), |(number, slot)| (number, (slot + 1) % WITNESS_SLOTS));
        Ok(WitnessedStore {
            inner,
            disk,
            clock,
            standing: Mutex::new(standing),
            turn: Mutex::default(),
            committed: AtomicU64::new(last),
            opened: last,
            witness: Mutex::new(Witness { file: None, number, slot, flushed: None, failed: false }),
        })
    }

    /// Whether a witness tells of a store that was durable once.
    #[must_use]
    pub fn is_witnessed(disk: &dyn Disk) -> bool {
        read(disk).is_some_and(|(number, _)| number > 0)
    }

    /// What the witness said when the store was opened, or what became of it since.
    #[must_use]
    pub fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    /// The store is not what it was, although no witness says so: from now on it is [`Standing::Older`], until it is
    /// superseded, also if that comes only after a crash.
    ///
    /// # Errors
    /// What the disk says.
    pub fn disown(&self) -> io::Result<()> {
        let mut standing = self.standing.lock();
        if matches!(*standing, Standing::Older { .. }) {
            return Ok(());
        }
        let last = self.committed.load(Ordering::Acquire);
        let witnessed = last + 1;
        self.try_write(&mut self.witness.lock(), witnessed, Flush::Now)?;
        *standing = Standing::Older { last, witnessed };
        Ok(())
    }

    /// Takes a store that is [`Standing::Older`] for the newest from now on: its number jumps past all that were given.
    ///
    /// # Errors
    /// What the store says.
    pub fn supersede(&self) -> Result<()> {
        let mut standing = self.standing.lock();
        let Standing::Older { last, witnessed } = *standing else { return Ok(()) };
        let _turn = self.turn.lock();
        let number = last.max(witnessed) + SUPERSEDE_STEP;
        let mut batch = WriteBatch::new();
        put_number(&mut batch, number);
        self.inner.commit(batch)?;
        self.inner.sync()?;
        self.committed.store(number, Ordering::Release);
        *standing = Standing::Newest;
        self.write(number, Flush::Now);
        Ok(())
    }

    fn is_older(&self) -> bool {
        matches!(*self.standing.lock(), Standing::Older { .. })
    }

    /// Whether a witness may tell of a batch of this number. Of what nobody knows only what came since is the newest: who
    /// merely looks at it must not vouch for it.
    fn is_vouched(&self, number: u64) -> bool {
        match *self.standing.lock() {
            Standing::Newest => true,
            Standing::Unwitnessed => number > self.opened,
            Standing::Older { .. } => false,
        }
    }

    /// A batch of this number is durable.
    fn write(&self, number: u64, flush: Flush) {
        let mut witness = self.witness.lock();
        if let Err(error) = self.try_write(&mut witness, number, flush)
            && !std::mem::replace(&mut witness.failed, true)
        {
            // The store is as good as before: only a copy of older metadata may go unnoticed.
            tracing::warn!(%error, "can't write the witness of the newest metadata");
        }
    }

    fn try_write(&self, witness: &mut Witness, number: u64, flush: Flush) -> io::Result<()> {
        let is_told = number <= witness.number && witness.file.is_none();
        if is_told || number < witness.number || number == 0 {
            return Ok(());
        }
        let file = match &witness.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(witness.file.insert(open_file(&*self.disk)?)),
        };
        if number > witness.number {
            file.write_all_at(&encode_witness(number), witness.slot * WITNESS_SLOT_STEP)?;
            witness.number = number;
            witness.slot = (witness.slot + 1) % WITNESS_SLOTS;
        }
        let now = self.clock.monotonic();
        let is_due = witness.flushed.is_none_or(|flushed| now.saturating_sub(flushed) >= FLUSH_INTERVAL);
        if is_due || flush == Flush::Now {
            file.sync_data()?;
            witness.flushed = Some(now);
        }
        Ok(())
    }
}

/// The file, made at its full length where there is none: what is written later needs no room.
fn open_file(disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
    let path = Path::new(WITNESS_FILE);
    let (file, is_new) = match disk.open(path) {
        Ok(file) => (file, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (disk.create(path)?, true),
        Err(error) => return Err(error),
    };
    let whole = WITNESS_SLOTS * WITNESS_SLOT_STEP;
    let len = file.len()?;
    if len < whole {
        file.write_all_at(&vec![0; (whole - len) as usize], len)?;
        file.sync_data()?;
    }
    if is_new {
        disk.sync_dir(Path::new(""))?;
    }
    Ok(file)
}

fn put_number(batch: &mut WriteBatch, number: u64) {
    let mut value = Vec::new();
    varint::put_u64(&mut value, number);
    batch.put(Bytes::from_static(SYSTEM_BATCH), value);
}

impl MetaStore for WitnessedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(key)
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.inner.multi_get(keys)
    }

    fn view(&self) -> Result<Box<dyn MetaView + '_>> {
        self.inner.view()
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visit<'_>) -> Result<()> {
        self.inner.scan(range, direction, visit)
    }

    fn commit(&self, mut batch: WriteBatch) -> Result<()> {
        if batch.is_empty() || self.is_older() {
            return self.inner.commit(batch);
        }
        let _turn = self.turn.lock();
        // One that fails may be found later, whole: its number is given again, and no sync told of it.
        let number = self.committed.load(Ordering::Acquire) + 1;
        put_number(&mut batch, number);
        self.inner.commit(batch)?;
        self.committed.store(number, Ordering::Release);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let number = self.committed.load(Ordering::Acquire);
        self.inner.sync()?;
        if self.is_vouched(number) {
            self.write(number, Flush::WhenDue);
        }
        Ok(())
    }

    fn approximate_size_bytes(&self) -> Result<u64> {
        self.inner.approximate_size_bytes()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn close(&self) -> Result<()> {
        let number = self.committed.load(Ordering::Acquire);
        self.inner.close()?;
        if self.is_vouched(number) {
            self.write(number, Flush::Now);
        }
        // Whoever closed the volume may want to unmount the disk.
        self.witness.lock().file = None;
        Ok(())
    }
}
