//! Submission entries of the ring, and the one place that hands them to it.
#![allow(unsafe_code, reason = "the kernel takes entries by their bytes")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::squeue::Entry128;
use io_uring::{IoUring, cqueue};
use zerocopy::IntoBytes;

use crate::abi::{RingCommand, ring_command};

/// `IORING_OP_POLL_ADD`.
const POLL_ADD: u8 = 6;
/// `IORING_OP_URING_CMD`.
const URING_COMMAND: u8 = 46;

/// A ring whose entries are long enough for commands.
pub(super) type CommandRing = IoUring<Entry128, cqueue::Entry>;

/// `struct io_uring_sqe` with the room for commands behind it.
#[repr(C)]
struct Submission {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: RawFd,
    command: u32,
    padding: u32,
    address: u64,
    len: u32,
    events: u32,
    user_data: u64,
    buffer: u16,
    personality: u16,
    file: u32,
    payload: [u8; 80],
}

impl Submission {
    fn new(opcode: u8, fd: BorrowedFd<'_>, user_data: u64) -> Submission {
        Submission {
            opcode,
            flags: 0,
            priority: 0,
            fd: fd.as_raw_fd(),
            command: 0,
            padding: 0,
            address: 0,
            len: 0,
            events: 0,
            user_data,
            buffer: 0,
            personality: 0,
            file: 0,
            payload: [0; 80],
        }
    }

    fn command(fd: BorrowedFd<'_>, command: u32, queue: u16, commit_id: u64, user_data: u64) -> Submission {
        let mut submission = Submission::new(URING_COMMAND, fd, user_data);
        submission.command = command;
        let body = RingCommand { flags: 0, commit_id, queue, padding: [0; 62] };
        submission.payload.copy_from_slice(body.as_bytes());
        submission
    }

    fn push(self, ring: &mut CommandRing) -> io::Result<()> {
        // SAFETY: both are the 128 bytes of `struct io_uring_sqe` with `IORING_SETUP_SQE128`, and any bytes are one.
        let entry = unsafe { std::mem::transmute::<Submission, Entry128>(self) };
        // SAFETY: the only addresses in an entry are those of `register`, whose caller keeps what is there. The device
        // and the event descriptor outlive the ring, which their owner drops first.
        let pushed = unsafe { ring.submission().push(&entry) };
        pushed.map_err(|_| io::Error::other("the ring has no room for a command"))
    }
}

/// Gives an entry to the kernel. `buffers` is the address of two `iovec`s, of its header and its payload.
///
/// The `iovec`s must stay until the command was submitted; the memory that they name until the ring is dropped and the
/// connection is gone.
pub(super) fn register(
    ring: &mut CommandRing,
    device: BorrowedFd<'_>,
    queue: u16,
    entry: usize,
    buffers: *const [libc::iovec; 2],
) -> io::Result<()> {
    let mut submission = Submission::command(device, ring_command::REGISTER, queue, 0, entry as u64);
    submission.address = buffers as u64;
    submission.len = 2;
    submission.push(ring)
}

/// Answers what is in an entry and gives it back.
pub(super) fn commit(
    ring: &mut CommandRing,
    device: BorrowedFd<'_>,
    queue: u16,
    entry: usize,
    unique: u64,
) -> io::Result<()> {
    Submission::command(device, ring_command::COMMIT_AND_FETCH, queue, unique, entry as u64).push(ring)
}

/// Completes once `fd` is readable.
pub(super) fn watch(ring: &mut CommandRing, fd: BorrowedFd<'_>, user_data: u64) -> io::Result<()> {
    let mut submission = Submission::new(POLL_ADD, fd, user_data);
    submission.events = libc::POLLIN as u32;
    submission.push(ring)
}
