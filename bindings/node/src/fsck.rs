//! The check of a volume that nobody has open, as JavaScript sees it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use napi::Env;
use napi::bindgen_prelude::{FnArgs, Function, Object, PromiseRaw};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use verfs_engine as engine;

use crate::call::{Call, Place, Wanted};
use crate::options::js_integer;
use crate::volume::Volume;

/// One thing that is wrong with a volume.
#[napi(object)]
pub struct Finding {
    /// Stable, for programs: `link-count`.
    pub code: String,
    /// Which record, file or pack.
    pub place: String,
    /// What is wrong with it.
    pub detail: String,
    /// Whether it can be mended, was mended, or can't be.
    #[napi(ts_type = "'mendable' | 'mended' | 'left'")]
    pub mending: String,
}

/// What a check found.
#[napi(object)]
pub struct FsckReport {
    /// In one word.
    #[napi(ts_type = "'clean' | 'found' | 'mended' | 'left'")]
    pub verdict: String,
    /// Each thing, up to 10,000.
    pub findings: Vec<Finding>,
    /// Things that were mended.
    pub mended: i64,
    /// Things that can be.
    pub mendable: i64,
    /// Things that can't.
    pub left: i64,
    /// Frames of the intent log that the next open completes: no damage.
    pub pending_log_frames: i64,
}

impl From<engine::Finding> for Finding {
    fn from(finding: engine::Finding) -> Self {
        Finding {
            code: finding.code.to_owned(),
            place: finding.place,
            detail: finding.detail,
            mending: match finding.mending {
                engine::Mending::Mendable => "mendable",
                engine::Mending::Mended => "mended",
                engine::Mending::Left => "left",
            }
            .to_owned(),
        }
    }
}

impl From<engine::FsckReport> for FsckReport {
    fn from(report: engine::FsckReport) -> Self {
        FsckReport {
            verdict: match report.verdict {
                engine::FsckVerdict::Clean => "clean",
                engine::FsckVerdict::Found => "found",
                engine::FsckVerdict::Mended => "mended",
                engine::FsckVerdict::Left => "left",
            }
            .to_owned(),
            findings: report.findings.into_iter().map(Finding::from).collect(),
            mended: js_integer(report.mended),
            mendable: js_integer(report.mendable),
            left: js_integer(report.left),
            pending_log_frames: js_integer(report.pending_log_frames),
        }
    }
}

/// How far a check is.
#[napi(object)]
pub struct FsckProgress {
    /// What it does: opens the volume to complete what a crash left, looks, or writes.
    #[napi(ts_type = "'recovering' | 'checking' | 'mending'")]
    pub stage: String,
    /// Of a repair, which look this is, from 1; 0 in the other stages.
    pub round: i64,
    /// Records that this stage looked at, or wrote.
    pub records: i64,
    /// About how many it will; 0 where nobody knows.
    pub expected: i64,
}

impl From<&engine::FsckProgress> for FsckProgress {
    fn from(progress: &engine::FsckProgress) -> Self {
        let (stage, round) = match progress.stage {
            engine::FsckStage::Recovering => ("recovering", 0),
            engine::FsckStage::Checking(round) => ("checking", round),
            engine::FsckStage::Mending(_) => ("mending", 0),
        };
        FsckProgress {
            stage: stage.to_owned(),
            round: i64::from(round),
            records: js_integer(progress.records),
            expected: js_integer(progress.expected),
        }
    }
}

type Told = FnArgs<(FsckProgress,)>;

/// How often it is told how far a check is.
const TELL_EVERY: Duration = Duration::from_millis(250);

#[napi]
impl Volume {
    /// Checks the volume at `path`, which nobody has open, and mends it if `repair` is true. `onProgress` is called a few
    /// times a second. Cancelled, it ends soon: a check changed nothing then, and the next repair completes what this one
    /// began.
    #[napi]
    pub fn fsck<'env>(
        env: &'env Env,
        path: String,
        repair: bool,
        #[napi(ts_arg_type = "((progress: FsckProgress) => void) | undefined | null")] on_progress: Option<
            Function<'_, Told, ()>,
        >,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, FsckReport>> {
        let repair = if repair { engine::Repair::Yes } else { engine::Repair::No };
        let tell = on_progress
            .map(|on_progress| {
                on_progress.build_threadsafe_function::<Told>().weak::<true>().callee_handled::<false>().build()
            })
            .transpose()?;
        let work = move |wanted: &Wanted<'_>| {
            let mut told: Option<Instant> = None;
            let mut watch = |progress: &engine::FsckProgress| {
                if let Some(tell) = tell.as_ref().filter(|_| told.is_none_or(|told| told.elapsed() >= TELL_EVERY)) {
                    told = Some(Instant::now());
                    // Nobody is told once JavaScript ends.
                    let _ = tell.call(FnArgs::from((progress.into(),)), ThreadsafeFunctionCallMode::NonBlocking);
                }
                wanted.flow()
            };
            Ok(FsckReport::from(engine::Volume::fsck(&PathBuf::from(path), repair, &mut watch)?))
        };
        Call { name: "fsck", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }
}
