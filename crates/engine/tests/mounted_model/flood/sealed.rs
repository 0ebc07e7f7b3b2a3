//! Files that say who wrote them and whether they are whole.

use std::fs::File;
use std::io::{self, Read};

use verfs_testkit::{FILL_START_MAX, Fill};

/// Length of the seal in front: who wrote it, which of his it is, length of the whole.
const SEAL_BYTES: usize = 24;

/// Who wrote something, and which of his it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stamp {
    pub(crate) writer: u64,
    pub(crate) serial: u64,
}

impl Stamp {
    /// `len` bytes that nobody else writes, sealed. They share most of them with others, so that they take little room.
    pub(crate) fn bytes(self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        for part in [self.writer, self.serial, len as u64] {
            bytes.extend(part.to_le_bytes());
        }
        let start = (self.writer * 7919 + self.serial * 104_729) % u64::from(FILL_START_MAX);
        bytes.extend(Fill::Random(start as u32).bytes(0, len - SEAL_BYTES));
        bytes
    }

    /// Reads the seal of what should be whole, and compares every byte.
    pub(crate) fn of(bytes: &[u8]) -> Result<Stamp, String> {
        let part = |at: usize| {
            bytes.get(at..at + 8).map(|part| part.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
        };
        let (Some(writer), Some(serial), Some(len)) = (part(0), part(8), part(16)) else {
            return Err(format!("{} bytes, not even a seal", bytes.len()));
        };
        let stamp = Stamp { writer, serial };
        if len != bytes.len() as u64 {
            return Err(format!("{stamp:?} wrote {len} bytes, here are {}", bytes.len()));
        }
        let expected = stamp.bytes(bytes.len());
        match expected.iter().zip(bytes).position(|(expected, found)| expected != found) {
            Some(at) => Err(format!("{stamp:?}, of {len} bytes, is another's from {at} on")),
            None => Ok(stamp),
        }
    }

    /// The stamp of a whole file.
    pub(crate) fn of_file(mut file: &File) -> Result<Stamp, String> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error: io::Error| error.to_string())?;
        Stamp::of(&bytes)
    }
}
