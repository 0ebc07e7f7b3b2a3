import { type ErrorRecord, toVerfsError, VerfsError } from '@verfs/errors';
import type { SnapshotCalls } from '@verfs/native';
import { type Clock, localZone, systemClock } from './clock.ts';
import type { Policy } from './keys.ts';
import { automaticName, isAutomatic } from './names.ts';
import { type Kept, type Prunable, planRetention } from './retention.ts';
import { type Schedule, scheduleOf } from './schedule.ts';

/** What a run did; of one that only tells, what it would do. */
export interface PolicyRun {
  readonly mode: 'done' | 'dry-run';
  /** The snapshot that was taken, because one was due. */
  readonly taken: string | null;
  /** Snapshots that were deleted, the newest first. */
  readonly pruned: readonly string[];
  /** Snapshots of the policy that stay, and the rules that keep them; without rules all stay. The newest come first. */
  readonly kept: readonly Kept[];
  /** What could not be done, by the name of the snapshot. The rest was. */
  readonly failures: readonly { readonly name: string; readonly error: ErrorRecord }[];
  /** When the next one is due, in milliseconds since 1970; none when the schedule is off. */
  readonly next: number | null;
}

/** The policy of a volume, and how it stands. */
export interface PolicyStatus {
  readonly policy: Policy;
  /** When the next snapshot is due, in milliseconds since 1970; none when the schedule is off. */
  readonly next: number | null;
}

/** The calls that a run needs. */
export type RunCalls = Pick<SnapshotCalls, 'snapshotCreate' | 'snapshots' | 'snapshotDelete'>;

/** However clocks jump, the time between two snapshots is this part of the interval of the schedule at least, … */
const paceDivisor = 4;
/** … or this. */
const paceMaxMs = 5 * 60_000;

/**
 * Takes and prunes the snapshots of one volume as its policy says. Whether one is due follows from the snapshots that
 * are there, so that times missed while nothing ran make one snapshot, not many.
 *
 * It remembers by the steady clock when it took and first saw snapshots. A wall clock that jumps makes no flood then,
 * and lets none look older than it can be.
 */
export class PolicyRunner {
  readonly #calls: RunCalls;
  readonly #readPolicy: () => Policy;
  readonly #clock: Clock;
  readonly #zone: () => string;
  /** Steady time of the last snapshot that was taken. */
  #lastTaken: number | undefined;
  /** By name: the age at first sight, and the steady time then. */
  #sights = new Map<string, { readonly created: number; readonly ageMs: number; readonly steady: number }>();
  /** Runs wait for each other. */
  #running: Promise<unknown> = Promise.resolve();

  constructor(calls: RunCalls, readPolicy: () => Policy, clock: Clock = systemClock, zone: () => string = localZone) {
    this.#calls = calls;
    this.#readPolicy = readPolicy;
    this.#clock = clock;
    this.#zone = zone;
  }

  /**
   * Takes a snapshot when one is due, then prunes; or tells what it would do. What fails for one snapshot is among the
   * failures, and the others are seen to.
   *
   * @throws What reading the policy or the list of snapshots throws, CancelledError
   */
  run(mode: PolicyRun['mode'], signal?: AbortSignal): Promise<PolicyRun> {
    const run = this.#running.then(() => this.#run(mode, signal));
    this.#running = run.catch(() => undefined);
    return run;
  }

  /** When the next one is due: now or before, when it is. None when the schedule is off. */
  async due(signal?: AbortSignal): Promise<number | undefined> {
    const schedule = scheduleOf(this.#readPolicy().schedule, this.#zone());
    return schedule && this.#dueAt(schedule, this.#see(await this.#calls.snapshots(signal)));
  }

  async #run(mode: PolicyRun['mode'], signal: AbortSignal | undefined): Promise<PolicyRun> {
    const policy = this.#readPolicy();
    const schedule = scheduleOf(policy.schedule, this.#zone());
    const failures: PolicyRun['failures'][number][] = [];
    const failed = (name: string, thrown: unknown) => {
      if (signal?.aborted) {
        throw thrown;
      }
      failures.push({ name, error: toVerfsError(thrown).toJSON() });
    };
    let snapshots: readonly Prunable[] = this.#see(await this.#calls.snapshots(signal));
    let taken: string | null = null;
    const now = this.#clock.now();
    if (schedule !== undefined && this.#dueAt(schedule, snapshots) <= now) {
      const name = automaticName(now);
      if (mode === 'dry-run') {
        taken = name;
        snapshots = [...snapshots, { name, created: now, holds: [] }];
      } else {
        try {
          await this.#calls.snapshotCreate(name, policy.note, signal);
          taken = name;
          this.#lastTaken = this.#clock.steady();
        } catch (thrown) {
          failed(name, thrown);
        }
        snapshots = this.#see(await this.#calls.snapshots(signal));
      }
    }
    const moment = { now: this.#clock.now(), zone: this.#zone(), ageOf: (one: Prunable) => this.#ageOf(one) };
    const { kept, pruned } = planRetention(policy, snapshots, moment);
    const deleted = mode === 'dry-run' ? pruned : await this.#prune(pruned, failed, signal);
    const left = snapshots.filter(({ name }) => !deleted.includes(name));
    const next = schedule === undefined ? null : this.#dueAt(schedule, left);
    return { mode, taken, pruned: deleted, kept, failures, next };
  }

  async #prune(
    names: readonly string[],
    failed: (name: string, thrown: unknown) => void,
    signal: AbortSignal | undefined,
  ): Promise<string[]> {
    const deleted: string[] = [];
    for (const name of names) {
      try {
        await this.#calls.snapshotDelete(name, signal);
        deleted.push(name);
      } catch (thrown) {
        // Somebody else was quicker: to delete it, or to hold it.
        const code = thrown instanceof VerfsError ? thrown.code : undefined;
        if (code !== 'VERFS_E_SNAPSHOT_NOT_FOUND' && code !== 'VERFS_E_SNAPSHOT_HELD') {
          failed(name, thrown);
        }
      }
    }
    return deleted;
  }

  /** Remembers those that are new, and forgets those that are gone. */
  #see<S extends Prunable>(snapshots: readonly S[]): readonly S[] {
    const [now, steady] = [this.#clock.now(), this.#clock.steady()];
    this.#sights = new Map(
      snapshots.map(({ name, created }) => {
        const known = this.#sights.get(name);
        const ageMs = Math.max(0, now - created);
        return [name, known?.created === created ? known : { created, ageMs, steady }];
      }),
    );
    return snapshots;
  }

  /** The age by either clock that is less. */
  #ageOf({ name, created }: Prunable): number {
    const byWall = this.#clock.now() - created;
    const sight = this.#sights.get(name);
    return sight === undefined ? byWall : Math.min(byWall, sight.ageMs + this.#clock.steady() - sight.steady);
  }

  /**
   * The first time of the schedule after the newest snapshot that the policy took. One from the future doesn't count:
   * the clock was wrong, and would stop the schedule until then.
   */
  #dueAt(schedule: Schedule, snapshots: readonly Prunable[]): number {
    const now = this.#clock.now();
    const past = snapshots.filter(({ name, created }) => isAutomatic(name) && created <= now);
    const due = past.length === 0 ? now : schedule.next(Math.max(...past.map(({ created }) => created)));
    if (this.#lastTaken === undefined) {
      return due;
    }
    const pace = Math.min(schedule.intervalMs / paceDivisor, paceMaxMs);
    return Math.max(due, now + pace - (this.#clock.steady() - this.#lastTaken));
  }
}
