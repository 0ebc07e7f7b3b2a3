//! The record of a vault's keys: after power loss at any point the old secrets open it, or the new ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use verfs_base::OsRng;
use verfs_codec::crypto::PasswordCost;
use verfs_format::vault::{SYSTEM_VAULT_KEYS, VaultCompression};
use verfs_meta::{MemoryStore, MetaStore, WriteBatch};
use verfs_testkit::{CrashMeta, Power, TestClock, TestRng};
use verfs_vfs::{Keyring, VaultError, VaultSecrets};

/// Cheap: what it costs is no matter here.
const COST: PasswordCost = PasswordCost { memory_kib: 64, passes: 1, lanes: 1 };
const OLD: VaultSecrets<'_> = VaultSecrets { password: b"old", key_file: &[1; 32] };
const NEW: VaultSecrets<'_> = VaultSecrets { password: b"new", key_file: &[2; 32] };
/// Calls to the engine after which everything is done, with room to spare.
const CALLS: u64 = 12;

fn keyring(meta: &Arc<CrashMeta>) -> Keyring {
    Keyring {
        meta: Arc::clone(meta) as Arc<dyn MetaStore>,
        volume: [7; 16],
        rng: Arc::new(OsRng),
        clock: Arc::new(TestClock::new()),
    }
}

fn new_meta() -> (Arc<Power>, Arc<CrashMeta>) {
    let power = Arc::new(Power::new());
    (Arc::clone(&power), Arc::new(CrashMeta::new(Arc::new(MemoryStore::new()), power)))
}

fn after_crash(meta: &CrashMeta, seed: u64) -> Arc<CrashMeta> {
    let power = Arc::new(Power::new());
    Arc::new(meta.crash(&mut TestRng::new(seed), Arc::new(MemoryStore::new()), power).unwrap())
}

/// Runs `act` with the power cut after each number of calls, and gives what was said and what each crash leaves.
fn cut_everywhere(
    prepare: impl Fn(&Keyring),
    act: impl Fn(&Keyring) -> Result<(), VaultError>,
    check: impl Fn(&Keyring, bool),
) {
    let mut outcomes = [0, 0];
    for at in 0..CALLS {
        for seed in 0..4 {
            let (power, meta) = new_meta();
            prepare(&keyring(&meta));
            power.cut_at(power.changes() + at);
            let done = act(&keyring(&meta)).is_ok() && !power.is_off();
            outcomes[usize::from(done)] += 1;
            power.cut_now();
            check(&keyring(&after_crash(&meta, seed)), done);
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

#[test]
fn a_vault_is_made_whole_or_not_at_all() {
    let create = |keyring: &Keyring| keyring.create(OLD, COST, VaultCompression::On).map(drop);
    cut_everywhere(
        |_| (),
        create,
        |keyring, done| match keyring.unlock(OLD) {
            Ok(_) => {}
            Err(VaultError::Absent) if !done => create(keyring).unwrap(),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn changed_secrets_are_the_old_ones_or_the_new_ones_and_the_keys_the_same() {
    let create = |keyring: &Keyring| drop(keyring.create(OLD, COST, VaultCompression::Off).unwrap());
    let change = |keyring: &Keyring| keyring.change(OLD, NEW, PasswordCost { passes: 2, ..COST });
    cut_everywhere(create, change, |keyring, done| {
        let (old, new) = (keyring.unlock(OLD), keyring.unlock(NEW));
        assert_ne!(old.is_ok(), new.is_ok(), "{old:?} {new:?}");
        assert!(new.is_ok() || !done, "it said that it was done");
        let opened = old.or(new).unwrap();
        assert_eq!(opened.record.compression, VaultCompression::Off);
        assert!(matches!(keyring.create(OLD, COST, VaultCompression::On), Err(VaultError::Exists)));
    });
    let (_, meta) = new_meta();
    let before = keyring(&meta).create(OLD, COST, VaultCompression::On).unwrap().keys.chunk_id(b"x");
    change(&keyring(&meta)).unwrap();
    assert_eq!(keyring(&meta).unlock(NEW).unwrap().keys.chunk_id(b"x"), before);
}

#[test]
fn damaged_keys_are_told_from_wrong_secrets() {
    let (_, meta) = new_meta();
    assert!(matches!(keyring(&meta).unlock(OLD), Err(VaultError::Absent)));
    keyring(&meta).create(OLD, COST, VaultCompression::On).unwrap();
    let mixed = VaultSecrets { password: NEW.password, ..OLD };
    for wrong in [mixed, VaultSecrets { key_file: NEW.key_file, ..OLD }] {
        assert!(matches!(keyring(&meta).unlock(wrong), Err(VaultError::WrongSecret)));
    }
    let record = meta.get(SYSTEM_VAULT_KEYS).unwrap().unwrap();
    for at in 0..record.len() {
        let mut damaged = record.to_vec();
        damaged[at] ^= 4;
        let mut batch = WriteBatch::new();
        batch.put(SYSTEM_VAULT_KEYS, damaged);
        meta.commit(batch).unwrap();
        assert!(matches!(keyring(&meta).unlock(OLD), Err(VaultError::Damaged(_))), "byte {at}");
    }
}
