//! Errors of a volume, each with a stable code, the path concerned and what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use verfs_base::is_out_of_descriptors;
use verfs_format::superblock::SuperblockError;
use verfs_fuse::FuseError;
use verfs_meta::MetaError;
use verfs_store::StoreError;
use verfs_vfs::{OpenError, VfsError};

/// Every code that an [`EngineError`] can have.
pub const ERROR_CODES: &[&str] = &[
    "VERFS_E_USAGE",
    "VERFS_E_MOUNTPOINT_MISSING",
    "VERFS_E_MOUNTPOINT_NOT_DIR",
    "VERFS_E_MOUNTPOINT_NOT_EMPTY",
    "VERFS_E_ALREADY_MOUNTED",
    "VERFS_E_MOUNTPOINT_STALE",
    "VERFS_E_NOT_MOUNTED",
    "VERFS_E_NOT_A_VOLUME",
    "VERFS_E_VOLUME_EXISTS",
    "VERFS_E_VOLUME_LOCKED",
    "VERFS_E_VOLUME_READ_ONLY",
    "VERFS_E_VOLUME_FULL",
    "VERFS_E_FORMAT_NEWER",
    "VERFS_E_SUPERBLOCK_DAMAGED",
    "VERFS_E_DAMAGED",
    "VERFS_E_METADATA_OLDER",
    "VERFS_E_METADATA_MISSING",
    "VERFS_E_NO_FUSE_DEVICE",
    "VERFS_E_NO_FUSERMOUNT",
    "VERFS_E_PERMISSION",
    "VERFS_E_IO",
    "VERFS_E_FILE_LIMIT",
    "VERFS_E_CLOSED",
    "VERFS_E_CANCELLED",
    "VERFS_E_SNAPSHOT_NOT_FOUND",
    "VERFS_E_SNAPSHOT_EXISTS",
    "VERFS_E_SNAPSHOT_NAME",
    "VERFS_E_SNAPSHOT_HELD",
    "VERFS_E_STREAM_DAMAGED",
    "VERFS_E_STREAM_MISMATCH",
    "VERFS_E_PATH_NOT_FOUND",
    "VERFS_E_PATH_EXISTS",
    "VERFS_E_SOURCE_MISSING",
    "VERFS_E_SOURCE_CHANGED",
    "VERFS_E_TARGET_EXISTS",
    "VERFS_E_TARGET_FULL",
    "VERFS_E_COPY_INCOMPLETE",
    "VERFS_E_COPY_DIFFERS",
    "VERFS_E_FREEZE_BROKEN",
    "VERFS_E_VAULT_ABSENT",
    "VERFS_E_VAULT_EXISTS",
    "VERFS_E_VAULT_UNLOCKED",
    "VERFS_E_VAULT_SECRET",
    "VERFS_E_VAULT_RATE_LIMITED",
    "VERFS_E_VAULT_DAMAGED",
    "VERFS_E_VAULT_KEY_FILE",
    "VERFS_E_VAULT_LOCKED",
];

