import { expect, test } from '@jest/globals';
import type { GcStatus, Stats } from '@verfs/sdk';
import { linesThatFit } from '../src/commands/top.ts';
import { ratesOf, type Sample, topScreen } from '../src/top-screen.ts';

const gc: GcStatus = {
  active: false,
  running: { phase: 'idle', packsListed: 0, packsRemoved: 0, packsLeft: 0, movedBytes: 0, reclaimedBytes: 0 },
  collections: 0,
  reclaimedBytes: 0,
  movedBytes: 0,
  deadBytes: 0,
  storedBytes: 0,
  failure: '',
} as GcStatus;

const nothing: Stats = {
  logicalBytes: 0,
  uniqueBytes: 0,
  storedBytes: 0,
  files: 0,
  directories: 0,
  dedupHits: 0,
  dedupMisses: 0,
  chunkCacheHits: 0,
  chunkCacheMisses: 0,
  readBytes: 0,
  writtenBytes: 0,
  dirtyBytes: 0,
  queueDepth: 0,
  groupsCommitted: 0,
  logFrames: 0,
  metaBytes: 0,
  packs: 0,
  deadBytes: 0,
  gcReclaimedBytes: 0,
  freeBytes: 0,
  totalBytes: 0,
  memoryRssBytes: 0,
  opLatencies: [],
  damaged: [],
  tasks: [],
  overdue: [],
  refusedRequests: 0,
};

const sample = (at: number, stats: Partial<Stats>): Sample => ({ at, stats: { ...nothing, ...stats }, gc });
const latency = (op: string, count: number, meanUs: number) => ({ op, count, meanUs, p50Us: 1, p99Us: 2, maxUs: 3 });

test('rates are of what came between two looks', () => {
  const before = sample(1000, { readBytes: 100, chunkCacheHits: 5, opLatencies: [latency('read', 10, 100)] });
  const now = sample(3000, {
    readBytes: 2100,
    writtenBytes: 4000,
    chunkCacheHits: 8,
    chunkCacheMisses: 1,
    groupsCommitted: 3,
    opLatencies: [latency('read', 30, 200), latency('write', 2, 50), latency('statfs', 0, 0)],
  });
  expect(ratesOf(before, now)).toEqual({
    seconds: 2,
    readBytesPerSecond: 1000,
    writtenBytesPerSecond: 2000,
    operationsPerSecond: 11,
    // 30 of 200 us, less 10 of 100 us.
    operations: [
      { op: 'read', perSecond: 10, meanUs: 250 },
      { op: 'write', perSecond: 1, meanUs: 50 },
    ],
    chunkCacheHitShare: 0.75,
    dedupHitShare: null,
    groupsPerSecond: 1.5,
    logFramesPerSecond: 0,
    reclaimedBytesPerSecond: 0,
  });
});

test('a mount that began anew between two looks counts from nothing, never below', () => {
  const before = sample(0, { readBytes: 9000, opLatencies: [latency('read', 500, 100)] });
  const now = sample(1000, { readBytes: 1000, opLatencies: [latency('read', 5, 10)] });
  expect(ratesOf(before, now)).toMatchObject({
    readBytesPerSecond: 1000,
    operations: [{ op: 'read', perSecond: 5, meanUs: 10 }],
  });
});

test('the screen has what flows and what stands, and the operations, the most frequent first', () => {
  const before = sample(0, {});
  const now = sample(1000, {
    readBytes: 1536 * 1024,
    logicalBytes: 4 << 20,
    uniqueBytes: 2 << 20,
    storedBytes: 1 << 20,
    files: 7,
    opLatencies: [latency('lookup', 5, 20), latency('read', 50, 1500)],
  });
  const screen = topScreen('/mnt/a', ratesOf(before, now), now);
  expect(screen[0]).toBe('verfs top: /mnt/a');
  expect(screen.join('\n')).toContain('Read      1.5 MiB/s       Written   0 B/s');
  expect(screen.join('\n')).toContain('Stored    1.0 MiB for 4.0 MiB in 7 files (dedup 2.00x, compression 2.00x)');
  expect(screen.slice(-2)).toEqual([
    'read             50.0  1.5 ms  2 us           50',
    'lookup            5.0   20 us  2 us            5',
  ]);
  expect(Math.max(...screen.map((line) => line.length))).toBeLessThan(100);
});

test('a terminal of one line has the heading, and one that does not know its size has everything', () => {
  const lines = ['heading', 'first', 'second'];
  expect(linesThatFit(lines, { rows: 1, columns: 4 })).toEqual(['head']);
  expect(linesThatFit(lines, { rows: 3, columns: 80 })).toEqual(['heading', 'first']);
  expect(linesThatFit(lines, { rows: 0, columns: 0 })).toEqual(lines);
});
