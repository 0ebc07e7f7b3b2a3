/**
 * `npm test`: everything that must hold, as named steps, one after another, and a summary.
 *
 *   npm test                      everything
 *   npm run test:quick            without the slow steps and tests
 *   npm run test:long             random tests with 20 times as many cases, 1,000,000 crash points, 200 kills of a daemon,
 *                                 a flood of clients for ten minutes
 *   npm run test:apps             the programs of other projects in a mount
 *   npm test -- --only jest,tidy  some steps
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { addonTypes } from './addon.mjs';
import { checkAdvisories } from './advisories.mjs';
import { appsPath, ensureApps, ensurePjdfstest, ensureReaders } from './apps.mjs';
import { denyProgram } from './deny.mjs';
import { prepare } from './prepare.mjs';
import { Hindrance, quietly } from './progress.mjs';
import { root } from './stamp.mjs';

const { values: options } = parseArgs({
  options: { quick: { type: 'boolean' }, long: { type: 'boolean' }, only: { type: 'string' } },
});

/** Of the campaigns against the model; without it they run for a fixed time. */
const quickCases = 20;
const longCases = 20_000;
/** Of all other random tests. */
const longFactor = 20;
/** Moments at which the power goes, with a recovery and a check after each, of all campaigns together. */
const crashPoints = 10_000;
const longCrashPoints = 1_000_000;
/** Times that a daemon is killed under load. */
const longKills = 200;
const minutes = 60_000;
const stepTimeoutMs = (options.long ? 12 * 60 : 20) * minutes;
/** All temporary files of this run are in one directory, so that whatever a test leaves is found. */
const runPrefix = 'verfs-run-';
const runDirectory = mkdtempSync(join(tmpdir(), `${runPrefix}${process.pid}-`));
// Some tests let other users into a mount that is in it.
chmodSync(runDirectory, 0o711);
/** Where the daemons of an ordinary user have their sockets. */
const runtimeDirectory = join(runDirectory, 'runtime');
mkdirSync(runtimeDirectory, { mode: 0o700 });
const env = {
  ...process.env,
  TMPDIR: runDirectory,
  XDG_RUNTIME_DIR: runtimeDirectory,
  // Of a user's settings none may change what a test does.
  CARGO_TERM_COLOR: 'never',
  NO_COLOR: '1',
  FORCE_COLOR: '0',
  ...(options.quick ? { VERFS_TEST_CASES: String(quickCases) } : {}),
  ...(options.long
    ? {
        VERFS_TEST_CASES: String(longCases),
        VERFS_TEST_FACTOR: String(longFactor),
        VERFS_TEST_CRASH_POINTS: String(longCrashPoints),
        VERFS_TEST_KILLS: String(longKills),
      }
    : {}),
};

const program = (name, args, more = {}) => quietly(name, args, { cwd: root, timeoutMs: stepTimeoutMs, env, ...more });
const cargo = (args, at) => program('cargo', args, { at });
const node = (script, args, nodeOptions = [], more = {}) =>
  program(process.execPath, [...nodeOptions, join(root, 'node_modules', script), ...args], more);

/** Says that a step could not be done, which is neither a success nor a failure. */
class NotChecked extends Error {}

/** Whether a process is a daemon for a volume in `directory`, or works in it. */
function isAtWorkIn(directory, pid) {
  const isBelow = (path) => path?.startsWith(`${directory}/`);
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const program = words.findIndex((word) => word.endsWith('daemon/main.js'));
    return (program > 0 && isBelow(words[program + 1])) || isBelow(readlinkSync(`/proc/${pid}/cwd`));
  } catch {
    return false;
  }
}

/** What is left in a directory of temporary files, and of it elsewhere: mounts in it, processes at work in it. */
function leftovers(directory) {
  const isBelow = (path) => path?.startsWith(`${directory}/`);
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((entry) => entry.split(' ')[4])
    .filter(isBelow);
  const processes = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && isAtWorkIn(directory, pid));
  const files = readdirSync(directory).map((name) => join(directory, name));
  return { mounts, processes, files: files.filter((path) => path !== runtimeDirectory) };
}

