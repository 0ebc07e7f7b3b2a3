//! What is looked at in surrealkv's manifest before it opens it: it reserves memory for as many tables as the manifest says a
//! level has before it checks the manifest, and a flipped bit in such a number would end the process.
//!
//! ```text
//! DIR/manifest/00000000000000000000.manifest
//!   u16 version, u64 next table, u64 log, u64 sequence number; u8 levels; per level u32 tables, per table u64; then more
//! ```
//! Numbers are big-endian.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::engine::io_error;
use crate::{MetaError, Result};

const HEADER_BYTES: usize = 26;
const TABLE_BYTES: usize = 8;

/// Checks what surrealkv would believe; what it notices itself is left to it.
///
/// # Errors
/// [`MetaError::Corrupt`], or what the disk says.
pub(super) fn check(dir: &Path) -> Result<()> {
    let path = dir.join("manifest").join(format!("{:020}.manifest", 0));
    match fs::read(&path) {
        Ok(manifest) if has_room_for_its_tables(&manifest) => Ok(()),
        Ok(_) => Err(MetaError::Corrupt(format!("{} is not what was written", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(&path.display().to_string(), &error)),
    }
}

fn has_room_for_its_tables(manifest: &[u8]) -> bool {
    let Some((&levels, mut rest)) = manifest.get(HEADER_BYTES..).and_then(<[u8]>::split_first) else { return false };
    for _ in 0..levels {
        let Some((tables, tail)) = rest.split_first_chunk::<4>() else { return false };
        let bytes = (u32::from_be_bytes(*tables) as usize).saturating_mul(TABLE_BYTES);
        let Some(tail) = tail.get(bytes..) else { return false };
        rest = tail;
    }
    true
}
