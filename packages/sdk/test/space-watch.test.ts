import { expect, test } from '@jest/globals';
import type { Log } from '@verfs/log';
import { SpaceWatch } from '../src/daemon/space-watch.ts';
import { type Room, spaceState } from '../src/space-state.ts';

const gibibyte = 1024 ** 3;

test.each([
  ['enough', 100 * gibibyte, gibibyte],
  ['low', 100 * gibibyte, gibibyte - 1],
  ['enough', gibibyte, gibibyte / 16],
  ['low', gibibyte, gibibyte / 16 - 1],
  ['full', gibibyte, 0],
])('a disk has %s room', (state, totalBytes, freeBytes) => {
  expect(spaceState({ totalBytes, freeBytes })).toBe(state);
});

test('each change is told once, and a disk that cannot be asked changes nothing', async () => {
  const told: string[] = [];
  const tell = (level: string) => (message: string) => told.push(`${level} ${message}`);
  const log = { error: tell('error'), warn: tell('warn'), info: tell('info'), debug: tell('debug') } as Log;
  let room: Room | Error = { totalBytes: gibibyte, freeBytes: gibibyte };
  const watch = new SpaceWatch(() => (room instanceof Error ? Promise.reject(room) : Promise.resolve(room)), log);
  const looks: (Room | Error)[] = [
    room,
    { totalBytes: gibibyte, freeBytes: 50 * 1024 ** 2 },
    { totalBytes: gibibyte, freeBytes: 40 * 1024 ** 2 },
    new Error('the disk hangs'),
    { totalBytes: gibibyte, freeBytes: 0 },
    { totalBytes: gibibyte, freeBytes: gibibyte / 2 },
  ];
  for (const next of looks) {
    room = next;
    await watch.look();
  }
  expect(told).toEqual([
    expect.stringMatching(/^warn .* nearly full: 50 MiB of 1024 MiB are left/),
    expect.stringMatching(/^warn .* full, and changes are refused: 0 MiB/),
    expect.stringMatching(/^info .* room again: 512 MiB/),
  ]);
});
