//! While a vault is open in this process, nothing of its memory gets to a disk by a core dump, and other processes of
//! the user may not read it (`PR_SET_DUMPABLE`, prctl(2)). Freed memory is to be wiped.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Open vaults of this process: what they set is of the process, too.
static OPEN_VAULTS: AtomicUsize = AtomicUsize::new(0);
static CHANGING: Mutex<()> = Mutex::new(());

/// Whether memory that is freed has to be wiped: a vault is open in this process. For its allocator.
#[must_use]
pub fn wipes_freed_memory() -> bool {
    OPEN_VAULTS.load(Ordering::Relaxed) > 0
}

/// Held while a vault is open.
#[derive(Debug)]
pub(super) struct NoCoreDumps(());

impl NoCoreDumps {
    pub(super) fn begin() -> NoCoreDumps {
        let _changing = CHANGING.lock();
        OPEN_VAULTS.fetch_add(1, Ordering::Relaxed);
        set(DumpableBehavior::NotDumpable);
        NoCoreDumps(())
    }
}

impl Drop for NoCoreDumps {
    fn drop(&mut self) {
        let _changing = CHANGING.lock();
        if OPEN_VAULTS.fetch_sub(1, Ordering::Relaxed) == 1 {
            set(DumpableBehavior::Dumpable);
        }
    }
}

fn set(behavior: DumpableBehavior) {
    if let Err(error) = set_dumpable_behavior(behavior) {
        tracing::warn!(%error, "core dumps stay as they are");
    }
}
