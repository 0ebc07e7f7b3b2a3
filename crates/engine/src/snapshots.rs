//! Snapshots of a volume, for callers without a mount; and what the mount has to forget after them.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use verfs_base::Ino;
use verfs_fuse::{Invalidation, SnapshotMaker, VolumeMount};
use verfs_vfs::{
    Context, Copied, CopyMode, CopyProgress, FileKind, NURSERY, Outdated, SNAPSHOT_TEXT_MAX_BYTES, Snapshot, Vfs,
    VfsError, create_snapshot_of_both, create_snapshot_while_locked, rollback_of_both,
};

use crate::vault::SnapshotPartner;
use crate::{EngineError, VaultState, Volume};

/// How far a clone, a restoration or a rollback is; zeros when none is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotWork {
    /// Files and directories that a copy made.
    pub inodes: u64,
    /// How many it will have, where that is known; else 0.
    pub of_inodes: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Records that a rollback looked at.
    pub records: u64,
}

impl Volume {
    /// Makes a snapshot of the whole tree as it is, the vault included: both as they are at one instant.
    ///
    /// # Errors
    /// [`EngineError::SnapshotExists`], [`EngineError::SnapshotName`], [`EngineError::Usage`] for a note that is too
    /// long; as every change: [`EngineError::OpenReadOnly`], [`EngineError::VolumeFull`], [`EngineError::Io`],
    /// [`EngineError::Closed`].
    pub fn create_snapshot(&self, name: &[u8], note: &[u8]) -> Result<Snapshot, EngineError> {
        self.refuse_read_only()?;
        let made = self.make_snapshot(name, note);
        made.map_err(|error| match error {
            VfsError::Exists => EngineError::SnapshotExists { name: text(name) },
            VfsError::NameTooLong => EngineError::SnapshotName { name: text(name) },
            VfsError::InvalidArgument if note.len() > SNAPSHOT_TEXT_MAX_BYTES => {
                EngineError::Usage(format!("the note has more than {SNAPSHOT_TEXT_MAX_BYTES} bytes"))
            }
            VfsError::InvalidArgument => EngineError::SnapshotName { name: text(name) },
            error => self.snapshot_error(name, error),
        })
    }

    /// The snapshots, oldest first.
    ///
    /// # Errors
    /// [`EngineError::Closed`].
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, EngineError> {
        self.refuse_closed()?;
        Ok(self.vfs().snapshots())
    }

