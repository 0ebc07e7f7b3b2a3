//! Where an ordinary user's mount has its snapshots.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Where the snapshots of the volume with this uuid are mounted for an ordinary user: beside the sockets of his daemons.
pub(crate) fn mountpoint_outside(uuid: &str) -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let session = PathBuf::from(format!("/run/user/{uid}"));
    let is_private = || {
        let status = std::fs::symlink_metadata(&session);
        status.is_ok_and(|status| status.is_dir() && status.uid() == uid && status.mode() & 0o077 == 0)
    };
    let directory = match std::env::var_os("XDG_RUNTIME_DIR").filter(|named| !named.is_empty()) {
        Some(named) => PathBuf::from(named).join("verfs"),
        None if is_private() => session.join("verfs"),
        None => PathBuf::from(format!("/tmp/verfs-{uid}")),
    };
    directory.join(format!("{uuid}.snapshots"))
}
