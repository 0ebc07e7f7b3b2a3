//! A volume in a temporary directory, with its metadata in memory.
#![allow(dead_code, clippy::unwrap_used, reason = "a test may panic, and each file uses its part")]

pub mod cut_off;
pub mod tree;
pub mod vault;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{Clock, Ino, RealDisk, SystemClock};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_meta::{MemoryStore, MetaStore};
use verfs_store::{ChunkStore, StoreOptions};
use verfs_vfs::{Context, Outdated, Vfs, VfsOptions, VfsParts};

pub const ROOT: Context = Context::ROOT;
const SECRET: [u8; 192] = [7; 192];

pub struct Volume {
    directory: tempfile::TempDir,
    pub meta: Arc<MemoryStore>,
    options: VfsOptions,
}

pub struct Open {
    pub vfs: Arc<Vfs>,
    pub store: Arc<ChunkStore>,
}

impl Volume {
    pub fn new(options: VfsOptions) -> Self {
        let options = VfsOptions { log_file_bytes: 1 << 20, log_inline_bytes: 64 << 10, ..options };
        Volume { directory: tempfile::tempdir().unwrap(), meta: Arc::new(MemoryStore::new()), options }
    }

    /// The same volume after the power went while it was open: nothing in memory reached the disk.
    pub fn after_power_loss(&self) -> Volume {
        let crashed = Volume {
            directory: tempfile::tempdir().unwrap(),
            meta: Arc::new(MemoryStore::new()),
            options: self.options.clone(),
        };
        copy_tree(self.directory.path(), crashed.directory.path());
        verfs_meta::copy_all(&*self.meta, &*crashed.meta).unwrap();
        crashed
    }

    pub fn open(&self) -> Open {
        self.open_over(self.meta.clone())
    }

    pub fn open_over(&self, meta: Arc<dyn MetaStore>) -> Open {
        self.open_with(meta, Arc::new(SystemClock::new()))
    }

    pub fn open_at(&self, clock: Arc<dyn Clock>) -> Open {
        self.open_with(self.meta.clone(), clock)
    }

    fn open_with(&self, meta: Arc<dyn MetaStore>, clock: Arc<dyn Clock>) -> Open {
        let disk = Arc::new(RealDisk::new(PathBuf::from(self.directory.path())));
        let store =
            ChunkStore::open(disk.clone(), meta.clone(), &SECRET, clock.clone(), StoreOptions::default()).unwrap();
        let sizes = ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, sizes).unwrap();
        let parts = VfsParts { disk, meta, store: store.clone(), chunker, clock };
        Open { vfs: Vfs::open(parts, self.options.clone()).unwrap(), store }
    }
}

impl Open {
    pub fn close(self) {
        self.vfs.close().unwrap();
        self.store.close().unwrap();
    }

    /// All names that a rollback or a stream made outdated.
    pub fn outdated_names(&self, outdated: &Outdated) -> Vec<(Ino, Bytes)> {
        let mut all = Vec::new();
        self.vfs.outdated_names(outdated, &mut |mut names| all.append(&mut names)).unwrap();
        all
    }

    pub fn read(&self, ino: Ino) -> Vec<u8> {
        let size = self.vfs.getattr(&ROOT, ino).unwrap().size;
        self.vfs.read(&ROOT, ino, 0, size as u32).unwrap().concat()
    }
}

pub fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(len)
    .collect()
}

pub fn slow() -> VfsOptions {
    VfsOptions { group_interval_ms: 3_600_000, ..VfsOptions::default() }
}

pub fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
