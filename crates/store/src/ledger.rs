//! Double-entry book-keeping of one batch: what each chunk's new reference count means for its record, its pack and
//! the store's totals. Pure arithmetic on records.

use std::collections::BTreeMap;

use verfs_base::PackId;
use verfs_format::chunk_record::{ChunkRecord, PackRecord, PackState, StoreRecord};

/// Changes of what a pack holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct PackDelta {
    pub(crate) blocks: i64,
    pub(crate) block_bytes: i64,
    pub(crate) dead_blocks: i64,
    pub(crate) dead_bytes: i64,
    pub(crate) sealing: Sealing,
}

/// Whether a pack was sealed since its record was written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Sealing {
    #[default]
    Unchanged,
    Sealed,
}

impl PackDelta {
    /// One more block, which no reference needs.
    pub(crate) fn dead_block(bytes: u64) -> PackDelta {
        let bytes = bytes as i64;
        PackDelta { blocks: 1, block_bytes: bytes, dead_blocks: 1, dead_bytes: bytes, sealing: Sealing::Unchanged }
    }

    /// What makes `new` of `old`.
    pub(crate) fn between(old: &PackRecord, new: &PackRecord) -> PackDelta {
        PackDelta {
            blocks: new.blocks as i64 - old.blocks as i64,
            block_bytes: new.block_bytes as i64 - old.block_bytes as i64,
            dead_blocks: new.dead_blocks as i64 - old.dead_blocks as i64,
            dead_bytes: new.dead_bytes as i64 - old.dead_bytes as i64,
            sealing: match new.state {
                PackState::Open => Sealing::Unchanged,
                PackState::Sealed => Sealing::Sealed,
            },
        }
    }

    pub(crate) fn add(&mut self, other: &PackDelta) {
        self.blocks += other.blocks;
        self.block_bytes += other.block_bytes;
        self.dead_blocks += other.dead_blocks;
        self.dead_bytes += other.dead_bytes;
        if other.sealing == Sealing::Sealed {
            self.sealing = Sealing::Sealed;
        }
    }

    /// The record after the change.
    pub(crate) fn apply(&self, record: PackRecord) -> PackRecord {
        PackRecord {
            state: match self.sealing {
                Sealing::Unchanged => record.state,
                Sealing::Sealed => PackState::Sealed,
            },
            blocks: record.blocks.saturating_add_signed(self.blocks),
            block_bytes: record.block_bytes.saturating_add_signed(self.block_bytes),
            dead_blocks: record.dead_blocks.saturating_add_signed(self.dead_blocks),
            dead_bytes: record.dead_bytes.saturating_add_signed(self.dead_bytes),
        }
    }
}

/// Which copy of a chunk counts when a batch stored one that the volume had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prefer {
    /// The old copy; the new one is dead at once.
    Earlier,
    /// The new copy: the old one is damaged.
    Stored,
}

/// References that can't be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Imbalance {
    /// References changed of a chunk that has no record.
    NoRecord,
    /// More references given back than there were. The chunk keeps one, so that its data is never reclaimed.
    BelowZero,
}

/// A chunk's new record, and what is wrong with its count, if anything.
pub(crate) type Settled = (Option<ChunkRecord>, Option<Imbalance>);

/// The sum of a batch.
#[derive(Default, Debug)]
pub(crate) struct Ledger {
    pub(crate) packs: BTreeMap<PackId, PackDelta>,
    pub(crate) totals: Totals,
}

/// Changes of the store's totals.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Totals {
    pub(crate) chunks: i64,
    pub(crate) unique_bytes: i64,
    pub(crate) stored_bytes: i64,
    pub(crate) dead_bytes: i64,
}

impl Totals {
    /// The record after the change.
    pub(crate) fn apply(&self, record: &mut StoreRecord) {
        record.chunks = record.chunks.saturating_add_signed(self.chunks);
        record.unique_bytes = record.unique_bytes.saturating_add_signed(self.unique_bytes);
        record.stored_bytes = record.stored_bytes.saturating_add_signed(self.stored_bytes);
        record.dead_bytes = record.dead_bytes.saturating_add_signed(self.dead_bytes);
    }
}

impl Ledger {
    /// Settles one chunk: `delta` references more or fewer, the record that it has and the copies that were stored.
    pub(crate) fn settle(
        &mut self,
        delta: i64,
        earlier: Option<ChunkRecord>,
        stored: Option<ChunkRecord>,
        prefer: Prefer,
    ) -> Settled {
        if let Some(stored) = &stored {
            // Every block enters its pack dead and comes alive with its first reference.
            let pack = self.pack(stored.pack);
            pack.blocks += 1;
            pack.block_bytes += stored.block_bytes() as i64;
            self.bury(stored);
        }
        let (count, mut record) = match (earlier, stored) {
            (None, None) => return (None, Some(Imbalance::NoRecord)),
            (None, Some(stored)) => (0, stored),
            (Some(earlier), Some(stored)) if prefer == Prefer::Stored => {
                // From now on the old copy is nobody's.
                if earlier.refcount > 0 {
                    self.retire(&earlier);
                    self.bury(&earlier);
                }
                (earlier.refcount, stored)
            }
            (Some(earlier), Some(_) | None) => {
                if earlier.refcount > 0 {
                    self.retire(&earlier);
                    self.bury(&earlier);
                }
                (earlier.refcount, earlier)
            }
        };
        let sum = i128::from(count) + i128::from(delta);
        let imbalance = (sum < 0).then_some(Imbalance::BelowZero);
        record.refcount = u64::try_from(sum).unwrap_or(1);
        if record.refcount > 0 {
            self.revive(&record);
        }
        (Some(record), imbalance)
    }

    fn pack(&mut self, pack: PackId) -> &mut PackDelta {
        self.packs.entry(pack).or_default()
    }

    /// A block becomes dead.
    fn bury(&mut self, record: &ChunkRecord) {
        let bytes = record.block_bytes() as i64;
        let pack = self.pack(record.pack);
        pack.dead_blocks += 1;
        pack.dead_bytes += bytes;
        self.totals.dead_bytes += bytes;
    }

    /// A chunk is no longer counted among those with references.
    fn retire(&mut self, record: &ChunkRecord) {
        self.totals.chunks -= 1;
        self.totals.unique_bytes -= i64::from(record.raw_len);
        self.totals.stored_bytes -= record.block_bytes() as i64;
    }

    /// A dead block's chunk has references.
    fn revive(&mut self, record: &ChunkRecord) {
        let bytes = record.block_bytes() as i64;
        let pack = self.pack(record.pack);
        pack.dead_blocks -= 1;
        pack.dead_bytes -= bytes;
        self.totals.dead_bytes -= bytes;
        self.totals.chunks += 1;
        self.totals.unique_bytes += i64::from(record.raw_len);
        self.totals.stored_bytes += bytes;
    }
}
