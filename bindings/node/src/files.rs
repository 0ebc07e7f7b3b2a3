//! The class `Files`: operations on the files of an open volume, each a promise.

mod buffer;
mod call;
mod convert;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use napi::Env;
use napi::bindgen_prelude::{Buffer, BufferSlice, Object, PromiseRaw};
use napi_derive::napi;
use verfs_engine::{self as engine, CopyTarget, EngineError, FileError, OpenFlags, SyncScope, Who};

use self::buffer::{Target, concatenated};
use self::call::{begin, begin_filling};
use self::convert::{
    FileAttributes, FileEntries, FilePath, FileRoom, FirstEntries, access, links, mode, names_of, offset, times,
};
use crate::failure::Failure;
use crate::pool::{Kind, drop_elsewhere};
use crate::volume::Volume;

/// The files of an open volume, as the user of this process sees them. An error of the operating system rejects with
/// an `Error` whose `errno` is its negative number; packages/native makes of it what Node.js would throw.
#[napi]
pub struct Files {
    /// Always there, but while the value is dropped.
    inner: Option<Arc<Inner>>,
}

struct Inner {
    files: engine::Files,
    /// Of the volume.
    path: PathBuf,
}

impl Inner {
    fn failure(&self, error: FileError) -> Failure {
        match error {
            FileError::System(errno) => Failure::system(errno.raw_os_error()),
            FileError::Closed => EngineError::Closed { path: self.path.clone() }.into(),
        }
    }
}

#[napi]
impl Volume {
    /// Its files, for the user of this process. `umask` is taken from the modes of what he makes.
    #[napi]
    pub fn files(&self, umask: u32) -> napi::Result<Files> {
        let volume = self.inner()?;
        let caller = engine::Caller::of_process(mode(umask));
        let path = volume.info().path;
        Ok(Files { inner: Some(Arc::new(Inner { files: volume.files(caller), path })) })
    }
}

impl Files {
    /// Begins an operation that only looks.
    fn begin<'env, T, R>(
        &self,
        env: &'env Env,
        work: impl FnOnce(&engine::Files) -> Result<T, FileError> + Send + 'static,
        convert: impl FnOnce(T) -> R + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, R>>
    where
        T: Send + 'static,
        R: napi::bindgen_prelude::ToNapiValue + Send + 'static,
    {
        self.begin_as(env, Kind::Files, work, convert)
    }

    /// Begins an operation that changes something.
    fn begin_change<'env>(
        &self,
        env: &'env Env,
        work: impl FnOnce(&engine::Files) -> Result<(), FileError> + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        self.begin_as(env, Kind::FileChanges, work, same)
    }

    fn begin_as<'env, T, R>(
        &self,
        env: &'env Env,
        kind: Kind,
        work: impl FnOnce(&engine::Files) -> Result<T, FileError> + Send + 'static,
        convert: impl FnOnce(T) -> R + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, R>>
    where
        T: Send + 'static,
        R: napi::bindgen_prelude::ToNapiValue + Send + 'static,
    {
        let inner = self.inner()?;
        let work = move || Ok(convert(work(&inner.files).map_err(|error| inner.failure(error))?));
        begin(env, kind, work)
    }

    fn inner(&self) -> napi::Result<Arc<Inner>> {
        self.inner.clone().ok_or_else(|| napi::Error::from_reason("the volume was dropped"))
    }
}

fn same<T>(value: T) -> T {
    value
}

fn buffer(bytes: impl Into<Vec<u8>>) -> Buffer {
    Buffer::from(bytes.into())
}

