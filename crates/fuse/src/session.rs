//! A mounted tree from INIT to the end.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::connection::Connection;
use crate::device_transport::DeviceTransport;
use crate::dispatch::{Dispatcher, Machinery};
use crate::error::FuseError;
use crate::fuser_transport::FuserTransport;
use crate::kernel;
use crate::lanes::Lanes;
use crate::mounting::{self, AbortSwitch, MountPoint, Mounted, Unmounting};
use crate::notify::{Invalidation, NotifierThread};
use crate::options::{MountOptions, SessionOptions, TransportChoice};
use crate::polling::Poller;
use crate::run_queue::RunQueue;
use crate::stats::{SessionStats, Stats};
use crate::transport::{Polling, RingUse, Transport, TransportSettings};
use crate::tree::Tree;

/// A mounted tree. Dropping it detaches the mount without waiting; whoever has files open is still served.
pub struct Session {
    mount: MountPoint,
    machinery: Arc<Machinery>,
    notifier: Arc<NotifierThread>,
    transport: &'static str,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Session {
    /// Mounts `tree` at `mountpoint`, an empty directory, and returns when the kernel can ask. A stale mount of a dead
    /// VerFS daemon there is detached first. A tree is mounted once at a time: its pins are this session's.
    ///
    /// # Errors
    /// One [`FuseError`] for each thing that may be wrong. Nothing is mounted then.
    pub fn mount<T: Tree>(tree: Arc<T>, mountpoint: &Path, options: &SessionOptions) -> Result<Session, FuseError> {
        let mounted = mounting::mount(mountpoint, &options.validate()?)?;
        Session::serve_mounted(tree, mounted, options)
    }

    /// Serves what is mounted, or takes the mount away.
    pub(crate) fn serve_mounted<T: Tree>(
        tree: Arc<T>,
        Mounted { device, mount }: Mounted,
        options: &SessionOptions,
    ) -> Result<Session, FuseError> {
        let options = options.validate().map(|valid| (options, valid));
        let served = options.and_then(|(options, valid)| match valid.transport {
            TransportChoice::Fuser => Session::serve::<FuserTransport<T>>(tree, device, mount.clone(), options, &valid),
            TransportChoice::Auto | TransportChoice::Device | TransportChoice::IoUring => {
                Session::serve::<DeviceTransport<T>>(tree, device, mount.clone(), options, &valid)
            }
        });
        if served.is_err()
            && let Err(error) = mounting::detach(&mount.path)
        {
            tracing::error!(%error, "a mount that can't be served stays");
        }
        served
    }

