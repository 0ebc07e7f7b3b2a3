//! Extended attributes, access control lists and flags as system calls. Who asks for attributes is root: what others
//! may is the kernel's to decide here.

use std::os::fd::AsRawFd;

use rustix::fs::{IFlags, OFlags, XattrFlags};
use rustix::io::Errno;
use verfs_testkit::model::{Id, Refusal};
use verfs_testkit::{ACL_ACCESS, ACL_DEFAULT, Target, Who, XATTR_NAMES, XattrName, XattrValue};
use verfs_vfs::{FileFlags, FileKind, XattrMode};

use crate::client::Client;
use crate::kernel::{Circumstance, meet};

/// Most bytes of a value or of a list of names that the kernel passes on.
const XATTR_MAX_BYTES: usize = 64 << 10;
/// An access control list that lists nobody: for the kernel there is none.
const NO_ENTRIES: [u8; 4] = [2, 0, 0, 0];

fn bits(flags: FileFlags) -> IFlags {
    [
        (flags.immutable, IFlags::IMMUTABLE),
        (flags.append_only, IFlags::APPEND),
        (flags.no_dump, IFlags::NODUMP),
        (flags.no_atime, IFlags::NOATIME),
    ]
    .into_iter()
    .fold(IFlags::empty(), |all, (is_set, flag)| if is_set { all | flag } else { all })
}

/// Whether the kernel asks the volume about a name: one that is too short or too long it refuses itself (ERANGE).
fn is_passed_on(name: &[u8]) -> bool {
    (1..=255).contains(&name.len())
}

fn is_list(name: XattrName) -> bool {
    name == ACL_ACCESS || name == ACL_DEFAULT
}

