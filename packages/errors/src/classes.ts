import { describe, type ErrorDetails, type ErrorRecord, isErrorRecord, VerfsError } from './error.ts';
import type { ErrorCode } from './table.ts';

/** The class of one code: its instances carry the code and an advice. */
export interface ErrorClass<C extends ErrorCode> {
  /** `what` says in a few words what happened, to which path; the advice of the table is added. */
  new (what: string, details?: ErrorDetails): VerfsError & { readonly code: C };
}

const classes = new Map<ErrorCode, ErrorClass<ErrorCode>>();

function errorClass<C extends ErrorCode>(code: C, name: string): ErrorClass<C> {
  class CodedError extends VerfsError {
    override readonly code = code;

    constructor(what: string, details: ErrorDetails = {}) {
      super(describe(code, what, details), details);
      this.name = name;
    }
  }
  Object.defineProperty(CodedError, 'name', { value: name });
  classes.set(code, CodedError);
  return CodedError;
}

/** A defect of VerFS itself. */
export const InternalError = errorClass('VERFS_E_INTERNAL', 'InternalError');
/** A defect of VerFS itself. */
export type InternalError = InstanceType<typeof InternalError>;

/** The command line is wrong. */
export const UsageError = errorClass('VERFS_E_USAGE', 'UsageError');
/** The command line is wrong. */
export type UsageError = InstanceType<typeof UsageError>;

/** The configuration has a key that does not exist. */
export const ConfigKeyError = errorClass('VERFS_E_CONFIG_KEY', 'ConfigKeyError');
/** The configuration has a key that does not exist. */
export type ConfigKeyError = InstanceType<typeof ConfigKeyError>;

/** A configuration value has the wrong type or is outside its bounds. */
export const ConfigTypeError = errorClass('VERFS_E_CONFIG_TYPE', 'ConfigTypeError');
/** A configuration value has the wrong type or is outside its bounds. */
export type ConfigTypeError = InstanceType<typeof ConfigTypeError>;

/** A size or a duration in the configuration lacks its unit or has an unknown one. */
export const ConfigUnitError = errorClass('VERFS_E_CONFIG_UNIT', 'ConfigUnitError');
/** A size or a duration in the configuration lacks its unit or has an unknown one. */
export type ConfigUnitError = InstanceType<typeof ConfigUnitError>;

/** The configuration file cannot be read, or is not TOML. */
export const ConfigFileError = errorClass('VERFS_E_CONFIG_FILE', 'ConfigFileError');
/** The configuration file cannot be read, or is not TOML. */
export type ConfigFileError = InstanceType<typeof ConfigFileError>;

/** The mountpoint does not exist. */
export const MountpointMissingError = errorClass('VERFS_E_MOUNTPOINT_MISSING', 'MountpointMissingError');
/** The mountpoint does not exist. */
export type MountpointMissingError = InstanceType<typeof MountpointMissingError>;

/** The mountpoint is not a directory. */
export const MountpointNotDirError = errorClass('VERFS_E_MOUNTPOINT_NOT_DIR', 'MountpointNotDirError');
/** The mountpoint is not a directory. */
export type MountpointNotDirError = InstanceType<typeof MountpointNotDirError>;

/** The mountpoint has files in it, which the mount would hide. */
export const MountpointNotEmptyError = errorClass('VERFS_E_MOUNTPOINT_NOT_EMPTY', 'MountpointNotEmptyError');
/** The mountpoint has files in it, which the mount would hide. */
export type MountpointNotEmptyError = InstanceType<typeof MountpointNotEmptyError>;

/** Something is mounted there already, or the volume is mounted already. */
export const AlreadyMountedError = errorClass('VERFS_E_ALREADY_MOUNTED', 'AlreadyMountedError');
/** Something is mounted there already, or the volume is mounted already. */
export type AlreadyMountedError = InstanceType<typeof AlreadyMountedError>;

/** The mountpoint holds the mount of a process that died, and it could not be detached. */
export const MountpointStaleError = errorClass('VERFS_E_MOUNTPOINT_STALE', 'MountpointStaleError');
/** The mountpoint holds the mount of a process that died, and it could not be detached. */
export type MountpointStaleError = InstanceType<typeof MountpointStaleError>;

/** No VerFS volume is mounted there. */
export const NotMountedError = errorClass('VERFS_E_NOT_MOUNTED', 'NotMountedError');
/** No VerFS volume is mounted there. */
export type NotMountedError = InstanceType<typeof NotMountedError>;

/** The directory is not a VerFS volume. */
export const NotAVolumeError = errorClass('VERFS_E_NOT_A_VOLUME', 'NotAVolumeError');
/** The directory is not a VerFS volume. */
export type NotAVolumeError = InstanceType<typeof NotAVolumeError>;

