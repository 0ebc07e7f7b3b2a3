//! Snapshots in a mount of which something is special: an ordinary user's, a dead daemon's, one seen from elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Mount, Other, mountpoint, new_volume, open_and_mount, report, told, wait_for_the_end};
use verfs_engine::{CreateOptions, MountOptions, OpenOptions, Volume};

/// The user `nobody` of most systems.
const USER: u32 = 65_534;

fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("timeout").args(["60", "sh", "-ec", script]).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
    said
}

const AS_USER: &str = "a_user_has_his_snapshots_behind_a_symlink";

/// Run by another test as an ordinary user. By itself it runs as whoever runs the tests.
#[test]
fn a_user_has_his_snapshots_behind_a_symlink() {
    let Some(folder) = told("USER") else {
        let folder = new_volume();
        let volume = open_and_mount(folder.path());
        sh(&mountpoint(folder.path()), "mkdir .snapshots/s");
        volume.close().unwrap();
        return;
    };
    let options = MountOptions { extra: vec!["snapshots=listed".to_owned()], ..MountOptions::default() };
    let root = mountpoint(&folder);
    Volume::create(&folder.join("volume"), &CreateOptions::default()).unwrap();
    let runtime = folder.join("run/verfs");
    for round in 1..=2 {
        let volume = Volume::open(&folder.join("volume"), &OpenOptions::default()).unwrap();
        volume.mount(&root, &options).unwrap();
        assert_eq!(fs::read_dir(folder.join("run")).unwrap().count(), usize::from(round == 2), "mounted unasked");
        let target = format!("{}/{}.snapshots\n", runtime.display(), volume.info().uuid);
        assert_eq!(sh(&root, "readlink .snapshots"), target);
        sh(&root, &format!("echo {round} > file; mkdir .snapshots/s{round}; echo changed > file"));
        assert_eq!(
            sh(&root, &format!("cat .snapshots/s{round}/file; stat -c %A%U .snapshots/s1/file | wc -l")),
            format!("{round}\n1\n")
        );
        assert!(sh(&root, "! LC_ALL=C touch .snapshots/s1/file").contains("Read-only file system"));
        assert_eq!(sh(&root, "ls -A").lines().collect::<Vec<_>>(), [".snapshots", "file"]);
        assert_eq!(sh(&root, "find .snapshots/ -name file -exec cat {} + | sort").lines().count(), round);
        // What is there is not for others.
        assert_eq!(fs::metadata(&runtime).unwrap().permissions().mode() & 0o777, 0o700);
        // The snapshots don't stand in the way, and go with the tree.
        if round == 1 {
            sh(Path::new("/"), &format!("fusermount3 -u {}", root.display()));
            volume.wait_unmounted();
        }
        volume.close().unwrap();
        assert_eq!(fs::read_dir(&runtime).unwrap().count(), 0, "the mountpoint stays");
    }
    report("done");
}

#[test]
fn an_ordinary_user_uses_snapshots_with_ordinary_commands() {
    let folder = tempfile::Builder::new().prefix("verfs-mounted-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("home");
    for path in [home.clone(), mountpoint(&home), home.join("run")] {
        fs::create_dir(&path).unwrap();
        chown(&path, Some(USER), Some(USER)).unwrap();
    }
    // He may not see where this program was built.
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let device = folder.path().join("fuse");
    let script = format!(
        "mknod -m 666 {0} c 10 229; mount --bind {0} /dev/fuse
         exec setpriv --reuid={USER} --regid={USER} --clear-groups {1} --exact {AS_USER} --nocapture",
        device.display(),
        program.display()
    );
    let mut user = Command::new("timeout")
        .args(["120", "unshare", "--mount", "--propagation", "private", "sh", "-ec", &script])
        .env("VERFS_TEST_USER", &home)
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("TMPDIR", &home)
        .current_dir("/")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(user.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(user.wait().unwrap().success(), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("REPORT done")), "{lines:#?}");
}

const DAEMON: &str = "a_process_mounts_a_volume_and_its_snapshots";

/// For another test in a process of its own, which is then killed.
#[test]
fn a_process_mounts_a_volume_and_its_snapshots() {
    let own = told("DAEMON").is_none().then(new_volume);
    let folder = told("DAEMON").unwrap_or_else(|| own.as_ref().unwrap().path().to_path_buf());
    let volume = open_and_mount(&folder);
    assert_eq!(sh(&mountpoint(&folder), "echo x > file; mkdir .snapshots/s; cat .snapshots/s/file"), "x\n");
    report("mounted");
    if own.is_none() {
        wait_for_the_end();
    }
    volume.close().unwrap();
}

#[test]
fn after_a_kill_both_mounts_are_stale_and_the_next_mount_clears_them_away() {
    let folder = new_volume();
    let mut daemon = Other::start(DAEMON, "DAEMON", folder.path());
    daemon.expect("mounted");
    daemon.kill();
    let mounts =
        || fs::read_to_string("/proc/self/mountinfo").unwrap().matches(folder.path().to_str().unwrap()).count();
    let stale = mounts();
    let volume = open_and_mount(folder.path());
    let after = mounts();
    let said = sh(&mountpoint(folder.path()), "cat .snapshots/s/file; ls .snapshots");
    volume.close().unwrap();
    assert_eq!((said.as_str(), stale, after, mounts()), ("x\ns\n", 4, 2, 0), "a line names the volume and the mount");
}

#[test]
fn where_the_mount_of_the_snapshots_is_not_seen_the_directory_is_empty() {
    let mount = Mount::new();
    let root = mount.path("");
    sh(&root, "echo x > file; mkdir .snapshots/s");
    let script = "umount .snapshots; sleep 1.2; ls -A .snapshots; cat file; ! cat .snapshots/s/file 2>/dev/null";
    let output = Command::new("timeout")
        .args(["60", "unshare", "--mount", "--propagation", "private", "sh", "-ec", script])
        .current_dir(&root)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "x\n", "{}", String::from_utf8_lossy(&output.stderr));
    // Here it is still seen.
    assert_eq!(sh(&root, "cat .snapshots/s/file"), "x\n");
}
