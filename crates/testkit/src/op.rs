//! Operations as a test writes them down: by path, so that leaving one out keeps the meaning of the others.

use std::fmt;

use verfs_vfs::{Allocation, CopyMode, FileFlags, NodeKind, RenameMode, SeekFor, SetTime, SyncScope, XattrMode};

use crate::content::Fill;
use crate::model::{Change, Who};
use crate::snapshot::{SnapshotName, SnapshotOp, snapshot_name};
use crate::xattr::{XATTR_NAMES, XattrName, XattrValue};

/// Index into [`NAMES`].
pub type Name = u8;

/// The names of all test trees: short ones, one that isn't UTF-8, the longest allowed and one that is too long.
pub const NAMES: [&[u8]; 9] = [b"a", b"b", b"c", b"d", b"e", b"f", b"\xff\xfe x\x80", &[b'L'; 255], &[b'M'; 256]];

/// The name that no operation may accept.
pub const NAME_TOO_LONG: Name = 8;

/// A name as a failure shows it.
#[must_use]
pub fn short(name: &[u8]) -> String {
    if name.len() > 20 { format!("{}*{}", char::from(name[0]), name.len()) } else { name.escape_ascii().to_string() }
}

/// An inode: by its path from the root, or one that is held open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Names from the root; empty for the root itself.
    Path(Vec<Name>),
    /// What [`Op::Open`] or [`Op::Create`] put into a slot.
    Slot(u8),
}

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The directory.
    pub dir: Target,
    /// The name.
    pub name: Name,
}

/// Number of slots for open inodes.
pub const SLOTS: u8 = 4;
/// Number of listings that may be under way.
pub const CURSORS: u8 = 2;

/// One step of a test.
#[allow(missing_docs, reason = "a field is what the operation of that name calls it")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// `mknod`.
    Make { at: Entry, kind: NodeKind, mode: u16, who: Who },
    /// `mknod` of a regular file that stays open in a slot.
    Create { at: Entry, mode: u16, who: Who, slot: u8 },
    /// `mkdir`.
    MakeDir { at: Entry, mode: u16, who: Who },
    /// `symlink` with a target of so many bytes.
    Symlink { at: Entry, target_bytes: u16, who: Who },
    /// `link`.
    Link { from: Target, at: Entry },
    /// `unlink`.
    Unlink { at: Entry },
    /// `rmdir`.
    RemoveDir { at: Entry },
    /// `rename`.
    Rename { from: Entry, to: Entry, mode: RenameMode },
    /// `setattr`.
    Change { target: Target, change: Change, who: Who },
    /// `write`.
    Write { target: Target, offset: u64, len: u32, fill: Fill, who: Who },
    /// `read`.
    Read { target: Target, offset: u64, len: u32 },
    /// `readlink`.
    ReadLink { target: Target },
    /// `getattr`.
    Stat { target: Target },
    /// A whole listing in pages of so many entries.
    List { target: Target, page: u8 },
    /// Begins a listing that other operations may interrupt.
    ListBegin { target: Target, cursor: u8 },
    /// Goes on with it.
    ListNext { cursor: u8, count: u8 },
    /// Holds an inode open.
    Open { target: Target, slot: u8 },
    /// Lets it go.
    Close { slot: u8 },
    /// `fsync`.
    Fsync { target: Target, scope: SyncScope },
    /// `setxattr`.
    SetXattr { target: Target, name: XattrName, value: XattrValue, mode: XattrMode, who: Who },
    /// `removexattr`.
    RemoveXattr { target: Target, name: XattrName },
    /// `getxattr`.
    GetXattr { target: Target, name: XattrName },
    /// `listxattr`.
    ListXattr { target: Target, who: Who },
    /// `chattr`.
    SetFlags { target: Target, flags: FileFlags, who: Who },
    /// `fallocate`.
    Allocate { target: Target, offset: u64, len: u64, how: Allocation, who: Who },
    /// `lseek` for data or a hole.
    Seek { target: Target, offset: u64, wanted: SeekFor },
    /// `copy_file_range`.
    Copy { from: Target, from_offset: u64, to: Target, to_offset: u64, len: u64, who: Who },
    /// Anything about a snapshot.
    Snapshot(SnapshotOp),
    /// Copies what had a path in a snapshot, the root's being empty, to a path of the tree.
    CopyOut { snapshot: SnapshotName, from: Vec<Name>, to: Vec<Name>, mode: CopyMode },
    /// The whole volume.
    Sync,
    /// Closes the volume and opens it again, without a crash.
    Remount,
    /// Garbage is collected from packs of which so many percent are dead, and then packs are scrubbed; each is stopped after
    /// so many pieces of work.
    Collect { dead_percent: u8, pieces: u8 },
    /// So many milliseconds pass, on the test's clock and really.
    Pause { millis: u8 },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Path(names) => {
                f.write_str("/")?;
                let names: Vec<String> = names.iter().map(|name| short(NAMES[*name as usize])).collect();
                f.write_str(&names.join("/"))
            }
            Target::Slot(slot) => write!(f, "slot{slot}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = short(NAMES[self.name as usize]);
        match &self.dir {
            Target::Path(names) if names.is_empty() => write!(f, "/{name}"),
            Target::Path(_) | Target::Slot(_) => write!(f, "{}/{name}", self.dir),
        }
    }
}

