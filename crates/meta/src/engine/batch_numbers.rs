//! Numbers on fjall's batches, because damage in its journal drops batches without a word.
//!
//! Recovery cuts a journal at the first record that it can't read. In the newest journal that looks like the torn end
//! of a crash, whatever was synced behind it; in an older one the batches of the newer journals stay and a hole is left.
//! * Each batch writes its number into slot `number % SLOTS`, so the slots name the last [`SLOTS`] batches: a hole
//!   shows as a slot that names an older batch.
//! * After each sync the number of the last batch that it covered goes to a small file beside the store: a store that
//!   comes up with less has lost the end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::io_error;
use crate::{MetaError, Result, keys};

/// Batches that can be told apart. A journal is needed until the memtable that was full with it is a table, so more
/// batches than this would have to arrive during one flush for a hole to be overwritten.
const SLOTS: u64 = 4096;

/// The numbers of the batches of an open store.
#[derive(Debug)]
pub(super) struct BatchNumbers {
    last: u64,
}

impl BatchNumbers {
    /// Checks what a store came up with.
    pub(super) fn recover(slots: Vec<(u16, u64)>, synced: u64) -> Result<Self> {
        let last = slots.iter().map(|(_, number)| *number).max().unwrap_or(0);
        if last < synced {
            return Err(MetaError::Corrupt(format!(
                "the journal of the metadata engine is damaged: batch {synced} was synced, the store ends at {last}"
            )));
        }
        let found: std::collections::HashMap<u64, u64> =
            slots.into_iter().map(|(slot, number)| (u64::from(slot), number)).collect();
        for number in last.saturating_sub(SLOTS - 1).max(1)..=last {
            if found.get(&(number % SLOTS)) != Some(&number) {
                return Err(MetaError::Corrupt(format!(
                    "a journal of the metadata engine is damaged: batch {number} of {last} is missing"
                )));
            }
        }
        Ok(BatchNumbers { last })
    }

    /// The slot and the number of the batch to come.
    pub(super) fn next(&self) -> ([u8; 4], u64) {
        let number = self.last + 1;
        // SLOTS fits.
        (keys::batch_slot((number % SLOTS) as u16), number)
    }

    /// The batch was committed.
    pub(super) fn advance(&mut self) {
        self.last += 1;
    }

    /// The number of the last batch that was committed.
    pub(super) fn last(&self) -> u64 {
        self.last
    }
}

/// The file that keeps the highest synced number: two records of it, written in turn, each with a check.
///
/// ```text
/// 0   number  u64, little-endian
/// 8   check   number ^ CHECK, u64, little-endian
/// 512 the other record
/// ```
/// It isn't synced itself: it may only lag, and after a loss of power what it lost of its lead is not looked for.
#[derive(Debug)]
pub(super) struct SyncedFile {
    file: File,
    path: PathBuf,
    number: u64,
    slot: u64,
}

const FILE_NAME: &str = "synced";
const CHECK: u64 = 0x5645_5246_535f_4d45;
const RECORD_BYTES: usize = 16;
/// The records lie in sectors of their own, so that no torn write harms both.
const RECORD_STRIDE: u64 = 512;

impl SyncedFile {
    /// Opens the file of the store in `dir`; a new one says that nothing was synced.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let open = || -> io::Result<(File, Option<(u64, u64)>)> {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let mut newest: Option<(u64, u64)> = None;
            for slot in 0..2 {
                let Some(number) = read_record(&file, slot)? else { continue };
                if newest.is_none_or(|(known, _)| number > known) {
                    newest = Some((number, slot));
                }
            }
            // The room is taken now, so that a full disk can't fail a sync whose work is done.
            if file.metadata()?.len() < RECORD_STRIDE + RECORD_BYTES as u64 {
                file.write_all_at(&[0; RECORD_BYTES], RECORD_STRIDE)?;
                file.write_all_at(&[0; RECORD_BYTES], 0)?;
            }
            Ok((file, newest))
        };
        let (file, newest) = open().map_err(|error| io_error(&path.display().to_string(), &error))?;
        let (number, slot) = newest.unwrap_or((0, 1));
        Ok(SyncedFile { file, path, number, slot })
    }

    /// The highest number that the file knows to be synced.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Remembers that the batches up to `number` are durable.
    pub(super) fn set(&mut self, number: u64) -> Result<()> {
        if number <= self.number {
            return Ok(());
        }
        let slot = 1 - self.slot;
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&number.to_le_bytes());
        record[8..].copy_from_slice(&(number ^ CHECK).to_le_bytes());
        self.file
            .write_all_at(&record, slot * RECORD_STRIDE)
            .map_err(|error| io_error(&self.path.display().to_string(), &error))?;
        (self.number, self.slot) = (number, slot);
        Ok(())
    }
}

fn read_record(file: &File, slot: u64) -> io::Result<Option<u64>> {
    let mut record = [0; RECORD_BYTES];
    match file.read_exact_at(&mut record, slot * RECORD_STRIDE) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let value = |at: usize| record[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Ok((value(0) ^ CHECK == value(8)).then(|| value(0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    /// The slots after batches 1 to `last`, without those that `lost` names.
    fn slots(last: u64, lost: std::ops::Range<u64>) -> Vec<(u16, u64)> {
        let mut slots = std::collections::BTreeMap::new();
        for number in (1..=last).filter(|number| !lost.contains(number)) {
            slots.insert((number % SLOTS) as u16, number);
        }
        slots.into_iter().collect()
    }

    fn is_damage(slots: Vec<(u16, u64)>, synced: u64) -> bool {
        matches!(BatchNumbers::recover(slots, synced), Err(MetaError::Corrupt(_)))
    }

    #[test]
    fn whole_stores_of_every_length_come_up_with_their_last_number() {
        for last in [0, 1, 2, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS + 7] {
            assert_eq!(BatchNumbers::recover(slots(last, 0..0), last).unwrap().last(), last);
        }
    }

    #[test]
    fn a_hole_is_damage_wherever_it_is_and_a_lost_end_is_one_if_it_was_synced() {
        for last in [10, SLOTS, 3 * SLOTS + 7] {
            assert!(is_damage(slots(last, last - 3..last - 1), 0));
            assert!(is_damage(slots(last, last - 1..last), 0));
            assert!(is_damage(slots(last, last - 3..last + 1), last - 2));
            assert!(!is_damage(slots(last, last - 3..last + 1), last - 4), "an unsynced end may go");
        }
        assert!(is_damage(slots(3 * SLOTS, 2 * SLOTS + 1..2 * SLOTS + 2), 0), "the oldest number that is still known");
    }

    #[test]
    fn the_file_keeps_the_highest_number_and_survives_one_torn_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = SyncedFile::open(dir.path()).unwrap();
        assert_eq!(file.number(), 0);
        for number in [3, 9, 4] {
            file.set(number).unwrap();
        }
        assert_eq!(SyncedFile::open(dir.path()).unwrap().number(), 9);
        file.file.write_all_at(&[0xff; 4], file.slot * RECORD_STRIDE).unwrap();
        assert_eq!(SyncedFile::open(dir.path()).unwrap().number(), 3);
    }
}
