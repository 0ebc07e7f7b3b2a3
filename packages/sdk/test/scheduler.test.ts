import { expect, test } from '@jest/globals';
import { VolumeFullError } from '@verfs/errors';
import type { Log } from '@verfs/log';
import { type Clock, noPolicy, type Policy, PolicyRunner } from '@verfs/snapshots';
import { PolicyScheduler } from '../src/daemon/scheduler.ts';
import { FakeSnapshots } from './fake-snapshots.ts';

const minuteMs = 60_000;

/** A volume with a policy, clocks that the test moves, and the scheduler. */
function world(changes: Partial<Policy>) {
  let [now, steady] = [Date.parse('2026-11-28T14:20:00Z'), 0];
  const clock: Clock = { now: () => now, steady: () => steady };
  const calls = new FakeSnapshots(clock);
  const state = { policy: { ...noPolicy, ...changes } as Policy, looks: 0 };
  const runner = new PolicyRunner(
    calls,
    () => state.policy,
    clock,
    () => 'UTC',
  );
  const scheduled = {
    read: () => {
      if (state.policy.note === 'broken') {
        throw new TypeError('a bug');
      }
      return state.policy;
    },
    due: (signal?: AbortSignal) => {
      state.looks += 1;
      return runner.due(signal);
    },
    run: ({ signal }: { signal: AbortSignal }) => runner.run('done', signal),
  };
  const logged: string[] = [];
  const note = (message: string) => void logged.push(message);
  const log: Log = { error: note, warn: note, info: note, debug: note };
  const scheduler = new PolicyScheduler(scheduled, log, clock);
  const pass = (ms: number) => {
    now += ms;
    steady += ms;
  };
  const jump = (ms: number) => {
    now += ms;
  };
  const names = () => calls.list.map(({ name }) => name.slice(16, 21));
  return { calls, state, scheduler, logged, pass, jump, names };
}

test('it takes and prunes when it is time, and looks again then, or after a minute', async () => {
  const { scheduler, names, pass, logged, state } = world({ schedule: 'hourly', 'keep.last': 1 });
  expect(await scheduler.look()).toBe(minuteMs);
  expect(names()).toEqual(['14-20']);
  expect(scheduler.progress()).toEqual({
    schedule: 'hourly',
    next: Date.parse('2026-11-28T15:00:00Z'),
    lastError: null,
  });
  for (let minute = 1; minute < 40; minute += 1) {
    pass(minuteMs);
    await scheduler.look();
  }
  expect([names(), state.looks]).toEqual([['14-20'], 1]);
  pass(minuteMs - 1);
  expect(await scheduler.look()).toBe(1);
  pass(1);
  await scheduler.look();
  expect(names()).toEqual(['15-00']);
  expect(logged).toEqual([
    'took the snapshot auto-2026-11-28T14-20-00Z',
    'took the snapshot auto-2026-11-28T15-00-00Z',
    'pruned 1 snapshots: auto-2026-11-28T14-20-00Z',
  ]);
});

test('it prunes nothing before it took one, so that there is time to see what a new policy does', async () => {
  const { scheduler, names, pass, state } = world({ schedule: 'hourly' });
  for (let hour = 0; hour < 3; hour += 1) {
    await scheduler.look();
    pass(60 * minuteMs);
  }
  await scheduler.look();
  state.policy = { ...state.policy, 'keep.last': 1 };
  pass(minuteMs);
  await scheduler.look();
  expect(names()).toEqual(['14-20', '15-20', '16-20', '17-20']);
  pass(60 * minuteMs);
  await scheduler.look();
  expect(names()).toEqual(['18-21']);
});

test('it sees a policy that was changed, and a clock that was set', async () => {
  const { scheduler, names, jump, pass, state } = world({});
  await scheduler.look();
  expect(scheduler.progress()).toEqual({ schedule: 'off', next: null, lastError: null });
  state.policy = { ...noPolicy, schedule: 'every 15min' };
  await scheduler.look();
  pass(minuteMs);
  jump(-10 * minuteMs);
  await scheduler.look();
  expect(scheduler.progress().next).toBe(Date.parse('2026-11-28T14:13:45Z'));
  jump(24 * 60 * minuteMs);
  pass(5 * minuteMs);
  await scheduler.look();
  expect(names()).toEqual(['14-20', '14-16']);
});

test('what fails is told, tried again after five minutes, and forgotten once it works', async () => {
  const { scheduler, calls, names, logged, pass } = world({ schedule: 'hourly' });
  const { snapshotCreate } = calls;
  let attempts = 0;
  calls.snapshotCreate = () => {
    attempts += 1;
    return Promise.reject(new VolumeFullError('The disk is full'));
  };
  await scheduler.look();
  expect(scheduler.progress()).toMatchObject({
    schedule: 'hourly',
    lastError: { time: Date.parse('2026-11-28T14:20:00Z'), message: expect.stringContaining('The disk is full') },
  });
  expect(logged).toEqual([expect.stringMatching(/^the snapshot policy: auto-.*The disk is full/)]);
  pass(4 * minuteMs);
  await scheduler.look();
  expect(attempts).toBe(1);
  pass(minuteMs);
  await scheduler.look();
  expect(attempts).toBe(2);
  calls.snapshotCreate = snapshotCreate;
  pass(5 * minuteMs);
  await scheduler.look();
  expect([names(), scheduler.progress().lastError]).toEqual([['14-30'], null]);
});

test('a policy that cannot be read does not end it', async () => {
  const { scheduler, state, names, pass } = world({ schedule: 'hourly', note: 'broken' });
  expect(await scheduler.look()).toBe(minuteMs);
  expect(scheduler.progress().lastError?.message).toContain('a bug');
  state.policy = { ...state.policy, note: 'mended' };
  pass(5 * minuteMs);
  await scheduler.look();
  expect([names(), scheduler.progress().lastError]).toEqual([['14-25'], null]);
});

test('it works by itself until it is stopped, and is woken', async () => {
  const { scheduler, names, calls, pass, state } = world({});
  scheduler.start();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect([names(), state.looks]).toEqual([[], 1]);
  state.policy = { ...noPolicy, schedule: 'hourly' };
  scheduler.wake();
  for (let wait = 0; names().length === 0 && wait < 500; wait += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(names()).toEqual(['14-20']);
  // It is told to stop in the middle of a snapshot.
  let signalled: AbortSignal | undefined;
  calls.snapshotCreate = (_name, _note, signal) =>
    new Promise((_, reject) => {
      signalled = signal;
      signal?.addEventListener('abort', () => reject(new Error('stopped')));
    });
  pass(60 * minuteMs);
  scheduler.wake();
  for (let wait = 0; signalled === undefined && wait < 500; wait += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await scheduler.stop();
  expect([signalled?.aborted, scheduler.progress().lastError]).toEqual([true, null]);
  scheduler.wake();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(names()).toEqual(['14-20']);
});
