//! The memory of a queue's entries, which the kernel and the queue's thread have in turns.
#![allow(unsafe_code, reason = "the kernel writes to it")]

use std::io;
use std::ptr::NonNull;

use bytes::Bytes;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise};
use zerocopy::IntoBytes;

use crate::abi::{OutHeader, RingHeader, RingInOut};
use crate::kernel;

/// Room for a header; payloads begin at multiples of a page.
const HEADER_BYTES: usize = 4096;
const PAYLOAD_BYTES: usize = kernel::RING_PAYLOAD_BYTES as usize;
const ENTRY_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES;

/// Who may touch an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// The kernel: it waits for a request to put there.
    Kernel,
    /// We: it has a request that isn't answered.
    Server,
    /// Nobody, ever again.
    Nobody,
}

/// So many payloads keep their memory: more are in use only where many large requests wait at once.
const KEPT: usize = 16;
/// So much of a payload is not worth the giving back.
const KEPT_BYTES: usize = 4096;

/// The entries of one queue. Pages that were never used take no memory, nor do those that only a rush needed.
pub(super) struct Entries {
    base: NonNull<u8>,
    buffers: Box<[[libc::iovec; 2]]>,
    holders: Vec<Holder>,
    /// How many of them we hold.
    held: usize,
    /// Whose payload has memory.
    filled: Vec<bool>,
    /// How many those are.
    filled_count: usize,
}

// SAFETY: the mapping belongs to this value alone, wherever it is; `base` and the `iovec`s are addresses of it.
unsafe impl Send for Entries {}

