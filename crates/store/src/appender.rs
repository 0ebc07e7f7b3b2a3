//! Where new blocks go: the open pack, and what one batch has appended. The order of blocks is the order in which
//! their compression ended (docs/decisions/0005-pack-append-order.md).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use verfs_base::{Disk, PackId};
use verfs_format::chunk_record::ChunkRecord;
use verfs_pack::{Block, IndexEntry, PACKS_DIR, PackError, PackWrite, PackWriter, pack_dir, remove_pack};

use crate::live::{LivePack, LivePacks};
use crate::{Result, StoreError};

/// Blocks are collected until they fill a write of this size.
const WRITE_BYTES: usize = 1 << 20;
/// A pack is full at this many blocks whatever its length: bounds its index to 1.5 MiB.
const PACK_MAX_BLOCKS: usize = 1 << 16;
/// Write buffers kept for the next write.
const SPARE_BUFFERS: usize = 3;

/// A block that this batch appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) pack: PackId,
    pub(crate) entry: IndexEntry,
    pub(crate) raw_len: u32,
}

impl Placed {
    /// The record of a chunk that is here and has no reference yet.
    pub(crate) fn record(&self) -> ChunkRecord {
        ChunkRecord { refcount: 0, pack: self.pack, raw_len: self.raw_len, stored_len: self.entry.stored_len }
    }
}

/// Appends blocks to packs.
pub(crate) struct Appender {
    disk: Arc<dyn Disk>,
    live: Arc<LivePacks>,
    target_bytes: u64,
    state: Mutex<State>,
}

struct State {
    next_pack: u64,
    open: Option<PackWriter>,
    /// Packs that this batch filled.
    filled: Vec<PackWriter>,
    /// The pack that was open when the batch began, as it was then.
    start: Option<Mark>,
    placed: Vec<Placed>,
    /// Packs whose unsynced bytes can't be trusted.
    broken: BTreeSet<PackId>,
    spare: Vec<Vec<u8>>,
    /// Directories with names that are not durable yet.
    unsynced_dirs: BTreeSet<PathBuf>,
    /// Pack directories whose own names are durable, or will be with `unsynced_dirs`.
    known_dirs: BTreeSet<PathBuf>,
}

#[derive(Clone, Copy)]
struct Mark {
    pack: PackId,
    len: u64,
    blocks: usize,
}

impl Appender {
    pub(crate) fn new(disk: Arc<dyn Disk>, live: Arc<LivePacks>, target_bytes: u64, next_pack: u64) -> Self {
        Appender {
            disk,
            live,
            target_bytes,
            state: Mutex::new(State {
                next_pack,
                open: None,
                filled: Vec::new(),
                start: None,
                placed: Vec::new(),
                broken: BTreeSet::new(),
                spare: Vec::new(),
                unsynced_dirs: BTreeSet::new(),
                known_dirs: BTreeSet::new(),
            }),
        }
    }

    /// Packs from this number on were not created yet.
    pub(crate) fn next_pack(&self) -> u64 {
        self.state.lock().next_pack
    }

    /// A pack that is full takes no more blocks.
    pub(crate) fn target_bytes(&self) -> u64 {
        self.target_bytes
    }

    /// Creates a pack beside the open one. It is among the live packs before anybody can learn that its number was given
    /// out, so that no committed record names a later number without it; whoever asked seals it.
    pub(crate) fn create_apart(&self) -> Result<(PackWriter, Arc<LivePack>)> {
        let state = &mut *self.state.lock();
        let writer = self.create(&mut state.next_pack, &mut state.known_dirs, &mut state.unsynced_dirs)?;
        let live = Arc::new(LivePack::new(writer.pack(), Arc::clone(writer.file())));
        live.claim_sealing();
        self.live.insert(Arc::clone(&live));
        Ok((writer, live))
    }

    /// Remembers where the open pack ends, to go back there if the batch fails.
    pub(crate) fn begin_batch(&self) {
        let mut state = self.state.lock();
        state.start =
            state.open.as_ref().map(|writer| Mark { pack: writer.pack(), len: writer.len(), blocks: writer.blocks() });
    }

    /// Appends a block. Most calls only copy it; the one that fills a write runs it, outside of the lock.
    pub(crate) fn append(&self, block: &Block<'_>) -> Result<()> {
        let write = self.place(block)?;
        write.map_or(Ok(()), |(pack, write)| self.run(pack, write))
    }

    fn place(&self, block: &Block<'_>) -> Result<Option<(PackId, PackWrite)>> {
        let state = &mut *self.state.lock();
        let writer = match &mut state.open {
            Some(writer) => writer,
            None => {
                let writer = self.create(&mut state.next_pack, &mut state.known_dirs, &mut state.unsynced_dirs)?;
                state.open.insert(writer)
            }
        };
        let pack = writer.pack();
        let entry = writer.append(block);
        state.placed.push(Placed { pack, entry, raw_len: block.header.raw_len });
        let full = writer.len() >= self.target_bytes || writer.blocks() >= PACK_MAX_BLOCKS;
        let write = (full || writer.buffered_bytes() >= WRITE_BYTES)
            .then(|| (pack, writer.take_write(state.spare.pop().unwrap_or_default())));
        if full {
            state.filled.extend(state.open.take());
        }
        Ok(write)
    }

