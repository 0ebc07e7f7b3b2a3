//! Sealing: a pack that takes no more blocks gets its index file and leaves memory; and the records about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use verfs_format::chunk_record::StoreRecord;
use verfs_meta::WriteBatch;
use verfs_pack::seal_pack;

use crate::Result;
use crate::accounts::Statement;
use crate::core::Core;
use crate::ledger::Totals;
use crate::live::LivePack;

impl Core {
    /// Seals a pack. When that fails it stays readable from memory, and the next commit, close or open tries again.
    pub(crate) fn seal(&self, pack: &LivePack) {
        let (len, entries) = pack.contents();
        match seal_pack(self.disk.as_ref(), pack.pack, pack.reader.file().as_ref(), len, &entries) {
            Ok(table) => {
                self.sealed.insert_index(Arc::new(table));
                self.accounts.lock().pack_sealed(pack.pack);
                self.live.remove(pack.pack);
            }
            Err(error) => {
                tracing::warn!(pack = %pack.pack, %error, "can't seal a pack yet");
                pack.release_sealing();
            }
        }
    }

    /// Packs that take no more blocks and that nobody is sealing; each is the caller's to seal now.
    pub(crate) fn claim_full_packs(&self) -> Vec<Arc<LivePack>> {
        let open = self.appender.open_pack();
        self.live.all().into_iter().filter(|live| Some(live.pack) != open && live.claim_sealing()).collect()
    }

    /// The store's record as it is now, but for the totals.
    pub(crate) fn current_record(&self) -> StoreRecord {
        let mut record = self.accounts.lock().record().clone();
        record.next_pack = self.appender.next_pack();
        record.unsealed = self.live.all().iter().map(|live| live.pack).collect();
        record
    }

    /// Writes what became of packs since the last batch, in a batch of its own.
    pub(crate) fn write_pending(&self) -> Result<()> {
        let pending = self.accounts.lock().pending().clone();
        if pending.is_empty() {
            return Ok(());
        }
        let record = self.current_record();
        let (packs, totals) = (BTreeMap::new(), Totals::default());
        let statement = Statement::draw_up(self.meta.as_ref(), record, pending, packs, &totals)?;
        let mut batch = WriteBatch::new();
        statement.write(&mut batch);
        self.meta.commit(batch)?;
        self.accounts.lock().committed(statement);
        Ok(())
    }
}
