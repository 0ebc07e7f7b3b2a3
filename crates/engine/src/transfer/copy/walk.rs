//! The walk through the source: it counts, makes directories, and hands everything else to those who copy.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Sender;
use verfs_vfs::FileKind;

use super::{Copy, Directory, Entry, Fault, Place};
use crate::transfer::tree::{Made, Meta, Source, Target};

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

impl<S: Source, T: Target> Copy<'_, S, T> {
    /// Counts everything, ahead of those who copy it. What it can't read they tell.
    pub(super) fn count(&self, (root, meta): (S::Node, Meta)) {
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
                let path = path.join(OsString::from_vec(name.to_vec()));
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

    pub(super) fn walk(
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
            let path = directory.path().join(OsString::from_vec(name.to_vec()));
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
    pub(super) fn release(&self, directory: Arc<Directory<S, T>>) -> Result<(), Fault> {
        for whole in released(directory) {
            let Some(meta) = &whole.meta else { continue };
            if self.is_stopped() {
                continue;
            }
            let finished = self.finish(&whole.source, &whole.target, meta);
            // Its path can't be told any more: what it was in was let go of with it.
            finished.or_else(|fault| self.fail(PathBuf::from(OsString::from_vec(whole.name.to_vec())), fault))?;
            self.counters.copied(meta);
        }
        Ok(())
    }
}
