//! One request from its bytes to the dispatcher.

use std::sync::Arc;

use verfs_base::Ino;

use super::arguments::Arguments;
use super::listing::{NamesReply, PlusReply};
use super::message::{Message, Notice};
use super::reply::{
    AttrReply, DataReply, EmptyReply, EntryReply, IoctlReply, LseekReply, OpenReply, Pending, Port, StatfsReply,
    StatxReply, Written64Reply, WrittenReply, XattrReply,
};
use crate::abi::InHeader;
use crate::calls::Statfs;
use crate::dispatch::{Dispatcher, Spared, Waiting};
use crate::errno::Errno;
use crate::operation::Operation;
use crate::options::PermissionChecks;
use crate::tree::Tree;
use crate::words;

/// A read of this much asks for a chunk or two: whoever waits for it waits once.
const BRIEF_READ_MAX_BYTES: u32 = 16 << 10;

/// Serves the requests of one session.
pub(crate) struct Server<T> {
    dispatcher: Arc<Dispatcher<T>>,
    spared: Spared,
    permission_checks: PermissionChecks,
}

impl<T: Tree> Server<T> {
    pub(crate) fn new(
        dispatcher: Arc<Dispatcher<T>>,
        spared: Spared,
        permission_checks: PermissionChecks,
    ) -> Server<T> {
        Server { dispatcher, spared, permission_checks }
    }

    /// A thread that serves requests is about to end before the connection does.
    pub(crate) fn break_off(&self) {
        self.dispatcher.machinery().break_off();
    }

    /// Has a request performed by a thread that may wait.
    pub(crate) fn queue(&self, waiting: Waiting) {
        self.dispatcher.queue(waiting);
    }

    /// Performs a request here and waits for what it waits for.
    pub(crate) fn perform(&self, waiting: Waiting) {
        self.dispatcher.perform(waiting);
    }

    /// Serves one request as it was read from a device: a header and what follows it. What is left to be performed by the
    /// caller's choice is a read that waits once.
    #[must_use = "nobody else answers it"]
    pub(crate) fn serve_bytes<P: Port>(&self, bytes: &[u8], port: impl FnOnce(&InHeader) -> P) -> Option<Waiting> {
        let mut arguments = Arguments::new(bytes);
        let Ok(header) = arguments.take::<InHeader>() else {
            tracing::error!(bytes = bytes.len(), "the kernel sent a piece of a request");
            return None;
        };
        if header.len as usize != bytes.len() {
            tracing::error!(said = header.len, bytes = bytes.len(), "a request has not the length that it says");
        }
        self.serve(&header, arguments, || port(&header))
    }

    /// Serves one request, as [`Server::serve_bytes`] does. `port` is where the reply goes, where there is one.
    #[must_use = "nobody else answers it"]
    pub(crate) fn serve<P: Port>(
        &self,
        header: &InHeader,
        arguments: Arguments<'_>,
        port: impl FnOnce() -> P,
    ) -> Option<Waiting> {
        let Some(operation) = Operation::of_opcode(header.opcode) else {
            Pending::new(port()).error(Errno::NOT_IMPLEMENTED);
            return None;
        };
        if let Some(notice) = Notice::read(operation, header.nodeid, arguments) {
            self.take(notice);
            return None;
        }
        let pending = Pending::new(port());
        match Message::read(operation, header, arguments) {
            Ok(Message::Read(call)) if call.len <= BRIEF_READ_MAX_BYTES => {
                let caller = words::caller(header.uid, header.gid);
                return self.dispatcher.attempt(caller, call, DataReply(pending));
            }
            Ok(message) => self.answer(header, message, pending),
            Err(errno) => pending.error(errno),
        }
        None
    }

    fn take(&self, notice: Notice<'_>) {
        match notice {
            Notice::Forget(ino, count) => self.dispatcher.forget(ino, count),
            Notice::BatchForget(forgets) => forgets.for_each(|(ino, count)| self.dispatcher.forget(ino, count)),
            Notice::Nothing => {}
        }
    }

