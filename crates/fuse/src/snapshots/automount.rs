//! When the snapshots' session is mounted: when somebody goes there, until nobody does.
//!
//! While it is not mounted, `umount(8)` of the tree works as if there were no snapshots. Whoever goes there is asked
//! about the mountpoint's attributes first, by a request that holds no lock of the kernel: so the session can be mounted
//! before the answer, and the answer ESTALE makes the kernel walk the path again, into the new mount.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use verfs_vfs::{Patience, Result, Vfs, VfsError};

use super::NAME;
use super::opened::OpenedSnapshots;
use super::served::SnapshotsTree;
use crate::error::FuseError;
use crate::mount_table::{MountKind, detach_stale};
use crate::mounting::{self, MountPoint};
use crate::options::SessionOptions;
use crate::session::Session;
use crate::vault::{Gated, VaultDoor, VaultGate};

/// A mount that nobody used for that long goes; it takes up to twice as long.
const IDLE_INTERVAL: Duration = Duration::from_secs(15);

/// How long whoever comes while it is being mounted waits. He holds a thread that the mount itself might need.
const CHANGE_PATIENCE: Duration = Duration::from_secs(5);

/// Who is still outside that soon after it was mounted had set out before. Later he is where the mount isn't seen: in
/// another mount namespace.
const LATECOMER_WINDOW: Duration = Duration::from_secs(1);

/// Where the session is mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Over `.snapshots` in the tree's own mount.
    InTree,
    /// In a directory of its own, to which `.snapshots` is a symlink.
    Outside(PathBuf),
}

enum State {
    /// It is not mounted.
    Idle,
    /// Somebody is mounting it, or trying whether it can go.
    Changing,
    Mounted {
        session: Arc<Session>,
        since: Instant,
    },
    /// The tree is being unmounted.
    Ended,
}

/// The snapshots' session, mounted or not.
pub(super) struct Automount {
    place: Place,
    vfs: Arc<Vfs>,
    opened: Arc<OpenedSnapshots>,
    options: SessionOptions,
    /// What a lock of the vault ends, if they are the vault's snapshots.
    gate: Option<Arc<VaultGate>>,
    /// Who makes and deletes them, if they are the volume's.
    door: Option<Arc<VaultDoor>>,
    /// The tree's mount.
    tree: OnceLock<MountPoint>,
    state: Mutex<State>,
    changed: Condvar,
    idle_thread: Mutex<Option<JoinHandle<()>>>,
}

impl Automount {
    pub(super) fn new(
        place: Place,
        (vfs, opened): (Arc<Vfs>, Arc<OpenedSnapshots>),
        options: &SessionOptions,
        (gate, door): (Option<Arc<VaultGate>>, Option<Arc<VaultDoor>>),
    ) -> Automount {
        Automount {
            place,
            vfs,
            opened,
            // Nothing in it waits for the disk to take something.
            options: SessionOptions { sync_threads: 1, ..options.clone() },
            gate,
            door,
            tree: OnceLock::new(),
            state: Mutex::new(State::Ended),
            changed: Condvar::new(),
            idle_thread: Mutex::default(),
        }
    }

    /// Where the session is mounted.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// From now on it is mounted on demand.
    pub(super) fn begin(self: &Arc<Self>, tree: &MountPoint) -> io::Result<()> {
        // The second time it is the same.
        let _ = self.tree.set(tree.clone());
        *self.state.lock() = State::Idle;
        match &self.place {
            Place::InTree => {
                let automount = Arc::clone(self);
                let thread = std::thread::Builder::new().name("verfs-idle".to_owned());
                *self.idle_thread.lock() = Some(thread.spawn(move || automount.unmount_when_idle())?);
            }
            Place::Outside(path) => {
                if path.parent().is_some_and(Path::is_dir)
                    && let Err(error) = detach_stale(path)
                {
                    tracing::warn!(%error, "the snapshots' stale mount stays");
                }
            }
        }
        Ok(())
    }

    /// The session, if it is mounted.
    pub(super) fn mounted(&self) -> Option<Arc<Session>> {
        let mut state = self.state.lock();
        while matches!(*state, State::Changing) {
            self.changed.wait(&mut state);
        }
        match &*state {
            State::Mounted { session, .. } => Some(Arc::clone(session)),
            State::Idle | State::Changing | State::Ended => None,
        }
    }

    /// The session, if it is mounted and nobody is changing that: without waiting.
    pub(super) fn seen(&self) -> Option<Arc<Session>> {
        match &*self.state.lock() {
            State::Mounted { session, .. } => Some(Arc::clone(session)),
            State::Idle | State::Changing | State::Ended => None,
        }
    }

