//! Snapshots in `.snapshots` of a mounted volume, through ordinary commands.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::RawDir;
use support::{Mount, mountpoint, new_volume};
use verfs_engine::{AllowOther, MountOptions, OpenOptions, SnapshotsDirectory, Volume};

/// Runs a script in a directory, and gives what it says. It must succeed.
fn sh(directory: &Path, script: &str) -> String {
    let script = format!("set -e; {script}");
    let output = Command::new("timeout").args(["120", "sh", "-c", &script]).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// What a command that must fail says.
fn refused(directory: &Path, command: &str) -> String {
    let output = Command::new("timeout").args(["120", "sh", "-c", command]).current_dir(directory).output().unwrap();
    assert!(!output.status.success(), "{command} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Names, types, modes, owners, sizes, link counts, times and content of all below the current directory.
const LISTING: &str = r#"find . -mindepth 1 -printf '%P %y %m %U %G %s %n %T@ %l\n' | sort; find . -type f | sort | xargs -d '\n' sha256sum"#;

/// A tree with one of everything.
const SPECIMENS: &str = r#"
    mkdir -p deep/er/est empty 'na me'
    printf one > one; printf two > deep/two; seq 1 200000 > deep/er/long; ln one deep/er/est/again
    ln -s ../one deep/link; mkfifo deep/pipe; chmod 2750 deep/er; chmod 4711 one; chmod 000 deep/two
    printf '#!/bin/sh\necho script runs\n' > run; chmod 755 run
    dd if=/dev/urandom of=random bs=1M count=3 status=none; truncate -s 20M sparse; printf x >> sparse
    touch -d '1999-12-31 23:59:59.123456789' deep/er/long 'na me'
    setfattr -n user.note -v kept one; setfacl -m u:12345:r deep/er; setfacl -d -m g:54321:rx deep/er
    cp /bin/echo binary; find . -newermt '1 hour ago' -exec touch -h -d '2001-02-03 04:05:06.070809' {} +"#;

fn mount_with(snapshots: SnapshotsDirectory) -> (tempfile::TempDir, std::sync::Arc<Volume>) {
    let folder = new_volume();
    let volume = Volume::open(&folder.path().join("volume"), &OpenOptions::default()).unwrap();
    let options = MountOptions { snapshots, ..MountOptions::default() };
    volume.mount(&mountpoint(folder.path()), &options).unwrap();
    (folder, volume)
}

/// Whether the snapshots' session is mounted there.
fn is_mounted(path: &Path) -> bool {
    verfs_fuse_mounts().iter().any(|mounted| mounted == path)
}

fn verfs_fuse_mounts() -> Vec<std::path::PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = table.lines().filter(|line| line.contains(" fuse.verfs-snapshots "));
    ours.map(|line| line.split(' ').nth(4).unwrap().into()).collect()
}

#[test]
fn the_first_who_goes_there_finds_everything_as_it_was() {
    let mut mount = Mount::new();
    let root = mount.path("");
    sh(&root, SPECIMENS);
    let before = sh(&root, LISTING);
    let attributes = sh(&root, "getfattr -d one; getfacl -p deep/er");
    mount.volume().create_snapshot(b"first", b"").unwrap();
    let change = "rm -rf deep/er 'na me'; printf changed > one; mv deep moved; touch new; chmod 700 run; rm random";
    sh(&root, change);
    let snapshots = mount.path(".snapshots");
    assert!(!is_mounted(&snapshots), "it is mounted although nobody went there");
    let first = snapshots.join("first");
    assert_eq!(sh(&first, LISTING), before);
    assert!(is_mounted(&snapshots));
    assert_eq!(sh(&first, "getfattr -d one; getfacl -p deep/er"), attributes);
    assert_eq!(sh(&first, "./run"), "script runs\n");
    assert_eq!(sh(&first, "grep -c 7 deep/er/long"), sh(&first, "cat deep/er/long | grep -c 7"));
    assert_eq!(sh(&first, "./binary as well"), "as well\n");
    assert_eq!(sh(&root, "ls -A"), "binary\nempty\nmoved\nnew\none\nrun\nsparse\n");
    assert_eq!(sh(&root, "ls -A .snapshots; ls -d .snapshots"), "first\n.snapshots\n");
    // After all was written, and by a volume that was opened again.
    mount.remount();
    assert_eq!(sh(&first, LISTING), before);
    mount.volume().create_snapshot(b"second", b"").unwrap();
    assert_eq!(
        sh(&root, "ls .snapshots; diff .snapshots/second/one one; ls .snapshots/second/moved"),
        "first\nsecond\nlink\npipe\ntwo\n"
    );
}

#[test]
fn nothing_in_it_can_be_changed() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, SPECIMENS);
    mount.volume().create_snapshot(b"s", b"").unwrap();
    let inside = mount.path(".snapshots/s");
    let before = sh(&inside, LISTING);
    for command in [
        "touch one",
        "touch new",
        "echo x > one",
        "echo x >> one",
        "echo x > new",
        ": <> one",
        "chmod 600 one",
        "chown 1 one",
        "rm one",
        "rmdir empty",
        "mkdir new",
        "mv one two",
        "mv one ../two",
        "ln one two",
        "ln -s one two",
        "mkfifo fifo",
        "truncate -s 0 one",
        "dd if=one of=run conv=notrunc",
        "setfattr -n user.x -v y one",
        "setfattr -x user.note one",
        "setfacl -m u:1:r one",
        "fallocate -l 100 one",
        "cp run one",
        "mkdir empty/.snapshots",
        "touch ../file",
        "mv ../s ../t",
        "chattr +i one",
    ] {
        let said = refused(&inside, &format!("LC_ALL=C {command}"));
        let is_refusal = ["Read-only file system", "cannot create"].iter().any(|words| said.contains(words));
        assert!(is_refusal, "{command}: {said}");
    }
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC, libc::O_WRONLY | libc::O_CREAT] {
        let flags = rustix::fs::OFlags::from_bits_retain(flags as u32);
        let opened = rustix::fs::open(inside.join("one"), flags, rustix::fs::Mode::empty());
        assert_eq!(opened.unwrap_err(), rustix::io::Errno::ROFS, "{flags:?}");
    }
    // The kernel answers that from the mode.
    sh(&inside, "test -w one");
    assert_eq!(sh(&inside, LISTING), before);
}

