//! The intent log: makes an fsync durable with one write and one flush, before its group is committed.
//!
//! Two files of fixed, zero-filled size take turns: frames that are written while group N is open go to file N mod 2.
//! When group N+2 opens, group N is committed, so its file starts from the front again; nothing is ever erased.
//! Callers of fsync that arrive while a frame is being flushed share the next one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustc_hash::FxHashSet;
use verfs_base::{ByteRange, Disk, DiskFile, GroupId, Ino};
use verfs_format::{ContentId, FrameBuilder, InodeKind, InodeScope, LogEntry, Xattrs};

use crate::dirty::View;
use crate::group::{Group, Unlogged};
use crate::rollback::Freeze;
use crate::state::{Failure, Node, State};
use crate::volume::Shared;
use crate::{Context, Result, SyncScope, Vfs, VfsError};

/// Directory of the log files, under the volume's root.
pub(crate) const LOG_DIRECTORY: &str = "log";
/// Zeros are written in steps of this size when a log file is made.
const ZERO_STEP_BYTES: usize = 1 << 20;
/// What one frame's framing and records take beside file data is assumed to be less than this.
const FRAME_MARGIN_BYTES: u64 = 64 << 10;

/// Where the log of a group parity is.
pub(crate) fn log_path(parity: u64) -> PathBuf {
    Path::new(LOG_DIRECTORY).join(format!("intent-{parity}.vlog"))
}

/// Makes the log files, filled with zeros so that later flushes change no file metadata.
pub(crate) fn create_files(disk: &dyn Disk, bytes: u64) -> std::io::Result<()> {
    disk.create_dir_all(Path::new(LOG_DIRECTORY))?;
    let zeros = vec![0; ZERO_STEP_BYTES];
    for parity in 0..2 {
        let file = match disk.open(&log_path(parity)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => disk.create(&log_path(parity))?,
            Err(error) => return Err(error),
        };
        let mut at = file.len()?;
        while at < bytes {
            let step = (bytes - at).min(ZERO_STEP_BYTES as u64);
            file.write_all_at(&zeros[..step as usize], at)?;
            at += step;
        }
        file.sync_data()?;
    }
    disk.sync_dir(Path::new(LOG_DIRECTORY))?;
    disk.sync_dir(Path::new(""))
}

/// Where the next frame goes.
#[derive(Debug)]
struct Tail {
    /// Group that was open when the current file was begun.
    group: GroupId,
    offset: u64,
    sequence: u64,
    /// A frame could not be written: what it had is durable only once this group is committed.
    broken: Option<GroupId>,
}

/// Who waits for which frame.
#[derive(Debug, Default)]
struct Queue {
    /// Files whose content the next frame is to have.
    files: FxHashSet<Ino>,
    /// Number of the next frame batch.
    next: u64,
    /// Batches up to this one are flushed.
    done: u64,
    /// A caller is writing.
    busy: bool,
    /// Outcome of recent failed batches.
    failed: Vec<(u64, VfsError)>,
}

/// The two log files and the callers that wait for them.
#[derive(Debug)]
pub(crate) struct IntentLog {
    /// None once the volume is closed.
    files: Mutex<Option<[Arc<dyn DiskFile>; 2]>>,
    file_bytes: u64,
    tail: Mutex<Tail>,
    queue: Mutex<Queue>,
    /// Those of the batch that is being flushed wait at one of them, those of the next one at the other: so a flush
    /// wakes whom it was for, and one who writes the next frame.
    flushed: [Condvar; 2],
}

impl IntentLog {
    /// Opens the log files for appending. `sequence` is that of the last frame ever written.
    pub(crate) fn open(disk: &dyn Disk, group: GroupId, sequence: u64) -> std::io::Result<Self> {
        let files = [disk.open(&log_path(0))?, disk.open(&log_path(1))?];
        let file_bytes = files[0].len()?.min(files[1].len()?);
        Ok(IntentLog {
            files: Mutex::new(Some(files)),
            file_bytes,
            tail: Mutex::new(Tail { group, offset: 0, sequence, broken: None }),
            queue: Mutex::new(Queue { next: 1, ..Queue::default() }),
            flushed: [Condvar::new(), Condvar::new()],
        })
    }

    /// The file for the frames of a group.
    fn file(&self, group: GroupId) -> Result<Arc<dyn DiskFile>> {
        let files = self.files.lock();
        let files = files.as_ref().ok_or(VfsError::Closed)?;
        Ok(Arc::clone(&files[(group.0 % 2) as usize]))
    }

