/**
 * VerFS as a library: volumes in this process, and volumes that a daemon serves.
 * Never here: how commands look, or what a file is made of. Data flows between the caller and the engine, or through
 * the control socket of a daemon.
 */
export * from '@verfs/errors';
export type { VolumeFs, VolumePromises } from '@verfs/fs';
export type {
  CreateOptions,
  Damage,
  ExportSource,
  Finding,
  FsckProgress,
  FsckReport,
  GcProgress,
  GcStatus,
  MountOptions,
  OpenOptions,
  OpLatency,
  Reclaimable,
  ScrubPass,
  ScrubProgress,
  ScrubResult,
  ScrubStatus,
  ScrubTally,
  Snapshot,
  SnapshotChange,
  SnapshotWork,
  Stats,
  TransferProgress,
  TransferReport,
  Usage,
  VaultStatus,
  VolumeInfo,
} from '@verfs/native';
export type { KeepReason, Kept, Policy, PolicyChanges, PolicyKey, PolicyRun, PolicyStatus } from '@verfs/snapshots';
export type { Cancellable } from './cancellable.ts';
export type { VolumeClient } from './control/client.ts';
export type { DaemonStatus, PolicyProgress, Unmounted } from './control/protocol.ts';
export type { VolumeEvent, VolumeEvents } from './events.ts';
export type { PolicyRunOptions, VolumePolicy } from './policy.ts';
export type { ScrubOptions } from './scrub.ts';
export type { Snapshots } from './snapshots.ts';
export type { SpaceState } from './space-state.ts';
export type { ReceiveOptions, SendOptions, TransferOptions } from './streams.ts';
export type { CopyOptions } from './transfer.ts';
export type { Password, Vault } from './vault.ts';
export { version } from './version.ts';
export { type FsckOptions, Volume } from './volume.ts';
export type { Work } from './work.ts';
