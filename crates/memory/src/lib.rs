//! The memory of a process with volumes: mimalloc, what is very large straight from the kernel, and freed memory wiped
//! while a vault is open.
//!
//! Lives here: one allocator, its spare memory and the switch of its wiping. Never here: who turns that, or a limit of how much anybody
//! takes. Data flows nowhere: callers take memory and give it back.
//!
//! Below it is mimalloc since the committer frees what other threads took: glibc's allocator spends a quarter to a third
//! of the committer's time on that (docs/PERFORMANCE.md).
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

mod mapping;

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use mimalloc::MiMalloc;

use self::mapping::Content;
pub use self::mapping::release_unused;

/// From this size on an allocation is a mapping of its own. A memtable of the metadata engine asks for 32 MiB of zeros and
/// mostly uses a tenth of it: pages of the kernel are zero and take no room before they are used; what mimalloc had lent
/// before it writes zeros to, the whole of it. The data of a large write is taken by one thread and given back by another,
/// and of that mimalloc keeps more than is ever in use at once.
const MAPPED_MIN_BYTES: usize = 512 << 10;
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

/// `mi_option_purge_delay` of version 2, which the library doesn't name: milliseconds until memory that nobody uses is given
/// back to the kernel.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// From now on mimalloc gives memory back at once. Otherwise it keeps what was freed by other threads than those that took it
/// until these free something again, which may be never: after a minute of small writes a third of a daemon's memory.
pub fn keep_nothing() {
    // SAFETY: it takes two numbers and sets the one of them to the other.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

/// The allocator: for `#[global_allocator]`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Memory;

fn is_mapped(layout: &Layout) -> bool {
    layout.size() >= MAPPED_MIN_BYTES && layout.align() <= MAPPED_ALIGN_MAX_BYTES
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
            return mapping::take(layout.size(), Content::Anything);
        }
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mapped(&layout) {
            return mapping::take(layout.size(), Content::Zeros);
        }
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if WIPES.load(Ordering::Relaxed) {
            // SAFETY: it was allocated with this layout, and the caller gives it back.
            unsafe { wipe(memory, layout.size()) };
        }
        if is_mapped(&layout) {
            // SAFETY: it was taken with this size, and the caller gives it back.
            return unsafe { mapping::give_back(memory, layout.size()) };
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

    use std::sync::Mutex;

    use super::*;

    const LARGE: usize = 32 << 20;

    /// Each of them looks at the memory of the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    #[test]
    fn the_option_that_is_set_is_the_delay() {
        // SAFETY: it takes a number and returns one.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 10, "not what the documentation of the delay says");
        keep_nothing();
        assert_eq!(delay(), 0);
    }

    #[test]
    fn spare_mappings_go_when_nobody_needed_them_and_are_zeros_for_who_asks_for_zeros() {
        let _alone = ALONE.lock().unwrap();
        let layout = Layout::from_size_align(1 << 20, 64).unwrap();
        // SAFETY: each piece is used within its size, and given back once with the layout that it has.
        unsafe {
            let begun = resident_bytes();
            for zeros in [true, false] {
                let pieces: Vec<*mut u8> =
                    (0..40).map(|_| if zeros { Memory.alloc_zeroed(layout) } else { Memory.alloc(layout) }).collect();
                for piece in &pieces {
                    assert!(!zeros || (0..layout.size()).all(|at| *piece.add(at) == 0));
                    ptr::write_bytes(*piece, 7, layout.size());
                }
                pieces.iter().for_each(|piece| Memory.dealloc(*piece, layout));
            }
            let kept = resident_bytes();
            assert!(kept >= begun + (20 << 20), "hardly any was kept: {begun} before, {kept} now");
            let piece = Memory.alloc_zeroed(layout);
            assert!((0..layout.size()).all(|at| *piece.add(at) == 0), "it has what another one had");
            Memory.dealloc(piece, layout);
            // What was needed since the last time stays.
            release_unused();
            release_unused();
            let released = resident_bytes();
            assert!(released < kept - (20 << 20), "they stay for ever: {kept} before, {released} now");
        }
    }

    #[test]
    fn a_large_piece_takes_what_is_used_of_it_however_many_were_given_back_and_grows_with_what_it_has() {
        let _alone = ALONE.lock().unwrap();
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
