//! Copies between a volume and the file systems of this machine, and holding it still, as JavaScript sees them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use verfs_engine as engine;

use crate::call::{Call, Place, Wanted};
use crate::options::js_integer;
use crate::pool::Kind;
use crate::volume::Volume;

/// How a tree is copied.
#[napi(object)]
pub struct TransferOptions {
    /// Whether files are read back from where they were stored. By default they are.
    pub verify: Option<bool>,
    /// Whether files that an earlier run copied are compared by content, not by size and time alone.
    pub compare: Option<bool>,
    /// Whether what can't be copied is left out. By default it keeps the copy from getting its name.
    pub leave_out: Option<bool>,
}

/// How far a copy is.
#[napi(object)]
pub struct TransferProgress {
    /// Names that are copied.
    pub entries: i64,
    /// Names that there are, as far as they are counted.
    pub of_entries: i64,
    /// Bytes of files that are copied, holes included.
    pub bytes: i64,
    /// Bytes of files that there are, as far as they are counted.
    pub of_bytes: i64,
    /// Whether all of them are counted.
    pub counted: bool,
    /// Files that an earlier run had copied.
    pub already_there: i64,
    /// Files that were read back.
    pub verified: i64,
}

/// What was copied.
#[napi(object)]
pub struct TransferReport {
    /// Names of files, and of everything else that is no directory.
    pub files: i64,
    /// Directories.
    pub directories: i64,
    /// Sizes of the files.
    pub bytes: i64,
    /// Files that an earlier run had copied.
    pub already_there: i64,
    /// Files that were read back.
    pub verified: i64,
    /// What was left out since it is the volume itself.
    pub left_out: Vec<String>,
    /// How much could not be copied.
    pub failures: i64,
    /// The first of that: what, and why.
    pub told_failures: Vec<String>,
}

impl From<&TransferOptions> for engine::TransferOptions {
    fn from(options: &TransferOptions) -> Self {
        let given = |option: Option<bool>| option.unwrap_or(false);
        engine::TransferOptions {
            verify: if options.verify.unwrap_or(true) { engine::Verify::Yes } else { engine::Verify::No },
            content: if given(options.compare) { engine::Content::Compared } else { engine::Content::BySizeAndTime },
            defects: if given(options.leave_out) { engine::Defects::LeftOut } else { engine::Defects::Refused },
        }
    }
}

impl From<engine::TransferProgress> for TransferProgress {
    fn from(progress: engine::TransferProgress) -> Self {
        TransferProgress {
            entries: js_integer(progress.entries),
            of_entries: js_integer(progress.of_entries),
            bytes: js_integer(progress.bytes),
            of_bytes: js_integer(progress.of_bytes),
            counted: progress.counted,
            already_there: js_integer(progress.already_there),
            verified: js_integer(progress.verified),
        }
    }
}

impl From<engine::TransferReport> for TransferReport {
    fn from(report: engine::TransferReport) -> Self {
        TransferReport {
            files: js_integer(report.files),
            directories: js_integer(report.directories),
            bytes: js_integer(report.bytes),
            already_there: js_integer(report.already_there),
            verified: js_integer(report.verified),
            left_out: report.left_out.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            failures: js_integer(report.failures),
            told_failures: report.told_failures,
        }
    }
}

/// Counts what one copy does, for whoever wants to know how far it is.
#[napi]
pub struct TransferCounters {
    inner: Arc<engine::TransferCounters>,
}

#[napi]
impl TransferCounters {
    /// All zero.
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript has no other way to make one")]
    pub fn new() -> Self {
        TransferCounters { inner: Arc::default() }
    }

    /// How far the copy is.
    #[napi]
    pub fn progress(&self) -> TransferProgress {
        self.inner.progress().into()
    }
}

#[napi]
impl Volume {
    /// Copies what is at `source` on this machine to `target` in the volume, where nothing is. Cancelled, it stops; what it
    /// had copied is kept for the next call.
    #[napi(js_name = "import")]
    pub fn import_tree<'env>(
        &self,
        env: &'env Env,
        source: String,
        target: String,
        options: TransferOptions,
        counters: &TransferCounters,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, TransferReport>> {
        let (inner, counters) = (self.inner()?, Arc::clone(&counters.inner));
        let work = move |wanted: &Wanted<'_>| {
            let paths = (PathBuf::from(source), target.into_bytes());
            let report =
                inner.import((&paths.0, &paths.1), &engine::TransferOptions::from(&options), &counters, &mut || {
                    wanted.flow()
                })?;
            Ok(TransferReport::from(report))
        };
        Call { name: "import", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// Copies what has the path `path` in the volume, or in its snapshot `snapshot`, to `target` on this machine, where
    /// nothing is. Cancelled, it stops; what it had copied is kept for the next call.
    #[napi(js_name = "export")]
    #[allow(clippy::too_many_arguments, reason = "each of them is an argument in JavaScript")]
    pub fn export_tree<'env>(
        &self,
        env: &'env Env,
        snapshot: Option<String>,
        path: String,
        target: String,
        options: TransferOptions,
        counters: &TransferCounters,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, TransferReport>> {
        let (inner, counters) = (self.inner()?, Arc::clone(&counters.inner));
        let work = move |wanted: &Wanted<'_>| {
            let report = inner.export(
                (snapshot.as_deref().map(str::as_bytes), path.as_bytes()),
                &PathBuf::from(target),
                &engine::TransferOptions::from(&options),
                &counters,
                &mut || wanted.flow(),
            )?;
            Ok(TransferReport::from(report))
        };
        Call { name: "export", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// Makes everything durable and holds whatever would change a file of the volume's directory, for `forMs` milliseconds
    /// at most or until `thaw`. Resolves when it stands still.
    #[napi]
    pub fn freeze<'env>(
        &self,
        env: &'env Env,
        for_ms: u32,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let undone = Arc::clone(&inner);
        let work = move || Ok(inner.freeze(Duration::from_millis(u64::from(for_ms)))?);
        // Nobody waits for it any more: then nobody would end it.
        let undo = move |()| drop(undone.thaw());
        Call { name: "freeze", place: Place::Apart, work, undo }.begin(env, signal)
    }

    /// Lets the volume go on. Rejects when a copy that was made meanwhile is worth nothing.
    #[napi]
    pub fn thaw<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.thaw()?);
        Call { name: "thaw", place: Place::Apart, work, undo: drop }.begin(env, None)
    }

    /// For how many milliseconds the volume stands still yet; null when it doesn't.
    #[napi]
    pub fn still_for<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Option<i64>>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.still_for().map(|left| js_integer(left.as_millis() as u64)));
        Call { name: "stillFor", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }
}
