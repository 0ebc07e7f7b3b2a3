//! Sealing a pack, and its index file.

use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use verfs_base::{Disk, DiskFile, PackId};

use crate::layout::{index_draft_path, index_path, pack_dir, pack_path};
use crate::{IndexEntry, IndexTable, PackError, Result};

/// Longest index file that is read: of four times as many blocks as any pack has.
const INDEX_MAX_BYTES: u64 = 6 << 20;

/// Cuts the pack to `pack_len`, makes it durable and then writes its index. Until this returns `Ok` the pack counts as
/// unsealed; calling it again is no error.
///
/// # Errors
/// [`PackError`].
pub fn seal_pack(
    disk: &dyn Disk,
    pack: PackId,
    file: &dyn DiskFile,
    pack_len: u64,
    entries: &[IndexEntry],
) -> Result<IndexTable> {
    let path = pack_path(pack);
    file.set_len(pack_len).map_err(PackError::of_disk("cut", &path))?;
    file.sync_data().map_err(PackError::of_disk("sync", &path))?;
    let table = IndexTable::build(pack, pack_len, entries);
    store_index(disk, &table)?;
    Ok(table)
}

/// Writes an index in the place of the old one, if there is one, atomically and durably.
///
/// # Errors
/// [`PackError`]; the old index is untouched or the new one is there.
pub fn store_index(disk: &dyn Disk, table: &IndexTable) -> Result<()> {
    let (dir, path, draft) = (pack_dir(table.pack()), index_path(table.pack()), index_draft_path(table.pack()));
    remove_if_there(disk, &draft)?;
    let file = disk.create(&draft).map_err(PackError::of_disk("create", &draft))?;
    let written = file.write_all_at(table.as_bytes(), 0).map_err(PackError::of_disk("write", &draft));
    if let Err(error) = written.and_then(|()| file.sync_data().map_err(PackError::of_disk("sync", &draft))) {
        // Gives the room back; the next attempt removes it otherwise.
        let _ = disk.remove(&draft);
        return Err(error);
    }
    disk.rename(&draft, &path).map_err(PackError::of_disk("rename", &draft))?;
    disk.sync_dir(&dir).map_err(PackError::of_disk("sync", &dir))
}

/// Reads a pack's index; `None` when there is none.
///
/// # Errors
/// [`PackError::Damaged`] for an index that is not what was written or belongs to another pack, or what the disk says.
pub fn load_index(disk: &dyn Disk, pack: PackId) -> Result<Option<IndexTable>> {
    let path = index_path(pack);
    let file = match disk.open_read(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PackError::of_disk("open", &path)(error)),
    };
    let damaged = |detail: String| PackError::Damaged { pack, detail: format!("index: {detail}") };
    let len = file.len().map_err(PackError::of_disk("read", &path))?;
    if len > INDEX_MAX_BYTES {
        return Err(damaged(format!("{len} bytes are too many")));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(PackError::of_disk("read", &path))?;
    let table = IndexTable::decode(Bytes::from(bytes)).map_err(|error| damaged(error.to_string()))?;
    if table.pack() != pack {
        return Err(damaged(format!("it belongs to pack {}", table.pack())));
    }
    Ok(Some(table))
}

/// Removes a pack that holds nothing committed, with its index. The pack goes before the index: then a reader that is
/// rebuilding the index meanwhile sees at its end that nobody wants it (see [`crate::SealedPacks::index`]).
///
/// # Errors
/// [`PackError`]; calling it again removes what is left.
pub fn remove_pack(disk: &dyn Disk, pack: PackId) -> Result<()> {
    for path in [index_draft_path(pack), pack_path(pack), index_path(pack)] {
        remove_if_there(disk, &path)?;
    }
    Ok(())
}

/// Removes an index whose pack is not there.
pub(crate) fn remove_lone_index(disk: &dyn Disk, pack: PackId) -> Result<()> {
    match disk.open_read(&pack_path(pack)) {
        Err(error) if error.kind() == ErrorKind::NotFound => remove_if_there(disk, &index_path(pack)),
        // A pack that can't be opened now is there all the same.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(PackError::of_disk("remove", path)(error)),
    }
}
