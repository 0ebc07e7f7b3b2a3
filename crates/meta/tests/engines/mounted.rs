//! File systems of a test's own. Each is unmounted when its guard goes, also when the test fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Runs an external command, at most for a minute; a failure names it.
fn run(arguments: &[&str]) {
    let output = Command::new("timeout").arg("60").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?} failed ({}); the tests of this crate run as root: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A mounted file system.
pub struct Mounted {
    dir: TempDir,
    point: String,
    mounted: bool,
}

impl Mounted {
    /// A tmpfs of this size.
    pub fn tmpfs(size_mib: u32) -> Self {
        let mut mounted = Self::unmounted();
        run(&["mount", "-t", "tmpfs", "-o", &format!("size={size_mib}m"), "verfs-meta-test", mounted.point()]);
        mounted.mounted = true;
        mounted
    }

    /// An ext4 of this size, in a file on a loop device.
    pub fn ext4(size_mib: u32) -> Self {
        let mut mounted = Self::unmounted();
        let image = mounted.image();
        std::fs::File::create(&image).unwrap().set_len(u64::from(size_mib) << 20).unwrap();
        run(&["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image.to_str().unwrap()]);
        mounted.mount_image();
        mounted
    }

    /// Mounts the image of [`Mounted::ext4`].
    pub fn mount_image(&mut self) {
        run(&["mount", "-o", "loop", self.image().to_str().unwrap(), self.point()]);
        self.mounted = true;
    }

    /// Takes the file system away. A process that another test is starting holds this one's descriptors until it runs
    /// its program, so that a busy file system is asked again.
    pub fn unmount(&mut self) {
        for _ in 0..100 {
            if Command::new("umount").arg(self.point()).stderr(Stdio::null()).status().unwrap().success() {
                self.mounted = false;
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        run(&["umount", self.point()]);
        self.mounted = false;
    }

    /// A directory in the file system.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.point()).join(name)
    }

    fn unmounted() -> Self {
        let dir = tempfile::Builder::new().prefix("verfs-meta-").tempdir().unwrap();
        let point = dir.path().join("point");
        std::fs::create_dir(&point).unwrap();
        Mounted { point: point.to_str().unwrap().to_owned(), dir, mounted: false }
    }

    /// Where the file system is mounted.
    pub fn point(&self) -> &str {
        &self.point
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted {
            let unmounted = Command::new("timeout").args(["60", "umount", "-l", self.point()]).status();
            assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()), "cannot unmount");
        }
    }
}
