//! INIT: what this side wants and what the kernel has.

use std::io;

use zerocopy::IntoBytes;

use super::arguments::Arguments;
use crate::abi::{self, InHeader, InitIn, InitInExtension, InitOut, OutHeader, init};
use crate::dispatch::Spared;
use crate::errno::Errno;
use crate::kernel;
use crate::operation::Operation;

/// What the kernel is asked for, where it has it; see docs/decisions/0009-kernel-interface.md for why each.
const WANTED: u64 = init::ASYNC_READ
    | init::BIG_WRITES
    | init::PARALLEL_DIROPS
    | init::CACHE_SYMLINKS
    | init::DO_READDIRPLUS
    | init::NO_OPEN_SUPPORT
    | init::NO_OPENDIR_SUPPORT
    | init::DONT_MASK
    | init::HAS_IOCTL_DIR
    | init::HANDLE_KILLPRIV_V2
    | init::MAX_PAGES
    | init::INIT_EXT;

/// From the first of these counts of asynchronous requests on the kernel slows readers down.
const CONGESTION: u16 = kernel::BACKGROUND_REQUESTS_MAX / 4 * 3;

/// What was agreed upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Agreement {
    /// Flags that both have.
    pub(crate) flags: u64,
}

impl Agreement {
    /// What the kernel can do without.
    pub(crate) fn spared(self) -> Spared {
        let has = |flag: u64| self.flags & flag != 0;
        Spared { open: has(init::NO_OPEN_SUPPORT), opendir: has(init::NO_OPENDIR_SUPPORT) }
    }
}

/// What to answer to the first request of a connection.
pub(crate) enum Answer {
    /// It is this version: serve it.
    Agreed(Agreement, Vec<u8>),
    /// Another major version: the kernel comes again with one that we name.
    Again(Vec<u8>),
    /// Nothing can be served. The reply says so, if there is anything to reply to.
    Refused(io::Error, Option<Vec<u8>>),
}

/// What may differ between mounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wishes {
    /// Flags beside those that are always wanted.
    pub(crate) flags: u64,
    /// Largest WRITE and READ.
    pub(crate) write_max_bytes: u32,
}

/// Whether the first request says that the kernel would take an io_uring.
pub(crate) fn offers_ring(request: &[u8]) -> bool {
    let mut arguments = Arguments::new(request);
    let said = arguments.take::<InHeader>().and_then(|_| arguments.take::<InitIn>());
    let extended = said.is_ok_and(|said| u64::from(said.flags) & init::INIT_EXT != 0);
    let flags2 = arguments.take::<InitInExtension>().map_or(0, |extension| extension.flags2);
    extended && u64::from(flags2) << u32::BITS & init::OVER_IO_URING != 0
}

/// Reads an INIT and makes the reply to it.
pub(crate) fn agree(request: &[u8], wishes: Wishes) -> Answer {
    let mut arguments = Arguments::new(request);
    let refused = |detail: &str, reply| Answer::Refused(io::Error::other(detail.to_owned()), reply);
    let Ok(header) = arguments.take::<InHeader>() else { return refused("the first request is too short", None) };
    let error = Some(framed(header.unique, Errno::IO, &[]));
    if Operation::of_opcode(header.opcode) != Some(Operation::Init) {
        return refused("the first request is not INIT", error);
    }
    let Ok(said) = arguments.take::<InitIn>() else { return refused("INIT is too short", error) };
    if said.major > abi::VERSION_MAJOR {
        let out = InitOut { major: abi::VERSION_MAJOR, minor: abi::VERSION_MINOR, ..InitOut::default() };
        return Answer::Again(framed(header.unique, Errno(0), out.as_bytes()));
    }
    if said.major < abi::VERSION_MAJOR || said.minor < abi::VERSION_MIN_MINOR {
        let detail =
            format!("the kernel's FUSE is {}.{}: Linux 5.4 is the oldest that is served", said.major, said.minor);
        return refused(&detail, error);
    }
    let flags2 = match u64::from(said.flags) & init::INIT_EXT {
        0 => 0,
        _ => arguments.take::<InitInExtension>().map_or(0, |extension| extension.flags2),
    };
    let flags = (u64::from(flags2) << u32::BITS | u64::from(said.flags)) & (WANTED | wishes.flags);
    for missing in [init::NO_OPEN_SUPPORT, init::DO_READDIRPLUS, init::HANDLE_KILLPRIV_V2] {
        if flags & missing == 0 {
            tracing::info!(flag = missing, "this kernel can't do it");
        }
    }
    let page_bytes = u32::try_from(rustix::param::page_size()).unwrap_or(u32::MAX);
    let out = InitOut {
        major: abi::VERSION_MAJOR,
        minor: said.minor.min(abi::VERSION_MINOR),
        max_readahead: said.max_readahead,
        flags: flags as u32,
        max_background: kernel::BACKGROUND_REQUESTS_MAX,
        congestion_threshold: CONGESTION,
        max_write: wishes.write_max_bytes,
        // Times are kept to the nanosecond.
        time_gran: 1,
        max_pages: u16::try_from(wishes.write_max_bytes.div_ceil(page_bytes)).unwrap_or(u16::MAX),
        flags2: (flags >> u32::BITS) as u32,
        ..InitOut::default()
    };
    Answer::Agreed(Agreement { flags }, framed(header.unique, Errno(0), out.as_bytes()))
}

