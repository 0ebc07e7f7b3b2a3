//! The check of a volume that nobody has open, as JavaScript sees it.

use std::path::PathBuf;

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use verfs_engine as engine;

use crate::call::{Call, Place};
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

#[napi]
impl Volume {
    /// Checks the volume at `path`, which nobody has open, and mends it if `repair` is true.
    #[napi]
    pub fn fsck(env: &Env, path: String, repair: bool) -> napi::Result<PromiseRaw<'_, FsckReport>> {
        let repair = if repair { engine::Repair::Yes } else { engine::Repair::No };
        let work = move || Ok(FsckReport::from(engine::Volume::fsck(&PathBuf::from(path), repair, &mut |_| {})?));
        Call { name: "fsck", place: Place::Apart, work, undo: drop }.begin(env, None)
    }
}
