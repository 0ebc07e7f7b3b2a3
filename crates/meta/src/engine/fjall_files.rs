//! What is looked at in fjall's files before it opens them: it reserves memory for as much as a length in a file says
//! before it checks the file, and a flipped bit in such a length would end the process.
//!
//! Both kinds of file are archives of the crate `sfa`, 1.0: sections, a table of them, a trailer.
//! ```text
//! DIR/current   u64 LE number of the version, u128 LE xxh3 of its file, u8 0
//! DIR/vN        archive: which tables belong to version N
//! DIR/tables/N  archive: a table
//! table         "TOC!", u32 LE number of sections, per section u64 position, u64 length, u16 length of the name, name
//! trailer       "SFA!", u8 version, u8 kind of checksum, u128 checksum, u64 LE position of the table, u64 LE its length
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::{each_file, io_error};
use crate::{MetaError, Result};

const TRAILER_BYTES: u64 = 38;
const TRAILER_MAGIC: &[u8] = b"SFA!";
/// Where the trailer has the position of the table of sections.
const TABLE_POSITION_AT: usize = 22;
const TABLE_MAGIC_BYTES: u64 = 4;
/// The shortest entry of a table of sections, that of a section without a name.
const SECTION_BYTES: u64 = 18;

/// Checks what fjall would believe; what it notices itself is left to it.
///
/// # Errors
/// [`MetaError::Corrupt`], or what the disk says.
pub(super) fn check(store_dir: &Path) -> Result<()> {
    if !store_dir.exists() {
        return Ok(());
    }
    each_file(store_dir, |path, metadata| {
        let sound = if path.ends_with("current") {
            names_its_version(path)
        } else {
            has_room_for_its_sections(path, metadata.len())
        };
        match sound {
            Ok(true) => Ok(()),
            Ok(false) => Err(MetaError::Corrupt(format!("{} is not what was written", path.display()))),
            Err(error) => Err(io_error(&path.display().to_string(), &error)),
        }
    })
}

/// Whether the version that `current` names is the one that was written.
fn names_its_version(current: &Path) -> io::Result<bool> {
    let bytes = fs::read(current)?;
    let (Some(number), Some(checksum)) = (bytes.first_chunk::<8>(), bytes.get(8..24)) else {
        return Ok(false);
    };
    match fs::read(current.with_file_name(format!("v{}", u64::from_le_bytes(*number)))) {
        Ok(version) => Ok(xxh3_128(&version).to_le_bytes() == checksum),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an archive is as long as its number of sections needs; true of what is none.
fn has_room_for_its_sections(path: &Path, len: u64) -> io::Result<bool> {
    let Some(trailer_at) = len.checked_sub(TRAILER_BYTES) else { return Ok(true) };
    let file = File::open(path)?;
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut trailer, trailer_at)?;
    if !trailer.starts_with(TRAILER_MAGIC) {
        return Ok(true);
    }
    let (mut position, mut sections) = ([0; 8], [0; 4]);
    position.copy_from_slice(&trailer[TABLE_POSITION_AT..TABLE_POSITION_AT + 8]);
    let sections_at = u64::from_le_bytes(position).saturating_add(TABLE_MAGIC_BYTES);
    let Some(room) = trailer_at.checked_sub(sections_at.saturating_add(4)) else { return Ok(false) };
    file.read_exact_at(&mut sections, sections_at)?;
    Ok(u64::from(u32::from_le_bytes(sections)) * SECTION_BYTES <= room)
}
