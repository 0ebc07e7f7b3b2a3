//! The metadata of a damaged volume, in as good a state as it can be brought to: on a copy, by one way after the other.
//!
//! Lives here: the order of the ways. Never here: the copy itself (`recovery`), and how records are mended (`fsck`).
//!
//! 1. It is opened and mended, as a repair would.
//! 2. The engine refuses its files: what its log has behind the damage is given up, and what is left is mended.
//! 3. The engine opens, and a part of its files can't be read: nothing is mended, and what needs that part is an error.
//! 4. The engine refuses its files, or what an open needs can't be read: metadata that know nothing take their place, and the data are in lost+found,
//!    without their names.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use verfs_base::{Clock, Ino};
use verfs_format::chunk_record::PACK;
use verfs_format::discard::REMOVED_PACK;
use verfs_format::keys;
use verfs_format::superblock::Superblock;
use verfs_meta::{Direction, EngineOptions, KeyRange, MetaError, MetaStore, Standing, WitnessedStore};

use crate::fsck::mend_copy;
use crate::recovery::Scratch;
use crate::volume::{META_DIRECTORY, close_meta, kinds};
use crate::{EngineError, records};

/// Opens the copy in `scratch`.
///
/// # Errors
/// What the disk of the copy says.
pub(crate) fn open_copy(
    path: &Path,
    superblock: &Superblock,
    scratch: &Scratch,
    options: &EngineOptions,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<WitnessedStore>, EngineError> {
    let (at, disk) = (scratch.path(META_DIRECTORY), scratch.disk(""));
    let engine = verfs_meta::engine_of_files(&at).unwrap_or(kinds(path, superblock)?.0);
    let about = |error: &MetaError| EngineError::from_meta(path, error);
    verfs_meta::name_again(engine, &at).map_err(|error| about(&error))?;
    for open in [verfs_meta::open, verfs_meta::salvage] {
        let opened = open(engine, &at, options).and_then(|meta| records::witnessed(meta, &disk, clock));
        let meta = match opened {
            Ok(meta) => meta,
            Err(error @ (MetaError::OutOfSpace(_) | MetaError::OutOfFiles(_) | MetaError::Closed)) => {
                return Err(about(&error));
            }
            Err(error @ (MetaError::Corrupt(_) | MetaError::Io(_) | MetaError::Unsupported(_))) => {
                tracing::error!(%error, "read-only recovery: the metadata engine refuses its files");
                continue;
            }
        };
        match mend_copy(path, superblock, &meta, scratch) {
            Ok(()) => return Ok(meta),
            Err(EngineError::Damaged { detail, .. }) if probe(&*meta).is_ok() => {
                tracing::error!(detail, "read-only recovery: a part of the metadata can't be read; nothing is mended");
                if matches!(meta.standing(), Standing::Older { .. }) {
                    records::put_log_aside(&*disk).map_err(|error| EngineError::from_io(&at, &error))?;
                }
                return Ok(meta);
            }
            Err(EngineError::Damaged { detail, .. }) => {
                tracing::error!(detail, "read-only recovery: the metadata can't be read");
                close_meta(&*meta);
            }
            Err(error) => {
                close_meta(&*meta);
                return Err(error);
            }
        }
    }
    tracing::error!("read-only recovery goes without metadata: the data are in lost+found, without their names");
    scratch.clear(META_DIRECTORY)?;
    let meta = records::open(engine, &at, options, &disk, clock).map_err(|error| about(&error))?;
    match mend_copy(path, superblock, &meta, scratch) {
        Ok(()) => Ok(meta),
        Err(error) => {
            close_meta(&*meta);
            Err(error)
        }
    }
}

/// Reads everything that an open reads: what concerns the volume as a whole, and the root.
pub(crate) fn probe(meta: &dyn MetaStore) -> Result<(), MetaError> {
    for prefix in [b'S', keys::ORPHAN, keys::SNAPSHOT, PACK, REMOVED_PACK] {
        let range = KeyRange::prefix(&[prefix]);
        meta.scan(&range, Direction::Forward, &mut |_, _| ControlFlow::Continue(()))?;
    }
    match meta.get(&keys::inode(Ino::ROOT))? {
        Some(_) => Ok(()),
        None => Err(MetaError::Corrupt("there is no root".to_owned())),
    }
}
