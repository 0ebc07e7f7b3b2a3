//! One file, or anything else that is no directory.

use rustix::io::Errno;
use verfs_vfs::FileKind;

use super::verify::Unverified;
use super::{Copy, Entry, Fault};
use crate::transfer::digest::Digest;
use crate::transfer::tree::{Go, Made, Meta, Source, Target, Trouble};
use crate::transfer::{Content, Verify};

/// How often a file is tried that changes while it is read.
const TRIES: usize = 3;

impl<S: Source, T: Target> Copy<'_, S, T> {
    /// Copies anything but a directory.
    pub(super) fn copy_entry(&self, entry: &Entry<S, T>) -> Result<T::Node, Fault> {
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

    pub(super) fn digest<X: Source>(&self, tree: &X, node: &X::Node, size: u64) -> Result<u128, Trouble> {
        let mut digest = Digest::new();
        tree.content(node, &mut |offset, data| {
            digest.take(offset, data);
            if self.is_stopped() { Go::Stop } else { Go::On }
        })?;
        Ok(digest.end(size))
    }
}
