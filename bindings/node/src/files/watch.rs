//! Watching files from JavaScript: a thread for each watch, which calls a function.

use std::sync::Arc;

use napi::Env;
use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function, PromiseRaw};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use verfs_engine::{Depth, WatchEnd, WatchEvent};

use super::Files;
use super::call::begin;
use super::convert::{FilePath, names_of};
use crate::failure::Failure;
use crate::pool::{Kind, run_apart};

/// Events that wait for JavaScript; further ones are left out.
const QUEUED_EVENTS_MAX: usize = 4096;

/// Something that changed below a watched path.
#[napi(object)]
pub struct FileEvent {
    /// As `fs.watch` of Node.js calls it.
    #[napi(ts_type = "'rename' | 'change'")]
    pub event_type: String,
    /// The name; missing when changes came too fast to be told.
    pub filename: Option<napi::bindgen_prelude::Buffer>,
}

type Sink = ThreadsafeFunction<FnArgs<(FileEvent,)>, (), FnArgs<(FileEvent,)>, Status, false, true, QUEUED_EVENTS_MAX>;

/// A watch under way. It does not keep the process alive.
#[napi]
pub struct FileWatch {
    end: WatchEnd,
}

#[napi]
impl FileWatch {
    /// Ends it.
    #[napi]
    pub fn close(&self) {
        self.end.end();
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.end.end();
    }
}

fn event_of(event: WatchEvent) -> FileEvent {
    let (event_type, filename) = match event {
        WatchEvent::Renamed(name) => ("rename", Some(name.into())),
        WatchEvent::Changed(name) => ("change", Some(name.into())),
        WatchEvent::Missed => ("rename", None),
    };
    FileEvent { event_type: event_type.to_owned(), filename }
}

#[napi]
impl Files {
    /// Watches a file or a directory; `sink` is called with each change that comes after the promise resolved.
    #[napi]
    pub fn watch<'env>(
        &self,
        env: &'env Env,
        path: FilePath<'_>,
        recursive: bool,
        sink: Function<'_, FnArgs<(FileEvent,)>, ()>,
    ) -> napi::Result<PromiseRaw<'env, FileWatch>> {
        let sink: Arc<Sink> = Arc::new(
            sink.build_threadsafe_function()
                .weak::<true>()
                .max_queue_size::<QUEUED_EVENTS_MAX>()
                .callee_handled::<false>()
                .build()?,
        );
        let inner = self.inner()?;
        let (path, depth) = (names_of(path), if recursive { Depth::All } else { Depth::Names });
        begin(env, Kind::Files, move || {
            let watch = inner.files.watch(&path, depth).map_err(|error| inner.failure(error))?;
            let end = watch.end();
            let run = move || {
                watch.run(&mut |event| {
                    // A full queue means that JavaScript is busy: it misses events, as one does with inotify(7).
                    sink.call(FnArgs::from((event_of(event),)), ThreadsafeFunctionCallMode::NonBlocking);
                });
            };
            match run_apart("verfs-watch", run) {
                Ok(()) => Ok(FileWatch { end }),
                Err(error) => {
                    end.end();
                    Err(Failure::usage(format!("no thread could be started: {error}.")))
                }
            }
        })
    }
}
