//! A locked vault, of which deleted snapshots are given back while the power goes: at any call that changes something.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use verfs_base::Ino;
use verfs_store::Pace;
use verfs_testkit::{
    Campaign, Clockwork, CrashStyle, Generator, Host, Machine, Model, Op, Purpose, Session, Settings, Step, TestRng,
    TreeKind, caught, count_crash_point, note,
};
use verfs_vfs::{Attr, FileKind, Listing, SnapshotTree, create_snapshot_of_both};

/// Moments of one deletion at which the power goes.
const CUTS: usize = 24;
/// What a crash at one moment may leave, tried for each.
const DRAWS: usize = 2;

/// Paths, attributes, and bytes or targets.
type Tree = BTreeMap<Vec<u8>, (Attr, Vec<u8>)>;

fn tree_of(tree: &SnapshotTree) -> Tree {
    let (mut found, mut todo) = (Tree::new(), vec![(Vec::new(), Ino::ROOT)]);
    while let Some((path, ino)) = todo.pop() {
        let attr = tree.getattr(ino).unwrap();
        let bytes = match attr.kind {
            FileKind::Regular => tree.read(ino, 0, u32::try_from(attr.size.min(1 << 20)).unwrap()).unwrap().concat(),
            FileKind::Symlink => tree.readlink(ino).unwrap().to_vec(),
            FileKind::Directory => {
                let entries = tree.readdir(ino, 2, 10_000, Listing::Names).unwrap();
                todo.extend(entries.into_iter().map(|entry| ([&path[..], b"/", &entry.name].concat(), entry.ino)));
                Vec::new()
            }
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => Vec::new(),
        };
        found.insert(path, (attr, bytes));
    }
    found
}

/// A volume whose power stays on, and its vault.
struct World {
    volume: Machine,
    vault: Machine,
    /// What the snapshots that stand have of the vault.
    past: BTreeMap<Vec<u8>, Tree>,
}

impl World {
    /// A vault that is locked, with snapshots of which the volume has deleted some.
    fn new(seed: u64, rng: &mut TestRng) -> Result<World, String> {
        let settings = |tree, rng: &mut TestRng| Settings { tree, ..Settings::random(rng) };
        let volume = Machine::new(settings(TreeKind::Volume, rng), seed);
        volume.open().map_err(|stop| stop.to_string())?;
        let vault = Arc::new(Machine::new(settings(TreeKind::Vault, rng), seed));
        vault.open().map_err(|stop| stop.to_string())?;
        let host: Arc<dyn Host> = Arc::clone(&vault) as Arc<dyn Host>;
        let mut session = Session::over_empty(host, Ino::ROOT, Clockwork::Exact).map_err(|stop| stop.to_string())?;
        let model = Model::new(verfs_base::Timestamp::default(), 0o755);
        let mut generator = Generator::new(rng.fork(), model, Purpose::Crash, 300_000);
        let mut past = BTreeMap::new();
        for number in 0..rng.between(2, 7) {
            for op in generator.sequence(rng.between(1, 25) as usize) {
                match op {
                    // Of one tree alone.
                    Op::Snapshot(_) | Op::CopyOut { .. } | Op::Remount => {}
                    op => match session.step(&op)? {
                        Step::Agreed => {}
                        Step::Failed { error, .. } => return Err(format!("{op}: the vault said {error}")),
                    },
                }
            }
            let name = format!("s{number}").into_bytes();
            let made = create_snapshot_of_both(&volume.vfs(), &vault.vfs(), &name, b"");
            made.map_err(|error| format!("snapshot {number}: {error}"))?;
            past.insert(name.clone(), tree_of(&vault.vfs().open_snapshot(&name).unwrap()));
        }
        drop(session);
        vault.close()?;
        let names: Vec<Vec<u8>> = past.keys().cloned().collect();
        let first = rng.index(names.len());
        for (number, name) in names.into_iter().enumerate() {
            if number == first || rng.chance(1, 2) {
                volume.vfs().delete_snapshot(&name).map_err(|error| error.to_string())?;
                past.remove(&name);
            }
        }
        let vault = Arc::into_inner(vault).ok_or("somebody still has the vault")?;
        Ok(World { volume, vault, past })
    }

