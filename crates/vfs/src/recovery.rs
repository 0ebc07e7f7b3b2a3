//! Opens a filesystem: makes an empty one, or brings a crashed one to its last durable state.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use verfs_base::{ByteRange, Disk, Epoch, GroupId, Ino, Timestamp};
use verfs_format::{
    ContentId, FrameHeader, HEADER_BYTES, InodeFlags, InodeKind, InodeRecord, InodeScope, LogEntry, OrphanRecord,
    TreeCounters, encode_versioned, keys, split_versioned, varint,
};
use verfs_meta::{Direction, KeyRange, MetaError, MetaStore, WriteBatch};

use crate::apply::{Return, Steps, count};
use crate::check::ReadFrame;
use crate::directory::DirectoryCache;
use crate::group::{Group, Reap, Unlogged};
use crate::history::corrupt;
use crate::intent_log::{IntentLog, create_files, log_path};
use crate::load::{committed_node, decode_inode, meta_error};
use crate::read_ahead::ReadAhead;
use crate::resident::Resident;
use crate::rollback::Freeze;
use crate::snapshots::SnapshotTable;
use crate::space::SpaceGauge;
use crate::state::{Birth, GroupLimits, KEPT, Need, Node, State, Stop, xattr_weight};
use crate::stream::{StreamError, complete_receive};
use crate::volume::{Shared, VfsParts};
use crate::{Context, Result, Vfs, VfsError, VfsOptions};

/// First number that isn't the root's.
const FIRST_NUMBER: u64 = Ino::ROOT.0 + 1;
/// Records at which a group closes, however small they are: as many as the metadata engine takes into a memtable. A
/// larger batch becomes a table of its own, which costs several times as much (docs/decisions/0003-metadata-engines.md).
const GROUP_RECORDS_MAX: usize = 9_000;

/// Extended attributes in memory, for each inode that may be there.
const XATTR_CACHE_BYTES_PER_INODE: usize = 64;
/// How far frame numbers jump at each start: more frames than one crash can leave behind a torn one.
const RECOVERY_SEQUENCE_STEP: u64 = 1 << 32;
/// How far group numbers jump at each start, for the same reason: two groups can have frames.
const RECOVERY_GROUP_STEP: u64 = 4;

/// What the metadata says of the tree as a whole.
struct Base {
    committed: GroupId,
    next_number: u64,
    counters: TreeCounters,
    orphans: VecDeque<Reap>,
    epoch: Epoch,
    snapshots: SnapshotTable,
}

pub(crate) fn system_number(meta: &dyn MetaStore, key: &[u8]) -> std::result::Result<Option<u64>, MetaError> {
    let Some(value) = meta.get(key)? else { return Ok(None) };
    varint::Reader::new(&value).u64().map(Some).map_err(|error| corrupt(key, &error))
}

/// Why a filesystem can't be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// A record of the metadata, or the stream whose application has to be completed, is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] VfsError),
}

impl From<MetaError> for OpenError {
    fn from(error: MetaError) -> OpenError {
        match error {
            MetaError::Corrupt(detail) => {
                tracing::error!(detail, "the metadata is damaged");
                OpenError::Damaged(detail)
            }
            error => OpenError::Failed(meta_error(&error)),
        }
    }
}

/// Makes the root directory of an empty volume durable, as `options` want it.
fn create_root(meta: &dyn MetaStore, now: Timestamp, options: &VfsOptions) -> std::result::Result<(), MetaError> {
    let root = InodeRecord {
        kind: InodeKind::Directory,
        mode: options.root_mode,
        flags: InodeFlags::default(),
        nlink: 2,
        uid: options.root_uid,
        gid: options.root_gid,
        rdev: 0,
        size: 0,
        allocated: 0,
        content: ContentId(Ino::ROOT.0),
        parent: Ino::ROOT,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
    };
    let mut batch = WriteBatch::new();
    batch.put(keys::inode(Ino::ROOT), encode_versioned(Epoch::FIRST, |out| root.encode(out)));
    let mut counters = Vec::new();
    TreeCounters { inodes: 1, directories: 1, logical_bytes: 0 }.encode(&mut counters);
    batch.put(keys::SYSTEM_COUNTERS.to_vec(), counters);
    for (key, number) in [(keys::SYSTEM_NEXT_NUMBER, FIRST_NUMBER), (keys::SYSTEM_GROUP, 0)] {
        let mut value = Vec::new();
        varint::put_u64(&mut value, number);
        batch.put(key.to_vec(), value);
    }
    meta.commit(batch)?;
    meta.sync()
}

