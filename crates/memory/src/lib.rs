//! The memory of a process with volumes: mimalloc, what is very large straight from the kernel, and freed memory wiped
//! while a vault is open.
//!
//! Lives here: one allocator and the switch of its wiping. Never here: who turns that, or a limit of how much anybody
//! takes. Data flows nowhere: callers take memory and give it back.
//!
//! Below it is mimalloc since the committer frees what other threads took: glibc's allocator spends a quarter to a third
//! of the committer's time on that (docs/PERFORMANCE.md).
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use mimalloc::MiMalloc;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// From this size on an allocation is a mapping of its own: where mimalloc takes a segment for it, too. A memtable of the
/// metadata engine asks for 32 MiB of zeros and mostly uses a tenth of it. Pages of the kernel are zero and take no room
/// before they are used; what mimalloc had lent before it writes zeros to, the whole of it.
const MAPPED_MIN_BYTES: usize = 16 << 20;
/// A mapping begins at a page, and no page is smaller.
const MAPPED_ALIGN_MAX_BYTES: usize = 4096;

static WIPES: AtomicBool = AtomicBool::new(false);

/// What has to become of memory that is freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreedMemory {
    /// It has to be wiped: a vault is open in this process.
    Wiped,
    /// It may stay as it is.
    Left,
}

/// Says what becomes of memory that is freed from now on, by any thread.
pub fn set_freed_memory(memory: FreedMemory) {
    WIPES.store(memory == FreedMemory::Wiped, Ordering::Relaxed);
}

/// The allocator: for `#[global_allocator]`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Memory;

fn is_mapped(layout: &Layout) -> bool {
    layout.size() >= MAPPED_MIN_BYTES && layout.align() <= MAPPED_ALIGN_MAX_BYTES
}

fn map(size: usize) -> *mut u8 {
    let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: the kernel chooses where, so nothing that is mapped already is replaced.
    unsafe { mmap_anonymous(ptr::null_mut(), size, access, kind) }.map_or(ptr::null_mut(), <*mut _>::cast)
}

/// # Safety
/// `memory` has at least `size` bytes that belong to the caller.
unsafe fn wipe(memory: *mut u8, size: usize) {
    // SAFETY: as the caller promises.
    unsafe { ptr::write_bytes(memory, 0, size) };
    // Writing to memory that is freed next is otherwise as good as not writing, to the compiler.
    black_box(memory);
}

// SAFETY: every call goes to mimalloc with the layout that it was given, or to the kernel if that layout says so, the same
// for taking and giving back; memory is only written to between the caller's last use of it and its return, or before
// anybody else has it.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_mapped(&layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mapped(&layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_mapped(&layout) {
            // The kernel wipes it before anybody has it. It refuses no mapping that there is, and nobody can be told.
            // SAFETY: it was mapped with this size, and the caller gives it back.
            let _ = unsafe { munmap(memory.cast(), layout.size()) };
            return;
        }
        if WIPES.load(Ordering::Relaxed) {
            // SAFETY: it was allocated with this layout, and the caller gives it back.
            unsafe { wipe(memory, layout.size()) };
        }
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises a size that makes a layout with this alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if !WIPES.load(Ordering::Relaxed) && !is_mapped(&layout) && !is_mapped(&new_layout) {
            // SAFETY: the caller's promises are the same.
            return unsafe { MiMalloc.realloc(memory, layout, new_size) };
        }
        // mimalloc's own might leave a copy behind, and knows no mapping.
        // SAFETY: the caller promises that it isn't 0.
        let moved = unsafe { self.alloc(new_layout) };
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    const LARGE: usize = 32 << 20;

    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    #[test]
    fn a_large_piece_takes_what_is_used_of_it_however_many_were_given_back_and_grows_with_what_it_has() {
        let layout = Layout::from_size_align(LARGE, 64).unwrap();
        let small = Layout::from_size_align(1 << 20, 64).unwrap();
        // SAFETY: each piece is used within its size, and given back once with the layout that it has then.
        unsafe {
            let begun = resident_bytes();
            // mimalloc has room for some before it takes one again, and fills it with zeros.
            for round in 0..64 {
                let large = Memory.alloc_zeroed(layout);
                assert_eq!((*large, *large.add(LARGE - 1)), (0, 0));
                large.write(7);
                let with_it = resident_bytes();
                assert!(with_it < begun + LARGE / 4, "round {round}: {begun} before, {with_it} with it");
                Memory.dealloc(large, layout);
            }

            let piece = Memory.alloc(small);
            ptr::write_bytes(piece, 9, small.size());
            let grown = Memory.realloc(piece, small, LARGE);
            assert_eq!((*grown, *grown.add(small.size() - 1), *grown.add(small.size())), (9, 9, 0));
            let shrunk = Memory.realloc(grown, layout, small.size());
            assert_eq!((*shrunk, *shrunk.add(small.size() - 1)), (9, 9));
            Memory.dealloc(shrunk, small);
        }
    }
}
