import { chmodSync, chownSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type ErrorCode, errorTable } from '@verfs/errors';
import { type Outcome, shell } from '../harness/command.ts';
import { detachBelow, mountpointsBelow } from '../harness/mounts.ts';
import { verfsAsUser, verfsInNamespace, verfsWithout } from '../harness/privileges.ts';
import { type ReportedStatus, Sandbox } from '../harness/sandbox.ts';
import { treeOf } from '../harness/tree.ts';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** Checks that `outcome` is the error `code`, told in one line that mentions `told`. */
function expectError(outcome: Outcome, code: ErrorCode, ...told: string[]): void {
  expect({ stderr: outcome.stderr, stdout: outcome.stdout, code: outcome.code }).toEqual({
    stderr: expect.stringMatching(/^verfs: [^\n]+\n$/),
    stdout: '',
    code: errorTable[code].exitCode,
  });
  for (const text of told) {
    expect(outcome.stderr).toContain(text);
  }
}

/** Runs `act` and checks that it changes nothing in the sandbox: no file, no mount. The log may grow. */
async function changingNothing(act: () => Promise<Outcome>): Promise<Outcome> {
  const log = sandbox.path('home', '.local', 'state');
  const before = {
    tree: treeOf(sandbox.root, [log, ...mountpointsBelow(sandbox.root)]),
    mounts: mountpointsBelow(sandbox.root),
  };
  const outcome = await act();
  const after = {
    tree: treeOf(sandbox.root, [log, ...mountpointsBelow(sandbox.root)]),
    mounts: mountpointsBelow(sandbox.root),
  };
  expect(after).toEqual(before);
  return outcome;
}

const refused = async (code: ErrorCode, args: readonly string[], ...told: string[]) =>
  expectError(await changingNothing(() => sandbox.verfs(args)), code, ...told);

describe('a mountpoint', () => {
  test('that is missing', async () => {
    const path = sandbox.path('absent');
    await refused('VERFS_E_MOUNTPOINT_MISSING', ['mount', path], path, `mkdir -p ${path}`);
    await refused('VERFS_E_MOUNTPOINT_MISSING', ['mount', path, '--foreground'], path);
    await refused('VERFS_E_MOUNTPOINT_MISSING', ['mount', `${path}/deeper`], `mkdir -p ${path}/deeper`);
  });

  test('that is a file', async () => {
    writeFileSync(sandbox.path('file'), '');
    await refused('VERFS_E_MOUNTPOINT_NOT_DIR', ['mount', sandbox.path('file')], 'Choose an empty directory');
    await refused('VERFS_E_MOUNTPOINT_NOT_DIR', ['mount', sandbox.path('file', 'in')]);
  });

  test('that is not empty', async () => {
    writeFileSync(sandbox.inMount('file'), '');
    await refused('VERFS_E_MOUNTPOINT_NOT_EMPTY', ['mount', sandbox.mountpoint], 'Choose an empty directory');
  });

  test('that has a mount already', async () => {
    await sandbox.mount();
    await sandbox.verfs(['sync', sandbox.mountpoint]);
    symlinkSync(sandbox.mountpoint, sandbox.path('link'));
    await refused('VERFS_E_ALREADY_MOUNTED', ['mount', sandbox.mountpoint], `verfs unmount ${sandbox.mountpoint}`);
    await refused('VERFS_E_ALREADY_MOUNTED', ['mount', sandbox.path('link')], sandbox.mountpoint);
    expect(await sandbox.json<ReportedStatus>(['status', sandbox.mountpoint])).toMatchObject({ state: 'mounted' });
  });

  test('that is stale is detached and used', async () => {
    const first = await sandbox.mount();
    await sandbox.kill(first.pid);
    const dead = await sandbox.verfs(['status', sandbox.mountpoint]);
    expectError(dead, 'VERFS_E_DAEMON_DIED', sandbox.mountpoint);
    const second = await sandbox.mount();
    expect(second.pid).not.toBe(first.pid);
    expect(mountpointsBelow(sandbox.root)).toEqual([sandbox.mountpoint]);
  });

  test('that is stale, elsewhere, is detached when its volume is mounted again', async () => {
    const first = await sandbox.mount();
    await sandbox.kill(first.pid);
    mkdirSync(sandbox.path('other'));
    const second = await sandbox.json<ReportedStatus>(['mount', sandbox.path('other'), '--volume', sandbox.volume]);
    expect(mountpointsBelow(sandbox.root)).toEqual([sandbox.path('other')]);
    await sandbox.json(['unmount', '--volume', sandbox.volume]);
    expect(second.mountpoint).toBe(sandbox.path('other'));
  });

  test('whose daemon ends before it serves has its last words and nothing else of Node.js', async () => {
    const ending = sandbox.path('ending.cjs');
    writeFileSync(
      ending,
      "if (process.argv[1].endsWith('daemon/main.js')) { console.error('no way'); process.exit(7); }",
    );
    await sandbox.verfs(['volume', 'create', sandbox.volume]);
    const outcome = await sandbox.verfs(['mount', sandbox.mountpoint, '--volume', sandbox.volume], {
      env: { ...sandbox.env, NODE_OPTIONS: `--require ${ending}` },
    });
    expectError(outcome, 'VERFS_E_DAEMON_DIED', 'with exit code 7 before it served: no way. ');
  });

  test('that is stale can be unmounted', async () => {
    const { pid } = await sandbox.mount();
    await sandbox.kill(pid);
    const outcome = await sandbox.verfs(['unmount', sandbox.mountpoint]);
    expect({ code: outcome.code, mounts: mountpointsBelow(sandbox.root) }).toEqual({ code: 0, mounts: [] });
  });

  test('that was stale and detached by hand does not count any more', async () => {
    const { pid } = await sandbox.mount();
    await sandbox.kill(pid);
    await detachBelow(sandbox.mountpoint);
    expect(await sandbox.json(['status', '--volume', sandbox.volume])).toMatchObject({ state: 'unmounted' });
    expect(await sandbox.json(['stats', '--volume', sandbox.volume])).toMatchObject({ files: 0 });
  });

  test('that is stale and cannot be detached', async () => {
    const { pid } = await sandbox.mount();
    await sandbox.kill(pid);
    const act = () =>
      verfsWithout(['sys_admin'], ['mount', sandbox.mountpoint, '--volume', sandbox.volume], {
        env: { ...sandbox.env, PATH: '/usr/bin:/bin' },
      });
    expectError(await changingNothing(act), 'VERFS_E_MOUNTPOINT_STALE', `umount -l ${sandbox.mountpoint}`);
  });

  test('that has no mount cannot be unmounted or asked', async () => {
    await refused('VERFS_E_NOT_MOUNTED', ['unmount', sandbox.mountpoint], sandbox.mountpoint);
    await refused('VERFS_E_NOT_MOUNTED', ['status', sandbox.mountpoint], sandbox.mountpoint);
    await refused('VERFS_E_NOT_MOUNTED', ['stats', sandbox.mountpoint], sandbox.mountpoint);
    await refused('VERFS_E_NOT_MOUNTED', ['sync', sandbox.mountpoint], sandbox.mountpoint);
  });
});

