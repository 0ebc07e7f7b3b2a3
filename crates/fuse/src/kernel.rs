//! What the kernel is told at INIT and with each reply: limits and lifetimes, each with its unit.

use std::time::Duration;

use verfs_vfs::FsStat;

use crate::tree::Lifetime;

/// For ever, in the kernel's words. (34 years; larger values overflow in some kernels.)
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// How long the kernel may keep an entry, a missing entry or attributes.
pub(crate) fn duration(lifetime: Lifetime) -> Duration {
    match lifetime {
        Lifetime::Moment => Duration::ZERO,
        Lifetime::Forever => FOREVER,
    }
}

/// Largest WRITE and READ request.
pub(crate) const WRITE_MAX_BYTES: u32 = 1 << 20;

/// The same where requests come by io_uring, each in an entry that has room for the largest.
pub(crate) const RING_PAYLOAD_BYTES: u32 = 256 << 10;

/// Read-ahead window that is set after the mount, where that is permitted; the kernel's own limit is 128 KiB.
pub(crate) const READ_AHEAD_KIB: u32 = 1024;

/// Asynchronous requests (read-ahead above all) that the kernel keeps in flight.
pub(crate) const BACKGROUND_REQUESTS_MAX: u16 = 64;

/// `st_blksize`: what programs take for the best size of a read or write.
pub(crate) const PREFERRED_IO_BYTES: u32 = 128 << 10;

/// Unit of the counts that `statfs(2)` shows.
pub(crate) const STATFS_BLOCK_BYTES: u32 = 4096;

/// Longest name of a directory entry.
pub(crate) const NAME_MAX_BYTES: u32 = 255;

/// Room that `statfs(2)` reckons for one more inode, so that free inodes end where free room ends.
pub(crate) const INODE_ROOM_BYTES: u64 = 1024;

/// Counts as `statfs(2)` shows them.
pub(crate) struct Room {
    pub(crate) blocks: u64,
    pub(crate) free_blocks: u64,
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
}

impl Room {
    pub(crate) fn of(stat: &FsStat) -> Room {
        let block_bytes = u64::from(STATFS_BLOCK_BYTES);
        let free_inodes = stat.available_bytes / INODE_ROOM_BYTES;
        Room {
            blocks: stat.total_bytes / block_bytes,
            free_blocks: stat.available_bytes / block_bytes,
            inodes: stat.inodes.saturating_add(free_inodes),
            free_inodes,
        }
    }
}

/// Room that is taken for a listing at once: the C library's buffer.
pub(crate) const LISTING_BYTES: usize = 32 << 10;

/// Most bytes that one request copies between files: less than the 32 bits that a reply may have, and a multiple of
/// what chunks of files are aligned to.
pub(crate) const COPY_MAX_BYTES: u64 = 1 << 31;

/// Entries asked of a tree at once: what 32 KiB, the C library's buffer, hold of names of 16 bytes.
pub(crate) const NAMES_BATCH_ENTRIES: usize = 800;
/// As [`NAMES_BATCH_ENTRIES`], of entries with attributes.
pub(crate) const PLUS_BATCH_ENTRIES: usize = 195;

/// What `st_rdev`, mode and type bits of a node are in the kernel's words.
pub(crate) const MODE_PERMISSION_BITS: u32 = 0o7777;