#[napi]
impl Files {
    /// The attributes of what a path leads to.
    #[napi]
    pub fn stat<'env>(
        &self,
        env: &'env Env,
        path: FilePath<'_>,
        follow: bool,
    ) -> napi::Result<PromiseRaw<'env, FileAttributes>> {
        let path = names_of(path);
        self.begin(env, move |files| files.stat(&path, links(follow)), FileAttributes::from)
    }

    /// The attributes of an open file.
    #[napi]
    pub fn fstat<'env>(&self, env: &'env Env, file: i32) -> napi::Result<PromiseRaw<'env, FileAttributes>> {
        self.begin(env, move |files| files.fstat(file), FileAttributes::from)
    }

    /// Whether a path may be used so; the bits of `access(2)`.
    #[napi]
    pub fn access<'env>(&self, env: &'env Env, path: FilePath<'_>, wanted: u32) -> napi::Result<PromiseRaw<'env, ()>> {
        let (path, wanted) = (names_of(path), access(wanted)?);
        self.begin(env, move |files| files.access(&path, wanted), same)
    }

    /// Opens a file; resolves to its number, which is none of the system's.
    #[napi]
    pub fn open<'env>(
        &self,
        env: &'env Env,
        path: FilePath<'_>,
        flags: i32,
        new_mode: u32,
    ) -> napi::Result<PromiseRaw<'env, i32>> {
        let path = names_of(path);
        let (flags, new_mode) = (OpenFlags::from_bits(flags), mode(new_mode));
        let kind = if flags.changes() { Kind::FileChanges } else { Kind::Files };
        self.begin_as(env, kind, move |files| files.open(&path, flags, new_mode), same)
    }

    /// Closes a file.
    #[napi]
    pub fn close<'env>(&self, env: &'env Env, file: i32) -> napi::Result<PromiseRaw<'env, ()>> {
        self.begin(env, move |files| files.close(file), same)
    }

    /// Reads into `target` until it is full or the file ends; at the file's position where no offset is given. Resolves
    /// to the number of bytes. They are put there on the JavaScript thread, right before.
    #[napi]
    pub fn read<'env>(
        &self,
        env: &'env Env,
        file: i32,
        #[napi(ts_arg_type = "Uint8Array")] target: Object<'_>,
        at: Option<f64>,
    ) -> napi::Result<PromiseRaw<'env, u32>> {
        let inner = self.inner()?;
        let (target, len) = Target::keep(&target)?;
        let at = at.map(offset).transpose()?;
        let work = move || inner.files.read(file, at, len).map_err(|error| inner.failure(error));
        begin_filling(env, Kind::Files, target, work)
    }

    /// Writes all of `data`; at the file's position where no offset is given. The bytes are copied before the call
    /// returns.
    #[napi]
    pub fn write<'env>(
        &self,
        env: &'env Env,
        file: i32,
        data: BufferSlice<'_>,
        at: Option<f64>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let at = at.map(offset).transpose()?;
        let data = Bytes::copy_from_slice(&data);
        self.begin_change(env, move |files| files.write(file, at, &data))
    }

    /// The content of a file; null when it has more bytes than `max_bytes`.
    #[napi]
    pub fn read_file<'env>(
        &self,
        env: &'env Env,
        path: FilePath<'_>,
        flags: i32,
        max_bytes: f64,
    ) -> napi::Result<PromiseRaw<'env, Option<Buffer>>> {
        let (path, max_bytes) = (names_of(path), offset(max_bytes)?);
        let read = move |files: &engine::Files| {
            let pieces = files.read_file(&path, OpenFlags::from_bits(flags), max_bytes)?;
            Ok(pieces.map(|pieces| concatenated(&pieces)))
        };
        self.begin(env, read, |bytes| bytes.map(buffer))
    }

    /// Opens a file, writes to it, closes it. The bytes are copied before the call returns.
    #[napi]
    pub fn write_file<'env>(
        &self,
        env: &'env Env,
        path: FilePath<'_>,
        flags: i32,
        new_mode: u32,
        data: BufferSlice<'_>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (path, data, new_mode) = (names_of(path), Bytes::copy_from_slice(&data), mode(new_mode));
        let write = move |files: &engine::Files| files.write_file(&path, OpenFlags::from_bits(flags), new_mode, &data);
        self.begin_change(env, write)
    }

    /// Makes durable what was written to a file.
    #[napi]
    pub fn fsync<'env>(&self, env: &'env Env, file: i32) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || inner.files.fsync(file, SyncScope::All).map_err(|error| inner.failure(error));
        begin(env, Kind::FileSyncs, work)
    }

    /// Sets the length of an open file.
    #[napi]
    pub fn ftruncate<'env>(&self, env: &'env Env, file: i32, len: f64) -> napi::Result<PromiseRaw<'env, ()>> {
        let len = offset(len)?;
        self.begin_change(env, move |files| files.ftruncate(file, len))
    }

    /// Sets the length of a file.
    #[napi]
    pub fn truncate<'env>(&self, env: &'env Env, path: FilePath<'_>, len: f64) -> napi::Result<PromiseRaw<'env, ()>> {
        let (path, len) = (names_of(path), offset(len)?);
        self.begin_change(env, move |files| files.truncate(&path, len))
    }

    /// The entries of a directory, or the first of many and the open directory that has the others.
    #[napi]
    pub fn list<'env>(&self, env: &'env Env, path: FilePath<'_>) -> napi::Result<PromiseRaw<'env, FirstEntries>> {
        let path = names_of(path);
        self.begin(env, move |files| files.list(&path), FirstEntries::from)
    }

    /// The next entries of an open directory; none at the end.
    #[napi]
    pub fn next_entries<'env>(
        &self,
        env: &'env Env,
        file: i32,
        max_entries: u32,
    ) -> napi::Result<PromiseRaw<'env, FileEntries>> {
        self.begin(env, move |files| files.next_entries(file, max_entries as usize), FileEntries::from)
    }

    /// Makes a directory.
    #[napi]
    pub fn mkdir<'env>(&self, env: &'env Env, path: FilePath<'_>, new_mode: u32) -> napi::Result<PromiseRaw<'env, ()>> {
        let (path, new_mode) = (names_of(path), mode(new_mode));
        self.begin_change(env, move |files| files.mkdir(&path, new_mode))
    }

    /// Removes an empty directory.
    #[napi]
    pub fn rmdir<'env>(&self, env: &'env Env, path: FilePath<'_>) -> napi::Result<PromiseRaw<'env, ()>> {
        let path = names_of(path);
        self.begin_change(env, move |files| files.rmdir(&path))
    }

    /// Removes a name of anything but a directory.
    #[napi]
    pub fn unlink<'env>(&self, env: &'env Env, path: FilePath<'_>) -> napi::Result<PromiseRaw<'env, ()>> {
        let path = names_of(path);
        self.begin_change(env, move |files| files.unlink(&path))
    }

    /// Moves a name.
    #[napi]
    pub fn rename<'env>(
        &self,
        env: &'env Env,
        from: FilePath<'_>,
        to: FilePath<'_>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (from, to) = (names_of(from), names_of(to));
        self.begin_change(env, move |files| files.rename(&from, &to))
    }

    /// Gives a file one more name.
    #[napi]
    pub fn link<'env>(
        &self,
        env: &'env Env,
        existing: FilePath<'_>,
        path: FilePath<'_>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (existing, path) = (names_of(existing), names_of(path));
        self.begin_change(env, move |files| files.link(&existing, &path))
    }

    /// Makes a symbolic link.
    #[napi]
    pub fn symlink<'env>(
        &self,
        env: &'env Env,
        target: FilePath<'_>,
        path: FilePath<'_>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (target, path) = (names_of(target), names_of(path));
        self.begin_change(env, move |files| files.symlink(&target, &path))
    }

    /// What a symbolic link leads to.
    #[napi]
    pub fn readlink<'env>(&self, env: &'env Env, path: FilePath<'_>) -> napi::Result<PromiseRaw<'env, Buffer>> {
        let path = names_of(path);
        self.begin(env, move |files| files.readlink(&path), |target| buffer(&*target))
    }

    /// A path without symbolic links, `.` and `..`.
    #[napi]
    pub fn realpath<'env>(&self, env: &'env Env, path: FilePath<'_>) -> napi::Result<PromiseRaw<'env, Buffer>> {
        let path = names_of(path);
        self.begin(env, move |files| files.realpath(&path), buffer)
    }

    /// Sets the permission bits.
    #[napi]
    pub fn chmod<'env>(
        &self,
        env: &'env Env,
        path: FilePath<'_>,
        follow: bool,
        new_mode: u32,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (path, new_mode) = (names_of(path), mode(new_mode));
        self.begin_change(env, move |files| files.chmod(Who::Path(&path, links(follow)), new_mode))
    }

    /// Sets the permission bits of an open file.
    #[napi]
    pub fn fchmod<'env>(&self, env: &'env Env, file: i32, new_mode: u32) -> napi::Result<PromiseRaw<'env, ()>> {
        let new_mode = mode(new_mode);
        self.begin_change(env, move |files| files.chmod(Who::Open(file), new_mode))
    }

    /// Sets owner and group; null leaves one as it is.
    #[napi]
    pub fn chown<'env>(
        &self,
        env: &'env Env,
        path: FilePath<'_>,
        follow: bool,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let path = names_of(path);
        self.begin_change(env, move |files| files.chown(Who::Path(&path, links(follow)), uid, gid))
    }

    /// Sets owner and group of an open file.
    #[napi]
    pub fn fchown<'env>(
        &self,
        env: &'env Env,
        file: i32,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        self.begin_change(env, move |files| files.chown(Who::Open(file), uid, gid))
    }

    /// Sets the times of last access and change, in seconds since 1970.
    #[napi]
    pub fn set_times<'env>(
        &self,
        env: &'env Env,
        path: FilePath<'_>,
        follow: bool,
        accessed: f64,
        modified: f64,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (path, times) = (names_of(path), times(accessed, modified)?);
        self.begin_change(env, move |files| files.set_times(Who::Path(&path, links(follow)), times))
    }

    /// Sets the times of an open file.
    #[napi]
    pub fn fset_times<'env>(
        &self,
        env: &'env Env,
        file: i32,
        accessed: f64,
        modified: f64,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let times = times(accessed, modified)?;
        self.begin_change(env, move |files| files.set_times(Who::Open(file), times))
    }

    /// Copies content and permissions of a file; both share what is stored.
    #[napi]
    pub fn copy_file<'env>(
        &self,
        env: &'env Env,
        from: FilePath<'_>,
        to: FilePath<'_>,
        exclusive: bool,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (from, to) = (names_of(from), names_of(to));
        let target = if exclusive { CopyTarget::New } else { CopyTarget::Replace };
        self.begin_change(env, move |files| files.copy_file(&from, &to, target))
    }

    /// Room and counts.
    #[napi]
    pub fn statfs<'env>(&self, env: &'env Env, path: FilePath<'_>) -> napi::Result<PromiseRaw<'env, FileRoom>> {
        let path = names_of(path);
        self.begin(env, move |files| files.statfs(&path), FileRoom::from)
    }
}

impl Drop for Files {
    /// The last one may close the volume.
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            drop_elsewhere(inner);
        }
    }
}
