//! The transport over `/dev/fuse` itself: one leader reads requests into one buffer, replies are gathered from slices.

mod notifier;
mod pacing;
mod port;
mod ring;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use self::notifier::DeviceNotifier;
use self::pacing::{Next, Pacing};
use self::port::DevicePort;
use self::ring::{PreparedRing, Ring};
use crate::abi::init;
use crate::dispatch::Dispatcher;
use crate::kernel;
use crate::options::PermissionChecks;
use crate::run_queue::RunQueue;
use crate::transport::{Polling, RingUse, Transport, TransportSettings};
use crate::tree::Tree;
use crate::wire::{self, Agreement, Server, Wishes};

/// Most bytes of a request beside the data of a WRITE; the kernel wants room for its largest structures.
const HEADERS_BYTES: usize = 4096;

/// With a ring the device has little to say, and nobody waits for an answer: its messages are read in heaps.
const QUIET_INTERVAL: Duration = Duration::from_millis(2);

/// A mount served through the device, and where asked for through a ring beside it.
pub(crate) struct DeviceTransport<T: Tree> {
    device: Arc<OwnedFd>,
    server: Arc<Server<T>>,
    ring: Option<Ring>,
    pacing: Pacing,
    buffer: Vec<u8>,
}

impl<T: Tree> Transport for DeviceTransport<T> {
    type Notifier = DeviceNotifier;
    type Tree = T;

    const POLLING: Polling = Polling::ByTransport;

    fn start(device: OwnedFd, dispatcher: Arc<Dispatcher<T>>, settings: &TransportSettings) -> io::Result<Self> {
        let mut buffer = vec![0; kernel::WRITE_MAX_BYTES as usize + HEADERS_BYTES];
        let (agreement, prepared) = shake_hands(&device, &mut buffer, settings)?;
        // Where nothing has come yet the leader decides itself whether it polls or sleeps.
        rustix::fs::fcntl_setfl(&device, OFlags::NONBLOCK)?;
        let machinery = dispatcher.machinery();
        let device = Arc::new(device);
        let server = Arc::new(Server::new(dispatcher, agreement.spared(), settings.permission_checks));
        let ring = prepared.map(|prepared| prepared.register(&device, &server)).transpose()?;
        let poll_window = if ring.is_some() { Duration::ZERO } else { settings.poll_window };
        let pacing = Pacing::new(poll_window, RunQueue::open(), machinery);
        Ok(DeviceTransport { device, server, ring, pacing, buffer })
    }

    fn name(&self) -> &'static str {
        if self.ring.is_some() { "io_uring" } else { "device" }
    }

    fn notifier(&self) -> DeviceNotifier {
        DeviceNotifier::new(&self.device)
    }

    fn run(mut self) -> io::Result<()> {
        let ended = self.receive_all();
        match (self.ring, &ended) {
            (Some(ring), Ok(())) => ring.wait(),
            (Some(ring), Err(_)) => ring.stop(),
            (None, _) => {}
        }
        ended
    }
}

impl<T: Tree> DeviceTransport<T> {
    fn receive_all(&mut self) -> io::Result<()> {
        while let Some(len) = self.receive()? {
            let device = &self.device;
            let mut client = 0;
            self.server.serve_bytes(&self.buffer[..len], |header| {
                client = header.pid;
                DevicePort::new(device.clone(), header.unique)
            });
            self.pacing.served(client);
            if self.ring.is_some() {
                std::thread::sleep(QUIET_INTERVAL);
            }
        }
        Ok(())
    }

    /// Waits for a request and says how long it is; `None` when the mount is gone.
    fn receive(&mut self) -> io::Result<Option<usize>> {
        self.pacing.begin();
        loop {
            match rustix::io::read(&self.device, self.buffer.as_mut_slice()) {
                Ok(len) => {
                    self.pacing.arrived();
                    return Ok(Some(len));
                }
                Err(Errno::AGAIN) => match self.pacing.next() {
                    Next::AskAgain => std::hint::spin_loop(),
                    Next::Sleep => sleep(&self.device)?,
                },
                // Whoever asked was killed before the request was read; or a signal came.
                Err(Errno::NOENT | Errno::INTR) => {}
                Err(Errno::NODEV) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn sleep(device: &OwnedFd) -> io::Result<()> {
    match rustix::event::poll(&mut [PollFd::new(device, PollFlags::IN)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Answers INIT. Whoever is answered that requests may come by a ring has to have one, so it is prepared before.
fn shake_hands<T: Tree>(
    device: &OwnedFd,
    buffer: &mut [u8],
    settings: &TransportSettings,
) -> io::Result<(Agreement, Option<PreparedRing<T>>)> {
    loop {
        let len = match rustix::io::read(device, &mut *buffer) {
            Ok(len) => len,
            Err(Errno::INTR | Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let request = &buffer[..len];
        let prepared = prepare_ring(request, settings.ring)?;
        let (over_ring, write_max_bytes) = match &prepared {
            Some(_) => (init::OVER_IO_URING, kernel::RING_PAYLOAD_BYTES),
            None => (0, kernel::WRITE_MAX_BYTES),
        };
        let checks = match settings.permission_checks {
            // The kernel takes it for a wish for `default_permissions`, too.
            PermissionChecks::Kernel => init::POSIX_ACL,
            PermissionChecks::Private => 0,
        };
        let wishes = Wishes { flags: over_ring | checks, write_max_bytes };
        match wire::agree(request, wishes) {
            wire::Answer::Agreed(agreement, reply) => {
                rustix::io::write(device, &reply)?;
                return Ok((agreement, prepared));
            }
            wire::Answer::Again(reply) => {
                rustix::io::write(device, &reply)?;
            }
            wire::Answer::Refused(error, reply) => {
                if let Some(reply) = reply {
                    rustix::io::write(device, &reply)?;
                }
                return Err(error);
            }
        }
    }
}

fn prepare_ring<T: Tree>(request: &[u8], ring: RingUse) -> io::Result<Option<PreparedRing<T>>> {
    match (ring, wire::offers_ring(request)) {
        (RingUse::Never, _) | (RingUse::WhereOffered, false) => Ok(None),
        (RingUse::Always, false) => Err(io::Error::other(
            "the kernel has FUSE over io_uring switched off: write Y to /sys/module/fuse/parameters/enable_uring",
        )),
        (RingUse::Always, true) => PreparedRing::new().map(Some),
        (RingUse::WhereOffered, true) => Ok(PreparedRing::new()
            .inspect_err(
                |error| tracing::warn!(%error, "the kernel offers io_uring, but there is no ring: the device it is"),
            )
            .ok()),
    }
}
