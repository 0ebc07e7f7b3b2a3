//! Snapshots as directories of a mounted volume: `.snapshots/NAME` in its root, and where asked for in every directory.
//!
//! Lives here: the second session that serves them, when it is mounted, and what the tree's own session answers where
//! the tree has no such entry. Never here: how a snapshot keeps what it has. Data flows from `SnapshotTree` of `vfs`
//! into replies; only making and deleting a snapshot goes the other way. See docs/decisions/0013-snapshots-directory.md.

mod automount;
mod earlier;
mod in_tree;
mod mount;
mod numbers;
mod opened;
mod served;

pub use mount::VolumeMount;
pub use served::SnapshotsTree;

/// The name of the directory, which no tree has.
pub const NAME: &[u8] = b".snapshots";