impl Client {
    pub(crate) fn set_xattr(
        &mut self,
        what: &str,
        target: &Target,
        (number, value): (XattrName, XattrValue),
        mode: XattrMode,
    ) -> Result<(), String> {
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        let (name, value) = (XATTR_NAMES[number as usize], value.bytes());
        if value.len() > XATTR_MAX_BYTES || !is_passed_on(name) {
            return Ok(());
        }
        let flags = match mode {
            XattrMode::Set => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        let done = self.through_path(target, id, |path| rustix::fs::setxattr(path, name, &value, flags));
        let expected = match is_list(number) {
            // Whether a list is to be new or replaced is no matter to the kernel.
            true if value.is_empty() || value == NO_ENTRIES => self.without_list(id, number),
            true => self.model.set_xattr(Who::ROOT, id, name, &value, XattrMode::Set),
            false => self.model.set_xattr(Who::ROOT, id, name, &value, mode),
        };
        meet(what, &self.about_attributes(id), expected, done).map(|_| ())
    }

    /// Removes a list from the model. What is no directory never has a default list, so there nobody is asked.
    fn without_list(&mut self, id: Id, number: XattrName) -> Result<(), Refusal> {
        match self.model.kind(id) {
            Some(FileKind::Directory | FileKind::Symlink) | None => {}
            Some(_) if number == ACL_DEFAULT => return Ok(()),
            Some(_) => {}
        }
        self.model.remove_xattr(id, XATTR_NAMES[number as usize])
    }

    pub(crate) fn remove_xattr(&mut self, what: &str, target: &Target, number: XattrName) -> Result<(), String> {
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        let name = XATTR_NAMES[number as usize];
        if !is_passed_on(name) {
            return Ok(());
        }
        let done = self.through_path(target, id, |path| rustix::fs::removexattr(path, name));
        let expected = if is_list(number) { self.without_list(id, number) } else { self.model.remove_xattr(id, name) };
        meet(what, &self.about_attributes(id), expected, done).map(|_| ())
    }

    pub(crate) fn get_xattr(&mut self, what: &str, target: &Target, number: XattrName) -> Result<(), String> {
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        let name = XATTR_NAMES[number as usize];
        if !is_passed_on(name) {
            return Ok(());
        }
        let found = self.value_of(target, id, name);
        match meet(what, &self.about_attributes(id), self.model.get_xattr(id, name), found)? {
            Some((expected, found)) if expected != found => {
                Err(format!("{what}: {} bytes of something else", found.len()))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn list_xattrs(&mut self, what: &str, target: &Target) -> Result<(), String> {
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        let found = self.names_of(target, id);
        match meet(what, &[], self.model.list_xattrs(Who::ROOT, id), found)? {
            Some((expected, found)) if expected != found => {
                Err(format!("{what}: expected {expected:?}, found {found:?}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn set_flags(&mut self, what: &str, target: &Target, flags: FileFlags, who: Who) -> Result<(), String> {
        let Some(id) = self.resolve(what, target)? else { return Ok(()) };
        let done = crate::user::acting(who, || {
            let file = self.open_for_flags(target, id)?;
            rustix::fs::ioctl_setflags(&file, bits(flags))
        });
        meet(what, &self.about_attributes(id), self.model.set_flags(who, id, flags), done).map(|_| ())
    }

    /// Compares attributes and flags of an inode with the model's.
    pub(crate) fn compare_attributes(&self, what: &str, way: &Target, id: Id) -> Result<(), String> {
        let Ok(node) = self.model.node(id).cloned() else { return Ok(()) };
        let failed = |error: Errno| format!("{what}: {error:?}");
        let names = self.names_of(way, id).map_err(failed)?;
        if !names.iter().eq(node.xattrs.keys()) {
            return Err(format!("{what}: expected attributes {:?}, found {names:?}", node.xattrs.keys()));
        }
        for (name, expected) in node.xattrs.iter() {
            let found = self.value_of(way, id, name).map_err(failed)?;
            if found != *expected {
                let (shown, name) = (&found[..found.len().min(60)], name.escape_ascii());
                return Err(format!("{what}: {name} has {} bytes, {}", found.len(), shown.escape_ascii()));
            }
        }
        let flags = self.open_for_flags(way, id).and_then(|file| rustix::fs::ioctl_getflags(&file));
        match (node.kind, flags) {
            (FileKind::Regular | FileKind::Directory, Ok(flags)) if flags == bits(node.flags) => Ok(()),
            (FileKind::Fifo, Err(Errno::NOTTY)) => Ok(()),
            (
                FileKind::Symlink | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo,
                Err(Errno::BADF),
            ) => Ok(()),
            (_, flags) => Err(format!("{what}: expected {:?}, found {flags:?}", node.flags)),
        }
    }

    /// What has flags, and pipes, which can be opened as well, and asked.
    fn open_for_flags(&self, target: &Target, id: Id) -> Result<std::os::fd::OwnedFd, Errno> {
        match (target, self.model.kind(id)) {
            (Target::Path(_), Some(FileKind::Fifo)) => {
                let spot = self.spot(target).ok_or(Errno::BADF)?;
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(spot.at, spot.path, flags, rustix::fs::Mode::empty())
            }
            (Target::Path(_) | Target::Slot(_), _) => self.open(target, id, OFlags::RDONLY),
        }
    }

    fn about_attributes(&self, id: Id) -> Vec<Circumstance> {
        match self.model.kind(id) {
            Some(FileKind::Regular | FileKind::Directory) | None => Vec::new(),
            Some(FileKind::Fifo) => vec![Circumstance::Special, Circumstance::Pipe, Circumstance::PathOnly],
            Some(FileKind::Symlink | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice) => {
                vec![Circumstance::Special, Circumstance::PathOnly]
            }
        }
    }

    fn value_of(&self, target: &Target, id: Id, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0; XATTR_MAX_BYTES];
        let len = self.through_path(target, id, |path| rustix::fs::getxattr(path, name, &mut value[..]))?;
        value.truncate(len);
        Ok(value)
    }

    fn names_of(&self, target: &Target, id: Id) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = vec![0; XATTR_MAX_BYTES];
        let len = self.through_path(target, id, |path| rustix::fs::listxattr(path, &mut names[..]))?;
        Ok(names[..len].split_inclusive(|byte| *byte == 0).map(|name| name[..name.len() - 1].to_vec()).collect())
    }

    /// There are no calls for attributes below an open directory: the way leads through /proc, to a link itself too.
    fn through_path<T>(
        &self,
        target: &Target,
        id: Id,
        call: impl FnOnce(String) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let file = self.open(target, id, OFlags::PATH)?;
        call(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }
}
