//! What the kernel makes of an answer of the model, and the few places where it answers before the volume could.

use rustix::io::Errno;
use verfs_testkit::model::Refusal;
use verfs_vfs::VfsError;

/// What a program sees of a refusal. Written down a second time on purpose: the volume's own table is under test.
fn errno(error: VfsError) -> Errno {
    match error {
        VfsError::WouldBlock => Errno::AGAIN,
        VfsError::NotFound => Errno::NOENT,
        VfsError::Exists => Errno::EXIST,
        VfsError::NotDirectory => Errno::NOTDIR,
        VfsError::IsDirectory => Errno::ISDIR,
        VfsError::NotEmpty => Errno::NOTEMPTY,
        VfsError::Busy => Errno::BUSY,
        VfsError::Interrupted => Errno::INTR,
        VfsError::NotPermitted => Errno::PERM,
        VfsError::Denied => Errno::ACCESS,
        VfsError::NoAttribute => Errno::NODATA,
        VfsError::Unsupported => Errno::OPNOTSUPP,
        VfsError::NoRoom => Errno::RANGE,
        VfsError::NoSuchOffset => Errno::NXIO,
        VfsError::InvalidArgument => Errno::INVAL,
        VfsError::NameTooLong => Errno::NAMETOOLONG,
        VfsError::TooManyLinks => Errno::MLINK,
        VfsError::FileTooLarge => Errno::FBIG,
        VfsError::NoSpace => Errno::NOSPC,
        VfsError::OutOfFiles => Errno::NFILE,
        VfsError::ReadOnly => Errno::ROFS,
        VfsError::Stale => Errno::STALE,
        VfsError::Overflow => Errno::OVERFLOW,
        VfsError::Io | VfsError::Closed => Errno::IO,
    }
}

/// What is special about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Circumstance {
    /// A symbolic link is where a directory should be in a path.
    ThroughSymlink,
    /// The directory is held open, but removed.
    InRemovedDirectory,
    /// The old name of a rename(2) isn't there.
    OldNameMissing,
    /// The file is held as a path only (O_PATH), as pipes, sockets, devices and links are here.
    PathOnly,
    /// A pipe that was opened.
    Pipe,
    /// It is neither a file nor a directory.
    Special,
    /// A write through a directory that is held open.
    WriteToDirectory,
    /// An ftruncate(2) of a directory that is held open.
    TruncateDirectory,
    /// A readlink(2) of what is held open.
    ReadLinkByHandle,
    /// An offset or size that is negative for the kernel.
    NegativeOffset,
}

/// A difference that is the kernel's.
struct Excuse {
    circumstance: Circumstance,
    /// What the model says; `None` is success.
    model: Option<VfsError>,
    kernel: Errno,
    #[allow(dead_code, reason = "for the reader")]
    reason: &'static str,
}

const FOLLOWS: &str = "the kernel follows links within a path, and these lead nowhere: to a name that isn't there, or \
                       to one that is too long";
const DEAD: &str = "the kernel looks nothing up in a removed directory";
const OLD_FIRST: &str = "the kernel looks the old name up before the new one";
const PATH: &str = "such a descriptor is only good for looking";
const WRITABLE: &str = "no directory can be opened for writing";
const LINK_ONLY: &str = "an empty path stands only for an open symbolic link";
const FLAGLESS: &str = "what is opened is the pipe, not the inode";
const USERLESS: &str = "the kernel knows that such an inode has no user attributes before it looks at the name";
const SIGNED: &str = "offsets are signed";

