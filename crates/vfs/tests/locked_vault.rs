//! A vault whose keys nobody has: its snapshots are made, deleted, sent and received by its structure alone.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use verfs_base::Ino;
use verfs_format::vault::VaultCompression;
use verfs_meta::MetaStore;
use verfs_vfs::{FileKind, Vfs, create_snapshot_of_both, create_snapshot_while_locked};

use self::volume::ROOT;
use self::volume::cut_off::CutOff;
use self::volume::tree::{Dice, Dump, assert_same, change, dump};
use self::volume::vault::{COST, SECRETS, World, keys_of, past_of, receive, send};

/// Removes everything, what is deepest first.
fn remove_all(vfs: &Vfs, state: &Dump) {
    for (path, (attr, _)) in state.iter().rev().filter(|(path, _)| !path.is_empty()) {
        let mut names = path.split(|byte| *byte == b'/').skip(1).collect::<Vec<_>>();
        let name = names.pop().unwrap();
        let found = |parent, name: &&[u8]| vfs.lookup(&ROOT, parent, name).unwrap().ino;
        let parent = names.iter().fold(Ino::ROOT, found);
        match attr.kind {
            FileKind::Directory => vfs.rmdir(&ROOT, parent, name).unwrap(),
            _ => vfs.unlink(&ROOT, parent, name).unwrap(),
        }
    }
}

/// A life of a vault that is followed by a copy in another volume, snapshot by snapshot.
fn random_life(seed: u64) {
    let mut dice = Dice(seed);
    let (from, to) = (World::new(1), World::new(2));
    drop(from.keyring(from.whole()).create(SECRETS, COST, VaultCompression::On).unwrap());
    from.unlocked().close();
    let (tree, copy) = (from.tree(from.whole()), to.tree(to.whole()));
    let mut expected: BTreeMap<Vec<u8>, Dump> = BTreeMap::new();
    let mut sent: Option<Vec<u8>> = None;
    for step in 0..30 {
        let name = format!("s{step}").into_bytes();
        let when = format!("seed {seed}, step {step}");
        let open = from.unlocked();
        for _ in 0..dice.below(30) {
            change(&open, &mut dice);
        }
        let state = dump(&*open.vfs);
        if dice.below(2) == 0 {
            create_snapshot_of_both(&tree.vfs, &open.vfs, &name, b"").unwrap();
            for _ in 0..dice.below(10) {
                change(&open, &mut dice);
            }
            open.close();
        } else {
            open.close();
            let vault = from.vault(from.whole());
            create_snapshot_while_locked(&tree.vfs, &vault, &name, b"").unwrap();
            vault.close();
        }
        expected.insert(name.clone(), state);
        if dice.below(3) > 0 {
            let stream = send(&from, &tree, &name, sent.as_deref());
            receive(&to, &to.whole(), &copy, &stream).unwrap_or_else(|error| panic!("{when}: {error}"));
            sent = Some(name);
        }
        // Old ones go, while they are locked, on both sides.
        for (world, tree) in [(&from, &tree), (&to, &copy)] {
            for snapshot in tree.vfs.snapshots() {
                if Some(&snapshot.name[..]) != sent.as_deref() && dice.below(4) == 0 {
                    tree.vfs.delete_snapshot(&snapshot.name).unwrap();
                }
            }
            let vault = world.vault(world.whole());
            // Now and then it is told to stop in the middle.
            let mut steps = dice.below(12);
            let mut go_on = || {
                steps = steps.saturating_sub(1);
                steps > 0
            };
            vault.prune(&tree.vfs, &mut go_on).unwrap();
            vault.close();
        }
        for (world, tree) in [(&from, &tree), (&to, &copy)] {
            if sent.is_none() && world.number == 2 {
                continue;
            }
            let open = world.unlocked();
            // What has too few references is gone from here on.
            open.store.collect(1, &mut |_| verfs_store::Pace::Go).unwrap();
            let past = past_of(&open);
            for snapshot in tree.vfs.snapshots() {
                let name = &snapshot.name[..];
                assert_same(&past[name], &expected[name], &format!("{when}, volume {}, {name:?}", world.number));
            }
            open.close();
        }
    }
    // Without snapshots nothing of the past is left.
    for (world, tree) in [(&from, &tree), (&to, &copy)] {
        for snapshot in tree.vfs.snapshots() {
            tree.vfs.delete_snapshot(&snapshot.name).unwrap();
        }
        let vault = world.vault(world.whole());
        vault.prune(&tree.vfs, &mut || true).unwrap();
        vault.close();
        let open = world.unlocked();
        while open.vfs.stats().orphans > 0 {
            open.vfs.sync().unwrap();
        }
        open.close();
        let left: Vec<usize> = [b's', b'u', b'h', b'D', b'o'].map(|first| keys_of(world, first)).to_vec();
        assert_eq!(left, [0; 5], "seed {seed}, volume {}: snapshots, used, history, dead lists, orphans", world.number);
    }
    // And without files no chunk has a reference.
    for world in [&from, &to] {
        let open = world.unlocked();
        open.store.collect(1, &mut |_| verfs_store::Pace::Go).unwrap();
        let state = dump(&*open.vfs);
        if world.number == 2 {
            assert_same(&state, &expected[sent.as_ref().unwrap()], "the copy's last state");
        }
        remove_all(&open.vfs, &state);
        while open.vfs.stats().orphans > 0 {
            open.vfs.sync().unwrap();
        }
        assert_eq!(open.store.stats().chunks, 0, "seed {seed}, volume {}", world.number);
        open.close();
    }
    tree.close();
    copy.close();
}

