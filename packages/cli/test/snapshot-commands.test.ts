import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { serveControl } from '../../sdk/src/control/server.ts';
import { snapshotHandlers, vaultHandlers } from '../../sdk/src/daemon/handlers.ts';
import { LocalVault } from '../../sdk/src/local-vault.ts';
import { LocalPolicy } from '../../sdk/src/policy.ts';
import { prepareRuntimeDirectory, register, socketPath, unregister } from '../../sdk/src/registry.ts';
import { FakeSnapshots } from '../../sdk/test/fake-snapshots.ts';
import { FakeVault } from '../../sdk/test/fake-vault.ts';
import { main } from '../src/main.ts';
import { pathInVolume } from '../src/volume-paths.ts';

const silent = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
const uuid = `00000000-0000-4000-8001-${String(process.pid).padStart(12, '0')}`;

let directory: string;
let calls: FakeSnapshots;
let close: () => Promise<void>;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'verfs-test-commands-'));
  calls = new FakeSnapshots();
  prepareRuntimeDirectory();
  const unused = () => Promise.reject(new Error('not of this test'));
  const policy = new LocalPolicy(directory, 'read-write', calls);
  const handlers = {
    ...snapshotHandlers(calls, policy, () => undefined),
    ...vaultHandlers(new LocalVault(new FakeVault())),
    status: unused,
    stats: unused,
    info: unused,
    gc: unused,
    gcPlan: unused,
    gcStatus: unused,
    scrub: unused,
    scrubStop: unused,
    scrubStatus: unused,
    events: unused,
    sync: unused,
    usage: unused,
    import: unused,
    export: unused,
    freeze: unused,
    thaw: unused,
    configSet: unused,
    configReload: unused,
    unmount: unused,
  };
  const server = await serveControl(socketPath(uuid), handlers, silent);
  register({ uuid, pid: process.pid, volume: directory, mountpoint: '/mnt/v' });
  close = () => server.close();
});

afterEach(async () => {
  process.exitCode = 0;
  unregister(uuid);
  await close();
  rmSync(directory, { recursive: true });
});

/** What `verfs WORDS --volume DIRECTORY` writes, and its exit code. */
async function verfs(...words: string[]): Promise<{ out: string[]; err: string; code: number }> {
  let [out, err] = ['', ''];
  const stdout = jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  const stderr = jest.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += String(text);
    return true;
  });
  process.exitCode = 0;
  try {
    await main([...words, '--volume', directory]);
  } finally {
    stdout.mockRestore();
    stderr.mockRestore();
  }
  return { out: out.trimEnd().split('\n'), err, code: Number(process.exitCode) };
}

const json = async (...words: string[]) => {
  const { out } = await verfs(...words, '--json');
  return out.map((line): unknown => JSON.parse(line));
};

