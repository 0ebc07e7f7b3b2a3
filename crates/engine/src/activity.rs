//! Whether somebody uses a volume: background work keeps to a rate then.

use std::time::Duration;

use verfs_base::Clock;
use verfs_store::ChunkStore;
use verfs_vfs::Vfs;

/// Somebody who used the volume so long ago may come again at once.
const BUSY_MAX: Duration = Duration::from_millis(500);

/// What was seen of the use of a volume.
pub(crate) struct Activity {
    number: u64,
    at: Duration,
}

impl Activity {
    /// As if somebody used it just now.
    pub(crate) fn begin(vfs: &Vfs, store: &ChunkStore, clock: &dyn Clock) -> Activity {
        Activity { number: number(vfs, store), at: clock.monotonic() }
    }

    /// Looks again, and says what time it is.
    pub(crate) fn look(&mut self, vfs: &Vfs, store: &ChunkStore, clock: &dyn Clock) -> Duration {
        let (seen, now) = (number(vfs, store), clock.monotonic());
        if seen != self.number {
            *self = Activity { number: seen, at: now };
        }
        now
    }

    /// For how long nobody used it.
    pub(crate) fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(self.at)
    }

    /// Whether somebody uses it.
    pub(crate) fn is_busy(&self, now: Duration) -> bool {
        self.idle(now) < BUSY_MAX
    }
}

/// A number that changes when the volume is used.
fn number(vfs: &Vfs, store: &ChunkStore) -> u64 {
    let (vfs, store) = (vfs.stats(), store.stats());
    vfs.groups_committed + vfs.log_frames + vfs.dirty_bytes + store.chunk_cache_hits + store.chunk_cache_misses
}
