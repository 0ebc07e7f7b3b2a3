//! Answers as bytes.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_vfs::{Attr, FsStat};
use zerocopy::{Immutable, IntoBytes};

use crate::abi;
use crate::calls::{Entry, Known, Offset, Refusable, Refusal, Reply, Written, XattrAnswer};
use crate::errno::Errno;
use crate::kernel;
use crate::tree::Lifetime;
use crate::words;

/// Takes the reply of one request to the kernel.
pub(crate) trait Port: Send + 'static {
    /// Sends an errno, or 0 with a structure and with data behind it.
    fn send(self, errno: i32, head: &[u8], data: &[Bytes]);
}

/// The reply of one request, to be sent once. Dropped, as by a panic, it sends EIO: the kernel waits for it.
pub(crate) struct Pending<P: Port> {
    port: Place<P>,
}

/// Where the port is until it is used.
enum Place<P> {
    Here(Option<P>),
    /// Whoever is first takes it.
    Shared(Arc<Mutex<Option<P>>>),
}

impl<P> Place<P> {
    fn take(&mut self) -> Option<P> {
        match self {
            Place::Here(port) => port.take(),
            Place::Shared(port) => port.lock().take(),
        }
    }
}

impl<P: Port> Pending<P> {
    pub(crate) fn new(port: P) -> Pending<P> {
        Pending { port: Place::Here(Some(port)) }
    }

    /// What answers in its place, if it is first.
    pub(super) fn refusal(&mut self) -> Refusal {
        let shared = Arc::new(Mutex::new(self.port.take()));
        self.port = Place::Shared(Arc::clone(&shared));
        Box::new(move |errno| {
            let port = shared.lock().take();
            if let Some(port) = port {
                port.send(errno.0, &[], &[]);
            }
        })
    }

    fn send(mut self, errno: i32, head: &[u8], data: &[Bytes]) {
        if let Some(port) = self.port.take() {
            port.send(errno, head, data);
        }
    }

    pub(super) fn value(self, head: &(impl IntoBytes + Immutable)) {
        self.send(0, head.as_bytes(), &[]);
    }

    pub(super) fn data(self, data: &[Bytes]) {
        self.send(0, &[], data);
    }

    pub(super) fn error(self, errno: Errno) {
        self.send(errno.0, &[], &[]);
    }

    /// Sends `answer` as `write` says, or its error.
    pub(super) fn answer<A>(self, answer: Result<A, Errno>, write: impl FnOnce(Pending<P>, A)) {
        match answer {
            Ok(answer) => write(self, answer),
            Err(errno) => self.error(errno),
        }
    }
}

impl<P: Port> Drop for Pending<P> {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            port.send(Errno::IO.0, &[], &[]);
        }
    }
}

/// The forms of replies, each a type of its own since an answer can have several.
macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name<P: Port>(pub(super) Pending<P>);

            impl<P: Port> Refusable for $name<P> {
                fn refusal(&mut self) -> Option<Refusal> {
                    Some(self.0.refusal())
                }
            }
        )*
    };
}

forms! {
    /// `fuse_entry_out`.
    EntryReply,
    /// `fuse_attr_out`.
    AttrReply,
    /// `fuse_statx_out`.
    StatxReply,
    /// Bytes.
    DataReply,
    /// `fuse_write_out`.
    WrittenReply,
    /// `fuse_copy_file_range_out`.
    Written64Reply,
    /// Nothing.
    EmptyReply,
    /// `fuse_open_out`.
    OpenReply,
    /// `fuse_statfs_out`.
    StatfsReply,
    /// `fuse_getxattr_out`, or bytes.
    XattrReply,
    /// `fuse_lseek_out`.
    LseekReply,
    /// `fuse_ioctl_out` and bytes.
    IoctlReply,
}

fn valid(lifetime: Lifetime) -> (u64, u32) {
    let time = kernel::duration(lifetime);
    (time.as_secs(), time.subsec_nanos())
}

fn attr(attr: &Attr) -> abi::Attr {
    abi::Attr {
        ino: attr.ino.0,
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.seconds,
        mtime: attr.mtime.seconds,
        ctime: attr.ctime.seconds,
        atimensec: attr.atime.nanos,
        mtimensec: attr.mtime.nanos,
        ctimensec: attr.ctime.nanos,
        mode: words::type_bits(attr.kind) | u32::from(attr.mode),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: kernel::PREFERRED_IO_BYTES,
        flags: 0,
    }
}

/// An inode as it is under a name. Inode numbers are never reused, so all have generation 0.
pub(super) fn entry(known: &Attr, attr_lifetime: Lifetime, name_lifetime: Lifetime) -> abi::EntryOut {
    let (attr_valid, attr_valid_nsec) = valid(attr_lifetime);
    let (entry_valid, entry_valid_nsec) = valid(name_lifetime);
    abi::EntryOut {
        nodeid: known.ino.0,
        generation: 0,
        entry_valid,
        attr_valid,
        entry_valid_nsec,
        attr_valid_nsec,
        attr: attr(known),
    }
}

impl<P: Port> Reply<Entry> for EntryReply<P> {
    fn send(self, answer: Result<Entry, Errno>) {
        self.0.answer(answer, |pending, answer| match answer {
            Entry::Found(known, name_lifetime) => pending.value(&entry(&known.attr, known.lifetime, name_lifetime)),
            Entry::Absent(lifetime) => {
                let (entry_valid, entry_valid_nsec) = valid(lifetime);
                pending.value(&abi::EntryOut { entry_valid, entry_valid_nsec, ..Default::default() });
            }
        });
    }
}

