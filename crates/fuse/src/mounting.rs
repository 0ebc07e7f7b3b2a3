//! Mounting and unmounting: what is checked before, `mount(2)` for root, `fusermount3` for everybody else.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, UnmountFlags};

use crate::error::FuseError;
use crate::fusermount;
use crate::mount_table::{detach_stale, mount_at, mount_table, resolve_parent, shown};
use crate::options::{AllowOther, MountOptions, PermissionChecks};

/// The device through which the kernel talks to a file system in user space.
pub(crate) const FUSE_DEVICE: &str = "/dev/fuse";

/// Where the kernel's control file system of FUSE connections is mounted by convention.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// A mount that was made, and the device that serves it.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// The connection to the kernel.
    pub(crate) device: OwnedFd,
    /// Where it is.
    pub(crate) mount: MountPoint,
}

/// A mount in the mount table, told from others at the same place by its device number.
#[derive(Clone, Debug)]
pub(crate) struct MountPoint {
    /// Where it was mounted.
    pub(crate) path: PathBuf,
    /// `st_dev` of its files: major and minor. The kernel gives it to another file system after this one's end.
    pub(crate) file_system: (u32, u32),
}

/// The kernel's switch that cuts a connection. Opened at once after the mount: later its number may be another's.
#[derive(Debug)]
pub(crate) struct AbortSwitch(File);

/// How an attempt to unmount went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unmounting {
    /// The mount is gone, and was idle.
    Done,
    /// Somebody uses it.
    Busy,
}

/// Checks the mountpoint, detaches a stale mount of ours there, and mounts.
pub(crate) fn mount(mountpoint: &Path, options: &MountOptions) -> Result<Mounted, FuseError> {
    mount_unchecked(checked_mountpoint(mountpoint)?, options)
}

/// Mounts at `path`, which is without symlinks, and asks for nothing in the directory there: its file system may be
/// waiting for this mount.
pub(crate) fn mount_unchecked(path: PathBuf, options: &MountOptions) -> Result<Mounted, FuseError> {
    let device = if rustix::process::geteuid().is_root() {
        mount_as_root(&path, options)?
    } else {
        fusermount::mount(&path, options)?
    };
    // Of the new root, without asking whoever will serve it.
    match rustix::fs::statx(CWD, &path, AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(root) => {
            let file_system = (root.stx_dev_major, root.stx_dev_minor);
            Ok(Mounted { device, mount: MountPoint { path, file_system } })
        }
        Err(errno) => {
            // Without its device number it can't be told from others: rather none than one that can't be unmounted.
            if let Err(error) = detach(&path) {
                tracing::error!(%error, "a mount that can't be found stays");
            }
            Err(FuseError::io("finding the mount at", &path, errno))
        }
    }
}

fn checked_mountpoint(mountpoint: &Path) -> Result<PathBuf, FuseError> {
    let path = resolve_parent(mountpoint)?;
    let detached = detach_stale(&path)?;
    if detached > 0 {
        tracing::warn!(path = %path.display(), detached, "detached the stale mount of a daemon that died");
    }
    if let Some(entry) = mount_at(&path)?.filter(|entry| entry.is_verfs()) {
        return Err(FuseError::AlreadyMounted { path, source_name: shown(&entry.source) });
    }
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FuseError::MountpointMissing { path: path.clone() },
        io::ErrorKind::NotADirectory => FuseError::MountpointNotDirectory { path: path.clone() },
        io::ErrorKind::PermissionDenied => {
            FuseError::PermissionDenied { path: path.clone(), detail: "it may not be read".to_owned() }
        }
        _ => FuseError::io("reading", &path, source),
    };
    match std::fs::read_dir(&path).map_err(failed)?.next() {
        None => Ok(path),
        Some(Ok(_)) => Err(FuseError::MountpointNotEmpty { path }),
        Some(Err(source)) => Err(failed(source)),
    }
}

fn mount_as_root(path: &Path, options: &MountOptions) -> Result<OwnedFd, FuseError> {
    let device = rustix::fs::open(FUSE_DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(device_error)?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0{}{}",
        device.as_raw_fd(),
        match options.permission_checks {
            PermissionChecks::Kernel => ",default_permissions",
            PermissionChecks::Private => "",
        },
        match options.allow_other {
            AllowOther::Yes => ",allow_other",
            AllowOther::No => "",
        }
    );
    let data = CString::new(data).map_err(|error| FuseError::io("mounting at", path, error))?;
    rustix::mount::mount(
        options.fs_name.as_str(),
        path,
        options.kind.file_system_type(),
        options.flags,
        data.as_c_str(),
    )
    .map_err(|errno| match errno {
        Errno::PERM | Errno::ACCESS => FuseError::PermissionDenied {
            path: path.to_path_buf(),
            detail: "this root may not mount: in a container it needs the capability SYS_ADMIN".to_owned(),
        },
        Errno::NODEV => FuseError::NoFuseDevice,
        _ => FuseError::io("mounting at", path, errno),
    })?;
    Ok(device)
}

