//! Where an ordinary user's mount has its snapshots and its vault.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What is mounted there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outside {
    Snapshots,
    Vault,
    VaultSnapshots,
}

/// Where this of the volume with this uuid is mounted for an ordinary user: beside the sockets of his daemons.
pub(crate) fn mountpoint_outside(uuid: &str, what: Outside) -> PathBuf {
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
    let suffix = match what {
        Outside::Snapshots => "snapshots",
        Outside::Vault => "vault",
        Outside::VaultSnapshots => "vault-snapshots",
    };
    directory.join(format!("{uuid}.{suffix}"))
}