struct By(Who);

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.uid != 0 || self.0.gid != 0 {
            write!(f, " by {}:{}", self.0.uid, self.0.gid)?;
        }
        if self.0.umask == 0 { Ok(()) } else { write!(f, " umask {:o}", self.0.umask) }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Make { at, kind, mode, who } => write!(f, "mknod {at} {kind:?} {mode:o}{}", By(*who)),
            Op::Create { at, mode, who, slot } => write!(f, "create {at} {mode:o} as slot{slot}{}", By(*who)),
            Op::MakeDir { at, mode, who } => write!(f, "mkdir {at} {mode:o}{}", By(*who)),
            Op::Symlink { at, target_bytes, who } => write!(f, "symlink {at} -> {target_bytes} bytes{}", By(*who)),
            Op::Link { from, at } => write!(f, "link {from} {at}"),
            Op::Unlink { at } => write!(f, "unlink {at}"),
            Op::RemoveDir { at } => write!(f, "rmdir {at}"),
            Op::Rename { from, to, mode } => write!(f, "rename {from} {to} {mode:?}"),
            Op::Change { target, change, who } => match change {
                Change::Mode(mode) => write!(f, "chmod {target} {mode:o}{}", By(*who)),
                Change::Owner { uid, gid } => write!(f, "chown {target} {uid:?}:{gid:?}{}", By(*who)),
                Change::Size(size) => write!(f, "truncate {target} {size}{}", By(*who)),
                Change::Times { access, modification } => {
                    write!(f, "utimens {target} {} {}", Moment(*access), Moment(*modification))
                }
                Change::Nothing => write!(f, "setattr {target}"),
            },
            Op::Write { target, offset, len, fill, who } => {
                write!(f, "write {target} {offset}+{len} {fill:?}{}", By(*who))
            }
            Op::Read { target, offset, len } => write!(f, "read {target} {offset}+{len}"),
            Op::ReadLink { target } => write!(f, "readlink {target}"),
            Op::Stat { target } => write!(f, "stat {target}"),
            Op::List { target, page } => write!(f, "list {target} by {page}"),
            Op::ListBegin { target, cursor } => write!(f, "list {target} begin as cursor{cursor}"),
            Op::ListNext { cursor, count } => write!(f, "list cursor{cursor} next {count}"),
            Op::Open { target, slot } => write!(f, "open {target} as slot{slot}"),
            Op::Close { slot } => write!(f, "close slot{slot}"),
            Op::Fsync { target, scope } => write!(f, "fsync {target} {scope:?}"),
            Op::SetXattr { target, name, value, mode, who } => {
                write!(f, "setxattr {target} {} {value} {mode:?}{}", short(XATTR_NAMES[*name as usize]), By(*who))
            }
            Op::RemoveXattr { target, name } => {
                write!(f, "removexattr {target} {}", short(XATTR_NAMES[*name as usize]))
            }
            Op::GetXattr { target, name } => write!(f, "getxattr {target} {}", short(XATTR_NAMES[*name as usize])),
            Op::ListXattr { target, who } => write!(f, "listxattr {target}{}", By(*who)),
            Op::SetFlags { target, flags, who } => write!(f, "chattr {target} {}{}", Letters(*flags), By(*who)),
            Op::Allocate { target, offset, len, how, who } => {
                write!(f, "fallocate {target} {offset}+{len} {how:?}{}", By(*who))
            }
            Op::Seek { target, offset, wanted } => write!(f, "seek {target} {offset} {wanted:?}"),
            Op::Copy { from, from_offset, to, to_offset, len, who } => {
                write!(f, "copy {from} {from_offset}+{len} to {to} {to_offset}{}", By(*who))
            }
            Op::Snapshot(op) => write!(f, "{op}"),
            Op::CopyOut { snapshot, from, to, mode } => {
                let (from, to) = (Target::Path(from.clone()), Target::Path(to.clone()));
                write!(f, "copy {from} out of {} to {to} {mode:?}", short(&snapshot_name(b"", *snapshot)))
            }
            Op::Sync => write!(f, "sync"),
            Op::Remount => write!(f, "remount"),
            Op::Collect { dead_percent, pieces } => write!(f, "collect from {dead_percent} % on, {pieces} pieces"),
            Op::Pause { millis } => write!(f, "pause {millis} ms"),
        }
    }
}