#[test]
fn others_may_what_the_modes_of_then_let_them() {
    let folder = new_volume();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let volume = Volume::open(&folder.path().join("volume"), &OpenOptions::default()).unwrap();
    let options = MountOptions { allow_other: AllowOther::Yes, ..MountOptions::default() };
    let root = mountpoint(folder.path());
    volume.mount(&root, &options).unwrap();
    sh(&root, "chmod 777 .; echo secret > secret; chmod 600 secret; echo open > open; echo listed > listed");
    sh(&root, "chmod 600 listed; setfacl -m u:65534:r listed; mkdir own; chown 65534 own; mkdir .snapshots/s");
    // What is allowed now doesn't matter there.
    sh(&root, "chmod 644 secret; setfacl -b listed; chmod 600 open listed");
    let as_user = |command: &str| format!("LC_ALL=C setpriv --reuid=65534 --regid=65534 --clear-groups {command}");
    assert_eq!(sh(&root, &as_user("cat .snapshots/s/open .snapshots/s/listed")), "open\nlisted\n");
    for (command, words) in [
        ("cat .snapshots/s/secret", "Permission denied"),
        ("mkdir .snapshots/mine", "Permission denied"),
        ("rmdir .snapshots/s", "Permission denied"),
        ("touch .snapshots/s/own/new", "Read-only file system"),
        ("rm -f .snapshots/s/open", "Read-only file system"),
    ] {
        let said = refused(&root, &as_user(command));
        assert!(said.contains(words), "{command}: {said}");
    }
    sh(&root, "mkdir -m 555 closed; touch closed/file; mkdir .snapshots/t");
    assert!(refused(&root, &as_user("rm -f .snapshots/t/closed/file")).contains("Permission denied"));
    volume.close().unwrap();
}

