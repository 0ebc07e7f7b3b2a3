//! What the store tests share: a store on a disk and a metadata engine that can fail and crash.
#![allow(dead_code, reason = "each test file uses a part")]

#[path = "../../../pack/tests/support/disk.rs"]
pub mod disk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{ChunkId, PackId, SystemClock};
use verfs_format::chunk_record::{ChunkRecord, PackRecord, PackState, SYSTEM_STORE, StoreRecord, chunk_key, pack_key};
use verfs_meta::{Direction, KeyRange, MemoryStore, MetaStore, WriteBatch};
use verfs_store::{ChunkBatch, ChunkStore, Indexed, Leftovers, Result, StoreError, StoreOptions};

use self::disk::{Crash, TestDisk};

/// No byte like the next: keys of equal bytes cancel out in short hashes.
pub const SECRET: [u8; 192] = {
    let mut secret = [0; 192];
    let mut at = 0;
    while at < secret.len() {
        secret[at] = (at as u8).wrapping_mul(97).wrapping_add(31);
        at += 1;
    }
    secret
};

/// Number of random cases: `usual`, times `VERFS_TEST_FACTOR` if that is set.
pub fn cases(usual: u32) -> u32 {
    let factor = std::env::var("VERFS_TEST_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual.saturating_mul(factor)
}

/// Small limits, so that few chunks meet them.
pub fn options() -> StoreOptions {
    StoreOptions {
        pack_target_bytes: 64 << 10,
        chunk_cache_bytes: 1 << 20,
        pack_index_cache_bytes: 64 << 10,
        compression_level: 1,
        compress_threads: 2,
        inflight_bytes: 256 << 10,
        open_packs: 8,
        leftovers: Leftovers::Remove,
    }
}

/// Chunk `number`: its length and its text or noise follow from the number.
pub fn chunk(number: u64) -> Bytes {
    let len = 9 + (number * 7919 % 6000) as usize;
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes: Vec<u8> = (0..len)
        .map(|at| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if number.is_multiple_of(2) { b"dolor sit amet, "[at % 16] } else { random as u8 }
        })
        .collect();
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

/// A store, its disk and its metadata.
pub struct Rig {
    pub disk: TestDisk,
    pub meta: Arc<MemoryStore>,
    pub options: StoreOptions,
    pub store: Arc<ChunkStore>,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(options())
    }

    pub fn with(options: StoreOptions) -> Rig {
        Rig::on(TestDisk::new(), Arc::new(MemoryStore::new()), options)
    }

    pub fn on(disk: TestDisk, meta: Arc<MemoryStore>, options: StoreOptions) -> Rig {
        let store = open(&disk, &meta, &options).unwrap();
        Rig { disk, meta, options, store }
    }

    /// Puts chunks in a batch of their own and commits it.
    pub fn put_all(&self, numbers: impl Iterator<Item = u64>) -> Vec<ChunkId> {
        let mut batch = self.store.begin();
        let ids = numbers.map(|number| batch.put(chunk(number), Indexed::Yes).unwrap()).collect();
        self.commit(batch).unwrap();
        ids
    }

    /// Finishes a batch, commits and syncs its records.
    pub fn commit(&self, mut batch: ChunkBatch) -> Result<()> {
        let mut records = WriteBatch::new();
        batch.finish(&mut records)?;
        self.meta.commit(records)?;
        self.meta.sync()?;
        batch.committed();
        Ok(())
    }

    /// The volume after a crash now.
    pub fn crash(self, crash: Crash) -> Rig {
        let survivors = match crash {
            Crash::Process => usize::MAX,
            Crash::Power => 0,
            Crash::Torn(seed) => seed as usize % 3,
        };
        let (disk, meta) = (self.disk.crash(crash), Arc::new(self.meta.crash(survivors)));
        drop(self.store);
        Rig::on(disk, meta, self.options)
    }

    /// Closes and opens again.
    pub fn reopen(self) -> Rig {
        self.store.close().unwrap();
        Rig::on(self.disk, self.meta, self.options)
    }

    /// Forgets every cache: only what is on the disk and in the metadata counts.
    pub fn assert_reads(&self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            let data = chunk(number);
            let read = self.store.read(self.store.id_of(&data));
            assert!(read.as_ref().is_ok_and(|read| *read == data), "chunk {number}: {:?}", read.map(|read| read.len()));
        }
    }

    pub fn record(&self, number: u64) -> Option<ChunkRecord> {
        let key = chunk_key(self.store.id_of(&chunk(number)));
        self.meta.get(&key).unwrap().map(|value| ChunkRecord::decode(&value).unwrap())
    }

    pub fn refcount(&self, number: u64) -> u64 {
        self.record(number).map_or(0, |record| record.refcount)
    }

    pub fn pack_record(&self, pack: PackId) -> PackRecord {
        PackRecord::decode(&self.meta.get(&pack_key(pack)).unwrap().unwrap()).unwrap()
    }

    pub fn store_record(&self) -> StoreRecord {
        StoreRecord::decode(&self.meta.get(SYSTEM_STORE).unwrap().unwrap()).unwrap()
    }

    /// All pack records.
    pub fn pack_records(&self) -> Vec<PackRecord> {
        let mut records = Vec::new();
        self.meta
            .scan(&KeyRange::prefix(b"p"), Direction::Forward, &mut |_, value| {
                records.push(PackRecord::decode(value).unwrap());
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        records
    }

    /// Files with this extension.
    pub fn files(&self, extension: &str) -> Vec<PathBuf> {
        self.disk.paths().into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }

    /// Waits until every pack but the newest has its index and counts as sealed: that happens in the background.
    pub fn wait_sealed(&self) {
        for _ in 0..2000 {
            self.commit(self.store.begin()).unwrap();
            let mut packs = self.files("vpk");
            packs.sort();
            packs.pop();
            if packs.iter().all(|path| self.is_sealed(path)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("{:?}: {:?}", self.disk.paths(), self.pack_records());
    }

    fn is_sealed(&self, path: &Path) -> bool {
        let number = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok()).unwrap();
        let record = self.meta.get(&pack_key(PackId(number))).unwrap();
        record.is_some_and(|record| PackRecord::decode(&record).unwrap().state == PackState::Sealed)
    }
}

pub fn open(disk: &TestDisk, meta: &Arc<MemoryStore>, options: &StoreOptions) -> Result<Arc<ChunkStore>> {
    let meta: Arc<dyn MetaStore> = Arc::clone(meta) as Arc<dyn MetaStore>;
    ChunkStore::open(disk.as_disk(), meta, &SECRET, Arc::new(SystemClock::new()), options.clone())
}

pub fn is_damaged<T>(result: &Result<T>) -> bool {
    matches!(result, Err(StoreError::Damaged { .. }))
}
