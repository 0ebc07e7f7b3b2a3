//! While a vault is open in this process, nothing of its memory gets to a disk by a core dump, and other processes of
//! the user may not read it (`PR_SET_DUMPABLE`, prctl(2)). Freed memory is to be wiped.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use verfs_memory::{FreedMemory, set_freed_memory};

/// Open vaults of this process: what they set is of the process, too.
static OPEN_VAULTS: AtomicUsize = AtomicUsize::new(0);
static CHANGING: Mutex<()> = Mutex::new(());
static ON_CHANGE: OnceLock<fn(FreedMemory)> = OnceLock::new();

/// Tells `on_change` whenever it changes what becomes of freed memory: there may be other allocators than [`Memory`]. The
/// first one counts.
///
/// [`Memory`]: verfs_memory::Memory
pub fn watch_freed_memory(on_change: fn(FreedMemory)) {
    // Whoever comes second is the same: there is one addon in a process.
    let _ = ON_CHANGE.set(on_change);
}

fn tell(memory: FreedMemory) {
    set_freed_memory(memory);
    if let Some(on_change) = ON_CHANGE.get() {
        on_change(memory);
    }
}

/// Held while a vault is open.
#[derive(Debug)]
pub(super) struct NoCoreDumps(());

impl NoCoreDumps {
    pub(super) fn begin() -> NoCoreDumps {
        let _changing = CHANGING.lock();
        if OPEN_VAULTS.fetch_add(1, Ordering::Relaxed) == 0 {
            tell(FreedMemory::Wiped);
        }
        set(DumpableBehavior::NotDumpable);
        NoCoreDumps(())
    }
}

impl Drop for NoCoreDumps {
    fn drop(&mut self) {
        let _changing = CHANGING.lock();
        if OPEN_VAULTS.fetch_sub(1, Ordering::Relaxed) == 1 {
            tell(FreedMemory::Left);
            set(DumpableBehavior::Dumpable);
        }
    }
}

fn set(behavior: DumpableBehavior) {
    if let Err(error) = set_dumpable_behavior(behavior) {
        tracing::warn!(%error, "core dumps stay as they are");
    }
}
