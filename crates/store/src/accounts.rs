//! The store's own record, and what happened to packs since it was written.

use std::collections::BTreeMap;

use bytes::Bytes;
use verfs_base::PackId;
use verfs_format::chunk_record::{PackRecord, SYSTEM_STORE, StoreRecord, pack_key};
use verfs_meta::{MetaError, MetaStore, WriteBatch};

use crate::Result;
use crate::ledger::{PackDelta, Sealing, Totals};

/// Totals as committed, and pack changes that no committed batch has written yet.
pub(crate) struct Accounts {
    record: StoreRecord,
    pending: BTreeMap<PackId, PackDelta>,
}

/// Records of a batch that is about to be committed.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) record: StoreRecord,
    packs: Vec<(PackId, PackRecord)>,
    /// Packs whose records go.
    removed: Vec<PackId>,
    /// The part of `Accounts::pending` that is in `packs`.
    settled: BTreeMap<PackId, PackDelta>,
}

impl Accounts {
    pub(crate) fn new(record: StoreRecord) -> Self {
        Accounts { record, pending: BTreeMap::new() }
    }

    pub(crate) fn record(&self) -> &StoreRecord {
        &self.record
    }

    pub(crate) fn pending(&self) -> &BTreeMap<PackId, PackDelta> {
        &self.pending
    }

    /// The pack has its index now.
    pub(crate) fn pack_sealed(&mut self, pack: PackId) {
        self.change_pack(pack, &PackDelta { sealing: Sealing::Sealed, ..PackDelta::default() });
    }

    /// A pack changed, and no batch has written it yet.
    pub(crate) fn change_pack(&mut self, pack: PackId, delta: &PackDelta) {
        self.pending.entry(pack).or_default().add(delta);
    }

    /// The statement's batch is committed.
    pub(crate) fn committed(&mut self, statement: Statement) {
        self.record = statement.record;
        for (pack, settled) in statement.settled {
            // A pack may have been sealed since the statement was drawn up.
            match self.pending.get(&pack) {
                Some(now) if now.sealing == Sealing::Sealed && settled.sealing == Sealing::Unchanged => {
                    self.pending.insert(pack, PackDelta { sealing: Sealing::Sealed, ..PackDelta::default() });
                }
                Some(_) | None => {
                    self.pending.remove(&pack);
                }
            }
        }
    }
}

impl Statement {
    /// Works out pack and store records: `packs` and `totals` are the batch's changes, `pending` what came before.
    pub(crate) fn draw_up(
        meta: &dyn MetaStore,
        mut record: StoreRecord,
        pending: BTreeMap<PackId, PackDelta>,
        mut packs: BTreeMap<PackId, PackDelta>,
        totals: &Totals,
    ) -> Result<Statement> {
        for (pack, delta) in &pending {
            packs.entry(*pack).or_default().add(delta);
            record.dead_bytes = record.dead_bytes.saturating_add_signed(delta.dead_bytes);
        }
        totals.apply(&mut record);
        let keys: Vec<Bytes> = packs.keys().map(|pack| Bytes::copy_from_slice(&pack_key(*pack))).collect();
        let values = meta.multi_get(&keys)?;
        let mut records = Vec::with_capacity(packs.len());
        for ((pack, delta), value) in packs.iter().zip(values) {
            let old = match value {
                Some(value) => PackRecord::decode(&value)
                    .map_err(|error| MetaError::Corrupt(format!("record of pack {pack}: {error}")))?,
                None => {
                    record.packs += 1;
                    PackRecord::empty()
                }
            };
            records.push((*pack, delta.apply(old)));
        }
        Ok(Statement { record, packs: records, removed: Vec::new(), settled: pending })
    }

    /// Lets the record of a pack go that is in the statement. `None`, and nothing changed, if not all of it is dead.
    pub(crate) fn remove(&mut self, pack: PackId) -> Option<PackRecord> {
        let at = self.packs.iter().position(|(other, record)| *other == pack && record.dead_blocks == record.blocks)?;
        let (_, removed) = self.packs.remove(at);
        self.record.packs = self.record.packs.saturating_sub(1);
        self.record.dead_bytes = self.record.dead_bytes.saturating_sub(removed.dead_bytes);
        self.removed.push(pack);
        Some(removed)
    }

    /// Adds the records to a batch.
    pub(crate) fn write(&self, batch: &mut WriteBatch) {
        for (pack, record) in &self.packs {
            batch.put(Bytes::copy_from_slice(&pack_key(*pack)), record.encode());
        }
        for pack in &self.removed {
            batch.delete(Bytes::copy_from_slice(&pack_key(*pack)));
        }
        batch.put(SYSTEM_STORE, self.record.encode());
    }
}