#[test]
fn every_tool_copies_out_of_it() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, SPECIMENS);
    mount.volume().create_snapshot(b"s", b"").unwrap();
    let inside = mount.path(".snapshots/s");
    let outside = tempfile::tempdir().unwrap();
    let (copied, synced) = (outside.path().join("copied"), outside.path().join("synced"));
    sh(&inside, &format!("cp -a . {}; rsync -aHAX --sparse ./ {}/", copied.display(), synced.display()));
    // A directory's size is the file system's own.
    let listing = r#"find . -mindepth 1 ! -type d -printf '%P %y %m %U %G %s %n %T@ %l\n' | sort
        find . -mindepth 1 -type d -printf '%P %m %U %G %T@\n' | sort; find . -type f | sort | xargs -d '\n' sha256sum
        getfattr -d one; getfacl -p deep/er"#;
    let expected = sh(&inside, listing);
    assert_eq!(sh(&copied, listing), expected);
    assert_eq!(sh(&synced, listing), expected);
    sh(
        &root,
        "cp -a .snapshots/s/deep back; diff -r --no-dereference deep/er back/er; tar -C .snapshots/s -cf /dev/null .",
    );
    assert_eq!(sh(&inside, "df --output=target . | tail -1").trim(), mount.path(".snapshots").to_str().unwrap());
    // What is copied back shares what is stored.
    let before = mount.volume().stats().unique_bytes;
    sh(&root, "cp .snapshots/s/random again; sync again");
    assert!(mount.volume().stats().unique_bytes < before + (1 << 20));
}

#[test]
fn numbers_do_not_clash_and_hard_links_are_links() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, SPECIMENS);
    mount.volume().create_snapshot(b"a", b"").unwrap();
    sh(&root, "ln one more; touch new");
    mount.volume().create_snapshot(b"b", b"").unwrap();
    let mut seen = BTreeSet::new();
    let mut devices = BTreeSet::new();
    let mut names = 0;
    for line in sh(&root, r"find . .snapshots -printf '%D %i %n %y %P\n'").lines() {
        let fields: Vec<&str> = line.splitn(5, ' ').collect();
        devices.insert(fields[0].to_owned());
        let is_new = seen.insert((fields[0].to_owned(), fields[1].to_owned()));
        assert!(is_new || fields[2] != "1" && fields[3] == "f", "{line}: the number is another's");
        names += 1;
    }
    assert_eq!(devices.len(), 2, "the snapshots have no device number of their own");
    assert!(names > 30);
    let stat = |path: &str| fs::metadata(mount.path(path)).unwrap();
    assert_eq!((stat(".snapshots/a/one").nlink(), stat(".snapshots/b/one").nlink()), (2, 3));
    assert_eq!(stat(".snapshots/a/one").ino(), stat(".snapshots/a/deep/er/est/again").ino());
    assert_ne!(stat(".snapshots/a/one").ino(), stat(".snapshots/b/one").ino());
    // `.` and `..`, as they are listed and as they are walked.
    for directory in [".snapshots", ".snapshots/a", ".snapshots/a/deep", ".snapshots/b/deep/er"] {
        let path = mount.path(directory);
        let mut buffer = vec![MaybeUninit::uninit(); 8 << 10];
        let mut listing = RawDir::new(File::open(&path).unwrap(), &mut buffer);
        let mut next = || {
            let entry = listing.next().unwrap().unwrap();
            (entry.file_name().to_str().unwrap().to_owned(), entry.ino())
        };
        // Above the mount there is another file system.
        let above = if directory == ".snapshots" { path.clone() } else { path.join("..") };
        let walked = [(".", &path), ("..", &above)];
        let walked = walked.map(|(name, path)| (name.to_owned(), fs::metadata(path).unwrap().ino()));
        assert_eq!([next(), next()], walked, "{directory}");
    }
}

