//! The transport over `/dev/fuse` itself: one leader reads requests into one buffer, replies are gathered from slices.

mod notifier;
mod pacing;
mod port;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use self::notifier::DeviceNotifier;
use self::pacing::{Next, Pacing};
use self::port::DevicePort;
use crate::dispatch::Dispatcher;
use crate::kernel;
use crate::run_queue::RunQueue;
use crate::transport::{Polling, Transport, TransportSettings};
use crate::tree::Tree;
use crate::wire::{self, Agreement, Server};

/// Most bytes of a request beside the data of a WRITE; the kernel wants room for its largest structures.
const HEADERS_BYTES: usize = 4096;

/// A mount served through the device.
pub(crate) struct DeviceTransport<T: Tree> {
    device: Arc<OwnedFd>,
    server: Server<T>,
    pacing: Pacing,
    buffer: Vec<u8>,
}

impl<T: Tree> Transport for DeviceTransport<T> {
    type Notifier = DeviceNotifier;
    type Tree = T;

    const NAME: &'static str = "device";
    const POLLING: Polling = Polling::ByTransport;

    fn start(device: OwnedFd, dispatcher: Arc<Dispatcher<T>>, settings: &TransportSettings) -> io::Result<Self> {
        let mut buffer = vec![0; kernel::WRITE_MAX_BYTES as usize + HEADERS_BYTES];
        let agreement = shake_hands(&device, &mut buffer)?;
        // Where nothing has come yet the leader decides itself whether it polls or sleeps.
        rustix::fs::fcntl_setfl(&device, OFlags::NONBLOCK)?;
        let pacing = Pacing::new(settings.poll_window, RunQueue::open(), dispatcher.machinery());
        let server = Server::new(dispatcher, agreement.spared());
        Ok(DeviceTransport { device: Arc::new(device), server, pacing, buffer })
    }

    fn notifier(&self) -> DeviceNotifier {
        DeviceNotifier::new(&self.device)
    }

    fn run(mut self) -> io::Result<()> {
        while let Some(len) = self.receive()? {
            let device = &self.device;
            self.server.serve_bytes(&self.buffer[..len], |header| DevicePort::new(device.clone(), header.unique));
        }
        Ok(())
    }
}

impl<T: Tree> DeviceTransport<T> {
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

/// Answers INIT.
fn shake_hands(device: &OwnedFd, buffer: &mut [u8]) -> io::Result<Agreement> {
    loop {
        let len = match rustix::io::read(device, &mut *buffer) {
            Ok(len) => len,
            Err(Errno::INTR | Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        match wire::agree(&buffer[..len], 0) {
            wire::Answer::Agreed(agreement, reply) => {
                rustix::io::write(device, &reply)?;
                return Ok(agreement);
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
