//! Listings as bytes: filled entry by entry, up to the room that the kernel has.

use verfs_vfs::{DirEntry, Listing};
use zerocopy::IntoBytes;

use super::reply::{Pending, Port, entry};
use crate::abi;
use crate::calls::{Added, ListingReply, Refusable, Refusal, Reply};
use crate::errno::Errno;
use crate::kernel;
use crate::operation::Operation;
use crate::tree::Lifetime;
use crate::words;

/// Entries begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Where the four type bits of a mode begin: a listing has those only.
const TYPE_SHIFT: u32 = 12;

/// A listing that is being filled.
struct Filling<P: Port> {
    pending: Pending<P>,
    bytes: Vec<u8>,
    room: usize,
}

impl<P: Port> Filling<P> {
    fn new(pending: Pending<P>, room: usize) -> Filling<P> {
        Filling { pending, bytes: Vec::new(), room }
    }

    fn add(&mut self, entry: &DirEntry, before: &[u8]) -> Added {
        let head = abi::Dirent {
            ino: entry.ino.0,
            off: entry.cookie,
            namelen: entry.name.len() as u32,
            kind: words::type_bits(entry.kind) >> TYPE_SHIFT,
        };
        let whole = (before.len() + size_of::<abi::Dirent>() + entry.name.len()).next_multiple_of(ALIGNMENT);
        if self.bytes.len() + whole > self.room {
            return Added::Full;
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.room.min(kernel::LISTING_BYTES));
        }
        let end = self.bytes.len() + whole;
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(&entry.name);
        self.bytes.resize(end, 0);
        Added::Yes
    }

    fn send(self, answer: Result<(), Errno>) {
        self.pending.answer(answer, |pending, ()| pending.data(&[self.bytes.into()]));
    }
}

/// READDIR.
pub(super) struct NamesReply<P: Port>(Filling<P>);

/// READDIRPLUS.
pub(super) struct PlusReply<P: Port>(Filling<P>);

impl<P: Port> NamesReply<P> {
    pub(super) fn new(pending: Pending<P>, room: usize) -> NamesReply<P> {
        NamesReply(Filling::new(pending, room))
    }
}

impl<P: Port> PlusReply<P> {
    pub(super) fn new(pending: Pending<P>, room: usize) -> PlusReply<P> {
        PlusReply(Filling::new(pending, room))
    }
}

impl<P: Port> Refusable for NamesReply<P> {
    fn refusal(&mut self) -> Option<Refusal> {
        Some(self.0.pending.refusal())
    }
}

impl<P: Port> Refusable for PlusReply<P> {
    fn refusal(&mut self) -> Option<Refusal> {
        Some(self.0.pending.refusal())
    }
}

impl<P: Port> Reply<()> for NamesReply<P> {
    fn send(self, answer: Result<(), Errno>) {
        self.0.send(answer);
    }
}

impl<P: Port> ListingReply for NamesReply<P> {
    const LISTING: Listing = Listing::Names;
    const BATCH_ENTRIES: usize = kernel::NAMES_BATCH_ENTRIES;
    const OPERATION: Operation = Operation::Readdir;

    fn add(&mut self, entry: &DirEntry, _: Lifetime) -> Added {
        self.0.add(entry, &[])
    }
}

impl<P: Port> Reply<()> for PlusReply<P> {
    fn send(self, answer: Result<(), Errno>) {
        self.0.send(answer);
    }
}

impl<P: Port> ListingReply for PlusReply<P> {
    const LISTING: Listing = Listing::Plus;
    const BATCH_ENTRIES: usize = kernel::PLUS_BATCH_ENTRIES;
    const OPERATION: Operation = Operation::Readdirplus;

    fn add(&mut self, named: &DirEntry, lifetime: Lifetime) -> Added {
        let before = match &named.attr {
            Some(attr) => entry(attr, lifetime, lifetime),
            // The kernel takes nothing of these from a listing: an inode 0 says that nothing comes.
            None if matches!(&*named.name, b"." | b"..") => abi::EntryOut::default(),
            None => return Added::Incomplete,
        };
        self.0.add(named, before.as_bytes())
    }
}
