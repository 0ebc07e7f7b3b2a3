//! Directory listings, in the order of the names' keyed hashes, so that a place in them stays valid across changes.
//!
//! A cookie is the hash (56 bits) and, in its low 7 bits, the entry's rank among names of equal hash. Reading goes on
//! behind the entry whose cookie is given, whether or not that entry is still there.

use verfs_base::Ino;
use verfs_format::{DirentRecord, NameHash};

use crate::attributes::{attr, file_kind};
use crate::directory::Name;
use crate::state::{Need, State, Step, Stop};
use crate::volume::Shared;
use crate::{Context, DirEntry, FileKind, Listing, Patience, Pin, Result, Vfs, VfsError};

/// Bits of a cookie below the hash.
const RANK_BITS: u32 = 7;
/// Cookie of `.`.
pub(crate) const COOKIE_SELF: u64 = 1;
/// Cookie of `..`.
pub(crate) const COOKIE_PARENT: u64 = 2;
/// Directories up to this many entries are loaded whole when they are listed.
const LOAD_WHOLE_MAX_ENTRIES: u64 = 16 << 10;

/// Where a listing goes on: behind the entry of rank `rank` among those with hash `hash`.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    pub(crate) hash: u64,
    /// Entries with that hash that were listed already.
    pub(crate) listed: u64,
}

impl Position {
    pub(crate) fn behind(cookie: u64) -> Self {
        if cookie <= COOKIE_PARENT {
            return Position { hash: 0, listed: 0 };
        }
        Position { hash: cookie >> RANK_BITS, listed: (cookie & ((1 << RANK_BITS) - 1)) + 1 }
    }
}

/// Gives cookies to entries in order and drops those before the position.
pub(crate) fn with_cookies(
    position: Position,
    entries: impl Iterator<Item = (Name, DirentRecord)>,
    max_entries: usize,
) -> Vec<(Name, DirentRecord, u64)> {
    let mut out = Vec::new();
    let (mut hash, mut rank) = (0, 0);
    for (name, record) in entries {
        rank = if name.hash.number() == hash { rank + 1 } else { 0 };
        hash = name.hash.number();
        if hash == position.hash && rank < position.listed {
            continue;
        }
        if out.len() == max_entries {
            break;
        }
        out.push((name, record, hash << RANK_BITS | rank.min((1 << RANK_BITS) - 1)));
    }
    out
}

impl State {
    fn dots(&mut self, ino: Ino, cookie: u64, listing: Listing) -> Step<Vec<DirEntry>> {
        let record = self.directory(ino)?;
        let mut entries = Vec::new();
        for (at, name, target) in [(COOKIE_SELF, "."), (COOKIE_PARENT, "..")]
            .map(|(at, name)| (at, name, if at == COOKIE_SELF { ino } else { record.parent }))
        {
            if cookie < at {
                let attr = match listing {
                    Listing::Names => None,
                    Listing::Plus => Some(attr(target, &self.inode(target)?)),
                };
                let name = bytes::Bytes::from_static(name.as_bytes());
                entries.push(DirEntry { name, ino: target, kind: FileKind::Directory, cookie: at, attr });
            }
        }
        Ok(entries)
    }

    /// Entries with their attributes where asked for; all pins are counted or none.
    fn finish_entries(
        &mut self,
        context: &Context,
        found: &[(Name, DirentRecord, u64)],
        listing: Listing,
    ) -> Step<Vec<DirEntry>> {
        let mut entries = Vec::with_capacity(found.len());
        for (name, target, cookie) in found {
            let attr = match listing {
                Listing::Names => None,
                Listing::Plus => match self.inode(target.ino) {
                    Ok(record) => Some(attr(target.ino, &record)),
                    // Removed since the names were collected.
                    Err(Stop::Fail(VfsError::NotFound)) => continue,
                    Err(stop) => return Err(stop),
                },
            };
            entries.push(DirEntry {
                name: name.bytes.clone(),
                ino: target.ino,
                kind: file_kind(target.kind),
                cookie: *cookie,
                attr,
            });
        }
        if listing == Listing::Plus && context.pin == Pin::Count {
            for entry in &entries {
                self.pin(entry.ino);
            }
        }
        Ok(entries)
    }
}

