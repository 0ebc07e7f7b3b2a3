//! Inode, dirent, orphan and counter records.
//!
//! ```text
//! inode:  kind 1 | mode v | flags v | nlink v | uid v | gid v | rdev v | size v | allocated v | content v | parent v
//!         | 4 x time (seconds zigzag, nanos v): atime mtime ctime btime
//! dirent: kind 1 | ino v
//! orphan: ino v (0: content only) | died v
//! counters: inodes v | directories v | logical bytes v
//! ```
//! `v` is a varint (LEB128). Times are since 1970.

use verfs_base::{Epoch, Ino, Timestamp};

use crate::DecodeError;
use crate::content::ContentId;
use crate::varint::{Reader, put_i64, put_u64};

/// What an inode is, with its code on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum InodeKind {
    /// Regular file.
    Regular = 1,
    /// Directory.
    Directory = 2,
    /// Symbolic link.
    Symlink = 3,
    /// Named pipe.
    Fifo = 4,
    /// Unix socket.
    Socket = 5,
    /// Character device.
    CharDevice = 6,
    /// Block device.
    BlockDevice = 7,
}

impl InodeKind {
    fn decode(code: u8) -> Result<Self, DecodeError> {
        Ok(match code {
            1 => InodeKind::Regular,
            2 => InodeKind::Directory,
            3 => InodeKind::Symlink,
            4 => InodeKind::Fifo,
            5 => InodeKind::Socket,
            6 => InodeKind::CharDevice,
            7 => InodeKind::BlockDevice,
            _ => return Err(DecodeError::Invalid("inode kind")),
        })
    }
}

/// What is special about an inode: bits of its record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct InodeFlags(u32);

impl InodeFlags {
    /// Nothing may change (`chattr +i`).
    pub const IMMUTABLE: InodeFlags = InodeFlags(1);
    /// Bytes and names may be added, nothing else (`chattr +a`).
    pub const APPEND_ONLY: InodeFlags = InodeFlags(2);
    /// `dump(8)` leaves it out (`chattr +d`).
    pub const NO_DUMP: InodeFlags = InodeFlags(4);
    /// Reads don't move its access time (`chattr +A`).
    pub const NO_ATIME: InodeFlags = InodeFlags(8);
    /// It has a record of extended attributes.
    pub const XATTRS: InodeFlags = InodeFlags(16);

    const ALL: u32 = 31;

    /// Whether all of `other` are set.
    #[must_use]
    pub fn contains(self, other: InodeFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// With `other` set too.
    #[must_use]
    pub fn with(self, other: InodeFlags) -> InodeFlags {
        InodeFlags(self.0 | other.0)
    }

    /// With `other` not set.
    #[must_use]
    pub fn without(self, other: InodeFlags) -> InodeFlags {
        InodeFlags(self.0 & !other.0)
    }
}

/// Everything about an inode but its names, extents and extended attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InodeRecord {
    /// What it is.
    pub kind: InodeKind,
    /// `0o7777`.
    pub mode: u16,
    /// What is special about it.
    pub flags: InodeFlags,
    /// Number of names; of a directory, 2 + its subdirectories.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Bytes; of a directory its number of entries; of a symlink its target's length.
    pub size: u64,
    /// Bytes of runs that are no holes.
    pub allocated: u64,
    /// Where its extents are.
    pub content: ContentId,
    /// Directory of its latest name: `..` of a directory, and how a damaged file is named in messages.
    pub parent: Ino,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_i64(out, time.seconds);
    put_u64(out, u64::from(time.nanos));
}

fn read_time(reader: &mut Reader<'_>) -> Result<Timestamp, DecodeError> {
    let seconds = reader.i64()?;
    let nanos = reader.u32()?;
    if nanos >= 1_000_000_000 {
        return Err(DecodeError::Invalid("time"));
    }
    Ok(Timestamp { seconds, nanos })
}

impl InodeRecord {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        put_u64(out, u64::from(self.mode));
        for number in [self.flags.0, self.nlink, self.uid, self.gid, self.rdev] {
            put_u64(out, u64::from(number));
        }
        for number in [self.size, self.allocated, self.content.0, self.parent.0] {
            put_u64(out, number);
        }
        for time in [self.atime, self.mtime, self.ctime, self.btime] {
            put_time(out, time);
        }
    }

    /// Reads a record off the front.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = InodeKind::decode(reader.u8()?)?;
        let mode = u16::try_from(reader.u64()?).ok().filter(|mode| *mode <= 0o7777);
        let mode = mode.ok_or(DecodeError::Invalid("mode"))?;
        let flags = reader.u32()?;
        if flags & !InodeFlags::ALL != 0 {
            return Err(DecodeError::Invalid("inode flags"));
        }
        Ok(InodeRecord {
            kind,
            mode,
            flags: InodeFlags(flags),
            nlink: reader.u32()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            rdev: reader.u32()?,
            size: reader.u64()?,
            allocated: reader.u64()?,
            content: ContentId(reader.u64()?),
            parent: Ino(reader.u64()?),
            atime: read_time(reader)?,
            mtime: read_time(reader)?,
            ctime: read_time(reader)?,
            btime: read_time(reader)?,
        })
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(record)
    }
}

/// What a name leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirentRecord {
    /// What the inode is.
    pub kind: InodeKind,
    /// The inode.
    pub ino: Ino,
}

impl DirentRecord {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        put_u64(out, self.ino.0);
    }

    /// Reads a record off the front.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(DirentRecord { kind: InodeKind::decode(reader.u8()?)?, ino: Ino(reader.u64()?) })
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(record)
    }
}

/// Content that nothing leads to any more and whose references are still to be dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrphanRecord {
    /// The inode that goes with it, if one does: its other records are removed too.
    pub ino: Option<Ino>,
    /// Epoch in which it lost its last name: snapshots of that epoch and later ones don't have it.
    pub died: Epoch,
}

impl OrphanRecord {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.ino.map_or(0, |ino| ino.0));
        put_u64(out, self.died.0);
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let ino = reader.u64()?;
        let died = Epoch(reader.u64()?);
        reader.finish()?;
        Ok(OrphanRecord { ino: (ino != 0).then_some(Ino(ino)), died })
    }
}

/// Sums over the live tree, kept by each group so that statfs and status need no scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TreeCounters {
    /// Inodes, orphans included.
    pub inodes: u64,
    /// Directories.
    pub directories: u64,
    /// Sizes of all regular files.
    pub logical_bytes: u64,
}

impl TreeCounters {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.inodes);
        put_u64(out, self.directories);
        put_u64(out, self.logical_bytes);
    }

    /// Reads a record off the front.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(TreeCounters { inodes: reader.u64()?, directories: reader.u64()?, logical_bytes: reader.u64()? })
    }

    /// Decodes a whole value.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let counters = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(counters)
    }
}
