//! A repair whose power goes at any of its calls: the next one completes it, and nothing that it keeps is lost.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;

use verfs_base::Timestamp;
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_format::chunk_record::{CHUNK, ChunkRecord};
use verfs_meta::{Direction, KeyRange, MemoryStore};
use verfs_pack::index_path;
use verfs_store::{ChunkStore, StoreOptions};
use verfs_testkit::{CrashMeta, CrashStyle, Power, TestClock, TestRng};
use verfs_vfs::{Context, Listing, NodeKind, Vfs, VfsOptions, VfsParts};

use super::*;
use crate::tests::Machine;

const ROOT: Context = Context::ROOT;
const SECRET: [u8; 192] = [7; 192];
/// Files in `/dir`, and as many later ones.
const FILES: u64 = 3;

fn content(number: u64) -> Vec<u8> {
    let mut rng = TestRng::new(number + 1);
    std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(20_000).collect()
}

fn superblock() -> Superblock {
    Superblock {
        uuid: [1; 16],
        created: Timestamp::default(),
        metadata_engine: "surrealkv".to_owned(),
        chunker: ChunkerKind::Min.name().to_owned(),
        chunk_min_bytes: 2048,
        chunk_mean_bytes: 4096,
        chunk_max_bytes: 6144,
        id_secret: SECRET,
    }
}

impl Machine {
    fn records(&self) -> Arc<WitnessedStore> {
        let (disk, clock): (Arc<dyn Disk>, Arc<dyn Clock>) = (Arc::new(self.disk.clone()), Arc::new(TestClock::new()));
        records::witnessed(Arc::<CrashMeta>::clone(&self.meta), &disk, &clock).unwrap()
    }

    fn open(&self) -> (Arc<Vfs>, Arc<ChunkStore>) {
        let records = self.records();
        let options = StoreOptions {
            pack_target_bytes: 30_000,
            leftovers: records::leftovers(&records),
            ..StoreOptions::default()
        };
        let (disk, meta): (Arc<dyn Disk>, Arc<dyn MetaStore>) = (Arc::new(self.disk.clone()), records);
        let clock = Arc::new(TestClock::new());
        let store = ChunkStore::open(disk.clone(), meta.clone(), &SECRET, clock.clone(), options).unwrap();
        let sizes = ChunkSizes::for_mean(ChunkerKind::Min, 4096).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, sizes).unwrap();
        let parts = VfsParts { disk, meta, store: Arc::clone(&store), chunker, clock };
        let options = VfsOptions { log_file_bytes: 1 << 20, log_inline_bytes: 64 << 10, ..VfsOptions::default() };
        (Vfs::open(parts, options).unwrap(), store)
    }

    fn with_tree<T>(&self, work: impl FnOnce(&Vfs) -> T) -> T {
        let (vfs, store) = self.open();
        let done = work(&vfs);
        vfs.close().unwrap();
        store.close().unwrap();
        done
    }

    fn fsck(&self, repair: Repair) -> Result<FsckReport, EngineError> {
        let (mut report, path) = (FsckReport::default(), Path::new("volume"));
        let disk = |_: &str| Arc::new(self.disk.clone()) as Arc<dyn Disk>;
        let meta = self.records();
        let superblock = superblock();
        let site = Site { superblock: &superblock, disk: &disk, ground: Ground::Volume };
        let mut nobody = |_: &FsckProgress| ControlFlow::Continue(());
        let findings = check_trusted(path, &meta, site, repair, &Watch::new(&mut nobody), &mut report)?;
        meta.sync().map_err(|error| EngineError::from_meta(path, &error))?;
        report.conclude(&findings, repair);
        Ok(report)
    }

    fn change(&self, fill: impl FnOnce(&mut WriteBatch)) {
        let mut batch = WriteBatch::new();
        fill(&mut batch);
        self.meta.commit(batch).unwrap();
        self.meta.sync().unwrap();
    }

    fn pairs(&self, prefix: u8) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut pairs = BTreeMap::new();
        let mut take = |key: &[u8], value: &[u8]| {
            pairs.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        };
        self.meta.scan(&KeyRange::prefix(&[prefix]), Direction::Forward, &mut take).unwrap();
        pairs
    }
}

fn make(vfs: &Vfs, parent: Ino, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let name = format!("file {number}");
        let ino = vfs.mknod(&ROOT, parent, name.as_bytes(), NodeKind::Regular, 0o600).unwrap().ino;
        vfs.write(&ROOT, ino, 0, &content(number)).unwrap();
        vfs.sync().unwrap();
    }
}

/// A volume with files in a directory, closed.
fn volume() -> Machine {
    let machine = Machine::new();
    machine.with_tree(|vfs| {
        let directory = vfs.mkdir(&ROOT, Ino::ROOT, b"dir", 0o755).unwrap().ino;
        make(vfs, directory, 0..FILES);
    });
    machine
}

