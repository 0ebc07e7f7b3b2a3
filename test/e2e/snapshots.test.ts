import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { SnapshotChange } from 'verfs';
import { Volume } from 'verfs';
import { run, shell } from '../harness/command.ts';
import { type ReportedError, repository, Sandbox, until } from '../harness/sandbox.ts';

interface Listed {
  readonly snapshots: readonly {
    readonly id: number;
    readonly name: string;
    readonly note: string;
    readonly created: number;
    readonly usedBytes: number;
    readonly logicalBytes: number;
    readonly files: number;
    readonly directories: number;
    readonly holds: readonly string[];
  }[];
}

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const onVolume = () => ['--volume', sandbox.volume];

/** What `verfs snapshot WORDS` writes as text; fails when it does. */
async function said(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await sandbox.verfs(['snapshot', ...words, ...onVolume()]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout.trimEnd();
}

const json = <T>(...words: string[]) => sandbox.json<T>(['snapshot', ...words, ...onVolume()]);

/** The lines of JSON of a diff: the changes, and the summary at the end. */
async function diffOf(...words: string[]): Promise<{ changes: SnapshotChange[]; summary: unknown }> {
  const lines = (await said('diff', ...words, '--json')).split('\n').map((line) => JSON.parse(line));
  return { summary: lines.pop().summary, changes: lines };
}

const listed = async () => (await json<Listed>('list')).snapshots;

/** The exit code of `verfs snapshot WORDS`, the code of its error, and what it says. */
async function failure(...words: string[]): Promise<[number, string, string]> {
  const text = await sandbox.verfs(['snapshot', ...words, ...onVolume()]);
  const programs = await sandbox.verfs(['snapshot', ...words, ...onVolume(), '--json']);
  const error = JSON.parse(`${programs.stdout}${programs.stderr}`) as { error: ReportedError } & ReportedError;
  expect([text.stdout, text.code]).toEqual(['', programs.code]);
  expect(text.stderr.trim().split('\n').length).toBe(1);
  return [text.code, (error.error ?? error).code, text.stderr.trim()];
}

/** The checksums of all files below `directory`, which has to be as `rsync -n` would have it, too. */
const sumsOf = (directory: string) =>
  shell('find . -type f -print0 | sort -z | xargs -0 sha256sum', { cwd: directory });

/** What rsync would do to make `copy` the same as `original`: names, contents, modes, owners, times, links. */
const differences = (original: string, copy: string) =>
  shell(`rsync -naHAXi --checksum --delete '${original}/' '${copy}/'`);

/** Fills the mount with real files, of which a copy stays outside, at `original`. */
async function fill(original: string): Promise<void> {
  const script = `
    mkdir -p all/deep/er && cp -a ${repository}/packages/errors all/code && cp -a ${repository}/docs all/docs
    head -c 3000000 /dev/urandom > all/random && ln all/random all/deep/hard && ln -s ../docs all/deep/soft
    truncate -s 5M all/sparse && mkfifo all/deep/pipe && chmod 2750 all/deep && touch -d @1000000000.5 all/docs
    setfattr -n user.tag -v value all/random
    cp -a . '${original}'`;
  mkdirSync(original);
  await shell(script, { cwd: sandbox.mountpoint });
}

/** Changes, deletes, renames and adds. */
const scramble = () =>
  shell(
    `rm -r all/docs all/deep/hard && mv all/code/src all/moved && echo more >> all/random
     echo new > all/new && chmod 700 all/deep && truncate -s 1M all/sparse && ln -sf nowhere all/deep/soft`,
    { cwd: sandbox.mountpoint },
  );

describe.each(['mounted', 'not mounted'])('a volume that is %s', (state) => {
  /** Runs `use` in a mount; leaves the volume as the test wants it. */
  async function inMount(use: () => Promise<unknown>): Promise<void> {
    if (state === 'not mounted') {
      await sandbox.mount();
    }
    await use();
    if (state === 'not mounted') {
      await sandbox.unmount();
    }
  }

  beforeEach(async () => {
    await sandbox.mount();
    if (state === 'not mounted') {
      await sandbox.unmount();
    }
  });

  test('has snapshots, which are listed, held and deleted', async () => {
    expect(await said('list')).toContain('There is no snapshot.');
    expect(await listed()).toEqual([]);
    await inMount(() => shell('head -c 100000 /dev/urandom > f', { cwd: sandbox.mountpoint }));
    const began = Date.now();
    expect(await said('create', 'monday', '--note', 'before the upgrade')).toBe('Took the snapshot monday.');
    await inMount(() => shell('rm f; mkdir d', { cwd: sandbox.mountpoint }));
    const made = await json<Listed['snapshots'][number]>('create', 'dienstag ü');
    expect(made).toMatchObject({ name: 'dienstag ü', note: '', logicalBytes: 0, files: 0, directories: 2, holds: [] });
    const [monday, second] = await listed();
    expect(second).toEqual(made);
    expect(monday).toMatchObject({
      note: 'before the upgrade',
      files: 1,
      directories: 1,
      logicalBytes: 100_000,
    });
    // Its data, and the records of a file, two names and the root.
    expect(monday?.usedBytes).toBeGreaterThanOrEqual(100_000);
    expect(monday?.usedBytes).toBeLessThan(101_000);
    expect(monday?.id).toBeLessThan(made.id);
    expect(monday?.created).toBeGreaterThan(began - 1000);
    expect(monday?.created).toBeLessThan(Date.now() + 1000);

    expect(await said('hold', 'monday', '--tag', 'backup')).toBe('The snapshot monday is held.');
    expect(await json('hold', 'monday', 'dienstag ü')).toEqual({ held: ['monday', 'dienstag ü'], tag: 'manual' });
    expect(await said('list')).toMatch(/^monday .*held by backup, manual; before the upgrade$/m);
    const [code, error, text] = await failure('delete', 'monday');
    expect([code, error]).toEqual([63, 'VERFS_E_SNAPSHOT_HELD']);
    expect(text).toContain('held by backup, manual');
    expect(await json('release', 'monday', '--tag', 'backup')).toEqual({ released: ['monday'], tag: 'backup' });
    expect(await said('release', 'monday', 'dienstag ü')).toContain('Released the snapshot dienstag ü.');
    expect(await said('delete', 'monday')).toBe('Deleted the snapshot monday.');
    expect(await json('delete', 'dienstag ü')).toEqual({ deleted: ['dienstag ü'] });
    expect(await listed()).toEqual([]);
    // The name is free again.
    await said('create', 'monday');
  });

  test('is rolled back, to the last attribute', async () => {
    const original = sandbox.path('original');
    let before = '';
    await inMount(async () => {
      await fill(original);
      before = await sumsOf(sandbox.mountpoint);
    });
    await said('create', 'then');
    await inMount(scramble);
    await said('create', 'later');
    expect(await said('rollback', 'then')).toBe('The volume is what it was in the snapshot then.');
    await inMount(async () => {
      expect(await differences(original, sandbox.mountpoint)).toBe('');
      expect(await sumsOf(sandbox.mountpoint)).toBe(before);
      // And it is writable.
      await scramble();
    });
    expect(await json('rollback', 'later')).toEqual({ name: 'later' });
    expect(await diffOf('later')).toMatchObject({ changes: [] });
    expect((await listed()).map(({ name }) => name)).toEqual(['then', 'later']);
    await inMount(() => shell('test -e all/moved && test ! -e all/docs', { cwd: sandbox.mountpoint }));
  });

  test('gets clones and restored files that are the same as what was', async () => {
    const original = sandbox.path('original');
    await inMount(() => fill(original));
    await said('create', 'then');
    await inMount(scramble);
    const stored = (await stats()).storedBytes;
    expect(await said('clone', 'then', 'copies/of/then')).toBe('copies/of/then is a copy of then.');
    expect(await said('restore', 'then', 'all/docs', '/all/random')).toBe(
      'Restored all/docs from then.\nRestored all/random from then.',
    );
    expect(await json('restore', 'then', 'all/code', '--to', 'old')).toEqual({
      name: 'then',
      restored: [{ path: 'all/code', target: 'old/code' }],
    });
    await inMount(async () => {
      const { mountpoint } = sandbox;
      expect(await differences(original, `${mountpoint}/copies/of/then`)).toBe('');
      expect(await sumsOf(`${mountpoint}/copies/of/then`)).toBe(await sumsOf(original));
      expect(await differences(`${original}/all/docs`, `${mountpoint}/all/docs`)).toBe('');
      expect(await differences(`${original}/all/code`, `${mountpoint}/old/code`)).toBe('');
      expect(await shell('stat -c %a old; ls -A', { cwd: mountpoint })).toBe('755\nall\ncopies\nold\n');
      await shell(`cmp all/random '${original}/all/random'; test ! -e all/code/src`, { cwd: mountpoint });
      // A clone is written, and what it came from does not change.
      await shell('echo x >> copies/of/then/all/random', { cwd: mountpoint });
    });
    expect((await stats()).storedBytes - stored).toBeLessThan(200_000);
    await said('clone', 'then', 'again');
    await inMount(async () => {
      expect(await differences(original, `${sandbox.mountpoint}/again`)).toBe('');
    });
  });

  async function stats(): Promise<{ readonly storedBytes: number }> {
    return await sandbox.json(['stats', ...onVolume()]);
  }

  test('tells what changed', async () => {
    await inMount(() => shell('mkdir a; echo 1 > a/x; echo 22 > y; ln -s y l', { cwd: sandbox.mountpoint }));
    await said('create', 'one');
    await inMount(() => shell('mv a/x a/z; echo 4444 > y; rm l; mkdir "n\nl"', { cwd: sandbox.mountpoint }));
    await said('create', 'two');
    await inMount(() => shell('rm -r a y', { cwd: sandbox.mountpoint }));
    const { changes, summary } = await diffOf('one', 'two');
    expect(changes).toHaveLength(4);
    expect(changes).toEqual(
      expect.arrayContaining([
        { kind: 'renamed', path: 'a/z', from: 'a/x', type: 'file', sizeBefore: 2, sizeAfter: 2 },
        { kind: 'changed', path: 'y', type: 'file', sizeBefore: 3, sizeAfter: 5 },
        { kind: 'removed', path: 'l', type: 'symlink' },
        { kind: 'added', path: 'n\nl', type: 'directory' },
      ]),
    );
    expect(summary).toEqual({ added: 1, removed: 1, changed: 1, renamed: 1, grownBytes: 2 });
    const text = (await said('diff', 'one')).split('\n');
    expect(text.slice(0, -1).sort()).toEqual(['+ "n\\nl"/', '- a/', '- a/x (2 B)', '- l', '- y (3 B)'].sort());
    expect(text.at(-1)).toBe('1 added, 4 removed, 0 changed, 0 renamed; less by 5 B');
    expect(await said('diff', 'two', 'two')).toBe('0 added, 0 removed, 0 changed, 0 renamed; more by 0 B');
  });

  test('answers what is wrong with its error, and does nothing', async () => {
    const wrong: [number, string, string[], string][] = [
      [60, 'VERFS_E_SNAPSHOT_NOT_FOUND', ['rollback', 'none'], 'there is no snapshot none'],
      [60, 'VERFS_E_SNAPSHOT_NOT_FOUND', ['diff', 's', 'none'], 'no snapshot none'],
      [60, 'VERFS_E_SNAPSHOT_NOT_FOUND', ['delete', 's', 'none'], 'nothing was done'],
      [60, 'VERFS_E_SNAPSHOT_NOT_FOUND', ['clone', 'none', 'd'], 'no snapshot none'],
      [61, 'VERFS_E_SNAPSHOT_EXISTS', ['create', 's'], 'there is a snapshot s already'],
      [62, 'VERFS_E_SNAPSHOT_NAME', ['create', '..'], '".." can\'t be the name of a snapshot'],
      [62, 'VERFS_E_SNAPSHOT_NAME', ['create', 'n'.repeat(256)], "can't be the name of a snapshot"],
      [2, 'VERFS_E_USAGE', ['diff', 't', 's'], 'snapshot s is older than t'],
      [2, 'VERFS_E_USAGE', ['hold', 's'], 'held by "manual" is so already'],
      [2, 'VERFS_E_USAGE', ['release', 's', '--tag', 'x'], 'snapshot s is not held by "x"'],
      [2, 'VERFS_E_USAGE', ['clone', 's', '/'], "the root of the volume can't be replaced"],
      [2, 'VERFS_E_USAGE', ['clone', 's', 'file/below'], 'something on the way to /file/below is not a directory'],
      [66, 'VERFS_E_PATH_NOT_FOUND', ['restore', 's', 'absent'], 'there is no /absent in snapshot s'],
      [67, 'VERFS_E_PATH_EXISTS', ['clone', 's', 'file'], 'there is something at /file in the volume already'],
      [67, 'VERFS_E_PATH_EXISTS', ['restore', 's', 'file', '--to', 'd'], 'something at /d/file'],
    ];
    await inMount(() => shell('echo x > file; mkdir d; echo y > d/file', { cwd: sandbox.mountpoint }));
    await said('create', 's');
    await said('create', 't');
    await said('hold', 's');
    for (const [code, name, words, text] of wrong) {
      expect([words, ...(await failure(...words))]).toEqual([words, code, name, expect.stringContaining(text)]);
    }
    expect((await listed()).map((one) => [one.name, one.holds])).toEqual([
      ['s', ['manual']],
      ['t', []],
    ]);
    expect(await diffOf('s')).toMatchObject({ changes: [] });
  });
});

test('snapshots are taken and rolled back to while a program writes', async () => {
  await sandbox.mount();
  const writing = run('timeout', ['8', 'sh', '-c', 'while :; do echo a >> log; mkdir -p d; rmdir d; done'], {
    cwd: sandbox.mountpoint,
  });
  for (let round = 0; round < 5; round += 1) {
    await said('create', `s${round}`);
    await said('rollback', `s${Math.floor(round / 2)}`);
  }
  await writing;
  await said('rollback', 's4');
  const taken = await listed();
  expect(readFileSync(sandbox.inMount('log')).length).toBe(taken.at(-1)?.logicalBytes);
});

test('a volume that is open read-only has snapshots to look at', async () => {
  await sandbox.mount();
  await said('create', 's');
  await sandbox.unmount();
  await sandbox.mount(['-o', 'ro']);
  expect((await listed()).map(({ name }) => name)).toEqual(['s']);
  expect(await diffOf('s')).toMatchObject({ changes: [] });
  for (const words of [
    ['create', 'x'],
    ['delete', 's'],
    ['hold', 's'],
    ['rollback', 's'],
    ['clone', 's', 'd'],
  ]) {
    const [code, error, text] = await failure(...words);
    expect([words[0], code, error]).toEqual([words[0], 33, 'VERFS_E_VOLUME_READ_ONLY']);
    expect(text).toContain('is open read-only');
  }
});

describe('the library', () => {
  test.each(['in this process', 'through a daemon'])('has snapshots %s', async (where) => {
    if (where === 'in this process') {
      await Volume.create(sandbox.volume);
    } else {
      await sandbox.mount();
    }
    await using volume =
      where === 'in this process' ? await Volume.open(sandbox.volume) : await Volume.connect(sandbox.mountpoint);
    if (volume instanceof Volume) {
      await volume.mount(sandbox.mountpoint);
    }
    writeFileSync(sandbox.inMount('file'), 'old');
    const { snapshots, policy } = volume;
    expect(await snapshots.create('a', { note: 'n' })).toMatchObject({
      name: 'a',
      note: 'n',
      files: 1,
      directories: 1,
    });
    await shell('echo new > file; mkdir d; cd d; seq 1 3000 | xargs touch', { cwd: sandbox.mountpoint });

    const paths: string[] = [];
    for await (const { path } of snapshots.diff('a')) {
      paths.push(path);
    }
    expect(paths.length).toBe(3002);
    for await (const _ of snapshots.diff('a')) {
      break;
    }
    const stop = new AbortController();
    const drain = async () => {
      for await (const _ of snapshots.diff('a', undefined, { signal: stop.signal })) {
        stop.abort();
      }
    };
    await expect(drain()).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });

    await snapshots.create('b');
    const cancelled = snapshots.clone('b', 'many', { signal: AbortSignal.timeout(5) });
    await expect(cancelled).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
    // It was in the way of this one until it ended. A daemon may hear too late of the end: then it is there whole.
    await snapshots.clone('a', 'copy');
    const sameAsBefore = 'test ! -e many || { rsync -naHi --delete file d many; rm -r many; }; ls -A';
    const left = await shell(volume instanceof Volume ? 'ls -A' : sameAsBefore, { cwd: sandbox.mountpoint });
    expect(left).toBe('copy\nd\nfile\n');
    await snapshots.restore('a', 'file');
    await snapshots.restore('a', 'file', { to: 'd/file' });
    expect(await shell('cat file d/file copy/file', { cwd: sandbox.mountpoint })).toBe('oldoldold');
    await expect(snapshots.restore('a', 'none')).rejects.toMatchObject({ name: 'PathNotFoundError', path: '/none' });
    await expect(snapshots.clone('a', 'copy')).rejects.toMatchObject({ name: 'PathExistsError', path: '/copy' });
    await expect(snapshots.create('')).rejects.toMatchObject({ name: 'SnapshotNameError' });
    await snapshots.hold('a', 'tag');
    await expect(snapshots.delete('a')).rejects.toMatchObject({ name: 'SnapshotHeldError' });
    await snapshots.release('a', 'tag');
    await snapshots.rollback('a');
    expect(await shell('ls -A; cat file', { cwd: sandbox.mountpoint })).toBe('file\nold');
    await snapshots.delete('a');
    expect((await snapshots.list()).map(({ name }) => name)).toEqual(['b']);

    expect((await policy.set({ schedule: 'daily', 'keep.last': 2 })).policy).toMatchObject({ 'keep.last': 2 });
    const taken = await policy.run();
    expect(taken.failures).toEqual([]);
  });

  test('does not block the event loop', async () => {
    await sandbox.mount();
    await shell('mkdir d; cd d; seq 1 5000 | xargs touch', { cwd: sandbox.mountpoint });
    await sandbox.unmount();
    await using volume = await Volume.open(sandbox.volume);
    await volume.snapshots.create('a');
    let ticks = 0;
    const timer = setInterval(() => {
      ticks += 1;
    }, 1);
    const began = performance.now();
    await volume.snapshots.clone('a', 'copy');
    await volume.snapshots.rollback('a');
    const took = performance.now() - began;
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(Math.min(5, took / 50));
  });
});

