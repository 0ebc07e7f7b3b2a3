//! What tests of several modules share: where those that cut the power keep what a volume or its vault consists of.
//!
//! Lives here: the disk, the metadata and their power, and what a crash leaves. Never here: what is kept on it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use verfs_meta::MemoryStore;
use verfs_testkit::{CrashDisk, CrashMeta, CrashStyle, Power, TestRng};

/// A disk and metadata with one power.
pub(crate) struct Machine {
    pub(crate) power: Arc<Power>,
    pub(crate) disk: CrashDisk,
    pub(crate) meta: Arc<CrashMeta>,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let power = Arc::new(Power::new());
        let meta = Arc::new(CrashMeta::new(Arc::new(MemoryStore::new()), Arc::clone(&power)));
        Machine { disk: CrashDisk::new(Arc::clone(&power)), meta, power }
    }

    pub(crate) fn crash(&self, style: CrashStyle, seed: u64) -> Machine {
        let (power, mut rng) = (Arc::new(Power::new()), TestRng::new(seed));
        let disk = self.disk.crash(style, &mut rng, Arc::clone(&power));
        let meta = self.meta.crash(&mut rng, Arc::new(MemoryStore::new()), Arc::clone(&power)).unwrap();
        Machine { power, disk, meta: Arc::new(meta) }
    }
}
