import { setTimeout as sleep } from 'node:timers/promises';
import { signalOf } from './arguments.ts';
import type { Cancellable } from './cancellable.ts';

/** How often it is looked how far a work is, in milliseconds. */
const lookEveryMs = 250;

/** A work, as whoever begins it describes it. */
export interface WorkPlan<Progress, Result> {
  /** Does it; ends early when `signal` fires, as far as it can. */
  readonly run: (signal: AbortSignal) => Promise<Result>;
  /** How far it is; nothing where that can't be said yet. */
  readonly look: () => Promise<Progress | undefined> | Progress | undefined;
  /** The caller's. */
  readonly options: Cancellable | undefined;
}

/**
 * Long work, which begins with the call that gives it. It is a promise of its result; `for await` tells meanwhile how far
 * it is, several times a second. Leaving that loop early ends the work, as the call's signal does: what is under way is
 * completed, which may take a moment.
 *
 * ```ts
 * const work = volume.gc();
 * for await (const { phase, reclaimedBytes } of work) {
 *   console.log(phase, reclaimedBytes);
 * }
 * const { packsRemoved } = await work;
 * ```
 */
export class Work<Progress, Result> implements Promise<Result>, AsyncIterable<Progress> {
  readonly [Symbol.toStringTag] = 'Work';
  readonly #result: Promise<Result>;
  readonly #look: WorkPlan<Progress, Result>['look'];
  readonly #stop = new AbortController();

  /** Made by those who begin one. */
  constructor({ run, look, options }: WorkPlan<Progress, Result>) {
    this.#look = look;
    const begin = async () => {
      const signal = signalOf(options);
      return await run(signal === undefined ? this.#stop.signal : AbortSignal.any([this.#stop.signal, signal]));
    };
    this.#result = begin();
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a promise, which has one
  then<A = Result, B = never>(
    onResult?: ((result: Result) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#result.then(onResult, onError);
  }

  catch<B = never>(onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<Result | B> {
    return this.#result.catch(onError);
  }

  finally(onEnd?: (() => void) | null): Promise<Result> {
    return this.#result.finally(onEnd);
  }

  /** How far it is. Fails as the work does; leaving it ends the work. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Progress, void> {
    let isRunning = true;
    const ended = () => {
      isRunning = false;
    };
    const end = this.#result.then(ended, ended);
    try {
      while (isRunning) {
        // What can't be told, because it is over, is no failure of the work.
        const progress = await Promise.resolve()
          .then(this.#look)
          .catch(() => undefined);
        if (isRunning && progress !== undefined) {
          yield progress;
        }
        const pause = new AbortController();
        await Promise.race([end, sleep(lookEveryMs, undefined, { signal: pause.signal }).catch(() => undefined)]);
        pause.abort();
      }
      await this.#result;
    } finally {
      this.#stop.abort('nobody follows it any more');
      await end;
    }
  }
}
