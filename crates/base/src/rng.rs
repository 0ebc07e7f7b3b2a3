//! Randomness, as a trait: a test replays a run from its seed.

use std::fmt::Debug;
use std::io;

/// Source of random bytes.
pub trait Rng: Send + Sync + Debug {
    /// Fills `buffer` with random bytes.
    ///
    /// # Errors
    /// When the source has no entropy to give (the operating system's `getrandom(2)` failed).
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()>;
}

/// The operating system's generator, fit for secrets.
#[derive(Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buffer).map_err(io::Error::other)
    }
}
