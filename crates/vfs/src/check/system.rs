//! The numbers of a tree as a whole, its snapshots, and what was under way in it.

use std::ops::ControlFlow;

use verfs_base::{Epoch, GroupId, Ino};
use verfs_format::{DecodeError, SnapshotRecord, StreamFrame, keys, varint};
use verfs_meta::{Direction, KeyRange};
use verfs_store::{Findings, Mend};

use super::{Result, System, TreeCheck};
use crate::commit::put_system;
use crate::recovery::newest_frame;
use crate::stream::SpoolReader;

impl TreeCheck<'_> {
    fn number(&self, key: &[u8]) -> Result<Option<std::result::Result<u64, DecodeError>>> {
        Ok(self.view.get(key)?.map(|value| varint::Reader::new(&value).u64()))
    }

    /// The numbers that everything else is held against; `None` for a tree that was never opened.
    pub(super) fn system(&self, findings: &mut Findings) -> Result<Option<System>> {
        let group = self.number(keys::SYSTEM_GROUP)?;
        if group.is_none() && self.view.get(&keys::inode(Ino::ROOT))?.is_none() {
            return Ok(None);
        }
        let snapshots = self.snapshots(findings)?;
        let newest = snapshots.last().map_or(0, |(id, _)| id.0);
        let group = match group {
            Some(Ok(group)) => GroupId(group),
            found => self.last_group(&format!("{found:?}"), findings)?,
        };
        let mut number = |key: &'static [u8], name: &str, least: u64| -> Result<u64> {
            Ok(match self.number(key)? {
                Some(Ok(number)) if number >= least => number,
                None if least <= 1 => least,
                found => {
                    let detail = format!("it says {found:?}, and is at least {least}");
                    findings.records("system-number", name, detail, |batch| put_system(batch, key, least));
                    least
                }
            })
        };
        let epoch = Epoch(number(keys::SYSTEM_EPOCH, "epoch", if newest == 0 { 1 } else { newest + 1 })?);
        let next_number = number(keys::SYSTEM_NEXT_NUMBER, "next inode number", Ino::ROOT.0 + 1)?;
        self.rollback(&snapshots, findings)?;
        self.receive(findings)?;
        Ok(Some(System { group, epoch, next_number, snapshots }))
    }

    fn snapshots(&self, findings: &mut Findings) -> Result<Vec<(Epoch, Option<SnapshotRecord>)>> {
        let mut snapshots = Vec::new();
        let mut damaged = Vec::new();
        self.view.scan(&KeyRange::prefix(&[keys::SNAPSHOT]), Direction::Forward, &mut |key, value| {
            if let Some(id) = keys::parse_snapshot(key) {
                match SnapshotRecord::decode(value) {
                    Ok(record) => snapshots.push((id, Some(record))),
                    Err(error) => {
                        damaged.push((id, error));
                        snapshots.push((id, None));
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        for (id, error) in damaged {
            let detail = format!("its record can't be decoded ({error}): it goes by the name damaged-{}", id.0);
            findings.left("snapshot-record", format!("snapshot {}", id.0), detail);
        }
        Ok(snapshots)
    }

    /// A number for the last committed group, which can't be read: one behind all that are in use. Which frames of the log
    /// are in the records already nobody can tell, and of older ones a file would get its content of then.
    fn last_group(&self, found: &str, findings: &mut Findings) -> Result<GroupId> {
        let mut last = 0;
        for prefix in [keys::CHANGES, keys::DEAD] {
            self.view.scan(&KeyRange::prefix(&[prefix]), Direction::Forward, &mut |key, _| {
                last = last.max(keys::parse_group(key).map_or(0, |group| group.0));
                ControlFlow::Continue(())
            })?;
        }
        if newest_frame(self.packs.disk).is_ok_and(|frame| frame.is_some()) {
            let detail = "which of its changes are committed can't be told: it is kept in damaged/";
            findings.mendable("log-unplaced", "log", detail, Mend::Log);
        }
        let detail = format!("it says {found}, and others have groups up to {last}");
        findings.records("system-number", "number of the last group", detail, |batch| {
            put_system(batch, keys::SYSTEM_GROUP, last);
        });
        Ok(GroupId(last))
    }

    /// A rollback that is to be completed, and can't be: the tree stays as it is.
    fn rollback(&self, snapshots: &[(Epoch, Option<SnapshotRecord>)], findings: &mut Findings) -> Result<()> {
        let detail = match self.number(keys::SYSTEM_ROLLBACK)? {
            None => return Ok(()),
            Some(Ok(to)) if snapshots.iter().any(|(id, _)| id.0 == to) => return Ok(()),
            Some(Ok(to)) => format!("snapshot {to} is not there; the tree stays as it is, between two states"),
            Some(Err(error)) => format!("it can't be decoded ({error}); the tree stays as it is, between two states"),
        };
        findings.records("rollback-intent", "rollback under way", detail, |batch| batch.delete(keys::SYSTEM_ROLLBACK));
        Ok(())
    }

    /// A stream that was applied in part, and of which the rest is lost.
    fn receive(&self, findings: &mut Findings) -> Result<()> {
        let Some(stream) = self.view.get(keys::SYSTEM_RECEIVE)? else { return Ok(()) };
        let read = || {
            let stream: [u8; 16] = stream[..].try_into().map_err(|_| "its id can't be decoded".to_owned())?;
            let mut spool = SpoolReader::open(self.packs.disk, stream).map_err(|error| error.to_string())?;
            while !matches!(spool.next().map_err(|error| error.to_string())?, StreamFrame::End(_)) {}
            Ok(())
        };
        if let Err(error) = read() {
            let error: String = error;
            let detail = format!("{error}; the tree stays as it is, between two states");
            findings.records("receive-intent", "stream under way", detail, |batch| batch.delete(keys::SYSTEM_RECEIVE));
        }
        Ok(())
    }
}
