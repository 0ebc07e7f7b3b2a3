//! One snapshot of two trees is of one instant, and made in both or in neither; so is a way back to it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use verfs_base::Ino;
use verfs_format::keys;
use verfs_format::vault::VaultCompression;
use verfs_meta::{MetaStore, PrefixedStore};
use verfs_vfs::{
    NodeKind, Vfs, VfsError, VfsOptions, create_snapshot_of_both, create_snapshot_while_locked, rollback_of_both,
    vault_note,
};

use self::volume::cut_off::CutOff;
use self::volume::tree::{Dice, assert_same, change, dump};
use self::volume::vault::{COST, SECRETS, World, past_of};
use self::volume::{Open, ROOT, Volume, slow};

const NAME: &[u8] = b"counter";

fn make_counter(vfs: &Vfs) -> Ino {
    let ino = vfs.mknod(&ROOT, Ino::ROOT, NAME, NodeKind::Regular, 0o644).unwrap().ino;
    count_to(vfs, ino, 0);
    ino
}

fn count_to(vfs: &Vfs, ino: Ino, number: u64) {
    vfs.write(&ROOT, ino, 0, &number.to_le_bytes()).unwrap();
}

fn counted(vfs: &Vfs, snapshot: &[u8]) -> u64 {
    let tree = vfs.open_snapshot(snapshot).unwrap();
    let ino = tree.lookup(Ino::ROOT, NAME).unwrap().ino;
    u64::from_le_bytes(tree.read(ino, 0, 8).unwrap().concat()[..].try_into().unwrap())
}

#[test]
fn a_snapshot_of_both_trees_is_of_one_instant_whoever_writes_to_them() {
    let options = VfsOptions { group_interval_ms: 3, ..VfsOptions::default() };
    let (volume, vault) = (Volume::new(options.clone()), Volume::new(options));
    let (volume, vault) = (volume.open(), vault.open());
    let files = (make_counter(&volume.vfs), make_counter(&vault.vfs));
    let done = AtomicBool::new(false);
    // Also when something fails: the writer ends with it.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each number is in the volume before it is in the vault, and there before the next one is anywhere.
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                count_to(&volume.vfs, files.0, number);
                count_to(&vault.vfs, files.1, number);
            }
        });
        let _done = Done(&done);
        for round in 0..60 {
            let name = format!("s{round}").into_bytes();
            let made = create_snapshot_of_both(&volume.vfs, &vault.vfs, &name, b"a note").unwrap();
            assert_eq!((&made.name[..], &made.note[..]), (&name[..], &b"a note"[..]));
            let of_vault = vault.vfs.snapshot(&name).unwrap();
            assert_eq!((&of_vault.note[..], of_vault.uuid), (&vault_note(&made.uuid)[..], made.uuid));
            seen.push((counted(&volume.vfs, &name), counted(&vault.vfs, &name)));
        }
    });
    for (outside, inside) in &seen {
        assert!(*inside <= *outside && *outside <= inside + 1, "{outside} outside, {inside} in the vault");
    }
    assert!(seen.last().unwrap().0 > 60, "it counted meanwhile: {seen:?}");
    assert_eq!(create_snapshot_of_both(&volume.vfs, &vault.vfs, b"s3", b"").err(), Some(VfsError::Exists));
    assert_eq!(create_snapshot_of_both(&volume.vfs, &vault.vfs, b"-", b"").err(), Some(VfsError::InvalidArgument));
    // One that the volume has no more makes way.
    volume.vfs.delete_snapshot(b"s4").unwrap();
    create_snapshot_of_both(&volume.vfs, &vault.vfs, b"s4", b"").unwrap();
    volume.close();
    vault.close();
}

/// Two trees in one engine.
struct Pair {
    volume: Volume,
    vault: Volume,
}

impl Pair {
    fn open_over(&self, meta: &Arc<dyn MetaStore>) -> (Open, Open) {
        let part = |prefix| Arc::new(PrefixedStore::new(Arc::clone(meta), prefix)) as Arc<dyn MetaStore>;
        (self.volume.open_over(part(b'T')), self.vault.open_over(part(b'V')))
    }
}

#[test]
fn a_snapshot_of_both_trees_is_in_both_or_in_neither_after_a_crash() {
    let (mut made, mut left) = (0, 0);
    for commits in 0..4 {
        for _ in 0..8 {
            let pair = Pair { volume: Volume::new(slow()), vault: Volume::new(slow()) };
            let meta =
                Arc::new(CutOff { inner: Arc::clone(&pair.volume.meta), commits_left: AtomicI64::new(i64::MAX) });
            let (volume, vault) = pair.open_over(&(Arc::clone(&meta) as Arc<dyn MetaStore>));
            let files = (make_counter(&volume.vfs), make_counter(&vault.vfs));
            volume.vfs.sync().unwrap();
            vault.vfs.sync().unwrap();
            count_to(&volume.vfs, files.0, 7);
            count_to(&vault.vfs, files.1, 7);
            meta.commits_left.store(commits, Ordering::Relaxed);
            let said = create_snapshot_of_both(&volume.vfs, &vault.vfs, b"s", b"");
            drop((volume, vault));

            let (volume, vault) = pair.open_over(&(Arc::clone(&pair.volume.meta) as Arc<dyn MetaStore>));
            match volume.vfs.snapshot(b"s") {
                Ok(snapshot) => {
                    made += 1;
                    assert_eq!(vault.vfs.snapshot(b"s").unwrap().note, vault_note(&snapshot.uuid));
                    assert_eq!((counted(&volume.vfs, b"s"), counted(&vault.vfs, b"s")), (7, 7));
                }
                Err(error) => {
                    assert_eq!(error, VfsError::NotFound);
                    assert!(said.is_err(), "it said that it was made, with {commits} commits");
                    left += usize::from(vault.vfs.snapshot(b"s").is_ok());
                    // What is left of the vault's stands in nobody's way.
                    create_snapshot_of_both(&volume.vfs, &vault.vfs, b"s", b"").unwrap();
                }
            }
            volume.close();
            vault.close();
        }
    }
    assert!(made > 0 && left > 0, "{made} made, {left} left in the vault");
}

