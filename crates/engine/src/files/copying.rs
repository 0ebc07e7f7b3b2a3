//! Files in one call: read whole, written whole, copied by reference.

use bytes::Bytes;
use verfs_fuse::Tree;
use verfs_vfs::FileKind;

use super::{FileError, Files, Links, OpenFlags, Who};

/// Bytes that are read or copied at once.
const PIECE_BYTES: u64 = 8 << 20;

/// Whether a copy may replace something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyTarget {
    /// It may.
    Replace,
    /// EEXIST.
    New,
}

/// An open file that is closed at the end of a block.
struct Opened<'a> {
    files: &'a Files,
    number: i32,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        // It fails only for a number that isn't open.
        let _ = self.files.close(self.number);
    }
}

impl Files {
    fn opened(&self, path: &[u8], flags: i32, mode: u16) -> Result<Opened<'_>, FileError> {
        Ok(Opened { files: self, number: self.open(path, OpenFlags::from_bits(flags), mode)? })
    }

    /// The content of a file of at most `max_bytes`; of a larger one nothing but that it is.
    ///
    /// # Errors
    /// As `open(2)` and `read(2)`.
    pub fn read_file(&self, path: &[u8], flags: OpenFlags, max_bytes: u64) -> Result<Option<Vec<Bytes>>, FileError> {
        let file = Opened { files: self, number: self.open(path, flags, 0o666)? };
        let mut pieces = Vec::new();
        let mut total = 0;
        if self.fstat(file.number)?.size > max_bytes {
            return Ok(None);
        }
        loop {
            let more = self.read(file.number, Some(total), PIECE_BYTES)?;
            let bytes: u64 = more.iter().map(|piece| piece.len() as u64).sum();
            if bytes == 0 {
                return Ok(Some(pieces));
            }
            total += bytes;
            if total > max_bytes {
                return Ok(None);
            }
            pieces.extend(more);
        }
    }

    /// Writes `data` to a file that is opened, or made, for it.
    ///
    /// # Errors
    /// As `open(2)` and `write(2)`.
    pub fn write_file(&self, path: &[u8], flags: OpenFlags, mode: u16, data: &[u8]) -> Result<(), FileError> {
        let file = Opened { files: self, number: self.open(path, flags, mode)? };
        match data.is_empty() {
            true => Ok(()),
            false => self.write(file.number, None, data),
        }
    }

    /// Copies the content and the mode of a file. Both share what is stored, if both are in one tree. The mode is that
    /// of the source whatever the umask is and whether or not the target was there, as Node's `copyFile` has it.
    ///
    /// # Errors
    /// As `open(2)`, `fchmod(2)` and `copy_file_range(2)`; EISDIR for directories.
    pub fn copy_file(&self, from: &[u8], to: &[u8], target: CopyTarget) -> Result<(), FileError> {
        let source = self.opened(from, libc::O_RDONLY, 0)?;
        let attr = self.fstat(source.number)?;
        if attr.kind == FileKind::Directory {
            return Err(FileError::IS_DIRECTORY);
        }
        if let Ok(found) = self.existing(to, Links::Follow)
            && found.is(&attr)
            && target == CopyTarget::Replace
        {
            return Ok(());
        }
        let exclusive = if target == CopyTarget::New { libc::O_EXCL } else { 0 };
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | exclusive;
        let copy = self.opened(to, flags, attr.mode & 0o777)?;
        self.chmod(Who::Open(copy.number), attr.mode)?;
        let (from, to) = (self.handle(source.number)?, self.handle(copy.number)?);
        if !from.ground.is(&to.ground) {
            return self.copy_bytes(source.number, copy.number);
        }
        let context = self.context();
        let mut copied = 0;
        loop {
            let range = |tree: &dyn Tree| tree.copy_range(&context, (from.ino, copied), (to.ino, copied), PIECE_BYTES);
            let (bytes, _) = self.change(&to.ground, range)?;
            if bytes == 0 {
                break;
            }
            copied += bytes;
        }
        self.tell_content(&to.ground, to.ino);
        Ok(())
    }

    /// Trees share nothing by reference: what is copied out of a snapshot or a vault is read and written.
    fn copy_bytes(&self, from: i32, to: i32) -> Result<(), FileError> {
        let mut copied = 0;
        loop {
            let pieces = self.read(from, Some(copied), PIECE_BYTES)?;
            for piece in &pieces {
                self.write(to, Some(copied), piece)?;
                copied += piece.len() as u64;
            }
            if pieces.iter().all(Bytes::is_empty) {
                return Ok(());
            }
        }
    }
}