#[test]
fn making_and_removing_a_directory_makes_and_deletes_a_snapshot() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, "echo one > file; mkdir .snapshots/a; echo two > file; mkdir .snapshots/b; rm file");
    assert_eq!(sh(&root, "cat .snapshots/a/file .snapshots/b/file"), "one\ntwo\n");
    let names = || mount.volume().snapshots().unwrap().into_iter().map(|found| found.name).collect::<Vec<_>>();
    assert_eq!(names(), ["a", "b"]);
    assert!(refused(&root, "LC_ALL=C mkdir .snapshots/a").contains("File exists"));
    assert!(refused(&root, "LC_ALL=C mkdir .snapshots/-x").contains("Invalid argument"));
    mount.volume().hold_snapshot(b"a", b"kept").unwrap();
    assert!(refused(&root, "LC_ALL=C rmdir .snapshots/a").contains("Device or resource busy"));
    mount.volume().release_snapshot(b"a", b"kept").unwrap();
    sh(&root, "rmdir .snapshots/a; ! test -e .snapshots/a");
    assert_eq!(names(), ["b"]);
    // By the library's way: the mount knows at once, also of names that it had looked for.
    assert!(!mount.path(".snapshots/c").exists());
    mount.volume().create_snapshot(b"c", b"").unwrap();
    assert!(mount.path(".snapshots/c").exists());
    assert_eq!(sh(&root, "ls .snapshots"), "b\nc\n");
    mount.volume().delete_snapshot(b"b").unwrap();
    assert_eq!(sh(&root, "ls .snapshots"), "c\n");
    assert!(!mount.path(".snapshots/b/file").exists());
    // A name that comes again is another snapshot.
    sh(&root, "echo three > file; mkdir .snapshots/b; rm file");
    assert_eq!(sh(&root, "cat .snapshots/b/file"), "three\n");
}

#[test]
fn a_deleted_snapshot_is_gone_also_for_who_has_it_open() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, "mkdir d; seq 1 2000000 > d/long; mkdir .snapshots/s");
    let original = fs::read(mount.path("d/long")).unwrap();
    sh(&root, "rm -r d");
    let path = mount.path(".snapshots/s/d/long");
    let (file, directory) = (File::open(&path).unwrap(), File::open(mount.path(".snapshots/s/d")).unwrap());
    let mut start = vec![0; 4096];
    file.read_exact_at(&mut start, 0).unwrap();
    assert!(start == original[..4096]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut refusals = 0;
            let mut buffer = vec![0; 64 << 10];
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let at = (round * 7_654_321) % (original.len() - buffer.len());
                match file.read_exact_at(&mut buffer, at as u64) {
                    Ok(()) => assert!(buffer == original[at..at + buffer.len()], "wrong bytes"),
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
                        refusals += 1;
                    }
                }
                // Else the kernel answers from its cache for ever.
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
            refusals
        });
        std::thread::sleep(Duration::from_millis(100));
        mount.volume().delete_snapshot(b"s").unwrap();
        for _ in 0..20 {
            mount.volume().sync().unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0, "a deleted snapshot is still read");
    });
    assert!(!path.exists());
    assert!(
        rustix::fs::openat(&directory, "long", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
            .is_ok_and(|again| rustix::io::pread(&again, &mut start, 8 << 20) == Err(rustix::io::Errno::NOENT))
    );
}

#[test]
fn the_directory_is_listed_only_where_asked_for_and_its_name_is_taken() {
    let (folder, volume) = mount_with(SnapshotsDirectory::Hidden);
    let root = mountpoint(folder.path());
    sh(&root, "touch file; mkdir d; ! ls -A | grep -q snapshots; ! find . -name .snapshots | grep .");
    for (command, words) in [
        ("mkdir .snapshots", "File exists"),
        ("ln -sT x .snapshots", "File exists"),
        ("rmdir .snapshots", "Device or resource busy"),
        ("mv .snapshots x", "Device or resource busy"),
        ("mv -T d .snapshots", "resource busy"),
        ("rm .snapshots", "Is a directory"),
    ] {
        let said = refused(&root, &format!("LC_ALL=C {command}"));
        assert!(said.contains(words), "{command}: {said}");
    }
    sh(&root, "mkdir d/.snapshots; rmdir d/.snapshots");
    volume.close().unwrap();

    let open = || Volume::open(&folder.path().join("volume"), &OpenOptions::default()).unwrap();
    let volume = open();
    let extra = vec!["snapshots=listed".to_owned()];
    volume.mount(&root, &MountOptions { extra, ..MountOptions::default() }).unwrap();
    volume.create_snapshot(b"s", b"").unwrap();
    assert_eq!(sh(&root, "ls -A"), ".snapshots\nd\nfile\n");
    assert_eq!(
        sh(&root, "find . | sort"),
        ".\n./.snapshots\n./.snapshots/s\n./.snapshots/s/d\n./.snapshots/s/file\n./d\n./file\n"
    );
    volume.close().unwrap();

    let volume = open();
    volume.mount(&root, &MountOptions { snapshots: SnapshotsDirectory::Off, ..MountOptions::default() }).unwrap();
    sh(&root, "! test -e .snapshots; mkdir .snapshots; touch .snapshots/own");
    volume.close().unwrap();

    // The volume's own entry wins, and comes to no harm.
    let volume = open();
    volume.mount(&root, &MountOptions { snapshots: SnapshotsDirectory::Listed, ..MountOptions::default() }).unwrap();
    assert_eq!(sh(&root, "ls -A; ls .snapshots; rm -r .snapshots; ls -A"), ".snapshots\nd\nfile\nown\nd\nfile\n");
    volume.close().unwrap();
}