/** Removes a directory of temporary files with all that belongs to it. Returns what that was, in words. */
async function sweep(directory) {
  const { mounts, processes, files } = leftovers(directory);
  for (const pid of processes) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It went with another one.
    }
  }
  for (const mountpoint of mounts.toReversed()) {
    await quietly('umount', ['-l', mountpoint]).catch(() => quietly('fusermount3', ['-u', '-z', mountpoint]));
  }
  rmSync(directory, { recursive: true, force: true });
  return [
    ...mounts.map((path) => `mount ${path}`),
    ...processes.map((pid) => `process ${pid}`),
    ...files.map((path) => `file ${path}`),
  ];
}

/** Clears up after earlier runs that were killed before they could do so themselves. */
async function sweepKilledRuns() {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(runPrefix) ? name.slice(runPrefix.length).split('-')[0] : undefined;
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) {
      await sweep(join(tmpdir(), name));
    }
  }
}

async function checkLeftovers() {
  const found = await sweep(runDirectory);
  if (found.length > 0) {
    throw new Hindrance(`tests left these behind (they are removed now):\n${found.join('\n')}`);
  }
}

async function checkAddonTypes() {
  if ((await addonTypes()) !== readFileSync(join(root, 'bindings/node/index.d.ts'), 'utf8')) {
    throw new Hindrance('bindings/node/index.d.ts is not what the Rust sources say. Write it: npm run generate');
  }
}

async function advisories(at) {
  const state = await checkAdvisories(at);
  const unreachable = Object.keys(state).filter((kind) => state[kind] === 'unreachable');
  if (unreachable.length > 0) {
    throw new NotChecked(`the database for ${unreachable.join(' and ')} packages cannot be reached`);
  }
}

/** The last line in which a test runner counts. */
function counted(output, pattern) {
  return [...output.matchAll(pattern)].at(-1)?.[0].trim();
}

/** Adds up what campaigns say of the crash points that they tried; a run of everything has enough of them. */
function countedCrashPoints(output) {
  const counted = [...output.matchAll(/^campaign \w+: \d+ cases, (\d+) crash points/gm)];
  const points = counted.reduce((sum, [, count]) => sum + Number(count), 0);
  const wanted = options.long ? longCrashPoints : crashPoints;
  // Who says which cases are to be run gets those.
  const isChosen = process.env.VERFS_TEST_SEED !== undefined || process.env.VERFS_TEST_CASES !== undefined;
  if (!options.quick && !isChosen && points < wanted) {
    throw new Hindrance(`${points} crash points were tried: there should be ${wanted}`);
  }
  return points;
}

function countedCargo(output) {
  const results = [...output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed/gm)];
  const passed = results.reduce((sum, result) => sum + Number(result[1]), 0);
  if (passed === 0) {
    throw new Hindrance('cargo test ran no test');
  }
  return `${passed} tests`;
}

/** Runs tests of TypeScript. Returns how many, and what they printed in lines that begin with `remark:`. */
async function jest(args, more = {}) {
  const output = await node('jest/bin/jest.js', args, ['--experimental-vm-modules', '--no-warnings'], more);
  const remarks = [...output.matchAll(/^remark: (.*)$/gm)].map(([, remark]) => remark);
  return [counted(output, /^Tests:.*$/gm), ...remarks].join('; ');
}

/** Tests of test/apps, which run programs of other projects in a mount. */
const apps = (args) => jest(args, { env: { ...env, PATH: appsPath() } });

async function pjdfstest(at) {
  if (process.getuid?.() !== 0) {
    throw new NotChecked('only root can mount the ext4 that it is compared with');
  }
  await ensurePjdfstest(at);
  return await apps(['test/apps/pjdfstest']);
}

async function otherApps(at) {
  await ensureApps(at);
  return await apps(['test/apps', '--testPathIgnorePatterns', 'test/apps/pjdfstest']);
}

/** The kernel's switch of FUSE over io_uring; with it on a mount uses that by default. */
const ringSwitch = '/sys/module/fuse/parameters/enable_uring';
const mountSuites = ['mounting', 'operations', 'mounted_attributes', 'mounted_calls', 'mounted_kills', 'mounted_model'];

/** Runs the suites with mounts once more, over io_uring. */
async function overRing(at) {
  if (process.getuid?.() !== 0 || !existsSync(ringSwitch)) {
    throw new NotChecked('only root can switch it on, and only since Linux 6.14');
  }
  const before = readFileSync(ringSwitch, 'utf8');
  const restore = () => writeFileSync(ringSwitch, before);
  const end = () => process.exit(1);
  process.once('exit', restore);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) {
    process.once(signal, end);
  }
  writeFileSync(ringSwitch, 'Y');
  try {
    const suites = mountSuites.flatMap((name) => ['--test', name]);
    return countedCargo(await cargo(['test', '--release', '--workspace', '--no-fail-fast', ...suites], at));
  } finally {
    restore();
    process.off('exit', restore);
    for (const signal of signals) {
      process.off(signal, end);
    }
  }
}

