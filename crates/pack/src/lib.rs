//! Packs: files that hold many compressed blocks, each with a sorted index of its own once it is sealed.
//!
//! Lives here: turning a chunk into a block and back, appending blocks, reading one by its place, indexes and their
//! cache, the scan that rebuilds an index from the pack. Never here: reference counts, what a file is, threads.
//! Data flows from `store`, which decides what goes where, to the disk, and back up verified.
#![forbid(unsafe_code)]

mod block;
mod error;
mod layout;
mod scan;
mod seal;
mod sealed;
mod writer;

pub use block::{Block, BlockDecoder, BlockEncoder, BlockSeal, Compression, StoredBlock};
pub use error::{PackError, Result};
pub use layout::{PACKS_DIR, index_path, pack_dir, pack_path};
pub use scan::{PackScan, ScannedBlock, scan_pack};
pub use seal::{load_index, remove_pack, seal_pack, store_index};
pub use sealed::{PackReader, SealedPacks};
pub use verfs_format::pack::RecordSeed;
pub use verfs_format::pack_index::{IndexEntry, IndexTable};
pub use writer::{PackWrite, PackWriter};
