//! The class `Volume`.

use std::path::PathBuf;
use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use verfs_engine as engine;

use crate::call::{Call, Place};
use crate::memory;
use crate::options::{CreateOptions, MountOptions, OpenOptions};
use crate::pool::{Kind, drop_elsewhere};
use crate::stats::{Stats, VolumeInfo};

/// An open volume. Every method returns a promise; it rejects with an `Error` that has `code`, `message` and,
/// where there is one, `path`. A signal that fires rejects the promise at once with `VERFS_E_CANCELLED`.
#[napi]
pub struct Volume {
    /// Always there, but while the value is dropped.
    inner: Option<Arc<engine::Volume>>,
}

#[napi]
impl Volume {
    /// Makes a volume in the directory `path`, which is empty or doesn't exist.
    /// Cancelled while it runs, it may still complete.
    #[napi]
    pub fn create<'env>(
        env: &'env Env,
        path: String,
        options: Option<CreateOptions>,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, VolumeInfo>> {
        let work = move || {
            let options = options.unwrap_or_default().into_engine()?;
            Ok(VolumeInfo::from(engine::Volume::create(&PathBuf::from(path), &options)?))
        };
        Call { name: "create", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }

    /// Reads the superblock of the volume at `path`, also while another process has it open.
    #[napi]
    pub fn inspect(env: &Env, path: String) -> napi::Result<PromiseRaw<'_, VolumeInfo>> {
        let work = move || Ok(VolumeInfo::from(engine::Volume::inspect(&PathBuf::from(path))?));
        Call { name: "inspect", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }

    /// Opens the volume at `path` and recovers what a crash left. Cancelled while it runs, it is closed again.
    #[napi]
    pub fn open<'env>(
        env: &'env Env,
        path: String,
        options: Option<OpenOptions>,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, Volume>> {
        memory::watch();
        let work = move || {
            let options = options.unwrap_or_default().into_engine()?;
            Ok(Self { inner: Some(engine::Volume::open(&PathBuf::from(path), &options)?) })
        };
        let undo = |volume: Self| {
            if let Some(Err(error)) = volume.inner.as_ref().map(|inner| inner.close()) {
                tracing::error!("a cancelled open could not be closed: {error}");
            }
        };
        Call { name: "open", place: Place::Pool(Kind::Work), work, undo }.begin(env, signal)
    }

    /// Mounts the volume; resolves once the kernel answers. Cancelled while it runs, it is unmounted again.
    #[napi]
    pub fn mount<'env>(
        &self,
        env: &'env Env,
        mountpoint: String,
        options: Option<MountOptions>,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let mounted = Arc::clone(&inner);
        let work = move || {
            let options = options.unwrap_or_default().into_engine();
            Ok(inner.mount(&PathBuf::from(mountpoint), &options)?)
        };
        let undo = move |()| {
            if let Err(error) = mounted.unmount() {
                tracing::error!("a cancelled mount could not be unmounted: {error}");
            }
        };
        Call { name: "mount", place: Place::Pool(Kind::Work), work, undo }.begin(env, signal)
    }

    /// Makes everything durable, then unmounts. A mount in use is detached: it goes when its last user does.
    /// Cancelled, it goes on in the background.
    #[napi]
    pub fn unmount<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.unmount()?);
        Call { name: "unmount", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }

    /// Resolves once the mount is gone, whoever unmounted it.
    #[napi]
    pub fn wait_unmounted<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || {
            inner.wait_unmounted();
            Ok(())
        };
        Call { name: "waitUnmounted", place: Place::Apart, work, undo: drop }.begin(env, signal)
    }

    /// Makes everything durable that was done before.
    #[napi]
    pub fn sync<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.sync()?);
        Call { name: "sync", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }

    /// Bounds the cache of chunks anew, in bytes; what is too much leaves it at once.
    #[napi]
    pub fn set_chunk_cache_bytes<'env>(&self, env: &'env Env, bytes: i64) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || {
            inner.set_chunk_cache_bytes(u64::try_from(bytes).unwrap_or(0));
            Ok(())
        };
        Call { name: "setChunkCacheBytes", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }

    /// State and counters.
    #[napi]
    pub fn stats<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Stats>> {
        let inner = self.inner()?;
        let work = move || Ok(Stats::from(inner.stats()));
        Call { name: "stats", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }

    /// What the superblock says.
    #[napi]
    pub fn info<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, VolumeInfo>> {
        let inner = self.inner()?;
        let work = move || Ok(VolumeInfo::from(inner.info()));
        Call { name: "info", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }

    /// Unmounts, makes everything durable and gives the volume back. Cancelled, it goes on in the background.
    #[napi]
    pub fn close<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.close()?);
        Call { name: "close", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }
}

impl Volume {
    /// The engine's volume.
    pub(crate) fn inner(&self) -> napi::Result<Arc<engine::Volume>> {
        self.inner.clone().ok_or_else(|| napi::Error::from_reason("the volume was dropped"))
    }
}

impl Drop for Volume {
    /// The garbage collector runs this on the JavaScript thread, which must not wait for the last barrier of a volume
    /// that nobody closed.
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        drop_elsewhere(inner);
    }
}
