//! Operations on the extents of files as system calls. Who asks is root.

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use verfs_testkit::model::Id;
use verfs_testkit::{Target, Who};
use verfs_vfs::{Allocation, FileKind, SeekFor};

use crate::client::Client;
use crate::kernel::meet;

impl Client {
    pub(crate) fn allocate(
        &mut self,
        what: &str,
        target: &Target,
        (offset, len): (u64, u64),
        how: Allocation,
    ) -> Result<(), String> {
        let Some(id) = self.regular(what, target)? else { return Ok(()) };
        let flags = match how {
            Allocation::Reserve => FallocateFlags::empty(),
            Allocation::ReserveKeepSize => FallocateFlags::KEEP_SIZE,
            Allocation::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Allocation::Zero => FallocateFlags::ZERO_RANGE,
            Allocation::ZeroKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        };
        if offset.checked_add(len).is_none_or(|end| i64::try_from(end).is_err()) {
            return Ok(());
        }
        let done =
            self.open(target, id, OFlags::WRONLY).and_then(|file| rustix::fs::fallocate(&file, flags, offset, len));
        meet(what, &[], self.model.allocate(Who::ROOT, id, offset, len, how), done).map(|_| ())
    }

    pub(crate) fn seek(&mut self, what: &str, target: &Target, offset: u64, wanted: SeekFor) -> Result<(), String> {
        let Some(id) = self.regular(what, target)? else { return Ok(()) };
        if i64::try_from(offset).is_err() {
            return Ok(());
        }
        let to = match wanted {
            SeekFor::Data => SeekFrom::Data(offset),
            SeekFor::Hole => SeekFrom::Hole(offset),
        };
        let found = self.open(target, id, OFlags::RDONLY).and_then(|file| rustix::fs::seek(&file, to));
        let expected = self.model.seek(id, offset);
        // That only a hole follows is an answer, too.
        let found = match found {
            Err(Errno::NXIO) if expected.is_ok() => Ok(None),
            found => found.map(Some),
        };
        let Some((content, found)) = meet(what, &[], expected, found)? else { return Ok(()) };
        let checked = match (wanted, found) {
            (SeekFor::Data, found) => content.check_data(offset, found),
            (SeekFor::Hole, Some(found)) => content.check_hole(offset, found),
            (SeekFor::Hole, None) => Err("no hole, not even at the end".to_owned()),
        };
        checked.map_err(|difference| format!("{what}: {difference}"))
    }

    pub(crate) fn copy(
        &mut self,
        what: &str,
        (from, from_offset): (&Target, u64),
        (to, to_offset): (&Target, u64),
        len: u64,
    ) -> Result<(), String> {
        let Some(source) = self.regular(what, from)? else { return Ok(()) };
        let Some(target) = self.regular(what, to)? else { return Ok(()) };
        // The kernel answers these by itself.
        let size = self.model.node(source).map_or(0, |node| node.size());
        if len == 0 || from_offset >= size || i64::try_from(to_offset.saturating_add(len)).is_err() {
            return Ok(());
        }
        let (mut read, mut written) = (from_offset, to_offset);
        let done = self.open(from, source, OFlags::RDONLY).and_then(|source| {
            let target = self.open(to, target, OFlags::WRONLY)?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            rustix::fs::copy_file_range(&source, Some(&mut read), &target, Some(&mut written), len)
        });
        let expected = self.model.copy_range(Who::ROOT, (source, from_offset), (target, to_offset), len);
        match meet(what, &[], expected, done)? {
            Some((expected, copied)) if expected != copied as u64 => {
                Err(format!("{what}: expected {expected} bytes, {copied} were copied"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn regular(&mut self, what: &str, target: &Target) -> Result<Option<Id>, String> {
        let id = self.resolve(what, target)?;
        Ok(id.filter(|id| self.model.kind(*id) == Some(FileKind::Regular)))
    }
}
