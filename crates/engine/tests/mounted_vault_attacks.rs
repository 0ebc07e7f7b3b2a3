//! What was tried against the vault of a mounted volume: clients, locks and unlocks that meet, odd names and secrets, a
//! disk without room.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::fs::{self, File, OpenOptions as FileOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use support::disk::LoopDisk;
use support::vault::{Secrets, errno, names, sh, vault_mounts, with_vault};
use support::{Mount, mountpoint, new_volume};
use verfs_engine::{
    CreateOptions, EngineError, LOCK_GRACE, MountOptions, OpenOptions, RekeyState, VaultCompression, VaultSecret,
    VaultState, Volume,
};

/// How a client of a vault that is being locked may fail. EROFS: between the end of its mount and that of its name there is
/// an empty directory that takes nothing.
const LOCKED_OUT: [i32; 6] = [libc::EIO, libc::ENOTCONN, libc::ECONNABORTED, libc::ENOENT, libc::EPERM, libc::EROFS];
/// Longest that something may take which must not wait.
const AT_ONCE: Duration = Duration::from_secs(20);

/// How often something is done again, `npm run test:long` more often.
fn factor() -> usize {
    std::env::var("VERFS_TEST_FACTOR").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn figure(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What a client made durable last.
struct Client {
    number: usize,
    synced: AtomicU64,
}

impl Client {
    fn file(&self) -> String {
        format!("client-{}", self.number)
    }

    /// Works with a file that stays open, others, and a listing, until it is locked out.
    fn work(&self, vault: &Path) -> std::io::Error {
        let run = || -> std::io::Result<()> {
            let kept = FileOptions::new().create(true).truncate(false).write(true).open(vault.join(self.file()))?;
            loop {
                let next = self.synced.load(Ordering::SeqCst) + 1;
                kept.write_all_at(&next.to_le_bytes(), 0)?;
                kept.sync_data()?;
                self.synced.store(next, Ordering::SeqCst);
                let other = vault.join(format!("{}-other", self.file()));
                fs::write(&other, next.to_le_bytes())?;
                fs::read(&other)?;
                fs::read_dir(vault)?.try_for_each(|entry| entry.map(drop))?;
                fs::rename(&other, vault.join(format!("{}-renamed", self.file())))?;
            }
        };
        run().unwrap_err()
    }
}

#[test]
fn a_lock_among_sixteen_clients_hangs_nobody_and_keeps_what_was_synced() {
    let (mount, secrets) = with_vault();
    let vault = mount.path(".vault");
    let clients: Vec<Client> = (0..16).map(|number| Client { number, synced: AtomicU64::new(0) }).collect();
    for round in 0..2 + 2 * factor() {
        mount.volume().unlock_vault(&secrets.right()).unwrap();
        std::thread::scope(|scope| {
            let working: Vec<_> = clients.iter().map(|client| scope.spawn(|| client.work(&vault))).collect();
            std::thread::sleep(Duration::from_millis(300));
            // With some time for what is under way, and with none.
            let grace = if round % 2 == 0 { LOCK_GRACE } else { Duration::ZERO };
            let began = Instant::now();
            mount.volume().lock_vault(grace).unwrap();
            assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
            for client in working {
                let error = client.join().unwrap();
                assert!(LOCKED_OUT.contains(&error.raw_os_error().unwrap()), "{error}");
            }
        });
        assert_eq!(vault_mounts(&mount.path("")), 0);
        assert_eq!(names(&mount.path("")), Vec::<String>::new());
        mount.volume().unlock_vault(&secrets.right()).unwrap();
        for client in &clients {
            let bytes = fs::read(vault.join(client.file())).unwrap();
            let stored = u64::from_le_bytes(bytes.try_into().unwrap());
            assert!(stored >= client.synced.load(Ordering::SeqCst), "{stored} of {}", client.file());
            client.synced.store(stored, Ordering::SeqCst);
        }
        mount.volume().lock_vault(LOCK_GRACE).unwrap();
    }
}

#[test]
fn unlocked_and_locked_again_and_again_it_leaves_no_file_no_mount_and_no_memory() {
    let (mount, secrets) = with_vault();
    let vault = mount.path(".vault");
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody writes beside it, and into it whenever there is something.
        let beside = scope.spawn(|| {
            let mut written = 0_u64;
            while !ends.load(Ordering::Relaxed) {
                fs::write(mount.path("beside"), vec![7; 100_000]).unwrap();
                written += u64::from(fs::write(vault.join("inside"), vec![8; 300_000]).is_ok());
            }
            written
        });
        let mut before = None;
        for round in 0..10 * factor() {
            mount.volume().unlock_vault(&secrets.right()).unwrap();
            sh(&vault, "head -c 3000000 /dev/urandom > large; cat large > /dev/null; ls -la > /dev/null");
            mount.volume().lock_vault(Duration::from_millis(100)).unwrap();
            // The first ones fill caches.
            if round == 3 {
                before = Some((open_files(), figure("Threads:"), figure("VmRSS:")));
            }
        }
        ends.store(true, Ordering::Relaxed);
        assert!(beside.join().unwrap() > 0);
        let (files, threads, rss_kib) = before.unwrap();
        // A file of the writer, one of a pack, and what the test program has for others.
        assert!(open_files() <= files + 6, "{} files after {files}", open_files());
        assert!(figure("Threads:") <= threads + 4, "{} threads after {threads}", figure("Threads:"));
        assert!(figure("VmRSS:") <= rss_kib + (60 << 10), "{} KiB after {rss_kib}", figure("VmRSS:"));
    });
    assert_eq!(vault_mounts(&mount.path("")), 0);
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    sh(&vault, "test $(stat -c %s large) = 3000000");
}

