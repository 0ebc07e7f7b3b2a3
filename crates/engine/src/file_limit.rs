//! How many files the process may open: what a volume needs is asked for before it is opened, so that it is never found
//! missing in the middle of a commit.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::EngineError;

/// Descriptors that an open volume needs at most: packs that are kept open, tables of the metadata engine, the kernel's
/// connections, clients of the control socket, and Node's own.
const NEEDED: u64 = 512;

/// Raises the soft limit as far as the hard one allows, if it is too low.
///
/// # Errors
/// [`EngineError::FileLimit`].
pub(crate) fn ensure(volume: &Path) -> Result<(), EngineError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    if current.is_none_or(|current| current >= NEEDED) {
        return Ok(());
    }
    if maximum.is_none_or(|maximum| maximum >= NEEDED)
        && setrlimit(Resource::Nofile, Rlimit { current: maximum.or(Some(NEEDED)), maximum }).is_ok()
    {
        return Ok(());
    }
    let allowed = maximum.or(current).unwrap_or(u64::MAX);
    Err(EngineError::FileLimit { path: volume.to_path_buf(), allowed, needed: NEEDED })
}
