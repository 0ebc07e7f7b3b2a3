//! Each request of the kernel as a call of the tree: what it needs, what it answers, where it may wait.

use std::borrow::Cow;

use bytes::Bytes;
use verfs_base::Ino;
use verfs_vfs::{
    AccessTimes, Allocation, Attr, Context, DirEntry, FileKind, FsStat, Listing, NodeKind, RenameMode, SeekFor,
    SetAttr, SetId, SyncScope, VfsError, XattrMode,
};

use crate::errno::Errno;
use crate::ioctl::IoctlCommand;
use crate::kernel;
use crate::operation::Operation;
use crate::tree::{Lifetime, Tree};

/// A request with its arguments, which may borrow the transport's buffer. `P` is the reply that it is answered by.
pub(crate) trait Call<P>: Sized {
    /// What it answers.
    type Answer;
    /// Itself without borrows, to be performed later by another thread.
    type Owned: Call<P, Answer = Self::Answer> + Send + 'static;
    /// What it is called in statistics and logs.
    const OPERATION: Operation;

    /// Bytes that it holds while it waits, beside a name.
    fn data_bytes(&self) -> usize {
        0
    }

    /// Bytes of files that `answer` moved between the kernel and the tree.
    fn moved_bytes(_: &Self::Answer) -> u64 {
        0
    }

    /// Copies what is borrowed.
    fn into_owned(self) -> Self::Owned;

    /// An inode of which the kernel has attributes that no longer hold once it has the answer.
    fn outdated(&self, _: &Self::Answer) -> Option<Ino> {
        None
    }

    /// Asks the tree. Only a listing touches `reply`: its size is known by filling it.
    fn perform<T: Tree>(&self, tree: &T, context: &Context, reply: &mut P) -> Result<Self::Answer, VfsError>;
}

/// Answers a request with an error, from any thread, unless it was answered before.
pub(crate) type Refusal = Box<dyn FnOnce(Errno) + Send>;

/// A reply that somebody else may give, if he is first.
pub(crate) trait Refusable {
    /// What answers in its place. None where a transport's replies can't be shared.
    fn refusal(&mut self) -> Option<Refusal> {
        None
    }
}

/// Where an answer goes; sent exactly once.
pub(crate) trait Reply<A>: Refusable + Send + 'static {
    /// Sends it to the kernel.
    fn send(self, answer: Result<A, Errno>);
}

/// A reply that is filled with directory entries.
pub(crate) trait ListingReply: Reply<()> {
    /// Whether it carries attributes.
    const LISTING: Listing;
    /// How many entries it may hold at most, about.
    const BATCH_ENTRIES: usize;
    /// Its name among the operations.
    const OPERATION: Operation;
    /// Adds `entry`, which holds for `lifetime`, where there is room.
    fn add(&mut self, entry: &DirEntry, lifetime: Lifetime) -> Added;
}

/// Whether an entry is part of the reply now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Added {
    /// It is.
    Yes,
    /// There is no room.
    Full,
    /// It has no attributes although the listing has.
    Incomplete,
}

/// Attributes, and how long they hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    pub(crate) attr: Attr,
    pub(crate) lifetime: Lifetime,
}

impl Known {
    fn of<T: Tree>(tree: &T, attr: Attr) -> Known {
        Known { attr, lifetime: tree.attr_lifetime(attr.ino) }
    }
}

/// What a look-up answers, and how long that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// The name is this inode.
    Found(Known, Lifetime),
    /// There is no such name.
    Absent(Lifetime),
}

impl Entry {
    fn found<T: Tree>(tree: &T, parent: Ino, attr: Attr) -> Entry {
        Entry::Found(Known::of(tree, attr), tree.names_lifetime(parent))
    }
}

/// What changed a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    /// Bytes that were taken.
    pub(crate) bytes: u32,
    /// Whether the kernel knows a mode that no longer holds.
    pub(crate) set_id: SetId,
}

/// The attribute that is a file's access control list; see acl(5).
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Name or target as it came, or copied.
pub(crate) type Name<'a> = Cow<'a, [u8]>;

fn owned(name: Name<'_>) -> Name<'static> {
    Cow::Owned(name.into_owned())
}

/// A call without borrows is its own owned form.
macro_rules! owned_as_is {
    () => {
        type Owned = Self;

        fn into_owned(self) -> Self {
            self
        }
    };
}

/// Finds a name.
pub(crate) struct Lookup<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: Name<'a>,
}

