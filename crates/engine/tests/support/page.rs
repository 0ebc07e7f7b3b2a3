//! A mapped page of a file.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Length of a page and what its place in a file is a multiple of.
pub const PAGE_BYTES: usize = 4096;

/// A mapped page of a file.
pub struct Page(*mut u8);

impl Page {
    /// Maps the page at `offset`, with `MAP_SHARED` or `MAP_PRIVATE`.
    pub fn map(file: &File, flags: libc::c_int, offset: u64) -> Page {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (fd, offset) = (file.as_raw_fd(), offset.try_into().unwrap());
        // SAFETY: a new map of a page where the kernel likes; nobody knows its address yet.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), PAGE_BYTES, protection, flags, fd, offset) };
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Page(at.cast())
    }

    pub fn get(&self, at: usize) -> u8 {
        assert!(at < PAGE_BYTES);
        // SAFETY: within the page, which is mapped for as long as this lives and lies in the file.
        unsafe { self.0.add(at).read_volatile() }
    }

    pub fn set(&self, at: usize, value: u8) {
        assert!(at < PAGE_BYTES);
        // SAFETY: as in `get`; writes are permitted.
        unsafe { self.0.add(at).write_volatile(value) }
    }

    /// `msync(2)`: says whether it could be written.
    pub fn sync(&self) -> std::io::Result<()> {
        // SAFETY: the page is mapped.
        let synced = unsafe { libc::msync(self.0.cast(), PAGE_BYTES, libc::MS_SYNC) };
        if synced == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: it is mapped, and nobody uses it any more.
        unsafe { libc::munmap(self.0.cast(), PAGE_BYTES) };
    }
}
