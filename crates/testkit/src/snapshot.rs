//! Operations on snapshots as a test writes them down.

use std::fmt;

use crate::op::short;

/// Index of a snapshot's name: good ones first.
pub type SnapshotName = u8;

/// Names below this one are good.
pub const SNAPSHOT_NAMES_GOOD: u8 = 5;
/// Number of names.
pub const SNAPSHOT_NAMES: u8 = 9;
/// Reasons to hold a snapshot.
pub const SNAPSHOT_REASONS: [&[u8]; 2] = [b"backup", b"\xff reason"];

/// Longest name of a snapshot.
const NAME_MAX_BYTES: usize = 255;
/// The good name that is as long as names can be.
const LONGEST: SnapshotName = 4;
/// The name that is longer.
pub(crate) const SNAPSHOT_NAME_TOO_LONG: SnapshotName = 5;

/// An operation on the snapshot of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotOp {
    /// Makes it.
    Create(SnapshotName),
    /// Deletes it.
    Delete(SnapshotName),
    /// Holds it for a reason, an index into [`SNAPSHOT_REASONS`].
    Hold(SnapshotName, u8),
    /// Takes a reason back.
    Release(SnapshotName, u8),
    /// Makes the tree what it was.
    Rollback(SnapshotName),
    /// Reads all of it and compares it with the tree of then.
    Compare(SnapshotName),
    /// Asks what changed from it to another one, or to now.
    Diff(SnapshotName, Option<SnapshotName>),
    /// Sends it to an empty volume: the whole of it, or what leads there from another one, after that one.
    Send(SnapshotName, Option<SnapshotName>),
}

impl SnapshotOp {
    /// Whether it changes something, and is durable once it has returned.
    #[must_use]
    pub fn is_change(self) -> bool {
        match self {
            SnapshotOp::Create(_)
            | SnapshotOp::Delete(_)
            | SnapshotOp::Hold(..)
            | SnapshotOp::Release(..)
            | SnapshotOp::Rollback(_) => true,
            SnapshotOp::Compare(_) | SnapshotOp::Diff(..) | SnapshotOp::Send(..) => false,
        }
    }

    /// Whether everything before it is durable once it has returned: a comparison with the present tree syncs that, too.
    #[must_use]
    pub fn is_barrier(self) -> bool {
        self.is_change() || matches!(self, SnapshotOp::Diff(_, None))
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> SnapshotName {
        match self {
            SnapshotOp::Create(name)
            | SnapshotOp::Delete(name)
            | SnapshotOp::Hold(name, _)
            | SnapshotOp::Release(name, _)
            | SnapshotOp::Rollback(name)
            | SnapshotOp::Compare(name)
            | SnapshotOp::Diff(name, _)
            | SnapshotOp::Send(name, _) => name,
        }
    }
}

/// The bytes of a name. Good ones begin with `owner`, so that several callers of one volume can each have theirs.
#[must_use]
pub fn snapshot_name(owner: &[u8], name: SnapshotName) -> Vec<u8> {
    match name {
        LONGEST => [owner, &vec![b'L'; NAME_MAX_BYTES - owner.len()][..]].concat(),
        SNAPSHOT_NAME_TOO_LONG => vec![b'M'; NAME_MAX_BYTES + 1],
        6 => Vec::new(),
        7 => b"-f".to_vec(),
        8 => b"a/b".to_vec(),
        good => [owner, b"\xfe snap ", &[b'0' + good]].concat(),
    }
}

impl fmt::Display for SnapshotOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name| short(&snapshot_name(b"", name));
        let name = shown(self.name());
        match self {
            SnapshotOp::Create(_) => write!(f, "snapshot create {name}"),
            SnapshotOp::Delete(_) => write!(f, "snapshot delete {name}"),
            SnapshotOp::Hold(_, reason) => write!(f, "snapshot hold {name} for reason {reason}"),
            SnapshotOp::Release(_, reason) => write!(f, "snapshot release {name} for reason {reason}"),
            SnapshotOp::Rollback(_) => write!(f, "rollback to snapshot {name}"),
            SnapshotOp::Compare(_) => write!(f, "snapshot compare {name}"),
            SnapshotOp::Diff(_, None) => write!(f, "diff from snapshot {name}"),
            SnapshotOp::Diff(_, Some(to)) => write!(f, "diff from snapshot {name} to {}", shown(*to)),
            SnapshotOp::Send(_, None) => write!(f, "send snapshot {name}"),
            SnapshotOp::Send(_, Some(base)) => write!(f, "send snapshot {name} from {}", shown(*base)),
        }
    }
}
