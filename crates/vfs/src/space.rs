//! How much the disk under the volume still takes.

use verfs_base::Space;

/// Share of the disk that is kept for commits and deletes, as a divisor.
const RESERVE_SHARE: u64 = 16;
/// The reserve is never more than this.
const RESERVE_MAX_BYTES: u64 = 192 << 20;
/// What an operation may write beside its data: its records, twice over for the log.
const RECORDS_CLAIM_BYTES: u64 = 4096;

/// The disk's room as last looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpaceGauge {
    space: Space,
}

impl SpaceGauge {
    pub(crate) fn new(space: Space) -> Self {
        SpaceGauge { space }
    }

    /// Bytes of the whole disk.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.space.total
    }

    /// Bytes that may be written: what the disk has, less the reserve.
    pub(crate) fn available_bytes(&self) -> u64 {
        self.space.available.saturating_sub((self.space.total / RESERVE_SHARE).min(RESERVE_MAX_BYTES))
    }

    /// Whether there is room for `claim` bytes outside the reserve.
    pub(crate) fn covers(&self, claim: u64) -> bool {
        self.available_bytes() >= claim
    }

    /// Worst case on disk of one operation with so many bytes of data.
    pub(crate) fn claim_of(data_bytes: u64) -> u64 {
        data_bytes + data_bytes / 16 + RECORDS_CLAIM_BYTES
    }
}