/// Why something could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An option that can't be.
    #[error("{0}")]
    Usage(String),
    /// There is no volume here.
    #[error("{} is not a volume ({reason}): create one with `verfs volume create --volume DIR`", path.display())]
    NotAVolume {
        /// The directory.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// None can be made here.
    #[error("{} cannot become a volume ({reason}): choose an empty directory, or a new one", path.display())]
    NoPlaceForVolume {
        /// The directory.
        path: PathBuf,
        /// What is there.
        reason: &'static str,
    },
    /// There is one already.
    #[error("{} is a volume already: open it, or choose another directory", path.display())]
    VolumeExists {
        /// The directory.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("volume {} is in use by {}: unmount or close it there first", path.display(), holder_text(*holder_pid))]
    VolumeLocked {
        /// The directory.
        path: PathBuf,
        /// Who has it, where that could be read.
        holder_pid: Option<u32>,
    },
    /// Its disk takes no writes.
    #[error("volume {} is on a read-only filesystem: remount that with `mount -o remount,rw`", path.display())]
    VolumeReadOnly {
        /// The directory.
        path: PathBuf,
    },
    /// It was opened so that nothing on it changes.
    #[error("volume {} is open read-only: mount it without `-o ro`, and without `volume.read_only`", path.display())]
    OpenReadOnly {
        /// The directory.
        path: PathBuf,
    },
    /// Its disk is full.
    #[error("the disk of volume {} is full: free some space on it and try again", path.display())]
    VolumeFull {
        /// The directory.
        path: PathBuf,
    },
    /// The process has as many files open as it may have.
    #[error("no more files can be opened for volume {}: close some, or raise the limit with `ulimit -n`", path.display())]
    OutOfFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("{}: {detail}: install a newer VerFS", path.display())]
    FormatNewer {
        /// The directory.
        path: PathBuf,
        /// Which version was found.
        detail: String,
    },
    /// The superblock is not what was written.
    #[error("{}: {detail}: restore volume.toml from a copy; nothing was changed", path.display())]
    SuperblockDamaged {
        /// The directory.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Something else of it is not what was written.
    #[error(
        "volume {} is damaged: {detail}: look at it with `verfs mount --read-only-recovery`, mend it with `verfs fsck \
         --repair`, or restore it from a copy; nothing was changed",
        path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Its metadata is a copy of earlier metadata.
    #[error(
        "the metadata of volume {} is older than its data ({detail}): put the newest meta/ back, or keep what is there \
         with `verfs fsck --repair`, or look at it with `verfs mount --read-only-recovery`; nothing was changed",
        path.display()
    )]
    MetadataOlder {
        /// The directory.
        path: PathBuf,
        /// By how much.
        detail: String,
    },
    /// It has data and no metadata.
    #[error(
        "volume {} has data, and its metadata is missing: put meta/ back from a copy; without one `verfs fsck --repair` \
         keeps the data without their names in lost+found; nothing was changed",
        path.display()
    )]
    MetadataMissing {
        /// The directory.
        path: PathBuf,
    },
    /// The system refuses it to this user.
    #[error("no permission for {}: {detail}: run as the volume's owner, or change its mode", path.display())]
    Permission {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The process may not open enough files.
    #[error(
        "this process may open {allowed} files, and volume {} needs {needed}: raise the hard limit, as with \
         `ulimit -n {needed}` or LimitNOFILE=",
        path.display()
    )]
    FileLimit {
        /// The directory of the volume.
        path: PathBuf,
        /// The limit, which is also the hard one.
        allowed: u64,
        /// What it has to be at least.
        needed: u64,
    },
    /// It isn't mounted.
    #[error("volume {} is not mounted: mount it with `verfs mount`", path.display())]
    NotMounted {
        /// The directory of the volume.
        path: PathBuf,
    },
    /// It is mounted already.
    #[error("volume {} is mounted at {} already: unmount it there first", path.display(), mountpoint.display())]
    AlreadyMounted {
        /// The directory of the volume.
        path: PathBuf,
        /// Where.
        mountpoint: PathBuf,
    },
    /// It was closed.
    #[error("volume {} is closed: open it again", path.display())]
    Closed {
        /// The directory.
        path: PathBuf,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot {name}: `verfs snapshot list` shows them")]
    SnapshotNotFound {
        /// The name.
        name: String,
    },
    /// There is one already.
    #[error("there is a snapshot {name} already: choose another name, or delete that one")]
    SnapshotExists {
        /// The name.
        name: String,
    },
    /// A name that can't be.
    #[error(
        "{name:?} can't be the name of a snapshot: names have 1 to 255 bytes, no `/` and no control characters, do not \
         begin with `-`, and are not `.` or `..`"
    )]
    SnapshotName {
        /// The name.
        name: String,
    },
    /// It must not be deleted.
    #[error("snapshot {name} is held by {by}: `verfs snapshot release` ends a hold")]
    SnapshotHeld {
        /// The name.
        name: String,
        /// Who holds it.
        by: String,
    },
    /// A stream isn't what was sent, or not all of it.
    #[error("the stream {detail}; the volume is as it was: {advice}")]
    StreamDamaged {
        /// What is wrong.
        detail: String,
        /// How to get the rest, or another.
        advice: String,
    },
    /// A stream is not for this volume, or a token not for this stream.
    #[error("the stream does not fit: {detail}: {advice}")]
    StreamMismatch {
        /// Why.
        detail: String,
        /// What would fit.
        advice: &'static str,
    },
    /// The caller ended a stream.
    #[error("the stream was cancelled: `verfs receive --status` shows from where it can go on")]
    StreamCancelled,
    /// A snapshot has nothing at this path.
    #[error("there is no {} in snapshot {snapshot}: `verfs snapshot diff` tells what changed since", path.display())]
    PathNotFound {
        /// The path, from the root of the volume.
        path: PathBuf,
        /// The snapshot.
        snapshot: String,
    },
    /// The volume has nothing at this path.
    #[error("there is no {} in the volume: name what is there, from the root of the volume", path.display())]
    NoSuchPath {
        /// The path, from the root of the volume.
        path: PathBuf,
    },
    /// Something would be in the way.
    #[error("there is something at {} in the volume already: choose another path", path.display())]
    PathExists {
        /// The path, from the root of the volume.
        path: PathBuf,
    },
    /// What is to be copied, or the directory that it is to be copied to, is not there.
    #[error("there is no {}: name a file or directory of this machine that is there", path.display())]
    SourceMissing {
        /// The path on this machine.
        path: PathBuf,
    },
    /// Somebody wrote to what was being copied.
    #[error(
        "{count} files in {} changed while they were read: run it again, which goes on; of a snapshot nothing changes",
        path.display()
    )]
    SourceChanged {
        /// What was copied.
        path: PathBuf,
        /// How many files.
        count: u64,
    },
    /// Something would be in the way.
    #[error("there is something at {} already: name another place", path.display())]
    TargetExists {
        /// The path on this machine.
        path: PathBuf,
    },
    /// The disk of the target is full.
    #[error("the disk of {} is full: free some space on it, and run it again, which goes on", path.display())]
    TargetFull {
        /// The path on this machine.
        path: PathBuf,
    },
    /// Not everything could be copied.
    #[error("{count} things in {} could not be copied: {detail}: correct that and run it again, which goes on, or give --leave-out", path.display())]
    CopyIncomplete {
        /// What was copied.
        path: PathBuf,
        /// How many.
        count: u64,
        /// The first of them.
        detail: String,
    },
    /// What was read back is not what was written.
    #[error("{count} files of {} are not stored as they were read: run it again, which copies these anew; check the disk", path.display())]
    CopyDiffers {
        /// What was copied.
        path: PathBuf,
        /// How many.
        count: u64,
    },
    /// The caller ended a copy that can be gone on with.
    #[error("copying to {} was cancelled: run it again, which goes on", path.display())]
    TransferCancelled {
        /// Where it goes.
        path: PathBuf,
    },
    /// A volume did not stand still as long as it should.
    #[error("volume {} did not stand still: {detail}: copy it again", path.display())]
    FreezeBroken {
        /// The directory.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The caller ended it.
    #[error("copying to {} was cancelled: nothing of it stays", path.display())]
    Cancelled {
        /// The path, from the root of the volume.
        path: PathBuf,
    },
    /// The volume has no vault.
    #[error("volume {} has no vault: make one with `verfs crypt -c`", path.display())]
    VaultAbsent {
        /// The directory.
        path: PathBuf,
    },
    /// It has one already.
    #[error("volume {} has a vault already: open it with `verfs crypt -u`", path.display())]
    VaultExists {
        /// The directory.
        path: PathBuf,
    },
    /// It is open already.
    #[error("the vault of volume {} is unlocked already: it is in `.vault` of the mount", path.display())]
    VaultUnlocked {
        /// The directory.
        path: PathBuf,
    },
    /// It is locked.
    #[error("the vault of volume {} is locked: unlock it with `verfs crypt -u`", path.display())]
    VaultLocked {
        /// The directory.
        path: PathBuf,
    },
    /// The secrets are not the vault's. Which of them isn't nobody can tell.
    #[error("the password or the key file is wrong: try again")]
    VaultSecret,
    /// Too many wrong tries.
    #[error("there were too many wrong tries: wait {} s before the next one", wait.as_secs_f64().ceil())]
    VaultRateLimited {
        /// How long.
        wait: Duration,
    },
    /// The wrapped keys are not what was written.
    #[error(
        "the wrapped keys of the vault of volume {} are damaged ({detail}): no password opens it; restore the volume's \
         metadata from a copy",
        path.display()
    )]
    VaultDamaged {
        /// The directory.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A file is not a vault's key file.
    #[error("this is not the key file of a vault ({detail}): give the file that `verfs crypt -c` made")]
    VaultKeyFile {
        /// What was found.
        detail: String,
    },
    /// The mount failed.
    #[error(transparent)]
    Mount(#[from] FuseError),
    /// Anything else that the disk or an engine said.
    #[error("{}: {detail}: see the log", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was said.
        detail: String,
    },
}