/** There is a volume, or something else, where the new volume would go. */
export const VolumeExistsError = errorClass('VERFS_E_VOLUME_EXISTS', 'VolumeExistsError');
/** There is a volume, or something else, where the new volume would go. */
export type VolumeExistsError = InstanceType<typeof VolumeExistsError>;

/** Another process has the volume open. */
export const VolumeLockedError = errorClass('VERFS_E_VOLUME_LOCKED', 'VolumeLockedError');
/** Another process has the volume open. */
export type VolumeLockedError = InstanceType<typeof VolumeLockedError>;

/** The volume cannot be written. */
export const VolumeReadOnlyError = errorClass('VERFS_E_VOLUME_READ_ONLY', 'VolumeReadOnlyError');
/** The volume cannot be written. */
export type VolumeReadOnlyError = InstanceType<typeof VolumeReadOnlyError>;

/** The disk that holds the volume has no room for this. */
export const VolumeFullError = errorClass('VERFS_E_VOLUME_FULL', 'VolumeFullError');
/** The disk that holds the volume has no room for this. */
export type VolumeFullError = InstanceType<typeof VolumeFullError>;

/** The volume was written by a newer VerFS. */
export const FormatNewerError = errorClass('VERFS_E_FORMAT_NEWER', 'FormatNewerError');
/** The volume was written by a newer VerFS. */
export type FormatNewerError = InstanceType<typeof FormatNewerError>;

/** The superblock of the volume (volume.toml) is damaged. */
export const SuperblockDamagedError = errorClass('VERFS_E_SUPERBLOCK_DAMAGED', 'SuperblockDamagedError');
/** The superblock of the volume (volume.toml) is damaged. */
export type SuperblockDamagedError = InstanceType<typeof SuperblockDamagedError>;

/** Stored data do not match their checksums. */
export const DamagedError = errorClass('VERFS_E_DAMAGED', 'DamagedError');
/** Stored data do not match their checksums. */
export type DamagedError = InstanceType<typeof DamagedError>;

/** The metadata of the volume are older than its data. */
export const MetadataOlderError = errorClass('VERFS_E_METADATA_OLDER', 'MetadataOlderError');
/** The metadata of the volume are older than its data. */
export type MetadataOlderError = InstanceType<typeof MetadataOlderError>;

/** The volume has data, and its metadata are missing. */
export const MetadataMissingError = errorClass('VERFS_E_METADATA_MISSING', 'MetadataMissingError');
/** The volume has data, and its metadata are missing. */
export type MetadataMissingError = InstanceType<typeof MetadataMissingError>;

/** The kernel offers no /dev/fuse. */
export const NoFuseDeviceError = errorClass('VERFS_E_NO_FUSE_DEVICE', 'NoFuseDeviceError');
/** The kernel offers no /dev/fuse. */
export type NoFuseDeviceError = InstanceType<typeof NoFuseDeviceError>;

/** The program fusermount3 is missing; without root rights it is needed to mount. */
export const NoFusermountError = errorClass('VERFS_E_NO_FUSERMOUNT', 'NoFusermountError');
/** The program fusermount3 is missing; without root rights it is needed to mount. */
export type NoFusermountError = InstanceType<typeof NoFusermountError>;

/** The operating system refused access. */
export const PermissionError = errorClass('VERFS_E_PERMISSION', 'PermissionError');
/** The operating system refused access. */
export type PermissionError = InstanceType<typeof PermissionError>;

/** The disk or the operating system reported an error. */
export const IoError = errorClass('VERFS_E_IO', 'IoError');
/** The disk or the operating system reported an error. */
export type IoError = InstanceType<typeof IoError>;

/** The process may not open as many files as a volume needs. */
export const FileLimitError = errorClass('VERFS_E_FILE_LIMIT', 'FileLimitError');
/** The process may not open as many files as a volume needs. */
export type FileLimitError = InstanceType<typeof FileLimitError>;

/** The volume was used after it was closed. */
export const ClosedError = errorClass('VERFS_E_CLOSED', 'ClosedError');
/** The volume was used after it was closed. */
export type ClosedError = InstanceType<typeof ClosedError>;

/** The call was cancelled by its AbortSignal. */
export const CancelledError = errorClass('VERFS_E_CANCELLED', 'CancelledError');
/** The call was cancelled by its AbortSignal. */
export type CancelledError = InstanceType<typeof CancelledError>;

/** The daemon of the mount ended without saying why. */
export const DaemonDiedError = errorClass('VERFS_E_DAEMON_DIED', 'DaemonDiedError');
/** The daemon of the mount ended without saying why. */
export type DaemonDiedError = InstanceType<typeof DaemonDiedError>;