impl<P: Port> Reply<Known> for AttrReply<P> {
    fn send(self, answer: Result<Known, Errno>) {
        self.0.answer(answer, |pending, known| {
            let (attr_valid, attr_valid_nsec) = valid(known.lifetime);
            pending.value(&abi::AttrOut { attr_valid, attr_valid_nsec, padding: 0, attr: attr(&known.attr) });
        });
    }
}

fn statx_time(time: verfs_base::Timestamp) -> abi::SxTime {
    abi::SxTime { tv_sec: time.seconds, tv_nsec: time.nanos, reserved: 0 }
}

impl<P: Port> Reply<Known> for StatxReply<P> {
    fn send(self, answer: Result<Known, Errno>) {
        self.0.answer(answer, |pending, Known { attr, lifetime }| {
            let (attr_valid, attr_valid_nsec) = valid(lifetime);
            let (rdev_major, rdev_minor) = words::device_numbers(attr.rdev);
            let stat = abi::Statx {
                mask: libc::STATX_BASIC_STATS | libc::STATX_BTIME,
                blksize: kernel::PREFERRED_IO_BYTES,
                nlink: attr.nlink,
                uid: attr.uid,
                gid: attr.gid,
                // Type and permissions are 16 bits.
                mode: words::type_bits(attr.kind) as u16 | attr.mode,
                ino: attr.ino.0,
                size: attr.size,
                blocks: attr.blocks,
                atime: statx_time(attr.atime),
                btime: statx_time(attr.btime),
                ctime: statx_time(attr.ctime),
                mtime: statx_time(attr.mtime),
                rdev_major,
                rdev_minor,
                ..Default::default()
            };
            pending.value(&abi::StatxOut { attr_valid, attr_valid_nsec, stat, ..Default::default() });
        });
    }
}

impl<P: Port> Reply<Vec<Bytes>> for DataReply<P> {
    fn send(self, answer: Result<Vec<Bytes>, Errno>) {
        self.0.answer(answer, |pending, pieces| pending.data(&pieces));
    }
}

impl<P: Port> Reply<Written> for WrittenReply<P> {
    fn send(self, answer: Result<Written, Errno>) {
        self.0.answer(answer, |pending, written| {
            pending.value(&abi::WriteOut { size: written.bytes, padding: 0 });
        });
    }
}

impl<P: Port> Reply<Written> for Written64Reply<P> {
    fn send(self, answer: Result<Written, Errno>) {
        self.0.answer(answer, |pending, written| pending.value(&abi::WriteOut64 { size: written.bytes.into() }));
    }
}

impl<P: Port> Reply<Written> for EmptyReply<P> {
    fn send(self, answer: Result<Written, Errno>) {
        self.0.answer(answer, |pending, _| pending.data(&[]));
    }
}

impl<P: Port> Reply<()> for EmptyReply<P> {
    fn send(self, answer: Result<(), Errno>) {
        self.0.answer(answer, |pending, ()| pending.data(&[]));
    }
}

impl<P: Port> Reply<Lifetime> for OpenReply<P> {
    /// Nothing hangs on the handle: it says only how long content or listing may be kept.
    fn send(self, answer: Result<Lifetime, Errno>) {
        self.0.answer(answer, |pending, lifetime| {
            let kept = match lifetime {
                Lifetime::Forever => abi::opened::KEEP_CACHE | abi::opened::CACHE_DIR,
                Lifetime::Moment => 0,
            };
            pending.value(&abi::OpenOut { fh: 0, open_flags: kept | abi::opened::NOFLUSH, backing_id: 0 });
        });
    }
}

impl<P: Port> Reply<FsStat> for StatfsReply<P> {
    fn send(self, answer: Result<FsStat, Errno>) {
        self.0.answer(answer, |pending, stat| {
            let room = kernel::Room::of(&stat);
            pending.value(&abi::StatfsOut {
                blocks: room.blocks,
                bfree: room.free_blocks,
                bavail: room.free_blocks,
                files: room.inodes,
                ffree: room.free_inodes,
                bsize: kernel::STATFS_BLOCK_BYTES,
                namelen: kernel::NAME_MAX_BYTES,
                frsize: kernel::STATFS_BLOCK_BYTES,
                ..Default::default()
            });
        });
    }
}

impl<P: Port> Reply<XattrAnswer> for XattrReply<P> {
    fn send(self, answer: Result<XattrAnswer, Errno>) {
        self.0.answer(answer, |pending, answer| match answer {
            XattrAnswer::Size(size) => pending.value(&abi::GetxattrOut { size, padding: 0 }),
            XattrAnswer::Bytes(bytes) => pending.data(&[bytes]),
        });
    }
}

impl<P: Port> Reply<Offset> for LseekReply<P> {
    fn send(self, answer: Result<Offset, Errno>) {
        self.0.answer(answer, |pending, Offset(offset)| pending.value(&abi::LseekOut { offset }));
    }
}

impl<P: Port> Reply<Vec<Bytes>> for IoctlReply<P> {
    fn send(self, answer: Result<Vec<Bytes>, Errno>) {
        self.0.answer(answer, |pending, pieces| pending.send(0, abi::IoctlOut::default().as_bytes(), &pieces));
    }
}