    fn flushed(&self, batch: u64) -> &Condvar {
        &self.flushed[(batch % 2) as usize]
    }

    /// Lets go of the files: whoever closed the volume may want to unmount the disk.
    pub(crate) fn close(&self) {
        *self.files.lock() = None;
    }
}

/// What an fsync has to do.
enum Plan {
    /// Everything it asks for is durable.
    Nothing,
    /// A log frame takes it.
    Log,
    /// There is too much for the log.
    Commit,
}

/// A frame's changes, taken out of the state.
struct Cut {
    /// Group that is open.
    open: GroupId,
    frames: Vec<(GroupId, FrameBuilder)>,
    cutting: Cutting,
}

impl State {
    fn unlogged_bytes(&self, ino: Ino) -> u64 {
        let bytes_of = |content: ContentId| {
            let closing = self.closing.as_ref().map_or(0, |closing| closing.unlogged.content_bytes(content));
            self.unlogged.content_bytes(content) + closing
        };
        let open = self.open.inodes.get(&ino).map(|record| record.content);
        let closing =
            self.closing.as_ref().and_then(|closing| closing.group.inodes.get(&ino)).map(|record| record.content);
        match (open, closing) {
            (Some(open), Some(closing)) if open != closing => bytes_of(open) + bytes_of(closing),
            (Some(content), _) | (None, Some(content)) => bytes_of(content),
            (None, None) => 0,
        }
    }

    fn has_unlogged(&self, ino: Ino) -> bool {
        let in_group = |group: &Group, unlogged: &Unlogged| {
            !unlogged.namespace_is_empty()
                || group.inodes.get(&ino).is_some_and(|record| unlogged.has_content(record.content))
        };
        in_group(&self.open, &self.unlogged)
            || self.closing.as_ref().is_some_and(|closing| in_group(&closing.group, &closing.unlogged))
    }

    /// Files whose content has to go with the names that a frame will have.
    fn moved(&self) -> impl Iterator<Item = Ino> + '_ {
        let closing = self.closing.iter().flat_map(|closing| closing.unlogged.moved.iter());
        self.unlogged.moved.iter().chain(closing).copied()
    }
}

/// Adds one group's unlogged changes to a frame, with the content of `files`.
///
/// Of a file whose attributes are logged already only the content is added: the group after this one may have logged
/// newer attributes since, and nothing may go back in time.
fn cut_group(
    group: &Group,
    unlogged: &mut Unlogged,
    files: &FxHashSet<Ino>,
    frame: &mut FrameBuilder,
) -> (Vec<(Ino, InodeScope)>, Cutting) {
    let mut logged = Vec::new();
    let mut cutting = Cutting::Whole;
    let inodes = std::mem::take(&mut unlogged.inodes);
    unlogged.moved.clear();
    for ino in inodes.iter().chain(files.difference(&inodes)) {
        let Some(record) = group.inodes.get(ino) else { continue };
        let regular = record.kind == InodeKind::Regular;
        let scope = match (inodes.contains(ino), regular, files.contains(ino)) {
            (true, true, false) => InodeScope::Attributes,
            (true, _, _) => InodeScope::All,
            (false, _, _) if unlogged.has_content(record.content) => InodeScope::Content,
            (false, _, _) => continue,
        };
        frame.push(&LogEntry::Inode { ino: *ino, scope, record: *record });
        let with_content = regular && scope != InodeScope::Attributes;
        if with_content && cut_content(group, unlogged, record.content, frame) == Cutting::Short {
            cutting = Cutting::Short;
        }
        logged.push((*ino, scope));
    }
    for (parent, name) in std::mem::take(&mut unlogged.dirents) {
        let key = (parent, name);
        if let Some(target) = group.dirents.get(&key) {
            frame.push(&LogEntry::Dirent { parent, name: key.1.bytes, target: *target });
        }
    }
    for ino in std::mem::take(&mut unlogged.symlinks) {
        if let Some(target) = group.symlinks.get(&ino) {
            frame.push(&LogEntry::Symlink { ino, target: target.clone() });
        }
    }
    for ino in std::mem::take(&mut unlogged.xattrs) {
        if let Some(xattrs) = group.xattrs.get(&ino) {
            frame.push(&LogEntry::Xattrs { ino, xattrs: Xattrs::clone(xattrs) });
        }
    }
    (logged, cutting)
}

