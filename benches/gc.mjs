// What garbage collection costs readers of a mount, and how soon deleted bytes are back.
//
//   npm run bench:gc                        10,000 files of 1 MiB
//   npm run bench:gc -- --files 1000
//
// Needs root, mkfs.ext4 and about 8 GiB. Files are half compressible. In each round a sixteenth of them is deleted; direct
// reads of 4 KiB at random places of those that stay are timed without a collection, and then while one runs. At the end
// half of the files are gone, and the volume is left alone until it has collected what it wants to.

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { buildClient, client, root, run, verfs, verfsFilesystem } from './filesystems.mjs';

const rounds = 3;
const phase_seconds = 8;
const idle_limit_ms = 60_000;
const look_ms = 250;

const { values: options } = parseArgs({
  options: { files: { type: 'string', default: '10000' }, directory: { type: 'string' } },
});
if (process.getuid() !== 0) throw new Error('the benchmark mounts loop devices: run it as root');
const files = Number(options.files);
buildClient();
const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));
let filesystem;

const stats = () => JSON.parse(filesystem.call('stats', filesystem.mountpoint, '--json'));

/** Deletes sixteenths of all files, of those with odd numbers. */
function deleteParts(...parts) {
  for (let number = 1; number < files; number += 2) {
    if (!parts.includes(Math.floor(number / 2) % 8)) continue;
    rmSync(path.join(filesystem.mountpoint, 'media', String(number).padStart(6, '0')));
  }
  filesystem.call('sync', filesystem.mountpoint);
}

function timeReads(seed) {
  const media = path.join(filesystem.mountpoint, 'media');
  const child = spawn(client, ['read-latency', media, String(seed), String(phase_seconds)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (data) => {
      text += data;
    });
    child.once('close', (code) => (code === 0 ? resolve(JSON.parse(text)) : reject(new Error(`client: ${code}`))));
  });
}

/** Collects again and again until told to stop; gives how many bytes came back. */
async function collectWhile(work) {
  const before = stats().gcReclaimedBytes;
  let running = true;
  const collect = async () => {
    while (running) {
      const child = spawn('node', [verfs, 'gc', filesystem.mountpoint, '--now'], { stdio: 'ignore' });
      await new Promise((resolve) => child.once('close', resolve));
    }
  };
  const collecting = collect();
  const outcome = await work();
  running = false;
  await collecting;
  return { ...outcome, reclaimed: stats().gcReclaimedBytes - before };
}

try {
  filesystem = verfsFilesystem(directory);
  const media = path.join(filesystem.mountpoint, 'media');
  mkdirSync(media);
  run(client, ['fill', media, String(files), '1'], { timeout: 600_000 });
  filesystem.call('sync', filesystem.mountpoint);
  console.log(
    '| round | without: reads/s, p50, p99 | with | back meanwhile | p99 with / without |\n|---|---|---|---|---|',
  );
  const cell = ({ units, seconds, p50_us, p99_us }) => `${Math.round(units / seconds)}, ${p50_us} us, ${p99_us} us`;
  for (let round = 0; round < rounds; round += 1) {
    const without = await timeReads(2 * round);
    deleteParts(round);
    const collected = await collectWhile(() => timeReads(2 * round + 1));
    const back = `${(collected.reclaimed / 1e6).toFixed(0)} MB`;
    const ratio = (collected.p99_us / without.p99_us).toFixed(2);
    console.log(`| ${round + 1} | ${cell(without)} | ${cell(collected)} | ${back} | ${ratio} |`);
  }
  deleteParts(3, 4, 5, 6, 7);
  const { deadBytes } = stats();
  const begun = performance.now();
  let left = deadBytes;
  while (performance.now() - begun < idle_limit_ms && left > deadBytes / 20) {
    await sleep(look_ms);
    left = stats().deadBytes;
  }
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(
    `\nLeft alone with ${(deadBytes / 1e6).toFixed(0)} MB dead: ${((1 - left / deadBytes) * 100).toFixed(1)} % were back after ${seconds} s.`,
  );
} finally {
  filesystem?.stop();
  rmSync(directory, { recursive: true, force: true });
}
