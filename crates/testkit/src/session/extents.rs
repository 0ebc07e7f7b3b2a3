//! Where files have data.

use std::sync::Arc;

use verfs_vfs::{Pin, SeekFor, VfsError};

use super::step::Both;
use super::{Session, Stop, demand, meet};
use crate::content::Content;
use crate::model::{Answer, Id, Who};
use crate::op::Target;

/// Where the search that a file's end or a last hole ends is no failure.
fn found(answer: verfs_vfs::Result<u64>) -> verfs_vfs::Result<Option<u64>> {
    match answer {
        Ok(at) => Ok(Some(at)),
        Err(VfsError::NoSuchOffset) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Holds a search from `offset` on, which lies in the file, against its content.
fn check_search(content: &Content, offset: u64, wanted: SeekFor, found: Option<u64>) -> Result<(), String> {
    match (wanted, found) {
        (SeekFor::Data, found) => content.check_data(offset, found),
        (SeekFor::Hole, Some(found)) => content.check_hole(offset, found),
        (SeekFor::Hole, None) => Err(format!("no hole from {offset} on, not even at the end")),
    }
}

/// Walks over all data and holes of a file. The outer error is the volume's.
pub(crate) fn walk_extents(
    seek: impl Fn(u64, SeekFor) -> verfs_vfs::Result<u64>,
    content: &Content,
) -> verfs_vfs::Result<Result<(), String>> {
    let mut at = 0;
    let mut wanted = SeekFor::Data;
    while at < content.size() {
        let next = found(seek(at, wanted))?;
        if let Err(difference) = check_search(content, at, wanted, next) {
            return Ok(Err(difference));
        }
        at = next.unwrap_or(content.size());
        wanted = if wanted == SeekFor::Data { SeekFor::Hole } else { SeekFor::Data };
    }
    Ok(Ok(()))
}

impl Session {
    pub(super) fn seek(&mut self, what: &str, target: &Target, offset: u64, wanted: SeekFor) -> Result<(), Stop> {
        let Some(Both { id, ino }) = self.resolve(what, target)? else { return Ok(()) };
        let answer = self.ask(Who::ROOT, Pin::No, |context| self.vfs.seek(context, ino, offset, wanted));
        let expected: Answer<Arc<Content>> = self.model.seek(id, offset);
        let answer = if expected.is_ok() { found(answer) } else { answer.map(Some) };
        let Some((content, found)) = meet(what, expected, answer)? else { return Ok(()) };
        check_search(&content, offset, wanted, found)
            .map_err(|difference| Stop::Diverged(format!("{what}: {difference}; {content}")))
    }

    pub(super) fn copy(
        &mut self,
        what: &str,
        from: (&Target, u64),
        to: (&Target, u64),
        len: u64,
        who: Who,
    ) -> Result<(), Stop> {
        let Some(source) = self.resolve(what, from.0)? else { return Ok(()) };
        let Some(target) = self.resolve(what, to.0)? else { return Ok(()) };
        let done = self
            .ask(who, Pin::No, |context| self.vfs.copy_range(context, (source.ino, from.1), (target.ino, to.1), len));
        let expected = self.model.copy_range(who, (source.id, from.1), (target.id, to.1), len);
        match meet(what, expected, done)? {
            Some((expected, (copied, _))) if expected != copied => {
                Err(Stop::Diverged(format!("{what}: expected {expected} bytes, {copied} were copied")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Compares data and holes of a file.
    pub(super) fn compare_extents(&self, what: &str, id: Id, content: &Content) -> Result<(), Stop> {
        let ino = self.ino(id)?;
        let walked = self.ask(Who::ROOT, Pin::No, |context| {
            walk_extents(|at, wanted| self.vfs.seek(context, ino, at, wanted), content)
        });
        demand(what, walked)?.map_err(|difference| Stop::Diverged(format!("{what}: {difference}; {content}")))
    }
}
