//! The filesystem itself: inodes, names, extents, transaction groups, the intent log. A library on its own.
//!
//! Lives here: every operation on a tree of files and what makes it durable. Never here: FUSE, N-API, pack files.
//! Data flows from an operation into the open group, from a closed group through `store` into packs and one batch of
//! the metadata engine, and from fsync into the intent log.
#![forbid(unsafe_code)]

mod acl;
mod allocation;
mod apply;
mod attributes;
mod changes;
mod check;
mod commit;
mod companion;
mod content_commit;
mod copy_out;
mod damage;
mod diff;
mod directory;
mod dirty;
mod error;
mod file_data;
mod flags;
mod group;
mod history;
mod intent_log;
mod listing;
mod load;
mod namespace;
mod prune;
mod read_ahead;
mod recovery;
mod resident;
mod rollback;
mod snapshot_pair;
mod snapshot_tree;
mod snapshots;
mod space;
mod state;
mod stream;
mod types;
mod usage;
mod vault;
mod versions;
mod volume;
mod xattr;

pub use acl::{ACCESS as ACL_ACCESS, AclCaller, acl_permits};
pub use changes::{Change, Changes};
pub use check::{HashName, ReadFrame, TreeCheck, check_log};
pub use copy_out::{Copied, CopyMode, CopyProgress, NURSERY};
pub use damage::DamagedFile;
pub use diff::{TreeChange, TreeChangeKind};
pub use error::{Result, VfsError};
pub use recovery::OpenError;
pub use rollback::{Outdated, Still};
pub use snapshot_pair::{create_snapshot_of_both, create_snapshot_while_locked, rollback_of_both, vault_note};
pub use snapshot_tree::SnapshotTree;
pub use snapshots::{Snapshot, TEXT_MAX_BYTES as SNAPSHOT_TEXT_MAX_BYTES};
pub use stream::{Received, ResumeToken, Sent, StreamError, TargetChanges, complete_vault_receive};
pub use types::{
    AccessTimes, Allocation, Attr, Context, DirEntry, FileFlags, FileKind, FsStat, Listing, NodeKind, Patience, Pin,
    RenameMode, SeekFor, SetAttr, SetId, SetTime, SyncScope, XattrMode,
};
pub use usage::{Usage, UsageProgress};
pub use vault::{
    ClearView, Keyring, LockedVault, LockedVaults, Retirement, SealedMeta, UnlockedKeys, VaultError, VaultSecrets,
    WhileLocked,
};
pub use volume::{Commits, Vfs, VfsOptions, VfsParts, VfsStats};
