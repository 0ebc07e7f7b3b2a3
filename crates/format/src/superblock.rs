//! `volume.toml`: what a volume is, written once when it is created.
//!
//! ```text
//! # comment lines, ignored
//! format = 1                                        version of everything on disk
//! uuid = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"     identity of the volume
//! created = 2026-11-21T10:29:07.000000000Z          UTC
//! metadata_engine = "surrealkv"                     engine of meta/
//! chunker = "mincdc"                                algorithm that cuts files into chunks, for good
//! chunk_min_bytes = 21846                           its bounds, for good
//! chunk_mean_bytes = 32768
//! chunk_max_bytes = 43690
//! id_secret = "384 hexadecimal digits"              key of chunk ids and of pack record checksums
//! checksum = "32 hexadecimal digits"                XXH3-128 of the lines above as this module writes them
//! ```
//! The checksum is over the values: comments, blank lines, order and spacing may change, no value may. A file of a
//! newer format is recognised by its `format` alone; nothing else of it is read.

use std::fmt::{self, Write as _};

use serde::Deserialize;
use toml::value::Datetime;
use verfs_base::Timestamp;
use xxhash_rust::xxh3::xxh3_128;

/// Name of the file in the volume's directory.
pub const SUPERBLOCK_FILE: &str = "volume.toml";
/// The format version that this build writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Length of a volume's id secret.
pub const ID_SECRET_BYTES: usize = 192;

const COMMENT: &str = "# A VerFS volume. Written once; do not edit: the checksum covers every value, and chunks are found\n\
                       # by the secret. Keep a copy of this file: without it the volume can't be read.\n";
const LATEST_CREATED_SECONDS: i64 = 253_402_300_799;
const SECONDS_PER_DAY: i64 = 86_400;

/// What a volume is.
#[derive(Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Identity of the volume.
    pub uuid: [u8; 16],
    /// When it was created; outside the years 1970 to 9999 the nearest of their moments is written.
    pub created: Timestamp,
    /// Name of the metadata engine.
    pub metadata_engine: String,
    /// Name of the chunker.
    pub chunker: String,
    /// Smallest chunk, but for the last of a file.
    pub chunk_min_bytes: u32,
    /// Chunk size aimed at.
    pub chunk_mean_bytes: u32,
    /// Largest chunk.
    pub chunk_max_bytes: u32,
    /// Random key of chunk ids.
    pub id_secret: [u8; ID_SECRET_BYTES],
}

/// Why a superblock can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SuperblockError {
    /// A newer VerFS made the volume.
    #[error("the volume has format {found}, this version of VerFS reads up to format {FORMAT_VERSION}")]
    Newer {
        /// The volume's format version.
        found: u64,
    },
    /// The file is not what was written.
    #[error("{SUPERBLOCK_FILE} is damaged: {reason}")]
    Damaged {
        /// What was found.
        reason: String,
    },
}

impl fmt::Debug for Superblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Superblock")
            .field("uuid", &self.uuid_text())
            .field("created", &self.created)
            .field("metadata_engine", &self.metadata_engine)
            .field("chunker", &self.chunker)
            .field("chunk_min_bytes", &self.chunk_min_bytes)
            .field("chunk_mean_bytes", &self.chunk_mean_bytes)
            .field("chunk_max_bytes", &self.chunk_max_bytes)
            .finish_non_exhaustive()
    }
}

impl Superblock {
    /// The uuid in its usual form, 8-4-4-4-12 hexadecimal digits.
    #[must_use]
    pub fn uuid_text(&self) -> String {
        let digits = hex(&self.uuid);
        format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
    }

    /// The text of `volume.toml`.
    #[must_use]
    pub fn encode(&self) -> String {
        let body = self.body();
        format!("{COMMENT}{body}checksum = \"{}\"\n", checksum(&body))
    }

