//! What garbage collection tells about itself, and how it is told to stop.

/// What a collection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum GcPhase {
    /// Nothing.
    #[default]
    Idle,
    /// Looking up which blocks of the worst packs nobody needs.
    Listing,
    /// Copying what is needed of them, and removing them.
    Collecting,
}

/// How far a collection is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GcProgress {
    /// What it is doing.
    pub phase: GcPhase,
    /// Packs that were listed so far.
    pub packs_listed: u64,
    /// Blocks that nobody needs in them.
    pub blocks_listed: u64,
    /// Packs that were removed.
    pub packs_removed: u64,
    /// Bytes of the blocks in them, dead and alive.
    pub removed_bytes: u64,
    /// Bytes that were copied to other packs.
    pub moved_bytes: u64,
    /// Packs that were left alone: something in them can't be read, or is in use.
    pub packs_left: u64,
}

impl GcProgress {
    /// Bytes that the disk has back.
    #[must_use]
    pub fn reclaimed_bytes(&self) -> u64 {
        self.removed_bytes.saturating_sub(self.moved_bytes)
    }

    /// Both together, of two stores of one volume.
    #[must_use]
    pub fn with(&self, other: &GcProgress) -> GcProgress {
        GcProgress {
            phase: self.phase,
            packs_listed: self.packs_listed + other.packs_listed,
            blocks_listed: self.blocks_listed + other.blocks_listed,
            packs_removed: self.packs_removed + other.packs_removed,
            removed_bytes: self.removed_bytes + other.removed_bytes,
            moved_bytes: self.moved_bytes + other.moved_bytes,
            packs_left: self.packs_left + other.packs_left,
        }
    }
}

/// Whether a collection goes on. Asked after each piece of work of about 1 MiB: whoever answers may rest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// It does.
    Go,
    /// It stops; another one takes up the rest.
    Stop,
}

/// How a collection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GcEnd {
    /// No pack is worth it any more.
    Done,
    /// It was told to stop.
    Stopped,
}

/// What a collection could do now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Reclaimable {
    /// Packs with enough dead bytes.
    pub packs: u64,
    /// Dead bytes in them, which come back.
    pub dead_bytes: u64,
    /// Bytes in them that are needed, which are copied.
    pub live_bytes: u64,
}