    fn create(
        &self,
        next_pack: &mut u64,
        known_dirs: &mut BTreeSet<PathBuf>,
        unsynced_dirs: &mut BTreeSet<PathBuf>,
    ) -> Result<PackWriter> {
        loop {
            let pack = PackId(*next_pack);
            *next_pack += 1;
            let dir = pack_dir(pack);
            if !known_dirs.contains(&dir) {
                self.disk
                    .create_dir_all(&dir)
                    .map_err(|error| StoreError::of_disk("create the directory", &dir, &error))?;
                // The names of packs/ and of the directory in it may be new.
                unsynced_dirs.extend([PathBuf::new(), PathBuf::from(PACKS_DIR)]);
                known_dirs.insert(dir.clone());
            }
            match PackWriter::create(self.disk.as_ref(), pack) {
                Ok(writer) => {
                    unsynced_dirs.insert(dir);
                    return Ok(writer);
                }
                // Left by a crash; the file is no concern of this number's next user: numbers are plenty.
                Err(PackError::Io { kind: std::io::ErrorKind::AlreadyExists, .. }) => {
                    tracing::warn!(%pack, "a pack that no committed batch knows is in the way; taking the next number");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn run(&self, pack: PackId, write: PackWrite) -> Result<()> {
        let outcome = write.run();
        let mut state = self.state.lock();
        match outcome {
            Ok(buffer) => {
                if state.spare.len() < SPARE_BUFFERS {
                    state.spare.push(buffer);
                }
                Ok(())
            }
            Err(error) => {
                // A full disk leaves the pack as good as it was: what did not fit is written again, or never.
                if !error.passes() {
                    state.broken.insert(pack);
                }
                Err(error.into())
            }
        }
    }

    /// What the batch has appended so far. No append may be under way.
    pub(crate) fn placed(&self) -> Vec<Placed> {
        self.state.lock().placed.clone()
    }

    /// Writes and syncs everything that the batch appended, names included, and makes it readable. No append may be
    /// under way. After an error the batch must be undone.
    pub(crate) fn sync_batch(&self) -> Result<()> {
        let state = &mut *self.state.lock();
        if let Some(writer) = &mut state.open
            && writer.buffered_bytes() > 0
        {
            let pack = writer.pack();
            if let Err(error) = writer.take_write(Vec::new()).run() {
                if !error.passes() {
                    state.broken.insert(pack);
                }
                return Err(error.into());
            }
        }
        let start_len = |pack: PackId| state.start.filter(|mark| mark.pack == pack).map(|mark| mark.len);
        for writer in state.filled.iter().chain(&state.open) {
            if start_len(writer.pack()) == Some(writer.len()) {
                continue;
            }
            if let Err(error) = writer.sync() {
                // After a failed sync the kernel may take the lost pages for clean: a later sync proves nothing.
                state.broken.insert(writer.pack());
                return Err(error.into());
            }
        }
        while let Some(dir) = state.unsynced_dirs.last() {
            self.sync_dir(dir)?;
            state.unsynced_dirs.pop_last();
        }
        let mut placed = std::mem::take(&mut state.placed);
        placed.sort_by_key(|block| block.pack);
        for blocks in placed.chunk_by(|a, b| a.pack == b.pack) {
            let writer = state.filled.iter().chain(&state.open).find(|writer| writer.pack() == blocks[0].pack);
            let Some(writer) = writer else { continue };
            let live = self.live.get(writer.pack()).unwrap_or_else(|| {
                let live = Arc::new(LivePack::new(writer.pack(), Arc::clone(writer.file())));
                self.live.insert(Arc::clone(&live));
                live
            });
            live.publish(blocks.iter().map(|block| block.entry), writer.len());
        }
        state.filled.clear();
        state.start = None;
        Ok(())
    }

    /// Forgets everything that the batch appended. No append may be under way. What was synced before stays: in the
    /// open pack, or, where its file can't be trusted any more, in a pack that waits to be sealed.
    pub(crate) fn undo_batch(&self) {
        let state = &mut *self.state.lock();
        state.placed.clear();
        let mut touched = std::mem::take(&mut state.filled);
        touched.extend(state.open.take());
        let start = state.start.take();
        for mut writer in touched {
            let pack = writer.pack();
            match start.filter(|mark| mark.pack == pack) {
                Some(_) if state.broken.contains(&pack) => {
                    tracing::warn!(%pack, "the pack takes no more blocks after an error of its disk");
                }
                Some(mark) => {
                    writer.rewind(mark.len, mark.blocks);
                    state.open = Some(writer);
                }
                None => {
                    if let Err(error) = remove_pack(self.disk.as_ref(), pack) {
                        tracing::warn!(%pack, %error, "can't remove a pack that holds nothing committed");
                    }
                }
            }
        }
        state.broken.clear();
    }

    /// Number of the open pack.
    pub(crate) fn open_pack(&self) -> Option<PackId> {
        self.state.lock().open.as_ref().map(PackWriter::pack)
    }

    /// The open pack takes no more blocks: the next one goes to a new pack.
    pub(crate) fn close_pack(&self) {
        self.state.lock().open = None;
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.disk.sync_dir(dir).map_err(|error| StoreError::of_disk("sync the directory", dir, &error))
    }
}
