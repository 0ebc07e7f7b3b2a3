import type { Damage, GcProgress, GcStatus, Reclaimable, Stats, VolumeInfo } from '@verfs/native';

/** What `verfs status` tells about a mounted volume. */
export interface DaemonStatus {
  readonly state: 'mounted';
  /** Directory of the volume. */
  readonly volume: string;
  readonly uuid: string;
  readonly mountpoint: string;
  readonly access: 'read-write' | 'read-only';
  /** The daemon. */
  readonly pid: number;
  /** Version of VerFS that the daemon runs. */
  readonly version: string;
  /** When it was mounted, in milliseconds since 1970. */
  readonly since: number;
  readonly logFile: string;
  /** File data that waits to be written. */
  readonly dirtyBytes: number;
  /** Files with damaged data that were noticed. */
  readonly damaged: readonly Damage[];
}

/** How a daemon goes on after an unmount. */
export interface Unmounted {
  /** `lingers`: it serves those who still have files open, and ends with the last of them. */
  readonly daemon: 'ends' | 'lingers';
}

/** The methods of the control socket (JSON-RPC 2.0, no parameters) and their results. */
export interface ControlMethods {
  status: DaemonStatus;
  stats: Stats;
  info: VolumeInfo;
  /** Collects garbage; answers when it is done. */
  gc: GcProgress;
  gcPlan: Reclaimable;
  gcStatus: GcStatus;
  /** Answers once everything done before is durable. */
  sync: null;
  /** Answers once everything is durable and the mount is gone from the tree of names. */
  unmount: Unmounted;
}

/** Name of a method. */
export type ControlMethod = keyof ControlMethods;

/** What a daemon does for each method. */
export type ControlHandlers = { readonly [M in ControlMethod]: () => Promise<ControlMethods[M]> };

/** Code of JSON-RPC errors that carry an error of ours in `data`. */
export const verfsRpcError = -32_000;