/// What it means that the FUSE device can't be opened.
pub(crate) fn device_error(errno: Errno) -> FuseError {
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => FuseError::NoFuseDevice,
        Errno::PERM | Errno::ACCESS => FuseError::PermissionDenied {
            path: PathBuf::from(FUSE_DEVICE),
            detail: "the device may not be opened: ask for mode 666, or for it to be allowed in the container"
                .to_owned(),
        },
        _ => FuseError::io("opening", Path::new(FUSE_DEVICE), errno),
    }
}

impl MountPoint {
    /// Where the mount is now: it moves when a directory above it is renamed, and is gone after `umount(8)`.
    pub(crate) fn current(&self) -> Result<Option<PathBuf>, FuseError> {
        let table = mount_table().map_err(|source| FuseError::io("reading the mount table for", &self.path, source))?;
        let ours: Vec<PathBuf> = table
            .into_iter()
            .filter(|entry| entry.device == self.file_system && entry.is_verfs())
            .map(|entry| entry.mount_point)
            .collect();
        Ok(if ours.contains(&self.path) { Some(self.path.clone()) } else { ours.into_iter().next() })
    }

    /// Takes the mount out of the tree of names: wholly where nobody uses it, else lazily, and then the kernel goes on
    /// serving who has files open. To be called only while the connection lives: later the device number may be that
    /// of another mount.
    pub(crate) fn unmount(&self) -> Result<Unmounting, FuseError> {
        let Some(path) = self.current()? else { return Ok(Unmounting::Done) };
        let failed = |errno: Errno| FuseError::io("unmounting", &path, errno);
        match rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW) {
            Ok(()) => return Ok(Unmounting::Done),
            // Somebody else was quicker.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(Unmounting::Done),
            Err(Errno::BUSY) => {}
            Err(Errno::PERM) => {
                if fusermount::unmount(&path, fusermount::Detach::No)? == Unmounting::Done {
                    return Ok(Unmounting::Done);
                }
            }
            Err(errno) => return Err(failed(errno)),
        }
        tracing::info!(path = %path.display(), "the mount is in use: detaching it");
        detach(&path)?;
        Ok(Unmounting::Busy)
    }

    /// Unmounts if nobody went there since the last call of this, and nobody has anything open there. Says whether it is
    /// gone. For root only.
    pub(crate) fn expire(&self) -> Result<bool, FuseError> {
        let Some(path) = self.current()? else { return Ok(true) };
        match rustix::mount::unmount(&path, UnmountFlags::EXPIRE | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(true),
            // The first call since somebody went there: the mount is marked now.
            Err(Errno::AGAIN | Errno::BUSY) => Ok(false),
            Err(errno) => Err(FuseError::io("unmounting", &path, errno)),
        }
    }

    /// Raises the kernel's read-ahead window, which INIT can only lower.
    pub(crate) fn raise_read_ahead(&self, kib: u32) -> io::Result<()> {
        let (major, minor) = self.file_system;
        let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        io::Write::write_all(&mut File::options().write(true).open(path)?, kib.to_string().as_bytes())
    }
}

impl AbortSwitch {
    /// Where the control file system isn't mounted, root gets a private look at it.
    pub(crate) fn open(mount: &MountPoint) -> io::Result<AbortSwitch> {
        let connection = format!("{}/abort", mount.file_system.1);
        let opened = File::options().write(true).open(Path::new(CONNECTIONS).join(&connection));
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map(AbortSwitch),
        }
        let context = rustix::mount::fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let control = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let file = rustix::fs::openat(control, connection, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(AbortSwitch(File::from(file)))
    }

    /// Cuts the connection: whoever still has files open gets ENOTCONN, and requests under way end. Does nothing after
    /// its end.
    pub(crate) fn abort(&self) -> io::Result<()> {
        io::Write::write_all(&mut &self.0, b"1")
    }
}

/// Detaches whatever is mounted at `path`, in use or not.
pub(crate) fn detach(path: &Path) -> Result<(), FuseError> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => fusermount::unmount(path, fusermount::Detach::Yes).map(|_| ()),
        Err(errno) => Err(FuseError::io("detaching", path, errno)),
    }
}
