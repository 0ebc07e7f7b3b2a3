//! The gate between the vault's tree and those who use it: its sessions, and callers without a mount.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use verfs_base::Ino;
use verfs_vfs::{Result, VfsError};

/// Lets operations in until it is closed, and knows which inodes the kernel may have something of.
#[derive(Debug, Default)]
pub struct VaultGate {
    closed: AtomicBool,
    inside: AtomicUsize,
    waiting: Mutex<()>,
    left: Condvar,
    known: Mutex<FxHashMap<Ino, u64>>,
}

/// An operation that was let in; it leaves when this is dropped.
#[derive(Debug)]
pub struct VaultVisit<'g>(&'g VaultGate);

impl VaultGate {
    /// Lets an operation in.
    ///
    /// # Errors
    /// [`VfsError::Io`]: the vault is being locked.
    pub fn enter(&self) -> Result<VaultVisit<'_>> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let visit = VaultVisit(self);
        if self.closed.load(Ordering::SeqCst) { Err(VfsError::Io) } else { Ok(visit) }
    }

    /// From now on every new operation fails.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Operations are let in again: the lock failed.
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Waits until no operation is inside. False when some still are after `grace`.
    #[must_use]
    pub fn wait_empty(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let mut waiting = self.waiting.lock();
        while self.inside.load(Ordering::SeqCst) > 0 {
            if self.left.wait_until(&mut waiting, deadline).timed_out() {
                return self.inside.load(Ordering::SeqCst) == 0;
            }
        }
        true
    }

    /// The kernel was told of an inode.
    pub(super) fn told(&self, ino: Ino) {
        *self.known.lock().entry(ino).or_default() += 1;
    }

    /// The kernel forgets an inode.
    pub(super) fn forgotten(&self, ino: Ino, count: u64) {
        let mut known = self.known.lock();
        if let Some(times) = known.get_mut(&ino) {
            *times = times.saturating_sub(count);
            if *times == 0 {
                known.remove(&ino);
            }
        }
    }

    /// Inodes that the kernel may have pages of, in any session of the vault.
    pub(crate) fn known(&self) -> Vec<Ino> {
        self.known.lock().keys().copied().collect()
    }
}

impl Drop for VaultVisit<'_> {
    fn drop(&mut self) {
        let before = self.0.inside.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.0.closed.load(Ordering::SeqCst) {
            drop(self.0.waiting.lock());
            self.0.left.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_closed_gate_lets_nobody_in_and_waits_for_who_is_inside() {
        let gate = VaultGate::default();
        let visit = gate.enter().unwrap();
        gate.close();
        assert!(matches!(gate.enter(), Err(VfsError::Io)));
        assert!(!gate.wait_empty(Duration::from_millis(20)), "somebody is inside");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                drop(visit);
            });
            assert!(gate.wait_empty(Duration::from_secs(20)));
        });
        gate.reopen();
        assert!(gate.enter().is_ok());
    }

    #[test]
    fn the_kernel_knows_an_inode_until_it_forgot_it_as_often_as_it_was_told() {
        let gate = VaultGate::default();
        gate.told(Ino(5));
        gate.told(Ino(5));
        gate.told(Ino(6));
        gate.forgotten(Ino(5), 1);
        gate.forgotten(Ino(6), 1);
        assert_eq!(gate.known(), [Ino(5)]);
        gate.forgotten(Ino(5), 1);
        assert_eq!(gate.known(), []);
    }
}
