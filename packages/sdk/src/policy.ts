import { VolumeReadOnlyError } from '@verfs/errors';
import {
  changePolicy,
  type Policy,
  type PolicyChanges,
  type PolicyRun,
  PolicyRunner,
  type PolicyStatus,
  type RunCalls,
  readPolicy,
} from '@verfs/snapshots';
import { objectOf, optionsOf, signalOf } from './arguments.ts';
import type { Cancellable } from './cancellable.ts';

/** How a policy is run. */
export interface PolicyRunOptions extends Cancellable {
  /** `dry-run` changes nothing and tells what a run would do. */
  readonly mode?: PolicyRun['mode'] | undefined;
}

/**
 * When snapshots of a volume are taken by themselves, and which of them are kept. It is stored with the volume. A
 * daemon follows it; of a volume that a program has open, only the program runs it.
 */
export interface VolumePolicy {
  /** @throws ConfigFileError, ConfigKeyError, ConfigTypeError, ConfigUnitError when somebody broke its file */
  get(options?: Cancellable): Promise<PolicyStatus>;
  /**
   * Changes some of its values; the others stay.
   *
   * @throws As `get`, also for a wrong change; VolumeReadOnlyError, VolumeFullError, PermissionError, IoError
   */
  set(changes: PolicyChanges, options?: Cancellable): Promise<PolicyStatus>;
  /**
   * Takes a snapshot when one is due, and prunes. What could not be done is among the `failures`.
   *
   * @throws As `get`; VolumeReadOnlyError
   */
  run(options?: PolicyRunOptions): Promise<PolicyRun>;
}

/** The policy of a volume that this process has open. */
export class LocalPolicy implements VolumePolicy {
  readonly #volume: string;
  readonly #access: 'read-write' | 'read-only';
  readonly #runner: PolicyRunner;

  /** `volume` is the directory of the volume, absolute. */
  constructor(volume: string, access: 'read-write' | 'read-only', calls: RunCalls) {
    this.#volume = volume;
    this.#access = access;
    this.#runner = new PolicyRunner(calls, () => this.read());
  }

  /** The policy as it is in its file. */
  read(): Policy {
    return readPolicy(this.#volume);
  }

  /** When the next snapshot is due: now or before, when it is. None when the schedule is off. */
  due(signal?: AbortSignal): Promise<number | undefined> {
    return this.#runner.due(signal);
  }

  async get(options: Cancellable = {}): Promise<PolicyStatus> {
    return { policy: this.read(), next: (await this.due(signalOf(options))) ?? null };
  }

  async set(changes: PolicyChanges, options: Cancellable = {}): Promise<PolicyStatus> {
    this.#refuseReadOnly();
    changePolicy(this.#volume, objectOf('changes', changes));
    return await this.get(options);
  }

  async run(options: PolicyRunOptions = {}): Promise<PolicyRun> {
    const { mode = 'done' } = optionsOf(options);
    if (mode === 'done') {
      this.#refuseReadOnly();
    }
    return await this.#runner.run(mode, signalOf(options));
  }

  #refuseReadOnly(): void {
    if (this.#access === 'read-only') {
      const path = this.#volume;
      const advice = 'Mount it without `-o ro`, and without `volume.read_only` in the configuration.';
      throw new VolumeReadOnlyError(`The volume ${path} is open read-only`, { path, advice });
    }
  }
}