    /// Reads the text of `volume.toml`.
    ///
    /// # Errors
    /// [`SuperblockError`].
    pub fn decode(bytes: &[u8]) -> Result<Superblock, SuperblockError> {
        let text = std::str::from_utf8(bytes).map_err(|error| damaged(format!("it is no UTF-8 text: {error}")))?;
        let version: VersionOnly = parse(text)?;
        if version.format > u64::from(FORMAT_VERSION) {
            return Err(SuperblockError::Newer { found: version.format });
        }
        if version.format == 0 {
            return Err(damaged("it names format 0, which never existed".to_owned()));
        }
        let fields: Fields = parse(text)?;
        let superblock = Superblock {
            uuid: unhex(&fields.uuid.replace('-', ""))
                .ok_or_else(|| damaged(format!("uuid {:?} is not a uuid", fields.uuid)))?,
            created: parse_time(&fields.created)
                .ok_or_else(|| damaged(format!("created {} is not a time in UTC", fields.created)))?,
            metadata_engine: fields.metadata_engine,
            chunker: fields.chunker,
            chunk_min_bytes: fields.chunk_min_bytes,
            chunk_mean_bytes: fields.chunk_mean_bytes,
            chunk_max_bytes: fields.chunk_max_bytes,
            id_secret: unhex(&fields.id_secret)
                .ok_or_else(|| damaged(format!("id_secret is not {} hexadecimal digits", ID_SECRET_BYTES * 2)))?,
        };
        let expected = checksum(&superblock.body());
        if fields.checksum != expected {
            return Err(damaged(format!("its values have checksum {expected}, it says {:?}", fields.checksum)));
        }
        Ok(superblock)
    }

    /// The checksummed lines.
    fn body(&self) -> String {
        format!(
            "format = {FORMAT_VERSION}\nuuid = \"{}\"\ncreated = {}\nmetadata_engine = {}\nchunker = {}\n\
             chunk_min_bytes = {}\nchunk_mean_bytes = {}\nchunk_max_bytes = {}\nid_secret = \"{}\"\n",
            self.uuid_text(),
            time_text(self.created),
            toml::Value::from(self.metadata_engine.as_str()),
            toml::Value::from(self.chunker.as_str()),
            self.chunk_min_bytes,
            self.chunk_mean_bytes,
            self.chunk_max_bytes,
            hex(&self.id_secret),
        )
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    format: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(rename = "format")]
    _format: u64,
    uuid: String,
    created: Datetime,
    metadata_engine: String,
    chunker: String,
    chunk_min_bytes: u32,
    chunk_mean_bytes: u32,
    chunk_max_bytes: u32,
    id_secret: String,
    checksum: String,
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SuperblockError> {
    // The message alone: the full text of the error quotes the line, and the line may be the secret's.
    toml::from_str(text).map_err(|error| damaged(error.message().to_owned()))
}

fn damaged(reason: String) -> SuperblockError {
    SuperblockError::Damaged { reason }
}

fn checksum(body: &str) -> String {
    hex(&xxh3_128(body.as_bytes()).to_be_bytes())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn unhex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()?;
    }
    Some(bytes)
}

/// RFC 3339 with nanoseconds. The calendar's arithmetic is Howard Hinnant's "chrono-compatible low-level date
/// algorithms": days are counted in eras of 400 years that begin on 1 March.
fn time_text(time: Timestamp) -> String {
    let seconds = time.seconds.clamp(0, LATEST_CREATED_SECONDS);
    let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", time.nanos.min(999_999_999))
}

/// The inverse of [`time_text`].
fn parse_time(datetime: &Datetime) -> Option<Timestamp> {
    let (Some(date), Some(time), Some(toml::value::Offset::Z)) = (datetime.date, datetime.time, datetime.offset) else {
        return None;
    };
    let year = i64::from(date.year) - i64::from(date.month <= 2);
    let month_from_march = (i64::from(date.month) + 9) % 12;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(date.day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let second =
        i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or_default());
    let seconds = days * SECONDS_PER_DAY + second;
    (seconds >= 0).then(|| Timestamp { seconds, nanos: time.nanosecond.unwrap_or_default() })
}
