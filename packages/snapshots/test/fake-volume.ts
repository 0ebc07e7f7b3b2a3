import { SnapshotExistsError, SnapshotHeldError, SnapshotNotFoundError } from '@verfs/errors';
import type { Snapshot } from '@verfs/native';
import type { Clock, RunCalls } from '@verfs/snapshots';

/** Clocks that tests move. */
export class FakeClock implements Clock {
  #now: number;
  #steady = 0;

  constructor(now: number) {
    this.#now = now;
  }

  now = () => this.#now;
  steady = () => this.#steady;

  /** Lets time pass. */
  pass(ms: number): void {
    this.#now += ms;
    this.#steady += ms;
  }

  /** Sets the wall clock. */
  set(now: number): void {
    this.#now = now;
  }
}

/** Snapshots without a volume: a list. */
export class FakeVolume implements RunCalls {
  readonly list: Snapshot[] = [];
  /** Every one that was ever taken, by name, with the time by both clocks. */
  readonly taken = new Map<string, { readonly created: number; readonly steady: number }>();
  readonly deleted: { readonly name: string; readonly trueAgeMs: number }[] = [];
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async snapshotCreate(name: string, note: string): Promise<Snapshot> {
    if (this.list.some((one) => one.name === name)) {
      throw new SnapshotExistsError(`There is a snapshot ${name}`);
    }
    const counts = { usedBytes: 0, logicalBytes: 0, files: 0, directories: 1 };
    const snapshot = { id: this.taken.size + 1, name, note, created: this.#clock.now(), ...counts, holds: [] };
    this.list.push(snapshot);
    this.taken.set(name, { created: snapshot.created, steady: this.#clock.steady() });
    return snapshot;
  }

  async snapshots(): Promise<Snapshot[]> {
    return [...this.list];
  }

  async snapshotDelete(name: string): Promise<void> {
    const index = this.list.findIndex((one) => one.name === name);
    if (index < 0) {
      throw new SnapshotNotFoundError(`There is no snapshot ${name}`);
    }
    if (this.list[index]?.holds.length !== 0) {
      throw new SnapshotHeldError(`The snapshot ${name} is held`);
    }
    this.list.splice(index, 1);
    this.deleted.push({ name, trueAgeMs: this.#clock.steady() - (this.taken.get(name)?.steady ?? 0) });
  }
}
