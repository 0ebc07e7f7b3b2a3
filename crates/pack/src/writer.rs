//! Appending to a pack.

use std::path::PathBuf;
use std::sync::Arc;

use verfs_base::{Disk, DiskFile, PackId};
use verfs_format::pack::encode_pack_header;

use crate::layout::{pack_dir, pack_path};
use crate::{Block, IndexEntry, PackError, Result};

/// How far ahead of the writes the pack's blocks are reserved, so that a sync has little metadata to write.
const RESERVE_STEP_MAX_BYTES: u64 = 8 << 20;
/// It is at most this share of the disk, as a divisor: a small part of what a volume keeps for commits and for garbage
/// collection on a full disk.
const RESERVE_STEP_SHARE: u64 = 512;

/// The tail of a pack that grows. Appending only fills a buffer; [`PackWrite::run`] writes it, without the writer, so
/// that a lock around the writer is never held during I/O.
#[derive(Debug)]
pub struct PackWriter {
    pack: PackId,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Bytes that are appended and not handed out to be written.
    buffer: Vec<u8>,
    /// Where the buffer goes.
    buffer_offset: u64,
    blocks: usize,
    reserve_step_bytes: u64,
    reserved_bytes: u64,
}

/// Bytes to be written to a pack.
#[derive(Debug)]
#[must_use = "the bytes are in no file until it runs"]
pub struct PackWrite {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    offset: u64,
    bytes: Vec<u8>,
    reserve_bytes: Option<u64>,
}

impl PackWriter {
    /// Creates the file of a pack, which must not exist. Its directory must.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn create(disk: &dyn Disk, pack: PackId) -> Result<PackWriter> {
        let path = pack_path(pack);
        let file = disk.create(&path).map_err(PackError::of_disk("create", &path))?;
        // Without an answer nothing is reserved.
        let disk_bytes = disk.space().map_or(0, |space| space.total);
        Ok(PackWriter {
            pack,
            path,
            file,
            buffer: encode_pack_header(pack).to_vec(),
            buffer_offset: 0,
            blocks: 0,
            reserve_step_bytes: (disk_bytes / RESERVE_STEP_SHARE).min(RESERVE_STEP_MAX_BYTES),
            reserved_bytes: 0,
        })
    }

    /// The pack.
    #[must_use]
    pub fn pack(&self) -> PackId {
        self.pack
    }

    /// The pack's file.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Length of the pack with everything appended.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.buffer_offset + self.buffer.len() as u64
    }

    /// Whether no block was appended since the pack was created.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Blocks appended.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes appended and not handed out by [`PackWriter::take_write`].
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a block in memory. The caller sees to it that the pack stays below
    /// [`verfs_format::pack::PACK_MAX_BYTES`].
    pub fn append(&mut self, block: &Block<'_>) -> IndexEntry {
        let offset = self.len();
        debug_assert!(offset < verfs_format::pack::PACK_MAX_BYTES);
        self.buffer.extend_from_slice(&block.header_bytes);
        self.buffer.extend_from_slice(block.stored);
        self.blocks += 1;
        IndexEntry { chunk: block.header.chunk, offset: offset as u32, stored_len: block.header.stored_len }
    }

    /// Hands out what is buffered to be written, leaving `spare` as the next buffer.
    pub fn take_write(&mut self, spare: Vec<u8>) -> PackWrite {
        let offset = self.buffer_offset;
        let bytes = std::mem::replace(&mut self.buffer, spare);
        self.buffer_offset += bytes.len() as u64;
        let reserve_bytes = (self.buffer_offset > self.reserved_bytes && self.reserve_step_bytes > 0)
            .then(|| self.buffer_offset.next_multiple_of(self.reserve_step_bytes));
        self.reserved_bytes = reserve_bytes.unwrap_or(self.reserved_bytes);
        PackWrite { path: self.path.clone(), file: Arc::clone(&self.file), offset, bytes, reserve_bytes }
    }

    /// Goes back to where the pack had `len` bytes and `blocks` blocks; what was written behind is overwritten next.
    pub fn rewind(&mut self, len: u64, blocks: usize) {
        debug_assert!(len <= self.len());
        self.buffer.clear();
        self.buffer_offset = len;
        self.blocks = blocks;
    }

    /// Makes everything written so far durable; the name is durable when the directory is synced, too.
    ///
    /// # Errors
    /// [`PackError`]; what was written since the last sync is not to be trusted then.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(PackError::of_disk("sync", &self.path))
    }

    /// Directory of the pack.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        pack_dir(self.pack)
    }
}

impl PackWrite {
    /// Writes the bytes; answers their buffer, emptied, to be used again.
    ///
    /// # Errors
    /// [`PackError`]; how much was written is unknown then.
    pub fn run(self) -> Result<Vec<u8>> {
        if let Some(len) = self.reserve_bytes {
            // Only an optimisation: without room for a whole step, the write itself finds out whether it fits.
            let reserved = self.file.allocate(len).map_err(PackError::of_disk("reserve room for", &self.path));
            match reserved {
                Ok(()) | Err(PackError::OutOfSpace { .. }) => {}
                Err(error @ (PackError::OutOfFiles { .. } | PackError::Io { .. } | PackError::Damaged { .. })) => {
                    return Err(error);
                }
            }
        }
        self.file.write_all_at(&self.bytes, self.offset).map_err(PackError::of_disk("write", &self.path))?;
        self.file.begin_writeback(self.offset, self.bytes.len() as u64);
        let mut buffer = self.bytes;
        buffer.clear();
        Ok(buffer)
    }
}
