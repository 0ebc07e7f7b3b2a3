//! Snapshots of a volume whose vault is locked: made and deleted without its keys.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::new_volume;
use support::vault::Secrets;
use verfs_base::Ino;
use verfs_engine::{LOCK_GRACE, OpenOptions, VaultCompression, Volume};
use verfs_vfs::{Context, NodeKind, Vfs};

const ROOT: Context = Context::ROOT;

fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(len)
    .collect()
}

fn write(vfs: &Vfs, name: &[u8], bytes: &[u8]) {
    let made = vfs.mknod(&ROOT, Ino::ROOT, name, NodeKind::Regular, 0o644);
    let ino = made.or_else(|_| vfs.lookup(&ROOT, Ino::ROOT, name)).unwrap().ino;
    vfs.write(&ROOT, ino, 0, bytes).unwrap();
}

fn read_of(vfs: &Vfs, snapshot: &[u8], name: &[u8]) -> Vec<u8> {
    let tree = vfs.open_snapshot(snapshot).unwrap();
    let found = tree.lookup(Ino::ROOT, name).unwrap();
    tree.read(found.ino, 0, found.size as u32).unwrap().concat()
}

fn packed_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map(Result::unwrap);
    let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    entries.map(|entry| if entry.path().is_dir() { packed_bytes(&entry.path()) } else { bytes(&entry.path()) }).sum()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A volume with an open vault.
fn with_open_vault(path: &Path, secrets: &Secrets) -> (Arc<Volume>, Arc<Vfs>) {
    let volume = Volume::open(path, &OpenOptions::default()).unwrap();
    volume.create_vault(&secrets.right(), VaultCompression::On).unwrap();
    volume.unlock_vault(&secrets.right()).unwrap();
    let vault = volume.vault_vfs().unwrap();
    (volume, vault)
}

#[test]
fn what_a_deleted_snapshot_had_of_the_vault_comes_back_while_it_is_locked() {
    let folder = new_volume();
    let path = folder.path().join("volume");
    let packs = path.join("vault/packs");
    let secrets = Secrets::new();
    let (volume, vault) = with_open_vault(&path, &secrets);
    let (kept, large) = (noise(1 << 20, 1), noise(12 << 20, 2));
    write(&vault, b"kept", &kept);
    write(&vault, b"large", &large);
    volume.create_snapshot(b"with", b"").unwrap();
    vault.unlink(&ROOT, Ino::ROOT, b"large").unwrap();
    write(&vault, b"kept", b"another start");
    volume.create_snapshot(b"without", b"").unwrap();
    drop(vault);
    volume.lock_vault(LOCK_GRACE).unwrap();
    assert!(packed_bytes(&packs) > 12 << 20);

    volume.delete_snapshot(b"with").unwrap();
    wait_until("the packs of the vault shrink", || packed_bytes(&packs) < 4 << 20);
    volume.close().unwrap();

    let volume = Volume::open(&path, &OpenOptions::default()).unwrap();
    volume.unlock_vault(&secrets.right()).unwrap();
    let vault = volume.vault_vfs().unwrap();
    assert_eq!(vault.snapshots().iter().map(|one| &one.name[..]).collect::<Vec<_>>(), [b"without"]);
    let now = [b"another start", &kept[13..]].concat();
    assert_eq!(read_of(&vault, b"without", b"kept"), now);
    assert_eq!(vault.lookup(&ROOT, Ino::ROOT, b"large").err(), Some(verfs_vfs::VfsError::NotFound));
    assert_eq!(
        vault.read(&ROOT, vault.lookup(&ROOT, Ino::ROOT, b"kept").unwrap().ino, 0, 1 << 20).unwrap().concat(),
        now
    );
    drop(vault);
    volume.close().unwrap();
}

#[test]
fn snapshots_made_while_the_vault_is_locked_stay_apart_from_what_follows() {
    let folder = new_volume();
    let path = folder.path().join("volume");
    let secrets = Secrets::new();
    let (volume, vault) = with_open_vault(&path, &secrets);
    write(&vault, b"file", b"one");
    drop(vault);
    volume.lock_vault(LOCK_GRACE).unwrap();
    volume.create_snapshot(b"first", b"").unwrap();
    volume.create_snapshot(b"gone", b"").unwrap();
    volume.create_snapshot(b"second", b"").unwrap();
    volume.delete_snapshot(b"gone").unwrap();
    volume.create_snapshot(b"gone", b"made again").unwrap();
    volume.unlock_vault(&secrets.right()).unwrap();
    let vault = volume.vault_vfs().unwrap();
    write(&vault, b"file", b"two");
    volume.create_snapshot(b"third", b"").unwrap();
    volume.delete_snapshot(b"first").unwrap();
    write(&vault, b"file", b"six");
    let past = |name: &[u8]| read_of(&vault, name, b"file");
    assert_eq!([past(b"second"), past(b"gone"), past(b"third")], [b"one", b"one", b"two"]);
    let pairs = |vfs: &Vfs| vfs.snapshots().into_iter().map(|one| (one.name, one.uuid)).collect::<Vec<_>>();
    assert_eq!(pairs(&vault), pairs(volume.vfs()));
    let second = vault.snapshot(b"second").unwrap();
    assert_eq!((second.inodes, second.directories, second.logical_bytes), (2, 1, 3));
    drop(vault);
    volume.close().unwrap();
}