#[test]
fn of_two_unlocks_at_once_one_opens_it() {
    let (mount, secrets) = with_vault();
    let start = Barrier::new(2);
    let results = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| {
            scope.spawn(|| {
                start.wait();
                mount.volume().unlock_vault(&secrets.right())
            })
        });
        both.map(|thread| thread.join().unwrap())
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let refused = results.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(refused, EngineError::VaultUnlocked { .. }), "{refused}");
    assert_eq!(vault_mounts(&mount.path("")), 1);
    fs::write(mount.path(".vault/file"), "x").unwrap();
}

#[test]
fn a_lock_does_not_wait_for_a_collection_of_garbage_nor_does_an_unlock() {
    let folder = new_volume();
    // So slow that it would take minutes while somebody uses the vault.
    let options = OpenOptions { gc_busy_rate_bytes: 64 << 10, pack_target_bytes: 4 << 20, ..OpenOptions::default() };
    let volume = Volume::open(&folder.path().join("volume"), &options).unwrap();
    let root = mountpoint(folder.path());
    volume.mount(&root, &MountOptions::default()).unwrap();
    let (secrets, vault) = (Secrets::new(), root.join(".vault"));
    volume.create_vault(&secrets.right(), VaultCompression::On).unwrap();
    volume.unlock_vault(&secrets.right()).unwrap();
    sh(&vault, "for i in $(seq 60); do head -c 500000 /dev/urandom > $i; done");
    volume.sync().unwrap();
    sh(&vault, "for i in $(seq 1 2 60); do rm $i; done; sha256sum * > ../sums");
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| volume.collect_garbage());
        let used_until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < used_until {
            fs::write(vault.join("used"), "x").unwrap();
            fs::remove_file(vault.join("used")).unwrap();
            volume.sync().unwrap();
        }
        assert!(!collecting.is_finished());
        let began = Instant::now();
        volume.lock_vault(LOCK_GRACE).unwrap();
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        volume.unlock_vault(&secrets.right()).unwrap();
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        collecting.join().unwrap().unwrap();
    });
    sh(&vault, "sha256sum -c ../sums");
    volume.close().unwrap();
}

