//! A volume with a vault, opened by its parts: the tree, the open vault, and the locked one.
#![allow(dead_code, clippy::unwrap_used, reason = "a test may panic, and each file uses its part")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;
use verfs_base::{Disk, OsRng, RealDisk, SystemClock};
use verfs_chunker::{ChunkSizes, Chunker, ChunkerKind};
use verfs_codec::crypto::PasswordCost;
use verfs_format::vault::VAULT_PREFIX;
use verfs_meta::{Direction, KeyRange, MemoryStore, MetaStore, PrefixedStore};
use verfs_store::{ChunkBackend, ChunkStore, Compressed, StoreOptions};
use verfs_vfs::{
    Keyring, LockedVault, LockedVaults, OpenError, ResumeToken, SealedMeta, StreamError, TargetChanges, VaultSecrets,
    Vfs, VfsOptions, VfsParts, complete_vault_receive,
};

use super::tree::{Dump, dump};
use super::{Open, copy_tree};

pub const COST: PasswordCost = PasswordCost { memory_kib: 64, passes: 1, lanes: 1 };
pub const SECRETS: VaultSecrets<'_> = VaultSecrets { password: b"secret", key_file: &[1; 32] };

/// A volume with a vault, or for one.
pub struct World {
    pub directory: tempfile::TempDir,
    pub meta: Arc<MemoryStore>,
    pub number: u8,
}

impl World {
    pub fn new(number: u8) -> World {
        let world = World { directory: tempfile::tempdir().unwrap(), meta: Arc::new(MemoryStore::new()), number };
        std::fs::create_dir(world.directory.path().join("vault")).unwrap();
        world
    }

    pub fn copy(&self) -> World {
        let copy =
            World { directory: tempfile::tempdir().unwrap(), meta: Arc::new(MemoryStore::new()), number: self.number };
        copy_tree(self.directory.path(), copy.directory.path());
        verfs_meta::copy_all(&*self.meta, &*copy.meta).unwrap();
        copy
    }

    fn disk(&self, part: &str) -> Arc<dyn Disk> {
        Arc::new(RealDisk::new(self.directory.path().join(part)))
    }

    pub fn whole(&self) -> Arc<dyn MetaStore> {
        Arc::clone(&self.meta) as Arc<dyn MetaStore>
    }

    pub fn keyring(&self, meta: Arc<dyn MetaStore>) -> Keyring {
        Keyring { meta, volume: [self.number; 16], rng: Arc::new(OsRng), clock: Arc::new(SystemClock::new()) }
    }

    pub fn open(
        &self,
        meta: Arc<dyn MetaStore>,
        disk: Arc<dyn Disk>,
        backend: ChunkBackend,
    ) -> Result<Open, OpenError> {
        let clock = Arc::new(SystemClock::new());
        let options = StoreOptions { compress_threads: 1, ..StoreOptions::default() };
        let store = ChunkStore::open_backend(disk.clone(), meta.clone(), backend, clock.clone(), options).unwrap();
        let parts = VfsParts { disk, meta, store: store.clone(), chunker: chunker(), clock };
        let options = VfsOptions {
            group_interval_ms: 2,
            inode_cache_entries: 4,
            log_file_bytes: 1 << 20,
            log_inline_bytes: 64 << 10,
            ..VfsOptions::default()
        };
        Ok(Open { vfs: Vfs::open(parts, options)?, store })
    }

    /// The tree of the volume itself. The vault's part of a stream comes first.
    pub fn tree(&self, meta: Arc<dyn MetaStore>) -> Open {
        let vault = self.vault(Arc::clone(&meta));
        complete_vault_receive(&*self.disk(""), &*meta, &vault).unwrap();
        vault.close();
        self.open(meta, self.disk(""), ChunkBackend::plain(&[self.number; 192])).unwrap()
    }

    /// The open vault.
    pub fn unlocked(&self) -> Open {
        self.unlocked_over(self.whole())
    }