#[test]
fn every_directory_leads_to_its_earlier_states_wherever_it_was_moved() {
    let (folder, volume) = mount_with(SnapshotsDirectory::Everywhere);
    let root = mountpoint(folder.path());
    sh(&root, "mkdir -p a/b/c; echo 1 > a/b/c/file; mkdir .snapshots/one");
    sh(&root, "echo 2 > a/b/c/file; mv a/b b; mkdir b/late; mkdir .snapshots/two; mv b/c c; rm c/file");
    assert_eq!(sh(&root, "cd c; cat .snapshots/one/file .snapshots/two/file; ls -A"), "1\n2\n");
    assert_eq!(sh(&root, "ls c/.snapshots b/late/.snapshots"), "b/late/.snapshots:\ntwo\n\nc/.snapshots:\none\ntwo\n");
    assert_eq!(
        sh(&root, "readlink c/.snapshots/one c/.snapshots/two"),
        "../../.snapshots/one/a/b/c\n../../.snapshots/two/b/c\n"
    );
    // The kernel keeps what it read of a symlink; a move makes another of it.
    sh(&root, "mkdir -p x/y; mv c x/y/c");
    assert_eq!(
        sh(&root, "cat x/y/c/.snapshots/one/file; readlink x/y/c/.snapshots/one"),
        "1\n../../../../.snapshots/one/a/b/c\n"
    );
    sh(&root, "! test -e b/late/.snapshots/one; ! find . -name .snapshots | grep .; ! test -e c/.snapshots");
    for command in ["mkdir x/.snapshots", "touch x/.snapshots/f", "rm x/y/c/.snapshots/one", "rmdir x/.snapshots"] {
        refused(&root, command);
    }
    sh(&root, "rmdir x/y/c; rmdir x/y; rmdir x");
    volume.close().unwrap();
}

#[test]
fn a_thousand_snapshots_are_listed_and_lead_to_what_they_hold() {
    const COUNT: usize = 1000;
    let mount = Mount::new();
    let root = mount.path("");
    for number in 0..COUNT {
        fs::write(mount.path("number"), number.to_string()).unwrap();
        mount.volume().create_snapshot(format!("s{number:04}").as_bytes(), b"").unwrap();
    }
    let begun = Instant::now();
    let listed = sh(&root, "ls -la .snapshots | wc -l; ls -U .snapshots | md5sum; seq -f s%04g 0 999 | md5sum");
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines[0], (COUNT + 3).to_string());
    assert_eq!(lines[1], lines[2]);
    let taken = begun.elapsed();
    println!("two listings of {COUNT} snapshots: {taken:?}");
    assert!(taken < Duration::from_secs(20));
    for number in [0, 1, COUNT / 2, COUNT - 1] {
        let path = mount.path(&format!(".snapshots/s{number:04}/number"));
        assert_eq!(fs::read_to_string(path).unwrap(), number.to_string());
    }
}

