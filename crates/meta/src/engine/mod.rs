//! The engines behind [`crate::MetaStore`]: which one a directory belongs to, and what they share.
//!
//! ```text
//! DIR/ENGINE   name of the engine, one line; written first, so that no engine is opened on another's files
//! DIR/store/   the engine's own files
//! DIR/synced   fjall only: highest batch number known to be durable
//! ```

mod batch_numbers;
mod fjall;
mod fjall_files;
mod format_version;
pub(crate) mod memory;
mod surrealkv;

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use verfs_base::is_out_of_descriptors;

use crate::{MetaError, MetaStore, Result};

/// File that names the engine of a directory.
const ENGINE_FILE: &str = "ENGINE";
/// Directory of the engine's own files.
const STORE_DIR: &str = "store";

/// The engines that keep a volume's metadata; docs/decisions/0003-metadata-engines.md has what was measured of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum EngineKind {
    /// surrealkv, the default: the fastest at loads, and goes on after a full disk has room again.
    #[default]
    Surrealkv,
    /// fjall, the way out should the other one fail a user.
    Fjall,
}

impl EngineKind {
    /// Every kind.
    pub const ALL: [EngineKind; 2] = [EngineKind::Surrealkv, EngineKind::Fjall];

    /// The name in config files and in the directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Surrealkv => "surrealkv",
            EngineKind::Fjall => "fjall",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no engine's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown metadata engine {0:?}; known are surrealkv and fjall")]
pub struct UnknownEngine(pub String);

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownEngine> {
        EngineKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownEngine(name.into()))
    }
}

/// Memory that an engine may use. Both sizes hold for each engine; an engine may have two memtables for a short time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineOptions {
    /// Bytes of changes kept in memory before they become a table on disk.
    pub memtable_bytes: usize,
    /// Bytes of table blocks kept in memory.
    pub block_cache_bytes: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions { memtable_bytes: 20 << 20, block_cache_bytes: 16 << 20 }
    }
}

/// Opens the store in `dir`, or creates one there if the directory is absent or empty.
///
/// # Errors
/// [`MetaError::Unsupported`] if a newer version wrote the directory, [`MetaError::Corrupt`] if it says that it is another
/// engine's, holds something else or is damaged, [`MetaError::OutOfSpace`] and [`MetaError::Io`] as the disk has it, also if
/// the store is open already. The two refusals change nothing.
pub fn open(kind: EngineKind, dir: &Path, options: &EngineOptions) -> Result<Arc<dyn MetaStore>> {
    open_store(kind, dir, options, Damage::Refused)
}

/// Opens a store that [`open`] refuses: what its log has behind damage is given up. What is left is a prefix of what was
/// committed, and lacks batches that were durable. An engine that can do no such thing answers as it does to [`open`].
///
/// # Errors
/// Those of [`open`].
pub fn salvage(kind: EngineKind, dir: &Path, options: &EngineOptions) -> Result<Arc<dyn MetaStore>> {
    open_store(kind, dir, options, Damage::CutOff)
}

/// What becomes of damage in an engine's log that no crash makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    /// The store isn't opened.
    Refused,
    /// What is behind it goes.
    CutOff,
}

fn open_store(kind: EngineKind, dir: &Path, options: &EngineOptions, damage: Damage) -> Result<Arc<dyn MetaStore>> {
    claim(kind, dir)?;
    let store_dir = dir.join(STORE_DIR);
    Ok(match kind {
        EngineKind::Surrealkv => Arc::new(surrealkv::SurrealkvStore::open(&store_dir, options, damage)?),
        EngineKind::Fjall => Arc::new(fjall::FjallStore::open(dir, &store_dir, options)?),
    })
}

/// Names the engine of a directory that has its files, where it doesn't say so. Returns whether it did not.
///
/// # Errors
/// [`MetaError::Io`], [`MetaError::OutOfSpace`].
pub fn name_again(kind: EngineKind, dir: &Path) -> Result<bool> {
    if is_named(kind, dir) || !dir.join(STORE_DIR).exists() {
        return Ok(false);
    }
    let about = |error: io::Error| io_error(&format!("{}", dir.display()), &error);
    write_name(kind, dir, &dir.join(ENGINE_FILE)).map_err(about)?;
    Ok(true)
}

