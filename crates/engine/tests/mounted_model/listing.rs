//! Directory listings, whole and interrupted, as `telldir(3)` and `seekdir(3)` go on with them.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Advice, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;
use verfs_base::Ino;
use verfs_testkit::Target;
use verfs_testkit::model::{Body, Id, Model, Node, ROOT};
use verfs_vfs::FileKind;

use crate::client::{Client, Freshness};

/// Room for a few of the longest names.
const BUFFER_BYTES: usize = 2048;

/// A listing under way.
pub(crate) struct Cursor {
    dir: Id,
    file: OwnedFd,
    offset: u64,
    seen: Vec<Vec<u8>>,
    /// Names that were there from the beginning and still are.
    stable: BTreeMap<Vec<u8>, Id>,
    /// Every name that was there at some time since the beginning: the kernel's copy may still have it.
    ever: BTreeSet<(Vec<u8>, Id)>,
}

/// An entry as the kernel tells it.
struct Listed {
    name: Vec<u8>,
    ino: Ino,
    kind: FileType,
    next: u64,
}

fn entries(model: &Model, dir: Id) -> BTreeMap<Vec<u8>, Id> {
    model.node(dir).ok().and_then(Node::entries).cloned().unwrap_or_default()
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::Fifo,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharacterDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Up to `count` entries from an offset on.
fn read(file: impl AsFd, offset: u64, count: usize) -> Result<Vec<Listed>, Errno> {
    rustix::fs::seek(&file, SeekFrom::Start(offset))?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut listing = RawDir::new(file, &mut buffer);
    let mut found = Vec::new();
    while found.len() < count
        && let Some(entry) = listing.next()
    {
        let entry = entry?;
        found.push(Listed {
            name: entry.file_name().to_bytes().to_vec(),
            ino: Ino(entry.ino()),
            kind: entry.file_type(),
            next: entry.next_entry_cookie(),
        });
    }
    Ok(found)
}

impl Client {
    /// Opens a directory once more, for a listing of its own.
    pub(crate) fn open_directory(&self, target: &Target) -> Result<OwnedFd, Errno> {
        let spot = self.spot(target).ok_or(Errno::BADF)?;
        let path = if spot.path.is_empty() { b".".to_vec() } else { spot.path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(spot.at, path, flags, Mode::empty())
    }

    fn check_entry(&self, what: &str, dir: Id, entry: &Listed, candidates: &[Id]) -> Result<(), String> {
        let shown = entry.name.escape_ascii();
        if dir == ROOT && entry.name == b".." {
            // Outside the mount.
            return Ok(());
        }
        let mut known = Vec::new();
        for id in candidates {
            known.push(self.ino(*id)?);
        }
        if !known.contains(&entry.ino) {
            return Err(format!("{what}: {shown} has inode number {}, expected one of {known:?}", entry.ino));
        }
        let kind = candidates.iter().filter_map(|id| self.model.kind(*id)).map(file_type).next();
        match kind {
            Some(kind) if candidates.len() == 1 && kind != entry.kind => {
                Err(format!("{what}: {shown} is listed as {:?}, expected {kind:?}", entry.kind))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What `..` may be: the kernel keeps the listing of a directory that is moved as it was.
    fn parents(&self, dir: Id, freshness: Freshness) -> Vec<Id> {
        match (freshness, self.model.node(dir).map(|node| &node.body)) {
            (Freshness::Asked, Ok(Body::Directory { parent, .. })) => vec![*parent],
            (Freshness::Cached, _) => self.homes.get(&dir).into_iter().flatten().copied().collect(),
            (Freshness::Asked, _) => Vec::new(),
        }
    }

    /// Lists a directory in pages and compares.
    pub(crate) fn compare_listing(
        &mut self,
        what: &str,
        (target, dir): (&Target, Id),
        page: usize,
        freshness: Freshness,
    ) -> Result<(), String> {
        let what = &format!("{what}: listing by {page}");
        let failed = |error: Errno| format!("{what}: {error:?}");
        let file = self.open_directory(target).map_err(failed)?;
        if freshness == Freshness::Asked {
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map_err(failed)?;
        }
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut offset = 0;
        loop {
            let listed = read(&file, offset, page).map_err(failed)?;
            let Some(last) = listed.last() else { break };
            offset = last.next;
            for entry in &listed {
                let candidates: Vec<Id> = match &entry.name[..] {
                    b"." => vec![dir],
                    b".." => self.parents(dir, freshness),
                    name => self.model.lookup(dir, name).ok().into_iter().collect(),
                };
                if candidates.is_empty() {
                    return Err(format!("{what}: {} is listed but not there", entry.name.escape_ascii()));
                }
                self.check_entry(what, dir, entry, &candidates)?;
                if found.contains(&entry.name) {
                    return Err(format!("{what}: {} is listed twice", entry.name.escape_ascii()));
                }
                found.push(entry.name.clone());
            }
        }
        for name in [b".".to_vec(), b"..".to_vec()].iter().chain(entries(&self.model, dir).keys()) {
            if !found.contains(name) {
                return Err(format!("{what}: {} is missing", name.escape_ascii()));
            }
        }
        self.read(dir);
        Ok(())
    }

    pub(crate) fn begin_listing(&mut self, what: &str, target: &Target, cursor: u8, dir: Id) -> Result<(), String> {
        let file = self.open_directory(target).map_err(|error| format!("{what}: {error:?}"))?;
        let stable = entries(&self.model, dir);
        let ever = stable.clone().into_iter().collect();
        self.cursors[cursor as usize] = Some(Cursor { dir, file, offset: 0, seen: Vec::new(), stable, ever });
        Ok(())
    }

    /// Notes what came and went; call after every change.
    pub(crate) fn watch_listings(&mut self) {
        for (id, node) in self.model.nodes() {
            if let Body::Directory { parent, .. } = &node.body {
                self.homes.entry(id).or_default().insert(*parent);
            }
        }
        for slot in &mut self.cursors {
            let Some(cursor) = slot else { continue };
            if self.model.node(cursor.dir).is_err() {
                *slot = None;
                continue;
            }
            let now = entries(&self.model, cursor.dir);
            cursor.stable.retain(|name, id| now.get(name) == Some(id));
            cursor.ever.extend(now);
        }
    }

    /// The next entries of an interrupted listing: names that were there all the time come once.
    pub(crate) fn next_of_listing(&mut self, what: &str, cursor: u8, count: usize) -> Result<(), String> {
        let Some(mut at) = self.cursors[cursor as usize].take() else { return Ok(()) };
        let listed = match read(&at.file, at.offset, count) {
            Err(Errno::NOENT) if self.model.node(at.dir).is_ok_and(|node| node.nlink == 0) => return Ok(()),
            listed => listed.map_err(|error| format!("{what}: {error:?}"))?,
        };
        self.read(at.dir);
        let Some(last) = listed.last() else {
            return match at.stable.keys().find(|name| !at.seen.contains(name)) {
                Some(name) => Err(format!("{what}: {} was never listed", name.escape_ascii())),
                None => Ok(()),
            };
        };
        at.offset = last.next;
        for entry in &listed {
            let candidates: Vec<Id> = match &entry.name[..] {
                b"." => vec![at.dir],
                b".." => self.parents(at.dir, Freshness::Cached),
                listed => at.ever.iter().filter(|(name, _)| name == listed).map(|(_, id)| *id).collect(),
            };
            if candidates.is_empty() {
                return Err(format!("{what}: {} is listed and never was there", entry.name.escape_ascii()));
            }
            self.check_entry(what, at.dir, entry, &candidates)?;
            if at.stable.contains_key(&entry.name) && at.seen.contains(&entry.name) {
                return Err(format!("{what}: {} is listed twice", entry.name.escape_ascii()));
            }
            at.seen.push(entry.name.clone());
        }
        self.cursors[cursor as usize] = Some(at);
        Ok(())
    }
}
