//! Snapshots of a `Volume`. Names, notes, tags and paths are text; what isn't UTF-8 in them comes with U+FFFD.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{Object, PromiseRaw};
use napi_derive::napi;
use verfs_engine as engine;
use verfs_engine::{FileKind, TreeChangeKind};

use crate::call::{Call, Place, Wanted};
use crate::options::{js_integer, js_time};
use crate::pool::Kind;
use crate::volume::Volume;

/// A snapshot: the whole volume as it was at one moment.
#[napi(object)]
pub struct Snapshot {
    /// Never given to another snapshot of the volume.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What its maker wrote to it.
    pub note: String,
    /// When it was taken, in milliseconds since 1970.
    pub created: f64,
    /// What its deletion would release, files that are stored twice counted twice.
    pub used_bytes: i64,
    /// Sum of the sizes of its files.
    pub logical_bytes: i64,
    /// Files, symbolic links and special files.
    pub files: i64,
    /// Directories.
    pub directories: i64,
    /// Tags of those who hold it.
    pub holds: Vec<String>,
}

/// How far the clone, the restoration or the rollback is that is under way. All zero when none is.
#[napi(object)]
pub struct SnapshotWork {
    /// Files and directories that a copy made.
    pub inodes: i64,
    /// How many it will have, where that is known; else 0.
    pub of_inodes: i64,
    /// Bytes of these files.
    pub bytes: i64,
    /// Records that a rollback looked at.
    pub records: i64,
}

/// A difference between two states of a volume. Paths begin at the root of the volume, without a slash.
#[napi(object)]
pub struct SnapshotChange {
    /// What became of it.
    #[napi(ts_type = "'added' | 'removed' | 'changed' | 'renamed'")]
    pub kind: String,
    /// Where it is, or was when it was removed.
    pub path: String,
    /// Where what is renamed was before.
    pub from: Option<String>,
    /// What it is.
    #[napi(js_name = "type", ts_type = "'file' | 'directory' | 'symlink' | 'other'")]
    pub file_type: String,
    /// Of files that were there before.
    pub size_before: Option<i64>,
    /// Of files that are there after.
    pub size_after: Option<i64>,
}

/// A comparison under way. A thread finds changes, and waits when nobody takes them.
#[napi]
pub struct SnapshotDiff {
    inner: Arc<engine::SnapshotDiff>,
}

#[napi]
impl SnapshotDiff {
    /// The next changes; null after the last.
    #[napi]
    pub fn next<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, Option<Vec<SnapshotChange>>>> {
        let inner = Arc::clone(&self.inner);
        let work = move || {
            let changes = inner.next_changes()?;
            Ok(changes.map(|changes| changes.into_iter().map(SnapshotChange::from).collect()))
        };
        Call { name: "next", place: Place::Apart, work, undo: drop }.begin(env, signal)
    }

    /// Ends it. It has to be called when not all changes were taken.
    #[napi]
    pub fn stop(&self) {
        self.inner.stop();
    }
}

#[napi]
impl Volume {
    /// Takes a snapshot of everything that was done before. Cancelled, it may still complete.
    #[napi]
    pub fn snapshot_create<'env>(
        &self,
        env: &'env Env,
        name: String,
        note: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, Snapshot>> {
        let inner = self.inner()?;
        let work = move || Ok(Snapshot::from(inner.create_snapshot(name.as_bytes(), note.as_bytes())?));
        Call { name: "snapshotCreate", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }

    /// Every snapshot, the oldest first.
    #[napi]
    pub fn snapshots<'env>(
        &self,
        env: &'env Env,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, Vec<Snapshot>>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.snapshots()?.into_iter().map(Snapshot::from).collect());
        Call { name: "snapshots", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, signal)
    }

