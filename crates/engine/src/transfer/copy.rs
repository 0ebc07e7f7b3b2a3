//! Copies a tree: one thread walks the source, several copy what it finds, one counts ahead.
//!
//! A copy grows below a name of its own. Something is whole once it has its times, which come last: a run that finds
//! size and time of a file as they are in the source leaves it alone, so that it goes on where another one ended.
//! What the source doesn't have is removed.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use rustix::io::Errno;
use verfs_vfs::FileKind;

use super::digest::Digest;
use super::progress::Counters;
use super::tree::{Go, Made, Meta, Source, Target, Trouble};
use super::{Content, Verify};

/// Threads that copy: each waits for a disk most of the time.
const WORKERS: usize = 4;
/// Entries that wait for one of them.
const QUEUED: usize = 64;
/// How often the caller is asked whether to go on.
const LOOK: Duration = Duration::from_millis(100);
/// How often a file is tried that changes while it is read.
const TRIES: usize = 3;
/// Bytes of files that are looked at again at once.
const VERIFIED_BYTES: u64 = 256 << 20;
/// Failures that are kept to be told.
const TOLD_FAILURES: usize = 10;

/// Why something was not copied.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It can't be read.
    Source(Trouble),
    /// It can't be written.
    Target(Trouble),
    /// It changed while it was read.
    Changed,
    /// What is stored is not what was read.
    Differs,
    /// The caller ended it.
    Cancelled,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Source(trouble) => write!(f, "cannot be read: {trouble}"),
            Fault::Target(trouble) => write!(f, "cannot be written: {trouble}"),
            Fault::Changed => write!(f, "changed while it was read"),
            Fault::Differs => write!(f, "is not stored as it was read"),
            Fault::Cancelled => write!(f, "was cancelled"),
        }
    }
}

/// What went wrong with entries, while the others were copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    pub(super) changed: u64,
    pub(super) differing: u64,
    pub(super) others: u64,
    /// The first of them: paths from the root of the source, and what happened.
    pub(super) told: Vec<(PathBuf, Fault)>,
}

/// How a copy ended that was not given up.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) failures: Failures,
    /// What was left out: the volume itself, and where it is mounted.
    pub(super) left_out: Vec<PathBuf>,
}

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
            path.push(std::ffi::OsString::from_vec(self.name.to_vec()));
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
            path.push(std::ffi::OsString::from_vec(self.name.to_vec()));
        }
        path
    }
}

/// What became of something with several names.
enum Linked<S: Source, T: Target> {
    /// Its first name is being copied; these wait for it.
    Growing(Vec<Entry<S, T>>),
    /// It is there, and so many of its names are not yet.
    There { node: T::Node, left: u32 },
}

/// What a name of something with several names is to do.
enum Claim<N> {
    First,
    Link(N),
    Waits,
}

