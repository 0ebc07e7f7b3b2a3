import { toVerfsError } from '@verfs/errors';
import type { Log } from '@verfs/log';
import { type Clock, noPolicy, type Policy, type PolicyRun, systemClock } from '@verfs/snapshots';
import type { PolicyProgress } from '../control/protocol.ts';

/** How often it looks at least, in milliseconds: timers stand still while the machine sleeps, and clocks jump. */
const lookEveryMs = 60_000;

/** Time after a failure before it tries again, in milliseconds. */
const retryAfterMs = 5 * 60_000;

/** A wall clock that moves by so much against the steady one was set, in milliseconds. */
const jumpMinMs = 1000;

/** What the scheduler needs of the policy of its volume: `LocalPolicy`. */
export interface Scheduled {
  read(): Policy;
  due(signal?: AbortSignal): Promise<number | undefined>;
  run(options: { readonly signal: AbortSignal }): Promise<PolicyRun>;
}

/** What was worked out when the next snapshot is due from. */
interface Plan {
  readonly policy: string;
  /** The wall clock less the steady one. */
  readonly clockOffsetMs: number;
}

/**
 * Follows the policy of a volume while it is mounted, with one timer. It prunes only after it took a snapshot: who
 * changes a policy has time to see with a dry run what it will do. What fails is logged, and tried again later.
 */
export class PolicyScheduler {
  readonly #policy: Scheduled;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<unknown> = Promise.resolve();
  /** None when it has to be worked out anew. */
  #plan: Plan | undefined;
  #schedule = noPolicy.schedule;
  #next: number | null = null;
  #lastError: PolicyProgress['lastError'] = null;
  /** Steady time before which nothing is tried again. */
  #notBefore = Number.NEGATIVE_INFINITY;

  constructor(policy: Scheduled, log: Log, clock: Clock = systemClock) {
    this.#policy = policy;
    this.#log = log;
    this.#clock = clock;
  }

  /** Begins, and looks at once: a time may have been missed. */
  start(): void {
    this.wake();
  }

  /** Looks at once. To be called when the policy, or the snapshots, were changed. */
  wake(): void {
    this.#plan = undefined;
    this.#notBefore = Number.NEGATIVE_INFINITY;
    this.#lookAfter(0);
  }

  /** Ends it. Resolves once nothing of it is running. */
  async stop(): Promise<void> {
    this.#stop.abort('the volume is being unmounted');
    clearTimeout(this.#timer);
    await this.#looking;
  }

  /** How it stands. */
  progress(): PolicyProgress {
    return { schedule: this.#schedule, next: this.#next, lastError: this.#lastError };
  }

  /** Takes and prunes, if it is time to. Returns after how many milliseconds to look again. It never rejects. */
  look(): Promise<number> {
    const look = this.#looking.then(() => this.#look());
    this.#looking = look;
    return look;
  }

  #lookAfter(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#stop.signal.aborted) {
      return;
    }
    // The mount keeps the process, not this.
    this.#timer = setTimeout(() => void this.look().then((next) => this.#lookAfter(next)), ms).unref();
  }

  async #look(): Promise<number> {
    if (this.#stop.signal.aborted || this.#clock.steady() < this.#notBefore) {
      return lookEveryMs;
    }
    try {
      const next = await this.#follow();
      return next === null ? lookEveryMs : Math.max(0, Math.min(lookEveryMs, next - this.#clock.now()));
    } catch (thrown) {
      if (!this.#stop.signal.aborted) {
        this.#fail(toVerfsError(thrown).message);
      }
      return lookEveryMs;
    }
  }

  async #follow(): Promise<number | null> {
    const read = this.#policy.read();
    const policy = JSON.stringify(read);
    this.#schedule = read.schedule;
    const now = this.#clock.now();
    const clockOffsetMs = now - this.#clock.steady();
    const isKnown = this.#plan?.policy === policy && Math.abs(this.#plan.clockOffsetMs - clockOffsetMs) < jumpMinMs;
    if (!isKnown) {
      this.#next = (await this.#policy.due(this.#stop.signal)) ?? null;
      this.#plan = { policy, clockOffsetMs };
      this.#lastError = null;
    }
    if (this.#next !== null && this.#next <= now) {
      const run = await this.#policy.run({ signal: this.#stop.signal });
      this.#next = run.next;
      this.#tell(run);
    }
    return this.#next;
  }

  #tell(run: PolicyRun): void {
    if (run.taken !== null) {
      this.#log.info(`took the snapshot ${run.taken}`);
    }
    if (run.pruned.length > 0) {
      this.#log.info(`pruned ${run.pruned.length} snapshots: ${run.pruned.join(', ')}`);
    }
    this.#lastError = null;
    for (const { name, error } of run.failures.toReversed()) {
      this.#fail(`${name}: ${error.message}`);
    }
  }

  #fail(message: string): void {
    this.#log.error(`the snapshot policy: ${message}`);
    this.#lastError = { time: this.#clock.now(), message };
    this.#notBefore = this.#clock.steady() + retryAfterMs;
    this.#plan = undefined;
  }
}
