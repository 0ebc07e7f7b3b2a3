/** What befalls a daemon from outside: signals, a disk that hangs, few files to open. It answers, or says why it can't. */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { run, shell } from '../harness/command.ts';
import { mountpointsBelow } from '../harness/mounts.ts';
import { isRoot } from '../harness/others.ts';
import { isAlive, type ReportedError, type ReportedStatus, Sandbox, until, verfsProgram } from '../harness/sandbox.ts';
import { unlockNewVault } from '../harness/vault.ts';

const minutes = 60_000;

interface Health extends ReportedStatus {
  readonly damaged: readonly object[];
  readonly tasks: readonly { readonly name: string; readonly state: string; readonly detail: string }[];
  readonly overdue: readonly {
    readonly session: string;
    readonly op: string;
    readonly count: number;
    readonly longestMs: number;
  }[];
}

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const health = () => sandbox.json<Health>(['status', sandbox.mountpoint]);

function withConfig(text: string): readonly string[] {
  const file = sandbox.path('config.toml');
  writeFileSync(file, text);
  return ['--config', file];
}

/** Writes a file and has it made durable. */
function writeDurably(name: string, text: string): void {
  const file = openSync(sandbox.inMount(name), 'w');
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

test('a signal that means nothing to a daemon leaves it alone', async () => {
  const { pid } = await sandbox.mount();
  for (const signal of ['SIGPIPE', 'SIGWINCH', 'SIGURG', 'SIGCONT'] as const) {
    process.kill(pid, signal);
  }
  await sleep(200);
  expect(isAlive(pid)).toBe(true);
  writeDurably('file', 'text');
  expect(await health()).toMatchObject({ state: 'mounted', overdue: [] });
});

test('a daemon that is told to end while somebody writes has everything that was written, and leaves no mount', async () => {
  const { pid } = await sandbox.mount();
  mkdirSync(sandbox.inMount('d'));
  // The directory is in the mount alone, so the loop ends with it; nobody holds the mount between two files.
  const script =
    'i=0; while head -c 100000 /dev/urandom > mount/d/f$i && sha256sum mount/d/f$i >> sums; do i=$((i + 1)); done';
  const writing = run('sh', ['-c', script.replaceAll('mount/', `${sandbox.mountpoint}/`)], {
    cwd: sandbox.root,
    timeoutMs: minutes,
  });
  await until('much was written', () => readdirSync(sandbox.inMount('d')).length > 20);
  process.kill(pid, 'SIGTERM');
  await until('the daemon has ended', () => !isAlive(pid), 30_000);
  await writing;
  expect(mountpointsBelow(sandbox.root)).toEqual([]);
  await sandbox.mount();
  const count = readFileSync(sandbox.path('sums'), 'utf8').trim().split('\n').length;
  expect(count).toBeGreaterThan(15);
  await shell('sha256sum --quiet -c sums', { cwd: sandbox.root });
});

test('what works in the background has a name in status', async () => {
  await sandbox.mount();
  const { tasks } = await health();
  expect(tasks.map(({ name }) => name)).toEqual(expect.arrayContaining(['commit', 'garbage collection', 'mount']));
  await until('all of them rest', async () => (await health()).tasks.every(({ state }) => state === 'idle'));
  expect((await sandbox.verfs(['status', sandbox.mountpoint])).stdout).toMatch(/^Overdue requests +0$/m);
});

/** Runs `act` with the volume on an ext4 of its own, which takes no writes while it is frozen. */
async function onFreezer(act: (freeze: () => Promise<string>, thaw: () => Promise<string>) => Promise<void>) {
  const [image, disk] = [sandbox.path('image'), sandbox.volume];
  mkdirSync(disk);
  await shell(`truncate -s 400M ${image}; mkfs.ext4 -q -m0 ${image}; mount -o loop ${image} ${disk}`);
  try {
    await shell(`rm -r ${disk}/lost+found`);
    await act(
      () => shell(`fsfreeze -f ${disk}`),
      () => shell(`fsfreeze -u ${disk}`),
    );
  } finally {
    // It says so when it is not frozen.
    await run('fsfreeze', ['-u', disk]);
    await sandbox.verfs(['unmount', sandbox.mountpoint]);
    await until('the disk can be unmounted', async () => (await run('umount', [disk])).code === 0);
  }
}

test(
  'on a disk that hangs a request fails at its deadline, status says what waits, and all goes on once it answers',
  async () => {
    // Only root can freeze a file system.
    expect(isRoot).toBe(true);
    await onFreezer(async (freeze, thaw) => {
      await sandbox.mount(withConfig('[mount]\ndeadline = "2s"\n'));
      writeDurably('before', 'before');
      await freeze();
      const began = performance.now();
      expect(() => writeDurably('during', 'during')).toThrow(expect.objectContaining({ code: 'EIO' }));
      const took = performance.now() - began;
      expect(took).toBeGreaterThan(1900);
      expect(took).toBeLessThan(20_000);
      const hung = await health();
      expect(hung.overdue).toEqual([{ session: 'tree', op: 'fsync', count: 1, longestMs: expect.any(Number) }]);
      expect(hung.tasks).toEqual(
        expect.arrayContaining([expect.objectContaining({ name: 'mount', state: 'stalled' })]),
      );
      const shown = await sandbox.verfs(['status', sandbox.mountpoint]);
      expect(shown.stdout).toMatch(/^Overdue requests +1$/m);
      expect(shown.stdout).toMatch(/^ {2}fsync: 1 wait for the disk, up to \d+ s$/m);
      // What is in memory is served all the same.
      expect(readFileSync(sandbox.inMount('before'), 'utf8')).toBe('before');
      mkdirSync(sandbox.inMount('directory'));
      await thaw();
      await until('nothing waits', async () => (await health()).overdue.length === 0);
      writeDurably('after', 'after');
      expect(readFileSync(sandbox.inMount('during'), 'utf8')).toBe('during');
      const { logFile } = await health();
      expect(readFileSync(logFile, 'utf8')).toContain('the store does not answer');
      expect(readFileSync(logFile, 'utf8')).toContain('the store answers again');
      await sandbox.unmount();
      await sandbox.mount();
      expect(readFileSync(sandbox.inMount('during'), 'utf8')).toBe('during');
    });
  },
  3 * minutes,
);

test(
  'what waits in the vault past its deadline is told as such',
  async () => {
    await onFreezer(async (freeze, thaw) => {
      await sandbox.mount(withConfig('[mount]\ndeadline = "2s"\n'));
      await unlockNewVault(sandbox);
      writeDurably('.vault/before', 'before');
      await freeze();
      expect(() => writeDurably('.vault/during', 'during')).toThrow(expect.objectContaining({ code: 'EIO' }));
      const { overdue } = await health();
      expect(overdue).toContainEqual({ session: 'vault', op: 'fsync', count: 1, longestMs: expect.any(Number) });
      expect((await sandbox.verfs(['status', sandbox.mountpoint])).stdout).toMatch(
        /^ {2}fsync in vault: 1 wait for the disk, up to \d+ s$/m,
      );
      await thaw();
      await until('nothing waits', async () => (await health()).overdue.length === 0);
      writeDurably('.vault/after', 'after');
    });
  },
  3 * minutes,
);

/** Runs `verfs` as a process that may open so many files. */
const limited = (files: number, args: readonly string[]) =>
  run('sh', ['-c', `ulimit -n ${files}; exec "$0" "$@"`, process.execPath, verfsProgram, ...args], {
    env: sandbox.env,
    timeoutMs: minutes,
  });

test('where too few files may be opened the volume is not opened, and the error says how many it takes', async () => {
  await sandbox.json(['volume', 'create', sandbox.volume]);
  const args = ['mount', sandbox.mountpoint, '--volume', sandbox.volume, '--json'];
  const { code, stdout } = await limited(200, args);
  const { error } = JSON.parse(stdout) as { error: ReportedError };
  expect({ code, error }).toMatchObject({
    code: errorTable.VERFS_E_FILE_LIMIT.exitCode,
    error: {
      code: 'VERFS_E_FILE_LIMIT',
      path: sandbox.volume,
      message: expect.stringMatching(/200 files.* needs 512.*ulimit -n/),
    },
  });
  expect(mountpointsBelow(sandbox.root)).toEqual([]);
});

test(
  'with as many files as it asks for a volume of many packs is written and read, and its daemon asked by many',
  async () => {
    await sandbox.json(['volume', 'create', sandbox.volume]);
    const config = withConfig('[pack]\ntarget = "1MiB"\n[memory]\nchunk_cache = "1MiB"\n');
    const mount = () => limited(512, ['mount', sandbox.mountpoint, '--volume', sandbox.volume, ...config]);
    expect(await mount()).toMatchObject({ code: 0 });
    const script =
      'i=0; while [ $i -lt 150 ]; do head -c 1200000 /dev/urandom > f$i; i=$((i + 1)); done; sync f*; sha256sum f* > ../sums';
    await shell(script, { cwd: sandbox.mountpoint, timeoutMs: 2 * minutes });
    await sandbox.unmount();
    expect(await mount()).toMatchObject({ code: 0 });
    const asked = Array.from({ length: 12 }, () => sandbox.verfs(['status', sandbox.mountpoint]));
    await shell('sha256sum --quiet -c ../sums', { cwd: sandbox.mountpoint, timeoutMs: 2 * minutes });
    for (const { code, stdout } of await Promise.all(asked)) {
      expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Damaged files +0$/m) });
    }
    const { pid } = await health();
    const open = Number((await shell(`ls /proc/${pid}/fd | wc -l`)).trim());
    process.stderr.write(`remark: a daemon of 150 packs has ${open} files open\n`);
    expect(open).toBeLessThan(400);
    await sandbox.unmount();
  },
  5 * minutes,
);