#[test]
fn both_trees_go_back_or_neither_wherever_a_crash_cuts_it() {
    let world = World::new(1);
    drop(world.keyring(world.whole()).create(SECRETS, COST, VaultCompression::On).unwrap());
    let (tree, vault) = (world.tree(world.whole()), world.unlocked());
    let mut dice = Dice(4);
    let mut change_both = |steps| {
        for _ in 0..steps {
            change(&tree, &mut dice);
            change(&vault, &mut dice);
        }
        (dump(&*tree.vfs), dump(&*vault.vfs))
    };
    change_both(80);
    let then = change_both(0);
    create_snapshot_of_both(&tree.vfs, &vault.vfs, b"then", b"").unwrap();
    change_both(60);
    create_snapshot_of_both(&tree.vfs, &vault.vfs, b"later", b"").unwrap();
    let now = change_both(60);
    tree.close();
    vault.close();

    let (mut back, mut left, mut commits) = (0, 0, 0);
    loop {
        let when = format!("{commits} commits");
        let world = world.copy();
        let meta = Arc::new(CutOff { inner: Arc::clone(&world.meta), commits_left: AtomicI64::new(i64::MAX) });
        let over = Arc::clone(&meta) as Arc<dyn MetaStore>;
        let (tree, vault) = (world.tree(Arc::clone(&over)), world.unlocked_over(over));
        tree.vfs.sync().unwrap();
        vault.vfs.sync().unwrap();
        meta.commits_left.store(commits, Ordering::Relaxed);
        let said = rollback_of_both(&tree.vfs, &vault.vfs, b"then").map(drop);
        if said.is_err() {
            // What would be lost is refused.
            assert_eq!(vault.vfs.mkdir(&ROOT, Ino::ROOT, b"x", 0o755).err(), Some(VfsError::ReadOnly), "{when}");
        }
        for open in [tree, vault] {
            let _ = open.vfs.close();
            let _ = open.store.close();
        }

        let tree = world.tree(world.whole());
        let outside = dump(&*tree.vfs);
        let is_back = outside == then.0;
        if !is_back {
            assert_same(&outside, &now.0, &when);
            assert!(said.is_err(), "{when}: it said that it was done");
        }
        if is_back && said.is_err() {
            // Nothing is made of what is between two states.
            let locked = world.vault(world.whole());
            create_snapshot_while_locked(&tree.vfs, &locked, b"meanwhile", b"").unwrap();
            tree.vfs.delete_snapshot(b"then").unwrap();
            locked.prune(&tree.vfs, &mut || true).unwrap();
            locked.close();
        }
        let vault = world.unlocked();
        let expected = if is_back { &then } else { &now };
        assert_same(&dump(&*vault.vfs), &expected.1, &when);
        let names: Vec<Vec<u8>> = past_of(&vault).into_keys().collect();
        assert_eq!(names, [b"later".to_vec(), b"then".to_vec()], "{when}");
        assert_eq!(world.meta.get(&[b"V", keys::SYSTEM_ROLLBACK].concat()).unwrap(), None, "{when}");
        *(if is_back { &mut back } else { &mut left }) += 1;
        vault.close();
        tree.close();
        // Opened once more, nothing goes back again.
        let vault = world.unlocked();
        vault.vfs.mkdir(&ROOT, Ino::ROOT, b"from now on", 0o755).unwrap();
        vault.close();
        let vault = world.unlocked();
        assert!(vault.vfs.lookup(&ROOT, Ino::ROOT, b"from now on").is_ok(), "{when}");
        vault.close();
        if said.is_ok() {
            break;
        }
        commits += 1;
    }
    assert!(back > 1 && left > 0, "{back} back, {left} left");
}

#[test]
fn a_way_back_of_both_ends_its_intent_where_the_vault_did_not_change() {
    let world = World::new(1);
    drop(world.keyring(world.whole()).create(SECRETS, COST, VaultCompression::On).unwrap());
    let (tree, vault) = (world.tree(world.whole()), world.unlocked());
    make_counter(&vault.vfs);
    create_snapshot_of_both(&tree.vfs, &vault.vfs, b"then", b"").unwrap();
    make_counter(&tree.vfs);
    rollback_of_both(&tree.vfs, &vault.vfs, b"then").unwrap();
    let later = vault.vfs.mkdir(&ROOT, Ino::ROOT, b"later", 0o755).unwrap().ino;
    tree.close();
    vault.close();
    let vault = world.unlocked();
    assert_eq!(vault.vfs.lookup(&ROOT, Ino::ROOT, b"later").unwrap().ino, later);
    vault.close();
}
