//! Holds a volume still, so that its directory can be copied while it is mounted.
//!
//! Lives here: who has to rest for that, in which order, for how long, and whether all of it worked. Reads go on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use verfs_vfs::Vfs;

use crate::pause::Pause;
use crate::vault::VaultSlot;
use crate::{EngineError, Volume};

/// How often the directory is looked at until nothing changes any more: the metadata engine ends what it began.
const LOOK: Duration = Duration::from_millis(100);
/// Looks that have to find the same.
const SAME_LOOKS: u32 = 5;
/// Looks at most. Whether something changed after that is known at the end.
const LOOKS_MAX: u32 = 100;

/// A file of the directory, so that a change of it is seen: inode, size, and time of the last change.
type Files = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

#[derive(Default)]
enum Phase {
    /// Nobody asked, or what was asked for has ended and been told.
    #[default]
    No,
    /// It is being brought to rest.
    Beginning,
    /// It stands still until then.
    Still(Instant),
    /// Somebody wants it to go on.
    Ending,
    /// It goes on: the copy is good, or why not.
    Ended(Result<(), String>),
    /// It could not be brought to rest.
    Failed(EngineError),
}

/// Whether a volume stands still.
#[derive(Default)]
pub(crate) struct Freezer {
    phase: Mutex<Phase>,
    changed: Condvar,
}

/// What has to rest.
struct Parts {
    path: PathBuf,
    vfs: Arc<Vfs>,
    vault: Arc<VaultSlot>,
    pause: Arc<Pause>,
    freezer: Arc<Freezer>,
}

fn list(directory: &Path, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            // It went between the two looks, which the next listing shows.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            list(&path, files)?;
        } else {
            let state = (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
            files.insert(path, state);
        }
    }
    Ok(())
}

fn listed(directory: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    list(directory, &mut files)?;
    Ok(files)
}

/// Waits until the files of the directory are the same for a while.
fn at_rest(directory: &Path) -> io::Result<Files> {
    let mut files = listed(directory)?;
    let mut same = 0;
    for _ in 0..LOOKS_MAX {
        std::thread::sleep(LOOK);
        let now = listed(directory)?;
        same = if now == files { same + 1 } else { 0 };
        files = now;
        if same == SAME_LOOKS {
            break;
        }
    }
    Ok(files)
}

impl Freezer {
    fn set(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.changed.notify_all();
    }

    /// Waits until somebody wants it to go on, or `end`; says which.
    fn wait(&self, end: Instant) -> Waited {
        let mut phase = self.phase.lock();
        while matches!(*phase, Phase::Still(_)) {
            if self.changed.wait_until(&mut phase, end).timed_out() {
                return Waited::TimeOver;
            }
        }
        Waited::Asked
    }
}

enum Waited {
    Asked,
    TimeOver,
}

impl Parts {
    /// Brings everything to rest, from what depends on others to what others depend on, and lets it go on in the other
    /// order.
    fn stand_still(&self, time: Duration) {
        let ended = self.vault.standing_still(|vault| {
            let _resting = self.pause.pause();
            let failed = |error| EngineError::from_vfs(&self.path, error);
            let _tree = self.vfs.hold_still().map_err(failed)?;
            let _vault_tree = vault.map(Vfs::hold_still).transpose().map_err(failed)?;
            let before = at_rest(&self.path).map_err(|error| EngineError::from_io(&self.path, &error))?;
            let end = Instant::now() + time;
            self.freezer.set(Phase::Still(end));
            tracing::info!(seconds = time.as_secs(), "the volume stands still");
            let waited = self.freezer.wait(end);
            let after = listed(&self.path);
            Ok(match (waited, after) {
                (Waited::TimeOver, _) => Err(format!("it went on by itself after {} s", time.as_secs())),
                (Waited::Asked, Ok(after)) if after == before => Ok(()),
                (Waited::Asked, Ok(_)) => Err("files of the volume changed meanwhile".to_owned()),
                (Waited::Asked, Err(error)) => Err(error.to_string()),
            })
        });
        match ended {
            Ok(outcome) => {
                tracing::info!(?outcome, "the volume goes on");
                self.freezer.set(Phase::Ended(outcome));
            }
            Err(error) => self.freezer.set(Phase::Failed(error)),
        }
    }
}

