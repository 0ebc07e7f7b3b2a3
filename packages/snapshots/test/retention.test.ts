import { describe, expect, test } from '@jest/globals';
import { automaticName, calendar, noPolicy, type Policy, type Prunable, planRetention, spans } from '@verfs/snapshots';
import fc from 'fast-check';

const hourMs = 3_600_000;
const now = Date.parse('2026-11-28T14:30:00Z');
const moment = { now, zone: 'Europe/Berlin', ageOf: ({ created }: Prunable) => now - created };

const snapshot = (time: number | string, holds: string[] = []): Prunable => {
  const created = typeof time === 'string' ? Date.parse(time) : time;
  return { name: automaticName(created), created, holds };
};

const plan = (policy: Partial<Policy>, snapshots: readonly Prunable[]) =>
  planRetention({ ...noPolicy, ...policy }, snapshots, moment);

const keptTimes = (policy: Partial<Policy>, snapshots: readonly Prunable[]) =>
  plan(policy, snapshots).kept.map(({ created }) => new Date(created).toISOString().slice(0, 13));

describe('retention', () => {
  const everySixHours = Array.from({ length: 120 }, (_, index) => snapshot(now - (index + 1) * 6 * hourMs));

  test('without rules keeps all', () => {
    expect(plan({}, everySixHours)).toMatchObject({ pruned: [] });
    expect(plan({ 'keep.min_age': hourMs }, everySixHours)).toMatchObject({ pruned: [] });
  });

  test('keeps the newest of each span, of as many as asked', () => {
    expect(keptTimes({ 'keep.last': 2 }, everySixHours)).toEqual(['2026-11-28T08', '2026-11-28T02']);
    expect(keptTimes({ 'keep.daily': 3 }, everySixHours)).toEqual(['2026-11-28T08', '2026-11-27T20', '2026-11-26T20']);
    expect(keptTimes({ 'keep.weekly': 2 }, everySixHours)).toEqual(['2026-11-28T08', '2026-11-22T20']);
  });

  test('keeps the oldest while a rule has not as many as it may', () => {
    expect(keptTimes({ 'keep.monthly': 3 }, everySixHours)).toEqual([
      '2026-11-28T08',
      '2026-10-31T20',
      new Date(everySixHours.at(-1)?.created ?? 0).toISOString().slice(0, 13),
    ]);
  });

  test('says which rules keep one', () => {
    const { kept } = plan({ 'keep.last': 1, 'keep.daily': 2 }, everySixHours);
    expect(kept.map(({ reasons }) => reasons)).toEqual([['last', 'daily'], ['daily']]);
  });

  test('leaves alone what no policy made', () => {
    const mine = { name: 'before-upgrade', created: now - 1000 * hourMs, holds: [] };
    const { kept, pruned } = plan({ 'keep.last': 1 }, [mine, ...everySixHours]);
    expect([...pruned, ...kept.map(({ name }) => name)]).not.toContain(mine.name);
  });

  test('leaves alone what is held, young, or from the future', () => {
    const held = snapshot('2026-11-20T00:00Z', ['backup']);
    const young = snapshot('2026-11-28T13:00Z');
    const wrong = snapshot('2036-01-01T00:00Z');
    const newest = snapshot('2026-11-28T14:00Z');
    const old = snapshot('2026-11-28T01:00Z');
    const { kept, pruned } = plan({ 'keep.last': 1, 'keep.min_age': 2 * hourMs }, [held, young, wrong, newest, old]);
    expect(pruned).toEqual([old.name]);
    expect(kept.map(({ reasons }) => reasons)).toEqual([['future'], ['last', 'min_age'], ['min_age'], ['held']]);
  });
});

describe('whatever the policy and the snapshots are, retention', () => {
  const count = fc.nat(5);
  const policies = fc
    .record({
      'keep.last': count,
      'keep.hourly': count,
      'keep.daily': count,
      'keep.weekly': count,
      'keep.monthly': count,
      'keep.yearly': count,
      'keep.min_age': fc.constantFrom(0, hourMs, 100 * hourMs),
    })
    .map((values): Policy => ({ ...noPolicy, ...values }));
  const created = fc.oneof(
    fc.integer({ min: now - 20 * hourMs, max: now + 2 * hourMs }),
    fc.integer({ min: now - 20_000 * hourMs, max: now }),
  );
  const lists = fc.uniqueArray(
    fc.record({ created, holds: fc.constantFrom<string[]>([], [], [], ['tag']) }).map((one) => ({
      name: automaticName(one.created),
      ...one,
    })),
    { selector: ({ name }) => name, maxLength: 60 },
  );
  const isProtected = (policy: Policy, one: Prunable) =>
    one.holds.length > 0 || one.created > now || now - one.created < policy['keep.min_age'];
  const hasRule = (policy: Policy) => ['last' as const, ...spans].some((rule) => policy[`keep.${rule}`] > 0);

  const property = (check: (policy: Policy, list: Prunable[]) => void) => {
    fc.assert(fc.property(policies, lists, check), { numRuns: 500 });
  };

  test('keeps or prunes each, never one that is protected, and never the newest', () => {
    property((policy, list) => {
      const { kept, pruned } = planRetention(policy, list, moment);
      const names = [...kept.map(({ name }) => name), ...pruned].sort();
      expect(names).toEqual(list.map(({ name }) => name).sort());
      const gone = list.filter(({ name }) => pruned.includes(name));
      expect(gone.filter((one) => isProtected(policy, one))).toEqual([]);
      const past = list.filter((one) => one.created <= now);
      const newest = Math.max(...past.map((one) => one.created));
      expect(gone.map((one) => one.created)).not.toContain(newest);
    });
  });

  test('leaves nothing to prune for a second run', () => {
    property((policy, list) => {
      const { pruned } = planRetention(policy, list, moment);
      const left = list.filter(({ name }) => !pruned.includes(name));
      expect(planRetention(policy, left, moment).pruned).toEqual([]);
    });
  });

  test('keeps no more than the rules ask for, and no less of each span', () => {
    const spanNames = calendar(moment.zone);
    property((policy, list) => {
      const { kept } = planRetention(policy, list, moment);
      const past = list.filter((one) => one.created <= now);
      if (!hasRule(policy)) {
        return;
      }
      for (const span of spans) {
        const among = (some: readonly { created: number }[]) => {
          const names = some.filter((one) => one.created <= now).map((one) => spanNames(one.created)[span]);
          return [...new Set(names.sort().reverse())].slice(0, policy[`keep.${span}`]);
        };
        expect(among(kept)).toEqual(among(past));
        const byRule = kept.filter(({ reasons }) => reasons.includes(span));
        expect(byRule.length).toBeLessThanOrEqual(policy[`keep.${span}`]);
      }
      expect(kept.filter(({ reasons }) => reasons.includes('last')).length).toBe(
        Math.min(past.length, policy['keep.last']),
      );
    });
  });
});
