//! A snapshot, or what leads to it from an older one, into a stream. The same snapshot and base always give the same
//! bytes, so that a stream can be gone on with from any place.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::Write;
use std::ops::ControlFlow;

use bytes::Bytes;
use verfs_base::{ChunkId, Epoch, Ino};
use verfs_codec::Compressor;
use verfs_format::{
    ContentId, InodeKind, InodeRecord, RunData, STREAM_MAGIC, STREAM_RESUME_MAGIC, STREAM_VAULT_MAGIC,
    STREAM_WINDOW_CHUNKS, Segment, StreamBegin, StreamCheck, StreamFrame, StreamRun, StreamRunData, keys,
};

use super::{ResumeToken, StreamError};
use crate::directory::Name;
use crate::history::ChangedKeys;
use crate::snapshot_tree::Past;
use crate::vault::LockedVault;
use crate::{Vfs, VfsError};

/// Level at which chunks are compressed for the stream: a part of what makes it the same each time.
const COMPRESSION_LEVEL: i32 = 3;

/// What went into a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Bytes of the whole stream so far, those included that were skipped.
    pub bytes: u64,
    /// Inodes, names, segments, what there is beside them, and the vault's of all these.
    pub records: u64,
}

/// Called after each frame; `Break` ends the stream where it is.
type Progress<'a> = dyn FnMut(Sent) -> ControlFlow<()> + 'a;

struct Sender<'a, 'b> {
    past: Past,
    base: Option<Past>,
    out: &'a mut dyn Write,
    progress: &'a mut Progress<'b>,
    /// Bytes of the stream that the receiver has.
    skip: u64,
    sent: Sent,
    frames: u64,
    check: StreamCheck,
    compressor: Compressor,
    chunks: u64,
    known: HashMap<ChunkId, u64>,
    window: VecDeque<ChunkId>,
}