    pub fn unlocked_over(&self, whole: Arc<dyn MetaStore>) -> Open {
        let keys = self.keyring(Arc::clone(&whole)).unlock(SECRETS).unwrap().keys;
        let records: Arc<dyn MetaStore> = Arc::new(PrefixedStore::new(whole, VAULT_PREFIX));
        let meta = Arc::new(SealedMeta::new(records, Arc::clone(&keys)));
        let secret = Box::new([self.number; 192]);
        let backend = ChunkBackend::Vault { secret, keys, compressed: Compressed::Yes };
        self.open(meta, self.disk("vault"), backend).unwrap()
    }

    /// The vault without its keys.
    pub fn vault(&self, meta: Arc<dyn MetaStore>) -> Locked {
        let records: Arc<dyn MetaStore> = Arc::new(PrefixedStore::new(Arc::clone(&meta), VAULT_PREFIX));
        let disk = self.disk("vault");
        let store = Arc::new(Mutex::new(None));
        let (of_store, on, secret, number) =
            (Arc::clone(&records), Arc::clone(&disk), Box::new([self.number; 192]), Arc::clone(&store));
        let open = move || {
            let mut store = number.lock();
            if store.is_none() {
                let backend = ChunkBackend::Locked { secret: secret.clone() };
                let clock = Arc::new(SystemClock::new());
                let options = StoreOptions { compress_threads: 1, ..StoreOptions::default() };
                *store = Some(ChunkStore::open_backend(on.clone(), of_store.clone(), backend, clock, options)?);
            }
            Ok(Arc::clone(store.as_ref().unwrap()))
        };
        let vault = LockedVault::new(records, disk, Arc::default(), self.keyring(meta), open);
        Locked { vault, store }
    }
}

fn chunker() -> Arc<dyn Chunker> {
    verfs_chunker::chunker(ChunkerKind::Min, ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap()).unwrap()
}

pub struct Locked {
    pub vault: LockedVault,
    store: Arc<Mutex<Option<Arc<ChunkStore>>>>,
}

impl Locked {
    pub fn close(self) {
        if let Some(store) = self.store.lock().take() {
            let closed = store.close();
            drop((closed, store));
        }
    }
}

impl std::ops::Deref for Locked {
    type Target = LockedVault;

    fn deref(&self) -> &LockedVault {
        &self.vault
    }
}

impl LockedVaults for Locked {
    fn with(&self, act: &mut dyn FnMut(Option<&LockedVault>) -> Result<(), StreamError>) -> Result<(), StreamError> {
        act(Some(&self.vault))
    }
}

pub fn send(from: &World, tree: &Open, name: &[u8], base: Option<&[u8]>) -> Vec<u8> {
    resume(from, tree, (name, base), None)
}

/// The stream, or with a token the rest of it.
pub fn resume(from: &World, tree: &Open, of: (&[u8], Option<&[u8]>), token: Option<ResumeToken>) -> Vec<u8> {
    let vault = from.vault(from.whole());
    let mut stream = Vec::new();
    let go_on = &mut |_| ControlFlow::Continue(());
    tree.vfs.send_with_vault(of, token, Some(&vault), &mut stream, go_on).unwrap();
    vault.close();
    stream
}

pub fn receive(to: &World, meta: &Arc<dyn MetaStore>, tree: &Open, stream: &[u8]) -> Result<(), StreamError> {
    let vault = to.vault(Arc::clone(meta));
    let go_on = &mut |_| ControlFlow::Continue(());
    let received = tree.vfs.receive_with_vault(&mut &stream[..], TargetChanges::RollBack, Some(&vault), go_on);
    vault.close();
    received.map(drop)
}

pub fn past_of(vault: &Open) -> BTreeMap<Vec<u8>, Dump> {
    let trees = vault.vfs.snapshots().into_iter();
    trees.map(|one| (one.name.to_vec(), dump(&vault.vfs.open_snapshot(&one.name).unwrap()))).collect()
}

pub fn keys_of(world: &World, first: u8) -> usize {
    let mut count = 0;
    let range = KeyRange::prefix(&[VAULT_PREFIX, first]);
    let counted = world.meta.scan(&range, Direction::Forward, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    });
    counted.unwrap();
    count
}