impl Shared {
    /// Entries of a directory too large to keep whole: the store's, with memory's changes over them.
    fn merge_large(&self, ino: Ino, position: Position, max_entries: usize) -> Result<Vec<(Name, DirentRecord, u64)>> {
        loop {
            let commits = self.state.lock().commits;
            let stored = self.scan_directory(ino, position.hash, max_entries + position.listed as usize)?;
            let whole = stored.len() < max_entries + position.listed as usize;
            let mut state = self.state.lock();
            if state.commits != commits {
                continue;
            }
            // Beyond the last name that was read from the store nothing is known yet.
            let last = stored.last().map(|(name, _)| name.clone());
            let mut merged: std::collections::BTreeMap<Name, DirentRecord> = stored.into_iter().collect();
            for (name, target) in state.directories.get(ino).from(NameHash::from_number(position.hash)) {
                if !whole && last.as_ref().is_some_and(|last| name > last) {
                    break;
                }
                match target {
                    Some(record) => merged.insert(name.clone(), record),
                    None => merged.remove(name),
                };
            }
            let entries = with_cookies(position, merged.into_iter(), max_entries);
            if entries.is_empty() && !whole {
                // Everything in this stretch was removed: an empty answer would end the listing.
                let Some(last) = last else { return Err(VfsError::Io) };
                drop(state);
                let next = Position { hash: last.hash.number() + 1, listed: 0 };
                return self.merge_large(ino, next, max_entries);
            }
            return Ok(entries);
        }
    }
}

impl Vfs {
    /// Entries behind `cookie` (0: from the start), at most `max_entries`; none at the end. `.` and `..` come first.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NotDirectory`], [`VfsError::Io`].
    pub fn readdir(
        &self,
        context: &Context,
        ino: Ino,
        cookie: u64,
        max_entries: usize,
        listing: Listing,
    ) -> Result<Vec<DirEntry>> {
        let mut dots = self.shared.run(context, |state| state.dots(ino, cookie, listing))?;
        dots.truncate(max_entries);
        let rest = max_entries - dots.len();
        if rest == 0 {
            return Ok(dots);
        }
        let mut position = Position::behind(cookie);
        loop {
            let found = self.find_entries(context, ino, position, rest)?;
            if listing == Listing::Plus && context.patience == Patience::Wait {
                self.shared.load_inodes(found.iter().map(|(_, target, _)| target.ino))?;
            }
            let entries = self.shared.run(context, |state| state.finish_entries(context, &found, listing))?;
            match found.last() {
                // All of them were removed meanwhile: an empty answer would end the listing.
                Some((.., last)) if entries.is_empty() => position = Position::behind(*last),
                Some(_) | None => return Ok(dots.into_iter().chain(entries).collect()),
            }
        }
    }

    /// Names behind a position, with their cookies.
    fn find_entries(
        &self,
        context: &Context,
        ino: Ino,
        position: Position,
        max_entries: usize,
    ) -> Result<Vec<(Name, DirentRecord, u64)>> {
        let found = self.shared.run(context, |state| {
            let record = state.directory(ino)?;
            let directory = state.directories.get(ino);
            if directory.is_complete() {
                let known = directory
                    .from(NameHash::from_number(position.hash))
                    .filter_map(|(name, target)| target.map(|target| (name.clone(), target)));
                return Ok(Some(with_cookies(position, known, max_entries)));
            }
            if record.size <= LOAD_WHOLE_MAX_ENTRIES {
                return Err(Stop::Need(Need::Directory(ino)));
            }
            Ok(None)
        })?;
        match (found, context.patience) {
            (Some(found), _) => Ok(found),
            (None, Patience::Try) => Err(VfsError::WouldBlock),
            (None, Patience::Wait) => self.shared.merge_large(ino, position, max_entries),
        }
    }
}
