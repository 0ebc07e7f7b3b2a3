//! A file system of the kernel's own in a file: what a volume is compared with, or lies on.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted ext4, without devices as a volume has none. Nothing of it stays, however the test ends.
pub struct LoopDisk {
    mountpoint: PathBuf,
}

fn run(program: &str, args: &[&OsStr]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

impl LoopDisk {
    /// A new one of `mib` MiB, with its image and its mountpoint `disk` in a directory.
    pub fn new(folder: &Path, mib: u64) -> LoopDisk {
        assert!(rustix::process::geteuid().is_root(), "only root can mount an ext4");
        let (image, mountpoint) = (folder.join("image"), folder.join("disk"));
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        fs::create_dir(&mountpoint).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m0".as_ref(), image.as_ref()]);
        run("mount", &["-o".as_ref(), "loop,nodev,nosuid".as_ref(), image.as_ref(), mountpoint.as_ref()]);
        LoopDisk { mountpoint }
    }

    pub fn path(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let unmount = |args: &[&OsStr]| Command::new("umount").args(args).arg(&self.mountpoint).output();
        // The loop device goes with the mount.
        if !unmount(&[]).is_ok_and(|output| output.status.success()) {
            let _detached = unmount(&["-l".as_ref()]);
        }
    }
}
