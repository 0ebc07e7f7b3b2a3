//! Why something was not copied, and what is told of it.

use std::path::PathBuf;

use crate::transfer::tree::Trouble;

/// Why something was not copied.
#[derive(Clone, Debug)]
pub(in crate::transfer) enum Fault {
    /// It can't be read.
    Source(Trouble),
    /// It can't be written.
    Target(Trouble),
    /// It changed while it was read.
    Changed,
    /// What is stored is not what was read.
    Differs,
    /// The caller ended it.
    Cancelled,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Source(trouble) => write!(f, "cannot be read: {trouble}"),
            Fault::Target(trouble) => write!(f, "cannot be written: {trouble}"),
            Fault::Changed => write!(f, "changed while it was read"),
            Fault::Differs => write!(f, "is not stored as it was read"),
            Fault::Cancelled => write!(f, "was cancelled"),
        }
    }
}

/// What went wrong with entries, while the others were copied.
#[derive(Clone, Debug, Default)]
pub(in crate::transfer) struct Failures {
    pub(in crate::transfer) changed: u64,
    pub(in crate::transfer) differing: u64,
    pub(in crate::transfer) others: u64,
    /// The first of them: paths from the root of the source, and what happened.
    pub(in crate::transfer) told: Vec<(PathBuf, Fault)>,
}

/// How a copy ended that was not given up.
#[derive(Debug, Default)]
pub(in crate::transfer) struct Copied {
    pub(in crate::transfer) failures: Failures,
    /// What was left out: the volume itself, and where it is mounted.
    pub(in crate::transfer) left_out: Vec<PathBuf>,
}
