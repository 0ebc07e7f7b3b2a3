//! A volume with a mount, which can be unmounted, closed, opened and mounted again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use verfs_base::{Clock, SystemClock, Timestamp};
use verfs_engine::{AllowOther, CreateOptions, MountOptions, OpenOptions, Volume};
use verfs_fuse::{Session, SessionOptions};
use verfs_testkit::{Host, Machine, Settings};
use verfs_vfs::Vfs;

/// Where the volume lies.
enum Place {
    /// On a disk in memory, with a clock that only the test moves and settings that reach every limit soon.
    Simulated { machine: Box<Machine>, session: Option<Session> },
    /// In a directory, as users have it.
    Real(Option<Arc<Volume>>),
}

/// A mounted volume. Nothing of it stays.
pub(crate) struct Mount {
    folder: tempfile::TempDir,
    place: Place,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
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
        let mut mount = Mount { folder: Self::folder()?, place: Place::Simulated { machine, session: None } };
        mount.mount()?;
        Ok(mount)
    }

    /// Mounts a new volume in a directory.
    pub(crate) fn real() -> Result<Mount, String> {
        let folder = Self::folder()?;
        let path = folder.path().join("volume");
        Volume::create(&path, &CreateOptions::default()).map_err(text)?;
        let volume = Volume::open(&path, &OpenOptions::default()).map_err(text)?;
        let mut mount = Mount { folder, place: Place::Real(Some(volume)) };
        mount.mount()?;
        Ok(mount)
    }

    /// A path in the mount.
    pub(crate) fn path(&self, below: &Path) -> PathBuf {
        self.folder.path().join("mount").join(below)
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
        }
        Ok(())
    }

    /// Unmounts and closes the volume, opens it and mounts it again. Nobody may have a file open in it.
    pub(crate) fn remount(&mut self) -> Result<(), String> {
        let path = self.folder.path().join("volume");
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
                *volume = Some(Volume::open(&path, &OpenOptions::default()).map_err(text)?);
            }
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
            Place::Real(volume) => match volume.take() {
                Some(volume) => volume.close().map_err(text),
                None => Ok(()),
            },
        }
    }

    /// The tree under the mount.
    pub(crate) fn vfs(&self) -> Result<Arc<Vfs>, String> {
        match &self.place {
            Place::Simulated { machine, .. } => Ok(machine.vfs()),
            Place::Real(Some(volume)) => Ok(Arc::clone(volume.vfs())),
            Place::Real(None) => Err("the volume is closed".to_owned()),
        }
    }

    /// Collects garbage while the volume is mounted.
    pub(crate) fn collect(&self, dead_percent: u8, pieces: u8) -> Result<(), String> {
        match &self.place {
            Place::Simulated { machine, .. } => machine.collect(dead_percent, pieces).map_err(text),
            Place::Real(Some(volume)) => volume.collect_garbage().map(drop).map_err(text),
            Place::Real(None) => Err("the volume is closed".to_owned()),
        }
    }

    /// The volume's clock.
    pub(crate) fn now(&self) -> Timestamp {
        match &self.place {
            Place::Simulated { machine, .. } => machine.now(),
            Place::Real(_) => SystemClock::new().now(),
        }
    }

    /// Moves the clock, where it doesn't move itself.
    pub(crate) fn advance(&self, by: Duration) {
        match &self.place {
            Place::Simulated { machine, .. } => machine.advance(by),
            Place::Real(_) => {}
        }
    }
}
