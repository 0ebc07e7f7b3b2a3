//! A locked vault: what can be done with its structure alone.
//!
//! Keys of records, when they were born and died, which chunks they refer to, and the lists of what changed and died are
//! clear. So snapshots of a locked vault can be made and deleted. What a crash left in the intent log is sealed: as long as
//! it was not replayed, nobody knows what the vault is now.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::{Disk, Epoch, GroupId, Timestamp};
use verfs_format::{OrphanRecord, PruneProgress, SnapshotRecord, TreeCounters, keys, split_versioned};
use verfs_meta::{Direction, KeyRange, MetaStore, WriteBatch};
use verfs_store::{ChunkStore, StoreError};

use super::clear_meta::ClearMeta;
use super::keyring::Keyring;
use crate::commit::put_system;
use crate::history::corrupt;
use crate::load::{meta_error, store_error};
use crate::prune::{self, Prune, Pruned};
use crate::recovery::{has_frames_behind, system_number};
use crate::snapshot_pair::vault_note;
use crate::snapshots::SnapshotTable;
use crate::stream::StreamError;
use crate::versions::put_used;
use crate::{Result, Vfs, VfsError};

/// References and old records that one batch gives back, unless somebody says otherwise.
const PRUNE_STEP: usize = 32 << 10;

/// A vault whose keys nobody has at hand. Nothing else may write to it.
pub struct LockedVault {
    /// Its records, as they are stored.
    pub(super) stored: Arc<dyn MetaStore>,
    pub(super) clear: ClearMeta,
    /// Opens what is asked for only when it is: most questions need no chunk.
    pub(super) store: Box<OpenStore>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) keyring: Keyring,
    /// Held by each change.
    pub(crate) turn: Arc<Mutex<()>>,
    /// References and old records that one batch gives back at most.
    prune_step: usize,
}

/// Gives a locked vault to whoever applies a stream, and keeps it locked meanwhile.
pub trait LockedVaults {
    /// Runs `act` with the vault; with nothing while it is open. There may be no vault yet: then one may come.
    ///
    /// # Errors
    /// Those of `act`, and what the disk says.
    fn with(
        &self,
        act: &mut dyn FnMut(Option<&LockedVault>) -> std::result::Result<(), StreamError>,
    ) -> std::result::Result<(), StreamError>;
}

/// Opens the store of a vault's chunks, or gives the one that is open.
type OpenStore = dyn Fn() -> std::result::Result<Arc<ChunkStore>, StoreError> + Send + Sync;

impl std::fmt::Debug for LockedVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockedVault").finish_non_exhaustive()
    }
}

/// Whether something was done with a locked vault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhileLocked {
    /// It was.
    Done,
    /// It has to wait for the next unlocking: a crash left changes of the vault in its intent log.
    Later,
}

impl LockedVault {
    /// The vault with these stored records, chunks, and with its intent log on this disk. All who change it at the same
    /// time have the same `turn`.
    pub fn new(
        stored: Arc<dyn MetaStore>,
        disk: Arc<dyn Disk>,
        turn: Arc<Mutex<()>>,
        keyring: Keyring,
        store: impl Fn() -> std::result::Result<Arc<ChunkStore>, StoreError> + Send + Sync + 'static,
    ) -> LockedVault {
        let clear = ClearMeta::new(Arc::clone(&stored));
        LockedVault { clear, stored, store: Box::new(store), disk, keyring, turn, prune_step: PRUNE_STEP }
    }