/** The descriptors that a daemon keeps back, by number. */
function reserveOf(pid: number): readonly number[] {
  const directory = `/proc/${pid}/fd`;
  const numbers = readdirSync(directory).map(Number);
  return numbers.filter((fd) => fd > 2 && readlinkSync(`${directory}/${fd}`) === '/dev/null').sort((a, b) => a - b);
}

test(
  'a daemon whose limit of open files is lowered under load loses nothing, says so, and goes on with a higher one',
  async () => {
    const config = withConfig('[pack]\ntarget = "1MiB"\n[memory]\nchunk_cache = "1MiB"\n');
    const { pid } = await sandbox.mount(config);
    const write = (names: string) =>
      shell(`for i in ${names}; do head -c 1200000 /dev/urandom > f$i; sha256sum f$i >> ../sums; done`, {
        cwd: sandbox.mountpoint,
      });
    await write('$(seq 30)');
    await sandbox.json(['sync', sandbox.mountpoint]);
    const reserve = reserveOf(pid);
    expect(reserve.length).toBeGreaterThanOrEqual(32);
    // Five of the reserve are of use below it: enough for a client, too few for a commit.
    await shell(`prlimit --pid ${pid} --nofile=${(reserve[0] ?? 0) + 5}:4096`);
    const load = write('$(seq 31 34)');
    let short: Health | undefined;
    const isShort = async () => {
      // What opens files for a moment may leave none for a client of that moment, who tries again.
      short = await health().catch(() => undefined);
      return short?.tasks.some(({ name, state }) => name === 'commit' && state === 'stalled') === true;
    };
    await until('it says so', isShort);
    await load;
    // The log is open: what is to be durable is.
    writeDurably('durable', 'durable');
    await until('it still says so', isShort);
    expect(short).toMatchObject({ state: 'mounted', damaged: [], overdue: [] });
    expect(short?.tasks).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          name: 'open files',
          state: 'stalled',
          detail: expect.stringMatching(/files are left/),
        }),
        expect.objectContaining({ name: 'commit', detail: expect.stringMatching(/no more files can be opened/) }),
      ]),
    );
    const refused = await sandbox.verfs(['sync', sandbox.mountpoint, '--json']);
    expect(refused.code).toBe(errorTable.VERFS_E_FILE_LIMIT.exitCode);
    await shell(`prlimit --pid ${pid} --nofile=1024:4096`);
    await until('it goes on', async () => (await sandbox.verfs(['sync', sandbox.mountpoint])).code === 0);
    await until('all of them rest', async () => (await health()).tasks.every(({ state }) => state === 'idle'));
    expect((await health()).damaged).toEqual([]);
    await write('$(seq 35 36)');
    await sandbox.unmount();
    await sandbox.mount(config);
    await shell('sha256sum --quiet -c ../sums; test $(wc -l < ../sums) = 36', { cwd: sandbox.mountpoint });
    expect(readFileSync(sandbox.inMount('durable'), 'utf8')).toBe('durable');
  },
  5 * minutes,
);
