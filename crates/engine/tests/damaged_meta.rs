//! Metadata whose engine's files are damaged: each file, each kind of damage. An open ends with what was written or with an
//! error that has a code and says what to do; recovery mounts; nobody panics, and nobody waits for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod damage;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use damage::{copy, noise};
use verfs_base::Ino;
use verfs_engine::{
    CreateOptions, FsckVerdict, Mending, MetaEngine, OpenOptions, Recovery, Repair, VaultCompression, VaultSecret,
    Volume,
};
use verfs_format::superblock::Superblock;
use verfs_format::{keys, varint};
use verfs_vfs::{Context, Listing, NodeKind, SetAttr, SyncScope, Vfs, VfsError};

const ROOT: Context = Context::ROOT;
/// Enough records for several tables and a log.
const FILES: u64 = 600;
/// Every so many files have chunks.
const CHUNKED_ONE_IN: u64 = 100;
/// Longest until a call on a small volume ends, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What an error of damaged metadata may be.
const CODES: [&str; 3] = ["VERFS_E_DAMAGED", "VERFS_E_METADATA_OLDER", "VERFS_E_METADATA_MISSING"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    /// One bit, at so many tenths of the file.
    Flip(u64),
    Halved,
    Emptied,
    Removed,
}

const DAMAGES: [Damage; 6] =
    [Damage::Flip(0), Damage::Flip(5), Damage::Flip(9), Damage::Halved, Damage::Emptied, Damage::Removed];

/// Records of each kind that are damaged.
const SAMPLED: usize = 3;

fn options() -> OpenOptions {
    OpenOptions { memtable_bytes: 1 << 20, ..damage::options() }
}

fn recovery() -> OpenOptions {
    OpenOptions { recovery: Recovery::ReadOnly, ..damage::options() }
}

fn name(number: u64) -> Vec<u8> {
    format!("a file with a name that takes some room, number {number}").into_bytes()
}

fn content(number: u64) -> Vec<u8> {
    if number.is_multiple_of(CHUNKED_ONE_IN) { noise(number, 40_000) } else { noise(number, 900) }
}

/// A volume as a crash leaves it, its metadata in tables and in the log.
fn build(engine: MetaEngine) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("open");
    Volume::create(&path, &CreateOptions { engine, ..CreateOptions::default() }).unwrap();
    let volume = Volume::open(&path, &options()).unwrap();
    for number in 0..FILES {
        let ino = volume.vfs().mknod(&ROOT, Ino::ROOT, &name(number), NodeKind::Regular, 0o644).unwrap().ino;
        volume.vfs().write(&ROOT, ino, 0, &content(number)).unwrap();
        if number % 50 == 49 {
            volume.vfs().sync().unwrap();
        }
    }
    copy(&path, &directory.path().join("volume"));
    volume.close().unwrap();
    directory
}

fn files(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn spoil(file: &Path, damage: Damage) {
    let mut bytes = std::fs::read(file).unwrap();
    match damage {
        Damage::Removed => return std::fs::remove_file(file).unwrap(),
        Damage::Emptied => bytes.clear(),
        Damage::Halved => bytes.truncate(bytes.len() / 2),
        Damage::Flip(tenths) => {
            let at = bytes.len() * tenths as usize / 10;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 4;
            }
        }
    }
    std::fs::write(file, bytes).unwrap();
}

/// Runs something that must end, and not by a panic.
fn ends<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(PATIENCE) {
        Ok(done) => done,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: it does not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let panic = thread.join().unwrap_err();
            panic!("{what}: it panicked: {:?}", panic.downcast_ref::<String>());
        }
    }
}

fn read_all(vfs: &Vfs, ino: Ino) -> Result<Vec<u8>, VfsError> {
    let size = vfs.getattr(&ROOT, ino)?.size as u32;
    Ok(vfs.read(&ROOT, ino, 0, size)?.concat())
}

/// How many files read as they were written; none reads as anything else.
fn right(vfs: &Vfs, what: &str) -> u64 {
    let mut right = 0;
    for number in 0..FILES {
        match vfs.lookup(&ROOT, Ino::ROOT, &name(number)).and_then(|attr| read_all(vfs, attr.ino)) {
            Ok(bytes) if bytes == content(number) => right += 1,
            // Of an older state: it was made and not written yet.
            Ok(bytes) => assert!(bytes.is_empty(), "{what}: file {number} has other bytes"),
            Err(VfsError::Io | VfsError::NotFound) => {}
            Err(error) => panic!("{what}: file {number}: {error}"),
        }
    }
    right
}

