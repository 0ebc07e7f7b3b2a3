import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { changePolicy, noPolicy, type PolicyChanges, policyFile, policyRows, readPolicy } from '@verfs/snapshots';

let volume: string;

beforeEach(() => {
  volume = mkdtempSync(join(tmpdir(), 'verfs-test-policy-'));
});

afterEach(() => {
  chmodSync(volume, 0o700);
  rmSync(volume, { recursive: true });
});

test('a volume without a file has no policy', () => {
  expect(readPolicy(volume)).toEqual(noPolicy);
  expect(noPolicy).toMatchObject({ schedule: 'off', 'keep.last': 0, 'keep.min_age': 0 });
});

test('changes are kept, one after the other', () => {
  changePolicy(volume, { schedule: 'daily at 02:30', 'keep.daily': 7, 'keep.min_age': '2d', note: '"ü"' });
  const policy = changePolicy(volume, { 'keep.daily': 14 });
  expect(policy).toEqual({
    ...noPolicy,
    schedule: 'daily at 02:30',
    note: '"ü"',
    'keep.daily': 14,
    'keep.min_age': 2 * 86_400_000,
  });
  expect(readPolicy(volume)).toEqual(policy);
  expect(readdirSync(volume)).toEqual(['policy.toml']);
  expect(statSync(policyFile(volume)).mode & 0o777).toBe(0o600);
  expect(readFileSync(policyFile(volume), 'utf8')).toBe(
    'schedule = "daily at 02:30"\nnote = "\\"ü\\""\n\n[keep]\ndaily = 14\nmin_age = "2d"\n',
  );
});

test.each([
  [{ schedule: 'every 7min' }, 'VERFS_E_CONFIG_TYPE', 'policy: schedule is every 5, 6,'],
  [{ schedule: 3 }, 'VERFS_E_CONFIG_TYPE', 'policy: schedule is `off`, `every 15min`'],
  [{ note: 'two\nlines' }, 'VERFS_E_CONFIG_TYPE', 'has no control characters'],
  [{ 'keep.last': -1 }, 'VERFS_E_CONFIG_TYPE', 'is at least 0'],
  [{ 'keep.min_age': '5' }, 'VERFS_E_CONFIG_UNIT', 'needs one of the units'],
  [{ 'keep.minage': '5d' }, 'VERFS_E_CONFIG_KEY', 'did you mean keep.min_age? docs/SNAPSHOTS.md lists every key.'],
])('%j gives %s, and changes nothing', (change, code, message) => {
  changePolicy(volume, { schedule: 'hourly' });
  expect(() => changePolicy(volume, change as PolicyChanges)).toThrow(
    expect.objectContaining({ code, message: expect.stringContaining(message) }),
  );
  expect(readPolicy(volume)).toEqual({ ...noPolicy, schedule: 'hourly' });
});

test('mistakes of somebody who edits the file are told with its path', () => {
  writeFileSync(policyFile(volume), 'schedule = "sometimes"\n');
  const told = expect.objectContaining({ code: 'VERFS_E_CONFIG_TYPE', path: policyFile(volume) });
  expect(() => readPolicy(volume)).toThrow(told);
  expect(() => changePolicy(volume, { note: 'x' })).toThrow(told);
  writeFileSync(policyFile(volume), 'schedule = "hourly"');
  changePolicy(volume, { note: 'x' });
  expect(readPolicy(volume)).toMatchObject({ schedule: 'hourly', note: 'x' });
});

test('a file that cannot be written is told', () => {
  expect(() => changePolicy(join(volume, 'absent'), { note: 'x' })).toThrow(
    expect.objectContaining({ code: 'VERFS_E_IO', path: policyFile(join(volume, 'absent')) }),
  );
});

test('docs/SNAPSHOTS.md has every key as the table has it', () => {
  const page = readFileSync(new URL('../../../docs/SNAPSHOTS.md', import.meta.url), 'utf8').split('\n');
  expect(policyRows().filter((row) => !page.includes(row))).toEqual([]);
});
