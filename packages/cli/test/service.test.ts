import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { mountCall, unmountCall } from '../src/mount-program.ts';
import { startAdvice } from '../src/service/start-failure.ts';
import { escapedPath, unitName, unitText, unitWord } from '../src/service/unit.ts';

const plan = {
  scope: 'system',
  mountpoint: '/mnt/a',
  volume: '/srv/a',
  // systemd-analyze wants a program that is there.
  program: [process.execPath, '/usr/bin/env'],
} as const;

describe('a unit', () => {
  test('has the name that systemd-escape makes of the mountpoint', () => {
    for (const path of ['/mnt/a', '/srv/me/my verfs', '/mnt/.hidden/x-y', '/ä/%b', '/a//b/', '/']) {
      const said = execFileSync('systemd-escape', ['--path', path], { encoding: 'utf8' }).trim();
      expect([path, escapedPath(path)]).toEqual([path, said]);
    }
    expect(unitName('/mnt/a b')).toBe('verfs-mnt-a\\x20b.service');
  });

  test('quotes what systemd would read as something else', () => {
    expect(['/plain/path-1', '/a b', '/100%', '/$HOME', '/a"b\\'].map(unitWord)).toEqual([
      '/plain/path-1',
      '"/a b"',
      '/100%%',
      '"/$$HOME"',
      '"/a\\"b\\\\"',
    ]);
  });

  test.each([
    plan,
    { ...plan, scope: 'user' },
    { ...plan, mountpoint: "/mnt/it's 100% $HOME", volume: '/srv/a b', config: '/etc/verfs/config.toml' },
  ] as const)('is taken by systemd without a word: %j', (one) => {
    const directory = mkdtempSync(join(tmpdir(), 'verfs-test-unit-'));
    try {
      const path = join(directory, 'verfs-test.service');
      writeFileSync(path, unitText(one));
      const args = ['verify', '--man=no', ...(one.scope === 'user' ? ['--user'] : []), path];
      const { stdout, stderr, status } = spawnSync('systemd-analyze', args, {
        encoding: 'utf8',
        env: { ...process.env, XDG_RUNTIME_DIR: directory },
      });
      const told = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('verfs-test.service'));
      expect({ told, status }).toEqual({ told: [], status: 0 });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('has no file systems of its own, in which nobody else would see the mount', () => {
    const text = unitText(plan);
    expect(text).toContain('Type=notify');
    expect(text).toContain('DeviceAllow=/dev/fuse rw');
    const settings = text.split('\n').filter((line) => /^[A-Z]\w+=/.test(line));
    const namespaced =
      /^(Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Proc|Clock|Hostname)|Private\w+|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|TemporaryFileSystem|BindPaths|MountFlags|RootDirectory|DynamicUser|StateDirectory)=/;
    expect(settings.filter((line) => namespaced.test(line))).toEqual([]);
    // What a unit of a user may not have, since it would forbid fusermount3.
    const user = unitText({ ...plan, scope: 'user' });
    expect(user).not.toMatch(/^(NoNewPrivileges|SystemCall\w+|Restrict\w+|LockPersonality|CapabilityBoundingSet)=/m);
  });
});

describe('what mount(8) calls', () => {
  test('becomes a mount of ours, less the options that are for others', () => {
    const args = [
      '/srv/a',
      '/mnt/a',
      '-n',
      '-o',
      'rw,noatime,nofail,_netdev,x-systemd.automount,config=/c,metrics=unix:/m,allow_other',
    ];
    expect(mountCall([...args, '-t', 'fuse.verfs'])).toEqual({
      kind: 'mount',
      isFake: false,
      words: [
        'mount',
        '/mnt/a',
        '--volume',
        '/srv/a',
        '--config',
        '/c',
        '--metrics',
        'unix:/m',
        '--allow-other',
        '-o',
        'rw,noatime',
      ],
    });
    expect(mountCall(['/srv/a', '/mnt/a', '-sfv'])).toMatchObject({ kind: 'mount', isFake: true });
    expect(mountCall(['/srv/a'])).toMatchObject({ kind: 'wrong' });
  });

  test('is handed to the kernel when only flags of a mount change', () => {
    expect(mountCall(['/srv/a', '/mnt/a', '-o', 'remount,ro'])).toEqual({
      kind: 'remount',
      words: ['-i', '-o', 'remount,ro', '/mnt/a'],
    });
  });

  test('unmounts with everything durable, but for those who want it at once', () => {
    expect(unmountCall(['/mnt/a', '-n'])).toEqual({ kind: 'unmount', words: ['unmount', '/mnt/a'], isLazy: false });
    expect(unmountCall(['/mnt/a', '-l'])).toMatchObject({ isLazy: true });
    expect(unmountCall([])).toMatchObject({ kind: 'wrong' });
  });
});

test('a unit that did not start is told with the error by whose exit code it ended', () => {
  expect(startAdvice('verfs-mnt-a.service', 'system', 20)).toBe(
    'It ended with VERFS_E_MOUNTPOINT_MISSING: The mountpoint does not exist. `journalctl -u verfs-mnt-a.service` has the whole line.',
  );
  expect(startAdvice('verfs-mnt-a.service', 'user', 1)).toBe('`journalctl --user -u verfs-mnt-a.service` tells more.');
  expect(startAdvice('verfs-mnt-a.service', 'system', Number.NaN)).toBe(
    '`journalctl -u verfs-mnt-a.service` tells more.',
  );
});
