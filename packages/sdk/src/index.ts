/**
 * VerFS as a library: volumes in this process, and volumes that a daemon serves.
 * Never here: how commands look, or what a file is made of. Data flows between the caller and the engine, or through
 * the control socket of a daemon.
 */
export * from '@verfs/errors';
export type {
  CreateOptions,
  Damage,
  GcProgress,
  GcStatus,
  MountOptions,
  OpenOptions,
  OpLatency,
  Reclaimable,
  Stats,
  VolumeInfo,
} from '@verfs/native';
export type { VolumeClient } from './control/client.ts';
export type { DaemonStatus, Unmounted } from './control/protocol.ts';
export { version } from './version.ts';
export { type Cancellable, Volume } from './volume.ts';
