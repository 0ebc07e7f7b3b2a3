//! Files are read back from where they were stored, many at a time.

use std::path::PathBuf;

use super::{Copy, Fault};
use crate::transfer::tree::{Source, Target};

/// Bytes of files that are looked at again at once.
const VERIFIED_BYTES: u64 = 256 << 20;

/// A file that is to be looked at again.
pub(super) struct Unverified<N> {
    pub(super) node: N,
    pub(super) size: u64,
    pub(super) digest: u128,
    pub(super) path: PathBuf,
}

impl<S: Source, T: Target> Copy<'_, S, T> {
    /// Has a file looked at again, with others.
    pub(super) fn look_again(&self, file: Unverified<T::Node>) -> Result<(), Fault> {
        let batch = {
            let mut unverified = self.unverified.lock();
            unverified.push(file);
            let bytes: u64 = unverified.iter().map(|file| file.size).sum();
            let is_full = unverified.len() >= T::VERIFIED_FILES || bytes >= VERIFIED_BYTES;
            if is_full { std::mem::take(&mut *unverified) } else { Vec::new() }
        };
        self.verify(batch)
    }

    /// Reads files back from where they were stored.
    pub(super) fn verify(&self, batch: Vec<Unverified<T::Node>>) -> Result<(), Fault> {
        if batch.is_empty() {
            return Ok(());
        }
        self.target.settle().map_err(Fault::Target)?;
        for Unverified { node, size, digest, path } in batch {
            if self.is_stopped() {
                return Err(Fault::Cancelled);
            }
            let stored = self.target.meta(&node).map_err(Fault::Target)?.size;
            if stored == size && self.digest(self.target, &node, size).map_err(Fault::Target)? == digest {
                self.counters.verified();
            } else if !self.is_stopped() {
                self.target.spoil(&node).map_err(Fault::Target)?;
                self.fail(path, Fault::Differs)?;
            }
        }
        Ok(())
    }
}
