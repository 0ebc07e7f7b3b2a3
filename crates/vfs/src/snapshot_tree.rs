//! The tree of a snapshot, read-only: every record as it was when the snapshot was made.
//!
//! A record of then is live still, if it was born early enough, or in the history of its key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use verfs_base::{ByteRange, ChunkId, Epoch, Ino};
use verfs_format::{
    ContentId, DecodeError, DirentRecord, InodeFlags, InodeKind, InodeRecord, SEGMENT_BYTES, Segment, Xattrs, keys,
    split_versioned,
};
use verfs_meta::{Direction, KeyRange, MetaError, MetaStore};

use crate::attributes::{attr, file_kind};
use crate::directory::Name;
use crate::file_data::{Part, chunks_of, pieces, plan_segment};
use crate::flags::shown;
use crate::history::version_at;
use crate::listing::{COOKIE_PARENT, COOKIE_SELF, Position, with_cookies};
use crate::volume::Shared;
use crate::{Attr, DirEntry, FileFlags, FileKind, Listing, Result, SeekFor, Snapshot, Vfs, VfsError};

/// Entries that one look at a directory reads of each of its two sources.
const STRETCH_ENTRIES: usize = 4096;

/// Who of a key's versions one snapshot has.
#[derive(Clone)]
pub(crate) struct Past {
    shared: Arc<Shared>,
    id: Epoch,
}

/// A snapshot that can be read. It answers [`VfsError::NotFound`] once the snapshot was deleted.
#[derive(Clone)]
pub struct SnapshotTree {
    past: Past,
}

impl std::fmt::Debug for SnapshotTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotTree").field("id", &self.past.id).finish_non_exhaustive()
    }
}

/// A stretch of a directory's names, and the hash at which there are more.
struct Page {
    names: Vec<(Name, DirentRecord)>,
    next: Option<u64>,
}

/// A stretch of a directory's names, from one source.
struct Stretch<T> {
    names: BTreeMap<Name, T>,
    /// The last name that was looked at, if there are more.
    cut: Option<Name>,
}

impl Past {
    pub(crate) fn new(shared: &Arc<Shared>, id: Epoch) -> Past {
        Past { shared: Arc::clone(shared), id }
    }

    fn meta(&self) -> &dyn MetaStore {
        &*self.shared.parts.meta
    }