impl<P> Call<P> for Lookup<'_> {
    type Answer = Entry;
    type Owned = Lookup<'static>;
    const OPERATION: Operation = Operation::Lookup;

    fn into_owned(self) -> Self::Owned {
        Lookup { parent: self.parent, name: owned(self.name) }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Entry, VfsError> {
        match tree.lookup(context, self.parent, &self.name) {
            Ok(attr) => Ok(Entry::found(tree, self.parent, attr)),
            Err(VfsError::NotFound) => Ok(Entry::Absent(tree.names_lifetime(self.parent))),
            Err(error) => Err(error),
        }
    }
}

/// Reads attributes.
pub(crate) struct Getattr {
    pub(crate) ino: Ino,
}

impl<P> Call<P> for Getattr {
    type Answer = Known;
    const OPERATION: Operation = Operation::Getattr;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Known, VfsError> {
        Ok(Known::of(tree, tree.getattr(context, self.ino)?))
    }
}

/// Reads attributes for who asks for the time of birth too.
pub(crate) struct Statx {
    pub(crate) ino: Ino,
}

impl<P> Call<P> for Statx {
    type Answer = Known;
    const OPERATION: Operation = Operation::Statx;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Known, VfsError> {
        Ok(Known::of(tree, tree.getattr(context, self.ino)?))
    }
}

/// Asks whether root may use a file where the kernel doesn't check permissions: as everywhere he may, but for executing
/// what nobody may execute.
pub(crate) struct Access {
    pub(crate) ino: Ino,
    pub(crate) executes: bool,
}

impl<P> Call<P> for Access {
    type Answer = ();
    const OPERATION: Operation = Operation::Access;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<(), VfsError> {
        if !self.executes {
            return Ok(());
        }
        let attr = tree.getattr(context, self.ino)?;
        let is_executable = attr.kind == FileKind::Directory || attr.mode & 0o111 != 0;
        is_executable.then_some(()).ok_or(VfsError::Denied)
    }
}

/// Changes attributes.
pub(crate) struct Setattr {
    pub(crate) ino: Ino,
    pub(crate) change: SetAttr,
}

impl<P> Call<P> for Setattr {
    type Answer = Known;
    const OPERATION: Operation = Operation::Setattr;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Known, VfsError> {
        Ok(Known::of(tree, tree.setattr(context, self.ino, &self.change)?))
    }
}

/// Reads a symlink.
pub(crate) struct Readlink {
    pub(crate) ino: Ino,
}

impl<P> Call<P> for Readlink {
    type Answer = Vec<Bytes>;
    const OPERATION: Operation = Operation::Readlink;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Vec<Bytes>, VfsError> {
        Ok(vec![tree.readlink(context, self.ino)?])
    }
}

/// Makes a file or a special node.
pub(crate) struct Mknod<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: Name<'a>,
    pub(crate) kind: NodeKind,
    pub(crate) mode: u16,
}

impl<P> Call<P> for Mknod<'_> {
    type Answer = Entry;
    type Owned = Mknod<'static>;
    const OPERATION: Operation = Operation::Mknod;

    fn into_owned(self) -> Self::Owned {
        Mknod { parent: self.parent, name: owned(self.name), kind: self.kind, mode: self.mode }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Entry, VfsError> {
        let attr = tree.mknod(context, self.parent, &self.name, self.kind, self.mode)?;
        Ok(Entry::found(tree, self.parent, attr))
    }
}

/// Makes a directory.
pub(crate) struct Mkdir<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: Name<'a>,
    pub(crate) mode: u16,
}

impl<P> Call<P> for Mkdir<'_> {
    type Answer = Entry;
    type Owned = Mkdir<'static>;
    const OPERATION: Operation = Operation::Mkdir;

    fn into_owned(self) -> Self::Owned {
        Mkdir { parent: self.parent, name: owned(self.name), mode: self.mode }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Entry, VfsError> {
        let attr = tree.mkdir(context, self.parent, &self.name, self.mode)?;
        Ok(Entry::found(tree, self.parent, attr))
    }
}

/// Makes a symlink.
pub(crate) struct Symlink<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: Name<'a>,
    pub(crate) target: Name<'a>,
}