/// Whether a directory says that it belongs to this engine.
#[must_use]
pub fn is_named(kind: EngineKind, dir: &Path) -> bool {
    fs::read(dir.join(ENGINE_FILE)).is_ok_and(|name| name.trim_ascii_end() == kind.name().as_bytes())
}

/// The engine whose files are in a directory, whatever it says of itself; `None` where they don't tell.
#[must_use]
pub fn engine_of_files(dir: &Path) -> Option<EngineKind> {
    let is_there = |name: &str| dir.join(STORE_DIR).join(name).exists();
    match (is_there("manifest") || is_there("sstables") || is_there("wal"), is_there("keyspaces")) {
        (true, false) => Some(EngineKind::Surrealkv),
        (false, true) => Some(EngineKind::Fjall),
        (true, true) | (false, false) => None,
    }
}

/// Makes sure that `dir` is this engine's: writes its name into an empty directory, checks the name in any other.
fn claim(kind: EngineKind, dir: &Path) -> Result<()> {
    let name_file = dir.join(ENGINE_FILE);
    let about = |error: io::Error| io_error(&format!("{}", dir.display()), &error);
    match fs::read(&name_file) {
        Ok(name) if name.trim_ascii_end() == kind.name().as_bytes() => return Ok(()),
        // Created, and the power went before the name was in it.
        Ok(name) if name.is_empty() && entries(dir).map_err(about)? == [name_file.clone()] => {}
        Ok(name) => {
            let name = name.trim_ascii_end().escape_ascii();
            return Err(MetaError::Corrupt(format!("{} says \"{name}\" instead of {kind}", name_file.display())));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(about)?;
            if !entries(dir).map_err(about)?.is_empty() {
                return Err(MetaError::Corrupt(format!(
                    "{} is not empty and has no file {ENGINE_FILE}: not a metadata directory",
                    dir.display()
                )));
            }
        }
        Err(error) => return Err(io_error(&format!("{}", name_file.display()), &error)),
    }
    write_name(kind, dir, &name_file).map_err(about)
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

fn write_name(kind: EngineKind, dir: &Path, name_file: &Path) -> io::Result<()> {
    let mut file = File::create(name_file)?;
    file.write_all(format!("{kind}\n").as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Bytes that the files below `dir` take on disk. The engines have few and large files, so this reads no record; what
/// they preallocate without writing isn't counted.
fn disk_usage_bytes(dir: &Path) -> Result<u64> {
    const BLOCK_BYTES: u64 = 512;
    let mut total = 0;
    each_file(dir, |_, metadata| {
        total += metadata.blocks() * BLOCK_BYTES;
        Ok(())
    })?;
    Ok(total)
}

/// Visits the files below `dir`, in no order; one that goes meanwhile is left out.
fn each_file(dir: &Path, mut visit: impl FnMut(&Path, &Metadata) -> Result<()>) -> Result<()> {
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        let about = |error: io::Error| io_error(&format!("{}", dir.display()), &error);
        for entry in fs::read_dir(&dir).map_err(about)? {
            let entry = entry.map_err(about)?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => visit(&entry.path(), &metadata)?,
                // Compaction removes tables at any time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(about(error)),
            }
        }
    }
    Ok(())
}

/// Bytes that may still be written to the file system of `dir`.
fn free_bytes(dir: &Path) -> Result<u64> {
    let space = rustix::fs::statvfs(dir).map_err(|errno| io_error(&format!("{}", dir.display()), &errno.into()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The kind of an error of the operating system.
fn io_error(what: &str, error: &io::Error) -> MetaError {
    let text = format!("{what}: {error}");
    if is_out_of_space(error.kind()) {
        MetaError::OutOfSpace(text)
    } else if is_out_of_descriptors(error) {
        MetaError::OutOfFiles(text)
    } else {
        MetaError::Io(text)
    }
}

fn is_out_of_space(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
