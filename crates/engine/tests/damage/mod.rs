//! A volume with something of everything in it, and ways to damage it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use verfs_base::{ChunkId, Epoch, Ino, PackId, RealDisk};
use verfs_engine::{Background, CreateOptions, OpenOptions, Volume};
use verfs_format::chunk_record::{ChunkRecord, PackRecord, chunk_key, pack_key};
use verfs_format::superblock::Superblock;
use verfs_format::{InodeRecord, NameHash, RunData, Segment, encode_versioned, keys, split_versioned};
use verfs_meta::{Direction, EngineOptions, KeyRange, MetaStore, WriteBatch};
use verfs_pack::{load_index, pack_path};
use verfs_store::ChunkBackend;
use verfs_vfs::{Context, NodeKind, Vfs, VfsError, XattrMode};

/// Files of [`Built`] that have data in chunks.
pub const CHUNKED: [&str; 4] = ["/dir/file", "/dir/deep/file", "/changed", "/new"];

const ROOT: Context = Context::ROOT;

pub fn options() -> OpenOptions {
    OpenOptions { gc_background: Background::Off, ..OpenOptions::default() }
}

/// Bytes that don't compress and are like no others.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = seed * 2 + 1;
    let mut byte = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as u8
    };
    (0..len).map(|_| byte()).collect()
}

/// What a test expects in `lost+found`.
pub enum Kept {
    File(&'static str),
    Directory,
}

/// A volume to be damaged.
pub struct Built {
    pub directory: tempfile::TempDir,
    pub path: PathBuf,
    made: Arc<Made>,
}

/// The volume of which each [`Built`] has a copy: made once for all that run at the same time.
struct Made {
    directory: tempfile::TempDir,
    inodes: BTreeMap<String, Ino>,
    contents: BTreeMap<String, Vec<u8>>,
    superblock: Superblock,
}

static MADE: Mutex<Weak<Made>> = Mutex::new(Weak::new());

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

fn lookup(vfs: &Vfs, path: &str) -> Result<Ino, VfsError> {
    let mut at = Ino::ROOT;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        at = vfs.lookup(&ROOT, at, name.as_bytes())?.ino;
    }
    Ok(at)
}

fn read_all(vfs: &Vfs, ino: Ino) -> Result<Vec<u8>, VfsError> {
    let size = vfs.getattr(&ROOT, ino)?.size as u32;
    Ok(vfs.read(&ROOT, ino, 0, size)?.concat())
}

