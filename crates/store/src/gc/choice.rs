//! Which packs are worth collecting, by their counters. Costs a look at each pack's record: some 16 000 for each TB.

use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use verfs_base::PackId;
use verfs_format::chunk_record::{PACK, PackRecord, PackState};
use verfs_meta::{Direction, KeyRange, MetaError};

use super::{Collection, GcEnd, GcProgress, Pace, Reclaimable, Step};
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
    /// Whether a pack has to be collected: enough of it is dead, or its blocks are to be sealed anew.
    fn is_due(&self, pack: PackId, record: &PackRecord, dead_percent: u8) -> bool {
        is_worth_it(record, dead_percent) || (record.blocks > 0 && pack.0 < self.reseal_before.load(Ordering::Acquire))
    }

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

impl ChunkStore {
    /// The number of the next pack: what is stored from now on is in this one, in a later one, or in one that is open.
    #[must_use]
    pub fn next_pack(&self) -> PackId {
        PackId(self.core.accounts.lock().record().next_pack)
    }

    /// Moves every block of the packs before `limit` to others, sealed with the newest data key; goes on where an earlier
    /// call with this limit stopped. Says whether none of them is left.
    ///
    /// # Errors
    /// As [`ChunkStore::collect`].
    pub fn reseal(&self, limit: PackId, pace: &mut dyn FnMut(&GcProgress) -> Pace) -> Result<Resealed> {
        self.core.reseal_before.store(limit.0, Ordering::Release);
        let (_, end) = self.collect(RESEAL_DEAD_PERCENT, pace)?;
        if end == GcEnd::Stopped {
            return Ok(Resealed::Stopped);
        }
        let mut left = 0;
        self.core.visit_packs(&mut |pack, record| {
            left += u64::from(pack < limit && record.blocks > record.dead_blocks);
        })?;
        self.core.reseal_before.store(0, Ordering::Release);
        Ok(if left == 0 { Resealed::All } else { Resealed::PacksLeft(left) })
    }
}

/// How far [`ChunkStore::reseal`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resealed {
    /// Nothing is left.
    All,
    /// It was told to stop.
    Stopped,
    /// So many packs could not be moved: they are damaged, or were in use.
    PacksLeft(u64),
}

/// Only packs that are wholly dead are collected beside those that have to be.
const RESEAL_DEAD_PERCENT: u8 = 100;

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
            .is_some_and(|record| record.blocks > 0 && self.core.is_due(pack, &record, self.dead_percent)))
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
            if sealed && self.core.is_due(pack, &record, self.dead_percent) {
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