describe('a volume', () => {
  const mountIt = () => ['mount', sandbox.mountpoint, '--volume', sandbox.volume];

  test('that is none', async () => {
    await refused('VERFS_E_NOT_A_VOLUME', mountIt(), sandbox.volume, 'verfs volume create');
    mkdirSync(sandbox.volume);
    await refused('VERFS_E_NOT_A_VOLUME', mountIt(), sandbox.volume);
    writeFileSync(sandbox.path('volume', 'file'), 'mine');
    await refused('VERFS_E_NOT_A_VOLUME', mountIt(), sandbox.volume);
    await refused('VERFS_E_NOT_A_VOLUME', ['stats', '--volume', sandbox.volume], sandbox.volume);
    await refused('VERFS_E_NOT_A_VOLUME', ['volume', 'info', '--volume', sandbox.path('volume', 'file')]);
  });

  test('where there is one already, or something else', async () => {
    await sandbox.verfs(['volume', 'create', sandbox.volume]);
    await refused('VERFS_E_VOLUME_EXISTS', ['volume', 'create', sandbox.volume], sandbox.volume);
    writeFileSync(sandbox.inMount('mine'), '');
    await refused('VERFS_E_NOT_A_VOLUME', ['volume', 'create', sandbox.mountpoint], 'empty directory');
    const onFile = ['volume', 'create', sandbox.inMount('mine')];
    await refused('VERFS_E_NOT_A_VOLUME', onFile, 'cannot become a volume (it is not a directory)');
  });

  test('that is open elsewhere', async () => {
    const { pid } = await sandbox.mount();
    await sandbox.verfs(['sync', sandbox.mountpoint]);
    mkdirSync(sandbox.path('second'));
    const args = ['mount', sandbox.path('second'), '--volume', sandbox.volume];
    await refused('VERFS_E_VOLUME_LOCKED', args, `process ${pid}`, `verfs unmount ${sandbox.mountpoint}`);
    await refused('VERFS_E_VOLUME_LOCKED', [...args, '--foreground'], `process ${pid}`);
  });

  test('on a disk that takes no writes', async () => {
    await sandbox.verfs(['volume', 'create', sandbox.volume]);
    const bind = `mount --bind ${sandbox.volume} ${sandbox.volume}; mount -o remount,ro,bind ${sandbox.volume}`;
    const act = () => verfsInNamespace({ before: bind }, mountIt(), { env: sandbox.env });
    expectError(await changingNothing(act), 'VERFS_E_VOLUME_READ_ONLY', sandbox.volume, 'remount,rw');
  });

  test('on a full disk', async () => {
    const disk = sandbox.path('disk');
    mkdirSync(disk);
    const before = `mount -t tmpfs -o size=64k tmpfs ${disk}; cat /dev/zero > ${disk}/fill 2> /dev/null || true`;
    const around = { before, after: `test "$(ls -A ${disk})" = fill` };
    const create = () => verfsInNamespace(around, ['volume', 'create', `${disk}/v`], { env: sandbox.env });
    expectError(await changingNothing(create), 'VERFS_E_VOLUME_FULL', `${disk}/v`);
    const config = sandbox.path('config.toml');
    writeFileSync(config, `[volume]\npath = "${disk}/a/b"\n`);
    const args = ['mount', sandbox.mountpoint, '--config', config];
    const mount = () => verfsInNamespace(around, args, { env: sandbox.env });
    expectError(await changingNothing(mount), 'VERFS_E_VOLUME_FULL', `${disk}/a/b`);
  });

  test('of a newer format', async () => {
    await sandbox.verfs(['volume', 'create', sandbox.volume]);
    const file = sandbox.path('volume', 'volume.toml');
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^format = 1$/m, 'format = 2'));
    await refused('VERFS_E_FORMAT_NEWER', mountIt(), sandbox.volume, 'newer');
    await refused('VERFS_E_FORMAT_NEWER', ['volume', 'info', '--volume', sandbox.volume]);
  });

  test.each([
    ['a changed value', (text: string) => text.replace(/^chunk_mean_bytes = .*$/m, 'chunk_mean_bytes = 4096')],
    ['a missing end', (text: string) => text.slice(0, -40)],
    ['nothing in it', () => ''],
    ['other bytes in it', () => '\u0000\u0001'],
  ])('whose superblock has %s', async (_, damage) => {
    await sandbox.verfs(['volume', 'create', sandbox.volume]);
    const file = sandbox.path('volume', 'volume.toml');
    writeFileSync(file, damage(readFileSync(file, 'utf8')));
    await refused('VERFS_E_SUPERBLOCK_DAMAGED', mountIt(), sandbox.volume, 'volume.toml');
    await refused('VERFS_E_SUPERBLOCK_DAMAGED', ['stats', '--volume', sandbox.volume]);
  });
});