impl Entries {
    /// All of them are ours at first.
    pub(super) fn map(count: usize) -> io::Result<Entries> {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address of the kernel's choice touches nobody else's memory.
        let base = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), count * ENTRY_BYTES, prot, flags)? };
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let buffers = (0..count).map(|entry| {
            // SAFETY: inside of the mapping.
            let header = unsafe { base.add(entry * ENTRY_BYTES) };
            // SAFETY: the same.
            let payload = unsafe { header.add(HEADER_BYTES) };
            [
                libc::iovec { iov_base: header.as_ptr().cast(), iov_len: size_of::<RingHeader>() },
                libc::iovec { iov_base: payload.as_ptr().cast(), iov_len: PAYLOAD_BYTES },
            ]
        });
        Ok(Entries {
            base,
            buffers: buffers.collect(),
            holders: vec![Holder::Server; count],
            held: count,
            filled: vec![false; count],
            filled_count: 0,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.holders.len()
    }

    /// What the kernel is told of an entry's memory.
    pub(super) fn buffers(&self, entry: usize) -> *const [libc::iovec; 2] {
        &self.buffers[entry]
    }

    pub(super) fn holder(&self, entry: usize) -> Holder {
        self.holders[entry]
    }

    /// From now on `holder` has the entry. The server has it only when the kernel said so by a completion.
    pub(super) fn give(&mut self, entry: usize, holder: Holder) {
        let before = std::mem::replace(&mut self.holders[entry], holder);
        self.held = self.held + usize::from(holder == Holder::Server) - usize::from(before == Holder::Server);
    }

    /// An entry's payload has memory now, if more than a page of it was used.
    pub(super) fn note_use(&mut self, entry: usize, payload_bytes: usize) {
        if payload_bytes > KEPT_BYTES && !self.filled[entry] {
            self.filled[entry] = true;
            self.filled_count += 1;
        }
    }

    /// Gives back the memory of payloads that only a rush needed, once it is over. To be called by the thread of the ring
    /// when it has seen every completion and owes the kernel no entry: what the kernel has is empty then, and it writes
    /// to an entry only while that thread is in a system call of the ring.
    pub(super) fn trim(&mut self) {
        if self.filled_count <= KEPT || self.held > KEPT / 2 {
            return;
        }
        for entry in 0..self.count() {
            if !self.filled[entry] || self.holders[entry] != Holder::Kernel {
                continue;
            }
            // SAFETY: inside of the mapping.
            let payload = unsafe { self.base.add(entry * ENTRY_BYTES + HEADER_BYTES) };
            // SAFETY: private anonymous memory that nobody reads or writes now (see above); it is zeros from now on.
            let trimmed = unsafe { madvise(payload.as_ptr().cast(), PAYLOAD_BYTES, Advice::LinuxDontNeed) };
            if let Err(error) = trimmed {
                tracing::debug!(%error, "the memory of a ring's entry stays");
            }
            self.filled[entry] = false;
            self.filled_count -= 1;
        }
    }

    /// Whether anything can still come.
    pub(super) fn any_left(&self) -> bool {
        self.holders.iter().any(|holder| *holder != Holder::Nobody)
    }

    fn header_at(&self, entry: usize) -> *mut RingHeader {
        assert!(self.holders[entry] == Holder::Server, "entry {entry} is not ours");
        // SAFETY: inside of the mapping, since `entry` is one of the holders.
        unsafe { self.base.add(entry * ENTRY_BYTES) }.as_ptr().cast()
    }

    /// A request's header, structure and payload.
    pub(super) fn request(&self, entry: usize) -> (&RingHeader, &[u8]) {
        let header = self.header_at(entry);
        // SAFETY: the mapping begins at a page, any bytes are a header, and while the entry is ours the kernel leaves it
        // alone. It is given back, and written to, through `&mut self` only.
        let header = unsafe { &*header };
        let len = (header.ring.payload_bytes as usize).min(PAYLOAD_BYTES);
        // SAFETY: as above; `len` ends inside of the entry.
        let payload = unsafe { self.base.add(entry * ENTRY_BYTES + HEADER_BYTES) };
        // SAFETY: as above.
        (header, unsafe { std::slice::from_raw_parts(payload.as_ptr(), len) })
    }

    /// Writes a reply. One that is too long becomes an EIO.
    pub(super) fn reply(&mut self, entry: usize, unique: u64, errno: i32, head: &[u8], data: &[Bytes]) {
        let len = head.len() + data.iter().map(Bytes::len).sum::<usize>();
        let (errno, len) = if len > PAYLOAD_BYTES { (libc::EIO, 0) } else { (errno, len) };
        let header = self.header_at(entry);
        // SAFETY: as in `request`; `&mut self` is the only way to it now.
        let header = unsafe { &mut *header };
        let out = OutHeader { len: (size_of::<OutHeader>() + len) as u32, error: -errno, unique };
        header.in_out[..size_of::<OutHeader>()].copy_from_slice(out.as_bytes());
        header.ring = RingInOut { payload_bytes: len as u32, ..RingInOut::default() };
        if len == 0 {
            return;
        }
        self.note_use(entry, len);
        // SAFETY: as in `request`.
        let payload = unsafe { self.base.add(entry * ENTRY_BYTES + HEADER_BYTES) };
        // SAFETY: the payload of an entry that is ours, reached by nobody else.
        let mut room = unsafe { std::slice::from_raw_parts_mut(payload.as_ptr(), PAYLOAD_BYTES) };
        for piece in std::iter::once(head).chain(data.iter().map(|piece| &piece[..])) {
            let (place, rest) = room.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            room = rest;
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: the mapping of `map`. The ring is gone, so the kernel has no entry any more.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.count() * ENTRY_BYTES) };
        if let Err(error) = unmapped {
            tracing::error!(%error, "the memory of a ring stays");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_reply_lies_where_the_kernel_looks_and_a_long_one_is_an_error() {
        let mut entries = Entries::map(2).unwrap();
        entries.reply(1, 77, 0, b"head", &[Bytes::from_static(b"data"), Bytes::from_static(b"more")]);
        let (header, payload) = entries.request(1);
        assert_eq!(payload, b"headdatamore");
        let out = OutHeader { len: 28, error: 0, unique: 77 };
        assert_eq!(&header.in_out[..16], out.as_bytes());
        assert_eq!(entries.request(0).1, b"");
        entries.reply(0, 78, 0, &[], &[vec![1; PAYLOAD_BYTES].into()]);
        assert_eq!(entries.request(0).1.len(), PAYLOAD_BYTES);
        entries.reply(0, 78, 0, &[1], &[vec![1; PAYLOAD_BYTES].into()]);
        let (header, payload) = entries.request(0);
        let refused = OutHeader { len: 16, error: -libc::EIO, unique: 78 };
        assert_eq!((&header.in_out[..16], payload.len()), (refused.as_bytes(), 0));
    }

    /// Pages of a mapping that have memory, as `mincore(2)` has it.
    fn resident_pages(entries: &Entries) -> usize {
        let mut pages = vec![0_u8; entries.count() * ENTRY_BYTES / 4096];
        let len = entries.count() * ENTRY_BYTES;
        // SAFETY: the mapping of `entries`, and a byte for each of its pages.
        let result = unsafe { libc::mincore(entries.base.as_ptr().cast(), len, pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn the_memory_of_a_rush_is_given_back_once_it_is_over() {
        const COUNT: usize = 3 * KEPT;
        let mut entries = Entries::map(COUNT).unwrap();
        for entry in 0..COUNT {
            entries.reply(entry, 1, 0, &[], &[vec![1; PAYLOAD_BYTES].into()]);
        }
        (KEPT..COUNT).for_each(|entry| entries.give(entry, Holder::Kernel));
        entries.trim();
        assert!(resident_pages(&entries) > COUNT * PAYLOAD_BYTES / 4096, "memory went in the middle of a rush");
        (1..KEPT).for_each(|entry| entries.give(entry, Holder::Kernel));
        entries.trim();
        assert!(resident_pages(&entries) < 2 * PAYLOAD_BYTES / 4096, "{} pages", resident_pages(&entries));
        assert_eq!(entries.request(0).1, [1; PAYLOAD_BYTES], "what is still ours was taken, too");
    }

    #[test]
    #[should_panic(expected = "not ours")]
    fn what_the_kernel_has_is_not_read() {
        let mut entries = Entries::map(1).unwrap();
        entries.give(0, Holder::Kernel);
        entries.request(0);
    }
}
