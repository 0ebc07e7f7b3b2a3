//! What is stored outside the vault is what it would be without one.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{Ino, Timestamp};
use verfs_engine::{CreateOptions, OpenOptions, VaultCompression, VaultSecret, Vfs, Volume};
use verfs_format::keys::{INODE, SYSTEM_GROUP};
use verfs_format::vault::{SYSTEM_REKEY, SYSTEM_VAULT_KEYS, VAULT_PREFIX};
use verfs_format::witness::SYSTEM_BATCH;
use verfs_format::{InodeRecord, encode_versioned, split_versioned};
use verfs_meta::{Direction, EngineOptions, KeyRange};
use verfs_vfs::{Context, NodeKind};

/// One worker, so that chunks come into packs in the order in which they are written.
fn open(path: &Path) -> Arc<Volume> {
    Volume::open(path, &OpenOptions { compress_threads: 1, ..OpenOptions::default() }).unwrap()
}

fn write(tree: &Vfs, name: &str, data: &[u8]) {
    let attr = tree.mknod(&Context::ROOT, Ino::ROOT, name.as_bytes(), NodeKind::Regular, 0o644).unwrap();
    for (index, piece) in data.chunks(1 << 20).enumerate() {
        tree.write(&Context::ROOT, attr.ino, (index as u64) << 20, piece).unwrap();
    }
    tree.sync().unwrap();
}

/// Bytes of which half are the same again and again.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = verfs_testkit::TestRng::new(seed);
    let words = std::iter::repeat_with(|| [rng.bits().to_le_bytes(), *b"the same"].concat());
    words.flatten().take(len).collect()
}

/// Every file of the packs.
fn packs(volume: &Path) -> BTreeMap<String, Vec<u8>> {
    let found = Command::new("find").arg(volume.join("packs")).args(["-type", "f"]).output().unwrap();
    let files = String::from_utf8(found.stdout).unwrap();
    files.lines().map(|path| (path.replace(volume.to_str().unwrap(), ""), fs::read(path).unwrap())).collect()
}

/// Every record that is not the vault's. Of inodes without times, which no two runs have in common.
fn records(volume: &Path) -> BTreeMap<Bytes, Bytes> {
    let info = Volume::inspect(volume).unwrap();
    let store = verfs_meta::open(info.engine, &volume.join("meta"), &EngineOptions::default()).unwrap();
    let mut found = BTreeMap::new();
    let all = KeyRange { start: Bytes::new(), end: None };
    let mut take = |key: &[u8], value: &[u8]| {
        let value = match key {
            [INODE, ..] => {
                let (birth, record) = split_versioned(value).unwrap();
                let never = Timestamp { seconds: 0, nanos: 0 };
                let record = InodeRecord::decode(record).unwrap();
                let record = InodeRecord { atime: never, mtime: never, ctime: never, btime: never, ..record };
                encode_versioned(birth, |out| record.encode(out)).into()
            }
            _ => Bytes::copy_from_slice(value),
        };
        found.insert(Bytes::copy_from_slice(key), value);
        ControlFlow::Continue(())
    };
    store.view().unwrap().scan(&all, Direction::Forward, &mut take).unwrap();
    store.close().unwrap();
    let of_vault =
        |key: &Bytes| key.first() == Some(&VAULT_PREFIX) || [SYSTEM_VAULT_KEYS, SYSTEM_REKEY].contains(&&key[..]);
    found.retain(|key, _| !of_vault(key));
    // They count groups and batches, of which the clock makes some.
    found.remove(SYSTEM_GROUP);
    found.remove(SYSTEM_BATCH);
    found
}

#[test]
fn packs_and_records_outside_the_vault_are_those_of_a_volume_without_one() {
    let folder = tempfile::Builder::new().prefix("verfs-beside-").tempdir().unwrap();
    let [without, with] = ["without", "with"].map(|name| folder.path().join(name));
    Volume::create(&without, &CreateOptions::default()).unwrap();
    // Of the same identity and secret.
    assert!(Command::new("cp").arg("-a").args([&without, &with]).status().unwrap().success());
    let volumes = [&without, &with].map(|path| open(path));
    for volume in &volumes {
        write(volume.vfs(), "before", &content(1, 3 << 20));
    }
    let key_file = VaultSecret::new_key_file().unwrap().into_bytes();
    let secret = VaultSecret::new(b"password".to_vec(), key_file).unwrap();
    volumes[1].create_vault(&secret, VaultCompression::On).unwrap();
    volumes[1].unlock_vault(&secret).unwrap();
    write(&volumes[1].vault_vfs().unwrap(), "inside", &content(2, 3 << 20));
    for volume in &volumes {
        // A part of it is stored already, outside or inside.
        write(volume.vfs(), "beside", &[content(3, 2 << 20), content(1, 1 << 20), content(2, 1 << 20)].concat());
        write(volume.vfs(), "small", b"a few bytes");
    }
    volumes[1].lock_vault(verfs_engine::LOCK_GRACE).unwrap();
    for volume in &volumes {
        write(volume.vfs(), "after", &content(4, 1 << 20));
        volume.close().unwrap();
    }
    assert!(packs(&without).len() >= 2);
    assert!(packs(&without) == packs(&with), "the packs differ");
    let [expected, found] = [&without, &with].map(|path| records(path));
    assert!(expected.len() > 100);
    for (key, value) in &expected {
        assert_eq!(found.get(key), Some(value), "record {}", key.escape_ascii());
    }
    assert_eq!(found.len(), expected.len());
}