impl Sender<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let skipped = self.skip.saturating_sub(self.sent.bytes).min(bytes.len() as u64);
        self.sent.bytes += bytes.len() as u64;
        Ok(self.out.write_all(&bytes[skipped as usize..])?)
    }

    fn put(&mut self, frame: &StreamFrame) -> Result<(), StreamError> {
        let (kind, body) = frame.encode();
        self.check = self.check.with(kind, &body);
        let len = u32::try_from(body.len()).map_err(|_| VfsError::FileTooLarge)?;
        self.write(&[&len.to_le_bytes()[..], &[kind]].concat())?;
        self.write(&body)?;
        self.write(&self.check.bytes())?;
        self.frames += 1;
        match (self.progress)(self.sent) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(VfsError::Interrupted.into()),
        }
    }

    fn put_record(&mut self, frame: &StreamFrame) -> Result<(), StreamError> {
        self.sent.records += 1;
        self.put(frame)
    }

    /// How many chunks ago a chunk came, which is sent unless it came within the window.
    fn chunk(&mut self, id: ChunkId) -> Result<u64, StreamError> {
        if let Some(number) = self.known.get(&id) {
            return Ok(*number);
        }
        let raw = self.past.chunk(id)?;
        let mut stored = Vec::new();
        let encoding = self.compressor.encode(&raw, &mut stored);
        self.put(&StreamFrame::Chunk(raw.len() as u32, encoding.code(), stored.into()))?;
        let number = self.chunks;
        self.chunks += 1;
        self.known.insert(id, number);
        self.window.push_back(id);
        if self.window.len() as u64 > STREAM_WINDOW_CHUNKS / 2
            && let Some(old) = self.window.pop_front()
        {
            self.known.remove(&old);
        }
        Ok(number)
    }

    /// A segment: of what the base has at the same place only that it stays.
    fn segment(&mut self, content: ContentId, index: u32, segment: &Segment) -> Result<(), StreamError> {
        let base = match &self.base {
            Some(base) if !base.is_orphan(content)? => base.segments(content, index, index)?.pop(),
            Some(_) | None => None,
        };
        let mut kept: BTreeMap<u32, (u32, RunData)> = BTreeMap::new();
        let mut at = 0;
        for run in base.into_iter().flat_map(|(_, segment)| segment.runs) {
            kept.insert(at, (run.len, run.data));
            at += run.len;
        }
        let same = |at: u32, len: u32, id: ChunkId, offset: u32| match kept.get(&at) {
            Some((other_len, RunData::Chunk { id: other, offset: other_offset, .. })) => {
                (len, id, offset) == (*other_len, *other, *other_offset)
            }
            Some((_, RunData::Hole | RunData::Inline(_))) | None => false,
        };
        // Numbers first: a chunk that is sent moves the others back.
        let mut numbers = Vec::new();
        let mut at = 0;
        for run in &segment.runs {
            if let RunData::Chunk { id, offset, .. } = run.data
                && !same(at, run.len, id, offset)
            {
                numbers.push(self.chunk(id)?);
            }
            at += run.len;
        }
        let mut numbers = numbers.into_iter();
        let (mut runs, mut at) = (Vec::with_capacity(segment.runs.len()), 0);
        for run in &segment.runs {
            let data = match &run.data {
                RunData::Hole => StreamRunData::Hole,
                RunData::Inline(bytes) => StreamRunData::Inline(bytes.clone()),
                RunData::Chunk { id, offset, .. } if same(at, run.len, *id, *offset) => StreamRunData::Kept,
                RunData::Chunk { offset, .. } => {
                    let number = numbers.next().ok_or(VfsError::Io)?;
                    StreamRunData::Chunk { back: self.chunks - 1 - number, offset: *offset }
                }
            };
            runs.push(StreamRun { len: run.len, data });
            at += run.len;
        }
        self.put_record(&StreamFrame::Segment(content, index, runs))
    }

    /// Everything of an inode but its names.
    fn inode(&mut self, ino: Ino, record: &InodeRecord) -> Result<(), StreamError> {
        self.put_record(&StreamFrame::Inode(ino, Some(*record)))?;
        let xattrs = self.past.xattrs(ino, record)?;
        if !xattrs.is_empty() {
            self.put_record(&StreamFrame::Xattrs(ino, Some(xattrs)))?;
        }
        match record.kind {
            InodeKind::Symlink => {
                let target = self.past.symlink(ino)?;
                self.put_record(&StreamFrame::Symlink(ino, Some(target)))
            }
            InodeKind::Regular => {
                for index in self.past.segment_indexes(record.content)? {
                    if let Some((_, segment)) = self.past.segments(record.content, index, index)?.pop() {
                        self.segment(record.content, index, &segment)?;
                    }
                }
                Ok(())
            }
            InodeKind::Directory
            | InodeKind::Fifo
            | InodeKind::Socket
            | InodeKind::CharDevice
            | InodeKind::BlockDevice => Ok(()),
        }
    }

    /// The whole tree, directory by directory.
    fn whole(&mut self) -> Result<(), StreamError> {
        let root = self.past.inode(Ino::ROOT)?.ok_or(VfsError::Io)?;
        self.inode(Ino::ROOT, &root)?;
        let mut directories = vec![Ino::ROOT];
        // Inodes with several names are met several times.
        let mut linked = BTreeSet::new();
        while let Some(directory) = directories.pop() {
            let mut names = Vec::new();
            self.past.walk_names(directory, &mut |name, target| {
                names.push((name.bytes.clone(), *target));
                ControlFlow::Continue(())
            })?;
            for (name, target) in names {
                self.put_record(&StreamFrame::Dirent(directory, name, Some(target)))?;
                let record = self.past.inode(target.ino)?.ok_or(VfsError::Io)?;
                if record.kind == InodeKind::Directory {
                    directories.push(target.ino);
                } else if record.nlink > 1 && !linked.insert(target.ino) {
                    continue;
                }
                self.inode(target.ino, &record)?;
            }
        }
        Ok(())
    }

    /// What is different from the base.
    fn changes(&mut self, changed: &mut ChangedKeys<'_>) -> Result<(), StreamError> {
        while let Some(key) = changed.next().map_err(|error| self.past.meta_error(&error))? {
            if let Some(ino) = keys::parse_inode(&key) {
                let record = self.past.inode(ino)?;
                self.put_record(&StreamFrame::Inode(ino, record))?;
                self.left(ino, record.as_ref())?;
            } else if let Some((parent, hash, name)) = keys::parse_dirent_of(&key) {
                let name = Name { hash, bytes: Bytes::copy_from_slice(name) };
                let target = self.past.dirent(parent, &name)?;
                self.put_record(&StreamFrame::Dirent(parent, name.bytes, target))?;
            } else if let Some((content, index)) = keys::parse_segment_of(&key) {
                // A content without a name at the time is no part of the tree.
                let segment = match self.past.is_orphan(content)? {
                    true => None,
                    false => self.past.segments(content, index, index)?.pop(),
                };
                match segment {
                    Some((_, segment)) => self.segment(content, index, &segment)?,
                    None => self.put_record(&StreamFrame::Segment(content, index, Vec::new()))?,
                }
            } else if let Some(ino) = keys::parse_symlink(&key) {
                let target = match self.past.inode(ino)? {
                    Some(_) => Some(self.past.symlink(ino)?),
                    None => None,
                };
                self.put_record(&StreamFrame::Symlink(ino, target))?;
            } else if let Some(ino) = keys::parse_xattrs(&key) {
                let xattrs = match self.past.inode(ino)? {
                    Some(record) => Some(self.past.xattrs(ino, &record)?).filter(|xattrs| !xattrs.is_empty()),
                    None => None,
                };
                self.put_record(&StreamFrame::Xattrs(ino, xattrs))?;
            }
        }
        Ok(())
    }

    /// What the base has of an inode and the snapshot not any more, although nothing of it changed yet: it waited for
    /// its release.
    fn left(&mut self, ino: Ino, record: Option<&InodeRecord>) -> Result<(), StreamError> {
        let Some(base) = &self.base else { return Ok(()) };
        let Some(before) = base.inode(ino)?.filter(|before| record.is_none_or(|now| now.content != before.content))
        else {
            return Ok(());
        };
        if !self.past.is_orphan(before.content)? {
            return Ok(());
        }
        // What changed is in the lists, and comes by itself.
        let since = base.id();
        let mut indexes = Vec::new();
        if before.kind == InodeKind::Regular {
            for index in base.segment_indexes(before.content)? {
                if self.past.has_from(&keys::segment(before.content, index), since)? {
                    indexes.push(index);
                }
            }
        }
        for index in indexes {
            self.put_record(&StreamFrame::Segment(before.content, index, Vec::new()))?;
        }
        if record.is_none() {
            if self.past.has_from(&keys::symlink(ino), since)? {
                self.put_record(&StreamFrame::Symlink(ino, None))?;
            }
            if self.past.has_from(&keys::xattrs(ino), since)? {
                self.put_record(&StreamFrame::Xattrs(ino, None))?;
            }
        }
        Ok(())
    }
}

