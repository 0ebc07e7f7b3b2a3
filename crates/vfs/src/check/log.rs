//! The intent log: what of it will be replayed, and whether something is behind a damaged frame.

use verfs_base::{Disk, GroupId};
use verfs_format::{DecodeError, FrameHeader, HEADER_BYTES, LogEntry, MAGIC};
use verfs_meta::MetaView;
use verfs_store::Findings;

use crate::intent_log::log_path;
use crate::recovery::read_frames;

/// Bytes that are searched at once.
const STEP_BYTES: usize = 4096;

/// Reads one frame.
pub type ReadFrame<'a> = dyn Fn(&[u8]) -> Result<(FrameHeader, Vec<LogEntry>), DecodeError> + 'a;

/// Looks at both log files. Returns how many frames the next open will replay. Memory: one file, 16 MiB.
///
/// # Errors
/// What the metadata engine says.
pub fn check_log(
    disk: &dyn Disk,
    view: &dyn MetaView,
    read: &ReadFrame<'_>,
    findings: &mut Findings,
) -> verfs_store::Result<u64> {
    let group = view.get(verfs_format::keys::SYSTEM_GROUP)?;
    let group = group.and_then(|value| verfs_format::varint::Reader::new(&value).u64().ok());
    let committed = GroupId(group.unwrap_or(0));
    let mut pending = 0;
    for parity in 0..2 {
        // One that is missing is made by the next open.
        let Ok((frames, end)) = read_frames(disk, parity, read) else { continue };
        let ours = |header: &FrameHeader| header.group > committed;
        pending += frames.iter().filter(|(header, _)| ours(header)).count() as u64;
        let last = frames.last().map(|(header, _)| (header.group, header.sequence));
        let behind = behind(disk, parity, end, read).unwrap_or_default();
        // Older groups leave frames behind the newest ones.
        let lost = behind.iter().filter(|header| {
            ours(header) && last.is_none_or(|(group, sequence)| header.group >= group && header.sequence > sequence)
        });
        let lost = lost.count();
        if lost > 0 {
            let place = log_path(parity).display().to_string();
            let detail = format!("{lost} frames are behind a damaged one: what was synced by them may be lost");
            findings.left("log-gap", place, detail);
        }
    }
    Ok(pending)
}

/// Headers of whole frames from `start` on.
fn behind(disk: &dyn Disk, parity: u64, start: u64, read: &ReadFrame<'_>) -> std::io::Result<Vec<FrameHeader>> {
    let file = disk.open_read(&log_path(parity))?;
    let mut bytes = vec![0; file.len()?.saturating_sub(start) as usize];
    file.read_exact_at(&mut bytes, start)?;
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEADER_BYTES <= bytes.len() {
        let rest = &bytes[at..];
        // Most of a log is zeros, and no frame begins with one.
        if rest.starts_with(&[0; STEP_BYTES]) {
            at += STEP_BYTES;
            continue;
        }
        let near = &rest[..rest.len().min(STEP_BYTES + MAGIC.len() - 1)];
        let Some(next) = near.windows(MAGIC.len()).position(|window| window == MAGIC) else {
            at += STEP_BYTES;
            continue;
        };
        at += next;
        let frame = FrameHeader::decode(&bytes[at..]).ok().and_then(|header| {
            let frame = bytes.get(at..at + header.frame_bytes())?;
            read(frame).ok().map(|(header, _)| header)
        });
        at += frame.map_or(1, |header| header.frame_bytes());
        found.extend(frame);
    }
    Ok(found)
}