impl<P> Call<P> for Symlink<'_> {
    type Answer = Entry;
    type Owned = Symlink<'static>;
    const OPERATION: Operation = Operation::Symlink;

    fn into_owned(self) -> Self::Owned {
        Symlink { parent: self.parent, name: owned(self.name), target: owned(self.target) }
    }

    fn data_bytes(&self) -> usize {
        self.target.len()
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Entry, VfsError> {
        let attr = tree.symlink(context, self.parent, &self.name, &self.target)?;
        Ok(Entry::found(tree, self.parent, attr))
    }
}

/// Gives an inode one more name.
pub(crate) struct Link<'a> {
    pub(crate) ino: Ino,
    pub(crate) parent: Ino,
    pub(crate) name: Name<'a>,
}

impl<P> Call<P> for Link<'_> {
    type Answer = Entry;
    type Owned = Link<'static>;
    const OPERATION: Operation = Operation::Link;

    fn into_owned(self) -> Self::Owned {
        Link { ino: self.ino, parent: self.parent, name: owned(self.name) }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Entry, VfsError> {
        let attr = tree.link(context, self.ino, self.parent, &self.name)?;
        Ok(Entry::found(tree, self.parent, attr))
    }
}

/// Takes a name away from anything but a directory.
pub(crate) struct Unlink<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: Name<'a>,
}

impl<P> Call<P> for Unlink<'_> {
    type Answer = ();
    type Owned = Unlink<'static>;
    const OPERATION: Operation = Operation::Unlink;

    fn into_owned(self) -> Self::Owned {
        Unlink { parent: self.parent, name: owned(self.name) }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<(), VfsError> {
        tree.unlink(context, self.parent, &self.name)
    }
}

/// Removes an empty directory.
pub(crate) struct Rmdir<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: Name<'a>,
}

impl<P> Call<P> for Rmdir<'_> {
    type Answer = ();
    type Owned = Rmdir<'static>;
    const OPERATION: Operation = Operation::Rmdir;

    fn into_owned(self) -> Self::Owned {
        Rmdir { parent: self.parent, name: owned(self.name) }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<(), VfsError> {
        tree.rmdir(context, self.parent, &self.name)
    }
}

/// Moves a name.
pub(crate) struct Rename<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: Name<'a>,
    pub(crate) new_parent: Ino,
    pub(crate) new_name: Name<'a>,
    pub(crate) mode: RenameMode,
}

impl<P> Call<P> for Rename<'_> {
    type Answer = ();
    type Owned = Rename<'static>;
    const OPERATION: Operation = Operation::Rename;

    fn into_owned(self) -> Self::Owned {
        Rename {
            parent: self.parent,
            name: owned(self.name),
            new_parent: self.new_parent,
            new_name: owned(self.new_name),
            mode: self.mode,
        }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<(), VfsError> {
        tree.rename(context, (self.parent, &self.name), (self.new_parent, &self.new_name), self.mode)
    }
}

/// Reads a file's bytes.
pub(crate) struct Read {
    pub(crate) ino: Ino,
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) access_times: AccessTimes,
}

impl<P> Call<P> for Read {
    type Answer = Vec<Bytes>;
    const OPERATION: Operation = Operation::Read;
    owned_as_is!();

    fn moved_bytes(parts: &Vec<Bytes>) -> u64 {
        parts.iter().map(|part| part.len() as u64).sum()
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Vec<Bytes>, VfsError> {
        let context = match self.access_times {
            AccessTimes::Move => *context,
            AccessTimes::Stay => Context { access_times: AccessTimes::Stay, ..*context },
        };
        tree.read(&context, self.ino, self.offset, self.len)
    }
}

/// Writes a file's bytes.
pub(crate) struct Write<'a> {
    pub(crate) ino: Ino,
    pub(crate) offset: u64,
    pub(crate) data: Cow<'a, [u8]>,
}

impl<P> Call<P> for Write<'_> {
    type Answer = Written;
    type Owned = Write<'static>;
    const OPERATION: Operation = Operation::Write;

    fn into_owned(self) -> Self::Owned {
        Write { ino: self.ino, offset: self.offset, data: owned(self.data) }
    }

    fn data_bytes(&self) -> usize {
        self.data.len()
    }

    fn moved_bytes(written: &Written) -> u64 {
        u64::from(written.bytes)
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Written, VfsError> {
        let set_id = tree.write(context, self.ino, self.offset, &self.data)?;
        // The kernel says the length in 32 bits, so it fits.
        Ok(Written { bytes: u32::try_from(self.data.len()).unwrap_or(u32::MAX), set_id })
    }

    fn outdated(&self, answer: &Written) -> Option<Ino> {
        (answer.set_id == SetId::Cleared).then_some(self.ino)
    }
}

