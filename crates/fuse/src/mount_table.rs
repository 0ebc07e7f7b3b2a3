//! The kernel's table of mounts, and mounts whose daemon died.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use crate::error::FuseError;
use crate::mounting;

/// What a mount of ours shows, told apart in the mount table by its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MountKind {
    /// A tree.
    Tree,
    /// The snapshots of one that is mounted itself.
    Snapshots,
    /// The vault of one that is mounted itself.
    Vault,
}

impl MountKind {
    /// The subtype, as `fusermount3` wants it.
    pub(crate) fn subtype(self) -> &'static str {
        match self {
            MountKind::Tree => "verfs",
            MountKind::Snapshots => "verfs-snapshots",
            MountKind::Vault => "verfs-vault",
        }
    }

    /// The file system type.
    pub(crate) fn file_system_type(self) -> &'static str {
        match self {
            MountKind::Tree => "fuse.verfs",
            MountKind::Snapshots => "fuse.verfs-snapshots",
            MountKind::Vault => "fuse.verfs-vault",
        }
    }
}

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount that this process sees: a line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountEntry {
    /// Device number of the file system, `st_dev` of its files: major and minor.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Type of the file system with its subtype: `fuse.verfs` for our trees, `fuse.verfs-snapshots` for their snapshots.
    pub file_system_type: OsString,
    /// What is mounted: for ours the volume's path.
    pub source: OsString,
}

impl MountEntry {
    /// Whether it is one of ours, living or stale.
    #[must_use]
    pub fn is_verfs(&self) -> bool {
        [MountKind::Tree, MountKind::Snapshots, MountKind::Vault]
            .iter()
            .any(|kind| self.file_system_type == kind.file_system_type())
    }
}

/// Every mount that this process sees, in the kernel's order: of several at one place the last one is on top.
///
/// # Errors
/// `/proc` isn't mounted, or can't be read.
pub fn mount_table() -> io::Result<Vec<MountEntry>> {
    let text = std::fs::read(MOUNTINFO)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
}

/// The topmost mount at exactly `mount_point`.
pub(crate) fn mount_at(mount_point: &Path) -> Result<Option<MountEntry>, FuseError> {
    let table = mount_table().map_err(|source| FuseError::io("reading", Path::new(MOUNTINFO), source))?;
    Ok(table.into_iter().rev().find(|entry| entry.mount_point == mount_point))
}

/// Whether `path` is the root of a mount whose daemon is gone. Asks the daemon where there is one: cached attributes
/// would hide its death.
#[must_use]
pub fn is_stale(path: &Path) -> bool {
    let answer = rustix::fs::statx(CWD, path, AtFlags::STATX_FORCE_SYNC, StatxFlags::TYPE);
    // The last is of a ring whose threads are gone and that the kernel is taking down.
    matches!(answer, Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED))
}

/// Detaches every stale VerFS mount that is on top at `path`, and says how many there were. A living mount, or one of
/// another file system, stays.
///
/// # Errors
/// [`FuseError::MountpointStale`]: it is stale, but not ours, or may not be detached by this user.
pub fn detach_stale(path: &Path) -> Result<usize, FuseError> {
    let path = resolve_parent(path)?;
    let mut detached = 0;
    while is_stale(&path) {
        let stale = |detail: String| FuseError::MountpointStale { path: path.clone(), detail };
        match mount_at(&path)? {
            Some(entry) if entry.is_verfs() => {
                mounting::detach(&path).map_err(|error| stale(error.to_string()))?;
                detached += 1;
            }
            Some(entry) => return Err(stale(format!("it is of type {}", entry.file_system_type.display()))),
            None => return Err(stale("it is below the root of a mount".to_owned())),
        }
    }
    Ok(detached)
}

/// `path` without symlinks as the mount table shows it, its last component unvisited where that is a name: a stale
/// mount can't be visited.
pub(crate) fn resolve_parent(path: &Path) -> Result<PathBuf, FuseError> {
    let resolve = |path: &Path| {
        path.canonicalize().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => FuseError::MountpointMissing { path: path.to_path_buf() },
            io::ErrorKind::NotADirectory => FuseError::MountpointNotDirectory { path: path.to_path_buf() },
            _ => FuseError::io("resolving", path, source),
        })
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return resolve(path) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let path = resolve(parent)?.join(name);
    let is_symlink = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
    if is_symlink { resolve(&path) } else { Ok(path) }
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG…] - TYPE SOURCE SUPER-OPTIONS`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let mount_point = fields.nth(1)?;
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let file_system_type = fields.next()?;
    let source = fields.next()?;
    Some(MountEntry {
        device: (major.parse().ok()?, minor.parse().ok()?),
        mount_point: PathBuf::from(unescape(mount_point)),
        file_system_type: unescape(file_system_type),
        source: unescape(source),
    })
}

/// The kernel writes blanks, newlines, backslashes and `#` as a backslash and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// `name` as an option value for `fusermount3`, which splits options at commas.
pub(crate) fn escape_option_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

/// A lossy copy of a table's field for messages.
pub(crate) fn shown(field: &OsStr) -> String {
    String::from_utf8_lossy(field.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_line_with_tags_and_escapes_is_read() {
        let line =
            br"36 35 98:7 / /mnt/a\040b\134c\012d\011e\043 rw,noatime master:1 shared:2 - fuse.verfs /vol\040ume rw";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.device, (98, 7));
        assert_eq!(entry.mount_point.as_os_str().as_bytes(), b"/mnt/a b\\c\nd\te#");
        assert_eq!(entry.source, "/vol ume");
        assert!(entry.is_verfs());
    }

    #[test]
    fn a_line_without_tags_is_read() {
        let entry = parse_line(b"22 1 0:20 / /proc rw,nosuid - proc proc rw").unwrap();
        assert_eq!((entry.mount_point, entry.file_system_type), (PathBuf::from("/proc"), OsString::from("proc")));
    }

    #[test]
    fn bytes_that_are_no_escape_stay() {
        assert_eq!(unescape(br"a\4b\08\400").as_bytes(), br"a\4b\08\400");
        assert_eq!(unescape(b"\xff\\303\\251").as_bytes(), b"\xff\xc3\xa9");
    }

    #[test]
    fn rubbish_is_no_entry() {
        for line in [&b""[..], b"1 2 x:y / / rw - a b c", b"1 2 3:4 / /x rw a b"] {
            assert_eq!(parse_line(line), None);
        }
    }

    #[test]
    fn this_machine_has_a_root_mount_and_no_stale_root() {
        assert!(mount_table().unwrap().iter().any(|entry| entry.mount_point == Path::new("/")));
        assert!(!is_stale(Path::new("/")));
    }

    #[test]
    fn a_relative_path_resolves_and_a_missing_parent_is_told() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(resolve_parent(Path::new("never-made")).unwrap(), here.join("never-made"));
        assert!(matches!(
            resolve_parent(Path::new("/never-made/x")),
            Err(FuseError::MountpointMissing { path }) if path == Path::new("/never-made")
        ));
    }

    #[test]
    fn commas_in_option_values_are_escaped() {
        assert_eq!(escape_option_value(r"a,b\c"), r"a\,b\\c");
    }
}
