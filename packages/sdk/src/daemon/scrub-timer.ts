import { toVerfsError } from '@verfs/errors';
import type { Log } from '@verfs/log';
import { type Clock, localZone, type Policy, scheduleOf, systemClock } from '@verfs/snapshots';
import type { ScrubCalls } from '../scrub.ts';

/** How often it looks, in milliseconds. */
const lookEveryMs = 60_000;

/** Time after a failure before it tries again, in milliseconds. */
const retryAfterMs = 60 * 60_000;

/** What is scrubbed, when. */
export interface Scrubbed {
  readonly volume: ScrubCalls;
  /** When the volume was made, in milliseconds since 1970: from then on the first scrub is waited for. */
  readonly created: number;
  policy(): Pick<Policy, 'scrub'>;
}

/**
 * Scrubs a volume as its policy says while it is mounted. Whether a scrub is due follows from when the last one ended,
 * which is in the volume: times missed while nothing ran make one, and one that was cut short goes on.
 */
export class ScrubTimer {
  readonly #scrubbed: Scrubbed;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  /** Steady time before which nothing is tried again. */
  #notBefore = Number.NEGATIVE_INFINITY;
  /** Somebody stopped the one that was due: it is left until the volume is mounted again, or somebody goes on. */
  #left = false;

  constructor(scrubbed: Scrubbed, log: Log, clock: Clock = systemClock) {
    this.#scrubbed = scrubbed;
    this.#log = log;
    this.#clock = clock;
  }

  /** Begins. */
  start(): void {
    this.#timer = setInterval(() => void this.look(), lookEveryMs).unref();
  }

  /** Ends it, and a scrub that it began. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort('the volume is being unmounted');
    await this.#looking;
  }

  /** Scrubs, if it is time to. It never rejects. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look());
    return this.#looking;
  }

  async #look(): Promise<void> {
    if (this.#stop.signal.aborted || this.#left || this.#clock.steady() < this.#notBefore) {
      return;
    }
    try {
      if (await this.#isDue()) {
        await this.#scrub();
      }
    } catch (thrown) {
      if (!this.#stop.signal.aborted) {
        this.#log.error(`the scrub of the policy: ${toVerfsError(thrown).message}`);
        this.#notBefore = this.#clock.steady() + retryAfterMs;
      }
    }
  }

  async #isDue(): Promise<boolean> {
    const schedule = scheduleOf(this.#scrubbed.policy().scrub, localZone());
    if (schedule === undefined) {
      return false;
    }
    const { active, interrupted, ended } = await this.#scrubbed.volume.scrubStatus();
    const since = ended?.ended ?? this.#scrubbed.created;
    // A time to come is one of a clock that was wrong.
    const now = this.#clock.now();
    return !active && (interrupted || since > now || schedule.next(since) <= now);
  }

  async #scrub(): Promise<void> {
    const { end, tally } = await this.#scrubbed.volume.scrub(undefined, this.#stop.signal);
    if (end === 'stopped') {
      this.#left = true;
    } else if (tally.damaged > 0) {
      this.#log.error(`scrub found ${tally.damaged} damaged records: \`verfs status\` names the files`);
    } else {
      this.#log.info(`scrubbed ${tally.records} records, ${tally.bytes} bytes: all are what was written`);
    }
  }
}
