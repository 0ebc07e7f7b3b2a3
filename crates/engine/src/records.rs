//! The metadata of a volume, as far as it may be trusted: whether it is there, and whether it is the newest.
//!
//! Lives here: how it is opened, what a normal open refuses, and what is put aside before older metadata is mended. Never
//! here: what is in it. Data flows from the engine through its witness to whoever opens or checks a volume.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use verfs_base::{Clock, Disk};
use verfs_format::keys;
use verfs_format::vault::VAULT_DIRECTORY;
use verfs_meta::{EngineKind, EngineOptions, MetaError, MetaStore, Standing, WitnessedStore};
use verfs_store::Leftovers;

use crate::EngineError;

/// Directory of the packs.
const PACKS_DIRECTORY: &str = "packs";
/// Directory of the engine's own files, in that of the metadata.
const STORE_DIRECTORY: &str = "store";
/// Where a repair keeps what can't be placed.
pub(crate) const DAMAGED_DIRECTORY: &str = "damaged";
/// Names of the files of an intent log.
const LOG_FILES: [&str; 2] = ["intent-0.vlog", "intent-1.vlog"];
/// Bytes that are copied at once.
const COPY_STEP_BYTES: usize = 1 << 20;

/// Whether the engine has written nothing in `meta`.
pub(crate) fn is_absent(meta: &Path) -> bool {
    !std::fs::read_dir(meta.join(STORE_DIRECTORY)).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether there are packs.
fn has_packs(disk: &dyn Disk) -> io::Result<bool> {
    for root in [PathBuf::from(PACKS_DIRECTORY), Path::new(VAULT_DIRECTORY).join(PACKS_DIRECTORY)] {
        for directory in disk.list(&root)? {
            let is_pack = |name: &PathBuf| name.extension().is_some_and(|kind| kind == "vpk");
            if disk.list(&root.join(directory))?.iter().any(is_pack) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether the volume had metadata: packs are made after it, and the witness tells of it.
pub(crate) fn was_used(path: &Path, disk: &dyn Disk) -> Result<bool, EngineError> {
    Ok(WitnessedStore::is_witnessed(disk) || has_packs(disk).map_err(|error| EngineError::from_io(path, &error))?)
}

/// Opens the metadata in `at`, or makes it.
pub(crate) fn open(
    engine: EngineKind,
    at: &Path,
    options: &EngineOptions,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<WitnessedStore>, MetaError> {
    witnessed(verfs_meta::open(engine, at, options)?, disk, clock)
}

/// Puts its witness beside an open store.
pub(crate) fn witnessed(
    meta: Arc<dyn MetaStore>,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<WitnessedStore>, MetaError> {
    match WitnessedStore::open(Arc::clone(&meta), Arc::clone(disk), Arc::clone(clock)) {
        Ok(witnessed) => Ok(Arc::new(witnessed)),
        Err(error) => {
            crate::volume::close_meta(&*meta);
            Err(error)
        }
    }
}

/// Whether there is nothing in it although the volume was used.
pub(crate) fn is_lost(path: &Path, meta: &dyn MetaStore, disk: &dyn Disk) -> Result<bool, EngineError> {
    let group = meta.get(keys::SYSTEM_GROUP).map_err(|error| EngineError::from_meta(path, &error))?;
    let root = || meta.get(&keys::inode(verfs_base::Ino::ROOT)).map_err(|error| EngineError::from_meta(path, &error));
    Ok(group.is_none() && root()?.is_none() && was_used(path, disk)?)
}

/// What a normal open says to metadata that isn't the newest.
pub(crate) fn refuse_older(path: &Path, meta: &WitnessedStore, disk: &dyn Disk) -> Result<(), EngineError> {
    if is_lost(path, meta, disk)? {
        return Err(EngineError::MetadataMissing { path: path.to_path_buf() });
    }
    match meta.standing() {
        Standing::Older { last, witnessed } => {
            let detail = format!("its last batch is {last}, and {witnessed} was durable");
            Err(EngineError::MetadataOlder { path: path.to_path_buf(), detail })
        }
        Standing::Newest | Standing::Unwitnessed => Ok(()),
    }
}

/// What becomes of packs that it doesn't know.
pub(crate) fn leftovers(meta: &WitnessedStore) -> Leftovers {
    match meta.standing() {
        Standing::Newest => Leftovers::Remove,
        Standing::Unwitnessed | Standing::Older { .. } => Leftovers::Keep,
    }
}

/// A name in `damaged/` that nothing has.
fn free_name(disk: &dyn Disk, name: &str) -> io::Result<PathBuf> {
    let directory = Path::new(DAMAGED_DIRECTORY);
    let taken = disk.list(directory)?;
    let mut number = 0;
    loop {
        let candidate = PathBuf::from(format!("{name}.{number}"));
        if !taken.contains(&candidate) {
            return Ok(directory.join(candidate));
        }
        number += 1;
    }
}

/// Puts the intent log aside: what it has was made of newer metadata, and would make mixed files of older one.
pub(crate) fn put_log_aside(disk: &dyn Disk) -> io::Result<()> {
    let (log, damaged) = (Path::new("log"), Path::new(DAMAGED_DIRECTORY));
    for name in LOG_FILES {
        match disk.open_read(&log.join(name)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        disk.create_dir_all(damaged)?;
        disk.sync_dir(Path::new(""))?;
        disk.rename(&log.join(name), &free_name(disk, name)?)?;
        disk.sync_dir(damaged)?;
        disk.sync_dir(log)?;
    }
    Ok(())
}

/// Keeps a copy of a file in `damaged/`, unless there is one of this name and length.
pub(crate) fn keep_copy(disk: &dyn Disk, file: &Path) -> io::Result<()> {
    let Some(name) = file.file_name() else { return Ok(()) };
    let (to, draft) = (Path::new(DAMAGED_DIRECTORY).join(name), Path::new(DAMAGED_DIRECTORY).join("draft"));
    let from = disk.open_read(file)?;
    let len = from.len()?;
    if disk.open_read(&to).and_then(|there| there.len()).is_ok_and(|there| there == len) {
        return Ok(());
    }
    disk.create_dir_all(Path::new(DAMAGED_DIRECTORY))?;
    match disk.remove(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let copy = disk.create(&draft)?;
    let (mut buffer, mut at) = (vec![0; COPY_STEP_BYTES], 0);
    while at < len {
        let read = from.read_at(&mut buffer, at)?;
        if read == 0 {
            break;
        }
        copy.write_all_at(buffer.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
    copy.sync_data()?;
    disk.rename(&draft, &to)?;
    disk.sync_dir(Path::new(DAMAGED_DIRECTORY))?;
    disk.sync_dir(Path::new(""))
}
