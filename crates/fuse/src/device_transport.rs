//! The transport over `/dev/fuse` itself: one leader reads requests into its buffer, replies are gathered from slices.

mod company;
mod notifier;
mod pacing;
mod port;
mod ring;
mod seat;
mod vigil;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use self::company::Company;
use self::notifier::DeviceNotifier;
use self::pacing::{Next, Pacing};
use self::port::DevicePort;
use self::ring::{Haste, PreparedRing, Ring};
use self::seat::Seat;
use self::vigil::Vigil;
use crate::abi::init;
use crate::dispatch::{Dispatcher, Waiting};
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
        let window = settings.poll_window;
        let vigil = if window.is_zero() { None } else { Vigil::on_two_cores() };
        let (ring, pacing) = match prepared {
            Some(prepared) => {
                let ring = prepared.register(&device, &server, Haste::new(window, vigil))?;
                (Some(ring), Pacing::new(Duration::ZERO, RunQueue::open(), None, machinery))
            }
            None => (None, Pacing::new(window, RunQueue::open(), vigil.map(Company::new), machinery)),
        };
        Ok(DeviceTransport { device, server, ring, pacing, buffer })
    }

    fn name(&self) -> &'static str {
        if self.ring.is_some() { "io_uring" } else { "device" }
    }

    fn notifier(&self) -> DeviceNotifier {
        DeviceNotifier::new(&self.device)
    }

    fn run(self) -> io::Result<()> {
        let DeviceTransport { device, server, ring, pacing, buffer } = self;
        let desk = Desk { device, server, pacing: Mutex::new(pacing), seat: Seat::default() };
        match ring {
            None => desk.serve(buffer),
            Some(ring) => match desk.serve_quietly(buffer) {
                Ok(()) => {
                    ring.wait();
                    Ok(())
                }
                Err(error) => {
                    ring.stop();
                    Err(error)
                }
            },
        }
    }
}

/// Where requests are taken from the device, by one thread at a time.
struct Desk<T: Tree> {
    device: Arc<OwnedFd>,
    server: Arc<Server<T>>,
    /// Of whoever leads.
    pacing: Mutex<Pacing>,
    seat: Seat,
}

/// Why a leader stopped to lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopped {
    /// The mount is gone.
    Gone,
    /// Another thread leads.
    Replaced,
}

/// Whichever way a thread of a desk ends, the other one must not wait for it.
struct Leaving<'a, T: Tree>(&'a Desk<T>);

impl<T: Tree> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        self.0.seat.end();
        if std::thread::panicking() {
            self.0.server.break_off();
        }
    }
}

impl<T: Tree> Desk<T> {
    /// Serves requests until the mount is gone.
    fn serve(&self, buffer: Vec<u8>) -> io::Result<()> {
        let buffer_bytes = buffer.len();
        std::thread::scope(|scope| {
            let second =
                std::thread::Builder::new().name("verfs-second".to_owned()).spawn_scoped(scope, move || {
                    let _leaving = Leaving(self);
                    // It takes no memory before it is used.
                    if self.succeed() { self.lead_in_turns(vec![0; buffer_bytes]) } else { Ok(()) }
                })?;
            let leaving = Leaving(self);
            let first = self.lead_in_turns(buffer);
            drop(leaving);
            let second = second.join().unwrap_or_else(|_| Err(io::Error::other("its leader panicked, see the log")));
            first.and(second)
        })
    }

    /// The same beside a ring.
    fn serve_quietly(&self, mut buffer: Vec<u8>) -> io::Result<()> {
        let mut pacing = self.pacing.lock();
        while let Some(waiting) = self.serve_one(&mut pacing, &mut buffer)? {
            if let Some(waiting) = waiting {
                self.server.queue(waiting);
            }
            std::thread::sleep(QUIET_INTERVAL);
        }
        Ok(())
    }

    fn lead_in_turns(&self, mut buffer: Vec<u8>) -> io::Result<()> {
        while self.lead(&mut buffer)? == Stopped::Replaced && self.succeed() {}
        Ok(())
    }

    /// Waits until this thread is to lead; false when the mount is gone.
    fn succeed(&self) -> bool {
        let took = self.seat.take();
        if took {
            self.pacing.lock().replaced();
        }
        took
    }

    fn lead(&self, buffer: &mut [u8]) -> io::Result<Stopped> {
        let mut pacing = self.pacing.lock();
        while let Some(waiting) = self.serve_one(&mut pacing, buffer)? {
            let Some(waiting) = waiting else { continue };
            let Some(departure) = pacing.may_leave().then(|| self.seat.leave()).flatten() else {
                self.server.queue(waiting);
                continue;
            };
            drop(pacing);
            let left = Instant::now();
            self.server.perform(waiting);
            if !self.seat.return_to(&departure) {
                return Ok(Stopped::Replaced);
            }
            pacing = self.pacing.lock();
            pacing.returned(left.elapsed());
        }
        Ok(Stopped::Gone)
    }

    /// Waits for a request and serves it; what is left of it has to wait for the store. Nothing when the mount is gone.
    fn serve_one(&self, pacing: &mut Pacing, buffer: &mut [u8]) -> io::Result<Option<Option<Waiting>>> {
        let Some(len) = self.receive(pacing, buffer)? else { return Ok(None) };
        let mut client = 0;
        let waiting = self.server.serve_bytes(&buffer[..len], |header| {
            client = header.pid;
            DevicePort::new(Arc::clone(&self.device), header.unique)
        });
        pacing.served(client);
        Ok(Some(waiting))
    }

    /// Waits for a request and says how long it is; `None` when the mount is gone.
    fn receive(&self, pacing: &mut Pacing, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut next = pacing.begin();
        loop {
            match next {
                Next::AskAgain => std::hint::spin_loop(),
                Next::Sleep => sleep(&self.device)?,
            }
            match rustix::io::read(&self.device, &mut *buffer) {
                Ok(len) => {
                    pacing.arrived();
                    return Ok(Some(len));
                }
                Err(Errno::AGAIN) => next = pacing.next(),
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
