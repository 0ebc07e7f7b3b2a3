//! Where packs lie under the volume's root.

use std::path::{Path, PathBuf};

use verfs_base::PackId;

/// Directory of all packs.
pub const PACKS_DIR: &str = "packs";

/// Directory of a pack: named by the low byte of its number, so that consecutive packs spread.
#[must_use]
pub fn pack_dir(pack: PackId) -> PathBuf {
    Path::new(PACKS_DIR).join(format!("{:02x}", pack.0 & 0xff))
}

/// The pack's file.
#[must_use]
pub fn pack_path(pack: PackId) -> PathBuf {
    pack_dir(pack).join(format!("{pack}.vpk"))
}

/// The index of a sealed pack.
#[must_use]
pub fn index_path(pack: PackId) -> PathBuf {
    pack_dir(pack).join(format!("{pack}.vpi"))
}

/// An index while it is being written.
pub(crate) fn index_draft_path(pack: PackId) -> PathBuf {
    pack_dir(pack).join(format!("{pack}.vpi.tmp"))
}
