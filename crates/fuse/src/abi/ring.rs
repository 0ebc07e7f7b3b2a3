//! How requests and replies lie in the memory of an io_uring (`fuse_uring_req_header` and `fuse_uring_cmd_req`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Before the payload of each entry: its names, data and, of a reply, everything.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RingHeader {
    /// An `InHeader`, or in a reply an `OutHeader`.
    pub(crate) in_out: [u8; 128],
    /// The structure of the request, where it has one.
    pub(crate) structure: [u8; 128],
    /// Of both.
    pub(crate) ring: RingInOut,
}

/// What the ring itself needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RingInOut {
    pub(crate) flags: u64,
    /// Which request an answer is for.
    pub(crate) commit_id: u64,
    /// Bytes of the payload that are meant.
    pub(crate) payload_bytes: u32,
    pub(crate) padding: u32,
    pub(crate) reserved: u64,
}

/// What a command carries in the upper part of its submission entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RingCommand {
    pub(crate) flags: u64,
    pub(crate) commit_id: u64,
    /// Which queue: there is one for each core that the machine may have.
    pub(crate) queue: u16,
    pub(crate) padding: [u8; 62],
}

/// Codes of commands.
pub(crate) mod ring_command {
    /// Gives an entry to the kernel for the first time.
    pub(crate) const REGISTER: u32 = 1;
    /// Answers what is in an entry, and gives it back.
    pub(crate) const COMMIT_AND_FETCH: u32 = 2;
}
