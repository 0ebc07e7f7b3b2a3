//! Extended attributes, flags, and operations on the extents of files.

use verfs_vfs::{Allocation, FileFlags, FileKind, SeekFor, XattrMode};

use super::{Generator, Purpose};
use crate::model::Who;
use crate::op::{Op, Target};
use crate::xattr::{ACL_ACCESS, ACL_DEFAULT, ACL_SHAPES, XATTR_GOOD, XATTR_NAMES, XattrName, XattrValue};

/// All of them.
pub(super) const ALLOCATIONS: [Allocation; 5] = [
    Allocation::Reserve,
    Allocation::ReserveKeepSize,
    Allocation::PunchHole,
    Allocation::Zero,
    Allocation::ZeroKeepSize,
];

/// A value of the attribute `user.a` that fills an inode's room to the last byte.
const FULL_VALUE_BYTES: u32 = (128 << 10) - 6;

impl Generator {
    fn xattr_name(&mut self) -> XattrName {
        let names = if self.rng.chance(1, 12) { XATTR_NAMES.len() as u64 } else { XATTR_GOOD };
        self.rng.below(names) as XattrName
    }

    fn acl(&mut self) -> XattrValue {
        // Those at the front are good ones.
        let shapes = if self.rng.chance(1, 4) { ACL_SHAPES } else { 5 };
        XattrValue::Acl(self.rng.below(shapes) as u8)
    }

    fn xattr_value(&mut self, name: XattrName) -> XattrValue {
        let is_acl = name == ACL_ACCESS || name == ACL_DEFAULT;
        if is_acl != self.rng.chance(1, 20) {
            return self.acl();
        }
        let large = self.purpose == Purpose::Model || self.rng.chance(1, 6);
        let len = match self.rng.below(10) {
            0 => 0,
            1 if large => *self.rng.pick(&[4096, 65_535, 65_536, 65_537, 70_000]),
            2 if large => *self.rng.pick(&[FULL_VALUE_BYTES, FULL_VALUE_BYTES + 1]),
            _ => self.rng.below(200) as u32,
        };
        XattrValue::Bytes(len, self.rng.below(256) as u8)
    }

    pub(super) fn set_xattr(&mut self) -> Option<Op> {
        let name = self.xattr_name();
        let target = self.target_of(|kind| matches!(kind, FileKind::Regular | FileKind::Directory));
        let target = if self.rng.chance(1, 4) { self.target_of(|_| true) } else { target };
        let value = self.xattr_value(name);
        let mode = self.rng.weighted(&[(4, XattrMode::Set), (1, XattrMode::Create), (1, XattrMode::Replace)]);
        Some(Op::SetXattr { target, name, value, mode, who: self.who() })
    }

    /// Directories with default lists, mostly.
    pub(super) fn set_acl(&mut self) -> Option<Op> {
        let (target, name) = if self.rng.chance(2, 3) {
            (self.dir(), ACL_DEFAULT)
        } else {
            (self.target_of(|kind| kind != FileKind::Symlink), ACL_ACCESS)
        };
        let value = if self.rng.chance(1, 10) { XattrValue::Bytes(0, 0) } else { self.acl() };
        Some(Op::SetXattr { target, name, value, mode: XattrMode::Set, who: self.who() })
    }

    /// An inode with an attribute, where there is one.
    fn with_xattr(&mut self) -> (Target, XattrName) {
        for _ in 0..4 {
            let target = self.target_of(|_| true);
            let node = self.plan.target(&target).and_then(|id| self.plan.model.node(id).ok());
            let names: Vec<XattrName> = (node.into_iter().flat_map(|node| node.xattrs.keys()))
                .filter_map(|name| XATTR_NAMES.iter().position(|known| known == name))
                .map(|at| at as XattrName)
                .collect();
            if !names.is_empty() {
                return (target, *self.rng.pick(&names));
            }
        }
        (self.target_of(|_| true), self.xattr_name())
    }