impl Volume {
    /// Makes everything durable and holds whatever would change a file of the volume's directory, for `time` at most or
    /// until [`Volume::thaw`]: writers wait, readers don't. A copy of the directory that is made meanwhile is a volume with
    /// everything that was done before the call.
    ///
    /// # Errors
    /// [`EngineError::Usage`] when it stands still already; and those of every change.
    pub fn freeze(&self, time: Duration) -> Result<(), EngineError> {
        self.refuse_read_only()?;
        let freezer = Arc::clone(self.freezer());
        {
            let mut phase = freezer.phase.lock();
            match *phase {
                Phase::No | Phase::Ended(_) | Phase::Failed(_) => *phase = Phase::Beginning,
                Phase::Beginning | Phase::Still(_) | Phase::Ending => {
                    return Err(EngineError::Usage(format!(
                        "volume {} stands still already: `verfs volume thaw` ends that",
                        self.path().display()
                    )));
                }
            }
        }
        let parts = Parts {
            path: self.path().to_path_buf(),
            vfs: Arc::clone(self.vfs()),
            vault: Arc::clone(self.vault()),
            pause: Arc::clone(self.pause()),
            freezer: Arc::clone(&freezer),
        };
        if let Err(error) = self.start_task("verfs-freeze", move |_| parts.stand_still(time)) {
            freezer.set(Phase::No);
            return Err(error);
        }
        let mut phase = freezer.phase.lock();
        while matches!(*phase, Phase::Beginning) {
            freezer.changed.wait(&mut phase);
        }
        match std::mem::take(&mut *phase) {
            Phase::Failed(error) => Err(error),
            other => {
                *phase = other;
                Ok(())
            }
        }
    }

    /// Lets the volume go on.
    ///
    /// # Errors
    /// [`EngineError::FreezeBroken`] when it went on before, or its files changed all the same: a copy made meanwhile is
    /// worth nothing. [`EngineError::Usage`] when it didn't stand still.
    pub fn thaw(&self) -> Result<(), EngineError> {
        self.refuse_closed()?;
        match self.end_freeze() {
            Some(Ok(())) => Ok(()),
            Some(Err(detail)) => Err(EngineError::FreezeBroken { path: self.path().to_path_buf(), detail }),
            None => Err(EngineError::Usage(format!(
                "volume {} does not stand still: `verfs volume freeze` begins that",
                self.path().display()
            ))),
        }
    }

    /// Has it go on, if it stands still; what it says then. The next one who asks is told nothing.
    pub(crate) fn end_freeze(&self) -> Option<Result<(), String>> {
        let freezer = self.freezer();
        let mut phase = freezer.phase.lock();
        loop {
            match *phase {
                Phase::No | Phase::Failed(_) => return None,
                Phase::Still(_) => {
                    *phase = Phase::Ending;
                    freezer.changed.notify_all();
                }
                Phase::Beginning | Phase::Ending => freezer.changed.wait(&mut phase),
                Phase::Ended(_) => {
                    return match std::mem::take(&mut *phase) {
                        Phase::Ended(outcome) => Some(outcome),
                        Phase::No | Phase::Beginning | Phase::Still(_) | Phase::Ending | Phase::Failed(_) => None,
                    };
                }
            }
        }
    }

    /// For how long it stands still yet, if it does.
    #[must_use]
    pub fn still_for(&self) -> Option<Duration> {
        match *self.freezer().phase.lock() {
            // It may be over already, and whoever ends it late in saying so.
            Phase::Still(end) => end.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()),
            Phase::No | Phase::Beginning | Phase::Ending | Phase::Ended(_) | Phase::Failed(_) => None,
        }
    }
}
