//! Operations as a test writes them down: by path, so that leaving one out keeps the meaning of the others.

use std::fmt;

use verfs_vfs::{NodeKind, RenameMode, SetTime, SyncScope};

use crate::content::Fill;
use crate::model::{Change, Who};

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
    /// The whole volume.
    Sync,
    /// Closes the volume and opens it again, without a crash.
    Remount,
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
        if self.0 == Who::ROOT { Ok(()) } else { write!(f, " by {}:{}", self.0.uid, self.0.gid) }
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
            Op::Sync => write!(f, "sync"),
            Op::Remount => write!(f, "remount"),
            Op::Pause { millis } => write!(f, "pause {millis} ms"),
        }
    }
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
    /// Whether everything before it is durable once it has returned.
    #[must_use]
    pub fn is_barrier(&self) -> bool {
        matches!(self, Op::Sync | Op::Remount)
    }

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
            Op::Make { .. }
            | Op::Create { .. }
            | Op::MakeDir { .. }
            | Op::Symlink { .. }
            | Op::Link { .. }
            | Op::Unlink { .. }
            | Op::RemoveDir { .. }
            | Op::Rename { .. }
            | Op::Change { .. }
            | Op::Read { .. }
            | Op::ReadLink { .. }
            | Op::Stat { .. }
            | Op::List { .. }
            | Op::ListBegin { .. }
            | Op::ListNext { .. }
            | Op::Open { .. }
            | Op::Close { .. }
            | Op::Fsync { .. }
            | Op::Sync
            | Op::Remount
            | Op::Pause { .. } => Vec::new(),
        }
    }
}
