//! A disk that keeps whoever reads or syncs waiting for as long as a test likes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use verfs_base::{Disk, DiskFile, RealDisk, Space};

/// What waits at a closed gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passing {
    Reads,
    Syncs,
}

#[derive(Debug, Default)]
struct Guard {
    closed: Option<Passing>,
    waiting: u64,
}

/// Opens and closes the way to a [`GatedDisk`].
#[derive(Debug, Default)]
pub struct Gate {
    guard: Mutex<Guard>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self, passing: Passing) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.waiting += 1;
        while guard.closed == Some(passing) {
            guard = self.opened.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        guard.waiting -= 1;
    }

    pub fn close(&self, passing: Passing) {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).closed = Some(passing);
    }

    pub fn open(&self) {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).closed = None;
        self.opened.notify_all();
    }

    /// How many wait.
    pub fn waiting(&self) -> u64 {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).waiting
    }
}

/// A directory behind a gate.
#[derive(Debug)]
pub struct GatedDisk {
    disk: RealDisk,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl GatedDisk {
    pub fn new(root: PathBuf, gate: Arc<Gate>) -> GatedDisk {
        GatedDisk { disk: RealDisk::new(root), gate }
    }

    fn gated(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(GatedFile { file, gate: Arc::clone(&self.gate) })
    }
}

impl Disk for GatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path).map(|file| self.gated(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path).map(|file| self.gated(file))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_read(path).map(|file| self.gated(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

impl DiskFile for GatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.gate.pass(Passing::Reads);
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass(Passing::Syncs);
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
}