/// Lists a directory, with or without attributes: the reply says which.
pub(crate) struct Readdir {
    pub(crate) ino: Ino,
    pub(crate) cookie: u64,
}

impl<P: ListingReply> Call<P> for Readdir {
    type Answer = ();
    const OPERATION: Operation = P::OPERATION;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, reply: &mut P) -> Result<(), VfsError> {
        let entries = tree.readdir(context, self.ino, self.cookie, P::BATCH_ENTRIES, P::LISTING)?;
        let mut outcome = Added::Yes;
        let mut added = 0;
        let names_lifetime = tree.names_lifetime(self.ino);
        for entry in &entries {
            outcome = reply.add(entry, names_lifetime.min(tree.attr_lifetime(entry.ino)));
            if outcome != Added::Yes {
                break;
            }
            added += 1;
        }
        // What didn't get into the reply is unknown to the kernel, so it will not be forgotten by it.
        if P::LISTING == Listing::Plus {
            for entry in entries.iter().skip(added).filter(|entry| !matches!(&*entry.name, b"." | b"..")) {
                tree.forget(entry.ino, 1);
            }
        }
        match outcome {
            Added::Yes | Added::Full => Ok(()),
            Added::Incomplete if added > 0 => Ok(()),
            Added::Incomplete => Err(VfsError::Io),
        }
    }
}

/// Makes a file or directory durable.
pub(crate) struct Fsync {
    pub(crate) ino: Ino,
    pub(crate) scope: SyncScope,
}

impl<P> Call<P> for Fsync {
    type Answer = ();
    const OPERATION: Operation = Operation::Fsync;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<(), VfsError> {
        tree.fsync(context, self.ino, self.scope)
    }
}

/// Bytes of extended attributes: a value, or names with a NUL behind each. The kernel asks first how many there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum XattrAnswer {
    /// So many.
    Size(u32),
    /// These.
    Bytes(Bytes),
}

fn within(bytes: Bytes, room: u32) -> Result<XattrAnswer, VfsError> {
    let size = u32::try_from(bytes.len()).map_err(|_| VfsError::Io)?;
    match room {
        0 => Ok(XattrAnswer::Size(size)),
        room if size > room => Err(VfsError::NoRoom),
        _ => Ok(XattrAnswer::Bytes(bytes)),
    }
}

/// Reads an extended attribute.
pub(crate) struct Getxattr<'a> {
    pub(crate) ino: Ino,
    pub(crate) name: Name<'a>,
    /// Bytes that the caller has room for; 0 asks for the size.
    pub(crate) room: u32,
}

impl<P> Call<P> for Getxattr<'_> {
    type Answer = XattrAnswer;
    type Owned = Getxattr<'static>;
    const OPERATION: Operation = Operation::Getxattr;

    fn into_owned(self) -> Self::Owned {
        Getxattr { ino: self.ino, name: owned(self.name), room: self.room }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<XattrAnswer, VfsError> {
        within(tree.getxattr(context, self.ino, &self.name)?, self.room)
    }
}

/// Lists the names of extended attributes.
pub(crate) struct Listxattr {
    pub(crate) ino: Ino,
    /// As [`Getxattr::room`].
    pub(crate) room: u32,
}

impl<P> Call<P> for Listxattr {
    type Answer = XattrAnswer;
    const OPERATION: Operation = Operation::Listxattr;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<XattrAnswer, VfsError> {
        let names = tree.listxattr(context, self.ino)?;
        let bytes: Vec<u8> = names.iter().flat_map(|name| name.iter().copied().chain([0])).collect();
        within(bytes.into(), self.room)
    }
}

/// Sets an extended attribute.
pub(crate) struct Setxattr<'a> {
    pub(crate) ino: Ino,
    pub(crate) name: Name<'a>,
    pub(crate) value: Cow<'a, [u8]>,
    pub(crate) mode: XattrMode,
}

