//! The library's callbacks: each turns one request into a call.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use verfs_vfs::{SetAttr, SyncScope};

use super::convert::{caller, ino, name, set_time, timestamp};
use crate::calls::{
    CopyFileRange, Fallocate, Fsync, Getattr, Getxattr, Ioctl, Link, Listxattr, Lookup, Lseek, Mkdir, Mknod, Read,
    Readdir, Readlink, Removexattr, Rename, Rmdir, Setattr, Setxattr, Statfs, Symlink, Unlink, Write,
};
use crate::dispatch::{Dispatcher, Spared};
use crate::errno::Errno;
use crate::ioctl::IoctlCommand;
use crate::kernel;
use crate::operation::Operation;
use crate::tree::Tree;
use crate::words::{
    access_times, allocation, creator, node_kind, open_for, permissions, rename_mode, seek_for, xattr_mode,
};

/// What the kernel is asked for, where it has it; see docs/decisions/0009-kernel-interface.md for why each.
const CAPABILITIES: [InitFlags; 11] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_HAS_IOCTL_DIR,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// Turns callbacks into calls.
pub(super) struct Adapter<T> {
    dispatcher: Arc<Dispatcher<T>>,
    spared: Spared,
}

impl<T> Adapter<T> {
    pub(super) fn new(dispatcher: Arc<Dispatcher<T>>) -> Adapter<T> {
        Adapter { dispatcher, spared: Spared::default() }
    }
}