    /// The same, but it deletes in steps of at most so many references and old records.
    #[must_use]
    pub fn with_prune_step(self, prune_step: usize) -> LockedVault {
        LockedVault { prune_step, ..self }
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>> {
        system_number(&*self.stored, key).map_err(|error| meta_error(&error))
    }

    pub(super) fn table(&self) -> Result<SnapshotTable> {
        SnapshotTable::read(&self.clear).map_err(|error| meta_error(&error))
    }

    pub(super) fn chunk_store(&self) -> Result<Arc<ChunkStore>> {
        (self.store)().map_err(|error| store_error(None, &error))
    }

    pub(super) fn epoch(&self) -> Result<Epoch> {
        Ok(self.number(keys::SYSTEM_EPOCH)?.map_or(Epoch::FIRST, Epoch))
    }

    /// Whether the records are all there is: no tree is being changed in steps, and no change waits in the log.
    pub(super) fn is_at_rest(&self) -> Result<bool> {
        let Some(committed) = self.number(keys::SYSTEM_GROUP)? else { return Ok(false) };
        if self.number(keys::SYSTEM_ROLLBACK)?.is_some() {
            return Ok(false);
        }
        let behind = has_frames_behind(&*self.disk, GroupId(committed)).map_err(|error| {
            tracing::error!(%error, "reading the intent log of a locked vault");
            VfsError::Io
        })?;
        Ok(!behind)
    }

    pub(super) fn commit(&self, batch: WriteBatch) -> Result<()> {
        self.clear.commit(batch).and_then(|()| self.clear.sync()).map_err(|error| meta_error(&error))
    }

    /// The counters of the tree as anybody sees it: without inodes that wait for their release.
    pub(super) fn counters(&self) -> Result<TreeCounters> {
        let value = self.clear.get(keys::SYSTEM_COUNTERS).map_err(|error| meta_error(&error))?;
        let counters = value.map_or(Ok(TreeCounters::default()), |value| TreeCounters::decode(&value));
        let counters = counters.map_err(|error| meta_error(&corrupt(keys::SYSTEM_COUNTERS, &error)))?;
        Ok(TreeCounters { inodes: counters.inodes.saturating_sub(self.nameless()?), ..counters })
    }

    /// Inodes without a name that wait for their release.
    pub(super) fn nameless(&self) -> Result<u64> {
        let mut count = 0;
        let orphans = KeyRange::prefix(&[keys::ORPHAN]);
        let counted = self.clear.scan(&orphans, Direction::Forward, &mut |_, value| {
            let orphan = split_versioned(value).and_then(|(_, record)| OrphanRecord::decode(record));
            count += u64::from(orphan.is_ok_and(|orphan| orphan.ino.is_some()));
            ControlFlow::Continue(())
        });
        counted.map_err(|error| meta_error(&error))?;
        Ok(count)
    }

    /// Makes the vault's snapshot for one that the volume is about to get, with its identity `uuid`. Durable when it
    /// returns. The caller holds the turn.
    pub(crate) fn create_snapshot(&self, name: &[u8], uuid: [u8; 16], created: Timestamp) -> Result<WhileLocked> {
        if !self.is_at_rest()? {
            return Ok(WhileLocked::Later);
        }
        let mut table = self.table()?;
        if let Some(left) = table.with_name(name) {
            // The volume has none of this name.
            self.begin_deletion(&mut table, left)?;
        }
        let id = self.epoch()?;
        let record = SnapshotRecord {
            uuid,
            name: Bytes::copy_from_slice(name),
            note: vault_note(&uuid).into(),
            created,
            counters: self.counters()?,
            holds: Vec::new(),
            pruning: None,
        };
        let mut batch = WriteBatch::new();
        batch.put(keys::snapshot(id), record.encode());
        put_system(&mut batch, keys::SYSTEM_EPOCH, id.0 + 1);
        self.commit(batch)?;
        Ok(WhileLocked::Done)
    }

    fn begin_deletion(&self, table: &mut SnapshotTable, id: Epoch) -> Result<()> {
        let Some(record) = table.record(id) else { return Ok(()) };
        let mut batch = WriteBatch::new();
        batch.put(
            keys::snapshot(id),
            SnapshotRecord { pruning: Some(PruneProgress::Waiting), ..record.clone() }.encode(),
        );
        table.unmake(id);
        let mut grown = BTreeMap::new();
        let counted = prune::count_shared(&self.clear, &[id], (&table.standing(), self.epoch()?), &mut grown);
        let used =
            counted.and_then(|()| put_used(&self.clear, &mut batch, &grown)).map_err(|error| meta_error(&error))?;
        tracing::debug!(snapshot = id.0, others = used.len(), "a snapshot of the locked vault is to be deleted");
        self.commit(batch)
    }

    /// Deletes the snapshots that belong to none of the volume's, and gives back what only they had, step by step. Before
    /// each one `go_on` may end it; the rest is done the next time, or by the vault's tree once it is open.
    ///
    /// # Errors
    /// [`VfsError::NoSpace`], [`VfsError::Io`], [`VfsError::Closed`].
    pub fn prune(&self, volume: &Vfs, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        // A tree that is being changed in steps may need any of them.
        if self.number(keys::SYSTEM_ROLLBACK)?.is_some() {
            return Ok(());
        }
        while go_on() {
            let _turn = self.turn.lock();
            let mut table = self.table()?;
            let epoch = self.epoch()?;
            // With the turn held: one that is being made is in both or in neither.
            let known: BTreeMap<Bytes, Vec<u8>> =
                volume.snapshots().into_iter().map(|known| (known.name, vault_note(&known.uuid))).collect();
            let is_known = |record: &SnapshotRecord| known.get(&record.name).is_some_and(|note| *note == record.note);
            let unknown = table.records().find(|(_, record)| !is_known(record)).map(|(id, _)| id);
            match (table.next_prune(epoch), unknown) {
                (Some(prune), _) => self.prune_step(&prune, epoch)?,
                (None, Some(id)) => self.begin_deletion(&mut table, id)?,
                (None, None) => break,
            }
        }
        Ok(())
    }

    fn prune_step(&self, prune: &Prune, epoch: Epoch) -> Result<()> {
        let store = self.chunk_store()?;
        let mut chunks = store.begin();
        let mut batch = WriteBatch::new();
        let pruned = prune::step(&self.clear, &mut batch, &mut chunks, (prune, epoch), self.prune_step);
        let (Pruned::Gone(id) | Pruned::Left(id, _)) = pruned.map_err(|error| meta_error(&error))?;
        chunks.finish(&mut batch).map_err(|error| store_error(None, &error))?;
        self.commit(batch)?;
        chunks.committed();
        tracing::debug!(snapshot = id.0, "a part of a snapshot of the locked vault is deleted");
        Ok(())
    }
}
