//! Promise 5: who reads while another renames and removes sees the old or the new, and never nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use verfs_base::Ino;
use verfs_testkit::{Campaign, Host, Machine, Settings, TestRng, note};
use verfs_vfs::{Context, Listing, NodeKind, Pin, RenameMode, SnapshotTree, Vfs, VfsError};

const KEEPING: Context = Context { pin: Pin::Count, ..Context::ROOT };
/// Rounds of a writer in one case.
const ROUNDS: u64 = 60;

fn made(vfs: &Vfs, name: &[u8]) -> Ino {
    vfs.mknod(&Context::ROOT, Ino::ROOT, name, NodeKind::Regular, 0o644).unwrap().ino
}

/// Version `number` of the file that is replaced: its length and every byte tell the number.
fn version(number: u64) -> Vec<u8> {
    vec![(number % 251) as u8 + 1; 1000 + (number as usize % 40) * 700]
}

fn replace(vfs: &Vfs, number: u64, synced: bool) {
    let temp = made(vfs, b"temp");
    vfs.write(&Context::ROOT, temp, 0, &version(number)).unwrap();
    if synced {
        vfs.fsync(&Context::ROOT, temp, verfs_vfs::SyncScope::All).unwrap();
    }
    vfs.rename(&Context::ROOT, Ino::ROOT, b"temp", Ino::ROOT, b"goal", RenameMode::Replace).unwrap();
}

/// Looks the file up, reads it whole and gives the pin back: the number of the version that it saw.
fn seen(vfs: &Vfs) -> Result<u64, String> {
    let attr = vfs.lookup(&KEEPING, Ino::ROOT, b"goal").map_err(|error| format!("lookup of the goal: {error}"))?;
    let read = vfs.read(&Context::ROOT, attr.ino, 0, 1 << 20).map_err(|error| format!("read of the goal: {error}"));
    vfs.forget(attr.ino, 1);
    let bytes = read?.concat();
    (0..=ROUNDS)
        .find(|number| version(*number) == bytes)
        .ok_or_else(|| format!("{} bytes that begin with {:?} are no version of the goal", bytes.len(), bytes.first()))
}

/// Every listing has all the names that stay, once.
fn listed(vfs: &Vfs, stay: &BTreeSet<Vec<u8>>, page: usize) -> Result<(), String> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut cookie = 0;
    loop {
        let entries = vfs.readdir(&Context::ROOT, Ino::ROOT, cookie, page, Listing::Plus);
        let entries = entries.map_err(|error| format!("readdir: {error}"))?;
        let Some(last) = entries.last() else { break };
        cookie = last.cookie;
        found.extend(entries.iter().map(|entry| entry.name.to_vec()));
    }
    for name in stay {
        match found.iter().filter(|found| *found == name).count() {
            1 => {}
            count => return Err(format!("{} is listed {count} times", name.escape_ascii())),
        }
    }
    Ok(())
}

fn case(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let settings = Settings::random(&mut rng);
    note(settings.to_string());
    let machine = Arc::new(Machine::new(settings, seed));
    machine.open().map_err(|stop| stop.to_string())?;
    let vfs = machine.vfs();
    let stay: BTreeSet<Vec<u8>> = (0..rng.between(1, 30)).map(|at| format!("stay{at}").into_bytes()).collect();
    for name in &stay {
        made(&vfs, name);
    }
    replace(&vfs, 0, true);
    let (page, synced) = (rng.between(1, 9) as usize, rng.chance(1, 3));
    let newest = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        let least = newest.load(Ordering::SeqCst);
                        let number = seen(&vfs)?;
                        if number < least {
                            return Err(format!("version {number} was seen after {least} was in place"));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let lister = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                listed(&vfs, &stay, page)?;
            }
            Ok(())
        });
        for number in 1..=ROUNDS {
            replace(&vfs, number, synced);
            newest.store(number, Ordering::SeqCst);
            let other = format!("other{}", number % 7).into_bytes();
            match vfs.unlink(&Context::ROOT, Ino::ROOT, &other) {
                Ok(()) | Err(VfsError::NotFound) => drop(made(&vfs, &other)),
                Err(error) => return Err(format!("unlink: {error}")),
            }
            machine.advance(Duration::from_millis(1));
        }
        over.store(true, Ordering::SeqCst);
        let results: Vec<Result<(), String>> =
            readers.into_iter().chain([lister]).map(|thread| thread.join().unwrap()).collect();
        results.into_iter().collect()
    });
    drop(vfs);
    machine.close()?;
    outcome
}

