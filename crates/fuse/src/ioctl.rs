//! The ioctl(2) commands that a mount answers, with their numbers and forms (ioctl_iflags(2), `linux/fs.h`).

use bytes::Bytes;
use verfs_base::Ino;
use verfs_vfs::{Context, FileFlags, VfsError};

use crate::tree::Tree;

/// Asks for an inode's flags: 4 bytes. The numbers say 8, which the kernel never copied.
const GET_FLAGS: u32 = 0x8008_6601;
/// Sets them.
const SET_FLAGS: u32 = 0x4008_6602;
/// Asks for an inode's generation: 4 bytes.
const GET_VERSION: u32 = 0x8008_7601;
/// The same of a 32-bit program.
const GET_FLAGS_32: u32 = 0x8004_6601;
const SET_FLAGS_32: u32 = 0x4004_6602;
const GET_VERSION_32: u32 = 0x8004_7601;

const FLAG_IMMUTABLE: u32 = 0x10;
const FLAG_APPEND: u32 = 0x20;
const FLAG_NO_DUMP: u32 = 0x40;
const FLAG_NO_ATIME: u32 = 0x80;

/// Inode numbers are never reused, so one generation serves them all.
const GENERATION: u32 = 0;

/// A command with its argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IoctlCommand {
    /// `FS_IOC_GETFLAGS`.
    GetFlags,
    /// `FS_IOC_SETFLAGS`.
    SetFlags(u32),
    /// `FS_IOC_GETVERSION`.
    GetVersion,
}

impl IoctlCommand {
    /// The command of a number; `None` for one that is none of ours.
    pub(crate) fn of(number: u32, argument: &[u8]) -> Option<IoctlCommand> {
        match number {
            GET_FLAGS | GET_FLAGS_32 => Some(IoctlCommand::GetFlags),
            SET_FLAGS | SET_FLAGS_32 => {
                argument.first_chunk().map(|bytes| IoctlCommand::SetFlags(u32::from_ne_bytes(*bytes)))
            }
            GET_VERSION | GET_VERSION_32 => Some(IoctlCommand::GetVersion),
            _ => None,
        }
    }

    /// Asks the tree.
    pub(crate) fn perform<T: Tree>(self, tree: &T, context: &Context, ino: Ino) -> Result<Vec<Bytes>, VfsError> {
        let answer = |number: u32| vec![Bytes::copy_from_slice(&number.to_ne_bytes())];
        match self {
            IoctlCommand::GetFlags => Ok(answer(bits_of(tree.file_flags(context, ino)?))),
            IoctlCommand::SetFlags(bits) => {
                tree.set_file_flags(context, ino, flags_of(bits)?)?;
                Ok(Vec::new())
            }
            IoctlCommand::GetVersion => Ok(answer(GENERATION)),
        }
    }
}

fn bits_of(flags: FileFlags) -> u32 {
    [
        (flags.immutable, FLAG_IMMUTABLE),
        (flags.append_only, FLAG_APPEND),
        (flags.no_dump, FLAG_NO_DUMP),
        (flags.no_atime, FLAG_NO_ATIME),
    ]
    .into_iter()
    .filter_map(|(is_set, bit)| is_set.then_some(bit))
    .sum()
}

fn flags_of(bits: u32) -> Result<FileFlags, VfsError> {
    if bits & !(FLAG_IMMUTABLE | FLAG_APPEND | FLAG_NO_DUMP | FLAG_NO_ATIME) != 0 {
        return Err(VfsError::Unsupported);
    }
    Ok(FileFlags {
        immutable: bits & FLAG_IMMUTABLE != 0,
        append_only: bits & FLAG_APPEND != 0,
        no_dump: bits & FLAG_NO_DUMP != 0,
        no_atime: bits & FLAG_NO_ATIME != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_both_ways_and_unknown_ones_are_refused() {
        for bits in [0, 0x10, 0x20, 0x40, 0x80, 0xf0] {
            assert_eq!(flags_of(bits).map(bits_of), Ok(bits));
        }
        assert_eq!(flags_of(0x10 | 1), Err(VfsError::Unsupported));
        assert_eq!(IoctlCommand::of(SET_FLAGS, &[0x20, 0, 0, 0, 0, 0, 0, 0]), Some(IoctlCommand::SetFlags(0x20)));
        assert_eq!(IoctlCommand::of(SET_FLAGS, &[0x20]), None);
        assert_eq!(IoctlCommand::of(0x5401, &[]), None);
    }
}
