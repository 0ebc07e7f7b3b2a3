import type { LiveKey } from '@verfs/config';
import type {
  Damage,
  GcProgress,
  GcStatus,
  Overdue,
  Reclaimable,
  ScrubResult,
  ScrubStatus,
  Snapshot,
  SnapshotChange,
  SnapshotWork,
  Stats,
  TaskStatus,
  TransferProgress,
  TransferReport,
  Usage,
  VaultStatus,
  VolumeInfo,
} from '@verfs/native';
import type { PolicyRun, PolicyStatus } from '@verfs/snapshots';
import type { LiveValues } from '../daemon/live-settings.ts';
import type { VolumeEvent } from '../events.ts';
import type { SpaceState } from '../space-state.ts';
import type { ControlParameters } from './parameters.ts';

/** How far a daemon is with the policy of its volume. */
export interface PolicyProgress {
  readonly schedule: string;
  /** When the next snapshot is due, in milliseconds since 1970; none when the schedule is off. */
  readonly next: number | null;
  /** Why the last attempt to take or prune failed; nothing once one succeeded. */
  readonly lastError: { readonly time: number; readonly message: string } | null;
}

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
  /** What may still be written to the disk under the volume. */
  readonly space: { readonly freeBytes: number; readonly state: SpaceState };
  /** Files with damaged data that were noticed. */
  readonly damaged: readonly Damage[];
  /** What works in the background. */
  readonly tasks: readonly TaskStatus[];
  /** Requests that were answered EIO since the disk did not answer in time, and that wait for it still. */
  readonly overdue: readonly Overdue[];
  readonly scrub: ScrubStatus;
  /** For how many milliseconds it is held still yet, so that its directory can be copied; none when it is not. */
  readonly stillForMs: number | null;
  /** None when the volume is read-only. */
  readonly policy: PolicyProgress | null;
}

/** How a daemon goes on after an unmount. */
export interface Unmounted {
  /** `lingers`: it serves those who still have files open, and ends with the last of them. */
  readonly daemon: 'ends' | 'lingers';
}

/** The methods of the control socket (JSON-RPC 2.0) and their results. `ControlParameters` has their parameters. */
export interface ControlMethods {
  status: DaemonStatus;
  stats: Stats;
  info: VolumeInfo;
  /** Looks at everything at and below a path. */
  usage: Usage;
  /** Copies from this machine; answers when it is durable. */
  import: TransferReport;
  /** Copies to this machine; answers when it is durable. */
  export: TransferReport;
  /** Answers when the volume stands still. */
  freeze: null;
  thaw: null;
  /** Collects garbage; answers when it is done. */
  gc: GcProgress;
  gcPlan: Reclaimable;
  gcStatus: GcStatus;
  /** Answers when every record was seen, or it was stopped. */
  scrub: ScrubResult;
  scrubStop: null;
  scrubStatus: ScrubStatus;
  /** Answers when nobody listens any more: its progress is what happens to the volume. */
  events: null;
  /** Answers once everything done before is durable. */
  sync: null;
  /** Answers once everything is durable and the mount is gone from the tree of names. */
  unmount: Unmounted;
  /** The settings that can be changed while it is mounted, as they are now. */
  configSet: LiveValues;
  /** The keys that were changed. */
  configReload: readonly LiveKey[];
  snapshots: Snapshot[];
  snapshotCreate: Snapshot;
  snapshotDelete: null;
  snapshotHold: null;
  snapshotRelease: null;
  /** Answers after the last change. */
  snapshotDiff: null;
  snapshotRollback: null;
  snapshotClone: null;
  snapshotRestore: null;
  /** How far the clone, restoration or rollback is that is under way. */
  snapshotWork: SnapshotWork;
  /** Bytes of the stream; answers when they are written to the caller's socket. */
  snapshotSend: number;
  /** Answers when the volume is what the stream from the caller's socket says. */
  snapshotReceive: Snapshot;
  interruptedReceive: string | null;
  policy: PolicyStatus;
  policySet: PolicyStatus;
  policyRun: PolicyRun;
  vaultStatus: VaultStatus;
  vaultCreate: null;
  vaultUnlock: null;
  vaultCheck: null;
  vaultLock: null;
  vaultDamaged: null;
  vaultChange: null;
  vaultRekey: null;
  vaultAutoLock: null;
}

/** What methods tell while they work. */
export interface ControlProgress {
  /** Changes, in batches. */
  snapshotDiff: readonly SnapshotChange[];
  import: TransferProgress;
  export: TransferProgress;
  /** Begins with nothing, when what happens from then on is told. */
  events: VolumeEvent | null;
}

/** Name of a method. */
export type ControlMethod = keyof ControlMethods;

/** What a method takes. */
export type ParametersOf<M extends ControlMethod> = M extends keyof ControlParameters
  ? ControlParameters[M]
  : undefined;

/** What a method tells while it works. */
export type ProgressOf<M extends ControlMethod> = M extends keyof ControlProgress ? ControlProgress[M] : never;

/** One call of a method, for who serves it. */
export interface ControlCall<M extends ControlMethod> {
  /** Fires when the client cancels the call or hangs up. */
  readonly signal: AbortSignal;
  /** Tells the client, if it wants to know. Resolves once it has taken it: who waits for that is as slow as the client. */
  progress(value: ProgressOf<M>): Promise<void>;
}

/** What a daemon does for each method. */
export type ControlHandlers = {
  readonly [M in ControlMethod]: (parameters: ParametersOf<M>, call: ControlCall<M>) => Promise<ControlMethods[M]>;
};

/**
 * The request by which a daemon tells the progress of a call; its parameters are a `ProgressReport`. Whoever wants it
 * adds to the parameters of his call a number of his own, `progress`.
 */
export const progressMethod = 'progress';

/** The progress of the call with the number `progress`. */
export interface ProgressReport {
  readonly progress: number;
  readonly value: unknown;
}

/** Code of JSON-RPC errors that carry an error of ours in `data`. */
export const verfsRpcError = -32_000;