/// Flags as `chattr` writes them.
struct Letters(FileFlags);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileFlags { immutable, append_only, no_dump, no_atime } = self.0;
        f.write_str("=")?;
        [(immutable, "i"), (append_only, "a"), (no_dump, "d"), (no_atime, "A")]
            .into_iter()
            .filter(|(is_set, _)| *is_set)
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// Smaller numbers to try in place of one.
pub(crate) fn smaller(number: u64, least: u64) -> impl Iterator<Item = u64> {
    [least, number / 2, number.saturating_sub(1)].into_iter().filter(move |other| *other < number && *other >= least)
}

/// A sequence, a line for each step.
#[derive(Debug)]
pub struct Listed<'a>(pub &'a [Op]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(number, op)| writeln!(f, "  {number:3} {op}"))
    }
}

struct Moment(Option<SetTime>);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("-"),
            Some(SetTime::Now) => f.write_str("now"),
            Some(SetTime::At(at)) => write!(f, "{}.{:09}", at.seconds, at.nanos),
        }
    }
}

impl Op {
    /// Simpler forms of it, for shrinking: each smaller in some measure, so that shrinking ends.
    #[must_use]
    pub fn simpler(&self) -> Vec<Op> {
        match self {
            Op::Write { target, offset, len, fill, who } => {
                let with = |offset, len, fill| Op::Write { target: target.clone(), offset, len, fill, who: *who };
                let mut forms = Vec::new();
                for smaller in [0, offset / 2, offset.saturating_sub(1)] {
                    if smaller < *offset {
                        forms.push(with(smaller, *len, *fill));
                    }
                }
                for smaller in [1, len / 2, len.saturating_sub(1)] {
                    if smaller < *len {
                        forms.push(with(*offset, smaller, *fill));
                    }
                }
                if let Fill::Text(start) = fill {
                    forms.push(with(*offset, *len, Fill::Random(*start)));
                }
                forms
            }
            Op::Change { target, change: Change::Size(size), who } => [0, size / 2, size.saturating_sub(1)]
                .into_iter()
                .filter(|smaller| smaller < size)
                .map(|smaller| Op::Change { target: target.clone(), change: Change::Size(smaller), who: *who })
                .collect(),
            Op::SetXattr { target, name, value, mode, who } => (value.smaller().into_iter())
                .map(|value| Op::SetXattr { target: target.clone(), name: *name, value, mode: *mode, who: *who })
                .collect(),
            Op::Allocate { target, offset, len, how, who } => {
                let with = |offset, len| Op::Allocate { target: target.clone(), offset, len, how: *how, who: *who };
                let nearer = smaller(*offset, 0).map(|offset| with(offset, *len));
                nearer.chain(smaller(*len, 1).map(|len| with(*offset, len))).collect()
            }
            Op::Copy { from, from_offset, to, to_offset, len, who } => {
                let with = |from_offset, to_offset, len| Op::Copy {
                    from: from.clone(),
                    from_offset,
                    to: to.clone(),
                    to_offset,
                    len,
                    who: *who,
                };
                let shorter = smaller(*len, 1).map(|len| with(*from_offset, *to_offset, len));
                let from_nearer = smaller(*from_offset, 0).map(|offset| with(offset, *to_offset, *len));
                let to_nearer = smaller(*to_offset, 0).map(|offset| with(*from_offset, offset, *len));
                shorter.chain(from_nearer).chain(to_nearer).collect()
            }
            Op::Make { .. }
            | Op::Create { .. }
            | Op::MakeDir { .. }
            | Op::Symlink { .. }
            | Op::Link { .. }
            | Op::Unlink { .. }
            | Op::RemoveDir { .. }
            | Op::Rename { .. }
            | Op::Change { .. }
            | Op::RemoveXattr { .. }
            | Op::GetXattr { .. }
            | Op::ListXattr { .. }
            | Op::SetFlags { .. }
            | Op::Seek { .. }
            | Op::Read { .. }
            | Op::ReadLink { .. }
            | Op::Stat { .. }
            | Op::List { .. }
            | Op::ListBegin { .. }
            | Op::ListNext { .. }
            | Op::Open { .. }
            | Op::Close { .. }
            | Op::Fsync { .. }
            | Op::Snapshot(_)
            | Op::CopyOut { .. }
            | Op::Sync
            | Op::Remount
            | Op::Collect { .. }
            | Op::Pause { .. } => Vec::new(),
        }
    }
}
