import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { type Outcome, run } from '../harness/command.ts';
import { mountpointsBelow } from '../harness/mounts.ts';
import { type ReportedError, type ReportedStatus, Sandbox, verfsProgram } from '../harness/sandbox.ts';

const commands = [[], ['mount'], ['unmount'], ['status'], ['stats'], ['sync'], ['volume']].concat([
  ['volume', 'create'],
  ['volume', 'info'],
  ['send'],
  ['receive'],
]);

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** Runs a script of `sh` in which `verfs` is the command. */
const shell = (script: string) =>
  run('sh', ['-c', `verfs() { "$NODE" "$VERFS" "$@"; }; ${script}`], {
    cwd: sandbox.root,
    env: { ...sandbox.env, NODE: process.execPath, VERFS: verfsProgram },
  });

function expectUsageError(outcome: Outcome, told: string): void {
  expect(outcome).toMatchObject({
    code: errorTable.VERFS_E_USAGE.exitCode,
    stdout: '',
    stderr: expect.stringMatching(/^verfs: [^\n]+\n$/),
  });
  expect(outcome.stderr).toContain(told);
}

describe('help', () => {
  test.each(commands)('of verfs %s %s has examples, in text and in JSON', async (...words) => {
    const args = words.filter((word) => word !== undefined);
    const text = await sandbox.verfs([...args, '--help']);
    expect(text).toMatchObject({ code: 0, stderr: '' });
    expect(text.stdout).toMatch(/^Examples:\n {2}verfs /m);
    expect(Math.max(...text.stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(110);
    const { help } = await sandbox.json<{ help: string }>([...args, '--help']);
    expect(`${help}\n`).toBe(text.stdout);
  });

  test('has the version, in text and in JSON', async () => {
    const { stdout } = await sandbox.verfs(['--version']);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(await sandbox.json(['--version'])).toEqual({ version: stdout.trim() });
  });
});

test('an answer in JSON has the same fields whether the volume is mounted or not', async () => {
  const { volume, mountpoint } = sandbox;
  const created = await sandbox.json<object>(['volume', 'create', volume]);
  expect(created).toMatchObject({ path: volume, holderPid: null });
  const unmounted = [
    await sandbox.json<object>(['volume', 'info', '--volume', volume]),
    await sandbox.json<object>(['stats', '--volume', volume]),
  ];
  expect(await sandbox.json(['status', '--volume', volume])).toMatchObject({ state: 'unmounted', holderPid: null });
  const { pid } = await sandbox.mount();
  const mounted = [
    await sandbox.json<object>(['volume', 'info', mountpoint]),
    await sandbox.json<object>(['stats', mountpoint]),
  ];
  expect(mounted.map(Object.keys)).toEqual(unmounted.map(Object.keys));
  expect(mounted[0]).toMatchObject({ holderPid: pid });
  expect(await sandbox.json(['sync', mountpoint])).toEqual({ volume, mountpoint });
  expect(await sandbox.json(['unmount', mountpoint])).toEqual({ volume, mountpoint, daemon: 'ends' });
});

test('an error is JSON whatever is wrong with the command line', async () => {
  for (const args of [[], ['nonsense'], ['volume'], ['mount', '--wrong'], ['status', '--volume', '']]) {
    for (const json of ['--json', '--json=true']) {
      const outcome = await sandbox.verfs([...args, json]);
      expect(outcome).toMatchObject({ code: errorTable.VERFS_E_USAGE.exitCode, stderr: '' });
      const { error } = JSON.parse(outcome.stdout) as { error: ReportedError };
      expect(error).toMatchObject({ code: 'VERFS_E_USAGE', message: expect.stringContaining('verfs --help') });
    }
  }
});

describe('a volume is meant', () => {
  test('by a relative path, a link, a path with spaces, a path in the mount, --volume, or nothing', async () => {
    mkdirSync(sandbox.path("it's here"));
    symlinkSync(sandbox.path("it's here"), sandbox.path('link'));
    const mounted = await shell('verfs mount link');
    const advised = /^Unmount it with: (verfs unmount .*)$/m.exec(mounted.stdout)?.[1] ?? '';
    expect({ ...mounted, advised }).toMatchObject({ code: 0, advised: expect.stringContaining("it'\\''s here") });
    const ways = [
      'verfs status link',
      'verfs status "it\'s here"',
      'cd link; mkdir -p deep; verfs status deep',
      'cd link; mkdir -p deep; cd deep; verfs status .',
      'verfs status link/absent/deeper',
      'verfs status --volume home/.local/share/verfs/default',
      'verfs status',
      'cd link; n=$(printf "n\\377"); mkdir -p "$n"; cd "$n"; verfs status .',
      'verfs status -- link',
    ];
    for (const way of ways) {
      const { code, stdout } = await shell(`${way} --json`.replace('-- link --json', '--json -- link'));
      expect([way, code, (JSON.parse(stdout) as ReportedStatus).mountpoint]).toEqual([
        way,
        0,
        sandbox.path("it's here"),
      ]);
    }
    expect(await shell(advised)).toMatchObject({ code: 0 });
    expect(mountpointsBelow(sandbox.root)).toEqual([]);
  });

  test('by a word after --, also when it looks like an option', async () => {
    mkdirSync(sandbox.path('-o'));
    expect(await shell('verfs mount --volume v -- -o')).toMatchObject({
      code: errorTable.VERFS_E_NOT_A_VOLUME.exitCode,
    });
    expect(await shell('verfs volume create v; verfs mount --volume v -- -o')).toMatchObject({ code: 0 });
    expect(mountpointsBelow(sandbox.root)).toEqual([sandbox.path('-o')]);
    expect(await shell('verfs unmount -- -o')).toMatchObject({ code: 0 });
  });
});

describe('it is refused', () => {
  test('when an option is given twice, or a text is empty', async () => {
    expectUsageError(
      await sandbox.verfs(['status', '--volume', 'a', '--volume', 'b']),
      'volume is given more than once',
    );
    expectUsageError(await sandbox.verfs(['mount', '']), 'mountpoint is empty');
    expectUsageError(await sandbox.verfs(['volume', 'create', '--volume', '']), 'volume is empty');
    expectUsageError(await sandbox.verfs(['unmount', '--config=']), 'config is empty');
    expectUsageError(await sandbox.verfs(['status', 'a', 'b']), 'Unknown argument: b');
  });

  test('when a volume or a mountpoint is not UTF-8, of which Node would make another name', async () => {
    const before = readdirSync(sandbox.root);
    expectUsageError(await shell('verfs volume create "$(printf "v\\377")"'), 'is not UTF-8');
    expectUsageError(await shell('verfs mount "$(printf "m\\377")"'), 'is not UTF-8');
    expectUsageError(await shell('verfs stats --volume "$(printf "m\\377")"'), 'is not UTF-8');
    expect(readdirSync(sandbox.root)).toEqual(before);
    const inside = 'd=$(printf "d\\377"); mkdir "$d"; cd "$d"; verfs volume create v; code=$?; ls -A; exit $code';
    expectUsageError(await shell(inside), 'is not UTF-8');
    // This name really has the character that Node puts in the place of others.
    expect(await shell('verfs volume create "$(printf "v\\357\\277\\275")"')).toMatchObject({ code: 0 });
  });

  test('when -o has what no mount has, after several that it has', async () => {
    await sandbox.mount(['-o', 'ro', '-o', 'rw,noatime']);
    expect(await sandbox.json<ReportedStatus>(['status', sandbox.mountpoint])).toMatchObject({ access: 'read-write' });
    await sandbox.unmount();
    expectUsageError(
      await sandbox.verfs(['mount', sandbox.mountpoint, '--volume', sandbox.volume, '-o', 'ro,sloppy']),
      'sloppy',
    );
  });
});

test('who reads only the beginning of an answer is left alone, and a full disk for it is an error', async () => {
  await sandbox.json(['volume', 'create', sandbox.volume]);
  const hungUp = await shell('{ verfs stats --json --volume volume; echo $? > code; } | true; cat code');
  expect(hungUp).toMatchObject({ stdout: '0\n', stderr: '' });
  const full = await shell('verfs stats --volume volume > /dev/full');
  expect(full).toMatchObject({
    code: errorTable.VERFS_E_IO.exitCode,
    stderr: expect.stringMatching(/^verfs: The result cannot be written: [^\n]+\n$/),
  });
});

test('a directory for temporary files is not needed', async () => {
  const env = { ...sandbox.env, TMPDIR: sandbox.path('absent') };
  expect(await sandbox.verfs(['mount', sandbox.mountpoint], { env })).toMatchObject({ code: 0, stderr: '' });
  // Another one doesn't hide the daemon.
  expect(await sandbox.verfs(['unmount', sandbox.mountpoint])).toMatchObject({ code: 0 });
});

test('the log has what was asked for, of TypeScript and of Rust, and never a name or the content of a file', async () => {
  const config = sandbox.path('config.toml');
  const directory = sandbox.path('log');
  writeFileSync(config, `[daemon]\nlog_level = "trace"\nlog_directory = "${directory}"\n`);
  const { logFile, pid } = await sandbox.mount(['--config', config]);
  const script = [
    'mkdir secret-dir; echo secret-content > secret-dir/secret-file; sync -d secret-dir/secret-file',
    'ln -s secret-target secret-link; mv secret-dir/secret-file secret-renamed; rm secret-renamed; ls secret-absent',
  ];
  await run('sh', ['-c', script.join('; ')], { cwd: sandbox.mountpoint });
  // The engine has something to say when it recovers.
  await sandbox.kill(pid);
  await sandbox.mount(['--config', config]);
  await sandbox.unmount();
  const { stdout: log } = await run('cat', [logFile]);
  const targets = new Set(
    log
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { target: string }).target.replace(/::.*/, '')),
  );
  expect([...targets]).toEqual(expect.arrayContaining(['daemon', expect.stringMatching(/^verfs_/)]));
  expect(log).not.toContain('secret');
});
