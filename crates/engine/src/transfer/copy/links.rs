//! Things with several names: the first one that is found is copied, the others are linked to it.

use crossbeam_channel::Receiver;

use super::{Copy, Entry, Fault};
use crate::transfer::tree::{Source, Target};

/// What became of something with several names.
pub(super) enum Linked<S: Source, T: Target> {
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

impl<S: Source, T: Target> Copy<'_, S, T> {
    /// Copies what the walk finds, until there is no more. After the end of all it only lets go.
    pub(super) fn work(&self, queue: &Receiver<Entry<S, T>>) {
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
}
