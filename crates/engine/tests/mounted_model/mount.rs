//! A volume with a mount, which can be unmounted, closed, opened and mounted again.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use verfs_base::{Clock, SystemClock, Timestamp};
use verfs_engine::{AllowOther, CreateOptions, FsckVerdict, MountOptions, OpenOptions, Repair, Volume};
use verfs_fuse::{Session, SessionOptions};
use verfs_testkit::{Host, Machine, Settings};

/// Where the volume lies.
enum Place {
    /// On a disk in memory, with a clock that only the test moves and settings that reach every limit soon.
    Simulated { machine: Box<Machine>, session: Option<Session> },
    /// In a directory, as users have it.
    Real(Option<Arc<Volume>>),
    /// In another process, which mounts it and ends it.
    Elsewhere,
}

const ELSEWHERE: &str = "the volume is another process's";

/// A mounted volume. Nothing of it stays.
pub(crate) struct Mount {
    folder: PathBuf,
    place: Place,
    /// Removes the folder, after the place.
    _owner: Option<tempfile::TempDir>,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Nothing is wrong with a volume that is closed.
fn check(path: &Path) -> Result<(), String> {
    let report = Volume::fsck(path, Repair::No, &mut |_| ControlFlow::Continue(())).map_err(text)?;
    match report.verdict {
        FsckVerdict::Clean => Ok(()),
        FsckVerdict::Found | FsckVerdict::Mended | FsckVerdict::Left => Err(format!("{report:?}")),
    }
}

impl Mount {
    fn folder() -> Result<tempfile::TempDir, String> {
        let folder = tempfile::Builder::new().prefix("verfs-model-").tempdir().map_err(text)?;
        std::fs::create_dir(folder.path().join("mount")).map_err(text)?;
        Ok(folder)
    }

    /// Mounts a new volume on a disk in memory.
    pub(crate) fn simulated(settings: &Settings, seed: u64) -> Result<Mount, String> {
        let machine = Box::new(Machine::new(settings.clone(), seed));
        machine.open().map_err(text)?;
        Mount::begin(Self::folder()?, Place::Simulated { machine, session: None })
    }

    /// Mounts a new volume in a directory.
    pub(crate) fn real() -> Result<Mount, String> {
        let folder = Self::folder()?;
        let path = folder.path().join("volume");
        Volume::create(&path, &CreateOptions::default()).map_err(text)?;
        let volume = Volume::open(&path, &OpenOptions::default()).map_err(text)?;
        Mount::begin(folder, Place::Real(Some(volume)))
    }

    fn begin(folder: tempfile::TempDir, place: Place) -> Result<Mount, String> {
        let mut mount = Mount { folder: folder.path().to_owned(), place, _owner: Some(folder) };
        mount.mount()?;
        Ok(mount)
    }

    /// What another process mounts in `folder`.
    pub(crate) fn elsewhere(folder: PathBuf) -> Mount {
        Mount { folder, place: Place::Elsewhere, _owner: None }
    }

    /// The directory of the volume and the mountpoint.
    pub(crate) fn folder_path(&self) -> &Path {
        &self.folder
    }

    /// A path in the mount.
    pub(crate) fn path(&self, below: &Path) -> PathBuf {
        self.folder.join("mount").join(below)
    }

    fn mount(&mut self) -> Result<(), String> {
        let mountpoint = self.path(Path::new(""));
        match &mut self.place {
            Place::Simulated { machine, session } => {
                let options = SessionOptions { allow_other: AllowOther::Yes, ..SessionOptions::default() };
                *session = Some(Session::mount(machine.vfs(), &mountpoint, &options).map_err(text)?);
            }
            Place::Real(volume) => {
                let options = MountOptions { allow_other: AllowOther::Yes, ..MountOptions::default() };
                volume.as_ref().ok_or("the volume is closed")?.mount(&mountpoint, &options).map_err(text)?;
            }
            Place::Elsewhere => return Err(ELSEWHERE.to_owned()),
        }
        Ok(())
    }

    /// Unmounts and closes the volume, opens it and mounts it again. Nobody may have a file open in it.
    pub(crate) fn remount(&mut self) -> Result<(), String> {
        let path = self.folder.join("volume");
        match &mut self.place {
            Place::Simulated { machine, session } => {
                if let Some(session) = session.take() {
                    session.unmount().map_err(text)?;
                }
                machine.remount().map_err(text)?;
            }
            Place::Real(volume) => {
                if let Some(volume) = volume.take() {
                    volume.close().map_err(text)?;
                }
                check(&path)?;
                *volume = Some(Volume::open(&path, &OpenOptions::default()).map_err(text)?);
            }
            Place::Elsewhere => return Err(ELSEWHERE.to_owned()),
        }
        self.mount()
    }

    /// Unmounts; checks that nothing without a name is left, and closes the volume.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        match &mut self.place {
            Place::Simulated { machine, session } => {
                if let Some(session) = session.take() {
                    session.unmount().map_err(text)?;
                }
                machine.check_released()?;
                machine.audit()?;
                machine.close()
            }
            Place::Real(volume) => {
                if let Some(volume) = volume.take() {
                    volume.close().map_err(text)?;
                }
                check(&self.folder.join("volume"))
            }
            Place::Elsewhere => Err(ELSEWHERE.to_owned()),
        }
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) -> Result<(), String> {
        match &self.place {
            Place::Simulated { machine, .. } => machine.vfs().sync().map_err(text),
            Place::Real(Some(volume)) => volume.sync().map_err(text),
            Place::Real(None) => Err("the volume is closed".to_owned()),
            Place::Elsewhere => {
                std::fs::File::open(self.path(Path::new(""))).and_then(|root| root.sync_all()).map_err(text)
            }
        }
    }

    /// The volume, where it lies in a directory.
    pub(crate) fn volume(&self) -> Option<&Arc<Volume>> {
        match &self.place {
            Place::Real(volume) => volume.as_ref(),
            Place::Simulated { .. } | Place::Elsewhere => None,
        }
    }

    /// Collects garbage while the volume is mounted.
    pub(crate) fn collect(&self, dead_percent: u8, pieces: u8) -> Result<(), String> {
        match &self.place {
            Place::Simulated { machine, .. } => machine.collect(dead_percent, pieces).map_err(text),
            Place::Real(Some(volume)) => volume.collect_garbage().map(drop).map_err(text),
            Place::Real(None) => Err("the volume is closed".to_owned()),
            // It collects by itself.
            Place::Elsewhere => Ok(()),
        }
    }

    /// The volume's clock.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.place {
            Place::Simulated { machine, .. } => machine.now(),
            Place::Real(_) | Place::Elsewhere => SystemClock::new().now(),
        }
    }

    /// Moves the clock, where it doesn't move itself.
    pub(crate) fn advance(&self, by: Duration) {
        match &self.place {
            Place::Simulated { machine, .. } => machine.advance(by),
            Place::Real(_) | Place::Elsewhere => {}
        }
    }
}