/// Whether a cut has all that was asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cutting {
    Whole,
    /// Bytes that only a group can hold are missing: references to chunks.
    Short,
}

fn cut_content(group: &Group, unlogged: &mut Unlogged, content: ContentId, frame: &mut FrameBuilder) -> Cutting {
    let (Some(ranges), Some(dirty)) = (unlogged.take_content(content), group.data.get(&content)) else {
        return Cutting::Whole;
    };
    let mut cutting = Cutting::Whole;
    for range in ranges.iter() {
        dirty.visit(range, &mut |range: ByteRange, view, skip| {
            let (offset, len) = (range.offset, range.len);
            let end = skip + len as usize;
            match view {
                // Every unlogged range is covered by the piece that was written.
                None => {}
                Some(View::Hole) => frame.push(&LogEntry::Hole { content, offset, len }),
                Some(View::Shared(bytes)) => {
                    frame.push(&LogEntry::Data { content, offset, bytes: bytes.slice(skip..end) });
                }
                Some(View::Borrowed(bytes)) => {
                    let bytes = Bytes::copy_from_slice(&bytes[skip..end]);
                    frame.push(&LogEntry::Data { content, offset, bytes });
                }
                Some(View::Stored(_)) => cutting = Cutting::Short,
            }
        });
    }
    cutting
}

impl Shared {
    fn plan_fsync(&self, state: &State, ino: Ino) -> Plan {
        if !state.has_unlogged(ino) {
            return Plan::Nothing;
        }
        let moved: u64 = state.moved().filter(|other| *other != ino).map(|other| state.unlogged_bytes(other)).sum();
        if state.unlogged_bytes(ino) + moved > self.options.log_inline_bytes { Plan::Commit } else { Plan::Log }
    }

    /// Takes everything that the next frame must have out of the state.
    fn cut(&self, files: &FxHashSet<Ino>) -> Cut {
        let mut state = self.state.lock();
        let mut frames = Vec::new();
        let mut logged = Vec::new();
        let mut cuttings = Vec::new();
        let files: FxHashSet<Ino> = files.iter().copied().chain(state.moved()).collect();
        let State { closing, open, unlogged, .. } = &mut *state;
        if let Some(closing) = closing {
            let mut frame = FrameBuilder::new();
            let (entries, cut) = cut_group(&closing.group, &mut closing.unlogged, &files, &mut frame);
            logged.extend(entries);
            cuttings.push(cut);
            frames.push((closing.group.id, frame));
        }
        let mut frame = FrameBuilder::new();
        let (entries, cut) = cut_group(open, unlogged, &files, &mut frame);
        logged.extend(entries);
        cuttings.push(cut);
        frames.push((open.id, frame));
        let open = open.id;
        for (ino, scope) in logged {
            if let Some(Node::Present { born, content_born, .. }) = state.nodes.adjust(ino) {
                born.logged = true;
                content_born.logged |= scope != InodeScope::Attributes;
            }
        }
        frames.retain(|(_, frame)| !frame.is_empty());
        let cutting = if cuttings.contains(&Cutting::Short) { Cutting::Short } else { Cutting::Whole };
        Cut { open, frames, cutting }
    }

    /// Writes and flushes one frame for each group that has changes. What was cut is lost to the log if this fails:
    /// until the group is committed every batch fails then, and its callers have the group committed instead.
    fn write_frames(&self, cut: Cut) -> Result<()> {
        let mut tail = self.log.tail.lock();
        if let Some(group) = tail.broken {
            if self.state.lock().committed < group {
                return Err(VfsError::NoSpace);
            }
            tail.broken = None;
        }
        let open = cut.open;
        let result = match cut.cutting {
            Cutting::Whole => self.append(&mut tail, cut),
            Cutting::Short => Err(VfsError::NoSpace),
        };
        if result.is_err() {
            tail.broken = Some(open);
        }
        result
    }