    fn answer<P: Port>(&self, header: &InHeader, message: Message<'_>, pending: Pending<P>) {
        let dispatcher = &*self.dispatcher;
        let caller = words::caller(header.uid, header.gid);
        match message {
            Message::Lookup(call) => dispatcher.serve(caller, call, EntryReply(pending)),
            Message::Getattr(call) => dispatcher.serve(caller, call, AttrReply(pending)),
            Message::Statx(call) => dispatcher.serve(caller, call, StatxReply(pending)),
            Message::Setattr(call) => dispatcher.serve(caller, call, AttrReply(pending)),
            Message::Readlink(call) => dispatcher.serve(caller, call, DataReply(pending)),
            Message::Symlink(call) => dispatcher.serve(caller, call, EntryReply(pending)),
            Message::Mknod(call, creator) => dispatcher.serve(creator, call, EntryReply(pending)),
            Message::Mkdir(call, creator) => dispatcher.serve(creator, call, EntryReply(pending)),
            Message::Unlink(call) => dispatcher.serve(caller, call, EmptyReply(pending)),
            Message::Rmdir(call) => dispatcher.serve(caller, call, EmptyReply(pending)),
            Message::Rename(call) => dispatcher.serve(caller, call, EmptyReply(pending)),
            Message::Link(call) => dispatcher.serve(caller, call, EntryReply(pending)),
            Message::Open(purpose) => dispatcher.open(purpose, self.spared, OpenReply(pending)),
            Message::OpenDirectory(ino) => self.open_directory(ino, pending),
            Message::Create => dispatcher.create(EmptyReply(pending)),
            Message::Read(call) => dispatcher.serve(caller, call, DataReply(pending)),
            Message::Write(call) => dispatcher.serve(caller, call, WrittenReply(pending)),
            Message::Statfs => dispatcher.serve(caller, Statfs, StatfsReply(pending)),
            Message::Fsync(call) => dispatcher.serve(caller, call, EmptyReply(pending)),
            Message::Setxattr(call) => dispatcher.serve(caller, call, EmptyReply(pending)),
            Message::Getxattr(call) => dispatcher.serve(caller, call, XattrReply(pending)),
            Message::Listxattr(call) => dispatcher.serve(caller, call, XattrReply(pending)),
            Message::Removexattr(call) => dispatcher.serve(caller, call, EmptyReply(pending)),
            Message::Readdir(call, room) => dispatcher.serve(caller, call, NamesReply::new(pending, room)),
            Message::Readdirplus(call, room) => dispatcher.serve(caller, call, PlusReply::new(pending, room)),
            Message::Ioctl(call) => dispatcher.serve(caller, call, IoctlReply(pending)),
            Message::Fallocate(call) => dispatcher.serve(caller, call, EmptyReply(pending)),
            Message::Lseek(call) => dispatcher.serve(caller, call, LseekReply(pending)),
            Message::CopyFileRange(call) => dispatcher.serve(caller, call, WrittenReply(pending)),
            Message::CopyFileRange64(call) => dispatcher.serve(caller, call, Written64Reply(pending)),
            Message::Access(call) => match self.permission_checks {
                PermissionChecks::Kernel => dispatcher.decline(Operation::Access, EmptyReply(pending)),
                PermissionChecks::Private => dispatcher.serve(caller, call, EmptyReply(pending)),
            },
            Message::Accepted(operation) => dispatcher.accept(operation, EmptyReply(pending)),
            Message::Declined(operation) => dispatcher.decline(operation, EmptyReply(pending)),
            Message::Refused(operation, errno) => {
                dispatcher.refuse::<(), _>(operation, errno, EmptyReply(pending));
            }
        }
    }

    fn open_directory<P: Port>(&self, ino: Ino, pending: Pending<P>) {
        self.dispatcher.open_directory(ino, self.spared, OpenReply(pending));
    }
}
