//! The end of a pack: its record goes, then, once that is durable, its files.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::PackId;
use verfs_format::discard::{
    DiscardCheckpoint, REMOVED_PACK, REMOVED_PACK_VALUE, SYSTEM_DISCARD_CHECKPOINT, parse_removed_pack,
    removed_pack_key,
};
use verfs_meta::{Direction, KeyRange, WriteBatch};
use verfs_pack::{pack_dir, remove_pack};

use super::{Collection, Collector, Step, sync_dir};
use crate::Result;
use crate::accounts::Statement;
use crate::core::Core;
use crate::ledger::{PackDelta, Totals};

impl Collection<'_> {
    /// Removes a pack to which no chunk record leads any more.
    pub(super) fn remove_pack(&mut self, pack: PackId, checkpoint: Option<&DiscardCheckpoint>) -> Step<()> {
        let turn = self.turn()?;
        let pending = self.core.accounts.lock().pending().clone();
        let record = self.core.current_record();
        let packs = BTreeMap::from([(pack, PackDelta::default())]);
        let mut statement = Statement::draw_up(self.core.meta.as_ref(), record, pending, packs, &Totals::default())?;
        let Some(removed) = statement.remove(pack) else {
            drop(turn);
            tracing::error!(%pack, "garbage collection leaves a pack alone that counts live blocks nobody finds");
            self.leave_alone(pack, 0);
            return Ok(());
        };
        let mut batch = WriteBatch::new();
        statement.write(&mut batch);
        batch.put(Bytes::copy_from_slice(&removed_pack_key(pack)), REMOVED_PACK_VALUE);
        if let Some(checkpoint) = checkpoint {
            batch.put(SYSTEM_DISCARD_CHECKPOINT, checkpoint.encode());
        }
        self.collector.delete_swept_keys(&mut batch);
        self.core.meta.commit(batch)?;
        self.core.accounts.lock().committed(statement);
        drop(turn);
        self.collector.swept.clear();
        self.collector.doomed.push(pack);
        self.progress.packs_removed += 1;
        self.progress.removed_bytes += removed.block_bytes;
        self.sweep()?;
        Ok(())
    }

    /// Removes the files of packs that no durable record names.
    pub(super) fn sweep(&mut self) -> Result<()> {
        if self.collector.doomed.is_empty() {
            return Ok(());
        }
        // Until now a power failure would have brought back records that lead to these packs.
        self.core.meta.sync()?;
        self.core.remove_doomed(self.collector);
        Ok(())
    }
}

impl Collector {
    /// Deletes the keys of packs whose files are gone.
    pub(crate) fn forget_swept(&mut self, core: &Core) -> Result<()> {
        if self.swept.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        self.delete_swept_keys(&mut batch);
        core.meta.commit(batch)?;
        self.swept.clear();
        Ok(())
    }

    fn delete_swept_keys(&self, batch: &mut WriteBatch) {
        for pack in &self.swept {
            batch.delete(Bytes::copy_from_slice(&removed_pack_key(*pack)));
        }
    }
}

impl Core {
    /// Packs whose files the last run was to remove.
    pub(crate) fn doomed_packs(&self) -> Result<Vec<PackId>> {
        let mut doomed = Vec::new();
        self.meta.scan(&KeyRange::prefix(&[REMOVED_PACK]), Direction::Forward, &mut |key, _| {
            doomed.extend(parse_removed_pack(key));
            ControlFlow::Continue(())
        })?;
        Ok(doomed)
    }

    /// Removes the files of doomed packs; what can't be removed now is tried again.
    pub(crate) fn remove_doomed(&self, collector: &mut Collector) {
        for pack in std::mem::take(&mut collector.doomed) {
            let removed = remove_pack(self.disk.as_ref(), pack).map_err(Into::into);
            match removed.and_then(|()| sync_dir(self, &pack_dir(pack))) {
                Ok(()) => collector.swept.push(pack),
                Err(error) => {
                    tracing::warn!(%pack, %error, "can't remove a collected pack yet");
                    collector.doomed.push(pack);
                }
            }
            self.forget_pack(pack);
        }
    }
}
