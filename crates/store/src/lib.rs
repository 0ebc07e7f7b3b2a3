//! The chunk store: content-addressed chunks in packs, deduplicated, compressed and reference-counted.
//!
//! Lives here: the dedup look-up, the write pipeline (hash, look up, compress, append, sync), reference counts,
//! reads through the chunk and index caches, garbage collection, scrub, and recovery of packs after a crash.
//! Never here: files, inodes, extents, FUSE; where a chunk's bytes lie inside a pack is `verfs-pack`'s business.
//! Data flows down: `vfs` puts chunks into a [`ChunkBatch`], which appends blocks to packs and adds its records to
//! the caller's metadata batch; reads come back up from cache or pack, verified.
#![forbid(unsafe_code)]

mod accounts;
mod appender;
mod backend;
mod batch;
mod cache_room;
mod check;
mod core;
mod damage;
mod error;
mod gc;
mod halt;
mod ledger;
mod live;
mod options;
mod pipeline;
mod recovery;
mod scrub;
mod sealing;
mod slot;
mod stats;
mod store;
mod stretch;
mod sync;

pub use backend::{ChunkBackend, Compressed};
pub use batch::{ChunkBatch, Indexed};
pub use check::{
    Finding, Findings, LostChunks, Mend, Mending, StoreCheck, UnplacedPack, chunk_record_key, parse_chunk,
    rebuild_index,
};
pub use error::{Result, StoreError};
pub use gc::{GcEnd, GcPhase, GcProgress, Pace, Reclaimable, Resealed};
pub use options::{Leftovers, StoreOptions};
pub use scrub::{ScrubEnd, ScrubPosition, ScrubProgress};
pub use stats::{Damage, StoreStats};
pub use store::ChunkStore;
pub use verfs_pack::StoredBlock;
