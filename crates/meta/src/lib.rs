//! Ordered, transactional key-value stores for a volume's metadata: one trait, several engines, one conformance suite.
//!
//! Lives here: the [`MetaStore`] trait, its engines and the guards around each engine's hazards.
//! Never here: what the keys mean, packs, files.
//! Data flows from `vfs` and `store`, which build one [`WriteBatch`] a transaction group, to the engine.
//!
//! [`open`] gives one of the engines that keep a volume; [`MemoryStore`] is the reference model, which tests use as
//! the store itself (it can lose power and fail on demand) and as the oracle of the others.
#![forbid(unsafe_code)]

mod batch;
mod copy;
mod engine;
mod error;
mod keys;
mod limits;
mod prefixed;
mod store;
mod witness;

pub use batch::{Change, WriteBatch};
pub use copy::{Copied, copy_all};
pub use engine::memory::{Fault, FaultAt, MemoryStore};
pub use engine::{EngineKind, EngineOptions, UnknownEngine, engine_of_files, is_named, name_again, open, salvage};
pub use error::{MetaError, Result};
pub use limits::{BATCH_MAX_BYTES, KEY_MAX_BYTES, VALUE_MAX_BYTES};
pub use prefixed::PrefixedStore;
pub use store::{Direction, Health, KeyRange, MetaStore, MetaView, Visit};
pub use witness::{Standing, WitnessedStore};
