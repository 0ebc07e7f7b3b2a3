//! Mounting and its bad ends: wrong places, missing parts, dead daemons, busy mounts, ordinary users.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use support::memory_tree::MemoryTree;
use support::{Mount, eventually, is_mounted};
use verfs_fuse::{FuseError, Session, SessionOptions, detach_stale, is_stale, mount_table};

/// Set for a process that [`a_child_process_mounts_and_reports`] is run in by another test.
const CHILD: &str = "VERFS_FUSE_TEST_CHILD";
const CHILD_TEST: &str = "a_child_process_mounts_and_reports";

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("verfs-fuse-").tempdir().unwrap()
}

fn try_mount(path: &Path) -> Result<Session, FuseError> {
    Session::mount(Arc::new(MemoryTree::new()), path, &SessionOptions::default())
}

/// Mounts where the environment says, reports, and ends with its standard input. Started by itself it checks that
/// the report of a failure is what the other tests look for.
#[test]
fn a_child_process_mounts_and_reports() {
    let path = std::env::var_os(CHILD).map_or_else(|| PathBuf::from("/never-made/x"), PathBuf::from);
    let extra_options = std::env::var(format!("{CHILD}_OPTIONS")).into_iter().collect();
    let options = SessionOptions { extra_options, fs_name: "/a, b".to_owned(), ..SessionOptions::default() };
    match Session::mount(Arc::new(MemoryTree::new()), &path, &options) {
        Ok(session) => {
            println!("REPORT mounted");
            std::io::stdout().flush().unwrap();
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            session.unmount().unwrap();
            println!("REPORT unmounted");
        }
        Err(error) => {
            println!("REPORT {error:?}");
            assert_eq!(std::env::var_os(CHILD).is_none(), matches!(error, FuseError::MountpointMissing { .. }));
        }
    }
}

