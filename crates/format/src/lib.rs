//! Every byte that VerFS puts on a disk: encoding and decoding, no input or output.
//!
//! Lives here: one module per record kind, each with its byte diagram, golden files and robustness tests. Never here:
//! reading or writing files. Data flows from typed records to bytes and back; docs/FORMAT.md is made of these diagrams.
#![forbid(unsafe_code)]

pub mod chunk_record;
mod content;
pub mod discard;
mod error;
mod inode;
pub mod keys;
mod log_frame;
pub mod pack;
pub mod pack_index;
pub mod scrub;
mod snapshot;
mod stream;
pub mod superblock;
pub mod varint;
pub mod vault;
mod versioned;
pub mod witness;
mod xattr;

pub use content::{ContentId, LOST_CHUNK, Run, RunData, SEGMENT_BYTES, Segment};
pub use error::DecodeError;
pub use inode::{DirentRecord, InodeFlags, InodeKind, InodeRecord, OrphanRecord, TreeCounters};
pub use keys::NameHash;
pub use log_frame::{
    FrameBuilder, FrameHeader, HEADER_BYTES, InodeScope, LogEntry, MAGIC, TRAILER_BYTES, decode_frame,
    decode_sealed_frame, frame_context,
};
pub use snapshot::{ChangeList, DeadList, DeadReference, PruneProgress, SnapshotRecord};
pub use stream::{
    STREAM_BODY_MAX_BYTES, STREAM_CHECK_BYTES, STREAM_HEAD_BYTES, STREAM_MAGIC, STREAM_RESUME_MAGIC,
    STREAM_VAULT_MAGIC, STREAM_WINDOW_CHUNKS, SealedRecord, StreamBegin, StreamCheck, StreamFrame, StreamRun,
    StreamRunData, StreamVault,
};
pub use versioned::{encode_versioned, record_of_versioned, split_versioned};
pub use xattr::Xattrs;
