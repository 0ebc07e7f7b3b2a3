//! A tree of the operating system, as a source and as a target.
//!
//! Everything is reached from the directory that it is in, by its descriptor and without following links: whoever
//! exchanges names meanwhile leads nobody out of the tree.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, XattrFlags, chmodat, chownat,
    fstat, lgetxattr, linkat, llistxattr, lremovexattr, lsetxattr, makedev, mkdirat, mknodat, openat, readlinkat, seek,
    statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use verfs_base::Timestamp;
use verfs_vfs::FileKind;

use super::owners::Owners;
use super::tree::{Go, Made, Meta, PIECE_BYTES, Source, Target, Trouble, Xattrs};

/// Bytes that a list of names, or a value, has at most (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_MAX_BYTES: usize = 64 << 10;

/// Something by its name in a directory.
pub(super) struct HostNode {
    directory: Arc<OwnedFd>,
    name: CString,
    /// Of a directory that was entered.
    inside: OnceLock<Arc<OwnedFd>>,
}

/// The file systems of this machine.
pub(super) struct Host {
    owners: Owners,
}

fn name_of(name: &[u8]) -> Result<CString, Trouble> {
    CString::new(name).map_err(|_| Trouble::System(Errno::INVAL))
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn kind_of(stat: &Stat) -> Result<FileKind, Trouble> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(FileKind::Regular),
        FileType::Directory => Ok(FileKind::Directory),
        FileType::Symlink => Ok(FileKind::Symlink),
        FileType::Fifo => Ok(FileKind::Fifo),
        FileType::Socket => Ok(FileKind::Socket),
        FileType::CharacterDevice => Ok(FileKind::CharDevice),
        FileType::BlockDevice => Ok(FileKind::BlockDevice),
        FileType::Unknown => Err(Trouble::System(Errno::OPNOTSUPP)),
    }
}

fn time(seconds: i64, nanos: u64) -> Timestamp {
    Timestamp { seconds, nanos: nanos as u32 }
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) }
}