    /// Deletes what belongs to no snapshot any more, in parts of `step`, of which `parts` are done; then collects it.
    fn prune(&self, vault: &Machine, step: usize, mut parts: u64) -> Result<(), String> {
        let (locked, store) = vault.locked_vault(step).map_err(|error| error.to_string())?;
        let mut go_on = || {
            parts = parts.saturating_sub(1);
            parts > 0
        };
        let pruned = locked.prune(&self.volume.vfs(), &mut go_on).map_err(|error| format!("pruning: {error}"));
        let collected = store.collect(1, &mut |_| Pace::Go).map_err(|error| format!("collecting: {error}"));
        let closed = store.close().map_err(|error| format!("closing the store: {error}"));
        pruned.and(collected.map(drop)).and(closed)
    }

    /// Whether a vault that a crash left, or that nothing befell, comes to what it should be.
    fn check(&self, vault: &Machine, rng: &mut TestRng) -> Result<(), String> {
        let when = |when: &'static str| move |what: String| format!("{when}: {what}");
        vault.audit().map_err(when("right after it"))?;
        // The next one who opens the volume goes on, perhaps for a while only, or unlocks it at once.
        if rng.chance(2, 3) {
            let parts = *rng.pick(&[1, 3, u64::MAX]);
            self.prune(vault, *rng.pick(&[1, 5, 32 << 10]), parts).map_err(when("going on"))?;
            vault.audit().map_err(when("gone on with"))?;
        }
        vault.open().map_err(|stop| format!("unlocking it: {stop}"))?;
        let vfs = vault.vfs();
        let known = self.volume.vfs().snapshots();
        for own in vfs.snapshots().into_iter().filter(|own| known.iter().all(|known| known.name != own.name)) {
            vfs.delete_snapshot(&own.name).map_err(|error| format!("deleting the rest: {error}"))?;
        }
        vault.check_released().map_err(when("unlocked"))?;
        let names: Vec<Vec<u8>> = vfs.snapshots().into_iter().map(|own| own.name.to_vec()).collect();
        if names != self.past.keys().cloned().collect::<Vec<_>>() {
            return Err(format!("it has the snapshots {names:?}"));
        }
        for (name, expected) in &self.past {
            if tree_of(&vfs.open_snapshot(name).unwrap()) != *expected {
                return Err(format!("snapshot {} is not what it was", name.escape_ascii()));
            }
        }
        vault.audit().map_err(when("unlocked"))?;
        vault.delete_snapshots()?;
        vault.check_released().map_err(when("without any snapshot"))?;
        vault.audit().map_err(when("without any snapshot"))?;
        drop(vfs);
        vault.close()
    }
}

fn case(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    note(format!("seed {seed:#x}"));
    let world = World::new(seed, &mut rng)?;
    let moments = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&moments);
    world.vault.record(move |machine| kept.lock().push(machine));
    let step = *rng.pick(&[1, 1, 4, 32 << 10]);
    let pruned = world.prune(&world.vault, step, u64::MAX);
    world.vault.power().stop_recording();
    pruned?;
    let mut moments = std::mem::take(&mut *moments.lock());
    let all = moments.len();
    while moments.len() > CUTS {
        moments.swap_remove(rng.index(moments.len()));
    }
    for machine in &moments {
        count_crash_point();
        for _ in 0..DRAWS {
            let style = *rng.pick(&CrashStyle::ALL);
            let after = machine.crash(style, &mut rng.fork())?;
            let checked = caught(|| world.check(&after, &mut rng));
            checked.map_err(|what| format!("steps of {step}, {all} moments, {style:?}: {what}"))?;
        }
    }
    world.check(&world.vault, &mut rng).map_err(|what| format!("without a cut: {what}"))
}

#[test]
fn a_locked_vault_whose_snapshots_go_is_whole_wherever_the_power_goes() {
    let name = "a_locked_vault_whose_snapshots_go_is_whole_wherever_the_power_goes";
    Campaign::new(name, 400, Duration::from_secs(20)).with_share(5).run(case);
}
