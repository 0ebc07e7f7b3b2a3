import { expect, test } from '@jest/globals';
import type { Log } from '@verfs/log';
import type { ScrubStatus } from '@verfs/native';
import type { Clock } from '@verfs/snapshots';
import { ScrubTimer } from '../src/daemon/scrub-timer.ts';

const dayMs = 86_400_000;
const created = Date.parse('2026-03-10T12:00:00Z');
const tally = { packs: 1, records: 1, bytes: 1, damaged: 0, deadDamaged: 0, sealed: 0, indexesMended: 0 };
const idle: ScrubStatus = { active: false, interrupted: false, running: { tally, totalBytes: 0 }, failure: '' };

/** A volume whose scrubs take no time, clocks that the test moves, and the timer. */
function world(scrub = 'monthly') {
  let [now, steady] = [created, 0];
  const clock: Clock = { now: () => now, steady: () => steady };
  const state = { status: idle, scrubs: 0, end: 'done' as 'done' | 'stopped', damaged: 0, fails: false };
  const volume = {
    scrub: async () => {
      state.scrubs += 1;
      if (state.fails) {
        throw new TypeError('a bug');
      }
      const seen = { ...tally, damaged: state.damaged };
      state.status = state.end === 'done' ? { ...idle, ended: { began: now, ended: now, tally: seen } } : idle;
      return { end: state.end, tally: seen };
    },
    scrubStatus: async () => state.status,
  };
  const logged: string[] = [];
  const note = (message: string) => void logged.push(message);
  const log: Log = { error: note, warn: note, info: note, debug: note };
  const policy = { scrub };
  const timer = new ScrubTimer({ volume, created, policy: () => policy }, log, clock);
  const pass = (ms: number) => {
    now += ms;
    steady += ms;
  };
  const setClock = (time: number) => {
    now = time;
  };
  return { timer, state, logged, pass, setClock, policy };
}

test('a month without a scrub makes one, however long nobody looked', async () => {
  const { timer, state, pass, logged } = world();
  await timer.look();
  expect(state.scrubs).toBe(0);
  pass(100 * dayMs);
  await timer.look();
  await timer.look();
  expect(state.scrubs).toBe(1);
  expect(logged.join()).toContain('all are what was written');
  pass(20 * dayMs);
  state.damaged = 2;
  await timer.look();
  expect(state.scrubs).toBe(2);
  expect(logged.join()).toContain('2 damaged records');
});

test('off is off', async () => {
  const { timer, state, pass } = world('off');
  pass(1000 * dayMs);
  await timer.look();
  expect(state.scrubs).toBe(0);
});

test('one that was cut short goes on, one that runs is left, and one that somebody stopped stays stopped', async () => {
  const { timer, state } = world();
  state.status = { ...idle, active: true };
  await timer.look();
  expect(state.scrubs).toBe(0);
  state.status = { ...idle, interrupted: true };
  state.end = 'stopped';
  await timer.look();
  expect(state.scrubs).toBe(1);
  state.status = { ...idle, interrupted: true };
  await timer.look();
  expect(state.scrubs).toBe(1);
});

test('a failure is logged and tried again after a while, and a last scrub in the future counts for none', async () => {
  const { timer, state, pass, setClock, logged } = world();
  pass(40 * dayMs);
  state.fails = true;
  await timer.look();
  await timer.look();
  expect(state.scrubs).toBe(1);
  expect(logged.join()).toContain('a bug');
  pass(dayMs);
  state.fails = false;
  await timer.look();
  expect(state.scrubs).toBe(2);
  setClock(created);
  await timer.look();
  expect(state.scrubs).toBe(3);
});

test('it ends with the mount', async () => {
  const { timer, state, pass } = world();
  await timer.stop();
  pass(100 * dayMs);
  await timer.look();
  expect(state.scrubs).toBe(0);
});