    /// Deletes a snapshot; its space comes back in the background.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], [`EngineError::SnapshotHeld`], and those of every change.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<(), EngineError> {
        self.refuse_read_only()?;
        self.remove_snapshot(name).map_err(|error| match error {
            VfsError::Busy => {
                let holds = self.vfs().snapshot(name).map(|snapshot| snapshot.holds).unwrap_or_default();
                let holders = holds.iter().map(|hold| text(hold)).collect::<Vec<_>>().join(", ");
                let by = if holders.is_empty() { "a copy under way".to_owned() } else { holders };
                EngineError::SnapshotHeld { name: text(name), by }
            }
            error => self.snapshot_error(name, error),
        })
    }

    /// Makes a snapshot of the tree, and of the vault at the same instant.
    fn make_snapshot(&self, name: &[u8], note: &[u8]) -> Result<Snapshot, VfsError> {
        let (_pairing, vault) = self.vault().pair()?;
        match &vault {
            SnapshotPartner::None => self.vfs().create_snapshot(name, note),
            SnapshotPartner::Locked(vault) => create_snapshot_while_locked(self.vfs(), vault, name, note),
            SnapshotPartner::Open(vault) => create_snapshot_of_both(self.vfs(), vault, name, note),
        }
    }

    /// Deletes a snapshot, and what the vault has of it.
    fn remove_snapshot(&self, name: &[u8]) -> Result<(), VfsError> {
        let (_pairing, vault) = self.vault().pair()?;
        self.vfs().delete_snapshot(name)?;
        let settled = match vault {
            SnapshotPartner::None => Ok(()),
            SnapshotPartner::Locked(_) => self.settle_vault(),
            SnapshotPartner::Open(vault) => match vault.delete_snapshot(name) {
                Ok(()) | Err(VfsError::NotFound) => Ok(()),
                Err(error) => Err(EngineError::from_vfs(self.path(), error)),
            },
        };
        if let Err(error) = settled {
            tracing::warn!(%error, "the vault's part of a snapshot goes later");
        }
        Ok(())
    }

    /// From now on who makes or deletes a snapshot in a mount does what these calls do.
    pub(crate) fn make_snapshots_of_mounts(self: &Arc<Self>) {
        self.vault().door().make_snapshots_by(OfMounts(Arc::downgrade(self)));
    }

    /// Adds a reason not to delete a snapshot.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], [`EngineError::Usage`] for a reason that it has, that is empty or too long, or
    /// one too many; and those of every change.
    pub fn hold_snapshot(&self, name: &[u8], reason: &[u8]) -> Result<(), EngineError> {
        self.refuse_read_only()?;
        self.vfs().hold_snapshot(name, reason).map_err(|error| {
            let why = match error {
                VfsError::Exists => "is so already",
                VfsError::InvalidArgument => "can't be: tags have 1 to 4096 bytes",
                VfsError::TooManyLinks => "can't be: it has too many holds",
                error => return self.snapshot_error(name, error),
            };
            EngineError::Usage(format!("that snapshot {} is held by {:?} {why}", text(name), text(reason)))
        })
    }

    /// Removes a reason not to delete a snapshot.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], [`EngineError::Usage`] for a reason that it doesn't have, and those of every
    /// change.
    pub fn release_snapshot(&self, name: &[u8], reason: &[u8]) -> Result<(), EngineError> {
        self.refuse_read_only()?;
        self.vfs().release_snapshot(name, reason).map_err(|error| match error {
            VfsError::NotFound if self.vfs().snapshot(name).is_ok() => EngineError::Usage(format!(
                "snapshot {} is not held by {:?}: `verfs snapshot list` shows its holds",
                text(name),
                text(reason)
            )),
            error => self.snapshot_error(name, error),
        })
    }

    /// Makes the tree what it was when the snapshot was made, and the vault too, if it is open; a locked one stays as it
    /// is. A mount shows it when the call returns.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], and those of every change. After [`EngineError::Io`] neither takes changes any
    /// more; opening the volume again completes the rollback of the tree, and unlocking the vault that of the vault.
    pub fn rollback(&self, name: &[u8]) -> Result<(), EngineError> {
        self.refuse_read_only()?;
        let (_pairing, vault) = self.vault().pair().map_err(|error| self.snapshot_error(name, error))?;
        let both = match &vault {
            SnapshotPartner::None | SnapshotPartner::Locked(_) => None,
            // It has nothing of a snapshot that is older than it.
            SnapshotPartner::Open(vault) => vault.snapshot(name).is_ok().then_some(vault),
        };
        let rolled_back = match both {
            None => self.vfs().rollback(name).map(|outdated| self.tell_outdated(&outdated)),
            Some(vault) => rollback_of_both(self.vfs(), vault, name).map(|[outdated, in_vault]| {
                self.tell_outdated(&outdated);
                self.vault().tell_outdated(&in_vault);
            }),
        };
        rolled_back.map_err(|error| self.snapshot_error(name, error))?;
        // There may have been a copy under way when the snapshot was made.
        self.clear_interrupted_copies()
    }

    /// Tells the kernel of a mount, if there is one, what a rollback or a stream changed.
    pub(crate) fn tell_outdated(&self, outdated: &Outdated) {
        tell_outdated(self.vfs(), self.session(), outdated);
    }

    /// How far the clone, the restoration or the rollback is that is under way.
    #[must_use]
    pub fn snapshot_work(&self) -> SnapshotWork {
        let (Copied { files, directories, bytes }, of_inodes) = *self.copying().lock();
        SnapshotWork { inodes: files + directories, of_inodes, bytes, records: self.vfs().rolled_back_records() }
    }

    /// Makes the new directory `path` a copy of a snapshot, which shares all data with it. `progress` may end it; then
    /// nothing of it stays.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], [`EngineError::PathExists`], [`EngineError::Usage`] for a path that can't be,
    /// [`EngineError::Cancelled`], and those of every change.
    pub fn clone_snapshot(
        &self,
        name: &[u8],
        path: &[u8],
        progress: &mut CopyProgress<'_>,
    ) -> Result<Copied, EngineError> {
        self.copy_out(name, b"", path, CopyMode::New, progress)
    }

    /// Puts what had the path `path` in a snapshot, with everything below it, back in its place: what is there now
    /// goes. With a `target` it goes there instead, where nothing may be. `progress` may end it; then all is as before.
    ///
    /// # Errors
    /// [`EngineError::SnapshotNotFound`], [`EngineError::PathNotFound`], [`EngineError::PathExists`],
    /// [`EngineError::Usage`] for paths that can't be, [`EngineError::Cancelled`], and those of every change.
    pub fn restore(
        &self,
        name: &[u8],
        path: &[u8],
        target: Option<&[u8]>,
        progress: &mut CopyProgress<'_>,
    ) -> Result<Copied, EngineError> {
        match target {
            Some(target) => self.copy_out(name, path, target, CopyMode::New, progress),
            None => self.copy_out(name, path, path, CopyMode::Replace, progress),
        }
    }

    fn copy_out(
        &self,
        name: &[u8],
        from: &[u8],
        to: &[u8],
        mode: CopyMode,
        progress: &mut CopyProgress<'_>,
    ) -> Result<Copied, EngineError> {
        self.refuse_read_only()?;
        let mut way = to.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        match way.next() {
            None => {
                let advice = "roll back to the snapshot, or name a directory for the copy";
                return Err(EngineError::Usage(format!("the root of the volume can't be replaced: {advice}")));
            }
            Some(NURSERY) => {
                return Err(EngineError::Usage(format!("{} is where copies grow: choose another path", text(NURSERY))));
            }
            Some(b".vault") if self.vault_status()?.state != VaultState::Absent => {
                return Err(EngineError::PathExists { path: PathBuf::from("/.vault") });
            }
            Some(_) => {}
        }
        let there = self.way(to).len();
        let is_whole = from.iter().all(|byte| *byte == b'/');
        let whole = self.vfs().snapshot(name).ok().filter(|_| is_whole).map_or(0, |snapshot| snapshot.inodes);
        let copied = self.vfs().copy_out(name, from, to, mode, &mut |copied| {
            *self.copying().lock() = (copied, whole);
            progress(copied)
        });
        *self.copying().lock() = (Copied::default(), 0);
        tell_kernel(self.session(), || {
            let nursery = (Ino::ROOT, Bytes::from_static(NURSERY));
            let mut way = self.way(to);
            // What was made on the way there, and the name itself, whether or not it was there.
            let made = way.split_off(way.len().min(there.saturating_sub(1)));
            let names = made.into_iter().chain([nursery]).flat_map(|(parent, name)| forget_name(parent, name));
            // What was replaced may have had more names elsewhere, and may be open.
            let kept = match mode {
                CopyMode::New => Vec::new(),
                CopyMode::Replace => self.vfs().kept_inodes(),
            };
            names.chain(kept.into_iter().map(Invalidation::Attributes))
        });
        copied.map_err(|error| {
            let place = || PathBuf::from(format!("/{}", text(to).trim_start_matches('/')));
            match error {
                VfsError::NotFound if self.vfs().snapshot(name).is_ok() => {
                    let path = PathBuf::from(format!("/{}", text(from).trim_start_matches('/')));
                    EngineError::PathNotFound { path, snapshot: text(name) }
                }
                VfsError::Exists => EngineError::PathExists { path: place() },
                VfsError::NotDirectory => {
                    EngineError::Usage(format!("something on the way to {} is not a directory", place().display()))
                }
                VfsError::InvalidArgument | VfsError::NameTooLong => {
                    let what = "paths in a volume have no `.`, no `..` and no names of more than 255 bytes";
                    EngineError::Usage(format!("{} can't be copied to {}: {what}", text(from), place().display()))
                }
                VfsError::Interrupted => EngineError::Cancelled { path: place() },
                error => self.snapshot_error(name, error),
            }
        })
    }

    /// The directories and names that lead to a path, as far as it is there; and the first that isn't.
    fn way(&self, path: &[u8]) -> Vec<(Ino, Bytes)> {
        let mut way = Vec::new();
        let mut parent = Ino::ROOT;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            way.push((parent, Bytes::copy_from_slice(name)));
            match self.vfs().lookup(&Context::ROOT, parent, name) {
                Ok(found) if found.kind == FileKind::Directory => parent = found.ino,
                Ok(_) | Err(_) => break,
            }
        }
        way
    }

    /// Removes what copies left that a crash, or a rollback, interrupted. It is as much as they made, so another thread
    /// does it.
    ///
    /// # Errors
    /// When the operating system refuses to start a thread.
    pub(crate) fn clear_interrupted_copies(&self) -> Result<(), EngineError> {
        if matches!(self.vfs().lookup(&Context::ROOT, Ino::ROOT, NURSERY), Err(VfsError::NotFound)) {
            return Ok(());
        }
        let (vfs, session) = (Arc::clone(self.vfs()), Arc::clone(self.session()));
        self.start_task("verfs-clear", move |_| {
            match vfs.remove_interrupted_copies() {
                Ok(()) => tracing::info!("removed what interrupted copies left"),
                // Whoever opens the volume next goes on.
                Err(VfsError::Closed) => return,
                Err(error) => tracing::warn!(%error, "can't remove what interrupted copies left"),
            }
            tell_kernel(&session, || forget_name(Ino::ROOT, Bytes::from_static(NURSERY)));
        })
    }

    fn snapshot_error(&self, name: &[u8], error: VfsError) -> EngineError {
        match error {
            VfsError::NotFound => EngineError::snapshot_not_found(name),
            error => EngineError::from_vfs(self.path(), error),
        }
    }
}

