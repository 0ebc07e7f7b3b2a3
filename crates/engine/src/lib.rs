//! A volume as a whole: create, open, recover, mount, watch, close.
//!
//! Lives here: which parts make a volume, their limits, the order of start and shutdown, error codes. Never here: what
//! a part does, JavaScript. Data flows from a volume's directory through the parts it wires up to its mount or caller.
#![forbid(unsafe_code)]

mod activity;
mod descriptors;
mod diff;
mod error;
mod file_limit;
mod files;
mod freeze;
mod fsck;
mod gc;
mod health;
mod lock;
mod options;
mod pause;
mod records;
mod recovered;
mod recovery;
mod runtime_directory;
mod scrub;
mod snapshots;
mod stats;
mod streams;
mod tasks;
#[cfg(test)]
mod tests;
mod transfer;
mod usage;
mod vault;
mod volume;

pub use diff::SnapshotDiff;
pub use error::{ERROR_CODES, EngineError};
pub use files::{
    Access, Caller, CopyTarget, Depth, Entries, FileError, Files, Found, Links, Listed, NewTimes, OpenFlags, Watch,
    WatchEnd, WatchEvent, Who,
};
pub use fsck::{FsckProgress, FsckReport, FsckStage, FsckVerdict, Repair};
pub use gc::{Background, GcStatus};
pub use health::{Overdue, SessionName, TaskState, TaskStatus};
pub use options::{CreateOptions, MountOptions, OpenOptions, ReadOnly, Recovery};
pub use scrub::{ScrubOptions, ScrubStatus};
pub use snapshots::SnapshotWork;
pub use stats::{Damage, OpLatency, Stats, VolumeInfo};
pub use transfer::{
    Content, Defects, TransferCounters, TransferOptions, TransferProgress, TransferReport, TransferWatch, Verify,
};
pub use vault::{LOCK_GRACE, RekeyState, VaultCompression, VaultSecret, VaultState, VaultStatus, watch_freed_memory};
pub use verfs_base::Timestamp;
pub use verfs_chunker::ChunkerKind;
pub use verfs_format::scrub::{ScrubPass, ScrubTally};
pub use verfs_fuse::{AllowOther, SnapshotsDirectory};
pub use verfs_memory::{FreedMemory, Memory};
pub use verfs_meta::EngineKind as MetaEngine;
pub use verfs_store::{Finding, Mending};
pub use verfs_store::{GcPhase, GcProgress, Reclaimable, ScrubEnd, ScrubProgress};
pub use verfs_vfs::{Attr, FsStat, SyncScope};
pub use verfs_vfs::{
    Copied, CopyProgress, FileKind, Sent, Snapshot, TargetChanges, TreeChange, TreeChangeKind, Usage, UsageProgress,
    Vfs,
};
pub use volume::Volume;
