//! Open files: their numbers, positions, and what is read and written through them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::Ino;
use verfs_vfs::{AccessTimes, Context, FileKind, SetAttr, SyncScope};

use super::ground::Ground;
use super::{FileError, Files, Found, OpenFlags};

/// Files that one caller may have open at once.
const OPEN_MAX: usize = 64 << 10;
/// The first number of an open file: none that the system could give, so that one is never taken for the other.
const FIRST_NUMBER: i32 = 1 << 30;
/// Most bytes that one call reads or writes, as on Linux (`read(2)`).
const TRANSFER_MAX_BYTES: u64 = 0x7fff_f000;

/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) ground: Ground,
    pub(super) ino: Ino,
    pub(super) kind: FileKind,
    pub(super) flags: OpenFlags,
    /// Where the next read or write without a position begins; of directories, the cookie of the last entry given.
    pub(super) position: Mutex<u64>,
}

/// The open files of one caller.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<i32, Arc<Handle>>,
    next: i32,
}

impl Handles {
    pub(super) fn inodes(self) -> impl Iterator<Item = (Ground, Ino)> {
        self.open.into_values().map(|handle| (handle.ground.clone(), handle.ino))
    }

    fn add(&mut self, handle: Handle) -> Result<i32, FileError> {
        if self.open.len() >= OPEN_MAX {
            return Err(FileError::TOO_MANY_OPEN);
        }
        // A number is not given again soon: who closes twice must not close the file of another.
        while self.open.contains_key(&(FIRST_NUMBER + self.next)) {
            self.next = (self.next + 1) % FIRST_NUMBER;
        }
        let number = FIRST_NUMBER + self.next;
        self.next = (self.next + 1) % FIRST_NUMBER;
        self.open.insert(number, Arc::new(handle));
        Ok(number)
    }
}

impl Files {
    /// Gives a held inode a number; on an error the hold ends.
    pub(super) fn add_handle(&self, handle: Handle) -> Result<i32, FileError> {
        let (ground, ino) = (handle.ground.clone(), handle.ino);
        self.handles.lock().add(handle).inspect_err(|_| self.end_hold(&ground, ino))
    }

    pub(super) fn handle(&self, number: i32) -> Result<Arc<Handle>, FileError> {
        self.vfs()?;
        self.handles.lock().open.get(&number).map(Arc::clone).ok_or(FileError::BAD_HANDLE)
    }

    fn writable(&self, number: i32) -> Result<Arc<Handle>, FileError> {
        let handle = self.handle(number)?;
        if handle.flags.writes() { Ok(handle) } else { Err(FileError::BAD_HANDLE) }
    }

    fn context_of(&self, handle: &Handle) -> Context {
        let access_times = if handle.flags.keeps_access_time() { AccessTimes::Stay } else { AccessTimes::Move };
        Context { access_times, ..self.context() }
    }

    /// Closes a file. Nobody waits for the disk.
    ///
    /// # Errors
    /// EBADF.
    pub fn close(&self, number: i32) -> Result<(), FileError> {
        let closed = self.handles.lock().open.remove(&number).ok_or(FileError::BAD_HANDLE)?;
        self.end_hold(&closed.ground, closed.ino);
        Ok(())
    }

    /// The attributes of an open file.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn fstat(&self, number: i32) -> Result<Found, FileError> {
        let handle = self.handle(number)?;
        let attr = self.on(&handle.ground, |tree| tree.getattr(&self.context(), handle.ino))?;
        Ok(Found { ground: handle.ground.clone(), attr })
    }

    /// Reads up to `len` bytes at `offset`, or at the file's position, which moves. Pieces share memory with caches.
    ///
    /// # Errors
    /// As `read(2)` and `pread(2)`.
    pub fn read(&self, number: i32, offset: Option<u64>, len: u64) -> Result<Vec<Bytes>, FileError> {
        let handle = self.handle(number)?;
        if !handle.flags.reads() {
            return Err(FileError::BAD_HANDLE);
        }
        let len = u32::try_from(len.min(TRANSFER_MAX_BYTES)).unwrap_or(u32::MAX);
        let context = self.context_of(&handle);
        let read = |offset| self.on(&handle.ground, |tree| tree.read(&context, handle.ino, offset, len));
        match offset {
            Some(offset) => read(offset),
            None => {
                let mut position = handle.position.lock();
                let pieces: Vec<Bytes> = read(*position)?;
                *position += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
                Ok(pieces)
            }
        }
    }

    /// Writes all of `data` at `offset`, or at the file's position, which moves; at the end, where the file was opened
    /// so.
    ///
    /// # Errors
    /// As `write(2)` and `pwrite(2)`, with nothing written.
    pub fn write(&self, number: i32, offset: Option<u64>, data: &[u8]) -> Result<(), FileError> {
        let handle = self.writable(number)?;
        let context = self.context();
        let write = |offset| self.on(&handle.ground, |tree| tree.write(&context, handle.ino, offset, data));
        if handle.flags.appends() {
            let mut position = handle.position.lock();
            let begin = self.append(&handle.ground, handle.ino, data)?;
            if offset.is_none() {
                *position = begin + data.len() as u64;
            }
        } else if let Some(offset) = offset {
            write(offset)?;
        } else {
            let mut position = handle.position.lock();
            write(*position)?;
            *position += data.len() as u64;
        }
        self.tell_content(&handle.ground, handle.ino);
        if handle.flags.syncs() {
            self.on(&handle.ground, |tree| tree.fsync(&context, handle.ino, SyncScope::All))?;
        }
        Ok(())
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// As `fsync(2)`.
    pub fn fsync(&self, number: i32, scope: SyncScope) -> Result<(), FileError> {
        let handle = self.handle(number)?;
        self.on(&handle.ground, |tree| tree.fsync(&self.context(), handle.ino, scope))
    }

    /// Sets the length of an open file.
    ///
    /// # Errors
    /// As `ftruncate(2)`.
    pub fn ftruncate(&self, number: i32, len: u64) -> Result<(), FileError> {
        let handle = self.writable(number).map_err(|error| match error {
            // It is open, but not for this.
            FileError::BAD_HANDLE if self.handle(number).is_ok() => FileError::INVALID,
            error => error,
        })?;
        let change = SetAttr { size: Some(len), ..SetAttr::default() };
        self.on(&handle.ground, |tree| tree.setattr(&self.context(), handle.ino, &change))?;
        self.tell_content(&handle.ground, handle.ino);
        Ok(())
    }
}
