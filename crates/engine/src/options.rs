//! How a volume is made, opened and mounted. Every limit of a running volume is a field here.

use std::time::Duration;

use verfs_chunker::{ChunkSizes, ChunkerKind};
use verfs_fuse::{AccessMode, AllowOther, SessionOptions, SnapshotsDirectory};
use verfs_meta::{EngineKind, EngineOptions};
use verfs_store::StoreOptions;
use verfs_vfs::VfsOptions;

use crate::gc::{Background, GcOptions};

/// How a new volume is made. None of it can be changed afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateOptions {
    /// The metadata engine.
    pub engine: EngineKind,
    /// The algorithm that cuts files into chunks.
    pub chunker: ChunkerKind,
    /// Mean size of a chunk.
    pub chunk_mean_bytes: u32,
}

impl Default for CreateOptions {
    fn default() -> Self {
        CreateOptions {
            engine: EngineKind::default(),
            chunker: ChunkerKind::default(),
            chunk_mean_bytes: ChunkSizes::DEFAULT_MEAN_BYTES,
        }
    }
}

/// Whether a mount takes writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadOnly {
    /// It does.
    #[default]
    No,
    /// The kernel answers every write with EROFS.
    Yes,
}

/// Whether a damaged volume is opened, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Recovery {
    /// What can't be used as it is is refused.
    #[default]
    No,
    /// What is left of it is shown. Nothing on it changes: what opening it writes goes to a copy of its metadata below
    /// `$TMPDIR`, which is removed when it is closed.
    ReadOnly,
}

/// The limits within which a volume is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenOptions {
    /// Blocks of 4 KiB of dirty data at which a transaction group closes.
    pub group_blocks: u32,
    /// Milliseconds after its first change at which a transaction group closes.
    pub group_interval_ms: u32,
    /// Uncommitted data and records in memory; writers wait at the limit.
    pub dirty_limit_bytes: u64,
    /// Most data of one fsync in the intent log.
    pub log_inline_bytes: u64,
    /// Decompressed chunks in memory.
    pub chunk_cache_bytes: u64,
    /// Pack indexes in memory.
    pub pack_index_cache_bytes: u64,
    /// Block cache of the metadata engine.
    pub meta_block_cache_bytes: u64,
    /// One memtable of the metadata engine; there can be two.
    pub memtable_bytes: u64,
    /// Inodes in memory.
    pub inode_cache_entries: u32,
    /// zstd level of new chunks.
    pub compression_level: i32,
    /// Threads that compress, and decompress ahead of readers; 0 is one for each core.
    pub compress_threads: u32,
    /// Length at which a pack is sealed.
    pub pack_target_bytes: u64,
    /// Whether garbage is collected without being asked for.
    pub gc_background: Background,
    /// Percentage of a pack that has to be dead for it to be collected in the background.
    pub gc_dead_percent: u8,
    /// Bytes that garbage collection copies in a second while the volume is in use.
    pub gc_busy_rate_bytes: u64,
    /// Bytes that a scrub reads in a second while the volume is in use.
    pub scrub_busy_rate_bytes: u64,
    /// Whether mounts of it take writes.
    pub read_only: ReadOnly,
    /// Whether it is opened although it is damaged, to be read only.
    pub recovery: Recovery,
}

impl Default for OpenOptions {
    fn default() -> Self {
        let (vfs, store, meta) = (VfsOptions::default(), StoreOptions::default(), EngineOptions::default());
        OpenOptions {
            group_blocks: vfs.group_blocks,
            group_interval_ms: vfs.group_interval_ms,
            dirty_limit_bytes: vfs.dirty_limit_bytes,
            log_inline_bytes: vfs.log_inline_bytes,
            chunk_cache_bytes: store.chunk_cache_bytes,
            pack_index_cache_bytes: store.pack_index_cache_bytes,
            meta_block_cache_bytes: meta.block_cache_bytes,
            memtable_bytes: meta.memtable_bytes as u64,
            inode_cache_entries: vfs.inode_cache_entries as u32,
            compression_level: store.compression_level,
            compress_threads: 0,
            pack_target_bytes: store.pack_target_bytes,
            gc_background: Background::On,
            gc_dead_percent: 20,
            gc_busy_rate_bytes: 32 << 20,
            scrub_busy_rate_bytes: 32 << 20,
            read_only: ReadOnly::No,
            recovery: Recovery::No,
        }
    }
}