#[test]
fn a_copy_follows_a_vault_through_its_life_without_keys() {
    for seed in 0..4 {
        random_life(seed);
    }
}

#[test]
fn the_stream_of_a_snapshot_is_the_same_whatever_happens_to_the_vault_since() {
    let from = World::new(1);
    drop(from.keyring(from.whole()).create(SECRETS, COST, VaultCompression::Off).unwrap());
    from.unlocked().close();
    let tree = from.tree(from.whole());
    let mut dice = Dice(11);
    let mut sent = Vec::new();
    for name in [&b"one"[..], b"two", b"three", b"four"] {
        let open = from.unlocked();
        for _ in 0..150 {
            change(&open, &mut dice);
        }
        create_snapshot_of_both(&tree.vfs, &open.vfs, name, b"").unwrap();
        while open.vfs.stats().orphans > 0 {
            open.vfs.sync().unwrap();
        }
        open.close();
        sent.push((
            send(&from, &tree, b"one", None),
            send(&from, &tree, name, (name != b"one").then_some(&b"one"[..])),
        ));
    }
    assert!(sent.iter().all(|(one, _)| *one == sent[0].0), "the first one, again and again");
    for (name, (_, before)) in [&b"two"[..], b"three", b"four"].iter().zip(&sent[1..]) {
        assert!(send(&from, &tree, name, Some(b"one")) == *before, "changes, again: {name:?}");
    }
    tree.close();
}

#[test]
fn a_stream_that_a_crash_interrupts_is_applied_whole_or_not_at_all() {
    let (from, to) = (World::new(1), World::new(2));
    drop(from.keyring(from.whole()).create(SECRETS, COST, VaultCompression::On).unwrap());
    from.unlocked().close();
    let tree = from.tree(from.whole());
    let mut dice = Dice(5);
    let mut states = Vec::new();
    let mut streams = Vec::new();
    for name in [&b"one"[..], b"two"] {
        let open = from.unlocked();
        for _ in 0..150 {
            change(&open, &mut dice);
        }
        create_snapshot_of_both(&tree.vfs, &open.vfs, name, b"").unwrap();
        states.push(dump(&*open.vfs));
        open.close();
        streams.push(send(&from, &tree, name, (name == b"two").then_some(&b"one"[..])));
    }
    for (number, stream) in streams.iter().enumerate() {
        let (mut applied, mut left, mut commits) = (0, 0, 0);
        loop {
            let target = to.copy();
            let meta = Arc::new(CutOff { inner: Arc::clone(&target.meta), commits_left: AtomicI64::new(i64::MAX) });
            let over = Arc::clone(&meta) as Arc<dyn MetaStore>;
            let copy = target.tree(Arc::clone(&over));
            meta.commits_left.store(commits, Ordering::Relaxed);
            let said = receive(&target, &over, &copy, stream);
            let _ = copy.vfs.close();
            let _ = copy.store.close();
            drop(copy);

            let copy = target.tree(target.whole());
            let has = copy.vfs.snapshots().len();
            if has > number {
                applied += 1;
                let open = target.unlocked();
                assert_same(&dump(&*open.vfs), &states[number], &format!("stream {number}, {commits} commits"));
                assert_eq!(open.vfs.snapshots().len(), number + 1);
                open.close();
            } else {
                left += 1;
                assert!(said.is_err(), "it said that it was done");
                if number == 1 {
                    let open = target.unlocked();
                    assert_eq!(open.vfs.snapshots().len(), 1);
                    let past = dump(&open.vfs.open_snapshot(b"one").unwrap());
                    assert_same(&past, &states[0], "before it began");
                    open.close();
                } else {
                    assert_eq!(keys_of(&target, b'i'), 0, "nothing came");
                }
            }
            copy.close();
            if said.is_ok() {
                break;
            }
            commits += 1;
        }
        assert!(applied > 2 && left > 0, "{applied} applied, {left} left");
        let copy = to.tree(to.whole());
        receive(&to, &to.whole(), &copy, stream).unwrap();
        copy.close();
        // What happens to the copy before the next stream is undone by it.
        let open = to.unlocked();
        for _ in 0..60 {
            change(&open, &mut dice);
        }
        open.close();
    }
    tree.close();
}
