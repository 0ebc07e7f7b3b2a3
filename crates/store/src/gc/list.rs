//! The list of a round, in memory and in `gc/.DISCARD`: which blocks of which packs no reference needed when it was made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use verfs_base::{Disk, DiskFile};
use verfs_format::DecodeError;
use verfs_format::discard::{
    DISCARD_HEADER_BYTES, DiscardCheckpoint, DiscardFrame, SYSTEM_DISCARD_CHECKPOINT, decode_discard_header,
    encode_discard_header,
};
use verfs_meta::{MetaError, MetaStore};

use crate::{Result, StoreError};

/// Longest file that is read: several times what a round writes.
const LIST_MAX_BYTES: u64 = 64 << 20;

/// Directory of the list.
fn list_dir() -> PathBuf {
    PathBuf::from("gc")
}

fn list_path() -> PathBuf {
    list_dir().join(".DISCARD")
}

fn draft_path() -> PathBuf {
    list_dir().join(".DISCARD.new")
}

/// The frames that are left of a round, each with the offset of its end, and how far it is.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) frames: Vec<(DiscardFrame, u64)>,
    /// `None` for a list that is only in memory, as the disk had no room for it.
    pub(crate) checkpoint: Option<DiscardCheckpoint>,
}

/// The committed checkpoint; that of no round if there is none.
pub(crate) fn load_checkpoint(meta: &dyn MetaStore) -> Result<DiscardCheckpoint> {
    match meta.get(SYSTEM_DISCARD_CHECKPOINT)? {
        None => Ok(DiscardCheckpoint::default()),
        Some(value) => Ok(DiscardCheckpoint::decode(&value)
            .map_err(|error| MetaError::Corrupt(format!("the checkpoint of garbage collection: {error}")))?),
    }
}

/// What is left of the last round's list. A list that is lost or damaged is made again by the next round: `None`.
pub(crate) fn load_list(disk: &dyn Disk, checkpoint: DiscardCheckpoint) -> Option<List> {
    if !checkpoint.is_open() {
        return None;
    }
    let read = read_list(disk, checkpoint.length);
    match read.and_then(|bytes| decode_list(&bytes, checkpoint).map_err(|error| error.to_string())) {
        Ok(frames) => Some(List { frames, checkpoint: Some(checkpoint) }),
        Err(reason) => {
            tracing::warn!(reason, "can't use the list of the last garbage collection; it is made again");
            None
        }
    }
}

/// Whether a list that a checkpoint speaks of is there and whole.
pub(crate) fn is_list_readable(disk: &dyn Disk, checkpoint: DiscardCheckpoint) -> bool {
    read_list(disk, checkpoint.length).is_ok_and(|bytes| decode_list(&bytes, checkpoint).is_ok())
}

fn read_list(disk: &dyn Disk, length: u64) -> std::result::Result<Vec<u8>, String> {
    if length > LIST_MAX_BYTES {
        return Err(format!("{length} bytes are too many"));
    }
    let read = || {
        let mut bytes = vec![0; length as usize];
        disk.open_read(&list_path())?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().map_err(|error: std::io::Error| error.to_string())
}

fn decode_list(
    bytes: &[u8],
    checkpoint: DiscardCheckpoint,
) -> std::result::Result<Vec<(DiscardFrame, u64)>, DecodeError> {
    if decode_discard_header(bytes)? != checkpoint.round {
        return Err(DecodeError::Invalid("discard round"));
    }
    let mut frames = Vec::new();
    let mut at = DISCARD_HEADER_BYTES;
    while at < bytes.len() {
        let (frame, len) = DiscardFrame::decode(checkpoint.round, &bytes[at..])?;
        at += len;
        if at as u64 > checkpoint.done {
            frames.push((frame, at as u64));
        }
    }
    Ok(frames)
}

/// Puts a round's list in the place of the last one, durably.
///
/// # Errors
/// The disk's; the last list or this one is there.
pub(crate) fn store_list(disk: &dyn Disk, round: u64, frames: Vec<DiscardFrame>) -> Result<List> {
    let mut checkpoint = DiscardCheckpoint { round, packs: frames.len() as u64, ..DiscardCheckpoint::default() };
    let mut bytes = encode_discard_header(round).to_vec();
    checkpoint.done = bytes.len() as u64;
    let frames: Vec<(DiscardFrame, u64)> = frames
        .into_iter()
        .map(|frame| {
            frame.encode(round, &mut bytes);
            checkpoint.ids += frame.chunks.len() as u64;
            checkpoint.dead_bytes += frame.dead_bytes;
            (frame, bytes.len() as u64)
        })
        .collect();
    checkpoint.length = bytes.len() as u64;
    let (dir, draft) = (list_dir(), draft_path());
    let about = |action: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |error: std::io::Error| StoreError::of_disk(action, &path, &error)
    };
    disk.create_dir_all(&dir).map_err(about("create the directory", &dir))?;
    // Left by a crash.
    remove_draft(disk);
    let write = || -> Result<()> {
        let file: Arc<dyn DiskFile> = disk.create(&draft).map_err(about("create", &draft))?;
        file.write_all_at(&bytes, 0).map_err(about("write", &draft))?;
        file.sync_data().map_err(about("sync", &draft))?;
        disk.rename(&draft, &list_path()).map_err(about("rename", &draft))?;
        disk.sync_dir(&dir).map_err(about("sync the directory", &dir))?;
        disk.sync_dir(Path::new("")).map_err(about("sync the directory", Path::new("")))
    };
    match write() {
        Ok(()) => Ok(List { frames, checkpoint: Some(checkpoint) }),
        // The list is a hint, and what it leads to makes room: it is needed most when there is none for it.
        Err(StoreError::OutOfSpace) => {
            remove_draft(disk);
            Ok(List { frames, checkpoint: None })
        }
        Err(error) => {
            remove_draft(disk);
            Err(error)
        }
    }
}

fn remove_draft(disk: &dyn Disk) {
    match disk.remove(&draft_path()) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(%error, "can't remove the draft of a list"),
    }
}
