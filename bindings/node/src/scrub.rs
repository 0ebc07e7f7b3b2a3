//! Scrub, as JavaScript sees it.

use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use verfs_engine as engine;

use crate::call::{Call, Place};
use crate::failure::Failure;
use crate::options::{js_integer, js_time};
use crate::pool::Kind;
use crate::volume::Volume;

/// What a scrub saw.
#[napi(object)]
pub struct ScrubTally {
    /// Packs.
    pub packs: i64,
    /// Records in them.
    pub records: i64,
    /// Bytes of those records.
    pub bytes: i64,
    /// Records that are needed and damaged or missing.
    pub damaged: i64,
    /// Damaged records that nothing needs.
    pub dead_damaged: i64,
    /// Records of the locked vault, of which only the checksums were looked at.
    pub sealed: i64,
    /// Indexes of packs that were missing, damaged or incomplete, and were made anew.
    pub indexes_mended: i64,
}

/// How far a scrub is.
#[napi(object)]
pub struct ScrubProgress {
    /// What it saw, before it was stopped included.
    pub tally: ScrubTally,
    /// Bytes that it will have seen; 0 of one that does not run.
    pub total_bytes: i64,
}

/// How a scrub ended.
#[napi(object)]
pub struct ScrubResult {
    /// `stopped` can go on later.
    #[napi(ts_type = "'done' | 'stopped'")]
    pub end: String,
    /// What it saw.
    pub tally: ScrubTally,
}

/// A scrub that saw everything.
#[napi(object)]
pub struct ScrubPass {
    /// In milliseconds since 1970.
    pub began: f64,
    /// In milliseconds since 1970.
    pub ended: f64,
    /// What it saw.
    pub tally: ScrubTally,
}

/// Scrub at one moment.
#[napi(object)]
pub struct ScrubStatus {
    /// Whether one runs.
    pub active: bool,
    /// How far it is, or how far one came that was stopped.
    pub running: ScrubProgress,
    /// Whether one was stopped, and can go on.
    pub interrupted: bool,
    /// The last one that saw everything.
    pub ended: Option<ScrubPass>,
    /// Why the last one failed since the volume was opened; empty when it didn't.
    pub failure: String,
}

impl From<engine::ScrubTally> for ScrubTally {
    fn from(tally: engine::ScrubTally) -> Self {
        ScrubTally {
            packs: js_integer(tally.packs),
            records: js_integer(tally.records),
            bytes: js_integer(tally.bytes),
            damaged: js_integer(tally.damaged),
            dead_damaged: js_integer(tally.dead_damaged),
            sealed: js_integer(tally.sealed),
            indexes_mended: js_integer(tally.indexes_mended),
        }
    }
}

impl From<engine::ScrubProgress> for ScrubProgress {
    fn from(progress: engine::ScrubProgress) -> Self {
        ScrubProgress { tally: progress.tally.into(), total_bytes: js_integer(progress.total_bytes) }
    }
}

impl From<engine::ScrubPass> for ScrubPass {
    fn from(pass: engine::ScrubPass) -> Self {
        ScrubPass { began: js_time(pass.began), ended: js_time(pass.seen), tally: pass.tally.into() }
    }
}

impl From<engine::ScrubStatus> for ScrubStatus {
    fn from(status: engine::ScrubStatus) -> Self {
        ScrubStatus {
            active: status.active,
            running: status.running.into(),
            interrupted: status.interrupted,
            ended: status.ended.map(ScrubPass::from),
            failure: status.failure,
        }
    }
}

#[napi]
impl Volume {
    /// Checks every record of every pack; resolves when all were seen, or when it was stopped. Cancelled, it stops, and
    /// goes on with the next call. `rateBytes` are read in a second at most; without, `scrubBusyRateBytes` while the
    /// volume is in use.
    #[napi]
    pub fn scrub<'env>(
        &self,
        env: &'env Env,
        rate_bytes: Option<i64>,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ScrubResult>> {
        let inner = self.inner()?;
        let work = move |wanted: &crate::call::Wanted<'_>| {
            let wrong = |rate: i64| Failure::usage(format!("rateBytes cannot be {rate}: give bytes for each second."));
            let rate_bytes = rate_bytes.map(|rate| u64::try_from(rate).map_err(|_| wrong(rate))).transpose()?;
            let (progress, end) = inner.scrub(&engine::ScrubOptions { rate_bytes }, &mut |_| wanted.flow())?;
            let end = match end {
                engine::ScrubEnd::Done => "done",
                engine::ScrubEnd::Stopped => "stopped",
            };
            Ok(ScrubResult { end: end.to_owned(), tally: progress.tally.into() })
        };
        Call { name: "scrub", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// Has the scrub that runs stop. Resolves at once; nothing happens when none runs.
    #[napi]
    pub fn scrub_stop<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || {
            inner.stop_scrub();
            Ok(())
        };
        Call { name: "scrubStop", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }

    /// Scrub at this moment, and how the last one ended.
    #[napi]
    pub fn scrub_status<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ScrubStatus>> {
        let inner = self.inner()?;
        let work = move || Ok(ScrubStatus::from(inner.scrub_status()?));
        Call { name: "scrubStatus", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }
}