    fn serve<R: Transport>(
        tree: Arc<R::Tree>,
        device: OwnedFd,
        mount: MountPoint,
        options: &SessionOptions,
        mount_options: &MountOptions,
    ) -> Result<Session, FuseError> {
        let failed = |action: &'static str| {
            let path = mount.path.clone();
            move |source: io::Error| FuseError::Io { action, path, source }
        };
        let poll_window = Duration::from_micros(options.poll_us.into());
        let ring = match mount_options.transport {
            TransportChoice::Auto => RingUse::WhereOffered,
            TransportChoice::Device | TransportChoice::Fuser => RingUse::Never,
            TransportChoice::IoUring => RingUse::Always,
        };
        let settings = TransportSettings {
            allow_other: mount_options.allow_other,
            permission_checks: mount_options.permission_checks,
            poll_window,
            ring,
        };
        let connection = Connection::new(device.try_clone().map_err(failed("serving"))?);
        let lanes = Lanes::start(options).map_err(failed("starting threads for"))?;
        let poller = match R::POLLING {
            Polling::ByTransport => Ok(None),
            Polling::ByDeviceFlag => {
                device.try_clone().and_then(|polled| Poller::start(polled, poll_window, RunQueue::open())).map(Some)
            }
        };
        let machinery = Arc::new(Machinery {
            poller: poller.inspect_err(|_| lanes.stop()).map_err(failed("starting threads for"))?,
            lanes,
            stats: Stats::new(),
            polls_started: AtomicU64::new(0),
            connection,
            access_times: mount_options.access_times(),
            notifier: OnceLock::new(),
            abort_switch: OnceLock::new(),
            is_broken: AtomicBool::new(false),
        });
        let dispatcher = Arc::new(Dispatcher::new(tree.clone(), machinery.clone()));
        let started = R::start(device, dispatcher, &settings).and_then(|transport| {
            let notifier = Arc::new(NotifierThread::start(transport.notifier())?);
            // It is set once.
            let _ = machinery.notifier.set(Box::new(transport.notifier()));
            Ok((transport, notifier))
        });
        let (transport, notifier) = started.inspect_err(|_| machinery.stop()).map_err(failed("serving"))?;
        // It is set once.
        let _ = machinery.abort_switch.set(AbortSwitch::open(&mount));
        if machinery.is_broken.load(Ordering::SeqCst) {
            machinery.break_off();
        }
        let transport_name = transport.name();
        if let Err(error) = mount.raise_read_ahead(kernel::READ_AHEAD_KIB) {
            tracing::debug!(%error, "the read-ahead window stays as it is");
        }
        let thread = std::thread::Builder::new().name("verfs-session".to_owned()).spawn({
            let (machinery, notifier, mount) = (machinery.clone(), notifier.clone(), mount.clone());
            move || {
                // A defect there must not leave a mount that nobody serves.
                let ended = catch_unwind(AssertUnwindSafe(|| transport.run()))
                    .unwrap_or_else(|_| Err(io::Error::other("its leader panicked, see the log")))
                    .and_then(|()| match machinery.is_broken.load(Ordering::SeqCst) {
                        true => Err(io::Error::other("a thread of it ended, see the log")),
                        false => Ok(()),
                    });
                machinery.stop();
                notifier.stop();
                // The kernel says nothing of what it forgets by an unmount.
                tree.forget_all();
                if let Err(error) = ended {
                    // The device is closed, so the mount would only give ENOTCONN.
                    tracing::error!(%error, path = %mount.path.display(), "the session broke off: detaching the mount");
                    if let Err(error) = mount.unmount() {
                        tracing::error!(%error, "it could not be detached");
                    }
                }
            }
        });
        match thread {
            Ok(thread) => {
                Ok(Session { mount, machinery, notifier, transport: transport_name, thread: Mutex::new(Some(thread)) })
            }
            Err(error) => {
                machinery.stop();
                notifier.stop();
                Err(failed("starting threads for")(error))
            }
        }
    }

    /// Where it is mounted, without symlinks.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mount.path
    }

    /// The mount.
    pub(crate) fn mount_point(&self) -> &MountPoint {
        &self.mount
    }

    /// Whether the kernel still holds the connection: not after `umount(8)`, unless somebody uses the mount still.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.machinery.connection.is_alive()
    }

    /// Unmounts, and returns when every request is answered and every thread has ended. A mount that is in use is
    /// detached: it leaves the tree of names at once, and this waits until the last file in it is closed.
    ///
    /// # Errors
    /// The system refuses to unmount; then it is still mounted and served.
    pub fn unmount(&self) -> Result<(), FuseError> {
        self.detach()?;
        self.wait();
        Ok(())
    }

    /// Takes the mount out of the tree of names without waiting. Says whether it was idle; if not, whoever has files
    /// open is served until he closes them.
    ///
    /// # Errors
    /// The system refuses to unmount; then it is still mounted and served.
    pub fn detach(&self) -> Result<bool, FuseError> {
        if !self.is_connected() {
            return Ok(true);
        }
        Ok(self.mount.unmount()? == Unmounting::Done)
    }

    /// Cuts the connection to the kernel: who still has files open gets ENOTCONN from now on. For a daemon that must
    /// go while a detached mount is in use.
    ///
    /// # Errors
    /// The kernel's control file system of FUSE connections was not there, or not permitted, at the time of the mount.
    pub fn abort(&self) -> Result<(), FuseError> {
        let result = match self.machinery.abort_switch.get() {
            Some(Ok(switch)) => switch.abort(),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        result.map_err(|source| FuseError::io("aborting the connection of", &self.mount.path, source))
    }

    /// Waits until the session ended: by [`Session::unmount`], by `umount(8)`, or because the connection broke.
    pub fn wait(&self) {
        // Whoever comes second waits for the lock instead.
        let mut thread = self.thread.lock();
        if let Some(handle) = thread.take()
            && handle.join().is_err()
        {
            tracing::error!("the session's thread panicked");
        }
    }

    /// Tells the kernel that something changed, but not through the mount. Returns before the kernel has been told;
    /// waits only when a thousand are queued, so never call it while you hold a lock that operations need.
    pub fn invalidate(&self, invalidation: Invalidation) {
        self.notifier.send(invalidation);
    }

    /// As [`Session::invalidate`], for many, and returns when the kernel has been told: it waits for requests under way.
    pub fn invalidate_all(&self, invalidations: impl IntoIterator<Item = Invalidation>) {
        invalidations.into_iter().for_each(|invalidation| self.notifier.send(invalidation));
        self.notifier.wait_told();
    }

    /// Counters and latencies since the mount.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        SessionStats {
            operations: self.machinery.stats.operations(),
            lanes: self.machinery.lanes.stats(),
            transport: self.transport,
            polls_started: self.machinery.polls_started(),
            overdue: self.machinery.lanes.deadlines().overdue(),
            refused: self.machinery.lanes.deadlines().refused(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            tracing::error!(%error, "a dropped session stays mounted");
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("mount", &self.mount).finish_non_exhaustive()
    }
}

impl Machinery {
    /// Finishes what is queued and ends every thread.
    fn stop(&self) {
        self.lanes.stop();
        if let Some(poller) = &self.poller {
            poller.stop();
        }
        self.connection.close();
    }

