//! A damaged volume, readable: everything that would be written to it goes to a scratch directory instead.
//!
//! The metadata is copied there and mended there, as a repair would, and the packs are seen through an overlay. So a volume
//! that no normal open takes shows what is left of it, and not one byte of it changes.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use verfs_base::{Disk, DiskFile, RealDisk, Space};
use verfs_format::witness::WITNESS_FILE;

use crate::EngineError;

/// Begin of the names of scratch directories.
const SCRATCH_PREFIX: &str = "verfs-recovery-";
/// What is copied, as it is written while a volume is opened. Packs are not.
const COPIED: [&str; 3] = ["meta", "log", "vault/log"];
/// Directories of an intent log, which have files only.
const LOG_DIRECTORY: &str = "log";

/// What stands in for the parts of a volume that are written. Its directory goes with it.
#[derive(Debug)]
pub(crate) struct Scratch {
    volume: PathBuf,
    directory: PathBuf,
    removed: Removed,
}

/// Files of the volume that show no more, by their paths in it; the same for all parts.
type Removed = Arc<Mutex<HashSet<PathBuf>>>;

impl Scratch {
    /// Copies the metadata and the intent log of the volume at `volume` to a directory below `$TMPDIR`.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn of_volume(volume: &Path, uuid: &str) -> Result<Scratch, EngineError> {
        let directory = new_directory(uuid).map_err(|error| EngineError::from_io(&std::env::temp_dir(), &error))?;
        let about = |error: io::Error| EngineError::from_io(&directory, &error);
        let scratch =
            Scratch { volume: volume.to_path_buf(), directory: directory.clone(), removed: Removed::default() };
        for part in COPIED {
            scratch.copy_directory(Path::new(part)).map_err(about)?;
        }
        scratch.copy_file(Path::new(WITNESS_FILE)).map_err(about)?;
        Ok(scratch)
    }

    /// Copies what can be read. A copy without the rest shows more than none.
    fn copy_directory(&self, part: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(self.volume.join(part)) {
            Ok(entries) => entries,
            Err(error) => return self.leave_out(part, error),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(self.directory.join(part))?;
        for entry in entries {
            let entry = entry?;
            let path = part.join(entry.file_name());
            if !entry.file_type()?.is_dir() {
                self.copy_file(&path)?;
            } else if part.ends_with(LOG_DIRECTORY) {
                self.leave_out(&path, ErrorKind::IsADirectory.into())?;
            } else {
                self.copy_directory(&path)?;
            }
        }
        Ok(())
    }

    /// Copies a file; one that can't be read to its end up to there.
    fn copy_file(&self, path: &Path) -> io::Result<()> {
        match fs::copy(self.volume.join(path), self.directory.join(path)) {
            Ok(_) => Ok(()),
            Err(error) => self.leave_out(path, error),
        }
    }

    /// Goes without what can't be read of the volume; the copy needs its room.
    fn leave_out(&self, path: &Path, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::NotFound => return Ok(()),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => return Err(error),
            _ => tracing::error!(path = %path.display(), %error, "recovery goes without what can't be read"),
        }
        self.removed.lock().insert(path.to_path_buf());
        Ok(())
    }

    /// Leaves nothing of a part of the copy.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn clear(&self, part: &str) -> Result<(), EngineError> {
        match fs::remove_dir_all(self.directory.join(part)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(EngineError::from_io(&self.directory, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Where a part of the volume is to be opened.
    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.directory.join(part)
    }

    /// The files of a part, `""` for the volume's own: they can be changed, and stay what they are.
    pub(crate) fn disk(&self, part: &str) -> Arc<dyn Disk> {
        Arc::new(OverlayDisk {
            lower: RealDisk::new(self.volume.join(part)),
            upper: RealDisk::new(self.directory.join(part)),
            part: PathBuf::from(part),
            removed: Arc::clone(&self.removed),
        })
    }
}

impl Scratch {
    /// Removes the copy. Calling it twice is no error.
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.directory)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(directory = %self.directory.display(), %error, "can't remove the copy of a volume's metadata");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A directory that nobody else has, for its owner only.
fn new_directory(uuid: &str) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let name = format!("{SCRATCH_PREFIX}{uuid}-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| directory),
        }
    }
}

/// A disk that is read from below and written above.
#[derive(Debug)]
struct OverlayDisk {
    lower: RealDisk,
    upper: RealDisk,
    part: PathBuf,
    removed: Removed,
}