describe('the configuration', () => {
  const withConfig = (text: string) => {
    const file = sandbox.path('config.toml');
    writeFileSync(file, text);
    return ['mount', sandbox.mountpoint, '--config', file];
  };

  test('with a key that does not exist', async () => {
    await refused(
      'VERFS_E_CONFIG_KEY',
      withConfig('[group]\nblock = 1\n'),
      'group.block;',
      'did you mean group.blocks?',
    );
    await refused('VERFS_E_CONFIG_KEY', withConfig('chunk_cache = "1MiB"\n'), 'did you mean memory.chunk_cache?');
    await refused('VERFS_E_CONFIG_KEY', withConfig('group = 3\n'), 'there is no key group');
    await refused('VERFS_E_CONFIG_KEY', withConfig('[zzz]\nyyy = 1\n'), 'zzz.yyy');
  });

  test('with a value of the wrong type', async () => {
    await refused('VERFS_E_CONFIG_TYPE', withConfig('[group]\nblocks = "many"\n'), 'group.blocks is a whole number');
    await refused('VERFS_E_CONFIG_TYPE', withConfig('[group]\nblocks = 0\n'), 'at least 1');
    await refused('VERFS_E_CONFIG_TYPE', withConfig('[volume]\nread_only = "yes"\n'), 'true or false');
    await refused('VERFS_E_CONFIG_TYPE', withConfig('[create]\nchunker = "rabin"\n'), '"mincdc"');
    await refused('VERFS_E_CONFIG_TYPE', withConfig('[memory]\nchunk_cache = true\n'), 'is a size');
  });

  test('with a wrong unit, or without one', async () => {
    await refused('VERFS_E_CONFIG_UNIT', withConfig('[memory]\nchunk_cache = 64\n'), 'memory.chunk_cache needs a unit');
    await refused('VERFS_E_CONFIG_UNIT', withConfig('[memory]\nchunk_cache = "64 Mb"\n'), 'MiB');
    await refused('VERFS_E_CONFIG_UNIT', withConfig('[group]\ninterval = "500"\n'), 'ms');
  });

  test('that is missing, no TOML, or not readable', async () => {
    const absent = sandbox.path('absent.toml');
    await refused('VERFS_E_CONFIG_FILE', ['status', '--config', absent], absent);
    await refused('VERFS_E_CONFIG_FILE', withConfig('[group\n'), 'config.toml:1:');
    await refused('VERFS_E_CONFIG_FILE', ['mount', sandbox.mountpoint, '--config', sandbox.home], sandbox.home);
  });

  test('is found in its documented place', async () => {
    mkdirSync(sandbox.path('home', '.config', 'verfs'), { recursive: true });
    const file = sandbox.path('home', '.config', 'verfs', 'config.toml');
    writeFileSync(file, 'nonsense = 1\n');
    await refused('VERFS_E_CONFIG_KEY', ['mount', sandbox.mountpoint], file);
  });
});