test('a path in a snapshot is in its volume', async () => {
  await sandbox.mount();
  writeFileSync(sandbox.inMount('file'), 'x');
  await said('create', 'monday');
  const inside = sandbox.inMount('.snapshots/monday/file');
  expect(readFileSync(inside, 'utf8')).toBe('x');
  const status = await sandbox.json(['status', inside]);
  expect(status).toMatchObject({ state: 'mounted', volume: sandbox.volume, mountpoint: sandbox.mountpoint });
  expect(await sandbox.json(['sync', inside])).toMatchObject({ volume: sandbox.volume });
});

describe('a policy', () => {
  const policy = (...words: string[]) => sandbox.verfs(['policy', ...words, ...onVolume()]);
  const names = async () => (await listed()).map(({ name }) => name);

  test('is set, tried and run on a volume that is not mounted', async () => {
    await sandbox.json(['volume', 'create', sandbox.volume]);
    await said('create', 'auto-2026-01-01T00-00-00Z');
    await said('create', 'auto-2026-01-02T00-00-00Z');
    await said('create', 'by hand');
    await said('hold', 'auto-2026-01-01T00-00-00Z');
    await said('create', 'auto-2026-01-03T00-00-00Z');
    expect((await policy('set', '--keep-last', '1')).stdout).toMatch(/^Keep +1 last$/m);
    expect((await policy('show')).stdout).toMatch(/^Schedule +off$/m);
    expect(readFileSync(`${sandbox.volume}/policy.toml`, 'utf8')).toContain('last = 1');
    const before = await names();
    const told = (await policy('run', '--dry-run')).stdout;
    expect(told).toContain('Would prune auto-2026-01-02T00-00-00Z.');
    expect(told).toMatch(/^auto-2026-01-01T00-00-00Z .*held$/m);
    expect(await names()).toEqual(before);
    expect((await policy('run')).stdout).toContain('Pruned auto-2026-01-02T00-00-00Z.');
    expect(await names()).toEqual(['auto-2026-01-01T00-00-00Z', 'by hand', 'auto-2026-01-03T00-00-00Z']);
    expect(await policy('set', '--schedule', 'sometimes')).toMatchObject({ code: 11 });
  });

  test('is followed by the daemon', async () => {
    await sandbox.mount();
    writeFileSync(sandbox.inMount('file'), 'x');
    await policy('set', '--schedule', 'every 5min', '--note', 'by itself');
    await until('it took one', async () => (await names()).length > 0);
    const [taken] = await listed();
    expect(taken).toMatchObject({ name: expect.stringMatching(/^auto-/), note: 'by itself', files: 1 });
    const status = await sandbox.json<{ policy: unknown }>(['status', sandbox.mountpoint]);
    expect(status.policy).toMatchObject({ schedule: 'every 5min', lastError: null, next: expect.any(Number) });
  });

  test('has the daemon prune once it took one', async () => {
    await sandbox.json(['volume', 'create', sandbox.volume]);
    await policy('set', '--schedule', 'every 5min', '--keep-last', '1');
    await said('create', 'auto-2026-01-01T00-00-00Z');
    await said('create', 'by hand');
    // The next one is due within five minutes: a daemon whose clock is six minutes ahead finds it due.
    const clock = sandbox.path('clock.cjs');
    writeFileSync(clock, 'const now = Date.now; Date.now = () => now() + 6 * 60_000;');
    await sandbox.mount([], { env: { ...sandbox.env, NODE_OPTIONS: `--require=${clock}` } });
    await until('it pruned', async () => !(await names()).includes('auto-2026-01-01T00-00-00Z'));
    expect(await names()).toEqual(['by hand', expect.stringMatching(/^auto-/)]);
  });
});
