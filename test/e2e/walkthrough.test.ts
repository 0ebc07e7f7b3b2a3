import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { mountpointsBelow } from '../harness/mounts.ts';
import { isAlive, type ReportedStatus, Sandbox, until, verfsProgram } from '../harness/sandbox.ts';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

describe('the main job', () => {
  test('ordinary commands in a foreground mount, Ctrl+C, and the same state after the next mount', async () => {
    const { mountpoint } = sandbox;
    const foreground = sandbox.start(['mount', mountpoint, '--foreground']);
    await until('it is mounted', () => foreground.stdout().includes('Unmount it with'));
    expect(foreground.stdout()).toContain(`Made the volume ${sandbox.home}/.local/share/verfs/default.`);

    const shown = await shell(
      'cp /etc/hosts mnt/hosts.copy; mkdir mnt/d1; mv mnt/hosts.copy mnt/d1/h; cat mnt/d1/h; rm mnt/d1/h; rmdir mnt/d1; ls -A mnt',
      { cwd: sandbox.root },
    );
    expect(shown).toBe(readFileSync('/etc/hosts', 'utf8'));
    await shell('mkdir -p keep/deep; echo kept > keep/deep/file; ln -s deep/file keep/link', { cwd: mountpoint });

    foreground.child.kill('SIGINT');
    expect(await foreground.ended()).toBe(0);
    expect(mountpointsBelow(sandbox.root)).toEqual([]);
    expect(readdirSync(mountpoint)).toEqual([]);

    const status = await sandbox.json<ReportedStatus>(['mount', mountpoint]);
    expect(await shell('find . | sort; cat keep/link', { cwd: mountpoint })).toBe(
      '.\n./keep\n./keep/deep\n./keep/deep/file\n./keep/link\nkept\n',
    );
    await sandbox.unmount();
    await until('the daemon has ended', () => !isAlive(status.pid));
    expect(mountpointsBelow(sandbox.root)).toEqual([]);
  });

  test('a daemon serves after the command has returned, and ends with its mount', async () => {
    const status = await sandbox.mount();
    expect(status).toMatchObject({ state: 'mounted', volume: sandbox.volume, mountpoint: sandbox.mountpoint });
    expect(isAlive(status.pid)).toBe(true);
    await shell('echo hello > file', { cwd: sandbox.mountpoint });
    const again = await sandbox.json<ReportedStatus>(['status', sandbox.inMount('file')]);
    expect(again.pid).toBe(status.pid);
    expect(existsSync(again.logFile)).toBe(true);
    await sandbox.unmount();
    await until('the daemon has ended', () => !isAlive(status.pid));
    expect(await sandbox.json(['status', '--volume', sandbox.volume])).toMatchObject({ state: 'unmounted' });
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)('%s ends a daemon with everything durable', async (signal) => {
    const { pid } = await sandbox.mount();
    await shell('head -c 3000000 /dev/urandom > big; sha256sum big > sum', { cwd: sandbox.mountpoint });
    process.kill(pid, signal);
    await until('the daemon has ended', () => !isAlive(pid));
    expect(mountpointsBelow(sandbox.root)).toEqual([]);
    await sandbox.mount();
    await shell('sha256sum -c sum', { cwd: sandbox.mountpoint });
  });

  test('umount(8) ends the daemon with everything durable', async () => {
    const { pid } = await sandbox.mount();
    await shell('echo text > file', { cwd: sandbox.mountpoint });
    await shell(process.getuid?.() === 0 ? `umount ${sandbox.mountpoint}` : `fusermount3 -u ${sandbox.mountpoint}`);
    await until('the daemon has ended', () => !isAlive(pid));
    await sandbox.mount();
    expect(readFileSync(sandbox.inMount('file'), 'utf8')).toBe('text\n');
  });

  test('a mount in use leaves the tree at once, and its daemon ends with its last user', async () => {
    const { pid } = await sandbox.mount();
    const { mountpoint } = sandbox;
    const script = `cd ${mountpoint}; echo text > file; exec 3< file; "$NODE" "$VERFS" unmount ${mountpoint}; cat <&3`;
    const shown = await shell(script, { env: { ...sandbox.env, NODE: process.execPath, VERFS: verfsProgram } });
    expect(shown).toContain(`Process ${pid} serves those who have files open there`);
    expect(shown).toMatch(/text\n$/);
    await until('the daemon has ended', () => !isAlive(pid));
    expect(mountpointsBelow(sandbox.root)).toEqual([]);
    await sandbox.mount();
    expect(readFileSync(sandbox.inMount('file'), 'utf8')).toBe('text\n');
  });
});
