//! What a part of a volume takes.

use std::path::PathBuf;

use verfs_vfs::{Usage, UsageProgress, VfsError};

use crate::{EngineError, Volume};

impl Volume {
    /// What everything at and below `path` takes (the whole volume: an empty path), once what was done before is
    /// committed. The vault is not in it.
    ///
    /// # Errors
    /// [`EngineError::NoSuchPath`], [`EngineError::Usage`] for a path with `.` or `..`, [`EngineError::Cancelled`] when
    /// `progress` ended it, [`EngineError::Io`], [`EngineError::Closed`].
    pub fn usage(&self, path: &[u8], progress: &mut UsageProgress<'_>) -> Result<Usage, EngineError> {
        self.refuse_closed()?;
        self.vfs().usage(path, progress).map_err(|error| {
            let place = || PathBuf::from(format!("/{}", String::from_utf8_lossy(path).trim_start_matches('/')));
            match error {
                VfsError::NotFound | VfsError::NotDirectory => EngineError::NoSuchPath { path: place() },
                VfsError::InvalidArgument | VfsError::NameTooLong => EngineError::Usage(format!(
                    "{} is no path in a volume: it has `.`, `..` or a name of more than 255 bytes",
                    place().display()
                )),
                VfsError::Interrupted => EngineError::Cancelled { path: place() },
                error => EngineError::from_vfs(self.path(), error),
            }
        })
    }
}
