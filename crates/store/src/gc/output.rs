//! The pack that takes what is still needed of collected packs. It is apart from the one that groups append to: what
//! survived once is likely to stay, and is better not mixed with what is new.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use verfs_base::{ChunkId, PackId};
use verfs_pack::{Block, PACKS_DIR, PackWriter, pack_dir, remove_pack};

use crate::appender::Placed;
use crate::core::Core;
use crate::live::LivePack;
use crate::{Result, StoreError};

/// Blocks are collected until they fill a write of this size.
const WRITE_BYTES: usize = 1 << 20;

/// Copies that are durable and that no record names yet.
pub(crate) type Copies = FxHashMap<ChunkId, Placed>;

/// An open pack of survivors.
pub(crate) struct Output {
    writer: PackWriter,
    live: Arc<LivePack>,
    copies: Copies,
    spare: Vec<u8>,
    /// Directories with names that are not durable yet.
    unsynced_dirs: Vec<PathBuf>,
}

impl Output {
    /// Creates the pack. From now on every committed record of the store names it, so that it is found after a crash.
    pub(crate) fn create(core: &Core) -> Result<Output> {
        let (writer, live) = core.appender.create_apart()?;
        let unsynced_dirs = vec![pack_dir(writer.pack()), PathBuf::from(PACKS_DIR), PathBuf::new()];
        Ok(Output { writer, live, copies: Copies::default(), spare: Vec::new(), unsynced_dirs })
    }

    pub(crate) fn pack(&self) -> PackId {
        self.writer.pack()
    }

    pub(crate) fn live(&self) -> &Arc<LivePack> {
        &self.live
    }

    /// Length and blocks with everything appended.
    pub(crate) fn size(&self) -> (u64, usize) {
        (self.writer.len(), self.writer.blocks())
    }

    /// Appends a block. After an error the pack must be abandoned.
    pub(crate) fn append(&mut self, block: &Block<'_>) -> Result<()> {
        let entry = self.writer.append(block);
        let placed = Placed { pack: self.writer.pack(), entry, raw_len: block.header.raw_len };
        self.copies.insert(block.header.chunk, placed);
        if self.writer.buffered_bytes() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.spare = self.writer.take_write(std::mem::take(&mut self.spare)).run()?;
        Ok(())
    }

    /// Makes what was appended durable and readable, and hands it over. After an error the pack must be abandoned.
    pub(crate) fn sync(&mut self, core: &Core) -> Result<Copies> {
        if self.copies.is_empty() {
            return Ok(Copies::default());
        }
        if self.writer.buffered_bytes() > 0 {
            self.write()?;
        }
        self.writer.sync()?;
        while let Some(dir) = self.unsynced_dirs.last() {
            sync_dir(core, dir)?;
            self.unsynced_dirs.pop();
        }
        self.live.publish(self.copies.values().map(|placed| placed.entry), self.writer.len());
        Ok(std::mem::take(&mut self.copies))
    }

    /// Takes no more blocks, whatever happened to the last ones: what was handed over stays and is sealed.
    pub(crate) fn abandon(self, core: &Core) {
        let (len, _) = self.live.contents();
        if len > 0 {
            self.live.release_sealing();
            return;
        }
        core.live.remove(self.pack());
        if let Err(error) = remove_pack(core.disk.as_ref(), self.pack()) {
            tracing::warn!(pack = %self.pack(), %error, "can't remove a pack that holds nothing committed");
        }
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(core: &Core, dir: &Path) -> Result<()> {
    core.disk.sync_dir(dir).map_err(|error| StoreError::of_disk("sync the directory", dir, &error))
}
