//! The intent log: what of it will be replayed.
//!
//! That a whole frame is behind a damaged one is no finding: a power cut in a write of several frames leaves the same.

use verfs_base::{Disk, GroupId};
use verfs_format::{DecodeError, FrameHeader, LogEntry};
use verfs_meta::MetaView;

use crate::recovery::read_frames;

/// Reads one frame.
pub type ReadFrame<'a> = dyn Fn(&[u8]) -> Result<(FrameHeader, Vec<LogEntry>), DecodeError> + 'a;

/// Looks at both log files. Returns how many frames the next open will replay. Memory: one file, 16 MiB.
///
/// # Errors
/// What the metadata engine says.
pub fn check_log(disk: &dyn Disk, view: &dyn MetaView, read: &ReadFrame<'_>) -> verfs_store::Result<u64> {
    let group = view.get(verfs_format::keys::SYSTEM_GROUP)?;
    let group = group.and_then(|value| verfs_format::varint::Reader::new(&value).u64().ok());
    let committed = GroupId(group.unwrap_or(0));
    let mut pending = 0;
    for parity in 0..2 {
        // One that is missing is made by the next open.
        let Ok((frames, _)) = read_frames(disk, parity, read) else { continue };
        pending += frames.iter().filter(|(header, _)| header.group > committed).count() as u64;
    }
    Ok(pending)
}