/// Writes the head of the rest of a stream.
fn write_resume_head(out: &mut dyn Write, token: &ResumeToken) -> Result<(), StreamError> {
    out.write_all(&STREAM_RESUME_MAGIC)?;
    out.write_all(&token.stream)?;
    Ok(out.write_all(&token.offset.to_le_bytes())?)
}

impl Vfs {
    /// Writes the stream of a snapshot to `out`: all of it, or what leads there from the snapshot `base`; from where
    /// `resume` says on. Both snapshots can't be deleted meanwhile.
    ///
    /// # Errors
    /// [`VfsError::NotFound`] for a snapshot, [`VfsError::InvalidArgument`] if the base isn't the older one,
    /// [`VfsError::Interrupted`] when `progress` ended it, [`StreamError::Mismatch`] for a token of another stream,
    /// [`StreamError::Pipe`].
    pub fn send(
        &self,
        snapshot: &[u8],
        base: Option<&[u8]>,
        resume: Option<ResumeToken>,
        out: &mut dyn Write,
        progress: &mut Progress<'_>,
    ) -> Result<Sent, StreamError> {
        self.send_with_vault((snapshot, base), resume, None, out, progress)
    }

    /// As [`Vfs::send`], with what the snapshot has of a vault, as it is stored. That may be open.
    ///
    /// # Errors
    /// As there, and [`StreamError::Mismatch`] where the vault can't be sent.
    pub fn send_with_vault(
        &self,
        (snapshot, base): (&[u8], Option<&[u8]>),
        resume: Option<ResumeToken>,
        vault: Option<&LockedVault>,
        out: &mut dyn Write,
        progress: &mut Progress<'_>,
    ) -> Result<Sent, StreamError> {
        let shared = &self.shared;
        let used = self.use_snapshot(snapshot)?;
        let used_base = base.map(|base| self.use_snapshot(base)).transpose()?;
        let shown = self.snapshot(snapshot)?;
        let base = base.map(|base| self.snapshot(base)).transpose()?;
        if base.as_ref().is_some_and(|base| base.id >= shown.id) {
            return Err(VfsError::InvalidArgument.into());
        }
        let part = vault.map(|vault| vault.stream_part(&shown, base.as_ref())).transpose()?.flatten();
        let mut identity =
            [&b"stream"[..], &shown.uuid, &base.as_ref().map(|base| base.uuid).unwrap_or_default()].concat();
        if let Some(part) = &part {
            // With other keys its bytes are others.
            identity.extend_from_slice(&part.keys);
        }
        let stream = shared.parts.store.id_of(&identity).0;
        if let Some(token) = &resume {
            if token.stream != stream {
                return Err(StreamError::Mismatch("the token is of another snapshot or base".to_owned()));
            }
            write_resume_head(out, token)?;
        }
        let past = Past::new(shared, used.id());
        let base_past = used_base.as_ref().map(|used| Past::new(shared, used.id()));
        let compressor = Compressor::new(COMPRESSION_LEVEL).map_err(|error| {
            tracing::error!(%error, "starting zstd");
            VfsError::Io
        })?;
        let mut sender = Sender {
            past,
            base: base_past,
            out,
            progress,
            skip: resume.map_or(0, |token| token.offset),
            sent: Sent::default(),
            frames: 0,
            check: StreamCheck::default(),
            compressor,
            chunks: 0,
            known: HashMap::new(),
            window: VecDeque::new(),
        };
        sender.write(if part.is_some() { &STREAM_VAULT_MAGIC } else { &STREAM_MAGIC })?;
        sender.put(&StreamFrame::Begin(StreamBegin {
            stream,
            uuid: shown.uuid,
            base: base.as_ref().map(|base| base.uuid),
            name: shown.name,
            note: shown.note,
            created: shown.created,
            vault: part.clone(),
        }))?;
        match &base {
            None => sender.whole()?,
            Some(base) => {
                let (after, last): (Epoch, Epoch) = (base.id, shown.id);
                let window_bytes = shared.options.change_window_bytes;
                sender.changes(&mut ChangedKeys::new(&*shared.parts.meta, (after, last), window_bytes))?;
            }
        }
        if let (Some(vault), Some(part)) = (vault, &part) {
            vault.send(part, &mut |frame| match frame {
                StreamFrame::Block(..) => sender.put(frame),
                record => sender.put_record(record),
            })?;
        }
        let frames = sender.frames;
        sender.put(&StreamFrame::End(frames))?;
        sender.out.flush()?;
        let sent = sender.sent;
        match resume.is_some_and(|token| token.offset > sent.bytes) {
            true => Err(StreamError::Mismatch("the token is from behind the stream's end".to_owned())),
            false => Ok(sent),
        }
    }
}