    pub(super) fn remove_xattr(&mut self) -> Option<Op> {
        let (target, name) = self.with_xattr();
        Some(Op::RemoveXattr { target, name })
    }

    pub(super) fn get_xattr(&mut self) -> Option<Op> {
        let (target, name) = self.with_xattr();
        let name = if self.rng.chance(1, 3) { self.rng.below(XATTR_NAMES.len() as u64) as XattrName } else { name };
        Some(Op::GetXattr { target, name })
    }

    pub(super) fn list_xattr(&mut self) -> Option<Op> {
        let (target, _) = self.with_xattr();
        Some(Op::ListXattr { target, who: self.who() })
    }

    /// Mostly ends what others began, so that not everything is refused after a while.
    pub(super) fn set_flags(&mut self) -> Option<Op> {
        let frozen = self.plan.model.paths().iter().position(|(_, id)| {
            self.plan.model.node(*id).is_ok_and(|node| node.flags.immutable || node.flags.append_only)
        });
        let target = match frozen {
            Some(at) if self.rng.chance(3, 4) => Target::Path(self.paths(|_| true).get(at)?.clone()),
            Some(_) | None => self.target_of(|kind| kind != FileKind::Symlink),
        };
        let (no_dump, no_atime) = (self.rng.chance(1, 4), self.rng.chance(1, 4));
        let freezes = self.rng.chance(1, 5);
        let flags = FileFlags {
            immutable: freezes && self.rng.chance(1, 2),
            append_only: freezes && self.rng.chance(2, 3),
            no_dump,
            no_atime,
        };
        let who = if self.rng.chance(1, 5) { Who::USER } else { Who::ROOT };
        Some(Op::SetFlags { target, flags, who })
    }

    pub(super) fn allocate(&mut self) -> Option<Op> {
        let target = self.file();
        let size = self.size_of(&target);
        let how = *self.rng.pick(&ALLOCATIONS);
        let offset = self.offset(size);
        let len = match self.rng.below(20) {
            0 => 0,
            1..=4 => self.rng.below(200),
            5..=8 if how == Allocation::PunchHole => size,
            // What there is no room for is refused, be the file sparse or not.
            5..=8 => size.min(3 << 20),
            9 if how == Allocation::PunchHole => *self.rng.pick(&[1 << 40, u64::MAX - offset, u64::MAX]),
            10..=12 if !self.is_small() => self.rng.below(3 << 20),
            13 => (1 << 20) + self.rng.below(3),
            _ => self.rng.below(20_000),
        };
        Some(Op::Allocate { target, offset, len, how, who: self.who() })
    }

    pub(super) fn seek(&mut self) -> Option<Op> {
        let target = self.file();
        let size = self.size_of(&target);
        let wanted = if self.rng.chance(1, 2) { SeekFor::Data } else { SeekFor::Hole };
        Some(Op::Seek { offset: self.offset(size), target, wanted })
    }

    pub(super) fn copy(&mut self) -> Option<Op> {
        let from = self.file();
        let to = if self.rng.chance(1, 3) { from.clone() } else { self.file() };
        let (from_size, to_size) = (self.size_of(&from), self.size_of(&to));
        let from_offset = match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(from_size.max(1)),
            2 => from_size / 2,
            _ => self.offset(from_size),
        };
        let to_offset = if self.rng.chance(1, 4) { to_size } else { self.offset(to_size) };
        let rest = from_size.saturating_sub(from_offset);
        let len = match self.rng.below(12) {
            0 => 0,
            1 => rest + 5,
            2 => u64::MAX,
            3..=6 => rest / 2,
            7..=8 => rest,
            _ => self.rng.between(1, 50_000),
        };
        // What is copied again and again doubles each time.
        let copied = len.min(rest).min(32 << 20);
        let len = if copied > self.bytes_left { self.rng.below(5000) } else { len };
        self.bytes_left -= len.min(rest).min(32 << 20).min(self.bytes_left) / 4;
        Some(Op::Copy { from, from_offset, to, to_offset, len, who: self.who() })
    }
}
