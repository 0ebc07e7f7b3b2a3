//! What the tests of a mounted volume share: a volume in a directory of its own, and other processes.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod connection;
pub mod disk;
pub mod files;
pub mod gate;
pub mod page;
pub mod vault;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use verfs_engine::{CreateOptions, MountOptions, OpenOptions, Volume};

/// A mounted volume. Nothing of it stays.
pub struct Mount {
    volume: Option<Arc<Volume>>,
    folder: tempfile::TempDir,
}

/// A new directory with a volume and a mountpoint in it.
pub fn new_volume() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("verfs-mounted-").tempdir().unwrap();
    std::fs::create_dir(mountpoint(folder.path())).unwrap();
    Volume::create(&folder.path().join("volume"), &CreateOptions::default()).unwrap();
    folder
}

/// Where the volume of such a directory is mounted.
pub fn mountpoint(folder: &Path) -> PathBuf {
    folder.join("mount")
}

/// Opens and mounts the volume of such a directory.
pub fn open_and_mount(folder: &Path) -> Arc<Volume> {
    let volume = Volume::open(&folder.join("volume"), &OpenOptions::default()).unwrap();
    volume.mount(&mountpoint(folder), &MountOptions::default()).unwrap();
    volume
}

impl Mount {
    pub fn new() -> Mount {
        Mount::of(new_volume())
    }

    /// Mounts what [`new_volume`] made.
    pub fn of(folder: tempfile::TempDir) -> Mount {
        Mount { volume: Some(open_and_mount(folder.path())), folder }
    }

    pub fn volume(&self) -> &Arc<Volume> {
        self.volume.as_ref().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        mountpoint(self.folder.path()).join(name)
    }

    /// Unmounts and closes; what [`new_volume`] made stays.
    pub fn into_folder(mut self) -> tempfile::TempDir {
        self.volume.take().unwrap().close().unwrap();
        self.folder
    }

    /// Unmounts, closes, opens and mounts.
    pub fn remount(&mut self) {
        self.volume.take().unwrap().close().unwrap();
        self.volume = Some(open_and_mount(self.folder.path()));
    }
}

/// Another process of this test program, which runs one test and is told what to do by its environment.
pub struct Other {
    process: Child,
    lines: BufReader<ChildStdout>,
}

/// What this process is to do, if another one started it for `role`.
pub fn told(role: &str) -> Option<PathBuf> {
    std::env::var_os(format!("VERFS_TEST_{role}")).map(PathBuf::from)
}

/// Says that something is done.
pub fn report(what: &str) {
    println!("REPORT {what}");
    std::io::stdout().flush().unwrap();
}

/// Waits for [`Other::let_go`].
pub fn wait_for_the_end() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

impl Other {
    pub fn start(test: &str, role: &str, path: &Path) -> Other {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(format!("VERFS_TEST_{role}"), path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Other { process, lines }
    }

    /// Waits for the next report.
    pub fn expect(&mut self, what: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if let Some((_, report)) = line.split_once("REPORT ") {
                assert_eq!(report.trim(), what);
                return;
            }
            line.clear();
        }
        panic!("the other process ended before it said {what:?}");
    }

    /// Lets it go on from [`wait_for_the_end`].
    pub fn let_go(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// Sends SIGKILL, and does not wait until it is gone.
    pub fn send_kill(&mut self) {
        self.process.kill().unwrap();
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}