#[test]
fn secrets_that_are_changed_while_it_gets_a_new_data_key_open_it_and_the_key_comes_all_the_same() {
    let (mut mount, secrets) = with_vault();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    sh(&mount.path(".vault"), "head -c 20000000 /dev/urandom > large; sha256sum large > sum");
    mount.volume().sync().unwrap();
    mount.volume().rekey_vault(&secrets.right()).unwrap();
    let changed = Secrets::new();
    mount.volume().change_vault_secret(&secrets.right(), &changed.with("new")).unwrap();
    // Another one has to wait until this one is done, by whatever secrets.
    assert!(mount.volume().rekey_vault(&changed.with("wrong")).is_err());
    for _ in 0..2 {
        mount.remount();
        assert_eq!(mount.volume().unlock_vault(&secrets.right()).unwrap_err().code(), "VERFS_E_VAULT_SECRET");
        mount.volume().unlock_vault(&changed.with("new")).unwrap();
        sh(&mount.path(".vault"), "sha256sum -c sum");
        let deadline = Instant::now() + Duration::from_secs(60);
        while mount.volume().vault_status().unwrap().rekey != RekeyState::Idle {
            assert!(Instant::now() < deadline, "{:?}", mount.volume().vault_status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_password_may_have_any_bytes_and_up_to_4_kib() {
    let (mount, secrets) = with_vault();
    let long = "x".repeat(4096);
    let passwords: [&[u8]; 5] =
        ["p\u{e4}ss \u{1f511}".as_bytes(), b"with\0zero", b"two\nlines\r\n", b"\xff\xfe", long.as_bytes()];
    let mut last = secrets.right();
    for password in passwords {
        mount.volume().change_vault_secret(&last, &secrets.with(password)).unwrap();
        last = secrets.with(password);
        mount.volume().check_vault_secret(&last).unwrap();
    }
    // Nothing is cut off.
    let shorter = secrets.with(&long[1..]);
    assert_eq!(mount.volume().check_vault_secret(&shorter).unwrap_err().code(), "VERFS_E_VAULT_SECRET");
    let longer = VaultSecret::new(vec![b'x'; 4097], secrets.key_file.clone().into_bytes());
    assert_eq!(longer.unwrap_err().code(), "VERFS_E_USAGE");
}

/// Everything that makes, takes, links or replaces a name.
fn assert_name_is_nobodys(root: &Path, expected: &[i32]) {
    let (name, file, directory) = (root.join(".vault"), root.join("file"), root.join("directory"));
    fs::write(&file, "outside").unwrap();
    fs::create_dir(&directory).unwrap();
    let refused = |what: &str, errno: i32| assert!(expected.contains(&errno), "{what}: {errno}");
    for kind in [FileType::Fifo, FileType::Socket, FileType::RegularFile] {
        refused("mknod", errno(rustix::fs::mknodat(CWD, &name, kind, Mode::RWXU, 0).map_err(Into::into)));
    }
    refused("mkdir", errno(fs::create_dir(&name)));
    refused("mkdir with a slash", errno(fs::create_dir(root.join(".vault/"))));
    refused("symlink", errno(std::os::unix::fs::symlink("file", &name)));
    refused("link", errno(fs::hard_link(&file, &name)));
    for flags in [RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE, RenameFlags::WHITEOUT] {
        for other in [&file, &directory] {
            let to = rustix::fs::renameat_with(CWD, other, CWD, &name, flags).map_err(Into::into);
            refused(&format!("rename to it, {flags:?}"), errno(to));
            let from = rustix::fs::renameat_with(CWD, &name, CWD, other, flags).map_err(Into::into);
            refused(&format!("rename of it, {flags:?}"), errno(from));
        }
    }
    refused("rmdir", errno(fs::remove_dir(&name)));
    refused("unlink", errno(fs::remove_file(&name)));
    assert_eq!(fs::read(&file).unwrap(), b"outside");
    // The name is special in the root alone, and in this form alone.
    for elsewhere in ["directory/.vault", ".VAULT", ".vault.", ".vault "] {
        fs::write(root.join(elsewhere), "x").unwrap();
        fs::remove_file(root.join(elsewhere)).unwrap();
    }
    fs::remove_dir(&directory).unwrap();
    fs::remove_file(&file).unwrap();
}

#[test]
fn its_name_can_neither_be_made_nor_taken_nor_replaced_by_anything() {
    let (mount, secrets) = with_vault();
    let root = mount.path("");
    assert_name_is_nobodys(&root, &[libc::EPERM, libc::ENOENT, libc::EINVAL, libc::EEXIST]);
    assert_eq!(names(&root), Vec::<String>::new());
    for way in [".vault", ".vault/", ".vault/.", ".vault/..", "./.vault", ".vault//x"] {
        assert_eq!(fs::symlink_metadata(root.join(way)).unwrap_err().kind(), ErrorKind::NotFound, "{way}");
    }
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    let expected = [libc::EBUSY, libc::EEXIST, libc::EXDEV, libc::EINVAL, libc::EISDIR, libc::EPERM, libc::ENOTDIR];
    assert_name_is_nobodys(&root, &expected);
    assert_eq!(names(&root), [".vault"]);
    fs::write(root.join(".vault/file"), "x").unwrap();
}

#[test]
fn no_extent_is_shared_across_its_border() {
    let (mount, secrets) = with_vault();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    let (inside, outside) = (mount.path(".vault/file"), mount.path("file"));
    sh(&mount.path(""), "head -c 2000000 /dev/urandom > file; cp --reflink=never file .vault/file");
    for (from, to) in [(&inside, mount.path("copy")), (&outside, mount.path(".vault/copy"))] {
        let (source, target) = (File::open(from).unwrap(), File::create(&to).unwrap());
        let cloned = rustix::fs::ioctl_ficlone(&target, &source).map_err(std::io::Error::from);
        assert!([libc::EXDEV, libc::EOPNOTSUPP, libc::ENOTTY].contains(&errno(cloned)));
        // What the kernel copies byte by byte is new on the other side.
        match rustix::fs::copy_file_range(&source, Some(&mut 0), &target, Some(&mut 0), 2_000_000) {
            Err(error) => assert_eq!(error, rustix::io::Errno::XDEV),
            Ok(copied) => assert_eq!(fs::read(&to).unwrap(), fs::read(from).unwrap()[..copied]),
        }
        fs::remove_file(to).unwrap();
    }
    // Twice the same 2 MB, once on each side.
    mount.volume().sync().unwrap();
    let volume = mount.path("").parent().unwrap().join("volume");
    for packs in ["packs", "vault/packs"] {
        let sizes = sh(&volume.join(packs), "find . -name '*.vpk' -printf '%s\n'");
        assert!(sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum::<u64>() >= 2_000_000, "{packs}");
    }
}

#[test]
fn a_lock_without_room_on_the_disk_loses_nothing() {
    let folder = tempfile::Builder::new().prefix("verfs-full-").tempdir().unwrap();
    let root = mountpoint(folder.path());
    fs::create_dir(&root).unwrap();
    let disk = LoopDisk::new(folder.path(), 300);
    let path = disk.path().join("volume");
    Volume::create(&path, &CreateOptions::default()).unwrap();
    // What is written stays in memory until the lock.
    let options = OpenOptions { group_interval_ms: 3_600_000, group_blocks: 1 << 20, ..OpenOptions::default() };
    let volume = Volume::open(&path, &options).unwrap();
    volume.mount(&root, &MountOptions::default()).unwrap();
    let secrets = Secrets::new();
    volume.create_vault(&secrets.right(), VaultCompression::On).unwrap();
    volume.unlock_vault(&secrets.right()).unwrap();
    let kept = root.join(".vault/kept");
    let mut file = File::create(&kept).unwrap();
    let mut random = File::open("/dev/urandom").unwrap();
    let written = std::io::copy(&mut std::io::Read::take(&mut random, 30 << 20), &mut file).unwrap();
    drop(file);
    let sum = sh(&root, "sha256sum .vault/kept");
    // Then somebody else takes all the room that there is.
    let filler = File::create(disk.path().join("filler")).unwrap();
    let mut piece = 16_u64 << 20;
    while piece >= 4096 {
        let len = filler.metadata().unwrap().len();
        match rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), len, piece) {
            Ok(()) => {}
            Err(_) => piece /= 2,
        }
    }
    drop(filler);
    assert_eq!(volume.lock_vault(LOCK_GRACE).unwrap_err().code(), "VERFS_E_VOLUME_FULL");
    assert_eq!(volume.vault_status().unwrap().state, VaultState::Unlocked);
    // It is to be used as before.
    assert_eq!(sh(&root, "sha256sum .vault/kept"), sum);
    assert_eq!(names(&root.join(".vault")), ["kept"]);
    fs::remove_file(disk.path().join("filler")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = volume.lock_vault(LOCK_GRACE) {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    volume.unlock_vault(&secrets.right()).unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().len(), written);
    assert_eq!(sh(&root, "sha256sum .vault/kept"), sum);
    volume.close().unwrap();
}

#[test]
fn a_kill_in_the_middle_of_a_lock_leaves_what_was_synced() {
    if let Some(folder) = support::told("VAULT_LOCKER") {
        let volume = support::open_and_mount(&folder);
        let secrets = Secrets { key_file: fs::read_to_string(folder.join("key")).unwrap() };
        volume.unlock_vault(&secrets.right()).unwrap();
        let root = mountpoint(&folder);
        let mut file = File::create(root.join(".vault/synced")).unwrap();
        file.write_all(b"kept").unwrap();
        file.sync_all().unwrap();
        drop(file);
        sh(&root, "head -c 20000000 /dev/urandom > .vault/large");
        support::report("locks");
        volume.lock_vault(Duration::ZERO).unwrap();
        support::report("locked");
        support::wait_for_the_end();
        std::process::exit(0);
    }
    let mut folder = new_volume();
    let secrets = Secrets::new();
    fs::write(folder.path().join("key"), &secrets.key_file).unwrap();
    {
        let volume = Volume::open(&folder.path().join("volume"), &OpenOptions::default()).unwrap();
        volume.create_vault(&secrets.right(), VaultCompression::On).unwrap();
        volume.close().unwrap();
    }
    for wait in [0, 5, 20, 60, 120, 250] {
        let mut other = support::Other::start(
            "a_kill_in_the_middle_of_a_lock_leaves_what_was_synced",
            "VAULT_LOCKER",
            folder.path(),
        );
        other.expect("locks");
        std::thread::sleep(Duration::from_millis(wait));
        other.kill();
        let mount = Mount::of(folder);
        assert_eq!(names(&mount.path("")), Vec::<String>::new());
        mount.volume().unlock_vault(&secrets.right()).unwrap();
        assert_eq!(fs::read(mount.path(".vault/synced")).unwrap(), b"kept");
        fs::remove_file(mount.path(".vault/synced")).unwrap();
        folder = mount.into_folder();
    }
}
