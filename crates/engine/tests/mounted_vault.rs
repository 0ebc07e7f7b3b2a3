//! The vault of a mounted volume, as its users meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::vault::{Secrets, errno, names, sh, with_vault};
use support::{Mount, mountpoint, new_volume};
use verfs_engine::{
    EngineError, LOCK_GRACE, MountOptions, OpenOptions, RekeyState, VaultCompression, VaultSecret, VaultState, Volume,
};

const CANARY: &str = "canary-c0ffee-of-the-vault";

/// Every file below a directory that has the bytes in it, or in its name.
fn files_with(directory: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    let has = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if has(&fs::read(&path).unwrap_or_default()) || has(path.as_os_str().as_encoded_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

fn assert_locked(root: &Path) {
    assert_eq!(names(root).iter().filter(|name| *name == ".vault").count(), 0);
    for path in [".vault", ".vault/", ".vault/file"] {
        assert_eq!(fs::symlink_metadata(root.join(path)).unwrap_err().kind(), ErrorKind::NotFound, "{path}");
    }
    assert_eq!(File::open(root.join(".vault/file")).unwrap_err().kind(), ErrorKind::NotFound);
    let vault = root.join(".vault");
    assert_eq!(errno(fs::create_dir(&vault)), libc::EPERM);
    assert_eq!(errno(File::create(&vault).map(drop)), libc::EPERM);
    assert_eq!(errno(std::os::unix::fs::symlink("x", &vault)), libc::EPERM);
    fs::write(root.join("outside"), "x").unwrap();
    assert_eq!(errno(fs::rename(root.join("outside"), &vault)), libc::EPERM);
    assert_eq!(errno(fs::hard_link(root.join("outside"), &vault)), libc::EPERM);
    assert_eq!(errno(fs::rename(&vault, root.join("moved"))), libc::ENOENT);
    assert_eq!(errno(fs::remove_dir(&vault)), libc::ENOENT);
    fs::remove_file(root.join("outside")).unwrap();
}

#[test]
fn a_new_user_makes_locks_unlocks_and_finds_what_he_wrote() {
    let mut mount = Mount::new();
    let root = mount.path("");
    assert_eq!(mount.volume().vault_status().unwrap().state, VaultState::Absent);
    let secrets = Secrets::new();
    assert!(matches!(mount.volume().unlock_vault(&secrets.right()), Err(EngineError::VaultAbsent { .. })));
    mount.volume().create_vault(&secrets.right(), VaultCompression::On).unwrap();
    assert_eq!(mount.volume().vault_status().unwrap().state, VaultState::Locked);
    assert_locked(&root);

    mount.volume().unlock_vault(&secrets.right()).unwrap();
    assert_eq!(mount.volume().vault_status().unwrap().state, VaultState::Unlocked);
    let vault = mount.path(".vault");
    assert!(names(&root).contains(&".vault".to_owned()));
    assert_eq!(fs::metadata(&vault).unwrap().permissions().mode() & 0o7777, 0o700);
    sh(
        &vault,
        "mkdir -p d/e; printf small > d/small; seq 1 300000 > d/e/large; ln -s small d/link; ln d/small d/again;
         setfattr -n user.x -v y d/small; chmod 640 d/small; truncate -s 1M d/sparse; sync d/e/large",
    );
    let listing = "find . -mindepth 1 -printf '%P %y %m %s %n %l\n' | sort; sha256sum d/e/large d/small";
    let before = sh(&vault, listing);
    assert!(matches!(mount.volume().unlock_vault(&secrets.right()), Err(EngineError::VaultUnlocked { .. })));

    mount.volume().lock_vault(LOCK_GRACE).unwrap();
    mount.volume().lock_vault(LOCK_GRACE).unwrap();
    assert_locked(&root);
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    assert_eq!(sh(&vault, listing), before);

    mount.remount();
    assert_locked(&root);
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    assert_eq!(sh(&vault, listing), before);
    assert_eq!(sh(&vault, "getfattr --only-values -n user.x d/small"), "y");
}

#[test]
fn nothing_slips_between_the_vault_and_the_rest() {
    let (mount, secrets) = with_vault();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    let (inside, outside) = (mount.path(".vault/in"), mount.path("out"));
    fs::write(&inside, CANARY).unwrap();
    fs::write(&outside, "outside").unwrap();
    assert_eq!(errno(fs::rename(&inside, mount.path("moved"))), libc::EXDEV);
    assert_eq!(errno(fs::rename(&outside, mount.path(".vault/moved"))), libc::EXDEV);
    assert_eq!(errno(fs::hard_link(&inside, mount.path("linked"))), libc::EXDEV);
    assert_eq!(errno(fs::rename(mount.path(".vault"), mount.path("elsewhere"))), libc::EBUSY);
    assert_eq!(errno(fs::remove_dir(mount.path(".vault"))), libc::EBUSY);
    assert_ne!(fs::metadata(&inside).unwrap().dev(), fs::metadata(&outside).unwrap().dev());
    assert!(!mount.path("moved").exists() && !mount.path("linked").exists());
}

#[test]
fn a_lock_ends_open_files_mappings_and_directories() {
    let (mount, secrets) = with_vault();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    let path = mount.path(".vault/file");
    fs::write(&path, CANARY.repeat(1000)).unwrap();
    let mut open = File::options().read(true).write(true).open(&path).unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    open.write_all_at(b"not yet synced", 5).unwrap();
    // Another process has it mapped and reads on and on: it must die of SIGBUS.
    let script = format!(
        "import mmap, time\nf = open({path:?}, 'rb')\nm = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n\
         print(m[0], flush=True)\nwhile True:\n    m[4096]\n    time.sleep(0.02)\n"
    );
    let mut mapping =
        Command::new("python3").args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    mapping.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
    let in_it = Command::new("sleep").arg("100").current_dir(mount.path(".vault")).spawn();

    mount.volume().lock_vault(Duration::ZERO).unwrap();
    for _ in 0..2 {
        let refused = open.read_at(&mut [0; 10], 0).unwrap_err().raw_os_error().unwrap();
        assert!([libc::EIO, libc::ENOTCONN, libc::ECONNABORTED].contains(&refused), "{refused}");
        assert!(open.write_all_at(b"x", 0).is_err());
        assert!(open.sync_all().is_err());
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let ended = loop {
        match mapping.try_wait().unwrap() {
            Some(ended) => break ended,
            None if Instant::now() > deadline => {
                mapping.kill().unwrap();
                panic!("the mapping is still to be read");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGBUS));
    assert_locked(&mount.path(""));
    let mut in_it = in_it.unwrap();
    in_it.kill().unwrap();
    in_it.wait().unwrap();
    drop(open);
    // And what was written before is there.
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    let mut expected = CANARY.repeat(1000).into_bytes();
    expected[5..19].copy_from_slice(b"not yet synced");
    assert_eq!(fs::read(&path).unwrap(), expected);
}

#[test]
fn wrong_secrets_say_the_same_and_are_limited() {
    let (mount, secrets) = with_vault();
    let volume = mount.volume();
    let other_file = Secrets::new();
    let mut said = Vec::new();
    let mut took = Vec::new();
    for wrong in [secrets.with("wrong"), other_file.right()] {
        let began = Instant::now();
        let error = volume.unlock_vault(&wrong).unwrap_err();
        took.push(began.elapsed());
        assert_eq!(error.code(), "VERFS_E_VAULT_SECRET");
        said.push(error.to_string());
    }
    assert_eq!(said[0], said[1]);
    let (shorter, longer) = (took[0].min(took[1]), took[0].max(took[1]));
    assert!(longer < shorter * 4 + Duration::from_millis(300), "{took:?}");
    assert_eq!(volume.unlock_vault(&secrets.with("wrong")).unwrap_err().code(), "VERFS_E_VAULT_SECRET");
    // Also the right one has to wait now.
    assert_eq!(volume.unlock_vault(&secrets.right()).unwrap_err().code(), "VERFS_E_VAULT_RATE_LIMITED");
    std::thread::sleep(Duration::from_millis(1100));
    volume.unlock_vault(&secrets.right()).unwrap();
    assert!(matches!(VaultSecret::new(b"x".to_vec(), b"no key".to_vec()), Err(EngineError::VaultKeyFile { .. })));
    assert!(matches!(VaultSecret::new(Vec::new(), b"no key".to_vec()), Err(EngineError::Usage(_))));
    assert_eq!(volume.create_vault(&secrets.right(), VaultCompression::On).unwrap_err().code(), "VERFS_E_VAULT_EXISTS");
}

#[test]
fn changed_secrets_open_it_and_the_old_ones_do_not() {
    let (mut mount, secrets) = with_vault();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    fs::write(mount.path(".vault/file"), "kept").unwrap();
    let rotated = Secrets::new();
    mount.volume().change_vault_secret(&secrets.right(), &rotated.with("new")).unwrap();
    mount.remount();
    assert_eq!(mount.volume().unlock_vault(&secrets.right()).unwrap_err().code(), "VERFS_E_VAULT_SECRET");
    mount.volume().check_vault_secret(&rotated.with("new")).unwrap();
    assert_eq!(mount.volume().vault_status().unwrap().state, VaultState::Locked);
    mount.volume().unlock_vault(&rotated.with("new")).unwrap();
    assert_eq!(fs::read(mount.path(".vault/file")).unwrap(), b"kept");
}

#[test]
fn the_volume_on_disk_has_no_name_and_no_byte_of_the_vault() {
    for compression in [VaultCompression::On, VaultCompression::Off] {
        let mount = Mount::new();
        let secrets = Secrets::new();
        let volume_path = mount.path("").parent().unwrap().join("volume");
        mount.volume().create_vault(&secrets.right(), compression).unwrap();
        mount.volume().unlock_vault(&secrets.right()).unwrap();
        let vault = mount.path(".vault");
        // Small and large, synced by log and by group, of each kind of record; in history, too.
        sh(
            &vault,
            &format!(
                "mkdir {CANARY}-dir; printf {CANARY} > {CANARY}-dir/{CANARY}-file; ln -s {CANARY}-target link;
                 setfattr -n user.{CANARY}-name -v {CANARY}-value {CANARY}-dir;
                 sync {CANARY}-dir/{CANARY}-file; yes {CANARY} | head -c 3000000 > large; sync large"
            ),
        );
        mount.volume().create_snapshot(b"one", b"").unwrap();
        sh(&vault, &format!("rm -r {CANARY}-dir link; yes {CANARY}2 | head -c 2000000 > large; sync large"));
        mount.volume().sync().unwrap();
        assert_eq!(files_with(&volume_path, CANARY.as_bytes()), Vec::<PathBuf>::new());
        mount.volume().lock_vault(LOCK_GRACE).unwrap();
        assert_eq!(files_with(&volume_path, CANARY.as_bytes()), Vec::<PathBuf>::new());
        // The scan does find what is not in the vault.
        fs::write(mount.path("plain"), CANARY).unwrap();
        mount.volume().sync().unwrap();
        assert_ne!(files_with(&volume_path, CANARY.as_bytes()), Vec::<PathBuf>::new());
    }
}

#[test]
fn equal_bytes_are_stored_once_inside_and_apart_from_outside() {
    let (mount, secrets) = with_vault();
    let packs = |below: &str| -> u64 {
        let path = mount.path("").parent().unwrap().join("volume").join(below);
        let sizes = sh(&path, "find . -name '*.vpk' -printf '%s\n'");
        sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum()
    };
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    sh(&mount.path(""), "head -c 4000000 /dev/urandom > out; cp out .vault/a");
    mount.volume().sync().unwrap();
    let once = packs("vault/packs");
    assert!(once > 4_000_000, "{once}");
    sh(&mount.path(".vault"), "cp a b; cp a c");
    mount.volume().sync().unwrap();
    assert!(packs("vault/packs") < once + 500_000);
    assert!(packs("packs") > 4_000_000);
    // No chunk of the vault has the name of one outside.
    let ids = |below: &str| -> Vec<Vec<u8>> {
        let path = mount.path("").parent().unwrap().join("volume").join(below);
        let listed = sh(&path, "find . -name '*.vpk'");
        let mut ids = Vec::new();
        for pack in listed.lines() {
            let bytes = fs::read(path.join(pack)).unwrap();
            let starts = bytes.windows(4).enumerate().filter(|(_, window)| *window == b"Vblk");
            ids.extend(starts.map(|(at, _)| bytes[at + 4..at + 20].to_vec()));
        }
        ids
    };
    let outside = ids("packs");
    assert!(outside.len() > 50);
    assert!(ids("vault/packs").iter().all(|id| !outside.contains(id)));
}

#[test]
fn garbage_is_collected_while_it_is_locked_and_nothing_is_lost() {
    let (mount, secrets) = with_vault();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    let vault = mount.path(".vault");
    sh(&vault, "head -c 6000000 /dev/urandom > dead; head -c 2000000 /dev/urandom > kept; sha256sum kept > sum");
    mount.volume().sync().unwrap();
    fs::remove_file(vault.join("dead")).unwrap();
    for _ in 0..5 {
        mount.volume().sync().unwrap();
    }
    mount.volume().lock_vault(LOCK_GRACE).unwrap();
    let collected = mount.volume().collect_garbage().unwrap();
    assert!(collected.reclaimed_bytes() > 5_000_000, "{collected:?}");
    assert_locked(&mount.path(""));
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    sh(&vault, "sha256sum -c sum");
}

#[test]
fn snapshots_have_the_past_of_the_vault_also_when_it_was_locked() {
    let (mut mount, secrets) = with_vault();
    mount.volume().create_snapshot(b"before-it-was-used", b"").unwrap();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    let file = mount.path(".vault/file");
    fs::write(&file, "one").unwrap();
    mount.volume().create_snapshot(b"open", b"").unwrap();
    fs::write(&file, "two").unwrap();
    mount.volume().lock_vault(LOCK_GRACE).unwrap();
    mount.volume().create_snapshot(b"locked", b"").unwrap();
    mount.volume().create_snapshot(b"gone", b"").unwrap();
    mount.volume().delete_snapshot(b"gone").unwrap();
    // The snapshots of the volume itself show nothing of it.
    assert!(!mount.path(".snapshots/open/.vault").exists());
    mount.remount();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    fs::write(&file, "three").unwrap();
    let past = |name: &str| fs::read_to_string(mount.path(&format!(".vault/.snapshots/{name}/file")));
    assert_eq!(past("open").unwrap(), "one");
    assert_eq!(past("locked").unwrap(), "two");
    assert!(past("before-it-was-used").is_err());
    assert!(past("gone").is_err());
    // Made with mkdir, it has the vault as well; the vault's own follow those of the volume.
    fs::create_dir(mount.path(".snapshots/made")).unwrap();
    assert_eq!(past("made").unwrap(), "three");
    let refused = fs::create_dir(mount.path(".vault/.snapshots/own"));
    assert_eq!(errno(refused), libc::EROFS);
    fs::remove_dir(mount.path(".snapshots/made")).unwrap();
    assert!(past("made").is_err());
    mount.volume().delete_snapshot(b"open").unwrap();
    assert!(past("open").is_err());
    // A lock ends these as well.
    let open = File::open(mount.path(".vault/.snapshots/locked/file")).unwrap();
    open.read_at(&mut [0; 3], 0).unwrap();
    mount.volume().lock_vault(LOCK_GRACE).unwrap();
    assert!(open.read_at(&mut [0; 3], 0).is_err());
    assert_locked(&mount.path(""));
}

#[test]
fn a_vault_that_was_not_mounted_appears_with_the_mount_and_ends_with_it() {
    let folder = new_volume();
    let volume = Volume::open(&folder.path().join("volume"), &OpenOptions::default()).unwrap();
    let secrets = Secrets::new();
    volume.create_vault(&secrets.right(), VaultCompression::On).unwrap();
    volume.unlock_vault(&secrets.right()).unwrap();
    let root = mountpoint(folder.path());
    volume.mount(&root, &MountOptions::default()).unwrap();
    fs::write(root.join(".vault/file"), "x").unwrap();
    volume.unmount().unwrap();
    assert_eq!(volume.vault_status().unwrap().state, VaultState::Locked);
    volume.mount(&root, &MountOptions::default()).unwrap();
    assert_locked(&root);
    volume.unlock_vault(&secrets.right()).unwrap();
    assert_eq!(fs::read(root.join(".vault/file")).unwrap(), b"x");
    volume.close().unwrap();
    assert_eq!(names(&root), Vec::<String>::new());
}

#[test]
fn a_tree_with_a_name_of_its_own_there_gets_no_vault() {
    let mount = Mount::new();
    fs::create_dir(mount.path(".vault")).unwrap();
    let refused = mount.volume().create_vault(&Secrets::new().right(), VaultCompression::On).unwrap_err();
    assert_eq!(refused.code(), "VERFS_E_PATH_EXISTS");
    fs::remove_dir(mount.path(".vault")).unwrap();
}

#[test]
fn what_was_synced_in_it_survives_a_kill() {
    if let Some(folder) = support::told("VAULT_WRITER") {
        let volume = support::open_and_mount(&folder);
        let secrets = Secrets { key_file: fs::read_to_string(folder.join("key")).unwrap() };
        volume.unlock_vault(&secrets.right()).unwrap();
        let mut file = File::create(mountpoint(&folder).join(".vault/synced")).unwrap();
        file.write_all(CANARY.as_bytes()).unwrap();
        file.sync_all().unwrap();
        // A process that dies with files of its own mount open waits for itself.
        drop(file);
        support::report("synced");
        support::wait_for_the_end();
        std::process::exit(0);
    }
    let folder = new_volume();
    let secrets = Secrets::new();
    fs::write(folder.path().join("key"), &secrets.key_file).unwrap();
    {
        let volume = Volume::open(&folder.path().join("volume"), &OpenOptions::default()).unwrap();
        volume.create_vault(&secrets.right(), VaultCompression::On).unwrap();
        volume.close().unwrap();
    }
    let mut other = support::Other::start("what_was_synced_in_it_survives_a_kill", "VAULT_WRITER", folder.path());
    other.expect("synced");
    other.kill();
    assert_eq!(files_with(&folder.path().join("volume"), CANARY.as_bytes()), Vec::<PathBuf>::new());
    let mount = Mount::of(folder);
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    assert_eq!(fs::read(mount.path(".vault/synced")).unwrap(), CANARY.as_bytes());
    let _volume: &Arc<Volume> = mount.volume();
}

/// Numbers of the data keys with which the chunks in the vault's packs are sealed.
fn generations(volume: &Path) -> Vec<u32> {
    let packs = volume.join("vault/packs");
    let mut found = Vec::new();
    for pack in sh(&packs, "find . -name '*.vpk'").lines() {
        let bytes = fs::read(packs.join(pack)).unwrap();
        let mut at = 32;
        while bytes.get(at..at + 4) == Some(b"Vblk") {
            let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            found.push(number(at + 40));
            at += 40 + number(at + 24) as usize;
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn wait_for_rekey(volume: &Volume) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while volume.vault_status().unwrap().rekey != RekeyState::Idle {
        assert!(Instant::now() < deadline, "{:?}", volume.vault_status());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_new_data_key_leaves_nothing_sealed_with_the_old_one_and_files_as_they_are() {
    let (mut mount, secrets) = with_vault();
    let volume_path = mount.path("").parent().unwrap().join("volume");
    assert_eq!(mount.volume().rekey_vault(&secrets.right()).unwrap_err().code(), "VERFS_E_VAULT_LOCKED");
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    let vault = mount.path(".vault");
    sh(&vault, "mkdir d; head -c 9000000 /dev/urandom > d/large; printf small > d/small; ln -s small d/link");
    mount.volume().create_snapshot(b"before", b"").unwrap();
    sh(&vault, "printf changed > d/small; sha256sum d/large > sum");
    mount.volume().sync().unwrap();
    assert_eq!(generations(&volume_path), [1]);
    assert_eq!(mount.volume().rekey_vault(&secrets.with("wrong")).unwrap_err().code(), "VERFS_E_VAULT_SECRET");
    mount.volume().rekey_vault(&secrets.right()).unwrap();
    // Whoever uses it meanwhile is served.
    sh(&vault, "for i in $(seq 20); do sha256sum -c sum >/dev/null; printf $i > d/while-$i; sync d/while-$i; done");
    wait_for_rekey(mount.volume());
    mount.volume().sync().unwrap();
    assert_eq!(generations(&volume_path), [2]);
    let check = |mount: &Mount| {
        sh(&mount.path(".vault"), "sha256sum -c sum; test $(cat d/small) = changed; test $(readlink d/link) = small");
        assert_eq!(fs::read_to_string(mount.path(".vault/.snapshots/before/d/small")).unwrap(), "small");
    };
    check(&mount);
    // Now with the new key alone.
    mount.remount();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    assert_eq!(mount.volume().vault_status().unwrap().rekey, RekeyState::Idle);
    check(&mount);
    assert_eq!(sh(&vault, "ls d | wc -l").trim(), "23");
}

#[test]
fn a_rekey_that_is_cut_off_goes_on_after_the_next_unlocking() {
    let (mut mount, secrets) = with_vault();
    let volume_path = mount.path("").parent().unwrap().join("volume");
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    sh(&mount.path(".vault"), "head -c 30000000 /dev/urandom > large; sha256sum large > sum");
    mount.volume().sync().unwrap();
    for _ in 0..3 {
        // Locked at once: nothing or a part is done.
        match mount.volume().rekey_vault(&secrets.right()) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.code(), "VERFS_E_USAGE"),
        }
        mount.volume().lock_vault(LOCK_GRACE).unwrap();
        mount.remount();
        mount.volume().unlock_vault(&secrets.right()).unwrap();
        sh(&mount.path(".vault"), "sha256sum -c sum");
    }
    wait_for_rekey(mount.volume());
    assert_eq!(generations(&volume_path).len(), 1, "{:?}", generations(&volume_path));
    mount.remount();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    sh(&mount.path(".vault"), "sha256sum -c sum");
}