impl<T: Tree> Filesystem for Adapter<T> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                tracing::info!(?capability, "this kernel can't do it");
            }
        }
        self.spared = Spared {
            open: config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT),
            opendir: config.capabilities().contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT),
        };
        let limits = [
            config.set_max_write(kernel::WRITE_MAX_BYTES).err(),
            config.set_max_background(kernel::BACKGROUND_REQUESTS_MAX).err().map(u32::from),
        ];
        for nearest in limits.into_iter().flatten() {
            tracing::warn!(nearest, "the library refuses a limit");
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, child: &OsStr, reply: ReplyEntry) {
        self.dispatcher.serve(caller(request), Lookup { parent: ino(parent), name: name(child) }, reply);
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        self.dispatcher.forget(ino(number), count);
    }

    fn getattr(&self, request: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.dispatcher.serve(caller(request), Getattr { ino: ino(number) }, reply);
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = SetAttr {
            mode: mode.map(permissions),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(timestamp),
        };
        self.dispatcher.serve(caller(request), Setattr { ino: ino(number), change }, reply);
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        self.dispatcher.serve(caller(request), Readlink { ino: ino(number) }, reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        child: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = node_kind(mode, device) else { return reply.error(fuser::Errno::EINVAL) };
        let call = Mknod { parent: ino(parent), name: name(child), kind, mode: permissions(mode) };
        self.dispatcher.serve(creator(caller(request), umask), call, reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, child: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let call = Mkdir { parent: ino(parent), name: name(child), mode: permissions(mode) };
        self.dispatcher.serve(creator(caller(request), umask), call, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, child: &OsStr, reply: ReplyEmpty) {
        self.dispatcher.serve(caller(request), Unlink { parent: ino(parent), name: name(child) }, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, child: &OsStr, reply: ReplyEmpty) {
        self.dispatcher.serve(caller(request), Rmdir { parent: ino(parent), name: name(child) }, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, child: &OsStr, target: &Path, reply: ReplyEntry) {
        let call = Symlink { parent: ino(parent), name: name(child), target: name(target.as_os_str()) };
        self.dispatcher.serve(caller(request), call, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        child: &OsStr,
        new_parent: INodeNo,
        new_child: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        // RENAME_WHITEOUT among them: overlayfs then does without.
        let Some(mode) = rename_mode(flags.bits()) else { return reply.error(fuser::Errno::EINVAL) };
        let call = Rename {
            parent: ino(parent),
            name: name(child),
            new_parent: ino(new_parent),
            new_name: name(new_child),
            mode,
        };
        self.dispatcher.serve(caller(request), call, reply);
    }

    fn link(&self, request: &Request, number: INodeNo, parent: INodeNo, child: &OsStr, reply: ReplyEntry) {
        let call = Link { ino: ino(number), parent: ino(parent), name: name(child) };
        self.dispatcher.serve(caller(request), call, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.dispatcher.open(open_for(flags.0), self.spared, reply);
    }

    fn read(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let call = Read { ino: ino(number), offset, len: size, access_times: access_times(flags.0) };
        self.dispatcher.serve(caller(request), call, reply);
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let call = Write { ino: ino(number), offset, data: Cow::Borrowed(data) };
        self.dispatcher.serve(caller(request), call, reply);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.dispatcher.decline(Operation::Flush, reply);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.dispatcher.accept(Operation::Release, reply);
    }

    fn fsync(&self, request: &Request, number: INodeNo, _: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let scope = if datasync { SyncScope::Data } else { SyncScope::All };
        self.dispatcher.serve(caller(request), Fsync { ino: ino(number), scope }, reply);
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.dispatcher.open_directory(ino(number), self.spared, reply);
    }

    fn readdir(&self, request: &Request, number: INodeNo, _: FileHandle, cookie: u64, reply: ReplyDirectory) {
        self.dispatcher.serve(caller(request), Readdir { ino: ino(number), cookie }, reply);
    }

    fn readdirplus(&self, request: &Request, number: INodeNo, _: FileHandle, cookie: u64, reply: ReplyDirectoryPlus) {
        self.dispatcher.serve(caller(request), Readdir { ino: ino(number), cookie }, reply);
    }

    fn releasedir(&self, _: &Request, _: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.dispatcher.accept(Operation::Releasedir, reply);
    }

    fn fsyncdir(&self, request: &Request, number: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.fsync(request, number, handle, datasync, reply);
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.dispatcher.serve(caller(request), Statfs, reply);
    }

    // From here on: what the kernel does itself, or does without.

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        attribute: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = xattr_mode(flags) else { return reply.error(fuser::Errno::EINVAL) };
        let call = Setxattr { ino: ino(number), name: name(attribute), value: Cow::Borrowed(value), mode };
        self.dispatcher.serve(caller(request), call, reply);
    }

    fn getxattr(&self, request: &Request, number: INodeNo, attribute: &OsStr, room: u32, reply: ReplyXattr) {
        self.dispatcher.serve(caller(request), Getxattr { ino: ino(number), name: name(attribute), room }, reply);
    }

    fn listxattr(&self, request: &Request, number: INodeNo, room: u32, reply: ReplyXattr) {
        self.dispatcher.serve(caller(request), Listxattr { ino: ino(number), room }, reply);
    }

    fn removexattr(&self, request: &Request, number: INodeNo, attribute: &OsStr, reply: ReplyEmpty) {
        self.dispatcher.serve(caller(request), Removexattr { ino: ino(number), name: name(attribute) }, reply);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        self.dispatcher.decline(Operation::Access, reply);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        self.dispatcher.create(reply);
    }

    fn getlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        reply: ReplyLock,
    ) {
        self.dispatcher.decline(Operation::Getlk, reply);
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.dispatcher.decline(Operation::Setlk, reply);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        self.dispatcher.decline(Operation::Bmap, reply);
    }

    fn ioctl(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        command: u32,
        argument: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        match IoctlCommand::of(command, argument) {
            Some(command) => self.dispatcher.serve(caller(request), Ioctl { ino: ino(number), command }, reply),
            None => self.dispatcher.refuse(Operation::Ioctl, Errno::NO_SUCH_COMMAND, reply),
        }
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        self.dispatcher.decline(Operation::Poll, reply);
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(allocation) = allocation(mode) else { return reply.error(fuser::Errno::EOPNOTSUPP) };
        self.dispatcher.serve(caller(request), Fallocate { ino: ino(number), offset, len, allocation }, reply);
    }

    fn lseek(&self, request: &Request, number: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (Some(wanted), Ok(offset)) = (seek_for(whence), u64::try_from(offset)) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        self.dispatcher.serve(caller(request), Lseek { ino: ino(number), offset, wanted }, reply);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _: FileHandle,
        to_offset: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let call = CopyFileRange { from: (ino(from), from_offset), to: (ino(to), to_offset), len };
        self.dispatcher.serve(caller(request), call, reply);
    }
}
