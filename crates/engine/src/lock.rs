//! One process has a volume open at a time: an `flock(2)` on `LOCK`, whose content says who.
//!
//! The lock belongs to the open file, so it goes with the process however that ends; the content is only for messages.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::EngineError;

/// Name of the file in the volume's directory.
const LOCK_FILE: &str = "LOCK";
/// How often a lock that is taken is tried again: somebody may only be looking who has it.
const TRIES: u32 = 5;
/// How long between tries.
const TRY_PAUSE: Duration = Duration::from_millis(20);

/// A held lock. Released when dropped.
#[derive(Debug)]
pub(crate) struct VolumeLock {
    _file: File,
}

fn lock_path(volume: &Path) -> PathBuf {
    volume.join(LOCK_FILE)
}

fn read_holder(mut file: &File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl VolumeLock {
    /// Takes the lock of a volume.
    pub(crate) fn take(volume: &Path) -> Result<Self, EngineError> {
        let path = lock_path(volume);
        let about = |error: io::Error| EngineError::from_io(&path, &error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(about)?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < TRIES => std::thread::sleep(TRY_PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let holder_pid = read_holder(&file);
                    return Err(EngineError::VolumeLocked { path: volume.to_path_buf(), holder_pid });
                }
                Err(TryLockError::Error(error)) => return Err(about(error)),
            }
        }
        file.set_len(0).map_err(about)?;
        file.rewind().map_err(about)?;
        writeln!(file, "{}", std::process::id()).map_err(about)?;
        Ok(VolumeLock { _file: file })
    }

    /// The process that holds the lock of a volume now, if one does.
    pub(crate) fn holder(volume: &Path) -> Option<u32> {
        let file = File::open(lock_path(volume)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read_holder(&file),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}