const steps = [
  { name: 'prepare', always: true, run: prepare },
  { name: 'rust format', run: (at) => cargo(['fmt', '--all', '--check'], at) },
  { name: 'typescript style', run: () => node('@biomejs/biome/bin/biome', ['ci', '--colors=off', '.']) },
  { name: 'typescript types', run: () => node('typescript/bin/tsc', ['-b']) },
  { name: 'addon types', run: checkAddonTypes },
  { name: 'layers', run: (at) => cargo(['xtask', 'layers'], at) },
  { name: 'tidy', run: (at) => cargo(['xtask', 'tidy'], at) },
  {
    name: 'rust lints',
    slow: true,
    run: (at) => cargo(['clippy', '--locked', '--release', '--workspace', '--all-targets', '--', '-D', 'warnings'], at),
  },
  {
    name: 'rust licences and sources',
    slow: true,
    run: async (at) => program(await denyProgram(at), ['--color', 'never', 'check', 'licenses', 'bans', 'sources']),
  },
  { name: 'advisories', slow: true, run: advisories },
  {
    name: 'rust tests',
    run: async (at) => {
      const output = await cargo(['test', '--release', '--workspace', '--no-fail-fast'], at);
      return `${countedCargo(output)}, ${countedCrashPoints(output)} crash points`;
    },
  },
  { name: 'rust tests over io_uring', slow: true, run: overRing },
  {
    name: 'jest',
    run: async (at) => {
      await ensureReaders(at);
      return await jest(['--testPathIgnorePatterns', 'test/apps', ...(options.quick ? ['test/e2e', 'test/long'] : [])]);
    },
  },
  { name: 'pjdfstest', slow: true, run: pjdfstest },
  { name: 'apps', slow: true, run: otherApps },
  { name: 'leftovers', always: true, run: checkLeftovers },
];

const chosen = options.only?.split(',').map((name) => name.trim());
const unknown = chosen?.filter((name) => !steps.some((one) => one.name === name)) ?? [];
if (unknown.length > 0) {
  process.stdout.write(`no such step: ${unknown.join(', ')}; there are ${steps.map(({ name }) => name).join(', ')}\n`);
  process.exit(2);
}

await sweepKilledRuns();
const results = [];
let prepared = true;
for (const { name, slow, always, run } of steps) {
  const wanted = chosen === undefined ? !(options.quick && slow) : chosen.includes(name);
  if (!always && !(wanted && prepared)) {
    continue;
  }
  const began = performance.now();
  const at = (text) => {
    last = text;
  };
  let last = '';
  const beat = setInterval(() => {
    process.stdout.write(`    … ${name}: ${Math.round((performance.now() - began) / 1000)} s${last && `, ${last}`}\n`);
  }, 30_000);
  let result = 'passed';
  let remark = '';
  process.stdout.write(`▸ ${name}\n`);
  try {
    const said = await run(at);
    remark = typeof said === 'string' && !said.includes('\n') ? said : '';
  } catch (error) {
    result = error instanceof NotChecked ? 'not checked' : 'FAILED';
    remark = error instanceof NotChecked ? error.message : '';
    if (result === 'FAILED') {
      process.stdout.write(`${error instanceof Hindrance ? error.message : (error.stack ?? error)}\n`);
    }
  }
  clearInterval(beat);
  results.push({ name, result, remark, seconds: (performance.now() - began) / 1000 });
  if (name === 'prepare') {
    prepared = result !== 'FAILED';
  }
}

const width = Math.max(...results.map(({ name }) => name.length));
process.stdout.write('\n');
for (const { name, result, remark, seconds } of results) {
  const line = `${name.padEnd(width)}  ${result.padEnd(11)}  ${seconds.toFixed(1).padStart(7)} s  ${remark}`;
  process.stdout.write(`${line.trimEnd()}\n`);
}
const count = (result) => results.filter((one) => one.result === result).length;
process.stdout.write(`\n${count('passed')} passed, ${count('FAILED')} failed\n`);
process.exitCode = count('FAILED') > 0 ? 1 : 0;