#[test]
fn readers_see_the_old_or_the_new_file_and_every_name_that_stays() {
    Campaign::new("readers_see_the_old_or_the_new_file_and_every_name_that_stays", 300, Duration::from_secs(15))
        .run(case);
}

/// Everything in a snapshot of a directory of files that each have their name as content.
fn dump(tree: &SnapshotTree, page: usize) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, VfsError> {
    let (mut found, mut cookie) = (BTreeMap::new(), 2);
    loop {
        let entries = tree.readdir(Ino::ROOT, cookie, page, Listing::Plus)?;
        let Some(last) = entries.last() else { return Ok(found) };
        cookie = last.cookie;
        for entry in entries {
            let looked_up = tree.lookup(Ino::ROOT, &entry.name)?;
            found.insert(entry.name.to_vec(), tree.read(looked_up.ino, 0, 1 << 20)?.concat());
        }
    }
}

/// What a commit takes away from the live tree while a snapshot is read is in its history by then.
fn changing_case(seed: u64) -> Result<(), String> {
    let mut rng = TestRng::new(seed);
    let mut settings = Settings::random(&mut rng);
    settings.vfs.group_interval_ms = 1;
    note(settings.to_string());
    let machine = Arc::new(Machine::new(settings, seed));
    machine.open().map_err(|stop| stop.to_string())?;
    let vfs = machine.vfs();
    let names: Vec<Vec<u8>> = (0..rng.between(1, 40)).map(|at| format!("file{at}").into_bytes()).collect();
    let page = rng.between(1, 50) as usize;
    let outcome = (0..4).try_for_each(|_| {
        for name in &names {
            let ino = match vfs.lookup(&Context::ROOT, Ino::ROOT, name) {
                Ok(attr) => attr.ino,
                Err(_) => made(&vfs, name),
            };
            vfs.write(&Context::ROOT, ino, 0, &name.repeat(500)).map_err(|error| error.to_string())?;
        }
        vfs.create_snapshot(b"then", b"").map_err(|error| error.to_string())?;
        let tree = vfs.open_snapshot(b"then").map_err(|error| error.to_string())?;
        let expected = dump(&tree, page).map_err(|error| error.to_string())?;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let found = dump(&tree, page).map_err(|error| format!("a snapshot that stands: {error}"))?;
                    if found != expected {
                        return Err(format!("{} files of {} are as they were", found.len(), expected.len()));
                    }
                }
                Ok(())
            });
            for name in &names {
                let refused = match rng.below(3) {
                    0 => vfs.unlink(&Context::ROOT, Ino::ROOT, name),
                    1 => vfs.rename(&Context::ROOT, Ino::ROOT, name, Ino::ROOT, b"moved", RenameMode::Replace),
                    _ => {
                        let found = vfs.lookup(&Context::ROOT, Ino::ROOT, name);
                        found.and_then(|attr| vfs.write(&Context::ROOT, attr.ino, 3, b"changed")).map(drop)
                    }
                };
                assert_eq!(refused, Ok(()));
                machine.advance(Duration::from_millis(1));
                std::thread::sleep(Duration::from_micros(rng.below(400)));
            }
            over.store(true, Ordering::SeqCst);
            reader.join().unwrap()
        })?;
        vfs.delete_snapshot(b"then").map_err(|error| error.to_string())
    });
    drop(vfs);
    machine.close()?;
    outcome
}

#[test]
fn readers_of_a_snapshot_see_all_of_it_while_the_tree_changes() {
    let name = "readers_of_a_snapshot_see_all_of_it_while_the_tree_changes";
    Campaign::new(name, 60, Duration::from_secs(6)).run(changing_case);
}