fn read_base(meta: &dyn MetaStore, now: Timestamp, options: &VfsOptions) -> std::result::Result<Base, MetaError> {
    let missing = |what: &str| MetaError::Corrupt(format!("there is no {what}"));
    if system_number(meta, keys::SYSTEM_GROUP)?.is_none() {
        // Made anew, it would be in the place of one with names.
        if meta.get(&keys::inode(Ino::ROOT))?.is_some() {
            return Err(missing("number of the last group"));
        }
        create_root(meta, now, options)?;
    }
    let counters = match meta.get(keys::SYSTEM_COUNTERS)? {
        None => TreeCounters::default(),
        Some(value) => TreeCounters::decode(&value).map_err(|error| corrupt(keys::SYSTEM_COUNTERS, &error))?,
    };
    let mut orphans = VecDeque::new();
    let mut broken = None;
    meta.scan(&KeyRange::prefix(&[keys::ORPHAN]), Direction::Forward, &mut |key, value| match (
        keys::parse_orphan(key),
        split_versioned(value).and_then(|(_, record)| OrphanRecord::decode(record)),
    ) {
        (Some(content), Ok(record)) => {
            orphans.push_back(Reap::whole(content, record.ino, record.died));
            ControlFlow::Continue(())
        }
        (None, _) => ControlFlow::Continue(()),
        (Some(_), Err(error)) => {
            broken = Some(corrupt(key, &error));
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = broken {
        return Err(error);
    }
    let snapshots = SnapshotTable::read(meta)?;
    let epoch = system_number(meta, keys::SYSTEM_EPOCH)?.map_or(Epoch::FIRST, Epoch);
    if let Some(newest) = snapshots.records().map(|(id, _)| id).last().filter(|newest| *newest >= epoch) {
        // What is born in it would be in a snapshot.
        return Err(MetaError::Corrupt(format!("the epoch is {}, and there is a snapshot {}", epoch.0, newest.0)));
    }
    Ok(Base {
        committed: GroupId(system_number(meta, keys::SYSTEM_GROUP)?.unwrap_or(0)),
        // Numbers are never used again.
        next_number: system_number(meta, keys::SYSTEM_NEXT_NUMBER)?.ok_or_else(|| missing("next inode number"))?,
        counters,
        orphans,
        epoch,
        snapshots,
    })
}

/// A frame found in a log file.
pub(crate) type Frame = (FrameHeader, Vec<LogEntry>);

/// Frames of one log file, as far as they follow each other, and where they end.
pub(crate) fn read_frames(disk: &dyn Disk, parity: u64, read: &ReadFrame<'_>) -> std::io::Result<(Vec<Frame>, u64)> {
    let file = disk.open_read(&log_path(parity))?;
    let len = file.len()?;
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = 0;
    let mut header_bytes = [0; HEADER_BYTES];
    while at + HEADER_BYTES as u64 <= len {
        file.read_exact_at(&mut header_bytes, at)?;
        let Ok(header) = FrameHeader::decode(&header_bytes) else { break };
        let frame_bytes = header.frame_bytes();
        let follows = frames.last().is_none_or(|(before, _)| header.sequence == before.sequence + 1);
        if !follows || at + frame_bytes as u64 > len {
            break;
        }
        let mut frame = vec![0; frame_bytes];
        file.read_exact_at(&mut frame, at)?;
        let Ok(decoded) = read(&frame) else { break };
        frames.push(decoded);
        at += frame_bytes as u64;
    }
    Ok((frames, at))
}

/// Whether the log has frames of groups behind `committed`.
pub(crate) fn has_frames_behind(disk: &dyn Disk, committed: GroupId) -> std::io::Result<bool> {
    Ok(newest_frame(disk)?.is_some_and(|group| group > committed))
}

/// The newest group that has a frame in the log. Bodies are not looked at: one that a crash tore counts.
pub(crate) fn newest_frame(disk: &dyn Disk) -> std::io::Result<Option<GroupId>> {
    let mut newest = None;
    for parity in 0..2 {
        let file = match disk.open_read(&log_path(parity)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let (len, mut at) = (file.len()?, 0);
        let mut header_bytes = [0; HEADER_BYTES];
        while at + HEADER_BYTES as u64 <= len {
            file.read_exact_at(&mut header_bytes, at)?;
            let Ok(header) = FrameHeader::decode(&header_bytes) else { break };
            newest = newest.max(Some(header.group));
            at += header.frame_bytes() as u64;
        }
    }
    Ok(newest)
}

/// What the metadata has of the inodes that log frames change: counters and releases follow from the difference
/// between that and what the last frame leaves.
type Stored = FxHashMap<Ino, Option<InodeRecord>>;

impl Shared {
    /// Applies one frame to the state, as operations would have, but for counters and releases.
    fn replay(&self, entries: Vec<LogEntry>, stored: &mut Stored) -> Result<()> {
        let changed: Vec<Ino> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Inode { ino, .. } => Some(*ino),
                LogEntry::Dirent { .. }
                | LogEntry::Symlink { .. }
                | LogEntry::Xattrs { .. }
                | LogEntry::Data { .. }
                | LogEntry::Hole { .. } => None,
            })
            .collect();
        // Whatever the store has of an inode is where its change starts from. Loading one may evict another.
        let mut nodes = Vec::with_capacity(changed.len());
        for &ino in &changed {
            let node = self.run(&Context::ROOT, |state| match state.nodes.get(ino) {
                Some(node) => Ok(*node),
                None => Err(Stop::Need(Need::Inode(ino))),
            })?;
            nodes.push((ino, node));
        }
        let mut state = self.state.lock();
        state.begin_change(self.monotonic());
        for (ino, node) in nodes {
            stored.entry(ino).or_insert(record_of(&node));
            state.nodes.load(ino, node, 1);
        }
        for entry in entries {
            match entry {
                LogEntry::Inode { ino, scope, record } => replay_inode(&mut state, ino, scope, record),
                LogEntry::Dirent { parent, name, target } => {
                    let name = self.name_of(parent, name);
                    state.put_dirent(parent, &name, target);
                }
                LogEntry::Symlink { ino, target } => {
                    let group = state.open.id;
                    state.symlinks.put(ino, target.clone(), group, 1);
                    state.open.symlinks.insert(ino, target);
                }
                LogEntry::Xattrs { ino, xattrs } => {
                    let (group, weight) = (state.open.id, xattr_weight(&xattrs));
                    let xattrs = Arc::new(xattrs);
                    state.xattrs.put(ino, Arc::clone(&xattrs), group, weight);
                    state.open.put_xattrs(ino, xattrs);
                }
                LogEntry::Data { content, offset, bytes } => {
                    let range = ByteRange::new(offset, bytes.len() as u64);
                    state.change_data(content, range, 0, |dirty| dirty.write(offset, &bytes, Some(bytes.clone())));
                }
                LogEntry::Hole { content, offset, len } => {
                    let range = ByteRange::new(offset, len);
                    state.change_data(content, range, 0, |dirty| dirty.punch(range));
                }
            }
        }
        // What was cut off after it was logged must not come back.
        for ino in changed {
            let Some(InodeRecord { content, size, .. }) = state.nodes.get(ino).and_then(record_of) else { continue };
            if state.open.data.contains_key(&content) {
                state.change_data(content, ByteRange::new(size, 0), 0, |dirty| dirty.cut(size, size));
            }
        }
        Ok(())
    }

    /// Counts what replay changed, and gives up what it left without a name or a file.
    fn settle_replay(&self, stored: Stored) {
        let mut state = self.state.lock();
        for (ino, before) in stored {
            let Some(after) = state.nodes.get(ino).and_then(record_of) else { continue };
            let linked_before = before.filter(|record| record.nlink > 0);
            let linked_after = Some(after).filter(|record| record.nlink > 0);
            count(&mut state.counters, before.as_ref(), Some(&after));

            let replaced = before.map(|record| record.content).filter(|content| *content != after.content);
            let epoch = state.epoch;
            let replaced = replaced.map(|content| Reap::content(content, epoch));
            // One that had no name before has an orphan record, and so is released already.
            let unlinked = linked_after.is_none() && (before.is_none() || linked_before.is_some());
            let unlinked = unlinked.then(|| Reap::whole(after.content, Some(ino), epoch));
            for reap in replaced.into_iter().chain(unlinked) {
                state.open.orphans.push(reap);
                state.reapable.push_back(reap);
            }
        }
    }
}

impl Shared {
    /// What an open says that ended with `error`: a damaged record by its name, if that was why.
    fn open_error(&self, error: VfsError) -> OpenError {
        match (error, self.damaged_record.lock().take()) {
            (VfsError::Io, Some(detail)) => OpenError::Damaged(detail),
            (error, _) => OpenError::Failed(error),
        }
    }
}

/// Completes a rollback that a crash interrupted.
fn complete_rollback(parts: &VfsParts, base: &Base, options: &VfsOptions) -> std::result::Result<bool, OpenError> {
    let to = system_number(&*parts.meta, keys::SYSTEM_ROLLBACK)?;
    let Some(to) = to else { return Ok(false) };
    if !base.snapshots.stands(Epoch(to)) {
        return Err(OpenError::Damaged(format!("a rollback is under way, and its snapshot {to} is not there")));
    }
    tracing::info!(snapshot = to, "completing a rollback");
    let steps = Steps { parts, standing: base.snapshots.standing(), epoch: base.epoch };
    Return { steps, to: Epoch(to), records: &AtomicU64::new(0), beside: None }
        .run(base.committed.next(), options.change_window_bytes)?;
    Ok(true)
}

/// Completes what a crash interrupted that changes the tree in one piece. Returns whether there was anything.
fn complete_changes(parts: &VfsParts, base: &Base, options: &VfsOptions) -> std::result::Result<bool, OpenError> {
    if complete_rollback(parts, base, options)? {
        return Ok(true);
    }
    match complete_receive(parts, &base.snapshots, (base.committed, base.epoch)) {
        Ok(completed) => Ok(completed),
        Err(StreamError::Volume(error)) => Err(error.into()),
        Err(error) => Err(OpenError::Damaged(format!("a stream was applied in part: {error}"))),
    }
}

impl Shared {
    /// Makes memory anew of what the store has as of `group`. Nothing may be uncommitted.
    pub(crate) fn rebuild(&self, group: GroupId) -> Result<()> {
        let meta = &*self.parts.meta;
        let base = read_base(meta, self.now(), &self.options).map_err(|error| self.meta_error(&error))?;
        let space = self.parts.disk.space().map_err(|error| self.io_error("statvfs", &error))?;
        let mut fresh = new_state(base, group.next(), space, &self.options);
        let mut state = self.state.lock();
        fresh.commits = state.commits + 1;
        fresh.freeze = state.freeze;
        fresh.meeting = state.meeting;
        fresh.pins = std::mem::take(&mut state.pins);
        fresh.holds = std::mem::take(&mut state.holds);
        fresh.snapshots.keep_uses(&state.snapshots);
        // Orphans that somebody keeps are not released yet.
        let orphans = std::mem::take(&mut fresh.reapable);
        let is_kept = |reap: &Reap| reap.ino.is_some_and(|ino| fresh.is_in_use(ino));
        let (kept, released): (Vec<Reap>, Vec<Reap>) = orphans.into_iter().partition(is_kept);
        fresh.reapable = released.into();
        for reap in kept {
            let Some(ino) = reap.ino else { continue };
            let Some(value) = meta.get(&keys::inode(ino)).map_err(|error| self.meta_error(&error))? else { continue };
            let record = decode_inode(&value).map_err(|error| self.damaged("inode", ino.0, error))?;
            fresh.nodes.put(ino, committed_node(record), KEPT, 1);
            fresh.kept.insert(ino, reap.died);
        }
        *state = fresh;
        Ok(())
    }
}

fn record_of(node: &Node) -> Option<InodeRecord> {
    match node {
        Node::Present { record, .. } => Some(*record),
        Node::Gone => None,
    }
}

fn replay_inode(state: &mut State, ino: Ino, scope: InodeScope, record: InodeRecord) {
    let group = state.open.id;
    let known = state.nodes.get(ino).and_then(record_of);
    let record = match (scope, known) {
        (InodeScope::All, _) => record,
        (InodeScope::Attributes, Some(known)) => {
            InodeRecord { size: known.size, content: known.content, allocated: known.allocated, ..record }
        }
        (InodeScope::Attributes, None) => InodeRecord { size: 0, content: ContentId(ino.0), allocated: 0, ..record },
        (InodeScope::Content, Some(known)) => {
            InodeRecord { size: record.size, content: record.content, allocated: record.allocated, ..known }
        }
        // Its attributes are in a frame before, always.
        (InodeScope::Content, None) => return,
    };
    state.next_number = state.next_number.max(ino.0 + 1).max(record.content.0 + 1);
    match known {
        None => {
            let born = Birth { group, logged: true };
            let node = Node::Present { record, committed_allocated: 0, born, content_born: born };
            state.nodes.put(ino, node, group, 1);
        }
        Some(known) if known.content != record.content => {
            state.drop_dirty(known.content);
            if let Some(Node::Present { committed_allocated, .. }) = state.nodes.adjust(ino) {
                *committed_allocated = 0;
            }
        }
        Some(_) => {}
    }
    state.put_inode(ino, record);
}

impl Vfs {
    /// Opens a filesystem: an empty metadata store gets a root directory; after a crash the intent log is replayed and
    /// committed before the call returns. Starts the committer thread.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] for records of the metadata; [`VfsError::Io`] for metadata or a log that can't be read,
    /// [`VfsError::NoSpace`].
    pub fn open(parts: VfsParts, options: VfsOptions) -> std::result::Result<Arc<Vfs>, OpenError> {
        let now = parts.clock.now();
        let read_base = || read_base(&*parts.meta, now, &options);
        let mut base = read_base()?;
        if complete_changes(&parts, &base, &options)? {
            base = read_base()?;
        }
        let disk_error = |error: std::io::Error| {
            tracing::error!(%error, "opening the intent log");
            if error.kind() == std::io::ErrorKind::StorageFull { VfsError::NoSpace } else { VfsError::Io }
        };
        create_files(&*parts.disk, options.log_file_bytes).map_err(disk_error)?;
        let mut frames = Vec::new();
        for parity in 0..2 {
            let read = |frame: &[u8]| parts.store.read_frame(frame);
            frames.extend(read_frames(&*parts.disk, parity, &read).map_err(disk_error)?.0);
        }
        frames.sort_by_key(|(header, _)| header.sequence);
        let last_sequence = frames.last().map_or(0, |(header, _)| header.sequence);
        let last_group = frames.iter().map(|(header, _)| header.group).max().unwrap_or(base.committed);
        frames.retain(|(header, _)| header.group > base.committed);

        // No frame behind a torn one may ever seem to follow a new frame, nor belong to a group still to come.
        let last_sequence = last_sequence + RECOVERY_SEQUENCE_STEP;
        let open = GroupId(base.committed.max(last_group).0 + RECOVERY_GROUP_STEP);
        let log = IntentLog::open(&*parts.disk, open, last_sequence).map_err(disk_error)?;
        let space = parts.disk.space().map_err(disk_error)?;
        let has_work = !base.orphans.is_empty() || base.snapshots.is_pruning();
        let read_ahead = ReadAhead::new(parts.store.read_ahead_max_bytes());
        let shared = Arc::new(Shared {
            state: Mutex::new(new_state(base, open, space, &options)),
            work: Condvar::new(),
            progress: Condvar::new(),
            log,
            parts,
            options,
            log_frames: AtomicU64::new(0),
            damaged: Mutex::new(Vec::new()),
            damaged_record: Mutex::new(None),
            read_ahead,
            whole_tree: Mutex::new(()),
            receiving: Mutex::new(()),
            rolled_back: AtomicU64::new(0),
            watchers: crate::changes::Watchers::default(),
        });
        let replayed = frames.len();
        let named = |error| shared.open_error(error);
        let mut stored = Stored::default();
        for (_, entries) in frames {
            shared.replay(entries, &mut stored).map_err(named)?;
        }
        shared.settle_replay(stored);
        let committer = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("verfs-commit".to_owned())
                .spawn(move || crate::commit::run(&shared))
                .map_err(|error| shared_thread_error(&error))?
        };
        let vfs = Arc::new(Vfs { shared: Arc::clone(&shared), committer: Mutex::new(Some(committer)) });
        if replayed > 0 {
            tracing::info!(frames = replayed, "replayed the intent log");
            vfs.shared.barrier().map_err(named)?;
        } else if has_work {
            let mut state = vfs.shared.state.lock();
            state.begin_change(vfs.shared.monotonic());
            vfs.shared.work.notify_one();
        }
        Ok(vfs)
    }
}

fn shared_thread_error(error: &std::io::Error) -> VfsError {
    tracing::error!(%error, "starting the committer thread");
    VfsError::Io
}

fn new_state(base: Base, open: GroupId, space: verfs_base::Space, options: &VfsOptions) -> State {
    State {
        nodes: Resident::new(options.inode_cache_entries),
        directories: DirectoryCache::new(options.dirent_cache_entries),
        symlinks: Resident::new(options.inode_cache_entries / 8),
        xattrs: Resident::new(options.inode_cache_entries * XATTR_CACHE_BYTES_PER_INODE),
        segments: Resident::new(options.segment_cache_bytes),
        open: Group::new(open, base.epoch, base.next_number),
        unlogged: Unlogged::default(),
        closing: None,
        committed: base.committed,
        commits: 0,
        close_requested: false,
        pins: FxHashMap::default(),
        holds: FxHashMap::default(),
        reapable: base.orphans,
        kept: FxHashMap::default(),
        counters: base.counters,
        next_number: base.next_number,
        epoch: base.epoch,
        snapshots: base.snapshots,
        space: SpaceGauge::new(space),
        limits: GroupLimits {
            blocks: u64::from(options.group_blocks),
            records: GROUP_RECORDS_MAX,
            memory_bytes: options.dirty_limit_bytes / 2,
        },
        failure: None,
        stalled: None,
        shutdown: false,
        freeze: Freeze::No,
        meeting: false,
    }
}
