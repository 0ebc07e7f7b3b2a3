//! Damaged packs, read through a mount: the tree, a snapshot and the vault give errors where data are lost, and never
//! other bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use support::vault::{Secrets, names};
use support::{Mount, mountpoint, new_volume};
use verfs_engine::{Background, MountOptions, OpenOptions, Recovery, VaultCompression, Volume};

const FILES: u64 = 6;

fn noise(seed: u64) -> Vec<u8> {
    let mut rng = verfs_testkit::TestRng::new(seed);
    std::iter::repeat_with(|| rng.bits().to_le_bytes()).flatten().take(200_000).collect()
}

/// What is in the places that are read, by where they are below the mountpoint.
type Contents = BTreeMap<PathBuf, Vec<u8>>;

/// A volume with files in the tree, others in a snapshot, and in the vault.
fn build() -> (tempfile::TempDir, Secrets, Contents) {
    let mount = Mount::of(new_volume());
    let (secrets, mut contents) = (Secrets::new(), Contents::new());
    mount.volume().create_vault(&secrets.right(), VaultCompression::On).unwrap();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    for number in 0..FILES {
        for (place, seed) in [("", 100), (".vault", 200)] {
            let inside = Path::new(place).join(format!("file-{number}"));
            fs::write(mount.path("").join(&inside), noise(seed + number)).unwrap();
            contents.insert(inside, noise(seed + number));
        }
    }
    mount.volume().sync().unwrap();
    mount.volume().create_snapshot(b"then", b"").unwrap();
    for number in 0..FILES / 2 {
        let inside = PathBuf::from(format!("file-{number}"));
        contents.insert(Path::new(".snapshots/then").join(&inside), noise(100 + number));
        fs::write(mount.path("").join(&inside), noise(300 + number)).unwrap();
        contents.insert(inside, noise(300 + number));
    }
    (mount.into_folder(), secrets, contents)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

fn with_extension(at: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(with_extension(&path, extension));
        } else if path.extension().is_some_and(|kind| kind == extension) {
            found.push(path);
        }
    }
    found
}

/// How many places read right; the others give errors.
fn right(root: &Path, contents: &Contents, what: &str) -> usize {
    let reads = contents.iter().filter(|(inside, content)| match fs::read(root.join(inside)) {
        Ok(bytes) => {
            assert!(bytes == **content, "{what}: {} has other bytes", inside.display());
            true
        }
        Err(error) => {
            let errno = error.raw_os_error();
            assert_eq!(errno, Some(libc::EIO), "{what}: {}: {error}", inside.display());
            false
        }
    });
    reads.count()
}

fn flip(volume: &Path, one_in: usize) {
    let mut seen = 0;
    for path in with_extension(volume, "vpk") {
        let mut bytes = fs::read(&path).unwrap();
        let starts: Vec<usize> = (32..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"Vblk")).collect();
        for start in starts {
            seen += 1;
            if seen % one_in == 0 {
                bytes[start + 60] ^= 8;
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(seen > 20, "{seen} records");
}

fn cut(volume: &Path, keep: u64) {
    for path in with_extension(volume, "vpk") {
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(keep).unwrap();
    }
}

fn remove(volume: &Path, extension: &str) {
    with_extension(volume, extension).iter().for_each(|path| fs::remove_file(path).unwrap());
}

/// A kind of damage, how it is made, and whether anything of the data is lost.
type Kind = (&'static str, fn(&Path), bool);

const KINDS: [Kind; 6] = [
    ("every record flipped", |volume| flip(volume, 1), true),
    ("every fifth record flipped", |volume| flip(volume, 5), true),
    ("packs cut", |volume| cut(volume, 100_000), true),
    ("packs emptied", |volume| cut(volume, 0), true),
    ("packs removed", |volume| remove(volume, "vpk"), true),
    ("indexes removed", |volume| remove(volume, "vpi"), false),
];

#[test]
fn damaged_packs_give_errors_and_never_other_bytes_in_tree_snapshots_and_vault() {
    let (built, secrets, contents) = build();
    let outside: Contents = contents
        .iter()
        .filter(|(at, _)| !at.starts_with(".vault"))
        .map(|(at, bytes)| (at.clone(), bytes.clone()))
        .collect();
    for (what, damage, loses) in KINDS {
        for recovery in [Recovery::ReadOnly, Recovery::No] {
            let folder = tempfile::Builder::new().prefix("verfs-mounted-").tempdir().unwrap();
            fs::create_dir(mountpoint(folder.path())).unwrap();
            let volume = folder.path().join("volume");
            copy(&built.path().join("volume"), &volume);
            damage(&volume);
            let options = OpenOptions { recovery, gc_background: Background::Off, ..OpenOptions::default() };
            let volume = Volume::open(&volume, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
            volume.mount(&mountpoint(folder.path()), &MountOptions::default()).unwrap();
            let root = mountpoint(folder.path());
            let what = format!("{what}, {recovery:?}");
            let locked = right(&root, &outside, &what);
            assert!(!names(&root).contains(&".vault".to_owned()), "{what}");
            volume.unlock_vault(&secrets.right()).unwrap();
            let unlocked = right(&root, &contents, &what);
            assert_eq!(locked == outside.len(), !loses, "{what}: {locked} of {}", outside.len());
            assert_eq!(unlocked == contents.len(), !loses, "{what}: {unlocked} of {}", contents.len());
            let lost = contents.len() - unlocked;
            assert!(lost == 0 || !volume.stats().damaged.is_empty(), "{what}: nothing of it is in the status");
            volume.close().unwrap();
        }
    }
}
