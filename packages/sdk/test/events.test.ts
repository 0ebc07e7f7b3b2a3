import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { VolumeEmitter } from '../src/emitter.ts';
import { announcing, EventWatch, type VolumeEvent } from '../src/events.ts';
import { FakeSnapshots } from './fake-snapshots.ts';
import { FakeWatched } from './fake-watched.ts';

let snapshots: FakeSnapshots;
let volume: FakeWatched;
let watch: EventWatch;
let told: VolumeEvent[];

beforeEach(() => {
  snapshots = new FakeSnapshots();
  volume = new FakeWatched(snapshots);
  watch = new EventWatch(volume);
  told = [];
});

/** What is told of `change`. */
async function eventsOf(change: () => unknown): Promise<VolumeEvent[]> {
  await watch.look();
  told.length = 0;
  await change();
  await watch.look();
  return [...told];
}

describe('a look at a volume', () => {
  let stop: () => void;

  beforeEach(() => {
    stop = watch.listen((event) => told.push(event));
  });

  afterEach(() => stop());

  test('tells nothing of what was so before, nor twice', async () => {
    await snapshots.snapshotCreate('old', '');
    volume.freeBytes = 0;
    volume.vault = 'unlocked';
    expect(await eventsOf(() => undefined)).toEqual([]);
    expect(told).toEqual([]);
  });

  test('finds snapshots that came and went', async () => {
    const made = await eventsOf(() => snapshots.snapshotCreate('one', 'note'));
    expect(made).toMatchObject([{ type: 'snapshotCreated', snapshot: { name: 'one', note: 'note' } }]);
    const gone = await eventsOf(() => snapshots.snapshotDelete('one'));
    expect(gone).toMatchObject([{ type: 'snapshotDeleted', snapshot: { name: 'one' } }]);
  });

  test('finds collections, also those that were over before it', async () => {
    const begun = await eventsOf(() => {
      volume.gc.active = true;
    });
    expect(begun).toEqual([{ type: 'gcBegun' }]);
    const next = await eventsOf(() => {
      volume.gc = { active: true, collections: 1, reclaimedBytes: 100, failure: '' };
    });
    expect(next).toEqual([{ type: 'gcDone', reclaimedBytes: 100, failure: '' }, { type: 'gcBegun' }]);
    const failed = await eventsOf(() => {
      volume.gc = { active: false, collections: 2, reclaimedBytes: 150, failure: 'no room' };
    });
    expect(failed).toEqual([{ type: 'gcDone', reclaimedBytes: 50, failure: 'no room' }]);
  });

  test('finds scrubs and what is damaged', async () => {
    expect(
      await eventsOf(() => {
        volume.scrub.active = true;
      }),
    ).toEqual([{ type: 'scrubBegun' }]);
    const damage = { path: 'a/file', pack: '07', detail: 'checksum' };
    const found = await eventsOf(() => {
      volume.damaged = [damage];
      volume.scrub = { active: false, interrupted: true, failure: '' };
    });
    expect(found).toEqual([
      { type: 'scrubDone', interrupted: true, failure: '' },
      { type: 'damageFound', damage },
    ]);
    expect(await eventsOf(() => undefined)).toEqual([]);
  });

  test('finds that the disk gets low and has room again, and that the store failed', async () => {
    const states: unknown[] = [];
    for (const freeBytes of [2 ** 20, 0, 2 ** 40]) {
      const found = await eventsOf(() => {
        volume.freeBytes = freeBytes;
      });
      states.push(...found.map((event) => 'state' in event && [event.type, event.state, event.freeBytes]));
    }
    expect(states).toEqual([
      ['spaceChanged', 'low', 2 ** 20],
      ['spaceChanged', 'full', 0],
      ['spaceChanged', 'enough', 2 ** 40],
    ]);
    const failed = await eventsOf(() => {
      volume.tasks = [{ name: 'commit', state: 'failed', busyMs: 0, restarts: 0, detail: 'see the log' }];
    });
    expect(failed).toEqual([{ type: 'changesRefused', reason: 'see the log' }]);
  });

  test('finds that the vault is unlocked and locked, and not that it is made', async () => {
    volume.vault = 'absent';
    const types = [];
    for (const state of ['locked', 'unlocked', 'locked'] as const) {
      const found = await eventsOf(() => {
        volume.vault = state;
      });
      types.push(found.map(({ type }) => type));
    }
    expect(types).toEqual([[], ['vaultUnlocked'], ['vaultLocked']]);
  });

  test('that fails tells nothing, and the next one all', async () => {
    await watch.look();
    const stats = jest.spyOn(volume, 'stats').mockRejectedValue(new Error('busy'));
    await snapshots.snapshotCreate('one', '');
    await watch.look();
    expect(told).toEqual([]);
    stats.mockRestore();
    await watch.look();
    expect(told).toMatchObject([{ type: 'snapshotCreated' }]);
  });

  test('comes by itself, and after calls that change something before these return', async () => {
    await watch.look();
    const calls = announcing(snapshots, watch);
    const { id } = await calls.snapshotCreate('one', '');
    expect(told).toMatchObject([{ type: 'snapshotCreated', snapshot: { id } }]);
    await snapshots.snapshotCreate('two', '');
    await sleep(1200);
    expect(told).toHaveLength(2);
  });
});

test('nobody looks while nobody listens', async () => {
  await announcing(snapshots, watch).snapshotCreate('one', '');
  await sleep(700);
  expect(volume.looks).toBe(0);
  const stop = watch.listen(() => undefined);
  await watch.look();
  stop();
  const { looks } = volume;
  expect(looks).toBeGreaterThan(0);
  await sleep(700);
  expect(volume.looks).toBe(looks);
});

test('an emitter listens from its first listener to its last', () => {
  const life: string[] = [];
  let tell: (event: VolumeEvent) => void = () => undefined;
  class Emitter extends VolumeEmitter {
    protected override listen(to: typeof tell): () => void {
      tell = to;
      life.push('begun');
      return () => life.push('ended');
    }
  }
  const emitter = new Emitter();
  const heard: unknown[] = [];
  expect(life).toEqual([]);
  emitter.once('vaultLocked', (event) => heard.push(event));
  emitter.on('event', ({ type }) => heard.push(type));
  expect(life).toEqual(['begun']);
  tell({ type: 'vaultLocked' });
  tell({ type: 'vaultUnlocked' });
  expect(heard).toEqual([{ type: 'vaultLocked' }, 'vaultLocked', 'vaultUnlocked']);
  expect(life).toEqual(['begun']);
  emitter.removeAllListeners('event');
  expect(life).toEqual(['begun', 'ended']);
  emitter.on('closed', () => undefined);
  expect(life).toEqual(['begun', 'ended', 'begun']);
});
