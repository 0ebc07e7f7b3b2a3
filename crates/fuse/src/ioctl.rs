//! The ioctl(2) commands that a mount answers, with their numbers and forms (ioctl_iflags(2), `linux/fs.h`).

use bytes::Bytes;
use verfs_base::Ino;
use verfs_vfs::{Context, FileFlags, VfsError};

use crate::tree::Tree;

/// `FS_IOC_GETFLAGS` asks for an inode's flags: 4 bytes. The number says 8, which the kernel never copied.
const GET_FLAGS: u32 = 0x8008_6601;
/// `FS_IOC_SETFLAGS` sets them.
const SET_FLAGS: u32 = 0x4008_6602;
/// `FS_IOC_GETVERSION` asks for an inode's generation: 4 bytes.
const GET_VERSION: u32 = 0x8008_7601;
/// The same three as a 32-bit program says them.
const GET_FLAGS_32: u32 = 0x8004_6601;
const SET_FLAGS_32: u32 = 0x4004_6602;
const GET_VERSION_32: u32 = 0x8004_7601;
/// `FS_IOC_FSGETXATTR` asks for flags of another form, in the first 4 of 28 bytes (`struct fsxattr`); the others are
/// 0 here. The kernel asks for it before each change of flags.
const GET_EXTENDED: u32 = 0x801c_581f;
/// `FS_IOC_FSSETXATTR` sets them.
const SET_EXTENDED: u32 = 0x401c_5820;
const EXTENDED_BYTES: usize = 28;

/// Inode numbers are never reused, so one generation serves them all.
const GENERATION: u32 = 0;

/// The bits of a form of flags: immutable, append-only, no dump, no atime.
type Bits = [u32; 4];
const FLAGS: Bits = [0x10, 0x20, 0x40, 0x80];
const EXTENDED: Bits = [0x8, 0x10, 0x80, 0x40];

/// A command with its argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IoctlCommand {
    /// Asks for flags.
    GetFlags,
    /// Sets flags.
    SetFlags(u32),
    /// Asks for the generation.
    GetVersion,
    /// Asks for flags in the extended form.
    GetExtended,
    /// Sets flags in the extended form.
    SetExtended(u32),
}

impl IoctlCommand {
    /// The command of a number; `None` for one that is none of ours.
    pub(crate) fn of(number: u32, argument: &[u8]) -> Option<IoctlCommand> {
        let word = argument.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        match number {
            GET_FLAGS | GET_FLAGS_32 => Some(IoctlCommand::GetFlags),
            SET_FLAGS | SET_FLAGS_32 => word.map(IoctlCommand::SetFlags),
            GET_VERSION | GET_VERSION_32 => Some(IoctlCommand::GetVersion),
            GET_EXTENDED => Some(IoctlCommand::GetExtended),
            SET_EXTENDED => word.map(IoctlCommand::SetExtended),
            _ => None,
        }
    }

    /// Whether it changes the inode.
    pub(crate) fn is_change(self) -> bool {
        match self {
            IoctlCommand::SetFlags(_) | IoctlCommand::SetExtended(_) => true,
            IoctlCommand::GetFlags | IoctlCommand::GetVersion | IoctlCommand::GetExtended => false,
        }
    }

    /// Asks the tree.
    pub(crate) fn perform<T: Tree>(self, tree: &T, context: &Context, ino: Ino) -> Result<Vec<Bytes>, VfsError> {
        let answer = |number: u32| Bytes::copy_from_slice(&number.to_ne_bytes());
        Ok(match self {
            IoctlCommand::GetFlags => vec![answer(bits_of(tree.file_flags(context, ino)?, FLAGS))],
            IoctlCommand::GetVersion => vec![answer(GENERATION)],
            IoctlCommand::GetExtended => {
                let flags = answer(bits_of(tree.file_flags(context, ino)?, EXTENDED));
                vec![flags, Bytes::from_static(&[0; EXTENDED_BYTES - 4])]
            }
            IoctlCommand::SetFlags(bits) => {
                tree.set_file_flags(context, ino, flags_of(bits, FLAGS)?)?;
                Vec::new()
            }
            IoctlCommand::SetExtended(bits) => {
                tree.set_file_flags(context, ino, flags_of(bits, EXTENDED)?)?;
                Vec::new()
            }
        })
    }
}

fn bits_of(flags: FileFlags, bits: Bits) -> u32 {
    [flags.immutable, flags.append_only, flags.no_dump, flags.no_atime]
        .into_iter()
        .zip(bits)
        .filter_map(|(is_set, bit)| is_set.then_some(bit))
        .sum()
}

fn flags_of(set: u32, bits: Bits) -> Result<FileFlags, VfsError> {
    if set & !bits.iter().sum::<u32>() != 0 {
        return Err(VfsError::Unsupported);
    }
    let [immutable, append_only, no_dump, no_atime] = bits.map(|bit| set & bit != 0);
    Ok(FileFlags { immutable, append_only, no_dump, no_atime })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_both_ways_and_unknown_ones_are_refused() {
        for form in [FLAGS, EXTENDED] {
            for set in [0, form[0], form[1], form[2], form[3], form.iter().sum()] {
                assert_eq!(flags_of(set, form).map(|flags| bits_of(flags, form)), Ok(set));
            }
            assert_eq!(flags_of(form[0] | 1, form), Err(VfsError::Unsupported));
        }
        assert_eq!(IoctlCommand::of(SET_FLAGS, &[0x20, 0, 0, 0, 0, 0, 0, 0]), Some(IoctlCommand::SetFlags(0x20)));
        assert_eq!(IoctlCommand::of(SET_FLAGS, &[0x20]), None);
        assert_eq!(IoctlCommand::of(0x5401, &[]), None);
    }
}