#[rustfmt::skip]
const EXCUSES: &[Excuse] = &[
    Excuse { circumstance: Circumstance::ThroughSymlink, model: Some(VfsError::NotDirectory), kernel: Errno::NOENT, reason: FOLLOWS },
    Excuse { circumstance: Circumstance::ThroughSymlink, model: Some(VfsError::NotDirectory), kernel: Errno::NAMETOOLONG, reason: FOLLOWS },
    Excuse { circumstance: Circumstance::ThroughSymlink, model: Some(VfsError::NameTooLong), kernel: Errno::NOENT, reason: FOLLOWS },
    Excuse { circumstance: Circumstance::InRemovedDirectory, model: Some(VfsError::NameTooLong), kernel: Errno::NOENT, reason: DEAD },
    Excuse { circumstance: Circumstance::OldNameMissing, model: Some(VfsError::NameTooLong), kernel: Errno::NOENT, reason: OLD_FIRST },
    Excuse { circumstance: Circumstance::PathOnly, model: Some(VfsError::InvalidArgument), kernel: Errno::BADF, reason: PATH },
    Excuse { circumstance: Circumstance::PathOnly, model: Some(VfsError::FileTooLarge), kernel: Errno::BADF, reason: PATH },
    Excuse { circumstance: Circumstance::PathOnly, model: None, kernel: Errno::BADF, reason: PATH },
    Excuse { circumstance: Circumstance::PathOnly, model: Some(VfsError::Unsupported), kernel: Errno::BADF, reason: PATH },
    Excuse { circumstance: Circumstance::Pipe, model: Some(VfsError::Unsupported), kernel: Errno::NOTTY, reason: FLAGLESS },
    Excuse { circumstance: Circumstance::Special, model: Some(VfsError::InvalidArgument), kernel: Errno::NODATA, reason: USERLESS },
    Excuse { circumstance: Circumstance::WriteToDirectory, model: Some(VfsError::IsDirectory), kernel: Errno::BADF, reason: WRITABLE },
    Excuse { circumstance: Circumstance::TruncateDirectory, model: Some(VfsError::IsDirectory), kernel: Errno::INVAL, reason: WRITABLE },
    Excuse { circumstance: Circumstance::ReadLinkByHandle, model: Some(VfsError::InvalidArgument), kernel: Errno::NOENT, reason: LINK_ONLY },
    Excuse { circumstance: Circumstance::NegativeOffset, model: Some(VfsError::FileTooLarge), kernel: Errno::INVAL, reason: SIGNED },
    Excuse { circumstance: Circumstance::NegativeOffset, model: Some(VfsError::IsDirectory), kernel: Errno::INVAL, reason: SIGNED },
    Excuse { circumstance: Circumstance::NegativeOffset, model: None, kernel: Errno::INVAL, reason: SIGNED },
];

/// Whether the kernel may say `found` where the model says `expected`.
fn is_excused(circumstances: &[Circumstance], expected: Option<&Refusal>, found: Errno) -> bool {
    EXCUSES.iter().any(|excuse| {
        let model_agrees = match (excuse.model, expected) {
            (None, None) => true,
            (Some(error), Some(Refusal(errors))) => errors.contains(&error),
            (None, Some(_)) | (Some(_), None) => false,
        };
        model_agrees && excuse.kernel == found && circumstances.contains(&excuse.circumstance)
    })
}

/// Holds an answer of the mount against the model's: both when both succeed, `None` when both refuse, alike or for the
/// kernel's own reasons.
///
/// # Errors
/// The difference.
pub(crate) fn meet<T, U>(
    what: &str,
    circumstances: &[Circumstance],
    model: Result<T, Refusal>,
    mount: Result<U, Errno>,
) -> Result<Option<(T, U)>, String> {
    match (model, mount) {
        (Ok(expected), Ok(found)) => Ok(Some((expected, found))),
        (Ok(_), Err(found)) if is_excused(circumstances, None, found) => Ok(None),
        (Ok(_), Err(found)) => Err(format!("{what}: expected success, the mount said {found:?}")),
        (Err(Refusal(errors)), Err(found)) if errors.iter().any(|error| errno(*error) == found) => Ok(None),
        (Err(refusal), Err(found)) if is_excused(circumstances, Some(&refusal), found) => Ok(None),
        (Err(refusal), Err(found)) => Err(format!("{what}: expected one of {:?}, the mount said {found:?}", refusal.0)),
        (Err(refusal), Ok(_)) => Err(format!("{what}: expected one of {:?}, the mount succeeded", refusal.0)),
    }
}
