/** A volume that is damaged is told of, mended, or shown, as a user sees it: `verfs fsck`, `doctor`, read-only recovery. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { shell } from '../harness/command.ts';
import { Sandbox, verfsProgram } from '../harness/sandbox.ts';

interface ReportedFsck {
  readonly verdict: string;
  readonly findings: readonly { readonly code: string; readonly mending: string }[];
}

interface ReportedDiagnosis {
  readonly check: string;
  readonly verdict: string;
  readonly advice: string | null;
}

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const fsck = (...options: string[]) => sandbox.verfs(['fsck', '--volume', sandbox.volume, '--json', ...options]);
const reported = <T>(outcome: { readonly stdout: string }) => JSON.parse(outcome.stdout) as T;

/** A volume with a file of chunks in it, which is not mounted. */
async function unmountedVolume(): Promise<void> {
  await sandbox.mount();
  await shell('head -c 2000000 /dev/urandom > file && sha256sum file > ../sum', { cwd: sandbox.mountpoint });
  await sandbox.unmount();
}

const packFiles = (extension: string) =>
  readdirSync(join(sandbox.volume, 'packs'), { recursive: true, withFileTypes: true })
    .filter(({ name }) => name.endsWith(extension))
    .map(({ parentPath, name }) => join(parentPath, name));

test('fsck has an exit code for clean, found, mended and left', async () => {
  await unmountedVolume();
  expect(await fsck()).toMatchObject({ code: 0 });
  for (const index of packFiles('.vpi')) {
    rmSync(index);
  }
  const found = await fsck();
  expect(found.code).toBe(80);
  expect(reported<ReportedFsck>(found)).toMatchObject({
    verdict: 'found',
    findings: [{ code: 'index-missing', mending: 'mendable' }],
  });
  expect((await sandbox.verfs(['fsck', '--volume', sandbox.volume])).stdout).toContain('verfs fsck --repair');
  expect(await fsck('--repair')).toMatchObject({ code: 81 });
  expect(await fsck('--repair')).toMatchObject({ code: 0 });
  for (const pack of packFiles('.vpk')) {
    rmSync(pack);
  }
  const left = await fsck('--repair');
  expect(left.code).toBe(82);
  expect(left.stdout).toContain('/file');
});

/** Whether a process has the volume's lock. */
function holdsLock(pid: number): boolean {
  try {
    const directory = `/proc/${pid}/fd`;
    return readdirSync(directory).some((fd) => readlinkSync(join(directory, fd)) === join(sandbox.volume, 'LOCK'));
  } catch {
    // It is gone, or a descriptor of it is.
    return false;
  }
}

/** Runs fsck, and sends it SIGINT once it has begun. */
async function interruptedFsck(...options: string[]): Promise<number | null> {
  const child = spawn(process.execPath, [verfsProgram, 'fsck', '--volume', sandbox.volume, ...options], {
    env: sandbox.env,
    stdio: 'ignore',
  });
  const ended = once(child, 'exit');
  const { pid } = child;
  while (child.exitCode === null && pid !== undefined && !holdsLock(pid)) {
    await sleep(1);
  }
  child.kill('SIGINT');
  const [code] = await ended;
  return code;
}

test(
  'Ctrl-C ends a check with an exit code of its own, and the volume is as it was',
  async () => {
    await sandbox.mount();
    const script = 'head -c 2000000 /dev/urandom > file && mkdir d && cd d && seq 20000 | xargs touch';
    await shell(script, { cwd: sandbox.mountpoint, timeoutMs: 180_000 });
    await sandbox.unmount();
    for (const index of packFiles('.vpi')) {
      rmSync(index);
    }
    const before = reported<ReportedFsck>(await fsck());
    for (const options of [[], ['--repair']]) {
      const codes: (number | null)[] = [];
      // One that was faster than the signal has a result.
      while (!codes.includes(errorTable.VERFS_E_CANCELLED.exitCode) && codes.length < 10) {
        codes.push(await interruptedFsck(...options));
      }
      expect(codes).toContain(errorTable.VERFS_E_CANCELLED.exitCode);
      expect(codes.filter((code) => ![0, 52, 80, 81].includes(code ?? -1))).toEqual([]);
      if (options.length === 0) {
        expect(reported<ReportedFsck>(await fsck())).toEqual(before);
      }
    }
    expect([0, 81]).toContain((await fsck('--repair')).code);
    expect(await fsck()).toMatchObject({ code: 0 });
  },
  5 * 60_000,
);

test('fsck refuses a mounted volume, and a path', async () => {
  await sandbox.mount();
  const refused = await fsck();
  expect(refused.code).toBe(32);
  expect((await sandbox.verfs(['fsck', sandbox.mountpoint])).code).toBe(2);
});

test('what a normal mount refuses is shown by read-only recovery, and not changed', async () => {
  await unmountedVolume();
  const before = packFiles('.vpk').map((pack) => readFileSync(pack));
  const mount = ['--read-only-recovery'];
  const status = await sandbox.mount(mount);
  expect(status.access).toBe('read-only');
  await shell('sha256sum -c ../sum', { cwd: sandbox.mountpoint });
  await expect(shell('touch file', { cwd: sandbox.mountpoint })).rejects.toThrow();
  await sandbox.unmount();
  expect(packFiles('.vpk').map((pack) => readFileSync(pack))).toEqual(before);
});

test('doctor tells of this machine, of the configuration and of a volume, and has an exit code', async () => {
  await unmountedVolume();
  const healthy = await sandbox.verfs(['doctor', '--volume', sandbox.volume, '--json']);
  const checks = reported<ReportedDiagnosis[]>(healthy);
  // The machine may have stale mounts of others.
  expect(healthy.code).toBe(checks.some(({ verdict }) => verdict === 'problem') ? 83 : 0);
  expect(checks.find(({ check }) => check === 'volume')).toMatchObject({ verdict: 'ok', advice: null });
  expect(checks.map(({ check }) => check)).toEqual(
    expect.arrayContaining(['fuse', 'kernel', 'io_uring', 'open-files', 'clock', 'configuration', 'volume', 'space']),
  );
  writeFileSync(join(sandbox.volume, 'volume.toml'), 'format = 1\n');
  const broken = await sandbox.verfs(['doctor', '--volume', sandbox.volume, '--json']);
  expect(broken.code).toBe(83);
  expect(reported<ReportedDiagnosis[]>(broken)).toContainEqual(
    expect.objectContaining({ check: 'volume', verdict: 'problem' }),
  );
  const config = sandbox.path('config.toml');
  writeFileSync(config, 'nonsense = 1\n');
  const misconfigured = await sandbox.verfs(['doctor', '--config', config, '--json']);
  expect(misconfigured.code).toBe(83);
  expect(reported<ReportedDiagnosis[]>(misconfigured)).toContainEqual(
    expect.objectContaining({ check: 'configuration', verdict: 'problem' }),
  );
  expect((await sandbox.verfs(['doctor'])).stdout).toContain('fuse: ');
});
