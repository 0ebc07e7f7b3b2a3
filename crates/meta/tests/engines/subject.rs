//! The store under test: any engine, behind one way to open it, close it and open it again.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use verfs_meta::{Direction, EngineKind, EngineOptions, KeyRange, MemoryStore, MetaStore, Result, WriteBatch, open};

/// An engine under test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The reference model.
    Memory,
    /// One of the engines that keep a volume.
    Kept(EngineKind),
}

impl Subject {
    /// The engine, in a test of what is on a disk.
    pub fn kept(self) -> EngineKind {
        match self {
            Subject::Kept(kind) => kind,
            Subject::Memory => unreachable!("nothing of it is on a disk"),
        }
    }
}

impl From<EngineKind> for Subject {
    fn from(kind: EngineKind) -> Self {
        Subject::Kept(kind)
    }
}

/// Small enough that a test of a few MiB makes the engine write and merge tables.
pub const SMALL: EngineOptions = EngineOptions { memtable_bytes: 1 << 20, block_cache_bytes: 8 << 20 };

/// A store under test and the directory that it lives in.
pub struct Fixture {
    subject: Subject,
    memory: Arc<MemoryStore>,
    kept: Option<Arc<dyn MetaStore>>,
    /// Dropped last: the store writes to it when it closes.
    dir: TempDir,
}

impl Fixture {
    /// A new store.
    pub fn new(subject: Subject) -> Self {
        let mut fixture = Fixture { subject, dir: temporary_dir(), memory: Arc::default(), kept: None };
        fixture.open();
        fixture
    }

    /// The store.
    pub fn store(&self) -> &dyn MetaStore {
        match &self.kept {
            Some(store) => store.as_ref(),
            None => self.memory.as_ref(),
        }
    }

    /// Closes the store and opens it again.
    pub fn reopen(&mut self) {
        self.store().close().unwrap();
        self.kept = None;
        self.open();
    }

    /// The directory of the store.
    pub fn store_dir(&self) -> PathBuf {
        self.dir.path().join("meta")
    }

    fn open(&mut self) {
        match self.subject {
            Subject::Memory => self.memory = Arc::new(self.memory.crash(0)),
            Subject::Kept(kind) => self.kept = Some(open_small(kind, &self.store_dir()).unwrap()),
        }
    }
}

/// A directory of the test's own.
pub fn temporary_dir() -> TempDir {
    tempfile::Builder::new().prefix("verfs-meta-").tempdir().unwrap()
}

/// Copies a directory with all that is in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Opens an engine that uses little memory.
pub fn open_small(kind: EngineKind, dir: &Path) -> Result<Arc<dyn MetaStore>> {
    open(kind, dir, &SMALL)
}

/// How long a random test runs, in its own unit.
pub fn cases(base: u32) -> u32 {
    let factor = std::env::var("VERFS_TEST_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    base * factor
}

/// Commits one pair.
pub fn put(store: &dyn MetaStore, key: &[u8], value: &[u8]) -> Result<()> {
    let mut batch = WriteBatch::new();
    batch.put(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    store.commit(batch)
}

/// The pairs of a range, in the order of the scan.
pub fn pairs(store: &dyn MetaStore, range: &KeyRange, direction: Direction) -> Vec<(Bytes, Bytes)> {
    let mut pairs = Vec::new();
    store
        .scan(range, direction, &mut |key, value| {
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        })
        .unwrap();
    pairs
}

/// Every pair.
pub fn everything(store: &dyn MetaStore) -> Vec<(Bytes, Bytes)> {
    pairs(store, &KeyRange::prefix(b""), Direction::Forward)
}
