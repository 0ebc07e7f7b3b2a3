//! The vault of a volume that is open without a mount: what opens it, and what is said when its keys are damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::path::Path;
use std::sync::Arc;

use support::new_volume;
use support::vault::Secrets;
use verfs_base::Ino;
use verfs_engine::{EngineError, LOCK_GRACE, OpenOptions, VaultCompression, VaultState, Volume};
use verfs_format::vault::SYSTEM_VAULT_KEYS;
use verfs_meta::{EngineOptions, WriteBatch};
use verfs_vfs::{Context, NodeKind, Vfs};

const ROOT: Context = Context::ROOT;

fn opened(path: &Path) -> Arc<Volume> {
    Volume::open(path, &OpenOptions::default()).unwrap()
}

/// Changes the record of the wrapped keys of a volume that nobody has open.
fn change_keys(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let engine = Volume::inspect(path).unwrap().engine;
    let meta = verfs_meta::open(engine, &path.join("meta"), &EngineOptions::default()).unwrap();
    let mut record = meta.get(SYSTEM_VAULT_KEYS).unwrap().unwrap().to_vec();
    change(&mut record);
    let mut batch = WriteBatch::new();
    batch.put(SYSTEM_VAULT_KEYS, record);
    meta.commit(batch).unwrap();
    meta.sync().unwrap();
    meta.close().unwrap();
}

fn write(vfs: &Vfs, text: &[u8]) {
    let ino = vfs.mknod(&ROOT, Ino::ROOT, b"file", NodeKind::Regular, 0o600).unwrap().ino;
    vfs.write(&ROOT, ino, 0, text).unwrap();
}

fn read(vfs: &Vfs) -> Vec<u8> {
    let file = vfs.lookup(&ROOT, Ino::ROOT, b"file").unwrap();
    vfs.read(&ROOT, file.ino, 0, file.size as u32).unwrap().concat()
}

#[test]
fn damaged_keys_of_a_vault_say_so_and_the_volume_goes_on() {
    let folder = new_volume();
    let path = folder.path().join("volume");
    let secrets = Secrets::new();
    let volume = opened(&path);
    volume.create_vault(&secrets.right(), VaultCompression::On).unwrap();
    volume.unlock_vault(&secrets.right()).unwrap();
    write(&volume.vault_vfs().unwrap(), b"secret");
    write(volume.vfs(), b"outside");
    volume.close().unwrap();

    for at in [0, 9, 60] {
        change_keys(&path, |record| record[at] ^= 4);
        let volume = opened(&path);
        assert_eq!(volume.vault_status().unwrap().state, VaultState::Damaged, "byte {at}");
        let (right, wrong) = (secrets.right(), secrets.with("wrong"));
        let said = [
            volume.unlock_vault(&right),
            volume.unlock_vault(&wrong),
            volume.check_vault_secret(&right),
            volume.change_vault_secret(&right, &wrong),
        ];
        for said in said {
            assert!(matches!(said, Err(EngineError::VaultDamaged { .. })), "byte {at}: {said:?}");
        }
        let again = volume.create_vault(&right, VaultCompression::On).unwrap_err().code();
        assert!(["VERFS_E_VAULT_DAMAGED", "VERFS_E_VAULT_EXISTS"].contains(&again), "byte {at}: {again}");
        volume.lock_vault(LOCK_GRACE).unwrap();
        // All else works, and leaves what the vault has.
        volume.create_snapshot(format!("with damaged keys {at}").as_bytes(), b"").unwrap();
        assert_eq!(read(volume.vfs()), b"outside");
        volume.collect_garbage().unwrap();
        volume.close().unwrap();
        change_keys(&path, |record| record[at] ^= 4);
    }
    let volume = opened(&path);
    assert_eq!(volume.vault_status().unwrap().state, VaultState::Locked);
    assert!(matches!(volume.unlock_vault(&secrets.with("wrong")), Err(EngineError::VaultSecret)));
    assert!(matches!(volume.unlock_vault(&Secrets::new().right()), Err(EngineError::VaultSecret)));
    volume.unlock_vault(&secrets.right()).unwrap();
    assert_eq!(read(&volume.vault_vfs().unwrap()), b"secret");
    volume.lock_vault(LOCK_GRACE).unwrap();
    assert!(volume.vault_vfs().is_none());
    assert_eq!(volume.vault_status().unwrap().state, VaultState::Locked);
    volume.close().unwrap();
}
