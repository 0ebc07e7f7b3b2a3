import { describe, expect, test } from '@jest/globals';
import { automaticName, calendar, isAutomatic, scheduleFault, scheduleOf } from '@verfs/snapshots';

/** The next `count` times after `from`. */
function times(text: string, zone: string, from: string, count = 3): string[] {
  const schedule = scheduleOf(text, zone);
  const found: string[] = [];
  let time = Date.parse(from);
  for (let index = 0; index < count; index += 1) {
    time = schedule?.next(time) ?? Number.NaN;
    found.push(new Date(time).toISOString().slice(0, 16));
  }
  return found;
}

describe('a schedule', () => {
  test.each([
    ['every 15min', ['2026-11-28T12:15', '2026-11-28T12:30', '2026-11-28T12:45']],
    ['Every 15 m', ['2026-11-28T12:15', '2026-11-28T12:30', '2026-11-28T12:45']],
    ['every 6h', ['2026-11-28T18:00', '2026-11-29T00:00', '2026-11-29T06:00']],
    ['hourly', ['2026-11-28T13:00', '2026-11-28T14:00', '2026-11-28T15:00']],
    ['daily', ['2026-11-29T00:00', '2026-11-30T00:00', '2026-12-01T00:00']],
    ['daily at 9:05', ['2026-11-29T09:05', '2026-11-30T09:05', '2026-12-01T09:05']],
    ['weekly', ['2026-11-30T00:00', '2026-12-07T00:00', '2026-12-14T00:00']],
    ['weekly on  sunday at 23:59', ['2026-11-29T23:59', '2026-12-06T23:59', '2026-12-13T23:59']],
    ['monthly at 01:00', ['2026-12-01T01:00', '2027-01-01T01:00', '2027-02-01T01:00']],
    ['monthly on 28', ['2026-12-28T00:00', '2027-01-28T00:00', '2027-02-28T00:00']],
  ])('%j is taken at %j', (text, expected) => {
    expect(scheduleFault(text)).toBeUndefined();
    expect(times(text, 'UTC', '2026-11-28T12:00:00.000Z')).toEqual(expected);
  });

  test.each([
    'every 7min',
    'every 1min',
    'every 60min',
    'every 5h',
    'every 24h',
    'every 0h',
    'daily at 24:00',
    'daily at 12',
    'weekly on caturday',
    'monthly on 31',
    'monthly on 0',
    '* * * * *',
    'sometimes',
    '',
  ])('%j is refused', (text) => {
    expect(scheduleFault(text)).toMatch(/^is /);
    expect(scheduleOf(text, 'UTC')).toBeUndefined();
  });

  test('may be off', () => {
    expect([scheduleFault('off'), scheduleOf('off', 'UTC')]).toEqual([undefined, undefined]);
  });

  test('is in local time', () => {
    expect(times('daily at 02:30', 'America/New_York', '2026-07-01T00:00Z', 1)).toEqual(['2026-07-01T06:30']);
  });

  test('comes once a day when clocks change, and at each hour that there is', () => {
    const berlin = (text: string, from: string) => times(text, 'Europe/Berlin', from);
    // 02:30 is skipped on March 29, and comes twice on October 25.
    expect(berlin('daily at 02:30', '2026-03-28T00:00Z')).toEqual([
      '2026-03-28T01:30',
      '2026-03-29T01:00',
      '2026-03-30T00:30',
    ]);
    expect(berlin('daily at 02:30', '2026-10-24T12:00Z')).toEqual([
      '2026-10-25T00:30',
      '2026-10-26T01:30',
      '2026-10-27T01:30',
    ]);
    expect(berlin('hourly', '2026-10-24T23:30Z')).toEqual(['2026-10-25T00:00', '2026-10-25T01:00', '2026-10-25T02:00']);
    expect(berlin('hourly', '2026-03-28T23:30Z')).toEqual(['2026-03-29T00:00', '2026-03-29T01:00', '2026-03-29T02:00']);
  });
});

describe('the calendar', () => {
  const at = (zone: string, time: string) => calendar(zone)(Date.parse(time));

  test('has hours, days, weeks, months and years of the zone', () => {
    expect(at('Asia/Kolkata', '2026-12-31T18:45Z')).toEqual({
      hourly: '2027-01-01 00 GMT+05:30',
      daily: '2027-01-01',
      weekly: '2026-W53',
      monthly: '2027-01',
      yearly: '2027',
    });
  });

  test('tells the hour that comes twice from its repetition', () => {
    const hours = ['2026-10-25T00:30Z', '2026-10-25T01:30Z'].map((time) => at('Europe/Berlin', time).hourly);
    expect(hours).toEqual(['2026-10-25 02 GMT+02:00', '2026-10-25 02 GMT+01:00']);
  });

  // From the table of ISO 8601 weeks at the turns of years.
  test.each([
    ['2005-01-01', '2004-W53'],
    ['2005-12-31', '2005-W52'],
    ['2007-01-01', '2007-W01'],
    ['2008-12-29', '2009-W01'],
    ['2010-01-03', '2009-W53'],
    ['2024-02-29', '2024-W09'],
  ])('%s is in %s', (day, week) => {
    expect(at('UTC', `${day}T12:00Z`).weekly).toBe(week);
  });
});

test('names of automatic snapshots are known, and others are not taken for them', () => {
  const name = automaticName(Date.parse('2026-11-28T14:00:00.999Z'));
  expect(name).toBe('auto-2026-11-28T14-00-00Z');
  expect(isAutomatic(name)).toBe(true);
  for (const other of ['auto-2026-11-28', 'auto-', 'automatic', `${name}x`, `my-${name}`, 'monday']) {
    expect(isAutomatic(other)).toBe(false);
  }
});
