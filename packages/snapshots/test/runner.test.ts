import { describe, expect, test } from '@jest/globals';
import { VolumeFullError } from '@verfs/errors';
import { noPolicy, type Policy, PolicyRunner } from '@verfs/snapshots';
import fc from 'fast-check';
import { FakeClock, FakeVolume } from './fake-volume.ts';

const minuteMs = 60_000;
const quarterMs = 15 * minuteMs;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;
const start = Date.parse('2026-11-02T09:20:00Z');

function world(changes: Partial<Policy>) {
  const clock = new FakeClock(start);
  const volume = new FakeVolume(clock);
  const policy: Policy = { ...noPolicy, ...changes };
  const runner = () =>
    new PolicyRunner(
      volume,
      () => policy,
      clock,
      () => 'Europe/Berlin',
    );
  return { clock, volume, runner };
}

type World = ReturnType<typeof world>;

/** What a daemon does while `ms` pass: it looks each minute. */
async function live({ clock }: World, runner: PolicyRunner, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += minuteMs) {
    clock.pass(minuteMs);
    if (((await runner.due()) ?? Number.POSITIVE_INFINITY) <= clock.now()) {
      await runner.run('done');
    }
  }
}

const timesOf = ({ volume }: World) => volume.list.map(({ created }) => new Date(created).toISOString().slice(5, 16));

describe('a run', () => {
  test('takes the first snapshot at once, and then by the schedule', async () => {
    const all = world({ schedule: 'hourly', note: 'by itself' });
    const runner = all.runner();
    const first = await runner.run('done');
    expect(first).toMatchObject({ mode: 'done', taken: 'auto-2026-11-02T09-20-00Z', failures: [] });
    expect(first.next).toBe(Date.parse('2026-11-02T10:00:00Z'));
    expect(all.volume.list[0]?.note).toBe('by itself');
    expect(await runner.run('done')).toMatchObject({ taken: null, next: first.next });
    await live(all, runner, 2 * hourMs);
    expect(timesOf(all)).toEqual(['11-02T09:20', '11-02T10:00', '11-02T11:00']);
  });

  test('takes a missed time once: after sleep, and when nothing ran', async () => {
    const all = world({ schedule: 'hourly' });
    const runner = all.runner();
    await runner.run('done');
    all.clock.pass(7 * hourMs + 10 * minuteMs);
    await live(all, runner, 50 * minuteMs);
    all.clock.pass(2 * dayMs);
    await live(all, all.runner(), 2 * minuteMs);
    expect(timesOf(all)).toEqual(['11-02T09:20', '11-02T16:31', '11-02T17:00', '11-04T17:21']);
  });

  test('that only tells changes nothing, and says what would be', async () => {
    const all = world({ schedule: 'hourly', 'keep.last': 1 });
    await all.runner().run('done');
    all.clock.pass(hourMs);
    const told = await all.runner().run('dry-run');
    expect(told).toMatchObject({
      mode: 'dry-run',
      taken: 'auto-2026-11-02T10-20-00Z',
      pruned: ['auto-2026-11-02T09-20-00Z'],
      kept: [{ name: 'auto-2026-11-02T10-20-00Z', reasons: ['last'] }],
      next: Date.parse('2026-11-02T11:00:00Z'),
    });
    expect(timesOf(all)).toEqual(['11-02T09:20']);
    expect(await all.runner().run('done')).toEqual({ ...told, mode: 'done' });
  });

  test('with the schedule off only prunes', async () => {
    const all = world({ 'keep.last': 1 });
    await all.volume.snapshotCreate('auto-2026-11-01T00-00-00Z', '');
    all.clock.pass(hourMs);
    await all.volume.snapshotCreate('auto-2026-11-02T00-00-00Z', '');
    expect(await all.runner().run('done')).toMatchObject({
      taken: null,
      pruned: ['auto-2026-11-01T00-00-00Z'],
      next: null,
    });
    expect(await all.runner().due()).toBeUndefined();
  });

  test('goes on when something fails, and tells it', async () => {
    const all = world({ schedule: 'hourly', 'keep.last': 1 });
    const names = ['auto-2026-11-01T00-00-00Z', 'auto-2026-11-01T01-00-00Z', 'auto-2026-11-01T02-00-00Z'];
    for (const name of names) {
      all.clock.pass(hourMs);
      await all.volume.snapshotCreate(name, '');
    }
    all.clock.pass(hourMs);
    all.volume.snapshotCreate = () => Promise.reject(new VolumeFullError('The disk is full'));
    const { snapshotDelete } = all.volume;
    all.volume.snapshotDelete = (name) =>
      name === names[1] ? Promise.reject(new TypeError('a bug')) : snapshotDelete.call(all.volume, name);
    const run = await all.runner().run('done');
    expect(run).toMatchObject({ taken: null, pruned: [names[0]] });
    expect(run.failures.map(({ name, error }) => [name, error.code])).toEqual([
      [expect.stringMatching(/^auto-2026-11-02/), 'VERFS_E_VOLUME_FULL'],
      [names[1], 'VERFS_E_INTERNAL'],
    ]);
  });

  test('does not mind who is quicker to delete or to hold', async () => {
    const all = world({ 'keep.last': 1 });
    for (const day of ['01', '02', '03']) {
      all.clock.pass(hourMs);
      await all.volume.snapshotCreate(`auto-2026-11-${day}T00-00-00Z`, '');
    }
    const { snapshots } = all.volume;
    all.volume.snapshots = async () => {
      const list = await snapshots.call(all.volume);
      await all.volume.snapshotDelete('auto-2026-11-01T00-00-00Z');
      Object.assign(all.volume.list[0] ?? {}, { holds: ['backup'] });
      return list;
    };
    expect(await all.runner().run('done')).toMatchObject({ pruned: [], failures: [] });
  });

  test('waits for the one before', async () => {
    const all = world({ schedule: 'hourly' });
    const runner = all.runner();
    const runs = await Promise.all([runner.run('done'), runner.run('done'), runner.run('done')]);
    expect(runs.map(({ taken }) => taken !== null)).toEqual([true, false, false]);
  });
});

