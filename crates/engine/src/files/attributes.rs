//! Changing modes, owners and times.

use verfs_base::Timestamp;
use verfs_vfs::{FileKind, SetAttr, SetTime};

use super::{FileError, Files, Found, Links};

/// Set-group-id.
const SET_GROUP: u16 = 0o2000;

/// What is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who<'a> {
    /// What a path leads to.
    Path(&'a [u8], Links),
    /// An open file.
    Open(i32),
}

/// New times of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewTimes {
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
}

impl Files {
    fn attr_of(&self, who: Who<'_>) -> Result<Found, FileError> {
        match who {
            Who::Path(path, links) => self.existing(path, links),
            Who::Open(number) => self.fstat(number),
        }
    }

    fn set(&self, found: &Found, change: &SetAttr) -> Result<(), FileError> {
        self.change(&found.ground, |tree| tree.setattr(&self.context(), found.ino, change))?;
        self.tell_attributes(&found.ground, found.ino);
        Ok(())
    }

    /// Sets the permission bits, set-id bits and the sticky bit.
    ///
    /// # Errors
    /// As `chmod(2)` and `fchmod(2)`; EOPNOTSUPP for a symbolic link, which has none of its own.
    pub fn chmod(&self, who: Who<'_>, mode: u16) -> Result<(), FileError> {
        let attr = self.attr_of(who)?;
        self.caller.check_owner(&attr)?;
        if attr.kind == FileKind::Symlink {
            return Err(FileError::UNSUPPORTED);
        }
        let is_foreign = !self.caller.is_root() && !self.caller.is_in(attr.gid);
        let mode = if is_foreign { mode & !SET_GROUP } else { mode } & 0o7777;
        self.set(&attr, &SetAttr { mode: Some(mode), ..SetAttr::default() })
    }

    /// Sets owner and group; `None` leaves one as it is.
    ///
    /// # Errors
    /// As `chown(2)`, `lchown(2)` and `fchown(2)`.
    pub fn chown(&self, who: Who<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), FileError> {
        let attr = self.attr_of(who)?;
        if !self.caller.is_root() {
            let gives_away = uid.is_some_and(|uid| uid != attr.uid);
            let is_foreign = gid.is_some_and(|gid| gid != attr.gid && !self.caller.is_in(gid));
            if gives_away || is_foreign || ((uid.is_some() || gid.is_some()) && !self.caller.owns(&attr)) {
                return Err(FileError::NOT_PERMITTED);
            }
        }
        self.set(&attr, &SetAttr { uid, gid, ..SetAttr::default() })
    }

    /// Sets the times.
    ///
    /// # Errors
    /// As `utimensat(2)` and `futimens(3)`.
    pub fn set_times(&self, who: Who<'_>, times: NewTimes) -> Result<(), FileError> {
        let attr = self.attr_of(who)?;
        self.caller.check_owner(&attr)?;
        let (atime, mtime) = (Some(SetTime::At(times.accessed)), Some(SetTime::At(times.modified)));
        self.set(&attr, &SetAttr { atime, mtime, ..SetAttr::default() })
    }
}
