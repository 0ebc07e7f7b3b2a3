//! Why long work on the packs ends early.

use crate::error::StoreError;

/// Somebody ended it, or something is wrong.
pub(crate) enum Halt {
    /// Its pace said so.
    Stopped,
    /// It could not go on.
    Failed(StoreError),
}

impl<E: Into<StoreError>> From<E> for Halt {
    fn from(error: E) -> Halt {
        Halt::Failed(error.into())
    }
}

/// Result of a step of it.
pub(crate) type Step<T> = std::result::Result<T, Halt>;
