//! The files under a volume, as a trait: tests run the same code on a disk that loses, tears or fails writes.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Descriptors;

/// Room on the disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Size of the whole disk.
    pub total: u64,
    /// What this process may still allocate.
    pub available: u64,
}

/// A directory tree of files. Paths are relative to the volume's root and never leave it.
///
/// Durability follows POSIX and no more: bytes of a file survive power loss after [`DiskFile::sync_data`] of it,
/// a name (created, renamed or removed) after [`Disk::sync_dir`] of its directory.
pub trait Disk: Send + Sync + Debug {
    /// Creates a file that must not exist yet, open for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` (no such directory), `StorageFull`, or what the disk says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading only.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Replaces the name `to` by the file at `from`, atomically.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its missing parents; existing ones are no error.
    ///
    /// # Errors
    /// What the disk says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// File and directory names in a directory, sorted; a missing directory is empty.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Room left.
    ///
    /// # Errors
    /// What the disk says.
    fn space(&self) -> io::Result<Space>;

    /// Whether a commit may begin that opens files beside this disk, as a metadata engine does. A disk that knows of no
    /// limit says `Ok`.
    ///
    /// # Errors
    /// EMFILE when there are too few descriptors.
    fn ready(&self) -> io::Result<()> {
        Ok(())
    }
}

/// An open file of a [`Disk`]. All methods may be called from many threads.
#[allow(
    clippy::len_without_is_empty,
    reason = "a file's length is asked of the disk and can fail; nobody asks whether it is empty"
)]
pub trait DiskFile: Send + Sync + Debug {
    /// Reads up to `buffer.len()` bytes at `offset`; 0 at or past the end.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file where needed.
    ///
    /// # Errors
    /// `StorageFull`, or what the disk says; how much was written is then unknown.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// What the disk says. After a failure nothing may be assumed about earlier unsynced writes.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn len(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) to `len` bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves blocks for the first `len` bytes without changing the length.
    ///
    /// # Errors
    /// `StorageFull`, or what the disk says. A disk that can't reserve says `Ok`.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Hint: these bytes are complete, so the disk may begin to write them out, and a later sync has less to wait for.
    /// A disk that knows no such thing does nothing.
    fn begin_writeback(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Hint: these bytes will be read soon, so the disk may begin to bring them into memory. A disk that knows no such
    /// thing does nothing.
    fn begin_read(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends first, or what the disk says.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            let count = self.read_at(buffer, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[count..];
            offset += count as u64;
        }
        Ok(())
    }
}

/// A directory of the machine.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    descriptors: Option<Arc<Descriptors>>,
}

impl RealDisk {
    /// The disk rooted at an existing directory, without descriptors that are kept back.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        RealDisk { root, descriptors: None }
    }

    /// As [`RealDisk::new`], with descriptors for when there are no others.
    #[must_use]
    pub fn with_descriptors(root: PathBuf, descriptors: Arc<Descriptors>) -> Self {
        RealDisk { root, descriptors: Some(descriptors) }
    }

    /// Where a path of this disk is on the machine.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Opens a file that stays open.
    fn for_long(&self, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
        match &self.descriptors {
            Some(descriptors) => descriptors.for_long(open),
            None => open(),
        }
    }

    /// Does what opens something and closes it again.
    fn for_now<T>(&self, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match &self.descriptors {
            Some(descriptors) => descriptors.with_reserve(act),
            None => act(),
        }
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.resolve(path);
        let file = self.for_long(|| OpenOptions::new().read(true).write(true).create_new(true).open(&path))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.resolve(path);
        let file = self.for_long(|| OpenOptions::new().read(true).write(true).open(&path))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.resolve(path);
        Ok(Arc::new(RealFile(self.for_long(|| File::open(&path))?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.resolve(from), self.resolve(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.resolve(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(self.resolve(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let path = self.resolve(path);
        let entries = match self.for_now(|| fs::read_dir(&path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = entries.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = self.resolve(path);
        self.for_now(|| File::open(&path))?.sync_all()
    }

    fn ready(&self) -> io::Result<()> {
        self.descriptors.as_ref().map_or(Ok(()), |descriptors| descriptors.check())
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space { total: stat.f_blocks * stat.f_frsize, available: stat.f_bavail * stat.f_frsize })
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.size())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn begin_writeback(&self, offset: u64, len: u64) {
        // Linux starts writing dirty pages that it is advised to drop, and can't drop them while it does. A refusal
        // costs nothing but the head start.
        let _ = rustix::fs::fadvise(&self.0, offset, NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
    }

    fn begin_read(&self, offset: u64, len: u64) {
        // A refusal costs nothing but the head start.
        let _ = rustix::fs::fadvise(&self.0, offset, NonZeroU64::new(len), rustix::fs::Advice::WillNeed);
    }
}
