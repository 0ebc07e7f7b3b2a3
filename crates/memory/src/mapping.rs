//! Large pieces of memory, each a mapping of its own, and spare ones for who asks next.
//!
//! To map, to fill and to unmap memory costs a virtual machine as much as compressing what was in it: without spare
//! mappings a large write takes a quarter longer.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Sizes of mappings are multiples of it, so that a spare one can be used for another piece of about that size.
const STEP_BYTES: usize = 64 << 10;
/// Larger mappings are given back at once. The data of a write has that much at most.
const SPARE_MAX_BYTES: usize = 1 << 20;
/// So many may be spare.
const SPARE_MAX: usize = 64;

/// Addresses of spare mappings, and in their lowest bits, which are 0 in the address of a page, their sizes in steps. 0
/// where there is none.
static SPARE: [AtomicUsize; SPARE_MAX] = [const { AtomicUsize::new(0) }; SPARE_MAX];
/// How many there are, about.
static SPARE_COUNT: AtomicUsize = AtomicUsize::new(0);
/// The fewest that there were since [`release_unused`].
static SPARE_LOW: AtomicUsize = AtomicUsize::new(0);

const PAGE_BYTES: usize = 4096;
const _: () = assert!(SPARE_MAX_BYTES / STEP_BYTES < PAGE_BYTES, "sizes fit beside addresses");

/// What memory is to contain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Zeros,
    Anything,
}

fn mapped_bytes(size: usize) -> usize {
    size.next_multiple_of(STEP_BYTES)
}

/// A spare mapping of so many steps, or of any size.
fn take_spare(steps: Option<usize>) -> Option<(*mut u8, usize)> {
    SPARE.iter().find_map(|place| {
        let spare = place.load(Ordering::Relaxed);
        let found = spare % PAGE_BYTES;
        let fits = steps.map_or(found != 0, |steps| found == steps);
        if !fits || place.compare_exchange(spare, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return None;
        }
        let count = SPARE_COUNT.fetch_sub(1, Ordering::Relaxed) - 1;
        SPARE_LOW.fetch_min(count, Ordering::Relaxed);
        Some((ptr::with_exposed_provenance_mut(spare - found), found * STEP_BYTES))
    })
}

/// Says whether there was a place for it.
fn keep_spare(memory: *mut u8, bytes: usize) -> bool {
    let spare = memory.expose_provenance() + bytes / STEP_BYTES;
    // Counted before it can be taken.
    SPARE_COUNT.fetch_add(1, Ordering::Relaxed);
    let kept = SPARE.iter().any(|place| {
        place.load(Ordering::Relaxed) == 0
            && place.compare_exchange(0, spare, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    });
    if !kept {
        SPARE_COUNT.fetch_sub(1, Ordering::Relaxed);
    }
    kept
}

/// Memory for `size` bytes; null when there is none.
pub(crate) fn take(size: usize, content: Content) -> *mut u8 {
    let bytes = mapped_bytes(size);
    if bytes <= SPARE_MAX_BYTES
        && let Some((memory, _)) = take_spare(Some(bytes / STEP_BYTES))
    {
        if content == Content::Zeros {
            // SAFETY: a mapping of at least that size, which is nobody else's since it left its place.
            unsafe { ptr::write_bytes(memory, 0, size) };
        }
        return memory;
    }
    let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: the kernel chooses where, so nothing that is mapped already is replaced.
    unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, kind) }.map_or(ptr::null_mut(), <*mut _>::cast)
}

/// Ends the use of memory.
///
/// # Safety
/// It is from [`take`] with the same size, and nobody uses it any more.
pub(crate) unsafe fn give_back(memory: *mut u8, size: usize) {
    let bytes = mapped_bytes(size);
    if bytes > SPARE_MAX_BYTES || !keep_spare(memory, bytes) {
        // SAFETY: it was mapped with this size, and the caller gives it back.
        unsafe { unmap(memory, bytes) };
    }
}

/// # Safety
/// It is a mapping of that size that nobody uses.
unsafe fn unmap(memory: *mut u8, bytes: usize) {
    // The kernel refuses none that there is, and nobody can be told.
    // SAFETY: as the caller promises.
    let _ = unsafe { munmap(memory.cast(), bytes) };
}

/// Gives those mappings back to the kernel that were spare ever since the last call.
pub fn release_unused() {
    let unused = SPARE_LOW.load(Ordering::Relaxed);
    for _ in 0..unused {
        let Some((memory, bytes)) = take_spare(None) else { break };
        // SAFETY: a spare mapping, which is nobody else's since it left its place.
        unsafe { unmap(memory, bytes) };
    }
    SPARE_LOW.store(SPARE_COUNT.load(Ordering::Relaxed), Ordering::Relaxed);
}
