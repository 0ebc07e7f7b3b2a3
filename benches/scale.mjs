// Whether what a client does costs the same however many files the volume has, through a mount.
//
//   npm run bench:scale                            10,000, 100,000 and 1,000,000 files
//   npm run bench:scale -- --files 10000,50000 --repetitions 5
//
// Needs root, mkfs.ext4 and about 10 GiB. Fills one volume with files of 200 bytes in directories of ten thousand; at each
// number of them it mounts again, makes ten thousand more beside them, asks for their attributes, reads and deletes them.
// "Cold" are files that were there, after a remount and with empty caches. Medians; and the daemon's memory.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildClient, client, dropCaches, median, root, run, verfsFilesystem } from './filesystems.mjs';
import { files_of_row, row_timeout_ms } from './rows.mjs';

const { values: options } = parseArgs({
  options: {
    files: { type: 'string', default: '10000,100000,1000000' },
    repetitions: { type: 'string', default: '3' },
    directory: { type: 'string' },
  },
});
if (process.getuid() !== 0) throw new Error('the benchmark mounts loop devices: run it as root');
buildClient();
const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));

/** Operations per second. */
function rate(row, place) {
  const { seconds, units } = JSON.parse(run(client, [row, place], { timeout: row_timeout_ms }));
  return units / seconds;
}

let filesystem;
let peak_bytes = 0;
try {
  filesystem = verfsFilesystem(directory);
  const { mountpoint } = filesystem;
  const base = (number) => path.join(mountpoint, `base-${number}`);
  /** Seconds of the command that mounts. */
  const remount = () => {
    peak_bytes = filesystem.peakMemoryBytes();
    filesystem.call('unmount', mountpoint);
    dropCaches();
    const begun = performance.now();
    filesystem.call('mount', mountpoint, '--volume', filesystem.volume);
    return (performance.now() - begun) / 1000;
  };
  const repeat = () => {
    const seconds = remount();
    const place = path.join(mountpoint, 'beside');
    mkdirSync(place);
    const [creates, stats, reads] = ['create-filled', 'stat', 'read-filled'].map((row) => rate(row, place));
    rate('rename', place);
    const unlinks = rate('unlink', place);
    run('rm', ['-r', place]);
    remount();
    const cold_stats = rate('stat', base(0));
    remount();
    const cold_reads = rate('read-filled', base(0));
    return { creates, stats, reads, unlinks, cold_stats, cold_reads, seconds };
  };
  console.log(
    '| files | filling/s | creates/s | stats/s | reads/s | unlinks/s | cold stats/s | cold reads/s | mount, s |',
  );
  console.log('|---|---|---|---|---|---|---|---|---|');
  let made = 0;
  for (const files of options.files.split(',').map(Number)) {
    const before = made;
    const begun = performance.now();
    for (; made < files; made += files_of_row) {
      mkdirSync(base(made / files_of_row));
      rate('create-filled', base(made / files_of_row));
    }
    const filling = ((made - before) / (performance.now() - begun)) * 1000;
    const repetitions = Array.from({ length: Number(options.repetitions) }, repeat);
    const { seconds, ...rates } = Object.fromEntries(
      Object.keys(repetitions[0]).map((key) => [key, median(repetitions.map((figures) => figures[key]))]),
    );
    const figures = [made, filling, ...Object.values(rates)].map((figure) => figure.toFixed(0));
    console.log(`| ${figures.join(' | ')} | ${seconds.toFixed(2)} |`);
  }
  console.log(`Peak memory of the daemon: ${(peak_bytes / 1e6).toFixed(0)} MB.`);
} finally {
  filesystem?.stop();
  rmSync(directory, { recursive: true, force: true });
}