/// A device number in the kernel's 32-bit encoding.
fn encoded(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn decoded(device: u32) -> u64 {
    makedev((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

fn meta_of(stat: &Stat) -> Result<Meta, Trouble> {
    Ok(Meta {
        kind: kind_of(stat)?,
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        device: encoded(stat.st_rdev),
        size: stat.st_size as u64,
        names: stat.st_nlink as u32,
        identity: (stat.st_dev, stat.st_ino),
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    })
}

impl HostNode {
    fn new(directory: Arc<OwnedFd>, name: CString) -> Arc<HostNode> {
        Arc::new(HostNode { directory, name, inside: OnceLock::new() })
    }

    /// The directory that it is.
    fn inside(&self) -> Result<Arc<OwnedFd>, Trouble> {
        if let Some(inside) = self.inside.get() {
            return Ok(Arc::clone(inside));
        }
        let opened = Arc::new(openat(&self.directory, &*self.name, directory_flags(), Mode::empty())?);
        Ok(Arc::clone(self.inside.get_or_init(|| opened)))
    }

    /// A path for the calls that take nothing else; the last name of it isn't followed.
    fn path(&self) -> PathBuf {
        let mut path = format!("/proc/self/fd/{}/", self.directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name.as_bytes());
        PathBuf::from(OsString::from_vec(path))
    }

    /// Opens the regular file that `meta` was said of.
    fn open(&self, flags: OFlags) -> Result<(File, Stat), Trouble> {
        // A pipe that took its place would make us wait.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.directory, &*self.name, flags, Mode::empty())?;
        let stat = fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((File::from(file), stat)),
            _ => Err(Trouble::System(Errno::STALE)),
        }
    }
}

impl Host {
    pub(super) fn new(owners: Owners) -> Host {
        Host { owners }
    }

    /// What is at a path: a directory by itself, anything else by its name.
    pub(super) fn node(path: &Path) -> Result<Arc<HostNode>, Trouble> {
        match openat(CWD, path, directory_flags(), Mode::empty()) {
            Ok(directory) => Ok(HostNode::new(Arc::new(directory), name_of(b".")?)),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Trouble::System(Errno::NOENT));
                };
                let directory = openat(CWD, parent, directory_flags(), Mode::empty())?;
                Ok(HostNode::new(Arc::new(directory), name_of(name.as_encoded_bytes())?))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// The descriptor of a directory.
    pub(super) fn descriptor(node: &HostNode) -> Result<Arc<OwnedFd>, Trouble> {
        node.inside()
    }
}

fn names_of_xattrs(path: &Path) -> Result<Vec<Bytes>, Trouble> {
    let mut list = vec![0_u8; XATTR_MAX_BYTES];
    let len = match llistxattr(path, &mut list[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    list.truncate(len);
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(Bytes::copy_from_slice).collect())
}

impl Source for Host {
    type Node = Arc<HostNode>;

    fn meta(&self, node: &Self::Node) -> Result<Meta, Trouble> {
        meta_of(&statat(&node.directory, &*node.name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn entries(&self, directory: &Self::Node) -> Result<Vec<(Bytes, Self::Node)>, Trouble> {
        let inside = directory.inside()?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&inside)? {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                let node = HostNode::new(Arc::clone(&inside), name.to_owned());
                entries.push((Bytes::copy_from_slice(name.to_bytes()), node));
            }
        }
        Ok(entries)
    }

    fn link_target(&self, node: &Self::Node) -> Result<Bytes, Trouble> {
        Ok(readlinkat(&node.directory, &*node.name, Vec::new())?.into_bytes().into())
    }

    fn xattrs(&self, node: &Self::Node) -> Result<Xattrs, Trouble> {
        let path = node.path();
        let mut value = Vec::new();
        let mut xattrs = Vec::new();
        for name in names_of_xattrs(&path)?.into_iter().filter(|name| self.owners.keeps_xattr(name)) {
            value.resize(XATTR_MAX_BYTES, 0);
            match lgetxattr(&path, &*name, &mut value[..]) {
                Ok(len) => xattrs.push((name, Bytes::copy_from_slice(value.get(..len).unwrap_or_default()))),
                // Somebody took it away meanwhile.
                Err(Errno::NODATA) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(xattrs)
    }

    fn content(&self, node: &Self::Node, take: &mut dyn FnMut(u64, &[u8]) -> Go) -> Result<(), Trouble> {
        let (file, stat) = node.open(OFlags::RDONLY)?;
        let size = stat.st_size as u64;
        let mut piece = vec![0; PIECE_BYTES.min(size) as usize];
        let mut at = 0;
        while at < size {
            let (data, end) = match seek(&file, SeekFrom::Data(at)) {
                Ok(data) => (data, seek(&file, SeekFrom::Hole(data))?),
                Err(Errno::NXIO) => return Ok(()),
                // A file system that knows no holes.
                Err(Errno::INVAL) => (at, size),
                Err(errno) => return Err(errno.into()),
            };
            at = data;
            while at < end {
                let wanted = (end - at).min(PIECE_BYTES).min(piece.len() as u64) as usize;
                let part = piece.get_mut(..wanted).unwrap_or_default();
                let len = match file.read_at(part, at) {
                    Ok(len) => len,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into()),
                };
                // Somebody made it shorter.
                if len == 0 {
                    return Ok(());
                }
                if take(at, part.get(..len).unwrap_or_default()) == Go::Stop {
                    return Ok(());
                }
                at += len as u64;
            }
        }
        Ok(())
    }
}

impl Target for Host {
    type Writer = File;

    // Each keeps the descriptor of its directory.
    const VERIFIED_FILES: usize = 64;

    fn find(&self, directory: &Self::Node, name: &Bytes) -> Result<Option<(Self::Node, Meta)>, Trouble> {
        let node = HostNode::new(directory.inside()?, name_of(name)?);
        match self.meta(&node) {
            Ok(meta) => Ok(Some((node, meta))),
            Err(trouble) if trouble.is_absence() => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    fn make(&self, directory: &Self::Node, name: &Bytes, made: &Made, _like: &Meta) -> Result<Self::Node, Trouble> {
        let node = HostNode::new(directory.inside()?, name_of(name)?);
        let (at, name) = (&*node.directory, &*node.name);
        let mine = Mode::RUSR | Mode::WUSR;
        match made {
            Made::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                drop(openat(at, name, flags, mine)?);
            }
            Made::Directory => mkdirat(at, name, Mode::RWXU)?,
            Made::Symlink(target) => symlinkat(&**target, at, name)?,
            Made::Fifo => mknodat(at, name, FileType::Fifo, mine, 0)?,
            Made::Socket => mknodat(at, name, FileType::Socket, mine, 0)?,
            Made::CharDevice(device) => mknodat(at, name, FileType::CharacterDevice, mine, decoded(*device))?,
            Made::BlockDevice(device) => mknodat(at, name, FileType::BlockDevice, mine, decoded(*device))?,
        }
        Ok(node)
    }

    fn link(&self, node: &Self::Node, directory: &Self::Node, name: &Bytes) -> Result<(), Trouble> {
        let inside = directory.inside()?;
        Ok(linkat(&node.directory, &*node.name, &inside, &*name_of(name)?, AtFlags::empty())?)
    }

    fn remove(&self, directory: &Self::Node, name: &Bytes, kind: FileKind) -> Result<(), Trouble> {
        let flags = if kind == FileKind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(unlinkat(directory.inside()?, &*name_of(name)?, flags)?)
    }

    fn reopen(&self, directory: &Self::Node, meta: &Meta) -> Result<(), Trouble> {
        let mode = Mode::from_raw_mode(u32::from(meta.mode)) | Mode::RWXU;
        Ok(chmodat(&directory.directory, &*directory.name, mode, AtFlags::empty())?)
    }

    fn writer(&self, node: &Self::Node) -> Result<File, Trouble> {
        Ok(node.open(OFlags::WRONLY)?.0)
    }

    fn write(&self, writer: &File, offset: u64, data: &[u8]) -> Result<(), Trouble> {
        writer.write_all_at(data, offset).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO).into())
    }

    fn set_size(&self, writer: &File, size: u64) -> Result<(), Trouble> {
        Ok(rustix::fs::ftruncate(writer, size)?)
    }

    fn finish(&self, node: &Self::Node, meta: &Meta, xattrs: &Xattrs) -> Result<(), Trouble> {
        let (at, name) = (&*node.directory, &*node.name);
        let (uid, gid) = self.owners.of(meta);
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        // Before the mode, which may take away the right to do it.
        let path = node.path();
        for name in names_of_xattrs(&path)?.iter().filter(|name| self.owners.keeps_xattr(name)) {
            if !xattrs.iter().any(|(wanted, _)| wanted == name) {
                lremovexattr(&path, &**name)?;
            }
        }
        for (name, value) in xattrs {
            lsetxattr(&path, &**name, value, XattrFlags::empty())?;
        }
        if meta.kind != FileKind::Symlink {
            chmodat(at, name, Mode::from_raw_mode(u32::from(meta.mode)), AtFlags::empty())?;
        }
        let times = Timestamps { last_access: timespec(meta.accessed), last_modification: timespec(meta.modified) };
        Ok(utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn spoil(&self, node: &Self::Node) -> Result<(), Trouble> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = Timestamps { last_access: never, last_modification: never };
        Ok(utimensat(&node.directory, &*node.name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn settle(&self) -> Result<(), Trouble> {
        Ok(())
    }
}
