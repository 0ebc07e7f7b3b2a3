// What the daemon's memory comes to over a long mixed load.
//
//   npm run bench:load                             an hour, in a volume with 300,000 small files
//   npm run bench:load -- --minutes 10 --files 10000
//
// Needs root, mkfs.ext4 and about 30 GiB. Two clients at a time do what the benchmark does, in an order that a seed decides:
// stints of rows on files of their own, which they remove at the end; meanwhile snapshots are taken and deleted. Memory is
// what the kernel counts for the daemon, Node.js and its program file included, looked at ten times a second.

import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import {
  buildClient,
  client,
  makeArchive,
  median,
  memoryBytes,
  root,
  run,
  verfs,
  verfsFilesystem,
} from './filesystems.mjs';
import { files_of_row, row_timeout_ms } from './rows.mjs';

const look_ms = 100;
const windows = 6;
const snapshot_ms = 60_000;
const rest_ms = 20_000;

/** Rows in a row; a number or text behind one is its argument. */
const stints = [
  [['write', 'SEED'], ['read'], ['random-read'], ['random-write', 'SEED'], ['read']],
  [
    ['write', 'SEED'],
    ['write-duplicate', 'SEED'],
  ],
  [['write-prose', 'SEED']],
  [
    ['write', 'SEED'],
    ['sustained-write', 'SEED', '10'],
  ],
  [['append-fsync', '1']],
  [['append-fsync', '16']],
  [['create'], ['stat'], ['rename'], ['unlink']],
  [['untar', 'ARCHIVE'], ['find'], ['grep'], ['copy'], ['remove']],
];

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    files: { type: 'string', default: '300000' },
    seed: { type: 'string', default: '1' },
    directory: { type: 'string' },
  },
});
if (process.getuid() !== 0) throw new Error('the benchmark mounts loop devices: run it as root');
buildClient();
const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));
const call = promisify(execFile);

/** Numbers below `limit` that the seed decides. */
function numbers(seed) {
  let state = BigInt(seed);
  return (limit) => {
    state = (state * 6364136223846793005n + 1442695040888963407n) % 2n ** 64n;
    return Number((state >> 33n) % BigInt(limit));
  };
}

let filesystem;
try {
  const archive = makeArchive(directory);
  filesystem = verfsFilesystem(directory);
  const { mountpoint } = filesystem;
  for (let made = 0; made < Number(options.files); made += files_of_row) {
    const base = path.join(mountpoint, `base-${made / files_of_row}`);
    mkdirSync(base);
    run(client, ['create', base], { timeout: row_timeout_ms });
  }
  const { pid } = JSON.parse(filesystem.call('status', mountpoint, '--json'));
  const begun = performance.now();
  const length_ms = Number(options.minutes) * 60_000;
  const isOver = () => performance.now() - begun >= length_ms;
  const seen = Array.from({ length: windows }, () => []);
  const done = {};

  const watch = async () => {
    while (!isOver()) {
      const part = Math.floor(((performance.now() - begun) / length_ms) * windows);
      seen[Math.min(part, windows - 1)].push(memoryBytes(pid, 'VmRSS'));
      await sleep(look_ms);
    }
  };
  const work = async (worker) => {
    const next = numbers(Number(options.seed) * 2 + worker);
    for (let round = 0; !isOver(); round += 1) {
      const place = path.join(mountpoint, `work-${worker}-${round}`);
      mkdirSync(place);
      const seed = String(next(2 ** 31));
      for (const [row, ...args] of stints[next(stints.length)]) {
        if (isOver()) break;
        const given = args.map((arg) => ({ SEED: seed, ARCHIVE: archive })[arg] ?? arg);
        await call(client, [row, place, ...given], { timeout: row_timeout_ms });
        done[row] = (done[row] ?? 0) + 1;
      }
      await call('rm', ['-rf', place]);
    }
  };
  const keepSnapshots = async () => {
    for (let number = 0; !isOver(); number += 1) {
      await sleep(Math.min(snapshot_ms, Math.max(0, length_ms - (performance.now() - begun))));
      await call('node', [verfs, 'snapshot', 'create', `load-${number}`, '--volume', mountpoint]);
      if (number >= 2) await call('node', [verfs, 'snapshot', 'delete', `load-${number - 2}`, '--volume', mountpoint]);
    }
  };
  await Promise.all([watch(), work(0), work(1), keepSnapshots()]);
  await sleep(rest_ms);
  const after = memoryBytes(pid, 'VmRSS');
  filesystem.call('unmount', mountpoint);
  run('node', [verfs, 'fsck', '--volume', filesystem.volume], { timeout: row_timeout_ms });

  const minutes_until = (index) => String(Number(((Number(options.minutes) / windows) * (index + 1)).toFixed(1)));
  const mb = (bytes) => (bytes / 1e6).toFixed(0);
  const lines = [
    ['minutes, until', ...seen.map((_, index) => minutes_until(index))],
    Array.from({ length: windows + 1 }, () => '---'),
    ['most, MB', ...seen.map((values) => mb(Math.max(...values)))],
    ['median, MB', ...seen.map((values) => mb(median(values)))],
  ];
  console.log(lines.map((line) => `| ${line.join(' | ')} |`).join('\n'));
  const counts = Object.entries(done).map(([row, count]) => `${row} ${count}`);
  console.log(`\n${rest_ms / 1000} s after it: ${mb(after)} MB. fsck found nothing. Rows: ${counts.join(', ')}.`);
} finally {
  filesystem?.stop();
  rmSync(directory, { recursive: true, force: true });
}