    /// What a key had.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let live = self.meta().get(key).map_err(|error| self.shared.meta_error(&error))?;
        self.pick(key, live)
    }

    /// What several keys had.
    pub(crate) fn multi_get(&self, wanted: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let live = self.meta().multi_get(wanted).map_err(|error| self.shared.meta_error(&error))?;
        wanted.iter().zip(live).map(|(key, live)| self.pick(key, live)).collect()
    }

    /// Birth and record of a value, live or dead. One that was born in an epoch to come, or after its death, is damaged,
    /// not younger than the snapshot.
    fn split<'a>(&self, value: &'a [u8], death: Option<Epoch>) -> std::result::Result<(Epoch, &'a [u8]), DecodeError> {
        let (birth, record) = split_versioned(value)?;
        let may_be = birth <= self.id
            || match death {
                Some(death) => birth < death,
                None => birth <= self.shared.state.lock().epoch,
            };
        if may_be { Ok((birth, record)) } else { Err(DecodeError::Invalid("birth")) }
    }

    fn pick(&self, key: &[u8], live: Option<Bytes>) -> Result<Option<Bytes>> {
        if let Some(live) = &live {
            self.split(live, None).map_err(|error| self.damaged(key, error))?;
        }
        let version = version_at(self.meta(), key, live.as_ref(), self.id);
        Ok(version.map_err(|error| self.shared.meta_error(&error))?.map(|version| version.record))
    }

    fn damaged(&self, key: &[u8], error: DecodeError) -> VfsError {
        tracing::error!(key = %key.escape_ascii(), %error, snapshot = self.id.0, "metadata record is damaged");
        VfsError::Io
    }

    /// An inode, if it had a name.
    pub(crate) fn inode(&self, ino: Ino) -> Result<Option<InodeRecord>> {
        let key = keys::inode(ino);
        let Some(record) = self.get(&key)? else { return Ok(None) };
        let record = InodeRecord::decode(&record).map_err(|error| self.damaged(&key, error))?;
        Ok(Some(record).filter(|record| record.nlink > 0))
    }

    /// Where a name led.
    pub(crate) fn dirent(&self, parent: Ino, name: &Name) -> Result<Option<DirentRecord>> {
        let key = keys::dirent(parent, name.hash, &name.bytes);
        let Some(record) = self.get(&key)? else { return Ok(None) };
        DirentRecord::decode(&record).map(Some).map_err(|error| self.damaged(&key, error))
    }

    /// Runs of a stretch of segments.
    pub(crate) fn segments(&self, content: ContentId, first: u32, last: u32) -> Result<Vec<(u32, Segment)>> {
        let wanted: Vec<Bytes> = (first..=last).map(|index| keys::segment(content, index).into()).collect();
        let records = self.multi_get(&wanted)?;
        let mut segments = Vec::with_capacity(records.len());
        for ((index, key), record) in (first..=last).zip(&wanted).zip(records) {
            let Some(record) = record else { continue };
            segments.push((index, Segment::decode(&record).map_err(|error| self.damaged(key, error))?));
        }
        Ok(segments)
    }

    /// The first segment from `from` on of which the content had a record.
    fn next_segment(&self, content: ContentId, from: u32) -> Result<Option<u32>> {
        let prefix = keys::segments(content);
        let start = keys::segment(content, from);
        let live = KeyRange { start: start.clone().into(), ..KeyRange::prefix(&prefix) };
        let live = self.first_segment(&live, |key| Some((key, None)))?;
        let past = KeyRange { start: keys::histories(&start).into(), ..KeyRange::prefix(&keys::histories(&prefix)) };
        let past = self.first_segment(&past, |key| {
            let (of, death) = keys::parse_history(key).filter(|(_, death)| *death > self.id)?;
            Some((of, Some(death)))
        })?;
        Ok(live.into_iter().chain(past).min())
    }

    /// The first segment of a range whose record was born early enough; `of` tells of which key a record is, and when it
    /// died.
    fn first_segment(
        &self,
        range: &KeyRange,
        of: impl Fn(&[u8]) -> Option<(&[u8], Option<Epoch>)>,
    ) -> Result<Option<u32>> {
        let mut found = Ok(None);
        let scanned = self.meta().scan(range, Direction::Forward, &mut |key, value| {
            let Some((of, death)) = of(key) else { return ControlFlow::Continue(()) };
            let Some(index) = keys::parse_segment(of) else { return ControlFlow::Continue(()) };
            match self.split(value, death) {
                Ok((birth, _)) if birth > self.id => return ControlFlow::Continue(()),
                Ok(_) => found = Ok(Some(index)),
                Err(error) => found = Err(self.damaged(key, error)),
            }
            ControlFlow::Break(())
        });
        scanned.map_err(|error| self.shared.meta_error(&error))?;
        found
    }

    /// All extended attributes of an inode.
    pub(crate) fn xattrs(&self, ino: Ino, record: &InodeRecord) -> Result<Xattrs> {
        if !record.flags.contains(InodeFlags::XATTRS) {
            return Ok(Xattrs::default());
        }
        let key = keys::xattrs(ino);
        let record = self.get(&key)?.ok_or_else(|| self.damaged(&key, DecodeError::Truncated))?;
        Xattrs::decode(&record).map_err(|error| self.damaged(&key, error))
    }

    /// A symlink's target.
    pub(crate) fn symlink(&self, ino: Ino) -> Result<Bytes> {
        let key = keys::symlink(ino);
        self.get(&key)?.ok_or_else(|| self.damaged(&key, DecodeError::Truncated))
    }

    fn scan_names<T>(
        &self,
        range: &KeyRange,
        mut take: impl FnMut(&[u8], &[u8]) -> std::result::Result<Option<(Name, Option<T>)>, DecodeError>,
    ) -> Result<Stretch<T>> {
        let mut stretch = Stretch { names: BTreeMap::new(), cut: None };
        let mut last: Option<Name> = None;
        let mut seen = 0;
        let mut broken = None;
        let scanned = self.meta().scan(range, Direction::Forward, &mut |key, value| {
            match take(key, value) {
                Ok(None) => {}
                Ok(Some((name, target))) => {
                    if last.as_ref() != Some(&name) {
                        if seen == STRETCH_ENTRIES {
                            stretch.cut = last.take();
                            return ControlFlow::Break(());
                        }
                        seen += 1;
                        last = Some(name.clone());
                    }
                    if let Some(target) = target {
                        stretch.names.entry(name).or_insert(target);
                    }
                }
                Err(error) => {
                    broken = Some(self.damaged(key, error));
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        scanned.map_err(|error| self.shared.meta_error(&error))?;
        match broken {
            Some(error) => Err(error),
            None => Ok(stretch),
        }
    }

    /// Names of a directory from `hash` on, in order, and where to go on if there are more.
    fn names(&self, parent: Ino, hash: u64) -> Result<Page> {
        let start = keys::dirents_from(parent, hash);
        let name_of = |key: &[u8]| {
            let (hash, name) = keys::parse_dirent(key).ok_or(DecodeError::Invalid("dirent key"))?;
            Ok(Name { hash, bytes: Bytes::copy_from_slice(name) })
        };
        let live = KeyRange { start: start.clone().into(), ..KeyRange::prefix(&keys::dirents(parent)) };
        let live = self.scan_names(&live, |key, value| {
            let (birth, record) = self.split(value, None)?;
            let early = birth <= self.id;
            let record = early.then(|| DirentRecord::decode(record)).transpose()?;
            Ok(Some((name_of(key)?, record)))
        })?;
        let past = KeyRange {
            start: keys::histories(&start).into(),
            ..KeyRange::prefix(&keys::histories(&keys::dirents(parent)))
        };
        // Of each name the first version that died after the snapshot counts, whether or not it was born before.
        let past = self.scan_names(&past, |key, value| {
            let (of, death) = keys::parse_history(key).ok_or(DecodeError::Invalid("history key"))?;
            if death <= self.id {
                return Ok(None);
            }
            let (birth, record) = self.split(value, Some(death))?;
            let record = if birth <= self.id { Some(DirentRecord::decode(record)?) } else { None };
            Ok(Some((name_of(of)?, Some(record))))
        })?;
        let cut = live.cut.iter().chain(&past.cut).min().cloned();
        let mut names = live.names;
        for (name, target) in past.names {
            if let Some(target) = target {
                names.entry(name).or_insert(target);
            }
        }
        if let Some(cut) = &cut {
            // Of the names with the hash of the cut some may be missing: they come whole with the next stretch.
            names.retain(|name, _| name.hash < cut.hash);
        }
        Ok(Page { names: names.into_iter().collect(), next: cut.map(|name| name.hash.number()) })
    }

    /// A whole chunk.
    pub(crate) fn chunk(&self, id: ChunkId) -> Result<Bytes> {
        self.shared.parts.store.read(id).map_err(|error| self.shared.store_error(None, &error))
    }

    /// Indexes of the segments that a content may have had, in order.
    pub(crate) fn segment_indexes(&self, content: ContentId) -> Result<BTreeSet<u32>> {
        let mut indexes = BTreeSet::new();
        let prefix = keys::segments(content);
        for range in [KeyRange::prefix(&prefix), KeyRange::prefix(&keys::histories(&prefix))] {
            let scanned = self.meta().scan(&range, Direction::Forward, &mut |key, _| {
                let key = keys::parse_history(key).map_or(key, |(of, _)| of);
                indexes.extend(keys::parse_segment(key));
                ControlFlow::Continue(())
            });
            scanned.map_err(|error| self.shared.meta_error(&error))?;
        }
        Ok(indexes)
    }

    /// Whether a content waited for its release.
    pub(crate) fn is_orphan(&self, content: ContentId) -> Result<bool> {
        Ok(self.get(&keys::orphan(content))?.is_some())
    }

    /// The snapshot's number.
    pub(crate) fn id(&self) -> Epoch {
        self.id
    }

    /// Whether what a key had was there in epoch `since` already, and so in no change list behind it.
    pub(crate) fn has_from(&self, key: &[u8], since: Epoch) -> Result<bool> {
        let live = self.meta().get(key).map_err(|error| self.meta_error(&error))?;
        let version = version_at(self.meta(), key, live.as_ref(), self.id).map_err(|error| self.meta_error(&error))?;
        Ok(version.is_some_and(|version| version.birth <= since))
    }

    /// Logs a failure of the metadata engine and says what the caller gets.
    pub(crate) fn meta_error(&self, error: &MetaError) -> VfsError {
        self.shared.meta_error(error)
    }

    /// Visits all names of a directory, in order.
    pub(crate) fn walk_names(
        &self,
        parent: Ino,
        visit: &mut dyn FnMut(&Name, &DirentRecord) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut from = 0;
        loop {
            let Page { names, next } = self.names(parent, from)?;
            if names.iter().any(|(name, record)| visit(name, record).is_break()) {
                return Ok(());
            }
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Names behind a position, at most `max_entries`, with their cookies.
    fn list(&self, parent: Ino, position: Position, max_entries: usize) -> Result<Vec<(Name, DirentRecord, u64)>> {
        let mut entries = Vec::new();
        let (mut position, mut from) = (position, position.hash);
        loop {
            let Page { names, next } = self.names(parent, from)?;
            let found = with_cookies(position, names.into_iter(), max_entries - entries.len());
            entries.extend(found);
            match next {
                Some(next) if entries.len() < max_entries => {
                    from = next;
                    position = Position { hash: next, listed: 0 };
                }
                Some(_) | None => return Ok(entries),
            }
        }
    }
}

impl Vfs {
    /// Opens a snapshot for reading.
    ///
    /// # Errors
    /// [`VfsError::NotFound`].
    pub fn open_snapshot(&self, name: &[u8]) -> Result<SnapshotTree> {
        let Snapshot { id, .. } = self.snapshot(name)?;
        Ok(SnapshotTree { past: Past::new(&self.shared, id) })
    }
}

impl SnapshotTree {
    /// The snapshot's number.
    #[must_use]
    pub fn id(&self) -> Epoch {
        self.past.id
    }

    /// Runs a read, and answers only if the snapshot still stands behind it: what is read of one that goes is anything.
    fn read_whole<T>(&self, read: impl FnOnce(&Past) -> Result<T>) -> Result<T> {
        let result = read(&self.past);
        let state = self.past.shared.state.lock();
        if state.snapshots.stands(self.past.id) { result } else { Err(VfsError::NotFound) }
    }

    /// The inode that a name led to.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NotDirectory`], [`VfsError::NameTooLong`], [`VfsError::Io`].
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        let name = self.past.shared.name(parent, name)?;
        self.read_whole(|past| {
            match past.inode(parent)?.ok_or(VfsError::NotFound)?.kind {
                InodeKind::Directory => {}
                InodeKind::Regular
                | InodeKind::Symlink
                | InodeKind::Fifo
                | InodeKind::Socket
                | InodeKind::CharDevice
                | InodeKind::BlockDevice => return Err(VfsError::NotDirectory),
            }
            let target = past.dirent(parent, &name)?.ok_or(VfsError::NotFound)?;
            let record = past.inode(target.ino)?.ok_or(VfsError::NotFound)?;
            Ok(attr(target.ino, &record))
        })
    }

    /// Attributes of an inode.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Io`].
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        self.read_whole(|past| Ok(attr(ino, &past.inode(ino)?.ok_or(VfsError::NotFound)?)))
    }

    /// The directory that a directory was in.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Io`].
    pub fn parent(&self, ino: Ino) -> Result<Ino> {
        self.read_whole(|past| Ok(past.inode(ino)?.ok_or(VfsError::NotFound)?.parent))
    }

    /// A symlink's target.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::InvalidArgument`] for anything else, [`VfsError::Io`].
    pub fn readlink(&self, ino: Ino) -> Result<Bytes> {
        self.read_whole(|past| match past.inode(ino)?.ok_or(VfsError::NotFound)?.kind {
            InodeKind::Symlink => past.symlink(ino),
            InodeKind::Directory
            | InodeKind::Regular
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => Err(VfsError::InvalidArgument),
        })
    }

    /// Entries behind `cookie` (0: from the start), at most `max_entries`; none at the end. `.` and `..` come first.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NotDirectory`], [`VfsError::Io`].
    pub fn readdir(&self, ino: Ino, cookie: u64, max_entries: usize, listing: Listing) -> Result<Vec<DirEntry>> {
        self.read_whole(|past| {
            let record = past.inode(ino)?.ok_or(VfsError::NotFound)?;
            if record.kind != InodeKind::Directory {
                return Err(VfsError::NotDirectory);
            }
            let mut entries = Vec::new();
            let dots = [(COOKIE_SELF, ".", ino), (COOKIE_PARENT, "..", record.parent)];
            for (at, name, target) in dots.into_iter().filter(|(at, ..)| cookie < *at) {
                let attr = match listing {
                    Listing::Names => None,
                    Listing::Plus => past.inode(target)?.map(|record| attr(target, &record)),
                };
                let name = Bytes::from_static(name.as_bytes());
                entries.push(DirEntry { name, ino: target, kind: FileKind::Directory, cookie: at, attr });
            }
            entries.truncate(max_entries);
            let found = past.list(ino, Position::behind(cookie), max_entries - entries.len())?;
            let attrs = match listing {
                Listing::Names => vec![None; found.len()],
                Listing::Plus => past.attrs(found.iter().map(|(_, target, _)| target.ino))?,
            };
            entries.extend(found.into_iter().zip(attrs).map(|((name, target, cookie), attr)| DirEntry {
                name: name.bytes,
                ino: target.ino,
                kind: file_kind(target.kind),
                cookie,
                attr,
            }));
            Ok(entries)
        })
    }

    /// Reads `min(len, size - offset)` bytes: pieces in order, which share memory with caches where they can.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::IsDirectory`], [`VfsError::InvalidArgument`] for other kinds,
    /// [`VfsError::Io`] for a damaged file.
    pub fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<Vec<Bytes>> {
        self.read_whole(|past| {
            let record = past.regular(ino)?;
            let len = u64::from(len).min(record.size.saturating_sub(offset));
            if len == 0 {
                return Ok(Vec::new());
            }
            let parts = past.parts(record.content, ByteRange::new(offset, len))?;
            let ids: Vec<_> = chunks_of(&parts).collect();
            let shared = &past.shared;
            let chunks = shared.parts.store.read_many(&ids, &[]);
            let chunks = chunks.map_err(|error| shared.store_error(Some(ino), &error))?;
            pieces(ino, parts, &mut chunks.into_iter())
        })
    }

    /// Where the next data or hole begins at or behind `offset`.
    ///
    /// # Errors
    /// [`VfsError::NoSuchOffset`] past the end, or without data behind it; as [`SnapshotTree::read`].
    pub fn seek(&self, ino: Ino, offset: u64, wanted: SeekFor) -> Result<u64> {
        self.read_whole(|past| {
            let record = past.regular(ino)?;
            if offset >= record.size {
                return Err(VfsError::NoSuchOffset);
            }
            let mut at = offset;
            while at < record.size {
                let index = (at / SEGMENT_BYTES) as u32;
                if wanted == SeekFor::Data {
                    // Of a sparse file there may be millions of segments that are not there.
                    let next = past.next_segment(record.content, index)?.ok_or(VfsError::NoSuchOffset)?;
                    if next > index {
                        at = u64::from(next) * SEGMENT_BYTES;
                        continue;
                    }
                }
                let len = (SEGMENT_BYTES - at % SEGMENT_BYTES).min(record.size - at);
                for part in past.parts(record.content, ByteRange::new(at, len))? {
                    let is_hole = matches!(part, Part::Zeros(_));
                    if is_hole == (wanted == SeekFor::Hole) {
                        return Ok(at);
                    }
                    at += part.len();
                }
            }
            match wanted {
                SeekFor::Hole => Ok(record.size),
                SeekFor::Data => Err(VfsError::NoSuchOffset),
            }
        })
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NoAttribute`], [`VfsError::Io`].
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Bytes> {
        self.read_whole(|past| {
            let record = past.inode(ino)?.ok_or(VfsError::NotFound)?;
            past.xattrs(ino, &record)?.get(name).cloned().ok_or(VfsError::NoAttribute)
        })
    }

    /// Names of all extended attributes.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Io`].
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<Bytes>> {
        self.read_whole(|past| {
            let record = past.inode(ino)?.ok_or(VfsError::NotFound)?;
            Ok(past.xattrs(ino, &record)?.iter().map(|(name, _)| name.clone()).collect())
        })
    }

    /// Flags of an inode.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::Io`].
    pub fn file_flags(&self, ino: Ino) -> Result<FileFlags> {
        self.read_whole(|past| Ok(shown(past.inode(ino)?.ok_or(VfsError::NotFound)?.flags)))
    }
}

impl Past {
    /// The record of a regular file.
    fn regular(&self, ino: Ino) -> Result<InodeRecord> {
        let record = self.inode(ino)?.ok_or(VfsError::NotFound)?;
        match record.kind {
            InodeKind::Regular => Ok(record),
            InodeKind::Directory => Err(VfsError::IsDirectory),
            InodeKind::Symlink
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => Err(VfsError::InvalidArgument),
        }
    }

    /// Attributes of several inodes, in order.
    fn attrs(&self, inodes: impl Iterator<Item = Ino>) -> Result<Vec<Option<Attr>>> {
        let inodes: Vec<Ino> = inodes.collect();
        let wanted: Vec<Bytes> = inodes.iter().map(|ino| keys::inode(*ino).into()).collect();
        let records = self.multi_get(&wanted)?;
        let decode = |ino: Ino, key: &[u8], record: Option<Bytes>| {
            let record = record.map(|record| InodeRecord::decode(&record)).transpose();
            Ok(record.map_err(|error| self.damaged(key, error))?.map(|record| attr(ino, &record)))
        };
        inodes.into_iter().zip(&wanted).zip(records).map(|((ino, key), record)| decode(ino, key, record)).collect()
    }

    /// What a range of a content within its size consists of, in order.
    pub(crate) fn parts(&self, content: ContentId, range: ByteRange) -> Result<Vec<Part>> {
        let first = (range.offset / SEGMENT_BYTES) as u32;
        let last = ((range.end() - 1) / SEGMENT_BYTES) as u32;
        let segments: BTreeMap<u32, Segment> = self.segments(content, first, last)?.into_iter().collect();
        let hole = Segment::default();
        let mut parts = Vec::new();
        for index in first..=last {
            plan_segment(segments.get(&index).unwrap_or(&hole), index, range, &mut parts);
        }
        Ok(parts)
    }
}
