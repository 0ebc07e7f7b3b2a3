import { describe, expect, test } from '@jest/globals';
import { NotAVolumeError, SuperblockDamagedError } from '@verfs/errors';
import * as machine from '../src/doctor/machine.ts';
import * as volume from '../src/doctor/volume.ts';

const now = Date.parse('2026-11-28T12:00:00Z');

/** A machine with these files. */
function machineWith(kernel: string, files: Readonly<Record<string, string>> = {}, time = now): machine.Machine {
  return { kernel, read: (path) => files[path], now: () => time };
}

const ring = '/sys/module/fuse/parameters/enable_uring';
const limits = (soft: string) => `Limit  Soft  Hard  Units\nMax open files            ${soft}  4096  files\n`;

describe('the machine', () => {
  test.each([
    ['5.4.0-generic', 'warning'],
    ['5.15.0', 'ok'],
    ['6.1.0', 'ok'],
  ])('kernel %s: %s', (kernel, verdict) => {
    expect(machine.kernel(machineWith(kernel))).toMatchObject({ verdict });
  });

  test.each([
    ['6.12.1', {}, 'note', 'has no io_uring'],
    ['6.14.0', {}, 'note', 'built without'],
    ['6.14.0', { [ring]: 'N\n' }, 'note', 'is off'],
    ['7.0.0', { [ring]: 'Y\n' }, 'ok', 'is on'],
  ])('io_uring of %s with %j: %s', (kernel, files, verdict, found) => {
    expect(machine.ring(machineWith(kernel, files))).toMatchObject({ verdict, found: expect.stringContaining(found) });
  });

  test.each([
    [limits('256'), 'warning'],
    [limits('1024'), 'ok'],
    [limits('unlimited'), 'ok'],
    ['', 'warning'],
  ])('the limit of open files in %j: %s', (text, verdict) => {
    expect(machine.openFiles(machineWith('6.1', { '/proc/self/limits': text }))).toMatchObject({ verdict });
  });

  test('a clock of the past is a problem', () => {
    expect(machine.clock(machineWith('6.1'))).toMatchObject({ verdict: 'ok' });
    expect(machine.clock(machineWith('6.1', {}, 0))).toMatchObject({ verdict: 'problem' });
  });
});

describe('the volume', () => {
  test('that is missing is no fault, and a damaged one is', async () => {
    const missing = await volume.superblock('/v', () => Promise.reject(new NotAVolumeError('no', { path: '/v' })));
    expect(missing).toMatchObject({ verdict: 'note' });
    const damaged = await volume.superblock('/v', () => Promise.reject(new SuperblockDamagedError('bad')));
    expect(damaged).toMatchObject({ verdict: 'problem' });
  });

  test('that was not checked for long is told of', () => {
    expect(volume.scrubbed(undefined, now)).toMatchObject({ verdict: 'note' });
    expect(volume.scrubbed(now - 86_400_000, now)).toMatchObject({ verdict: 'ok' });
    expect(volume.scrubbed(now - 100 * 86_400_000, now)).toMatchObject({ verdict: 'note' });
  });

  test('with damaged files, or a policy that fails, says so', () => {
    const status = {
      damaged: [{ path: '/bad', pack: '1', detail: 'd' }],
      policy: { schedule: 'hourly', next: null, lastError: { time: now, message: 'full' } },
      scrub: { ended: undefined },
      mountpoint: '/m',
    };
    const found = volume.served(status as never);
    expect(found).toContainEqual(expect.objectContaining({ check: 'damage', verdict: 'problem' }));
    expect(found).toContainEqual(expect.objectContaining({ check: 'policy', verdict: 'warning' }));
  });
});
