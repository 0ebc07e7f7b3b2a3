//! How far a scrub of a store's packs is, and how the last one ended.
//!
//! ```text
//! Sscrub.state     flags 1 (1: one ended, 2: one is under way) | that many passes
//! pass             began | seen | next pack v | offset v | packs v | records v | bytes v | damaged v | dead damaged v
//!                  | sealed v | indexes v;   times: seconds zigzag v, nanoseconds v
//! ```

use verfs_base::{PackId, Timestamp};

use crate::DecodeError;
use crate::varint::{Reader, put_i64, put_u64};

/// System value: [`ScrubRecord`].
pub const SYSTEM_SCRUB: &[u8] = b"Sscrub.state";

const ENDED: u8 = 1;
const UNDER_WAY: u8 = 2;

/// What a scrub saw.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ScrubTally {
    /// Packs.
    pub packs: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Records that are needed and damaged or missing.
    pub damaged: u64,
    /// Damaged records that nothing needs.
    pub dead_damaged: u64,
    /// Records whose seal could not be opened: their checksums were right, what is in them nobody looked at.
    pub sealed: u64,
    /// Indexes of packs that were missing, damaged or incomplete, and were made anew.
    pub indexes_mended: u64,
}

impl ScrubTally {
    /// Both together.
    #[must_use]
    pub fn with(&self, other: &ScrubTally) -> ScrubTally {
        ScrubTally {
            packs: self.packs + other.packs,
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
            damaged: self.damaged + other.damaged,
            dead_damaged: self.dead_damaged + other.dead_damaged,
            sealed: self.sealed + other.sealed,
            indexes_mended: self.indexes_mended + other.indexes_mended,
        }
    }
}

/// One scrub of all packs, in however many pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubPass {
    /// When it began.
    pub began: Timestamp,
    /// When this was written: its end, where it has ended.
    pub seen: Timestamp,
    /// Packs with lower numbers are done.
    pub next_pack: PackId,
    /// In this one, blocks before this offset are done.
    pub offset: u64,
    /// What it saw so far.
    pub tally: ScrubTally,
}

/// The value of [`SYSTEM_SCRUB`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ScrubRecord {
    /// The last one that saw all packs.
    pub ended: Option<ScrubPass>,
    /// The one that is under way, or was stopped.
    pub under_way: Option<ScrubPass>,
}

fn put_pass(out: &mut Vec<u8>, pass: &ScrubPass) {
    for time in [pass.began, pass.seen] {
        put_i64(out, time.seconds);
        put_u64(out, u64::from(time.nanos));
    }
    let ScrubTally { packs, records, bytes, damaged, dead_damaged, sealed, indexes_mended } = pass.tally;
    for number in [pass.next_pack.0, pass.offset, packs, records, bytes, damaged, dead_damaged, sealed, indexes_mended]
    {
        put_u64(out, number);
    }
}

fn read_pass(reader: &mut Reader<'_>) -> Result<ScrubPass, DecodeError> {
    let mut time = || -> Result<Timestamp, DecodeError> {
        let time = Timestamp { seconds: reader.i64()?, nanos: reader.u32()? };
        if time.nanos < 1_000_000_000 { Ok(time) } else { Err(DecodeError::Invalid("time")) }
    };
    let (began, seen) = (time()?, time()?);
    Ok(ScrubPass {
        began,
        seen,
        next_pack: PackId(reader.u64()?),
        offset: reader.u64()?,
        tally: ScrubTally {
            packs: reader.u64()?,
            records: reader.u64()?,
            bytes: reader.u64()?,
            damaged: reader.u64()?,
            dead_damaged: reader.u64()?,
            sealed: reader.u64()?,
            indexes_mended: reader.u64()?,
        },
    })
}

impl ScrubRecord {
    /// The value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flag = |pass: &Option<ScrubPass>, flag| if pass.is_some() { flag } else { 0 };
        let mut out = vec![flag(&self.ended, ENDED) | flag(&self.under_way, UNDER_WAY)];
        for pass in [&self.ended, &self.under_way].into_iter().flatten() {
            put_pass(&mut out, pass);
        }
        out
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<ScrubRecord, DecodeError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u8()?;
        if flags & !(ENDED | UNDER_WAY) != 0 {
            return Err(DecodeError::Invalid("scrub flags"));
        }
        let mut pass = |flag: u8| (flags & flag != 0).then(|| read_pass(&mut reader)).transpose();
        let record = ScrubRecord { ended: pass(ENDED)?, under_way: pass(UNDER_WAY)? };
        reader.finish()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_and_nothing_else_is_one() {
        let tally = ScrubTally {
            packs: 1,
            records: 300,
            bytes: 1 << 40,
            damaged: 4,
            dead_damaged: 5,
            sealed: 6,
            indexes_mended: 7,
        };
        let began = Timestamp { seconds: -5, nanos: 999_999_999 };
        let pass = ScrubPass {
            began,
            seen: Timestamp { seconds: 1 << 40, nanos: 0 },
            next_pack: PackId(129),
            offset: 300,
            tally,
        };
        for record in [
            ScrubRecord::default(),
            ScrubRecord { ended: Some(pass), under_way: None },
            ScrubRecord { ended: None, under_way: Some(pass) },
            ScrubRecord { ended: Some(ScrubPass { next_pack: PackId(1), ..pass }), under_way: Some(pass) },
        ] {
            let bytes = record.encode();
            assert_eq!(ScrubRecord::decode(&bytes), Ok(record));
            for cut in 0..bytes.len() {
                assert!(ScrubRecord::decode(&bytes[..cut]).is_err(), "{record:?} cut at {cut}");
            }
            assert!(ScrubRecord::decode(&[&bytes[..], &[0]].concat()).is_err(), "{record:?} and a byte");
        }
        assert!(ScrubRecord::decode(&[4]).is_err());
    }
}