impl<P> Call<P> for Setxattr<'_> {
    type Answer = ();
    type Owned = Setxattr<'static>;
    const OPERATION: Operation = Operation::Setxattr;

    fn into_owned(self) -> Self::Owned {
        Setxattr { ino: self.ino, name: owned(self.name), value: owned(self.value), mode: self.mode }
    }

    fn data_bytes(&self) -> usize {
        self.value.len()
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<(), VfsError> {
        tree.setxattr(context, self.ino, &self.name, &self.value, self.mode)
    }

    /// An access control list sets the bits of the mode, which a kernel that leaves the checks to others doesn't know.
    fn outdated(&self, (): &()) -> Option<Ino> {
        (*self.name == *ACCESS_LIST).then_some(self.ino)
    }
}

/// Removes an extended attribute.
pub(crate) struct Removexattr<'a> {
    pub(crate) ino: Ino,
    pub(crate) name: Name<'a>,
}

impl<P> Call<P> for Removexattr<'_> {
    type Answer = ();
    type Owned = Removexattr<'static>;
    const OPERATION: Operation = Operation::Removexattr;

    fn into_owned(self) -> Self::Owned {
        Removexattr { ino: self.ino, name: owned(self.name) }
    }

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<(), VfsError> {
        tree.removexattr(context, self.ino, &self.name)
    }
}

/// Reserves, punches or zeroes a range.
pub(crate) struct Fallocate {
    pub(crate) ino: Ino,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) allocation: Allocation,
}

impl<P> Call<P> for Fallocate {
    type Answer = Written;
    const OPERATION: Operation = Operation::Fallocate;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Written, VfsError> {
        let set_id = tree.allocate(context, self.ino, (self.offset, self.len), self.allocation)?;
        Ok(Written { bytes: 0, set_id })
    }

    fn outdated(&self, answer: &Written) -> Option<Ino> {
        (answer.set_id == SetId::Cleared).then_some(self.ino)
    }
}

/// Where an offset is after a seek.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offset(pub(crate) u64);

/// Looks for data or a hole.
pub(crate) struct Lseek {
    pub(crate) ino: Ino,
    pub(crate) offset: u64,
    pub(crate) wanted: SeekFor,
}

impl<P> Call<P> for Lseek {
    type Answer = Offset;
    const OPERATION: Operation = Operation::Lseek;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Offset, VfsError> {
        tree.seek(context, self.ino, self.offset, self.wanted).map(Offset)
    }
}

/// Copies bytes between files.
pub(crate) struct CopyFileRange {
    pub(crate) from: (Ino, u64),
    pub(crate) to: (Ino, u64),
    pub(crate) len: u64,
}

impl<P> Call<P> for CopyFileRange {
    type Answer = Written;
    const OPERATION: Operation = Operation::CopyFileRange;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Written, VfsError> {
        let len = self.len.min(kernel::COPY_MAX_BYTES);
        let (copied, set_id) = tree.copy_range(context, self.from, self.to, len)?;
        Ok(Written { bytes: u32::try_from(copied).map_err(|_| VfsError::Io)?, set_id })
    }

    fn outdated(&self, answer: &Written) -> Option<Ino> {
        (answer.set_id == SetId::Cleared).then_some(self.to.0)
    }
}

/// Asks for or sets what an ioctl(2) is for.
pub(crate) struct Ioctl {
    pub(crate) ino: Ino,
    pub(crate) command: IoctlCommand,
}

impl<P> Call<P> for Ioctl {
    type Answer = Vec<Bytes>;
    const OPERATION: Operation = Operation::Ioctl;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, context: &Context, _: &mut P) -> Result<Vec<Bytes>, VfsError> {
        self.command.perform(tree, context, self.ino)
    }

    /// Flags that were set move the change time, of which the kernel isn't told otherwise.
    fn outdated(&self, _: &Vec<Bytes>) -> Option<Ino> {
        self.command.is_change().then_some(self.ino)
    }
}

/// Asks for room and counts.
pub(crate) struct Statfs;

impl<P> Call<P> for Statfs {
    type Answer = FsStat;
    const OPERATION: Operation = Operation::Statfs;
    owned_as_is!();

    fn perform<T: Tree>(&self, tree: &T, _: &Context, _: &mut P) -> Result<FsStat, VfsError> {
        tree.statfs()
    }
}
