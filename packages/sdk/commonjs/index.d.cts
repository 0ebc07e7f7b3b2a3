/** Generated from packages/errors and packages/sdk by `npm run generate`: types of the library for `require`. */
import type * as library from '../dist/index.js' with { 'resolution-mode': 'import' };

export type * from '../dist/index.js' with { 'resolution-mode': 'import' };
/** Where volumes are made, opened and connected to. */
export declare const Volume: Pick<typeof library.Volume, 'connect' | 'create' | 'inspect' | 'open'>;
export type Volume = library.Volume;
export declare const version: string;
/** A class of errors, for `instanceof`. */
interface Told<E> {
  [Symbol.hasInstance](error: unknown): error is E;
}
export declare const VerfsError: Told<library.VerfsError>;
export declare const AlreadyMountedError: Told<library.AlreadyMountedError>;
export declare const CancelledError: Told<library.CancelledError>;
export declare const ClosedError: Told<library.ClosedError>;
export declare const ConfigFileError: Told<library.ConfigFileError>;
export declare const ConfigKeyError: Told<library.ConfigKeyError>;
export declare const ConfigTypeError: Told<library.ConfigTypeError>;
export declare const ConfigUnitError: Told<library.ConfigUnitError>;
export declare const DaemonDiedError: Told<library.DaemonDiedError>;
export declare const DamagedError: Told<library.DamagedError>;
export declare const DoctorError: Told<library.DoctorError>;
export declare const FileLimitError: Told<library.FileLimitError>;
export declare const FormatNewerError: Told<library.FormatNewerError>;
export declare const FsckFoundError: Told<library.FsckFoundError>;
export declare const FsckLeftError: Told<library.FsckLeftError>;
export declare const FsckMendedError: Told<library.FsckMendedError>;
export declare const InternalError: Told<library.InternalError>;
export declare const IoError: Told<library.IoError>;
export declare const MountpointMissingError: Told<library.MountpointMissingError>;
export declare const MountpointNotDirError: Told<library.MountpointNotDirError>;
export declare const MountpointNotEmptyError: Told<library.MountpointNotEmptyError>;
export declare const MountpointStaleError: Told<library.MountpointStaleError>;
export declare const NoFuseDeviceError: Told<library.NoFuseDeviceError>;
export declare const NoFusermountError: Told<library.NoFusermountError>;
export declare const NotAVolumeError: Told<library.NotAVolumeError>;
export declare const NotMountedError: Told<library.NotMountedError>;
export declare const PathExistsError: Told<library.PathExistsError>;
export declare const PathNotFoundError: Told<library.PathNotFoundError>;
export declare const PermissionError: Told<library.PermissionError>;
export declare const ServiceError: Told<library.ServiceError>;
export declare const SnapshotExistsError: Told<library.SnapshotExistsError>;
export declare const SnapshotHeldError: Told<library.SnapshotHeldError>;
export declare const SnapshotNameError: Told<library.SnapshotNameError>;
export declare const SnapshotNotFoundError: Told<library.SnapshotNotFoundError>;
export declare const StreamDamagedError: Told<library.StreamDamagedError>;
export declare const StreamMismatchError: Told<library.StreamMismatchError>;
export declare const SuperblockDamagedError: Told<library.SuperblockDamagedError>;
export declare const TimeoutError: Told<library.TimeoutError>;
export declare const UsageError: Told<library.UsageError>;
export declare const VaultAbsentError: Told<library.VaultAbsentError>;
export declare const VaultDamagedError: Told<library.VaultDamagedError>;
export declare const VaultExistsError: Told<library.VaultExistsError>;
export declare const VaultKeyFileError: Told<library.VaultKeyFileError>;
export declare const VaultLockedError: Told<library.VaultLockedError>;
export declare const VaultRateLimitedError: Told<library.VaultRateLimitedError>;
export declare const VaultSecretError: Told<library.VaultSecretError>;
export declare const VaultUnlockedError: Told<library.VaultUnlockedError>;
export declare const VolumeExistsError: Told<library.VolumeExistsError>;
export declare const VolumeFullError: Told<library.VolumeFullError>;
export declare const VolumeLockedError: Told<library.VolumeLockedError>;
export declare const VolumeReadOnlyError: Told<library.VolumeReadOnlyError>;
