//! Extended attributes and extents as system calls. Who asks is root: what others may is the kernel's to decide here.

use std::os::fd::AsRawFd;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, XattrFlags};
use rustix::io::Errno;
use verfs_testkit::model::Id;
use verfs_testkit::{Op, Target, Who, XATTR_NAMES};
use verfs_vfs::{Allocation, FileKind, SeekFor, XattrMode};

use crate::client::Client;
use crate::kernel::meet;

/// Most bytes of a value or of a list of names.
const XATTR_MAX_BYTES: usize = 64 << 10;

impl Client {
    /// Runs an operation on attributes or extents. Those on anything but a file or directory are left out: the kernel
    /// has rules of its own for them, which the tests with programs check beside ext4.
    pub(crate) fn run_extras(&mut self, what: &str, op: &Op) -> Result<(), String> {
        match op {
            Op::SetXattr { target, name, value, mode, .. } => {
                let Some(id) = self.file_or_directory(what, target)? else { return Ok(()) };
                let (name, value) = (XATTR_NAMES[*name as usize], value.bytes());
                let flags = match mode {
                    XattrMode::Set => XattrFlags::empty(),
                    XattrMode::Create => XattrFlags::CREATE,
                    XattrMode::Replace => XattrFlags::REPLACE,
                };
                if value.len() > XATTR_MAX_BYTES || !is_for_the_volume(name) {
                    return Ok(());
                }
                let done = self.through_path(target, id, |path| rustix::fs::setxattr(path, name, &value, flags));
                meet(what, &[], self.model.set_xattr(Who::ROOT, id, name, &value, *mode), done).map(|_| ())
            }
            Op::RemoveXattr { target, name } => {
                let Some(id) = self.file_or_directory(what, target)? else { return Ok(()) };
                let name = XATTR_NAMES[*name as usize];
                if !is_for_the_volume(name) {
                    return Ok(());
                }
                let done = self.through_path(target, id, |path| rustix::fs::removexattr(path, name));
                meet(what, &[], self.model.remove_xattr(id, name), done).map(|_| ())
            }
            Op::GetXattr { target, name } => {
                let Some(id) = self.file_or_directory(what, target)? else { return Ok(()) };
                let name = XATTR_NAMES[*name as usize];
                if !is_for_the_volume(name) {
                    return Ok(());
                }
                let mut value = vec![0; XATTR_MAX_BYTES];
                let found = self.through_path(target, id, |path| rustix::fs::getxattr(path, name, &mut value[..]));
                match meet(what, &[], self.model.get_xattr(id, name), found)? {
                    Some((expected, len)) if expected != value[..len] => {
                        Err(format!("{what}: {len} bytes of something else"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Op::ListXattr { target, .. } => {
                let Some(id) = self.file_or_directory(what, target)? else { return Ok(()) };
                let mut names = vec![0; XATTR_MAX_BYTES];
                let found = self.through_path(target, id, |path| rustix::fs::listxattr(path, &mut names[..]));
                let Some((expected, len)) = meet(what, &[], self.model.list_xattrs(Who::ROOT, id), found)? else {
                    return Ok(());
                };
                let expected: Vec<u8> = expected.into_iter().flat_map(|name| [name, vec![0]].concat()).collect();
                if expected == names[..len] { Ok(()) } else { Err(format!("{what}: {} names", names[..len].len())) }
            }
            Op::Allocate { target, offset, len, how, .. } => {
                let Some(id) = self.regular(what, target)? else { return Ok(()) };
                let flags = match how {
                    Allocation::Reserve => FallocateFlags::empty(),
                    Allocation::ReserveKeepSize => FallocateFlags::KEEP_SIZE,
                    Allocation::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    Allocation::Zero => FallocateFlags::ZERO_RANGE,
                    Allocation::ZeroKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                };
                if offset.checked_add(*len).is_none_or(|end| i64::try_from(end).is_err()) {
                    return Ok(());
                }
                let done = self
                    .open(target, id, OFlags::WRONLY)
                    .and_then(|file| rustix::fs::fallocate(&file, flags, *offset, *len));
                meet(what, &[], self.model.allocate(Who::ROOT, id, *offset, *len, *how), done).map(|_| ())
            }
            Op::Seek { target, offset, wanted } => {
                let Some(id) = self.regular(what, target)? else { return Ok(()) };
                if i64::try_from(*offset).is_err() {
                    return Ok(());
                }
                let to = match wanted {
                    SeekFor::Data => SeekFrom::Data(*offset),
                    SeekFor::Hole => SeekFrom::Hole(*offset),
                };
                let found = self.open(target, id, OFlags::RDONLY).and_then(|file| rustix::fs::seek(&file, to));
                let expected = self.model.seek(id, *offset);
                // That only a hole follows is an answer, too.
                let found = match found {
                    Err(Errno::NXIO) if expected.is_ok() => Ok(None),
                    found => found.map(Some),
                };
                let Some((content, found)) = meet(what, &[], expected, found)? else { return Ok(()) };
                let checked = match (wanted, found) {
                    (SeekFor::Data, found) => content.check_data(*offset, found),
                    (SeekFor::Hole, Some(found)) => content.check_hole(*offset, found),
                    (SeekFor::Hole, None) => Err("no hole, not even at the end".to_owned()),
                };
                checked.map_err(|difference| format!("{what}: {difference}"))
            }
            Op::Copy { from, from_offset, to, to_offset, len, .. } => {
                let Some(source) = self.regular(what, from)? else { return Ok(()) };
                let Some(target) = self.regular(what, to)? else { return Ok(()) };
                // The kernel answers these by itself.
                let size = self.model.node(source).map_or(0, |node| node.size());
                if *len == 0 || *from_offset >= size || i64::try_from(to_offset.saturating_add(*len)).is_err() {
                    return Ok(());
                }
                let (mut read, mut written) = (*from_offset, *to_offset);
                let done = self.open(from, source, OFlags::RDONLY).and_then(|source| {
                    let target = self.open(to, target, OFlags::WRONLY)?;
                    let len = usize::try_from(*len).unwrap_or(usize::MAX);
                    rustix::fs::copy_file_range(&source, Some(&mut read), &target, Some(&mut written), len)
                });
                let expected = self.model.copy_range(Who::ROOT, (source, *from_offset), (target, *to_offset), *len);
                match meet(what, &[], expected, done)? {
                    Some((expected, copied)) if expected != copied as u64 => {
                        Err(format!("{what}: expected {expected} bytes, {copied} were copied"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            // Flags are compared by the tests with programs (chattr, lsattr).
            _ => Ok(()),
        }
    }

    fn file_or_directory(&mut self, what: &str, target: &Target) -> Result<Option<Id>, String> {
        let id = self.resolve(what, target)?;
        Ok(id.filter(|id| matches!(self.model.kind(*id), Some(FileKind::Regular | FileKind::Directory))))
    }

    fn regular(&mut self, what: &str, target: &Target) -> Result<Option<Id>, String> {
        let id = self.resolve(what, target)?;
        Ok(id.filter(|id| self.model.kind(*id) == Some(FileKind::Regular)))
    }

    /// There are no calls for attributes below an open directory: the way leads through /proc.
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

/// Whether the kernel passes a name on as it is. Access control lists it takes apart itself, and some names it refuses.
fn is_for_the_volume(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted.", b"security."]
        .iter()
        .any(|prefix| name.starts_with(prefix) && name.len() > prefix.len())
        && name.len() <= 255
}
