//! The life of a volume as its owner sees it, with real mounts.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier};

use verfs_engine::{CreateOptions, EngineError, MountOptions, OpenOptions, Volume};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("verfs-engine-").tempdir().unwrap();
        fs::create_dir(folder.path().join("mount")).unwrap();
        Place { folder }
    }

    fn volume(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    fn mountpoint(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn open(&self) -> Arc<Volume> {
        Volume::create(&self.volume(), &CreateOptions::default()).unwrap();
        Volume::open(&self.volume(), &OpenOptions::default()).unwrap()
    }
}

fn mount(volume: &Volume, mountpoint: &Path) -> Result<(), EngineError> {
    volume.mount(mountpoint, &MountOptions::default())
}

#[test]
fn a_volume_that_was_unmounted_from_outside_is_mounted_again() {
    let place = Place::new();
    let volume = place.open();
    for round in 0..3 {
        mount(&volume, &place.mountpoint()).unwrap();
        assert!(matches!(mount(&volume, &place.mountpoint()), Err(EngineError::AlreadyMounted { .. })));
        fs::write(place.mountpoint().join(format!("file-{round}")), "x").unwrap();
        assert!(Command::new("umount").arg(place.mountpoint()).status().unwrap().success());
        assert_eq!(fs::read_dir(place.mountpoint()).unwrap().count(), 0);
    }
    mount(&volume, &place.mountpoint()).unwrap();
    assert_eq!(fs::read_dir(place.mountpoint()).unwrap().count(), 3);
    volume.close().unwrap();
}

#[test]
fn a_mountpoint_inside_the_volume_is_refused() {
    let place = Place::new();
    let volume = place.open();
    let inside = place.volume().join("mine");
    fs::create_dir(&inside).unwrap();
    let link = place.folder.path().join("link");
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    for mountpoint in [&inside, &link] {
        match mount(&volume, mountpoint) {
            Err(EngineError::Usage(message)) => assert!(message.contains("is inside the volume"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    mount(&volume, &place.mountpoint()).unwrap();
    volume.close().unwrap();
}

#[test]
fn of_many_who_make_one_volume_one_does() {
    const MAKERS: usize = 4;
    let place = Place::new();
    for round in 0..50 {
        let path = place.folder.path().join(format!("volume-{round}"));
        let start = Barrier::new(MAKERS);
        let made: Vec<_> = std::thread::scope(|scope| {
            let make = || {
                start.wait();
                Volume::create(&path, &CreateOptions::default())
            };
            let makers: Vec<_> = (0..MAKERS).map(|_| scope.spawn(make)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        let uuids: Vec<_> = made.iter().filter_map(|made| made.as_ref().ok()).map(|info| info.uuid.clone()).collect();
        assert_eq!(uuids, [Volume::inspect(&path).unwrap().uuid], "round {round}: {made:?}");
        let exists = made.iter().filter(|made| matches!(made, Err(EngineError::VolumeExists { .. }))).count();
        assert_eq!(exists, MAKERS - 1, "round {round}: {made:?}");
    }
}
