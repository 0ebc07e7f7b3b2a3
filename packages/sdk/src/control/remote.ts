import type {
  ReceiveRequest,
  SendRequest,
  Snapshot,
  SnapshotCalls,
  SnapshotChange,
  SnapshotWork,
  StreamCalls,
  VaultStatus,
} from '@verfs/native';
import type { PolicyChanges, PolicyRun, PolicyStatus } from '@verfs/snapshots';
import { optionsOf, signalOf } from '../arguments.ts';
import type { Cancellable } from '../cancellable.ts';
import type { PolicyRunOptions, VolumePolicy } from '../policy.ts';
import type { VaultServer } from '../vault.ts';
import { pulled } from './batches.ts';
import type { ControlMethod, ControlMethods, ParametersOf, ProgressOf } from './protocol.ts';

/** How long a call may last, and who wants to know how it goes. */
export interface RequestOptions<M extends ControlMethod> {
  readonly signal?: AbortSignal | undefined;
  /** The daemon waits for what it returns before it goes on. */
  readonly onProgress?: (value: ProgressOf<M>) => Promise<void>;
}

/** Asks the daemon. */
export type Request = <M extends ControlMethod>(
  method: M,
  parameters: ParametersOf<M>,
  options?: RequestOptions<M>,
) => Promise<ControlMethods[M]>;

type Signal = AbortSignal | undefined;

/** The snapshots of a volume that a daemon serves. */
export class RemoteSnapshots implements SnapshotCalls, StreamCalls {
  readonly #request: Request;

  constructor(request: Request) {
    this.#request = request;
  }

  snapshotCreate(name: string, note: string, signal?: Signal): Promise<Snapshot> {
    return this.#request('snapshotCreate', { name, note }, { signal });
  }

  snapshots(signal?: Signal): Promise<Snapshot[]> {
    return this.#request('snapshots', undefined, { signal });
  }

  async snapshotDelete(name: string, signal?: Signal): Promise<void> {
    await this.#request('snapshotDelete', { name }, { signal });
  }

  async snapshotHold(name: string, tag: string, signal?: Signal): Promise<void> {
    await this.#request('snapshotHold', { name, tag }, { signal });
  }

  async snapshotRelease(name: string, tag: string, signal?: Signal): Promise<void> {
    await this.#request('snapshotRelease', { name, tag }, { signal });
  }

  snapshotDiff(from: string, to: string | undefined, signal?: Signal): AsyncIterable<readonly SnapshotChange[]> {
    return pulled<readonly SnapshotChange[]>(
      (onProgress, stop) => this.#request('snapshotDiff', { from, to }, { signal: stop, onProgress }),
      signal,
    );
  }

  async snapshotRollback(name: string, signal?: Signal): Promise<void> {
    await this.#request('snapshotRollback', { name }, { signal });
  }

  async snapshotClone(name: string, path: string, signal?: Signal): Promise<void> {
    await this.#request('snapshotClone', { name, path }, { signal });
  }

  async snapshotRestore(name: string, path: string, target: string | undefined, signal?: Signal): Promise<void> {
    await this.#request('snapshotRestore', { name, path, target }, { signal });
  }

  snapshotWork(): Promise<SnapshotWork> {
    return this.#request('snapshotWork', undefined, {});
  }

  snapshotSend(request: SendRequest, signal?: Signal): Promise<number> {
    return this.#request('snapshotSend', { ...request }, { signal });
  }

  snapshotReceive(request: ReceiveRequest, signal?: Signal): Promise<Snapshot> {
    return this.#request('snapshotReceive', { ...request }, { signal });
  }

  interruptedReceive(signal?: Signal): Promise<string | null> {
    return this.#request('interruptedReceive', undefined, { signal });
  }
}

/** The policy of a volume that a daemon serves. */
export class RemotePolicy implements VolumePolicy {
  readonly #request: Request;

  constructor(request: Request) {
    this.#request = request;
  }

  get(options: Cancellable = {}): Promise<PolicyStatus> {
    return this.#request('policy', undefined, options);
  }

  set(changes: PolicyChanges, options: Cancellable = {}): Promise<PolicyStatus> {
    return this.#request('policySet', { changes }, options);
  }

  async run(options: PolicyRunOptions = {}): Promise<PolicyRun> {
    const { mode = 'done' } = optionsOf(options);
    return await this.#request('policyRun', { mode }, { signal: signalOf(options) });
  }
}

/** The vault of a volume that a daemon serves. */
export class RemoteVault implements VaultServer {
  readonly #request: Request;

  constructor(request: Request) {
    this.#request = request;
  }

  vaultStatus(): Promise<VaultStatus> {
    return this.#request('vaultStatus', undefined);
  }

  async vaultCreate(
    options: { readonly compressed: boolean; readonly socket: string },
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#request('vaultCreate', options, { signal });
  }

  async vaultUnlock(socket: string, signal?: AbortSignal): Promise<void> {
    await this.#request('vaultUnlock', { socket }, { signal });
  }

  async vaultCheck(socket: string, signal?: AbortSignal): Promise<void> {
    await this.#request('vaultCheck', { socket }, { signal });
  }

  async vaultLock(graceMs: number, signal?: AbortSignal): Promise<void> {
    await this.#request('vaultLock', { graceMs }, { signal });
  }

  async vaultDamaged(socket: string, signal?: AbortSignal): Promise<void> {
    await this.#request('vaultDamaged', { socket }, { signal });
  }

  async vaultChange(socket: string, signal?: AbortSignal): Promise<void> {
    await this.#request('vaultChange', { socket }, { signal });
  }

  async vaultRekey(socket: string, signal?: AbortSignal): Promise<void> {
    await this.#request('vaultRekey', { socket }, { signal });
  }

  async vaultAutoLock(afterMs: number): Promise<void> {
    await this.#request('vaultAutoLock', { afterMs });
  }
}
