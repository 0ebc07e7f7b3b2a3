//! Locks of what is also run under a model checker (tests/turns.rs), which brings its own.

pub(crate) use parking_lot::{Condvar, Mutex};