#[test]
fn readers_of_a_snapshot_go_on_beside_writers() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, "mkdir d; for i in $(seq 100); do seq $i 20000 > d/$i; done; mkdir .snapshots/s");
    let inside = mount.path(".snapshots/s/d");
    let expected = sh(&inside, "find . -type f | sort | xargs sha256sum");
    let stop = AtomicBool::new(false);
    let mut times: Vec<Duration> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let block = vec![7; 1 << 20];
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let name = |number: usize| mount.path(&format!("d/{}", number % 100 + 1));
                fs::write(mount.path("temporary"), &block[round % 1000..]).unwrap();
                fs::rename(mount.path("temporary"), name(round)).unwrap();
                fs::rename(name(round * 7), name(round * 3)).ok();
            }
        });
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            let mut count = 0;
            for entry in fs::read_dir(&inside).unwrap() {
                let begun = Instant::now();
                let mut content = Vec::new();
                File::open(entry.unwrap().path()).unwrap().read_to_end(&mut content).unwrap();
                times.push(begun.elapsed());
                count += 1;
            }
            assert_eq!(count, 100);
            // So that the next round asks again.
            sh(&inside, "for i in *; do dd if=$i iflag=nocache count=0 status=none; done");
        }
        assert_eq!(sh(&inside, "find . -type f | sort | xargs sha256sum"), expected);
        stop.store(true, Ordering::Relaxed);
    });
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    println!("{} reads, median {:?}, p99 {p99:?}, longest {:?}", times.len(), times[times.len() / 2], times.last());
    assert!(p99 < Duration::from_secs(1), "readers wait for writers: {p99:?}");
}

#[test]
fn umount_works_as_without_snapshots_until_somebody_went_there_and_after_he_left() {
    let mount = Mount::new();
    let root = mount.path("");
    let snapshots = mount.path(".snapshots");
    sh(&root, "mkdir d; ls d");
    assert!(!is_mounted(&snapshots));
    sh(Path::new("/"), &format!("umount {}", root.display()));
    mount.volume().wait_unmounted();

    mount.volume().mount(&root, &MountOptions::default()).unwrap();
    sh(&root, "mkdir .snapshots/s; ls .snapshots/s");
    assert!(is_mounted(&snapshots));
    assert!(refused(Path::new("/"), &format!("LC_ALL=C umount {}", root.display())).contains("busy"));
    // Nobody is there: it goes by itself.
    let deadline = Instant::now() + Duration::from_secs(60);
    while is_mounted(&snapshots) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(!is_mounted(&snapshots), "it stays though nobody uses it");
    assert_eq!(sh(&root, "ls .snapshots"), "s\n", "it doesn't come back");
    // Both at once, as umount can.
    sh(Path::new("/"), &format!("umount -R {}", root.display()));
    mount.volume().wait_unmounted();
    assert!(!is_mounted(&snapshots));
}

#[test]
fn many_who_go_there_first_at_once_all_arrive() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, "mkdir d; echo content > d/file; mkdir .snapshots/s");
    for round in 0..20 {
        // The kernel may still be letting go of what the last clients had.
        sh(&root, "until umount .snapshots; do sleep 0.01; done");
        std::thread::scope(|scope| {
            for client in 0..12 {
                let root = &root;
                scope.spawn(move || match (client + round) % 4 {
                    0 => assert_eq!(fs::read(root.join(".snapshots/s/d/file")).unwrap(), b"content\n"),
                    1 => assert!(fs::read_dir(root.join(".snapshots")).unwrap().count() >= 1),
                    2 => assert_eq!(fs::metadata(root.join(".snapshots")).unwrap().ino(), 1),
                    _ => {
                        let made = fs::create_dir(root.join(format!(".snapshots/s{client}")));
                        fs::remove_dir(root.join(format!(".snapshots/s{client}"))).unwrap();
                        made.unwrap();
                    }
                });
            }
        });
    }
    assert_eq!(mount.volume().snapshots().unwrap().len(), 1);
}

#[test]
fn an_unmount_ends_both_and_waits_for_who_has_files_open() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, "seq 1 1000000 > long; mkdir .snapshots/s");
    let file = File::open(mount.path(".snapshots/s/long")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            mount.volume().unmount().unwrap();
            done.store(true, Ordering::Relaxed);
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_mounted(&mount.path(".snapshots")) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut content = Vec::new();
        (&file).read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), 6_888_896);
        assert!(!done.load(Ordering::Relaxed), "it did not wait for an open file");
        drop(file);
    });
    assert!(done.load(Ordering::Relaxed));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}
