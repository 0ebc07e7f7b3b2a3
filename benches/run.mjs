// Runs the same work on VerFS and beside it on ext4, btrfs (zstd:3), other file systems in user space, and a server
// that does nothing, interleaved; prints medians, spread and ratios.
//
//   npm run bench                                  everything, 5 repetitions
//   npm run bench -- --repetitions 1               once
//   npm run bench -- --only write,read-cold        some rows (a row brings the ones it needs)
//   npm run bench -- --beside ext4,btrfs           some peers
//   npm run bench -- --beside vault,gocryptfs      the unlocked vault of a volume, and what it is compared with
//   npm run bench -- --beside ring,private,one-core  VerFS over io_uring, in a private mount, with its client on its core
//   npm run bench -- --save-baseline               later runs warn when they are clearly slower than this one
//
// Needs root, mkfs.ext4, mkfs.btrfs and about 30 GiB. Each file system gets a loop device of its own on the same disk;
// VerFS keeps its volume on another one, formatted ext4, as do the peers. Results go to bench-results: latest.json and
// latest.html.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  btrfs,
  buildClient,
  client,
  dropCaches,
  ext4,
  makeArchive,
  median,
  oneCoreFilesystem,
  privateFilesystem,
  ringFilesystem,
  root,
  run,
  vaultFilesystem,
  verfsFilesystem,
} from './filesystems.mjs';
import { nullFilesystem, peerFilesystem } from './peers.mjs';
import { baselineOf, page, regressions, table } from './report.mjs';
import { chosenRows, row_timeout_ms } from './rows.mjs';

const status_calls = 5;
const baseline_file = path.join(root, 'benches/baseline.json');

const makers = {
  ext4,
  btrfs,
  null: nullFilesystem,
  vault: vaultFilesystem,
  ring: ringFilesystem,
  private: privateFilesystem,
  'one-core': oneCoreFilesystem,
};
const peers = ['ext4', 'btrfs', 'gocryptfs', 'bindfs', 'rclone', 'null'];

/** Operations or megabytes a second. Each repetition writes other bytes: an earlier one's must not be found again. */
function measure(filesystem, row, archive, repetition) {
  if (row.cold) filesystem.remount();
  if (row.cold || row.fresh) dropCaches();
  const given = row.archive ? [archive] : (row.args?.(repetition) ?? []).map(String);
  const args = [row.client ?? row.name, filesystem.mountpoint, ...given];
  const [program, ...before] = [...(filesystem.wrapper ?? []), client];
  const once = () => JSON.parse(run(program, [...before, ...args], { timeout: row_timeout_ms }));
  for (let pass = 0; pass < (row.warm ?? 0); pass += 1) once();
  const { seconds, units } = once();
  return row.unit === 'MB/s' ? units / seconds / 1e6 : units / seconds;
}

/** Milliseconds that `verfs status` takes on the mounted volume. */
function statusTime(filesystem) {
  const times = Array.from({ length: status_calls }, () => {
    const begun = performance.now();
    filesystem.call('status', filesystem.mountpoint);
    return performance.now() - begun;
  });
  return median(times);
}

/** Keeps the first repetition's figure of a row: in others what an earlier one left may be collected meanwhile. */
function note(figures, row, filesystem, bytes) {
  figures[row.name] = { [filesystem.name]: bytes, ...figures[row.name] };
}

const megabytes = (bytes) =>
  Object.entries(bytes)
    .map(([name, value]) => `${name} ${(value / 1e6).toFixed(0)} MB`)
    .join(', ');

const { values: options } = parseArgs({
  options: {
    repetitions: { type: 'string', default: '5' },
    only: { type: 'string' },
    beside: { type: 'string', default: peers.join(',') },
    directory: { type: 'string' },
    'save-baseline': { type: 'boolean', default: false },
  },
});
if (process.getuid() !== 0) throw new Error('the benchmark mounts loop devices: run it as root');
const chosen = chosenRows(options.only);
buildClient();
const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));
const filesystems = [];
const notes = [
  `${os.cpus().length} cores (${os.cpus()[0].model}), Linux ${os.release()}, ${new Date().toISOString()}.`,
];
let results = [];
const [stored, written] = [{}, {}];
try {
  const archive = makeArchive(directory);
  filesystems.push(verfsFilesystem(directory));
  for (const name of options.beside.split(',').filter(Boolean)) {
    const filesystem = await (makers[name] ?? peerFilesystem)(directory, name);
    if (filesystem !== undefined) filesystems.push(filesystem);
  }
  const names = filesystems.map(({ name }) => name);
  results = chosen.map((row) => ({ row, values: Object.fromEntries(names.map((name) => [name, []])) }));
  for (let repetition = 1; repetition <= Number(options.repetitions); repetition += 1) {
    for (const { row, values } of results.filter((result) => repetition === 1 || !result.row.once)) {
      for (const filesystem of filesystems) {
        if (row.data && filesystem.holdsData === false) continue;
        const before = row.stored ? filesystem.storedBytes() : 0;
        if (row.written) filesystem.writtenBytes();
        try {
          const value = measure(filesystem, row, archive, repetition);
          values[filesystem.name].push(value);
          process.stderr.write(`${repetition} ${row.name} ${filesystem.name}: ${value.toFixed(1)} ${row.unit}\n`);
        } catch (error) {
          // A peer may lack an operation, or not come to an end with it.
          if (filesystem === filesystems[0]) throw error;
          process.stderr.write(
            `${repetition} ${row.name} ${filesystem.name}: ${error.message.trim().split('\n').at(-1)}\n`,
          );
        }
        if (row.written) note(written, row, filesystem, filesystem.writtenBytes());
        if (row.stored) note(stored, row, filesystem, filesystem.storedBytes() - before);
      }
    }
    if (repetition < Number(options.repetitions)) {
      for (const { mountpoint } of filesystems)
        run('sh', ['-c', `rm -rf ${mountpoint}/*`], { timeout: row_timeout_ms });
    }
  }
  for (const [row, bytes] of Object.entries(stored)) notes.push(`Stored by ${row}: ${megabytes(bytes)}.`);
  for (const [row, bytes] of Object.entries(written))
    notes.push(`Written to the device by ${row}: ${megabytes(bytes)}.`);
  const [verfs] = filesystems;
  notes.push(`Peak memory of VerFS's daemon: ${(verfs.peakMemoryBytes() / 1e6).toFixed(0)} MB.`);
  notes.push(`verfs status on the mounted volume: ${statusTime(verfs).toFixed(0)} ms.`);
} catch (error) {
  // Said before the clean-up, which may fail for the same reason.
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const filesystem of filesystems) await filesystem.stop();
  rmSync(directory, { recursive: true, force: true });
}
if (process.exitCode === 1) process.exit();

const names = filesystems.map(({ name }) => name);
console.log(`${table(results, names)}\n\n${notes.join('\n')}`);
if (existsSync(baseline_file)) {
  const baseline = JSON.parse(readFileSync(baseline_file, 'utf8'));
  for (const regression of regressions(baseline, results, names))
    console.warn(`warning: slower than before: ${regression}`);
}
if (options['save-baseline']) writeFileSync(baseline_file, `${JSON.stringify(baselineOf(results, names), null, 2)}\n`);
const output = path.join(root, 'bench-results');
mkdirSync(output, { recursive: true });
writeFileSync(path.join(output, 'latest.json'), JSON.stringify({ results, notes }, null, 2));
writeFileSync(path.join(output, 'latest.html'), page(results, names, notes));
