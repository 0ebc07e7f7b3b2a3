//! Directory listings, whole and interrupted.

use std::collections::BTreeMap;

use verfs_vfs::{DirEntry, FileKind, Listing, Pin};

use super::{Session, Stop, demand};
use crate::model::{Body, Id, Model, Node, Who};

/// A listing under way.
#[derive(Debug)]
pub(super) struct Cursor {
    dir: Id,
    cookie: u64,
    seen: Vec<Vec<u8>>,
    /// Names that were there from the beginning and still are.
    stable: BTreeMap<Vec<u8>, Id>,
}

fn entries(model: &Model, dir: Id) -> BTreeMap<Vec<u8>, Id> {
    model.node(dir).ok().and_then(Node::entries).cloned().unwrap_or_default()
}

fn diverged<T>(what: &str, difference: &str) -> Result<T, Stop> {
    Err(Stop::Diverged(format!("{what}: {difference}")))
}

impl Session {
    fn page(&self, what: &str, dir: Id, cookie: u64, count: usize, listing: Listing) -> Result<Vec<DirEntry>, Stop> {
        let ino = self.ino(dir)?;
        let page = demand(
            what,
            self.ask(Who::ROOT, Pin::No, |context| self.vfs.readdir(context, ino, cookie, count, listing)),
        )?;
        if page.len() > count {
            return diverged(what, "more entries than asked for");
        }
        Ok(page)
    }

    fn check_entry(&mut self, what: &str, dir: Id, entry: &DirEntry, listing: Listing) -> Result<(), Stop> {
        let shown = crate::op::short(&entry.name);
        let id = match (&entry.name[..], &self.model.node(dir).map(|node| &node.body)) {
            (b".", _) => dir,
            (b"..", Ok(Body::Directory { parent, .. })) if dir != crate::model::ROOT => *parent,
            (b"..", _) => return Ok(()),
            (name, _) => match self.model.lookup(dir, name) {
                Ok(id) => id,
                Err(_) => return diverged(what, &format!("{shown} is listed but not there")),
            },
        };
        let ino = self.ino(id)?;
        let kind = self.model.kind(id).unwrap_or(FileKind::Directory);
        if (entry.ino, entry.kind) != (ino, kind) {
            let found = (entry.ino, entry.kind);
            return diverged(what, &format!("{shown}: expected {:?}, listed {found:?}", (ino, kind)));
        }
        if entry.cookie >= 1 << 63 || entry.cookie == 0 {
            return diverged(what, &format!("{shown} has cookie {}", entry.cookie));
        }
        let plain = entry.name == b"."[..] || entry.name == b".."[..];
        match (listing, &entry.attr) {
            (Listing::Plus, Some(attr)) if !plain => self.check_attr(what, id, &attr.clone()),
            (Listing::Plus, None) if !plain => diverged(what, &format!("{shown} came without attributes")),
            (Listing::Plus | Listing::Names, _) => Ok(()),
        }
    }

    /// Lists a directory in pages and compares.
    pub(super) fn compare_listing(&mut self, what: &str, dir: Id, page: usize) -> Result<(), Stop> {
        let what = &format!("{what}: listing by {page}");
        let listing = if self.steps.is_multiple_of(3) { Listing::Names } else { Listing::Plus };
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut cookie = 0;
        loop {
            let entries = self.page(what, dir, cookie, page, listing)?;
            let Some(last) = entries.last() else { break };
            cookie = last.cookie;
            for entry in &entries {
                self.check_entry(what, dir, entry, listing)?;
                if found.iter().any(|name| *name == entry.name) {
                    return diverged(what, &format!("{} is listed twice", crate::op::short(&entry.name)));
                }
                found.push(entry.name.to_vec());
            }
        }
        if found.first().is_none_or(|name| name != b".") || found.get(1).is_none_or(|name| name != b"..") {
            return diverged(what, "it doesn't begin with . and ..");
        }
        let expected = entries(&self.model, dir);
        if let Some(missing) = expected.keys().find(|name| !found.contains(name)) {
            return diverged(what, &format!("{} is missing", crate::op::short(missing)));
        }
        self.model.accessed(dir);
        Ok(())
    }

    pub(super) fn begin_listing(&mut self, cursor: u8, dir: Id) {
        let stable = entries(&self.model, dir);
        self.cursors[cursor as usize] = Some(Cursor { dir, cookie: 0, seen: Vec::new(), stable });
    }

    /// Forgets names that went away; call after every change.
    pub(super) fn watch_listings(&mut self) {
        for slot in &mut self.cursors {
            let Some(cursor) = slot else { continue };
            if self.model.node(cursor.dir).is_err() {
                *slot = None;
                continue;
            }
            let now = entries(&self.model, cursor.dir);
            cursor.stable.retain(|name, id| now.get(name) == Some(id));
        }
    }

    /// The next entries of an interrupted listing: names that were there all the time come once.
    pub(super) fn next_of_listing(&mut self, what: &str, cursor: u8, count: usize) -> Result<(), Stop> {
        let Some(mut at) = self.cursors[cursor as usize].take() else { return Ok(()) };
        let removed = self.model.node(at.dir).is_ok_and(|node| node.nlink == 0);
        if removed {
            // Linux lists nothing of a removed directory, or says that it isn't there.
            return Ok(());
        }
        let page = self.page(what, at.dir, at.cookie, count, Listing::Names)?;
        self.model.accessed(at.dir);
        let Some(last) = page.last() else {
            let missing = at.stable.keys().find(|name| !at.seen.contains(name));
            return match missing {
                Some(name) => diverged(what, &format!("{} was never listed", crate::op::short(name))),
                None => Ok(()),
            };
        };
        at.cookie = last.cookie;
        for entry in &page {
            self.check_entry(what, at.dir, entry, Listing::Names)?;
            let name = entry.name.to_vec();
            if at.stable.contains_key(&name) && at.seen.contains(&name) {
                return diverged(what, &format!("{} is listed twice", crate::op::short(&name)));
            }
            at.seen.push(name);
        }
        self.cursors[cursor as usize] = Some(at);
        Ok(())
    }
}
