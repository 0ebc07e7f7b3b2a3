//! Streams carry the vault as it is stored: from a locked one to a locked one, opened by the secrets of the sender's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use support::new_volume;
use support::vault::Secrets;
use verfs_base::Ino;
use verfs_engine::{EngineError, LOCK_GRACE, OpenOptions, VaultCompression, VaultState, Volume};
use verfs_vfs::{
    Attr, Context, FileKind, Listing, NodeKind, Pin, RenameMode, SnapshotTree, TargetChanges, Vfs, XattrMode,
};

const ROOT: Context = Context::ROOT;
const CANARY: &[u8] = b"canary-c0ffee-of-the-vault";

type Tree = BTreeMap<Vec<u8>, (Attr, Vec<u8>)>;

fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(len)
    .collect()
}

fn tree_of(snapshot: &SnapshotTree) -> Tree {
    let (mut tree, mut todo) = (Tree::new(), vec![(Vec::new(), Ino::ROOT)]);
    while let Some((path, ino)) = todo.pop() {
        let attr = snapshot.getattr(ino).unwrap();
        let mut bytes = match attr.kind {
            FileKind::Regular => snapshot.read(ino, 0, attr.size as u32).unwrap().concat(),
            FileKind::Symlink => snapshot.readlink(ino).unwrap().to_vec(),
            _ => Vec::new(),
        };
        bytes.extend_from_slice(&snapshot.getxattr(ino, b"user.note").unwrap_or_default());
        if attr.kind == FileKind::Directory {
            for entry in snapshot.readdir(ino, 2, 1000, Listing::Names).unwrap() {
                todo.push(([&path[..], b"/", &entry.name].concat(), entry.ino));
            }
        }
        tree.insert(path, (attr, bytes));
    }
    tree
}

fn trees_of(vfs: &Vfs) -> BTreeMap<Vec<u8>, Tree> {
    let open = |name: &[u8]| tree_of(&vfs.open_snapshot(name).unwrap());
    vfs.snapshots().into_iter().map(|snapshot| (snapshot.name.to_vec(), open(&snapshot.name))).collect()
}

fn packed_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map(Result::unwrap);
    let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    entries.map(|entry| if entry.path().is_dir() { packed_bytes(&entry.path()) } else { bytes(&entry.path()) }).sum()
}

/// A volume with a vault, or for one.
struct Place {
    folder: tempfile::TempDir,
    volume: Option<Arc<Volume>>,
}

