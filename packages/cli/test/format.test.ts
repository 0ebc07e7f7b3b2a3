import { expect, test } from '@jest/globals';
import { formatBytes, formatRows, formatTime, ratio } from '../src/format.ts';

test.each([
  [0, '0 B'],
  [1, '1 B'],
  [1023, '1023 B'],
  [1024, '1.0 KiB'],
  [1536, '1.5 KiB'],
  [64 * 1024 ** 2, '64.0 MiB'],
  [Number.MAX_SAFE_INTEGER, '8.0 PiB'],
])('%d bytes are %j', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test('rows are aligned', () => {
  expect(
    formatRows([
      ['a', '1'],
      ['long', '2'],
    ]),
  ).toEqual(['a     1', 'long  2']);
});

test('a ratio of nothing is 1', () => {
  expect([ratio(0, 0), ratio(10, 5)]).toEqual([1, 2]);
});

test('a time is shown without fractions', () => {
  expect(formatTime(1_700_000_000_123)).toMatch(/^2023-11-1[45] \d\d:\d\d:20$/);
});