fn lost_and_found(vfs: &Vfs) -> usize {
    let Ok(directory) = vfs.lookup(&ROOT, Ino::ROOT, b"lost+found") else { return 0 };
    vfs.readdir(&ROOT, directory.ino, 0, 1000, Listing::Names).unwrap().len()
}

fn every_damage_of_every_file(engine: MetaEngine) {
    let built = build(engine);
    let volume = built.path().join("volume");
    let all = files(&volume.join("meta"));
    assert!(all.len() > 3, "{all:?}");
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = |outcome: String| *outcomes.entry(outcome).or_default() += 1;
    for file in &all {
        let inside = file.strip_prefix(&volume).unwrap();
        for damage in DAMAGES {
            let what = format!("{engine} {} {damage:?}", inside.display());
            let damaged = tempfile::tempdir().unwrap();
            let path = damaged.path().join("volume");
            copy(&volume, &path);
            spoil(&path.join(inside), damage);

            let (at, told) = (path.clone(), what.clone());
            let recovered = ends(&what, move || {
                let options = OpenOptions { recovery: Recovery::ReadOnly, ..options() };
                let volume = Volume::open(&at, &options).unwrap_or_else(|error| panic!("{told}: {error}"));
                let right = right(volume.vfs(), &told);
                let kept = lost_and_found(volume.vfs());
                volume.close().unwrap();
                assert!(right > 0 || kept > 0, "{told}: nothing is readable");
                right
            });
            count(format!("recovery {}", if recovered == FILES { "all" } else { "part" }));

            let (at, told) = (path.clone(), what.clone());
            let checked = ends(&what, move || {
                Volume::fsck(&at, Repair::No, &mut |_| ControlFlow::Continue(())).map(|report| report.verdict)
            });
            match checked {
                Ok(verdict) => count(format!("fsck {verdict:?}")),
                Err(error) => assert!(CODES.contains(&error.code()), "{what}: fsck: {error}"),
            }

            let at = path.clone();
            let opened = ends(&what, move || {
                let volume = Volume::open(&at, &options())?;
                let right = right(volume.vfs(), &told);
                volume.close().map(|()| right)
            });
            match opened {
                Ok(right) => count(format!("open {}", if right == FILES { "all" } else { "part" })),
                Err(error) => {
                    assert!(CODES.contains(&error.code()), "{what}: {}: {error}", error.code());
                    assert!(error.to_string().contains(": "), "{what}: {error}");
                    count(format!("open {}", error.code()));
                }
            }
        }
    }
    eprintln!("{engine}: {outcomes:?}");
    assert!(outcomes.keys().any(|outcome| outcome.contains("VERFS_E_DAMAGED")), "{outcomes:?}");
    assert!(outcomes.contains_key("recovery part"), "{outcomes:?}");
}

#[test]
fn surrealkv_with_damaged_files_is_refused_or_right_and_recovery_mounts() {
    every_damage_of_every_file(MetaEngine::Surrealkv);
}

#[test]
fn fjall_with_damaged_files_is_refused_or_right_and_recovery_mounts() {
    every_damage_of_every_file(MetaEngine::Fjall);
}