    /// Unmounts it, and lets nobody mount it again. Whoever has files open in it is still served by the session that
    /// this gives.
    pub(super) fn end(&self) -> Option<Arc<Session>> {
        let before = {
            let mut state = self.state.lock();
            while matches!(*state, State::Changing) {
                self.changed.wait(&mut state);
            }
            std::mem::replace(&mut *state, State::Ended)
        };
        self.changed.notify_all();
        let session = match before {
            State::Mounted { session, .. } => Some(session),
            State::Idle | State::Changing | State::Ended => None,
        };
        // Without the lock: this way leads through the tree's mount, whose threads may wait for it.
        if let Some(session) = &session {
            match session.detach() {
                Ok(_) => self.remove_outside(),
                Err(error) => tracing::error!(%error, "the snapshots stay mounted"),
            }
        }
        if let Some(thread) = self.idle_thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that unmounts idle snapshots panicked");
        }
        session
    }

    fn remove_outside(&self) {
        match &self.place {
            Place::InTree => {}
            Place::Outside(path) => {
                let removed = fs::remove_dir(path);
                tracing::debug!(?removed, "removed the snapshots' mountpoint");
            }
        }
    }

    /// Mounts it if it isn't, for somebody who is at its mountpoint. Without an error he may stay there: the mount can't
    /// be had, or isn't seen where he is.
    ///
    /// # Errors
    /// [`VfsError::Stale`]: it is mounted now, and he is to come again. [`VfsError::WouldBlock`].
    pub(super) fn cover(&self, patience: Patience) -> Result<()> {
        match patience {
            Patience::Try => return Err(VfsError::WouldBlock),
            Patience::Wait => {}
        }
        match self.mounted_since() {
            Some(since) if since.elapsed() < LATECOMER_WINDOW => Err(VfsError::Stale),
            Some(_) | None => Ok(()),
        }
    }

    /// Mounts it if it isn't, for somebody who is about to follow the symlink to it.
    ///
    /// # Errors
    /// [`VfsError::Io`]: it can't be had. [`VfsError::WouldBlock`].
    pub(super) fn link_target(&self, path: &Path, patience: Patience) -> Result<Vec<u8>> {
        match patience {
            Patience::Try => return Err(VfsError::WouldBlock),
            Patience::Wait => {}
        }
        self.mounted_since().ok_or(VfsError::Io)?;
        Ok(path.as_os_str().as_bytes().to_vec())
    }

    /// Mounts it if it isn't. Says since when it is, if it could be had.
    fn mounted_since(&self) -> Option<Instant> {
        let deadline = Instant::now() + CHANGE_PATIENCE;
        let mut state = self.state.lock();
        loop {
            match &*state {
                State::Ended => return None,
                State::Changing => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        return None;
                    }
                }
                State::Mounted { session, since } => {
                    // `umount(8)` ends it too, and then the state doesn't know.
                    if matches!(session.mount_point().current(), Ok(Some(_))) && session.is_connected() {
                        return Some(*since);
                    }
                    *state = State::Idle;
                }
                State::Idle => {
                    *state = State::Changing;
                    drop(state);
                    // Whoever waits for the end of the change must not wait for ever.
                    let mounted = catch_unwind(AssertUnwindSafe(|| self.mount())).unwrap_or_else(|_| {
                        let source = io::Error::other("internal error, see the log");
                        Err(FuseError::io("mounting", Path::new(&self.options.fs_name), source))
                    });
                    state = self.state.lock();
                    *state = match mounted {
                        Ok(session) => State::Mounted { session: Arc::new(session), since: Instant::now() },
                        Err(error) => {
                            tracing::warn!(%error, "the snapshots can't be mounted");
                            self.changed.notify_all();
                            *state = State::Idle;
                            return None;
                        }
                    };
                    self.changed.notify_all();
                }
            }
        }
    }

    fn mount(&self) -> std::result::Result<Session, FuseError> {
        let mut options = self.options.validate()?;
        options.kind = MountKind::Snapshots;
        let mounted = match &self.place {
            Place::InTree => {
                let tree = self.tree.get().map(MountPoint::current).transpose()?.flatten();
                let gone = || FuseError::MountpointMissing { path: PathBuf::from(&self.options.fs_name) };
                mounting::mount_unchecked(tree.ok_or_else(gone)?.join(std::ffi::OsStr::from_bytes(NAME)), &options)?
            }
            Place::Outside(path) => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
                made.map_err(|source| FuseError::io("making", path, source))?;
                mounting::mount(path, &options)?
            }
        };
        let tree = Arc::new(SnapshotsTree::new(Arc::clone(&self.vfs), Arc::clone(&self.opened), self.door.clone()));
        Session::serve_mounted(Arc::new(Gated::new(tree, self.gate.clone())), mounted, &self.options)
    }

    /// The thread's whole life.
    fn unmount_when_idle(&self) {
        let mut state = self.state.lock();
        loop {
            let (session, since) = match &*state {
                State::Ended => return,
                State::Idle | State::Changing => {
                    self.changed.wait(&mut state);
                    continue;
                }
                State::Mounted { session, since } => (Arc::clone(session), *since),
            };
            if !self.changed.wait_for(&mut state, IDLE_INTERVAL).timed_out() {
                continue;
            }
            match &*state {
                State::Mounted { session: now, .. } if Arc::ptr_eq(now, &session) => {}
                State::Idle | State::Changing | State::Mounted { .. } | State::Ended => continue,
            }
            *state = State::Changing;
            drop(state);
            let expired = catch_unwind(AssertUnwindSafe(|| session.mount_point().expire()));
            let gone = match expired {
                Ok(Ok(gone)) => gone,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "idle snapshots stay mounted");
                    false
                }
                Err(_) => {
                    tracing::error!("unmounting idle snapshots panicked; it is tried again");
                    false
                }
            };
            state = self.state.lock();
            *state = if gone { State::Idle } else { State::Mounted { session, since } };
            self.changed.notify_all();
        }
    }
}
