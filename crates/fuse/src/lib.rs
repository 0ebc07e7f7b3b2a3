//! The kernel's side of a mount: requests of the FUSE device become calls of a [`Tree`], results become replies.
//!
//! Lives here: mounting and unmounting, sessions, dispatch to threads, errno mapping, what the kernel may cache.
//! Never here: what a file is made of, engines, volumes. No type of the FUSE library leaves `fuser_transport`.
//! Data flows from the transport through the dispatcher into a tree and back; only invalidations start here.
// Only the memory and the commands of io_uring need it: `device_transport/ring`.
#![deny(unsafe_code)]

// The tree in memory is of the tests with mounts, where this crate has its name.
#[cfg(test)]
extern crate self as verfs_fuse;

mod abi;
mod calls;
mod connection;
mod deadlines;
mod device_transport;
mod dispatch;
mod errno;
mod error;
mod fuser_transport;
mod fusermount;
mod ioctl;
mod kernel;
mod lanes;
mod mount_table;
mod mounting;
mod notify;
mod operation;
mod options;
mod polling;
mod run_queue;
mod session;
mod snapshots;
mod stats;
mod transport;
mod tree;
mod vault;
mod wire;
mod words;

pub use errno::errno;
pub use error::FuseError;
pub use mount_table::{MountEntry, detach_stale, is_stale, mount_table};
pub use notify::Invalidation;
pub use operation::Operation;
pub use options::{AccessMode, AllowOther, SessionOptions, SnapshotsDirectory, TransportChoice};
pub use session::Session;
pub use snapshots::{NAME as SNAPSHOTS_NAME, SnapshotsTree, VolumeMount};
pub use stats::{LaneStats, OperationStats, OverdueStats, SessionStats};

pub use tree::{Lifetime, Opening, Tree};
pub use vault::{MountRole, NAME as VAULT_NAME, SnapshotMaker, VaultDoor, VaultGate, VaultShown, VaultVisit};
