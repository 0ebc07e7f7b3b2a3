//! Copies a tree: one thread walks the source, several copy what it finds, one counts ahead.
//!
//! A copy grows below a name of its own. Something is whole once it has its times, which come last: a run that finds
//! size and time of a file as they are in the source leaves it alone, so that it goes on where another one ended.
//! What the source doesn't have is removed.

mod fault;
mod file;
mod links;
mod verify;
mod walk;

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{RecvTimeoutError, bounded};
use parking_lot::Mutex;
use rustix::io::Errno;
use verfs_vfs::FileKind;

pub(super) use self::fault::{Copied, Failures, Fault};
use self::links::Linked;
use self::verify::Unverified;
use super::progress::Counters;
use super::tree::{Made, Meta, Source, Target, Trouble};
use super::{Content, Verify};

/// Threads that copy: each waits for a disk most of the time.
const WORKERS: usize = 4;
/// Entries that wait for one of them.
const QUEUED: usize = 64;
/// How often the caller is asked whether to go on.
const LOOK: Duration = Duration::from_millis(100);
/// Failures that are kept to be told.
const TOLD_FAILURES: usize = 10;

/// Where the root of a copy goes.
pub(super) struct Place<N> {
    pub(super) directory: N,
    pub(super) name: Bytes,
}

/// A directory that is being copied. It is whole when nobody works in it any more.
struct Directory<S: Source, T: Target> {
    above: Option<Arc<Directory<S, T>>>,
    name: Bytes,
    source: S::Node,
    target: T::Node,
    /// None of the one that the copy is made in.
    meta: Option<Meta>,
    was_there: bool,
}

impl<S: Source, T: Target> Directory<S, T> {
    fn path(&self) -> PathBuf {
        let mut path = self.above.as_ref().map_or_else(PathBuf::new, |above| above.path());
        if self.above.as_ref().is_some_and(|above| above.meta.is_some()) {
            path.push(OsString::from_vec(self.name.to_vec()));
        }
        path
    }
}

/// Something that is to be copied.
struct Entry<S: Source, T: Target> {
    directory: Arc<Directory<S, T>>,
    name: Bytes,
    source: S::Node,
    meta: Meta,
}

impl<S: Source, T: Target> Entry<S, T> {
    fn path(&self) -> PathBuf {
        let mut path = self.directory.path();
        if self.directory.meta.is_some() {
            path.push(OsString::from_vec(self.name.to_vec()));
        }
        path
    }
}

/// A copy under way.
pub(super) struct Copy<'a, S: Source, T: Target> {
    pub(super) source: &'a S,
    pub(super) target: &'a T,
    pub(super) verify: Verify,
    pub(super) content: Content,
    pub(super) counters: &'a Counters,
    /// Whether a path from the root of the source is left out.
    pub(super) leaves_out: &'a (dyn Fn(&Path) -> bool + Sync),
    links: Mutex<HashMap<(u64, u64), Linked<S, T>>>,
    unverified: Mutex<Vec<Unverified<T::Node>>>,
    copied: Mutex<Copied>,
    stop: AtomicBool,
    fatal: Mutex<Option<Fault>>,
}

/// Starts a thread of a copy. What it was to have goes when it can't be started.
fn start<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    job: impl FnOnce() + Send + 'scope,
) -> Result<(), Errno> {
    let started = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, job);
    started.map(drop).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
}

impl<'a, S: Source, T: Target> Copy<'a, S, T> {
    pub(super) fn new(
        (source, target): (&'a S, &'a T),
        (verify, content): (Verify, Content),
        counters: &'a Counters,
        leaves_out: &'a (dyn Fn(&Path) -> bool + Sync),
    ) -> Self {
        Copy {
            source,
            target,
            verify,
            content,
            counters,
            leaves_out,
            links: Mutex::default(),
            unverified: Mutex::default(),
            copied: Mutex::default(),
            stop: AtomicBool::new(false),
            fatal: Mutex::default(),
        }
    }

