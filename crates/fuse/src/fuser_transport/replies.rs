//! How the library's replies take our answers.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bytes::Bytes;
use fuser::{
    FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr,
};
use verfs_vfs::{DirEntry, FileKind, FsStat, Listing};

use super::convert::{bare_attr, error, file_attr, file_type};
use crate::calls::{Added, Entry, Known, ListingReply, Offset, Refusable, Reply, Written, XattrAnswer};
use crate::errno::Errno;
use crate::kernel;
use crate::operation::Operation;
use crate::tree::Lifetime;

/// Inode numbers are never reused, so one generation serves them all.
const GENERATION: Generation = Generation(0);

/// The library's replies are nobody else's.
macro_rules! not_shared {
    ($($reply:ty),* $(,)?) => {
        $(impl Refusable for $reply {})*
    };
}

not_shared!(
    ReplyAttr,
    ReplyBmap,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyIoctl,
    ReplyLock,
    ReplyLseek,
    ReplyOpen,
    ReplyPoll,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr,
);

impl Reply<Entry> for ReplyEntry {
    fn send(self, answer: Result<Entry, Errno>) {
        match answer {
            Ok(Entry::Found(Known { attr, lifetime }, name_lifetime)) => {
                let (attr_time, name_time) = (kernel::duration(lifetime), kernel::duration(name_lifetime));
                self.entry_with_ttls(&attr_time, &name_time, &file_attr(&attr), GENERATION);
            }
            Ok(Entry::Absent(lifetime)) => {
                let nothing = bare_attr(0, FileKind::Regular);
                self.entry_with_ttls(&Duration::ZERO, &kernel::duration(lifetime), &nothing, GENERATION);
            }
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl Reply<Known> for ReplyAttr {
    fn send(self, answer: Result<Known, Errno>) {
        match answer {
            Ok(Known { attr, lifetime }) => self.attr(&kernel::duration(lifetime), &file_attr(&attr)),
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl Reply<Vec<Bytes>> for ReplyData {
    fn send(self, answer: Result<Vec<Bytes>, Errno>) {
        match answer.as_deref() {
            Ok([]) => self.data(&[]),
            Ok([whole]) => self.data(whole),
            // The library takes one slice only.
            Ok(pieces) => self.data(&pieces.concat()),
            Err(errno) => self.error(error(*errno)),
        }
    }
}

impl Reply<Written> for ReplyWrite {
    fn send(self, answer: Result<Written, Errno>) {
        match answer {
            Ok(Written { bytes, .. }) => self.written(bytes),
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl Reply<Written> for ReplyEmpty {
    fn send(self, answer: Result<Written, Errno>) {
        Reply::<()>::send(self, answer.map(|_| ()));
    }
}

impl Reply<()> for ReplyEmpty {
    fn send(self, answer: Result<(), Errno>) {
        match answer {
            Ok(()) => self.ok(),
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl Reply<Lifetime> for ReplyOpen {
    /// Nothing hangs on the handle: it says only how long content or listing may be kept.
    fn send(self, answer: Result<Lifetime, Errno>) {
        match answer {
            Ok(lifetime) => {
                let cached = match lifetime {
                    Lifetime::Forever => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR,
                    Lifetime::Moment => FopenFlags::empty(),
                };
                self.opened(FileHandle(0), cached | FopenFlags::FOPEN_NOFLUSH);
            }
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl Reply<FsStat> for ReplyStatfs {
    fn send(self, answer: Result<FsStat, Errno>) {
        match answer {
            Ok(stat) => {
                let room = kernel::Room::of(&stat);
                self.statfs(
                    room.blocks,
                    room.free_blocks,
                    room.free_blocks,
                    room.inodes,
                    room.free_inodes,
                    kernel::STATFS_BLOCK_BYTES,
                    kernel::NAME_MAX_BYTES,
                    kernel::STATFS_BLOCK_BYTES,
                );
            }
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl Reply<()> for ReplyDirectory {
    fn send(self, answer: Result<(), Errno>) {
        match answer {
            Ok(()) => self.ok(),
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl ListingReply for ReplyDirectory {
    const LISTING: Listing = Listing::Names;
    const BATCH_ENTRIES: usize = kernel::NAMES_BATCH_ENTRIES;
    const OPERATION: Operation = Operation::Readdir;

    fn add(&mut self, entry: &DirEntry, _: Lifetime) -> Added {
        let name = OsStr::from_bytes(&entry.name);
        let full = ReplyDirectory::add(self, INodeNo(entry.ino.0), entry.cookie, file_type(entry.kind), name);
        if full { Added::Full } else { Added::Yes }
    }
}

impl Reply<()> for ReplyDirectoryPlus {
    fn send(self, answer: Result<(), Errno>) {
        match answer {
            Ok(()) => self.ok(),
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl ListingReply for ReplyDirectoryPlus {
    const LISTING: Listing = Listing::Plus;
    const BATCH_ENTRIES: usize = kernel::PLUS_BATCH_ENTRIES;
    const OPERATION: Operation = Operation::Readdirplus;

    fn add(&mut self, entry: &DirEntry, lifetime: Lifetime) -> Added {
        let attr = match &entry.attr {
            Some(attr) => file_attr(attr),
            None if matches!(&*entry.name, b"." | b"..") => bare_attr(entry.ino.0, entry.kind),
            None => return Added::Incomplete,
        };
        let name = OsStr::from_bytes(&entry.name);
        let number = INodeNo(entry.ino.0);
        let time = kernel::duration(lifetime);
        let full = ReplyDirectoryPlus::add(self, number, entry.cookie, name, &time, &attr, GENERATION);
        if full { Added::Full } else { Added::Yes }
    }
}

/// Replies of operations that are only ever declined.
macro_rules! declined {
    ($($reply:ty),*) => {
        $(impl Reply<()> for $reply {
            fn send(self, answer: Result<(), Errno>) {
                self.error(error(answer.err().unwrap_or(Errno::NOT_IMPLEMENTED)));
            }
        })*
    };
}

declined!(ReplyCreate, ReplyLock, ReplyBmap, ReplyPoll);

impl Reply<XattrAnswer> for ReplyXattr {
    fn send(self, answer: Result<XattrAnswer, Errno>) {
        match answer {
            Ok(XattrAnswer::Size(size)) => self.size(size),
            Ok(XattrAnswer::Bytes(bytes)) => self.data(&bytes),
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl Reply<Offset> for ReplyLseek {
    fn send(self, answer: Result<Offset, Errno>) {
        match answer {
            Ok(Offset(offset)) => self.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
            Err(errno) => self.error(error(errno)),
        }
    }
}

impl Reply<Vec<Bytes>> for ReplyIoctl {
    fn send(self, answer: Result<Vec<Bytes>, Errno>) {
        match answer {
            Ok(pieces) => self.ioctl(0, &pieces.concat()),
            Err(errno) => self.error(error(errno)),
        }
    }
}
