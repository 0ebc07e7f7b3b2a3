//! The memory of the addon: what is freed while a vault is open is wiped first, so that nothing of the vault is left in
//! memory that nobody owns. Below it is mimalloc: the committer frees what other threads took, and glibc's allocator spends
//! a quarter to a third of the committer's time on that (docs/PERFORMANCE.md). What C libraries free is wiped by theirs.
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait, and that of C has no safe way to its options")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr;

use mimalloc::MiMalloc;
use verfs_engine::{FreedMemory, wipes_freed_memory};

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

struct WipingAllocator;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// # Safety
/// `memory` has at least `size` bytes that belong to the caller.
unsafe fn wipe(memory: *mut u8, size: usize) {
    // SAFETY: as the caller promises.
    unsafe { ptr::write_bytes(memory, 0, size) };
    // Writing to memory that is freed next is otherwise as good as not writing, to the compiler.
    black_box(memory);
}

// SAFETY: every call goes to mimalloc with the layout that it was given; memory is only written to between
// the caller's last use of it and its return, or before anybody else has it.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if wipes_freed_memory() {
            // SAFETY: it was allocated with this layout, and the caller gives it back.
            unsafe { wipe(memory, layout.size()) };
        }
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !wipes_freed_memory() {
            // SAFETY: the caller's promises are the same.
            return unsafe { MiMalloc.realloc(memory, layout, new_size) };
        }
        // Its own might leave a copy behind.
        // SAFETY: the caller promises a size that makes a layout with this alignment, and that it isn't 0.
        let moved = unsafe { MiMalloc.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both have that many bytes, and are two allocations; the old one is given back with its layout.
            unsafe {
                ptr::copy_nonoverlapping(memory, moved, layout.size().min(new_size));
                self.dealloc(memory, layout);
            }
        }
        moved
    }
}
