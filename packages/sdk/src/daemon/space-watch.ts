import type { Log } from '@verfs/log';
import { type Room, type SpaceState, spaceState } from '../space-state.ts';

/** Time between looks, in milliseconds. */
const lookEveryMs = 30_000;

const mebibytes = (bytes: number) => `${Math.round(bytes / 1024 ** 2)} MiB`;

/** Logs when the disk under a volume gets low, full, and has room again: once for each change. */
export class SpaceWatch {
  readonly #room: () => Promise<Room>;
  readonly #log: Log;
  #state: SpaceState = 'enough';
  #timer: NodeJS.Timeout | undefined;

  constructor(room: () => Promise<Room>, log: Log) {
    this.#room = room;
    this.#log = log;
  }

  /** Looks now and from time to time. */
  start(): void {
    void this.look();
    // The mount keeps the process, not this.
    this.#timer = setInterval(() => void this.look(), lookEveryMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** It never rejects. */
  async look(): Promise<void> {
    const room = await this.#room().catch(() => undefined);
    const state = room === undefined ? this.#state : spaceState(room);
    if (room === undefined || state === this.#state) {
      return;
    }
    this.#state = state;
    const left = `${mebibytes(room.freeBytes)} of ${mebibytes(room.totalBytes)} are left`;
    if (state === 'enough') {
      this.#log.info(`the disk under the volume has room again: ${left}`);
    } else {
      const what = state === 'low' ? 'nearly full' : 'full, and changes are refused';
      this.#log.warn(
        `the disk under the volume is ${what}: ${left}. Delete files or snapshots, or make room beside it`,
      );
    }
  }
}
