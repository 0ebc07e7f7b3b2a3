//! Opening files.

use verfs_base::Ino;
use verfs_fuse::Tree;
use verfs_vfs::{FileKind, NodeKind, SetAttr};

use super::ground::Ground;
use super::handles::Handle;
use super::path::Place;
use super::{Access, FileError, Files, Found, Links};

/// How often a file is looked up again that is replaced while it is opened.
const TRIES: u32 = 16;

/// How a file is opened: the flags of `open(2)`, with their numbers on Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFlags(i32);

impl OpenFlags {
    /// From the numbers of `fcntl.h`. Flags that mean nothing here (`O_NOCTTY`, `O_DIRECT`, …) are ignored, as Linux does
    /// where a file system has no use for them.
    #[must_use]
    pub fn from_bits(bits: i32) -> OpenFlags {
        OpenFlags(bits)
    }

    /// Whether opening so may change something.
    #[must_use]
    pub fn changes(self) -> bool {
        self.has(libc::O_CREAT) || self.has(libc::O_TRUNC)
    }

    fn has(self, flag: i32) -> bool {
        self.0 & flag == flag
    }

    pub(super) fn reads(self) -> bool {
        matches!(self.0 & libc::O_ACCMODE, libc::O_RDONLY | libc::O_RDWR)
    }

    pub(super) fn writes(self) -> bool {
        matches!(self.0 & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR)
    }

    pub(super) fn appends(self) -> bool {
        self.has(libc::O_APPEND)
    }

    pub(super) fn syncs(self) -> bool {
        self.has(libc::O_DSYNC)
    }

    pub(super) fn keeps_access_time(self) -> bool {
        self.has(libc::O_NOATIME)
    }

    fn wanted(self) -> Access {
        let read = if self.reads() { Access::READ } else { Access::EXISTS };
        let write = if self.writes() || self.has(libc::O_TRUNC) { Access::WRITE } else { Access::EXISTS };
        read.and(write)
    }
}

impl Files {
    /// Opens a file, and makes it where `flags` say so. Returns the number of the open file: one of this caller's, none
    /// of the system's.
    ///
    /// # Errors
    /// As `open(2)`. Pipes, sockets and devices can't be opened without a kernel: ENXIO. EOPNOTSUPP for `O_TMPFILE`.
    pub fn open(&self, path: &[u8], flags: OpenFlags, mode: u16) -> Result<i32, FileError> {
        if flags.has(libc::O_TMPFILE) {
            return Err(FileError::UNSUPPORTED);
        }
        for _ in 0..TRIES {
            match self.try_open(path, flags, mode) {
                // What was looked up, or made, was gone before it was held.
                Err(Opening::Again) => {}
                Err(Opening::Failed(error)) => return Err(error),
                Ok(number) => return Ok(number),
            }
        }
        Err(FileError::NOT_FOUND)
    }

    fn try_open(&self, path: &[u8], flags: OpenFlags, mode: u16) -> Result<i32, Opening> {
        let makes = flags.has(libc::O_CREAT);
        let is_new = makes && flags.has(libc::O_EXCL);
        let links = if is_new || flags.has(libc::O_NOFOLLOW) { Links::Stay } else { Links::Follow };
        let place = self.walk(path, links)?;
        let (found, is_made) = match &place.found {
            Some(_) if is_new => return Err(FileError::EXISTS.into()),
            Some(found) => (found.clone(), false),
            None if !makes => return Err(FileError::NOT_FOUND.into()),
            None => (self.make_file(&place, mode)?, true),
        };
        if !is_made {
            self.check_opening(&found, flags)?;
        }
        let Found { ground, attr } = found;
        match self.hold(&ground, attr.ino) {
            Err(FileError::NOT_FOUND) => return Err(Opening::Again),
            held => held?,
        }
        if flags.has(libc::O_TRUNC) && !is_made {
            self.empty(&ground, attr.ino).inspect_err(|_| self.end_hold(&ground, attr.ino))?;
        }
        let position = parking_lot::Mutex::new(0);
        Ok(self.add_handle(Handle { ground, ino: attr.ino, kind: attr.kind, flags, position })?)
    }

    fn empty(&self, ground: &Ground, ino: Ino) -> Result<(), FileError> {
        let change = SetAttr { size: Some(0), ..SetAttr::default() };
        self.change(ground, |tree| tree.setattr(&self.context(), ino, &change))?;
        self.tell_content(ground, ino);
        Ok(())
    }

    fn make_file(&self, place: &Place, mode: u16) -> Result<Found, Opening> {
        if place.wants_directory {
            return Err(FileError::IS_DIRECTORY.into());
        }
        let name = self.new_name(place)?;
        self.check(&place.directory, Access::WRITE.and(Access::EXECUTE))?;
        let (ground, parent) = (&place.directory.ground, place.directory.ino);
        let made = |tree: &dyn Tree| tree.mknod(&self.context(), parent, name, NodeKind::Regular, mode & 0o7777);
        match self.change(ground, made) {
            // Somebody else made it since.
            Err(FileError::EXISTS) => Err(Opening::Again),
            Err(error) => Err(error.into()),
            Ok(attr) => {
                self.tell_names(ground, &[(parent, name)], &[]);
                Ok(Found { ground: ground.clone(), attr })
            }
        }
    }

    fn check_opening(&self, found: &Found, flags: OpenFlags) -> Result<(), FileError> {
        match found.kind {
            FileKind::Directory => {
                if flags.writes() || flags.has(libc::O_CREAT) || flags.has(libc::O_TRUNC) {
                    return Err(FileError::IS_DIRECTORY);
                }
            }
            FileKind::Symlink if flags.has(libc::O_DIRECTORY) => return Err(FileError::NOT_DIRECTORY),
            FileKind::Symlink => return Err(FileError::LOOP),
            _ if flags.has(libc::O_DIRECTORY) => return Err(FileError::NOT_DIRECTORY),
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                return Err(FileError::NO_DEVICE);
            }
            FileKind::Regular => {}
        }
        self.check(found, flags.wanted())?;
        let never_changes = self.volume.is_read_only() || found.ground.is_past();
        if flags.wanted().contains(Access::WRITE) && never_changes {
            return Err(FileError::READ_ONLY);
        }
        if flags.keeps_access_time() {
            self.caller.check_owner(found)?;
        }
        Ok(())
    }
}

/// Why a file was not opened.
enum Opening {
    /// What the path leads to changed meanwhile.
    Again,
    Failed(FileError),
}

impl From<FileError> for Opening {
    fn from(error: FileError) -> Opening {
        Opening::Failed(error)
    }
}
