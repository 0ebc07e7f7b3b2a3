//! Inode numbers that the tree doesn't have: of files in snapshots, and of what only the mount shows.

use verfs_base::{Epoch, Ino};
use verfs_vfs::{Result, VfsError};

/// In the snapshots' session the upper 24 bits say which snapshot, the lower 40 which of its inodes.
const SNAPSHOT_INO_BITS: u32 = 40;

/// In the tree's session these two bits say that an inode isn't of the tree. Alone the first one marks a `.snapshots`;
/// the number of its directory follows.
const SHOWN: u64 = 1 << 63;
/// With the first one it marks a symlink in a `.snapshots`: 8 bits of depth, 18 of snapshot and 36 of directory follow.
const LINK: u64 = 1 << 62;
const LINK_INO_BITS: u32 = 36;
const LINK_DEPTH_BITS: u32 = 8;
const LINK_DEPTH_SHIFT: u32 = 62 - LINK_DEPTH_BITS;

/// What a number stands for that isn't of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    /// `.snapshots` of this directory.
    Directory(Ino),
    /// In it the symlink to an earlier state of the directory.
    Link(Link),
}

/// A symlink to an earlier state of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    /// Which directory.
    pub(super) directory: Ino,
    /// Which snapshot.
    pub(super) snapshot: Epoch,
    /// How many directories it is below the root now. The kernel keeps what it read of a symlink for as long as it has
    /// its number, so one that leads elsewhere after a move needs another number.
    pub(super) depth: u64,
}

fn fits(value: u64, bits: u32) -> Result<u64> {
    if value >> bits == 0 { Ok(value) } else { Err(VfsError::Overflow) }
}

/// The number of a snapshot's inode in the snapshots' session, where 1 is the directory of all snapshots.
pub(super) fn in_snapshot(snapshot: Epoch, ino: Ino) -> Result<Ino> {
    let upper = fits(snapshot.0, u64::BITS - SNAPSHOT_INO_BITS)?;
    Ok(Ino(upper << SNAPSHOT_INO_BITS | fits(ino.0, SNAPSHOT_INO_BITS)?))
}

/// Which inode of which snapshot has a number; none has that of the root.
pub(super) fn of_snapshot(number: Ino) -> Option<(Epoch, Ino)> {
    let snapshot = number.0 >> SNAPSHOT_INO_BITS;
    (snapshot > 0).then_some((Epoch(snapshot), Ino(number.0 & ((1 << SNAPSHOT_INO_BITS) - 1))))
}

/// What a number stands for in the tree's session, if it isn't of the tree.
pub(super) fn shown(number: Ino) -> Option<Shown> {
    let rest = number.0 & (LINK - 1);
    match (number.0 & SHOWN != 0, number.0 & LINK != 0) {
        (false, _) => None,
        (true, false) => Some(Shown::Directory(Ino(rest))),
        (true, true) => Some(Shown::Link(Link {
            directory: Ino(rest & ((1 << LINK_INO_BITS) - 1)),
            snapshot: Epoch(rest >> LINK_INO_BITS & ((1 << (LINK_DEPTH_SHIFT - LINK_INO_BITS)) - 1)),
            depth: rest >> LINK_DEPTH_SHIFT,
        })),
    }
}

/// The number of `.snapshots` of a directory of the tree.
pub(super) fn directory(of: Ino) -> Result<Ino> {
    Ok(Ino(SHOWN | fits(of.0, u64::BITS - 2)?))
}

impl Link {
    /// Its number.
    pub(super) fn number(self) -> Result<Ino> {
        let depth = fits(self.depth, LINK_DEPTH_BITS)? << LINK_DEPTH_SHIFT;
        let snapshot = fits(self.snapshot.0, LINK_DEPTH_SHIFT - LINK_INO_BITS)? << LINK_INO_BITS;
        Ok(Ino(SHOWN | LINK | depth | snapshot | fits(self.directory.0, LINK_INO_BITS)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_snapshots_come_back_and_what_does_not_fit_is_refused() {
        let largest = (Epoch((1 << 24) - 1), Ino((1 << 40) - 1));
        for (snapshot, ino) in [(Epoch(1), Ino::ROOT), (Epoch(7), Ino(123_456)), largest] {
            assert_eq!(in_snapshot(snapshot, ino).map(of_snapshot), Ok(Some((snapshot, ino))));
        }
        assert_eq!(in_snapshot(Epoch(1 << 24), Ino::ROOT), Err(VfsError::Overflow));
        assert_eq!(in_snapshot(Epoch(1), Ino(1 << 40)), Err(VfsError::Overflow));
        assert_eq!(of_snapshot(Ino::ROOT), None);
    }

    #[test]
    fn numbers_in_the_tree_come_back_and_none_is_of_the_tree() {
        for of in [Ino::ROOT, Ino(77), Ino((1 << 62) - 1)] {
            assert_eq!(directory(of).map(shown), Ok(Some(Shown::Directory(of))));
            assert_eq!(shown(of), None);
        }
        let small = Link { directory: Ino(2), snapshot: Epoch(1), depth: 1 };
        let large = Link { directory: Ino((1 << 36) - 1), snapshot: Epoch((1 << 18) - 1), depth: 255 };
        for link in [small, large] {
            assert_eq!(link.number().map(shown), Ok(Some(Shown::Link(link))));
        }
        for refused in [
            Link { depth: 256, ..small },
            Link { snapshot: Epoch(1 << 18), ..small },
            Link { directory: Ino(1 << 36), ..small },
        ] {
            assert_eq!(refused.number(), Err(VfsError::Overflow));
        }
    }
}
