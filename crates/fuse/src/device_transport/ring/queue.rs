//! The thread of one queue: takes requests out of entries, puts replies in, gives entries back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;
use zerocopy::FromBytes;

use super::entries::{Entries, Holder};
use super::finished::{Finished, FinishedReply, RingPort};
use super::submission::{self, CommandRing};
use crate::abi::InHeader;
use crate::device_transport::vigil::{Rush, Vigil};
use crate::tree::Tree;
use crate::wire::{Arguments, Server};

/// Tells the completion of the wake-up from those of entries.
const WAKE: u64 = u64::MAX;

/// One queue with its memory. The ring is dropped before the memory of its entries.
pub(super) struct Queue {
    ring: CommandRing,
    entries: Entries,
    core: u16,
    finished: Arc<Finished>,
}

/// What is done where requests come fast.
#[derive(Clone)]
pub(in crate::device_transport) struct Haste {
    /// A request came fast that came so soon.
    window: Duration,
    rush: Rush,
    vigil: Option<Arc<Vigil>>,
}

impl Haste {
    pub(in crate::device_transport) fn new(window: Duration, vigil: Option<Vigil>) -> Haste {
        Haste { window, rush: Rush::default(), vigil: vigil.map(Arc::new) }
    }

    /// Waits for a request on `core` by `wait`.
    fn wait<T>(&mut self, core: u16, wait: impl FnOnce() -> T) -> T {
        let Some(vigil) = &self.vigil else { return wait() };
        let begun = Instant::now();
        let waited = wait();
        let now = Instant::now();
        if now.duration_since(begun) >= self.window {
            self.rush.end();
        } else if self.rush.goes_on() {
            vigil.keep_awake(now, core.into());
        }
        waited
    }
}

/// What the ring completed: what of, and how.
type Completed = Vec<(u64, i32)>;

impl Queue {
    /// To be called by the thread that will serve it.
    pub(super) fn new(core: u16, entries: usize, finished: Arc<Finished>) -> io::Result<Queue> {
        let mut cores = CpuSet::new();
        cores.set(usize::from(core));
        if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
            tracing::info!(core, %error, "the ring's thread is not bound to its core");
        }
        finished.own();
        let mut builder = CommandRing::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        // One command for each entry, and the wake-up.
        let ring = builder.build((entries as u32 + 1).next_power_of_two())?;
        Ok(Queue { ring, entries: Entries::map(entries)?, core, finished })
    }

    /// Gives every entry to the kernel, says whether it took them, and serves until the connection is gone.
    ///
    /// # Errors
    /// The ring can't be waited for any more, and the connection is there.
    pub(super) fn serve<T: Tree>(
        mut self,
        device: &OwnedFd,
        server: &Server<T>,
        mut haste: Haste,
        say: impl FnOnce(io::Result<()>),
    ) -> io::Result<()> {
        let mut completed = Completed::new();
        let registered = self.register(device, &mut completed);
        let is_registered = registered.is_ok();
        say(registered);
        if is_registered { self.run(device, server, &mut haste, completed) } else { Ok(()) }
    }

    fn register(&mut self, device: &OwnedFd, completed: &mut Completed) -> io::Result<()> {
        submission::watch(&mut self.ring, self.finished.wake_fd(), WAKE)?;
        for entry in 0..self.entries.count() {
            let buffers = self.entries.buffers(entry);
            submission::register(&mut self.ring, device.as_fd(), self.core, entry, buffers)?;
            self.entries.give(entry, Holder::Kernel);
        }
        self.ring.submit()?;
        self.collect(completed);
        match completed.iter().find(|(user_data, result)| *user_data != WAKE && *result < 0) {
            Some((_, errno)) => Err(io::Error::from_raw_os_error(-errno)),
            None => Ok(()),
        }
    }

    fn run<T: Tree>(
        &mut self,
        device: &OwnedFd,
        server: &Server<T>,
        haste: &mut Haste,
        mut completed: Completed,
    ) -> io::Result<()> {
        let mut replies: Vec<FinishedReply> = Vec::new();
        while !self.finished.is_stopped() {
            for (user_data, result) in completed.drain(..) {
                match usize::try_from(user_data) {
                    Ok(entry) if user_data != WAKE => self.completed(entry, result, server),
                    _ => {
                        self.finished.clear_wake();
                        submission::watch(&mut self.ring, self.finished.wake_fd(), WAKE)?;
                    }
                }
            }
            self.entries.trim();
            self.finished.take(&mut replies);
            for reply in replies.drain(..) {
                let FinishedReply { entry, unique, errno, head, data } = reply;
                self.entries.reply(entry, unique, errno, &head, &data);
                self.entries.give(entry, Holder::Kernel);
                submission::commit(&mut self.ring, device.as_fd(), self.core, entry, unique)?;
            }
            if !self.entries.any_left() {
                break;
            }
            match haste.wait(self.core, || self.ring.submit_and_wait(1)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.collect(&mut completed);
        }
        Ok(())
    }

    fn collect(&mut self, completed: &mut Completed) {
        completed.extend(self.ring.completion().map(|completion| (completion.user_data(), completion.result())));
    }

    /// The kernel gave an entry back: with a request, or for good.
    fn completed<T: Tree>(&mut self, entry: usize, result: i32, server: &Server<T>) {
        if result < 0 {
            let error = io::Error::from_raw_os_error(-result);
            tracing::debug!(core = self.core, entry, %error, "an entry of the ring is gone");
            return self.entries.give(entry, Holder::Nobody);
        }
        debug_assert_eq!(self.entries.holder(entry), Holder::Kernel);
        self.entries.give(entry, Holder::Server);
        self.entries.note_use(entry, self.entries.request(entry).1.len());
        let (header, payload) = self.entries.request(entry);
        let Ok((request, _)) = InHeader::read_from_prefix(&header.in_out) else { return };
        let port = || RingPort { finished: self.finished.clone(), entry, unique: request.unique };
        if let Some(waiting) = server.serve(&request, Arguments::apart(&header.structure, payload), port) {
            server.queue(waiting);
        }
    }
}
