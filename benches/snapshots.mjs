// How long a snapshot takes at growing numbers of files, beside btrfs, and what many snapshots cost the live tree.
//
//   npm run bench:snapshots                              10, 10,000 and 1,000,000 files; 10,000 snapshots
//   npm run bench:snapshots -- --files 10,1000 --many 100
//
// Needs root, mkfs.ext4, mkfs.btrfs and about 12 GiB. On VerFS a snapshot is made by mkdir in .snapshots, on btrfs by
// `btrfs subvolume snapshot`: both return when it is durable. A file is changed before each one.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { btrfs, buildClient, client, median, root, run, verfsFilesystem } from './filesystems.mjs';

const files_per_directory = 1000;
const snapshots_per_size = 21;
const rounds = 9;
/** What was written last is sorted and merged in the background for a while, here and there. */
const settle_ms = 10_000;

/** Fills a tree up to so many files of a few bytes. */
function fill(filesystem, from, count) {
  for (let number = from; number < count; number += 1) {
    const directory = path.join(filesystem.mountpoint, `d${Math.floor(number / files_per_directory)}`);
    if (number % files_per_directory === 0 || number === from) mkdirSync(directory, { recursive: true });
    writeFileSync(path.join(directory, `f${number}`), `${number}`);
  }
  filesystem.storedBytes();
}

function makers(filesystem) {
  let made = 0;
  const next = () => {
    made += 1;
    return `s${made}`;
  };
  if (filesystem.name === 'verfs') {
    return () => mkdirSync(path.join(filesystem.mountpoint, '.snapshots', next()));
  }
  mkdirSync(path.join(filesystem.mountpoint, '.snapshots'));
  const target = () => path.join(filesystem.mountpoint, '.snapshots', next());
  return () => run('btrfs', ['subvolume', 'snapshot', '-r', filesystem.mountpoint, target()]);
}

function milliseconds(work) {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1e6;
}

/** Operations a second of the client's row. */
function rate(filesystem, row) {
  const { seconds, units } = JSON.parse(run(client, [row, filesystem.mountpoint], { timeout: 600_000 }));
  return units / seconds;
}

/** Rates of one volume and of another, in turns, each first as often as the other. */
function liveRates(pair) {
  const rates = pair.map(() => ({ create: [], rename: [], unlink: [] }));
  for (let round = 0; round < rounds; round += 1) {
    for (const at of round % 2 === 0 ? [0, 1] : [1, 0]) {
      // In this order: each works on what the one before has left.
      for (const [row, values] of Object.entries(rates[at])) values.push(rate(pair[at], row));
      rmSync(path.join(pair[at].mountpoint, 'small'), { recursive: true });
    }
  }
  return rates;
}

const { values: options } = parseArgs({
  options: {
    files: { type: 'string', default: '10,10000,1000000' },
    many: { type: 'string', default: '10000' },
    directory: { type: 'string' },
  },
});
if (process.getuid() !== 0) throw new Error('the benchmark mounts loop devices: run it as root');
buildClient();
const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));
const filesystems = [];
try {
  filesystems.push(verfsFilesystem(directory));
  filesystems.push(btrfs(directory));
  const make = new Map(filesystems.map((filesystem) => [filesystem, makers(filesystem)]));
  console.log('| files | verfs, ms | btrfs, ms | verfs / btrfs |\n|---|---|---|---|');
  let filled = 0;
  for (const count of options.files.split(',').map(Number)) {
    const took = new Map(filesystems.map((filesystem) => [filesystem, []]));
    for (const filesystem of filesystems) fill(filesystem, filled, count);
    filled = count;
    await sleep(settle_ms);
    for (let number = 0; number < snapshots_per_size; number += 1) {
      for (const filesystem of filesystems) {
        writeFileSync(path.join(filesystem.mountpoint, 'd0/f0'), `${count} ${number}`);
        took.get(filesystem).push(milliseconds(make.get(filesystem)));
      }
    }
    const [ours, theirs] = filesystems.map((filesystem) => median(took.get(filesystem)));
    console.log(`| ${count} | ${ours.toFixed(1)} | ${theirs.toFixed(1)} | ${(ours / theirs).toFixed(2)} |`);
  }

  while (filesystems.length > 0) filesystems.pop().stop();
  for (const name of ['none', 'many']) {
    mkdirSync(path.join(directory, name));
    filesystems.push(verfsFilesystem(path.join(directory, name)));
    fill(filesystems.at(-1), 0, files_per_directory);
  }
  const many = Number(options.many);
  const next = makers(filesystems[1]);
  const making = milliseconds(() => {
    for (let number = 0; number < many; number += 1) next();
  });
  await sleep(settle_ms);
  const [without, having] = liveRates(filesystems);
  console.log(
    `\n${many} snapshots in ${(making / 1000).toFixed(0)} s; operations a second in their volume and in one without:`,
  );
  for (const row of Object.keys(having)) {
    const [is, would] = [having[row], without[row]].map(median);
    const ratios = having[row].map((value, round) => value / without[row][round]);
    console.log(
      `${row}: ${Math.round(is)} and ${Math.round(would)}, median of the ratios ${median(ratios).toFixed(2)}`,
    );
  }
} catch (error) {
  // Said before the clean-up, which may fail for the same reason.
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const filesystem of filesystems) filesystem.stop();
  rmSync(directory, { recursive: true, force: true });
}