/// Makes the snapshots of a volume's mounts as long as it is open.
struct OfMounts(Weak<Volume>);

impl SnapshotMaker for OfMounts {
    fn create(&self, name: &[u8]) -> Result<(), VfsError> {
        self.0.upgrade().ok_or(VfsError::Closed)?.make_snapshot(name, b"").map(drop)
    }

    fn delete(&self, name: &[u8]) -> Result<(), VfsError> {
        self.0.upgrade().ok_or(VfsError::Closed)?.remove_snapshot(name)
    }
}

/// A mount that may be there.
pub(crate) type SessionSlot = Mutex<Option<Arc<VolumeMount>>>;

/// Tells the kernel of a mount, if there is one, what changed but not through it.
pub(crate) fn tell_kernel<I: IntoIterator<Item = Invalidation>>(slot: &SessionSlot, changes: impl FnOnce() -> I) {
    let mount = slot.lock().clone();
    if let Some(mount) = mount {
        mount.session().invalidate_all(changes());
    }
}

/// Tells the kernel of a tree's mount, if there is one, what a rollback or a stream changed.
pub(crate) fn tell_outdated(vfs: &Vfs, slot: &SessionSlot, outdated: &Outdated) {
    if slot.lock().is_none() {
        return;
    }
    let told = vfs.outdated_names(outdated, &mut |names| {
        tell_kernel(slot, || names.into_iter().map(|(parent, name)| Invalidation::Entry { parent, name }));
    });
    if let Err(error) = told {
        tracing::warn!(%error, "can't find all names that changed; the kernel may show some as they were");
    }
    // Nobody looks the root up, so it isn't among those that are kept.
    tell_kernel(slot, || outdated.inodes.iter().copied().chain([Ino::ROOT]).map(Invalidation::Inode));
}

/// A directory changed, and what one of its names leads to.
fn forget_name(parent: Ino, name: Bytes) -> [Invalidation; 2] {
    [Invalidation::Inode(parent), Invalidation::Entry { parent, name }]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