fn framed(unique: u64, errno: Errno, body: &[u8]) -> Vec<u8> {
    let len = size_of::<OutHeader>() + body.len();
    let header = OutHeader { len: len as u32, error: -errno.0, unique };
    [header.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::*;

    fn request(major: u32, minor: u32, flags: u64) -> Vec<u8> {
        let header = InHeader { opcode: Operation::Init.opcode(), unique: 2, ..InHeader::default() };
        let said = InitIn { major, minor, max_readahead: 4096, flags: flags as u32 };
        let extension = InitInExtension { flags2: (flags >> 32) as u32, unused: [0; 11] };
        [header.as_bytes(), said.as_bytes(), extension.as_bytes()].concat()
    }

    fn agree(request: &[u8], flags: u64) -> Answer {
        super::agree(request, Wishes { flags, write_max_bytes: 1 << 20 })
    }

    fn body(reply: &[u8]) -> InitOut {
        InitOut::read_from_bytes(&reply[size_of::<OutHeader>()..]).unwrap_or_default()
    }

    #[test]
    fn only_what_both_have_is_agreed_upon() {
        let theirs = init::INIT_EXT | init::NO_OPEN_SUPPORT | init::MAX_PAGES | 1 << 40 | 1 << 2;
        let Answer::Agreed(agreement, reply) = agree(&request(7, 99, theirs), 1 << 40) else { panic!("refused") };
        assert_eq!(agreement.flags, theirs & !(1 << 2));
        assert_eq!(agreement.spared(), Spared { open: true, opendir: false });
        let out = body(&reply);
        assert_eq!((out.major, out.minor, out.max_readahead), (7, abi::VERSION_MINOR, 4096));
        assert_eq!((out.flags2, u64::from(out.flags)), (1 << 8, agreement.flags & u64::from(u32::MAX)));
        let Answer::Agreed(_, reply) = agree(&request(7, 33, theirs), 0) else { panic!("refused") };
        assert_eq!((body(&reply).minor, body(&reply).flags2), (33, 0));
    }

    #[test]
    fn a_ring_is_offered_only_by_its_flag() {
        assert!(offers_ring(&request(7, 45, init::INIT_EXT | init::OVER_IO_URING)));
        assert!(!offers_ring(&request(7, 45, init::OVER_IO_URING)));
        assert!(!offers_ring(&request(7, 45, init::INIT_EXT)));
        assert!(!offers_ring(&[1; 50]));
    }

    #[test]
    fn other_versions_are_asked_to_come_again_or_refused() {
        let Answer::Again(reply) = agree(&request(8, 0, 0), 0) else { panic!("a new major version was taken") };
        assert_eq!((body(&reply).major, reply.len()), (7, 80));
        assert!(matches!(agree(&request(7, 30, 0), 0), Answer::Refused(_, Some(_))));
        assert!(matches!(agree(&request(6, 0, 0), 0), Answer::Refused(_, Some(_))));
        for short in [0, 39, 40, 55] {
            assert!(matches!(agree(&request(7, 45, 0)[..short], 0), Answer::Refused(..)), "{short} bytes");
        }
    }
}
