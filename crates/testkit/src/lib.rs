//! What VerFS is tested with: a model of a POSIX file tree, random operations, a disk that forgets what was not synced.
//!
//! Lives here: the model, the operations and their generator, the crash and fault simulation, and the checks of the
//! promises. Never here: anything that a released program links. Data flows from a seed into operations, from them into
//! the volume under test and into the model, and from both into a comparison.
#![forbid(unsafe_code)]

mod audit;
mod campaign;
mod clock;
mod content;
mod crash_case;
mod disk;
mod fault_case;
mod generate;
mod machine;
mod meta;
pub mod model;
mod observe;
mod op;
mod plan;
mod power;
mod promise;
mod random;
mod sequences;
mod session;
mod snapshot;
mod stream_case;
mod threads_case;
mod xattr;

pub use audit::Audit;
pub use campaign::{Campaign, caught, count_crash_point, guarded, note, shrink, shrink_time};
pub use clock::TestClock;
pub use content::{Content, Difference, FILL_START_MAX, Fill, WRITE_MAX_BYTES};
pub use crash_case::{CrashCase, Cut, fresh, meaning, run_until_cut};
pub use disk::{CrashDisk, CrashStyle};
pub use fault_case::FaultCase;
pub use generate::{Generator, Purpose};
pub use machine::{Machine, Settings, TreeKind};
pub use meta::CrashMeta;
pub use model::{Model, Who};
pub use observe::{Extras, Observed, Reader, Seen};
pub use op::{CURSORS, Entry, Listed, NAME_TOO_LONG, NAMES, Name, Op, SLOTS, Target};
pub use plan::Plan;
pub use power::{Call, DiskError, Fault, Lasting, Power, Trace, Verdict};
pub use promise::{History, Meaning, Survived};
pub use random::{SeededRng, TestRng};
pub use sequences::{Crashes, FsyncPath, SequenceCase, Sequences, core_operations, persistence_points};
pub use session::{Clockwork, Host, Session, Step, Stop};
pub use snapshot::{SNAPSHOT_NAMES, SNAPSHOT_NAMES_GOOD, SNAPSHOT_REASONS, SnapshotName, SnapshotOp, snapshot_name};
pub use stream_case::{Blow, StreamCase};
pub use threads_case::ThreadsCase;
pub use xattr::{ACL_ACCESS, ACL_DEFAULT, ACL_SHAPES, XATTR_GOOD, XATTR_NAMES, XattrName, XattrValue};