impl Place {
    fn new() -> Place {
        let mut place = Place { folder: new_volume(), volume: None };
        place.reopen();
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    fn reopen(&mut self) {
        if let Some(volume) = self.volume.take() {
            volume.close().unwrap();
        }
        self.volume = Some(Volume::open(&self.path(), &OpenOptions::default()).unwrap());
    }

    fn volume(&self) -> &Volume {
        self.volume.as_ref().unwrap()
    }

    /// Does something with the open vault.
    fn unlocked<T>(&self, secrets: &Secrets, act: impl FnOnce(&Vfs) -> T) -> T {
        self.volume().unlock_vault(&secrets.right()).unwrap();
        let done = act(&self.volume().vault_vfs().unwrap());
        self.volume().lock_vault(LOCK_GRACE).unwrap();
        done
    }

    fn send(&self, name: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>, EngineError> {
        let mut stream = Vec::new();
        let go_on = &mut || ControlFlow::Continue(());
        self.volume().send_snapshot(name, base, None, &mut stream, go_on).map(|_| stream)
    }

    fn receive(&self, stream: &[u8], changes: TargetChanges) -> Result<(), EngineError> {
        let go_on = &mut || ControlFlow::Continue(());
        self.volume().receive_snapshot(&mut &stream[..], changes, go_on).map(drop)
    }

    fn take(&self, stream: &[u8]) {
        self.receive(stream, TargetChanges::Refuse).unwrap();
    }
}

fn make(vfs: &Vfs, parent: Ino, name: &[u8], bytes: &[u8]) -> Ino {
    let ino = vfs.mknod(&ROOT, parent, name, NodeKind::Regular, 0o640).unwrap().ino;
    vfs.write(&ROOT, ino, 0, bytes).unwrap();
    ino
}

fn find(vfs: &Vfs, name: &[u8]) -> Ino {
    vfs.lookup(&ROOT, Ino::ROOT, name).unwrap().ino
}

/// The first state: files of all sizes, kinds and names.
fn fill(vfs: &Vfs) {
    let directory = vfs.mkdir(&ROOT, Ino::ROOT, b"canary-c0ffee-directory", 0o750).unwrap().ino;
    make(vfs, directory, b"small", CANARY);
    let text = CANARY.repeat(20_000);
    let large = make(vfs, directory, b"large", &text);
    make(vfs, Ino::ROOT, b"noise", &noise(3 << 20, 7));
    make(vfs, Ino::ROOT, b"goes", &noise(400_000, 8));
    make(vfs, Ino::ROOT, b"empty", b"");
    vfs.link(&ROOT, large, Ino::ROOT, b"hard link").unwrap();
    vfs.symlink(&ROOT, Ino::ROOT, b"soft link", CANARY).unwrap();
    vfs.setxattr(&ROOT, large, b"user.note", CANARY, XattrMode::Set).unwrap();
}

/// Another one.
fn change(vfs: &Vfs) {
    vfs.write(&ROOT, find(vfs, b"noise"), 1 << 20, &noise(200_000, 9)).unwrap();
    vfs.unlink(&ROOT, Ino::ROOT, b"goes").unwrap();
    vfs.unlink(&ROOT, Ino::ROOT, b"soft link").unwrap();
    vfs.rename(&ROOT, Ino::ROOT, b"hard link", Ino::ROOT, b"canary-c0ffee-renamed", RenameMode::Replace).unwrap();
    make(vfs, Ino::ROOT, b"new", &noise(500_000, 10));
    // One without a name when the snapshot is made.
    make(vfs, Ino::ROOT, b"nameless", &noise(300_000, 11));
    vfs.sync().unwrap();
    vfs.lookup(&Context { pin: Pin::Count, ..ROOT }, Ino::ROOT, b"nameless").unwrap();
    vfs.unlink(&ROOT, Ino::ROOT, b"nameless").unwrap();
}

#[test]
fn a_locked_vault_goes_through_a_stream_and_leads_on_from_one() {
    let (from, mut to) = (Place::new(), Place::new());
    let secrets = Secrets::new();
    from.volume().create_vault(&secrets.right(), VaultCompression::On).unwrap();
    from.unlocked(&secrets, fill);
    from.volume().create_snapshot(b"one", b"").unwrap();
    let whole = from.send(b"one", None).unwrap();
    assert!(!whole.windows(12).any(|window| window == b"canary-c0ffe"), "the stream has plaintext");
    assert!(whole.len() > 3 << 20);

    to.take(&whole);
    assert_eq!(to.volume().vault_status().unwrap().state, VaultState::Locked);
    assert!(to.volume().unlock_vault(&secrets.with("another")).is_err());
    let compare = |to: &Place, when: &str| {
        let sent = from.unlocked(&secrets, trees_of);
        let came = to.unlocked(&secrets, trees_of);
        assert_eq!(sent.keys().collect::<Vec<_>>(), came.keys().collect::<Vec<_>>(), "{when}");
        for (name, tree) in &sent {
            let (name, other) = (String::from_utf8_lossy(name), &came[name]);
            assert_eq!(tree.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{when}: {name}");
            for (path, one) in tree {
                let path = String::from_utf8_lossy(path);
                assert!(one == &other[path.as_bytes()], "{when}: {name}{path} is not what was sent");
            }
        }
        sent.len()
    };
    assert_eq!(compare(&to, "whole"), 1);
    // Opening it and reading it changed nothing that counts.

    from.unlocked(&secrets, |vault| {
        change(vault);
        from.volume().create_snapshot(b"two", b"").unwrap();
        vault.write(&ROOT, find(vault, b"new"), 0, b"once more").unwrap();
    });
    from.volume().create_snapshot(b"three", b"locked").unwrap();
    let (two, three) = (from.send(b"two", Some(b"one")).unwrap(), from.send(b"three", Some(b"two")).unwrap());
    assert!(two.len() < 2 << 20 && three.len() < 500_000, "{} {}", two.len(), three.len());
    to.reopen();
    to.take(&two);
    to.take(&three);
    assert_eq!(compare(&to, "changes"), 3);

    // What is left of each snapshot is whole, and what nobody needs any more is gone.
    for name in [&b"one"[..], b"two"] {
        from.volume().delete_snapshot(name).unwrap();
        to.volume().delete_snapshot(name).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        to.volume().collect_garbage().unwrap();
        to.reopen();
        compare(&to, "after a deletion");
    }
    let room = |place: &Place| {
        place.unlocked(&secrets, |vault| {
            make(vault, Ino::ROOT, b"of its own", b"bytes");
            place.volume().collect_garbage().unwrap();
        });
        packed_bytes(&place.path().join("vault/packs"))
    };
    let (sent, came) = (room(&from), room(&to));
    assert!(came <= sent + sent / 10, "{came} bytes of packs for {sent}");
}

#[test]
fn a_stream_that_was_cut_or_altered_or_does_not_fit_leaves_the_vault_as_it_was() {
    let (from, to) = (Place::new(), Place::new());
    let secrets = Secrets::new();
    from.volume().create_vault(&secrets.right(), VaultCompression::On).unwrap();
    from.unlocked(&secrets, fill);
    from.volume().create_snapshot(b"one", b"").unwrap();
    let whole = from.send(b"one", None).unwrap();
    for at in [whole.len() / 3, whole.len() - 20] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        for bad in [&altered[..], &whole[..at]] {
            assert!(matches!(to.receive(bad, TargetChanges::Refuse), Err(EngineError::StreamDamaged { .. })));
            assert_eq!(to.volume().vault_status().unwrap().state, VaultState::Absent);
            assert!(to.volume().snapshots().unwrap().is_empty());
        }
    }
    to.take(&whole);
    from.unlocked(&secrets, change);
    from.volume().create_snapshot(b"two", b"").unwrap();
    let two = from.send(b"two", Some(b"one")).unwrap();
    let mismatch = |said: Result<(), EngineError>, what: &str| match said {
        Err(EngineError::StreamMismatch { detail, .. }) => assert!(detail.contains(what), "{detail}"),
        other => panic!("{what}: {other:?}"),
    };
    let refused = |place: &Place, what: &str| mismatch(place.receive(&two, TargetChanges::Refuse), what);

    // It is open; then it has something of its own.
    to.volume().unlock_vault(&secrets.right()).unwrap();
    refused(&to, "lock it");
    let vault = to.volume().vault_vfs().unwrap();
    vault.write(&ROOT, find(&vault, b"noise"), 5, b"its own").unwrap();
    make(&vault, Ino::ROOT, b"own", &noise(200_000, 3));
    vault.unlink(&ROOT, Ino::ROOT, b"goes").unwrap();
    drop(vault);
    to.volume().lock_vault(LOCK_GRACE).unwrap();
    refused(&to, "the vault changed");
    to.volume().create_snapshot(b"own", b"").unwrap();
    refused(&to, "snapshots of its own");
    to.volume().delete_snapshot(b"own").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut altered = two.clone();
    altered[two.len() / 2] ^= 1;
    let damaged = to.receive(&altered, TargetChanges::RollBack);
    assert!(matches!(damaged, Err(EngineError::StreamDamaged { .. })), "{damaged:?}");
    assert!(to.unlocked(&secrets, |vault| vault.lookup(&ROOT, Ino::ROOT, b"own").is_ok()), "nothing was undone");
    to.receive(&two, TargetChanges::RollBack).unwrap();
    assert!(to.unlocked(&secrets, trees_of) == from.unlocked(&secrets, trees_of));

    // Another vault, and none.
    let (other, none) = (Place::new(), Place::new());
    other.volume().create_vault(&secrets.right(), VaultCompression::On).unwrap();
    mismatch(other.receive(&whole, TargetChanges::Refuse), "the volume has one");
    assert!(other.unlocked(&secrets, |vault| vault.snapshots().is_empty()));
    none.volume().create_snapshot(b"plain", b"").unwrap();
    other.take(&none.send(b"plain", None).unwrap());
    assert_eq!(other.volume().vault_status().unwrap().state, VaultState::Locked, "its vault stays as it was");

    // Other secrets than the sender's.
    from.volume().create_snapshot(b"three", b"").unwrap();
    let three = from.send(b"three", Some(b"two")).unwrap();
    to.volume().change_vault_secret(&secrets.right(), &secrets.with("new")).unwrap();
    mismatch(to.receive(&three, TargetChanges::RollBack), "another password");
}

#[test]
fn a_new_data_key_needs_a_whole_stream() {
    let from = Place::new();
    let secrets = Secrets::new();
    from.volume().create_vault(&secrets.right(), VaultCompression::Off).unwrap();
    from.unlocked(&secrets, fill);
    from.volume().create_snapshot(b"old", b"").unwrap();
    from.volume().unlock_vault(&secrets.right()).unwrap();
    from.volume().rekey_vault(&secrets.right()).unwrap();
    let running = || from.volume().vault_status().unwrap().rekey != verfs_engine::RekeyState::Idle;
    while running() {
        std::thread::sleep(Duration::from_millis(20));
    }
    from.volume().create_snapshot(b"new", b"").unwrap();
    let refused = from.send(b"new", Some(b"old")).unwrap_err();
    assert!(matches!(refused, EngineError::StreamMismatch { .. }), "{refused}");
    // While it is open, as well.
    let whole = from.send(b"new", None).unwrap();
    from.volume().lock_vault(LOCK_GRACE).unwrap();
    let to = Place::new();
    to.take(&whole);
    let sent = from.unlocked(&secrets, trees_of);
    assert!(to.unlocked(&secrets, trees_of)[&b"new"[..]] == sent[&b"new"[..]]);
}
