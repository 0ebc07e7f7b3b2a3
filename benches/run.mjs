// Runs the same work on VerFS, ext4 and btrfs (zstd:3), interleaved, and prints medians, spread and ratios.
//
//   npm run bench                          every row, 5 repetitions
//   npm run bench -- --repetitions 1       once
//   npm run bench -- --only write,read     some rows (a row brings the ones it needs)
//
// Needs root, mkfs.ext4, mkfs.btrfs and about 12 GiB. Each file system gets a loop device of its own on the same disk;
// VerFS keeps its volume on a third one, formatted ext4. Results go to bench-results/latest.json.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildClient, client, kernelFilesystem, median, root, run, verfsFilesystem } from './filesystems.mjs';

const untar_entries = 7000;

/** Each row: what it is called, what its units are, and what happens before it. */
const rows = [
  { name: 'write', unit: 'MB/s', title: 'sequential write + fsync, 1 GiB half compressible' },
  { name: 'write-duplicate', unit: 'MB/s', title: 'the same file again + fsync', needs: ['write'] },
  {
    name: 'read-cold',
    run: 'read',
    unit: 'MB/s',
    title: 'sequential read after remount',
    needs: ['write'],
    cold: true,
  },
  { name: 'read-warm', run: 'read', unit: 'MB/s', title: 'sequential read, again', needs: ['write'], warm: true },
  { name: 'random-write', unit: 'op/s', title: 'random 4 KiB overwrites of 1 GiB, one fsync', needs: ['write'] },
  { name: 'append-fsync', unit: 'op/s', title: '4 KiB append + fdatasync each' },
  { name: 'create', unit: 'op/s', title: 'create 10,000 files' },
  { name: 'stat', unit: 'op/s', title: 'stat 10,000 files', needs: ['create'] },
  { name: 'unlink', unit: 'op/s', title: 'unlink 10,000 files', needs: ['create', 'stat'] },
  { name: 'untar', unit: 'op/s', title: `tar -x of ${untar_entries} entries`, archive: true },
];

/** A tar of a real source tree: crates of the Cargo registry until there are enough entries. */
function makeArchive(directory) {
  const registry = path.join(os.homedir(), '.cargo/registry/src');
  const files = run('sh', ['-c', `find ${registry} -type f -size -200k | LC_ALL=C sort | head -n ${untar_entries}`]);
  const list = path.join(directory, 'untar.list');
  writeFileSync(list, files);
  const archive = path.join(directory, 'untar.tar');
  run('tar', ['-cf', archive, '--transform', 's,.*registry/src/,,', '-P', '-T', list]);
  return archive;
}

function dropCaches() {
  run('sync', []);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

/** Each repetition writes other bytes: what an earlier one left in the store must not be found again. */
function measure(filesystem, row, archive, repetition) {
  if (row.cold) filesystem.remount();
  if (row.cold || row.name.startsWith('write')) dropCaches();
  const argument = row.archive ? [archive] : row.name.startsWith('write') ? [String(repetition)] : [];
  const args = [row.run ?? row.name, filesystem.mountpoint, ...argument];
  if (row.warm) run(client, args, { timeout: 600_000 });
  const { seconds, units } = JSON.parse(run(client, args, { timeout: 600_000 }));
  return row.unit === 'MB/s' ? units / seconds / 1e6 : units / seconds;
}

function spreadPercent(values) {
  return Math.round(((Math.max(...values) - Math.min(...values)) / median(values)) * 100);
}

function chosenRows(only) {
  if (only === undefined) return rows;
  const names = new Set(only.split(','));
  for (const row of [...rows].reverse()) if (names.has(row.name)) for (const need of row.needs ?? []) names.add(need);
  return rows.filter((row) => names.has(row.name));
}

function clear(filesystem) {
  run('sh', ['-c', `rm -rf ${filesystem.mountpoint}/* `]);
}

function report(results, names) {
  const lines = [
    `| work | unit | ${names.join(' | ')} | verfs / ext4 | verfs / btrfs |`,
    `|---|---|${'---|'.repeat(names.length + 2)}`,
  ];
  for (const { row, values } of results) {
    const cells = names.map((name) => `${Math.round(median(values[name]))} ±${spreadPercent(values[name])}%`);
    const ratio = (other) => (median(values.verfs) / median(values[other])).toFixed(2);
    lines.push(`| ${row.title} | ${row.unit} | ${cells.join(' | ')} | ${ratio('ext4')} | ${ratio('btrfs')} |`);
  }
  return lines.join('\n');
}

const { values: options } = parseArgs({
  options: { repetitions: { type: 'string', default: '5' }, only: { type: 'string' }, directory: { type: 'string' } },
});
if (process.getuid() !== 0) throw new Error('the benchmark mounts loop devices: run it as root');
buildClient();
const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));
const filesystems = [];
let results = [];
const stored = {};
let peak;
try {
  const archive = makeArchive(directory);
  filesystems.push(verfsFilesystem(directory));
  filesystems.push(kernelFilesystem(directory, 'ext4', ['mkfs.ext4', '-q', '-F'], []));
  filesystems.push(kernelFilesystem(directory, 'btrfs', ['mkfs.btrfs', '-q', '-f'], ['compress=zstd:3']));
  const chosen = chosenRows(options.only);
  results = chosen.map((row) => ({ row, values: Object.fromEntries(filesystems.map(({ name }) => [name, []])) }));
  for (let repetition = 1; repetition <= Number(options.repetitions); repetition += 1) {
    for (const { row, values } of results) {
      for (const filesystem of filesystems) {
        const before = row.name.startsWith('write') ? filesystem.storedBytes() : 0;
        const value = measure(filesystem, row, archive, repetition);
        values[filesystem.name].push(value);
        if (row.name.startsWith('write')) {
          stored[row.name] ??= {};
          stored[row.name][filesystem.name] = filesystem.storedBytes() - before;
        }
        process.stderr.write(`${repetition} ${row.name} ${filesystem.name}: ${value.toFixed(1)} ${row.unit}\n`);
      }
    }
    if (repetition < Number(options.repetitions)) for (const filesystem of filesystems) clear(filesystem);
  }
  peak = filesystems[0].peakMemoryBytes();
} catch (error) {
  // Said before the clean-up, which may fail for the same reason.
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const filesystem of filesystems) filesystem.stop();
  rmSync(directory, { recursive: true, force: true });
}
if (process.exitCode === 1) process.exit();
const table = report(
  results,
  filesystems.map(({ name }) => name),
);
const storedLines = Object.entries(stored).map(
  ([row, bytes]) =>
    `${row}: ${Object.entries(bytes)
      .map(([name, value]) => `${name} ${(value / 1e6).toFixed(0)} MB`)
      .join(', ')}`,
);
console.log(
  `${table}\n\nStored by the row: ${storedLines.join('; ')}\nPeak memory of the daemon: ${(peak / 1e6).toFixed(0)} MB`,
);
const output = path.join(root, 'bench-results');
mkdirSync(output, { recursive: true });
writeFileSync(path.join(output, 'latest.json'), JSON.stringify({ results, stored, peak_memory_bytes: peak }, null, 2));
