import { expect, test } from '@jest/globals';
import { exportSource } from '../src/commands/transfer.ts';

test.each([
  ['monday:docs/report', 'monday', 'docs/report'],
  ['monday:', 'monday', ''],
  ['monday:a:b', 'monday', 'a:b'],
  ['docs/a:b', undefined, 'docs/a:b'],
  ['./a:b', undefined, './a:b'],
  ['/a:b', undefined, '/a:b'],
  [':a', undefined, ':a'],
  ['docs', undefined, 'docs'],
])('%s is of the snapshot %s, %s', (given, snapshot, path) => {
  expect(exportSource(given)).toEqual({ snapshot, path });
});
