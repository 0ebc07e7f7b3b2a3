//! Who calls, and what he may: the mode bits of a file decide, as path_resolution(7) and access(2) say, or its access
//! control list, as acl(5) says.

use rustix::process;
use verfs_vfs::{ACL_ACCESS, AclCaller, Attr, FileKind, acl_permits};

use super::{FileError, Files, Found};

/// The bits of the group: the mask, where there is a list. Without any of them no list is asked, as on Linux.
const GROUP_BITS: u16 = 0o070;
/// Execution by anybody.
const ANY_EXECUTE: u16 = 0o111;
/// In a directory with this bit only owners take names away.
const STICKY: u16 = 0o1000;

/// Ways to use a file: the bits of one class of a mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access(u8);

impl Access {
    /// Whether it exists.
    pub const EXISTS: Access = Access(0);
    /// Execute a file, or pass through a directory.
    pub const EXECUTE: Access = Access(1);
    /// Write.
    pub const WRITE: Access = Access(2);
    /// Read.
    pub const READ: Access = Access(4);

    /// From the `mode` of `access(2)`. None for other bits.
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Access> {
        u8::try_from(bits).ok().filter(|bits| *bits <= 7).map(Access)
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    /// Whether it is part of these.
    #[must_use]
    pub const fn contains(self, other: Access) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Who calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group of what he creates.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Permission bits that are taken from the mode of what he creates (`umask(2)`).
    pub umask: u16,
}

impl Caller {
    /// The user of this process.
    #[must_use]
    pub fn of_process(umask: u16) -> Caller {
        let groups = process::getgroups().unwrap_or_default();
        Caller {
            uid: process::geteuid().as_raw(),
            gid: process::getegid().as_raw(),
            groups: groups.into_iter().map(process::Gid::as_raw).collect(),
            umask: umask & 0o777,
        }
    }

    pub(super) fn is_root(&self) -> bool {
        self.uid == 0
    }

    pub(super) fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether he is the owner, or may act as if he were.
    pub(super) fn owns(&self, attr: &Attr) -> bool {
        self.is_root() || self.uid == attr.uid
    }

    fn may(&self, attr: &Attr, wanted: Access) -> bool {
        if self.is_root() {
            let may_execute = attr.kind == FileKind::Directory || attr.mode & ANY_EXECUTE != 0;
            return may_execute || !wanted.contains(Access::EXECUTE);
        }
        let shift = if self.uid == attr.uid {
            6
        } else if self.is_in(attr.gid) {
            3
        } else {
            0
        };
        Access((attr.mode >> shift) as u8 & 7).contains(wanted)
    }

    /// Refuses who is not the owner.
    pub(super) fn check_owner(&self, attr: &Attr) -> Result<(), FileError> {
        if self.owns(attr) { Ok(()) } else { Err(FileError::NOT_PERMITTED) }
    }
}

impl Files {
    /// What the list of a file says about the caller, if it is one that is asked.
    fn list_permits(&self, found: &Found, wanted: Access) -> Result<Option<bool>, FileError> {
        let caller = &self.caller;
        if caller.owns(found) || found.mode & GROUP_BITS == 0 || found.kind == FileKind::Symlink {
            return Ok(None);
        }
        match self.on(&found.ground, |tree| tree.getxattr(&self.context(), found.ino, ACL_ACCESS)) {
            Ok(list) => {
                let who = AclCaller { uid: caller.uid, is_in: &|gid| caller.is_in(gid) };
                Ok(Some(acl_permits(&list, &who, found.gid, u16::from(wanted.0))?))
            }
            Err(FileError::NO_ATTRIBUTE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses what the caller may not.
    pub(super) fn check(&self, found: &Found, wanted: Access) -> Result<(), FileError> {
        let permitted = self.list_permits(found, wanted)?.unwrap_or_else(|| self.caller.may(found, wanted));
        if permitted { Ok(()) } else { Err(FileError::DENIED) }
    }

    /// Refuses who may not take the name of `entry` from `directory`.
    pub(super) fn check_removal(&self, directory: &Found, entry: &Found) -> Result<(), FileError> {
        self.check(directory, Access::WRITE.and(Access::EXECUTE))?;
        let owns = |found: &Found| self.caller.owns(found);
        match directory.mode & STICKY != 0 && !owns(directory) && !owns(entry) {
            true => Err(FileError::NOT_PERMITTED),
            false => Ok(()),
        }
    }
}