fn holder_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl EngineError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            EngineError::Usage(_) => "VERFS_E_USAGE",
            EngineError::NotAVolume { .. } | EngineError::NoPlaceForVolume { .. } => "VERFS_E_NOT_A_VOLUME",
            EngineError::VolumeExists { .. } => "VERFS_E_VOLUME_EXISTS",
            EngineError::VolumeLocked { .. } => "VERFS_E_VOLUME_LOCKED",
            EngineError::VolumeReadOnly { .. } | EngineError::OpenReadOnly { .. } => "VERFS_E_VOLUME_READ_ONLY",
            EngineError::VolumeFull { .. } => "VERFS_E_VOLUME_FULL",
            EngineError::FormatNewer { .. } => "VERFS_E_FORMAT_NEWER",
            EngineError::SuperblockDamaged { .. } => "VERFS_E_SUPERBLOCK_DAMAGED",
            EngineError::Damaged { .. } => "VERFS_E_DAMAGED",
            EngineError::MetadataOlder { .. } => "VERFS_E_METADATA_OLDER",
            EngineError::MetadataMissing { .. } => "VERFS_E_METADATA_MISSING",
            EngineError::Permission { .. } => "VERFS_E_PERMISSION",
            EngineError::FileLimit { .. } | EngineError::OutOfFiles { .. } => "VERFS_E_FILE_LIMIT",
            EngineError::NotMounted { .. } => "VERFS_E_NOT_MOUNTED",
            EngineError::AlreadyMounted { .. } => "VERFS_E_ALREADY_MOUNTED",
            EngineError::Closed { .. } => "VERFS_E_CLOSED",
            EngineError::SnapshotNotFound { .. } => "VERFS_E_SNAPSHOT_NOT_FOUND",
            EngineError::SnapshotExists { .. } => "VERFS_E_SNAPSHOT_EXISTS",
            EngineError::SnapshotName { .. } => "VERFS_E_SNAPSHOT_NAME",
            EngineError::SnapshotHeld { .. } => "VERFS_E_SNAPSHOT_HELD",
            EngineError::StreamDamaged { .. } => "VERFS_E_STREAM_DAMAGED",
            EngineError::StreamMismatch { .. } => "VERFS_E_STREAM_MISMATCH",
            EngineError::PathNotFound { .. } | EngineError::NoSuchPath { .. } => "VERFS_E_PATH_NOT_FOUND",
            EngineError::PathExists { .. } => "VERFS_E_PATH_EXISTS",
            EngineError::SourceMissing { .. } => "VERFS_E_SOURCE_MISSING",
            EngineError::SourceChanged { .. } => "VERFS_E_SOURCE_CHANGED",
            EngineError::TargetExists { .. } => "VERFS_E_TARGET_EXISTS",
            EngineError::TargetFull { .. } => "VERFS_E_TARGET_FULL",
            EngineError::CopyIncomplete { .. } => "VERFS_E_COPY_INCOMPLETE",
            EngineError::CopyDiffers { .. } => "VERFS_E_COPY_DIFFERS",
            EngineError::TransferCancelled { .. } => "VERFS_E_CANCELLED",
            EngineError::FreezeBroken { .. } => "VERFS_E_FREEZE_BROKEN",
            EngineError::Cancelled { .. } | EngineError::StreamCancelled => "VERFS_E_CANCELLED",
            EngineError::Io { .. } => "VERFS_E_IO",
            EngineError::VaultAbsent { .. } => "VERFS_E_VAULT_ABSENT",
            EngineError::VaultExists { .. } => "VERFS_E_VAULT_EXISTS",
            EngineError::VaultUnlocked { .. } => "VERFS_E_VAULT_UNLOCKED",
            EngineError::VaultLocked { .. } => "VERFS_E_VAULT_LOCKED",
            EngineError::VaultSecret => "VERFS_E_VAULT_SECRET",
            EngineError::VaultRateLimited { .. } => "VERFS_E_VAULT_RATE_LIMITED",
            EngineError::VaultDamaged { .. } => "VERFS_E_VAULT_DAMAGED",
            EngineError::VaultKeyFile { .. } => "VERFS_E_VAULT_KEY_FILE",
            EngineError::Mount(error) => match error {
                FuseError::MountpointMissing { .. } => "VERFS_E_MOUNTPOINT_MISSING",
                FuseError::MountpointNotDirectory { .. } => "VERFS_E_MOUNTPOINT_NOT_DIR",
                FuseError::MountpointNotEmpty { .. } => "VERFS_E_MOUNTPOINT_NOT_EMPTY",
                FuseError::AlreadyMounted { .. } => "VERFS_E_ALREADY_MOUNTED",
                FuseError::MountpointStale { .. } => "VERFS_E_MOUNTPOINT_STALE",
                FuseError::NoFuseDevice => "VERFS_E_NO_FUSE_DEVICE",
                FuseError::NoFusermount => "VERFS_E_NO_FUSERMOUNT",
                FuseError::PermissionDenied { .. } => "VERFS_E_PERMISSION",
                FuseError::InvalidOption { .. } => "VERFS_E_USAGE",
                FuseError::Io { .. } => "VERFS_E_IO",
            },
        }
    }

    /// The path that the error is about, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            EngineError::Usage(_)
            | EngineError::SnapshotNotFound { .. }
            | EngineError::SnapshotExists { .. }
            | EngineError::SnapshotName { .. }
            | EngineError::SnapshotHeld { .. }
            | EngineError::StreamDamaged { .. }
            | EngineError::StreamMismatch { .. }
            | EngineError::VaultSecret
            | EngineError::VaultRateLimited { .. }
            | EngineError::VaultKeyFile { .. }
            | EngineError::StreamCancelled => None,
            EngineError::Mount(error) => error.path(),
            EngineError::NotAVolume { path, .. }
            | EngineError::NoPlaceForVolume { path, .. }
            | EngineError::VolumeExists { path }
            | EngineError::VaultAbsent { path }
            | EngineError::VaultExists { path }
            | EngineError::VaultUnlocked { path }
            | EngineError::VaultLocked { path }
            | EngineError::VaultDamaged { path, .. }
            | EngineError::VolumeLocked { path, .. }
            | EngineError::VolumeReadOnly { path }
            | EngineError::OpenReadOnly { path }
            | EngineError::VolumeFull { path }
            | EngineError::OutOfFiles { path }
            | EngineError::PathNotFound { path, .. }
            | EngineError::NoSuchPath { path }
            | EngineError::PathExists { path }
            | EngineError::SourceMissing { path }
            | EngineError::SourceChanged { path, .. }
            | EngineError::TargetExists { path }
            | EngineError::TargetFull { path }
            | EngineError::CopyIncomplete { path, .. }
            | EngineError::CopyDiffers { path, .. }
            | EngineError::TransferCancelled { path }
            | EngineError::FreezeBroken { path, .. }
            | EngineError::Cancelled { path }
            | EngineError::FormatNewer { path, .. }
            | EngineError::SuperblockDamaged { path, .. }
            | EngineError::Damaged { path, .. }
            | EngineError::MetadataOlder { path, .. }
            | EngineError::MetadataMissing { path }
            | EngineError::Permission { path, .. }
            | EngineError::FileLimit { path, .. }
            | EngineError::NotMounted { path }
            | EngineError::AlreadyMounted { path, .. }
            | EngineError::Closed { path }
            | EngineError::Io { path, .. } => Some(path),
        }
    }

    /// There is no snapshot of this name.
    pub(crate) fn snapshot_not_found(name: &[u8]) -> Self {
        EngineError::SnapshotNotFound { name: String::from_utf8_lossy(name).into_owned() }
    }

    /// What an error of the operating system about `path` means for a volume.
    pub(crate) fn from_io(path: &Path, error: &io::Error) -> Self {
        let (path, detail) = (path.to_path_buf(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied => EngineError::Permission { path, detail },
            io::ErrorKind::ReadOnlyFilesystem => EngineError::VolumeReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::VolumeFull { path },
            _ if is_out_of_descriptors(error) => EngineError::OutOfFiles { path },
            _ => EngineError::Io { path, detail },
        }
    }

    pub(crate) fn from_superblock(path: &Path, error: &SuperblockError) -> Self {
        let (path, detail) = (path.to_path_buf(), error.to_string());
        match error {
            SuperblockError::Newer { .. } => EngineError::FormatNewer { path, detail },
            SuperblockError::Damaged { .. } => EngineError::SuperblockDamaged { path, detail },
        }
    }

    pub(crate) fn from_meta(path: &Path, error: &MetaError) -> Self {
        let (path, detail) = (path.to_path_buf(), error.to_string());
        match error {
            MetaError::OutOfSpace(_) => EngineError::VolumeFull { path },
            MetaError::OutOfFiles(_) => EngineError::OutOfFiles { path },
            MetaError::Corrupt(_) => EngineError::Damaged { path, detail },
            MetaError::Unsupported(_) => EngineError::FormatNewer { path, detail },
            MetaError::Closed => EngineError::Closed { path },
            MetaError::Io(_) => EngineError::Io { path, detail },
        }
    }

    pub(crate) fn from_store(path: &Path, error: &StoreError) -> Self {
        match error {
            StoreError::Meta(error) => Self::from_meta(path, error),
            StoreError::OutOfSpace => EngineError::VolumeFull { path: path.to_path_buf() },
            StoreError::OutOfFiles => EngineError::OutOfFiles { path: path.to_path_buf() },
            StoreError::Closed => EngineError::Closed { path: path.to_path_buf() },
            StoreError::Option { .. } => EngineError::Usage(error.to_string()),
            StoreError::Damaged { .. } | StoreError::Missing { .. } => {
                EngineError::Damaged { path: path.to_path_buf(), detail: error.to_string() }
            }
            StoreError::Io { kind, .. } => {
                let error = io::Error::new(*kind, error.to_string());
                Self::from_io(path, &error)
            }
            StoreError::ChunkLength { .. } => EngineError::Io { path: path.to_path_buf(), detail: error.to_string() },
        }
    }

    pub(crate) fn from_open(path: &Path, error: OpenError) -> Self {
        match error {
            OpenError::Damaged(detail) => EngineError::Damaged { path: path.to_path_buf(), detail },
            OpenError::Failed(error) => Self::from_vfs(path, error),
        }
    }

    pub(crate) fn from_vfs(path: &Path, error: VfsError) -> Self {
        let path = path.to_path_buf();
        match error {
            VfsError::NoSpace => EngineError::VolumeFull { path },
            VfsError::OutOfFiles => EngineError::OutOfFiles { path },
            VfsError::Closed => EngineError::Closed { path },
            VfsError::ReadOnly => EngineError::VolumeReadOnly { path },
            VfsError::WouldBlock
            | VfsError::NotFound
            | VfsError::Exists
            | VfsError::NotDirectory
            | VfsError::IsDirectory
            | VfsError::NotEmpty
            | VfsError::NotPermitted
            | VfsError::Denied
            | VfsError::NoAttribute
            | VfsError::Unsupported
            | VfsError::NoSuchOffset
            | VfsError::NoRoom
            | VfsError::InvalidArgument
            | VfsError::NameTooLong
            | VfsError::TooManyLinks
            | VfsError::FileTooLarge
            | VfsError::Busy
            | VfsError::Stale
            | VfsError::Overflow
            | VfsError::Interrupted
            | VfsError::Io => EngineError::Io { path, detail: error.to_string() },
        }
    }
}
