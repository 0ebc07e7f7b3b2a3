//! Finding the records of a pack without its index.

use std::io;

use verfs_base::{DiskFile, PackId};
use verfs_format::pack::{
    PACK_HEADER_BYTES, PACK_MAX_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, RecordSeed, decode_pack_header,
};

use crate::IndexEntry;

/// How much is read at once.
const WINDOW_BYTES: usize = 1 << 20;
/// How much is passed over where the disk can't read.
const UNREADABLE_STEP_BYTES: u64 = 4096;

/// A record that a scan found whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScannedBlock {
    /// Its place.
    pub entry: IndexEntry,
    /// Length of its chunk.
    pub raw_len: u32,
}

/// What is in a pack.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PackScan {
    /// Every whole record, in the order of the file.
    pub blocks: Vec<ScannedBlock>,
    /// End of the last one, or of the pack's header: what is behind is no record.
    pub end: u64,
    /// Bytes before `end` that belong to no whole record.
    pub skipped_bytes: u64,
    /// Bytes that the disk could not read.
    pub unreadable_bytes: u64,
    /// What is wrong with the pack's header, if anything; the records count all the same.
    pub header_damage: Option<String>,
}

/// Finds every whole record of a pack. Goes on behind damage: only what fails its checksum is left out.
///
/// # Errors
/// When the disk can't say how long the file is. Bytes that can't be read are passed over and counted.
pub fn scan_pack(file: &dyn DiskFile, pack: PackId, seed: RecordSeed) -> io::Result<PackScan> {
    let file_len = file.len()?.min(PACK_MAX_BYTES);
    let mut window = Window { file, file_len, offset: 0, bytes: Vec::new(), unreadable_bytes: 0 };
    let mut scan = PackScan { end: (PACK_HEADER_BYTES as u64).min(window.file_len), ..PackScan::default() };
    scan.header_damage = match decode_pack_header(window.at(0, PACK_HEADER_BYTES)) {
        Ok(found) if found == pack => None,
        Ok(found) => Some(format!("its header is of pack {found}")),
        Err(error) => Some(error.to_string()),
    };
    let mut at = scan.end;
    while at < window.file_len {
        match window.record_at(at, seed) {
            Some(header) => {
                scan.skipped_bytes += at - scan.end;
                let entry = IndexEntry { chunk: header.chunk, offset: at as u32, stored_len: header.stored_len };
                scan.blocks.push(ScannedBlock { entry, raw_len: header.raw_len });
                at += u64::from(header.record_bytes());
                scan.end = at;
            }
            None => at = window.next_magic(at + 1),
        }
    }
    scan.unreadable_bytes = window.unreadable_bytes;
    Ok(scan)
}

/// A part of the file in memory.
struct Window<'a> {
    file: &'a dyn DiskFile,
    file_len: u64,
    offset: u64,
    bytes: Vec<u8>,
    unreadable_bytes: u64,
}

impl Window<'_> {
    /// The `len` bytes at `offset`, or fewer where the file or what can be read of it ends.
    fn at(&mut self, offset: u64, len: usize) -> &[u8] {
        let wanted_end = (offset + len as u64).min(self.file_len);
        if offset < self.offset || wanted_end > self.offset + self.bytes.len() as u64 {
            self.load(offset, len.max(WINDOW_BYTES));
        }
        let start = (offset - self.offset) as usize;
        let rest = self.bytes.get(start..).unwrap_or_default();
        &rest[..rest.len().min(len)]
    }

    fn load(&mut self, offset: u64, len: usize) {
        let len = (self.file_len - offset.min(self.file_len)).min(len as u64) as usize;
        self.bytes.clear();
        self.bytes.resize(len, 0);
        self.offset = offset;
        let mut filled = 0;
        while filled < len {
            match self.file.read_at(&mut self.bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // A smaller read may get what is before the bad place.
                    filled += self.load_before_damage(offset + filled as u64, len - filled);
                    break;
                }
            }
        }
        self.bytes.truncate(filled);
    }

    /// Reads block by block into the end of the window until the disk can't; answers how many bytes there are.
    fn load_before_damage(&mut self, offset: u64, len: usize) -> usize {
        let start = self.bytes.len() - len;
        let mut filled = 0;
        while filled < len {
            let step = (len - filled).min(UNREADABLE_STEP_BYTES as usize);
            let buffer = &mut self.bytes[start + filled..start + filled + step];
            match self.file.read_exact_at(buffer, offset + filled as u64) {
                Ok(()) => filled += step,
                Err(_) => break,
            }
        }
        filled
    }

    fn record_at(&mut self, offset: u64, seed: RecordSeed) -> Option<RecordHeader> {
        let header = RecordHeader::decode_unverified(self.at(offset, RECORD_HEADER_BYTES)).ok()?;
        let record = self.at(offset, header.record_bytes() as usize);
        RecordHeader::decode(seed, record).ok().map(|(header, _)| header)
    }

    /// The first place from `offset` on where a record might begin, or the end of the file.
    fn next_magic(&mut self, mut offset: u64) -> u64 {
        while offset < self.file_len {
            let bytes = self.at(offset, WINDOW_BYTES);
            if bytes.is_empty() {
                self.unreadable_bytes += UNREADABLE_STEP_BYTES.min(self.file_len - offset);
                offset += UNREADABLE_STEP_BYTES;
                continue;
            }
            if let Some(found) = bytes.windows(RECORD_MAGIC.len()).position(|window| window == RECORD_MAGIC) {
                return offset + found as u64;
            }
            // The magic may begin in the last bytes.
            let passed = bytes.len().saturating_sub(RECORD_MAGIC.len() - 1).max(1);
            offset += passed as u64;
        }
        self.file_len
    }
}