describe('the system', () => {
  test('without /dev/fuse', async () => {
    const hide = 'mount -t tmpfs tmpfs /dev; touch /dev/null';
    const act = () => verfsInNamespace({ before: hide }, ['mount', sandbox.mountpoint], { env: sandbox.env });
    expectError(await changingNothing(act), 'VERFS_E_NO_FUSE_DEVICE', '/dev/fuse', 'modprobe fuse');
  });

  test('without fusermount3, for an ordinary user', async () => {
    const act = () => verfsAsUser(['mount', sandbox.mountpoint], '/nowhere', { env: sandbox.env });
    expectError(await changingNothing(act), 'VERFS_E_NO_FUSERMOUNT', 'apt-get install fuse3');
  });

  test('that gives no permission for the volume, the mountpoint or the mount', async () => {
    await sandbox.verfs(['volume', 'create', sandbox.volume]);
    const args = ['mount', sandbox.mountpoint, '--volume', sandbox.volume];
    const { env } = sandbox;
    if (process.getuid?.() === 0) {
      const mayNotMount = () => verfsWithout(['sys_admin'], args, { env });
      expectError(await changingNothing(mayNotMount), 'VERFS_E_PERMISSION', sandbox.mountpoint, 'SYS_ADMIN');
    }
    const mayNotRead = () => verfsWithout(['dac_override', 'dac_read_search'], args, { env });
    closeTo(sandbox.volume);
    expectError(await changingNothing(mayNotRead), 'VERFS_E_PERMISSION', sandbox.volume);
    closeTo(sandbox.mountpoint);
    expectError(await changingNothing(mayNotRead), 'VERFS_E_PERMISSION', sandbox.mountpoint);
  });
});

/** Makes `directory` another user's. */
function closeTo(directory: string): void {
  chmodSync(directory, 0o700);
  if (process.getuid?.() === 0) {
    chownSync(directory, 65_534, 65_534);
  } else {
    chmodSync(directory, 0);
  }
}

describe('the command line', () => {
  test('with a mistyped command, option or argument', async () => {
    await refused('VERFS_E_USAGE', ['moutn', sandbox.mountpoint], 'did you mean mount?');
    await refused('VERFS_E_USAGE', ['volume', 'inof'], 'did you mean info?');
    await refused('VERFS_E_USAGE', ['mount', sandbox.mountpoint, '--volum', 'x'], 'did you mean --volume?');
    await refused('VERFS_E_USAGE', ['stats', '--jsn'], 'did you mean --json?');
    await refused('VERFS_E_USAGE', ['--verison'], 'did you mean --version?');
    await refused('VERFS_E_USAGE', ['--quiet'], 'Name a command: mount, ');
    await refused('VERFS_E_USAGE', ['stats', '--nothing-like-it'], 'Unknown argument: nothing-like-it. See');
    await refused('VERFS_E_USAGE', ['mount', sandbox.mountpoint, '--volume'], 'volume');
    await refused('VERFS_E_USAGE', ['volume', 'create', '--chunker'], 'chunker');
    await refused('VERFS_E_USAGE', ['mount', sandbox.mountpoint, '-o', 'wrongoption'], 'wrongoption');
    await refused('VERFS_E_USAGE', ['status', sandbox.mountpoint, '--volume', sandbox.volume]);
    await refused('VERFS_E_USAGE', []);
  });
});

test('a volume whose log is cut short still opens', async () => {
  await sandbox.mount();
  await shell('echo one > file', { cwd: sandbox.mountpoint });
  await sandbox.unmount();
  const log = sandbox.path('volume', 'log', 'intent-0.vlog');
  truncateSync(log, 4096);
  await sandbox.mount();
  expect(readFileSync(sandbox.inMount('file'), 'utf8')).toBe('one\n');
});
