//! Directories in parts.

use verfs_vfs::FileKind;

use super::{FileError, Files, OpenFlags};

/// Entries that one call gives at most.
pub(super) const ENTRIES_MAX: usize = 16 << 10;

/// Names of a directory, each followed by NUL, and for each what it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entries {
    /// The names.
    pub names: Vec<u8>,
    /// What they are.
    pub kinds: Vec<FileKind>,
}

/// The first entries of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// They.
    pub entries: Entries,
    /// The open directory from which the others come; whoever gets it closes it.
    pub rest: Option<i32>,
}

impl Files {
    /// The next entries of an open directory, without `.` and `..`; none at the end.
    ///
    /// # Errors
    /// As `getdents(2)`.
    pub fn next_entries(&self, number: i32, max_entries: usize) -> Result<Entries, FileError> {
        let handle = self.handle(number)?;
        if handle.kind != FileKind::Directory {
            return Err(FileError::NOT_DIRECTORY);
        }
        let wanted = max_entries.clamp(1, ENTRIES_MAX);
        let mut entries = Entries::default();
        let mut cookie = handle.position.lock();
        while entries.kinds.len() < wanted {
            // The two that come first are not given.
            let room = wanted - entries.kinds.len() + if *cookie == 0 { 2 } else { 0 };
            let found = self.entries_of(&handle.ground, handle.ino, *cookie, room)?;
            let Some(last) = found.last() else { break };
            *cookie = last.cookie;
            for entry in found.iter().filter(|entry| *entry.name != *b"." && *entry.name != *b"..") {
                entries.names.extend_from_slice(&entry.name);
                entries.names.push(0);
                entries.kinds.push(entry.kind);
            }
        }
        Ok(entries)
    }

    /// The entries of a directory; where there are many, the first ones.
    ///
    /// # Errors
    /// As `opendir(3)` and `getdents(2)`.
    pub fn list(&self, path: &[u8]) -> Result<Listed, FileError> {
        let number = self.open(path, OpenFlags::from_bits(libc::O_RDONLY | libc::O_DIRECTORY), 0)?;
        let first = self.next_entries(number, ENTRIES_MAX);
        let rest = first.as_ref().is_ok_and(|entries| entries.kinds.len() == ENTRIES_MAX).then_some(number);
        if rest.is_none() {
            self.close(number)?;
        }
        Ok(Listed { entries: first?, rest })
    }
}