fn refused() -> io::Error {
    io::Error::new(ErrorKind::ReadOnlyFilesystem, "a volume in recovery is not changed")
}

impl OverlayDisk {
    fn is_below(&self, path: &Path) -> bool {
        !self.is_removed(path) && self.lower.open_read(path).is_ok()
    }

    fn is_removed(&self, path: &Path) -> bool {
        self.removed.lock().contains(&self.part.join(path))
    }

    fn remove_below(&self, path: &Path) {
        self.removed.lock().insert(self.part.join(path));
    }

    fn make_parent(&self, path: &Path) -> io::Result<()> {
        self.upper.create_dir_all(path.parent().unwrap_or(Path::new("")))
    }
}

impl Disk for OverlayDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.is_below(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.make_parent(path)?;
        self.upper.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.upper.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.open_read(path).map(|file| Arc::new(Unwritable { file }) as Arc<dyn DiskFile>)
            }
            opened => opened,
        }
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.upper.open_read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_removed(path) => self.lower.open_read(path),
            opened => opened,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.make_parent(to)?;
        self.upper.rename(from, to)?;
        if self.lower.open_read(from).is_ok() {
            // What it was a copy of must not show again.
            self.remove_below(from);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let below = self.is_below(path);
        match self.upper.remove(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && below => {}
            removed => removed?,
        }
        if below {
            self.remove_below(path);
        }
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.upper.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let below = self.lower.list(path)?.into_iter().filter(|name| !self.is_removed(&path.join(name)));
        let all: BTreeSet<PathBuf> = below.chain(self.upper.list(path)?).collect();
        Ok(all.into_iter().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.upper.sync_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            synced => synced,
        }
    }

    fn space(&self) -> io::Result<Space> {
        self.upper.space()
    }
}

/// A file of the volume itself.
#[derive(Debug)]
struct Unwritable {
    file: Arc<dyn DiskFile>,
}

impl DiskFile for Unwritable {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(refused())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.file.len()? == len { Ok(()) } else { Err(refused()) }
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(refused())
    }

    fn begin_read(&self, offset: u64, len: u64) {
        self.file.begin_read(offset, len);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    #[test]
    fn what_is_written_is_above_and_goes_with_the_scratch() {
        let volume = std::env::temp_dir().join(format!("verfs-recovery-test-{}", std::process::id()));
        fs::create_dir_all(volume.join("packs/01")).unwrap();
        fs::create_dir_all(volume.join("meta/store")).unwrap();
        fs::write(volume.join("packs/01/a.vpk"), b"below").unwrap();
        fs::write(volume.join("meta/store/table"), b"records").unwrap();
        let scratch = Scratch::of_volume(&volume, "uuid").unwrap();
        assert_eq!(fs::read(scratch.path("meta/store/table")).unwrap(), b"records");
        let disk = scratch.disk("");
        let (old, new) = (Path::new("packs/01/a.vpk"), Path::new("packs/01/b.vpk"));
        assert!(disk.open(old).unwrap().write_all_at(b"x", 0).is_err());
        assert_eq!(disk.create(old).unwrap_err().kind(), ErrorKind::AlreadyExists);
        disk.create(new).unwrap().write_all_at(b"above", 0).unwrap();
        assert_eq!(disk.list(Path::new("packs/01")).unwrap().len(), 2);
        disk.remove(old).unwrap();
        assert_eq!(disk.open_read(old).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.list(Path::new("packs/01")).unwrap(), [PathBuf::from("b.vpk")]);
        assert_eq!(fs::read(volume.join("packs/01/a.vpk")).unwrap(), b"below");
        assert!(!volume.join("packs/01/b.vpk").exists());
        // In the place of a file, something that is none.
        fs::create_dir_all(volume.join("log/intent-0.vlog/x")).unwrap();
        fs::create_dir_all(volume.join("WITNESS")).unwrap();
        fs::write(volume.join("vault"), b"no directory").unwrap();
        let damaged = Scratch::of_volume(&volume, "uuid").unwrap();
        let log = Path::new("log/intent-0.vlog");
        assert_eq!(damaged.disk("").open(log).unwrap_err().kind(), ErrorKind::NotFound);
        damaged.disk("").create(log).unwrap();
        let directory = scratch.directory.clone();
        drop(scratch);
        assert!(!directory.exists());
        fs::remove_dir_all(volume).unwrap();
    }
}