/// All bytes of all files, wherever they are.
fn contents(vfs: &Vfs, directory: Ino, all: &mut Vec<u8>) {
    for entry in vfs.readdir(&ROOT, directory, 0, 1000, Listing::Names).unwrap() {
        let attr = match &entry.name[..] {
            b"." | b".." => continue,
            _ => vfs.getattr(&ROOT, entry.ino).unwrap(),
        };
        match attr.kind {
            verfs_vfs::FileKind::Directory => contents(vfs, entry.ino, all),
            _ => all.extend(vfs.read(&ROOT, entry.ino, 0, attr.size as u32).unwrap().concat()),
        }
    }
}

/// Cuts a repair at each call in turn, and expects the next one to complete it, with these files in it.
fn cut_everywhere(damaged: &Machine, files: std::ops::Range<u64>) {
    let whole = damaged.crash(CrashStyle::LoseAll, 0);
    let report = whole.fsck(Repair::Yes).unwrap();
    assert_eq!(report.verdict, FsckVerdict::Mended, "{:?}", report.findings);
    let calls = whole.power.changes();
    assert!(calls > 5, "{calls} calls");
    for at in 0..calls {
        let machine = damaged.crash(CrashStyle::LoseAll, at);
        machine.power.cut_at(at);
        let cut = machine.fsck(Repair::Yes);
        machine.power.cut_now();
        assert!(cut.is_err() || at + 1 >= calls, "call {at} of {calls} was not cut");
        let style = CrashStyle::ALL[at as usize % CrashStyle::ALL.len()];
        let machine = machine.crash(style, at);
        let report = machine.fsck(Repair::Yes).unwrap();
        assert_eq!(report.left, 0, "call {at}: {:?}", report.findings);
        let report = machine.fsck(Repair::No).unwrap();
        assert_eq!((report.verdict, &report.findings[..]), (FsckVerdict::Clean, &[][..]), "call {at}");
        let mut all = Vec::new();
        machine.with_tree(|vfs| contents(vfs, Ino::ROOT, &mut all));
        for number in files.clone() {
            let content = content(number);
            for stretch in content.chunks_exact(400) {
                let halves = [&stretch[..100], &stretch[300..]];
                let is_there = halves.iter().any(|half| all.windows(half.len()).any(|window| window == *half));
                assert!(is_there, "call {at}: a part of file {number} is nowhere");
            }
        }
    }
}

#[test]
fn a_repair_of_records_that_is_cut_at_any_call_is_completed_by_the_next() {
    let machine = volume();
    // The directory loses its name, a file its inode, chunks their counts, a pack its index.
    let names = machine.pairs(keys::DIRENT);
    let of_root = |key: &Vec<u8>| keys::parse_dirent_of(key).is_some_and(|(parent, _, _)| parent == Ino::ROOT);
    let (chunk, record) = machine.pairs(CHUNK).into_iter().next().unwrap();
    let record = ChunkRecord::decode(&record).unwrap();
    let file = machine.pairs(keys::INODE).into_keys().last().unwrap();
    machine.change(|batch| {
        names.keys().filter(|key| of_root(key)).for_each(|key| batch.delete(key.clone()));
        batch.delete(file);
        batch.put(chunk, ChunkRecord { refcount: record.refcount + 4, ..record }.encode());
    });
    machine.disk.remove(&index_path(record.pack)).unwrap();
    machine.disk.sync_dir(index_path(record.pack).parent().unwrap()).unwrap();
    cut_everywhere(&machine, 0..FILES);
}

#[test]
fn a_repair_of_older_metadata_that_is_cut_at_any_call_is_completed_by_the_next() {
    let machine = volume();
    let earlier = machine.crash(CrashStyle::LoseAll, 0);
    machine.with_tree(|vfs| {
        make(vfs, Ino::ROOT, FILES..2 * FILES);
    });
    // Today's disk with yesterday's metadata.
    let power = Arc::new(Power::new());
    let mut rng = TestRng::new(1);
    let older = Machine {
        disk: machine.disk.crash(CrashStyle::LoseAll, &mut rng, Arc::clone(&power)),
        meta: Arc::new(earlier.meta.crash(&mut rng, Arc::new(MemoryStore::new()), Arc::clone(&power)).unwrap()),
        power,
    };
    assert!(matches!(older.records().standing(), Standing::Older { .. }));
    cut_everywhere(&older, 0..2 * FILES);
}

#[test]
fn a_repair_without_metadata_that_is_cut_at_any_call_is_completed_by_the_next() {
    let machine = volume();
    let power = Arc::new(Power::new());
    let lost = Machine {
        disk: machine.disk.crash(CrashStyle::LoseAll, &mut TestRng::new(1), Arc::clone(&power)),
        meta: Arc::new(CrashMeta::new(Arc::new(MemoryStore::new()), Arc::clone(&power))),
        power,
    };
    cut_everywhere(&lost, 0..FILES);
}