/** The daemon did not answer in time. */
export const TimeoutError = errorClass('VERFS_E_TIMEOUT', 'TimeoutError');
/** The daemon did not answer in time. */
export type TimeoutError = InstanceType<typeof TimeoutError>;

/** The volume has no snapshot of this name. */
export const SnapshotNotFoundError = errorClass('VERFS_E_SNAPSHOT_NOT_FOUND', 'SnapshotNotFoundError');
/** The volume has no snapshot of this name. */
export type SnapshotNotFoundError = InstanceType<typeof SnapshotNotFoundError>;

/** The volume has a snapshot of this name already. */
export const SnapshotExistsError = errorClass('VERFS_E_SNAPSHOT_EXISTS', 'SnapshotExistsError');
/** The volume has a snapshot of this name already. */
export type SnapshotExistsError = InstanceType<typeof SnapshotExistsError>;

/** A snapshot cannot have this name. */
export const SnapshotNameError = errorClass('VERFS_E_SNAPSHOT_NAME', 'SnapshotNameError');
/** A snapshot cannot have this name. */
export type SnapshotNameError = InstanceType<typeof SnapshotNameError>;

/** The snapshot is held, so that nobody deletes it. */
export const SnapshotHeldError = errorClass('VERFS_E_SNAPSHOT_HELD', 'SnapshotHeldError');
/** The snapshot is held, so that nobody deletes it. */
export type SnapshotHeldError = InstanceType<typeof SnapshotHeldError>;

/** A stream of a snapshot does not match its checksums, or ends too early. */
export const StreamDamagedError = errorClass('VERFS_E_STREAM_DAMAGED', 'StreamDamagedError');
/** A stream of a snapshot does not match its checksums, or ends too early. */
export type StreamDamagedError = InstanceType<typeof StreamDamagedError>;

/** A stream of a snapshot does not fit the volume. */
export const StreamMismatchError = errorClass('VERFS_E_STREAM_MISMATCH', 'StreamMismatchError');
/** A stream of a snapshot does not fit the volume. */
export type StreamMismatchError = InstanceType<typeof StreamMismatchError>;

/** The snapshot, or the volume, has nothing at this path. */
export const PathNotFoundError = errorClass('VERFS_E_PATH_NOT_FOUND', 'PathNotFoundError');
/** The snapshot, or the volume, has nothing at this path. */
export type PathNotFoundError = InstanceType<typeof PathNotFoundError>;

/** There is something at this path in the volume already. */
export const PathExistsError = errorClass('VERFS_E_PATH_EXISTS', 'PathExistsError');
/** There is something at this path in the volume already. */
export type PathExistsError = InstanceType<typeof PathExistsError>;

/** The volume has no vault. */
export const VaultAbsentError = errorClass('VERFS_E_VAULT_ABSENT', 'VaultAbsentError');
/** The volume has no vault. */
export type VaultAbsentError = InstanceType<typeof VaultAbsentError>;

/** The volume has a vault already. */
export const VaultExistsError = errorClass('VERFS_E_VAULT_EXISTS', 'VaultExistsError');
/** The volume has a vault already. */
export type VaultExistsError = InstanceType<typeof VaultExistsError>;

/** The vault is unlocked already. */
export const VaultUnlockedError = errorClass('VERFS_E_VAULT_UNLOCKED', 'VaultUnlockedError');
/** The vault is unlocked already. */
export type VaultUnlockedError = InstanceType<typeof VaultUnlockedError>;

/** The password or the key file is wrong. */
export const VaultSecretError = errorClass('VERFS_E_VAULT_SECRET', 'VaultSecretError');
/** The password or the key file is wrong. */
export type VaultSecretError = InstanceType<typeof VaultSecretError>;

/** There were too many wrong passwords or key files. */
export const VaultRateLimitedError = errorClass('VERFS_E_VAULT_RATE_LIMITED', 'VaultRateLimitedError');
/** There were too many wrong passwords or key files. */
export type VaultRateLimitedError = InstanceType<typeof VaultRateLimitedError>;

/** The wrapped keys of the vault are damaged: no password opens it. */
export const VaultDamagedError = errorClass('VERFS_E_VAULT_DAMAGED', 'VaultDamagedError');
/** The wrapped keys of the vault are damaged: no password opens it. */
export type VaultDamagedError = InstanceType<typeof VaultDamagedError>;

/** A key file is missing, is none, or must not be overwritten. */
export const VaultKeyFileError = errorClass('VERFS_E_VAULT_KEY_FILE', 'VaultKeyFileError');
/** A key file is missing, is none, or must not be overwritten. */
export type VaultKeyFileError = InstanceType<typeof VaultKeyFileError>;