    /// Deletes a snapshot that nobody holds. Its space comes back in the background. Cancelled, it may still complete.
    #[napi]
    pub fn snapshot_delete<'env>(
        &self,
        env: &'env Env,
        name: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.delete_snapshot(name.as_bytes())?);
        Call { name: "snapshotDelete", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }

    /// Keeps a snapshot from being deleted, until `tag` is released. Cancelled, it may still complete.
    #[napi]
    pub fn snapshot_hold<'env>(
        &self,
        env: &'env Env,
        name: String,
        tag: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.hold_snapshot(name.as_bytes(), tag.as_bytes())?);
        Call { name: "snapshotHold", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }

    /// Ends the hold `tag`. Cancelled, it may still complete.
    #[napi]
    pub fn snapshot_release<'env>(
        &self,
        env: &'env Env,
        name: String,
        tag: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.release_snapshot(name.as_bytes(), tag.as_bytes())?);
        Call { name: "snapshotRelease", place: Place::Pool(Kind::Work), work, undo: drop }.begin(env, signal)
    }

    /// Begins to tell what changed from the snapshot `from` to `to`, or to what is there now.
    #[napi]
    pub fn snapshot_diff<'env>(
        &self,
        env: &'env Env,
        from: String,
        to: Option<String>,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, SnapshotDiff>> {
        let inner = self.inner()?;
        let work = move || {
            let diff = inner.diff_snapshots(from.as_bytes(), to.as_deref().map(str::as_bytes))?;
            Ok(SnapshotDiff { inner: Arc::new(diff) })
        };
        Call { name: "snapshotDiff", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, signal)
    }

    /// Makes the volume what it was. Cancelled, it completes in the background.
    #[napi]
    pub fn snapshot_rollback<'env>(
        &self,
        env: &'env Env,
        name: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move || Ok(inner.rollback(name.as_bytes())?);
        Call { name: "snapshotRollback", place: Place::Apart, work, undo: drop }.begin(env, signal)
    }

    /// Makes the new directory `path` a copy of the snapshot, which shares all data with it. Cancelled in time,
    /// nothing of it stays.
    #[napi]
    pub fn snapshot_clone<'env>(
        &self,
        env: &'env Env,
        name: String,
        path: String,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move |wanted: &Wanted<'_>| {
            inner.clone_snapshot(name.as_bytes(), path.as_bytes(), &mut |_| wanted.flow())?;
            Ok(())
        };
        Call { name: "snapshotClone", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// Puts `path` and all below it back as it was, in place of what is there; or at `target`, where nothing is.
    /// Cancelled in time, all is as before.
    #[napi]
    pub fn snapshot_restore<'env>(
        &self,
        env: &'env Env,
        name: String,
        path: String,
        target: Option<String>,
        #[napi(ts_arg_type = "AbortSignal | undefined | null")] signal: Option<Object<'_>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let inner = self.inner()?;
        let work = move |wanted: &Wanted<'_>| {
            let target = target.as_deref().map(str::as_bytes);
            inner.restore(name.as_bytes(), path.as_bytes(), target, &mut |_| wanted.flow())?;
            Ok(())
        };
        Call { name: "snapshotRestore", place: Place::Apart, work, undo: drop }.begin_watched(env, signal)
    }

    /// How far the clone, the restoration or the rollback is that is under way.
    #[napi]
    pub fn snapshot_work<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, SnapshotWork>> {
        let inner = self.inner()?;
        let work = move || {
            let engine::SnapshotWork { inodes, of_inodes, bytes, records } = inner.snapshot_work();
            Ok(SnapshotWork {
                inodes: js_integer(inodes),
                of_inodes: js_integer(of_inodes),
                bytes: js_integer(bytes),
                records: js_integer(records),
            })
        };
        Call { name: "snapshotWork", place: Place::Pool(Kind::Ask), work, undo: drop }.begin(env, None)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl From<engine::Snapshot> for Snapshot {
    fn from(snapshot: engine::Snapshot) -> Self {
        Self {
            id: js_integer(snapshot.id.0),
            name: text(&snapshot.name),
            note: text(&snapshot.note),
            created: js_time(snapshot.created),
            used_bytes: js_integer(snapshot.used_bytes),
            logical_bytes: js_integer(snapshot.logical_bytes),
            files: js_integer(snapshot.inodes.saturating_sub(snapshot.directories)),
            directories: js_integer(snapshot.directories),
            holds: snapshot.holds.iter().map(|hold| text(hold)).collect(),
        }
    }
}

impl From<engine::TreeChange> for SnapshotChange {
    fn from(change: engine::TreeChange) -> Self {
        let (kind, from) = match change.kind {
            TreeChangeKind::Added => ("added", None),
            TreeChangeKind::Removed => ("removed", None),
            TreeChangeKind::Changed => ("changed", None),
            TreeChangeKind::Renamed { from } => ("renamed", Some(text(&from))),
        };
        let file_type = match change.file_kind {
            FileKind::Regular => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => "other",
        };
        let size = |bytes: Option<u64>| bytes.filter(|_| change.file_kind == FileKind::Regular).map(js_integer);
        Self {
            kind: kind.to_owned(),
            path: text(&change.path),
            from,
            file_type: file_type.to_owned(),
            size_before: size(change.size_before),
            size_after: size(change.size_after),
        }
    }
}
