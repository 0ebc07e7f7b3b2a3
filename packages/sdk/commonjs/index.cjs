/** Generated from packages/errors and packages/sdk by `npm run generate`: the library for `require`. */
'use strict';

let loading;
const library = () => {
  loading ??= import('../dist/index.js');
  return loading;
};
const later =
  (name) =>
  async (...args) =>
    (await library()).Volume[name](...args);
/** A class of errors: `instanceof` tells them by their code, `new` is not for callers. */
const told = (isOne) => class { static [Symbol.hasInstance](error) { return isOne(error?.code); } };
const withCode = (wanted) => told((code) => code === wanted);

exports.Volume = { connect: later('connect'), create: later('create'), inspect: later('inspect'), open: later('open') };
exports.version = require('../package.json').version;
exports.VerfsError = told((code) => typeof code === 'string' && code.startsWith('VERFS_E_'));
exports.AlreadyMountedError = withCode('VERFS_E_ALREADY_MOUNTED');
exports.CancelledError = withCode('VERFS_E_CANCELLED');
exports.ClosedError = withCode('VERFS_E_CLOSED');
exports.ConfigFileError = withCode('VERFS_E_CONFIG_FILE');
exports.ConfigKeyError = withCode('VERFS_E_CONFIG_KEY');
exports.ConfigTypeError = withCode('VERFS_E_CONFIG_TYPE');
exports.ConfigUnitError = withCode('VERFS_E_CONFIG_UNIT');
exports.CopyDiffersError = withCode('VERFS_E_COPY_DIFFERS');
exports.CopyIncompleteError = withCode('VERFS_E_COPY_INCOMPLETE');
exports.DaemonDiedError = withCode('VERFS_E_DAEMON_DIED');
exports.DamagedError = withCode('VERFS_E_DAMAGED');
exports.DoctorError = withCode('VERFS_E_DOCTOR');
exports.FileLimitError = withCode('VERFS_E_FILE_LIMIT');
exports.FormatNewerError = withCode('VERFS_E_FORMAT_NEWER');
exports.FreezeBrokenError = withCode('VERFS_E_FREEZE_BROKEN');
exports.FsckFoundError = withCode('VERFS_E_FSCK_FOUND');
exports.FsckLeftError = withCode('VERFS_E_FSCK_LEFT');
exports.FsckMendedError = withCode('VERFS_E_FSCK_MENDED');
exports.InternalError = withCode('VERFS_E_INTERNAL');
exports.IoError = withCode('VERFS_E_IO');
exports.MetadataMissingError = withCode('VERFS_E_METADATA_MISSING');
exports.MetadataOlderError = withCode('VERFS_E_METADATA_OLDER');
exports.MountpointMissingError = withCode('VERFS_E_MOUNTPOINT_MISSING');
exports.MountpointNotDirError = withCode('VERFS_E_MOUNTPOINT_NOT_DIR');
exports.MountpointNotEmptyError = withCode('VERFS_E_MOUNTPOINT_NOT_EMPTY');
exports.MountpointStaleError = withCode('VERFS_E_MOUNTPOINT_STALE');
exports.NoFuseDeviceError = withCode('VERFS_E_NO_FUSE_DEVICE');
exports.NoFusermountError = withCode('VERFS_E_NO_FUSERMOUNT');
exports.NotAVolumeError = withCode('VERFS_E_NOT_A_VOLUME');
exports.NotMountedError = withCode('VERFS_E_NOT_MOUNTED');
exports.PathExistsError = withCode('VERFS_E_PATH_EXISTS');
exports.PathNotFoundError = withCode('VERFS_E_PATH_NOT_FOUND');
exports.PermissionError = withCode('VERFS_E_PERMISSION');
exports.ServiceError = withCode('VERFS_E_SERVICE');
exports.SnapshotExistsError = withCode('VERFS_E_SNAPSHOT_EXISTS');
exports.SnapshotHeldError = withCode('VERFS_E_SNAPSHOT_HELD');
exports.SnapshotNameError = withCode('VERFS_E_SNAPSHOT_NAME');
exports.SnapshotNotFoundError = withCode('VERFS_E_SNAPSHOT_NOT_FOUND');
exports.SourceChangedError = withCode('VERFS_E_SOURCE_CHANGED');
exports.SourceMissingError = withCode('VERFS_E_SOURCE_MISSING');
exports.StreamDamagedError = withCode('VERFS_E_STREAM_DAMAGED');
exports.StreamMismatchError = withCode('VERFS_E_STREAM_MISMATCH');
exports.SuperblockDamagedError = withCode('VERFS_E_SUPERBLOCK_DAMAGED');
exports.TargetExistsError = withCode('VERFS_E_TARGET_EXISTS');
exports.TargetFullError = withCode('VERFS_E_TARGET_FULL');
exports.TimeoutError = withCode('VERFS_E_TIMEOUT');
exports.UsageError = withCode('VERFS_E_USAGE');
exports.VaultAbsentError = withCode('VERFS_E_VAULT_ABSENT');
exports.VaultDamagedError = withCode('VERFS_E_VAULT_DAMAGED');
exports.VaultExistsError = withCode('VERFS_E_VAULT_EXISTS');
exports.VaultKeyFileError = withCode('VERFS_E_VAULT_KEY_FILE');
exports.VaultLockedError = withCode('VERFS_E_VAULT_LOCKED');
exports.VaultRateLimitedError = withCode('VERFS_E_VAULT_RATE_LIMITED');
exports.VaultSecretError = withCode('VERFS_E_VAULT_SECRET');
exports.VaultUnlockedError = withCode('VERFS_E_VAULT_UNLOCKED');
exports.VolumeExistsError = withCode('VERFS_E_VOLUME_EXISTS');
exports.VolumeFullError = withCode('VERFS_E_VOLUME_FULL');
exports.VolumeLockedError = withCode('VERFS_E_VOLUME_LOCKED');
exports.VolumeReadOnlyError = withCode('VERFS_E_VOLUME_READ_ONLY');
