//! Arguments and results of file operations.

use napi::bindgen_prelude::{Buffer, BufferSlice, Either};
use napi::{Error, Status};
use napi_derive::napi;
use verfs_engine::{Access, Entries, FileKind, Found, FsStat, Links, Listed, NewTimes, Timestamp};

/// A path: text, or bytes where a name is no UTF-8.
#[napi]
pub type FilePath<'a> = Either<String, BufferSlice<'a>>;

/// Attributes of a file. Times are seconds since 1970 and nanoseconds.
#[napi(object)]
pub struct FileAttributes {
    /// In which tree it is: 0 the volume's own; its snapshots and its vault are others. Inode numbers are of their tree.
    pub tree: f64,
    /// Inode number.
    pub ino: f64,
    /// Kind and permissions, as in `st_mode`.
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device.
    pub rdev: u32,
    /// Bytes.
    pub size: f64,
    /// Blocks of 512 bytes.
    pub blocks: f64,
    /// Last access.
    pub atime_s: f64,
    /// Its nanoseconds.
    pub atime_ns: u32,
    /// Last change of the content.
    pub mtime_s: f64,
    /// Its nanoseconds.
    pub mtime_ns: u32,
    /// Last change of the inode.
    pub ctime_s: f64,
    /// Its nanoseconds.
    pub ctime_ns: u32,
    /// Creation.
    pub btime_s: f64,
    /// Its nanoseconds.
    pub btime_ns: u32,
}

/// Entries of a directory.
#[napi(object)]
pub struct FileEntries {
    /// Names, each followed by NUL.
    pub names: Buffer,
    /// For each what it is: its bits of `st_mode`, shifted by 12.
    pub kinds: Buffer,
}

/// The first entries of a directory.
#[napi(object)]
pub struct FirstEntries {
    /// They.
    pub entries: FileEntries,
    /// The open directory that has the others, if there are more; to be closed.
    pub rest: Option<i32>,
}

/// Room and counts.
#[napi(object)]
pub struct FileRoom {
    /// Bytes of the disk.
    pub total_bytes: f64,
    /// Bytes that may still be written.
    pub available_bytes: f64,
    /// Inodes in use.
    pub inodes: f64,
}

/// The kind's bits of `st_mode`, shifted by 12 (inode(7)).
fn kind_bits(kind: FileKind) -> u8 {
    match kind {
        FileKind::Fifo => 1,
        FileKind::CharDevice => 2,
        FileKind::Directory => 4,
        FileKind::BlockDevice => 6,
        FileKind::Regular => 8,
        FileKind::Symlink => 10,
        FileKind::Socket => 12,
    }
}

#[allow(clippy::cast_precision_loss, reason = "sizes and inode numbers stay below 2^53")]
fn number(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in f64 for 280 million years")]
fn seconds(time: Timestamp) -> f64 {
    time.seconds as f64
}

impl From<Found> for FileAttributes {
    fn from(attr: Found) -> Self {
        let (tree, ino) = attr.identity();
        Self {
            tree: number(tree),
            ino: number(ino.0),
            mode: u32::from(kind_bits(attr.kind)) << 12 | u32::from(attr.mode),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            size: number(attr.size),
            blocks: number(attr.blocks),
            atime_s: seconds(attr.atime),
            atime_ns: attr.atime.nanos,
            mtime_s: seconds(attr.mtime),
            mtime_ns: attr.mtime.nanos,
            ctime_s: seconds(attr.ctime),
            ctime_ns: attr.ctime.nanos,
            btime_s: seconds(attr.btime),
            btime_ns: attr.btime.nanos,
        }
    }
}

impl From<Entries> for FileEntries {
    fn from(entries: Entries) -> Self {
        let kinds: Vec<u8> = entries.kinds.into_iter().map(kind_bits).collect();
        Self { names: entries.names.into(), kinds: kinds.into() }
    }
}

impl From<Listed> for FirstEntries {
    fn from(listed: Listed) -> Self {
        Self { entries: listed.entries.into(), rest: listed.rest }
    }
}

impl From<FsStat> for FileRoom {
    fn from(stat: FsStat) -> Self {
        Self {
            total_bytes: number(stat.total_bytes),
            available_bytes: number(stat.available_bytes),
            inodes: number(stat.inodes),
        }
    }
}

pub(super) fn names_of(path: FilePath<'_>) -> Vec<u8> {
    match path {
        Either::A(text) => text.into_bytes(),
        Either::B(bytes) => bytes.to_vec(),
    }
}

pub(super) fn links(follow: bool) -> Links {
    if follow { Links::Follow } else { Links::Stay }
}

#[allow(clippy::cast_possible_truncation, reason = "masked")]
pub(super) fn mode(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

fn wrong(what: &str) -> Error {
    Error::new(Status::InvalidArg, what)
}

pub(super) fn access(bits: u32) -> napi::Result<Access> {
    Access::from_bits(bits).ok_or_else(|| wrong("the mode of access has 3 bits"))
}

/// An offset or a length: a whole number from 0 to 2^53 - 1.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
pub(super) fn offset(value: f64) -> napi::Result<u64> {
    const SAFE_MAX: f64 = 9_007_199_254_740_991.0;
    match value.fract() == 0.0 && (0.0..=SAFE_MAX).contains(&value) {
        true => Ok(value as u64),
        false => Err(wrong("an offset is a whole number from 0 to 2^53 - 1")),
    }
}

/// Times that are seconds since 1970, with parts.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
fn time(value: f64) -> napi::Result<Timestamp> {
    const FAR: f64 = 9e15;
    if !value.is_finite() || value.abs() > FAR {
        return Err(wrong("a time is a number of seconds since 1970"));
    }
    let whole = value.floor();
    Ok(Timestamp { seconds: whole as i64, nanos: (((value - whole) * 1e9) as u32).min(999_999_999) })
}

pub(super) fn times(accessed: f64, modified: f64) -> napi::Result<NewTimes> {
    Ok(NewTimes { accessed: time(accessed)?, modified: time(modified)? })
}
