/**
 * The daemon is killed again and again while fio, git and SQLite work in its mount: each time what they were told is
 * durable is there, and nothing is broken. `VERFS_TEST_KILLS` says how often; `npm run test:long` does it 200 times.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type CommandOptions, killGroup, run, shell } from '../harness/command.ts';
import { Sandbox, until } from '../harness/sandbox.ts';

const kills = Number(process.env['VERFS_TEST_KILLS'] ?? 5);
const minutes = 60_000;
/** What a round may take on a busy machine. */
const roundMaxMs = 2 * minutes;
/** Rounds after which a long run says how far it is. */
const progressEvery = 20;
/** Between the first work and the kill. */
const workMs = { min: 200, max: 1500 };

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** A program that works until its file system is gone, and says line by line what is durable. */
interface Load {
  readonly child: ChildProcess;
  /** The lines of its output that are whole. */
  lines(): string[];
}

function start(script: string): Load {
  const child = spawn('sh', ['-c', script], {
    cwd: sandbox.mountpoint,
    env: sandbox.env,
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return { child, lines: () => output.split('\n').slice(0, -1) };
}

async function end({ child }: Load): Promise<void> {
  killGroup(child, 'SIGKILL');
  await until('the load is gone', () => child.exitCode !== null || child.signalCode !== null);
}

const options = (): CommandOptions => ({
  cwd: sandbox.mountpoint,
  env: sandbox.env,
  timeoutMs: roundMaxMs,
});

/** Every block of the file has a checksum, from the beginning on, whenever it was overwritten last. */
const fioJob = ['--name=job', '--filename=fio/file', '--size=16m', '--bs=4k', '--verify=crc32c', '--ioengine=psync'];

async function fio(more: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await run('fio', [...fioJob, ...more, '--output-format=terse'], options());
  expect({ code, stderr: stderr.slice(-2000), stdout: code === 0 ? '' : stdout.slice(-2000) }).toEqual({
    code: 0,
    stderr: '',
    stdout: '',
  });
}

const gitSettings = [
  ['user.name', 'test'],
  ['user.email', 'test@localhost'],
  ['core.fsync', 'all'],
  ['core.fsyncMethod', 'fsync'],
  ['gc.auto', '0'],
];

async function prepare(): Promise<void> {
  mkdirSync(sandbox.inMount('fio'));
  await fio(['--rw=write', '--do_verify=0', '--end_fsync=1']);
  const settings = gitSettings.map(([key, value]) => `git -C repository config ${key} ${value}`).join('\n');
  await shell(`git init -q -b main repository\n${settings}\necho 0 > repository/file`, options());
  await shell('cd repository; git add -A; git commit -q -m 0', options());
  await shell('sqlite3 db "PRAGMA journal_mode = WAL; CREATE TABLE steps (step INTEGER PRIMARY KEY, padding BLOB);"', {
    ...options(),
  });
}

function startLoads(round: number, firstStep: number) {
  const overwrite = `exec fio ${fioJob.join(' ')} --rw=randwrite --randseed=${round} --time_based --runtime=60 --fsync=32 --do_verify=0 > /dev/null 2>&1`;
  const commits = `cd repository; i=0; while :; do
    i=$((i + 1)); head -c $((i % 7 * 3000 + 10)) /dev/urandom > file-$((i % 20)); echo ${round} $i > file
    git add -A && git commit -q -m "${round} $i" && git rev-parse HEAD || exit
  done`;
  const inserts = `i=${firstStep}; while :; do
    echo "INSERT INTO steps VALUES ($i, randomblob(700)); SELECT $i;"; i=$((i + 1))
  done | exec stdbuf -oL sqlite3 -bail -cmd "PRAGMA synchronous = FULL" db`;
  return { overwrite: start(overwrite), commits: start(commits), inserts: start(inserts) };
}

/** Checks the volume, which nobody has open: records against each other; with `everything` every stored byte, too. */
async function checkVolume(everything = false): Promise<void> {
  expect(await sandbox.json(['fsck', '--volume', sandbox.volume])).toMatchObject({ verdict: 'clean', findings: [] });
  if (everything) {
    const scrubbed = await sandbox.json(['scrub', '--now', '--volume', sandbox.volume]);
    expect(scrubbed).toMatchObject({ end: 'done', tally: { damaged: 0 } });
  }
}

/** What the programs left, and whether all of it is there that they were told is. */
async function check(commit: string | undefined, steps: number): Promise<number> {
  await fio(['--rw=read', '--verify_fatal=1']);
  // What a git leaves that is killed, too.
  await shell('find repository/.git -name "*.lock" -delete', options());
  const fsck = await run('git', ['-C', 'repository', 'fsck', '--strict', '--full', '--no-dangling'], options());
  expect(fsck).toMatchObject({ code: 0 });
  expect(fsck.stderr).not.toMatch(/error|fatal|missing|corrupt/);
  if (commit !== undefined) {
    await shell(`git -C repository merge-base --is-ancestor ${commit} HEAD`, options());
  }
  await shell('git -C repository reset -q --hard', options());
  const sql = 'PRAGMA integrity_check; SELECT count(*), ifnull(max(step), 0) FROM steps;';
  const [integrity, counted = ''] = (await shell(`sqlite3 -bail db "${sql}"`, options())).trim().split('\n');
  expect(integrity).toBe('ok');
  const [count = 0, last = 0] = counted.split('|').map(Number);
  // No step is missing between others, and none that was committed.
  expect(count).toBe(last);
  expect(count).toBeGreaterThanOrEqual(steps);
  return count;
}

test(
  `what is durable survives ${kills} kills of the daemon under load, and the volume is whole`,
  async () => {
    let { pid } = await sandbox.mount();
    await prepare();
    let steps = 0;
    const done = { commits: 0, steps: 0, recoveryMaxMs: 0 };
    for (let round = 1; round <= kills; round += 1) {
      const loads = startLoads(round, steps + 1);
      await until('all work', () => loads.commits.lines().length > 0 && loads.inserts.lines().length > 0, minutes);
      // The moments are others each time, and the same in each run.
      await sleep(workMs.min + ((round * 7919) % (workMs.max - workMs.min)));
      await sandbox.kill(pid);
      await Promise.all(Object.values(loads).map(end));
      await checkVolume();
      const began = performance.now();
      ({ pid } = await sandbox.mount());
      done.recoveryMaxMs = Math.max(done.recoveryMaxMs, performance.now() - began);
      const acknowledged = loads.inserts.lines().map(Number);
      const found = await check(loads.commits.lines().at(-1), Math.max(steps, ...acknowledged));
      done.commits += loads.commits.lines().length;
      done.steps += found - steps;
      steps = found;
      if (round % progressEvery === 0) {
        process.stderr.write(`${round} of ${kills} kills\n`);
      }
    }
    await sandbox.unmount();
    await checkVolume(true);
    expect(done.commits).toBeGreaterThanOrEqual(kills);
    process.stderr.write(
      `remark: ${kills} kills of the daemon, ${done.commits} commits and ${done.steps} transactions acknowledged, mounted again within ${Math.round(done.recoveryMaxMs)} ms\n`,
    );
  },
  kills * roundMaxMs,
);