    fn polls_started(&self) -> u64 {
        match &self.poller {
            Some(poller) => poller.polls_started(),
            None => self.polls_started.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use verfs_base::{RealDisk, SystemClock};
    use verfs_chunker::{ChunkSizes, ChunkerKind};
    use verfs_meta::MemoryStore;
    use verfs_store::{ChunkStore, StoreOptions};
    use verfs_vfs::{Vfs, VfsOptions, VfsParts};

    use super::*;
    use crate::transport::Polling;

    /// A leader with a defect.
    struct Panicking(DeviceTransport<Vfs>);

    impl Transport for Panicking {
        type Notifier = <DeviceTransport<Vfs> as Transport>::Notifier;
        type Tree = Vfs;

        const POLLING: Polling = Polling::ByTransport;

        fn start(
            device: OwnedFd,
            dispatcher: Arc<Dispatcher<Vfs>>,
            settings: &TransportSettings,
        ) -> io::Result<Panicking> {
            DeviceTransport::start(device, dispatcher, settings).map(Panicking)
        }

        fn name(&self) -> &'static str {
            self.0.name()
        }

        fn notifier(&self) -> Self::Notifier {
            self.0.notifier()
        }

        fn run(self) -> io::Result<()> {
            panic!("on purpose");
        }
    }

    fn tree(folder: &Path) -> Arc<Vfs> {
        let disk = Arc::new(RealDisk::new(folder.to_path_buf()));
        let (meta, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock::new()));
        let store = ChunkStore::open(disk.clone(), meta.clone(), &[7; 192], clock.clone(), StoreOptions::default());
        let sizes = ChunkSizes::for_mean(ChunkerKind::Min, 8192).unwrap();
        let chunker = verfs_chunker::chunker(ChunkerKind::Min, sizes).unwrap();
        Vfs::open(VfsParts { disk, meta, store: store.unwrap(), chunker, clock }, VfsOptions::default()).unwrap()
    }

    /// One of whose threads ends by a defect while the leader waits for requests.
    struct Breaking(DeviceTransport<Vfs>, Arc<Machinery>);

    impl Transport for Breaking {
        type Notifier = <DeviceTransport<Vfs> as Transport>::Notifier;
        type Tree = Vfs;

        const POLLING: Polling = Polling::ByTransport;

        fn start(
            device: OwnedFd,
            dispatcher: Arc<Dispatcher<Vfs>>,
            settings: &TransportSettings,
        ) -> io::Result<Breaking> {
            let machinery = dispatcher.machinery();
            DeviceTransport::start(device, dispatcher, settings).map(|transport| Breaking(transport, machinery))
        }

        fn name(&self) -> &'static str {
            self.0.name()
        }

        fn notifier(&self) -> Self::Notifier {
            self.0.notifier()
        }

        fn run(self) -> io::Result<()> {
            let Breaking(transport, machinery) = self;
            let thread = std::thread::spawn(move || machinery.break_off());
            let ended = transport.run();
            thread.join().unwrap();
            ended
        }
    }

    #[test]
    fn a_thread_of_a_transport_that_ends_takes_the_mount_away() {
        let folder = tempfile::Builder::new().prefix("verfs-fuse-").tempdir().unwrap();
        let mountpoint = folder.path().join("mount");
        std::fs::create_dir(&mountpoint).unwrap();
        let options = SessionOptions::default();
        let valid = options.validate().unwrap();
        let Mounted { device, mount } = mounting::mount(&mountpoint, &valid).unwrap();
        let session = Session::serve::<Breaking>(tree(folder.path()), device, mount, &options, &valid).unwrap();
        let (ended, ends) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                session.wait();
                ended.send(()).unwrap();
            });
            let in_time = ends.recv_timeout(Duration::from_secs(30));
            if in_time.is_err() {
                // Only for this test to end.
                session.abort().unwrap();
            }
            in_time.unwrap();
        });
        assert!(!session.is_connected());
        assert_eq!(std::fs::read_dir(&mountpoint).unwrap().count(), 0);
        std::fs::remove_dir(&mountpoint).unwrap();
    }

    #[test]
    fn a_leader_that_panics_takes_its_mount_away_with_it() {
        let folder = tempfile::Builder::new().prefix("verfs-fuse-").tempdir().unwrap();
        let mountpoint = folder.path().join("mount");
        std::fs::create_dir(&mountpoint).unwrap();
        let options = SessionOptions::default();
        let valid = options.validate().unwrap();
        let Mounted { device, mount } = mounting::mount(&mountpoint, &valid).unwrap();
        let session = Session::serve::<Panicking>(tree(folder.path()), device, mount, &options, &valid).unwrap();
        session.wait();
        assert!(!session.is_connected());
        // Who looks there finds the empty directory, and waits for nobody.
        assert_eq!(std::fs::read_dir(&mountpoint).unwrap().count(), 0);
        std::fs::remove_dir(&mountpoint).unwrap();
    }
}
