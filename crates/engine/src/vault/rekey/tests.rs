//! A rekey whose power goes at any of its calls: everything can be read afterwards, and it goes on to its end.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use verfs_base::{Disk, Ino, OsRng};
use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_codec::crypto::PasswordCost;
use verfs_format::vault::{VAULT_PREFIX, VaultCompression};
use verfs_meta::PrefixedStore;
use verfs_store::{ChunkBackend, Compressed, StoreOptions};
use verfs_testkit::{CrashStyle, TestClock, TestRng};
use verfs_vfs::{Context, NodeKind, UnlockedKeys, VaultSecrets, VfsOptions, VfsParts};

use super::*;
use crate::tests::Machine;

const SECRETS: VaultSecrets<'_> = VaultSecrets { password: b"secret", key_file: &[1; 32] };
/// Cheap: what it costs is no matter here.
const COST: PasswordCost = PasswordCost { memory_kib: 64, passes: 1, lanes: 1 };
const FILES: u64 = 4;

struct Opened {
    keys: Arc<VaultKeys>,
    sealed: Arc<SealedMeta>,
    store: Arc<ChunkStore>,
    vfs: Arc<Vfs>,
    retirement: Option<Retirement>,
}

/// Of file `number`: noise, in several chunks.
fn content(number: u64) -> Vec<u8> {
    let mut rng = TestRng::new(number + 1);
    std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(20_000).collect()
}

fn name(number: u64) -> Vec<u8> {
    format!("file {number}").into_bytes()
}

impl Machine {
    fn keyring(&self) -> Keyring {
        Keyring {
            meta: Arc::clone(&self.meta) as Arc<dyn MetaStore>,
            volume: [7; 16],
            rng: Arc::new(OsRng),
            clock: Arc::new(TestClock::new()),
        }
    }

    fn unlock(&self) -> Opened {
        let UnlockedKeys { keys, retirement, .. } = self.keyring().unlock(SECRETS).unwrap();
        let records = Arc::new(PrefixedStore::new(Arc::clone(&self.meta) as Arc<dyn MetaStore>, VAULT_PREFIX));
        let sealed = Arc::new(SealedMeta::new(records, Arc::clone(&keys)));
        let (disk, meta): (Arc<dyn Disk>, Arc<dyn MetaStore>) = (Arc::new(self.disk.clone()), sealed.clone());
        let clock = Arc::new(TestClock::new());
        let backend =
            ChunkBackend::Vault { secret: Box::new([7; 192]), keys: Arc::clone(&keys), compressed: Compressed::Yes };
        let options = StoreOptions { pack_target_bytes: 30_000, compress_threads: 1, ..StoreOptions::default() };
        let store = ChunkStore::open_backend(disk.clone(), meta.clone(), backend, clock.clone(), options).unwrap();
        let chunker = ChunkSizes::for_mean(ChunkerKind::Min, 4096).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, chunker).unwrap();
        let parts = VfsParts { disk, meta, store: Arc::clone(&store), chunker, clock };
        let options = VfsOptions { log_file_bytes: 1 << 20, log_inline_bytes: 64 << 10, ..VfsOptions::default() };
        Opened { keys, sealed, store, vfs: Vfs::open(parts, options).unwrap(), retirement }
    }
}

impl Opened {
    fn rekey(&self, machine: &Machine, retirement: Retirement) -> Result<(), Interrupted> {
        let parts = RekeyParts {
            keyring: machine.keyring(),
            keys: Arc::clone(&self.keys),
            meta: Arc::clone(&self.sealed),
            store: Arc::clone(&self.store),
            vfs: Arc::clone(&self.vfs),
            pause: Arc::default(),
            collecting: Arc::default(),
        };
        run(&Shared::default(), &parts, retirement)
    }

    fn check_files(&self) {
        for number in 0..FILES {
            let file = self.vfs.lookup(&Context::ROOT, Ino::ROOT, &name(number)).unwrap();
            let read = self.vfs.read(&Context::ROOT, file.ino, 0, 1 << 20).unwrap().concat();
            assert!(read == content(number), "file {number} is something else");
        }
        assert!(self.vfs.damaged().is_empty());
    }

    /// Without power it fails, and is fine.
    fn close(self) -> bool {
        let vfs = self.vfs.close().is_ok();
        self.store.close().is_ok() && vfs
    }
}

/// A vault with files, closed.
fn vault() -> Machine {
    let machine = Machine::new();
    machine.keyring().create(SECRETS, COST, VaultCompression::On).unwrap();
    let opened = machine.unlock();
    for number in 0..FILES {
        let file = opened.vfs.mknod(&Context::ROOT, Ino::ROOT, &name(number), NodeKind::Regular, 0o600).unwrap().ino;
        opened.vfs.write(&Context::ROOT, file, 0, &content(number)).unwrap();
    }
    opened.vfs.sync().unwrap();
    assert!(opened.close());
    machine
}

/// How many changing calls a rekey makes that nobody disturbs.
fn calls(vault: &Machine) -> u64 {
    let machine = vault.crash(CrashStyle::LoseAll, 0);
    let opened = machine.unlock();
    let before = machine.power.changes();
    let retirement = machine.keyring().begin_rekey(SECRETS, &opened.keys).unwrap();
    opened.rekey(&machine, retirement).unwrap();
    let calls = machine.power.changes() - before;
    assert!(opened.close());
    calls
}

#[test]
fn a_rekey_that_is_cut_at_any_call_loses_nothing_and_goes_on() {
    let vault = vault();
    let calls = calls(&vault);
    assert!(calls > 20, "{calls} calls");
    let (mut not_begun, mut gone_on) = (0, 0);
    for at in 0..=calls {
        let machine = vault.crash(CrashStyle::LoseAll, at);
        let opened = machine.unlock();
        let first = opened.keys.generation();
        machine.power.cut_at(machine.power.changes() + at);
        let begun = machine.keyring().begin_rekey(SECRETS, &opened.keys);
        let ended = begun.is_ok_and(|retirement| opened.rekey(&machine, retirement).is_ok());
        machine.power.cut_now();
        opened.close();

        let style = CrashStyle::ALL[at as usize % CrashStyle::ALL.len()];
        let machine = machine.crash(style, at);
        let mut opened = machine.unlock();
        opened.check_files();
        match opened.retirement.take() {
            Some(retirement) => {
                assert!(!ended, "call {at}: it said that it was done");
                opened.rekey(&machine, retirement).unwrap();
                opened.check_files();
                gone_on += 1;
            }
            // The key is old, or all is done.
            None => not_begun += u64::from(opened.keys.generation() == first),
        }
        assert!(!ended || opened.keys.generation() > first, "call {at}: there is no new key");
        assert!(opened.close());
        let opened = machine.unlock();
        assert!(opened.retirement.is_none(), "call {at}: the old key is still there");
        opened.check_files();
        assert!(opened.close());
    }
    assert!(not_begun > 0 && gone_on > calls / 2, "{not_begun} not begun, {gone_on} gone on, of {calls}");
}
