/** A volume that is watched while it works: metrics, and `verfs top`. */

import { statSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { run } from '../harness/command.ts';
import { mountpointsBelow } from '../harness/mounts.ts';
import { Sandbox, verfsProgram } from '../harness/sandbox.ts';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

function scrape(options: object): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ path: '/metrics', agent: false, ...options }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        body += part;
      });
      response.on('end', () => resolve(body));
    }).on('error', reject);
  });
}

const metricOf = (text: string, metric: string) => Number(new RegExp(`^${metric} (\\S+)$`, 'm').exec(text)?.[1]);

/** A server that occupies a port. */
function occupyPort(): Promise<{ port: number; close(): Promise<void> }> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      resolve({ port, close: () => new Promise((closed) => server.close(() => closed())) });
    });
  });
}

describe('metrics', () => {
  test('are served at a port as long as the volume is mounted, and count what is done in it', async () => {
    const { port, close } = await occupyPort();
    await close();
    await sandbox.mount(['--metrics', `127.0.0.1:${port}`]);
    const before = await scrape({ host: '127.0.0.1', port });
    expect(before).toContain(`mountpoint="${sandbox.mountpoint}"`);
    writeFileSync(sandbox.inMount('file'), 'x'.repeat(100_000));
    const after = await scrape({ host: '127.0.0.1', port });
    expect(metricOf(after, 'verfs_written_bytes_total') - metricOf(before, 'verfs_written_bytes_total')).toBe(100_000);
    expect(metricOf(after, 'verfs_files')).toBe(1);
    expect(after).toMatch(/^verfs_operation_duration_seconds_count\{op="write"\} [1-9]/m);
    await sandbox.unmount();
    await expect(scrape({ host: '127.0.0.1', port })).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('are served at a socket that the configuration names', async () => {
    const socketPath = sandbox.path('metrics.sock');
    const config = sandbox.path('config.toml');
    writeFileSync(config, `[metrics]\nlisten = "unix:${socketPath}"\n`);
    await sandbox.mount(['--config', config]);
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    expect(await scrape({ socketPath })).toContain('verfs_info{');
    await sandbox.unmount();
  });

  test('are refused at an address of others, and where somebody is: nothing is mounted then', async () => {
    const { volume, mountpoint } = sandbox;
    await sandbox.json(['volume', 'create', volume]);
    const mount = (where: string) => sandbox.verfs(['mount', mountpoint, '--volume', volume, '--metrics', where]);
    expect(await mount('0.0.0.0:9464')).toMatchObject({
      code: errorTable.VERFS_E_CONFIG_TYPE.exitCode,
      stderr: expect.stringContaining('is an address on this machine'),
    });
    const { port, close } = await occupyPort();
    expect(await mount(`127.0.0.1:${port}`)).toMatchObject({
      code: errorTable.VERFS_E_IO.exitCode,
      stderr: expect.stringContaining(`Metrics cannot be served at 127.0.0.1:${port}`),
    });
    await close();
    expect(mountpointsBelow(sandbox.root)).toEqual([]);
  });
});

describe('verfs top', () => {
  interface Look {
    readonly rates: { readonly operationsPerSecond: number; readonly writtenBytesPerSecond: number };
    readonly stats: { readonly files: number };
  }

  test('tells programs what happens within an interval', async () => {
    await sandbox.mount();
    const looking = sandbox.verfs(['top', sandbox.mountpoint, '--json', '--count', '2', '--interval', '1s']);
    const began = performance.now();
    for (let index = 0; performance.now() - began < 2500; index += 1) {
      writeFileSync(sandbox.inMount('file'), String(index).repeat(10_000));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const { code, stdout } = await looking;
    expect(code).toBe(0);
    const looks = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Look);
    expect(looks).toHaveLength(2);
    expect(looks.some(({ rates }) => rates.writtenBytesPerSecond > 1000 && rates.operationsPerSecond > 1)).toBe(true);
    expect(looks[1]?.stats.files).toBe(1);
  });

  test('writes plain lines where there is no terminal, and has the whole of one else, which it gives back', async () => {
    await sandbox.mount();
    const plain = await sandbox.verfs(['top', sandbox.mountpoint, '--once', '--interval', '200ms']);
    expect(plain).toMatchObject({ code: 0, stderr: '' });
    expect(plain.stdout).toMatch(/^verfs top: .*\n\nRead {6}/);
    expect(plain.stdout).not.toContain('\u001b');
    const command = `'${process.execPath}' '${verfsProgram}' top '${sandbox.mountpoint}' --count 2 --interval 200ms`;
    const onTerminal = (env: Record<string, string>) =>
      run('script', ['-qec', `stty cols 80 rows 20; ${command}`, '/dev/null'], {
        env: { ...sandbox.env, TERM: 'xterm', ...env },
      });
    const { code, stdout } = await onTerminal({});
    expect(code).toBe(0);
    expect(stdout.trimStart().startsWith('\u001b[?1049h')).toBe(true);
    expect(stdout.trimEnd().endsWith('\u001b[?1049l')).toBe(true);
    expect(stdout).toContain('\u001b[1mverfs top:');
    expect((await onTerminal({ NO_COLOR: '1' })).stdout).not.toContain('\u001b[1m');
    await sandbox.unmount();
  });

  test('refuses what is no interval and no count, and a volume that is not mounted', async () => {
    const usage = errorTable.VERFS_E_USAGE.exitCode;
    expect(await sandbox.verfs(['top', '--interval', '3'])).toMatchObject({ code: usage });
    expect(await sandbox.verfs(['top', '--interval', '1ms'])).toMatchObject({ code: usage });
    expect(await sandbox.verfs(['top', '--count', '0'])).toMatchObject({ code: usage });
    expect(await sandbox.verfs(['top', sandbox.root])).toMatchObject({ code: errorTable.VERFS_E_NOT_MOUNTED.exitCode });
  });
});