fn check(path: &Path, repair: Repair) -> (FsckVerdict, Vec<(&'static str, Mending)>) {
    let report = Volume::fsck(path, repair, &mut |_| ControlFlow::Continue(())).unwrap();
    (report.verdict, report.findings.iter().map(|finding| (finding.code, finding.mending)).collect())
}

/// A normal open refuses it as damaged, and says what to do.
fn assert_refused(path: &Path, what: &str) {
    let error = Volume::open(path, &damage::options()).map(drop).unwrap_err();
    // Without the number of the last batch they are older than any witness.
    let code = if what == "Smeta.batch" { "VERFS_E_METADATA_OLDER" } else { "VERFS_E_DAMAGED" };
    assert_eq!(error.code(), code, "{what}: {error}");
    for advice in ["verfs fsck --repair", "verfs mount --read-only-recovery"] {
        assert!(error.to_string().contains(advice), "{what}: {error}");
    }
}

#[test]
fn a_directory_that_does_not_name_its_engine_is_named_again() {
    for text in [Some(&b""[..]), Some(b"surreamkv\n"), Some(b"fjall\n"), Some(b"\xff\xfe\0"), None] {
        let built = damage::Built::new();
        let (file, what) = (built.path.join("meta/ENGINE"), format!("{text:?}"));
        match text {
            Some(text) => std::fs::write(file, text).unwrap(),
            None => std::fs::remove_file(file).unwrap(),
        }
        assert_refused(&built.path, &what);
        let volume = Volume::open(&built.path, &recovery()).unwrap();
        built.assert_reads_of(&volume, &[]);
        volume.close().unwrap();
        drop(volume);
        assert_eq!(check(&built.path, Repair::No), (FsckVerdict::Found, vec![("metadata-engine", Mending::Mendable)]));
        assert_eq!(check(&built.path, Repair::Yes), (FsckVerdict::Mended, vec![("metadata-engine", Mending::Mended)]));
        assert_eq!(check(&built.path, Repair::No), (FsckVerdict::Clean, vec![]));
        built.assert_reads(&[]);
    }
}

#[test]
fn metadata_of_another_engine_than_the_superblock_says_are_shown_and_left_alone() {
    let built = build(MetaEngine::Fjall);
    let path = built.path().join("volume");
    let text = std::fs::read(path.join("volume.toml")).unwrap();
    let superblock = Superblock { metadata_engine: "surrealkv".to_owned(), ..Superblock::decode(&text).unwrap() };
    std::fs::write(path.join("volume.toml"), superblock.encode()).unwrap();
    let before = files(&path.join("meta"));
    assert_refused(&path, "another engine");
    let volume = Volume::open(&path, &recovery()).unwrap();
    assert_eq!(right(volume.vfs(), "another engine"), FILES);
    volume.close().unwrap();
    drop(volume);
    for (repair, verdict) in [(Repair::No, FsckVerdict::Found), (Repair::Yes, FsckVerdict::Left)] {
        let (found, told) = check(&path, repair);
        assert_eq!((found, told[0]), (verdict, ("metadata-engine", Mending::Left)));
    }
    assert_eq!(files(&path.join("meta")), before);
}

#[test]
fn a_system_number_that_is_missing_is_an_error_and_never_begun_anew() {
    for key in [keys::SYSTEM_GROUP, keys::SYSTEM_NEXT_NUMBER, keys::SYSTEM_EPOCH] {
        let built = damage::Built::new();
        let what = key.escape_ascii().to_string();
        built.delete(key);
        assert_refused(&built.path, &what);
        let volume = Volume::open(&built.path, &recovery()).unwrap();
        built.assert_reads_of(&volume, &[]);
        volume.close().unwrap();
        drop(volume);
        let (verdict, told) = check(&built.path, Repair::Yes);
        assert_eq!(verdict, FsckVerdict::Mended, "{what}: {told:?}");
        assert!(told.contains(&("system-number", Mending::Mended)), "{what}: {told:?}");
        assert_eq!(check(&built.path, Repair::No), (FsckVerdict::Clean, vec![]), "{what}");
        built.assert_reads(&[]);
    }
}

#[test]
fn what_is_under_way_and_cannot_be_completed_is_given_up_by_a_repair() {
    let mut no_snapshot = Vec::new();
    varint::put_u64(&mut no_snapshot, 1000);
    let intents = [
        (keys::SYSTEM_ROLLBACK, no_snapshot, "rollback-intent"),
        (keys::SYSTEM_RECEIVE, b"no spool has it.".to_vec(), "receive-intent"),
    ];
    for (key, value, code) in intents {
        let built = damage::Built::new();
        built.put(key, value);
        assert_refused(&built.path, code);
        let volume = Volume::open(&built.path, &recovery()).unwrap();
        built.assert_reads_of(&volume, &[]);
        volume.close().unwrap();
        drop(volume);
        assert_eq!(check(&built.path, Repair::Yes), (FsckVerdict::Mended, vec![(code, Mending::Mended)]));
        assert_eq!(check(&built.path, Repair::No), (FsckVerdict::Clean, vec![]));
        built.assert_reads(&[]);
    }
}

/// A volume with something of everything, as a crash leaves it: changes that only the log has, too.
fn crashed() -> (damage::Built, tempfile::TempDir) {
    let built = damage::Built::new();
    let volume = Volume::open(&built.path, &damage::options()).unwrap();
    let key_file = VaultSecret::new_key_file().unwrap().into_bytes();
    let secret = || VaultSecret::new(b"a password".to_vec(), key_file.clone()).unwrap();
    volume.create_vault(&secret(), VaultCompression::On).unwrap();
    volume.unlock_vault(&secret()).unwrap();
    let write = |vfs: &Vfs, name: &[u8], seed| {
        let ino = vfs.mknod(&ROOT, Ino::ROOT, name, NodeKind::Regular, 0o600).unwrap().ino;
        vfs.write(&ROOT, ino, 0, &noise(seed, 100_000)).unwrap();
        ino
    };
    let vault = volume.vault_vfs().unwrap();
    write(&vault, b"secret", 60);
    vault.sync().unwrap();
    let vfs = volume.vfs();
    vfs.sync().unwrap();
    for path in damage::CHUNKED {
        let mode = SetAttr { mode: Some(0o640), ..SetAttr::default() };
        vfs.setattr(&ROOT, built.ino(path), &mode).unwrap();
        vfs.fsync(&ROOT, built.ino(path), SyncScope::All).unwrap();
    }
    let logged = write(vfs, b"logged", 61);
    vfs.fsync(&ROOT, logged, SyncScope::All).unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy(&built.path, &copied.path().join("volume"));
    drop(vault);
    volume.close().unwrap();
    drop(volume);
    (built, copied)
}

#[test]
fn each_kind_of_record_that_cannot_be_decoded_is_named_with_advice_and_recovery_mounts() {
    let (mut built, copied) = crashed();
    let whole = copied.path().join("volume");
    let every = ["/dir/file", "/dir/deep/file", "/changed", "/new", "/small", "/hard", "/attributes"];
    let mut kinds: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    built.path = built.directory.path().join("listed");
    copy(&whole, &built.path);
    for key in built.keys_from(b"") {
        // System values each for itself, other records by their keyspace.
        let kind = match &key[..] {
            [b'S', ..] => key.clone(),
            [b'V', b'S', ..] => key.clone(),
            [b'V', kind, ..] => vec![b'V', *kind],
            [kind, ..] => vec![*kind],
            [] => continue,
        };
        kinds.entry(kind).or_default().push(key);
    }
    for intent in [keys::SYSTEM_ROLLBACK, keys::SYSTEM_RECEIVE] {
        kinds.entry(intent.to_vec()).or_default().push(intent.to_vec());
    }
    for kind in [b"i", b"d", b"e", b"l", b"x", b"h", b"L", b"D", b"s", b"c", b"p"] {
        assert!(kinds.contains_key(&kind[..]), "there is no record of {}", kind.escape_ascii());
    }
    let mut refused = 0;
    let sample = kinds.values().flat_map(|keys| {
        let step = keys.len().div_ceil(SAMPLED);
        keys.iter().step_by(step)
    });
    for (number, key) in sample.enumerate() {
        // Said by a test that fails.
        let what = key.escape_ascii().to_string();
        eprintln!("record {what}");
        built.path = built.directory.path().join(format!("volume-{number}"));
        copy(&whole, &built.path);
        built.put(key, if number % 2 == 0 { vec![] } else { vec![0xff; 12] });

        let volume = Volume::open(&built.path, &recovery()).unwrap_or_else(|error| panic!("{what}: {error}"));
        built.assert_reads_of(&volume, &every);
        volume.close().unwrap();
        drop(volume);
        let error = Volume::open(&built.path, &damage::options()).and_then(|volume| {
            built.assert_reads_of(&volume, &every);
            volume.close()
        });
        if error.is_err() {
            refused += 1;
            assert_refused(&built.path, &what);
        }
        let (verdict, told) = check(&built.path, Repair::Yes);
        assert!(!told.iter().any(|(code, _)| *code == "open-refused"), "{what}: {verdict:?} {told:?}");
        built.assert_reads(&every);
        let (_, told) = check(&built.path, Repair::No);
        assert!(told.iter().all(|(_, mending)| *mending == Mending::Left), "{what}: {told:?}");
        std::fs::remove_dir_all(&built.path).unwrap();
    }
    assert!(refused > 5, "{refused} kinds of records are needed to open a volume");
}
