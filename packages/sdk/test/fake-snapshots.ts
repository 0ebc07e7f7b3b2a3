import { SnapshotExistsError, SnapshotHeldError, SnapshotNotFoundError } from '@verfs/errors';
import type {
  ReceiveRequest,
  SendRequest,
  Snapshot,
  SnapshotCalls,
  SnapshotChange,
  SnapshotWork,
  StreamCalls,
} from '@verfs/native';

/** Snapshots without a volume: a list. Calls that are not about the list are noted. */
export class FakeSnapshots implements SnapshotCalls, StreamCalls {
  readonly list: Snapshot[] = [];
  readonly noted: unknown[] = [];
  /** What a diff finds. */
  batches: readonly (readonly SnapshotChange[])[] = [];
  /** How many batches were asked for. */
  batchesGiven = 0;
  readonly #clock: { now(): number };

  constructor(clock: { now(): number } = Date) {
    this.#clock = clock;
  }

  async snapshotCreate(name: string, note: string, _signal?: AbortSignal): Promise<Snapshot> {
    if (this.list.some((one) => one.name === name)) {
      throw new SnapshotExistsError(`There is a snapshot ${name} already`);
    }
    const counts = { usedBytes: 1024, logicalBytes: 1024 ** 2, files: 3, directories: 1 };
    const snapshot = { id: this.list.length + 1, name, note, created: this.#clock.now(), ...counts, holds: [] };
    this.list.push(snapshot);
    return snapshot;
  }

  async snapshots(): Promise<Snapshot[]> {
    return [...this.list];
  }

  #find(name: string): number {
    const index = this.list.findIndex((one) => one.name === name);
    if (index < 0) {
      throw new SnapshotNotFoundError(`There is no snapshot ${name}`);
    }
    return index;
  }

  #hold(name: string, change: (holds: readonly string[]) => readonly string[]): void {
    const index = this.#find(name);
    const snapshot = this.list[index] as Snapshot;
    this.list[index] = { ...snapshot, holds: change(snapshot.holds) };
  }

  async snapshotDelete(name: string): Promise<void> {
    const index = this.#find(name);
    if (this.list[index]?.holds.length !== 0) {
      throw new SnapshotHeldError(`The snapshot ${name} is held`);
    }
    this.list.splice(index, 1);
  }

  async snapshotHold(name: string, tag: string): Promise<void> {
    this.#hold(name, (holds) => [...holds, tag]);
  }

  async snapshotRelease(name: string, tag: string): Promise<void> {
    this.#hold(name, (holds) => holds.filter((one) => one !== tag));
  }

  async *snapshotDiff(
    from: string,
    to: string | undefined,
    signal?: AbortSignal,
  ): AsyncGenerator<readonly SnapshotChange[], void> {
    this.noted.push(['diff', from, to]);
    this.#find(from);
    for (const batch of this.batches) {
      if (signal?.aborted) {
        this.noted.push(['diff stopped']);
        return;
      }
      this.batchesGiven += 1;
      yield batch;
    }
  }

  /** How far is told that something is. */
  work: SnapshotWork = { inodes: 0, ofInodes: 0, bytes: 0, records: 0 };
  /** What clones, restorations and rollbacks wait for. */
  waits: () => Promise<void> = async () => undefined;

  async snapshotWork(): Promise<SnapshotWork> {
    return this.work;
  }

  async snapshotRollback(name: string): Promise<void> {
    this.#find(name);
    this.noted.push(['rollback', name]);
    await this.waits();
  }

  async snapshotClone(name: string, path: string): Promise<void> {
    this.#find(name);
    this.noted.push(['clone', name, path]);
    await this.waits();
  }

  async snapshotRestore(name: string, path: string, target: string | undefined): Promise<void> {
    this.#find(name);
    this.noted.push(['restore', name, path, target]);
    await this.waits();
  }

  async snapshotSend({ name }: SendRequest): Promise<number> {
    this.#find(name);
    this.noted.push(['send', name]);
    return 0;
  }

  snapshotReceive({ rollback }: ReceiveRequest): Promise<Snapshot> {
    this.noted.push(['receive', rollback]);
    return this.snapshotCreate('received', '');
  }

  async interruptedReceive(): Promise<string | null> {
    return null;
  }
}
