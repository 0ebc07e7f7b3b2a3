//! The memory of a process with volumes: jemalloc, with freed memory wiped while a vault is open.
//!
//! Lives here: one allocator, how much it keeps of what nobody uses, and the switch of its wiping. Never here: who turns that, or a
//! limit of how much anybody takes. Data flows nowhere: callers take memory and give it back.
//!
//! jemalloc, as much of what is here is taken by one thread and given back by another, in pieces of any size up to a
//! mebibyte: docs/decisions/0032-allocator.md has what that costs with others.
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use tikv_jemallocator::Jemalloc;

const OPTIONS: &[u8; 62] = b"narenas:1,tcache_max:4096,dirty_decay_ms:100,muzzy_decay_ms:0\0";

/// jemalloc's options, which it finds by this name (`malloc_conf`, jemalloc(3)). All threads share an arena, and keep
/// nothing larger than a page to themselves, so that there is little that is free and of the wrong size. What was given back is kept for
/// 100 ms, for who asks next: a large write takes and gives back the same 32 MiB all the time, and to map, to fill and to
/// unmap memory costs a virtual machine as much as compressing what was in it.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "jemalloc gave the name")]
pub static _rjem_malloc_conf: Option<&'static [u8; OPTIONS.len()]> = Some(OPTIONS);

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

/// Gives memory back to the kernel that nobody uses and that was kept for long enough. jemalloc does so by itself only while
/// threads take and give back memory.
pub fn release_unused() {
    // All arenas: MALLCTL_ARENAS_ALL of its header.
    const DECAY: &std::ffi::CStr = c"arena.4096.decay";
    // SAFETY: the name is known, and this one reads and writes no value.
    let refused =
        unsafe { tikv_jemalloc_sys::mallctl(DECAY.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0) };
    debug_assert_eq!(refused, 0, "jemalloc knows no such order");
}

/// The allocator: for `#[global_allocator]`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Memory;

/// # Safety
/// `memory` has at least `size` bytes that belong to the caller.
unsafe fn wipe(memory: *mut u8, size: usize) {
    // SAFETY: as the caller promises.
    unsafe { ptr::write_bytes(memory, 0, size) };
    // Writing to memory that is freed next is otherwise as good as not writing, to the compiler.
    black_box(memory);
}

// SAFETY: every call goes to jemalloc with the layout that it was given; memory is only written to between the caller's last
// use of it and its return, or before anybody else has it.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        unsafe { Jemalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        unsafe { Jemalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if WIPES.load(Ordering::Relaxed) {
            // SAFETY: it was allocated with this layout, and the caller gives it back.
            unsafe { wipe(memory, layout.size()) };
        }
        // SAFETY: the caller's promises are the same.
        unsafe { Jemalloc.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !WIPES.load(Ordering::Relaxed) {
            // SAFETY: the caller's promises are the same.
            return unsafe { Jemalloc.realloc(memory, layout, new_size) };
        }
        // jemalloc's own might leave a copy behind.
        // SAFETY: the caller promises a size that isn't 0 and makes a layout with this alignment.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
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
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    const LARGE: usize = 32 << 20;

    /// Each of them looks at the memory of the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    fn option<T: Copy>(name: &std::ffi::CStr, mut value: T) -> T {
        let mut size = size_of::<T>();
        // SAFETY: there is room for a value of that size, and none is written.
        let refused = unsafe {
            tikv_jemalloc_sys::mallctl(name.as_ptr(), (&raw mut value).cast(), &raw mut size, ptr::null_mut(), 0)
        };
        assert_eq!((refused, size), (0, size_of::<T>()), "{name:?}");
        value
    }

    #[test]
    fn jemalloc_has_found_its_options() {
        assert_eq!(option(c"opt.narenas", 0_u32), 1);
        assert_eq!(option(c"opt.tcache_max", 0_usize), 4096);
        assert_eq!(option(c"opt.dirty_decay_ms", 0_isize), 100);
        assert_eq!(option(c"opt.muzzy_decay_ms", 7_isize), 0);
    }

    #[test]
    fn what_was_given_back_is_kept_for_a_moment_and_goes_then() {
        let _alone = ALONE.lock().unwrap();
        let layout = Layout::from_size_align(1 << 20, 64).unwrap();
        let begun = resident_bytes();
        // SAFETY: each piece is used within its size, and given back once with the layout that it has.
        unsafe {
            let pieces: Vec<*mut u8> = (0..40).map(|_| Memory.alloc(layout)).collect();
            for piece in &pieces {
                ptr::write_bytes(*piece, 7, layout.size());
            }
            pieces.iter().for_each(|piece| Memory.dealloc(*piece, layout));
        }
        let kept = resident_bytes();
        assert!(kept >= begun + (20 << 20), "hardly any was kept: {begun} before, {kept} now");
        let deadline = Instant::now() + Duration::from_secs(10);
        while resident_bytes() > begun + (5 << 20) {
            assert!(Instant::now() < deadline, "it stays: {begun} before, {} now", resident_bytes());
            thread::sleep(Duration::from_millis(50));
            release_unused();
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