describe('verfs snapshot', () => {
  test('what takes long tells on a terminal how far it is, and with --quiet nothing', async () => {
    const { isTTY } = process.stderr;
    process.stderr.isTTY = true;
    await calls.snapshotCreate('a', '');
    calls.work = { inodes: 3, ofInodes: 10, bytes: 2048, records: 0 };
    calls.waits = () => sleep(2800);
    const commands = { clone: ['a', '/x'], restore: ['a', 'x'], rollback: ['a'] };
    for (const [command, words] of Object.entries(commands)) {
      const { err } = await verfs('snapshot', command, ...words);
      expect(err).toMatch(/(cloning|restoring x|rolling back): 3 of 10 files, 2\.0 KiB, 0:0[23]\n$/);
    }
    calls.work = { inodes: 0, ofInodes: 0, bytes: 0, records: 12 };
    expect((await verfs('snapshot', 'rollback', 'a')).err).toMatch(/rolling back: 12 records, 0:0[23]\n$/);
    expect((await verfs('snapshot', 'rollback', 'a', '--quiet')).err).toBe('');
    calls.waits = async () => undefined;
    expect((await verfs('snapshot', 'rollback', 'a')).err).toBe('');
    process.stderr.isTTY = isTTY;
  }, 30_000);

  test('takes, lists, holds and deletes', async () => {
    expect((await verfs('snapshot', 'list')).out[0]).toContain('There is no snapshot.');
    expect(await verfs('snapshot', 'create', 'monday', '--note', 'before')).toMatchObject({
      out: ['Took the snapshot monday.'],
      code: 0,
    });
    expect(await json('snapshot', 'create', '2026')).toEqual([
      expect.objectContaining({ id: 2, name: '2026', note: '', holds: [] }),
    ]);
    expect((await verfs('snapshot', 'hold', 'monday', '--tag', 'backup')).out).toEqual([
      'The snapshot monday is held.',
    ]);
    const { out } = await verfs('snapshot', 'list');
    expect(out[0]).toBe('Name    Taken                   Used     Size  Note');
    expect(out[1]).toMatch(
      /^monday {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}1.0 KiB {2}1.0 MiB {2}held by backup; before$/,
    );
    expect(await verfs('snapshot', 'delete', 'monday')).toMatchObject({
      err: expect.stringContaining('The snapshot monday is held.'),
      code: 63,
    });
    expect(await json('snapshot', 'release', 'monday', '--tag', 'backup')).toEqual([
      { released: ['monday'], tag: 'backup' },
    ]);
    expect(await json('snapshot', 'delete', 'monday', '2026', 'monday')).toEqual([{ deleted: ['monday', '2026'] }]);
    expect(await json('snapshot', 'list')).toEqual([{ snapshots: [] }]);
  });

  test('deletes none when one of them is not there', async () => {
    await verfs('snapshot', 'create', 'a');
    expect(await verfs('snapshot', 'delete', 'a', 'b')).toMatchObject({
      err: expect.stringContaining('There is no snapshot b; nothing was done. `verfs snapshot list` shows them.'),
      code: 60,
    });
    expect(calls.list.length).toBe(1);
  });

  test('shows what changed, one change a line', async () => {
    await verfs('snapshot', 'create', 'a');
    calls.batches = [
      [
        { kind: 'added', path: 'new\nline', type: 'file', sizeAfter: 2048 },
        { kind: 'removed', path: 'old', type: 'directory' },
      ],
      [
        { kind: 'changed', path: 'docs/x', type: 'file', sizeBefore: 1024, sizeAfter: 512 },
        { kind: 'renamed', path: 'b', from: 'a', type: 'file', sizeBefore: 10, sizeAfter: 10 },
      ],
    ];
    expect((await verfs('snapshot', 'diff', 'a')).out).toEqual([
      '+ "new\\nline" (2.0 KiB)',
      '- old/',
      '~ docs/x (1.0 KiB to 512 B)',
      '> a to b (10 B)',
      '1 added, 1 removed, 1 changed, 1 renamed; more by 1.5 KiB',
    ]);
    expect(await json('snapshot', 'diff', 'a', 'b')).toEqual([
      ...calls.batches.flat(),
      { summary: { added: 1, removed: 1, changed: 1, renamed: 1, grownBytes: 1536 } },
    ]);
    expect(calls.noted).toEqual([
      ['diff', 'a', undefined],
      ['diff', 'a', 'b'],
    ]);
  });

  test('waits for whoever reads the changes, and stops when he has enough', async () => {
    await calls.snapshotCreate('a', '');
    calls.batches = Array.from({ length: 10_000 }, (_, index) => [
      { kind: 'added', path: `${index}/${'.'.repeat(1000)}`, type: 'file', sizeAfter: 1 },
    ]);
    const words = ['snapshot', 'diff', 'a', '--volume', directory].map((word) => JSON.stringify(word)).join(', ');
    const program = fileURLToPath(new URL('../dist/main.js', import.meta.url));
    const script = `import(${JSON.stringify(program)}).then(({ main }) => main([${words}]))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    // It goes on until every buffer on the way is full.
    let given = -1;
    while (given <= 0 || given < calls.batchesGiven) {
      given = calls.batchesGiven;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    expect(given).toBeLessThan(1000);
    child.stdout.destroy();
    expect(await ended).toBe(0);
    expect(calls.batchesGiven).toBeLessThan(1000);
  });

  test('goes back, clones and restores, by paths in the mount or in the volume', async () => {
    await verfs('snapshot', 'create', 'a');
    await verfs('snapshot', 'rollback', 'a');
    await verfs('snapshot', 'clone', 'a', '/mnt/v/copies/a');
    const { out } = await verfs('snapshot', 'restore', 'a', 'docs/x', '/mnt/v/y', '--to', 'old');
    expect(out).toEqual(['Restored docs/x to old/x from a.', 'Restored y to old/y from a.']);
    expect(await json('snapshot', 'restore', 'a', 'docs')).toEqual([
      { name: 'a', restored: [{ path: 'docs', target: 'docs' }] },
    ]);
    expect(calls.noted).toEqual([
      ['rollback', 'a'],
      ['clone', 'a', 'copies/a'],
      ['restore', 'a', 'docs/x', 'old/x'],
      ['restore', 'a', 'y', 'old/y'],
      ['restore', 'a', 'docs', undefined],
    ]);
    expect((await verfs('snapshot', 'restore', 'a', 'b/x', 'c/x', '--to', 'old')).code).toBe(2);
  });

  test.each([
    [['snapshot'], 'Name a command of `verfs snapshot`'],
    [['snapshot', 'create'], 'Not enough non-option arguments'],
    [['snapshot', 'crate', 'a'], 'did you mean create?'],
    [['snapshot', 'delete', 'a', ''], 'names is empty'],
    [['policy', 'set'], 'Nothing is set'],
    [['policy', 'set', '--keep-dayly', '3'], 'Unknown'],
  ])('%j is wrong usage', async (words, said) => {
    expect(await verfs(...words)).toMatchObject({ code: 2, err: expect.stringContaining(said) });
  });
});

describe('verfs policy', () => {
  test('shows and changes', async () => {
    expect((await verfs('policy', 'show')).out).toEqual([
      'Schedule  off',
      'Next      none by itself',
      'Keep      all',
      'Scrub     monthly',
    ]);
    const { out } = await verfs(
      ...['policy', 'set', '--schedule', 'daily at 02:30', '--keep-last', '3', '--keep-daily', '7'],
      ...['--keep-min-age', '36h', '--note', 'by itself'],
    );
    expect(out).toEqual([
      'Schedule      daily at 02:30',
      expect.stringMatching(/^Next {10}20/),
      'Note          by itself',
      'Keep          3 last, 7 daily',
      'Scrub         monthly',
      'At least for  36h',
    ]);
    expect(await json('policy', 'set', '--note', '')).toEqual([
      { policy: expect.objectContaining({ note: '', schedule: 'daily at 02:30' }), next: expect.any(Number) },
    ]);
  });

  test.each([
    [['--schedule', 'sometimes'], 11, 'policy: schedule is "off", "every 15min"'],
    [['--keep-last', 'many'], 11, 'policy: keep.last is a whole number, and is "many" now'],
    [['--keep-min-age', '3'], 12, 'policy: keep.min_age needs one of the units'],
  ])('refuses %j', async (words, code, said) => {
    expect(await verfs('policy', 'set', ...words)).toMatchObject({ code, err: expect.stringContaining(said) });
  });

  test('runs, and tells before what it would do', async () => {
    await verfs('policy', 'set', '--schedule', 'hourly', '--keep-last', '1');
    const told = await verfs('policy', 'run', '--dry-run');
    expect(told.out[0]).toMatch(/^Would take the snapshot auto-/);
    expect(told.out.at(-1)).toMatch(/^auto-\S+ {2}20.* {2}last$/);
    expect(calls.list).toEqual([]);
    expect((await verfs('policy', 'run')).out[0]).toMatch(/^Took the snapshot auto-/);
    expect(calls.list.length).toBe(1);
    expect((await verfs('policy', 'run')).out[0]).toBe('No snapshot is due.');
    expect(await json('policy', 'run')).toEqual([
      { mode: 'done', taken: null, pruned: [], kept: [expect.any(Object)], failures: [], next: expect.any(Number) },
    ]);
  });

  test('fails when something of it does', async () => {
    await calls.snapshotCreate('auto-2026-11-01T00-00-00Z', '');
    await calls.snapshotCreate('auto-2026-11-02T00-00-00Z', '');
    await verfs('policy', 'set', '--keep-last', '1');
    calls.snapshotDelete = () => Promise.reject(new TypeError('a bug'));
    const { out, code } = await verfs('policy', 'run');
    expect(out).toContainEqual(expect.stringMatching(/^Failed for auto-.*a bug/));
    expect(code).toBe(1);
  });
});

test.each([
  ['/mnt/v/a/b', '/mnt/v', '/home', 'a/b'],
  ['/mnt/v', '/mnt/v', '/home', ''],
  ['/mnt/value', '/mnt/v', '/home', 'mnt/value'],
  ['b', '/mnt/v', '/mnt/v/a', 'a/b'],
  ['../b', '/mnt/v', '/mnt/v/a', 'b'],
  ['../../b', '/mnt/v', '/mnt/v/a', 'b'],
  ['b', '/mnt/v', '/home', 'b'],
  ['a/../b', undefined, '/home', 'b'],
  ['/a', undefined, '/home', 'a'],
  ['..b', '/mnt/v', '/mnt/v', '..b'],
])('%j with the mount %j from %j is %j', (given, mountpoint, current, expected) => {
  expect(pathInVolume(given, mountpoint, current)).toBe(expected);
});
