//! What the kernel says of a mount's connection (`fusectl`), and its end.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// The connection between the kernel and a mount.
pub struct Connection {
    control: OwnedFd,
    number: u32,
}

impl Connection {
    /// That of the file system at `mountpoint`. The kernel's list of them need not be mounted anywhere.
    pub fn of(mountpoint: &Path) -> Connection {
        let context = rustix::mount::fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        rustix::mount::fsconfig_create(context.as_fd()).unwrap();
        let (flags, attributes) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
        let control = rustix::mount::fsmount(context.as_fd(), flags, attributes).unwrap();
        Connection { control, number: rustix::fs::minor(rustix::fs::stat(mountpoint).unwrap().st_dev) }
    }

    fn open(&self, name: &str, flags: OFlags) -> std::io::Result<std::fs::File> {
        let path = format!("{}/{name}", self.number);
        Ok(rustix::fs::openat(&self.control, path, flags | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// Requests that are not answered yet.
    pub fn waiting(&self) -> std::io::Result<u64> {
        let mut text = String::new();
        self.open("waiting", OFlags::RDONLY)?.read_to_string(&mut text)?;
        text.trim().parse().map_err(std::io::Error::other)
    }

    /// Cuts it: everybody who waits for an answer gets an error.
    pub fn abort(&self) -> std::io::Result<()> {
        self.open("abort", OFlags::WRONLY)?.write_all(b"1")
    }
}