    fn append(&self, tail: &mut Tail, cut: Cut) -> Result<()> {
        let log = &self.log;
        if tail.group != cut.open {
            tail.group = cut.open;
            tail.offset = 0;
        }
        let mut bytes = Vec::new();
        let mut sequence = tail.sequence;
        let count = cut.frames.len() as u64;
        for (group, frame) in cut.frames {
            sequence += 1;
            let frame = self.parts.store.finish_frame(frame, group, sequence);
            bytes.extend_from_slice(&frame.map_err(|error| self.store_error(None, &error))?);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if tail.offset + bytes.len() as u64 > log.file_bytes {
            return Err(VfsError::NoSpace);
        }
        let file = log.file(cut.open)?;
        file.write_all_at(&bytes, tail.offset).map_err(|error| self.io_error("writing the intent log", &error))?;
        file.sync_data().map_err(|error| self.io_error("flushing the intent log", &error))?;
        tail.offset += bytes.len() as u64;
        tail.sequence = sequence;
        self.log_frames.fetch_add(count, Ordering::Relaxed);
        if tail.offset + self.options.log_inline_bytes + FRAME_MARGIN_BYTES > log.file_bytes {
            self.state.lock().close_requested = true;
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits until a frame with this file's content, and everything before it, is flushed. One waiting caller writes
    /// for all the others.
    fn log_and_wait(&self, ino: Ino) -> Result<()> {
        let log = &self.log;
        let mut queue = log.queue.lock();
        queue.files.insert(ino);
        let mine = queue.next;
        while queue.done < mine {
            if queue.busy {
                log.flushed(mine).wait(&mut queue);
                continue;
            }
            self.lead(&mut queue);
        }
        match queue.failed.iter().find(|(batch, _)| *batch == mine) {
            Some((_, error)) => Err(*error),
            None => Ok(()),
        }
    }

    /// Writes the frame of the waiting batch; the queue is unlocked meanwhile.
    fn lead(&self, queue: &mut MutexGuard<'_, Queue>) {
        queue.busy = true;
        let files = std::mem::take(&mut queue.files);
        let batch = queue.next;
        queue.next += 1;
        let result = MutexGuard::unlocked(queue, || {
            catch_unwind(AssertUnwindSafe(|| self.write_frames(self.cut(&files)))).unwrap_or_else(|_| {
                tracing::error!("writing the intent log panicked: the groups take what was meant for it");
                // Nobody knows what was cut: every batch fails until all of it is committed.
                let open = self.state.lock().open.id;
                self.log.tail.lock().broken = Some(open);
                Err(VfsError::Io)
            })
        });
        queue.busy = false;
        queue.done = batch;
        if let Err(error) = result {
            queue.failed.push((batch, error));
            if queue.failed.len() > FAILED_KEPT {
                queue.failed.remove(0);
            }
        }
        // The next flush begins before those of this one are told.
        self.log.flushed(batch + 1).notify_one();
        self.log.flushed(batch).notify_all();
    }

    fn fsync(&self, ino: Ino) -> Result<()> {
        let target = {
            let mut state = self.state.lock();
            // The log is not to change while somebody copies it.
            while state.freeze == Freeze::Still {
                self.progress.wait(&mut state);
            }
            match state.failure {
                Some(Failure::Store | Failure::Defect) => return Err(VfsError::Io),
                Some(Failure::Closed) => return Err(VfsError::Closed),
                None => {}
            }
            if matches!(state.nodes.get(ino), Some(Node::Gone)) {
                return Err(VfsError::NotFound);
            }
            match self.plan_fsync(&state, ino) {
                Plan::Nothing => None,
                Plan::Log => None,
                Plan::Commit => Some(state.last_changed_group()),
            }
        };
        if let Some(target) = target {
            return self.wait_committed(&mut self.state.lock(), target);
        }
        // Even with nothing of its own to log, a frame with what this call must make durable may be on its way.
        match self.log_and_wait(ino) {
            Ok(()) => Ok(()),
            // The log is full or failed: the group takes what was meant for it.
            Err(_) => self.barrier(),
        }
    }
}

/// Outcomes of failed batches kept for callers that didn't wake yet.
const FAILED_KEPT: usize = 64;

impl Vfs {
    /// Makes a file's content (or a directory) and every change of names and attributes before the call durable.
    /// Both scopes do the same today: what `fdatasync(2)` may leave out is a few bytes of the same frame.
    ///
    /// # Errors
    /// [`VfsError::NotFound`], [`VfsError::NoSpace`], [`VfsError::Io`] when the store failed since: what was not
    /// durable before may be lost.
    pub fn fsync(&self, _context: &Context, ino: Ino, _scope: SyncScope) -> Result<()> {
        self.shared.fsync(ino)
    }
}