impl OpenOptions {
    pub(crate) fn vfs(&self, owner: (u32, u32)) -> VfsOptions {
        VfsOptions {
            group_blocks: self.group_blocks,
            group_interval_ms: self.group_interval_ms,
            dirty_limit_bytes: self.dirty_limit_bytes,
            log_inline_bytes: self.log_inline_bytes,
            inode_cache_entries: self.inode_cache_entries as usize,
            dirent_cache_entries: self.inode_cache_entries as usize * 2,
            root_uid: owner.0,
            root_gid: owner.1,
            ..VfsOptions::default()
        }
    }

    pub(crate) fn store(&self) -> StoreOptions {
        let defaults = StoreOptions::default();
        StoreOptions {
            pack_target_bytes: self.pack_target_bytes,
            chunk_cache_bytes: self.chunk_cache_bytes,
            pack_index_cache_bytes: self.pack_index_cache_bytes,
            compression_level: self.compression_level,
            compress_threads: match self.compress_threads {
                0 => defaults.compress_threads,
                threads => threads as usize,
            },
            ..defaults
        }
    }

    pub(crate) fn gc(&self) -> GcOptions {
        GcOptions {
            background: match self.read_only {
                ReadOnly::No => self.gc_background,
                // Nobody makes garbage, and nothing on the volume is to change.
                ReadOnly::Yes => Background::Off,
            },
            dead_percent: self.gc_dead_percent.clamp(1, 100),
            busy_rate_bytes: self.gc_busy_rate_bytes,
        }
    }

    pub(crate) fn meta(&self) -> EngineOptions {
        EngineOptions {
            memtable_bytes: usize::try_from(self.memtable_bytes).unwrap_or(usize::MAX),
            block_cache_bytes: self.meta_block_cache_bytes,
        }
    }
}

/// How a volume is mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountOptions {
    /// Who may enter.
    pub allow_other: AllowOther,
    /// Threads for requests that wait for the store.
    pub io_threads: u32,
    /// Microseconds that the dispatcher polls before it sleeps; 0 never polls.
    pub poll_us: u32,
    /// Milliseconds that a request may wait for the store before it is answered EIO; 0 waits for ever.
    pub deadline_ms: u32,
    /// Where the mount shows snapshots. `snapshots=` among the extra options says the same.
    pub snapshots: SnapshotsDirectory,
    /// Values of `-o`.
    pub extra: Vec<String>,
}

impl Default for MountOptions {
    fn default() -> Self {
        let session = SessionOptions::default();
        MountOptions {
            allow_other: session.allow_other,
            io_threads: session.io_threads,
            poll_us: session.poll_us,
            deadline_ms: session.deadline.map_or(0, |limit| u32::try_from(limit.as_millis()).unwrap_or(u32::MAX)),
            snapshots: session.snapshots,
            extra: Vec::new(),
        }
    }
}

impl MountOptions {
    pub(crate) fn session(&self, fs_name: String, read_only: ReadOnly) -> SessionOptions {
        SessionOptions {
            fs_name,
            allow_other: self.allow_other,
            access: match read_only {
                ReadOnly::No => AccessMode::ReadWrite,
                ReadOnly::Yes => AccessMode::ReadOnly,
            },
            io_threads: self.io_threads,
            poll_us: self.poll_us,
            deadline: (self.deadline_ms > 0).then(|| Duration::from_millis(self.deadline_ms.into())),
            snapshots: self.snapshots,
            extra_options: self.extra.clone(),
            ..SessionOptions::default()
        }
    }
}