impl Built {
    pub fn new() -> Built {
        let made = {
            let mut shared = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            shared.upgrade().unwrap_or_else(|| {
                let made = Arc::new(Made::new());
                *shared = Arc::downgrade(&made);
                made
            })
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        copy(&made.directory.path().join("volume"), &path);
        Built { directory, path, made }
    }
}

impl Made {
    /// `/dir/file`, `/dir/deep/file`: chunks; `/small`, `/hard` and its other name; `/link`, `/pipe`, `/attributes`; a
    /// snapshot of it, and changes since. Everything is sealed, and the first pack is collected: number 1 is free.
    fn new() -> Made {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volume");
        Volume::create(&path, &CreateOptions::default()).unwrap();
        // It goes, with its pack.
        let volume = Volume::open(&path, &options()).unwrap();
        let first = volume.vfs().mknod(&ROOT, Ino::ROOT, b"first", NodeKind::Regular, 0o644).unwrap().ino;
        volume.vfs().write(&ROOT, first, 0, &noise(1, 200_000)).unwrap();
        volume.close().unwrap();
        let volume = Volume::open(&path, &options()).unwrap();
        let vfs = volume.vfs();
        vfs.unlink(&ROOT, Ino::ROOT, b"first").unwrap();
        volume.collect_garbage().unwrap();
        let make =
            |parent: Ino, name: &str| vfs.mknod(&ROOT, parent, name.as_bytes(), NodeKind::Regular, 0o644).unwrap().ino;
        let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut write = |parent: Ino, name: &str, path: &str, bytes: Vec<u8>| {
            let ino = make(parent, name);
            vfs.write(&ROOT, ino, 0, &bytes).unwrap();
            contents.insert(path.to_owned(), bytes);
            ino
        };
        let dir = vfs.mkdir(&ROOT, Ino::ROOT, b"dir", 0o755).unwrap().ino;
        let deep = vfs.mkdir(&ROOT, dir, b"deep", 0o755).unwrap().ino;
        write(dir, "file", "/dir/file", noise(2, 300_000));
        write(deep, "file", "/dir/deep/file", noise(3, 200_000));
        write(Ino::ROOT, "small", "/small", b"a few bytes".to_vec());
        let changed = write(Ino::ROOT, "changed", "/changed", noise(4, 100_000));
        let hard = write(Ino::ROOT, "hard", "/hard", b"two names".to_vec());
        vfs.link(&ROOT, hard, Ino::ROOT, b"harder").unwrap();
        vfs.symlink(&ROOT, Ino::ROOT, b"link", b"dir/file").unwrap();
        vfs.mknod(&ROOT, Ino::ROOT, b"pipe", NodeKind::Fifo, 0o600).unwrap();
        let attributes = write(Ino::ROOT, "attributes", "/attributes", b"with attributes".to_vec());
        vfs.setxattr(&ROOT, attributes, b"user.name", b"value", XattrMode::Set).unwrap();
        vfs.sync().unwrap();
        volume.create_snapshot(b"monday", b"").unwrap();
        write(Ino::ROOT, "new", "/new", noise(5, 50_000));
        let other = noise(6, 100_000);
        vfs.write(&ROOT, changed, 0, &other).unwrap();
        contents.insert("/changed".to_owned(), other);
        vfs.rename(&ROOT, Ino::ROOT, b"hard", Ino::ROOT, b"hard-2", verfs_vfs::RenameMode::Replace).unwrap();
        vfs.rename(&ROOT, Ino::ROOT, b"hard-2", Ino::ROOT, b"hard", verfs_vfs::RenameMode::Replace).unwrap();
        vfs.sync().unwrap();
        let names =
            ["/dir", "/dir/deep", "/dir/file", "/dir/deep/file", "/small", "/changed", "/hard", "/link", "/pipe"];
        let names = names.into_iter().chain(["/attributes", "/new"]);
        let inodes = names.map(|name| (name.to_owned(), lookup(vfs, name).unwrap())).collect();
        volume.close().unwrap();
        let superblock = Superblock::decode(&std::fs::read(path.join("volume.toml")).unwrap()).unwrap();
        Made { directory, inodes, contents, superblock }
    }
}

impl Built {
    pub fn ino(&self, name: &str) -> Ino {
        self.made.inodes[name]
    }

    pub fn disk(&self) -> RealDisk {
        RealDisk::new(self.path.clone())
    }

    /// Runs something on the metadata.
    pub fn meta<T>(&self, work: impl FnOnce(&dyn MetaStore) -> T) -> T {
        let engine = self.made.superblock.metadata_engine.parse().unwrap();
        let meta = verfs_meta::open(engine, &self.path.join("meta"), &EngineOptions::default()).unwrap();
        let done = work(&*meta);
        meta.sync().unwrap();
        meta.close().unwrap();
        done
    }

    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.meta(|meta| meta.get(key).unwrap()).map(|value| value.to_vec())
    }

    pub fn put(&self, key: &[u8], value: Vec<u8>) {
        self.meta(|meta| {
            let mut batch = WriteBatch::new();
            batch.put(key.to_vec(), value);
            meta.commit(batch).unwrap();
        });
    }

    pub fn delete(&self, key: &[u8]) {
        self.meta(|meta| {
            assert!(meta.get(key).unwrap().is_some(), "there is nothing at {}", key.escape_ascii());
            let mut batch = WriteBatch::new();
            batch.delete(key.to_vec());
            meta.commit(batch).unwrap();
        });
    }

    /// All keys of a keyspace.
    pub fn keys(&self, prefix: u8) -> Vec<Vec<u8>> {
        self.keys_from(&[prefix])
    }