/// A process that has a mount, or could not have one.
struct ChildMount {
    process: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl ChildMount {
    fn start(mut command: Command, path: &Path, options: &str) -> ChildMount {
        let mut process = command
            .args(["--exact", CHILD_TEST, "--nocapture", "--test-threads=1"])
            .env(CHILD, path)
            .env(format!("{CHILD}_OPTIONS"), options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        ChildMount { process, lines }
    }

    fn report(&mut self) -> String {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if let Some((_, report)) = line.split_once("REPORT ") {
                return report.trim().to_owned();
            }
            line.clear();
        }
        panic!("the child ended without a report");
    }

    fn finish(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

impl Drop for ChildMount {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// Kills a daemon that has `path` mounted.
fn leave_stale_mount(path: &Path) {
    let mut child = ChildMount::start(this_program(), path, "");
    assert_eq!(child.report(), "mounted");
    // The kernel caches the root's attributes, as it would for a mount that was in use.
    fs::metadata(path).unwrap();
    child.process.kill().unwrap();
    child.process.wait().unwrap();
    assert!(is_mounted_unvisited(path), "the kernel took the mount away itself");
}

/// As [`is_mounted`], of a path that can't be visited.
fn is_mounted_unvisited(path: &Path) -> bool {
    mount_table().unwrap().iter().any(|entry| entry.mount_point == path)
}

#[test]
fn wrong_mountpoints_are_refused_and_nothing_is_mounted() {
    let folder = folder();
    let (missing, file, full) = (folder.path().join("missing"), folder.path().join("file"), folder.path().join("full"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&full).unwrap();
    fs::write(full.join(".hidden"), "x").unwrap();
    assert!(matches!(try_mount(&missing), Err(FuseError::MountpointMissing { path }) if path == missing));
    let below = missing.join("below");
    assert!(matches!(try_mount(&below), Err(FuseError::MountpointMissing { .. })));
    assert!(matches!(try_mount(&file), Err(FuseError::MountpointNotDirectory { path }) if path == file));
    assert!(matches!(try_mount(&file.join("x")), Err(FuseError::MountpointNotDirectory { .. })));
    assert!(matches!(try_mount(&full), Err(FuseError::MountpointNotEmpty { path }) if path == full));
    let options = SessionOptions { extra_options: vec!["frobnicate".to_owned()], ..SessionOptions::default() };
    let refused = Session::mount(Arc::new(MemoryTree::new()), folder.path(), &options);
    assert!(matches!(refused, Err(FuseError::InvalidOption { option, .. }) if option == "frobnicate"));
    let folder = folder.path().canonicalize().unwrap();
    assert!(!mount_table().unwrap().iter().any(|entry| entry.mount_point.starts_with(&folder)));
}

#[test]
fn a_second_mount_at_one_place_is_refused() {
    let mount = Mount::new();
    match try_mount(&mount.root()) {
        Err(FuseError::AlreadyMounted { path, source_name }) => {
            assert_eq!((path, source_name.as_str()), (mount.root(), "verfs"));
        }
        other => panic!("{other:?}"),
    }
    fs::write(mount.path("alive"), "x").unwrap();
}

#[test]
fn the_mount_table_names_type_and_source_whatever_they_hold() {
    let folder = folder();
    let path = folder.path().join("mount \\ point\n#");
    fs::create_dir(&path).unwrap();
    let options = SessionOptions { fs_name: "/some where, else".to_owned(), ..SessionOptions::default() };
    let session = Session::mount(Arc::new(MemoryTree::new()), &path, &options).unwrap();
    let table = mount_table().unwrap();
    let entry = table.iter().find(|entry| entry.mount_point == path).unwrap();
    assert!(entry.is_verfs());
    assert_eq!(entry.source, "/some where, else");
    session.unmount().unwrap();
    assert!(!is_mounted(&path));
}

#[test]
fn a_mount_through_a_symlink_and_a_dot_is_found_again() {
    let folder = folder();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::create_dir(&target).unwrap();
    symlink(&target, &link).unwrap();
    let session = try_mount(&link.join(".")).unwrap();
    assert_eq!(session.mountpoint(), target);
    assert!(matches!(try_mount(&link), Err(FuseError::AlreadyMounted { .. })));
    session.unmount().unwrap();
    assert!(!is_mounted(&target));
}

#[test]
fn unmounting_by_umount_ends_the_session() {
    let mount = Mount::new();
    fs::write(mount.path("file"), "x").unwrap();
    assert!(mount.tree.all_pins() > 0);
    assert!(Command::new("umount").arg(mount.root()).status().unwrap().success());
    mount.session().wait();
    mount.session().unmount().unwrap();
    assert_eq!(mount.tree.all_pins(), 0, "the kernel forgot without a word, and nobody else did");
    assert_eq!(mount.session().stats().lanes.iter().map(|lane| lane.threads).sum::<usize>(), 0);
}

#[test]
fn a_busy_mount_is_detached_and_served_until_it_is_left() {
    let mount = Mount::new();
    fs::write(mount.path("file"), "content").unwrap();
    let mut file = fs::File::open(mount.path("file")).unwrap();
    let unmounting = std::thread::scope(|scope| {
        let session = mount.session();
        let unmounting = scope.spawn(move || session.unmount());
        assert!(eventually(|| !is_mounted(&mount.root())));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!unmounting.is_finished(), "it did not wait for the open file");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        drop(file);
        unmounting.join().unwrap()
    });
    unmounting.unwrap();
}

#[test]
fn aborting_ends_a_detached_mount_that_is_in_use() {
    let mount = Mount::new();
    let file = fs::File::create(mount.path("file")).unwrap();
    assert!(!mount.session().detach().unwrap(), "an open file did not make it busy");
    mount.session().abort().unwrap();
    mount.session().wait();
    assert_eq!((&file).write(b"x").unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    mount.session().abort().unwrap();
}

#[test]
fn a_dropped_session_leaves_no_mount() {
    let mount = Mount::new();
    let root = mount.root();
    drop(mount);
    assert!(!is_mounted(&root));
}

#[test]
fn a_stale_mount_is_told_and_detached() {
    let folder = folder();
    let path = folder.path().canonicalize().unwrap();
    assert!(!is_stale(&path));
    assert_eq!(detach_stale(&path).unwrap(), 0);
    leave_stale_mount(&path);
    assert!(is_stale(&path));
    assert_eq!(detach_stale(&path).unwrap(), 1);
    assert!(!is_stale(&path) && !is_mounted(&path));
}

#[test]
fn mounting_over_a_stale_mount_detaches_it_first() {
    let folder = folder();
    let path = folder.path().canonicalize().unwrap();
    leave_stale_mount(&path);
    let session = try_mount(&path).unwrap();
    fs::write(path.join("alive"), "x").unwrap();
    let at_path = || mount_table().unwrap().iter().filter(|entry| entry.mount_point == path).count();
    assert_eq!(at_path(), 1);
    session.unmount().unwrap();
    assert_eq!(at_path(), 0);
}

#[test]
fn a_living_mount_is_not_stale() {
    let mount = Mount::new();
    assert!(!is_stale(&mount.root()));
    assert_eq!(detach_stale(&mount.root()).unwrap(), 0);
    assert!(is_mounted(&mount.root()));
}

/// A command that runs this program as an ordinary user in a mount namespace of its own, prepared by `setup`.
/// The program is copied, since the user may not see the build's folder.
fn as_user(folder: &Path, setup: &str) -> Command {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    in_namespace(&format!(
        "{setup} exec setpriv --reuid=65534 --regid=65534 --clear-groups {} \"$@\"",
        program.display()
    ))
}

/// A shell script in a mount namespace of its own.
fn in_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    command
}

fn user_folder(folder: &Path) -> PathBuf {
    let mountpoint = folder.join("mount");
    fs::create_dir(&mountpoint).unwrap();
    std::os::unix::fs::chown(&mountpoint, Some(65534), Some(65534)).unwrap();
    mountpoint
}

/// Shell commands that give the namespace a FUSE device which everybody may open, as udev does.
fn open_device(folder: &Path) -> String {
    let device = folder.join("fuse");
    format!("mknod -m 666 {0} c 10 229; mount --bind {0} /dev/fuse;", device.display())
}

#[test]
fn an_ordinary_user_mounts_and_unmounts_through_fusermount3() {
    let folder = folder();
    let mountpoint = user_folder(folder.path());
    let mut child = ChildMount::start(as_user(folder.path(), &open_device(folder.path())), &mountpoint, "noatime");
    assert_eq!(child.report(), "mounted");
    drop(child.process.stdin.take());
    assert_eq!(child.report(), "unmounted");
    child.finish();
}

#[test]
fn an_ordinary_user_may_not_let_others_in_unless_the_system_permits_it() {
    let folder = folder();
    let mountpoint = user_folder(folder.path());
    let setup = format!("{} mount --bind /dev/null /etc/fuse.conf;", open_device(folder.path()));
    let mut child = ChildMount::start(as_user(folder.path(), &setup), &mountpoint, "allow_other");
    let report = child.report();
    assert!(report.starts_with("PermissionDenied") && report.contains("user_allow_other"), "{report}");
    child.finish();
}

#[test]
fn an_ordinary_user_may_not_mount_where_he_may_not_write() {
    let folder = folder();
    let mountpoint = folder.path().join("mount");
    fs::create_dir(&mountpoint).unwrap();
    let mut child = ChildMount::start(as_user(folder.path(), &open_device(folder.path())), &mountpoint, "");
    let report = child.report();
    assert!(report.starts_with("PermissionDenied") && report.contains("write access"), "{report}");
    child.finish();
}

#[test]
fn an_ordinary_user_without_fusermount3_is_told() {
    let folder = folder();
    let mountpoint = user_folder(folder.path());
    // Masked in the namespace wherever it is.
    let mask = "for program in $(which -a fusermount3); do mount --bind /dev/null $program; done;";
    let setup = format!("{} {mask}", open_device(folder.path()));
    let command = as_user(folder.path(), &setup);
    let mut child = ChildMount::start(command, &mountpoint, "");
    assert_eq!(child.report(), "NoFusermount");
    child.finish();
}

#[test]
fn a_machine_without_the_device_is_told() {
    let folder = folder();
    let mountpoint = user_folder(folder.path());
    let program = std::env::current_exe().unwrap();
    // An empty /dev, but for what the shell needs.
    let script = format!("mount -t tmpfs none /dev; exec {} \"$@\"", program.display());
    let mut child = ChildMount::start(in_namespace(&script), &mountpoint, "");
    assert_eq!(child.report(), "NoFuseDevice");
    child.finish();
}

#[test]
fn a_device_that_may_not_be_opened_is_told() {
    let folder = folder();
    let mountpoint = user_folder(folder.path());
    let device = folder.path().join("fuse");
    let setup = format!("mknod -m 600 {0} c 10 229; mount --bind {0} /dev/fuse;", device.display());
    let mut child = ChildMount::start(as_user(folder.path(), &setup), &mountpoint, "");
    let report = child.report();
    assert!(report.starts_with("PermissionDenied"), "{report}");
    child.finish();
}

#[test]
fn a_root_without_the_right_to_mount_is_told() {
    let folder = folder();
    let mountpoint = user_folder(folder.path());
    let program = std::env::current_exe().unwrap();
    let script = format!("exec setpriv --bounding-set=-sys_admin {} \"$@\"", program.display());
    let mut child = ChildMount::start(in_namespace(&script), &mountpoint, "");
    let report = child.report();
    assert!(report.starts_with("PermissionDenied") && report.contains("SYS_ADMIN"), "{report}");
    child.finish();
}
