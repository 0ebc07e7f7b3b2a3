/** A volume that the system mounts: units of systemd, and what mount(8) calls. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { run } from '../harness/command.ts';
import { mountpointsBelow } from '../harness/mounts.ts';
import { Sandbox, until, verfsProgram } from '../harness/sandbox.ts';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

describe('a service manager', () => {
  /** A datagram socket, which Node.js has none of: what comes is written to standard output, a line for each. */
  function listen(path: string): { child: ChildProcess; told(): string[] } {
    const program = [
      'import socket, sys',
      's = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)',
      "s.bind(sys.argv[1].replace('@', chr(0), 1))",
      "print('bound', flush=True)",
      'while True:',
      "    print(s.recv(4096).decode().replace(chr(10), ' '), flush=True)",
    ].join('\n');
    const child = spawn('python3', ['-c', program, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    return { child, told: () => output.split('\n').filter((line) => line !== '') };
  }

  test.each(['path', 'name'])('at a socket with a %s is told that it serves, lives, and ends', async (kind) => {
    const socket = kind === 'path' ? sandbox.path('notify') : `@verfs-test-${process.pid}`;
    const { child, told } = listen(socket);
    try {
      await until('it listens', () => told().includes('bound'));
      await sandbox.json(['volume', 'create', sandbox.volume]);
      const env = { ...sandbox.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '600000' };
      const args = [verfsProgram, 'mount', sandbox.mountpoint, '--volume', sandbox.volume, '--foreground'];
      const daemon = spawn(process.execPath, args, { env, stdio: 'ignore' });
      const ended = new Promise((resolve) => daemon.once('exit', resolve));
      await until('it says that it is ready', () => told().includes(`READY=1 STATUS=Serves ${sandbox.mountpoint}`));
      expect(mountpointsBelow(sandbox.root)).toContain(sandbox.mountpoint);
      await until('it says that it lives', () => told().filter((line) => line === 'WATCHDOG=1').length >= 3);
      daemon.kill('SIGTERM');
      expect(await ended).toBe(0);
      await until('it has said that it ends', () => told().some((line) => line.startsWith('STOPPING=1')));
      expect(told().filter((line) => line.startsWith('STOPPING=1'))[0]).toContain('EXTEND_TIMEOUT_USEC=30000000');
    } finally {
      child.kill('SIGKILL');
    }
  });

  test('that does not listen keeps nobody from mounting', async () => {
    await sandbox.json(['volume', 'create', sandbox.volume]);
    const env = { ...sandbox.env, NOTIFY_SOCKET: sandbox.path('absent') };
    const args = [verfsProgram, 'mount', sandbox.mountpoint, '--volume', sandbox.volume, '--foreground'];
    const daemon = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    daemon.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    await until('it says what is wrong', () => stderr.includes('the service manager cannot be told'));
    await until('it is mounted', () => mountpointsBelow(sandbox.root).length > 0);
    daemon.kill('SIGTERM');
    expect(await ended).toBe(0);
  });
});

describe('verfs service', () => {
  test('writes a unit of the user that starts with the session, shows it, and removes it', async () => {
    const { volume, mountpoint } = sandbox;
    const args = ['service', 'install', mountpoint, '--volume', volume, '--user', '--no-start'];
    const { text } = await sandbox.json<{ text: string }>([...args, '--print']);
    expect(text).toContain(
      `ExecStart=${process.execPath} ${verfsProgram} mount ${mountpoint} --volume ${volume} --foreground --quiet`,
    );
    const units = `${sandbox.home}/.config/systemd/user`;
    expect(existsSync(units)).toBe(false);
    const { path, unit } = await sandbox.json<{ path: string; unit: string }>(args);
    expect(path).toBe(`${units}/${unit}`);
    expect(readFileSync(path, 'utf8')).toBe(text);
    expect(readlinkSync(`${units}/default.target.wants/${unit}`)).toBe(`../${unit}`);
    await sandbox.json(['service', 'remove', mountpoint, '--user']);
    expect(
      [path, `${units}/default.target.wants/${unit}`].filter((file) => lstatSync(file, { throwIfNoEntry: false })),
    ).toEqual([]);
    const again = await sandbox.verfs(['service', 'remove', mountpoint, '--user']);
    expect(again).toMatchObject({
      code: errorTable.VERFS_E_SERVICE.exitCode,
      stderr: expect.stringContaining('There is no unit'),
    });
  });
});

const isRoot = process.getuid?.() === 0;

// Only root writes to /sbin, which is another one in here.
(isRoot ? describe : describe.skip)('mount(8)', () => {
  test('mounts by type, remounts, and unmounts, with what `verfs service install --mount-helper` writes', async () => {
    const { volume, mountpoint } = sandbox;
    await sandbox.json(['volume', 'create', volume]);
    mkdirSync(sandbox.path('sbin'));
    const verfs = `'${process.execPath}' '${verfsProgram}'`;
    const script = [
      'mount --make-rprivate /',
      `cp -a /usr/sbin/. '${sandbox.path('sbin')}'; mount --bind '${sandbox.path('sbin')}' /usr/sbin`,
      `${verfs} service install --mount-helper`,
      `mount -t verfs -o noatime,nofail '${volume}' '${mountpoint}'`,
      `echo one > '${mountpoint}/file'`,
      `mount -o remount,ro '${mountpoint}'`,
      `! sh -c "echo two > '${mountpoint}/file'" 2> /dev/null`,
      `mount -o remount,rw '${mountpoint}'`,
      `echo three > '${mountpoint}/file'`,
      `umount '${mountpoint}'`,
      `test ! -e '${mountpoint}/file'`,
      `mount -t fuse.verfs '${volume}' '${mountpoint}'`,
      `cat '${mountpoint}/file'; grep -c ' ${mountpoint} .*fuse.verfs' /proc/self/mountinfo`,
      `echo '${volume} ${mountpoint} verfs defaults,nofail 0 0' > '${sandbox.path('fstab')}'`,
      `umount '${mountpoint}'`,
      `mount -T '${sandbox.path('fstab')}' -a`,
      `cat '${mountpoint}/file'`,
      `umount -l '${mountpoint}'`,
      `${verfs} service remove --mount-helper`,
      'test ! -e /sbin/mount.verfs',
    ].join('\n');
    const outcome = await run('unshare', ['--mount', 'sh', '-e', '-c', script], {
      env: sandbox.env,
      timeoutMs: 120_000,
    });
    expect(outcome).toMatchObject({ code: 0 });
    expect(outcome.stdout).toMatch(/three\n1\n/);
    expect(outcome.stdout.match(/three/g)).toHaveLength(2);
    expect(existsSync('/sbin/mount.verfs')).toBe(false);
  });
});
