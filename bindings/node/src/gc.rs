//! Garbage collection, as JavaScript sees it.

use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use verfs_engine as engine;

use crate::call::{Call, Place, Wanted};
use crate::options::js_integer;
use crate::pool::Kind;
use crate::volume::Volume;

/// How far a collection is.
#[napi(object)]
pub struct GcProgress {
    /// What it is doing: `idle` when it is over.
    #[napi(ts_type = "'idle' | 'listing' | 'collecting'")]
    pub phase: String,
    /// Packs that were listed so far.
    pub packs_listed: i64,
    /// Blocks in them that nobody needs.
    pub blocks_listed: i64,
    /// Packs that were removed.
    pub packs_removed: i64,
    /// Packs that were left alone: something in them can't be read, or is in use.
    pub packs_left: i64,
    /// Bytes that were copied to other packs.
    pub moved_bytes: i64,
    /// Bytes that the disk has back.
    pub reclaimed_bytes: i64,
}

/// Garbage collection at one moment.
#[napi(object)]
pub struct GcStatus {
    /// Whether a collection runs.
    pub active: bool,
    /// How far it is; zeros when none runs.
    pub running: GcProgress,
    /// Collections that ended since the volume was opened.
    pub collections: i64,
    /// Bytes that the disk has back since the volume was opened.
    pub reclaimed_bytes: i64,
    /// Bytes that were copied for that.
    pub moved_bytes: i64,
    /// Dead bytes that are left.
    pub dead_bytes: i64,
    /// Bytes that are needed.
    pub stored_bytes: i64,
    /// Why the last collection failed; empty when it didn't.
    pub failure: String,
}

/// What a collection would find.
#[napi(object)]
pub struct Reclaimable {
    /// Packs with dead bytes.
    pub packs: i64,
    /// Dead bytes in them, which would come back.
    pub dead_bytes: i64,
    /// Bytes in them that are needed, which would be copied.
    pub live_bytes: i64,
}

impl From<engine::GcProgress> for GcProgress {
    fn from(progress: engine::GcProgress) -> Self {
        GcProgress {
            phase: match progress.phase {
                engine::GcPhase::Idle => "idle",
                engine::GcPhase::Listing => "listing",
                engine::GcPhase::Collecting => "collecting",
            }
            .to_owned(),
            packs_listed: js_integer(progress.packs_listed),
            blocks_listed: js_integer(progress.blocks_listed),
            packs_removed: js_integer(progress.packs_removed),
            packs_left: js_integer(progress.packs_left),
            moved_bytes: js_integer(progress.moved_bytes),
            reclaimed_bytes: js_integer(progress.reclaimed_bytes()),
        }
    }
}

impl From<engine::GcStatus> for GcStatus {
    fn from(status: engine::GcStatus) -> Self {
        GcStatus {
            active: status.active,
            running: status.running.into(),
            collections: js_integer(status.collections),
            reclaimed_bytes: js_integer(status.reclaimed_bytes),
            moved_bytes: js_integer(status.moved_bytes),
            dead_bytes: js_integer(status.dead_bytes),
            stored_bytes: js_integer(status.stored_bytes),
            failure: status.failure,
        }
    }
}

impl From<engine::Reclaimable> for Reclaimable {
    fn from(found: engine::Reclaimable) -> Self {
        Reclaimable {
            packs: js_integer(found.packs),
            dead_bytes: js_integer(found.dead_bytes),
            live_bytes: js_integer(found.live_bytes),
        }
    }
}

#[napi]
impl Volume {
    /// Collects garbage now, from every pack that has some; resolves when it is done. Cancelled, it stops, unless somebody
    /// else waits for it.
    #[napi]
    pub fn gc<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, GcProgress>> {
        let inner = self.inner()?;
        let work = move |wanted: &Wanted<'_>| {
            Ok(GcProgress::from(inner.collect_garbage_while(&|| wanted.flow().is_continue())?))
        };
        Call { name: "gc", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// What `gc` would find; changes nothing.
    #[napi]
    pub fn gc_plan<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Reclaimable>> {
        let inner = self.inner()?;
        let work = move || Ok(Reclaimable::from(inner.reclaimable()?));
        Call { name: "gcPlan", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }

    /// Garbage collection at this moment.
    #[napi]
    pub fn gc_status<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, GcStatus>> {
        let inner = self.inner()?;
        let work = move || Ok(GcStatus::from(inner.gc_status()));
        Call { name: "gcStatus", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }
}
