//! What becomes of a block when its pack is collected. Decided with the turn held, on the chunk's committed record, and
//! on nothing that was read before: that is what keeps a chunk alive that is referenced again meanwhile.

use verfs_base::PackId;
use verfs_format::chunk_record::ChunkRecord;

/// Whether the block was copied to another pack before the turn was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Copied {
    Yes,
    No,
}

/// What becomes of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// No record leads to it.
    Unneeded,
    /// Its chunk has no reference: the record goes.
    Drop,
    /// Its chunk has references: the record leads to the copy from now on.
    Move(ChunkRecord),
    /// Its chunk has references and there is no copy: it has to stay until there is one.
    Stay(ChunkRecord),
}

/// The fate of a block of `pack` whose chunk has this record now.
pub(crate) fn fate(pack: PackId, record: Option<ChunkRecord>, copied: Copied) -> Fate {
    match (record, copied) {
        (None, Copied::Yes | Copied::No) => Fate::Unneeded,
        (Some(record), Copied::Yes | Copied::No) if record.pack != pack => Fate::Unneeded,
        (Some(record), Copied::Yes | Copied::No) if record.refcount == 0 => Fate::Drop,
        (Some(record), Copied::Yes) => Fate::Move(record),
        (Some(record), Copied::No) => Fate::Stay(record),
    }
}