describe('a clock that jumps', () => {
  test('back by a little does not make it take the same time twice', async () => {
    const all = world({ schedule: 'hourly' });
    const runner = all.runner();
    await live(all, runner, 40 * minuteMs);
    expect(timesOf(all)).toEqual(['11-02T09:21', '11-02T10:00']);
    all.clock.set(all.clock.now() - 2000);
    await live(all, runner, 30 * minuteMs);
    expect(timesOf(all)).toEqual(['11-02T09:21', '11-02T10:00']);
  });

  test('far ahead and back does not stop the schedule', async () => {
    const all = world({ schedule: 'daily', 'keep.daily': 7 });
    const runner = all.runner();
    await live(all, runner, dayMs);
    const right = all.clock.now();
    all.clock.set(right + 3650 * dayMs);
    await live(all, runner, 30 * minuteMs);
    all.clock.set(right + 30 * minuteMs);
    await live(all, runner, 3 * dayMs);
    expect(timesOf(all).slice(-3)).toEqual(['11-03T23:00', '11-04T23:00', '11-05T23:00']);
    expect(all.volume.deleted).toEqual([]);
  });

  test('weeks of jumps make no flood, and prune nothing that is younger than min_age', async () => {
    const steps = fc.array(
      fc.record({
        liveMs: fc.integer({ min: 1, max: 60 }).map((minutes) => minutes * minuteMs),
        sleepMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20 * hourMs })),
        jumpMs: fc.oneof(
          fc.constant(0),
          fc.integer({ min: -3 * hourMs, max: 3 * hourMs }),
          fc.integer({ min: -4000 * dayMs, max: 4000 * dayMs }),
        ),
      }),
      { minLength: 20, maxLength: 60 },
    );
    const minAgeMs = 6 * hourMs;
    const check = async (plan: readonly { liveMs: number; sleepMs: number; jumpMs: number }[]) => {
      const all = world({ schedule: 'every 15min', 'keep.last': 2, 'keep.daily': 2, 'keep.min_age': minAgeMs });
      const runner = all.runner();
      for (const { liveMs, sleepMs, jumpMs } of plan) {
        await live(all, runner, liveMs);
        all.clock.pass(sleepMs);
        all.clock.set(Math.max(0, all.clock.now() + jumpMs));
      }
      const steadyTimes = [...all.volume.taken.values()].map(({ steady }) => steady).sort((a, b) => a - b);
      const gaps = steadyTimes.slice(1).map((time, index) => time - (steadyTimes[index] ?? 0));
      expect(gaps.filter((gap) => gap < 3.75 * minuteMs)).toEqual([]);
      expect(all.volume.deleted.filter(({ trueAgeMs }) => trueAgeMs < minAgeMs)).toEqual([]);
      // Once the clock stays right, there is one for each time again.
      await live(all, runner, 2 * hourMs);
      const quarters = new Set([...all.volume.taken.values()].map(({ created }) => Math.floor(created / quarterMs)));
      const last = Math.floor(all.clock.now() / quarterMs) - 1;
      for (let quarter = last - 6; quarter <= last; quarter += 1) {
        expect(quarters).toContain(quarter);
      }
    };
    await fc.assert(fc.asyncProperty(steps, check), { numRuns: 8 });
  });
});