/// A file that is to be looked at again.
struct Unverified<N> {
    node: N,
    size: u64,
    digest: u128,
    path: PathBuf,
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

/// Lets go of a directory. Who is the last one gets those that are whole now, from the inside out.
fn released<S: Source, T: Target>(directory: Arc<Directory<S, T>>) -> Vec<Directory<S, T>> {
    let mut whole = Vec::new();
    let mut next = Some(directory);
    while let Some(mut one) = next.and_then(Arc::into_inner) {
        next = one.above.take();
        whole.push(one);
    }
    whole
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

    /// Counts everything, ahead of those who copy it. What it can't read they tell.
    fn count(&self, (root, meta): (S::Node, Meta)) {
        self.counters.saw(&meta);
        let mut waiting = Vec::new();
        if meta.kind == FileKind::Directory {
            waiting.push((root, PathBuf::new()));
        }
        while let Some((directory, path)) = waiting.pop() {
            if self.is_stopped() {
                return;
            }
            for (name, node) in self.source.entries(&directory).unwrap_or_default() {
                let path = path.join(std::ffi::OsString::from_vec(name.to_vec()));
                if (self.leaves_out)(&path) {
                    continue;
                }
                if let Ok(meta) = self.source.meta(&node) {
                    self.counters.saw(&meta);
                    if meta.kind == FileKind::Directory {
                        waiting.push((node, path));
                    }
                }
            }
        }
        self.counters.saw_all();
    }

    fn walk(
        &self,
        (source, meta): (S::Node, Meta),
        Place { directory, name }: Place<T::Node>,
        jobs: &Sender<Entry<S, T>>,
    ) -> Result<(), Fault> {
        let place = Arc::new(Directory {
            above: None,
            name: Bytes::new(),
            source: source.clone(),
            target: directory,
            meta: None,
            was_there: true,
        });
        let mut stack = Vec::new();
        self.begin(Entry { directory: place, name, source, meta }, jobs, &mut stack)?;
        while let Some(directory) = stack.pop() {
            self.enter(&directory, jobs, &mut stack).or_else(|fault| self.fail(directory.path(), fault))?;
            self.release(directory)?;
        }
        Ok(())
    }

    /// Makes a directory, to be entered later, or hands anything else to those who copy.
    fn begin(
        &self,
        entry: Entry<S, T>,
        jobs: &Sender<Entry<S, T>>,
        stack: &mut Vec<Arc<Directory<S, T>>>,
    ) -> Result<(), Fault> {
        if self.is_stopped() {
            return Err(Fault::Cancelled);
        }
        if entry.meta.kind == FileKind::Directory {
            match self.make_directory(&entry) {
                Ok(directory) => stack.push(Arc::new(directory)),
                Err(fault) => self.fail(entry.path(), fault)?,
            }
            return self.release(entry.directory);
        }
        // Those who copy are gone only when all is given up.
        jobs.send(entry).map_err(|_| Fault::Cancelled)
    }

    fn make_directory(&self, entry: &Entry<S, T>) -> Result<Directory<S, T>, Fault> {
        let there = self.there(entry).map_err(Fault::Target)?;
        let (target, was_there) = match there {
            Some((node, meta)) if meta.kind == FileKind::Directory => {
                self.target.reopen(&node, &meta).map_err(Fault::Target)?;
                (node, true)
            }
            Some((node, meta)) => {
                self.remove_all(&entry.directory.target, &entry.name, &node, meta.kind).map_err(Fault::Target)?;
                (self.make(entry, &Made::Directory)?, false)
            }
            None => (self.make(entry, &Made::Directory)?, false),
        };
        Ok(Directory {
            above: Some(Arc::clone(&entry.directory)),
            name: entry.name.clone(),
            source: entry.source.clone(),
            target,
            meta: Some(entry.meta),
            was_there,
        })
    }

    fn enter(
        &self,
        directory: &Arc<Directory<S, T>>,
        jobs: &Sender<Entry<S, T>>,
        stack: &mut Vec<Arc<Directory<S, T>>>,
    ) -> Result<(), Fault> {
        let entries = self.source.entries(&directory.source).map_err(Fault::Source)?;
        if directory.was_there {
            let names: HashSet<&Bytes> = entries.iter().map(|(name, _)| name).collect();
            let there = self.target.entries(&directory.target).map_err(Fault::Target)?;
            for (name, node) in there.iter().filter(|(name, _)| !names.contains(name)) {
                let kind = self.target.meta(node).map_err(Fault::Target)?.kind;
                self.remove_all(&directory.target, name, node, kind).map_err(Fault::Target)?;
            }
        }
        for (name, source) in entries {
            let path = directory.path().join(std::ffi::OsString::from_vec(name.to_vec()));
            if (self.leaves_out)(&path) {
                self.copied.lock().left_out.push(path);
                continue;
            }
            match self.source.meta(&source) {
                Ok(meta) => self.begin(Entry { directory: Arc::clone(directory), name, source, meta }, jobs, stack)?,
                Err(trouble) if trouble.is_absence() => self.fail(path, Fault::Changed)?,
                Err(trouble) => self.fail(path, Fault::Source(trouble))?,
            }
        }
        Ok(())
    }

    /// Lets go of a directory; whoever is the last gives it its attributes, and those above that are whole then.
    fn release(&self, directory: Arc<Directory<S, T>>) -> Result<(), Fault> {
        for whole in released(directory) {
            let Some(meta) = &whole.meta else { continue };
            if self.is_stopped() {
                continue;
            }
            let finished = self.finish(&whole.source, &whole.target, meta);
            // Its path can't be told any more: what it was in was let go of with it.
            finished
                .or_else(|fault| self.fail(PathBuf::from(std::ffi::OsString::from_vec(whole.name.to_vec())), fault))?;
            self.counters.copied(meta);
        }
        Ok(())
    }

    fn finish(&self, source: &S::Node, target: &T::Node, meta: &Meta) -> Result<(), Fault> {
        let xattrs = self.source.xattrs(source).map_err(Fault::Source)?;
        self.target.finish(target, meta, &xattrs).map_err(Fault::Target)
    }

    /// Copies what the walk finds, until there is no more. After the end of all it only lets go.
    fn work(&self, queue: &Receiver<Entry<S, T>>) {
        for entry in queue {
            if self.is_stopped() {
                continue;
            }
            if let Err(fault) = self.copy_and_release(entry) {
                self.give_up(fault);
            }
        }
    }

    fn copy_and_release(&self, entry: Entry<S, T>) -> Result<(), Fault> {
        if entry.meta.names < 2 {
            self.copy_entry(&entry).map(drop).or_else(|fault| self.fail(entry.path(), fault))?;
            return self.release(entry.directory);
        }
        let (identity, meta) = (entry.meta.identity, entry.meta);
        let (claim, entry) = self.claim(entry);
        match (claim, entry) {
            (Claim::Waits, _) | (_, None) => Ok(()),
            (Claim::Link(node), Some(entry)) => self.link(&node, entry),
            (Claim::First, Some(entry)) => {
                let made = self.copy_entry(&entry);
                let waiting = {
                    let mut links = self.links.lock();
                    let waiting = match links.remove(&identity) {
                        Some(Linked::Growing(waiting)) => waiting,
                        Some(Linked::There { .. }) | None => Vec::new(),
                    };
                    let left = meta.names.saturating_sub(1 + waiting.len() as u32);
                    if let Ok(node) = &made
                        && left > 0
                    {
                        links.insert(identity, Linked::There { node: node.clone(), left });
                    }
                    waiting
                };
                match made {
                    Ok(node) => {
                        self.release(entry.directory)?;
                        waiting.into_iter().try_for_each(|other| self.link(&node, other))
                    }
                    Err(fault) => {
                        self.fail(entry.path(), fault)?;
                        self.release(entry.directory)?;
                        // The next of its names is the first one now.
                        waiting.into_iter().try_for_each(|other| self.copy_and_release(other))
                    }
                }
            }
        }
    }

    /// Whether this name makes the thing, links to it, or waits for who makes it.
    fn claim(&self, entry: Entry<S, T>) -> (Claim<T::Node>, Option<Entry<S, T>>) {
        let mut links = self.links.lock();
        let identity = entry.meta.identity;
        match links.get_mut(&identity) {
            None => {
                links.insert(identity, Linked::Growing(Vec::new()));
                (Claim::First, Some(entry))
            }
            Some(Linked::Growing(waiting)) => {
                waiting.push(entry);
                (Claim::Waits, None)
            }
            Some(Linked::There { node, left }) => {
                let node = node.clone();
                *left -= 1;
                if *left == 0 {
                    links.remove(&identity);
                }
                (Claim::Link(node), Some(entry))
            }
        }
    }

    fn link(&self, node: &T::Node, entry: Entry<S, T>) -> Result<(), Fault> {
        let linked = (|| {
            if let Some((old, meta)) = self.there(&entry)? {
                if meta.identity == self.target.meta(node)?.identity {
                    return Ok(());
                }
                self.remove_all(&entry.directory.target, &entry.name, &old, meta.kind)?;
            }
            self.target.link(node, &entry.directory.target, &entry.name)
        })();
        match linked {
            Ok(()) => self.counters.copied(&entry.meta),
            Err(trouble) => self.fail(entry.path(), Fault::Target(trouble))?,
        }
        self.release(entry.directory)
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

    /// Copies anything but a directory.
    fn copy_entry(&self, entry: &Entry<S, T>) -> Result<T::Node, Fault> {
        let there = self.there(entry).map_err(Fault::Target)?;
        let made = match entry.meta.kind {
            FileKind::Regular => return self.copy_file(entry, there),
            FileKind::Symlink => Made::Symlink(self.source.link_target(&entry.source).map_err(Fault::Source)?),
            FileKind::Fifo => Made::Fifo,
            FileKind::Socket => Made::Socket,
            FileKind::CharDevice => Made::CharDevice(entry.meta.device),
            FileKind::BlockDevice => Made::BlockDevice(entry.meta.device),
            FileKind::Directory => return Err(Fault::Changed),
        };
        let node = match there {
            Some((node, meta)) if self.is_same(&node, &meta, entry, &made).map_err(Fault::Target)? => node,
            Some((node, meta)) => {
                self.remove_all(&entry.directory.target, &entry.name, &node, meta.kind).map_err(Fault::Target)?;
                self.make(entry, &made)?
            }
            None => self.make(entry, &made)?,
        };
        self.finish(&entry.source, &node, &entry.meta)?;
        self.counters.copied(&entry.meta);
        Ok(node)
    }

    /// Whether something that has no data is what it is to be already, its attributes aside.
    fn is_same(&self, node: &T::Node, meta: &Meta, entry: &Entry<S, T>, made: &Made) -> Result<bool, Trouble> {
        if meta.kind != entry.meta.kind || (meta.names > 1 && entry.meta.names < 2) {
            return Ok(false);
        }
        match made {
            Made::Symlink(target) => Ok(self.target.link_target(node)? == *target),
            Made::CharDevice(device) | Made::BlockDevice(device) => Ok(meta.device == *device),
            Made::File | Made::Directory | Made::Fifo | Made::Socket => Ok(true),
        }
    }

    fn copy_file(&self, entry: &Entry<S, T>, there: Option<(T::Node, Meta)>) -> Result<T::Node, Fault> {
        if let Some((node, old)) = there {
            if self.is_whole(&node, &old, entry)? {
                self.finish(&entry.source, &node, &entry.meta)?;
                self.counters.was_there(&entry.meta);
                return Ok(node);
            }
            self.remove_all(&entry.directory.target, &entry.name, &node, old.kind).map_err(Fault::Target)?;
        }
        let mut meta = entry.meta;
        for _ in 0..TRIES {
            let node = self.make(entry, &Made::File)?;
            let written = self.write_file(entry, &node, &meta);
            let digest = match written {
                Ok(digest) => digest,
                Err(fault) => {
                    // What is there of it is not whole, and nobody is to take it for that.
                    let _nothing_more_can_be_done =
                        self.target.remove(&entry.directory.target, &entry.name, FileKind::Regular);
                    return Err(fault);
                }
            };
            let now = match self.source.meta(&entry.source) {
                Ok(now) => now,
                Err(trouble) if trouble.is_absence() => return self.changed(entry),
                Err(trouble) => return Err(Fault::Source(trouble)),
            };
            if meta.is_unchanged(&now) {
                self.finish(&entry.source, &node, &meta)?;
                self.counters.copied(&meta);
                if self.verify == Verify::Yes {
                    let size = meta.size;
                    self.look_again(Unverified { node: node.clone(), size, digest, path: entry.path() })?;
                }
                return Ok(node);
            }
            self.target.remove(&entry.directory.target, &entry.name, FileKind::Regular).map_err(Fault::Target)?;
            if now.kind != FileKind::Regular {
                return Err(Fault::Changed);
            }
            meta = now;
        }
        Err(Fault::Changed)
    }

    fn changed(&self, entry: &Entry<S, T>) -> Result<T::Node, Fault> {
        self.target.remove(&entry.directory.target, &entry.name, FileKind::Regular).map_err(Fault::Target)?;
        Err(Fault::Changed)
    }

    /// Whether a file that an earlier run made needs only its attributes.
    fn is_whole(&self, node: &T::Node, old: &Meta, entry: &Entry<S, T>) -> Result<bool, Fault> {
        let meta = &entry.meta;
        let looks_so = (old.kind, old.size, old.modified) == (meta.kind, meta.size, meta.modified);
        if !looks_so || (old.names > 1 && meta.names < 2) {
            return Ok(false);
        }
        match self.content {
            Content::BySizeAndTime => Ok(true),
            Content::Compared => {
                let source = self.digest(self.source, &entry.source, meta.size).map_err(Fault::Source)?;
                let target = self.digest(self.target, node, meta.size).map_err(Fault::Target)?;
                Ok(source == target)
            }
        }
    }

    fn write_file(&self, entry: &Entry<S, T>, node: &T::Node, meta: &Meta) -> Result<u128, Fault> {
        let writer = self.target.writer(node).map_err(Fault::Target)?;
        let mut digest = Digest::new();
        let mut failed = None;
        let mut moved = 0;
        let read = self.source.content(&entry.source, &mut |offset, data| {
            if self.is_stopped() {
                failed = Some(Fault::Cancelled);
                return Go::Stop;
            }
            digest.take(offset, data);
            match self.target.write(&writer, offset, data) {
                Ok(()) => {
                    moved += data.len() as u64;
                    self.counters.moved(data.len() as u64);
                    Go::On
                }
                Err(trouble) => {
                    failed = Some(Fault::Target(trouble));
                    Go::Stop
                }
            }
        });
        self.counters.ended(moved);
        match (failed, read) {
            (Some(fault), _) => return Err(fault),
            // Another thing has its name now.
            (None, Err(trouble)) if trouble.is_absence() => return Err(Fault::Changed),
            (None, Err(Trouble::System(Errno::STALE))) => return Err(Fault::Changed),
            (None, Err(trouble)) => return Err(Fault::Source(trouble)),
            (None, Ok(())) => {}
        }
        self.target.set_size(&writer, meta.size).map_err(Fault::Target)?;
        Ok(digest.end(meta.size))
    }

    fn digest<X: Source>(&self, tree: &X, node: &X::Node, size: u64) -> Result<u128, Trouble> {
        let mut digest = Digest::new();
        tree.content(node, &mut |offset, data| {
            digest.take(offset, data);
            if self.is_stopped() { Go::Stop } else { Go::On }
        })?;
        Ok(digest.end(size))
    }

    /// Has a file looked at again, with others.
    fn look_again(&self, file: Unverified<T::Node>) -> Result<(), Fault> {
        let batch = {
            let mut unverified = self.unverified.lock();
            unverified.push(file);
            let bytes: u64 = unverified.iter().map(|file| file.size).sum();
            let is_full = unverified.len() >= T::VERIFIED_FILES || bytes >= VERIFIED_BYTES;
            if is_full { std::mem::take(&mut *unverified) } else { Vec::new() }
        };
        self.verify(batch)
    }

    /// Reads files back from where they were stored.
    fn verify(&self, batch: Vec<Unverified<T::Node>>) -> Result<(), Fault> {
        if batch.is_empty() {
            return Ok(());
        }
        self.target.settle().map_err(Fault::Target)?;
        for Unverified { node, size, digest, path } in batch {
            if self.is_stopped() {
                return Err(Fault::Cancelled);
            }
            let stored = self.target.meta(&node).map_err(Fault::Target)?.size;
            if stored == size && self.digest(self.target, &node, size).map_err(Fault::Target)? == digest {
                self.counters.verified();
            } else if !self.is_stopped() {
                self.target.spoil(&node).map_err(Fault::Target)?;
                self.fail(path, Fault::Differs)?;
            }
        }
        Ok(())
    }
}