/** The service manager of the system refused, or has no such service. */
export const ServiceError = errorClass('VERFS_E_SERVICE', 'ServiceError');
/** The service manager of the system refused, or has no such service. */
export type ServiceError = InstanceType<typeof ServiceError>;

/** The vault is locked. */
export const VaultLockedError = errorClass('VERFS_E_VAULT_LOCKED', 'VaultLockedError');
/** The vault is locked. */
export type VaultLockedError = InstanceType<typeof VaultLockedError>;

/** `verfs fsck` found damage, and was not asked to mend it. */
export const FsckFoundError = errorClass('VERFS_E_FSCK_FOUND', 'FsckFoundError');
/** `verfs fsck` found damage, and was not asked to mend it. */
export type FsckFoundError = InstanceType<typeof FsckFoundError>;

/** `verfs fsck --repair` mended everything that it found. */
export const FsckMendedError = errorClass('VERFS_E_FSCK_MENDED', 'FsckMendedError');
/** `verfs fsck --repair` mended everything that it found. */
export type FsckMendedError = InstanceType<typeof FsckMendedError>;

/** `verfs fsck --repair` found damage that can not be mended: data is lost. */
export const FsckLeftError = errorClass('VERFS_E_FSCK_LEFT', 'FsckLeftError');
/** `verfs fsck --repair` found damage that can not be mended: data is lost. */
export type FsckLeftError = InstanceType<typeof FsckLeftError>;

/** `verfs doctor` found a problem. */
export const DoctorError = errorClass('VERFS_E_DOCTOR', 'DoctorError');
/** `verfs doctor` found a problem. */
export type DoctorError = InstanceType<typeof DoctorError>;

/** What is to be imported, or the directory to which something is to be exported, does not exist. */
export const SourceMissingError = errorClass('VERFS_E_SOURCE_MISSING', 'SourceMissingError');
/** What is to be imported, or the directory to which something is to be exported, does not exist. */
export type SourceMissingError = InstanceType<typeof SourceMissingError>;

/** Files changed while they were copied. */
export const SourceChangedError = errorClass('VERFS_E_SOURCE_CHANGED', 'SourceChangedError');
/** Files changed while they were copied. */
export type SourceChangedError = InstanceType<typeof SourceChangedError>;

/** There is something where an export, or a support bundle, would go. */
export const TargetExistsError = errorClass('VERFS_E_TARGET_EXISTS', 'TargetExistsError');
/** There is something where an export, or a support bundle, would go. */
export type TargetExistsError = InstanceType<typeof TargetExistsError>;

/** The disk to which something is exported is full. */
export const TargetFullError = errorClass('VERFS_E_TARGET_FULL', 'TargetFullError');
/** The disk to which something is exported is full. */
export type TargetFullError = InstanceType<typeof TargetFullError>;

/** Some of what was to be imported or exported could not be read or written. */
export const CopyIncompleteError = errorClass('VERFS_E_COPY_INCOMPLETE', 'CopyIncompleteError');
/** Some of what was to be imported or exported could not be read or written. */
export type CopyIncompleteError = InstanceType<typeof CopyIncompleteError>;

/** Files that were imported or exported are not stored as they were read. */
export const CopyDiffersError = errorClass('VERFS_E_COPY_DIFFERS', 'CopyDiffersError');
/** Files that were imported or exported are not stored as they were read. */
export type CopyDiffersError = InstanceType<typeof CopyDiffersError>;

/** A volume that was held still for a copy went on, or changed, before the copy was done. */
export const FreezeBrokenError = errorClass('VERFS_E_FREEZE_BROKEN', 'FreezeBrokenError');
/** A volume that was held still for a copy went on, or changed, before the copy was done. */
export type FreezeBrokenError = InstanceType<typeof FreezeBrokenError>;

/** The class of a code. */
export function classOf(code: ErrorCode): ErrorClass<ErrorCode> {
  return classes.get(code) ?? InternalError;
}

/** The error that crossed a boundary as `record`, its message unchanged, as an instance of its class. */
export function restoreError(record: ErrorRecord, cause?: unknown): VerfsError {
  const details = { path: record.path, ...(cause === undefined ? {} : { cause }) };
  const error = new (classOf(record.code))('', details);
  error.message = record.message;
  return error;
}

/** Any thrown value as one of our errors; what isn't one yet becomes an internal error with the value as `cause`. */
export function toVerfsError(thrown: unknown): VerfsError {
  if (thrown instanceof VerfsError) {
    return thrown;
  }
  if (isErrorRecord(thrown)) {
    return restoreError(thrown, thrown);
  }
  const what =
    thrown instanceof Error ? `Unexpected ${thrown.name}: ${thrown.message}` : `Unexpected ${String(thrown)}`;
  return new InternalError(what, { cause: thrown });
}
