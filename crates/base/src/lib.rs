//! The vocabulary of VerFS: identifiers, byte ranges and the traits through which time, randomness and disks come in.
//!
//! Lives here: newtypes without behaviour of their own, and the `Clock`, `Rng` and `Disk` traits with their real
//! implementations. Never here: anything that knows what a chunk, a pack or a file is made of.
//! Data flows upwards only: every crate imports this one, this one imports none of ours.
#![forbid(unsafe_code)]

mod clock;
mod descriptors;
mod disk;
mod ids;
mod rng;

pub use clock::{Clock, SystemClock, Timestamp};
pub use descriptors::{DescriptorRoom, Descriptors, is_out_of_descriptors};
pub use disk::{Disk, DiskFile, RealDisk, Space};
pub use ids::{ByteRange, ChunkId, Epoch, GroupId, Ino, PackId};
pub use rng::{OsRng, Rng};