    /// Copies what `root` is to `place`. Entries that can't be copied are in the result; what ends all is an error.
    pub(super) fn run(
        self,
        root: S::Node,
        place: Place<T::Node>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Copied, Fault> {
        let meta = self.source.meta(&root).map_err(Fault::Source)?;
        thread::scope(|scope| {
            let (running, ended) = bounded::<Infallible>(0);
            let (jobs, queue) = bounded::<Entry<S, T>>(QUEUED);
            let this = &self;
            let counted = (root.clone(), meta);
            let alive = running.clone();
            let count = start(scope, "verfs-copy-count", move || {
                this.count(counted);
                drop(alive);
            });
            let mut started = vec![count];
            for number in 0..WORKERS {
                let (queue, alive) = (queue.clone(), running.clone());
                started.push(start(scope, &format!("verfs-copy-{number}"), move || {
                    this.work(&queue);
                    drop(alive);
                }));
            }
            drop(queue);
            started.push(start(scope, "verfs-copy-walk", move || {
                if let Err(fault) = this.walk((root, meta), place, &jobs) {
                    this.give_up(fault);
                }
                drop((jobs, running));
            }));
            if let Some(errno) = started.into_iter().find_map(Result::err) {
                self.give_up(Fault::Target(Trouble::System(errno)));
            }
            loop {
                match ended.recv_timeout(LOOK) {
                    Ok(never) => match never {},
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        if go_on().is_break() {
                            self.give_up(Fault::Cancelled);
                        }
                    }
                }
            }
        });
        let rest = std::mem::take(&mut *self.unverified.lock());
        if !self.is_stopped() {
            self.verify(rest).unwrap_or_else(|fault| self.give_up(fault));
        }
        match self.fatal.into_inner() {
            Some(fault) => Err(fault),
            None => Ok(self.copied.into_inner()),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends everything, with the first reason that there is.
    fn give_up(&self, fault: Fault) {
        self.fatal.lock().get_or_insert(fault);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Notes that one entry could not be copied; an error ends all.
    fn fail(&self, path: PathBuf, fault: Fault) -> Result<(), Fault> {
        match fault {
            Fault::Cancelled => return Err(fault),
            Fault::Target(trouble) if trouble.ends_writing() => return Err(fault),
            Fault::Source(_) | Fault::Target(_) | Fault::Changed | Fault::Differs => {}
        }
        let mut copied = self.copied.lock();
        let failures = &mut copied.failures;
        match fault {
            Fault::Changed => failures.changed += 1,
            Fault::Differs => failures.differing += 1,
            Fault::Source(_) | Fault::Target(_) | Fault::Cancelled => failures.others += 1,
        }
        if failures.told.len() < TOLD_FAILURES {
            failures.told.push((path, fault));
        }
        Ok(())
    }

    fn finish(&self, source: &S::Node, target: &T::Node, meta: &Meta) -> Result<(), Fault> {
        let xattrs = self.source.xattrs(source).map_err(Fault::Source)?;
        self.target.finish(target, meta, &xattrs).map_err(Fault::Target)
    }

    /// What has the name of an entry in the target already.
    fn there(&self, entry: &Entry<S, T>) -> Result<Option<(T::Node, Meta)>, Trouble> {
        match entry.directory.was_there {
            true => self.target.find(&entry.directory.target, &entry.name),
            false => Ok(None),
        }
    }

    fn make(&self, entry: &Entry<S, T>, made: &Made) -> Result<T::Node, Fault> {
        self.target.make(&entry.directory.target, &entry.name, made, &entry.meta).map_err(Fault::Target)
    }

    /// Removes something with everything in it.
    fn remove_all(&self, directory: &T::Node, name: &Bytes, node: &T::Node, kind: FileKind) -> Result<(), Trouble> {
        if kind == FileKind::Directory {
            self.target.reopen(node, &self.target.meta(node)?)?;
            for (name, inner) in self.target.entries(node)? {
                let kind = self.target.meta(&inner)?.kind;
                self.remove_all(node, &name, &inner, kind)?;
            }
        }
        self.target.remove(directory, name, kind)
    }
}
