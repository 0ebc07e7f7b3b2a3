//! What a part of a volume takes, as JavaScript sees it.

use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use verfs_engine as engine;

use crate::call::{Call, Place, Wanted};
use crate::options::js_integer;
use crate::volume::Volume;

/// What a part of the tree takes.
#[napi(object)]
pub struct Usage {
    /// Everything with an inode that is no directory, what has several names once.
    pub files: i64,
    /// Directories, the topmost one included.
    pub directories: i64,
    /// Sizes of the files.
    pub logical_bytes: i64,
    /// Distinct chunks that they are made of, before compression.
    pub unique_bytes: i64,
    /// Of these, what other files of the volume are made of as well.
    pub shared_bytes: i64,
    /// The distinct chunks as they are stored.
    pub stored_bytes: i64,
    /// Of these, what nothing else needs, snapshots aside.
    pub exclusive_bytes: i64,
}

impl From<engine::Usage> for Usage {
    fn from(usage: engine::Usage) -> Self {
        Self {
            files: js_integer(usage.files),
            directories: js_integer(usage.directories),
            logical_bytes: js_integer(usage.logical_bytes),
            unique_bytes: js_integer(usage.unique_bytes),
            shared_bytes: js_integer(usage.shared_bytes),
            stored_bytes: js_integer(usage.stored_bytes),
            exclusive_bytes: js_integer(usage.exclusive_bytes),
        }
    }
}

#[napi]
impl Volume {
    /// What everything at and below `path`, from the root of the volume, takes: the whole volume for an empty one. It
    /// looks at all of it. Cancelled, it ends.
    #[napi]
    pub fn usage<'env>(
        &self,
        env: &'env Env,
        path: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, Usage>> {
        let inner = self.inner()?;
        let work = move |wanted: &Wanted<'_>| Ok(Usage::from(inner.usage(path.as_bytes(), &mut |_| wanted.flow())?));
        Call { name: "usage", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }
}
