//! Which packs are worth collecting, by their counters. Costs a look at each pack's record: some 16 000 for each TB.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use verfs_base::PackId;
use verfs_format::chunk_record::{PACK, PackRecord, PackState};
use verfs_meta::{Direction, KeyRange, MetaError};

use super::{Collection, Reclaimable, Step};
use crate::core::Core;
use crate::{ChunkStore, Result};

/// Packs of one round at most.
const ROUND_MAX_PACKS: usize = 256;

/// Whether enough of a pack is dead.
fn is_worth_it(record: &PackRecord, dead_percent: u8) -> bool {
    let share = u128::from(record.dead_bytes) * 100;
    let wanted = u128::from(record.block_bytes) * u128::from(dead_percent);
    record.dead_blocks == record.blocks || (record.dead_blocks > 0 && share >= wanted)
}

/// Dead bytes in 2^32nds of all bytes; more than that where nothing is alive.
fn dead_share(record: &PackRecord) -> u128 {
    if record.dead_blocks == record.blocks {
        return u128::MAX;
    }
    (u128::from(record.dead_bytes) << 32) / u128::from(record.block_bytes.max(1))
}

impl Core {
    /// Visits the record of every pack.
    fn visit_packs(&self, visit: &mut dyn FnMut(PackId, PackRecord)) -> Result<()> {
        let mut damaged = None;
        self.meta.scan(&KeyRange::prefix(&[PACK]), Direction::Forward, &mut |key, value| {
            let number = key.get(1..).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes);
            match (number, PackRecord::decode(value)) {
                (Some(number), Ok(record)) => {
                    visit(PackId(number), record);
                    ControlFlow::Continue(())
                }
                (Some(_) | None, decoded) => {
                    damaged = Some(MetaError::Corrupt(format!("pack record {key:02x?}: {decoded:?}")));
                    ControlFlow::Break(())
                }
            }
        })?;
        damaged.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl ChunkStore {
    /// What [`ChunkStore::collect`] could do now.
    ///
    /// # Errors
    /// What the metadata engine says.
    pub fn reclaimable(&self, dead_percent: u8) -> Result<Reclaimable> {
        let mut sum = Reclaimable::default();
        self.core.visit_packs(&mut |_, record| {
            if is_worth_it(&record, dead_percent) {
                sum.packs += 1;
                sum.dead_bytes += record.dead_bytes;
                sum.live_bytes += record.block_bytes - record.dead_bytes.min(record.block_bytes);
            }
        })?;
        Ok(sum)
    }
}

impl Collection<'_> {
    /// Closes the packs that still grow if they are worth collecting, and brings the records of all packs up to date.
    pub(super) fn close_packs(&mut self) -> Step<()> {
        let turn = self.turn()?;
        let open = self.core.appender.open_pack();
        if self.is_open_pack_worth_it(open)? {
            self.core.appender.close_pack();
        }
        let output = self.collector.output.as_ref().map(super::Output::pack);
        if self.is_open_pack_worth_it(output)? {
            self.collector.close_output(self.core);
        }
        // With the turn held: the pack that the next group opens is not full.
        let full = self.core.claim_full_packs();
        drop(turn);
        for pack in full {
            self.core.seal(&pack);
        }
        let _turn = self.turn()?;
        self.core.write_pending()?;
        Ok(())
    }

    fn is_open_pack_worth_it(&self, pack: Option<PackId>) -> Result<bool> {
        let Some(pack) = pack else { return Ok(false) };
        Ok(self
            .core
            .known_pack(pack)?
            .is_some_and(|record| record.blocks > 0 && is_worth_it(&record, self.dead_percent)))
    }

    /// The worst packs, worst first.
    pub(super) fn choose(&self) -> Result<Vec<(PackId, PackRecord)>> {
        let mut packs: Vec<(PackId, PackRecord)> = Vec::new();
        let cut = |packs: &mut Vec<(PackId, PackRecord)>| {
            packs.sort_by_key(|(pack, record)| (Reverse(dead_share(record)), *pack));
            packs.truncate(ROUND_MAX_PACKS);
        };
        self.core.visit_packs(&mut |pack, record| {
            let left_alone = self.collector.left_alone.get(&pack) == Some(&record.dead_blocks);
            let sealed = record.state == PackState::Sealed && !left_alone && !self.passed.contains(&pack);
            if sealed && is_worth_it(&record, self.dead_percent) {
                packs.push((pack, record));
                if packs.len() >= 2 * ROUND_MAX_PACKS {
                    cut(&mut packs);
                }
            }
        })?;
        cut(&mut packs);
        Ok(packs)
    }
}
