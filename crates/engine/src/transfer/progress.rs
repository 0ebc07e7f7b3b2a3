//! How far a transfer is: counted by those who work, read by anybody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use verfs_vfs::FileKind;

use super::tree::Meta;

/// How far a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransferProgress {
    /// Names that are copied.
    pub entries: u64,
    /// Names that there are, as far as they are counted.
    pub of_entries: u64,
    /// Bytes of files that are copied, holes included.
    pub bytes: u64,
    /// Bytes of files that there are, as far as they are counted.
    pub of_bytes: u64,
    /// Whether all of them are counted.
    pub counted: bool,
    /// Files that an earlier run had copied.
    pub already_there: u64,
    /// Files that were read back and are what they should be.
    pub verified: u64,
}

/// The numbers behind [`TransferProgress`].
#[derive(Debug, Default)]
pub struct Counters {
    entries: AtomicU64,
    of_entries: AtomicU64,
    bytes: AtomicU64,
    /// Of files that are not whole yet.
    moved: AtomicU64,
    of_bytes: AtomicU64,
    counted: AtomicBool,
    already_there: AtomicU64,
    verified: AtomicU64,
    files: AtomicU64,
    directories: AtomicU64,
}

fn size_of(meta: &Meta) -> u64 {
    if meta.kind == FileKind::Regular { meta.size } else { 0 }
}

impl Counters {
    pub(super) fn saw(&self, meta: &Meta) {
        self.of_entries.fetch_add(1, Ordering::Relaxed);
        self.of_bytes.fetch_add(size_of(meta), Ordering::Relaxed);
    }

    pub(super) fn saw_all(&self) {
        self.counted.store(true, Ordering::Relaxed);
    }

    /// Some bytes of a file.
    pub(super) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file of which so many bytes were moved is whole, or not copied at all.
    pub(super) fn ended(&self, moved: u64) {
        self.moved.fetch_sub(moved, Ordering::Relaxed);
    }

    /// Something is whole.
    pub(super) fn copied(&self, meta: &Meta) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        let counted = match meta.kind {
            FileKind::Directory => &self.directories,
            FileKind::Regular
            | FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => &self.files,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size_of(meta), Ordering::Relaxed);
    }

    /// An earlier run had copied it.
    pub(super) fn was_there(&self, meta: &Meta) {
        self.already_there.fetch_add(1, Ordering::Relaxed);
        self.copied(meta);
    }

    pub(super) fn verified(&self) {
        self.verified.fetch_add(1, Ordering::Relaxed);
    }

    /// Names of files, and of everything else that is no directory; and directories.
    pub(super) fn kinds(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.directories.load(Ordering::Relaxed))
    }

    /// The numbers at this moment.
    #[must_use]
    pub fn progress(&self) -> TransferProgress {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (bytes, of_bytes) = (get(&self.bytes) + get(&self.moved), get(&self.of_bytes));
        let counted = self.counted.load(Ordering::Relaxed);
        TransferProgress {
            entries: get(&self.entries),
            of_entries: get(&self.of_entries),
            bytes: if counted { bytes.min(of_bytes) } else { bytes },
            of_bytes,
            counted,
            already_there: get(&self.already_there),
            verified: get(&self.verified),
        }
    }
}
