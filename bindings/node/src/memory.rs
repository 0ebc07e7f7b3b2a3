//! The memory of the addon: what is freed while a vault is open is wiped first, so that nothing of the vault is left in
//! memory that nobody owns. What C libraries free is wiped by theirs.
#![allow(unsafe_code, reason = "the allocator of C has no safe way to its options")]

use verfs_engine::{FreedMemory, Memory};

#[global_allocator]
static ALLOCATOR: Memory = Memory;

/// From now on C's allocator does the same while a vault is open (`M_PERTURB`, mallopt(3)): contexts of compression have
/// pieces of what they worked on, and are made anew whenever they don't fit. Not for always: it slows all of Node down.
pub fn watch() {
    verfs_engine::watch_freed_memory(|memory| {
        perturb(match memory {
            FreedMemory::Wiped => 1,
            FreedMemory::Left => 0,
        });
    });
}

#[cfg(target_env = "gnu")]
fn perturb(with: i32) {
    // SAFETY: it takes numbers and changes a number of the allocator's.
    unsafe { libc::mallopt(libc::M_PERTURB, with) };
}

/// musl's allocator has no such option.
#[cfg(not(target_env = "gnu"))]
fn perturb(_with: i32) {}
