//! A request, read: which call it is, with what.

use std::borrow::Cow;

use verfs_base::{Ino, Timestamp};
use verfs_vfs::{SetAttr, SetTime, SyncScope};

use super::arguments::{Arguments, Malformed};
use crate::abi::{self, InHeader};
use crate::calls::{
    Access, CopyFileRange, Fallocate, Fsync, Getattr, Getxattr, Ioctl, Link, Listxattr, Lookup, Lseek, Mkdir, Mknod,
    Read, Readdir, Readlink, Removexattr, Rename, Rmdir, Setattr, Setxattr, Statx, Symlink, Unlink, Write,
};
use crate::dispatch::{Caller, OpenFor};
use crate::errno::Errno;
use crate::ioctl::IoctlCommand;
use crate::kernel;
use crate::operation::Operation;
use crate::words;

/// A request that can be served.
pub(crate) enum Message<'a> {
    Lookup(Lookup<'a>),
    Getattr(Getattr),
    Access(Access),
    Statx(Statx),
    Setattr(Setattr),
    Readlink(Readlink),
    Symlink(Symlink<'a>),
    Mknod(Mknod<'a>, Caller),
    Mkdir(Mkdir<'a>, Caller),
    Unlink(Unlink<'a>),
    Rmdir(Rmdir<'a>),
    Rename(Rename<'a>),
    Link(Link<'a>),
    Open(OpenFor),
    OpenDirectory(Ino),
    Create,
    Read(Read),
    Write(Write<'a>),
    Statfs,
    Fsync(Fsync),
    Setxattr(Setxattr<'a>),
    Getxattr(Getxattr<'a>),
    Listxattr(Listxattr),
    Removexattr(Removexattr<'a>),
    /// A listing, and the bytes that its reply may have.
    Readdir(Readdir, usize),
    /// The same with attributes.
    Readdirplus(Readdir, usize),
    Ioctl(Ioctl),
    Fallocate(Fallocate),
    Lseek(Lseek),
    CopyFileRange(CopyFileRange),
    CopyFileRange64(CopyFileRange),
    /// Nothing is to be done.
    Accepted(Operation),
    /// The kernel is to do without it.
    Declined(Operation),
    /// An error whatever the tree has.
    Refused(Operation, Errno),
}

/// A message to which there is no reply.
pub(crate) enum Notice<'a> {
    Forget(Ino, u64),
    BatchForget(Forgets<'a>),
    /// Says nothing that is of use.
    Nothing,
}

/// The inodes of one BATCH_FORGET, as far as there are as many as it says.
pub(crate) struct Forgets<'a> {
    count: u32,
    arguments: Arguments<'a>,
}

impl Iterator for Forgets<'_> {
    type Item = (Ino, u64);

    fn next(&mut self) -> Option<(Ino, u64)> {
        self.count = self.count.checked_sub(1)?;
        let one: abi::ForgetOne = self.arguments.take().ok()?;
        Some((Ino(one.nodeid), one.nlookup))
    }
}

impl<'a> Notice<'a> {
    /// Reads a request of a kind that has no reply; `None` for the others.
    pub(crate) fn read(operation: Operation, nodeid: u64, mut arguments: Arguments<'a>) -> Option<Notice<'a>> {
        let read = match operation {
            Operation::Forget => arguments.take().map(|body: abi::ForgetIn| Notice::Forget(Ino(nodeid), body.nlookup)),
            Operation::BatchForget => arguments
                .take()
                .map(|body: abi::BatchForgetIn| Notice::BatchForget(Forgets { count: body.count, arguments })),
            Operation::NotifyReply => Ok(Notice::Nothing),
            _ => return None,
        };
        Some(read.unwrap_or(Notice::Nothing))
    }
}

impl From<Malformed> for Errno {
    fn from(_: Malformed) -> Errno {
        Errno::INVALID
    }
}

fn name(text: &[u8]) -> Cow<'_, [u8]> {
    Cow::Borrowed(text)
}

impl<'a> Message<'a> {
    /// Reads a request of a kind that has a reply.
    ///
    /// # Errors
    /// What to answer to a request that ends too early, or says what no request can.
    pub(crate) fn read(
        operation: Operation,
        header: &InHeader,
        mut arguments: Arguments<'a>,
    ) -> Result<Message<'a>, Errno> {
        let ino = Ino(header.nodeid);
        let caller = words::caller(header.uid, header.gid);
        let arguments = &mut arguments;
        Ok(match operation {
            Operation::Lookup => Message::Lookup(Lookup { parent: ino, name: name(arguments.text()?) }),
            Operation::Getattr => Message::Getattr(Getattr { ino }),
            Operation::Statx => Message::Statx(Statx { ino }),
            Operation::Setattr => Message::Setattr(Setattr { ino, change: change(&arguments.take()?) }),
            Operation::Readlink => Message::Readlink(Readlink { ino }),
            Operation::Symlink => {
                let link = name(arguments.text()?);
                Message::Symlink(Symlink { parent: ino, name: link, target: name(arguments.text()?) })
            }
            Operation::Mknod => {
                let body: abi::MknodIn = arguments.take()?;
                let kind = words::node_kind(body.mode, body.rdev).ok_or(Errno::INVALID)?;
                let mode = words::permissions(body.mode);
                let call = Mknod { parent: ino, name: name(arguments.text()?), kind, mode };
                Message::Mknod(call, words::creator(caller, body.umask))
            }
            Operation::Mkdir => {
                let body: abi::MkdirIn = arguments.take()?;
                let mode = words::permissions(body.mode);
                let call = Mkdir { parent: ino, name: name(arguments.text()?), mode };
                Message::Mkdir(call, words::creator(caller, body.umask))
            }
            Operation::Unlink => Message::Unlink(Unlink { parent: ino, name: name(arguments.text()?) }),
            Operation::Rmdir => Message::Rmdir(Rmdir { parent: ino, name: name(arguments.text()?) }),
            Operation::Rename => {
                let body: abi::RenameIn = arguments.take()?;
                Message::Rename(rename(ino, body.newdir, 0, arguments)?)
            }
            Operation::Rename2 => {
                let body: abi::Rename2In = arguments.take()?;
                Message::Rename(rename(ino, body.newdir, body.flags, arguments)?)
            }
            Operation::Link => {
                let body: abi::LinkIn = arguments.take()?;
                Message::Link(Link { ino: Ino(body.oldnodeid), parent: ino, name: name(arguments.text()?) })
            }
            Operation::Open => {
                let body: abi::OpenIn = arguments.take()?;
                Message::Open(words::open_for(body.flags as i32))
            }
            Operation::Opendir => Message::OpenDirectory(ino),
            Operation::Create => Message::Create,
            Operation::Read => {
                let body: abi::ReadIn = arguments.take()?;
                Message::Read(Read {
                    ino,
                    offset: body.offset,
                    len: body.size.min(kernel::WRITE_MAX_BYTES),
                    access_times: words::access_times(body.flags as i32),
                })
            }
            Operation::Write => {
                let body: abi::WriteIn = arguments.take()?;
                Message::Write(Write { ino, offset: body.offset, data: name(arguments.data(body.size)?) })
            }
            Operation::Statfs => Message::Statfs,
            Operation::Fsync | Operation::Fsyncdir => {
                let body: abi::FsyncIn = arguments.take()?;
                let data_only = body.fsync_flags & abi::FSYNC_DATA_ONLY != 0;
                Message::Fsync(Fsync { ino, scope: if data_only { SyncScope::Data } else { SyncScope::All } })
            }
            Operation::Setxattr => {
                let body: abi::SetxattrIn = arguments.take()?;
                let mode = words::xattr_mode(body.flags as i32).ok_or(Errno::INVALID)?;
                let attribute = name(arguments.text()?);
                Message::Setxattr(Setxattr { ino, name: attribute, value: name(arguments.data(body.size)?), mode })
            }
            Operation::Getxattr => {
                let body: abi::GetxattrIn = arguments.take()?;
                Message::Getxattr(Getxattr { ino, name: name(arguments.text()?), room: body.size })
            }
            Operation::Listxattr => {
                let body: abi::GetxattrIn = arguments.take()?;
                Message::Listxattr(Listxattr { ino, room: body.size })
            }
            Operation::Removexattr => Message::Removexattr(Removexattr { ino, name: name(arguments.text()?) }),
            Operation::Readdir => {
                let (call, room) = listing(ino, arguments)?;
                Message::Readdir(call, room)
            }
            Operation::Readdirplus => {
                let (call, room) = listing(ino, arguments)?;
                Message::Readdirplus(call, room)
            }
            Operation::Ioctl => {
                let body: abi::IoctlIn = arguments.take()?;
                match IoctlCommand::of(body.cmd, arguments.data(body.in_size)?) {
                    Some(command) => Message::Ioctl(Ioctl { ino, command }),
                    None => Message::Refused(operation, Errno::NO_SUCH_COMMAND),
                }
            }
            Operation::Fallocate => {
                let body: abi::FallocateIn = arguments.take()?;
                let allocation = words::allocation(body.mode as i32).ok_or(Errno::UNSUPPORTED)?;
                Message::Fallocate(Fallocate { ino, offset: body.offset, len: body.length, allocation })
            }
            Operation::Access => {
                let body: abi::AccessIn = arguments.take()?;
                Message::Access(Access { ino, executes: body.mask as i32 & libc::X_OK != 0 })
            }
            Operation::Lseek => {
                let body: abi::LseekIn = arguments.take()?;
                let wanted = words::seek_for(body.whence as i32).ok_or(Errno::INVALID)?;
                // Negative, in the kernel's words.
                let offset = i64::try_from(body.offset).map_err(|_| Errno::INVALID)?.unsigned_abs();
                Message::Lseek(Lseek { ino, offset, wanted })
            }
            Operation::CopyFileRange => Message::CopyFileRange(copy(ino, &arguments.take()?)),
            Operation::CopyFileRange64 => Message::CopyFileRange64(copy(ino, &arguments.take()?)),
            Operation::Release | Operation::Releasedir | Operation::Destroy => Message::Accepted(operation),
            // The kernel asks for it once, before there is a session.
            Operation::Init => Message::Refused(operation, Errno::IO),
            Operation::Flush
            | Operation::Getlk
            | Operation::Setlk
            | Operation::Setlkw
            | Operation::Interrupt
            | Operation::Bmap
            | Operation::Poll
            | Operation::Setupmapping
            | Operation::Removemapping
            | Operation::Syncfs
            | Operation::Tmpfile
            // These have no reply.
            | Operation::Forget
            | Operation::BatchForget
            | Operation::NotifyReply => Message::Declined(operation),
        })
    }
}

fn change(body: &abi::SetattrIn) -> SetAttr {
    use abi::setattr;
    let is_set = |flag: u32| body.valid & flag != 0;
    let time = |flag: u32, now: u32, seconds: i64, nanos: u32| match (is_set(flag), is_set(now)) {
        (_, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::At(timestamp(seconds, nanos))),
        (false, false) => None,
    };
    SetAttr {
        mode: is_set(setattr::MODE).then(|| words::permissions(body.mode)),
        uid: is_set(setattr::UID).then_some(body.uid),
        gid: is_set(setattr::GID).then_some(body.gid),
        size: is_set(setattr::SIZE).then_some(body.size),
        atime: time(setattr::ATIME, setattr::ATIME_NOW, body.atime, body.atimensec),
        mtime: time(setattr::MTIME, setattr::MTIME_NOW, body.mtime, body.mtimensec),
        ctime: is_set(setattr::CTIME).then(|| timestamp(body.ctime, body.ctimensec)),
    }
}

fn timestamp(seconds: i64, nanos: u32) -> Timestamp {
    const NANOS_MAX: u32 = 999_999_999;
    Timestamp { seconds, nanos: nanos.min(NANOS_MAX) }
}

fn rename<'a>(ino: Ino, newdir: u64, flags: u32, arguments: &mut Arguments<'a>) -> Result<Rename<'a>, Errno> {
    let mode = words::rename_mode(flags).ok_or(Errno::INVALID)?;
    let old = name(arguments.text()?);
    Ok(Rename { parent: ino, name: old, new_parent: Ino(newdir), new_name: name(arguments.text()?), mode })
}

fn listing(ino: Ino, arguments: &mut Arguments<'_>) -> Result<(Readdir, usize), Malformed> {
    let body: abi::ReadIn = arguments.take()?;
    Ok((Readdir { ino, cookie: body.offset }, body.size.min(kernel::WRITE_MAX_BYTES) as usize))
}

fn copy(ino: Ino, body: &abi::CopyFileRangeIn) -> CopyFileRange {
    CopyFileRange { from: (ino, body.off_in), to: (Ino(body.nodeid_out), body.off_out), len: body.len }
}