    /// All keys that begin so.
    pub fn keys_from(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        self.meta(|meta| {
            let mut keys = Vec::new();
            let mut each = |key: &[u8], _: &[u8]| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            };
            meta.scan(&KeyRange::prefix(prefix), Direction::Forward, &mut each).unwrap();
            keys
        })
    }

    pub fn dirent_at(&self, parent: Ino, name: &[u8]) -> Vec<u8> {
        let backend = ChunkBackend::plain(&self.made.superblock.id_secret);
        keys::dirent(parent, NameHash::from_keyed(backend.name_id(parent, name)), name)
    }

    pub fn dirent(&self, path: &str) -> Vec<u8> {
        let path = Path::new(path);
        let parent = match path.parent().unwrap().to_str().unwrap() {
            "/" => Ino::ROOT,
            parent => self.ino(parent),
        };
        self.dirent_at(parent, path.file_name().unwrap().as_encoded_bytes())
    }

    /// Changes an inode.
    pub fn inode(&self, path: &str, change: impl FnOnce(&mut InodeRecord)) {
        let key = keys::inode(self.ino(path));
        let value = self.get(&key).unwrap();
        let (birth, record) = split_versioned(&value).unwrap();
        let mut record = InodeRecord::decode(record).unwrap();
        change(&mut record);
        self.put(&key, encode_versioned(birth, |out| record.encode(out)));
    }

    /// The first chunk of a file, and its record.
    pub fn chunk_of(&self, path: &str) -> (ChunkId, ChunkRecord) {
        let value = self.get(&keys::segment(verfs_format::ContentId(self.ino(path).0), 0)).unwrap();
        let segment = Segment::decode(split_versioned(&value).unwrap().1).unwrap();
        let RunData::Chunk { id, .. } = segment.runs[0].data else { panic!("{path}: {segment:?}") };
        (id, ChunkRecord::decode(&self.get(&chunk_key(id)).unwrap()).unwrap())
    }

    pub fn pack_of(&self, path: &str) -> (PackId, PackRecord) {
        let pack = self.chunk_of(path).1.pack;
        (pack, PackRecord::decode(&self.get(&pack_key(pack)).unwrap()).unwrap())
    }

    pub fn snapshot(&self) -> Epoch {
        keys::parse_snapshot(&self.keys(keys::SNAPSHOT)[0]).unwrap()
    }

    /// Cuts bytes off a file.
    pub fn cut(&self, file: &Path, bytes: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path.join(file)).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len - bytes).unwrap();
    }

    /// Changes a byte of the record of a chunk.
    pub fn spoil_record(&self, chunk: ChunkId, pack: PackId) {
        let entry = load_index(&self.disk(), pack).unwrap().unwrap().find(chunk).unwrap();
        let path = self.path.join(pack_path(pack));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[entry.offset as usize + 50] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }

    /// Every file has its bytes, but for those that are lost: they are gone or give errors, never others.
    pub fn assert_reads(&self, lost: &[&str]) {
        let volume = Volume::open(&self.path, &options()).unwrap();
        self.assert_reads_of(&volume, lost);
        volume.close().unwrap();
    }

    pub fn assert_reads_of(&self, volume: &Volume, lost: &[&str]) {
        for (path, bytes) in &self.made.contents {
            let read = lookup(volume.vfs(), path).and_then(|ino| read_all(volume.vfs(), ino));
            match read {
                Ok(read) => assert!(
                    read == *bytes || lost.contains(&&path[..]) && bytes.starts_with(&read),
                    "{path} {} {} {:?}",
                    read.len(),
                    bytes.len(),
                    read.iter().zip(bytes).position(|(a, b)| a != b)
                ),
                Err(error) => assert!(lost.contains(&&path[..]), "{path}: {error}"),
            }
        }
    }

    /// Names in `lost+found`.
    pub fn found_directory(&self) -> Vec<String> {
        let volume = Volume::open(&self.path, &options()).unwrap();
        let ino = lookup(volume.vfs(), "/lost+found").unwrap();
        let mut names: Vec<String> =
            self.meta_names(volume.vfs(), ino).into_iter().filter(|name| name != "." && name != "..").collect();
        names.sort();
        volume.close().unwrap();
        names
    }

    fn meta_names(&self, vfs: &Vfs, ino: Ino) -> Vec<String> {
        let listing = vfs.readdir(&ROOT, ino, 0, 1000, verfs_vfs::Listing::Names).unwrap();
        listing.into_iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
    }

    /// An inode is in `lost+found`, with what it had.
    pub fn assert_found(&self, ino: Ino, kept: Kept) {
        assert_eq!(self.found_directory(), [format!("#{ino}")]);
        let volume = Volume::open(&self.path, &options()).unwrap();
        let at = lookup(volume.vfs(), &format!("/lost+found/#{ino}")).unwrap();
        assert_eq!(at, ino);
        match kept {
            Kept::File(path) => assert_eq!(read_all(volume.vfs(), at).unwrap(), self.made.contents[path]),
            Kept::Directory => {
                let inside = lookup(volume.vfs(), &format!("/lost+found/#{ino}/file")).unwrap();
                assert_eq!(read_all(volume.vfs(), inside).unwrap(), self.made.contents["/dir/file"]);
            }
        }
        volume.close().unwrap();
    }
}
