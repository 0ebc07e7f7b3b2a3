import type { Damage, Snapshot } from '@verfs/native';
import type { Watched } from '../src/events.ts';

/** A volume of which tests say what there is to be seen. */
export class FakeWatched implements Watched {
  damaged: Damage[] = [];
  freeBytes = 2 ** 40;
  totalBytes = 2 ** 41;
  tasks: Awaited<ReturnType<Watched['stats']>>['tasks'] = [];
  gc = { active: false, collections: 0, reclaimedBytes: 0, failure: '' };
  scrub = { active: false, interrupted: false, failure: '' };
  vault: Awaited<ReturnType<Watched['vaultStatus']>>['state'] = 'locked';
  /** How often somebody looked. */
  looks = 0;
  readonly #snapshots: { snapshots(): Promise<readonly Snapshot[]> };

  constructor(snapshots: { snapshots(): Promise<readonly Snapshot[]> }) {
    this.#snapshots = snapshots;
  }

  async stats() {
    this.looks += 1;
    const { damaged, freeBytes, totalBytes, tasks } = this;
    return { damaged: [...damaged], freeBytes, totalBytes, tasks };
  }

  snapshots() {
    return this.#snapshots.snapshots();
  }

  async gcStatus() {
    return { ...this.gc };
  }

  async scrubStatus() {
    return { ...this.scrub };
  }

  async vaultStatus() {
    return { state: this.vault };
  }
}
